"""The page: whole, well formed, escaped, and needing nothing from outside."""

import base64
import html.parser
import json
import re
import xml.etree.ElementTree

import pytest

from tl_jax.report import Claim, Scale, Table, published, run_table
from tl_jax.report import html as pages

VOID = {'meta', 'img', 'source', 'br', 'link', 'input'}


class Reader(html.parser.HTMLParser):
  """Checks that every tag is closed in order, and keeps tags, attributes and text."""

  def __init__(self):
    super().__init__()
    self.open, self.tags, self.attributes, self.text = [], [], [], []

  def handle_starttag(self, tag, attrs):
    self.tags.append(tag)
    self.attributes += attrs
    if tag not in VOID:
      self.open.append(tag)

  def handle_endtag(self, tag):
    assert self.open.pop() == tag

  def handle_data(self, data):
    self.text.append(data)


def execute(members):
  for config, directory in members:
    directory.mkdir(parents=True)
    value = (
      0.5
      + 0.1 * (config['row'] != 'scratch')
      + config['column'] / 1000
      + config['seed'] ** 2 / 100
    )
    lines = [
      {'step': step, 'loss': 1 / step, 'eval/accuracy': value * step / 4}
      for step in range(1, 5)
    ]
    (directory / 'metrics.jsonl').write_text(
      ''.join(json.dumps(line) + '\n' for line in lines)
    )
    (directory / 'result.json').write_text(
      json.dumps(
        {
          'task': 'imdb',
          'n': 2500,
          'metrics': {'accuracy': value},
          'seconds': 2.0,
          'trained_parameters': 1234567,
        }
      )
    )


@pytest.fixture(scope='module')
def page(tmp_path_factory):
  table = Table(
    'Labels <script>alert(1)</script> & gain',
    'A "paper"',
    ('scratch', 'full <b>'),
    (16, 64),
    range(3),
    lambda row, column, seed, scale: {'row': row, 'column': column, 'seed': seed},
    'accuracy',
    factor=100,
    unit=' %',
    digits=1,
    reference='scratch',
    published=published(
      'ulmfit',
      table='Table 4 (val error)',
      rows={'scratch': 'Without pretraining'},
      columns={16: 'IMDb'},
    ),
    claims=(
      Claim(
        'gain <i>', lambda cells: cells['full <b>'] - cells['scratch'], at_least=5.0
      ),
      Claim(
        'loss', lambda cells: cells['scratch', 16] - cells['full <b>', 16], at_least=5.0
      ),
    ),
  )
  folder = tmp_path_factory.mktemp('page')
  run_table(table, Scale(), folder, execute, lambda text: None)
  return (folder / 'report.html').read_text('utf-8')


def test_the_page_is_well_formed_and_escapes_what_it_is_given(page):
  reader = Reader()
  reader.feed(page)
  reader.close()
  assert reader.open == []
  assert not {'script', 'i', 'b', 'link', 'iframe', 'object'} & set(reader.tags)
  assert '<script>alert(1)</script>' in ''.join(reader.text)


def test_the_page_refers_to_nothing_outside(page):
  reader = Reader()
  reader.feed(page)
  for name, value in reader.attributes:
    assert not name.startswith('on')
    if name in ('src', 'srcset', 'href', 'data', 'action'):
      assert value.startswith('data:image/svg+xml;base64,')
  assert 'url(' not in page
  assert '@import' not in page
  assert '://' not in page


def test_every_figure_is_an_svg_that_parses_and_refers_to_nothing_outside(page):
  found = re.findall(r'data:image/svg\+xml;base64,([A-Za-z0-9+/=]+)', page)
  # Labels, gain, target and training loss, each for the light and the dark page.
  assert len(found) == 8
  for data in found:
    tree = xml.etree.ElementTree.fromstring(base64.b64decode(data))
    assert tree.tag.endswith('svg')
    for element in tree.iter():
      for name, value in element.attrib.items():
        assert not name.endswith('href') or value.startswith('#')


def test_the_page_has_the_numbers_and_the_verdicts(page):
  text = re.sub(r'<style>.*?</style>|<[^>]+>', ' ', page, flags=re.DOTALL)
  for words in (
    '12 of 12 runs finished',
    '✓ held',
    '✗ missed',
    '1,234,567',
    'n=3',
    '53.3 ± ',
    'published 5.63',
    'Of 2 claims: 1 held, 1 missed, 0 undecided',
    'a gain of 10.0 points',
  ):
    assert words in text, words
  assert 'nan' not in text.lower().split()


def test_the_page_adapts_to_dark_and_narrow_screens_without_scripts(page):
  for words in (
    'color-scheme: light dark',
    'prefers-color-scheme: dark',
    'name="viewport"',
    '<html lang="en">',
  ):
    assert words in page


def test_the_page_says_on_which_task_and_how_many_examples(page):
  title, rest = page.split('</h1>', 1)
  assert 'Task imdb, 2,500 test examples.' in rest[:300]


def test_intervals_stand_below_their_values(page):
  """Side by side, five of them are wider than a page of 1,200 pixels."""
  assert pages._stacked('+3.8 [-2.4, 10.0] (n=5)') == (
    '<td>+3.8<small>[-2.4, 10.0] (n=5)</small></td>'
  )
  assert pages._stacked('12 (×1.5) <b>') == '<td>12 (×1.5) &lt;b&gt;</td>'
  assert not re.search(r'<td>[^<]*\[', page)
