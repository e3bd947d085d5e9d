"""Beam search: against all sequences there are, and against transformers.

`expected_beams.json` holds what transformers 5.23 returns for CASES; with torch at hand
the tests also ask it again, and `python tests/decode/test_beams.py` writes the file
anew.
"""

import itertools
import json
import pathlib

import numpy as np
import pytest

from tl_jax.decode import Decoding, generate
from tl_jax.decode.settings import penalties

EXPECTED = pathlib.Path(__file__).with_name('expected_beams.json')
PROMPTS = [[3, 1, 4], [5], [9, 2, 6, 5, 3]]
# What differs from a vocabulary of 20, of which 2 (and 7) end a sequence and are
# somewhat favoured.
CASES = [
  dict(),
  dict(early_stopping=True),
  dict(early_stopping='never'),
  dict(length_penalty=0.0),
  dict(length_penalty=2.0),
  dict(length_penalty=2.0, early_stopping='never'),
  dict(length_penalty=-1.5),
  dict(length_penalty=-1.5, early_stopping='never'),
  dict(length_penalty=0.6, early_stopping=True),
  dict(eos=(2, 7)),
  dict(eos=(2, 7), early_stopping=True, samples=4),
  dict(eos=()),
  dict(min_new_tokens=4),
  dict(repetition_penalty=1.4),
  dict(repetition_penalty=0.8, early_stopping='never', eos=(2, 7), min_new_tokens=2),
  dict(beams=2, samples=1),
  dict(beams=6, samples=6, early_stopping=True),
  dict(max_new_tokens=1),
  dict(repetition_penalty=2.5, eos=()),
  dict(repetition_penalty=0.4, beams=6, samples=6),
  dict(no_repeat_ngram=2, forced_eos=(2,)),
  dict(bad_words=((8,), (3, 11), (11, 3)), suppress=(12, 17), eos=(2, 7)),
  dict(begin_suppress=(2, 7, 9), min_new_tokens=3, no_repeat_ngram=1, eos=(2, 7)),
]


def case_of(changes):
  return Decoding(
    'beam', **{**dict(max_new_tokens=9, beams=4, samples=3, eos=(2,), pad=1), **changes}
  )


def toy_of(toys, seed):
  return toys.Hashing(
    vocabulary=20, spread=4.0, seed=seed, favoured=((2, 1.5), (7, 1.0))
  )


def ask_transformers(toy, prompts, settings, starts=None):
  """(sequences of new tokens, scores), rows x samples, of transformers; see `_ask`.

  There, padding counts among the tokens that may not come again: then every prompt is
  asked alone.
  """
  if not settings.no_repeat_ngram:
    return _ask(toy, prompts, settings, starts)
  sequences = []
  scores = []
  for i, prompt in enumerate(prompts):
    found, its_scores = _ask(toy, [prompt], settings, starts and [starts[i]])
    sequences += found
    scores += its_scores
  return sequences, scores


def _ask(toy, prompts, settings, starts=None):
  """(sequences of new tokens, scores), rows x samples, from a model of transformers
  whose logits are those of `toy`.
  """
  import torch

  width = max(map(len, prompts))
  padding = [[0] * (width - len(row)) for row in prompts]
  tokens = [left + row for left, row in zip(padding, prompts, strict=True)]
  real = [left + [1] * len(row) for left, row in zip(padding, prompts, strict=True)]
  keywords = options_of(settings)
  begin = width
  if starts is not None:
    begin = len(starts[0])
    keywords['decoder_input_ids'] = torch.tensor(starts)
    keywords['decoder_start_token_id'] = starts[0][0]
  model = model_of(toy, is_encoder_decoder=starts is not None)
  found = model.generate(
    torch.tensor(tokens), attention_mask=torch.tensor(real), **keywords
  )
  ended = []
  for row in found.sequences[:, begin:].tolist():
    ends = [i for i, token in enumerate(row) if token in settings.eos]
    ended.append(row[: ends[0] + 1] if ends else row)
  samples = settings.samples
  sequences = [ended[i : i + samples] for i in range(0, len(ended), samples)]
  scores = found.sequences_scores.numpy().reshape(len(prompts), samples)
  return sequences, scores.tolist()


def options_of(settings):
  """The settings as keyword arguments of `generate` there; None is an option not set."""
  return dict(
    use_cache=False,
    do_sample=False,
    num_beams=settings.beams,
    num_return_sequences=settings.samples,
    max_new_tokens=settings.max_new_tokens,
    min_new_tokens=settings.min_new_tokens or None,
    length_penalty=settings.length_penalty,
    early_stopping=settings.early_stopping,
    repetition_penalty=settings.repetition_penalty,
    no_repeat_ngram_size=settings.no_repeat_ngram or None,
    suppress_tokens=list(settings.suppress) or None,
    bad_words_ids=list(map(list, settings.bad_words)) or None,
    forced_eos_token_id=list(settings.forced_eos) or None,
    begin_suppress_tokens=list(settings.begin_suppress) or None,
    forced_bos_token_id=settings.forced_bos[0] if settings.forced_bos else None,
    eos_token_id=list(settings.eos) or None,
    pad_token_id=settings.pad,
    output_scores=True,
    return_dict_in_generate=True,
  )


