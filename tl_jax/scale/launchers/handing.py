"""Hands the members of a sweep to a launcher: writes its text, and calls its tool.

>>> in_jobs([[1, 2, 3], [7]], 2)
['1-2', '3', '7']
"""

import pathlib
import shlex
import shutil
import subprocess
from collections.abc import Sequence
from typing import NamedTuple

from tl_jax import files
from tl_jax.scale import ledger as ledgers
from tl_jax.scale.launchers import LAUNCHERS, Emitted, Launch, Work
from tl_jax.scale.ledger import Ledger
from tl_jax.scale.members import Listing, Member, as_ranges
from tl_jax.scale.processes import LOGS
from tl_jax.scale.scheduling import cut, in_cohorts

FOLDER = 'launch'


class Handed(NamedTuple):
  """What became of it: the command, and the code and words of the tool.

  code: None where the tool was not called.
  """

  folder: pathlib.Path
  command: str
  tool: str
  code: int | None = None
  words: str = ''


def in_jobs(groups: Sequence[Sequence[int]], together: int) -> list[str]:
  """The members of jobs, at most so many in each, all of one group, as `--member` takes
  them.
  """
  found = []
  for group in groups:
    for part in cut(sorted(group), -(-len(group) // together)):
      found.append(as_ranges(part))
  return found


def plan(
  listing: Listing,
  workdir: pathlib.Path,
  name: str,
  launch: Launch,
  members: Sequence[Member],
  flags: Sequence[str] = (),
) -> tuple[Emitted, Work]:
  """The text for a launcher. Raises ConfigError for settings that cannot be."""
  groups = [list(members)]
  if launch.together > 1:
    groups = in_cohorts(listing, members)
  numbers = [[member.number for member in group] for group in groups]
  jobs = tuple(in_jobs(numbers, launch.together))
  work = Work(pathlib.PurePath(listing.file).name, workdir, jobs, tuple(flags))
  return LAUNCHERS[name].emit(launch, work), work


def write(emitted: Emitted, workdir: pathlib.Path) -> Handed:
  """Writes the text below the workdir, and says what hands it in."""
  folder = workdir / FOLDER
  folder.mkdir(parents=True, exist_ok=True)
  # Slurm drops a job whose log cannot be opened, and says nothing.
  (workdir / LOGS).mkdir(exist_ok=True)
  for name, content in emitted.files.items():
    files.write_atomically(folder / name, content.encode())
  words = [
    str(folder / word) if word in emitted.files else word for word in emitted.command
  ]
  # A script names its files, which lie beside it.
  place = f'cd {shlex.quote(str(folder))} && ' if emitted.command[0] == 'bash' else ''
  return Handed(folder, place + shlex.join(words), emitted.tool)


def submit(
  handed: Handed, emitted: Emitted, workdir: pathlib.Path, members: Sequence[Member]
) -> Handed:
  """Calls the tool where it is installed, and notes the members that it has taken."""
  if shutil.which(emitted.tool) is None:
    return handed
  done = subprocess.run(
    emitted.command,
    cwd=handed.folder,
    stdin=subprocess.DEVNULL,
    stdout=subprocess.PIPE,
    stderr=subprocess.STDOUT,
    check=False,
  )
  if not done.returncode:
    ledger = Ledger(workdir)
    for member in members:
      ledger.note(member.id, ledgers.WAITING, f'handed to {emitted.tool}')
  words = done.stdout.decode(errors='replace').strip()
  return handed._replace(code=done.returncode, words=words)
