"""What the compiler for GPUs must know of one that is not here.

The figures are those that a device of the kind reports of itself.

>>> 'core_count: 132' in target_config('h100')
True
"""

from tl_jax.config import lookup

# What all three have alike.
_COMMON = dict(
  threads_per_block_limit=1024,
  threads_per_warp=32,
  shared_memory_per_block=49152,
  threads_per_core_limit=2048,
  block_dim_limit_x=2147483647,
  block_dim_limit_y=65535,
  block_dim_limit_z=65535,
  registers_per_core_limit=65536,
  registers_per_block_limit=65536,
  thread_dim_limit_x=1024,
  thread_dim_limit_y=1024,
  thread_dim_limit_z=64,
)
_HOPPER = dict(
  shared_memory_per_core=233472,
  shared_memory_per_block_optin=232448,
  core_count=132,
  fpus_per_core=128,
  l2_cache_size=52428800,
  clock_rate_ghz=1.98,
)
_GPUS = {
  'h100': ('NVIDIA H100 80GB HBM3', 9, 84942979072, 3352320000000, _HOPPER),
  'h200': ('NVIDIA H200', 9, 150121545728, 4800000000000, _HOPPER),
  'a100': (
    'NVIDIA A100-SXM4-80GB',
    8,
    85100068864,
    2039040000000,
    dict(
      shared_memory_per_core=167936,
      shared_memory_per_block_optin=166912,
      core_count=108,
      fpus_per_core=64,
      l2_cache_size=41943040,
      clock_rate_ghz=1.41,
    ),
  ),
}


def target_config(name: str) -> str:
  """The description of a GPU as the text of XLA's GpuTargetConfigProto.

  Raises ConfigError for one that is not known here.
  """
  title, major, memory, bandwidth, own = lookup(_GPUS, name, '--topology')
  fields = _COMMON | own
  fields |= dict(device_memory_size=memory, memory_bandwidth=bandwidth)
  lines = [f'  {key}: {value}' for key, value in fields.items()]
  return '\n'.join(
    [
      'gpu_device_info {',
      *lines,
      f'  cuda_compute_capability {{ major: {major} }}',
      '}',
      'platform_name: "CUDA"',
      'dnn_version_info { major: 9 minor: 10 }',
      f'device_description_str: "{title}"',
      '',
    ]
  )
