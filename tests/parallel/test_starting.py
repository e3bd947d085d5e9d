"""The start of several processes: found where there are others, never where there are
none.
"""

import os
import socket
import subprocess
import sys
import textwrap

import jax
import pytest

from tl_jax.parallel import starting
from tl_jax.parallel.starting import Cluster, find_cluster, start

SLURM = dict(
  SLURM_JOB_ID='5',
  SLURM_STEP_NODELIST='node[07-08],far3',
  SLURM_NTASKS='3',
  SLURM_PROCID='1',
  SLURM_LOCALID='0',
  SLURM_STEP_NUM_NODES='3',
  SLURM_STEP_NUM_TASKS='3',
)
OPEN_MPI = dict(
  OMPI_MCA_orte_hnp_uri='8192.0;tcp://10.0.0.1,10.1.0.1:34911',
  OMPI_COMM_WORLD_SIZE='4',
  OMPI_COMM_WORLD_RANK='3',
  OMPI_COMM_WORLD_LOCAL_RANK='1',
  OMPI_COMM_WORLD_LOCAL_SIZE='2',
)
GKE = dict(
  TPU_WORKER_HOSTNAMES='localhost,127.0.0.1',
  TPU_WORKER_ID='1',
  MEGASCALE_COORDINATOR_ADDRESS='',
  MEGASCALE_NUM_SLICES='',
  MEGASCALE_SLICE_ID='',
)
# What Google's Kubernetes sets in the pods of a JobSet with two slices of four hosts.
SLICES = dict(
  TPU_WORKER_HOSTNAMES=','.join(f'job-slice-1-{host}.job' for host in range(4)),
  TPU_WORKER_ID='2',
  TPU_HOST_BOUNDS='2,2,1',
  TPU_CHIPS_PER_HOST_BOUNDS='2,2,1',
  TPU_ACCELERATOR_TYPE='v5litepod-16',
  TPU_SKIP_MDS_QUERY='true',
  MEGASCALE_COORDINATOR_ADDRESS='job-slice-0-0.job',
  MEGASCALE_NUM_SLICES='2',
  MEGASCALE_SLICE_ID='1',
  MEGASCALE_PORT='8080',
  JOB_COMPLETION_INDEX='2',
  KUBERNETES_SERVICE_HOST='10.0.0.1',
)
ONE_SLICE = {
  name: value for name, value in SLICES.items() if not name.startswith('MEGASCALE')
}
# Four processes of one host, a chip each.
CHIPS = dict(
  TPU_PROCESS_BOUNDS='2,2,1',
  TPU_CHIPS_PER_PROCESS_BOUNDS='1,1,1',
  TPU_PROCESS_ADDRESSES=','.join(f'localhost:{8476 + chip}' for chip in range(4)),
  TPU_VISIBLE_DEVICES='3',
  TPU_PROCESS_PORT='8479',
  CLOUD_TPU_TASK_ID='3',
)
GIVEN = dict(
  JAX_COORDINATOR_ADDRESS='host:1234', JAX_NUM_PROCESSES='2', JAX_PROCESS_ID='1'
)


@pytest.fixture
def environment(monkeypatch):
  """A function that sets variables; none of a cluster is set before."""
  words = (
    'SLURM',
    'OMPI',
    'PMI',
    'TPU',
    'MEGASCALE',
    'KUBERNETES',
    'JOB_',
    'CUDA_VISIBLE',
  )
  own = ('JAX_COORDINATOR', 'JAX_NUM_PROCESSES', 'JAX_PROCESS_ID', 'JAX_LOCAL')
  for name in list(os.environ):
    if name.startswith((*words, *own)):
      monkeypatch.delenv(name)

  def put(variables=(), **more):
    for name, value in {**dict(variables), **more}.items():
      monkeypatch.setenv(name, value)

  return put


