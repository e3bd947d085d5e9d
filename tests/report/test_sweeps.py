"""What a sweep reports: ranks, means over seeds, curves, and who has no result and why."""

import csv
import dataclasses
import io
import json

import pytest

from tl_jax import files
from tl_jax.report import sweeps
from tl_jax.scale import members, space, sweep
from tl_jax.scale.processes import folder_of


@pytest.fixture
def made(tmp_path):
  """Four members: three with results of which two are watched, one failed."""
  base = tmp_path / 'base.json'
  base.write_text('{"seed": 0, "lr": 0.1}')
  found = space.base(str(base)) * space.product(lr=[0.1, 0.2], seed=[0, 1])
  listing = members.expand(found, 'sweep.py')
  listing = dataclasses.replace(listing, metric='f1')
  workdir = tmp_path / 'w'
  for index, member in enumerate(listing.members):
    folder = folder_of(workdir, member)
    folder.mkdir(parents=True)
    if index == 3:
      failure = files.encode(dict(reason='no <memory>', retry=True))
      (folder / 'failed.json').write_text(failure)
      continue
    result = dict(task='t', step=20, steps=30, seconds=3600.0)
    result['metrics'] = dict(f1=0.5 + index / 10, accuracy=0.1)
    (folder / 'result.json').write_text(files.encode(result))
    lines = [{'step': 20, 'validation/f1': 0.9 - index / 10}]
    lines.append({'step': 30, 'validation/f1': 0.0})
    text = ''.join(files.encode(line) + '\n' for line in lines)
    (folder / 'evaluations.jsonl').write_text(text)
  return listing, workdir


def write(made):
  listing, workdir = made
  said = []
  outcome = sweep.survey(workdir, listing.members)
  rows = sweeps.write(listing, workdir, outcome, said.append)
  return rows, '\n'.join(said)


def test_the_best_is_that_on_validation_at_the_step_of_the_model(made):
  rows, said = write(made)
  (group,) = sweeps.groups_of(rows)
  assert group.split == 'validation'
  assert [row.value for row in group.rows] == pytest.approx([0.9, 0.8, 0.7])
  assert [row.number for row in group.rows] == [0, 1, 2]
  assert 'Mean over seeds' in said and '3 of 4 members are done' in said


def test_where_only_the_loss_was_watched_it_counts(made):
  listing, workdir = made
  for member in listing.members:
    file = folder_of(workdir, member) / 'evaluations.jsonl'
    if file.exists():
      file.write_text(file.read_text().replace('/f1', '/loss'))
  rows, _ = write(made)
  (group,) = sweeps.groups_of(rows)
  assert (group.split, group.metric) == ('validation', 'loss')
  # Lower is better.
  assert [row.number for row in group.rows] == [2, 1, 0]


def test_where_nothing_was_watched_the_test_split_counts_and_is_named(made):
  listing, workdir = made
  for member in listing.members:
    (folder_of(workdir, member) / 'evaluations.jsonl').unlink(missing_ok=True)
  rows, said = write(made)
  (group,) = sweeps.groups_of(rows)
  assert group.split == 'test' and group.rows[0].number == 2
  assert 'nothing was held out' in said
  page = (workdir / 'report.html').read_text()
  assert 'chosen on the test split' in page


def test_all_members_are_in_the_files(made):
  rows, _ = write(made)
  workdir = made[1]
  table = list(csv.DictReader(io.StringIO((workdir / 'members.csv').read_text())))
  assert [line['lr'] for line in table] == ['0.1', '0.1', '0.2', '0.2']
  assert table[3]['reason'] == 'no <memory>' and table[3]['value'] == ''
  lines = (workdir / 'members.jsonl').read_text().splitlines()
  assert [json.loads(line)['state'] for line in lines] == ['done'] * 3 + ['failed']
  (curve,) = json.loads((workdir / 'budget.json').read_text())
  assert curve['hours_per_trial'] == 1.0 and len(curve['curve']) == 3
  assert curve['curve'][0]['expected'] == pytest.approx(0.8)


def test_the_page_has_the_curve_and_the_reasons(made):
  write(made)
  page = (made[1] / 'report.html').read_text()
  assert 'no &lt;memory&gt;' in page and 'no <memory>' not in page
  assert 'Search budget' in page and page.count('data:image/svg+xml') == 2
  assert 'http' not in page.replace('http://www.w3.org', '')


def test_lower_is_better_for_a_loss():
  rows = []
  for number, value in enumerate([2.0, 1.0]):
    row = sweeps.Row(number, 'a', {}, 'done', task='t', metric='loss', value=value)
    rows.append(row)
  (group,) = sweeps.groups_of(rows)
  assert [row.value for row in group.rows] == [1.0, 2.0]
  assert group.curve[1].expected == pytest.approx(1.25)


def test_a_sweep_without_a_result_is_a_page_of_reasons(made):
  listing, workdir = made
  for member in listing.members:
    (folder_of(workdir, member) / 'result.json').unlink(missing_ok=True)
  rows, said = write(made)
  assert sweeps.groups_of(rows) == [] and '0 of 4 members' in said
  assert 'Members without a result' in (workdir / 'report.html').read_text()
