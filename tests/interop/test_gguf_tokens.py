"""The tokenizer of a GGUF file: byte pairs as llama.cpp reads them, sentencepiece as
its model file does.
"""

import json
import pathlib
import sys

import pytest

sys.path.insert(0, str(pathlib.Path(__file__).parent))
import folders  # noqa: E402

from tl_jax import interop  # noqa: E402
from tl_jax.interop import gguf_config, gguf_tokenizer, sentencepiece  # noqa: E402
from tl_jax.interop.tokenizers import load_tokenizer, save_tokenizer  # noqa: E402

FIXTURE = next((pathlib.Path(__file__).parent / 'fixtures').rglob('bpe.model'))
TEXTS = (
  'Hello world',
  '  two  spaces ',
  'naïve façade 😀',
  'one\nline\tmore',
  '',
  '<s> said </s>',
  'é',
)
MARKS = ('<|begin_of_text|>', '<|eot_id|>', '<think>', '</think>', '<|end_of_text|>')


def metadata(**said):
  return {f'tokenizer.ggml.{key}': value for key, value in said.items()}


def byte_pairs(**more):
  """The metadata of a trained byte-level vocabulary with marks of a chat behind it."""
  pieces, merges = folders.trained('bpe')
  first = len(pieces)
  return metadata(
    **dict(
      model='gpt2',
      pre='llama-bpe',
      tokens=[*pieces, *MARKS],
      token_type=[1] * first + [3, 3, 4, 4, 3],
      merges=merges,
      bos_token_id=first,
      eos_token_id=first + 4,
      eot_token_id=first + 1,
    )
    | more
  ), first


def read(said):
  return gguf_tokenizer.read(pathlib.Path('a.gguf'), said)


def test_a_piece_of_the_users_own_is_one_token_and_a_control_token_is_text():
  said, first = byte_pairs()
  tokenizer = read(said)
  plain = tokenizer.encode('the cat', special=False)
  assert tokenizer.encode('<think>the cat</think>', special=False) == [
    first + 2,
    *plain,
    first + 3,
  ]
  spelled = tokenizer.encode('<|eot_id|>', special=False)
  assert len(spelled) > 1 and first + 1 not in spelled
  assert tokenizer.decode([first + 2, *plain, first + 1]) == '<think>the cat'


def test_roles_and_what_is_put_around_a_text():
  said, first = byte_pairs()
  tokenizer = read(said)
  assert (tokenizer.bos, tokenizer.eos, tokenizer.prefix, tokenizer.suffix) == (
    first,
    first + 4,
    (first,),
    (),
  )
  bare = read(said | metadata(add_bos_token=False))
  assert (bare.prefix, bare.suffix) == ((), ())
  both = read(said | metadata(add_bos_token=True, add_eos_token=True))
  assert (both.prefix, both.suffix) == ((first,), (first + 4,))
  # Only the vocabularies of Llama 3 and Mistral begin a text where nothing is said of
  # it.
  assert read(said | metadata(pre='qwen2')).prefix == ()
  assert read(said | metadata(pre='qwen2', add_bos_token=True)).prefix == (first,)


def test_the_longest_text_is_that_of_the_model():
  said, _ = byte_pairs()
  assert 'model_max_length' not in read(said).settings
  model = {'general.architecture': 'qwen2', 'qwen2.context_length': 64}
  assert read(said | model).settings['model_max_length'] == 64


def test_what_ends_a_text_is_all_that_the_file_names():
  said, first = byte_pairs()
  assert gguf_config.generation(said | metadata(suppress_tokens=[3])) == dict(
    eos_token_id=[first + 4, first + 1], bos_token_id=first, suppress_tokens=[3]
  )
  assert gguf_config.generation({}) is None
  # Llama 3 files of 2024 number the end of a text and not that of a turn.
  del said['tokenizer.ggml.eot_token_id']
  found = gguf_config.generation(said)
  assert sorted(found['eos_token_id']) == [first + 1, first + 4]


def test_what_a_file_recommends_for_sampling_is_followed_or_named():
  said = {
    f'general.sampling.{key}': value
    for key, value in dict(
      temp=0.6, top_k=20, top_p=0.95, penalty_repeat=1.1, mirostat=2
    ).items()
  }
  assert gguf_config.generation(said) == {
    'do_sample': True,
    'temperature': 0.6,
    'top_k': 20,
    'top_p': 0.95,
    'repetition_penalty': 1.1,
    'general.sampling.mirostat': 2,
  }


