"""Tasks of EleutherAI's lm-eval on any model of ours that writes text.

  pip install 'tl-jax[lm-eval]'

  import lm_eval, tl_jax
  from tl_jax.evals import harness
  model = harness.language_model(tl_jax.load('/tmp/gpt'))
  lm_eval.simple_evaluate(model, tasks=['mine'], task_manager=...)

>>> requests, places = joined([((1, 2), (3,)), ((4,), (5,)), ((1, 2), (6, 7))])
>>> requests[0]
Request(prompt=(1, 2), candidates=((3,), (6, 7)))
>>> places
[(0, 0), (1, 0), (0, 1)]
"""

import importlib.util
from collections.abc import Iterable, Sequence
from typing import Any

from tl_jax import config, decode, interop, models
from tl_jax.evals.ranking import Ranker, Request

# Tokens of a text, where a task does not say how many.
NEW_TOKENS = 256
# What a task may say of a text that is written; `until` are strings that end it.
DRAWN = ('temperature', 'top_p', 'top_k')
SAID = ('until', 'max_gen_toks', 'do_sample', *DRAWN)

Pair = tuple[Sequence[int], Sequence[int]]


def language_model(
  loaded: interop.Loaded, *, rows: int = 16, compute: models.Compute | None = None
) -> Any:
  """The model as lm-eval's `TemplateLM`, to hand to its `simple_evaluate`.

  What follows a context is scored as it stands in one text with it, without an end. A
  context that is too long loses its beginning. Texts are written greedily, or drawn
  with seed 0 where the task says so.

  rows: contexts of a batch. Raises ConfigError where lm-eval is not installed, and
  ValueError for a model that writes no text.
  """
  if importlib.util.find_spec('lm_eval') is None:
    raise config.ConfigError("lm-eval is missing: pip install 'tl-jax[lm-eval]'")
  # Inside: no run of ours needs it.
  from lm_eval import utils
  from lm_eval.api.model import TemplateLM

  scorer = Scorer(loaded, rows, compute)

  class LanguageModel(TemplateLM):
    backend = 'causal' if loaded.arch.kind == 'decoder' else 'seq2seq'

    @property
    def eot_token_id(self) -> int:
      return scorer.end

    @property
    def prefix_token_id(self) -> int:
      return scorer.first

    def tok_encode(self, string, add_special_tokens=None, **others) -> list[int]:
      return scorer.encode(string, special=add_special_tokens is not False)

    def _loglikelihood_tokens(self, requests, **others) -> list[tuple[float, bool]]:
      return scorer.score([(context, after) for _, context, after in requests])

    def loglikelihood_rolling(self, requests, disable_tqdm=False) -> list[float]:
      found = []
      for request in requests:
        (text,) = request.args
        ids = scorer.encode(text, special=False)
        windows = utils.get_rolling_token_windows(
          ids, scorer.first, scorer.room - 1, context_len=1
        )
        pairs = [utils.make_disjoint_window(window) for window in windows]
        found.append(sum(score for score, _ in scorer.score(pairs)))
      return found

    def generate_until(self, requests, disable_tqdm=False) -> list[str]:
      return scorer.write([request.args for request in requests])

  return LanguageModel()


