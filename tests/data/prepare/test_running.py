"""A corpus from files to shards: what was planted is gone, and the rest is there."""

import gzip
import hashlib
import json
import signal
import subprocess
import sys
import time

import pyarrow
import pytest
from planted import corpus as plant
from pyarrow import parquet

from tl_jax.config import ConfigError
from tl_jax.data import prepare
from tl_jax.data.prepare import Corpus


def documents(folder):
  found = []
  for path in sorted((folder / 'corpus').iterdir()):
    with gzip.open(path, 'rt') as file:
      found += map(json.loads, file)
  return found


def corpus_of(folder, **more):
  given = dict(
    sources={'web': str(folder / 'web.jsonl')},
    languages=('en',),
    evaluation=(str(folder / 'asked.jsonl'),),
    chunk=100,
  )
  return Corpus(**{**given, **more})


@pytest.fixture(scope='module')
def planted(tmp_path_factory):
  folder = tmp_path_factory.mktemp('planted')
  kinds = plant(folder)
  manifest = prepare.prepare(corpus_of(folder), folder / 'out')
  return folder, kinds, manifest


def test_what_was_planted_is_left_out_and_nothing_else(planted):
  folder, kinds, manifest = planted
  kept = {document['id'] for document in documents(folder / 'out')}
  for kind in ('exact', 'near', 'boilerplate', 'german', 'evaluation'):
    own = [name for name in kinds if kinds[name] == kind]
    gone = [name for name in own if name not in kept]
    assert len(gone) >= 0.95 * len(own), kind
  removed = set(kinds) - kept
  wrong = [name for name in removed if kinds[name] == 'clean']
  assert len(wrong) <= 0.05 * len(removed)
  assert manifest['kept'] == len(kept)
  assert sum(manifest['removed'].values()) == len(removed)


def test_it_says_what_was_left_out_and_why(planted):
  folder, kinds, manifest = planted
  removed = manifest['removed']
  assert removed['exact'] >= 29 and removed['near'] >= 28
  assert removed['language: de'] >= 29
  assert removed['evaluation: text of an evaluation set'] >= 29
  places = [place for place, _ in manifest['examples']['near']]
  assert len(places) == 3 and all(kinds[place] == 'near' for place in places)
  before, after = manifest['before']['web'], manifest['after']['web']
  assert before['documents'] == len(kinds) and after['documents'] == manifest['kept']
  assert 0 < after['entropy'] < 16 and after['words'] < before['words']
  known = json.loads((folder / 'out' / 'manifest.json').read_text())
  assert known == json.loads(json.dumps(manifest))


def test_the_same_again_is_there_already_and_other_rules_are_not(planted, tmp_path):
  folder, _, manifest = planted
  told = []
  assert prepare.prepare(corpus_of(folder), folder / 'out', told.append) == json.loads(
    json.dumps(manifest)
  )
  assert told == [f'{folder / "out"}: is there already']
  fewer = corpus_of(folder, steps=('exact',), languages=(), evaluation=())
  found = prepare.prepare(fewer, tmp_path / 'out')
  assert found['removed'] == {'exact': 30}


def test_a_damaged_file_is_made_again(planted, tmp_path):
  folder, _, _ = planted
  corpus = corpus_of(folder, steps=('exact',), shard=100)
  prepare.prepare(corpus, tmp_path / 'out')
  wanted = documents(tmp_path / 'out')
  shards = sorted((tmp_path / 'out' / 'corpus').iterdir())
  shards[0].unlink()
  shards[1].write_bytes(shards[1].read_bytes()[:-9])
  told = []
  prepare.prepare(corpus, tmp_path / 'out', told.append)
  assert documents(tmp_path / 'out') == wanted and 'already' not in ''.join(told)


