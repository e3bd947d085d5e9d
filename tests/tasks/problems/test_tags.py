"""The problem of tags, from examples to metrics."""

import numpy as np
import pytest

from tl_jax import metrics, tasks
from tl_jax.data import tokenizers
from tl_jax.data.words import Words
from tl_jax.tasks.problems import PROBLEMS, Example, Limits
from tl_jax.tasks.task import collected, places

TAGS = PROBLEMS['tags']
NAMES = ('B-LOC', 'B-PER', 'I-PER', 'O')
EXAMPLES = [
  Example((Words(['Ann', 'Lee', 'sings']),), (1, 2, 3)),
  Example((Words(['Rome']),), (0,)),
]
TARGETS = TAGS.gather(EXAMPLES)


def task(labels=NAMES):
  return tasks.Task('t', 'none', lambda record: None, labels, problem=TAGS)


def test_sentences_of_any_length_are_gathered():
  assert TARGETS.tolist() == [[1, 2, 3], [0, -1, -1]]
  assert TAGS.gather([]).shape == (0, 0)
  assert TAGS.count(TARGETS, 4) == [1, 1, 1, 1]


def outputs_of(tags):
  return 4.0 * np.eye(len(NAMES))[tags]


def test_outputs_of_words_become_those_of_sentences():
  raw = collected(task(), outputs_of([1, 3, 3, 0]), None, [0, 1], TARGETS)
  assert tasks.decide(task(), raw, TARGETS).tolist() == [[1, 3, 3], [0, -1, -1]]
  chance = np.exp(4) / (np.exp(4) + 3)
  np.testing.assert_allclose(raw[0, :, 1], chance, rtol=1e-6)
  line = TAGS.line(EXAMPLES[1].inputs[0], TARGETS[1], [0, -1, -1], raw[1], NAMES)
  assert line == dict(
    tokens=['Rome'],
    target=['B-LOC'],
    prediction=['B-LOC'],
    probabilities=[round(float(np.float32(chance)), 6)],
  )


def test_entities_are_scored_where_tags_mark_such():
  raw = collected(task(), outputs_of([1, 3, 3, 0]), None, [0, 1], TARGETS)
  found = tasks.score(task(), raw, TARGETS)
  named = [['B-PER', 'O', 'O'], ['B-LOC']], [['B-PER', 'I-PER', 'O'], ['B-LOC']]
  assert found == metrics.entity_f1(*named) | metrics.tag_accuracy(*named)
  assert task().headline == 'entity_f1'
  plain = task(('ADJ', 'ADP', 'NOUN', 'VERB'))
  assert tasks.score(plain, raw, TARGETS) == {'tag_accuracy': 0.75}
  assert plain.headline == 'tag_accuracy'


def test_places_of_words_follow_the_chosen_sentences():
  found = places(np.array([3, 1]), np.array([1, 0]))
  assert found.tolist() == [1, 2, 3, 0, -1]
  assert places(np.array([3, 1]), np.array([1])).tolist() == [-1, -1, -1, 0, -1]


def test_encoding_cuts_nothing(tmp_path):
  texts = [Words(['Ann'] * 30), Words(['Rome'])]
  targets = np.full((2, 30), -1, np.int32)
  targets[0], targets[1, 0] = np.arange(30) % 4, 3
  tokenizer = tokenizers.train([*texts] * 2, size=80)
  found = TAGS.encode(texts, targets, tokenizer, Limits(16, tmp_path))
  assert not found.cut and found.examples.tokens.tags.tolist() == [
    *(np.arange(30) % 4),
    3,
  ]


@pytest.mark.parametrize(
  ('target', 'is_right'), [((1, 0), True), ((1,), False), ((1, 9), False), (1, False)]
)
def test_the_examples_of_a_users_code_are_looked_at(target, is_right):
  from tl_jax.tasks import code

  found = Example((Words(['a', 'b']),), target)
  assert (code._wrong(found, task()) == '') is is_right


def test_tags_move_to_the_places_that_a_model_has():
  assert TAGS.move((0, 2), [5, 6, 7], 9) == (5, 7)