def model_of(toy, is_encoder_decoder):
  """A model of transformers whose logits are those of `toy`."""
  import torch
  import transformers
  from transformers.modeling_outputs import (
    BaseModelOutput,
    CausalLMOutput,
    Seq2SeqLMOutput,
  )

  class Encoder(torch.nn.Module):
    """Hands the source on in its states, padding as -1."""

    main_input_name = 'input_ids'

    def forward(self, input_ids, attention_mask=None, **_):
      real = torch.tensor(True) if attention_mask is None else attention_mask > 0
      states = torch.where(real, input_ids, -1)[..., None].float()
      return BaseModelOutput(last_hidden_state=states)

  class Table(transformers.PreTrainedModel, transformers.GenerationMixin):
    config_class = transformers.PretrainedConfig
    main_input_name = 'input_ids'

    def __init__(self, config):
      super().__init__(config)
      # Without a parameter a model there has neither a device nor a dtype.
      self.nothing = torch.nn.Parameter(torch.zeros(1))
      self.encoder = Encoder()

    def get_encoder(self, *_, **__):
      return self.encoder

    def prepare_inputs_for_generation(
      self, input_ids, attention_mask=None, encoder_outputs=None, **_
    ):
      return dict(
        input_ids=input_ids,
        attention_mask=attention_mask,
        encoder_outputs=encoder_outputs,
      )

    def forward(self, input_ids=None, attention_mask=None, encoder_outputs=None, **_):
      # A mask of ones is left out there.
      if attention_mask is None:
        attention_mask = torch.ones_like(input_ids)
      rows = []
      for row, ids in enumerate(input_ids.tolist()):
        if encoder_outputs is None:
          pairs = zip(ids, attention_mask[row], strict=True)
          rows.append(toy.logits([i for i, real in pairs if real]))
        else:
          source = encoder_outputs.last_hidden_state[row, :, 0].int().tolist()
          rows.append(toy.logits(ids, [i for i in source if i >= 0]))
      logits = torch.tensor(np.array(rows))[:, None]
      if encoder_outputs is None:
        return CausalLMOutput(logits=logits)
      return Seq2SeqLMOutput(logits=logits)

  config = transformers.PretrainedConfig(
    is_encoder_decoder=is_encoder_decoder, vocab_size=toy.vocabulary
  )
  return Table(config)


def same(found, sequences, scores):
  for row, (several, its_scores) in enumerate(zip(sequences, scores, strict=True)):
    for i, sequence in enumerate(several):
      assert found.tokens[row, i, : found.lengths[row, i]].tolist() == sequence, (
        row,
        i,
      )
    assert np.allclose(found.scores[row], its_scores, atol=1e-4)
  return True


# Every second of them, and each option, is quick; all are compared where transformers
# is.
QUICK = (0, 1, 2, 4, 7, 8, 9, 11, 12, 14, 16, 20, 21)


@pytest.mark.parametrize(
  'index',
  [
    pytest.param(
      index, id=str(changes), marks=[] if index in QUICK else pytest.mark.slow
    )
    for index, changes in enumerate(CASES)
  ],
)
def test_it_is_what_transformers_returned(toys, index):
  changes, sequences, scores = json.loads(EXPECTED.read_text())[index]
  assert json.loads(json.dumps(CASES[index])) == changes
  settings = case_of(CASES[index])
  found = generate(toy_of(toys, index).decoder(), None, toys.lay(PROMPTS), settings)
  assert same(found, sequences, scores)
  after = np.arange(settings.max_new_tokens) >= np.asarray(found.lengths)[..., None]
  assert (np.asarray(found.tokens)[after] == settings.pad).all()


@pytest.mark.slow
@pytest.mark.filterwarnings('ignore')
@pytest.mark.parametrize(
  'index', range(len(CASES)), ids=lambda index: str(CASES[index])
)
def test_it_is_what_transformers_returns(toys, index):
  pytest.importorskip('torch')
  pytest.importorskip('transformers')
  settings = case_of(CASES[index])
  recorded = json.loads(EXPECTED.read_text())[index]
  sequences, scores = ask_transformers(toy_of(toys, index), PROMPTS, settings)
  assert sequences == recorded[1] and np.allclose(scores, recorded[2], atol=1e-5)
  for seed in range(100, 103):
    toy = toy_of(toys, seed)
    expected = ask_transformers(toy, PROMPTS, settings)
    assert same(generate(toy.decoder(), None, toys.lay(PROMPTS), settings), *expected)
    if index % 3 == 0:
      starts = [[0, 4]] * len(PROMPTS)
      expected = ask_transformers(toy, PROMPTS, settings, starts)
      batch = {**toys.lay(PROMPTS), **toys.lay(starts, 'decoder_')}
      assert same(
        generate(toy.decoder('encoder-decoder'), None, batch, settings), *expected
      )


