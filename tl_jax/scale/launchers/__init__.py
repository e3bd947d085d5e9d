"""Launchers of sweeps: the text that a cluster's tool takes, of the members to be run.

>>> from tl_jax.scale.launchers import LAUNCHERS
>>> sorted(LAUNCHERS)
['jobset', 'skypilot', 'slurm', 'xpk']

No tool is a dependency: where it is installed it is called as a process of its own, and
elsewhere the text and the command lie in the sweep's workdir. Every launcher runs
`tl-jax sweep SWEEP.py --workdir=W --member=N`, which exits with 75 after it has saved,
and so asks to be started again.
"""

from tl_jax.scale.launchers.jobset import JOBSET
from tl_jax.scale.launchers.launch import Emitted, Launch, Launcher, Work, read
from tl_jax.scale.launchers.skypilot import SKYPILOT
from tl_jax.scale.launchers.slurm import SLURM
from tl_jax.scale.launchers.xpk import XPK

LAUNCHERS = {
  'slurm': SLURM,
  'xpk': XPK,
  'jobset': JOBSET,
  'skypilot': SKYPILOT,
}

__all__ = ['LAUNCHERS', 'Emitted', 'Launch', 'Launcher', 'Work', 'read']
