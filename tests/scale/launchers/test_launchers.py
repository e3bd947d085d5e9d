"""The text for every launcher: as its tool takes it, byte for byte, and by its schema.

The tools of these versions have taken the text in `golden`: xpk 1.16.0 by its dry run
(exit code 0), SkyPilot 0.14.1 by `Task.from_yaml`, the schema of JobSet v1alpha2 (JobSet
0.9.1) by jsonschema with no field besides those that it has. `submitit-1.5.4.sh` is what
submitit writes for the same array. After a change that is meant, TL_JAX_WRITE_GOLDEN=1
writes the files anew.
"""

import dataclasses
import json
import os
import pathlib
import shlex
import subprocess

import pytest
import yaml

from tl_jax.cli import main as command
from tl_jax.config import ConfigError
from tl_jax.scale import launchers
from tl_jax.scale.launchers import Launch, Work, accelerators, handing, read

HERE = pathlib.Path(__file__).parent
GOLDEN = HERE / 'golden'
WORK = Work('rates.py', pathlib.Path('/mnt/my work'), ('0', '1', '2-3'))
SINGLE = WORK._replace(jobs=('0', '1', '2'))
POD = dict(accelerator='v5e:4x4', slices=2, image='gcr.io/p/tl:1', env={'A': 'b c'})
CASES = {
  'slurm.sh': (
    'slurm',
    Launch(
      accelerator='h100:8',
      parallel=2,
      time='4h',
      queue='gpu',
      cpus=8,
      memory='32G',
      setup='module load cuda',
      env={'A': 'b c'},
    ),
    SINGLE,
  ),
  'slurm-cohorts.sh': ('slurm', Launch(slices=2, accelerator='h100:8'), WORK),
  'xpk.sh': (
    'xpk',
    Launch(**POD, cluster='c', project='p', zone='us-central1-a', priority='high'),
    WORK,
  ),
  'jobset.yaml': (
    'jobset',
    Launch(
      **POD, queue='team', namespace='ml', bucket='runs', account='robot', restarts=20
    ),
    WORK,
  ),
  'skypilot.yaml': (
    'skypilot',
    Launch(
      **{**POD, 'slices': 1}, bucket='runs', spot=True, cpus=8, memory='32G', setup='ls'
    ),
    WORK,
  ),
}


def emit(case):
  name, launch, work = CASES[case]
  return launchers.LAUNCHERS[name].emit(launch, work)


@pytest.mark.parametrize('case', CASES)
def test_the_text_is_that_which_the_tool_has_taken(case):
  files = emit(case).files
  content = files.get(case) or files['slurm.sh']
  if os.environ.get('TL_JAX_WRITE_GOLDEN') == '1':
    (GOLDEN / case).write_text(content)
  assert content == (GOLDEN / case).read_text()


@pytest.mark.parametrize('case', ['slurm.sh', 'slurm-cohorts.sh', 'xpk.sh'])
def test_the_scripts_are_ones_of_bash(case):
  subprocess.run(['bash', '-n', str(GOLDEN / case)], check=True)


# JobSet, held against its schema.


def misfits(value, schema, path='jobset'):
  """Where a value is not as a structural schema of Kubernetes has it."""
  if schema.get('x-kubernetes-int-or-string'):
    return [] if isinstance(value, int | str) else [path]
  kinds = dict(object=dict, array=list, string=str, integer=int, boolean=bool)
  wanted = kinds[schema['type']]
  if not isinstance(value, wanted) or (wanted is int and isinstance(value, bool)):
    return [f'{path}: no {schema["type"]}']
  if 'enum' in schema and value not in schema['enum']:
    return [f'{path}: {value!r}']
  found = []
  if wanted is list:
    for index, item in enumerate(value):
      found += misfits(item, schema['items'], f'{path}[{index}]')
  if wanted is dict:
    found += [
      f'{path}.{name}' for name in schema.get('required', ()) if name not in value
    ]
    for name, item in value.items():
      inner = schema.get('properties', {}).get(name) or schema.get(
        'additionalProperties'
      )
      # The schema of a resource leaves its metadata to Kubernetes.
      if path == 'jobset' and name == 'metadata':
        continue
      found += misfits(item, inner, f'{path}.{name}') if inner else [f'{path}.{name}?']
  return found


