"""What is said of a mixture: the whole in a line, each source in one of its own."""

from tl_jax.train import telling


def values_of(count):
  """The figures of so many sources; the later ones have larger losses."""
  found = dict(loss=2.0, perplexity=7.4, examples=9.0)
  for number in range(count):
    found |= {f'texts/{number}.txt/{name}': number for name in ('loss', 'perplexity')}
  return found


def test_a_task_and_a_single_source_are_one_line():
  (line,) = telling.lines('step 3', {'loss': 1.0, 'loss/masked': 0.5, 'f1': 0.25})
  assert line == 'step 3: loss 1.0000, loss/masked 0.5000, f1 0.2500'


def test_sources_stand_below_each_other_the_worst_first():
  first, header, *rows = telling.lines('step 3', values_of(3))
  assert first == 'step 3: loss 2.0000, perplexity 7.4000, examples 9.0000'
  assert header.split() == ['source', 'loss', 'perplexity']
  assert [row.split()[0] for row in rows] == [f'texts/{n}.txt' for n in (2, 1, 0)]
  assert {row.index('.0000') for row in rows} == {header.index('loss') + 1}


def test_of_many_sources_the_best_are_counted():
  found = telling.lines('step 3', values_of(30))
  assert len(found) == 2 + telling.MOST + 1 and max(map(len, found)) < 60
  assert found[-1] == '  22 more sources, loss 21.0000 to 0.0000'


def test_a_source_whose_terms_are_apart_has_them_as_columns():
  values = {'loss': 3.0}
  for name in 'ab':
    values |= {
      f'{name}/loss': 3.0,
      f'{name}/loss/pair': 1.0,
      f'{name}/loss/masked': 2.0,
    }
  header = telling.lines('', values)[1].split()
  assert header == ['source', 'loss', 'loss/pair', 'loss/masked']


def test_a_source_inside_of_another_name_keeps_its_own_figures():
  values = {'loss': 1.0, 'a/loss': 2.0, 'a/b/loss': 3.0}
  first, header, *rows = telling.lines('x', values)
  assert first == 'x: loss 1.0000' and header.split() == ['source', 'loss']
  assert [row.split() for row in rows] == [['a/b', '3.0000'], ['a', '2.0000']]
