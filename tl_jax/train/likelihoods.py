"""What a model of a run is asked about texts that are there: how probable it finds them.

>>> Rows(8, 1, dict).count
8
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np

from tl_jax import models, parallel
from tl_jax.config import ConfigError
from tl_jax.data.pairs import Pair
from tl_jax.evals import pseudo, ranking
from tl_jax.tasks import prompts
from tl_jax.train.settings import Transfer


class Rows(NamedTuple):
  """How rows of texts come to the devices: so many of a batch, of which `multiple`
  divides the number; place puts them there.
  """

  batch: int
  multiple: int
  place: Callable[[dict], dict]

  @property
  def count(self) -> int:
    """The rows of a batch."""
    return -(-self.batch // self.multiple) * self.multiple


def require_model(settings: Transfer, problem, arch: models.Arch) -> None:
  """Raises ConfigError for a model that cannot say what the problem asks for."""
  # Such a model says nothing of the order in which a text is written, but may be asked
  # about each token among all others.
  is_masked = (arch.kind, arch.head) == ('encoder', 'masked')
  if problem.answer == 'likelihood':
    writes = arch.kind == 'decoder' and arch.head == 'causal'
    needed = 'a decoder that writes text'
    if 'encoder' in problem.kinds:
      writes = writes or is_masked
      needed += ', or an encoder with its head for masked tokens'
  else:
    writes = arch.kind != 'encoder' and arch.head == 'causal'
    needed = 'one that does'
  if not writes:
    raise ConfigError(
      f'config.init: {settings.init}: an {arch.kind} with the head {arch.head!r} writes '
      f'no text; in_context needs {needed}'
    )


def require_demonstrations(shots: int, problem, train, test) -> None:
  """Raises ConfigError for demonstrations of pairs, and for such that are asked later.

  train, test: the texts of the splits.
  """
  if not shots:
    return
  if problem.name == 'minimal_pairs':
    raise ConfigError(
      f'config.method.shots: {shots}, but of minimal pairs nothing is shown; it is 0'
    )
  if not set(train).isdisjoint(test):
    raise ConfigError(
      f'config.method.shots: {shots}, but the train split has texts of the test; '
      'train=FILE names others'
    )


def require_whole(asked: Sequence[prompts.Asked], room: int) -> None:
  """Raises ConfigError for a text that does not fit: what stands just before its last
  word, which is cut first, tells the word.
  """
  cut = [place for place, each in enumerate(asked) if each.is_cut]
  if cut:
    raise ConfigError(
      f'config.data.length: {len(cut)} of {len(asked)} test texts have more than the '
      f'{room} tokens there is room for; the first is example {cut[0]}'
    )


def of_decoder(
  ranker: ranking.Ranker,
  tokenizer,
  pairs: Sequence[Pair],
  begin: Sequence[int],
  watch: Callable[[int, int], None],
) -> np.ndarray:
  """log P of both sentences of each pair, float64 (n, 2), behind the tokens `begin`.

  watch: called after every batch with how many pairs are done, and how many there are.
  """
  ids = _encoded(tokenizer, pairs, special=False)
  # Whole sentences stand behind a prompt that says nothing.
  requests = [ranking.Request(begin, two) for two in ids]
  ranked = ranker.rank(requests, lambda done: watch(done, len(requests)))
  return np.array([each.sums for each in ranked])


def of_encoder(
  loaded,
  params,
  pairs: Sequence[Pair],
  rows: Rows,
  watch: Callable[[int, int], None],
) -> np.ndarray:
  """The pseudo-log-likelihoods of both sentences of each pair, float64 (n, 2).

  watch: called after every batch with how many tokens were hidden, and how many will be.
  Raises ConfigError for a tokenizer without a mask, and a text that is too long.
  """
  tokenizer, room = loaded.tokenizer, loaded.arch.room
  if tokenizer.mask is None:
    raise ConfigError('config.init: its tokenizer has no token for what is hidden')
  ids = []
  for two in _encoded(tokenizer, pairs, special=True):
    ids += two
  # Not cut: what is cut off may be what makes a sentence wrong.
  longest = max(map(len, ids))
  if room is not None and longest > room:
    raise ConfigError(
      f'config.init: a sentence has {longest} tokens, the model has room for {room}'
    )
  frame = len(tokenizer.prefix), len(tokenizer.suffix)
  # Each token of a sentence, but those of the frame, is hidden once.
  hidden = sum(map(len, ids)) - sum(frame) * len(ids)
  found = pseudo.likelihoods(
    loaded.model,
    params,
    ids,
    frame,
    tokenizer.mask,
    rows=rows.count,
    place=rows.place,
    fetch=parallel.to_host,
    watch=lambda done: watch(done, hidden),
  )
  return found.reshape(-1, 2)


def _encoded(tokenizer, pairs: Sequence[Pair], special: bool) -> list[list[list[int]]]:
  """The ids of both sentences of each pair."""
  # All in one call, which is what tokenizers are fast at.
  texts = []
  for pair in pairs:
    texts += [pair.first, pair.second]
  ids = tokenizer.encode_batch(texts, special=special)
  return [ids[place : place + 2] for place in range(0, len(ids), 2)]
