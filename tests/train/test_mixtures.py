"""Rows of text for the rows of a model."""

import dataclasses

import jax
import numpy as np
import pytest
from tiny_runs import SMALL

from tl_jax import config, data, interop, models, train
from tl_jax.config import ConfigError
from tl_jax.objectives import Nominal
from tl_jax.train import assembly, checks, mixtures, preparing, tokenizing, workdir
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


def own_files(folder):
  """Two files of texts with the numbers of their words' tokens all alike."""
  for name, count in (('large', 400), ('small', 40)):
    lines = [f'sea wind ship {number % 7} house {name}' for number in range(count)]
    (folder / f'{name}.txt').write_text('\n'.join(lines))
  return str(folder / 'large.txt'), str(folder / 'small.txt')


def prepared_with(folder, **data):
  c = config.load('configs/pretrain.py:tiny')
  c.tokenizer.size = 120
  c.data.update(batch=4, accumulate=1, length=16)
  with c.unlocked(), c.data.ignore_type():
    for key, value in data.items():
      c.data[key] = value
  (folder / 'run').mkdir(exist_ok=True)
  return preparing.prepare(checks.check(c), folder / 'run')


def rows_of_mixture(ready):
  stream, _ = ready.corpus.stream(ready.settings)
  return {name: rows for name, (rows, _) in stream.passes(256).items()}


def test_a_config_mixes_by_size_within_budgets(tmp_path):
  large, small = own_files(tmp_path)
  pairs = ((large, 1.0), (small, 1.0))
  sized = prepared_with(tmp_path, mixture=pairs, temperature=1.0)
  rows = rows_of_mixture(sized)
  sizes = {
    name: part.tokens.lengths.sum() for name, part in sized.corpus.examples.items()
  }
  ratio = sizes[large] / sizes[small]
  assert ratio > 5 and rows[large] / rows[small] == pytest.approx(ratio, rel=0.05)
  # Under a budget a source is as large as what is seen of it.
  tokens = int(sizes[small])
  even = prepared_with(
    tmp_path, mixture=pairs, temperature=1.0, unique=((large, tokens),)
  )
  rows = rows_of_mixture(even)
  assert rows[large] == pytest.approx(rows[small], rel=0.05)
  assert even.notes(even.settings, ())[-1].endswith(' passes in 60 steps')


def test_a_set_of_another_content_is_refused_by_a_run_that_goes_on():
  found = mixtures.Mixture(mixture_of({'austen': 1.0})).sets()
  assert found == {'austen': mixture_of({'austen': 1.0})['austen'].manifest}

  class Newest:
    """A run whose newest step was trained on these sets."""

    def _said_by_newest(self, key):
      return 7, {'sets': found}[key]

  workdir.Run.require_files(Newest(), found, 'sets')
  with pytest.raises(config.ConfigError, match='austen: its content is not that from'):
    workdir.Run.require_files(Newest(), {'austen': 'another'}, 'sets')


@pytest.mark.slow
def test_a_run_does_not_go_on_with_a_set_that_was_prepared_anew(tmp_path, monkeypatch):
  """A real run, stopped after step 2, whose set has other texts when it goes on."""
  texts = [dict(text=f'this is the text {number}') for number in range(40)]
  kept = dict(manifest='first')

  def load(name, split='train', directory=None, columns=None):
    return data.Source(name, split, texts, f'{kept["manifest"]}/{split}')

  monkeypatch.setattr(mixtures.data, 'load', load)
  more = [('schedule.steps', '4'), ('checkpoint.every', '2'), ('checkpoint.keep', '2')]
  loaded = config.load('configs/pretrain.py:tiny,text=austen', [*SMALL, *more])
  train.pretrain(loaded, tmp_path / 'w')
  for name in ('checkpoints/4', 'result.json'):
    (tmp_path / 'w' / name).rename(tmp_path / name.replace('/', '-'))
  kept['manifest'] = 'second'
  with pytest.raises(config.ConfigError) as refused:
    train.pretrain(loaded, tmp_path / 'w')
  said = str(refused.value)
  assert said.startswith(
    'austen: its content is not that from which step 2 was trained'
  )
  assert said.endswith('put it back, or take another workdir') and '\n' not in said
  kept['manifest'] = 'first'
  assert train.pretrain(loaded, tmp_path / 'w')['steps'] == 4


WRONG = [
  (dict(mixture={'austen': 1.0}, epochs={'austin': 1.0}), r"epochs.austin: .*'austen'"),
  (
    dict(mixture={'austen': 1.0}, unique={'x': 5}),
    'unique.x: no source of the mixture',
  ),
  (dict(mixture={'austen': 1.0}, cap=5), 'cap: 5 is of weights by size'),
  (
    dict(mixture={'austen': 1.0}, stages=((9, {'austen': 1.0}), (9, {'austen': 2.0}))),
    r'stages\[1\]: step 9 does not come after 9',
  ),
]


