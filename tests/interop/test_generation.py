"""Greedy and beam sequences are those of transformers, for the models whose outputs the
fixtures hold.

`python tests/interop/test_generation.py` asks transformers again, of all or of those
whose names begin as said (needs torch and transformers 5).
"""

import json
import pathlib
import sys
import tempfile

import jax.numpy as jnp
import numpy as np
import pytest

sys.path.insert(0, str(pathlib.Path(__file__).parent))
import cases  # noqa: E402

from tl_jax import decode, interop, models  # noqa: E402

CASES = (
  'gpt2-LMHeadModel',
  'llama-ForCausalLM',
  'mistral-ForCausalLM',
  'gemma-ForCausalLM',
  'gemma3-ForCausalLM',
  'granite-ForCausalLM',
  'olmo2-ForCausalLM',
  'smollm3-ForCausalLM',
  'phi3-ForCausalLM',
  'phi3-short-ForCausalLM',
  't5-ForConditionalGeneration',
  't5-1.1-ForConditionalGeneration',
  'bart-ForConditionalGeneration',
  'bart-uneven-ForConditionalGeneration',
  'mt5-ForConditionalGeneration',
  'umt5-ForConditionalGeneration',
  'mbart-ForConditionalGeneration',
  'marian-MTModel',
  'pegasus-ForConditionalGeneration',
)
# A decoder and an encoder-decoder, each way once, and windows in one.
QUICK = (
  ('gpt2-LMHeadModel', 'greedy'),
  ('t5-ForConditionalGeneration', 'beam'),
  ('gemma3-ForCausalLM', 'greedy'),
  ('smollm3-ForCausalLM', 'greedy'),
)
EXPECTED = pathlib.Path(__file__).with_name('fixtures') / 'generation.json'
NEW, EOS, PAD, START, ROWS = 10, 1, 0, 2, 3


def prompts(encoder_decoder: bool, seed: int):
  """Three rows padded on the side where the kind of model wants it."""
  draw = np.random.default_rng(seed)
  tokens, segments = draw.integers(5, 61, (ROWS, 6)), np.ones((ROWS, 6), int)
  segments[1, 4:] = 0
  segments = segments if encoder_decoder else segments[:, ::-1]
  return np.where(segments > 0, tokens, PAD).astype(np.int32), np.ascontiguousarray(
    segments
  ).astype(np.int32)


@pytest.mark.parametrize(
  ('case', 'method'),
  [
    pytest.param(
      case, method, marks=[] if (case, method) in QUICK else pytest.mark.slow
    )
    for case in CASES
    for method in ('greedy', 'beam')
  ],
)
def test_sequences_are_those_of_transformers(case, method, tmp_path):
  found = cases.fixture(case)
  cases.materialise(tmp_path, found['config'], found['shapes'], found['gain'])
  loaded = interop.load(tmp_path)
  expected = json.loads(EXPECTED.read_text())[case]
  tokens, segments = prompts(loaded.arch.kind == 'encoder-decoder', expected['seed'])
  batch, start = dict(tokens=jnp.array(tokens), segments=jnp.array(segments)), ()
  if loaded.arch.kind == 'encoder-decoder':
    batch['decoder_tokens'] = jnp.full((ROWS, 1), START, jnp.int32)
    batch['decoder_segments'], start = jnp.ones((ROWS, 1), jnp.int32), (START,)
  settings = decode.Decoding(
    method=method, max_new_tokens=NEW, eos=EOS, pad=PAD, start=start
  )
  made = decode.generate(models.decoder(loaded.arch), loaded.params, batch, settings)
  assert made.tokens[:, 0].tolist() == expected[method]
  assert expected['margin'] > 1e-2
  if method == 'beam':
    assert np.abs(np.asarray(made.scores)[:, 0] - expected['scores']).max() < 1e-3


def ended(tokens: list[int]) -> list[int]:
  """The new tokens of a row with padding behind the end, where transformers may repeat
  the end.
  """
  count = tokens.index(EOS) + 1 if EOS in tokens else len(tokens)
  return (tokens[:count] + [PAD] * NEW)[:NEW]


def reference(model, both: bool, seed: int) -> dict:
  """Greedy and beam sequences of transformers, and by how much each choice and each
  best beam was ahead.
  """
  import torch

  tokens, segments = prompts(both, seed)
  common = dict(
    input_ids=torch.tensor(tokens).long(),
    attention_mask=torch.tensor(segments).long(),
    do_sample=False,
    max_new_tokens=NEW,
    eos_token_id=EOS,
    pad_token_id=PAD,
    bos_token_id=None,
    forced_eos_token_id=None,
    forced_bos_token_id=None,
    return_dict_in_generate=True,
    output_scores=True,
  )
  # Their cache counts the layers of the encoder, which here has fewer than the decoder.
  common |= dict(decoder_start_token_id=START, use_cache=False) if both else {}
  length = 1 if both else tokens.shape[1]
  fill = lambda rows: [ended(row[length:]) for row in rows.tolist()]
  greedy, beam = (
    model.generate(**common),
    model.generate(**common, num_beams=4, num_return_sequences=2),
  )
  gap = torch.stack(greedy.scores).topk(2, -1).values
  beams = beam.sequences_scores.reshape(ROWS, 2)
  margin = min(
    float((gap[..., 0] - gap[..., 1]).min()), float((beams[:, 0] - beams[:, 1]).min())
  )
  return dict(
    seed=seed,
    greedy=fill(greedy.sequences),
    beam=fill(beam.sequences[::2]),
    scores=beams[:, 0].tolist(),
    margin=margin,
  )


def main(*beginnings: str) -> None:
  import transformers

  answers = json.loads(EXPECTED.read_text()) if beginnings else {}
  for case in CASES:
    if not case.startswith(beginnings or ('',)):
      continue
    held = cases.fixture(case)
    (prefix, *_), suffix = cases.CASES[case]
    with tempfile.TemporaryDirectory() as folder:
      cases.materialise(folder, held['config'], held['shapes'], held['gain'])
      model = (
        getattr(transformers, prefix + suffix)
        .from_pretrained(folder, attn_implementation='eager')
        .eval()
      )
    both = held['config'].get('is_encoder_decoder', False)
    answers[case] = next(
      found
      for found in (reference(model, both, seed) for seed in range(60))
      if found['margin'] > 1e-2
    )
  EXPECTED.write_text(json.dumps(answers))


if __name__ == '__main__':
  main(*sys.argv[1:])
