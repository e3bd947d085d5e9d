"""The problem of spans, from the scores of tokens to metrics."""

import dataclasses
import types

import numpy as np
import pytest

from tl_jax import metrics, tasks
from tl_jax.config import ConfigError
from tl_jax.data import extracts, tokenizers
from tl_jax.data.passages import Answers, PassageQuestion
from tl_jax.tasks import code
from tl_jax.tasks.problems import PROBLEMS, Example, Limits

SPAN = PROBLEMS['span']
WORDS = [f'w{number}' for number in range(40)]
PASSAGE = ' '.join(WORDS)
TOKENIZER = tokenizers.train([PASSAGE] * 3, size=300, least=1)
ASKED = PassageQuestion('w9', PASSAGE, 'q1')
EXAMPLES = [
  Example((ASKED,), Answers(('w17 w18', 'w17'), (PASSAGE.index('w17'),) * 2)),
  Example((PassageQuestion('w1', 'w3 w4', 'q2'),), Answers()),
]
TARGETS = SPAN.gather(EXAMPLES)
ENCODED, _ = extracts.encode([example.inputs[0] for example in EXAMPLES], TOKENIZER, 24)


def task(labels=()):
  return tasks.Task('t', 'none', lambda record: None, labels, problem=SPAN)


def scores(places=(), null=0.0, window=None):
  """Scores of all columns: (word, word, score) of spans, in one window or in all."""
  found = np.zeros((int(ENCODED.units.sum()), 2), np.float32)
  for number, own in enumerate(ENCODED.windows):
    start = ENCODED.starts[number]
    found[start] = null / 2
    if window not in (None, number):
      continue
    asked = EXAMPLES[ENCODED.index[number]].inputs[0]
    for first, last, score in places:
      begin, end = asked.second.find(first), asked.second.find(last) + len(last)
      for column, (left, right) in enumerate(own.places, 1):
        found[start + column, 0] += score / 2 * (left == begin)
        found[start + column, 1] += score / 2 * (right == end)
  return found


def answers(found, labels=()):
  raw = SPAN.collect(found, ENCODED, np.array([0, 1]), TARGETS)
  return tasks.decide(task(labels), raw, TARGETS).tolist(), raw


def test_the_best_span_of_all_windows_is_the_answer():
  found, raw = answers(scores([('w17', 'w18', 6.0), ('w30', 'w30', 5.0)]))
  assert found[0] == 'w17 w18'
  begin, end, score = raw[0, 1]
  assert PASSAGE[int(begin) : int(end)] == 'w17 w18' and score == 6.0
  # Spans of both, and of one end each, follow.
  assert raw[0, 2, 2] == 5.5 or raw[0, 2, 2] == 5.0


def test_a_span_neither_ends_before_it_begins_nor_is_too_long():
  (found, _), raw = answers(scores([('w18', 'w17', 6.0)]))
  assert found != 'w18' and raw[0, 1, 0] < raw[0, 1, 1]
  far, _ = answers(scores([('w1', 'w39', 6.0)]))
  assert len(TOKENIZER.encode(far[0], special=False)) <= extracts.LONGEST


def test_longer_answers_may_be_asked_for():
  outputs = scores([('w2', 'w6', 6.0)])
  whole = ' '.join(WORDS[2:7])
  count = len(TOKENIZER.encode(whole, special=False))
  for longest, is_given in ((count, True), (count - 1, False)):
    tokens = dataclasses.replace(ENCODED, longest=longest)
    raw = SPAN.collect(outputs, tokens, np.array([0, 1]), TARGETS)
    found, _ = tasks.decide(task(), raw, TARGETS)
    assert (found == whole) is is_given


def test_answers_beyond_the_longest_are_told(tmp_path):
  inputs = [example.inputs[0] for example in EXAMPLES]
  limits = Limits(24, tmp_path, answer_length=1)
  (_, cut) = SPAN.encode(inputs, TARGETS, TOKENIZER, limits).cut
  # The second question has no answer, which has no length.
  assert (cut.what, cut.count, len(cut.whole)) == ('answer', 1, 1)
  assert cut.enough() == len(TOKENIZER.encode('w17 w18', special=False))


