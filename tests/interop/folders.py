"""Small tokenizer folders of every kind, made from nothing but text, a trained
vocabulary and two model files.
"""

import functools
import json
import pathlib
import re
import struct

from tl_jax.data import tokenizers

FIXTURES = pathlib.Path(__file__).parent / 'fixtures' / 'tokenizers'
EXPECTED = json.loads((FIXTURES / 'expected.json').read_text(encoding='utf-8'))
TEXTS = EXPECTED['texts']
WORDS = re.findall(
  r'\S+',
  """the of and to in a is that it was for on are as with his they at be this from have or by
  one had not but what all were when we there can an your which their said if do will each
  about how up out café naïve
  Straße привет мир 中文 字 don't 3.14""",
)
CORPUS = [
  ' '.join(WORDS[(i * i + j * (i % 7 + 1)) % len(WORDS)] for j in range(i % 11 + 3))
  for i in range(400)
]


@functools.cache
def trained(kind):
  """(pieces in the order of their ids, merges) of a small vocabulary."""
  state = json.loads(
    tokenizers.train(CORPUS, kind, 420, sentinels=0, lowercase=False).backend.to_str()
  )['model']
  return sorted(state['vocab'], key=state['vocab'].get), [
    ' '.join(merge) for merge in state.get('merges', ())
  ]


def write(folder, **files):
  """Writes files (`__` for a dot); dicts and lists as JSON."""
  folder.mkdir(parents=True, exist_ok=True)
  for name, content in files.items():
    if not isinstance(content, str | bytes):
      content = json.dumps(content)
    (folder / name.replace('__', '.')).write_bytes(
      content.encode() if isinstance(content, str) else content
    )
  return folder


def bert(folder, **config):
  return write(
    folder,
    vocab__txt='\n'.join(trained('wordpiece')[0]) + '\n',
    tokenizer_config__json={'tokenizer_class': 'BertTokenizer', **config},
  )


def byte_level(folder, name, more=(), **config):
  pieces, merges = trained('bpe')
  return write(
    folder,
    vocab__json={piece: i for i, piece in enumerate([*pieces, *more])},
    merges__txt='\n'.join(['#version: 0.2', *merges]) + '\n',
    tokenizer_config__json={'tokenizer_class': name, **config},
  )


def model_file(folder, fixture, name, **config):
  data = (FIXTURES / f'{fixture}.model').read_bytes()
  return write(folder, **{name.replace('.', '__'): data}, tokenizer_config__json=config)


def message(*fields):
  """A protobuf message of (number, int, float, bool, str or bytes)."""

  def varint(value):
    found = b''
    while value > 127:
      found, value = found + bytes([value & 127 | 128]), value >> 7
    return found + bytes([value])

  found = b''
  for number, value in fields:
    if isinstance(value, float):
      found += varint(number << 3 | 5) + struct.pack('<f', value)
    elif isinstance(value, int):
      found += varint(number << 3) + varint(int(value))
    else:
      value = value.encode() if isinstance(value, str) else value
      found += varint(number << 3 | 2) + varint(len(value)) + value
  return found


def model(pieces, trainer=(), normalizer=()):
  """The bytes of a sentencepiece model of (name, score, type)."""
  return message(
    *((1, message((1, name), (2, score), (3, kind))) for name, score, kind in pieces),
    (2, message(*trainer)),
    (3, message(*normalizer)),
  )


def unigram(*special):
  """Pieces of a unigram model: the special ones with their types, letters, a few words."""
  words = [
    '▁',
    *'abcdefghijklmnopqrstuvwxyz,.\'"',
    '▁the',
    '▁of',
    'er',
    '▁and',
    'ing',
    '▁é',
    'ß',
  ]
  return [
    *((name, 0.0, kind) for name, kind in special),
    *((word, -1.5 - i / 8, 1) for i, word in enumerate(words)),
  ]


ALBERT = (('<pad>', 3), ('<unk>', 2), ('[CLS]', 3), ('[SEP]', 3), ('[MASK]', 3))
DEBERTA = (('[PAD]', 3), ('[CLS]', 3), ('[SEP]', 3), ('[UNK]', 2))
XLM_ROBERTA = (('<unk>', 2), ('<s>', 3), ('</s>', 3))
PEGASUS = (('<pad>', 3), ('</s>', 3), ('<unk>', 2))


def marian(folder, **config):
  """Two models, and a vocabulary of both in an order of its own; its padding comes
  last.
  """
  source, target = (
    unigram(('<unk>', 2), ('<s>', 3), ('</s>', 3)),
    unigram(('<unk>', 2), ('<s>', 3), ('</s>', 3)),
  )
  target += [('▁der', -2.0, 1), ('ü', -3.0, 1)]
  words = sorted({name for name, _, kind in source + target if kind == 1})
  vocabulary = ['</s>', '<unk>', *words, '>>de<<', '>>fr<<', '<pad>']
  return write(
    folder,
    source__spm=model(source),
    target__spm=model(target),
    vocab__json={piece: i for i, piece in enumerate(vocabulary)},
    tokenizer_config__json={
      'tokenizer_class': 'MarianTokenizer',
      'source_lang': 'en',
      'model_max_length': 512,
      **config,
    },
  )


