"""Encoder-decoders that start from the stacks of other models: BERT2BERT, RND2BERT,
BERT2RND, BERTSHARE, RND2GPT.

>>> bert = {'embedding': {'tokens': 1.0}, 'layers': {'0': {'attention': 2.0}}}
>>> encoder = {'layers': {'0': {'attention': 0.0}}}
>>> target = {'embedding': {'tokens': 0.0}, 'encoder': encoder}
>>> params, account = encoder_decoder(bert, None, target)
>>> account.counts['copied'], account.counts['renamed']
(1, 1)
"""

import dataclasses
import re
from typing import Any, Literal

import jax

from tl_jax import tree
from tl_jax.transfer.account import Account
from tl_jax.transfer.transplant import transplant

Tree = Any
Side = Literal['encoder', 'decoder']

# The fields in which the two architectures may differ: depths and positions are settled
# in `warm_arch`, the head and the start of training are the decoder's. Both stacks of
# an encoder-decoder have all other fields in common.
OWN = (
  'kind',
  'layers',
  'decoder_layers',
  'max_positions',
  'pool',
  'pooler',
  'pooler_place',
  'pooler_norm',
  'start',
  'head',
  'head_activation',
  'pair_head',
  'generator',
  'head_bias',
  'labels',
  'tied',
  'output_scale',
  'logit_cap',
  'init',
  'init_std',
)
# Attention over the encoder, which no model of one stack has.
CROSS = r'decoder/layers/\d+/cross(_norm|_out_norm)?/.*'


def warm_arch(encoder, decoder):
  """The architecture of an encoder-decoder with the stacks of two architectures.

  encoder, decoder: the architectures, or None for a side whose stack starts at random,
  which then takes its shape from the other one. The stacks keep their depths. The table
  of positions is as long as the longer one. The head is causal over the token table
  that both stacks share, with the decoder's bias, cap and scale. One architecture
  describes both stacks, so whatever else a block is made of must agree. (BERT and GPT
  do not agree, because their norms stand in different places.)
  Errors: ValueError for the first field that differs, where both are None, and for a
  stack that no encoder-decoder has: one whose tokens have a width of their own
  (ELECTRA-small) or whose layers share parameters (ALBERT).
  """
  if encoder is None and decoder is None:
    raise ValueError(
      'warm_arch: encoder and decoder are both None; nothing says what to build'
    )
  first = encoder or decoder
  second = decoder or encoder
  _require_agreement(first, second)
  depth = second.decoder_layers or second.layers
  # 0 says that the decoder is as deep as the encoder.
  decoder_layers = 0 if depth == first.layers else depth
  positions = max(first.max_positions, second.max_positions)
  return dataclasses.replace(
    second,
    kind='encoder-decoder',
    layers=first.layers,
    decoder_layers=decoder_layers,
    max_positions=positions,
    pool='last',
    head='causal',
    pooler_place='head',
    pair_head=False,
  )


def _require_agreement(encoder, decoder) -> None:
  """Raises ValueError for a field that differs or that no encoder-decoder has."""
  for field in dataclasses.fields(encoder):
    name = field.name
    ours = getattr(encoder, name)
    others = getattr(decoder, name)
    if name not in OWN and ours != others:
      raise ValueError(
        f'warm_arch: {name} is {ours!r} in the encoder and {others!r} in the decoder, '
        'but both stacks of an encoder-decoder have the same'
      )
    if name in ('embedding_width', 'layer_groups') and ours:
      raise ValueError(
        f'warm_arch: {name} is {ours}, but an encoder-decoder has none: it must be 0'
      )


