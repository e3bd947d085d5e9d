"""The step for TPUs that are not there: layers are held together in it, so that it does
not grow with them, and what nothing trains is read as it is.

Needs the compiler: pip install '.[test,tpu]'.
"""

import re

import chips
import jax
import jax.numpy as jnp
import pytest

from tl_jax import models, objectives, optim, parallel, transfer
from tl_jax.train import programs
from tl_jax.train import step as steps
from tl_jax.train.assembly import Components

pytestmark = pytest.mark.slow
SIZES = dict(width=512, heads=8, kv_heads=4, mlp=2048, vocabulary=4096)


@pytest.fixture(scope='module')
def mesh():
  """Four TPUs v5e, over which weights are cut."""
  shape = parallel.MeshShape(data=1, fsdp=-1)
  return parallel.make_mesh(shape, chips.devices())


def compiled(mesh, method, layers, frozen_dtype='float32', *, family='llama3.1-8b'):
  """The compiled step of a small Llama or BERT in bfloat16, 4 rows of 256 tokens."""
  rows, length = 4, 256
  head = 'masked' if family.startswith('bert') else 'causal'
  arch = models.arch(family, head=head, layers=layers, **SIZES)
  model = models.build(arch, models.Compute(dtype='bfloat16', remat='full'))
  objective = objectives.causal()
  if head == 'masked':
    special = (0, 1, 2, 3, 4)
    objective = objectives.masked(vocabulary=4096, mask_id=4, special_ids=special)
  tx = optim.make_optimizer(
    optim.OptimConfig(), optim.ScheduleConfig(name='constant', steps=10)
  )
  step = steps.make_step(model, objective, method, tx)

  def init(params, seed):
    return steps.init_state(params, method, tx, seed, frozen_dtype=frozen_dtype)

  parts = Components(model, objective, method, tx, init, step, ())
  with jax.set_mesh(mesh):
    shardings = programs.state_shardings(parts, mesh, 'fsdp')
    state = programs.abstract_state(parts, shardings)
    where = parallel.batch_sharding(mesh)
    tokens = jax.ShapeDtypeStruct((rows, length), jnp.int32, sharding=where)
    batch = dict(tokens=tokens, segments=tokens)
    traced = programs.step(parts, shardings, where).trace(state, batch)
    return traced.lower(lowering_platforms=('tpu',)).compile(
      compiler_options=chips.LOW_EFFORT
    )


@pytest.mark.parametrize('make', [transfer.full, lambda: transfer.lora(head=None)])
def test_the_program_does_not_grow_with_the_layers(mesh, make):
  few, many = (len(compiled(mesh, make(), count).as_text()) for count in (3, 9))
  assert many < 1.05 * few


@pytest.mark.parametrize(('family', 'count'), [('llama3.1-8b', 6), ('bert-base', 7)])
def test_a_frozen_base_is_read_as_it_is(mesh, family, count):
  """No copy of it, in float32 or at all, and no buffer of its own for the result.

  The last layer of BERT, which makes the columns that its head reads, is by itself.
  """
  method = transfer.lora(head=None)
  program = compiled(mesh, method, count, 'bfloat16', family=family)
  text = program.as_text()
  assert 'bf16[6,128,2048]' in text
  assert not re.search(r'f32\[(6,)?128,2048\]', text)
  made = re.findall(r'= bf16\[6,128,2048\]\S* ([a-z-]+)\(', text)
  assert set(made) <= {'parameter', 'get-tuple-element', 'bitcast'}
  memory = program.memory_analysis()
  # Donated: what is given is what comes back.
  assert memory.alias_size_in_bytes > 0.99 * memory.output_size_in_bytes


def test_a_layer_more_takes_no_temporary_but_what_the_gradient_needs(mesh):
  """With LoRA that is the state between two layers: 256 tokens of width 512 a chip."""
  sizes = []
  for count in (4, 12):
    program = compiled(mesh, transfer.lora(head=None), count, 'bfloat16')
    sizes.append(program.memory_analysis().temp_size_in_bytes)
  of_layer = (sizes[1] - sizes[0]) / 8
  between = 256 * 512 * 2
  base = (2 * 512 * 512 + 2 * 512 * 256 + 3 * 512 * 2048) * 2 / 4
  assert between <= 1.01 * of_layer < between + base / 4