class Scorer:
  """What lm-eval asks of a model, in terms of ids and texts."""

  def __init__(
    self, loaded: interop.Loaded, rows: int, compute: models.Compute | None = None
  ):
    self._loaded, self._rows = loaded, rows
    self._decoder = models.decoder(loaded.arch, compute)
    self._said = interop.text_ids(loaded)
    arch = loaded.arch
    self.room = arch.max_positions if arch.room is None else arch.room
    start: tuple[int, ...] = ()
    if arch.kind == 'encoder-decoder':
      start = (*self._said['start'], *self._said.get('forced_bos', ()))
    self._start = start
    self._ranker = Ranker(
      self._decoder, loaded.params, start=start, rows=rows, room=arch.room
    )

  @property
  def end(self) -> int:
    """The id that ends a text; where none does, that of padding."""
    ends = self._said.get('eos') or (self._loaded.tokenizer.eos,)
    return self._loaded.tokenizer.pad if ends[0] is None else ends[0]

  @property
  def first(self) -> int:
    """The id that stands before a text without a context."""
    tokenizer = self._loaded.tokenizer
    if tokenizer.prefix:
      return tokenizer.prefix[-1]
    return self.end if tokenizer.bos is None else tokenizer.bos

  def encode(self, text: str, special: bool) -> list[int]:
    """The ids of a text; with those before it, and of what an encoder reads behind it."""
    tokenizer = self._loaded.tokenizer
    ids = tokenizer.encode(text, special=False)
    if not special:
      return ids
    suffix = () if self._loaded.arch.kind == 'decoder' else tokenizer.suffix
    return [*tokenizer.prefix, *ids, *suffix]

  def score(self, pairs: Iterable[Pair]) -> list[tuple[float, bool]]:
    """(log P(what follows | context), is each of its tokens the most probable?) of pairs
    (context, what follows).
    """
    fitting = [self._fitting(context, after) for context, after in pairs]
    requests, places = joined([pair for pair in fitting if pair[1]])
    ranked = self._ranker.rank(requests)
    places = iter(places)
    found = []
    for _, after in fitting:
      if not after:
        # Nothing follows: that is certain.
        found.append((0.0, True))
        continue
      number, candidate = next(places)
      each = ranked[number]
      found.append((float(each.sums[candidate]), bool(each.greedy[candidate])))
    return found

  def _fitting(self, context: Sequence[int], after: Sequence[int]) -> Pair:
    """Both as tuples, the context without the beginning that has no room.

    Raises ValueError for what follows where it has no room by itself.
    """
    taken = len(self._start)
    if self._loaded.arch.kind == 'decoder':
      taken += len(after)
    room = self.room - taken
    if room < 1 or len(self._start) + len(after) > self.room:
      raise ValueError(
        f'lm-eval: {len(after)} tokens that follow a context are more than the '
        f'{self.room} positions of the model hold'
      )
    return tuple(context or [self.first])[-room:], tuple(after)

  def write(self, asked: Sequence[tuple[str, dict]]) -> list[str]:
    """The text that follows each (context, what the task says of it)."""
    by_settings: dict[decode.Decoding, list[int]] = {}
    for place, (_, said) in enumerate(asked):
      by_settings.setdefault(self._decoding(said), []).append(place)
    found = [''] * len(asked)
    for settings, places in by_settings.items():
      prompts = []
      for place in places:
        context = self.encode(asked[place][0], special=True)
        prompts.append(self._shortened(context, settings.max_new_tokens))
      written = decode.continue_texts(
        self._decoder,
        self._loaded.params,
        self._loaded.tokenizer,
        prompts,
        settings,
        batch=self._rows,
        positions=self._loaded.arch.room,
      )
      for place, (best, *_) in zip(places, written, strict=True):
        found[place] = best.text
    return found

  def _shortened(self, context: list[int], new: int) -> list[int]:
    room = self.room
    if self._loaded.arch.kind == 'decoder':
      room -= new
    return (context or [self.first])[-room:]

  def _decoding(self, said: dict) -> decode.Decoding:
    """How a text is written. Raises ValueError for what is said and not known here."""
    _require_known(said)
    # Of beams and penalties, the harness has its own word, or none.
    own = ('eos', 'pad', 'start', 'forced_bos')
    fields = {name: self._said[name] for name in own if name in self._said}
    until = said.get('until') or ()
    fields['stop'] = (until,) if isinstance(until, str) else tuple(until)
    fields['max_new_tokens'] = said.get('max_gen_toks', NEW_TOKENS)
    # A temperature of 0 is the harness's other word for greedy.
    if said.get('do_sample') and said.get('temperature', 1.0) > 0:
      fields['method'] = 'sample'
      fields |= {name: said[name] for name in DRAWN if name in said}
    return decode.Decoding(**fields)


def _require_known(said: dict) -> None:
  """Raises ValueError for what a task says of its texts and nobody here follows."""
  for name in said:
    if name not in SAID:
      near = config.nearest(name, SAID)
      raise ValueError(f'lm-eval: generation_kwargs.{name}: unknown; nearest: {near}')


def joined(pairs: Sequence[Pair]) -> tuple[list[Request], list[tuple[int, int]]]:
  """(requests in which a context stands once, for each pair the numbers of its request
  and of its candidate there).
  """
  known: dict[Sequence[int], list[Sequence[int]]] = {}
  places = []
  numbers: dict[Sequence[int], int] = {}
  for context, after in pairs:
    candidates = known.setdefault(context, [])
    number = numbers.setdefault(context, len(numbers))
    if after not in candidates:
      candidates.append(after)
    places.append((number, candidates.index(after)))
  requests = [Request(context, tuple(after)) for context, after in known.items()]
  return requests, places
