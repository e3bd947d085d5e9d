"""Ways to transfer a pre-trained model: each a value of functions that says what is
trained and what is held.

>>> import jax, jax.numpy as jnp
>>> params = {'dense': {'kernel': jnp.ones((8, 6)), 'bias': jnp.zeros(6)}}
>>> def loss_fn(params):
...   dense = params['dense']
...   return jnp.sum(jnp.ones((2, 8)) @ dense['kernel'] + dense['bias'])
>>> method = lora(r'.*/kernel', rank=4)
>>> trainable, frozen = method.init(jax.random.key(1), params)
>>> grads = jax.grad(lambda t: loss_fn(method.merge(t, frozen)))(trainable)
>>> params = method.fuse(trainable, frozen)

A method works on any pytree of arrays, and importing this room loads jax and numpy, no
model library.
"""

from tl_jax.transfer import merging
from tl_jax.transfer.adapters import adapter
from tl_jax.transfer.composition import compose
from tl_jax.transfer.fisher import fisher_diagonal
from tl_jax.transfer.growing import grow_depth, grow_width, shrink_depth
from tl_jax.transfer.ia3 import ia3
from tl_jax.transfer.lora import dora, lora, qlora
from tl_jax.transfer.method import (
  HEAD,
  OUTPUT,
  TransferMethod,
  leaf_edit,
  partition_method,
)
from tl_jax.transfer.partitions import POOLER, bitfit, full, last, norms, probe
from tl_jax.transfer.prefix import prefix
from tl_jax.transfer.prompt import prompt
from tl_jax.transfer.quantized import quantized
from tl_jax.transfer.rdrop import rdrop
from tl_jax.transfer.regularizers import (
  ewc,
  l2sp,
  mixout,
  prior_decay,
  reinitialize,
  unfreeze,
)
from tl_jax.transfer.regularizing import Regularizer, regularizer, with_fisher
from tl_jax.transfer.sparse import diff, subset
from tl_jax.transfer.transplant import Account, transplant
from tl_jax.transfer.vocabulary import transfer_vocabularies, transfer_vocabulary
from tl_jax.transfer.warmstart import encoder_decoder, shared, unshared, warm_arch

# The methods that a config may name.
METHODS = {
  # Some leaves as they are.
  'full': full,
  'probe': probe,
  'bitfit': bitfit,
  'norms': norms,
  'last': last,
  # Some leaves in an edited form.
  'subset': subset,
  'lora': lora,
  'dora': dora,
  'qlora': qlora,
  'ia3': ia3,
  'diff': diff,
  # New leaves beside those of the model.
  'adapter': adapter,
  'prompt': prompt,
  'prefix': prefix,
  # Regularizers, which train nothing of their own: they are composed with the others.
  'l2sp': l2sp,
  'prior_decay': prior_decay,
  'mixout': mixout,
  'ewc': ewc,
  'reinitialize': reinitialize,
  'rdrop': rdrop,
  'unfreeze': unfreeze,
}

__all__ = [
  'Account',
  'HEAD',
  'METHODS',
  'OUTPUT',
  'POOLER',
  'Regularizer',
  'TransferMethod',
  'compose',
  'encoder_decoder',
  'fisher_diagonal',
  'grow_depth',
  'grow_width',
  'leaf_edit',
  'merging',
  'partition_method',
  'quantized',
  'regularizer',
  'shared',
  'shrink_depth',
  'transfer_vocabularies',
  'transfer_vocabulary',
  'transplant',
  'unshared',
  'warm_arch',
  'with_fisher',
  *METHODS,
]
