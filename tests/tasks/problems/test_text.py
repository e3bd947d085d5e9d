"""Texts as answers: what is encoded, what is cut, and what the loss sees."""

import dataclasses
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tl_jax import data, models, tasks
from tl_jax.config import ConfigError
from tl_jax.tasks.problems.text import Template

TEXT = tasks.PROBLEMS['text']
SOURCES = ['a red horse runs', 'the cow sleeps', 'a cat', 'one dog barks at a red cow']
TARGETS = ['horse', 'the cow', 'cat cat', 'a dog']


@pytest.fixture(scope='module')
def tokenizer():
  return data.tokenizers.train([*SOURCES, *TARGETS] * 3, kind='bpe', size=400)


def targets_of(*answers):
  return TEXT.gather([tasks.Example(('',), answer) for answer in answers])


def encode(tokenizer, kind, length=32, target_length=8, **how):
  begin = how.pop('begin', ())
  writer = tasks.Writer(kind, tokenizer.eos, tokenizer.pad, begin)
  limits = tasks.Limits(length, None, target_length, writer=writer, **how)
  return TEXT.encode(SOURCES, targets_of(*TARGETS), tokenizer, limits)


def test_a_prompt_and_its_target_are_one_text(tokenizer):
  examples, _ = encode(tokenizer, 'decoder')
  for index, (source, target) in enumerate(zip(SOURCES, TARGETS, strict=True)):
    ids = examples.tokens[index].tolist()
    assert ids[-1] == tokenizer.eos
    assert ids[:-1] == tokenizer.encode(f'{source}\n=> {target}', special=False)
    assert tokenizer.decode(tasks.prompt_of(examples, index)) == f'{source}\n=>'


def test_a_source_is_framed_and_a_target_begins_as_the_model_does(tokenizer):
  framed = dataclasses.replace(tokenizer, prefix=(9,), suffix=(tokenizer.eos,))
  examples, _ = encode(framed, 'encoder-decoder', begin=(7, 8))
  plain = [tokenizer.encode(text, special=False) for text in (SOURCES[0], TARGETS[0])]
  assert examples.tokens[0].tolist() == [9, *plain[0], tokenizer.eos]
  assert examples.targets[0].tolist() == [7, 8, *plain[1], tokenizer.eos]
  assert tasks.prompt_of(examples, 0) == [9, *plain[0], tokenizer.eos]


@pytest.mark.parametrize('kind', TEXT.kinds)
def test_what_is_cut_is_counted_and_ends_as_it_should(tokenizer, kind):
  length = 11 if kind == 'decoder' else 7
  examples, cut = encode(tokenizer, kind, length, target_length=2)
  assert max(examples.tokens.lengths) <= length
  answers = examples.targets or examples.tokens
  assert all(answers[index][-1] == tokenizer.eos for index in range(4))
  if kind == 'decoder':
    # No prompt loses what parts it from its target.
    ends = [tokenizer.decode(tasks.prompt_of(examples, i)) for i in range(4)]
    assert all(end.endswith('\n=>') for end in ends)
  whole = encode(tokenizer, kind)[1]
  assert [each.count for each in whole] == [0, 0]
  assert [each.what for each in cut] == ['text', 'target']
  assert all(each.count for each in cut)


def test_a_template_has_a_place_for_the_text():
  assert Template.of('sum: {text}', two_texts=False) == ('sum: ', '', '')
  assert Template.of('{text}\n{target}') == ('', '', '\n')
  for wrong in ('nothing', '{text} {text}', '{text} {target}!', '{target} {text}'):
    with pytest.raises(ConfigError, match='config.task.template'):
      Template.of(wrong)
  with pytest.raises(ConfigError, match='leave {target} out'):
    Template.of('{text} {target}', two_texts=False)


def test_a_row_without_room_for_a_text_is_refused(tokenizer):
  with pytest.raises(ConfigError, match='config.data.length: no room'):
    encode(tokenizer, 'decoder', length=9, target_length=8)


def test_several_answers_may_be_right():
  task = tasks.Task('t', 's', None, problem=TEXT, metrics=('exact_match',))
  targets = TEXT.gather(
    [tasks.Example(('',), 'a', ('a', 'b')), tasks.Example(('',), 'c')]
  )
  assert tasks.score(task, ['b', 'd'], targets) == {'exact_match': 0.5}
  assert [task.named(target) for target in targets] == [['a', 'b'], 'c']


@pytest.fixture(scope='module', params=['tiny-gpt', 'tiny-t5'])
def model(request, tokenizer):
  small = dict(layers=1, width=16, heads=2, mlp=32, head='causal')
  if request.param == 'tiny-t5':
    small |= dict(head_dim=8)
  arch = models.arch(request.param, vocabulary=tokenizer.vocabulary_size, **small)
  built = models.build(arch)
  return built, built.init(jax.random.key(0))


