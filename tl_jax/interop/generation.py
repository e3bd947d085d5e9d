"""What a folder says of decoding, as the fields of `decode.Decoding`.

>>> said = {'num_beams': 4, 'early_stopping': True, 'top_h': 0.4}
>>> found, ignored = follow(said, 'decoder', {'beams': 2})
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
# Those that one method reads; to another they say nothing, here as there.
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
  *('do_sample', 'eos_token_id', 'pad_token_id', 'decoder_start_token_id'),
  *('forced_bos_token_id', 'max_length', 'min_length'),
)
# What changes no token.
HARMLESS = (
  *('bos_token_id', 'transformers_version', '_from_model_config', '_commit_hash'),
  *('use_cache', 'cache_implementation', 'cache_config', 'max_cache_len'),
  *('output_attentions', 'output_hidden_states', 'output_scores', 'output_logits'),
  *('return_dict_in_generate', 'remove_invalid_values', 'compile_config'),
  *('disable_compile', 'low_memory', 'prefill_chunk_size', 'is_assistant', 'use_mtp'),
  *('num_assistant_tokens', 'num_assistant_tokens_schedule', 'speculation_type'),
  *('assistant_confidence_threshold', 'assistant_early_exit', 'assistant_lookbehind'),
  *('assistant_ensemble_weight', 'target_lookbehind', 'prompt_lookup_num_tokens'),
  *('max_matching_ngram_size', 'trust_remote_code', 'auto_map'),
)
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
UNSAID = dict(
  bart=dict(decoder_start_token_id=2, forced_eos_token_id=2),
  mbart=dict(decoder_start_token_id=0, forced_eos_token_id=2),
  marian=dict(forced_eos_token_id=0),
  pegasus=dict(decoder_start_token_id=0, forced_eos_token_id=1),
)
IDS = ('eos_token_id', 'pad_token_id', 'decoder_start_token_id')
_LOG = logging.getLogger(__name__)
TOP_K = 50  # of transformers, where a folder says do_sample and no top_k


def text_ids(loaded: Loaded) -> dict:
  """What the folder says of decoding: ids that end, fill and begin, and all else.

  `Decoding(**text_ids(loaded), max_new_tokens=...)` follows it; a warning is logged for
  each thing that is not followed. How many tokens are new is left to the caller; where
  more is, `generation_settings` takes what was chosen.
  """
  found, ignored = generation_settings(loaded, {})
  for line in ignored:
    _LOG.warning(line)
  if found['method'] == 'greedy':
    del found['method']
  return {name: value for name, value in found.items() if name != 'max_new_tokens'}


def generation_settings(
  loaded: Loaded, chosen: Mapping[str, Any]
) -> tuple[dict[str, Any], tuple[str, ...]]:
  """(all settings, a line for each thing that the folder says and that is not
  followed).

  The folder says it in generation_config.json; where it has none, in config.json, as
  folders of old do. chosen: fields of `Decoding` that hold against the folder.
  Raises ValueError that names the file for a value of a wrong kind.
  """
  said = spoken(loaded)
  file = 'config.json' if loaded.generation is None else GENERATION
  ids = _ids(loaded, said)
  try:
    return follow(said, loaded.arch.kind, {**ids, **chosen}, file)
  except (TypeError, AttributeError, IndexError) as error:
    raise ValueError(f'{file}: an unusable value: {error}') from error


def spoken(loaded: Loaded) -> dict[str, Any]:
  """What a folder says of decoding, in the words of generation_config.json.

  Where it has no such file, what its config.json says; of ids, what either says.
  """
  config = loaded.config or {}
  unsaid = UNSAID.get(config.get('model_type'), {})
  if loaded.generation is not None:
    ids = {key: config[key] for key in IDS if config.get(key) is not None}
    starts = {key: value for key, value in unsaid.items() if key in IDS}
    return starts | ids | loaded.generation
  known = {*ALWAYS, *ELSEWHERE, *NOT_FOLLOWED}.union(*BY_METHOD.values())
  return unsaid | {key: value for key, value in config.items() if key in known}


def _ids(loaded: Loaded, said: Mapping[str, Any]) -> dict[str, Any]:
  """`eos`, `pad` and `start`, as the folder says, else as the tokenizer does.

  start: what the decoder of an encoder-decoder begins with, the pad if nothing is said
  (T5); nothing for a decoder.
  """
  tokenizer = loaded.tokenizer
  eos, pad = said.get('eos_token_id'), said.get('pad_token_id')
  if eos is None and tokenizer is not None:
    eos = tokenizer.eos
  if pad is None:
    pad = 0 if tokenizer is None else tokenizer.pad
  start = said.get('decoder_start_token_id')
  start = _several(pad if start is None else start)
  begins = loaded.arch.kind == 'encoder-decoder'
  return dict(eos=_several(eos), pad=pad, start=start if begins else ())


def _several(ids) -> tuple[int, ...]:
  """Ids that are said as none, one or a list."""
  if ids is None:
    return ()
  return tuple(ids) if isinstance(ids, list | tuple) else (ids,)


def follow(
  said: Mapping[str, Any],
  kind: str,
  chosen: Mapping[str, Any],
  file: str = GENERATION,
) -> tuple[dict[str, Any], tuple[str, ...]]:
  """(fields of `Decoding`, lines that name what is not followed) of generation
  settings.

  said: as generation_config.json has them; kind: of the model; chosen: fields of
  `Decoding` that hold against what is said; file: what the lines begin with.
  """
  method = chosen.get('method') or _method(said)
  found = dict(method=method)
  for theirs, ours in (ALWAYS | BY_METHOD[method]).items():
    if said.get(theirs) is not None:
      found[ours] = said[theirs]
  if method == 'sample' and said.get('do_sample'):
    found.setdefault('top_k', TOP_K)
  ignored = [
    *_lengths(said, found, kind, chosen),
    *_spoken_in_vain(said, method, chosen),
  ]
  _settle_ids(said, found, chosen)
  if said.get('forced_bos_token_id') is not None:
    if kind == 'encoder-decoder' and len(chosen.get('start', (0,))) == 1:
      found['forced_bos'] = _several(said['forced_bos_token_id'])
    else:
      ignored.append('forced_bos_token_id')
  found |= chosen
  _settle_limits(found, chosen)
  lines = (f'{file}: {key} = {str(said[key])[:60]} is not followed' for key in ignored)
  return found, tuple(lines)


def _method(said: Mapping[str, Any]) -> str:
  if (said.get('num_beams') or 1) > 1:
    return 'beam'
  return 'sample' if said.get('do_sample') else 'greedy'


def _lengths(said, found: dict, kind: str, chosen) -> list[str]:
  """Follows lengths that count the prompt, where it is the decoder's own beginning.

  The prompt of a decoder differs from text to text; then a length says nothing that
  all could follow, and its key is returned.
  """
  ignored = []
  for key, ours, usual in (
    ('max_length', 'max_new_tokens', 20),
    ('min_length', 'min_new_tokens', 0),
  ):
    length = said.get(key)
    if length is None or length == usual or ours in found or ours in chosen:
      continue
    if kind == 'encoder-decoder':
      found[ours] = max(length - len(chosen.get('start', (0,))), 0)
    else:
      ignored.append(key)
  return ignored


def _settle_ids(said, found: dict, chosen) -> None:
  """Lists become tuples; what stands for nothing goes, as there."""
  for name in ('suppress', 'begin_suppress', 'forced_eos'):
    if name in found:
      found[name] = tuple(token for token in _several(found[name]) if token >= 0)
  ends = chosen.get('eos', _several(said.get('eos_token_id')))
  if 'bad_words' in found:
    words = (tuple(word) for word in found['bad_words'])
    found['bad_words'] = tuple(
      word for word in words if len(word) > 1 or word[0] not in ends
    )
  if isinstance(found.get('stop'), list):
    found['stop'] = tuple(found['stop'])


def _settle_limits(found: dict, chosen) -> None:
  """A bound that was chosen also bounds what the folder says."""
  for least, most in (('min_new_tokens', 'max_new_tokens'), ('samples', 'beams')):
    if most in chosen and least in found and least not in chosen:
      found[least] = min(found[least], chosen[most])


def _spoken_in_vain(said, method: str, chosen) -> list[str]:
  """The keys that ask for something which is not done."""
  every = {*ALWAYS, *ELSEWHERE, *HARMLESS}.union(*BY_METHOD.values())
  ignored = []
  for key, value in said.items():
    if key in every or value in (None, False, [], {}):
      continue
    if key not in NOT_FOLLOWED or value != NOT_FOLLOWED[key]:
      ignored.append(key)
  if said.get('do_sample') and method == 'beam' and 'method' not in chosen:
    ignored.append('do_sample')
  return sorted(ignored)
