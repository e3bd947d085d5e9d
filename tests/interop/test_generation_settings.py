"""What a folder says of decoding is followed, or said to be not."""

import json
import types

import pytest

from tl_jax import decode, interop, models
from tl_jax.interop import generation

BART = dict(
  model_type='bart',
  architectures=['BartForConditionalGeneration'],
  d_model=16,
  encoder_layers=1,
  decoder_layers=1,
  encoder_ffn_dim=24,
  decoder_ffn_dim=24,
  encoder_attention_heads=2,
  decoder_attention_heads=2,
  vocab_size=40,
  max_position_embeddings=64,
)
IDS = dict(decoder_start_token_id=2, eos_token_id=2, pad_token_id=1, bos_token_id=0)
# What facebook/bart-large-cnn says.
CNN = IDS | dict(
  num_beams=4,
  max_length=142,
  min_length=56,
  no_repeat_ngram_size=3,
  length_penalty=2.0,
  early_stopping=True,
  forced_bos_token_id=0,
  forced_eos_token_id=2,
  transformers_version='4.27.0.dev0',
  _from_model_config=True,
)


def loaded(said, kind='encoder-decoder', config=None):
  """A stand-in for a model whose folder says this."""
  return interop.Loaded(
    None, None, None, types.SimpleNamespace(kind=kind, start=0), config, said
  )


def follow(said, kind='encoder-decoder', **chosen):
  return interop.generation_settings(loaded(said, kind), chosen)


def test_an_mbart_that_names_no_language_starts_as_in_transformers():
  config = BART | dict(model_type='mbart', decoder_start_token_id=None, pad_token_id=1)
  assert interop.text_ids(loaded({}, config=config))['start'] == (0,)
  config |= dict(decoder_start_token_id=7)
  assert interop.text_ids(loaded({}, config=config))['start'] == (7,)


def test_what_a_published_folder_says():
  found, ignored = follow(CNN)
  assert ignored == ()
  assert decode.Decoding(**found) == decode.Decoding(
    'beam',
    beams=4,
    max_new_tokens=141,
    min_new_tokens=55,
    no_repeat_ngram=3,
    length_penalty=2.0,
    early_stopping=True,
    forced_bos=0,
    forced_eos=2,
    eos=2,
    pad=1,
    start=2,
  )


def test_a_folder_of_old_says_it_in_its_config():
  config = BART | CNN | dict(id2label={}, diversity_penalty=0.5)
  found, ignored = interop.generation_settings(loaded(None, config=config), {})
  assert (found['beams'], found['forced_bos']) == (4, (0,))
  assert ignored == ('config.json: diversity_penalty = 0.5 is not followed',)
  # A BART that says nothing ends with 2, as it does in transformers.
  plain, _ = interop.generation_settings(loaded(None, config=BART), {})
  assert plain['forced_eos'] == plain['start'] == (2,)
  marian, _ = interop.generation_settings(
    loaded(None, config=dict(model_type='marian')), {}
  )
  assert marian['forced_eos'] == (0,)
  assert 'forced_eos' not in interop.text_ids(loaded({}, config=BART))


def test_sampling_is_followed_with_the_default_of_transformers():
  said = dict(do_sample=True, temperature=0.6, top_p=0.9)
  found, ignored = follow(said, 'decoder')
  settings = decode.Decoding(**found)
  assert (settings.method, settings.temperature) == ('sample', 0.6)
  assert (settings.top_p, settings.top_k) == (0.9, 50)
  assert ignored == ()
  assert decode.Decoding(**follow(said | dict(top_k=0), 'decoder')[0]).top_k == 0
  # Without do_sample its options are idle there, too.
  assert follow(dict(temperature=0.6, top_p=0.9), 'decoder')[0]['method'] == 'greedy'


def test_what_is_chosen_holds_against_the_folder():
  found, _ = follow(CNN, method='greedy', max_new_tokens=8)
  settings = decode.Decoding(**found)
  assert (settings.method, settings.max_new_tokens) == ('greedy', 8)
  assert settings.min_new_tokens == 8
  found, _ = follow(CNN | dict(num_return_sequences=4), beams=2, forced_bos=())
  settings = decode.Decoding(**found)
  assert (settings.beams, settings.samples, settings.forced_bos) == (2, 2, ())
  found, _ = follow(dict(do_sample=True, temperature=0.6), temperature=0.2)
  assert decode.Decoding(**found).temperature == 0.2


@pytest.mark.parametrize(
  'fields',
  [
    dict(method='greedy', max_new_tokens=8, no_repeat_ngram=3, beams=4, top_k=0),
    # Without a word on it, transformers would draw from the 50 likeliest.
    dict(method='sample', max_new_tokens=8, temperature=0.5, top_k=0),
    dict(method='beam', max_new_tokens=8, beams=3, length_penalty=0.0),
    dict(method='beam', max_new_tokens=8, beams=2, early_stopping=True),
  ],
)
def test_what_is_spelled_is_followed(fields):
  said = generation.spelled(fields)
  found, ignored = generation.follow(said, 'decoder', {})
  read_by_all = {'method', 'max_new_tokens', 'no_repeat_ngram'}
  read = {*read_by_all, *generation.BY_METHOD[fields['method']].values()}
  assert found == {name: value for name, value in fields.items() if name in read}
  assert not ignored