@pytest.mark.parametrize(('group', 'message'), WRONG)
def test_what_is_about_no_source_is_refused_before_anything_is_opened(group, message):
  with pytest.raises(config.ConfigError, match=f'config.data.{message}'):
    mixtures.require_texts(MixtureData(**group), where_made=False)


def test_a_run_longer_than_its_passes_says_how_many_steps_it_has(tmp_path):
  large, small = own_files(tmp_path)
  wanted = dict(mixture=((small, 1.0),), epochs=((small, 2.0),))
  with pytest.raises(config.ConfigError, match='config.schedule.steps is 60'):
    ready = prepared_with(tmp_path, **wanted)
    ready.corpus.stream(ready.settings)


def test_a_result_says_how_many_tokens_were_read_and_how_many_are_different(tmp_path):
  large, small = own_files(tmp_path)
  ready = prepared_with(tmp_path, mixture=((small, 1.0),), unique=((small, 100),))
  found = ready.counted(ready.settings)
  # All of its 60 steps are counted.
  stream, _ = ready.corpus.stream(ready.settings)
  assert found['tokens'] == sum(map(stream.tokens_at, range(60)))
  assert 80 < found['unique_tokens'] <= 100


@pytest.mark.parametrize('kind, ends', [('decoder', True), ('encoder', False)])
def test_the_documents_of_a_decoder_end_whatever_its_tokenizer_appends(
  kind, ends, tmp_path
):
  """Those of published decoders append nothing; a long document ends once."""
  own = data.tokenizers.train(['a tale of two towns'], 'bpe', 300, sentinels=0)
  open_end = interop.tokenizers.without_end(own)
  assert own.suffix and not open_end.suffix
  texts = ['a tale', 'two towns of two towns of two towns of two towns']
  sources = dict(own=[dict(text=text) for text in texts])
  reader = tokenizing.of_documents(
    open_end, dataclasses.replace(models.arch('tiny'), kind=kind)
  )
  (found,) = mixtures.encode_mixture(
    sources, mixtures.Rows(8, 8), reader, tmp_path
  ).values()
  pieces = [found.tokens[place].tolist() for place in range(len(found.tokens))]
  assert len(pieces) > 2
  if ends:
    # As the tokenizer that does append an end: of the last piece of a document only.
    expected = mixtures.encode_mixture(
      sources, mixtures.Rows(8, 8), own, tmp_path / 'own'
    )
    assert pieces == [list(piece) for piece in expected['own'].tokens]
    assert sum(piece.count(own.eos) for piece in pieces) == len(texts)
  else:
    assert not any(own.eos in piece for piece in pieces)


def test_a_source_of_a_stage_that_is_not_there_is_named_by_its_stage(
  tmp_path, monkeypatch
):
  monkeypatch.chdir(tmp_path)
  (tmp_path / 'texts').mkdir()
  group = MixtureData(mixture={'austen': 1.0}, stages=((5, {'textz/': 1.0}),))
  with pytest.raises(
    ConfigError,
    match=r"config.data.stages\[0\]: no set, .* 'textz/'; nearest: 'texts/'",
  ):
    mixtures.require_texts(group, where_made=True)


@pytest.mark.parametrize('content', ['body\none\ntwo\n', '{"body": "one"}\n'])
def test_a_file_without_the_column_of_texts_is_told_how_it_is_named(tmp_path, content):
  path = tmp_path / ('a.csv' if content.startswith('body') else 'a.jsonl')
  path.write_text(content)
  group = MixtureData(mixture={str(path): 1.0})
  with pytest.raises(
    ConfigError, match=r'a\..*:1: text: .*body; config.data.column names'
  ):
    mixtures.mixture_texts(group)


@pytest.mark.parametrize('length', [1, 50, 5000])
def test_a_tokenizer_is_trained_on_so_many_characters_of_a_source(length, monkeypatch):
  """However long its texts are, from all over it; of a small one on all."""
  monkeypatch.setattr(mixtures, 'ENOUGH_CHARACTERS', 1000)
  texts = [f'{place:03d}' + 'x' * (length - 3) for place in range(200)]
  records = [dict(text=text) for text in texts]
  source = data.Source('own', 'train', records, 'its content')
  found = mixtures.Mixture(dict(own=source)).training_texts()
  if length == 1:
    assert found == texts
    return
  assert length <= sum(map(len, found)) <= max(2 * 1000, length)
  assert found[0] == texts[0] and len(set(found)) == len(found)
  if length == 50:
    assert texts.index(found[-1]) >= 180
