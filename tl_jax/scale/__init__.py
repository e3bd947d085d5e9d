"""From one run to many and from one chip to a pod: search spaces, sweeps, launchers.

>>> from tl_jax.scale import space
>>> len(space.product(seed=range(3)) * space.fixed(seed2=1))
3
"""
