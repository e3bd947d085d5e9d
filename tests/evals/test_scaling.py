"""Laws of scaling laws: published values, and constants that are found again."""

import dataclasses
import math

import numpy as np
import pytest

from tl_jax.evals import scaling
from tl_jax.evals.scaling import Law, Point

TRUE = Law(1.8, 200.0, 500.0, 0.33, 0.30)


def runs_of(law, noise=0.0, unique=math.inf, sizes=(1e5, 3e5, 1e6)):
  """Losses of runs of several sizes and lengths."""
  draw = np.random.default_rng(0)
  found = []
  for size in sizes:
    for tokens in (1e6, 2e6, 4e6, 8e6):
      seen = min(unique, tokens)
      loss = law.loss(size, tokens, seen) * math.exp(noise * draw.normal())
      found.append(Point(f'{size:g}', size, tokens, seen, loss))
  return found


def test_chinchilla_has_its_own_loss():
  """70B parameters and 1.4T tokens (Hoffmann et al. 2022)."""
  law = Law(1.69, 406.4, 410.7, 0.34, 0.28)
  assert law.loss(70e9, 1.4e12) == pytest.approx(1.9366, abs=1e-4)


def test_the_constrained_law_is_that_of_its_authors():
  """The two values that their README gives, to its last digits."""
  constants = [math.exp(number) for number in (0.6254804, 6.255414, 7.3049974)]
  law = Law(*constants, 0.3526596, 0.3526596, 15.387756, 5.309743)
  assert law.loss(6.34e9, 242e9, 25e9) == pytest.approx(2.2256440889984477, rel=1e-12)
  assert law.loss(8.67e9, 178e9, 25e9) == pytest.approx(2.2269634075087867, rel=1e-12)


def test_repeats_are_worth_less_and_less():
  law = dataclasses.replace(TRUE, repeats=15.0)
  fresh = [TRUE.loss(1e6, passes * 1e6) for passes in (1, 2, 4, 64, 4096)]
  again = [law.loss(1e6, passes * 1e6, 1e6) for passes in (1, 2, 4, 64, 4096)]
  assert again[0] == fresh[0]
  gaps = np.array(again) - np.array(fresh)
  assert (np.diff(gaps) > 0).all() and (np.diff(again) < 0).all()
  # Without repeats both forms are one.
  assert law.loss(1e6, 5e6, 1e9) == TRUE.loss(1e6, 5e6)


@pytest.mark.parametrize('constrained', [False, True])
def test_a_law_is_found_again(constrained):
  found = scaling.fit(runs_of(TRUE), constrained=constrained)
  for size, tokens in ((1e5, 8e6), (1e6, 1e6), (3e6, 3e7)):
    expected = TRUE.loss(size, tokens)
    assert found.loss(size, tokens) == pytest.approx(expected, rel=0.01)


def test_what_repeats_are_worth_is_found_where_runs_repeat():
  law = dataclasses.replace(TRUE, repeats=3.0)
  points = runs_of(law) + runs_of(law, unique=2.5e5)
  found = scaling.fit(points, constrained=True)
  assert found.repeats == pytest.approx(3.0, rel=0.2)
  plain = scaling.fit(points, constrained=False)
  expected = law.loss(1e6, 3e7, 2.5e5)
  error = abs(found.loss(1e6, 3e7, 2.5e5) - expected)
  assert error < 0.2 * abs(plain.loss(1e6, 3e7) - expected)


def test_one_size_says_nothing_of_others():
  found = scaling.fit(runs_of(TRUE, sizes=(1e6,)), constrained=False)
  assert found.a == 0.0
  assert found.loss(1e6, 3e7) == pytest.approx(TRUE.loss(1e6, 3e7), rel=0.03)
  with pytest.raises(ValueError, match='2 losses; a law is fitted to 3 or more'):
    scaling.fit(runs_of(TRUE)[:2], constrained=False)


