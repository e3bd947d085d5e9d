"""Many short transfers as one: members that differ in what is data to a step share one
compiled step.

Each member is a run like any other, with a workdir of its own: config, metrics,
checkpoints, account, tokenizer, predictions, result. Nothing it computes depends on who
else is in the cohort, unless they are compared on their way (`Halving`). On
accelerators the members advance together, by `vmap` of the step with the frozen base
shared. On a CPU, which one member already fills, they advance in turn through the same
executable; where a step has few tokens, several together fill it better: of a MiniLM
with LoRA, 16 members took 0.74 times the CPU time of turns with 64 tokens each, 0.9
times with 256, and 1.2 times where their activations left the cache.

>>> from tl_jax import config
>>> spec = 'configs/transfer.py:task=sentiment'
>>> one, other = (config.load(spec, [('seed', seed)]) for seed in '12')
>>> signature(one) == signature(other)
True
"""

import pathlib
from collections.abc import Iterable
from typing import Any

import jax

from tl_jax import config as configs
from tl_jax import parallel
from tl_jax.train import methods, weighting
from tl_jax.train.checks import check, read
from tl_jax.train.halving import Halving
from tl_jax.train.member import Member
from tl_jax.train.reporter import NULL_REPORTER, Reporter
from tl_jax.train.results import survived
from tl_jax.train.running import make_trainer, run
from tl_jax.train.settings import Pretrain, Settings
from tl_jax.train.together import train_together
from tl_jax.train.workdir import open_run

# What members of one cohort may differ in: all of it is data to the step.
OF_EXAMPLES = (('seed',), ('task', 'labels'))
OF_COURSE = (
  ('optim', 'lr'),
  ('optim', 'decay'),
  ('schedule',),
  ('eval', 'patience'),
  ('eval', 'keep'),
)
# On a CPU members advance together where each has so few tokens in a step, and so many
# of them that they have these in all: more leave the cache.
FEW_TOKENS = 128
WAVE_TOKENS = 1024


def signature(config) -> str:
  """Equal for configs that one compiled step can serve.

  They may differ in seed, number of labels, rate, decay, schedule with its length, and
  in what ends them. What balances the classes depends on the examples: there members
  differ in none that choose examples, for one program has one loss.
  """
  plain = configs.to_json(config)
  own = OF_EXAMPLES + OF_COURSE
  if plain.get('task', {}).get('weights') == weighting.BALANCED:
    own = OF_COURSE
  for *groups, key in own:
    node = plain
    for group in groups:
      node = node.get(group, {})
    node.pop(key, None)
  return configs.digest(plain)


def execute(
  runs: Iterable[tuple[Any, pathlib.Path]],
  reporter: Reporter = NULL_REPORTER,
  together: bool | None = None,
  halving: Halving | None = None,
) -> None:
  """Runs every (config, folder), those of one signature as a cohort; each folder gets
  its result.json.

  A run that is finished is left as it is; one that an earlier start has left halfway
  goes on. A member that cannot be made leaves failed.json with the reason, and the
  others go on.

  Args:
    together: do the members of a cohort advance together? None: where there are
      accelerators, where the mesh spreads members over devices, and where a step has
      few tokens.
    halving: at which steps only the best of each signature go on. The others are
      finished there: their results say so. Baselines, prompts and pre-training, which are
      not evaluated on validation, go on.
  """
  # Before anything asks for a device: several processes have to find each other first.
  parallel.start()
  parallel.keep_freed_memory()
  groups: dict[str, list[Member]] = {}
  for config, folder in runs:
    folder = pathlib.Path(folder)
    with survived(folder, reporter):
      # Of all members before the first is trained: what is wrong is said at once.
      member = Member(config, read(config), folder)
      groups.setdefault(signature(config), []).append(member)
  for members in groups.values():
    settings = members[0].settings
    if isinstance(settings, Pretrain):
      run_each(members, reporter, reporter)
    elif settings.method['name'] in methods.UNTRAINED:
      run_each(members, reporter, NULL_REPORTER)
    else:
      train_cohort(members, reporter, together, halving)


def run_each(members: list[Member], reporter: Reporter, inner: Reporter) -> None:
  """Calls run(config, folder, inner) for every member; `reporter` hears of those that
  cannot be.
  """
  for member in members:
    with survived(member.folder, reporter):
      run(member.config, member.folder, inner)


def run_cohort(
  group: list[tuple[Any, pathlib.Path]],
  reporter: Reporter = NULL_REPORTER,
  together: bool | None = False,
) -> None:
  """Trains the members of one signature, from (config, folder) each, and writes their
  results.
  """
  members = [
    Member(config, read(config), pathlib.Path(folder)) for config, folder in group
  ]
  train_cohort(members, reporter, together)


def train_cohort(
  members: list[Member],
  reporter: Reporter,
  together: bool | None,
  halving: Halving | None = None,
) -> None:
  """Trains the members of one signature."""
  settings = members[0].settings
  # Of members that are compared, all must come to a step before any goes on.
  if together is None:
    most = wave_size(settings, halving is not None)
  else:
    most = None if together else 1
  if most == 1 and halving is None:
    train_in_turn(members, reporter)
  else:
    train_together(members, reporter, most, halving)


def wave_size(settings: Settings, is_compared: bool = False) -> int | None:
  """How many members it pays to advance together; None for all of them.

  is_compared: must they in any case advance by parts of a run?
  """
  if is_spread(settings):
    return None
  tokens = settings.data.batch * settings.data.length
  # Several devices have been given parts of one run to do.
  is_small = tokens <= FEW_TOKENS and jax.device_count() == 1
  if not is_small and not is_compared:
    return 1
  return max(1, WAVE_TOKENS // tokens)


def is_spread(settings: Settings) -> bool:
  """Do all members advance together here: on accelerators, or where the mesh has an
  axis of members?
  """
  if parallel.target_platform() != 'cpu':
    return True
  try:
    return parallel.resolve(settings.mesh, jax.device_count())['cohort'] > 1
  except ValueError:
    return False  # the mesh does not fit: each member says so


def train_in_turn(members: list[Member], reporter: Reporter) -> None:
  """Each member to its end before the next, all through one executable."""
  trainer = None
  # Of a member nobody wants to read more than that the step is being compiled.
  quiet = NULL_REPORTER._replace(busy=reporter.busy)
  for number, member in enumerate(members, 1):
    with (
      survived(member.folder, reporter),
      open_run(member.config, member.folder) as opened,
    ):
      if opened.result(member.settings) is None:
        if trainer is None:
          # In the time of the member that needs it first.
          trainer = make_trainer(check(member.config), opened, cache=opened.path.parent)
        trainer.run(member.settings, opened, quiet)
    if trainer is not None:
      reporter.progress(trainer.ready.title, number, len(members))
