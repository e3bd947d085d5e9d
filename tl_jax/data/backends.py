"""Backends: what puts a frame around texts, and what special pieces are in them.

A backend here is an object `tokenizers.Tokenizer`, of whatever file or family.

>>> from tl_jax.data import vocabularies
>>> backend, vocabulary = vocabularies.train_wordpiece(['low lower'] * 9, 60)
>>> frame(backend, 1) == ((vocabulary['[CLS]'], 0), ('A', 0), (vocabulary['[SEP]'], 0))
True
"""

import itertools
import json
from collections.abc import Iterable, Sequence
from typing import Any

# How many pieces are tried as a sample text.
_SAMPLES = 1000


def frame(backend, texts: int) -> tuple[tuple[int | str, int], ...]:
  """What the backend puts around one or two texts, as pairs (slot, type) in order.

  A slot is the id of a special piece, or 'A' and 'B' where the texts stand. () where
  no piece of the vocabulary encodes to anything.
  """
  pieces = itertools.islice(backend.get_vocab(with_added_tokens=False), _SAMPLES)
  sample = None
  for text in ('a', *pieces):
    if backend.encode(text, add_special_tokens=False).ids:
      sample = text
      break
  if sample is None:
    return ()
  whole = backend.encode(*[sample] * texts)
  slots = []
  for i, text, kind in zip(whole.ids, whole.sequence_ids, whole.type_ids, strict=True):
    slot = (i if text is None else 'AB'[text], kind)
    # A sample may have several tokens: they are one slot.
    goes_on = bool(slots) and slot == slots[-1] and text is not None
    if not goes_on:
      slots.append(slot)
  return tuple(slots)


def affixes(backend) -> tuple[tuple[int, ...], tuple[int, ...]]:
  """(prefix, suffix): the ids that the backend puts before and after one text."""
  slots = [slot for slot, _ in frame(backend, 1)]
  # No sample text was found: then nothing is known to be around it.
  if 'A' not in slots:
    return (), ()
  place = slots.index('A')
  return tuple(slots[:place]), tuple(slots[place + 1 :])


def without_special(
  backend, pieces: Sequence[str], special_ids: Iterable[int], unknown: int | None
):
  """A backend that reads a special piece written out in a text as any other text.

  `pieces` are the pieces by id, `unknown` is the id of the unknown piece. The flag
  `encode_special_tokens` alone does not suffice where the model itself has the special
  pieces, as a unigram model does. There they get names that occur in no text.
  """
  hidden = set(special_ids) - {unknown}
  spelled = backend.encode_batch([pieces[i] for i in hidden], add_special_tokens=False)
  if not any(hidden.intersection(encoding.ids) for encoding in spelled):
    return backend
  state = json.loads(backend.to_str())
  # A unigram model knows its unknown piece by number, the others by name: there it can
  # be renamed as well.
  if _is_unigram(state['model']) and unknown is not None:
    hidden.add(unknown)
  # Two noncharacters of Unicode around the id: no text in interchange holds them.
  names = {pieces[i]: f'\U0010ffff{i}\U0010fffe' for i in hidden}
  _rename_pieces(state, names)
  # It frames with the old names, and texts are framed by the caller.
  state['post_processor'] = None
  reader = type(backend).from_str(json.dumps(state))
  reader.encode_special_tokens = True
  return reader


def _is_unigram(model: dict[str, Any]) -> bool:
  """Is the vocabulary a list of [piece, score] rather than {piece: id}?"""
  return isinstance(model['vocab'], list)


def _rename_pieces(state: dict[str, Any], names: dict[str, str]) -> None:
  """Renames pieces {old: new} throughout the JSON state of a backend, in place."""
  model = state['model']
  if _is_unigram(model):
    renamed = []
    for piece, score in model['vocab']:
      renamed.append((names.get(piece, piece), score))
    model['vocab'] = renamed
  else:
    renamed = {}
    for piece, i in model['vocab'].items():
      renamed[names.get(piece, piece)] = i
    model['vocab'] = renamed
    # A merge that takes or makes a renamed piece names one that is no longer there.
    if 'merges' in model:
      model['merges'] = [
        pair
        for pair in model['merges']
        if names.keys().isdisjoint((*pair, ''.join(pair)))
      ]
  for token in state['added_tokens']:
    token['content'] = names.get(token['content'], token['content'])


def with_special(backend, pieces: Sequence[str], special_ids: Iterable[int]):
  """A copy of the backend that finds special pieces where a text spells them."""
  import tokenizers

  parser = type(backend).from_str(backend.to_str())
  known = parser.get_added_tokens_decoder()
  # Pieces that are special by their role alone are not registered as such yet.
  missing = [pieces[i] for i in special_ids if i not in known]
  parser.add_special_tokens(
    [tokenizers.AddedToken(piece, special=True, normalized=False) for piece in missing]
  )
  parser.encode_special_tokens = False
  return parser