def encoder_decoder(
  encoder: Tree | None,
  decoder: Tree | None,
  target: Tree,
  *,
  share: bool = False,
  tokens: Side | None = None,
  preserve: bool = False,
) -> tuple[Tree, Account]:
  """The tree `target` with its stacks from one-stack models, and the account of every
  leaf (Rothe et al. 2020).

  encoder, decoder: the parameters of an encoder (BERT) or a decoder (GPT), or None for
  a side that stays random. RND2BERT is (None, bert), BERT2RND (bert, None), BERT2BERT
  (bert, bert), RND2GPT (None, gpt).
  target: a fresh initialisation of the model that `warm_arch` describes. Attention over
  the encoder has no source and stays fresh. So do poolers and heads, except the kernel
  and the bias of a vocabulary, which come from the decoder. A table of positions may be
  longer than its source.
  tokens: the side whose token table both stacks share; by default the encoder's where
  there is one.
  share: BERTSHARE, for a target of `shared`. All weights that stand in both stacks come
  from the encoder, or from the decoder where the encoder is None.
  preserve: a decoder of post-norm layers keeps its function while the output of the new
  attention is zero. The norm behind its self-attention moves behind the new attention,
  whose input gets a fresh norm (the same up to layer norm's epsilon). Without it the
  new norm stands behind the old one, as published.
  Errors: ValueError as of `transplant`, for a source that is no single stack, for
  `tokens` of a random side, and for `preserve` with `share`.
  """
  given = _sources(encoder, decoder, share, preserve)
  # The encoder comes first; None where both sides are random.
  tokens = tokens or next(iter(given), None)
  if given and tokens not in given:
    raise ValueError(f'encoder_decoder: tokens is {tokens!r}, but that side is random')

  takers = tree.flatten(target)
  places = {}
  for side, params in given.items():
    for name in tree.flatten(params):
      place = _place(side, name, takers, tokens, share, preserve)
      places[f'{side}/{name}'] = place
  rules = _rules(places, takers, given, preserve)
  return transplant(given, target, **rules)


def _rules(
  places: dict[str, str | None], takers: dict, given: dict, preserve: bool
) -> dict[str, list]:
  """The rules of `transplant`, one for every leaf that changes its name or its fate.

  places: where every leaf of the sources goes, None for one that is left behind.
  """
  rename = []
  drop = []
  for name, place in places.items():
    if not place:
      drop.append(re.escape(name))
    elif place != name:
      rename.append((re.escape(name), place))

  # A leaf that no source fills and that may not stay fresh gets no rule, so that
  # `transplant` reports it.
  fresh = []
  resize = []
  filled = set(places.values())
  for name in takers:
    if name not in filled:
      if _may_be_fresh(name, given, preserve):
        fresh.append(re.escape(name))
    elif name.endswith('embedding/positions'):
      resize.append(re.escape(name))
  return {'rename': rename, 'drop': drop, 'fresh': fresh, 'resize': resize}


def _sources(
  encoder: Tree | None, decoder: Tree | None, share: bool, preserve: bool
) -> dict[Side, Tree]:
  """The parameters for each side that is not random, no array twice among them.

  Errors: ValueError for a source that is no single stack, and for `preserve` with
  `share`.
  """
  sides = {'encoder': encoder, 'decoder': decoder}
  for side, params in sides.items():
    _require_one_stack(side, params)
  if share and preserve:
    raise ValueError(
      'encoder_decoder: preserve moves a norm of the decoder, which with share is the '
      "encoder's too"
    )
  # One set of weights serves both stacks; here the decoder is all there is.
  if share and encoder is None:
    sides['encoder'] = decoder
  given = {side: params for side, params in sides.items() if params is not None}
  if len(given) == 2 and not share:
    given['decoder'] = _apart(decoder, encoder)
  return given


def _apart(params: Tree, others: Tree) -> Tree:
  """The params with copies of the arrays that the other tree holds too.

  BERT2BERT takes both stacks from one tree, and one buffer at two places of a state
  could not be donated.
  """
  held = {id(leaf) for leaf in jax.tree.leaves(others)}

  def own(leaf):
    return leaf.copy() if id(leaf) in held else leaf

  return jax.tree.map(own, params)


def _require_one_stack(side: Side, params: Tree | None) -> None:
  """Raises ValueError for parameters that are not those of a model of one stack.

  params: None, for a side that stays random, is right too.
  """
  if params is None:
    return
  if 'layers' not in params or 'embedding' not in params:
    held = ', '.join(map(repr, params))
    raise ValueError(
      f'encoder_decoder: the {side} has {held}, but must be a model of one '
      "stack, with 'embedding' and 'layers'"
    )


def _place(
  side: Side, name: str, takers: dict, tokens: Side | None, share: bool, preserve: bool
) -> str | None:
  """Where a leaf of one side goes in the target; None for one that is left behind."""
  if _is_left_behind(side, name, takers, tokens, share):
    return None
  # The token table and the head belong to no stack.
  if name == 'embedding/tokens' or name.startswith('head/'):
    return name
  # A norm of the residual sum moves behind the new attention. A pre-norm decoder, which
  # is the one with a final norm, keeps the norms of its attention where they are.
  is_post_norm = 'decoder/final_norm/scale' not in takers
  if preserve and side == 'decoder' and is_post_norm:
    name = re.sub(r'(layers/\d+)/attention_norm/', r'\1/cross_norm/', name)
  return f'{side}/{name}'