def test_ids_that_never_come():
  said = IDS | dict(
    suppress_tokens=[-1, 7],
    begin_suppress_tokens=[3],
    bad_words_ids=[[5], [2], [6, 2]],
    stop_strings=['x'],
  )
  found, ignored = follow(said)
  assert (found['suppress'], found['begin_suppress']) == ((7,), (3,))
  # A forbidden end of sequence is left out, as there.
  assert found['bad_words'] == ((5,), (6, 2))
  assert (found['stop'], ignored) == (('x',), ())


@pytest.mark.parametrize(
  ('said', 'kind', 'line'),
  [
    (dict(typical_p=0.9), 'decoder', 'typical_p = 0.9 is not followed'),
    (dict(encoder_no_repeat_ngram_size=3), 'decoder', 'encoder_no_repeat_ngram_size'),
    (dict(num_beams=4, num_beam_groups=2), 'decoder', 'num_beam_groups = 2'),
    (dict(num_beams=2, do_sample=True), 'decoder', 'do_sample = True'),
    (dict(max_length=4096), 'decoder', 'max_length = 4096'),
    (dict(min_length=10), 'decoder', 'min_length = 10'),
    (dict(forced_bos_token_id=3), 'decoder', 'forced_bos_token_id = 3'),
    (
      dict(decoder_start_token_id=[2, 3], forced_bos_token_id=3),
      'encoder-decoder',
      'forced_bos',
    ),
    (dict(exponential_decay_length_penalty=[3, 1.1]), 'decoder', 'exponential_decay'),
    (dict(guidance_scale=1.5), 'decoder', 'guidance_scale = 1.5'),
    (dict(sequence_bias=[[[1], 2.0]]), 'decoder', 'sequence_bias'),
    (dict(renormalize_logits=True), 'decoder', 'renormalize_logits'),
    (dict(a_new_thing=3), 'decoder', 'a_new_thing = 3'),
  ],
)
def test_what_is_not_followed_is_said_by_name(said, kind, line):
  _, ignored = follow(said, kind)
  assert len(ignored) == 1
  assert ignored[0].startswith('generation_config.json: ' + line)


def test_the_ids_come_with_a_warning_for_the_rest(caplog):
  found = interop.text_ids(loaded(IDS | dict(typical_p=0.9, max_length=30)))
  assert found == dict(eos=(2,), pad=1, start=(2,))
  assert [record.getMessage() for record in caplog.records] == [
    'generation_config.json: typical_p = 0.9 is not followed'
  ]
  assert interop.text_ids(loaded(dict(num_beams=3)))['method'] == 'beam'


def test_what_asks_for_nothing_is_not_said():
  idle = generation.NOT_FOLLOWED | dict.fromkeys(generation.HARMLESS, True)
  idle |= dict(num_beams=1, do_sample=False, max_length=20, min_length=0, top_k=50)
  assert follow(idle, 'decoder')[1] == ()


def test_a_value_of_a_wrong_kind_names_the_file():
  with pytest.raises(ValueError, match='generation_config.json: an unusable value'):
    follow(dict(max_length='long'))


@pytest.fixture(scope='module')
def bart(tmp_path_factory):
  import jax

  from tl_jax.interop import configs

  path = tmp_path_factory.mktemp('bart')
  arch = configs.read(BART)
  model = models.build(arch)
  interop.save(
    path, interop.Loaded(model, model.init(jax.random.key(0)), None, arch, BART)
  )
  return path


def test_byte_order_marks_of_a_folder_are_dropped(bart):
  (bart / 'generation_config.json').write_text(json.dumps(IDS))
  plain = interop.load(bart)
  held = {path: path.read_bytes() for path in bart.glob('*.json')}
  for path, content in held.items():
    path.write_bytes(b'\xef\xbb\xbf' + content)
  marked = interop.load(bart)
  for path, content in held.items():
    path.write_bytes(content)
  assert (marked.arch, marked.generation) == (plain.arch, plain.generation)


@pytest.mark.parametrize(
  ('said', 'check'),
  [
    (dict(forced_bos_token_id=7), lambda tokens: tokens[0] == 7),
    (dict(forced_eos_token_id=9), lambda tokens: tokens[-1] == 9),
    (
      dict(min_new_tokens=4, eos_token_id=list(range(3, 40))),
      lambda tokens: len(tokens) >= 4,
    ),
    (
      dict(suppress_tokens=list(range(3, 39))),
      lambda tokens: set(tokens) <= {0, 1, 2, 39},
    ),
    (dict(no_repeat_ngram_size=1), lambda tokens: len(set(tokens)) == 8),
    (dict(bad_words_ids=[[i] for i in range(39)]), lambda tokens: set(tokens) == {39}),
  ],
)
def test_what_a_folder_says_changes_what_comes(said, check, bart):
  ids = dict(IDS, eos_token_id=None)

  def tokens(**said):
    (bart / 'generation_config.json').write_text(json.dumps(ids | said))
    held = interop.load(bart)
    settings = decode.Decoding(**interop.text_ids(held), max_new_tokens=8)
    reader = types.SimpleNamespace(
      encode_batch=lambda texts, special: [[5, 6, 7] for _ in texts], decode=str
    )
    decoder = models.decoder(held.arch)
    found = decode.continue_texts(decoder, held.params, reader, ['a'], settings)
    return next(iter(found))[0].tokens

  assert check(tokens(**said))
  if 'min_new_tokens' not in said:
    assert not check(tokens())
