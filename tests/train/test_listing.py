"""The programs of a list are those that a run compiles."""

import jax
import pytest

from tl_jax import config, parallel
from tl_jax.train import listing
from tl_jax.train.outline import outline


@pytest.fixture(scope='module')
def mesh():
  return parallel.make_mesh(parallel.MeshShape(), jax.devices()[:1])


def run_of(spec, *overrides):
  return outline(config.load(spec, overrides))


def outputs(program, mesh):
  with jax.set_mesh(mesh):
    return program.function.eval_shape(*program.arguments)


def test_a_step_gives_back_its_state(mesh):
  run = run_of('configs/pretrain.py:tiny')
  program = listing.program_of('step', run, mesh)
  state, metrics = outputs(program, mesh)
  given = jax.tree.map(lambda leaf: leaf.shape, program.arguments[0])
  assert jax.tree.map(lambda leaf: leaf.shape, state) == given
  assert metrics['loss'].shape == ()


def test_a_task_of_labels_is_evaluated_by_its_outputs(mesh):
  run = run_of('configs/transfer.py:task=sentiment,method=probe')
  assert listing.names_of(run) == ('step', 'evaluation', 'features')
  logits = outputs(listing.program_of('evaluation', run, mesh), mesh)
  assert logits.shape == (16, 16, 2)
  features = outputs(listing.program_of('features', run, mesh), mesh)
  assert features.shape[:2] == (16, 16)


def test_what_is_written_is_as_long_as_the_task_says(mesh):
  run = run_of('configs/transfer.py:task=summary', ('data.target_length', '24'))
  program = listing.program_of('decoding', run, mesh)
  assert outputs(program, mesh).tokens.shape == (16, 1, 24)
  assert program.rounds == 23


def test_the_members_of_a_cohort_share_the_base_of_their_source(mesh):
  spec = 'configs/transfer.py:task=sentiment,method=lora,init=bert-small'
  program = listing.program_of('cohort', run_of(spec), mesh, members=3)
  state = program.arguments[0]
  base = state.frozen['layers']['0']['mlp']['in']['kernel']
  assert base.ndim == 2
  assert {leaf.shape[0] for leaf in jax.tree.leaves(state.trainable)} == {3}
  stepped, _ = outputs(program, mesh)
  # They are at one step, and each draws for itself.
  assert stepped.step.shape == () and stepped.key.shape == (3,)


def test_a_program_that_a_run_does_not_have_is_refused(mesh):
  with pytest.raises(ValueError, match="'decodin'"):
    listing.program_of('decodin', run_of('configs/pretrain.py:tiny'), mesh)
