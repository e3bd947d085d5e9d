"""Rows of text for the rows of a model."""

import jax
import numpy as np
import pytest

from tl_jax import config, train
from tl_jax.objectives import Nominal
from tl_jax.train import assembly, mixtures
from tl_jax.train.checks import read
from tl_jax.train.settings import MixtureData

# A tokenizer with as many sentinels as T5's.
TOKENIZER = Nominal(vocabulary_size=200, sentinels=tuple(range(100, 200)))


def settings_of(*more):
  return read(config.load('configs/pretrain.py:t5-small', more))


def rows_of(settings):
  length = settings.data.length
  objective = assembly.make_objective(settings.objective, length, TOKENIZER)
  return mixtures.text_rows(length, objective.inputs)


def test_rows_of_t5_are_those_of_its_authors():
  rows = rows_of(settings_of())
  assert (rows.longest, rows.length, rows.room.size) == (568, 568, 512)
  masked = read(config.load('configs/pretrain.py:bert-base'))
  assert rows_of(masked) == mixtures.Rows(512, 512)


@pytest.mark.parametrize(
  'rate, mean', [('0.15', '3.0'), ('0.5', '3.0'), ('0.5', '32.0')]
)
def test_whatever_a_row_has_room_for_is_not_longer_than_it(rate, mean):
  more = (('objective.rate', rate), ('objective.mean', mean), ('data.length', '64'))
  rows = rows_of(settings_of(*more))
  assert (
    rows.room.taken([rows.longest])[0] <= 64 < rows.room.taken([rows.longest + 1])[0]
  )
  # The most text in rows of pieces of one length, which no mixture of them exceeds.
  sizes = np.arange(1, rows.longest + 1)
  assert ((64 // rows.room.taken(sizes)) * sizes).max() <= rows.length


def test_span_corruption_fills_the_rows_of_the_model(tmp_path):
  small = [
    ('data.batch', '8'),
    ('data.accumulate', '1'),
    ('tokenizer.size', '400'),
    ('data.mixture', "{'austen': 1.0}"),
  ]
  built = train.build(config.load('configs/pretrain.py:tiny-t5', small), tmp_path)
  rows = mixtures.text_rows(64, built.parts.objective.inputs)
  prepare = jax.jit(built.parts.objective.prepare)
  for step in range(3):
    text = built.batch_at(step)
    made = jax.device_get(prepare(jax.random.key(step), text))
    assert made['tokens'].shape == (8, 64)
    used = (made['segments'] > 0).mean(1)
    assert used.mean() > 0.95
    # A row that one piece of a document fills is full to the last place.
    assert (used[(text['segments'] == 1).sum(1) == rows.longest] == 1).all()
    # Every segment is there to its end.
    np.testing.assert_array_equal(made['segments'].max(1), text['segments'].max(1))
    ends = (made['tokens'] == built.tokenizer.eos) & (made['segments'] > 0)
    np.testing.assert_array_equal(ends.sum(1), text['segments'].max(1))


def mixture_of(mixture, column=''):
  group = MixtureData(mixture=mixture, column=column)
  return mixtures.mixture_texts(group)


def test_a_set_is_read_by_the_fields_that_are_named(tmp_path):
  path = tmp_path / 'own.jsonl'
  path.write_text('{"en": "a file", "split": "train"}\n')
  found = mixture_of({'help_sample': 1.0, 'austen': 1.0, str(path): 1.0}, 'en')
  sample = found['help_sample']
  assert sample[0]['text'] == sample[0]['en']
  assert found[str(path)][0]['text'] == 'a file'
  # A set without that field has its own text.
  assert found['austen'].manifest == mixture_of({'austen': 1.0})['austen'].manifest
  both = mixture_of({'help_sample': 1.0}, 'en+de')['help_sample']
  assert both[0]['text'] == f'en: {both[0]["en"]}\nde: {both[0]["de"]}'
  # Tokens are kept under the manifest: those of one column are not those of two.
  assert both.manifest != sample.manifest


def test_a_set_without_text_says_what_it_has():
  message = "'help_sample' has no field 'text'; name one of de, en, id in config.data"
  with pytest.raises(config.ConfigError, match=message):
    mixture_of({'help_sample': 1.0})
