"""The verb `sweep`: many runs from one file, in cohorts, on this machine or by a
launcher.

>>> seconds_of('90'), seconds_of('15m'), seconds_of('1.5h')
(90.0, 900.0, 5400.0)
"""

import argparse
import pathlib
import re
import shlex
import time

from tl_jax.cli.console import complain, reporting, say
from tl_jax.cli.verb import Verb, add_workdir, require_workdir
from tl_jax.config import ConfigError

LAUNCHERS = ('local', 'slurm', 'xpk', 'jobset', 'skypilot')
# Members that a dry run shows one by one.
SHOWN = 20
UNITS = {'': 1, 's': 1, 'm': 60, 'h': 3600, 'd': 86400}


def seconds_of(text: str) -> float:
  """The seconds in a text like 90, 15m or 1.5h: the type of a flag."""
  found = re.fullmatch(r'(\d+(?:\.\d+)?)([smhd]?)', text.strip())
  if not found or not float(found[1]):
    raise argparse.ArgumentTypeError(f'needs a time, as 90, 15m or 1.5h; got {text!r}')
  return float(found[1]) * UNITS[found[2]]


def _count(text: str) -> int:
  """The type of a flag that takes a number of at least one."""
  if not text.isdecimal() or int(text) < 1:
    raise argparse.ArgumentTypeError(f'needs a number >= 1, got {text!r}')
  return int(text)


def _add_sweep(parser):
  parser.add_argument(
    'sweep', metavar='SWEEP.py', help='a file that defines sweep() or SWEEP; executed'
  )
  add_workdir(parser, what='the folder of the sweep; the same folder again resumes it')
  parser.add_argument(
    '--dry-run', action='store_true', help='says what would be run, and runs nothing'
  )
  parser.add_argument(
    '--report',
    action='store_true',
    help='writes the report of what is there, and runs nothing',
  )
  parser.add_argument(
    '--launcher',
    choices=LAUNCHERS,
    default='local',
    help='who runs it (default: local)',
  )
  # For the help alone, as --config.KEY of other verbs.
  parser.add_argument(
    '--launcher.KEY',
    dest='_',
    metavar='VALUE',
    help='a setting of the launcher, as --launcher.image=IMAGE; the dict LAUNCH of the '
    'file has the same',
  )
  parser.add_argument(
    '--workers', type=_count, default=1, metavar='N', help='processes (default: 1)'
  )
  parser.add_argument(
    '--member',
    metavar='N',
    help='runs these alone, as 3 or 0-7: what a launcher calls',
  )
  parser.add_argument(
    '--time', type=seconds_of, metavar='T', help='the longest that it may take, as 8h'
  )
  parser.add_argument(
    '--member-time', type=seconds_of, metavar='T', help='the longest of each member'
  )


def _sweep(flags, overrides) -> int:
  workdir = pathlib.Path(flags.workdir).resolve()
  if flags.launcher == 'local' and overrides:
    key, _ = overrides[0]
    raise ConfigError(f'--launcher.{key}: --launcher=local has no settings')
  if flags.member is not None:
    return _run_some(flags, workdir)
  from tl_jax.scale import members

  began = time.monotonic()
  listing = members.open_sweep(flags.sweep, workdir)
  if listing.repeated:
    say(f'{listing.repeated} points repeat others; each config is run once')
  if flags.report:
    return _report(listing, workdir)
  if flags.launcher != 'local':
    return _hand_over(flags, listing, workdir, overrides)
  if flags.dry_run:
    _show(listing, workdir, time.monotonic() - began)
    return 0
  return _run_all(flags, listing, workdir)


def _show(listing, workdir: pathlib.Path, seconds: float) -> None:
  """Says what a sweep would run: what all share once, and the first members."""
  from tl_jax.scale import scheduling, sweep

  outcome = sweep.survey(workdir, listing.members)
  shared = listing.shared()
  if shared:
    say('all:', flags_of(shared))
  standings = outcome.standings[:SHOWN]
  for member, found in zip(listing.members, standings, strict=False):
    state = '' if found.state == 'waiting' else f'  [{found.state}]'
    own = {key: value for key, value in member.fields.items() if key not in shared}
    config = shlex.quote(f'--config={member.base}')
    say(f'{member.number:>5}  {member.id}{state}')
    say(f'       {config} {flags_of(own)}'.rstrip())
  more = len(listing.members) - SHOWN
  if more > 0:
    say(f'  ... and {more} more')
  cohorts = scheduling.in_cohorts(listing, listing.members)
  say(
    f'{len(listing.members)} members in {len(cohorts)} cohorts from '
    f'{len(listing.bases)} configs, {outcome.count("done")} done; '
    f'read in {seconds:.1f} s'
  )


def flags_of(fields: dict) -> str:
  """The fields as overrides of a command line, ready for a shell."""
  from tl_jax.scale.members import as_text

  words = []
  for key, value in fields.items():
    words.append(shlex.quote(f'--config.{key}={as_text(value)}'))
  return ' '.join(words)


def _hand_over(flags, listing, workdir: pathlib.Path, overrides) -> int:
  """Gives what is not finished to a launcher, or says what would be given."""
  from tl_jax.scale import members, sweep
  from tl_jax.scale.launchers import handing, read

  launch = read(listing.launch, overrides)
  outcome = sweep.survey(workdir, listing.members)
  open_members = []
  for member, found in zip(listing.members, outcome.standings, strict=True):
    # Those that somebody runs are left to him.
    if found.is_open or found.again:
      open_members.append(member)
  if not open_members:
    say('nothing is left to run')
    return outcome.code
  more = []
  if flags.member_time is not None:
    more.append(f'--member-time={flags.member_time:g}')
  name = flags.launcher
  emitted, work = handing.plan(listing, workdir, name, launch, open_members, more)
  if flags.dry_run:
    for content in emitted.files.values():
      say(content.rstrip('\n'))
    return 0
  with sweep.only_start(workdir):
    members.write_listing(listing, workdir)
    handed = handing.write(emitted, workdir)
    say(f'{len(open_members)} members in {len(work.jobs)} jobs: {handed.folder}')
    if launch.submit:
      handed = handing.submit(handed, emitted, workdir, open_members)
  return _say_handed(handed, launch.submit)


