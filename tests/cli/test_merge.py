"""`tl-jax merge` end to end on seconds-sized transfers: what it says, what it writes,
what it refuses.
"""

import json
import shutil

import numpy as np
import pytest

from tl_jax import config, files, train, tree
from tl_jax.cli import main as command
from tl_jax.cli.merge import METHODS
from tl_jax.transfer import merging

QUICK = [
  ('schedule.steps', '3'),
  ('schedule.warmup', '1'),
  ('data.length', '32'),
  ('data.batch', '4'),
  ('task.test', '40'),
  ('log.every', '3'),
  ('log.tensorboard', 'false'),
]


@pytest.fixture(scope='module')
def folders(pretrained, tmp_path_factory):
  """The workdirs of a base, of two transfers from it, of one that is chained, and of
  one from scratch.
  """
  root = tmp_path_factory.mktemp('merge')
  shutil.copytree(pretrained, root / 'base')
  scratch = [
    ('model.family', 'tiny'),
    ('tokenizer.path', f'{root}/base/tokenizer.json'),
  ]
  for name, task, method, init, more in (
    ('mood', 'sentiment', 'full', root / 'base', ()),
    ('place', 'register', 'lora', root / 'base', ()),
    ('number', 'intensity', 'full', root / 'mood', ()),
    ('alone', 'sentiment', 'full', 'scratch', scratch),
  ):
    loaded = config.load(
      f'configs/transfer.py:task={task},method={method},init={init},labels=24',
      [*QUICK, *more],
    )
    train.transfer(loaded, root / name)
  return root


@pytest.fixture
def merge(folders, tmp_path, capsys):
  """Runs the verb on workdirs by their names: (exit code, lines, complaint, report or
  None).
  """

  def run(method, *names, flags=(), output='out'):
    paths = [str(folders / name) for name in names]
    code = command.main(
      ['merge', method, *paths, f'--output={tmp_path / output}', *flags]
    )
    said, file = capsys.readouterr(), tmp_path / output / 'merge.json'
    return (
      code,
      said.out.splitlines(),
      said.err,
      files.decode(file.read_text()) if file.is_file() else None,
    )

  return run


def bodies(*paths):
  """The leaves of models that are no head, by name."""
  return [
    {
      name: leaf
      for name, leaf in tree.flatten(train.load(path).params).items()
      if not name.startswith(('head/', 'pooler/'))
    }
    for path in paths
  ]


@pytest.mark.slow
@pytest.mark.parametrize('method', METHODS)
def test_every_method_scores_every_source_and_leaves_models_that_open(
  method, merge, folders, tmp_path
):
  flags = ['--examples=6'] if method == 'fisher' else []
  code, lines, complaint, report = merge(method, 'mood', 'place', flags=flags)
  assert (code, complaint, len(lines)) == (0, '', 3)
  assert lines[0].split() == [
    'workdir',
    'task',
    'metric',
    'own',
    'merged',
    'difference',
  ]
  assert (report['method'], report['base']) == (method, str(folders / 'base'))
  assert report['settings'].keys() == METHODS[method].keys()
  for line, row, name in zip(
    lines[1:], report['sources'], ('mood', 'place'), strict=True
  ):
    result = json.loads((folders / name / 'result.json').read_text())
    assert (row['name'], row['task'], row['metric'], row['step']) == (
      name,
      result['task'],
      'accuracy',
      3,
    )
    assert row['own'] == pytest.approx(result['metrics'])
    assert row['difference'] == pytest.approx(
      row['merged']['accuracy'] - row['own']['accuracy']
    )
    assert line.split()[:4] == [
      name,
      result['task'],
      'accuracy',
      f'{row["own"]["accuracy"]:.4f}',
    ]
    kept, opened = (
      tree.flatten(train.load(folder).params)
      for folder in (folders / name, tmp_path / 'out' / name)
    )
    heads = [key for key in kept if key.startswith(('head/', 'pooler/'))]
    assert heads and all(np.array_equal(kept[key], opened[key]) for key in heads)
  one, other, base, *sources = bodies(
    *(tmp_path / 'out' / name for name in ('mood', 'place')),
    *(folders / name for name in ('base', 'mood', 'place')),
  )
  assert one.keys() == base.keys() and all(
    np.array_equal(one[key], other[key]) for key in one
  )
  if method == 'soup':
    assert all(
      np.allclose(one[key], (sources[0][key] + sources[1][key]) / 2, atol=1e-6)
      for key in one
    )
  if method == 'ties':
    expected = merging.ties(base, sources, density=0.2)
    assert all(np.array_equal(one[key], expected[key]) for key in one)
  assert any((np.asarray(one[key]) != np.asarray(base[key])).any() for key in one)


