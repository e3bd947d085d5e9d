"""Every family and head gives the numbers of transformers: states, logits, gradients; and goes back as it came.

What transformers computed lies in fixtures/parity, made by `reference.py`; `pytest -m slow` with torch and
transformers installed asks them again.
"""

import dataclasses
import functools
import json
import pathlib
import tempfile

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.interop import reference
from tl_jax import models, tree
from tl_jax.interop import load, names, save
from tl_jax.interop.tensors import open_tensors
from tl_jax.models import Arch

ALL = sorted(reference.CASES)
ORDER = ('masked', 'causal', 'classifier', 'replaced', 'none', 'encoder', 'token', 'span')
FAMILIES = sorted({case.variant.family for case in reference.CASES.values()})
ROOM = tempfile.TemporaryDirectory(prefix='tl_jax_parity_')


def cases_of(family):
  """The names of a family's cases, the most telling heads first."""
  found = [case for case in reference.CASES.values() if case.variant.family == family]
  return [case.name for case in sorted(found, key=lambda case: ORDER.index(case.head))]


# The plain form of each family, and those with another block.
PLAIN = [name for family in FAMILIES for name in cases_of(family)[:1]] + ['opt-350m-causal', 't5-1.1-causal']
POOLED = [name for name in ALL if name.endswith('classifier') and name.count('-') == 1] + [
    'bert-none', 'modernbert-silu-classifier', 'electra-replaced', 'bart-span']
GRADIENTS = [name if name in PLAIN else pytest.param(name, marks=pytest.mark.slow) for name in ALL]


@functools.cache
def opened(name):
  """(folder, loaded, batch, fixture) of a case; the weights are made here, of their names."""
  found = reference.read_fixture(name)
  folder = pathlib.Path(ROOM.name) / name
  reference.materialise(folder, found['config'], found['shapes'])
  batch = {key: jnp.asarray(value) for key, value in found['batch'].items()}
  return folder, load(folder), batch, found


def compute(model, params, batch):
  """{hidden, logits, pooled: array}, those that there are."""
  outputs = model.apply(params, batch)._asdict()
  return {name: value for name, value in outputs.items() if value is not None and name != 'examples'}


@functools.cache
def ours(name):
  _, loaded, batch, _ = opened(name)
  return jax.device_get(compute(loaded.model, loaded.params, batch))


def difference(left, right, mask):
  """The largest difference of two outputs where they count."""
  assert left.shape == right.shape
  distance = np.abs(np.asarray(left) - np.asarray(right))
  return distance[mask].max() if left.shape[:2] == mask.shape else distance.max()


def theirs(loaded, gradients):
  """Our tree of gradients under their names, in their shapes."""
  bare = loaded.arch.head == 'none' and loaded.config['architectures'] != ['T5EncoderModel']
  family, arch = loaded.config['model_type'], loaded.arch
  places = names.places(family, arch.head, loaded.params, gated=arch.gated, bare=bare)
  return names.to_theirs(places, tree.flatten(gradients))


def check_gradients(name, folder_loaded, batch, expected):
  """Compares a summary of every tensor's gradient. A sum that cancels is only as exact as its terms are large."""
  def total(params):
    outputs = compute(folder_loaded.model, params, batch)
    return reference.loss(batch, outputs, lambda value, weights: jnp.sum(value * weights))

  found = theirs(folder_loaded, jax.grad(total)(folder_loaded.params))
  # A tensor that no output depends on need not be a parameter of ours.
  assert set(expected) - set(found) <= {name for name, (norm, _) in expected.items() if norm == 0}
  assert set(found) <= set(expected)
  floor = 1e-6 * max(norm for norm, _ in expected.values())
  for tensor, gradient in found.items():
    norm, product = reference.summary(tensor, gradient)
    assert norm == pytest.approx(expected[tensor][0], rel=1e-3, abs=floor), tensor
    assert abs(product - expected[tensor][1]) <= 1e-3 * norm + 10 * floor, tensor


def test_fixtures_are_those_of_the_cases():
  files = sorted(reference.FIXTURES.glob('*.npz'))
  assert [file.stem for file in files] == ALL
  assert sum(file.stat().st_size for file in files) <= reference.TOTAL_BYTES


@pytest.mark.parametrize('name', ALL)
def test_outputs_are_theirs(name):
  expected = opened(name)[3]['expected']
  mask = reference.real(opened(name)[2])
  found = ours(name)
  assert set(found) == set(expected)
  assert {key: value for key in expected if (value := difference(found[key], expected[key], mask)) >= 1e-4} == {}