def _say_handed(handed, submits: bool) -> int:
  """Says what the launcher's tool said, or how to call it."""
  if handed.code is None:
    why = f'{handed.tool} is not installed here; ' if submits else ''
    say(f'{why}hand it in by: {handed.command}')
    return 0
  if handed.words:
    say(handed.words)
  if handed.code:
    complain(f'{handed.command}: {handed.tool} exited with code {handed.code}')
    return 1
  return 0


def _run_all(flags, listing, workdir: pathlib.Path) -> int:
  """Runs all members on this machine and writes the report."""
  from tl_jax.scale import members, sweep

  with sweep.only_start(workdir), reporting() as reporter:
    members.write_listing(listing, workdir)
    outcome = sweep.run(
      listing,
      workdir,
      workers=flags.workers,
      limits=_limits(flags),
      say=reporter.info,
      progress=reporter.progress,
    )
    # Only here: a member that a launcher runs draws nothing.
    from tl_jax.report import sweeps

    sweeps.write(listing, workdir, outcome, reporter.info)
  return _close(listing.members, outcome)


def _report(listing, workdir: pathlib.Path) -> int:
  """Writes the report of what is there."""
  from tl_jax.report import sweeps
  from tl_jax.scale import sweep

  require_workdir(workdir)
  outcome = sweep.survey(workdir, listing.members)
  sweeps.write(listing, workdir, outcome, say)
  return _close(listing.members, outcome)


def _run_some(flags, workdir: pathlib.Path) -> int:
  """Runs members by their numbers, as the workdir has them if it has any."""
  from tl_jax.scale import members, sweep

  listing = members.read_listing(workdir)
  # Frozen when it was handed out: an edited file gives no number another meaning.
  if listing is None:
    listing = members.open_sweep(flags.sweep, workdir)
    workdir.mkdir(parents=True, exist_ok=True)
    members.write_listing(listing, workdir)
  chosen = [listing.member(number) for number in members.numbers_of(flags.member)]
  with reporting() as reporter:
    outcome = sweep.run(
      listing,
      workdir,
      chosen,
      flags.workers,
      _limits(flags),
      reporter.info,
      reporter.progress,
    )
    _report_the_last(listing, workdir, reporter)
  return _close(chosen, outcome)


def _report_the_last(listing, workdir: pathlib.Path, reporter) -> None:
  """Writes the report of a sweep of which nothing is left to do."""
  from tl_jax.scale import sweep

  outcome = sweep.survey(workdir, listing.members)
  # 75 while a member is left, whoever runs it.
  if outcome.code == 75:
    return
  from tl_jax.report import sweeps

  sweeps.write(listing, workdir, outcome, reporter.info)


def _limits(flags):
  from tl_jax.scale.scheduling import Limits

  return Limits(member=flags.member_time, sweep=flags.time)


def _close(members, outcome) -> int:
  """Names the members without a result; returns the exit code."""
  waiting = 0
  for member, found in zip(members, outcome.standings, strict=True):
    if found.state == 'waiting':
      waiting += 1
    elif found.state != 'done':
      complain(f'{member.id}: {found.state}: {found.reason}'.rstrip(': '))
  # There is nothing to say of each: none of them has begun.
  if waiting:
    complain(f'{waiting} of {len(members)} members have not begun')
  return outcome.code


NOTES = """a sweep file builds its points of small functions:

  from tl_jax.scale import space

  def sweep():
    bases = space.base('configs/transfer.py:task=topic,method=lora',
                       'configs/transfer.py:task=topic,method=full')
    rates = space.random(8, {'optim.lr': space.log_uniform(1e-5, 1e-3)})
    return bases * space.product(seed=range(3)) * rates

base, fixed, product, zip, random and chain give spaces; a * b joins every point of a to
every point of b, a + b has both after each other. uniform, log_uniform and choices are
what random draws from. A field may be any that --config.KEY=VALUE may set.
with a launcher each member is a job, which runs this command with --member=N:

  tl-jax sweep rates.py --workdir=/mnt/w --launcher=jobset --launcher.image=IMAGE \\
    --launcher.accelerator=v5e:4x4 --launcher.queue=default --launcher.restarts=20

KEY of --launcher.KEY: {settings}.
W must be storage that the jobs see; launcher.workdir is its path there.
METRIC = 'f1' in the file: by which members are compared (default: the task's headline).
HALVING = dict(steps=(100, 300), keep=0.5): at these steps the better half of each cohort
goes on. LAUNCH = dict(image='IMAGE'): the settings of the launcher.
"""

# As tl_jax.scale.launchers.Launch has them, which is not imported for a help.
SETTINGS = (
  'name, accelerator, slices, together, parallel, restarts, time, image, cluster,\n'
  'project, zone, namespace, queue, account, priority, spot, cpus, memory, workdir,\n'
  'bucket, claim, mount, command, setup, env.NAME, submit'
)

SWEEP = Verb(
  purpose='many runs from one file; resumes; failed ones leave a reason',
  example='tl-jax sweep rates.py --workdir=/tmp/rates --dry-run',
  flags=_add_sweep,
  action=_sweep,
  overrides=True,
  prefix='launcher',
  notes=NOTES.replace('{settings}', SETTINGS),
)