@pytest.fixture(scope='module')
def schema():
  """That of JobSet 0.9.1 without descriptions, and without parts nobody here writes."""
  return json.loads((HERE / 'jobset_v1alpha2.json').read_text())


def documents(case='jobset.yaml'):
  return list(yaml.safe_load_all(emit(case).files['jobset.yaml']))


def test_the_jobset_fits_its_schema(schema):
  found = documents()
  assert [each['metadata']['name'] for each in found] == [
    'rates-0',
    'rates-1',
    'rates-2',
  ]
  for each in found:
    assert misfits(each, schema) == []


@pytest.mark.parametrize(
  ('place', 'value'),
  [
    (('spec', 'failurePolicy', 'maxRestart'), 3),
    (('spec', 'failurePolicy', 'maxRestarts'), '3'),
    (('spec', 'failurePolicy', 'rules', 0, 'action'), 'Fail'),
    (('spec', 'replicatedJobs', 0, 'name'), None),
  ],
)
def test_the_schema_finds_what_does_not_fit(schema, place, value):
  document = documents()[0]
  *way, last = place
  node = document
  for step in way:
    node = node[step]
  if value is None:
    del node[last]
  else:
    node[last] = value
  assert misfits(document, schema)


def pod_of(document):
  job = document['spec']['replicatedJobs'][0]
  return job, job['template']['spec'], job['template']['spec']['template']['spec']


def test_every_host_of_every_slice_has_a_pod_and_75_starts_it_again():
  replicated, job, pod = pod_of(documents()[2])
  assert replicated['replicas'] == 2 and job['parallelism'] == job['completions'] == 4
  (container,) = pod['containers']
  assert container['resources']['limits'] == {'google.com/tpu': 4}
  assert container['command'][-1] == '--member=2-3'
  (rule,) = job['podFailurePolicy']['rules']
  assert (
    rule['onExitCodes']['operator'] == 'In' and 75 not in rule['onExitCodes']['values']
  )
  assert rule['onExitCodes']['containerName'] == container['name']
  assert pod['restartPolicy'] == 'Never'


def test_slices_may_be_said_by_the_name():
  launch = Launch(accelerator='2xv5e:4x4', image='i')
  text = launchers.LAUNCHERS['jobset'].emit(launch, SINGLE).files['jobset.yaml']
  replicated, job, _ = pod_of(next(iter(yaml.safe_load_all(text))))
  assert replicated['replicas'] == 2 and job['completions'] == 4


def test_gpus_and_a_claim():
  launch = Launch(accelerator='h100:8', image='i', claim='disk', mount='/w')
  work = SINGLE._replace(jobs=('4',))
  text = launchers.LAUNCHERS['jobset'].emit(launch, work).files['jobset.yaml']
  _, job, pod = pod_of(yaml.safe_load(text))
  assert job['completions'] == 1 and 'hostNetwork' not in pod
  assert pod['nodeSelector'] == {'cloud.google.com/gke-accelerator': 'nvidia-h100-80gb'}
  assert pod['containers'][0]['resources']['limits'] == {'nvidia.com/gpu': 8}
  assert pod['volumes'][0]['persistentVolumeClaim'] == {'claimName': 'disk'}


# The others.


def options_of(text):
  found = {}
  for line in text.splitlines():
    if line.startswith('#SBATCH '):
      name, _, value = shlex.split(line)[1].partition('=')
      found[name] = value
  return found


