"""What decoders and encoder-decoders write, and what a workdir says of its texts."""

import json

import jax
import pytest

from tl_jax import config, decode, interop, models, train
from tl_jax.data import tokenizers
from tl_jax.evals import generation
from tl_jax.train import datasets
from tl_jax.train.answering import columns_of, delimiter_of

TEXTS = ['good film', '', 'bad', 'a very long story ' * 30, 'good'] * 4
SETTINGS = dict(max_new_tokens=4, method='sample', temperature=3.0)


def save(path, kind):
  """The folder of a tiny GPT or T5."""
  tokenizer = tokenizers.train(['good bad film story'] * 20, 'bpe', 400)
  family = 'tiny-gpt' if kind == 'decoder' else 'tiny-t5'
  size = tokenizer.vocabulary_size
  arch = models.arch(family, layers=1, vocabulary=size, head='causal')
  model = models.build(arch)
  params = model.init(jax.random.key(0))
  interop.save(path, interop.Loaded(model, params, tokenizer, arch))
  return path


def write(folder, output, some=TEXTS, **fields):
  source = output.with_suffix('.txt')
  source.write_text(''.join(f'{text}\n' for text in some))
  decoding = dict(SETTINGS, **fields.pop('decoding', {}))
  train.predict(
    train.Request(str(folder), str(source), str(output), decoding=decoding, **fields)
  )
  return [json.loads(line) for line in output.read_text().splitlines()]


@pytest.mark.parametrize('kind', ['decoder', 'encoder-decoder'])
def test_every_text_has_a_text_that_is_generated(tmp_path, monkeypatch, kind):
  folder = save(tmp_path / 'm', kind)
  found = write(folder, tmp_path / 'a.jsonl')
  assert [row['index'] for row in found] == list(range(len(TEXTS)))
  # What `generate` writes of the same texts at the same places.
  loaded = train.load(folder)
  settings = generation.settings_of(folder, loaded, SETTINGS, print)
  if kind == 'decoder':
    # A decoder has nothing to go on with.
    assert found[1] == dict(index=1, text=None, score=None, end=None)
  kept = ['good' if not text or len(text) > 99 else text for text in TEXTS]
  wanted = decode.continue_texts(
    models.decoder(loaded.arch), loaded.params, loaded.tokenizer, kept, settings
  )
  for text, row, (best,) in zip(TEXTS, found, wanted, strict=True):
    if 0 < len(text) < 99:
      assert (row['text'], row['end']) == (best.text, best.end)
      assert row['score'] == pytest.approx(best.score, abs=1e-4)
  # Windows, batches and a new start change nothing, not even what is drawn.
  monkeypatch.setattr(generation, 'WINDOW', 1)
  again = write(folder, tmp_path / 'b.jsonl', batch=3)
  assert [row['text'] for row in again] == [row['text'] for row in found]


def test_a_table_and_several_samples(tmp_path):
  folder = save(tmp_path / 'm', 'decoder')
  found = write(folder, tmp_path / 'a.jsonl', ['good'], decoding=dict(samples=2))
  assert found[0]['text'] == found[0]['texts'][0] and len(found[0]['texts']) == 2


@pytest.mark.parametrize('kind', ['decoder', 'encoder-decoder'])
def test_a_template_is_what_stands_around_a_text(tmp_path, kind):
  folder = save(tmp_path / 'm', kind)
  found = write(folder, tmp_path / 'a.jsonl', ['good'], template='bad {text} story')
  wanted = write(folder, tmp_path / 'b.jsonl', ['bad good story'])
  assert found[0]['score'] == pytest.approx(wanted[0]['score'], abs=1e-5)
  assert found[0]['text'] == wanted[0]['text'].strip()


def test_the_end_of_a_long_prompt_is_what_is_gone_on_with():
  tokenizer = tokenizers.train(['a b'], 'wordpiece', 300)
  begin = list(tokenizer.prefix)
  long = [*begin, *range(50)]
  cut, is_cut = generation._fitting(long, 10, 'decoder', tokenizer)
  assert (cut, is_cut) == (begin + list(range(40 + len(begin), 50)), True)
  end = list(tokenizer.suffix)
  cut, _ = generation._fitting([*long, *end], 10, 'encoder-decoder', tokenizer)
  assert len(cut) == 10 and cut[-len(end) :] == end and cut[0] == begin[0]


def test_the_columns_are_the_runs_own_unless_others_are_asked_for():
  settings = train.read(
    config.load('configs/transfer.py:task=sentiment,init=scratch', [])
  )
  assert columns_of('', settings) == ('text',)
  assert columns_of('a+b', settings) == ('a', 'b')


def test_files_of_the_runs_format_are_parted_as_its_own(tmp_path):
  path = tmp_path / 'a.csv'
  path.write_text('text^label\none, two^a\nthree^b\n')
  arg = f'configs/transfer.py:task={path},delimiter=^,init=scratch'
  settings = train.read(config.load(arg, []))
  task = datasets.open_task(settings.task, '')
  assert task.labels == ('a', 'b')
  assert delimiter_of('', 'b.CSV.gz', settings) == '^'
  assert delimiter_of('comma', 'b.csv', settings) == ','
  # A text file of a text per line, or a table of another format, is as it is.
  assert delimiter_of('', 'b.txt', settings) == ''
  assert delimiter_of('', 'b.jsonl', settings) == ''
  assert delimiter_of('', 'b.csv', None) == ''
  with pytest.raises(config.ConfigError, match="--delimiter: 'tab' is of .* is none"):
    delimiter_of('tab', 'b.jsonl', settings)