@pytest.mark.parametrize('name', GRADIENTS)
def test_gradients_are_theirs(name):
  _, loaded, batch, found = opened(name)
  check_gradients(name, loaded, batch, found['gradients'])


# What may be written otherwise than it was read, because it says the same of this head, and where.
REWORDED = {
    'n_inner': 'gpt2', 'local_attention': 'modernbert', 'num_decoder_layers': 't5', 'scale_decoder_outputs': 't5',
    'tie_word_embeddings': ''}


def stored(folder):
  file = open_tensors(folder)
  return {name: (file.read(name).dtype.str, file.shape(name), file.read(name).tobytes()) for name in file.names}


@pytest.mark.parametrize('name', ALL)
def test_what_is_saved_is_what_was_read(name, tmp_path):
  folder, loaded, _, _ = opened(name)
  save(tmp_path, loaded)
  before, after = stored(folder), stored(tmp_path)
  assert sorted(before) == sorted(after)
  assert [name for name in before if before[name] != after[name]] == []
  before, after = (json.loads((path / 'config.json').read_text()) for path in (folder, tmp_path))
  changed = {key for key in before if json.dumps(before[key]) != json.dumps(after.get(key))}
  assert all(before['model_type'].startswith(REWORDED.get(key, 'nowhere')) for key in changed), changed
  assert load(tmp_path).arch == loaded.arch


def packed(batch):
  """(the batch without positions, all its rows in one row, without padding)."""
  apart = {name: value for name, value in batch.items() if not name.endswith('positions')}
  together = {}
  for name in apart:
    segments = np.asarray(apart['decoder_segments' if name.startswith('decoder') else 'segments'])
    rows = np.arange(1, len(segments) + 1)[:, None]
    value = segments * rows if name.endswith('segments') else np.asarray(apart[name])
    together[name] = jnp.asarray(value[segments > 0])[None]
  return apart, together


@pytest.mark.parametrize('name', sorted({*PLAIN, *POOLED}))
def test_a_packed_row_is_its_examples_apart(name):
  _, loaded, batch, _ = opened(name)
  mask = reference.real(batch)
  apart, together = packed(batch)
  apart, together = (compute(loaded.model, loaded.params, each) for each in (apart, together))
  for key, value in apart.items():
    single = np.asarray(value)[mask] if value.shape[:2] == mask.shape else np.asarray(value)
    assert together[key][0].shape == single.shape
    assert np.abs(single - together[key][0]).max() <= 1e-5 * max(1.0, np.abs(single).max()), key