def test_the_options_of_slurm_are_those_of_submitit():
  ours = options_of((GOLDEN / 'slurm.sh').read_text())
  theirs = options_of((GOLDEN / 'submitit-1.5.4.sh').read_text())
  # Minutes there, and what is submitit's own.
  assert theirs.pop('--time') == '240' and ours.pop('--time') == '4:00:00'
  for name in ('--output', '--error', '--wckey'):
    theirs.pop(name)
  del ours['--output']
  assert ours == theirs


def test_xpk_is_told_what_it_does_not_do_by_itself():
  lines = emit('xpk.sh').files['xpk.sh'].splitlines()
  words = shlex.split(lines[-1])
  assert {'--max-restarts=10', '--restart-on-exit-codes=75', '--num-slices=2'} <= {
    *words
  }
  inner = shlex.split(words[-1].removeprefix('--command='))
  assert inner == WORK.words(Launch(), '2-3')


def test_skypilot_launches_one_job_each():
  lines = emit('skypilot.yaml').files['skypilot.sh'].splitlines()
  assert lines[-1].endswith('--name=rates-2 --env=TL_JAX_MEMBER=2-3 skypilot.yaml')
  task = yaml.safe_load(emit('skypilot.yaml').files['skypilot.yaml'])
  assert task['resources']['accelerators'] == 'tpu-v5litepod-16'
  assert task['run'] == (
    'tl-jax sweep rates.py \'--workdir=/mnt/my work\' --member="$TL_JAX_MEMBER"\n'
  )


@pytest.mark.parametrize(
  ('name', 'launch', 'words'),
  [
    ('slurm', Launch(image='x'), 'launcher.image: slurm does not read it'),
    ('jobset', Launch(), 'launcher.image: jobset needs it'),
    ('xpk', Launch(cluster='c', image='i', accelerator='h100:8'), 'of xpk a TPU'),
    ('skypilot', Launch(accelerator='v5e:4x4', slices=2), 'one slice'),
    ('slurm', Launch(time='soon'), 'launcher.time'),
    ('slurm', Launch(accelerator='v5e'), 'launcher.accelerator: .*CHIP:SHAPE'),
    ('slurm', Launch(accelerator='v9:4x4'), "launcher.accelerator: .*'v9'; nearest"),
    ('slurm', Launch(accelerator='v5p:4x4'), '3 dimensions'),
    ('slurm', Launch(accelerator='h100:2x4'), 'number'),
    ('jobset', Launch(image='i', accelerator='2xv5e:4x4', slices=3), 'says it already'),
    ('slurm', Launch(accelerator='v5e:1x2'), 'whole hosts'),
  ],
)
def test_what_a_launcher_cannot_do_is_said(name, launch, words):
  with pytest.raises(ConfigError, match=words):
    launchers.LAUNCHERS[name].emit(launch, SINGLE)


def test_settings_of_the_file_and_of_the_command_line():
  given = dict(image='a', env={'A': '1'})
  launch = read(given, [('image', 'b'), ('env.B', '2'), ('spot', 'true')])
  assert (launch.image, launch.env, launch.spot) == ('b', {'A': '1', 'B': '2'}, True)
  with pytest.raises(ConfigError, match="launcher.imgae: unknown.*'image'"):
    read({}, [('imgae', 'x')])
  with pytest.raises(ConfigError, match="launcher.imgae: unknown.*'image'"):
    read({'imgae': 'x'})


def test_every_setting_is_of_some_launcher():
  common = {'name', 'together', 'workdir', 'command', 'submit'}
  of_some = set().union(*(each.reads.split() for each in launchers.LAUNCHERS.values()))
  fields = {field.name for field in dataclasses.fields(Launch)}
  assert of_some | common == fields


@pytest.mark.parametrize(
  ('name', 'hosts', 'kind'),
  [
    ('v5e:1x1', 1, 'v5litepod-1'),
    ('v5p:2x2x2', 2, 'v5p-16'),
    ('v6e:8x8', 16, 'v6e-64'),
  ],
)
def test_slices_and_their_hosts(name, hosts, kind):
  found = accelerators.find(name)
  assert (found.hosts, found.tpu_type) == (hosts, kind)