def test_an_interval_grows_with_noise_and_with_distance(monkeypatch):
  monkeypatch.setattr(scaling, 'DRAWS', 30)

  def widths(noise):
    found = scaling.forecast(runs_of(TRUE, noise), constrained=False)
    assert found.held_back and len(found.errors) == 3
    ends = [found.at(1e6, tokens) for tokens in (8e6, 8e8)]
    assert all(one.low <= one.mean <= one.high for one in ends)
    return [one.high - one.low for one in ends]

  quiet, loud = widths(0.0005), widths(0.01)
  assert quiet[0] < loud[0] and quiet[1] < loud[1]
  assert loud[0] < loud[1]


def test_a_single_run_is_not_held_back(monkeypatch):
  monkeypatch.setattr(scaling, 'DRAWS', 5)
  found = scaling.forecast(runs_of(TRUE, sizes=(1e6,)), constrained=False)
  assert not found.held_back and len(found.errors) == 4


def run_of(losses, name='a', size=1e5):
  """The points of one run, evenly apart."""
  tokens = 1e5 * np.arange(1, len(losses) + 1)
  return [Point(name, size, n, n, x) for n, x in zip(tokens, losses, strict=True)]


def test_a_wrong_form_is_found_where_it_is_carried_on(monkeypatch):
  """Losses that fall by the logarithm of the tokens are no power law."""
  monkeypatch.setattr(scaling, 'DRAWS', 20)
  bent = lambda size, tokens: 9.0 + 30 / size**0.2 - 0.45 * math.log(tokens)
  points = []
  for size in (1e5, 3e5):
    for tokens in np.geomspace(1e6, 8e6, 7):
      points.append(Point(f'{size:g}', size, tokens, tokens, bent(size, tokens)))
  found = scaling.forecast(points, constrained=False)
  # Two sizes, each beyond a half and beyond a quarter of what is known.
  assert len(found.bends) == 4 and found.most == pytest.approx((3e5, 8e6, 1))
  far = found.at(1e5, 3.2e7)
  assert far.low <= bent(1e5, 3.2e7) <= far.high
  unaware = dataclasses.replace(found, bends=()).at(1e5, 3.2e7)
  assert far.high - far.low > 1.2 * (unaware.high - unaware.low)
  # More passes and parameters are as far away as more tokens.
  again, larger = found.at(1e5, 8e6, 2e6), found.at(1.2e6, 8e6)
  widths = [math.log(one.high / one.low) for one in (far, again, larger)]
  assert widths == pytest.approx([widths[0]] * 3, rel=0.25)
  # Where nothing is carried on, no distance counts.
  near = found.at(1e5, 8e6)
  assert near == dataclasses.replace(found, bends=()).at(1e5, 8e6)


def test_points_of_one_length_tell_no_bend(monkeypatch):
  monkeypatch.setattr(scaling, 'DRAWS', 5)
  points = [
    Point(f'{size}-{tokens}', size, tokens, tokens, TRUE.loss(size, tokens))
    for size in (1e5, 3e5, 1e6)
    for tokens in (1e6, 4e6)
  ]
  assert scaling.forecast(points, constrained=False).bends == ()


def test_few_errors_leave_open_how_large_the_next_one_is():
  shares = np.array([0.1, 0.9])
  few, many = (scaling._spread_of([0.01] * count, shares) for count in (2, 200))
  assert few[1] == pytest.approx(-few[0])
  assert few[1] == pytest.approx(0.01 * 1.886, rel=1e-3)
  assert many[1] == pytest.approx(0.01 * 1.286, rel=1e-3)


@pytest.mark.parametrize(
  ('losses', 'reason'),
  [
    ([4.0 * n**-0.1 + 1 for n in range(1, 13)], None),
    ([4.0, 3.6, 3.5, 3.55, 3.7, 3.9], 'its loss rose from 3.500 to 3.900'),
    # A plateau, and then something is understood.
    ([5.0, 4.2, 4.0, 3.9, 3.85, 3.8, 3.6, 3.4, 3.2], 'falls faster and faster'),
    # Three points could be noise.
    ([4.0, 3.9, 3.5], None),
  ],
)
def test_runs_that_are_no_law_are_named(losses, reason):
  found = scaling.doubts(run_of(losses))
  if reason is None:
    assert found == []
  else:
    [doubt] = found
    assert doubt.run == 'a' and reason in doubt.reason
