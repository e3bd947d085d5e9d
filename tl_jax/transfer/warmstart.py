"""Encoder-decoders that start from the stacks of other models: BERT2BERT, RND2BERT,
BERT2RND, BERTSHARE, RND2GPT.

>>> bert = {'embedding': {'tokens': 1.0}, 'layers': {'0': {'attention': 2.0}}}
>>> target = {'embedding': {'tokens': 0.0}, 'encoder': {'layers': {'0': {'attention': 0.0}}}}
>>> {outcome: count for outcome, count in encoder_decoder(bert, None, target)[1].counts.items() if count}
{'copied': 1, 'renamed': 1}
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

# What the two stacks of one architecture need not have in common: the head is the
# decoder's, all else is shared.
OWN = (
  'kind',
  'layers',
  'decoder_layers',
  'max_positions',
  'pool',
  'pooler',
  'pooler_place',
  'pooler_norm',
  'head',
  'head_activation',
  'pair_head',
  'head_bias',
  'labels',
  'tied',
  'output_scale',
  'logit_cap',
  'init',
  'init_std',
)
CROSS = r'decoder/layers/\d+/cross(_norm|_out_norm)?/.*'


def warm_arch(encoder, decoder):
  """The architecture of the encoder-decoder whose stacks come from two architectures
  (or one, and None: random).

  The stacks keep their depths; positions are as many as the longer table has; the head
  is causal over the token table that both stacks share, with the decoder's bias, cap
  and scale. One architecture describes both stacks, so whatever else a block is made of
  must agree (BERT with GPT do not, as their norms stand in different places).
  ValueError for the first field that differs, for two times None, and for a stack whose
  tokens have a width of their own or whose layers share parameters (ELECTRA-small,
  ALBERT), which no encoder-decoder has.
  """
  if encoder is None and decoder is None:
    raise ValueError(
      'warm_arch: encoder and decoder are both None; nothing says what to build'
    )
  first, second = encoder or decoder, decoder or encoder
  for field in dataclasses.fields(first):
    a, b = getattr(first, field.name), getattr(second, field.name)
    if field.name not in OWN and a != b:
      raise ValueError(
        f'warm_arch: {field.name} is {a!r} in the encoder and {b!r} in the decoder, but both stacks of '
        'an encoder-decoder have the same'
      )
    if field.name in ('embedding_width', 'layer_groups') and a:
      raise ValueError(
        f'warm_arch: {field.name} is {a}, but an encoder-decoder has none: it must be 0'
      )
  deep = second.decoder_layers or second.layers
  return dataclasses.replace(
    second,
    kind='encoder-decoder',
    layers=first.layers,
    decoder_layers=0 if deep == first.layers else deep,
    max_positions=max(first.max_positions, second.max_positions),
    pool='last',
    head='causal',
    pooler_place='head',
    pair_head=False,
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

  encoder, decoder: parameters of an encoder (BERT) or a decoder (GPT), or None for a
  side that stays random, so that RND2BERT is (None, bert), BERT2RND (bert, None),
  BERT2BERT (bert, bert), RND2GPT (None, gpt). target: a fresh initialisation of the
  model that `warm_arch` describes. Attention over the encoder has no source and is
  fresh, as are poolers and heads but for a vocabulary's kernel and bias, which come
  from the decoder. The stacks share one token table: that of the side `tokens`, by
  default the encoder's where there is one. A table of positions may be longer.

  share: BERTSHARE, for a target of `shared`; all weights that stand in both stacks come
  from the encoder, or from the decoder where that is None. preserve: a decoder of
  post-norm layers also keeps its function while the output of the new attention is
  zero: the norm behind its self-attention moves behind the new one, whose input is
  normed afresh (to layer norm's epsilon). Without it, as published, the new norm stands
  behind the old.
  Errors: ValueError as of `transplant`, for a source that is no single stack, for
  `tokens` of a random side, and for `preserve` with `share`.
  """
  sides = dict(encoder=encoder, decoder=decoder)
  for side, params in sides.items():
    if params is not None and ('layers' not in params or 'embedding' not in params):
      raise ValueError(
        f'encoder_decoder: the {side} has {", ".join(map(repr, params))}, but must be a model of one '
        "stack, with 'embedding' and 'layers'"
      )
  if share and preserve:
    raise ValueError(
      "encoder_decoder: preserve moves a norm of the decoder, which with share is the encoder's too"
    )
  if share and encoder is None:
    sides = dict(encoder=decoder, decoder=decoder)
  given = {side: params for side, params in sides.items() if params is not None}
  tokens = tokens or next(iter(given), None)
  if given and tokens not in given:
    raise ValueError(f'encoder_decoder: tokens is {tokens!r}, but that side is random')
  takers = tree.flatten(target)
  places = {}
  for side, params in given.items():
    for name in tree.flatten(params):
      places[f'{side}/{name}'] = _place(side, name, takers, tokens, share, preserve)
  filled = {place for place in places.values() if place}
  fresh = [
    name
    for name in takers
    if name not in filled and _may_be_fresh(name, given, preserve)
  ]
  resize = [
    name for name in takers if name in filled and name.endswith('embedding/positions')
  ]
  if len(given) == 2 and not share:
    # BERT2BERT: one buffer at two places of a state could not be donated.
    held = set(map(id, jax.tree.leaves(encoder)))
    given['decoder'] = jax.tree.map(
      lambda leaf: leaf.copy() if id(leaf) in held else leaf, decoder
    )
  spelled = lambda names: [re.escape(name) for name in names]
  return transplant(
    given,
    target,
    rename=[
      (re.escape(name), place)
      for name, place in places.items()
      if place and place != name
    ],
    fresh=spelled(fresh),
    drop=spelled(name for name, place in places.items() if not place),
    resize=spelled(resize),
  )


