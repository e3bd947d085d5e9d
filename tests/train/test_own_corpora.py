"""Pre-training on texts of the user: how they are named, and what is refused of them."""

import json
import re

import pytest
from hearing import Said
from tiny_runs import SMALL

import tl_jax
from tl_jax import config, decode, evals, models, train
from tl_jax.config import ConfigError
from tl_jax.train import mixtures

CORPUS = [
  f'this is the sentence number {number} of a corpus of my own' for number in range(40)
]


def write(path, rows):
  path.write_text('\n'.join(map(json.dumps, rows)))
  return path


def corpus(folder, form):
  """The argument of configs/adapt.py for a corpus in one of its forms."""
  if form == 'jsonl':
    path = write(
      folder / 'my.a,b=c.jsonl', [dict(body=text, label=None) for text in CORPUS]
    )
    return f'column=body,text={path}'.replace(',b=', r'\,b=')
  if form == 'folder':
    (folder / 'my.texts').mkdir()
    for place, text in enumerate(CORPUS):
      (folder / 'my.texts' / f'{place}.txt').write_text(text)
    return f'text={folder}/my.texts'
  (folder / 'c++.txt').write_text('\n\n'.join(CORPUS))
  return rf'text={folder}/c\+\+.txt+vader_nyt'


@pytest.mark.parametrize('form', ['jsonl', 'folder', 'txt'])
def test_an_own_corpus_is_named_in_an_argument(tmp_path, form):
  settings = train.read(
    config.load(f'configs/adapt.py:{corpus(tmp_path, form)}', SMALL)
  )
  name = next(iter(settings.data.mixture))
  sources = [
    mixtures.mixture_texts(settings.data, split)[name] for split in ('train', 'test')
  ]
  assert sorted(example['text'] for source in sources for example in source) == sorted(
    CORPUS
  )
  assert all(map(len, sources))


def test_an_own_corpus_is_pre_trained_on_and_evaluated(pretrained, tmp_path):
  argument = corpus(tmp_path, 'folder')
  loaded = config.load(
    f'configs/adapt.py:init={pretrained},{argument}',
    [*SMALL[2:], ('eval.batches', '1')],
  )
  result = train.pretrain(loaded, tmp_path / 'w')
  # A workdir of adapt.py names no family: its model is that of the checkpoint.
  assert train.evaluate(tmp_path / 'w')['metrics'] == pytest.approx(
    result['metrics'], rel=1e-5
  )


def test_a_corpus_is_read_from_a_json_config_and_from_an_override(tmp_path):
  path = write(tmp_path / 'mine.jsonl', [dict(text=text) for text in CORPUS])
  tiny = config.load('configs/pretrain.py:tiny', SMALL).to_dict()
  tiny['data']['mixture'] = {str(path): 1.0}
  file = tmp_path / 'c.json'
  file.write_text(json.dumps(tiny))
  override = [('data.mixture', str({str(path): 1.0}))]
  for loaded in (
    config.load(str(file)),
    config.load('configs/pretrain.py:tiny', [*SMALL, *override]),
    config.load('configs/adapt.py', [*SMALL, *override]),
  ):
    assert train.read(loaded).data.mixture == {str(path): 1.0}
  # What a workdir keeps is a config too.
  kept = tmp_path / 'kept.json'
  kept.write_text(json.dumps(config.to_json(loaded)))
  assert train.read(config.load(str(kept))).data.mixture == {str(path): 1.0}


def test_a_config_of_ones_own_is_told_how_to_name_a_file(tmp_path):
  file = tmp_path / 'c.py'
  file.write_text(
    'from ml_collections import ConfigDict\n'
    'def get_config():\n'
    '  return ConfigDict(dict(data=dict(mixture={"mine.jsonl": 1.0})))\n'
  )
  with pytest.raises(
    ConfigError, match=r"c.py:3: .*as pairs, \(\('mine.jsonl', 1.0\),\)"
  ):
    config.load(str(file))
  file.write_text(
    file.read_text().replace('{"mine.jsonl": 1.0}', '(("mine.jsonl", 1.0),)')
  )
  assert config.load(str(file)).data.mixture == (('mine.jsonl', 1.0),)


def test_a_corpus_that_is_not_there_is_refused_before_a_folder_is_made(tmp_path):
  for name, message in (
    ('no.jsonl', 'no.jsonl: no such file'),
    ('nothing', 'config.data.mixture: no set, no file and no folder'),
  ):
    with pytest.raises(ValueError, match=message):
      train.pretrain(
        config.load(f'configs/adapt.py:text={name}', SMALL), tmp_path / 'w'
      )
  assert not (tmp_path / 'w').exists()


@pytest.mark.parametrize('content', ['', '\n', '{"text": " "}\n'])
def test_an_empty_source_of_a_mixture_is_refused_by_name(tmp_path, content):
  """It would be drawn from for ever; another source beside it changes nothing."""
  path = tmp_path / 'none.jsonl'
  path.write_text(content)
  loaded = config.load(f'configs/pretrain.py:tiny,text=vader_amazon+{path}', SMALL)
  with pytest.raises(ValueError, match=re.escape(str(path))):
    train.pretrain(loaded, tmp_path / 'w')
  assert not (tmp_path / 'w').exists()


def test_a_corpus_that_was_changed_is_not_gone_on_with(tmp_path):
  path = tmp_path / 'mine.csv'
  path.write_text('\n'.join(['id;text', *(f'1;{text}' for text in CORPUS), '1; ']))
  loaded = config.load(
    f'configs/adapt.py:text={path}',
    [*SMALL, ('checkpoint.every', '1'), ('checkpoint.keep', '2')],
  )
  said = Said()
  train.pretrain(loaded, tmp_path / 'w', said.reporter)
  assert f'{path}: cells are parted by semicolons, as the header shows' in said
  assert f'{path}: 1 empty text skipped' in said
  # As if it had been stopped after step 1.
  for name in ('checkpoints/2', 'result.json'):
    (tmp_path / 'w' / name).rename(tmp_path / name.replace('/', '-'))
  path.write_text(path.read_text().replace('corpus', 'book'))
  with pytest.raises(
    ConfigError, match='mine.csv: its content is not that from which step 1'
  ):
    train.pretrain(loaded, tmp_path / 'w')


def test_a_folder_of_texts_becomes_a_model_that_writes(tmp_path):
  """Each file is one text of several lines, in the pieces that rows hold."""
  folder = tmp_path / 'novels'
  folder.mkdir()
  for place in range(10):
    lines = [f'line {line} of novel {place}' for line in range(9)]
    (folder / f'{place}.txt').write_text('\n\n'.join(lines) + '\n')
  spec = f'configs/pretrain.py:tiny-gpt,text={folder}'
  small = SMALL[0][1].replace('tiny', 'tiny-gpt')
  more = [('model', small), ('tokenizer.kind', 'bpe'), ('eval.batches', '1')]
  loaded = config.load(spec, [*SMALL[1:], *more])
  said = Said()
  train.pretrain(loaded, tmp_path / 'w', said.reporter)
  assert f'{folder}: 10 files, each of them one text' in said
  (source,) = mixtures.mixture_texts(train.read(loaded).data).values()
  assert 'line 0 of novel' in source[0]['text'] and '\n\nline 8' in source[0]['text']
  found = tl_jax.load(tmp_path / 'w')
  decoder = models.decoder(found.arch)
  settings = decode.Decoding(max_new_tokens=4, eos=found.tokenizer.eos)
  prompts = [found.tokenizer.encode('line', special=False)]
  (text,) = evals.write(decoder, found.params, found.tokenizer, prompts, settings)
  assert isinstance(text, str)