def loss_of(model, tokenizer, batch, change=lambda batch: batch):
  """The mean loss of a batch, per learned token; `change` acts on the prepared batch."""
  built, params = model
  writer = tasks.Writer(built.arch.kind, tokenizer.eos, tokenizer.pad)
  objective = TEXT.objective(tasks.Facts(writer=writer))
  batch = {name: jnp.asarray(value) for name, value in batch.items()}
  batch = change(objective.prepare(None, batch))
  forward = lambda *args, **how: built.apply(params, *args, **how)
  (name,) = weights = objective.weights(batch)
  terms, _ = objective.loss(forward, batch, None)
  return float(terms[name].sum / weights[name]), float(weights[name])


def batches_of(model, tokenizer, **how):
  examples, _ = encode(tokenizer, model[0].arch.kind)
  return list(
    data.evaluation(examples, length=64, target_length=64, pad=tokenizer.pad, **how)
  )


def test_packed_and_unpacked_rows_have_one_loss(model, tokenizer):
  (packed,) = batches_of(model, tokenizer, batch=2, pack=True, examples_per_row=8)
  (plain,) = batches_of(model, tokenizer, batch=4, pack=False)
  assert packed['segments'].max() > 1 and plain['segments'].max() == 1
  found, count = loss_of(model, tokenizer, packed)
  expected, same_count = loss_of(model, tokenizer, plain)
  assert count == same_count
  assert found == pytest.approx(expected, abs=1e-5)


def test_the_loss_is_of_the_targets_alone(model, tokenizer):
  (batch,) = batches_of(model, tokenizer, batch=4, pack=False)
  base, count = loss_of(model, tokenizer, batch)
  examples, _ = encode(tokenizer, model[0].arch.kind)
  prompts = sum(len(tasks.prompt_of(examples, index)) for index in range(4))
  ids = int(examples.tokens.lengths.sum())
  learned = (
    ids - prompts if examples.targets is None else examples.targets.lengths.sum()
  )
  assert count == learned

  def changed(at):
    def change(prepared):
      targets = prepared['targets']
      hit = at(prepared['target_weights'] > 0)
      return {**prepared, 'targets': jnp.where(hit, (targets + 1) % 100, targets)}

    return loss_of(model, tokenizer, batch, change)[0]

  # What stands under no weight may be anything; what is learned may not.
  assert changed(lambda is_learned: ~is_learned) == base
  assert changed(lambda is_learned: is_learned) != pytest.approx(base, abs=1e-3)


def test_smoothing_spreads_a_target_over_the_vocabulary(model, tokenizer):
  (batch,) = batches_of(model, tokenizer, batch=4, pack=False)
  built, params = model
  writer = tasks.Writer(built.arch.kind, tokenizer.eos, tokenizer.pad)
  objective = TEXT.objective(tasks.Facts(writer=writer, smoothing=1.0))
  prepared = objective.prepare(None, {k: jnp.asarray(v) for k, v in batch.items()})
  forward = lambda *args, **how: built.apply(params, *args, **how)
  terms, _ = objective.loss(forward, prepared, None)
  weights = prepared['target_weights']
  found = jax.nn.log_softmax(forward(prepared).logits)
  # With nothing left for the target, all tokens count alike.
  expected = -(found.mean(-1) * weights).sum()
  (term,) = terms.values()
  assert float(term.sum) == pytest.approx(float(expected), rel=1e-5)


def test_the_embedded_summaries_are_short_and_of_their_descriptions():
  task = tasks.find('summary')
  texts, targets = tasks.labelled(task, 'train')
  lines = [task.named(target) for target in targets]
  assert len(texts) > 1000 and all(map(str.strip, lines))
  assert np.mean([len(line) for line in lines]) < np.mean([len(text) for text in texts])


def test_a_column_has_a_text_or_several_that_are_right(tmp_path):
  path = tmp_path / 'a.jsonl'
  rows = [('one', 'x '), ('two', ['y', 'z']), ('three', 7), ('four', 'None')]
  lines = [
    json.dumps(dict(text=text, title=title, split=split))
    for text, title in rows
    for split in ('train', 'test')
  ]
  path.write_text('\n'.join(lines))
  task = tasks.find(str(path), how=tasks.Reading(target='title'))
  assert (task.problem.name, task.labels) == ('text', ())
  targets = tasks.labelled(task, 'test')[1]
  assert [task.named(target) for target in targets] == ['x', ['y', 'z'], '7', 'None']
  path.write_text('\n'.join([*lines, '{"text": "five", "title": [], "split": "test"}']))
  with pytest.raises(ConfigError, match='a.jsonl:9: title: an empty list'):
    tasks.find(str(path), how=tasks.Reading(target='title'))