@pytest.mark.slow
def test_a_scale_of_1_gives_a_source_back_and_one_of_0_the_base(
  merge, folders, tmp_path
):
  code, _, _, report = merge('task', 'mood', 'place', flags=['--scale=1,0'])
  assert code == 0 and report['settings'] == {'scale': [1, 0]}
  assert report['sources'][0]['difference'] == pytest.approx(0, abs=0.03)
  found, source = bodies(tmp_path / 'out' / 'mood', folders / 'mood')
  assert all(np.allclose(found[key], source[key], atol=1e-6) for key in source)
  assert merge('task', 'mood', flags=['--scale=0'], output='zero')[0] == 0
  found, base = bodies(tmp_path / 'zero' / 'mood', folders / 'base')
  assert all(np.array_equal(found[key], base[key]) for key in base)


@pytest.mark.slow
def test_a_named_base_allows_other_inits_and_real_values_are_scored(merge, folders):
  code, lines, _, report = merge(
    'ties', 'place', 'number', flags=[f'--base={folders / "base"}', '--density=0.5']
  )
  assert (code, len(lines)) == (0, 3) and report['sources'][1]['metric'] == 'pearson'
  assert report['settings'] == {'scale': [1], 'density': 0.5}


@pytest.mark.parametrize(
  'method, names, flags, said',
  [
    ('tiez', 'ab', [], "nearest: 'ties'"),
    ('soup', 'a', [], 'soup: needs at least 2 workdirs, got 1'),
    ('slerp', 'abc', [], 'slerp: needs exactly 2 workdirs, got 3'),
    ('soup', 'ab', ['--density=0.5'], '--density: is not of soup, but of ties'),
    (
      'ties',
      'ab',
      ['--density=much'],
      "argument --density: needs a number, got 'much'",
    ),
    (
      'ties',
      'ab',
      ['--scale=1,2'],
      '--scale: 2 numbers; ties with 2 workdirs takes one',
    ),
    (
      'task',
      'ab',
      ['--scale=1,2,3'],
      '--scale: 3 numbers; task with 2 workdirs takes one, or 2',
    ),
    ('slerp', 'ab', ['--t=nan'], "argument --t: needs a number, got 'nan'"),
    ('fisher', 'ab', ['--examples=0'], '--examples: must be at least 1'),
    ('soup', 'ab', [], 'a: not a workdir'),
  ],
)
def test_flags_that_do_not_fit_are_refused_before_a_model_is_opened(
  method, names, flags, said, tmp_path, capsys
):
  paths = [str(tmp_path / name) for name in names]
  assert (
    command.main(['merge', method, *paths, f'--output={tmp_path / "out"}', *flags]) == 2
  )
  complaint = capsys.readouterr().err
  assert (
    said in complaint and complaint.count('\n') == 1 and not list(tmp_path.iterdir())
  )


@pytest.mark.slow
@pytest.mark.parametrize(
  'method, names, flags, said',
  [
    (
      'ties',
      ['mood', 'place'],
      ['--density=1.5'],
      'density: must be above 0 and at most 1, got 1.5',
    ),
    (
      'dare',
      ['mood', 'place'],
      ['--drop=1'],
      'drop: must be at least 0 and below 1, got 1',
    ),
    ('soup', ['mood', 'base'], [], 'base: a workdir of pre-training'),
    ('soup', ['mood', 'mood'], [], 'mood: given twice'),
    ('soup', ['mood', 'number'], [], 'models of different inits do not merge'),
    ('soup', ['mood', 'alone'], [], 'alone: started from scratch'),
    (
      'task',
      ['mood', 'place'],
      ['--base=/no/such/folder'],
      '/no/such/folder: not a folder',
    ),
    (
      'fisher',
      ['place', 'number'],
      ['--base=base'],
      'fisher needs predictions that are probabilities',
    ),
  ],
)
def test_sources_that_do_not_fit_are_refused_and_nothing_is_written(
  method, names, flags, said, merge, tmp_path
):
  code, lines, complaint, _ = merge(method, *names, flags=flags)
  assert (code, lines, complaint.count('\n')) == (2, [], 1) and said in complaint
  assert not (tmp_path / 'out').exists()


@pytest.mark.slow
def test_bodies_of_other_shapes_are_refused_by_the_leaf(merge, folders):
  code, _, complaint, _ = merge(
    'soup', 'mood', 'alone', flags=[f'--base={folders / "base"}']
  )
  assert code == 2 and "'layers/1/" in complaint and complaint.count('\n') == 1


@pytest.mark.slow
def test_an_output_that_is_there_is_not_touched(merge, tmp_path):
  (tmp_path / 'out').mkdir()
  (tmp_path / 'out' / 'notes.txt').write_text('mine')
  code, _, complaint, report = merge('soup', 'mood', 'place')
  assert (
    code == 2 and 'exists and is not an empty folder' in complaint and report is None
  )


@pytest.mark.slow
def test_workdirs_of_one_name_get_folders_of_their_own(merge, folders, tmp_path):
  for place in ('one', 'two'):
    shutil.copytree(folders / 'mood', tmp_path / place / 'mood')
  code, _, _, report = merge(
    'soup', 'mood', tmp_path / 'one' / 'mood', tmp_path / 'two' / 'mood'
  )
  assert code == 0 and [row['name'] for row in report['sources']] == [
    'mood',
    'mood-2',
    'mood-3',
  ]
  assert all(row['difference'] == 0 for row in report['sources'])
