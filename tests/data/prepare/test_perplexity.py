"""Documents chosen by perplexity: which part stays, what is said, what is asked again."""

import gzip
import json

import numpy as np
import pytest

from tl_jax.config import ConfigError
from tl_jax.data import prepare
from tl_jax.data.prepare import Corpus, Scorer
from tl_jax.data.prepare.perplexity import Perplexity, reasons_of

LINES = [f'This is line {place}.' for place in range(10)]


def by_number(texts):
  """The model finds a line the less likely the larger its number."""
  return np.array([float(text.strip('.').split()[-1]) for text in texts])


def corpus(folder, **chosen):
  (folder / 'web.txt').write_text('\n'.join(LINES))
  choice = Perplexity(model='known to the scorer', **chosen)
  return Corpus({'web': str(folder / 'web.txt')}, steps=(), chunk=4, perplexity=choice)


def kept(folder):
  with gzip.open(folder / 'corpus' / 'part-00000.jsonl.gz', 'rt') as file:
    return [json.loads(line)['text'] for line in file]


@pytest.mark.parametrize(
  'keep, share, stays',
  [
    ('lowest', 0.3, range(0, 3)),
    ('middle', 0.5, range(2, 7)),
    ('highest', 0.2, range(8, 10)),
    ('middle', 1.0, range(10)),
  ],
)
def test_the_part_that_stays_is_the_one_asked_for(tmp_path, keep, share, stays):
  own = corpus(tmp_path, keep=keep, share=share)
  found = prepare.prepare(own, tmp_path / 'out', scorer=Scorer('1', by_number))
  assert kept(tmp_path / 'out') == [LINES[place] for place in stays]
  assert found['kept'] == len(stays)
  removed = {}
  if stays.start:
    removed[f'perplexity: below {stays.start}.00'] = stays.start
  if stays.stop < 10:
    removed[f'perplexity: above {stays.stop - 1}.00'] = 10 - stays.stop
  assert found['removed'] == removed


def test_a_text_without_tokens_is_out_and_equal_ones_keep_their_order():
  scores = np.array([5.0, np.nan, 5.0, 5.0, 5.0])
  reasons = reasons_of(scores, 'lowest', 0.5)
  assert reasons[:3] == ['', 'perplexity: no token', '']
  assert reasons[3:] == ['perplexity: above 5.00'] * 2
  assert reasons_of(np.array([np.nan]), 'lowest', 0.5) == ['perplexity: no token']


def test_a_run_that_was_killed_asks_for_no_perplexity_again(tmp_path):
  asked = []

  def score(texts):
    if len(asked) == 2:
      raise KeyboardInterrupt
    asked.append(list(texts))
    return by_number(texts)

  own = corpus(tmp_path)
  with pytest.raises(KeyboardInterrupt):
    prepare.prepare(own, tmp_path / 'out', scorer=Scorer('1', score))

  def rest(texts):
    asked.append(list(texts))
    return by_number(texts)

  prepare.prepare(own, tmp_path / 'out', scorer=Scorer('1', rest))
  assert asked == [LINES[:4], LINES[4:8], LINES[8:]]
  assert kept(tmp_path / 'out') == LINES[2:7]
  # Another model makes another corpus, the same one none.
  prepare.prepare(own, tmp_path / 'out', scorer=Scorer('1', score))
  backwards = Scorer('2', lambda texts: -by_number(texts))
  with pytest.raises(ConfigError, match='before a change of config.perplexity; take'):
    prepare.prepare(own, tmp_path / 'out', scorer=backwards)
  prepare.prepare(own, tmp_path / 'other', scorer=backwards)
  assert kept(tmp_path / 'other') == LINES[3:8]


def test_what_is_wrong_is_said(tmp_path):
  with pytest.raises(ValueError, match="keep: 'midle'; nearest: 'middle'"):
    Perplexity(keep='midle')
  with pytest.raises(ValueError, match='reference: there is a model already'):
    Perplexity(model='one', reference='other')
  with pytest.raises(ConfigError, match='config.perplexity.reference'):
    nowhere = Perplexity(reference='no/such.txt')
    prepare.prepare(Corpus({'a': 'austen'}, perplexity=nowhere), tmp_path / 'out')
  with pytest.raises(ConfigError, match='perplexity: known to the scorer: nobody'):
    prepare.prepare(corpus(tmp_path), tmp_path / 'out')
