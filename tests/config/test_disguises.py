"""What a file is, where it is not what its name says."""

import pytest

from tl_jax.config import disguises

POINTER = b'version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n'


@pytest.mark.parametrize(
  ('content', 'words'),
  [
    (b'', 'an empty file'),
    (POINTER, '`git lfs pull`'),
    (b'\xef\xbb\xbf\n<!doctype HTML><title>404</title>', 'an HTML page'),
    (b'<html lang="en">', 'an HTML page'),
    (b'GGUF\3\0\0\0', 'a GGUF file'),
    (b'\x80\2}q\0.', 'a pickle'),
    (b'PK\3\4', 'a zip archive'),
    ('a' * 511 + 'ä', "a text file that begins with 'aaaa"),
    ('\n Größe: 3\nmore', "a text file that begins with 'Größe: 3'"),
  ],
)
def test_first_bytes_tell_what_a_file_is(content, words):
  content = content if isinstance(content, bytes) else content.encode()
  assert words in disguises.looks_like(content)


@pytest.mark.parametrize(
  'content', [bytes(20), b'\xff' * 20, b'\0\0\0\0{"a": 1}', b'ab\0c', b'\n\n']
)
def test_of_other_bytes_nothing_is_said(content):
  assert disguises.looks_like(content) == ''


def test_a_mistake_in_json_is_named_by_the_parser():
  assert disguises.not_json(b'{"a": ]', 'line 1') == 'not JSON: line 1'
  assert disguises.not_json(b'[1', 'line 1') == 'not JSON: line 1'
  assert disguises.not_json(POINTER, 'line 1').startswith('not JSON, but a Git LFS')