def _is_left_behind(
  side: Side, name: str, takers: dict, tokens: Side | None, share: bool
) -> bool:
  """Does a leaf of one side have no place in the target?"""
  if name == 'embedding/tokens':
    return side != tokens
  if name.startswith('pooler/'):
    return True
  if name.startswith('head/'):
    # Only a head over the vocabulary fits: labels are those of another task.
    reads_vocabulary = name in ('head/kernel', 'head/bias')
    return side != 'decoder' or not reads_vocabulary or name not in takers
  return share and side == 'decoder'


def _may_be_fresh(name: str, given: dict, preserve: bool) -> bool:
  """May a leaf of the target stay as it was initialised?"""
  if re.match('(head|pooler)/', name) or re.fullmatch(CROSS, name):
    return True
  # `preserve` has moved the norm that would have filled this one.
  if preserve and re.fullmatch(r'decoder/layers/\d+/attention_norm/.*', name):
    return True
  # Both sides share the table, so either of them fills it.
  if name == 'embedding/tokens':
    return not given
  side = name.split('/')[0]
  return side not in given


def shared(model):
  """The encoder-decoder whose decoder uses the encoder's weights wherever both stacks
  have them (BERTSHARE).

  Its parameters hold all of the encoder, and of the decoder only the attention over the
  encoder. Gradients of both uses add up. `unshared(params)` is the tree of `model`
  itself, for decoding and export. Errors: ValueError where there is no second stack;
  and, when it makes parameters, where a weight differs in shape between the stacks.
  """
  if model.arch.kind != 'encoder-decoder':
    raise ValueError(
      f'shared: a model of kind {model.arch.kind!r} has one stack; it must be an '
      'encoder-decoder'
    )

  def init(key):
    params = model.init(key)
    _require_same_shapes(params)
    return _without_twins(params)

  def apply(params, *args, **keywords):
    # Unshared inside the function that is differentiated, so that gradients of both
    # uses of a weight add up.
    return model.apply(unshared(params), *args, **keywords)

  return model._replace(init=init, apply=apply, axes=_without_twins(model.axes))


def _require_same_shapes(params: Tree) -> None:
  """Raises ValueError for a weight of the decoder whose twin has another shape."""
  leaves = tree.flatten(params)
  for name, leaf in leaves.items():
    twin_name = _twin(name)
    twin = leaves.get(twin_name)
    if twin is not None and twin.shape != leaf.shape:
      raise ValueError(
        f'shared: {name!r} is {leaf.shape} and {twin_name!r} is {twin.shape}'
      )


def unshared(params: Tree) -> Tree:
  """The parameters of `shared` as those of the plain model: the decoder has all of its
  leaves.

  What the stacks share is the same array in two places; copy it before donating such a
  tree.
  """
  encoder = params['encoder']
  decoder = params['decoder']
  # The encoder may be deeper.
  layers = {}
  for index, layer in encoder['layers'].items():
    if index in decoder['layers']:
      layers[index] = layer
  source = {**encoder, 'layers': layers}
  return {**params, 'decoder': _filled(decoder, source)}


def _filled(own: Tree, other: Tree) -> Tree:
  """`own` and whatever else `other` has."""
  if not isinstance(own, dict):
    return own
  filled = dict(other)
  for name, node in own.items():
    filled[name] = _filled(node, other[name]) if name in other else node
  return filled


def _twin(name: str) -> str:
  """The encoder's name of a leaf of the decoder; '' for a leaf that is not of the
  decoder.
  """
  return re.sub('^decoder/', 'encoder/', name) if name.startswith('decoder/') else ''


def _without_twins(params: Tree) -> Tree:
  """The tree without the decoder's leaves that the encoder has too.

  params: a tree of arrays or of PartitionSpecs.
  """

  def is_spec(node):
    return isinstance(node, jax.sharding.PartitionSpec)

  flat = jax.tree_util.tree_leaves_with_path(params, is_leaf=is_spec)
  leaves = {tree.name_of(path): leaf for path, leaf in flat}
  kept = {name: leaf for name, leaf in leaves.items() if _twin(name) not in leaves}
  return tree.unflatten(kept)