@pytest.mark.slow
@pytest.mark.filterwarnings('ignore')
def test_a_forced_beginning_is_that_of_transformers(toys):
  pytest.importorskip('torch')
  pytest.importorskip('transformers')
  settings, starts = (
    case_of(dict(forced_bos=(6,), begin_suppress=(2,), no_repeat_ngram=3)),
    [[0]] * len(PROMPTS),
  )
  batch = {**toys.lay(PROMPTS), **toys.lay(starts, 'decoder_')}
  for seed in range(3):
    toy = toy_of(toys, seed)
    found = generate(toy.decoder('encoder-decoder'), None, batch, settings)
    assert same(found, *ask_transformers(toy, PROMPTS, settings, starts))
    assert (found.tokens[..., 0] == 6).all()


def every_sequence(toy, log_softmax, prompt, settings):
  """(score, sequence) of all sequences there are, best first."""
  divisors, found = penalties(settings).astype(float), []
  for length in range(1, settings.max_new_tokens + 1):
    for sequence in itertools.product(range(toy.vocabulary), repeat=length):
      ended = sequence[-1] in settings.eos
      if set(sequence[:-1]) & set(settings.eos) or not (
        ended or length == settings.max_new_tokens
      ):
        continue
      total = sum(
        log_softmax(toy.logits([*prompt, *sequence[:i]]))[token]
        for i, token in enumerate(sequence)
      )
      found.append((total / divisors[length], list(sequence)))
  return sorted(found, reverse=True)


@pytest.mark.parametrize(
  ('form', 'penalty'),
  [
    ('huggingface', 0.0),
    pytest.param('huggingface', 1.0, marks=pytest.mark.slow),
    ('gnmt', 0.6),
    pytest.param('gnmt', 2.0, marks=pytest.mark.slow),
    ('gnmt', -1.0),
  ],
)
def test_wide_beams_find_the_best_of_all_sequences(toys, form, penalty):
  toy = toys.Hashing(vocabulary=3, spread=3.0, seed=2)
  settings = Decoding(
    'beam',
    beams=27,
    samples=5,
    max_new_tokens=4,
    eos=(1,),
    length_penalty=penalty,
    penalty_form=form,
    early_stopping='never',
  )
  found = generate(toy.decoder(), None, toys.lay([[2, 0], [1]]), settings)
  for row, prompt in enumerate([[2, 0], [1]]):
    best = every_sequence(toy, toys.log_softmax, prompt, settings)[:5]
    assert [
      found.tokens[row, i, : found.lengths[row, i]].tolist() for i in range(5)
    ] == [one for _, one in best]
    assert np.allclose(found.scores[row], [score for score, _ in best], atol=1e-4)


def test_where_there_are_fewer_sequences_than_beams_the_rest_is_empty(toys):
  toy = toys.Hashing(vocabulary=3)
  found = generate(
    toy.decoder(),
    None,
    toys.lay([[2]]),
    Decoding('beam', beams=5, samples=5, max_new_tokens=1, pad=2),
  )
  assert sorted(found.tokens[0, :3, 0].tolist()) == [0, 1, 2] and found.lengths[
    0
  ].tolist() == [1, 1, 1, 0, 0]
  assert np.isfinite(found.scores).all() and (found.scores[0, 3:] == -1e9).all()


def test_rows_of_a_batch_do_not_meet(toys):
  toy, settings = toy_of(toys, 3), case_of(dict(early_stopping=True))
  together = generate(toy.decoder(), None, toys.lay(PROMPTS), settings)
  for row, prompt in enumerate(PROMPTS):
    alone = generate(
      toy.decoder(), None, toys.lay([prompt], length=5, left=False), settings
    )
    assert (alone.tokens[0] == together.tokens[row]).all()
    assert np.allclose(alone.scores[0], together.scores[row], atol=1e-5)


if __name__ == '__main__':
  import conftest

  lines = [
    json.dumps(
      [changes, *ask_transformers(toy_of(conftest, index), PROMPTS, case_of(changes))]
    )
    for index, changes in enumerate(CASES)
  ]
  EXPECTED.write_text('[\n' + ',\n'.join(lines) + '\n]\n')
