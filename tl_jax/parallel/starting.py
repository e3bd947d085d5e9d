"""The start of a run over several processes: who they are, and how this one joins them.

>>> find_cluster() is None     # nothing says that there are others
True
"""

import contextlib
import importlib.util
import logging
import os
import re
import socket
import threading
import time
import warnings
from typing import NamedTuple

import jax

from tl_jax.parallel import pods
from tl_jax.parallel.meeting import introduce

ADDRESS = 'JAX_COORDINATOR_ADDRESS'
PROCESSES = 'JAX_NUM_PROCESSES'
PROCESS = 'JAX_PROCESS_ID'
REMEDY = (
  f'Set {ADDRESS} (host:port of process 0), {PROCESSES} and {PROCESS} (from 0) '
  f'in every process, or nothing but {PROCESSES}=1 for a run alone'
)
# Who gives an address has started the others. The machines of a cluster start by
# themselves, some minutes after each other.
GIVEN_SECONDS = 60
FOUND_SECONDS = 300
# What jax is told to wait: so long that it never gives up before we do.
_LONGER = 3600
# How often a name is looked up that nobody knows yet.
NAME_SECONDS = 2
# Process 0 of a pod listens there, as jax has it.
POD_PORT = '8482'
# cluster -> the package without which its processes cannot be found
PACKAGES = {'MPI': 'mpi4py', 'Google Cloud': 'requests', 'Kubernetes': 'kubernetes'}
# The pods of an indexed job may as well have work of their own each.
MAY_BE_ALONE = ('Kubernetes',)
_LOG = logging.getLogger(__name__)


class Cluster(NamedTuple):
  """Processes that run together, as one of them sees it.

  name: what told of them; ADDRESS where the variables did.
  address: host:port of process 0.
  processes: how many they are.
  process: the number of this one.
  devices: the numbers of the local accelerators that are its own; None for all that it
    sees.
  """

  name: str
  address: str
  processes: int
  process: int
  devices: list[int] | None = None

  def __str__(self) -> str:
    return (
      f'{self.name} says that this is process {self.process} of {self.processes} '
      f'and that process 0 listens at {self.address}'
    )


def start() -> None:
  """Joins the other processes of the run where there are any, and waits for them.

  The variables JAX_COORDINATOR_ADDRESS, JAX_NUM_PROCESSES and JAX_PROCESS_ID say who
  they are. Without them a cluster is looked for: Slurm, MPI, TPU pods of GKE and Google
  Cloud, Kubernetes jobs. A process that is alone there is left as it is.
  JAX_NUM_PROCESSES=1 leaves any process as it is. No device may be in use before.

  Raises ValueError that names a variable which is missing or no number. Raises
  RuntimeError that names cluster and address where the others cannot be joined.
  """
  if jax.distributed.is_initialized():
    return
  cluster = find_cluster()
  if cluster is None:
    return
  if cluster.process == 0:
    _require_free_port(cluster)
  seconds = GIVEN_SECONDS if cluster.name == ADDRESS else FOUND_SECONDS
  _join(cluster, seconds)
  introduce(cluster.process)


def _join(cluster: Cluster, seconds: float) -> None:
  """Joins within so many seconds, or raises RuntimeError.

  jax itself ends the process when its own time is up, without an exception. So it gets
  more time than it needs, in a thread that is left behind.
  """
  errors = []

  def join():
    try:
      jax.distributed.initialize(
        cluster.address,
        cluster.processes,
        cluster.process,
        cluster.devices,
        cluster_detection_method='deactivate',
        initialization_timeout=_LONGER,
      )
    except Exception as error:  # noqa: BLE001 - it is raised in the caller's thread
      errors.append(error)

  thread = threading.Thread(target=join, name='join', daemon=True)
  thread.start()
  thread.join(seconds)
  if thread.is_alive():
    raise RuntimeError(
      f'could not join the run: {cluster}, but not all of them came within '
      f'{seconds:.0f} s. {REMEDY}'
    )
  if errors:
    raise RuntimeError(
      f'could not join the run: {cluster}: {_line(errors[0])}. {REMEDY}'
    ) from errors[0]


