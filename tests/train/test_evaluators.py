"""What a run of texts to write is watched by: a loss, or the texts that it writes."""

import json
import math

import pytest
from tiny_runs import SMALL

from tl_jax import config, train
from tl_jax.config import ConfigError
from tl_jax.train.checks import read
from tl_jax.train.evaluators import MixtureEvaluator, add_up

TINY = str(dict(family='tiny-gpt', layers=1, width=16, heads=2, mlp=16))
WATCHED = [
  ('model', TINY),
  ('tokenizer.size', '300'),
  ('data.length', '32'),
  ('data.batch', '2'),
  ('data.target_length', '8'),
  ('schedule.steps', '4'),
  ('schedule.warmup', '1'),
  ('eval.every', '2'),
  ('eval.keep', 'best'),
  ('log.tensorboard', 'false'),
]


@pytest.fixture
def file(tmp_path):
  rows = ['text\tanswer\n']
  for number in range(40):
    rows.append(f'the cow number {number} runs\tcow {number % 3}\n')
  path = tmp_path / 'cows.tsv'
  path.write_text(''.join(rows))
  return path


def config_of(file, *more):
  spec = f'configs/transfer.py:task={file},target=answer'
  return config.load(spec, [*WATCHED, *more])


def test_texts_of_validation_are_written_on_the_way_where_asked(file, tmp_path):
  written = config_of(file, ('eval.write', 'True'))
  result = train.transfer(written, tmp_path / 'w')
  found = (tmp_path / 'w' / 'evaluations.jsonl').read_text().splitlines()
  points = [json.loads(line) for line in found]
  assert [point['step'] for point in points] == [2, 4]
  for point in points:
    assert {'validation/loss', 'validation/rougeL', 'validation/chrf'} <= point.keys()
  # The best by what a table shows of the task; of equals the first.
  best = max(points, key=lambda point: point['validation/rougeL'])
  assert result['step'] == best['step']


def test_to_write_on_the_way_is_refused_where_nothing_is_written(file):
  sentiment = config.load(
    'configs/transfer.py:task=sentiment',
    [('eval.every', '2'), ('eval.write', 'True')],
  )
  with pytest.raises(ConfigError, match="config.eval.write: sentiment is of kind 's"):
    read(sentiment)
  never = config_of(
    file, ('eval.write', 'True'), ('eval.every', '0'), ('eval.keep', 'last')
  )
  with pytest.raises(ConfigError, match='write: True needs evaluations'):
    read(never)


def pretrained(folder, texts, workdir):
  sources = []
  for name, lines in texts.items():
    path = folder / f'{name}.txt'
    path.write_text('\n'.join(lines))
    sources.append(str(path))
  text = '+'.join(sources)
  small = config.load(
    f'configs/pretrain.py:tiny-gpt,text={text}', [*SMALL, ('model', TINY)]
  )
  small.optim.lr = 0.01
  small.schedule.steps = 40
  small.eval.batches = 0
  small.eval.every = 20
  found = train.pretrain(small, workdir)
  logged = (workdir / 'evaluations.jsonl').read_text().splitlines()
  return found['metrics'], [json.loads(line) for line in logged]


def test_every_source_of_a_mixture_has_its_own_figures(tmp_path):
  same = [f'one two three four {place}' for place in range(60)]
  varied = [f'{a} {b} {a * b} {a + b}' for a in range(7, 15) for b in range(8)]
  texts = dict(same=same, varied=varied)
  found, logged = pretrained(tmp_path, texts, tmp_path / 'both')
  of_same = found[f'{tmp_path}/same.txt/loss']
  of_varied = found[f'{tmp_path}/varied.txt/loss']
  # What is nearly the same is the easier to learn; how much differs with the folder, by
  # whose name the texts have their order.
  assert of_same < of_varied - 0.25
  # The whole is the mean over tokens, not over sources.
  assert of_same < found['loss'] < of_varied
  assert found[f'{tmp_path}/same.txt/perplexity'] == pytest.approx(math.exp(of_same))
  on_the_way = [line for line in logged if f'test/{tmp_path}/same.txt/loss' in line]
  assert [line['step'] for line in on_the_way] == [20]


def test_a_single_source_is_the_whole(tmp_path):
  texts = dict(same=[f'one two three four {place}' for place in range(60)])
  found, _ = pretrained(tmp_path, texts, tmp_path / 'one')
  assert not [name for name in found if '/' in name]


def test_sums_of_sources_are_those_of_all_batches():
  numbered = []

  def sums(params, batch, index):
    numbered.append(index)
    return {'loss/causal': (params * batch, batch)}, 1

  first = add_up(sums, 2.0, [1.0, 2.0])
  second = add_up(sums, 2.0, [4.0], first.batches)
  assert first + second == add_up(sums, 2.0, [1.0, 2.0, 4.0])
  # Every batch of a mixture has draws of its own.
  assert numbered[:3] == [0, 1, 2]


def test_texts_of_which_nothing_is_asked_are_no_score(caplog):
  """Of a text of one token nothing is hidden: that is no perplexity of 1."""
  sums = dict(short=(0.0, 0.0), long=(6.0, 3.0))

  class Asked(MixtureEvaluator):
    def __init__(self, *names):
      self._examples = dict.fromkeys(names)

    def _batches(self, name):
      return [name]

    @staticmethod
    def _sums(params, name, index):
      return {'loss/masked': sums[name], 'accuracy': sums[name]}, 4

  found = Asked('short', 'long').measure(None)
  assert found['loss'] == found['long/loss'] == 2.0 and found['examples'] == 8
  assert not any(name.startswith('short/') for name in found)
  assert not caplog.text
  Asked('short').measure(None)
  assert 'the objective asks for nothing in 4 examples' in caplog.text
