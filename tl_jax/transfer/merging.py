"""Several trained models of one shape made one, without training.

>>> import jax.numpy as jnp
>>> base, first, second = ({'w': jnp.array([0.0, value])} for value in (1.0, 3.0, 5.0))
>>> soup([first, second])['w'].tolist(), ties(base, [first, second], density=0.5)['w'].tolist()
([0.0, 4.0], [0.0, 4.0])

Every function takes and gives parameter trees and can be jitted. All trees of a call
have the same names and shapes: ValueError names the leaf that differs. Floating leaves
are merged in at least float32, and the result has the dtypes of the first tree or of
the base; other leaves (indices, masks) must be equal in all trees, and are kept.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from tl_jax import leaves, rng, tree

Tree = Any

COLINEAR = 0.9995  # a cosine beyond which an arc is a line to float32, as in mergekit


def soup(trees: Sequence[Tree], weights: Sequence[float] | None = None) -> Tree:
  """The mean of the trees (model soup, Wortsman et al. 2022), or their weighted mean.

  weights: one number per tree, scaled to the sum 1; ValueError where the sum is 0.
  """
  trees = _require_same('soup', trees)
  weights = _shares('soup', weights, len(trees))
  return _merge(
    'soup',
    lambda name, *values: sum(
      w * value for w, value in zip(weights, values, strict=True)
    ),
    trees,
  )


def greedy_soup(
  trees: Sequence[Tree], score: Callable[[Tree], float]
) -> tuple[Tree, tuple[int, ...]]:
  """(mean of the chosen trees, their indices, best first): Wortsman et al. 2022, Recipe
  1.

  The trees are tried in the order of their own score, equal ones as they stand; one is
  taken in where the mean with it scores no less than the mean without it. score(tree)
  -> float, higher is better, of examples that are not the test's.
  """
  trees = _require_same('greedy_soup', trees)
  alone = [float(score(each)) for each in trees]
  for index, value in enumerate(alone):
    if math.isnan(value):
      raise ValueError(f'greedy_soup: the score of trees[{index}] is not a number')
  order = sorted(range(len(trees)), key=lambda index: -alone[index])
  chosen, best = order[:1], alone[order[0]]
  merged = soup([trees[chosen[0]]])
  for index in order[1:]:
    candidate = soup([trees[place] for place in (*chosen, index)])
    value = float(score(candidate))
    if value >= best:
      chosen, best, merged = [*chosen, index], value, candidate
  return merged, tuple(chosen)


def task_vector(tuned: Tree, base: Tree) -> Tree:
  """tuned - base (Ilharco et al. 2023, section 2), in at least float32; 0 where leaves
  are not floating.
  """
  _require_same('task_vector', [base, tuned], ('base', 'tuned'))
  _require_equal('task_vector', [base, tuned])
  others = tree.flatten(tuned)
  return tree.map_named(
    lambda name, leaf: (
      _wide(others[name]) - _wide(leaf) if _is_floating(leaf) else jnp.zeros_like(leaf)
    ),
    base,
  )


def apply_task_vectors(
  base: Tree, vectors: Sequence[Tree], scale: float | Sequence[float] = 1.0
) -> Tree:
  """base + sum of scale * vector (Ilharco et al. 2023, section 2): a positive scale
  learns, a negative one forgets.

  scale: one number for all vectors, or one per vector.
  """
  _require_same(
    'apply_task_vectors',
    [base, *vectors],
    ('base', *_numbered('vectors', len(vectors))),
  )
  scales = _scales('apply_task_vectors', scale, len(vectors))

  def add(name, start, *changes):
    return start + sum(
      (s * change for s, change in zip(scales, changes, strict=True)),
      jnp.zeros_like(start),
    )

  return _merge('apply_task_vectors', add, [base, *vectors], equal=False)


def analogy(a: Tree, b: Tree, c: Tree) -> Tree:
  """c + (b - a): a is to b as c is to the result (Ilharco et al. 2023, section 5)."""
  _require_same('analogy', [c, a, b], ('c', 'a', 'b'))
  return _merge(
    'analogy', lambda name, third, first, second: third + (second - first), [c, a, b]
  )


def ties(
  base: Tree,
  tuned: Sequence[Tree],
  *,
  density: float = 0.2,
  scale: float = 1.0,
  weights: Sequence[float] | None = None,
  trim: str = 'leaf',
  elect: str = 'mass',
  normalize: bool = True,
) -> Tree:
  """Trim, elect a sign, mean of those that agree (TIES, Yadav et al. 2023, Algorithm
  1).

  density: the part of every task vector that is kept, the largest in magnitude; of each
  leaf (trim 'leaf', as in mergekit; at least one value), or of the vector of the whole
  tree (trim 'tree', as in the paper).
  elect: the sign of the sum of the kept values, 'mass', in the paper and in mergekit,
  or of the majority, 'count' in mergekit. Where the mass is exactly 0 nothing is
  elected and the base stays (the paper's sign of 0); mergekit has plus there. Where the
  count is 0 it is plus. weights: one per tree, the values count so much in the mass and
  in the mean (mergekit; the paper's are 1). scale: the paper's lambda. normalize: False
  adds up instead of taking the mean.
  """
  _require_same('ties', [base, *tuned], ('base', *_numbered('tuned', len(tuned))))
  _require(0 < density <= 1, 'ties: density: must be above 0 and at most 1', density)
  weights = _scales('ties: weights', 1.0 if weights is None else weights, len(tuned))
  changes = [tree.flatten(task_vector(each, base)) for each in tuned]
  if trim == 'leaf':
    kept = [
      {name: _trimmed(leaf, density) for name, leaf in change.items()}
      for change in changes
    ]
  elif trim == 'tree':
    kept = [_trimmed_together(change, density) for change in changes]
  else:
    raise ValueError(f"ties: trim: {trim!r} is not one of 'leaf', 'tree'")
  return _add_agreed('ties', base, kept, weights, scale, elect, normalize)


def dare(
  key,
  base: Tree,
  tuned: Sequence[Tree],
  *,
  drop: float = 0.9,
  rescale: bool = True,
  scale: float = 1.0,
  weights: Sequence[float] | None = None,
  elect: str | None = None,
  normalize: bool = False,
) -> Tree:
  """base + scale * sum of the task vectors, each with a random part `drop` of its
  values 0 (DARE, Yu et al. 2024).

  The masks are `dare_mask(key, base, drop, index)`. rescale: the values that stay are
  divided by 1 - drop (eq. 2), so that the expected result is that of
  `apply_task_vectors`. elect, normalize: as in `ties`, in place of its trimming
  (mergekit's dare_ties, which like this does not take the mean unless asked to).
  weights: one per tree.
  """
  _require_same('dare', [base, *tuned], ('base', *_numbered('tuned', len(tuned))))
  weights = _scales('dare: weights', 1.0 if weights is None else weights, len(tuned))
  kept = []
  for index, each in enumerate(tuned):
    masks = tree.flatten(dare_mask(key, base, drop, index))
    change = tree.flatten(task_vector(each, base))
    kept.append(
      {
        name: jnp.where(masks[name], leaf, 0) / (1 - drop if rescale else 1)
        for name, leaf in change.items()
      }
    )
  return _add_agreed('dare', base, kept, weights, scale, elect, normalize)


def dare_mask(key, like: Tree, drop: float, index: int = 0) -> Tree:
  """Which values of the tree `index` stay: booleans, each True with the probability 1 -
  drop.

  key: a jax key or an integer. A leaf's mask depends on the key, the leaf's name, the
  index and nothing else.
  """
  _require(0 <= drop < 1, 'dare: drop: must be at least 0 and below 1', drop)
  return tree.map_named(
    lambda name, leaf: jax.random.bernoulli(
      rng.stream(key, f'dare/{name}', index), 1.0 - drop, np.shape(leaf)
    ),
    like,
  )


def slerp(a: Tree, b: Tree, t: float) -> Tree:
  """From a (t = 0) to b (t = 1) on an arc, each leaf as one flat vector (Shoemake 1985;
  as in mergekit).

  The angle is between the directions, and the two vectors keep their lengths. Where
  they are colinear, or one is 0 and has no direction, the arc is the line (mergekit
  takes 0 to be orthogonal to everything).
  """
  _require_same('slerp', [a, b], ('a', 'b'))

  def between(name, first, second):
    norms = jnp.linalg.norm(first.ravel()) * jnp.linalg.norm(second.ravel())
    cosine = jnp.vdot(first, second) / jnp.where(norms == 0, 1, norms)
    on_line = (norms == 0) | (jnp.abs(cosine) > COLINEAR)
    angle = jnp.arccos(jnp.where(on_line, 0, cosine))
    ahead, behind = (jnp.sin(part * angle) / jnp.sin(angle) for part in (t, 1 - t))
    return jnp.where(
      on_line, (1 - t) * first + t * second, behind * first + ahead * second
    )

  return _merge('slerp', between, [a, b])


def fisher(
  trees: Sequence[Tree],
  fishers: Sequence[Tree],
  weights: Sequence[float] | None = None,
  floor: float = 1e-6,
) -> Tree:
  """The mean in which every value counts by its Fisher information (Matena & Raffel
  2022, eq. 3).

  fishers: the diagonal of each tree's Fisher information,
  `tl_jax.transfer.fisher.fisher_diagonal`, of its shapes.
  floor: what a value counts for at least; where no model has information, the result is
  the weighted mean.
  """
  trees = _require_same('fisher', trees)
  _require(
    len(fishers) == len(trees),
    f'fisher: needs {len(trees)} fishers, one per tree',
    len(fishers),
  )
  _require(floor > 0, 'fisher: floor: must be above 0', floor)
  _require_same(
    'fisher', [trees[0], *fishers], ('trees[0]', *_numbered('fishers', len(fishers)))
  )
  weights = _shares('fisher', weights, len(trees))
  information = [tree.flatten(each) for each in fishers]

  def mean(name, *values):
    counts = [
      w * jnp.maximum(_wide(each[name]), floor)
      for w, each in zip(weights, information, strict=True)
    ]
    return sum(
      count * value for count, value in zip(counts, values, strict=True)
    ) / sum(counts)

  return _merge('fisher', mean, trees)


def regmean(
  trees: Sequence[Tree],
  grams: Sequence[Mapping[str, Any]],
  pattern: str = '.*',
  shrink: float = 0.9,
) -> Tree:
  """Products merged to be nearest, on the sources' own inputs, to the sources'
  (RegMean, Jin et al. 2023, eq. 2).

  grams: for each tree, by the name of a leaf (..., in, out), the inner products X^T X
  (..., in, in) of its inputs X (rows, in). Of these names those that match `pattern`
  are merged by (sum G_i)^-1 sum G_i W_i; other leaves are averaged. shrink: the paper's
  alpha, by which what is off the diagonal is multiplied; below 1 the sum is invertible.
  An input that is 0 for all sources says nothing of its row, which is averaged.
  """
  trees = _require_same('regmean', trees)
  _require(0 <= shrink <= 1, 'regmean: shrink: must be from 0 to 1', shrink)
  _require(
    len(grams) == len(trees),
    f'regmean: needs {len(trees)} grams, one per tree',
    len(grams),
  )
  chosen = _gram_names(tree.flatten(trees[0]), grams, pattern)

  def solve(name, *kernels):
    mean = sum(kernels) / len(kernels)
    if name not in chosen:
      return mean
    eye = jnp.eye(mean.shape[-2], dtype=mean.dtype)
    shrunk = [_wide(gram[name]) * (shrink + (1 - shrink) * eye) for gram in grams]
    total = sum(shrunk)
    empty = jnp.diagonal(total, axis1=-2, axis2=-1) == 0
    # Solved for the distance from the mean: the same where the sum can be inverted, and
    # the mean where an input is 0.
    pull = sum(
      jnp.matmul(gram, kernel - mean, precision='highest')
      for gram, kernel in zip(shrunk, kernels, strict=True)
    )
    return mean + jnp.linalg.solve(total + eye * empty[..., None, :], pull)

  return _merge('regmean', solve, trees)


def _gram_names(
  held: dict, grams: Sequence[Mapping[str, Any]], pattern: str
) -> set[str]:
  """The leaves that have inner products and match. Raises ValueError where sources
  differ or shapes do not fit.
  """
  tree.require_match([pattern], grams[0], 'regmean: pattern')
  chosen = set(filter(tree.matcher(pattern), grams[0]))
  for index, gram in enumerate(grams):
    for name in sorted(chosen):
      if name not in held:
        raise ValueError(
          f'regmean: grams: no leaf {name!r} in the trees; nearest: {tree.nearest(name, held)}'
        )
      if name not in gram:
        raise ValueError(
          f'regmean: grams[{index}] has no {name!r}; nearest: {tree.nearest(name, gram)}'
        )
      shape = np.shape(held[name])
      wanted = (*shape[:-1], shape[-2]) if len(shape) > 1 else None
      if np.shape(gram[name]) != wanted:
        raise ValueError(
          f'regmean: grams[{index}]: {name!r} is {np.shape(gram[name])}; a leaf {shape} needs '
          + (str(wanted) if wanted else 'two axes to be merged by inner products')
        )
  return chosen


def _trimmed(leaf, density: float):
  """The leaf with all but its largest values 0; of equal ones the first stay."""
  most = max(1, int(density * leaf.size))
  if most >= leaf.size:
    return leaf
  order = jnp.argsort(-jnp.abs(leaf.ravel()), stable=True)
  mask = jnp.zeros(leaf.size, bool).at[order[:most]].set(True)
  return jnp.where(mask.reshape(leaf.shape), leaf, jnp.zeros_like(leaf))


def _trimmed_together(change: dict, density: float) -> dict:
  """All floating leaves trimmed as one vector."""
  names = [name for name, leaf in change.items() if _is_floating(leaf)]
  whole = (
    _trimmed(jnp.concatenate([change[name].ravel() for name in names]), density)
    if names
    else None
  )
  trimmed, start = dict(change), 0
  for name in names:
    size = change[name].size
    trimmed[name] = whole[start : start + size].reshape(change[name].shape)
    start += size
  return trimmed


def _add_agreed(
  what: str,
  base: Tree,
  changes: Sequence[dict],
  weights,
  scale,
  elect: str | None,
  normalize: bool,
) -> Tree:
  """base + scale * the sum or the weighted mean of the changes, of those whose sign is
  the elected one.
  """
  if elect not in ('mass', 'count', None):
    raise ValueError(f"{what}: elect: {elect!r} is not one of 'mass', 'count', None")
  scale = _scales(f'{what}: scale', scale, 1)[0]

  def add(name, start):
    weighted = [w * change[name] for w, change in zip(weights, changes, strict=True)]
    signs = [jnp.sign(value) for value in weighted]
    if elect == 'mass':
      elected = jnp.sign(sum(weighted))
    elif elect == 'count':
      elected = jnp.where(sum(signs) >= 0, 1, -1)
    agree = [True if elect is None else sign == elected for sign in signs]
    total = sum(
      jnp.where(mask, value, 0) for mask, value in zip(agree, weighted, strict=True)
    )
    if normalize:
      parts = sum(
        jnp.where(mask, w, jnp.zeros_like(start))
        for mask, w in zip(agree, weights, strict=True)
      )
      total = total / jnp.where(parts == 0, 1, parts)
    return start + scale * total

  return _merge(what, add, [base])


def _merge(
  what: str, function: Callable, trees: Sequence[Tree], equal: bool = True
) -> Tree:
  """The first tree with every floating leaf replaced by function(name, leaf of each
  tree), computed wide.
  """
  if equal:
    _require_equal(what, trees)
  others = [tree.flatten(each) for each in trees[1:]]

  def leaf_of(name, leaf):
    if not _is_floating(leaf):
      return jnp.asarray(leaf)
    return function(
      name, _wide(leaf), *(_wide(other[name]) for other in others)
    ).astype(jnp.result_type(leaf))

  return tree.map_named(leaf_of, trees[0])


def _require_same(
  what: str, trees: Sequence[Tree], labels: Sequence[str] | None = None
) -> list[Tree]:
  """The trees as a list. Raises ValueError for the first leaf that is not there or not
  of this shape in all of them.
  """
  trees = list(trees)
  if not trees or (labels is not None and labels[0] == 'base' and len(trees) < 2):
    raise ValueError(
      f'{what}: needs at least one tree' + (' beside the base' if trees else '')
    )
  labels = labels or _numbered('trees', len(trees))
  for each in trees:
    tree.require_arrays(each, what)
  for path, node in jax.tree_util.tree_leaves_with_path(
    trees[0], is_leaf=leaves.is_structured
  ):
    _require(
      not leaves.is_structured(node),
      f'{what}: {tree.name_of(path)!r}: fuse the tree first; needs an array',
      f'a {type(node).__name__}',
    )
  first = tree.flatten(trees[0])
  for label, each in zip(labels[1:], trees[1:], strict=True):
    leaf = tree.flatten(each)
    for name in [
      *(name for name in first if name not in leaf),
      *(name for name in leaf if name not in first),
    ]:
      having, lacking = (labels[0], label) if name in first else (label, labels[0])
      raise ValueError(
        f'{what}: {name!r} is in {having} but not in {lacking}; '
        f'nearest there: {tree.nearest(name, first if name in leaf else leaf)}'
      )
    for name in first:
      if np.shape(first[name]) != np.shape(leaf[name]):
        raise ValueError(
          f'{what}: {name!r} is {np.shape(first[name])} in {labels[0]} and {np.shape(leaf[name])} '
          f'in {label}'
        )
  return trees


def _require_equal(what: str, trees: Sequence[Tree]) -> None:
  """Raises ValueError for a leaf that is not floating and differs; inside jit values
  are not known, nor compared.
  """
  first = tree.flatten(trees[0])
  for index, each in enumerate(trees[1:], start=1):
    for name, leaf in tree.flatten(each).items():
      pair = first[name], leaf
      if (
        not all(map(_is_floating, pair))
        and not any(isinstance(value, jax.core.Tracer) for value in pair)
        and (any(map(_is_floating, pair)) or not np.array_equal(*map(_bits, pair)))
      ):
        raise ValueError(
          f'{what}: {name!r} is not floating and differs between the first tree and tree {index}'
        )


def _require(holds: bool, what: str, value) -> None:
  if not holds:
    raise ValueError(f'{what}, got {value}')


def _numbered(what: str, count: int) -> list[str]:
  return [f'{what}[{index}]' for index in range(count)]


def _scales(what: str, scale, count: int) -> list:
  """One finite number per tree, from one for all or a sequence of as many."""
  scales = list(scale) if np.ndim(scale) else [scale] * count
  _require(
    len(scales) == count, f'{what}: needs {count} numbers, one per tree', len(scales)
  )
  for value in scales:
    _require(
      isinstance(value, jax.core.Tracer) or math.isfinite(value),
      f'{what}: must be finite',
      value,
    )
  return scales


def _shares(what: str, weights, count: int) -> list:
  """Weights with the sum 1."""
  weights = _scales(f'{what}: weights', 1.0 if weights is None else weights, count)
  total = sum(weights)
  _require(
    isinstance(total, jax.core.Tracer) or total != 0,
    f'{what}: weights: need another sum than 0',
    weights,
  )
  return [weight / total for weight in weights]


def _is_floating(leaf) -> bool:
  return jnp.issubdtype(jnp.result_type(leaf), jnp.floating)


def _bits(leaf):
  """A random key as the integers that it is; any other leaf as it stands."""
  is_key = jnp.issubdtype(jnp.result_type(leaf), jax.dtypes.prng_key)
  return jax.random.key_data(leaf) if is_key else leaf


def _wide(leaf) -> jax.Array:
  """The leaf in at least float32; one that is not floating as it is."""
  leaf = jnp.asarray(leaf)
  return (
    leaf.astype(jnp.promote_types(leaf.dtype, jnp.float32))
    if _is_floating(leaf)
    else leaf
  )
