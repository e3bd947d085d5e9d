"""The tokenizer of a GGUF file with a sentencepiece vocabulary, against the model file that it was made of."""

import json
import pathlib

from tl_jax.interop import gguf, sentencepiece
from tl_jax.interop.tokenizers import load_tokenizer

FIXTURE = next((pathlib.Path(__file__).parent / 'fixtures').rglob('bpe.model'))
TEXTS = ('Hello world', '  two  spaces ', 'naïve façade 😀', 'one\nline\tmore', '', '<s> said </s>', 'é')


def test_the_vocabulary_of_a_file_cuts_as_its_model_does(tmp_path):
  pieces = sentencepiece.read(FIXTURE.read_bytes())
  values = {'tokens': list(pieces.names), 'scores': list(pieces.scores), 'token_type': list(pieces.types),
            'bos_token_id': pieces.names.index('<s>'), 'eos_token_id': pieces.names.index('</s>'),
            'unknown_token_id': pieces.unknown, 'model': 'llama', 'add_space_prefix': pieces.dummy_prefix}
  found = gguf._tokenizer(tmp_path / 'a.gguf', lambda name, default=None: values.get(
      name.removeprefix('tokenizer.ggml.'), default))
  (tmp_path / 'tokenizer.model').write_bytes(FIXTURE.read_bytes())
  (tmp_path / 'tokenizer_config.json').write_text(json.dumps(dict(
      tokenizer_class='LlamaTokenizer', bos_token='<s>', eos_token='</s>', unk_token='<unk>', add_bos_token=True,
      add_eos_token=False)))
  wanted = load_tokenizer(tmp_path)
  for text in TEXTS:
    assert found.encode(text) == wanted.encode(text), text
    assert found.decode(found.encode(text)) == wanted.decode(wanted.encode(text)), text
  assert (found.eos, found.vocabulary_size) == (wanted.eos, wanted.vocabulary_size)


def test_another_vocabulary_opens_without_a_tokenizer(tmp_path):
  assert gguf._tokenizer(tmp_path / 'a.gguf', {'tokenizer.ggml.model': 'bert'}.get) is None