def _place(
  side: Side, name: str, takers: dict, tokens: Side | None, share: bool, preserve: bool
) -> str | None:
  """Where a leaf of one side goes in the target; None for one that is left behind."""
  if name == 'embedding/tokens':
    return name if side == tokens else None
  if name.startswith('head/'):
    return (
      name
      if side == 'decoder' and name in takers and name in ('head/kernel', 'head/bias')
      else None
    )
  if name.startswith('pooler/'):
    return None
  if share and side == 'decoder':
    return None
  # The norms that a pre-norm model has at the attention stay: only one behind the
  # residual sum moves.
  if preserve and side == 'decoder' and 'decoder/final_norm/scale' not in takers:
    name = re.sub(r'(layers/\d+)/attention_norm/', r'\1/cross_norm/', name)
  return f'{side}/{name}'


def _may_be_fresh(name: str, given: dict, preserve: bool) -> bool:
  if re.match('(head|pooler)/', name) or re.fullmatch(CROSS, name):
    return True
  if preserve and re.fullmatch(r'decoder/layers/\d+/attention_norm/.*', name):
    return True
  return not given if name == 'embedding/tokens' else name.split('/')[0] not in given


def shared(model):
  """The encoder-decoder whose decoder uses the encoder's weights wherever both stacks
  have them (BERTSHARE).

  Its parameters hold what is the encoder's, and of the decoder only the attention over
  the encoder; gradients of both uses add up. `unshared(params)` is the tree of `model`
  itself, for decoding and export. ValueError where there is no second stack, and, when
  it makes parameters, where a weight of the two stacks differs in shape.
  """
  if model.arch.kind != 'encoder-decoder':
    raise ValueError(
      f'shared: a model of kind {model.arch.kind!r} has one stack; it must be an encoder-decoder'
    )

  def init(key):
    params = model.init(key)
    leaves = tree.flatten(params)
    for name, leaf in leaves.items():
      twin = leaves.get(_twin(name))
      if twin is not None and twin.shape != leaf.shape:
        raise ValueError(
          f'shared: {name!r} is {leaf.shape} and {_twin(name)!r} is {twin.shape}'
        )
    return _without_twins(params)

  def apply(params, *args, **keywords):
    return model.apply(unshared(params), *args, **keywords)

  return model._replace(init=init, apply=apply, axes=_without_twins(model.axes))


def unshared(params: Tree) -> Tree:
  """The parameters with the decoder's share of the encoder's in the decoder's place
  too.

  The two places hold the same array; copy a leaf before donating such a tree.
  """
  own = params['decoder']
  layers = {
    name: layer
    for name, layer in params['encoder']['layers'].items()
    if name in own['layers']
  }
  body = {**params['encoder'], 'layers': layers}
  return {**params, 'decoder': _filled(own, body)}


def _filled(own: Tree, other: Tree) -> Tree:
  """`own` and whatever else `other` has."""
  if not isinstance(own, dict):
    return own
  return {
    **other,
    **{
      name: _filled(node, other[name]) if name in other else node
      for name, node in own.items()
    },
  }


def _twin(name: str) -> str:
  return re.sub('^decoder/', 'encoder/', name) if name.startswith('decoder/') else ''


def _without_twins(params: Tree) -> Tree:
  """The tree without the decoder's leaves that the encoder has too."""
  leaves = {
    tree.name_of(path): leaf
    for path, leaf in jax.tree_util.tree_leaves_with_path(
      params, is_leaf=lambda node: isinstance(node, jax.sharding.PartitionSpec)
    )
  }
  return tree.unflatten(
    {name: leaf for name, leaf in leaves.items() if _twin(name) not in leaves}
  )