@pytest.fixture
def on_a_tpu(monkeypatch):
  """A machine with TPUs, as far as jax has looked."""
  from jax._src.clusters import cloud_tpu_cluster

  monkeypatch.setattr(cloud_tpu_cluster, 'running_in_cloud_tpu_vm', True)
  before = jax.config.jax_platforms
  jax.config.update('jax_platforms', 'tpu,cpu')
  asked = []

  def get_metadata(key):
    asked.append(key)
    return {
      'agent-worker-number': '2',
      'worker-network-endpoints': 'a:0:127.0.0.1,b:1:10.0.0.2,c:2:10.0.0.3',
      'tpu-env': "MEGASCALE_NUM_SLICES: ''",
    }[key], 200

  monkeypatch.setattr(cloud_tpu_cluster, 'get_metadata', get_metadata)
  yield asked
  jax.config.update('jax_platforms', before)


@pytest.mark.parametrize(
  'variables',
  [
    {},
    dict(JAX_NUM_PROCESSES='1', **SLURM),
    SLURM | dict(SLURM_NTASKS='1', SLURM_STEP_NUM_TASKS='1'),
    SLURM | dict(SLURM_STEP_NUM_TASKS='1'),  # the shell of salloc
    # a batch script
    {name: value for name, value in SLURM.items() if 'STEP' not in name},
    OPEN_MPI | dict(OMPI_COMM_WORLD_SIZE='1'),
    dict(KUBERNETES_SERVICE_HOST='10.0.0.1'),
  ],
)  # a notebook
def test_a_machine_alone_stays_alone(variables, environment, monkeypatch):
  environment(variables)
  monkeypatch.setattr(starting.jax.distributed, 'initialize', None)
  assert find_cluster() is None
  start()


@pytest.mark.parametrize(
  'variables',
  [
    dict(TPU_WORKER_HOSTNAMES='localhost', TPU_WORKER_ID='0'),
    dict(TPU_PROCESS_BOUNDS='1,1,1', TPU_VISIBLE_CHIPS='0'),
    dict(GKE, TPU_HOST_BOUNDS='1,1,1'),
    # a pod of a job on single hosts, whose pods have work of their own each
    dict(
      TPU_WORKER_HOSTNAMES='localhost',
      TPU_WORKER_ID='0',
      TPU_HOST_BOUNDS='1,1,1',
      TPU_SKIP_MDS_QUERY='true',
      JOB_COMPLETION_INDEX='3',
      KUBERNETES_SERVICE_HOST='10.0.0.1',
    ),
  ],
)
def test_a_single_host_with_tpus_asks_nobody(variables, environment, on_a_tpu):
  environment(variables)
  assert find_cluster() is None and not on_a_tpu


@pytest.mark.parametrize(
  'variables, expected',
  [
    (GIVEN, Cluster('JAX_COORDINATOR_ADDRESS', 'host:1234', 2, 1)),
    (SLURM, Cluster('Slurm', 'node07:61445', 3, 1)),  # a machine each
    (
      SLURM | dict(SLURM_STEP_NUM_NODES='2', SLURM_LOCALID='1'),
      Cluster('Slurm', 'node07:61445', 3, 1, [1]),
    ),
    (
      SLURM
      | dict(SLURM_STEP_NUM_NODES='2', SLURM_LOCALID='1', CUDA_VISIBLE_DEVICES='1'),
      Cluster('Slurm', 'node07:61445', 3, 1),
    ),  # bound by Slurm
    (SLURM | dict(JAX_COORDINATOR_PORT='99'), Cluster('Slurm', 'node07:99', 3, 1)),
    (
      SLURM | dict(JAX_COORDINATOR_ADDRESS='host:1234'),
      Cluster('Slurm', 'host:1234', 3, 1),
    ),
    (OPEN_MPI, Cluster('Open MPI', '10.0.0.1:61440', 4, 3, [1])),
    # a step of three tasks in a job of eight
    (SLURM | dict(SLURM_NTASKS='8'), Cluster('Slurm', 'node07:61445', 3, 1)),
    (
      SLURM | dict(SLURM_STEP_NODELIST='rack[1-2]n[3,5],far3'),
      Cluster('Slurm', 'rack1n3:61445', 3, 1),
    ),
    (
      SLURM
      | dict(
        SLURM_STEP_NUM_NODES='2',
        SLURM_LOCALID='1',
        SLURM_GPUS_PER_TASK='2',
        CUDA_VISIBLE_DEVICES='0,1',
      ),
      Cluster('Slurm', 'node07:61445', 3, 1),
    ),  # two cards of its own
  ],
)
def test_clusters_are_found(variables, expected, environment):
  environment(variables)
  found = find_cluster()
  if expected.name == 'Open MPI':
    found = found._replace(address='10.0.0.1:61440')
  assert found == expected


