"""The output layer of a language model on several devices: the loss and its gradient are
those of one device, and no device holds the whole layer.
"""

import textwrap

import fake_devices
import jax
import jax.numpy as jnp
import pytest

from tl_jax import parallel
from tl_jax.objectives import spread

BEGINNING = textwrap.dedent("""
    import re
    import jax, jax.numpy as jnp, numpy as np
    from jax.sharding import NamedSharding, PartitionSpec as P
    from tl_jax import leaves, parallel
    from tl_jax.objectives import spread, tokens
    from tl_jax.parallel import MeshShape, make_mesh

    ROWS, PLACES, WIDTH, VOCABULARY = 16, 6, 8, 301
    # Four parts, so that a collective inside the loop would be counted in a body.
    tokens.MOST = ROWS * PLACES * VOCABULARY / 8

    def draw(seed, *shape):
      return jnp.asarray(np.random.default_rng(seed).normal(size=shape), jnp.float32)

    hidden = draw(0, ROWS, PLACES, WIDTH)
    targets = jnp.asarray(np.random.default_rng(1).integers(0, VOCABULARY, (ROWS, PLACES)))
    weights = jnp.asarray(np.random.default_rng(2).integers(0, 3, (ROWS, PLACES)), jnp.float32)
    table, kernel = draw(3, VOCABULARY, WIDTH), draw(3, WIDTH, VOCABULARY)
    low_rank = leaves.LowRank(table, draw(4, VOCABULARY, 2), draw(5, 2, WIDTH))
    READOUTS = {
      'tied': leaves.Readout(hidden, table),
      'kernel': leaves.Readout(hidden, kernel, draw(6, VOCABULARY), tied=False, cap=2.0),
      'low rank': leaves.Readout(hidden, low_rank),
      'quantized': leaves.Readout(hidden, leaves.quantize(table, 'int8')),
    }

    def loss(parts, rest, targets, weights):
      readout = rest.unflatten(parts)
      total, right = tokens.score(readout, targets, weights, 0.1)
      return jnp.square(total) / 1e4, right

    def answers(readout):
      parts, rest = jax.tree.flatten(readout)
      # Codes in eight bits are held.
      floating = [i for i, x in enumerate(parts) if x.dtype == jnp.float32]
      def of(chosen, targets, weights):
        whole = list(parts)
        for i, x in zip(floating, chosen):
          whole[i] = x
        return loss(whole, rest, targets, weights)
      function = jax.jit(jax.value_and_grad(of, has_aux=True))
      return function([parts[i] for i in floating], targets, weights)

    def require_close(a, b):
      np.testing.assert_allclose(a, b, rtol=2e-5, atol=2e-5)
    """)


def run(program):
  """Runs a program on eight devices that are none."""
  _, complaints = fake_devices.run(BEGINNING + textwrap.dedent(program))
  # XLA warns where it must gather what should only be exchanged.
  assert 'full rematerialization' not in complaints


EIGHT = dict(data=1, fsdp=8)
MIXED = dict(data=2, fsdp=2, sequence=2)
WIDE = dict(data=1, fsdp=2, tensor=4)
slow = pytest.mark.slow


@pytest.mark.parametrize(
  'name, shape',
  [
    ('tied', MIXED),
    pytest.param('tied', EIGHT, marks=slow),
    pytest.param('tied', WIDE, marks=slow),
    pytest.param('kernel', EIGHT, marks=slow),
    pytest.param('kernel', MIXED, marks=slow),
    pytest.param('low rank', MIXED, marks=slow),
    pytest.param('quantized', EIGHT, marks=slow),
  ],
)
def test_eight_devices_give_the_sums_and_gradients_of_one(name, shape):
  run(f"""
      readout = READOUTS[{name!r}]
      alone = answers(readout)
      with jax.set_mesh(make_mesh(MeshShape(**{shape}))):
        jax.tree.map(require_close, answers(readout), alone)
      """)


@pytest.mark.slow
def test_a_large_group_parts_its_rows_alone():
  run("""
      alone = answers(READOUTS['kernel'])
      spread.FAR_MORE = 0
      with jax.set_mesh(make_mesh(MeshShape(data=2, fsdp=4))):
        assert spread.spread_of(ROWS, PLACES, VOCABULARY).groups == ('data', 'fsdp')
        jax.tree.map(require_close, answers(READOUTS['kernel']), alone)
      """)


def test_no_device_holds_the_whole_layer_and_no_part_moves_it():
  run("""
      def program(fsdp, data, far_more):
        spread.FAR_MORE = far_more
        mesh = make_mesh(MeshShape(data=data, fsdp=fsdp))
        with jax.set_mesh(mesh):
          put = lambda spec: NamedSharding(mesh, P(*spec))
          rows = put((('data', 'fsdp'),))
          def of(hidden, kernel, targets, weights):
            readout = leaves.Readout(hidden, kernel, tied=False)
            return tokens.score(readout, targets, weights)[0]
          where = rows, put(('fsdp', None)), rows, rows
          gradient = jax.jit(jax.grad(of, (0, 1)), in_shardings=where, out_shardings=where[:2])
          text = gradient.lower(hidden, kernel, targets, weights).compile().as_text()
        return text

      def collectives(text, shape):
        kinds = 'all-gather|all-reduce|reduce-scatter|all-to-all|collective-permute'
        found = [line for line in text.splitlines() if re.search(rf'= .*({kinds})\\(', line)]
        return [line for line in found if re.search(shape, line.split(' = ')[1])]

      whole = r'f32\\[(1,)?8,30[14]\\]'
      text = program(8, 1, 8)
      assert 'while(' in text
      assert not re.findall(whole, text)
      # From the width to the vocabulary and back.
      assert len(collectives(text, r'\\[.*38.*\\]')) == 2, collectives(text, r'\\[.*38.*\\]')
      # Between groups of rows the gradient is added up once, behind the loop.
      text = program(4, 2, 8)
      assert not re.findall(whole, text)
      assert len([line for line in collectives(text, r'8,76\\]') if 'all-reduce' in line]) == 1
      # Where the layer moves, it does so once.
      text = program(8, 1, 0)
      moved = collectives(text, whole)
      inside = [line for line in moved if '/while/body' in line]
      assert len(moved) == 2 and not inside, moved
      """)


def test_one_device_spreads_nothing():
  assert spread.spread_of(8, 16, 100) is None
  with jax.set_mesh(parallel.make_mesh(parallel.MeshShape())):
    assert spread.spread_of(8, 16, 100) is None
  x = jnp.arange(6.0).reshape(2, 3)
  assert spread.lay_out(x, 3, None) is x