def test_a_corpus_is_there_as_a_whole_or_not_at_all(planted, tmp_path, monkeypatch):
  folder, _, manifest = planted

  def killed(*_):
    raise KeyboardInterrupt

  with monkeypatch.context() as patched:
    patched.setattr(prepare.running.Shards, 'close', killed)
    with pytest.raises(KeyboardInterrupt):
      prepare.prepare(corpus_of(folder, shard=50), tmp_path / 'out')
  assert [path.name for path in (tmp_path / 'out').iterdir()] == ['chunks']
  # Nothing is finished there, so that another config may come.
  found = prepare.prepare(corpus_of(folder), tmp_path / 'out')
  assert found == manifest
  names = [path.name for path in (tmp_path / 'out' / 'corpus').iterdir()]
  assert names == list(found['files']) == ['part-00000.jsonl.gz']


def test_a_corpus_is_not_replaced_by_that_of_another_config(tmp_path):
  (tmp_path / 'a.txt').write_text('One.\nTwo.\nOne.\n')
  corpus = Corpus({'a': str(tmp_path / 'a.txt')}, steps=('exact',))
  out = tmp_path / 'out'
  prepare.prepare(corpus, out)
  wanted = checksums(out)
  other = Corpus(corpus.sources, steps=(), seed=1)
  with pytest.raises(
    ValueError, match=r'seed: 0 -> 1; steps: \["exact"\] -> \[\]; take'
  ):
    prepare.prepare(other, out)
  (tmp_path / 'a.txt').write_text('Three.\n')
  with pytest.raises(ConfigError, match='made before a change of config.sources.a; ta'):
    prepare.prepare(corpus, out)
  assert checksums(out) == wanted


def test_a_folder_of_others_is_left_as_it_is(tmp_path):
  corpus = Corpus({'a': 'austen'}, steps=())
  (tmp_path / 'corpus').mkdir()
  (tmp_path / 'corpus' / 'part-00000.parquet').write_text('mine')
  with pytest.raises(ConfigError, match='corpus: nothing says that it was prepared by'):
    prepare.prepare(corpus, tmp_path)
  (tmp_path / 'manifest.json').write_text('{"mine": 1}')
  with pytest.raises(ConfigError, match='manifest.json: not that of a corpus; take'):
    prepare.prepare(corpus, tmp_path)
  assert (tmp_path / 'corpus' / 'part-00000.parquet').read_text() == 'mine'


def test_documents_are_the_same_whatever_the_chunks(planted, tmp_path):
  folder, _, _ = planted
  prepare.prepare(corpus_of(folder, chunk=37), tmp_path / 'out')
  assert documents(tmp_path / 'out') == documents(folder / 'out')


def test_a_target_draws_documents_like_it(tmp_path):
  sea = [
    f'The ship number {place} sailed over the sea with wind.' for place in range(60)
  ]
  law = [f'The court number {place} judged a law with doubt.' for place in range(60)]
  (tmp_path / 'web.txt').write_text('\n'.join(sea + law))
  (tmp_path / 'sea.txt').write_text('A ship and the sea.\nWind over a sea.\n')
  selection = prepare.settings.Selection(target=str(tmp_path / 'sea.txt'), share=0.5)
  web = {'web': str(tmp_path / 'web.txt')}
  made = Corpus(web, steps=(), selection=selection)
  found = prepare.prepare(made, tmp_path / 'out')
  own = [document['text'] for document in documents(tmp_path / 'out')]
  assert len(own) == 60 and found['removed'] == {'selection': 60}
  assert sum('ship' in text for text in own) > 45


def test_a_classifier_keeps_what_is_like_good_texts(tmp_path):
  good = [
    f'The careful study of case {place} shows a clear result.' for place in range(80)
  ]
  bad = [f'CLICK here win {place} free prizes now now' for place in range(400)]
  (tmp_path / 'good.txt').write_text('\n'.join(good[:40]))
  (tmp_path / 'web.txt').write_text('\n'.join(good[40:] + bad))
  made = Corpus(
    {'web': str(tmp_path / 'web.txt')},
    steps=(),
    classifier=prepare.settings.Classifier(good=str(tmp_path / 'good.txt'), alpha=3.0),
  )
  prepare.prepare(made, tmp_path / 'out')
  own = [document['text'] for document in documents(tmp_path / 'out')]
  good = sum('study' in text for text in own)
  share_of_bad = (len(own) - good) / 400
  # By a draw some of the worse ones stay, too.
  assert good / 40 > 0.5 and 0 < share_of_bad < 0.3


