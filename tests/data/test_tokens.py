"""The token cache: complete or absent, checked, and the same bytes after any accident."""

import dataclasses
import os
import pathlib
import signal
import subprocess
import sys
import time

import numpy as np
import pytest

from tl_jax.data import store, tokenizers, tokens

ROOT = pathlib.Path(__file__).resolve().parents[2]
TEXTS = [f'number {i} of many, ' * (i % 9) for i in range(300)]
SOURCE = [{'text': text} for text in TEXTS]


@pytest.fixture(scope='module')
def tokenizer():
  return tokenizers.train(TEXTS, size=200)


def content(folder):
  return {
    str(path.relative_to(folder)): path.read_bytes()
    for path in sorted(folder.rglob('*'))
    if path.is_file()
  }


def test_every_document_comes_back(tmp_path, tokenizer):
  cached = tokens.tokenize(SOURCE, tokenizer, tmp_path)
  assert (
    cached.counts['empty'] == 34
    and cached.counts['documents'] == 300
    and len(cached) == 266
  )
  for i, number in enumerate(cached.index):
    assert cached[i].tolist() == tokenizer.encode(TEXTS[number])
  assert cached.lengths.tolist() == [len(cached[i]) for i in range(len(cached))]
  # A piece is a part of its file, which is mapped.
  assert cached[0].base is cached.files[0] and cached.lengths.dtype == np.int32
  assert isinstance(cached.files[0].base, np.memmap)
  with pytest.raises(IndexError):
    cached[266]


def test_the_cache_knows_how_special_pieces_were_read(tmp_path, tokenizer):
  source = [{'text': 'many [MASK] numbers'}]
  plain = tokens.tokenize(source, tokenizer, tmp_path)
  parsed = tokens.tokenize(
    source, dataclasses.replace(tokenizer, parse_special=True), tmp_path
  )
  assert tokenizer.mask in parsed[0] and tokenizer.mask not in plain[0]


def test_long_documents_are_cut_or_split_and_counted(tmp_path, tokenizer):
  cut = tokens.tokenize(SOURCE, tokenizer, tmp_path, max_length=20)
  assert cut.lengths.max() == 20 and len(cut) == 266 and cut.counts['truncated'] > 0
  assert all(cut[i][-1] == tokenizer.sep for i in range(len(cut)))
  pieces = tokens.tokenize(SOURCE, tokenizer, tmp_path, max_length=20, split=True)
  assert (
    pieces.lengths.max() == 20 and len(pieces) > 266 and pieces.counts['truncated'] == 0
  )
  for number in (8, 17):
    inside = [pieces[i][1:-1] for i in np.flatnonzero(pieces.index == number)]
    assert np.concatenate(inside).tolist() == tokenizer.encode(
      TEXTS[number], special=False
    )


def test_a_decoder_marks_the_end_of_a_document_once(tmp_path):
  tokenizer = tokenizers.train(TEXTS, 'bpe', 320)
  pieces = tokens.tokenize(SOURCE, tokenizer, tmp_path, max_length=20, split=True)
  inside = np.concatenate([pieces[i] for i in np.flatnonzero(pieces.index == 8)])
  assert (
    inside.tolist() == tokenizer.encode(TEXTS[8])
    and (inside == tokenizer.eos).sum() == 1
  )


def test_small_shards_hold_the_same(tmp_path, tokenizer, monkeypatch):
  whole = tokens.tokenize(SOURCE, tokenizer, tmp_path / 'a')
  monkeypatch.setattr(tokens, 'SHARD', 100)
  parts = tokens.tokenize(SOURCE, tokenizer, tmp_path / 'b')
  assert len(parts.files) > 5
  assert all(np.array_equal(whole[i], parts[i]) for i in range(len(whole)))


def test_texts_that_are_encoded_together_make_no_difference(
  tmp_path, tokenizer, monkeypatch
):
  whole = tokens.tokenize(SOURCE, tokenizer, tmp_path / 'a', max_length=30)
  monkeypatch.setattr(tokens, 'CHARACTERS', 100)
  parts = tokens.tokenize(SOURCE, tokenizer, tmp_path / 'b', max_length=30)
  assert content(whole.folder) == content(parts.folder)


def test_everything_that_matters_is_in_the_key(tmp_path, tokenizer):
  other = tokenizers.train(TEXTS, size=150)
  keys = [
    tokens.tokenize(SOURCE, tokenizer, tmp_path).key,
    tokens.tokenize(SOURCE[1:], tokenizer, tmp_path).key,
    tokens.tokenize(SOURCE, other, tmp_path).key,
    tokens.tokenize(SOURCE, tokenizer, tmp_path, max_length=9).key,
  ]
  assert len(set(keys)) == 4
  assert keys[0] == tokens.tokenize(SOURCE, tokenizer, tmp_path).key


def test_empty_documents_can_be_kept_and_all_empty_is_an_error(tmp_path, tokenizer):
  assert len(tokens.tokenize(SOURCE, tokenizer, tmp_path, keep_empty=True)) == 300
  with pytest.raises(ValueError, match=r'no text is left of 2 \(2 empty\)'):
    tokens.tokenize([{'text': ''}, {'text': ' \n'}], tokenizer, tmp_path)
  with pytest.raises(ValueError, match='config.data.length: 2'):
    tokens.tokenize(SOURCE, tokenizer, tmp_path, max_length=2)
  odd = tokens.tokenize([{'text': '\ud800 a\u0000b'}], tokenizer, tmp_path)
  assert len(odd) == 1


