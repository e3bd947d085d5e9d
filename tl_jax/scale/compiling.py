"""Programs compiled for devices that are not here.

>>> needed_of('HLO temporaries (15.97G) exceeds available HBM (15.75G)')
17147656929
"""

import re
import time
from typing import NamedTuple

import jax

from tl_jax import parallel
from tl_jax.scale.topology import hushed
from tl_jax.train.programs import Program

# How hard the compiler tries; -1.0 is the least, and takes a fifth of the time.
EFFORTS = dict(low=-1.0, full=None)
# Devices call themselves otherwise than programs for them do.
LOWERED_AS = dict(gpu='cuda')
_UNITS = dict(K=2**10, M=2**20, G=2**30, T=2**40)


class TooLarge(Exception):
  """The compiler finds no place for the arrays. needed: bytes, as far as it says."""

  def __init__(self, message: str):
    super().__init__(message)
    self.needed = needed_of(message)


class Built(NamedTuple):
  """A compiled program. text: of its instructions. memory: bytes by what they are for;
  seconds: of the processor, to lower and compile it.
  """

  text: str
  memory: dict[str, int]
  seconds: float


def needed_of(message: str) -> int:
  """The bytes that a compiler's complaint names first; 0 where it names none."""
  found = re.search(r'\(?(\d+(?:\.\d+)?)([KMGT])i?B?\)?', message)
  if not found:
    return 0
  return int(float(found.group(1)) * _UNITS[found.group(2)])


def trace(program: Program, mesh):
  """The traced function of a program, on the mesh that it is for."""
  with parallel.in_force(mesh):
    return program.function.trace(*program.arguments)


def build(traced, mesh, effort: str = 'low') -> Built:
  """Compiles what was traced. Raises TooLarge where the memory does not suffice."""
  # Nothing said is the full effort.
  options = {}
  if EFFORTS[effort] is not None:
    options['exec_time_optimization_effort'] = EFFORTS[effort]
  platform = mesh.devices.flat[0].platform
  began = time.process_time()
  try:
    with jax.set_mesh(mesh), hushed():
      lowered = traced.lower(lowering_platforms=(LOWERED_AS.get(platform, platform),))
      compiled = _compile(lowered, options)
  except jax.errors.JaxRuntimeError as error:
    message = str(error)
    # Any other complaint is a fault of the program, not of its size.
    if 'RESOURCE_EXHAUSTED' not in message:
      raise
    raise TooLarge(message) from error
  seconds = time.process_time() - began
  return Built(compiled.as_text(), memory_of(compiled), seconds)


def _compile(lowered, options: dict):
  """Compiles with these options, or without where the compiler does not know them."""
  try:
    return lowered.compile(compiler_options=options)
  except jax.errors.JaxRuntimeError as error:
    # That of a CPU has had no effort to choose since jax 0.12.
    if 'No such compile option' not in str(error):
      raise
  return lowered.compile()


def memory_of(compiled) -> dict[str, int]:
  """What the compiler says of a program's memory on one device, in bytes.

  needed: what must be there at once. Results that are written over arguments count
  once.
  """
  found = compiled.memory_analysis()
  arguments = found.argument_size_in_bytes
  temporaries = found.temp_size_in_bytes
  results = found.output_size_in_bytes - found.alias_size_in_bytes
  code = found.generated_code_size_in_bytes
  return dict(
    arguments=arguments,
    temporaries=temporaries,
    results=results,
    code=code,
    peak=getattr(found, 'peak_memory_in_bytes', 0),
    needed=arguments + temporaries + results + code,
  )