@pytest.mark.parametrize(
  ('file', 'name'), [('My Sweep!.py', 'my-sweep'), ('3.py', 'sweep-3')]
)
def test_names_are_those_of_kubernetes(file, name):
  assert WORK._replace(file=file).name(Launch()) == name
  assert len(WORK._replace(file='x' * 99).name(Launch())) < 40


# From the command line.

FILE = """
from tl_jax.scale import space
SWEEP = space.base({base!r}) * space.product(lr=[1, 2], seed=range(3))
LAUNCH = dict(image='IMAGE')
"""


@pytest.fixture
def sweep_file(tmp_path):
  base = tmp_path / 'base.json'
  base.write_text('{"seed": 0, "lr": 1, "optim": {"lr": 0.1}}')
  path = tmp_path / 'rates.py'
  path.write_text(FILE.format(base=str(base)))
  return path


def run(path, workdir, *flags):
  return command.main(['sweep', str(path), f'--workdir={workdir}', *flags])


def test_a_dry_run_shows_the_text_and_writes_nothing(sweep_file, tmp_path, capsys):
  workdir = tmp_path / 'w'
  assert run(sweep_file, workdir, '--launcher=jobset', '--dry-run') == 0
  found = list(yaml.safe_load_all(capsys.readouterr().out))
  assert len(found) == 6 and not workdir.exists()


def test_without_the_tool_the_text_and_the_command_are_left(
  sweep_file, tmp_path, capsys, monkeypatch
):
  monkeypatch.setenv('PATH', str(tmp_path))
  workdir = tmp_path / 'w'
  assert run(sweep_file, workdir, '--launcher=jobset') == 0
  said = capsys.readouterr().out
  text = workdir / 'launch' / 'jobset.yaml'
  assert 'kubectl is not installed here' in said and str(text) in said
  assert len(list(yaml.safe_load_all(text.read_text()))) == 6
  assert (workdir / 'sweep.json').is_file()


@pytest.mark.parametrize('code', [0, 3])
def test_the_tool_is_called_where_it_is(
  sweep_file, tmp_path, capsys, monkeypatch, code
):
  tool = tmp_path / 'bin' / 'sbatch'
  tool.parent.mkdir()
  tool.write_text(f'#!/bin/sh\necho "took $1 in $PWD"\nexit {code}\n')
  tool.chmod(0o755)
  monkeypatch.setenv('PATH', f'{tool.parent}:/usr/bin:/bin')
  text = sweep_file.read_text().replace("image='IMAGE'", "queue='q'")
  sweep_file.write_text(text)
  workdir = tmp_path / 'w'
  # Of six members one is finished: five are handed over.
  assert run(sweep_file, workdir, '--launcher=slurm', '--launcher.submit=false') == 0
  listing = json.loads((workdir / 'sweep.json').read_text())
  folder = workdir / 'members' / listing['members'][2]['id']
  folder.mkdir(parents=True)
  (folder / 'result.json').write_text('{}')
  capsys.readouterr()
  assert run(sweep_file, workdir, '--launcher=slurm') == (1 if code else 0)
  said = capsys.readouterr()
  assert f'took slurm.sh in {workdir / "launch"}' in said.out
  assert '--array=0-1,3-5' in (workdir / 'launch' / 'slurm.sh').read_text()
  if code:
    assert 'exited with code 3' in said.err
  assert (workdir / 'ledger.jsonl').exists() == (not code)


def test_members_of_a_cohort_are_one_job():
  assert handing.in_jobs([[0, 2, 4, 6], [1, 3]], 3) == ['0,2', '4,6', '1,3']
  assert handing.in_jobs([[0, 1, 2, 3]], 8) == ['0-3']
