"""What a folder says of decoding, as the fields of `decode.Decoding`.

>>> declared = {'num_beams': 4, 'early_stopping': True, 'top_h': 0.4}
>>> found, ignored = follow(declared, 'decoder', {'beams': 2})
>>> found
{'method': 'beam', 'beams': 2, 'early_stopping': True}
>>> ignored
('generation_config.json: top_h = 0.4 is not followed',)
"""

import logging
from collections.abc import Mapping
from typing import Any

from tl_jax.interop.huggingface import GENERATION, Loaded

# Their keys that we follow under another or the same name, whatever the method is.
ALWAYS = dict(
  max_new_tokens='max_new_tokens',
  min_new_tokens='min_new_tokens',
  repetition_penalty='repetition_penalty',
  no_repeat_ngram_size='no_repeat_ngram',
  bad_words_ids='bad_words',
  suppress_tokens='suppress',
  begin_suppress_tokens='begin_suppress',
  forced_eos_token_id='forced_eos',
  stop_strings='stop',
)
# Those that one method reads; to another they say nothing, as in transformers.
BY_METHOD = {
  'greedy': {},
  'sample': dict(
    temperature='temperature',
    top_k='top_k',
    top_p='top_p',
    min_p='min_p',
    num_return_sequences='samples',
  ),
  'beam': dict(
    num_beams='beams',
    length_penalty='length_penalty',
    early_stopping='early_stopping',
    num_return_sequences='samples',
  ),
}
# Those that we follow in other ways.
ELSEWHERE = (
  'do_sample',
  'eos_token_id',
  'pad_token_id',
  'decoder_start_token_id',
  'forced_bos_token_id',
  'max_length',
  'min_length',
)
# What says where the settings come from, not what to do.
_ORIGIN = (
  'transformers_version',
  '_from_model_config',
  '_commit_hash',
  'trust_remote_code',
  'auto_map',
)
# What transformers keeps, returns or compiles.
_MACHINERY = (
  'use_cache',
  'cache_implementation',
  'cache_config',
  'max_cache_len',
  'output_attentions',
  'output_hidden_states',
  'output_scores',
  'output_logits',
  'return_dict_in_generate',
  'remove_invalid_values',
  'compile_config',
  'disable_compile',
  'low_memory',
  'prefill_chunk_size',
)
# What guesses tokens ahead to be faster, without changing the outcome.
_GUESSING = (
  'is_assistant',
  'use_mtp',
  'num_assistant_tokens',
  'num_assistant_tokens_schedule',
  'speculation_type',
  'assistant_confidence_threshold',
  'assistant_early_exit',
  'assistant_lookbehind',
  'assistant_ensemble_weight',
  'target_lookbehind',
  'prompt_lookup_num_tokens',
  'max_matching_ngram_size',
)
# What changes no token; a text's beginning is put there by the tokenizer.
HARMLESS = ('bos_token_id', *_ORIGIN, *_MACHINERY, *_GUESSING)
# What we do not follow, with the value that asks for nothing.
NOT_FOLLOWED = dict(
  typical_p=1.0,
  epsilon_cutoff=0.0,
  eta_cutoff=0.0,
  top_h=None,
  encoder_repetition_penalty=1.0,
  encoder_no_repeat_ngram_size=0,
  diversity_penalty=0.0,
  num_beam_groups=1,
  exponential_decay_length_penalty=None,
  sequence_bias=None,
  guidance_scale=1.0,
  renormalize_logits=False,
  penalty_alpha=None,
  dola_layers=None,
  constraints=None,
  force_words_ids=None,
  watermarking_config=None,
  token_healing=False,
  max_time=None,
)
# What the families have in transformers where a folder does not say.
UNSAID = {
  'bart': dict(decoder_start_token_id=2, forced_eos_token_id=2),
  'mbart': dict(decoder_start_token_id=0, forced_eos_token_id=2),
  'marian': dict(forced_eos_token_id=0),
  'pegasus': dict(decoder_start_token_id=0, forced_eos_token_id=1),
}
IDS = ('eos_token_id', 'pad_token_id', 'decoder_start_token_id')
# Of transformers, where a folder says do_sample and no top_k
TOP_K = 50
# The lengths that count the prompt, as (their key, our field, their default).
_LENGTHS = (
  ('max_length', 'max_new_tokens', 20),
  ('min_length', 'min_new_tokens', 0),
)
_LOG = logging.getLogger(__name__)