# name -> a function of an empty folder that fills it
FOLDERS = {
  'bert': lambda folder: bert(folder, do_lower_case=True, model_max_length=512),
  'bert-cased': lambda folder: bert(
    folder, do_lower_case=False, strip_accents=True, tokenize_chinese_chars=False
  ),
  'distilbert': lambda folder: write(
    bert(folder, do_lower_case=False),
    tokenizer_config__json={
      'tokenizer_class': 'DistilBertTokenizer',
      'do_lower_case': False,
      'padding_side': 'left',
    },
  ),
  'gpt2': lambda folder: byte_level(folder, 'GPT2Tokenizer', ['<|endoftext|>']),
  'gpt2-prefix': lambda folder: byte_level(
    folder,
    'GPT2TokenizerFast',
    ['<|endoftext|>'],
    add_prefix_space=True,
    add_bos_token=True,
    pad_token='<|endoftext|>',
    chat_template='{% for m in messages %}{{ m.content }}\n{% endfor %}',
  ),
  'roberta': lambda folder: byte_level(
    folder,
    'RobertaTokenizer',
    mask_token={
      'content': '<mask>',
      'lstrip': True,
      'rstrip': False,
      'normalized': True,
      'single_word': False,
      '__type': 'AddedToken',
    },
  ),
  'bart': lambda folder: byte_level(
    folder,
    'BartTokenizer',
    add_prefix_space=True,
    additional_special_tokens=['<new>', '<newer>'],
  ),
  't5': lambda folder: model_file(
    folder, 'unigram', 'spiece.model', tokenizer_class='T5Tokenizer', extra_ids=7
  ),
  't5-100': lambda folder: model_file(
    folder, 'unigram', 'spiece.model', tokenizer_class='T5TokenizerFast'
  ),
  'albert': lambda folder: write(
    folder,
    spiece__model=model(unigram(*ALBERT)),
    tokenizer_config__json={
      'tokenizer_class': 'AlbertTokenizer',
      'do_lower_case': True,
    },
  ),
  'albert-cased': lambda folder: write(
    folder,
    spiece__model=model(unigram(*ALBERT)),
    tokenizer_config__json={
      'tokenizer_class': 'AlbertTokenizer',
      'do_lower_case': False,
      'keep_accents': True,
    },
  ),
  'xlm-roberta': lambda folder: write(
    folder,
    **{'sentencepiece__bpe__model': model(unigram(*XLM_ROBERTA))},
    tokenizer_config__json={
      'tokenizer_class': 'XLMRobertaTokenizer',
      'model_max_length': 512,
    },
  ),
  'camembert': lambda folder: write(
    folder,
    **{'sentencepiece__bpe__model': model(unigram(*XLM_ROBERTA))},
    tokenizer_config__json={
      'tokenizer_class': 'CamembertTokenizer',
      'model_max_length': 512,
    },
  ),
  'mpnet': lambda folder: write(
    folder,
    vocab__txt='\n'.join(['<s>', '<pad>', '</s>', *trained('wordpiece')[0], '<mask>'])
    + '\n',
    tokenizer_config__json={'tokenizer_class': 'MPNetTokenizer', 'do_lower_case': True},
  ),
  'deberta-v2': lambda folder: write(
    folder,
    spm__model=model(unigram(*DEBERTA)),
    config__json={'model_type': 'deberta-v2'},
    tokenizer_config__json={'do_lower_case': False, 'vocab_type': 'spm'},
  ),
  'mbart': lambda folder: write(
    folder,
    **{'sentencepiece__bpe__model': model(unigram(*XLM_ROBERTA))},
    tokenizer_config__json={'tokenizer_class': 'MBartTokenizer', 'src_lang': 'ro_RO'},
  ),
  'mbart50': lambda folder: write(
    folder,
    **{'sentencepiece__bpe__model': model(unigram(*XLM_ROBERTA))},
    tokenizer_config__json={'tokenizer_class': 'MBart50Tokenizer', 'src_lang': 'sl_SI'},
  ),
  'pegasus': lambda folder: write(
    folder,
    spiece__model=model(unigram(*PEGASUS)),
    tokenizer_config__json={'tokenizer_class': 'PegasusTokenizer', 'offset': 9},
  ),
  'marian': lambda folder: marian(folder),
  'llama': lambda folder: model_file(
    folder,
    'bpe',
    'tokenizer.model',
    tokenizer_class='LlamaTokenizer',
    add_bos_token=True,
    legacy=False,
  ),
  'gemma': lambda folder: model_file(
    folder,
    'own',
    'tokenizer.model',
    tokenizer_class='GemmaTokenizer',
    add_bos_token=True,
    mask_token=None,
  ),
}
