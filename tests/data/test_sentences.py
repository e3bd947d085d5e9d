"""Where sentences end, and where documents do."""

import pytest

from tl_jax.data.sentences import documents, split


@pytest.mark.parametrize(
  'text, expected',
  [
    ('It rained. It stopped!', ['It rained.', 'It stopped!']),
    ('Dr. Grant met J. S. Mill at 5 p.m. in Bath.', None),
    ('He paid 3.50 for it. 12 came.', ['He paid 3.50 for it.', '12 came.']),
    ('"Who?" "Me." (She sat.) So.', ['"Who?"', '"Me."', '(She sat.)', 'So.']),
    ('So did I. We left.', ['So did I.', 'We left.']),
    ('A title\n\nhard\nwrapped text', ['A title', 'hard wrapped text']),
    ('wait... no, go on', None),
    (' \n \n ', []),
  ],
)
def test_a_text_falls_into_sentences(text, expected):
  assert split(text) == ([text] if expected is None else expected)


def test_no_word_of_a_text_is_lost():
  text = 'One two. Three?! "Four" five.\n\n\nSix (seven). Mr. Eight\nnine'
  assert ' '.join(split(text)).split() == text.split()


def test_lines_are_sentences_and_empty_lines_stand_between_documents():
  text = 'a b. c\r\n  d\n \n\ne\n'
  assert documents(text, 'lines') == [['a b. c', 'd'], ['e']]
  assert documents(text, 'split') == [['a b. c d', 'e']]
  assert documents('\n\n', 'lines') == []
