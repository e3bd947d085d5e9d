"""Runs in context: from a file and the folder of a model to predictions and a result."""

import json

import jax
import numpy as np
import pytest

from tl_jax import config, interop, models, train
from tl_jax.config import ConfigError
from tl_jax.data import tokenizers
from tl_jax.evals import ranking
from tl_jax.tasks import prompts
from tl_jax.train.incontext import said_of_shots

WORDS = ('good', 'bad', 'film', 'story')
FEW = [('method.shots', '2'), ('data.length', '100'), ('data.batch', '4')]


def save(path, kind, head='causal'):
  """The folder of a tiny GPT, T5 or BERT."""
  tokenizer = tokenizers.train([' '.join(WORDS) + '\n=> '] * 20, 'bpe', 400)
  family = {'decoder': 'tiny-gpt', 'encoder-decoder': 'tiny-t5'}.get(kind, 'tiny')
  size = tokenizer.vocabulary_size
  arch = models.arch(family, layers=1, vocabulary=size, head=head)
  model = models.build(arch)
  params = model.init(jax.random.key(0))
  interop.save(path, interop.Loaded(model, params, tokenizer, arch))
  return path


@pytest.fixture(scope='module')
def folders(tmp_path_factory):
  made = tmp_path_factory.mktemp('models')
  kinds = ('decoder', 'encoder-decoder')
  return {kind: save(made / kind, kind) for kind in kinds}


@pytest.fixture(scope='module')
def task(tmp_path_factory):
  """A file of two classes, which may also be read as texts to write."""
  rows = []
  for place in range(24):
    text = ' '.join(WORDS[(place + step) % 4] for step in range(1 + 3 * (place % 5)))
    split = 'test' if place % 3 == 0 else 'train'
    label = WORDS[place % 2]
    rows.append(dict(text=f'{text} {place}', label=label, split=split))
  path = tmp_path_factory.mktemp('task') / 'mine.jsonl'
  path.write_text('\n'.join(map(json.dumps, rows)))
  return path


def ask(task, folder, workdir, *overrides, more=''):
  spec = f'configs/transfer.py:task={task},method=in_context,init={folder}{more}'
  result = train.transfer(config.load(spec, [*FEW, *overrides]), workdir)
  lines = (workdir / 'predictions.jsonl').read_text().splitlines()
  return result, [json.loads(line) for line in lines]


@pytest.mark.parametrize('kind', ['decoder', 'encoder-decoder'])
def test_every_example_has_all_scores_and_the_result_their_accuracies(
  tmp_path, folders, task, kind
):
  result, lines = ask(task, folders[kind], tmp_path / 'w', more=',label=label')
  assert result['n'] == len(lines) == 8
  assert result['method'] == 'in_context' and result['labels'] == 2
  assert result['trained_parameters'] == 0 < result['total_parameters']
  assert result['notes'][-1] == '2 demonstrations in a prompt'
  for name in ('sum', 'token', 'character', 'unconditional', 'calibrated'):
    right = 0
    for line in lines:
      own = line['scores'][name]
      right += max(own, key=own.get) == line['target']
    assert result['metrics'][f'{name}/accuracy'] == right / 8
    low, high = result['intervals'][f'{name}/accuracy']
    assert low <= right / 8 <= high
  assert result['metrics']['accuracy'] == result['metrics']['sum/accuracy']
  for line in lines:
    own = line['scores']['sum']
    assert line['outputs'] == pytest.approx([own['bad'], own['good']], abs=1e-5)
    assert line['prediction'] == max(own, key=own.get) and line['shots'] == 2
  # A finished run is not run again.
  assert ask(task, folders[kind], tmp_path / 'w', more=',label=label')[0] == result


def test_scores_are_those_of_prompts_put_by_hand(tmp_path, folders, task):
  """With the calibration of inputs that say nothing, behind the same demonstrations."""
  _, lines = ask(
    task, folders['decoder'], tmp_path / 'w', ('method.score', 'calibrated')
  )
  loaded = train.load(folders['decoder'])
  rows = [json.loads(line) for line in task.read_text().splitlines()]
  by_text = {row['text']: row['label'] for row in rows if row['split'] == 'train'}
  texts = list(by_text)
  (drawn,) = prompts.draw(texts, 2, 0, None)
  shown = [f'{texts[n]}\n=> {by_text[texts[n]]}' for n in drawn]
  encode = lambda text: loaded.tokenizer.encode(text, special=False)
  labels = [encode('x\n=> ' + word)[len(encode('x\n=>')) :] for word in ('bad', 'good')]
  ranker = ranking.Ranker(models.decoder(loaded.arch), loaded.params)

  def chances(text):
    prompt = '\n\n'.join([*shown, f'{text}\n=>'])
    ids = [*loaded.tokenizer.prefix, *encode(prompt)]
    (found,) = ranker.rank([ranking.Request(ids, labels)])
    return np.exp(found.sums)

  empty = np.mean([chances(text) for text in ('N/A', '', '[MASK]')], 0)
  empty = empty / empty.sum()
  for line in lines[:3]:
    own = chances(line['text'])
    wanted = np.log(own / own.sum() / empty)
    assert line['outputs'] == pytest.approx(wanted.tolist(), abs=1e-4)


