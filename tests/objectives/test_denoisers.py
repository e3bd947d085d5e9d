"""UL2's denoisers: each in its rate, with the counts of T5 and the modes of UL2."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tl_jax.objectives import DENOISERS, denoisers, joined_denoisers
from tl_jax.objectives.span import count_tables

PAD, EOS, LENGTH = 0, 1, 64
SENTINELS = tuple(range(999, 899, -1))
OTHERS = [name for name in DENOISERS if name != 'x3_50']
MODES = {'[NLU]': (5,), '[NLG]': (6, 6), '[S2S]': (7, 7, 7)}


def build(mixture=None, make=denoisers, **more):
  objective = make(
    sentinels=SENTINELS,
    pad_id=PAD,
    eos_id=EOS,
    encode=MODES.get,
    mixture=mixture,
    **more,
  )
  return objective._replace(prepare=jax.jit(objective.prepare))


def texts(rows, length=LENGTH):
  tokens = jnp.broadcast_to(jnp.arange(10, 10 + length), (rows, length))
  return {'tokens': tokens}


def of_row(out, row, number=1):
  """The texts of a segment: what the encoder reads, and what is to be written."""
  encoder = out['tokens'][row][out['segments'][row] == number].tolist()
  target = out['targets'][row][out['decoder_segments'][row] == number].tolist()
  return encoder, target


def restored(encoder, target):
  """The text of spans that were cut out, and how many they were."""
  cuts = {}
  for token in target[:-1]:
    if token in SENTINELS:
      last = cuts.setdefault(token, [])
    else:
      last.append(token)
  text = [token for piece in encoder[:-1] for token in cuts.get(piece, [piece])]
  return text, len(cuts)


@pytest.fixture(scope='module')
def drawn():
  """Four thousand texts under the mixture: (the batch, the mode and the lost of each)."""
  rows = 4000
  objective = build(length=2 * LENGTH)
  out = jax.device_get(objective.prepare(jax.random.key(1), texts(rows)))
  firsts = out['tokens'][:, 0]
  numbers = (out['targets'] >= 10) & (out['targets'] < 10 + LENGTH)
  spans = (out['targets'] >= 900) & (out['decoder_segments'] > 0)
  return out, firsts, numbers.sum(1), spans.sum(1)


def test_the_seven_denoisers_come_in_their_rates(drawn):
  _, firsts, lost, spans = drawn
  rows = len(firsts)
  seen = 0
  for name, way in DENOISERS.items():
    (mode, *_) = MODES[way.mode]
    is_way = firsts == mode
    if way.rate:
      tables = count_tables(way.rate, way.mean, LENGTH, len(SENTINELS))
      is_way &= (lost == tables[0][-1]) & (spans == tables[1][-1])
    count = is_way.sum()
    # Of 64 tokens the counts of all but one differ: 10 tokens in one span of 8 or 64.
    assert abs(count - rows / 7) < 4 * (rows * 6 / 49) ** 0.5, name
    seen += count
  assert seen == rows


def test_whatever_was_cut_can_be_put_back(drawn):
  out, firsts, _, _ = drawn
  whole = list(range(10, 10 + LENGTH))
  for row in range(60):
    encoder, target = of_row(out, row)
    (mode,) = [ids for ids in MODES.values() if ids[0] == firsts[row]]
    assert tuple(encoder[: len(mode)]) == mode
    encoder = encoder[len(mode) :]
    assert encoder[-1] == target[-1] == EOS
    if mode == MODES['[S2S]']:
      assert encoder[:-1] + target[:-1] == whole
      assert len(encoder) > 1 < len(target)
    else:
      text, spans = restored(encoder, target)
      assert text == whole and spans
    read = out['decoder_tokens'][row][: len(target)].tolist()
    assert read == [PAD, *target[:-1]]


@pytest.mark.slow
def test_every_length_of_a_prefix_is_as_likely():
  objective = build({'s': 1.0}, modes=False)
  out = objective.prepare(jax.random.key(0), texts(3000, 11))
  prefixes = np.asarray((out['segments'] > 0).sum(1) - 1)
  counts = np.bincount(prefixes, minlength=11)
  assert counts[0] == 0 and len(counts) == 11
  assert abs(counts[1:] - 300).max() < 4.5 * (3000 * 0.09) ** 0.5


def test_a_text_of_one_token_is_only_read():
  batch = {'tokens': jnp.array([[9, 0]]), 'segments': jnp.array([[1, 0]])}
  out = build({'s': 1.0}, modes=False).prepare(jax.random.key(0), batch)
  assert of_row(out, 0) == ([9, EOS], [EOS])


@pytest.mark.slow
def test_the_segments_of_a_row_draw_denoisers_of_their_own():
  segments = jnp.broadcast_to(jnp.repeat(jnp.arange(1, 5), 16), (200, LENGTH))
  batch = {**texts(200), 'segments': segments}
  out = build(length=2 * LENGTH).prepare(jax.random.key(3), batch)
  out = jax.device_get(out)
  firsts = np.array(
    [
      [of_row(out, row, number)[0][0] for number in range(1, 5)]
      for row in range(0, 200, 10)
    ]
  )
  assert set(firsts.ravel().tolist()) == {5, 6, 7}
  assert (firsts != firsts[:, :1]).any()
  assert out['positions'][0][out['segments'][0] == 2].min() == 0


@pytest.mark.parametrize(
  'name', [pytest.param(name, marks=pytest.mark.slow) for name in DENOISERS]
)
def test_no_text_takes_more_than_is_said(name):
  objective = build({name: 1.0}, length=2 * LENGTH)
  sizes = np.arange(1, LENGTH + 1)
  rows = np.arange(LENGTH) < sizes[:, None]
  batch = {'tokens': np.where(rows, 20, PAD), 'segments': rows.astype(np.int32)}
  made = objective.prepare(jax.random.key(0), batch)
  taken = np.asarray((made['segments'] > 0).sum(1))
  limit = objective.inputs(sizes)
  assert (taken <= limit).all()
  # Of cut spans the count is exact; what is written always has room.
  assert name == 's' or (taken == limit).all()
  ends = (made['targets'] == EOS) & (made['decoder_segments'] > 0)
  assert (ends.sum(1) == 1).all()


def test_a_mixture_takes_what_its_widest_denoiser_takes():
  sizes = [40, 64]
  alone = [build({name: 1.0}).inputs(sizes) for name in ('r3_15', 's')]
  both = build({'r3_15': 1.0, 's': 2.0, 'x3_50': 0.0}).inputs(sizes)
  assert both.tolist() == np.max(alone, 0).tolist()


@pytest.mark.slow
def test_a_weight_of_zero_leaves_a_denoiser_out():
  out = build({'r3_15': 1.0, 's': 0.0}).prepare(jax.random.key(0), texts(50))
  assert (np.asarray(out['tokens'])[:, 0] == 5).all()


def test_joined_texts_are_those_of_two_stacks_one_behind_the_other():
  """Whatever was cut, in rows of several segments: what is read, then what is written."""
  segments = jnp.array([[1] * 20 + [2] * 30 + [0] * 14] * 3)
  batch = {**texts(3), 'segments': segments}
  key = jax.random.key(2)
  two = jax.device_get(build(length=128, targets=128).prepare(key, batch))
  one = build(make=joined_denoisers, length=128).prepare(key, batch)
  one = jax.device_get(one)
  assert not [name for name in one if name.startswith('decoder')]
  for row in range(3):
    for number in (1, 2):
      encoder, target = of_row(two, row, number)
      own = one['segments'][row] == number
      assert one['tokens'][row][own].tolist() == encoder + target
      seen = [1] * len(encoder) + [0] * len(target)
      assert one['seen'][row][own].tolist() == seen
      assert one['positions'][row][own].tolist() == list(range(len(seen)))
      # Each token of the target from the one before it, the first from the prefix's end.
      asked = own & (one['target_weights'][row] > 0)
      assert one['targets'][row][asked].tolist() == target
    padding = one['segments'][row] == 0
    assert not one['seen'][row][padding].any()
    assert not one['target_weights'][row][padding].any()


@pytest.mark.parametrize(
  'name',
  ['x3_50', *(pytest.param(name, marks=pytest.mark.slow) for name in OTHERS)],
)
def test_joined_texts_take_what_is_said(name):
  objective = build({name: 1.0}, joined_denoisers, length=3 * LENGTH)
  sizes = np.arange(1, LENGTH + 1)
  rows = np.arange(LENGTH) < sizes[:, None]
  batch = {'tokens': np.where(rows, 20, PAD), 'segments': rows.astype(np.int32)}
  made = objective.prepare(jax.random.key(0), batch)
  taken = np.asarray((made['segments'] > 0).sum(1))
  np.testing.assert_array_equal(taken, objective.inputs(sizes))


@pytest.mark.parametrize(
  ('more', 'message'),
  [
    (dict(mixture={'s': 0.0}), 'mixture: no denoiser has a weight above 0'),
    (dict(mixture={'r3_16': 1.0}), "mixture: unknown name 'r3_16'.*'r3_15'"),
    (dict(sentinels=()), 'sentinels: '),
  ],
)
def test_refusals_name_the_argument(more, message):
  given = dict(sentinels=SENTINELS, pad_id=PAD, eos_id=EOS, encode=MODES.get)
  with pytest.raises(ValueError, match=message):
    denoisers(**{**given, **more})
