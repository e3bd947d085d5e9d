"""Problems of labels: what a target is, what a prediction is, and who competes."""

import dataclasses

import jax
import numpy as np
import pytest

from tl_jax import models
from tl_jax.data import pipeline, tokenizers
from tl_jax.data.pairs import Pair
from tl_jax.tasks import PROBLEMS, Example, Limits, Task, decide, labelled, score

SINGLE = PROBLEMS['single_label']
TEXTS = [
  Pair('is it late', 'it is noon'),
  'a text alone',
  Pair('it is noon', 'is it late'),
  Pair('is it noon ' * 9, 'it is late'),
]


def examples(*targets):
  return [Example(('a text',), target) for target in targets]


@pytest.mark.parametrize(
  ('name', 'targets', 'shape', 'dtype'),
  [
    ('single_label', (1, 0, 2), (3,), np.int32),
    ('multi_label', ((1, 0), (0, 1)), (2, 2), np.float32),
    ('regression', (0.5, 2), (2, 1), np.float32),
  ],
)
def test_targets_are_gathered_in_the_form_of_the_problem(name, targets, shape, dtype):
  found = PROBLEMS[name].gather(examples(*targets))
  assert found.shape == shape and found.dtype == dtype
  np.testing.assert_array_equal(found.reshape(-1), np.reshape(targets, -1))


@pytest.mark.parametrize(
  ('name', 'targets', 'counts'),
  [
    ('single_label', [1, 1, 0], [1, 2, 0]),
    ('multi_label', [[1.0, 0, 1], [1, 0, 0]], [2, 0, 1]),
    ('regression', [[0.5], [1.0]], [2]),
  ],
)
def test_labels_are_counted(name, targets, counts):
  assert PROBLEMS[name].count(np.array(targets), len(counts)) == counts


def test_a_target_moves_to_where_a_model_has_its_label():
  assert PROBLEMS['single_label'].move(1, [2, 0], 3) == 0
  assert PROBLEMS['multi_label'].move((1, 0), [2, 0], 3) == (0, 0, 1)
  assert PROBLEMS['regression'].move is None


def test_a_set_of_labels_is_what_lies_above_one_half():
  task = Task('t', 's', None, ('a', 'b'), PROBLEMS['multi_label'])
  outputs = np.array([[3.0, -1.0], [-2.0, 0.5]])
  found = decide(task, outputs, np.zeros((2, 2)))
  assert [task.named(row) for row in found] == [['a'], ['b']]
  assert score(task, outputs, np.eye(2))['accuracy'] == 1.0


@pytest.fixture(scope='module')
def tokenizer():
  return tokenizers.train(list(map(str, TEXTS)) * 3, kind='wordpiece', size=200)


def encode(tokenizer, folder, **how):
  limits = Limits(24, folder, **how)
  return SINGLE.encode(TEXTS, np.arange(4), tokenizer, limits)


def test_two_texts_have_a_frame_where_the_model_reads_one(tokenizer, tmp_path):
  typed = encode(tokenizer, tmp_path, pairs=True, types=2)
  plain = encode(tokenizer, tmp_path, pairs=True, types=1)
  joined = encode(tokenizer, tmp_path)
  first = tokenizer.encode_pair(TEXTS[0].first, TEXTS[0].second)
  assert (typed.examples.tokens[0].tolist(), typed.examples.types[0].tolist()) == first
  assert plain.examples.tokens[0].tolist() == first[0] and plain.examples.types is None
  assert joined.examples.tokens[0].tolist() == tokenizer.encode(str(TEXTS[0]))
  # The longer text is cut, and it is told of the whole.
  cut = tokenizer.encode_pair(TEXTS[3].first, TEXTS[3].second, 24)[0]
  assert typed.examples.tokens[3].tolist() == cut and len(cut) == 24
  (told,) = typed.cut
  whole = len(tokenizer.encode_pair(TEXTS[3].first, TEXTS[3].second)[0])
  assert (told.count, told.length, told.whole.max()) == (1, 24, whole)


def test_packed_pairs_are_answered_as_alone(tokenizer, tmp_path):
  examples = encode(tokenizer, tmp_path, pairs=True, types=2).examples
  small = dict(
    width=16, layers=1, heads=2, mlp=16, vocabulary=tokenizer.vocabulary_size
  )
  model = models.build(models.arch('bert-tiny', **small, head='classifier', labels=3))
  params = model.init(jax.random.key(0))
  params = jax.tree.map(lambda leaf: leaf * 20 if leaf.ndim == 2 else leaf, params)
  apply = jax.jit(model.apply)

  def answers(length, pack, examples=examples):
    rows = pipeline.evaluation(
      examples, length=length, batch=4, pack=pack, examples_per_row=4 if pack else 1
    )
    (batch,) = rows
    found = np.asarray(apply(params, batch).logits)
    return {
      int(number): found[row, place]
      for (row, place), number in np.ndenumerate(batch['identifiers'])
      if number >= 0
    }

  packed, alone = answers(80, True), answers(24, False)
  untyped = answers(24, False, dataclasses.replace(examples, types=None))
  for number in range(4):
    np.testing.assert_allclose(packed[number], alone[number], atol=1e-5)
  # What a model is told by the types, and by which text is the first.
  assert np.abs(alone[0] - untyped[0]).max() > 1e-3
  np.testing.assert_allclose(alone[1], untyped[1], atol=1e-5)
  assert np.abs(alone[0] - alone[2]).max() > 1e-3


def test_a_line_shows_both_texts_and_other_readers_have_them_joined():
  task = Task('t', 's', lambda record: Example(('a', record['text']), 0), ('x', 'y'))
  record = task.example({'text': 'b'})
  task = dataclasses.replace(task, example=lambda _: record, source='vader_movie')
  (text, *_), targets = labelled(task, 'test')
  assert text == 'a\nb' and isinstance(text, Pair)
  line = SINGLE.line(text, targets[0], 1, [0.0, 1.0], task.labels)
  assert (line['text'], line['text_pair'], line['prediction']) == ('a', 'b', 'y')