def _line(error: BaseException) -> str:
  """What an error says, in one line."""
  return ' '.join(str(error).split())


def _require_free_port(cluster: Cluster) -> None:
  """Raises RuntimeError where process 0 cannot listen: jax ends without a word."""
  # Then process 0 listens at another address than the one that the others call.
  if 'JAX_COORDINATOR_BIND_ADDRESS' in os.environ:
    return
  port = cluster.address.rpartition(':')[2]
  with socket.socket() as probe:
    # Otherwise the port of a run that has just ended would count as taken.
    probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
      probe.bind(('', int(port)))
    except (OSError, OverflowError) as error:
      raise RuntimeError(
        f'could not join the run: {cluster}, but port {port} of this machine cannot '
        f'be used: {error}. {REMEDY}'
      ) from error


def find_cluster() -> Cluster | None:
  """The processes that run together with this one; None where it runs alone.

  Raises ValueError and RuntimeError as `start`.
  """
  given, numbers = _given()
  if ADDRESS not in given and numbers.get(PROCESSES) == 1:
    return None
  missing = [name for name in (ADDRESS, PROCESSES, PROCESS) if name not in given]
  if not missing:
    return _sound(
      Cluster(ADDRESS, given[ADDRESS], numbers[PROCESSES], numbers[PROCESS])
    )
  found = _detect()
  if found is not None:
    # What is given counts before what the cluster says.
    address = given.get(ADDRESS, found.address)
    processes = numbers.get(PROCESSES, found.processes)
    process = numbers.get(PROCESS, found.process)
    own = found._replace(address=address, processes=processes, process=process)
    return _sound(own)
  if given:
    raise ValueError(
      f'{" and ".join(given)} set without {" and ".join(missing)}, and no cluster is '
      f'found that would tell. {REMEDY}'
    )
  return None


def _given() -> tuple[dict[str, str], dict[str, int]]:
  """The variables that are set, as text, and those of them that are numbers.

  An empty variable counts as none: scripts set such ones.
  """
  given, numbers = {}, {}
  for name in (ADDRESS, PROCESSES, PROCESS):
    text = os.environ.get(name)
    if text:
      given[name] = text
      if name != ADDRESS:
        numbers[name] = _number(name, text)
  return given, numbers


def _number(name: str, text: str) -> int:
  """A variable as a number. Raises ValueError that names it."""
  if not text.strip().isdecimal():
    raise ValueError(f'{name}: must be a whole number >= 0, got {text!r}')
  return int(text)


def _sound(cluster: Cluster) -> Cluster:
  """The cluster. Raises ValueError where it cannot be one."""
  host, _, port = cluster.address.rpartition(':')
  if not host or not port.isdecimal():
    raise ValueError(f'{ADDRESS}: must be host:port, got {cluster.address!r}')
  if cluster.process >= cluster.processes:
    raise ValueError(
      f'{PROCESS}: processes count from 0 to {cluster.processes - 1} here, but '
      f'{cluster}'
    )
  return cluster


def _detect() -> Cluster | None:
  """The first cluster that is found, asked only where there may be others."""
  # jax has no public way to ask for a cluster without joining it.
  from jax._src import clusters

  if _has_others_of_mpi() and _is_present('Open MPI', clusters.OmpiCluster):
    return _describe('Open MPI', clusters.OmpiCluster)
  if _has_others_of_slurm() and clusters.SlurmCluster.is_env_present():
    return _slurm(clusters.SlurmCluster)
  if _has_others_of_mpi() and _is_present('MPI', clusters.Mpi4pyCluster):
    return _describe('MPI', clusters.Mpi4pyCluster)
  found = _pod(clusters.GceTpuCluster)
  return found or _kubernetes(clusters.K8sCluster)