@pytest.mark.parametrize(
  'name', ['tokens-00000.bin', 'lengths.npy', 'description.json', 'manifest.json']
)
@pytest.mark.parametrize('harm', ['flip', 'cut', 'delete'])
def test_damage_is_found_named_and_mended(tmp_path, tokenizer, name, harm):
  folder = tokens.tokenize(SOURCE, tokenizer, tmp_path).folder
  good = content(folder)
  data = bytearray((folder / name).read_bytes())
  data[len(data) // 2] ^= 1
  if harm == 'delete':
    (folder / name).unlink()
  else:
    (folder / name).write_bytes(data if harm == 'flip' else data[: len(data) // 2])
  with pytest.raises(ValueError, match='damaged or missing') as caught:
    tokens.open_tokens(folder)
  assert str(folder) in str(caught.value) and (
    name in str(caught.value) or name == 'manifest.json'
  )
  assert content(tokens.tokenize(SOURCE, tokenizer, tmp_path).folder) == good


@pytest.mark.parametrize('harm, found', [('cut', True), ('flip', False)])
def test_of_a_large_cache_most_files_are_known_by_their_sizes(
  tmp_path, tokenizer, harm, found
):
  folder = tokens.tokenize(SOURCE, tokenizer, tmp_path).folder
  largest = max(folder.iterdir(), key=lambda path: path.stat().st_size)
  smallest = folder / 'description.json'
  data = largest.read_bytes()
  largest.write_bytes(data[:-1] if harm == 'cut' else data[:-1] + bytes([data[-1] ^ 1]))
  most = smallest.stat().st_size
  assert store.damage(folder, most) == (largest.name if found else None)
  assert store.damage(folder) == largest.name
  smallest.write_bytes(smallest.read_bytes()[::-1])
  assert store.damage(folder, most) == smallest.name


def test_the_place_of_a_piece_is_known_by_those_of_its_block(
  tmp_path, tokenizer, monkeypatch
):
  monkeypatch.setattr(tokens, 'SHARD', 100)
  monkeypatch.setattr(tokens, 'BLOCK', 7)
  cached = tokens.tokenize(SOURCE, tokenizer, tmp_path, keep_empty=True)
  assert [piece.tolist() for piece in cached] == [
    tokenizer.encode(text) for text in TEXTS
  ]
  assert cached[-1].tolist() == cached[299].tolist()
  # The index is mapped: it may be larger than the memory.
  for array in (cached.lengths, cached.index, cached.shard):
    assert isinstance(array.base, np.memmap)


def test_tokens_are_counted_in_all_pieces_of_small_sources(monkeypatch):
  encoded = tokens.TokenList([np.array([i, 9, 9]) for i in range(8)])
  assert tokens.frequencies(encoded, 12).tolist() == [1] * 8 + [0, 16, 0, 0]
  monkeypatch.setattr(tokens, 'ENOUGH', 4)
  assert tokens.frequencies(encoded, 12).tolist() == [1, 0] * 4 + [0, 8, 0, 0]


PREPARE = """
import sys, time
sys.path.insert(0, {tests!r})
import test_tokens as t
from tl_jax.data import tokens, tokenizers
class Slow(list):
  manifest = 'slow'
  def __iter__(self):
    for i, each in enumerate(super().__iter__()):
      if i % 10 == 0: time.sleep({pause})
      yield each
tokens.BATCH, tokens.SHARD = 20, 300
print('ready', flush=True)
tokens.tokenize(Slow(t.SOURCE), tokenizers.load({tokenizer!r}), {folder!r})
"""


def start(tmp_path, folder, pause):
  program = PREPARE.format(
    tests=str(pathlib.Path(__file__).parent),
    tokenizer=str(tmp_path / 'tokenizer.json'),
    folder=str(tmp_path / folder),
    pause=pause,
  )
  process = subprocess.Popen(
    [sys.executable, '-c', program],
    stdout=subprocess.PIPE,
    env={**os.environ, 'PYTHONPATH': str(ROOT)},
  )
  process.stdout.readline()
  return process


def finish(process):
  with process:
    return process.wait(timeout=60)


def test_killed_at_any_time_a_rerun_makes_the_same_bytes(tmp_path, tokenizer):
  tokenizer.save(tmp_path)
  assert finish(start(tmp_path, 'calm', 0)) == 0
  (expected,) = (content(folder) for folder in (tmp_path / 'calm').glob('tokens-*'))
  for delay in (0.05, 0.25, 0.5):
    process = start(tmp_path, 'wild', 0.03)
    time.sleep(delay)
    process.send_signal(signal.SIGKILL)
    finish(process)
    # nothing half made has the name of a cache
    assert not list((tmp_path / 'wild').glob('tokens-*'))
  assert finish(start(tmp_path, 'wild', 0)) == 0
  (found,) = (content(folder) for folder in (tmp_path / 'wild').glob('tokens-*'))
  assert found == expected
  assert not list((tmp_path / 'wild').glob('*partial*')) and not list(
    (tmp_path / 'wild').glob('.*partial*')
  )


def test_two_at_once_agree(tmp_path, tokenizer):
  tokenizer.save(tmp_path)
  both = [start(tmp_path, 'shared', 0.01) for _ in range(2)]
  assert [finish(process) for process in both] == [0, 0]
  (folder,) = (tmp_path / 'shared').glob('tokens-*')
  assert store.damage(folder) is None


def test_lengths_before_the_cut_are_kept(tokenizer, tmp_path):
  free = tokens.tokenize(SOURCE, tokenizer, tmp_path, keep_empty=True)
  cut = tokens.tokenize(SOURCE, tokenizer, tmp_path, max_length=20, keep_empty=True)
  assert cut.lengths.max() == 20 < free.lengths.max()
  assert cut.whole.tolist() == free.lengths.tolist() == free.whole.tolist()