def test_pods_are_found(environment, on_a_tpu):
  environment(GKE)
  assert find_cluster() == Cluster('GKE', 'localhost:8482', 2, 1)


@pytest.fixture
def names(monkeypatch):
  """Any name of a host is known."""
  monkeypatch.setattr(starting.socket, 'getaddrinfo', lambda host, port: [host])


@pytest.mark.parametrize(
  'variables, expected',
  [
    (SLICES, Cluster('GKE', 'job-slice-0-0.job:8482', 8, 6)),
    (ONE_SLICE, Cluster('GKE', 'job-slice-1-0.job:8482', 4, 2)),
    # slices of one host each
    (
      SLICES
      | dict(
        TPU_WORKER_HOSTNAMES='localhost', TPU_WORKER_ID='0', TPU_HOST_BOUNDS='1,1,1'
      ),
      Cluster('GKE', 'job-slice-0-0.job:8482', 2, 1),
    ),
    # the port is that of another service
    (
      SLICES | dict(MEGASCALE_COORDINATOR_ADDRESS='10.0.0.7:8080'),
      Cluster('GKE', '10.0.0.7:8482', 8, 6),
    ),
    (
      ONE_SLICE | dict(JAX_COORDINATOR_PORT='99'),
      Cluster('GKE', 'job-slice-1-0.job:99', 4, 2),
    ),
    (CHIPS, Cluster('GKE', 'localhost:8482', 4, 3)),
  ],
)
def test_pods_are_found_by_what_kubernetes_sets(
  variables, expected, environment, on_a_tpu, names
):
  environment(variables)
  assert find_cluster() == expected
  # The variables say it all: a pod may not reach the metadata of its machine.
  assert not on_a_tpu


def test_hosts_in_a_file_are_read(environment, on_a_tpu, names, tmp_path):
  path = tmp_path / 'hosts'
  path.write_text('one,two,three\n')
  environment(TPU_PROCESS_ADDRESSES_PATH=str(path), TPU_WORKER_ID='1')
  assert find_cluster() == Cluster('GKE', 'one:8482', 3, 1)
  environment(TPU_PROCESS_ADDRESSES_PATH=str(path) + 'x')
  with pytest.raises(ValueError, match='TPU_PROCESS_ADDRESSES_PATH: .*hostsx: No such'):
    find_cluster()


def without(variables, *names):
  return {name: value for name, value in variables.items() if name not in names}


@pytest.mark.parametrize(
  'variables, message',
  [
    (without(ONE_SLICE, 'TPU_WORKER_ID'), 'TPU_WORKER_ID: missing; TPU_WORKER_HOSTN'),
    (ONE_SLICE | dict(TPU_WORKER_ID='4'), 'TPU_WORKER_ID: 4, but .* names 4 hosts'),
    (ONE_SLICE | dict(TPU_WORKER_ID='x'), "TPU_WORKER_ID: must be .* got 'x'"),
    (ONE_SLICE | dict(TPU_HOST_BOUNDS='2,4,1'), 'names 4 hosts, but .* 8 processes'),
    (without(ONE_SLICE, 'TPU_WORKER_HOSTNAMES'), 'TPU_HOST_BOUNDS=2,2,1, so that'),
    (
      without(SLICES, 'TPU_WORKER_HOSTNAMES'),
      'MEGASCALE_NUM_SLICES=2, so that .* neit',
    ),
    (
      without(SLICES, 'MEGASCALE_SLICE_ID'),
      "MEGASCALE_SLICE_ID: must .* got 'nothing'",
    ),
    (SLICES | dict(MEGASCALE_SLICE_ID='2'), 'MEGASCALE_SLICE_ID: .* from 0 to 1'),
    (without(SLICES, 'MEGASCALE_COORDINATOR_ADDRESS'), 'MEGASCALE_COORDINATOR_ADDRESS'),
    (SLICES | dict(MEGASCALE_NUM_SLICES='two'), "MEGASCALE_NUM_SLICES: .* got 'two'"),
  ],
)
def test_a_host_of_several_that_cannot_join_never_runs_alone(
  variables, message, environment, on_a_tpu, names
):
  environment(variables)
  with pytest.raises((ValueError, RuntimeError), match=message) as caught:
    start()
  assert '\n' not in str(caught.value)


