"""Kubernetes: a JobSet for each job, in the form of jobset.x-k8s.io/v1alpha2.

>>> import pathlib
>>> from tl_jax.scale.launchers.launch import Launch, Work
>>> launch = Launch(image='IMAGE', accelerator='v5e:4x4', queue='default')
>>> found = document(launch, Work('rates.py', pathlib.Path('/mnt/w'), ('3',)), '3')
>>> found['metadata']['name'], found['spec']['replicatedJobs'][0]['template']['spec']['completions']
('rates-3', 4)

A pod that exits with 1 or 2 ends its JobSet for good. With any other code, as 75 after
it has saved, or killed with its machine, all pods of the JobSet are started again.
"""

import yaml

from tl_jax.scale.launchers.accelerators import Accelerator
from tl_jax.scale.launchers.launch import FINAL, Emitted, Launch, Launcher, Work

VERSION = 'jobset.x-k8s.io/v1alpha2'
CONTAINER = 'tl-jax'
VOLUME = 'sweep'
# Seconds that a pod has to save before it is killed.
GRACE = 120
# Seconds after which a finished JobSet is deleted: a week.
KEPT = 7 * 86400


def text(launch: Launch, work: Work) -> Emitted:
  """The documents of all jobs in one file."""
  documents = [document(launch, work, member) for member in work.jobs]
  content = yaml.safe_dump_all(documents, sort_keys=False, explicit_start=True)
  command = ('kubectl', 'apply', '-f', 'jobset.yaml')
  return Emitted({'jobset.yaml': content}, command, 'kubectl')


def document(launch: Launch, work: Work, member: str) -> dict:
  """The JobSet of one job."""
  name = work.name(launch)
  metadata = {'name': work.job_name(launch, member), 'labels': {}}
  metadata['labels']['tl-jax/sweep'] = name
  if launch.namespace:
    metadata['namespace'] = launch.namespace
  if launch.queue:
    metadata['labels']['kueue.x-k8s.io/queue-name'] = launch.queue
  device = launch.device
  if device is not None and device.hosts > 1:
    # A slice is a node pool: the pods of a job must not lie in two of them.
    metadata['annotations'] = {
      'alpha.jobset.sigs.k8s.io/exclusive-topology': 'cloud.google.com/gke-nodepool'
    }
  final = {
    'name': 'final',
    'action': 'FailJobSet',
    'onJobFailureReasons': ['PodFailurePolicy'],
  }
  spec = {
    'ttlSecondsAfterFinished': KEPT,
    'failurePolicy': {'maxRestarts': launch.restarts, 'rules': [final]},
    'replicatedJobs': [_replicated(launch, work, member, device)],
  }
  return {'apiVersion': VERSION, 'kind': 'JobSet', 'metadata': metadata, 'spec': spec}


def _replicated(
  launch: Launch, work: Work, member: str, device: Accelerator | None
) -> dict:
  """A job for each slice, with a pod for each of its hosts."""
  hosts = 1 if device is None else device.hosts
  codes = {'containerName': CONTAINER, 'operator': 'In', 'values': list(FINAL)}
  rule = {'action': 'FailJob', 'onPodConditions': [], 'onExitCodes': codes}
  job = {
    'parallelism': hosts,
    'completions': hosts,
    # One pod that is gone is the end of the step on all of them.
    'backoffLimit': 0,
    'podFailurePolicy': {'rules': [rule]},
    'template': _pod(launch, work, member, device),
  }
  return {'name': 'slice', 'replicas': launch.slices, 'template': {'spec': job}}


def _pod(launch: Launch, work: Work, member: str, device: Accelerator | None) -> dict:
  """The template of a pod."""
  spec = {
    'restartPolicy': 'Never',
    'terminationGracePeriodSeconds': GRACE,
    **_placement(launch, device),
  }
  if launch.account:
    spec['serviceAccountName'] = launch.account
  if launch.priority:
    spec['priorityClassName'] = launch.priority
  if device is not None and device.hosts > 1:
    # As Google's examples of TPU slices have it: hosts talk without another layer.
    spec['hostNetwork'] = True
    spec['dnsPolicy'] = 'ClusterFirstWithHostNet'
  spec['containers'] = [_container(launch, work, member, device)]
  volume = _volume(launch)
  if volume:
    spec['volumes'] = [{'name': VOLUME, **volume}]
  template = {'spec': spec}
  if launch.bucket:
    template = {
      'metadata': {'annotations': {'gke-gcsfuse/volumes': 'true'}},
      **template,
    }
  return template


def _placement(launch: Launch, device: Accelerator | None) -> dict:
  """On which machines a pod may be."""
  selector = {}
  if device is not None and device.is_tpu:
    selector['cloud.google.com/gke-tpu-accelerator'] = device.gke
    selector['cloud.google.com/gke-tpu-topology'] = device.shape
  elif device is not None:
    selector['cloud.google.com/gke-accelerator'] = device.gke
  if launch.spot:
    selector['cloud.google.com/gke-spot'] = 'true'
  found = {'nodeSelector': selector} if selector else {}
  if device is not None:
    key = 'google.com/tpu' if device.is_tpu else 'nvidia.com/gpu'
    found['tolerations'] = [{'operator': 'Exists', 'key': key}]
  return found


def _container(
  launch: Launch, work: Work, member: str, device: Accelerator | None
) -> dict:
  """The container, which is the command itself: signals reach it without a shell."""
  found = {
    'name': CONTAINER,
    'image': launch.image,
    'command': work.words(launch, member),
  }
  if launch.env:
    pairs = launch.env.items()
    found['env'] = [{'name': name, 'value': value} for name, value in pairs]
  limits = {}
  if device is not None:
    key = 'google.com/tpu' if device.is_tpu else 'nvidia.com/gpu'
    limits[key] = device.chips_per_host
  if launch.cpus:
    limits['cpu'] = launch.cpus
  if launch.memory:
    limits['memory'] = launch.memory
  if limits:
    found['resources'] = {'limits': limits}
  if _volume(launch):
    found['volumeMounts'] = [{'name': VOLUME, 'mountPath': launch.mount}]
  return found


def _volume(launch: Launch) -> dict:
  """What is mounted: a bucket, a claim, or nothing."""
  if launch.bucket:
    attributes = {'bucketName': launch.bucket}
    driver = 'gcsfuse.csi.storage.gke.io'
    return {'csi': {'driver': driver, 'volumeAttributes': attributes}}
  if launch.claim:
    return {'persistentVolumeClaim': {'claimName': launch.claim}}
  return {}


JOBSET = Launcher(
  name='jobset',
  reads=(
    'accelerator slices restarts image namespace queue account priority spot cpus memory '
    'bucket claim mount env'
  ),
  needs=('image',),
  text=text,
)
