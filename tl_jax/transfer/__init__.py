"""Ways to transfer a pre-trained model: each a value of functions that says what is trained and what is held.

>>> import jax, jax.numpy as jnp
>>> params = {'dense': {'kernel': jnp.ones((8, 6)), 'bias': jnp.zeros(6)}}
>>> loss_fn = lambda params: jnp.sum(jnp.ones((2, 8)) @ params['dense']['kernel'] + params['dense']['bias'])
>>> method = lora(r'.*/kernel', rank=4)
>>> trainable, frozen = method.init(jax.random.key(1), params)
>>> grads = jax.grad(lambda t: loss_fn(method.merge(t, frozen)))(trainable)
>>> params = method.fuse(trainable, frozen)

A method works on any pytree of arrays, and importing this room loads jax and numpy, no model library.
"""

from tl_jax.transfer.composition import compose
from tl_jax.transfer.lora import lora
from tl_jax.transfer.method import HEAD, TransferMethod, leaf_edit, partition_method
from tl_jax.transfer.partitions import bitfit, full, last, norms, probe
from tl_jax.transfer.transplant import Account, transplant

# The methods that a config may name.
METHODS = {'full': full, 'probe': probe, 'bitfit': bitfit, 'norms': norms, 'last': last, 'lora': lora}

__all__ = [
    'Account', 'HEAD', 'METHODS', 'TransferMethod', 'bitfit', 'compose', 'full', 'last', 'leaf_edit', 'lora', 'norms',
    'partition_method', 'probe', 'transplant']