def test_a_host_of_several_whose_chips_jax_does_not_find_never_runs_alone(
  environment, on_a_tpu, monkeypatch
):
  """As in an image without libtpu: each host would train on its processor."""
  from jax._src.clusters import cloud_tpu_cluster

  monkeypatch.setattr(cloud_tpu_cluster, 'running_in_cloud_tpu_vm', False)
  environment(ONE_SLICE)
  with pytest.raises(RuntimeError, match='4 hosts in TPU_WORKER_HOSTNAMES.*jax.tpu.'):
    start()
  jax.config.update('jax_platforms', 'cpu')
  assert find_cluster() is None


def test_a_host_whose_name_nobody_knows_is_waited_for(
  environment, on_a_tpu, monkeypatch
):
  """The names of a job come up with its pods."""
  asked = []

  def look_up(host, port):
    asked.append(host)
    if len(asked) < 3:
      raise socket.gaierror(-2, 'Name or service not known')

  monkeypatch.setattr(starting.socket, 'getaddrinfo', look_up)
  monkeypatch.setattr(starting, 'NAME_SECONDS', 0)
  environment(ONE_SLICE)
  assert find_cluster().processes == 4 and len(asked) == 3
  asked.clear()
  monkeypatch.setattr(starting, 'FOUND_SECONDS', 0)
  with pytest.raises(RuntimeError, match='job-slice-1-0.job, has no address after 0 s'):
    start()


def test_a_pod_whose_metadata_cannot_be_asked_for_lack_of_a_package(
  environment, on_a_tpu, monkeypatch
):
  monkeypatch.setattr(starting.importlib.util, 'find_spec', lambda name: None)
  environment()
  with pytest.raises(ValueError, match='Google Cloud may .* the package requests'):
    start()


def test_a_job_whose_pods_cannot_be_found_is_told_of(environment, monkeypatch, caplog):
  """They may have work of their own each, so that it is no error."""
  monkeypatch.setattr(starting.importlib.util, 'find_spec', lambda name: None)
  environment(JOB_COMPLETION_INDEX='1', KUBERNETES_SERVICE_HOST='10.0.0.1')
  assert find_cluster() is None
  assert 'runs alone: whether it belongs to Kubernetes' in caplog.text
  assert 'package kubernetes is not installed' in caplog.text


def test_several_slices_outside_kubernetes_are_found(
  environment, on_a_tpu, monkeypatch
):
  from jax._src.clusters import cloud_tpu_cluster

  said = {
    'agent-worker-number': '1',
    'worker-network-endpoints': 'unknown:unknown:10.0.0.5,unknown:unknown:10.0.0.6',
    'tpu-env': "MEGASCALE_NUM_SLICES: '2'\nMEGASCALE_SLICE_ID: '1'\n"
    "MEGASCALE_COORDINATOR_ADDRESS: '127.0.0.1:8080'",
  }
  monkeypatch.setattr(cloud_tpu_cluster, 'get_metadata', lambda key: (said[key], 200))
  environment()
  assert find_cluster() == Cluster('Google Cloud', '127.0.0.1:8482', 4, 3)
  said['tpu-env'] = "ACCELERATOR_TYPE: 'v5litepod-4'"
  said['worker-network-endpoints'] = 'unknown:unknown:10.0.0.5'
  said['agent-worker-number'] = '0'
  assert find_cluster() is None


def test_pods_outside_kubernetes_are_found(environment, on_a_tpu):
  environment()
  assert find_cluster() == Cluster('Google Cloud', '127.0.0.1:8482', 3, 2)


def test_a_pod_is_left_alone_by_what_computes_on_the_cpu(environment, on_a_tpu):
  environment(GKE)
  jax.config.update('jax_platforms', 'cpu')
  assert find_cluster() is None and not on_a_tpu