HAS_VOCABULARY = ('masked', 'causal')
# Field: the changes that each must move the outputs; none where this model does not read it or shapes would change.
FLIPS = dict(
    kind=lambda arch: [dict(kind='encoder' if arch.kind == 'decoder' else 'decoder')] * (
        arch.kind != 'encoder-decoder' and not arch.embedding_width),
    layer_groups=lambda arch: [dict(layer_groups=1)] * (arch.layer_groups > 1),
    heads=lambda arch: [dict(heads=arch.heads // 2, kv_heads=0, head_dim=2 * arch.head_width)] * (
        arch.key_heads == arch.heads and not arch.query_norm and arch.positions != 'relative'),
    gated=lambda arch: [dict(gated=False)],
    activation=lambda arch: [dict(activation='silu' if arch.activation == 'relu' else 'relu')],
    norm=lambda arch: [dict(norm='rms_shifted' if arch.norm == 'rms' else 'rms')],
    norm_eps=lambda arch: [dict(norm_eps=0.1)],
    norm_place=lambda arch: [dict(norm_place='before' if arch.norm_place == 'both' else 'after')] * (
        arch.norm_place != 'after'),
    query_norm=lambda arch: [dict(query_norm=False)],
    bias=lambda arch: [dict(bias='none')] * (arch.bias != 'none'),
    positions=lambda arch: [dict(positions='none')],
    position_offset=lambda arch: [dict(position_offset=arch.position_offset - 1)],
    rotary_base=lambda arch: [dict(rotary_base=3 * arch.rotary_base)],
    local_rotary_base=lambda arch: [dict(local_rotary_base=3 * arch.local_rotary_base)],
    rotary_scaling=lambda arch: [dict(rotary_scaling=())] + [
        dict(rotary_scaling=tuple(1.5 * number if i == at else number for i, number in enumerate(arch.rotary_scaling)))
        for at in range(len(arch.rotary_scaling))],
    relative_distance=lambda arch: [dict(relative_distance=40)],
    windows=lambda arch: [dict(windows=(0,)), dict(windows=tuple(window and window - 2 for window in arch.windows))] + [
        dict(windows=arch.windows[1:] + arch.windows[:1])] * (len(arch.windows) > 1) if any(arch.windows) else [
            dict(windows=(4,))],
    types=lambda arch: [dict(types=0)],
    embedding_norm=lambda arch: [dict(embedding_norm=False)],
    embedding_scale=lambda arch: [dict(embedding_scale=1.5 * arch.embedding_scale)],
    attention_scale=lambda arch: [dict(attention_scale=0.7 * (arch.attention_scale or arch.head_width ** -0.5))],
    attention_cap=lambda arch: [dict(attention_cap=0.0), dict(attention_cap=2 * arch.attention_cap)],
    logit_cap=lambda arch: [dict(logit_cap=0.0), dict(logit_cap=2 * arch.logit_cap)] * (arch.head in HAS_VOCABULARY),
    tied=lambda arch: [dict(tied=True)] * (not arch.tied and arch.head in HAS_VOCABULARY),
    output_scale=lambda arch: [dict(output_scale=1.0)] * (arch.head in HAS_VOCABULARY),
    pool=lambda arch: [dict(pool='mean' if arch.pool != 'mean' else 'first')] * (
        arch.head == 'classifier' or (arch.head == 'none' and arch.pools)),
    pooler=lambda arch: [dict(pooler='silu')] * arch.pools,
    head_activation=lambda arch: [dict(head_activation='tanh')] * (arch.head in ('masked', 'replaced')),
    head_bias=lambda arch: [dict(head_bias=False)] * (arch.head_bias and arch.head != 'none'))
ALWAYS = ('activation', 'norm_eps', 'positions', 'windows', 'attention_scale', 'head_bias', 'bias')
SHAPES = ('vocabulary', 'width', 'layers', 'decoder_layers', 'embedding_width', 'kv_heads', 'head_dim', 'mlp',
          'skip_first_norm', 'relative_buckets', 'max_positions', 'pooler_norm', 'labels', 'head')
UNREAD = ('init', 'init_std')


def set_fields(arch):
  """The fields that this architecture sets, and those that matter even as they are."""
  plain = Arch()
  return [field.name for field in dataclasses.fields(Arch)
          if field.name in ALWAYS or getattr(arch, field.name) != getattr(plain, field.name)]


def moved(name, change):
  """How far a change of fields moves what the last output of a case says."""
  _, loaded, batch, _ = opened(name)
  flipped = models.build(dataclasses.replace(loaded.arch, **change))
  found = compute(flipped, loaded.params, batch)
  return max(difference(found[key], ours(name)[key], reference.real(batch)) for key in found)


@pytest.mark.parametrize('family', FAMILIES)
def test_every_field_that_a_family_sets_matters(family):
  seen, idle = set(), []
  for name in cases_of(family):
    arch = opened(name)[1].arch
    for field in set_fields(arch):
      changes = FLIPS[field](arch) if field not in SHAPES + UNREAD else []
      key = (field, getattr(arch, field))
      if changes and key not in seen:
        seen.add(key)
        idle += [(name, change) for change in changes if not moved(name, change) > 1e-2]
  assert idle == []
  assert len(seen) >= 8


def test_every_field_is_flipped_or_excused():
  assert sorted([*FLIPS, *SHAPES, *UNREAD]) == sorted(field.name for field in dataclasses.fields(Arch))


@pytest.mark.slow
@pytest.mark.parametrize('name', ALL)
def test_transformers_agrees_today_and_opens_what_is_saved(name, tmp_path):
  pytest.importorskip('torch')
  pytest.importorskip('transformers')
  case, kept = reference.CASES[name], reference.read_fixture(name)
  found = reference.measure(case, tmp_path / 'theirs')
  assert {name: list(shape) for name, shape in found['shapes'].items()} == kept['shapes']
  loaded, batch = load(tmp_path / 'theirs'), found['batch']
  outputs, mask = compute(loaded.model, loaded.params, batch), reference.real(batch)
  assert set(outputs) == set(found['expected'])
  for key, value in found['expected'].items():
    assert difference(outputs[key], value, mask) < 1e-4, key
    assert difference(kept['expected'][key], value, mask) < 1e-4, f'the fixture is stale: {key}'
  check_gradients(name, loaded, batch, found['gradients'])
  save(tmp_path / 'ours', loaded)
  before, after = (reference.open_theirs(case, tmp_path / folder) for folder in ('theirs', 'ours'))
  left, right = before.state_dict(), after.state_dict()
  assert list(left) == list(right)
  assert [key for key in left if not left[key].equal(right[key])] == []
  left, right = (reference.run(case, model, batch) for model in (before, after))
  assert [key for key in left if not left[key].equal(right[key])] == []