def test_chat_templates():
  said, _ = byte_pairs()
  assert read(said).chat_template is None
  assert (
    read(said | {'tokenizer.chat_template': '{{ messages }}'}).chat_template
    == '{{ messages }}'
  )
  several = said | {
    'tokenizer.chat_template': 'a',
    'tokenizer.chat_templates': ['tool_use'],
    'tokenizer.chat_template.tool_use': 'b',
  }
  assert read(several).chat_template == dict(default='a', tool_use='b')


def test_a_saved_tokenizer_reads_the_same(tmp_path):
  said, _ = byte_pairs()
  tokenizer = read(said | {'tokenizer.chat_template': '{{ messages }}'})
  save_tokenizer(tmp_path, tokenizer)
  again = load_tokenizer(tmp_path)
  assert (again.prefix, again.eos, again.chat_template) == (
    tokenizer.prefix,
    tokenizer.eos,
    tokenizer.chat_template,
  )
  for text in (*TEXTS, '<think>the</think><|eot_id|>'):
    assert again.encode(text) == tokenizer.encode(text)


@pytest.mark.parametrize('pre', sorted(gguf_tokenizer.SPLITS))
def test_every_cut_that_is_known_gives_a_text_back(pre):
  said, _ = byte_pairs()
  tokenizer = read(said | metadata(pre=pre, add_bos_token=False))
  for text in TEXTS:
    assert tokenizer.decode(tokenizer.encode(text)) == text


@pytest.mark.parametrize(
  ('pre', 'wanted'),
  [
    ('llama-bpe', ['123', '45']),
    ('qwen2', ['1', '2', '3', '4', '5']),
    ('tekken', ['1', '2', '3', '4', '5']),
    ('gpt-2', ['12345']),
    ('smollm', ['1', '2', '3', '4', '5']),
  ],
)
def test_the_cut_follows_the_name(pre, wanted):
  said, _ = byte_pairs()
  tokenizer = read(said | metadata(pre=pre))
  cut = tokenizer.backend.pre_tokenizer.pre_tokenize_str('12345  it')
  digits = [piece for piece, _ in cut if piece.isdigit()]
  assert digits == wanted


def test_a_file_that_does_not_say_how_it_cuts_warns(caplog):
  said, _ = byte_pairs()
  del said['tokenizer.ggml.pre']
  assert read(said).encode('the', special=False)
  assert 'a.gguf: does not say tokenizer.ggml.pre' in caplog.text


def test_a_word_of_the_vocabulary_is_taken_whole_where_llama3_does():
  tokens, types, merges = ['a', 'b', 'c', 'ab', 'abc', '<s>'], [1] * 5 + [3], ['a b']
  said = metadata(
    model='gpt2', tokens=tokens, token_type=types, merges=merges, bos_token_id=5
  )
  assert read(said | metadata(pre='llama-bpe')).encode('abc', special=False) == [4]
  assert read(said | metadata(pre='qwen2')).encode('abc', special=False) == [3, 2]


@pytest.mark.parametrize(
  ('more', 'message'),
  [
    (dict(pre='a-new-one'), "tokenizer.ggml.pre 'a-new-one' is not known"),
    (dict(model='t5'), "tokenizer.ggml.model 't5' is not supported"),
    (dict(token_type=[1, 1]), 'tokenizer.ggml.token_type: 2 types of'),
    (dict(eos_token_id=9999), 'tokenizer.ggml.eos_token_id: 9999 is outside of'),
    (
      dict(bos_token_id=None, add_bos_token=True),
      'tokenizer.ggml.add_bos_token: true, but there is no',
    ),
    (dict(add_sep_token=True), 'tokenizer.ggml.add_sep_token'),
    (dict(add_space_prefix=True), 'tokenizer.ggml.add_space_prefix'),
    (dict(tokens=[]), 'tokenizer.ggml.tokens is missing'),
    (dict(merges=[]), 'tokenizer.ggml.merges is missing'),
    (dict(tokens=['a', 'b', 'a']), "tokenizer.ggml.tokens: 'a' is given twice"),
  ],
)
def test_what_is_not_followed_is_refused_by_name(more, message):
  said, _ = byte_pairs()
  with pytest.raises(ValueError, match=message):
    read(said | metadata(**more))


