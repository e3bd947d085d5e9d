"""Paragraphs of two languages: which are a pair, and what is cleaned away."""

from tiny_packages import write_tar

from tl_jax.data.fetch import manual
from tl_jax.data.fetch.packages import Brought


def test_what_a_reader_does_not_see_is_left_out():
  page = (
    '<h1 id="hd_1">Title</h1><p id="par_1">Press <span class="switchinline">'
    '<span hidden="true" class="MAC"><span class="keycode">Command</span></span>'
    '<span hidden="true"><span class="keycode">Ctrl</span></span></span><br>+T\n now.'
    '</p><p id="par_2" class="code">x = 1</p><p>No id</p><p id="par_1">Again</p>'
  )
  assert manual.paragraphs(page) == {'par_1': 'Press Ctrl+T now.'}


def test_ways_through_menus_are_written_alike():
  for dash in ('-', '\u2013', '\u2014', '\u25b8'):
    page = f'<p id="par_1">In <span class="menuitem">A {dash} B</span> {dash} well</p>'
    assert manual.paragraphs(page)['par_1'].startswith('In A > B')
  # A dash elsewhere is a dash.
  page = '<p id="par_1">A - B</p>'
  assert manual.paragraphs(page) == {'par_1': 'A - B'}


def brought(path, language, pages):
  """The package of a language, with the texts of each page."""
  files = {}
  for page, texts in pages.items():
    content = ''.join(f'<p id="par_{key}">{text}</p>' for key, text in texts.items())
    name = f'./usr/share/libreoffice/help/{language}/text/{page}.html'
    files[name] = f'<html><body>{content}</body></html>'.encode()
  files['./usr/share/doc/copyright'] = b'MPL'
  file = write_tar(path / f'{language}.tgz', files)
  return Brought(manual.HELP_EN_DE.packages[0], file, '')


def test_pairs_have_one_id_one_page_and_one_side(tmp_path):
  english = {
    'a/one': {
      '1': 'You can open a file.',
      '2': 'Too short',
      '3': 'The same name in both',
      '4': 'This has no translation here',
      '5': 'One two - three four',
      '6': 'Say it in one line of some words',
    },
    'b/two': {'1': 'You can open  a file.', '9': 'You can close a file.'},
  }
  german = {
    'a/one': {
      '1': 'Sie können eine Datei öffnen.',
      '2': 'Zu kurz',
      '3': 'The same name in both',
      '5': 'Eins zwei - drei vier',
      '6': 'Sag es mit vielen Worten, ' * 6,
    },
    'b/two': {'1': 'Ein anderer Satz steht hier.', '9': 'Sie schließen eine Datei.'},
  }
  files = [brought(tmp_path, 'en-US', english), brought(tmp_path, 'de', german)]
  found = list(manual.HELP_EN_DE.read(files))
  assert [(record.key, record.group) for record in found] == [
    ('a/one.html#par_1', 'a/one.html'),
    ('b/two.html#par_9', 'b/two.html'),
  ]
  assert found[0].example == {
    'id': 'a/one.html#par_1',
    'en': 'You can open a file.',
    'de': 'Sie können eine Datei öffnen.',
  }
