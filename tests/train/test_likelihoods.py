"""Runs that ask a model how probable texts are: from files as published to a result."""

import json

import jax
import numpy as np
import pytest

from tl_jax import config, interop, models, train
from tl_jax.config import ConfigError
from tl_jax.data import tokenizers
from tl_jax.tasks import prompts

WORDS = ('dog', 'cat', 'girl', 'boy')
TEXT = 'The dog cat girl boy sees itself themselves . He looked at the door key house'
HEADS = {
  'decoder': ('tiny-gpt', 'causal', 'bpe'),
  'encoder': ('tiny', 'masked', 'wordpiece'),
  'encoder-decoder': ('tiny-t5', 'causal', 'bpe'),
}


@pytest.fixture(scope='module')
def folders(tmp_path_factory):
  """A tiny model of every kind."""
  found = {}
  for kind, (family, head, form) in HEADS.items():
    tokenizer = tokenizers.train([TEXT] * 20, form, 400)
    size = tokenizer.vocabulary_size
    arch = models.arch(family, layers=1, vocabulary=size, head=head)
    model = models.build(arch)
    params = model.init(jax.random.key(0))
    found[kind] = tmp_path_factory.mktemp('models') / kind
    interop.save(found[kind], interop.Loaded(model, params, tokenizer, arch))
  return found


@pytest.fixture(scope='module')
def blimp(tmp_path_factory):
  folder = tmp_path_factory.mktemp('blimp')
  for name in ('gender', 'number'):
    rows = []
    for place, word in enumerate(WORDS):
      good, bad = f'The {word} sees itself {name}', f'The {word} sees themselves {name}'
      row = dict(sentence_good=good, sentence_bad=bad, UID=name, pair_id=str(place))
      rows.append(row | dict(linguistics_term='anaphor', lexically_identical=True))
    (folder / f'{name}.jsonl').write_text('\n'.join(map(json.dumps, rows)))
  return folder


@pytest.fixture(scope='module')
def lambada(tmp_path_factory):
  path = tmp_path_factory.mktemp('lambada') / 'lambada_test.jsonl'
  rows = [dict(text=f'He looked at the {word} . The {word}') for word in WORDS]
  path.write_text('\n'.join(map(json.dumps, rows)))
  return path


def ask(task, folder, workdir, *overrides, method='in_context'):
  spec = f'configs/transfer.py:task={task},method={method},init={folder}'
  result = train.transfer(config.load(spec, list(overrides)), workdir)
  lines = (workdir / 'predictions.jsonl').read_text().splitlines()
  return result, [json.loads(line) for line in lines]


def chances(loaded, ids):
  """log P of each of these ids behind those before it."""
  tokens = np.array([ids], np.int32)
  batch = dict(tokens=tokens, segments=np.ones_like(tokens))
  logits = loaded.model.apply(loaded.params, batch).logits[0]
  found = jax.nn.log_softmax(logits[:-1])
  return found[np.arange(len(ids) - 1), ids[1:]], found.argmax(-1) == np.array(ids[1:])


def test_a_decoder_compares_log_likelihoods(tmp_path, folders, blimp):
  result, lines = ask(blimp, folders['decoder'], tmp_path / 'w')
  loaded = train.load(folders['decoder'])
  encode = lambda text: loaded.tokenizer.encode(text, special=False)
  begin = [loaded.tokenizer.bos or loaded.tokenizer.eos or loaded.tokenizer.pad]
  begin = list(loaded.tokenizer.prefix) or begin
  expected = [
    float(chances(loaded, [*begin, *encode(lines[0][which])])[0].sum())
    for which in ('good', 'bad')
  ]
  assert lines[0]['prediction'] == pytest.approx(expected, abs=1e-3)
  right = [line['prediction'][0] > line['prediction'][1] for line in lines]
  metrics = result['metrics']
  assert result['n'] == len(lines) == 8
  assert metrics['pair_accuracy'] == metrics['anaphor/pair_accuracy'] == np.mean(right)
  assert metrics['anaphor/gender/pair_accuracy'] == np.mean(right[:4])
  # Also of a paradigm whose pairs are all alike.
  assert set(result['intervals']) == set(metrics)
  low, high = result['intervals']['anaphor/number/pair_accuracy']
  assert low < high


def test_a_masked_encoder_compares_pseudo_log_likelihoods(tmp_path, folders, blimp):
  _, lines = ask(blimp, folders['encoder'], tmp_path / 'w')
  loaded = train.load(folders['encoder'])
  ids = np.array(loaded.tokenizer.encode(lines[0]['good']))
  places = np.arange(1, len(ids) - 1)
  tokens = np.tile(ids, (len(places), 1)).astype(np.int32)
  tokens[places - 1, places] = loaded.tokenizer.mask
  batch = dict(tokens=tokens, segments=np.ones_like(tokens))
  logits = loaded.model.apply(loaded.params, batch).logits
  own = jax.nn.log_softmax(logits)[places - 1, places, ids[places]]
  assert lines[0]['prediction'][0] == pytest.approx(float(own.sum()), abs=1e-3)