def test_sources_that_are_not_there_are_named(tmp_path):
  with pytest.raises(ConfigError, match='config.sources.web: .*no/such.jsonl'):
    prepare.prepare(Corpus({'web': 'no/such.jsonl'}), tmp_path / 'out')
  with pytest.raises(ConfigError, match=r'config.evaluation\[0\]'):
    prepare.prepare(Corpus({'web': 'austen'}, evaluation=('nowhere.csv',)), tmp_path)
  with pytest.raises(ConfigError, match='config.classifier.good'):
    good = prepare.settings.Classifier(good='nowhere')
    prepare.prepare(Corpus({'web': 'austen'}, classifier=good), tmp_path)


@pytest.mark.parametrize(
  'content, match',
  [
    (b'{"text": "a"}\n{"text": 3}\n', 'a.jsonl:2: text'),
    (b'{"text": "a"}\n{"body": "b"}\n', 'a.jsonl:2: text: missing'),
    (b'{"text": "a"}\n{"text": "b"\n', 'a.jsonl:2: not JSON'),
    (b'{"text": "a"}\n{"text": "\xff"}\n', 'a.jsonl:2'),
  ],
)
def test_a_row_that_cannot_be_read_is_named(tmp_path, content, match):
  (tmp_path / 'a.jsonl').write_bytes(content)
  with pytest.raises(ValueError, match=match):
    prepare.prepare(Corpus({'a': str(tmp_path / 'a.jsonl')}), tmp_path / 'out')
  assert not (tmp_path / 'out' / 'manifest.json').exists()


def test_packed_files_of_every_kind_are_read(tmp_path):
  rows = [json.dumps(dict(text=f'{number} is.')) for number in range(5)]
  content = '\n'.join(rows).encode()
  (tmp_path / 'in').mkdir()
  (tmp_path / 'in' / 'a.jsonl').write_bytes(content)
  (tmp_path / 'in' / 'b.jsonl.gz').write_bytes(gzip.compress(content))
  packed = pyarrow.compress(content, 'zstd', asbytes=True)
  (tmp_path / 'in' / 'c.jsonl.zst').write_bytes(packed)
  table = pyarrow.table({'text': ['5 is.', '6 is.']})
  parquet.write_table(table, tmp_path / 'in' / 'd.parquet')
  made = Corpus({'in': str(tmp_path / 'in')}, steps=())
  assert prepare.prepare(made, tmp_path / 'out')['kept'] == 17
  again = prepare.prepare(
    Corpus({'in': str(tmp_path / 'in')}, steps=('exact',)), tmp_path / 'again'
  )
  assert (again['kept'], again['removed']) == (7, {'exact': 10})
  (tmp_path / 'in' / 'c.jsonl.zst').write_bytes(packed[:-3])
  with pytest.raises(ValueError, match='c.jsonl.zst: not a whole zstd file'):
    prepare.prepare(made, tmp_path / 'whole')


def test_a_chunk_of_which_nothing_stays_is_no_end(tmp_path):
  rows = [dict(text='Menu'), dict(text='Log in')]
  (tmp_path / 'a.jsonl').write_text('\n'.join(map(json.dumps, rows)))
  (tmp_path / 'b.jsonl').write_text(json.dumps(dict(text='It is the end.')))
  made = Corpus(
    {'a': str(tmp_path / 'a.jsonl'), 'b': str(tmp_path / 'b.jsonl')},
    steps=('c4',),
    c4=prepare.quality.C4(sentences=1),
    chunk=1,
  )
  found = prepare.prepare(made, tmp_path / 'out')
  assert (found['kept'], found['removed']) == (1, {'c4: fewer than 1 sentences': 2})