def _kubernetes(kind) -> Cluster | None:
  """The pods of an indexed job; None for any other pod, as of a notebook."""
  if 'JOB_COMPLETION_INDEX' not in os.environ:
    return None
  # The variables of a TPU host say whether it is alone.
  if pods.hosts_of(os.environ) is not None or not _is_present('Kubernetes', kind):
    return None
  return _describe('Kubernetes', kind)


def _slurm(kind) -> Cluster | None:
  """The tasks of a step of Slurm."""
  found = _describe('Slurm', kind)
  if found is None:
    return None
  # jax counts the tasks of the job, of which a step may have some only.
  processes = int(_tasks_of_slurm())
  port = found.address.rpartition(':')[2]
  host = first_host(os.environ['SLURM_STEP_NODELIST'])
  return found._replace(address=f'{host}:{port}', processes=processes)


def first_host(hosts: str) -> str:
  """The first of the hosts that Slurm lists.

  >>> first_host('node[07-08,11],far3'), first_host('rack[1-2]n[3,5]'), first_host('a')
  ('node07', 'rack1n3', 'a')
  """
  # A comma inside of brackets ends no host.
  first = re.match(r'(?:[^,\[]|\[[^\]]*\])+', hosts)[0]
  return re.sub(r'\[([^,\]-]+)[^\]]*\]', r'\1', first)


def _pod(metadata_of_cloud) -> Cluster | None:
  """The hosts of a TPU pod; None where this one is alone.

  Variables count first: Kubernetes sets them. Without them the machine's metadata
  server is asked, as on Google's own machines. Raises RuntimeError where a variable
  says that there are others and they cannot be found.
  """
  if not _may_be_of_tpu():
    return None
  told = pods.says_several(os.environ)
  if told is not None and not _finds_tpu():
    raise RuntimeError(
      f'{told}, so that this is one of several hosts of a TPU, but jax finds no TPU '
      f'here: is jax[tpu] installed? JAX_PLATFORMS=cpu leaves the TPU alone. {REMEDY}'
    )
  pod = pods.find_pod(os.environ)
  if pod is not None:
    _wait_for_name(pod.host)
    port = os.environ.get('JAX_COORDINATOR_PORT') or POD_PORT
    return Cluster('GKE', f'{pod.host}:{port}', pod.processes, pod.process)
  if told is not None or pods.says_nothing(os.environ):
    return _pod_of_cloud(metadata_of_cloud, told)
  return None


def _pod_of_cloud(metadata_of_cloud, told: str | None) -> Cluster | None:
  """The hosts that the metadata of the machine names; None where there are none.

  told: how a variable says that there are others. Raises RuntimeError where it does and
  the metadata does not name them.
  """
  if _finds_tpu() and _is_present('Google Cloud', metadata_of_cloud):
    return _describe('Google Cloud', metadata_of_cloud)
  if told is not None:
    raise RuntimeError(
      f'{told}, so that this is one of several hosts of a TPU, but neither '
      f'{pods.HOSTS[-1]} nor the metadata of the machine names them. {REMEDY}'
    )
  return None


def _finds_tpu() -> bool:
  """Has jax found chips and the library for them on this machine?"""
  from jax._src.clusters import cloud_tpu_cluster

  return cloud_tpu_cluster.running_in_cloud_tpu_vm


def _wait_for_name(host: str) -> None:
  """Waits until a host has an address: the names of a job come up with its pods.

  Raises RuntimeError where it has none after FOUND_SECONDS.
  """
  until = time.monotonic() + FOUND_SECONDS
  while True:
    try:
      socket.getaddrinfo(host, None)
      return
    except socket.gaierror as error:
      if time.monotonic() >= until:
        raise RuntimeError(
          f'could not join the run: the host of process 0, {host}, has no address after '
          f'{FOUND_SECONDS:.0f} s ({error.strerror}). {REMEDY}'
        ) from error
    time.sleep(NAME_SECONDS)


