"""What the variables of a TPU host say of the other hosts that compute with it.

Kubernetes on Google Cloud sets them in every pod of a job: TPU_WORKER_HOSTNAMES and
TPU_WORKER_ID for the hosts of a slice, and for several slices MEGASCALE_NUM_SLICES,
MEGASCALE_SLICE_ID and MEGASCALE_COORDINATOR_ADDRESS. Who starts several processes on
one host sets TPU_PROCESS_ADDRESSES and CLOUD_TPU_TASK_ID.

>>> said = {'TPU_WORKER_HOSTNAMES': 'a-0.svc,a-1.svc', 'TPU_WORKER_ID': '1'}
>>> find_pod(said)
Pod(host='a-0.svc', processes=2, process=1)
"""

import math
import pathlib
from collections.abc import Mapping
from typing import NamedTuple

HOSTS = ('TPU_PROCESS_ADDRESSES', 'TPU_WORKER_HOSTNAMES')
HOSTS_PATH = 'TPU_PROCESS_ADDRESSES_PATH'
BOUNDS = ('TPU_PROCESS_BOUNDS', 'TPU_HOST_BOUNDS')
# The number of this process among those of its slice.
NUMBERS = ('CLOUD_TPU_TASK_ID', 'TPU_WORKER_ID')
SLICES = 'MEGASCALE_NUM_SLICES'
SLICE = 'MEGASCALE_SLICE_ID'
COORDINATOR = 'MEGASCALE_COORDINATOR_ADDRESS'


class Pod(NamedTuple):
  """Hosts that compute together, as one of them sees it.

  host: that of process 0. processes: how many there are, on all slices. process: the
  number of this one.
  """

  host: str
  processes: int
  process: int


def says_nothing(variables: Mapping[str, str]) -> bool:
  """Do the variables leave open whether there are other hosts?"""
  return hosts_of(variables) is None and said_processes(variables) is None


def says_several(variables: Mapping[str, str]) -> str | None:
  """Which of the variables says that there are other hosts, and what; None for none."""
  slices = variables.get(SLICES)
  if slices not in (None, '', '1'):
    return f'{SLICES}={slices}'
  if said_processes(variables) == 1:
    return None
  hosts = hosts_of(variables)
  if hosts is not None and len(hosts) > 1:
    return f'{len(hosts)} hosts in {_name_of_hosts(variables)}'
  for name in BOUNDS:
    if variables.get(name):
      return f'{name}={variables[name]}'
  return None


def find_pod(variables: Mapping[str, str]) -> Pod | None:
  """The pod that the variables describe; None where this process is alone, or where
  they do not name the hosts.

  Raises ValueError that names a variable which is missing or cannot be.
  """
  if says_several(variables) is None:
    return None
  hosts = hosts_of(variables)
  if hosts is None:
    return None
  number = _own_number(variables)
  if number >= len(hosts):
    raise ValueError(
      f'{_name_of_number(variables)}: {number}, but {_name_of_hosts(variables)} names '
      f'{len(hosts)} hosts, which count from 0'
    )
  slices = _number(variables, SLICES, least=1) or 1
  if slices > 1:
    return _of_slices(variables, slices, len(hosts), number)
  bounds = said_processes(variables)
  if bounds not in (None, len(hosts)):
    raise ValueError(
      f'{_name_of_hosts(variables)} names {len(hosts)} hosts, but the bounds of the '
      f'slice are {bounds} processes'
    )
  return Pod(_host(hosts[0]), len(hosts), number)


def _of_slices(
  variables: Mapping[str, str], slices: int, hosts: int, number: int
) -> Pod:
  """The pod of several slices with so many hosts each, of which this is one.

  number: that of this process in its slice.
  """
  own = _number(variables, SLICE)
  if own is None or own >= slices:
    raise ValueError(
      f'{SLICE}: must be a number from 0 to {slices - 1} where {SLICES} is {slices}, '
      f'got {variables.get(SLICE, "nothing")!r}'
    )
  coordinator = variables.get(COORDINATOR)
  if not coordinator:
    raise ValueError(f'{COORDINATOR}: must name a host where {SLICES} is {slices}')
  return Pod(_host(coordinator), slices * hosts, own * hosts + number)


def hosts_of(variables: Mapping[str, str]) -> list[str] | None:
  """The hosts of the slice; None where nothing names them.

  Raises ValueError for a file of them that cannot be read.
  """
  path = variables.get(HOSTS_PATH)
  if path:
    try:
      text = pathlib.Path(path).read_text()
    except OSError as error:
      raise ValueError(f'{HOSTS_PATH}: {path}: {error.strerror}') from error
    return text.strip().split(',')
  for name in HOSTS:
    if variables.get(name):
      return variables[name].split(',')
  return None


def said_processes(variables: Mapping[str, str]) -> int | None:
  """How many processes share a slice by its bounds, as 2,2,1; None without bounds."""
  for name in BOUNDS:
    text = variables.get(name)
    if text:
      try:
        return math.prod(int(bound) for bound in text.split(','))
      except ValueError as error:
        raise ValueError(f'{name}: must be like 2,2,1, got {text!r}') from error
  return None


def _name_of_hosts(variables: Mapping[str, str]) -> str:
  """The variable that names the hosts."""
  names = [name for name in (HOSTS_PATH, *HOSTS) if variables.get(name)]
  return names[0]


def _name_of_number(variables: Mapping[str, str]) -> str:
  """The variable that has the number of this process, or should have it."""
  names = [name for name in NUMBERS if variables.get(name)]
  return names[0] if names else NUMBERS[-1]


def _own_number(variables: Mapping[str, str]) -> int:
  """The number of this process in its slice. Raises ValueError where nothing says it."""
  name = _name_of_number(variables)
  number = _number(variables, name)
  if number is None:
    hosts = _name_of_hosts(variables)
    raise ValueError(f'{name}: missing; {hosts} says that there are other hosts')
  return number


def _number(variables: Mapping[str, str], name: str, least: int = 0) -> int | None:
  """A variable as a number; None where it is not set or empty."""
  text = variables.get(name)
  if not text:
    return None
  if not text.isdecimal() or int(text) < least:
    raise ValueError(f'{name}: must be a whole number >= {least}, got {text!r}')
  return int(text)


def _host(address: str) -> str:
  """The host of an address, with the port of another service or without."""
  host, _, port = address.rpartition(':')
  return host if host and port.isdecimal() else address
