"""Documents as lists of sentences, for objectives that speak of pairs of segments.

>>> split('Mr. Elton came. "Who?" she asked. It rained.')
['Mr. Elton came.', '"Who?" she asked.', 'It rained.']
>>> documents('One.\\nTwo.\\n\\nThree.', 'lines')
[['One.', 'Two.'], ['Three.']]
"""

import re
from typing import Literal

# How the sentences of a text are told: by their ends, or by the lines of the text.
Manner = Literal['split', 'lines']

# A stop may end a sentence where a new one could begin behind it.
_STOP = re.compile(r'[.!?]+["\'”’)\]]*\s+(?=["\'“‘(\[]*[A-Z0-9ÀÖØÞ])')
_BLANK = re.compile(r'\n\s*\n')
# Words before a stop that ends no sentence; initials, but not the word I.
_ABBREVIATIONS = re.compile(
  'Mr|Mrs|Ms|Dr|Prof|Rev|Hon|St|Sr|Jr|Messrs|Mme|Mlle|Capt|Col|Gen|Lt|Sgt|Maj|Gov|Sen|'
  r'Rep|Pres|Nos?|vs|etc|cf|al|[Ff]ig|pp|[Vv]ol|[Ee]d|Inc|Ltd|Co|Corp|'
  r'e\.g|i\.e|a\.m|p\.m|U\.S|U\.K|(?!I)[A-Z]'
)


def split(text: str) -> list[str]:
  """The sentences of a text, without the white space between them.

  A sentence ends at a full stop, a question or an exclamation mark before a capital or
  a digit, and at an empty line. The stop of a common English abbreviation or of an
  initial ends none.
  """
  found = []
  for block in _BLANK.split(text):
    start = 0
    for stop in _STOP.finditer(block):
      if not _is_abbreviated(block[start : stop.start()], stop.group()):
        found.append(block[start : stop.end()])
        start = stop.end()
    # What stands behind the last stop is a sentence, too, as a title is.
    found.append(block[start:])
  # Hard line ends within a sentence say nothing.
  plain = (' '.join(sentence.split()) for sentence in found)
  return [sentence for sentence in plain if sentence]


def _is_abbreviated(before: str, stop: str) -> bool:
  """Does the stop belong to the last word `before` it?"""
  word = before.rsplit(None, 1)[-1:] or ['']
  last = word[0].lstrip('"\'“‘([')
  return stop.startswith('.') and bool(_ABBREVIATIONS.fullmatch(last))


def documents(text: str, manner: Manner) -> list[list[str]]:
  """The documents of one text, each as its sentences; documents without any are left
  out.

  Of 'split' the text is one document. Of 'lines' every line is a sentence, and an empty
  line stands between two documents: the format of BERT's create_pretraining_data.py.
  """
  # A text that is prose holds one document, a file of lines may hold many.
  if manner == 'split':
    found = [split(text)]
  else:
    found = [_lines(block) for block in _BLANK.split(text)]
  return [sentences for sentences in found if sentences]


def _lines(block: str) -> list[str]:
  """The lines of a block that are not blank."""
  stripped = map(str.strip, block.splitlines())
  return [line for line in stripped if line]