def text_ids(loaded: Loaded) -> dict:
  """What the folder says of decoding: ids that end, fill and begin, and all else.

  `Decoding(**text_ids(loaded), max_new_tokens=...)` follows it; a warning is logged for
  each thing that is not followed. How many tokens are new is left to the caller. A
  caller that has settings of its own hands them to `generation_settings` instead.
  """
  found, ignored = generation_settings(loaded, {})
  for line in ignored:
    _LOG.warning(line)
  # Greedy is the default of `Decoding`.
  if found['method'] == 'greedy':
    del found['method']
  found.pop('max_new_tokens', None)
  return found


def generation_settings(
  loaded: Loaded, chosen: Mapping[str, Any]
) -> tuple[dict[str, Any], tuple[str, ...]]:
  """(all settings, a line for each thing that the folder says and that is not
  followed).

  The folder says it in generation_config.json; where it has none, in config.json, as
  folders of old do. chosen: fields of `Decoding` that hold against the folder.
  Raises ValueError that names the file for a value of a wrong kind.
  """
  declared = spoken(loaded)
  file = 'config.json' if loaded.generation is None else GENERATION
  settled = _ids(loaded, declared) | dict(chosen)
  try:
    return follow(declared, loaded.arch.kind, settled, file)
  except (TypeError, AttributeError, IndexError) as error:
    raise ValueError(f'{file}: an unusable value: {error}') from error


def spoken(loaded: Loaded) -> dict[str, Any]:
  """What a folder says of decoding, in the words of generation_config.json.

  Where it has no such file, it is what its config.json says. Of the ids in `IDS`, what
  config.json says counts as well, where generation_config.json is silent.
  """
  config = loaded.config or {}
  # transformers has these in the classes of its configs, so folders leave them out.
  unsaid = UNSAID.get(config.get('model_type'), {})
  if loaded.generation is None:
    # A config.json is about the model: only the keys of decoding are taken from it.
    known = {*ELSEWHERE, *NOT_FOLLOWED} | _followed_keys()
    own = {key: value for key, value in config.items() if key in known}
    return unsaid | own
  ids = {key: config[key] for key in IDS if config.get(key) is not None}
  starts = {key: value for key, value in unsaid.items() if key in IDS}
  return starts | ids | loaded.generation


def _followed_keys() -> set[str]:
  """The keys that are followed as fields of `Decoding`, whatever the method."""
  return set(ALWAYS).union(*BY_METHOD.values())


def _ids(loaded: Loaded, declared: Mapping[str, Any]) -> dict[str, Any]:
  """`eos`, `pad` and `start`, as the folder says, else as the tokenizer does.

  start: what the decoder of an encoder-decoder begins with. If nothing is said, it is
  what the architecture says (BART), or the pad (T5). It is nothing for a decoder.
  """
  tokenizer = loaded.tokenizer
  eos = declared.get('eos_token_id')
  pad = declared.get('pad_token_id')
  if eos is None and tokenizer is not None:
    eos = tokenizer.eos
  if pad is None:
    pad = 0 if tokenizer is None else tokenizer.pad
  start = ()
  if loaded.arch.kind == 'encoder-decoder':
    first = declared.get('decoder_start_token_id')
    if first is None:
      first = loaded.arch.start if loaded.arch.start > 0 else pad
    start = _several(first)
  return dict(eos=_several(eos), pad=pad, start=start)


def _several(ids) -> tuple[int, ...]:
  """Ids that are said as none, one or a list."""
  if ids is None:
    return ()
  return tuple(ids) if isinstance(ids, list | tuple) else (ids,)


def follow(
  declared: Mapping[str, Any],
  kind: str,
  chosen: Mapping[str, Any],
  file: str = GENERATION,
) -> tuple[dict[str, Any], tuple[str, ...]]:
  """(fields of `Decoding`, lines that name what is not followed) of generation
  settings.

  declared: as generation_config.json has them. kind: of the model. chosen: fields of
  `Decoding` that hold against what is declared. file: what the lines begin with.
  """
  method = chosen.get('method') or _method(declared)
  found = _fields(declared, method)
  ignored = _follow_lengths(declared, found, kind, chosen)
  ignored += _not_followed(declared, method, chosen)
  _settle_ids(declared, found, chosen)
  forced = declared.get('forced_bos_token_id')
  if forced is not None:
    # It is the token behind the start, so there must be one start and no prompt.
    start = chosen.get('start', (0,))
    if kind == 'encoder-decoder' and len(start) == 1:
      found['forced_bos'] = _several(forced)
    else:
      ignored.append('forced_bos_token_id')
  found |= chosen
  _settle_limits(found, chosen)
  lines = []
  for key in ignored:
    value = str(declared[key])[:60]
    lines.append(f'{file}: {key} = {value} is not followed')
  return found, tuple(lines)


