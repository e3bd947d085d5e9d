"""Generation as a program: compiled once, usable inside a jit, and on a mesh."""

import pathlib

import fake_devices
import jax
import numpy as np
import pytest

from tl_jax.config import ConfigError
from tl_jax.decode import Decoding, generate, generation

METHODS = (
  Decoding(max_new_tokens=5),
  Decoding('sample', samples=2, max_new_tokens=5, eos=3, repetition_penalty=1.3),
  Decoding('beam', samples=2, beams=3, max_new_tokens=5, eos=3, repetition_penalty=1.3),
)
each_method = pytest.mark.parametrize(
  'settings', METHODS, ids=lambda settings: settings.method
)


@each_method
def test_inside_a_jit_it_is_the_same(toys, settings):
  decoder, batch = toys.Hashing().decoder(), toys.lay([[1, 2], [3]])
  inside = jax.jit(
    lambda batch, offset: generate(decoder, None, batch, settings, row_offset=offset)
  )(batch, 7)
  outside = generate(decoder, None, batch, settings, row_offset=7)
  assert all(np.allclose(a, b, atol=1e-5) for a, b in zip(inside, outside, strict=True))
  assert (
    outside.tokens.shape == (2, settings.samples, 5)
    and outside.tokens.dtype == np.int32
  )
  assert outside.lengths.shape == outside.scores.shape == (2, settings.samples)


def test_one_program_serves_every_seed_and_offset(toys):
  decoder, batch = toys.Hashing().decoder(), toys.lay([[1, 2], [3]])
  generate(decoder, None, batch, METHODS[1])
  before = generation.run._cache_size()
  for seed in range(3):
    generate(
      decoder,
      None,
      batch,
      Decoding(
        'sample', samples=2, max_new_tokens=5, eos=3, repetition_penalty=1.3, seed=seed
      ),
      row_offset=seed,
    )
  assert generation.run._cache_size() == before


@pytest.mark.parametrize(
  ('options', 'message'),
  [
    (dict(eos=12), 'eos: 12 is outside the vocabulary of 12; the last id is 11'),
    (dict(pad=50), 'pad: 50 is outside the vocabulary'),
    (dict(bad_words=((1, 12),)), 'bad_words: 12 is outside the vocabulary'),
    (dict(forced_eos=13), 'forced_eos: 13 is outside the vocabulary'),
    (dict(stop='x'), 'stop: generate sees no text'),
    (
      dict(method='beam', eos=tuple(range(12))),
      'beams: a vocabulary of 12 is too small for beam search with 12 ends',
    ),
  ],
)
def test_what_does_not_fit_the_model_is_refused(toys, options, message):
  with pytest.raises(ConfigError, match=message):
    generate(toys.Hashing().decoder(), None, toys.lay([[1]]), Decoding(**options))


MESH = """
import sys
sys.path.insert(0, {tests!r})
import jax, numpy as np
from jax.sharding import NamedSharding, PartitionSpec
from conftest import Hashing, lay
from test_generation import METHODS
from tl_jax.decode import generate
from tl_jax.parallel import MeshShape, make_mesh
assert len(jax.devices()) == 4
rows = NamedSharding(make_mesh(MeshShape(data=4)), PartitionSpec('data'))
decoder, batch = Hashing().decoder(), lay([[1, 2], [3], [4, 5, 6], [7], [8], [9, 1], [2], [3, 3]])
for settings in METHODS:
  placed = generate(decoder, None, jax.device_put(batch, rows), settings)
  for one, other in zip(generate(decoder, None, batch, settings), placed, strict=True):
    assert np.allclose(one, other, atol=1e-5), settings
"""


@pytest.mark.slow
def test_on_a_mesh_it_is_the_same():
  folder = pathlib.Path(__file__).resolve().parent
  fake_devices.run(MESH.format(tests=str(folder)), count=4)
