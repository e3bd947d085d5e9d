"""Embeddings on several devices: what one device looks up, and no table is whole."""

import textwrap

import fake_devices
import pytest

PROGRAM = textwrap.dedent("""
    import re, sys
    import jax, jax.numpy as jnp, numpy as np
    from jax.sharding import NamedSharding, PartitionSpec as P
    from tl_jax import leaves, models, parallel
    from tl_jax.models.heads import Embedding
    from tl_jax.parallel import MeshShape, make_mesh

    family, shape = sys.argv[1], eval(sys.argv[2])
    ROWS, PLACES, WIDTH, VOCABULARY = 16, 12, 32, 301
    arch = models.arch(family, head='causal' if 'gpt' in family else 'masked',
                       vocabulary=VOCABULARY, width=WIDTH, heads=2, layers=1)
    embed = Embedding(arch, 0.0, jnp.dtype('float32'))
    draw = np.random.default_rng(0)
    tokens = jnp.asarray(draw.integers(0, VOCABULARY, (ROWS, PLACES)), jnp.int32)
    positions = jnp.broadcast_to(jnp.arange(PLACES), (ROWS, PLACES))
    params = embed.init(jax.random.key(0), tokens, positions)['params']
    weights = jnp.asarray(draw.normal(size=(ROWS, PLACES, WIDTH)), jnp.float32)

    def loss(params, tokens, positions, weights):
      made = embed.apply({'params': params}, tokens, positions)
      return (weights * jnp.tanh(made)).sum(), made

    both = jax.value_and_grad(loss, has_aux=True)
    alone = jax.jit(both)(params, tokens, positions, weights)
    mesh = make_mesh(MeshShape(**shape))
    with jax.set_mesh(mesh):
      put = lambda *spec: NamedSharding(mesh, P(*spec))
      where = jax.tree.map(
        lambda x: put(None, ('fsdp', 'sequence', 'tensor')) if x.ndim == 2 else put(), params
      )
      rows = put(('data', 'fsdp'))
      step = jax.jit(both, in_shardings=(where, rows, rows, rows),
                     out_shardings=((None, rows), where))
      compiled = step.lower(params, tokens, positions, weights).compile()
      spread = compiled(*jax.device_put((params, tokens, positions, weights),
                                        (where, rows, rows, rows)))

    def close(a, b):
      # Relative to the largest: a norm of small numbers has large gradients.
      np.testing.assert_allclose(a, b, rtol=0, atol=1e-5 * max(1, np.abs(b).max()))

    jax.tree.map(close, spread, alone)
    text = compiled.as_text()
    assert 'all-to-all' in text or mesh.shape['fsdp'] == 1
    # Neither the table nor its gradient.
    assert f'[{VOCABULARY},{WIDTH}]' not in text
    # Nor all columns of the rows of another device.
    rows_of_others = ROWS // mesh.shape['data']
    assert f'f32[{rows_of_others},{PLACES},{WIDTH}]' not in text
    """)


@pytest.mark.parametrize(
  'family, shape',
  [
    ('tiny', dict(data=2, fsdp=4)),
    pytest.param('tiny-gpt', dict(data=1, fsdp=8), marks=pytest.mark.slow),
    pytest.param(
      'tiny-gpt', dict(data=1, fsdp=2, sequence=2, tensor=2), marks=pytest.mark.slow
    ),
    pytest.param('tiny', dict(data=2, fsdp=2, tensor=2), marks=pytest.mark.slow),
  ],
)
def test_eight_devices_look_up_what_one_does(family, shape):
  _, complaints = fake_devices.run(PROGRAM, family, repr(shape))
  # XLA warns where it gathers what should only be exchanged.
  assert 'full rematerialization' not in complaints
