"""One number for a benchmark: the mean over its tasks, never over fewer."""

import pytest

from tl_jax.tasks import suites


def full(benchmark, value=0.5):
  found = {}
  for wanted in suites.METRICS[benchmark].values():
    for name, metric in wanted:
      found.setdefault(name, {})[metric] = value
  return found


def test_glue_is_the_mean_over_nine_tasks_of_the_mean_of_their_metrics():
  found = full('glue')
  found['mrpc'] = dict(f1=0.9, accuracy=0.7)
  found['mnli']['accuracy'] = 0.7
  # MRPC counts with the mean of two metrics, MNLI with that of two tests.
  assert suites.mean_score('glue', found) == pytest.approx((7 * 0.5 + 0.8 + 0.6) / 9)


@pytest.mark.parametrize('benchmark', suites.METRICS)
def test_there_is_no_mean_over_fewer_tasks(benchmark):
  assert suites.mean_score(benchmark, full(benchmark)) == pytest.approx(0.5)
  for name in full(benchmark):
    fewer = full(benchmark)
    del fewer[name]
    with pytest.raises(ValueError, match=f'of {name!r}'):
      suites.mean_score(benchmark, fewer)
