"""Corpora prepared: filtered by quality, without duplicates and evaluation text, chosen.

>>> Corpus(sources={'a': 'a.jsonl'}).steps
('gopher', 'repetition', 'c4', 'fineweb', 'exact', 'near')
"""

from tl_jax.data.prepare.perplexity import Scorer
from tl_jax.data.prepare.running import prepare, require, submit
from tl_jax.data.prepare.settings import Corpus

__all__ = ['Corpus', 'Scorer', 'prepare', 'require', 'submit']