def spelled(settings: Mapping[str, Any]) -> dict[str, Any]:
  """Fields of `decode.Decoding`, with `method`, as generation_config.json has them.

  What the method does not read is left out, and so is what has no key there: ids of
  special pieces, which the vocabulary says, `penalty_form` and `seed`.

  >>> spelled({'method': 'beam', 'beams': 2, 'top_k': 0, 'no_repeat_ngram': 3})
  {'do_sample': False, 'no_repeat_ngram_size': 3, 'num_beams': 2}
  """
  method = settings['method']
  found = dict(do_sample=method == 'sample')
  for theirs, ours in (ALWAYS | BY_METHOD[method]).items():
    if ours in settings:
      found[theirs] = settings[ours]
  return found


def _method(declared: Mapping[str, Any]) -> str:
  """The method of decoding that is asked for; beams go before sampling."""
  if (declared.get('num_beams') or 1) > 1:
    return 'beam'
  return 'sample' if declared.get('do_sample') else 'greedy'


def _fields(declared: Mapping[str, Any], method: str) -> dict[str, Any]:
  """The fields of `Decoding` that a method reads, as they are declared."""
  found = dict(method=method)
  for theirs, ours in (ALWAYS | BY_METHOD[method]).items():
    if declared.get(theirs) is not None:
      found[ours] = declared[theirs]
  if method == 'sample' and declared.get('do_sample'):
    found.setdefault('top_k', TOP_K)
  return found


def _follow_lengths(declared, found: dict, kind: str, chosen) -> list[str]:
  """Follows lengths that count the prompt, where it is the decoder's own beginning.

  The prompt of a decoder differs from text to text; then a length says nothing that
  all could follow, and its key is returned.
  """
  ignored = []
  for key, ours, usual in _LENGTHS:
    length = declared.get(key)
    # A default asks for nothing.
    if length is None or length == usual or ours in found or ours in chosen:
      continue
    if kind == 'encoder-decoder':
      beginning = chosen.get('start', (0,))
      found[ours] = max(length - len(beginning), 0)
    else:
      ignored.append(key)
  return ignored


def _settle_ids(declared, found: dict, chosen) -> None:
  """Makes tuples of lists, and drops ids that stand for nothing, as transformers does."""
  for name in ('suppress', 'begin_suppress', 'forced_eos'):
    if name in found:
      ids = _several(found[name])
      # A negative id stands for no token.
      found[name] = tuple(token for token in ids if token >= 0)
  if 'bad_words' in found:
    ends = chosen.get('eos', _several(declared.get('eos_token_id')))
    found['bad_words'] = _without_ends(found['bad_words'], ends)
  if isinstance(found.get('stop'), list):
    found['stop'] = tuple(found['stop'])


def _without_ends(words: list[list[int]], ends) -> tuple[tuple[int, ...], ...]:
  """Bad words but for those that are one end: a text could not end without it."""
  kept = []
  for word in words:
    tokens = tuple(word)
    if len(tokens) > 1 or tokens[0] not in ends:
      kept.append(tokens)
  return tuple(kept)


def _settle_limits(found: dict, chosen) -> None:
  """A bound that was chosen also bounds what the folder says."""
  for least, most in (('min_new_tokens', 'max_new_tokens'), ('samples', 'beams')):
    if most in chosen and least in found and least not in chosen:
      found[least] = min(found[least], chosen[most])


def _not_followed(declared, method: str, chosen) -> list[str]:
  """The keys that ask for something which is not done."""
  every = {*ELSEWHERE, *HARMLESS} | _followed_keys()
  ignored = []
  for key, value in declared.items():
    if key in every or value in (None, False, [], {}):
      continue
    if key not in NOT_FOLLOWED or value != NOT_FOLLOWED[key]:
      ignored.append(key)
  # transformers would sample within the beams; whoever chose a method knows better.
  if declared.get('do_sample') and method == 'beam' and 'method' not in chosen:
    ignored.append('do_sample')
  return sorted(ignored)
