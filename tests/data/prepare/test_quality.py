"""Rules of quality, each bound by a document beyond it and one within."""

import pytest

from tl_jax.data.prepare import batch, quality
from tl_jax.data.prepare.quality import C4, FineWeb, Gopher

GOOD = ' '.join(
  ['The man and the dog walked to the end of the road with a friend of theirs.'] * 5
)


def gopher(text, **bounds):
  return quality.gopher(batch.of([text]), Gopher(**bounds))[0]


@pytest.mark.parametrize(
  'text, reason',
  [
    (GOOD, ''),
    ('The end of the road.', 'fewer than 50 words'),
    ('a b c d e f ' * 20 + 'the of', 'short words'),
    ('incomprehensibilities ' * 60 + 'the of', 'long words'),
    (GOOD + ' #' * 20, 'hash signs'),
    (GOOD.replace('.', ' ...') + '... ' * 20, 'ellipses'),
    ('\n'.join('- the end of the road' for _ in range(20)), 'bullets'),
    (
      '\n'.join('walking to the other end of this long road...' for _ in range(20)),
      'ends with',
    ),
    ('the of ' + '1234 56789 ' * 40, 'words without letters'),
    ('man dog road house tree ' * 12, 'no stop words'),
  ],
)
def test_each_bound_of_gopher_leaves_something_out(text, reason):
  found = gopher(text)
  if reason == 'ends with':
    reason = 'lines that end with ...'
    found = gopher(text, signs_per_word=9.0)
  assert found == (f'gopher: {reason}' if reason else '')


def test_a_document_of_too_many_words():
  assert gopher(GOOD, most_words=60) == 'gopher: more than 60 words'


def test_lines_of_prose_stay_and_the_rest_is_dropped():
  lines = [
    'Home',
    'This line is prose and stays.[3]',
    'So is this one, is it not?',
    'no end of a sentence here',
    'Two words.',
    'Please switch on javascript to go on.',
    'We use cookies and you agree to it.',
    'He said "so is this." Then he went. And he came back!',
  ]
  text, reason = quality.clean('\n'.join(lines), C4())
  assert reason == ''
  assert text.split('\n') == ['This line is prose and stays.', lines[2], lines[7]]


def test_lines_that_are_dropped_are_counted_with_their_bytes():
  whole = 'Menü\n\nThis is a line of prose.\n\nno end of it\n'
  left, _ = quality.clean(whole, C4(sentences=1))
  size = len(whole.encode())
  assert quality.cut_of(whole, left) == (3, 2, size, size - len(left))
  assert quality.cut_of(whole, whole) == (3, 0, size, 0)


@pytest.mark.parametrize(
  'text, reason',
  [
    ('One sentence is here. Another is there.', 'fewer than 5 sentences'),
    (GOOD + '\nThis is lorem ipsum text.', 'lorem ipsum'),
    (GOOD + '\nif (a) { return "that is it."', 'curly bracket'),
  ],
)
def test_all_of_a_document_is_left_out(text, reason):
  assert quality.clean(text, C4()) == ('', f'c4: {reason}')


def test_titles_end_no_sentence():
  text = 'Mr. Bennet and Mrs. Bennet met Dr. Who in St. Ives. They left.'
  assert quality.clean(text, C4(sentences=3))[1] == 'c4: fewer than 3 sentences'
  assert quality.clean(text, C4(sentences=2))[1] == ''


@pytest.mark.parametrize(
  'text, reason',
  [
    (GOOD, ''),
    (
      '\n'.join(f'a line without an end {place}' for place in range(20)),
      'without an end',
    ),
    ('\n'.join(f'Short line {place}.' for place in range(20)), 'short lines'),
    ('\n'.join([GOOD, GOOD]), 'repeated lines'),
    (
      ('\n' * 6).join(f'A line of thirty-two characters {p}.' for p in range(9)),
      'a list',
    ),
  ],
)
def test_each_bound_of_fineweb_leaves_something_out(text, reason):
  (found,) = quality.fineweb(batch.of([text]), FineWeb())
  assert reason in found and bool(found) == bool(reason)
