"""Texts as strangers have them become documents of a corpus as they stand."""

import gzip
import json

import pytest

from tl_jax.config import ConfigError
from tl_jax.data import prepare, sources, tokenizers, tokens
from tl_jax.data.prepare import Corpus, reading

ODD = (
  'NUL \0 inside',
  '\u202eright to left\u202c',
  '\u05e9\u05dc\u05d5\u05dd and \u0645\u0631\u062d\u0628\u0627',
  'e\u0301, \u00e9 and \U0001f469\u200d\U0001f4bb',
  'control \x01\x02\x1b[0m',
  'a line\r\nof another\rmachine\n',
  '\u2028 parts lines\u0085elsewhere',
)


def prepared(folder, path, **more):
  corpus = Corpus({'a': str(path)}, steps=(), **more)
  manifest = prepare.prepare(corpus, folder / 'out')
  texts = []
  for shard in sorted((folder / 'out' / 'corpus').iterdir()):
    with gzip.open(shard, 'rt') as file:
      texts += [json.loads(line)['text'] for line in file]
  return manifest, texts


def test_odd_texts_stay_and_come_back_from_their_tokens(tmp_path):
  path = tmp_path / 'a.jsonl'
  path.write_text('\n'.join(json.dumps(dict(text=text)) for text in ODD))
  _, texts = prepared(tmp_path, path)
  assert tuple(texts) == ODD
  # A tokenizer of bytes promises that nothing is lost.
  tokenizer = tokenizers.train(texts, kind='bpe', size=300)
  source = sources.load(str(tmp_path / 'out' / 'corpus'), 'all')
  kept = tokens.tokenize(source, tokenizer, tmp_path / 'cache', special=False)
  found = [tokenizer.decode(kept[i].tolist()) for i in range(len(kept))]
  assert found == [example['text'] for example in source] == list(ODD)


def test_half_of_a_character_is_a_question_mark(tmp_path):
  path = tmp_path / 'a.jsonl'
  path.write_text(json.dumps(dict(text='one \ud83d two')))
  _, texts = prepared(tmp_path, path)
  assert texts == ['one ? two']


@pytest.mark.parametrize('end', ['\n', '\r\n', '\r'])
def test_many_tiny_lines_are_documents_whatever_ends_them(tmp_path, end):
  path = tmp_path / 'a.txt'
  # No end behind the last one.
  path.write_bytes(b'\xef\xbb\xbf' + end.join(f'{n}' for n in range(500)).encode())
  manifest, texts = prepared(tmp_path, path, chunk=100)
  assert texts == [str(number) for number in range(500)]
  assert manifest['kept'] == 500


def test_one_long_line_is_one_document_and_pieces_that_fit_rows(tmp_path):
  text = 'one two three ' * 40_000
  (tmp_path / 'a.txt').write_text(text)
  _, (found,) = prepared(tmp_path, tmp_path / 'a.txt')
  assert found == text.rstrip() or found == text
  tokenizer = tokenizers.train(['one two three'], kind='bpe', size=300)
  kept = tokens.tokenize(
    [dict(text=found)], tokenizer, tmp_path / 'cache', max_length=64, split=True
  )
  assert max(kept.lengths) == 64 and kept.counts['split'] == 1
  assert kept.counts['truncated'] == 0


@pytest.mark.parametrize(
  'name, content, message',
  [
    ('b.txt', b'', 'b.txt: the file is empty'),
    ('b.txt', b' \n\n', 'b.txt: has no text'),
    ('b.csv', b'text\n', 'b.csv: no row below the header'),
    ('b.jsonl.gz', gzip.compress(b'', mtime=0), 'b.jsonl.gz: has no text'),
    ('b.jsonl', b'{"text": " "}\n{"text": null}\n', 'b.jsonl: has no text'),
    ('b.jsonl', b'{"body": "a"}\n', 'b.jsonl:1: text: .* column=NAME in the config'),
    ('b.csv', b'body,a\nOne.,1\n', 'b.csv:1: text: .* column=NAME in the config'),
  ],
)
def test_a_source_without_a_text_is_refused(tmp_path, name, content, message):
  (tmp_path / name).write_bytes(content)
  with pytest.raises(ConfigError, match=f'^config.evaluation: .*{message}'):
    reading.require('evaluation', str(tmp_path / name))


def test_the_first_row_of_every_file_is_read_before_the_work(tmp_path):
  (tmp_path / 'a.jsonl').write_text('{"text": "One."}\n')
  (tmp_path / 'b.jsonl').write_text('')
  reading.require('sources.a', str(tmp_path))
  (tmp_path / 'c.jsonl').write_text('{"body": "One."}\n')
  with pytest.raises(ConfigError, match='config.sources.a: .*c.jsonl:1: text: missing'):
    reading.require('sources.a', str(tmp_path))


def test_what_was_prepared_is_a_source_by_its_corpus_alone(tmp_path):
  (tmp_path / 'a.txt').write_text('One.\nTwo.\n')
  prepared(tmp_path, tmp_path / 'a.txt')
  with pytest.raises(
    ValueError, match='a corpus was prepared there; take .*out/corpus'
  ):
    sources.require(str(tmp_path / 'out'))
  sources.require(str(tmp_path / 'out' / 'corpus'))
