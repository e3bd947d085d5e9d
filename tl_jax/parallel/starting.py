"""The start of a run over several processes: who they are, and how this one joins them.

>>> find_cluster() is None     # nothing says that there are others
True
"""

import contextlib
import importlib.util
import logging
import os
import socket
import threading
import warnings
from typing import NamedTuple

import jax

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
  """The first cluster that jax finds, asked only where there may be others."""
  # jax has no public way to ask for a cluster without joining it.
  from jax._src import clusters

  kinds = (
    ('Open MPI', _has_others_of_mpi, clusters.OmpiCluster),
    ('Slurm', _has_others_of_slurm, clusters.SlurmCluster),
    ('MPI', _has_others_of_mpi, clusters.Mpi4pyCluster),
    ('GKE', _has_others_of_tpu, clusters.GkeTpuCluster),
    ('Google Cloud', _has_others_of_tpu, clusters.GceTpuCluster),
    ('Kubernetes', _has_others_of_kubernetes, clusters.K8sCluster),
  )
  for name, has_others, kind in kinds:
    if has_others() and _is_present(name, kind):
      return _describe(name, kind)
  return None


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


def _has_others_of_tpu() -> bool:
  """May this be a host of a pod? Not if it computes elsewhere or is to be alone."""
  platforms = jax.config.jax_platforms
  if platforms and 'tpu' not in platforms.split(','):
    return False
  # A slice of one host is not alone where there are several slices.
  if os.environ.get('MEGASCALE_NUM_SLICES', '1') not in ('', '1'):
    return True
  # Bounds of 1,1,1 and a single address or host say that this process is alone.
  bounds = [os.environ.get(name) for name in ('TPU_PROCESS_BOUNDS', 'TPU_HOST_BOUNDS')]
  hosts = os.environ.get(
    'TPU_PROCESS_ADDRESSES', os.environ.get('TPU_WORKER_HOSTNAMES')
  )
  return '1,1,1' not in bounds and (hosts is None or ',' in hosts)


def _has_others_of_kubernetes() -> bool:
  """Is this pod one of an indexed job's? Any other pod, a notebook say, is alone."""
  return 'JOB_COMPLETION_INDEX' in os.environ


@contextlib.contextmanager
def _without_warnings_of_jax():
  """Its detection calls what Python 3.13 deprecates. Where warnings are errors, a run
  on a TPU would not find the others for that.
  """
  with warnings.catch_warnings():
    warnings.simplefilter('ignore', DeprecationWarning)
    yield


def _is_present(name: str, kind) -> bool:
  """Does jax find this cluster? For a TPU it asks the machine's metadata server."""
  if name == 'MPI' and importlib.util.find_spec('mpi4py') is None:
    raise ValueError(
      'MPI started several processes, which need the package mpi4py to find each '
      f'other. {REMEDY}'
    )
  try:
    with _without_warnings_of_jax():
      return kind.is_env_present()
  # A machine that cannot be asked, as without a network, must still train.
  except Exception as error:  # noqa: BLE001 - of requests or kubernetes, if anything
    _LOG.warning(
      'this process runs alone: whether it belongs to %s could not be found out (%s)',
      name,
      _line(error)[:200],
    )
    return False


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
  visible = os.environ.get('CUDA_VISIBLE_DEVICES', '')
  # By JAX_LOCAL_DEVICE_IDS the user has said it already.
  if 'JAX_LOCAL_DEVICE_IDS' in os.environ or (visible and ',' not in visible):
    return None
  number = kind.get_local_process_id()
  return None if number is None else [number]
