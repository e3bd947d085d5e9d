"""The share of its time that a run waits for rows is in its figures."""

import json
import time

import pytest

from tl_jax import config, train
from tl_jax.data import pipeline
from tl_jax.train import reporter

SMALL = [
  ('model', "{'family': 'tiny', 'layers': 1}"),
  ('tokenizer.size', '300'),
  ('data.mixture', "{'vader_movie': 1.0}"),
  ('data.batch', '4'),
  ('data.accumulate', '1'),
  ('schedule.steps', '12'),
  ('schedule.warmup', '1'),
  ('log', "{'every': 12, 'tensorboard': False}"),
]


def test_a_meter_counts_from_one_reading_to_the_next(monkeypatch):
  now = [100.0]
  monkeypatch.setattr(reporter.time, 'monotonic', lambda: now[0])
  meter = reporter.Meter()
  for waited in (0.5, 1.0):
    meter.wait(waited)
    meter.add(300)
  now[0] = 104.0
  found = meter.read()
  assert found == dict(tokens_per_second=150.0, waiting_share=0.375)
  # Nothing came since.
  assert meter.read() == found
  meter.add(10)
  now[0] = 105.0
  assert meter.read() == dict(tokens_per_second=10.0, waiting_share=0.0)


def waiting_share(folder):
  train.run(config.load('configs/pretrain.py:tiny', SMALL), folder)
  (row,) = map(json.loads, (folder / 'metrics.jsonl').read_text().splitlines())
  return row['waiting_share']


def test_slow_rows_are_waited_for(tmp_path, monkeypatch):
  read = pipeline.Stream.batch_at

  def slowly(self, step, rows=None):
    time.sleep(0.3)
    return read(self, step, rows)

  monkeypatch.setattr(pipeline.Stream, 'batch_at', slowly)
  # Two threads read ahead, so that twelve batches take 1.8 seconds at least.
  assert waiting_share(tmp_path) > 0.2


def test_an_error_of_a_thread_that_reads_ends_the_run(tmp_path, monkeypatch):
  read = pipeline.Stream.batch_at

  def broken(self, step, rows=None):
    if step == 3:
      raise ValueError('texts.jsonl:7: no text')
    return read(self, step, rows)

  monkeypatch.setattr(pipeline.Stream, 'batch_at', broken)
  with pytest.raises(ValueError, match='texts.jsonl:7: no text'):
    waiting_share(tmp_path)
