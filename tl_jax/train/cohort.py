"""Many short transfers as one: members that differ in seed, labels or learning rate
share one compiled step.

Each member is a run like any other, with a workdir of its own: config, metrics,
checkpoints, account, tokenizer, predictions, result. Nothing it computes depends on who
else is in the cohort. On accelerators the members advance together, by `vmap` of the
step with the frozen base shared. On a CPU, which one member already fills, they advance
in turn through the same executable: measured there, vmap takes 1.3 times the CPU time
and 2.6 times the wall time of turns (width 128, 8 rows of 64, 5 members).

>>> from tl_jax import config
>>> spec = 'configs/transfer.py:task=sentiment'
>>> one, other = (config.load(spec, [('seed', seed)]) for seed in '12')
>>> signature(one) == signature(other)
True
"""

import pathlib
from collections.abc import Iterable
from typing import Any, NamedTuple

import jax

from tl_jax import checkpoint, evals, parallel
from tl_jax import config as configs
from tl_jax.train import weighting
from tl_jax.train.checks import check, read
from tl_jax.train.reporter import NULL_REPORTER, Reporter
from tl_jax.train.results import survived
from tl_jax.train.running import make_trainer, run
from tl_jax.train.settings import Pretrain, Settings
from tl_jax.train.stack import train_together
from tl_jax.train.workdir import open_run

# What members of one cohort may differ in: all of it is data to the step.
PER_MEMBER = (('seed',), ('task', 'labels'), ('optim', 'lr'), ('optim', 'decay'))


class Member(NamedTuple):
  """One run of a cohort: its config, the settings read from it, and where its files go."""

  config: Any
  settings: Settings
  folder: pathlib.Path


def signature(config) -> str:
  """Equal for configs that one compiled step can serve."""
  plain = configs.to_json(config)
  own = PER_MEMBER
  # How many steps an epoch has, and what balances the classes, depends on the examples:
  # one program has one schedule and one loss.
  has_epochs = plain.get('schedule', {}).get('epochs') is not None
  if has_epochs or plain.get('task', {}).get('weights') == weighting.BALANCED:
    own = [names for names in PER_MEMBER if names[0] == 'optim']
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
) -> None:
  """Runs every (config, folder), those of one signature as a cohort; each folder gets
  its result.json.

  A run that is finished is left as it is. A member that cannot be made leaves
  failed.json with the reason, and the others go on.

  Args:
    together: do the members of a cohort advance together? None: where there are
      accelerators, or the mesh spreads members over devices.
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
    elif settings.method['name'] in evals.BASELINES:
      run_each(members, reporter, NULL_REPORTER)
    else:
      train_cohort(members, reporter, together)


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
  members: list[Member], reporter: Reporter, together: bool | None
) -> None:
  """Trains the members of one signature. One that a former start has left halfway goes
  on by itself.
  """
  settings = members[0].settings
  if together is None:
    together = is_spread(settings)
  # Those that have ended would go on being computed until the last one has.
  if together and _ends_by_itself(settings):
    together = False
    many = f'{len(members)} members in turn, not together'
    reporter.info(f'{many}: each ends by its own validation')
  alone, fresh = members, []
  if together:
    # Members that advance together are at one step: whoever is further goes alone.
    alone = [member for member in members if _has_steps(member)]
    fresh = [member for member in members if not _has_steps(member)]
  train_in_turn(alone, reporter)
  if fresh:
    train_together(fresh, reporter)


def _ends_by_itself(settings: Settings) -> bool:
  """Does every member have a last or a best step of its own?"""
  return bool(settings.eval.patience) or settings.eval.keep == 'best'


def is_spread(settings: Settings) -> bool:
  """Do members advance together here: on accelerators, or where the mesh has an axis of
  members?
  """
  if jax.default_backend() != 'cpu':
    return True
  try:
    return parallel.resolve(settings.mesh, jax.device_count())['cohort'] > 1
  except ValueError:
    return False  # the mesh does not fit: each member says so


def _has_steps(member: Member) -> bool:
  return bool(checkpoint.Store(member.folder / 'checkpoints').steps())


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