def test_a_file_that_says_so_has_no_tokenizer():
  assert read({}) is None
  assert read(metadata(model='no_vocab')) is None


def test_the_vocabulary_of_a_file_cuts_as_its_model_does(tmp_path):
  pieces = sentencepiece.read(FIXTURE.read_bytes())
  said = metadata(
    tokens=list(pieces.names),
    scores=list(pieces.scores),
    token_type=list(pieces.types),
    bos_token_id=pieces.names.index('<s>'),
    eos_token_id=pieces.names.index('</s>'),
    unknown_token_id=pieces.unknown,
    model='llama',
    add_space_prefix=pieces.dummy_prefix,
  )
  found = read(said)
  (tmp_path / 'tokenizer.model').write_bytes(FIXTURE.read_bytes())
  (tmp_path / 'tokenizer_config.json').write_text(
    json.dumps(
      dict(
        tokenizer_class='LlamaTokenizer',
        bos_token='<s>',
        eos_token='</s>',
        unk_token='<unk>',
        add_bos_token=True,
        add_eos_token=False,
      )
    )
  )
  wanted = load_tokenizer(tmp_path)
  for text in TEXTS:
    assert found.encode(text) == wanted.encode(text), text
    assert found.decode(found.encode(text)) == wanted.decode(wanted.encode(text)), text
  assert (found.eos, found.vocabulary_size) == (wanted.eos, wanted.vocabulary_size)
  with pytest.raises(ValueError, match='tokenizer.ggml.scores: 0 scores of'):
    read({key: value for key, value in said.items() if not key.endswith('scores')})


def test_pieces_of_the_users_own_in_a_vocabulary_of_gemma(tmp_path):
  """Runs of spaces and turns of a chat; the converter writes their spaces as they are."""
  folders.model_file(
    tmp_path,
    'own',
    'tokenizer.model',
    tokenizer_class='GemmaTokenizer',
    add_bos_token=True,
    mask_token=None,
  )
  wanted = load_tokenizer(tmp_path)
  pieces = sentencepiece.read((folders.FIXTURES / 'own.model').read_bytes())
  own = [kind == sentencepiece.OWN for kind in pieces.types]
  names = [
    name.replace('▁', ' ') if mine else name
    for name, mine in zip(pieces.names, own, strict=True)
  ]
  assert '  ' in names and '<start_of_turn>' in names
  found = read(
    metadata(
      model='llama',
      tokens=names,
      scores=list(pieces.scores),
      token_type=list(pieces.types),
      bos_token_id=wanted.bos,
      eos_token_id=wanted.eos,
      unknown_token_id=pieces.unknown,
      add_space_prefix=False,
    )
  )
  for text in (*TEXTS, '<start_of_turn>user  said   a'):
    assert found.encode(text) == wanted.encode(text), text
    assert found.decode(found.encode(text)) == wanted.decode(wanted.encode(text)), text


def test_a_whole_file_carries_its_tokenizer(tmp_path):
  pytest.importorskip('gguf')
  import cases
  import ggufs
  import test_gguf

  said, first = byte_pairs()
  names, types, merges = (
    said[f'tokenizer.ggml.{key}'] for key in ('tokens', 'token_type', 'merges')
  )
  config, shapes = dict(test_gguf.TINY), dict(test_gguf.SHAPES)
  config['vocab_size'], shapes['model.embed_tokens.weight'] = (
    len(names),
    (len(names), 16),
  )
  cases.materialise(tmp_path, config, shapes)
  finish = lambda out: ggufs.vocabulary(
    out,
    names,
    types,
    merges,
    template='{{ messages }}',
    bos=first,
    eos=first + 4,
    eot=first + 1,
  )
  loaded = interop.load(
    ggufs.convert(tmp_path, config, tmp_path / 'a.gguf', finish=finish)
  )
  assert loaded.tokenizer.encode('<think>')[:2] == [first, first + 2]
  assert loaded.tokenizer.chat_template == '{{ messages }}'
  assert interop.text_ids(loaded)['eos'] == (first + 4, first + 1)
