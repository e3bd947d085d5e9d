"""Pairs of segments: the published rules, their frequencies, and the rows they fill."""

import random

import numpy as np
import pytest

from tl_jax.data import pipeline, tokens
from tl_jax.data.segment_pairs import Documents, Rules, cut, draw_pairs

FRAME = ((2, 0), ('A', 0), (3, 0), ('B', 1), (3, 1))


def written_out(documents, number, rules, draw):
  """The rules over lists of tokens, as the published code walks through them."""
  document, room = documents[number], rules.length - 3
  target = draw.randint(2, room) if draw.random() < rules.short else room
  found, chunk, size, i = [], [], 0, 0
  while i < len(document):
    chunk.append(document[i])
    size += len(document[i])
    if i == len(document) - 1 or size >= target:
      end = draw.randint(1, len(chunk) - 1) if len(chunk) > 1 else 1
      one, two, label = sum(chunk[:end], []), sum(chunk[end:], []), 0
      if len(chunk) == 1 or (not rules.swaps and draw.random() < 0.5):
        two, label = [], 1
        for _ in range(10):
          other = draw.randint(0, len(documents) - 1)
          if other != number:
            break
        start = draw.randint(0, len(documents[other]) - 1)
        for sentence in documents[other][start:]:
          two = two + sentence
          if len(two) >= target - len(one):
            break
        i -= len(chunk) - end
      elif rules.swaps and draw.random() < 0.5:
        one, two, label = two, one, 1
      while len(one) + len(two) > room:
        longer = one if len(one) > len(two) else two
        longer.pop(0 if draw.random() < 0.5 else -1)
      found.append((one, two, label))
      chunk, size = [], 0
    i += 1
  return found


def corpus(count, longest=9, seed=0):
  """Documents of sentences of tokens, no token twice."""
  draw = np.random.default_rng(seed)
  numbers = iter(range(10, 10**6))
  documents = []
  for _ in range(count):
    sizes = draw.integers(1, longest, draw.integers(1, 12))
    documents.append([[next(numbers) for _ in range(size)] for size in sizes])
  return documents


@pytest.mark.parametrize('swaps', [False, True])
@pytest.mark.parametrize('longest', [9, 40])
def test_pairs_are_those_of_the_published_rules(swaps, longest):
  documents = corpus(30, longest)
  lengths = [[len(sentence) for sentence in document] for document in documents]
  flat = [sum(document, []) for document in documents]
  rules = Rules(length=24, short=0.3, swaps=swaps)
  for number in range(len(documents)):
    expected = written_out(documents, number, rules, random.Random(number))
    pairs = cut(lengths, number, rules, random.Random(number))
    read = lambda part: flat[part.document][part.start : part.start + part.count]
    assert [(read(a), read(b), label) for a, b, label in pairs] == expected


class Drawn:
  """Draws that were written down: numbers below 1, and integers, in their order."""

  def __init__(self, numbers, integers):
    self.numbers, self.integers = iter(numbers), iter(integers)

  def random(self):
    return next(self.numbers)

  def randint(self, low, high):
    value = next(self.integers)
    assert low <= value <= high
    return value


def test_what_a_pair_did_not_use_comes_back():
  # Room for 4 tokens. The first pair takes one sentence and 2 of 9 tokens from
  # elsewhere, 3 cut at the front and 4 at the back; the next one has the two left.
  draw = Drawn([0.9, 0.4] + 3 * [0.1] + 4 * [0.9] + [0.8], [1, 1, 0, 1])
  first, second = cut([[2, 2, 2], [9]], 0, Rules(length=7), draw)
  assert first == ((0, 0, 2), (1, 3, 2), 1)
  assert second == ((0, 2, 2), (0, 4, 2), 0)


def drawn(swaps=False, short=0.1, duplicates=1, count=300):
  documents = corpus(count)
  sentences = [np.array(each) for document in documents for each in document]
  bounds = np.cumsum([0, *map(len, documents)])
  rules = Rules(24, short, swaps)
  held = Documents(tokens.TokenList(sentences), bounds, 11)
  return draw_pairs(held, FRAME, rules, duplicates=duplicates)


@pytest.mark.parametrize('swaps', [False, True])
def test_half_of_the_pairs_do_not_follow(swaps):
  documents = [[3] * 10 for _ in range(400)]
  rules = Rules(24, swaps=swaps)
  labels = []
  for number in range(len(documents)):
    for pair in cut(documents, number, rules, random.Random(number)):
      # The last sentence alone has no other one behind it.
      is_last = pair.first.start + pair.first.count == 30
      if not is_last or pair.second.document == number:
        labels.append(pair.label)
  assert abs(np.mean(labels) - 0.5) < 4 * (0.25 / len(labels)) ** 0.5


def test_a_tenth_of_the_documents_gives_short_pairs():
  documents = [[1] * 21 for _ in range(2000)]
  is_short = []
  for number in range(len(documents)):
    # Two segments of one document have as many tokens as were asked for.
    rules = Rules(24, swaps=True)
    first, *_ = cut(documents, number, rules, random.Random(number))
    is_short.append(first.first.count + first.second.count < 21)
  # A target that is drawn may be the whole room, too: one of 20.
  rate = 0.1 * 19 / 20
  assert abs(np.mean(is_short) - rate) < 4 * (rate / len(documents)) ** 0.5


def test_pairs_stand_in_their_frame_with_types_and_labels():
  pairs = drawn()
  for i in range(len(pairs)):
    row, types = pairs[i], pairs.types[i]
    assert len(row) == len(types) == pairs.lengths[i] <= 24
    first, second = pairs.pairs[i, :, 2]
    assert row[0] == 2 and row[first + 1] == row[-1] == 3 and first and second
    assert types.tolist() == [0] * (first + 2) + [1] * (second + 1)


def test_duplicates_are_cut_anew_and_a_second_time_alike():
  once, twice, again = drawn(), drawn(duplicates=2), drawn(duplicates=2)
  assert twice.pairs.tolist() == again.pairs.tolist()
  head, tail = np.split(twice.pairs, [len(once)])
  assert head.tolist() == once.pairs.tolist() != tail.tolist()


@pytest.mark.parametrize('pack', [False, True])
def test_rows_hold_whole_pairs(pack):
  pairs = drawn(short=0.5)
  examples = pipeline.Examples(pairs, pairs.labels, types=pairs.types)
  most = 2 if pack else 1
  stream = pipeline.stream(
    examples, seed=0, length=24, batch=4, pack=pack, examples_per_row=most
  )
  batch = stream.batch_at(1)
  assert batch['labels'].shape == batch['examples'].shape == (4, most)
  for row in range(4):
    member = batch['identifiers'][row, 0]
    count = pairs.lengths[member]
    assert batch['tokens'][row, :count].tolist() == pairs[member].tolist()
    assert batch['types'][row, :count].tolist() == pairs.types[member].tolist()
    assert batch['labels'][row, 0] == pairs.labels[member]
