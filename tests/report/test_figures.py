"""The figures of a page: what is drawn of the steps before a table."""

import json

from tl_jax.report import Scale, Table, figures, run_table


def execute(members):
  for config, directory in members:
    directory.mkdir(parents=True)
    line = {'step': 1, 'loss': config['seed'] + 0.5}
    (directory / 'metrics.jsonl').write_text(json.dumps(line))
    (directory / 'result.json').write_text(json.dumps({'metrics': {'f1': 0.5}}))


def test_a_step_before_the_table_has_a_line_for_every_seed_that_changes_it(
  tmp_path, monkeypatch
):
  drawn = []
  monkeypatch.setattr(figures.plots, 'as_svg', lambda plot: '<svg/>')
  monkeypatch.setattr(
    figures.plots, 'loss_plot', lambda lines, **named: drawn.append(lines)
  )
  monkeypatch.setattr('tl_jax.report.html.figures', lambda outcome, findings: [])
  table = Table(
    'T',
    'S',
    ('lora',),
    ('cola',),
    (1, 2),
    lambda row, column, seed, scale, shared, own: {'init': own, 'seed': seed},
    'f1',
    before={
      'shared': lambda seed, scale: {'seed': 0},
      'own': lambda seed, scale, shared: {'seed': seed, 'init': shared},
    },
  )
  outcome = run_table(table, Scale(), tmp_path, execute, lambda text: None)
  assert figures._first_loss_figure(outcome).startswith('<figure>')
  losses = {
    name: [lines[0]['loss'] for lines in seeds] for name, seeds in drawn[0].items()
  }
  assert losses == {'shared': [0.5], 'own': [1.5, 2.5]}
