"""The fastest way to run a config that fits: mesh, rematerialisation, micro-batches.

There are hundreds of ways and a compiler takes minutes for each. So all are estimated,
and the best few are compiled.

>>> [way.words for way in ways(devices=2, rows=2, heads=1, remats=('none',))]
['fsdp 2, remat none', 'data 2, remat none']
"""

import dataclasses
import math
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from tl_jax.config import ConfigError
from tl_jax.parallel.mesh import divisors
from tl_jax.scale import planning, topology
from tl_jax.scale.chips import CHIPS, Chip
from tl_jax.scale.planning import Plan, Wish
from tl_jax.scale.topology import Topology
from tl_jax.train import phases
from tl_jax.train.outline import Outline

REMATS = ('none', 'dots', 'full')
PARTS = (1, 2, 4, 8, 16)
# Heads and hidden units are cut among neighbours only.
MOST_TENSOR = 8
# What a step has to compute, against one that computes nothing twice.
AGAIN = dict(none=1.0, dots=1.03, full=4 / 3)
# An estimate of the memory is rough: what it puts up to so far above is tried, too.
SLACK = 1.3


class Way(NamedTuple):
  """One way to lay out a step."""

  data: int
  fsdp: int
  tensor: int
  remat: str
  accumulate: int

  @property
  def words(self) -> str:
    """The way in words, without what is usual."""
    axes = dict(data=self.data, fsdp=self.fsdp, tensor=self.tensor)
    found = [f'{axis} {size}' for axis, size in axes.items() if size > 1]
    mesh = ' x '.join(found) or 'one device'
    parts = f', accumulate {self.accumulate}' if self.accumulate > 1 else ''
    return f'{mesh}, remat {self.remat}{parts}'

  @property
  def overrides(self) -> str:
    """The way as flags of the command line."""
    keys = {f'mesh.{axis}': getattr(self, axis) for axis in ('data', 'fsdp', 'tensor')}
    keys |= {'compute.remat': self.remat, 'data.accumulate': self.accumulate}
    return ' '.join(f'--config.{key}={value}' for key, value in keys.items())

  @property
  def kind(self) -> tuple:
    """The way without the number of its parts."""
    return self[:-1]

  def of(self, run: Outline) -> Outline:
    """The outline of the run that goes this way."""
    return planning.varied(
      run,
      mesh=dict(data=self.data, fsdp=self.fsdp, tensor=self.tensor),
      compute=dict(remat=self.remat),
      data=dict(accumulate=self.accumulate),
    )


class Estimate(NamedTuple):
  """What a way will need and take, by rule of thumb: bytes on a chip and seconds."""

  way: Way
  needed: float
  seconds: float