def _may_be_of_tpu() -> bool:
  """May this be a host of a pod? Not if it computes elsewhere."""
  platforms = jax.config.jax_platforms
  return not platforms or 'tpu' in platforms.split(',')


def _has_others_of_slurm() -> bool:
  """Is this a task of a step (srun) of several tasks?

  The shell of salloc is a step of one task in a job of several. SLURM_NTASKS is that of
  the job there, SLURM_STEP_NUM_TASKS that of the step.
  """
  return _tasks_of_slurm() != '1' and 'SLURM_STEP_NODELIST' in os.environ


def _tasks_of_slurm() -> str:
  return os.environ.get('SLURM_STEP_NUM_TASKS') or os.environ.get('SLURM_NTASKS', '1')


def _has_others_of_mpi() -> bool:
  sizes = [os.environ.get(name, '1') for name in ('OMPI_COMM_WORLD_SIZE', 'PMI_SIZE')]
  return sizes != ['1', '1']


@contextlib.contextmanager
def _without_warnings_of_jax():
  """Its detection calls what Python 3.13 deprecates. Where warnings are errors, a run
  on a TPU would not find the others for that.
  """
  with warnings.catch_warnings():
    warnings.simplefilter('ignore', DeprecationWarning)
    yield


def _is_present(name: str, kind) -> bool:
  """Does jax find this cluster? For a TPU it asks the machine's metadata server.

  Raises ValueError where a package is missing with which others would be found.
  """
  package = PACKAGES.get(name)
  if package is not None and importlib.util.find_spec(package) is None:
    if name in MAY_BE_ALONE:
      _warn_alone(name, f'the package {package} is not installed')
      return False
    raise ValueError(
      f'{name} may have started several processes, which need the package {package} to '
      f'find each other. {REMEDY}'
    )
  try:
    with _without_warnings_of_jax():
      return kind.is_env_present()
  # A machine that cannot be asked, as without a network, must still train.
  except Exception as error:  # noqa: BLE001 - of requests or kubernetes, if anything
    _warn_alone(name, _line(error)[:200])
    return False


def _warn_alone(name: str, reason: str) -> None:
  _LOG.warning(
    'this process runs alone: whether it belongs to %s could not be found out (%s)',
    name,
    reason,
  )


def _describe(name: str, kind) -> Cluster | None:
  """The cluster of one of jax's classes; None where this process is its only one."""
  try:
    with _without_warnings_of_jax():
      processes = kind.get_process_count()
      if processes == 1:
        return None
      address = kind.get_coordinator_address(
        timeout_secs=FOUND_SECONDS,
        override_coordinator_port=os.environ.get('JAX_COORDINATOR_PORT'),
      )
      number = kind.get_process_id()
      return Cluster(name, address, processes, number, _own_devices(kind))
  except Exception as error:  # noqa: BLE001 - of requests or kubernetes, if anything
    raise RuntimeError(
      f'this process belongs to {name}, but who the others are could not be found '
      f'out: {_line(error)}. {REMEDY}'
    ) from error


def _own_devices(kind) -> list[int] | None:
  """The accelerators of a process that shares its machine; None for all that it sees.

  One of them each, as jax has it. A process that has the machine for itself takes all.
  One whose launcher shows it a single one takes that, whatever its number.
  """
  if os.environ.get('SLURM_STEP_NUM_NODES') == _tasks_of_slurm():
    return None
  if os.environ.get('OMPI_COMM_WORLD_LOCAL_SIZE') == '1':
    return None
  # By JAX_LOCAL_DEVICE_IDS the user has said it already. Slurm shows a task its own
  # cards alone where it was told how many a task gets.
  if os.environ.keys() & {'JAX_LOCAL_DEVICE_IDS', 'SLURM_GPUS_PER_TASK'}:
    return None
  for name in ('CUDA_VISIBLE_DEVICES', 'ROCR_VISIBLE_DEVICES'):
    visible = os.environ.get(name)
    if visible and ',' not in visible:
      return None
  number = kind.get_local_process_id()
  return None if number is None else [number]