@pytest.mark.parametrize(
  'variables, message',
  [
    (
      dict(JAX_COORDINATOR_ADDRESS='host:1'),
      'without JAX_NUM_PROCESSES and JAX_PROCESS_ID',
    ),
    (
      dict(JAX_NUM_PROCESSES='2'),
      'JAX_NUM_PROCESSES set without JAX_COORDINATOR_ADDRESS',
    ),
    (GIVEN | dict(JAX_NUM_PROCESSES='two'), "JAX_NUM_PROCESSES: must be .*'two'"),
    (GIVEN | dict(JAX_COORDINATOR_ADDRESS='host'), "must be host:port, got 'host'"),
    (GIVEN | dict(JAX_PROCESS_ID='2'), 'JAX_PROCESS_ID: processes count from 0 to 1'),
    (dict(PMI_SIZE='4', PMI_RANK='0'), 'mpi4py'),
  ],
)
def test_what_does_not_fit_is_named(variables, message, environment, monkeypatch):
  environment(variables)
  monkeypatch.setattr(starting.importlib.util, 'find_spec', lambda name: None)
  with pytest.raises(ValueError, match=message):
    start()


def test_who_does_not_come_in_time_is_waited_for_no_longer(environment, monkeypatch):
  environment(SLURM)
  monkeypatch.setattr(starting, 'FOUND_SECONDS', 0.1)
  monkeypatch.setattr(
    starting.jax.distributed,
    'initialize',
    lambda *args, **more: starting.threading.Event().wait(5),
  )
  with pytest.raises(
    RuntimeError,
    match='Slurm says that this is process 1 of 3 and that '
    'process 0 listens at node07:61445, but not all.*JAX_NUM_PROCESSES=1',
  ):
    start()


def test_a_port_that_is_taken_is_named(environment):
  with socket.socket() as other:
    other.bind(('', 0))
    other.listen()
    port = other.getsockname()[1]
    environment(GIVEN, JAX_COORDINATOR_ADDRESS=f'localhost:{port}', JAX_PROCESS_ID='0')
    with pytest.raises(RuntimeError, match=f'port {port} of this machine'):
      start()


# Two tasks of Slurm on one machine: the second comes late, does not come, and fails.
PROGRAM = textwrap.dedent("""
    import time
    import jax
    from tl_jax import parallel
    parallel.meeting.LOOK_SECONDS = 0.2
    parallel.start()
    assert jax.process_count() == 2, jax.process_count()
    rank = jax.process_index()
    began = time.monotonic()
    if rank == 1:
      time.sleep(0.8)
    parallel.meet('here')
    assert rank == 1 or time.monotonic() - began > 0.5
    parallel.meet('here')
    if rank == 0:
      try:
        parallel.meet('there', seconds=0.2)
      except TimeoutError as error:
        assert 'process 1 (' in str(error) and "'there'" in str(error), error
      else:
        raise AssertionError('nobody was missed')
    parallel.meet('after that')
    try:
      with parallel.telling_failures():
        if rank == 1:
          raise ValueError('no such file')
        parallel.meet('in vain')
    except RuntimeError as error:
      told = str(error)
      assert rank == 0 and told.startswith('process 1 ('), told
      assert told.endswith('has failed: ValueError: no such file'), told
    except ValueError:
      assert rank == 1
    else:
      raise AssertionError('nobody was told')
    with parallel.telling_failures():     # the next run knows nothing of that one
      parallel.meet('the end')
    print(rank)
    """)


@pytest.mark.slow
def test_two_tasks_of_slurm_start_and_meet(environment):
  environment()
  with socket.socket() as probe:
    probe.bind(('localhost', 0))
    port = str(probe.getsockname()[1])
  shared = SLURM | dict(
    SLURM_STEP_NODELIST='localhost',
    SLURM_NTASKS='2',
    SLURM_STEP_NUM_TASKS='2',
    SLURM_STEP_NUM_NODES='1',
    JAX_COORDINATOR_PORT=port,
  )
  tasks = [
    subprocess.Popen(
      [sys.executable, '-c', PROGRAM],
      stdout=subprocess.PIPE,
      stderr=subprocess.PIPE,
      text=True,
      env=os.environ | shared | dict(SLURM_PROCID=rank, SLURM_LOCALID=rank),
    )
    for rank in '01'
  ]
  told = [task.communicate(timeout=120) for task in tasks]
  assert [out.strip() for out, _ in told] == ['0', '1'], told
