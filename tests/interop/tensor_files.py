"""Files of safetensors made by hand, and what opening them says and costs."""

import json
import os
import subprocess
import sys
import time

import numpy as np
import pytest

from tl_jax.interop import tensors
from tl_jax.interop.tensors import open_tensors

ONE = {'dtype': 'F32', 'shape': [1], 'data_offsets': [0, 4]}


on_linux = pytest.mark.skipif(
  not os.access('/proc/self/clear_refs', os.W_OK), reason='memory as Linux tells it'
)


SHARDS = {f'layer.{i}': np.full((2, i), i, np.float32) for i in range(1, 6)}


def write(path, header, data=b''):
  text = header if isinstance(header, bytes) else json.dumps(header).encode()
  path.write_bytes(len(text).to_bytes(8, 'little') + text + data)
  return path


def refused(path, *words, **options):
  start = time.process_time()
  with pytest.raises(ValueError) as caught:
    open_tensors(path, **options)
  message = str(caught.value)
  assert time.process_time() - start < 2
  assert '\n' not in message and len(message) < 700 and message.isprintable(), message
  assert all(word in message for word in words), message


def same(found, wanted):
  wanted = np.asarray(wanted, wanted.dtype.newbyteorder('<'))
  return (
    found.dtype == wanted.dtype
    and found.shape == wanted.shape
    and found.tobytes() == wanted.tobytes()
  )


def measured(folder, script):
  """Peak growth of a process's memory in MB, seconds of its processor, and what the
  function `run` of a script says.
  """
  script = f"""
import time, numpy as np
from tl_jax.interop.tensors import *
peak = lambda key: int(open('/proc/self/status').read().split(key)[1].split()[0]) / 1024
{script}
open('/proc/self/clear_refs', 'w').write('5')
before, start = peak('VmRSS:'), time.process_time()
said = run()
print(peak('VmHWM:') - before, time.process_time() - start, said)"""
  done = subprocess.run(
    [sys.executable, '-c', script],
    capture_output=True,
    text=True,
    timeout=120,
    check=True,
    env={**os.environ, 'PYTHONPATH': tensors.__file__.split('tl_jax')[0]},
    cwd=folder,
  )
  megabytes, seconds, said = done.stdout.split(maxsplit=2)
  return float(megabytes), float(seconds), said
