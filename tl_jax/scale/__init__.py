"""From one run to many and from one chip to a pod: plans, search spaces, sweeps,
launchers.

>>> from tl_jax.scale import space, topology
>>> len(space.product(seed=range(3)) * space.fixed(seed2=1))
3
>>> topology.parse('v5e-16').devices
16
"""
