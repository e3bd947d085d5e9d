"""The list of what a run compiles: nothing is compiled beside it, states are donated."""

import ast
import pathlib

import jax
import numpy as np
import pytest

from tl_jax import config, parallel
from tl_jax import train as room
from tl_jax.train import mixtures, preparing, programs, running
from tl_jax.train.checks import check
from tl_jax.train.starting import Own

SMALL = [
  ('model', "{'family': 'tiny', 'layers': 1}"),
  ('tokenizer.size', '300'),
  ('data.mixture', "{'vader_movie': 1.0}"),
  ('data.batch', '4'),
  ('unigram_bias', 'true'),
]


def test_nothing_in_the_room_is_jitted_beside_the_list():
  folder = pathlib.Path(room.__file__).parent
  found = set()
  for path in folder.glob('*.py'):
    for node in ast.walk(ast.parse(path.read_text())):
      if isinstance(node, ast.Attribute) and node.attr in ('jit', 'pjit'):
        found.add(path.name)
  assert found == {'programs.py'}


def test_pre_training_starts_by_the_same_program_as_a_transfer(tmp_path):
  checked = check(config.load('configs/pretrain.py:tiny', SMALL))
  settings = checked.settings
  ready = preparing.prepare(checked, tmp_path)
  mesh = running.make_mesh(settings.mesh, settings.data)
  with jax.set_mesh(mesh):
    shardings = programs.state_shardings(ready.parts, mesh, settings.sharding)
    first = programs.first_state(ready.start.state, shardings)
    state = first(ready.given(), Own.of(settings))
    # Where the texts' frequencies start the bias, a frequent token has a larger one.
    bias = np.asarray(state.trainable['head']['bias'])
    assert bias.std() > 0
    step = programs.step(ready.parts, shardings, parallel.batch_sharding(mesh))
    batch = ready.corpus.stream(settings)[0].batch_at(0)
    placed = parallel.place(batch, parallel.batch_sharding(mesh))
    # Whatever the step can write in place, it is given for that.
    donated = jax.tree.leaves(step.lower(state, placed).args_info[0][0])
  assert all(leaf.donated for leaf in donated)


def test_a_run_that_goes_on_counts_no_frequencies(tmp_path, monkeypatch):
  checked = check(config.load('configs/pretrain.py:tiny', SMALL))
  settings = checked.settings
  ready = preparing.prepare(checked, tmp_path)
  counted = []
  monkeypatch.setattr(
    mixtures, 'log_frequencies', lambda *_: counted.append(1) or np.zeros(300)
  )
  trainer = running.Trainer(ready, running.make_mesh(settings.mesh, settings.data))
  # A resumed run takes its state from a checkpoint, whatever its texts are like.
  assert not counted
  assert trainer.given.bias.shape == (300,) and counted


@pytest.mark.parametrize(
  ('flags', 'backend', 'expected'),
  [
    ('', 'cpu', {programs.EFFORT: 1}),
    ('', 'gpu', None),
    (f'--{programs.EFFORT}=2', 'cpu', None),
  ],
)
def test_programs_for_a_cpu_are_compiled_with_less_effort(
  monkeypatch, flags, backend, expected
):
  monkeypatch.setenv('XLA_FLAGS', flags)
  monkeypatch.setattr(jax, 'default_backend', lambda: backend)
  assert programs.compiler_options() == expected