@pytest.mark.parametrize('score', ['sum', 'calibrated'])
def test_candidates_of_each_question_are_ranked(tmp_path, folders, score):
  rows = []
  for place in range(12):
    answers = [f'{WORDS[place % 4]} film', 'bad', 'a story'][: 2 + place % 2]
    split = 'test' if place % 3 == 0 else 'train'
    row = dict(question=f'good {place}', choices=answers, answer=place % 2, split=split)
    rows.append(row)
  path = tmp_path / 'choice.jsonl'
  path.write_text('\n'.join(map(json.dumps, rows)))
  more = ',kind=choice'
  chosen = ('method.score', score)
  result, lines = ask(path, folders['decoder'], tmp_path / 'w', chosen, more=more)
  assert result['metrics'].keys() >= {'choice_accuracy', 'token/choice_accuracy'}
  assert ('calibrated/choice_accuracy' in result['metrics']) == (score == 'calibrated')
  for line, row in zip(lines, rows[::3], strict=True):
    assert line['candidates'] == row['choices'] and line['shots'] == 2
    own = list(line['scores'][score].values())
    assert line['outputs'] == pytest.approx(own, abs=1e-4) and len(own) == len(
      row['choices']
    )
    assert line['prediction'] == str(int(np.argmax(own)))


def test_a_draw_for_each_example(tmp_path, folders, task):
  draw = ('method.draw', 'example')
  result, lines = ask(task, folders['decoder'], tmp_path / 'a', draw)
  assert 'calibrated/accuracy' not in result['metrics']
  assert result['labels'] > 2
  score = ('method.score', 'calibrated')
  _, calibrated = ask(task, folders['decoder'], tmp_path / 'b', draw, score)
  for one, other in zip(lines, calibrated, strict=True):
    assert one['scores']['sum'] == pytest.approx(other['scores']['sum'], abs=1e-4)
    assert 'calibrated' in other['scores']


def test_fewer_demonstrations_where_fewer_fit(tmp_path, folders, task):
  short = ('data.length', '50')
  result, lines = ask(
    task, folders['decoder'], tmp_path / 'w', ('method.shots', '9'), short
  )
  shots = [line['shots'] for line in lines]
  assert 0 < min(shots) < max(shots) < 9
  assert result['notes'][-1] == said_of_shots(shots, 9)
  # Prompts with like demonstrations are ranked together: each is still its own.
  for count in set(shots):
    _, alone = ask(
      task,
      folders['decoder'],
      tmp_path / str(count),
      ('method.shots', str(count)),
      short,
    )
    for line, other in zip(lines, alone, strict=True):
      if line['shots'] == count:
        assert line['outputs'] == pytest.approx(other['outputs'], abs=1e-4)


@pytest.mark.parametrize('kind', ['decoder', 'encoder-decoder'])
def test_texts_are_written_behind_demonstrations(tmp_path, folders, task, kind):
  length = ('data.target_length', '5')
  result, lines = ask(task, folders[kind], tmp_path / 'w', length, more=',target=label')
  assert {'rougeL', 'exact_match'} <= result['metrics'].keys()
  assert all(line['shots'] == 2 and '\n\n' not in line['prediction'] for line in lines)
  assert [line['reference'] for line in lines] == [
    WORDS[n % 2] for n in range(0, 24, 3)
  ]


@pytest.mark.parametrize(
  ('overrides', 'more', 'said'),
  [
    ([('method.shots', '99')], '', 'config.method.shots: 99, but there are 16'),
    (
      [('method.words', "{'fine': 'a'}")],
      '',
      "config.method.words: 'fine' is no label",
    ),
    ([('method.template', '{text}')], '', 'config.method.template'),
    ([('task.template', '{text}!')], '', 'config.task.template'),
    ([('task.template', '{text}!')], ',target=label', 'config.task.template'),
    ([('init', 'scratch')], '', 'config.init'),
    ([], ',kind=multi_label', 'config.method.name: in_context needs a task with'),
    ([('data.length', '3')], '', 'config.data.length: no room for a text'),
  ],
)
def test_what_cannot_be_asked_is_refused(
  tmp_path, folders, task, overrides, more, said
):
  with pytest.raises(ConfigError) as caught:
    ask(task, folders['decoder'], tmp_path / 'w', *overrides, more=more)
  assert said in str(caught.value)
  assert not (tmp_path / 'w' / 'result.json').exists()


@pytest.mark.parametrize(
  ('spec', 'method'),
  [
    ('configs/transfer.py:method=in_context+lora', None),
    ('configs/pretrain.py:tiny', dict(name='in_context')),
  ],
)
def test_it_stands_alone_in_a_transfer(spec, method):
  group = config.load(spec).to_dict()
  group['method'] = method or group['method']
  with pytest.raises(ConfigError, match=r'name: in_context stands alone'):
    train.read(group)


def test_a_model_that_writes_nothing_is_refused(tmp_path, task):
  folder = save(tmp_path / 'bert', 'encoder', head='masked')
  with pytest.raises(ConfigError, match=r'config.init: .*bert: an encoder .* no text'):
    ask(task, folder, tmp_path / 'w')


def test_a_line_on_the_demonstrations():
  assert said_of_shots([2, 2], 2) == '2 demonstrations in a prompt'
  assert said_of_shots([2, 1, 0], 2).endswith(
    '; 2 of 3 prompts have room for fewer, for 0 at the least'
  )