def test_where_no_document_stays_it_is_said_what_took_most(tmp_path):
  rows = [*(f'Menu {number}' for number in range(9)), ' ', 'Log in {']
  (tmp_path / 'a.jsonl').write_text(
    '\n'.join(json.dumps(dict(text=text)) for text in rows)
  )
  good = prepare.settings.Classifier(good='austen')
  made = Corpus({'a': str(tmp_path / 'a.jsonl')}, classifier=good)
  with pytest.raises(ConfigError) as caught:
    prepare.prepare(made, tmp_path / 'out')
  said = 'no document of 11 stays; most were left out by gopher: fewer than 50 words'
  assert str(caught.value).startswith(f'{said} (10), empty (1); config.steps and')
  assert not (tmp_path / 'out' / 'manifest.json').exists()


def test_empty_documents_are_counted(tmp_path):
  rows = [dict(text=text) for text in ('a', '', ' \n', 'b')]
  (tmp_path / 'a.jsonl').write_text('\n'.join(map(json.dumps, rows)))
  found = prepare.prepare(
    Corpus({'a': str(tmp_path / 'a.jsonl')}, steps=()), tmp_path / 'out'
  )
  assert found['kept'] == 2 and found['removed'] == {'empty': 2}


@pytest.mark.parametrize(
  'key, said',
  [
    ('sources.b', dict(sources={'b': 'none.txt'})),
    (r'evaluation\[0\]', dict(evaluation=('none.txt',))),
    ('classifier.good', dict(classifier=prepare.settings.Classifier(good='none.txt'))),
    ('selection.target', dict(selection=prepare.settings.Selection(target='none.txt'))),
    (
      'perplexity.reference',
      dict(perplexity=prepare.settings.Perplexity(reference='none.txt')),
    ),
  ],
)
def test_a_file_without_texts_is_refused_before_the_work(
  tmp_path, monkeypatch, key, said
):
  monkeypatch.chdir(tmp_path)
  (tmp_path / 'none.txt').write_text('')
  corpus = Corpus(**{'sources': {'a': 'austen'}, **said})
  with pytest.raises(ConfigError, match=f'^config.{key}: none.txt: the file is empty'):
    prepare.prepare(corpus, tmp_path / 'out')
  assert not (tmp_path / 'out').exists()


def test_evaluation_texts_that_are_all_too_short_are_refused(tmp_path):
  (tmp_path / 'web.jsonl').write_text('{"text": "One."}\n')
  (tmp_path / 'asked.jsonl').write_text('{"text": "What is the end of it?"}\n')
  message = r'config.evaluation\[0\]: .*asked.jsonl: no text has 8 words'
  with pytest.raises(ConfigError, match=message):
    prepare.prepare(corpus_of(tmp_path), tmp_path / 'out')


CODE = """
import sys
from tl_jax.data.prepare import Corpus, prepare
import pathlib
folder = pathlib.Path(sys.argv[1])
from tl_jax.data.prepare.settings import Execution
execution = Execution(workers=int(sys.argv[3]))
corpus = Corpus(
  {'web': str(folder / 'web.jsonl')}, chunk=5, shard=40, execution=execution
)
prepare(corpus, folder / sys.argv[2])
"""


def checksums(folder):
  found = {}
  for path in sorted(folder.rglob('*')):
    if path.is_file():
      found[path.relative_to(folder).as_posix()] = hashlib.sha256(path.read_bytes())
  return {name: value.hexdigest() for name, value in found.items()}


@pytest.mark.slow
@pytest.mark.parametrize('workers', [1, 2])
def test_twenty_kills_later_the_bytes_are_the_same(tmp_path, workers):
  plant(tmp_path)
  command = [sys.executable, '-c', CODE, str(tmp_path)]
  subprocess.run([*command, 'whole', '1'], check=True)
  wanted = checksums(tmp_path / 'whole')
  began = time.monotonic()
  subprocess.run([*command, 'timed', str(workers)], check=True)
  took = time.monotonic() - began
  for number in range(20):
    process = subprocess.Popen([*command, 'torn', str(workers)])
    # At twenty different moments, most of them in its midst.
    time.sleep(took * (0.3 + 0.04 * number))
    process.send_signal(signal.SIGKILL)
    process.wait()
  subprocess.run([*command, 'torn', str(workers)], check=True)
  assert checksums(tmp_path / 'torn') == wanted
  assert 'manifest.json' in wanted and len(wanted) > 5