def test_an_answer_begins_where_most_is_around_it():
  """The same token has two scores; the window where it is at the edge does not count."""
  holders = []
  for number, window in enumerate(ENCODED.windows):
    for place, (begin, _) in enumerate(window.places.tolist()):
      if ENCODED.index[number] == 0 and begin == PASSAGE.index('w17'):
        holders.append((number, bool(window.central[place])))
  assert len(holders) == 2
  for number, is_central in holders:
    (found, _), _ = answers(scores([('w17', 'w17', 9.0)], window=number))
    assert (found == 'w17') is is_central


def test_no_answer_wins_where_it_scores_more_than_every_span():
  found = scores([('w17', 'w18', 6.0)], null=4.0)
  assert answers(found, ('no answer',))[0] == ['w17 w18', '']
  more = scores([('w17', 'w18', 6.0)], null=7.0)
  assert answers(more, ('no answer',))[0] == ['', '']
  # Where all questions have answers, there is one.
  assert answers(more)[0][0] == 'w17 w18'


def test_no_answer_counts_by_the_window_where_it_scores_least():
  found = scores([('w17', 'w18', 6.0)], null=7.0)
  found[ENCODED.starts[1]] = 1.0
  assert answers(found, ('no answer',))[0][0] == 'w17 w18'


def test_the_metrics_are_those_of_both_versions():
  found, raw = answers(scores([('w17', 'w18', 6.0)], null=4.0), ('no answer',))
  scored = tasks.score(task(('no answer',)), raw, TARGETS)
  references = [['w17 w18', 'w17'], []]
  plain = metrics.squad_v2(found, references)
  assert {name: scored[name] for name in plain} == plain
  assert scored['squad_v2_f1'] == 1.0 and 'squad_v2_best_f1_threshold' in scored
  first = tasks.score(task(), raw[:1], TARGETS[:1])
  assert first == dict(squad_exact_match=1.0, squad_f1=1.0)
  assert task().headline == 'squad_f1'
  assert task(('no answer',)).headline == 'squad_v2_f1'


def test_the_best_threshold_looks_behind_no_answer():
  """A span that no answer hides would be right under another threshold."""
  raw = answers(scores([('w17', 'w18', 6.0)], null=7.0))[1]
  scored = tasks.score(task(('no answer',)), raw, TARGETS)
  assert scored['squad_v2_f1'] == 0.5 and scored['squad_v2_best_f1'] == 1.0
  assert scored['squad_v2_best_f1_threshold'] == pytest.approx(1.0)


def test_a_line_says_what_was_asked_and_answered():
  _, raw = answers(scores([('w17', 'w18', 6.0)], null=4.0))
  line = SPAN.line(ASKED, TARGETS[0], 'w17 w18', raw[0], ())
  start = PASSAGE.index('w17')
  assert line == dict(
    id='q1',
    question='w9',
    passage=PASSAGE,
    target=['w17 w18', 'w17'],
    prediction='w17 w18',
    start=start,
    outputs=[4.0, 6.0],
  )
  assert SPAN.line(ASKED, TARGETS[1], '', raw[0], ())['start'] is None


def test_a_tokenizer_without_a_frame_is_refused(tmp_path):
  joined = types.SimpleNamespace(pair=(('A', 0), ('B', 0)))
  with pytest.raises(ConfigError, match='puts nothing between a question'):
    SPAN.encode([ASKED], TARGETS[:1], joined, Limits(24, tmp_path))


def test_the_examples_of_a_users_code_are_looked_at():
  assert code._wrong(EXAMPLES[0], task()) == ''
  assert 'passages.Answers' in code._wrong(Example((ASKED,), 'w17'), task())
  assert 'passages.Answers' in code._wrong(Example(('a',), Answers()), task())
