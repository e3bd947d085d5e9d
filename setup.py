"""Packaging: `pip install .` brings all that `tl-jax demo` needs, and the configs and
experiments with it.
"""

import pathlib

from setuptools import find_packages, setup

ROOT = pathlib.Path(__file__).parent
# jax 0.10 is the last for Python 3.11; newer Pythons take newer ones. Both ends are
# tested.
JAX = '>=0.10.1,<0.13'
TEXT = ['sacrebleu>=2.5', 'rouge-score>=0.1.2', 'jinja2>=3.1']


def read(name):
  path = ROOT / name
  return path.read_text(encoding='utf-8') if path.exists() else ''


setup(
  name='tl-jax',
  version='0.1.0',
  description='Pre-train language models in JAX and transfer them: full fine-tuning, adapters, LoRA and more.',
  long_description=read('README.md'),
  long_description_content_type='text/markdown',
  license='Apache-2.0',
  license_files=['LICENSE', 'NOTICE'],
  python_requires='>=3.11',
  # configs/ and experiments/ stand beside the package in the repository and inside it
  # in the wheel.
  packages=[
    *find_packages(include=['tl_jax', 'tl_jax.*']),
    'tl_jax.configs',
    'tl_jax.experiments',
    'tl_jax.experiments.benchmarks',
  ],
  package_dir={'tl_jax.configs': 'configs', 'tl_jax.experiments': 'experiments'},
  package_data={
    'tl_jax.data': ['embedded/*', 'embedded/**/*'],
    'tl_jax.scale': ['prices.json'],
    'tl_jax.report': ['page.css', 'published/*', 'published/**/*'],
  },
  entry_points={'console_scripts': ['tl-jax = tl_jax.cli.main:main']},
  install_requires=[
    f'jax{JAX}',
    'flax>=0.12.7,<0.13',
    'optax>=0.2.8,<0.3',
    'orbax-checkpoint>=0.12.8,<0.13',
    'tensorflow-datasets>=4.9.10,<4.10',
    'importlib_resources>=6.4',  # tensorflow-datasets needs it and does not say so
    'ml-collections>=1.1,<2',
    'grain>=0.2.18,<0.3',
    'array-record>=0.8.3',
    'absl-py>=2.1',
    'filelock>=3.13',  # jax bounds its cache of compiled programs with it
    'etils[epath]>=1.9.1',
    'numpy>=2.0',
    'pyarrow>=16',
    'scipy>=1.14',
    'tokenizers>=0.22',
    'rich>=13',
    'scikit-learn>=1.5',
    'matplotlib>=3.9',
    'tensorboardX>=2.6.2',
  ],
  extras_require={
    # Not bare libtpu: jax pins the libtpu that it was built with.
    'tpu': [f'jax[tpu]{JAX}'],
    'cuda12': [f'jax[cuda12]{JAX}'],
    'cuda13': [f'jax[cuda13]{JAX}'],
    # BLEU, chrF, ROUGE and chat templates, for tasks whose answers are text.
    'text': TEXT,
    # Tasks of EleutherAI's harness, on models of ours.
    'lm-eval': ['lm-eval>=0.4.13,<0.5'],
    # A cluster for `data prepare`. Not its extra `decont`, which brings torch: text of
    # evaluation sets is found by a step of ours.
    'corpus': ['datatrove[processing]>=0.10,<0.11'],
    # Models of llama.cpp.
    'gguf': ['gguf>=0.17'],
    # What ours is compared with and timed beside. A fixed torch: a range may bring
    # a build for GPUs of several GB.
    'bench': [
      'torch==2.13.0',
      'transformers>=5,<6',
      'peft>=0.21,<1',
      'sentencepiece>=0.2',
      'protobuf>=5',
    ],
    'test': [
      *TEXT,
      'pytest>=8',
      'pytest-xdist>=3.6',
      'hypothesis>=6.100',
      'ruff>=0.9',
      'equinox>=0.13',
      'gguf>=0.17',
      # What our files of tensors are compared with, byte by byte.
      'safetensors>=0.6',
      # What our entities are compared with.
      'seqeval>=1.2.2',
    ],
  },
  classifiers=[
    'Development Status :: 3 - Alpha',
    'Intended Audience :: Science/Research',
    'Programming Language :: Python :: 3.11',
    'Programming Language :: Python :: 3.12',
    'Programming Language :: Python :: 3.13',
    'Topic :: Scientific/Engineering :: Artificial Intelligence',
  ],
)