def test_whole_sentences_are_read_behind_the_piece_that_is_named(
  tmp_path, folders, blimp
):
  tokenizer = train.load(folders['decoder']).tokenizer
  (first,) = prompts.beginning(tokenizer)
  own, other = (tokenizer.backend.id_to_token(number) for number in (first, 50))
  found = {}
  for number, piece in enumerate(['', own, other]):
    override = ('method.begin', piece)
    _, lines = ask(blimp, folders['decoder'], tmp_path / str(number), override)
    found[piece] = lines[0]['prediction']
  assert found[''] == found[own] != found[other]
  with pytest.raises(config.ConfigError, match='method.begin: .* is no piece'):
    ask(blimp, folders['decoder'], tmp_path / 'no', ('method.begin', '<|endofword|>'))


@pytest.mark.parametrize('kind', ['decoder', 'encoder'])
def test_how_far_pairs_have_come_is_told_to_the_end(tmp_path, folders, blimp, kind):
  told = []

  def progress(title, done, total, **figures):
    told.append((done, total))

  reporter = train.NULL_REPORTER._replace(progress=progress)
  spec = f'configs/transfer.py:task={blimp},method=in_context,init={folders[kind]}'
  train.transfer(config.load(spec, [('data.batch', '2')]), tmp_path / 'w', reporter)
  dones = [done for done, _ in told]
  assert len(told) > 1
  assert dones == sorted(set(dones))
  assert {total for _, total in told} == {dones[-1]}


def test_the_last_word_is_judged_behind_all_others(tmp_path, folders, lambada):
  task = f'{lambada},kind=last_word'
  result, lines = ask(task, folders['decoder'], tmp_path / 'w')
  loaded = train.load(folders['decoder'])
  encode = lambda text: loaded.tokenizer.encode(text, special=False)
  sums = []
  for line in lines[:2]:
    context = [*loaded.tokenizer.prefix, *encode(line['text'])]
    word = encode(' ' + line['target'])
    own, best = chances(loaded, [*context, *word])
    sums.append(float(own[-len(word) :].sum()))
    assert line['prediction'][1] == bool(best[-len(word) :].all())
    assert line['prediction'][0] == pytest.approx(sums[-1], abs=1e-3)
  sums = [line['prediction'][0] for line in lines]
  perplexity = np.exp(-np.mean(sums))
  found = result['metrics']
  assert found['last_word_perplexity'] == pytest.approx(perplexity, rel=1e-3)
  assert result['n'] == 4 and set(found) == set(result['intervals'])


def test_a_cloze_shows_texts_of_another_file(tmp_path, folders, lambada):
  other = tmp_path / 'train.jsonl'
  rows = [dict(text=f'The {word} sees the door') for word in WORDS]
  other.write_text('\n'.join(map(json.dumps, rows)))
  cloze = [
    ('method.shots', '2'),
    ('method.template', '{text} ____. -> {target}'),
    ('data.length', '200'),
  ]
  task = f'{lambada},kind=last_word,train={other},test={lambada}'
  result, lines = ask(task, folders['decoder'], tmp_path / 'w', *cloze)
  assert result['labels'] == 2 and '2 demonstrations' in result['notes'][-1]
  bare, _ = ask(f'{lambada},kind=last_word', folders['decoder'], tmp_path / 'v')
  name = 'last_word_perplexity'
  assert result['metrics'][name] != bare['metrics'][name] and len(lines) == 4


@pytest.mark.parametrize(
  ('kind', 'file', 'overrides', 'method', 'message'),
  [
    ('encoder-decoder', 'blimp', (), 'in_context', 'needs a decoder .* or an encoder'),
    ('encoder', 'lambada', (), 'in_context', 'needs a decoder that writes'),
    ('decoder', 'lambada', [('method.shots', '1')], 'in_context', 'train=FILE'),
    ('decoder', 'blimp', [('method.shots', '1')], 'in_context', 'nothing is shown'),
    ('decoder', 'lambada', [('data.length', '4')], 'in_context', 'config.data.length'),
    ('decoder', 'blimp', (), 'full', 'nothing is learned; nearest: in_context'),
    ('decoder', 'blimp', (), 'tf-idf', 'needs a task with one label'),
  ],
)
def test_what_cannot_be_asked_is_one_line(
  tmp_path, folders, request, kind, file, overrides, method, message
):
  task = request.getfixturevalue(file)
  task = f'{task},kind=last_word' if file == 'lambada' else task
  with pytest.raises(ConfigError, match=message):
    ask(task, folders[kind], tmp_path / 'w', *overrides, method=method)
