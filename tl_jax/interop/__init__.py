"""Checkpoints of others, in and out, without torch: Hugging Face folders, their
tokenizers, GGUF.

>>> FAMILIES['bert'].heads['masked']
'BertForMaskedLM'
"""

from tl_jax.interop import classifiers
from tl_jax.interop.families import FAMILIES
from tl_jax.interop.generation import generation_settings, text_ids
from tl_jax.interop.huggingface import Loaded, load, save, with_head
from tl_jax.interop.peft import load_adapter, save_adapter
from tl_jax.interop.tokenizers import load_tokenizer, save_tokenizer

__all__ = [
  'FAMILIES',
  'Loaded',
  'classifiers',
  'generation_settings',
  'load',
  'load_adapter',
  'load_tokenizer',
  'save',
  'save_adapter',
  'save_tokenizer',
  'text_ids',
  'with_head',
]