def ways(
  devices: int, rows: int, heads: int, remats: Sequence[str] = REMATS
) -> Iterator[Way]:
  """Every way to lay out a step of `rows` rows on so many devices.

  heads: of keys, which the tensor axis divides.
  """
  for tensor in divisors(devices):
    if tensor > MOST_TENSOR or heads % tensor:
      continue
    for data in divisors(devices // tensor):
      fsdp = devices // tensor // data
      for accumulate in PARTS:
        if rows % (data * fsdp * accumulate):
          continue
        for remat in remats:
          yield Way(data, fsdp, tensor, remat, accumulate)


class Account(NamedTuple):
  """What the estimates of all ways have in common.

  state: bytes of weights and optimizer over all chips. trained: bytes of what gets a
  gradient. weights: bytes of all weights as the products read them. flops: of a step
  that computes nothing twice. tokens: of a step. saved: bytes that the backward pass
  keeps of a token, by remat. passing: bytes of a token between two layers. layers: how
  many.
  """

  state: float
  trained: float
  weights: float
  flops: float
  tokens: int
  saved: dict[str, float]
  passing: float
  layers: int


def account_of(run: Outline, plan: Plan) -> Account:
  """The account of a run, from its plan on a single device."""
  arch = run.parts.model.arch
  item = 2 if run.settings.compute.dtype == 'bfloat16' else 4
  layers = arch.layers
  if arch.kind == 'encoder-decoder':
    layers += arch.decoder_layers or arch.layers
  width, mlp = arch.width, arch.mlp * (2 if arch.gated else 1)
  heads = arch.heads * arch.head_width
  products = 2 * heads + 2 * arch.key_heads * arch.head_width + mlp + width
  scores = 3 * arch.heads * run.settings.data.length
  # Between the products stand norms, activations and dropout: about as much again.
  saved = dict(full=width, dots=width + products)
  saved['none'] = 2 * (width + products) + scores
  kept = {remat: item * layers * count for remat, count in saved.items()}
  parts = plan.parts
  count = plan.parameters
  return Account(
    state=sum(parts.get(name, 0) for name in ('trainable', 'frozen', 'optimizer')),
    trained=4 * count['trained'],
    weights=item * count['total'],
    flops=plan.flops['model'],
    tokens=plan.tokens,
    saved=kept,
    passing=item * width,
    layers=layers,
  )


def estimate(way: Way, account: Account, kind: Chip) -> Estimate:
  """What a way needs and takes, before anything is compiled."""
  cut = way.fsdp * way.tensor
  rows = way.data * way.fsdp
  tokens = account.tokens / rows
  at_once = tokens / way.accumulate
  kept = account.saved[way.remat] * at_once / way.tensor
  # Gradients are as large as what is trained; of the weights a layer or two are whole.
  whole = 2 * account.weights / account.layers / way.tensor
  needed = (account.state + account.trained) / cut + kept + whole
  compute = account.flops * AGAIN[way.remat] / (rows * way.tensor) / kind.flops
  sent = 0.0
  if way.fsdp > 1:
    # Weights are gathered forward and backward in every part, gradients summed once.
    passes = 2 * way.accumulate
    share = (way.fsdp - 1) / way.fsdp
    sent += (passes * account.weights + account.trained) * share / way.tensor
  if way.data > 1:
    sent += 2 * account.trained / cut
  if way.tensor > 1:
    # Two sums of the activations in a layer forward, two backward.
    again = 1.5 if way.remat == 'full' else 1.0
    sent += 8 * again * account.layers * account.passing * tokens
  links = sent / kind.ici
  # What can hide behind the products does so in part.
  return Estimate(way, needed, max(compute, links) + 0.25 * min(compute, links))


def promising(run: Outline, target: Topology, wish: Wish) -> list[Estimate]:
  """The ways that may fit, the fastest first; if none may, the one that needs least."""
  # One device, of which the whole is told.
  bare = dataclasses.replace(wish, compile=False)
  whole = planning.varied(run, mesh=dict(data=1, fsdp=1, tensor=1))
  alone = Topology(target.chip, (1,) * max(1, target.kind.dimensions))
  plan = planning.make_plan(whole, alone, bare)
  account = account_of(run, plan)
  fixed = run.settings.mesh.cohort * run.settings.mesh.sequence
  devices = target.devices // max(1, fixed)
  arch = run.parts.model.arch
  # What divides this divides the heads and the hidden units.
  heads = math.gcd(arch.key_heads, arch.mlp)
  batches = [phase.data.batch for phase in phases.of(run.settings.data)]
  # What divides this divides the batches of all phases.
  common = math.gcd(*batches)
  found = []
  for way in ways(devices, common, heads):
    found.append(estimate(way, account, target.kind))
  if not found:
    sizes = ', '.join(map(str, dict.fromkeys(batches)))
    key = 'phases and config.data.batch' if len(batches) > 1 else 'batch'
    raise ConfigError(
      f'config.data.{key}: {sizes} rows are not divisible among the {target.devices} '
      f'devices of {target.name} in any way'
    )
  room = SLACK * target.kind.hbm
  fitting = [one for one in found if one.needed <= room]
  if not fitting:
    return [min(found, key=lambda one: one.needed)]
  return sorted(fitting, key=lambda one: one.seconds)


def search(run: Outline, target: Topology, wish: Wish, most: int = 4) -> list[Plan]:
  """The plans of the ways that were tried, the best first.

  The best is the fastest of those that fit. At most `most` are compiled. After one that
  did not fit comes one that needs so much less; after one that did, another mesh or
  another rematerialisation.
  """
  left = promising(run, target, wish)
  tried: list[Plan] = []
  while left and len(tried) < most:
    chosen = left.pop(0)
    plan = planning.make_plan(chosen.way.of(run), target, wish)
    plan.overrides = chosen.way.overrides
    tried.append(plan)
    if plan.memory is None or plan.memory['fits']:
      # In more parts the same takes longer, and there is room.
      kind = chosen.way.kind
      left = [one for one in left if one.way.kind != kind]
      continue
    # As much as it is too large, another must be smaller.
    over = plan.memory['needed'] / plan.memory['available']
    left = [one for one in left if one.needed < chosen.needed / over] or left[-1:]
  return sorted(tried, key=_rank)


def _rank(plan: Plan) -> tuple[bool, float]:
  """Those that fit before those that do not, and the fast before the slow."""
  fits = plan.memory is None or plan.memory['fits']
  return not fits, plan.roofline['seconds']


def smallest(run: Outline, chip: str, wish: Wish, most: int = 3) -> list[Plan]:
  """The plans of slices of a chip, from small to large, until one fits.

  Slices that cannot hold the state alone, or do not divide the batch, are passed over.
  At most `most` are compiled. Raises ConfigError where no slice suffices.
  """
  kind = CHIPS[chip]
  found: list[Plan] = []
  refused = ''
  for shape in topology.shapes(kind):
    target = Topology(chip, shape)
    try:
      held = planning.bytes_held(run, target, wish)
    except ConfigError as error:
      refused = str(error)
      continue
    if held > kind.hbm:
      continue
    found.append(planning.make_plan(run, target, wish))
    memory = found[-1].memory
    if memory is None or memory['fits'] or len(found) == most:
      return found
  if not found:
    raise ConfigError(f'--topology: {chip}: no slice holds the run; {refused}')
  return found
