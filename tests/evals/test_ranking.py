"""Candidates behind a prompt that is read once have the probabilities that they have in
texts of their own.
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tl_jax import models
from tl_jax.evals import ranking
from tl_jax.evals.ranking import Ranker, Request

SMALL = dict(vocabulary=61, head='causal', layers=1, width=32, heads=4, mlp=48)
ARCHS = {
  'gpt2': models.arch('gpt2', **SMALL),
  'llama': models.arch('llama3.2-1b', **SMALL | dict(kv_heads=2)),
  'gemma2': models.arch(
    'gemma2-2b', **SMALL | dict(layers=2, kv_heads=2, windows=(4, 0), head_dim=10)
  ),
  't5': models.arch('t5-small', **SMALL | dict(head_dim=10)),
  'bart': models.arch('bart-base', **SMALL),
}
START = (3,)
CANDIDATES = ((7,), (8, 9, 10), (11, 12))


def made(arch):
  params = models.build(arch).init(jax.random.key(1))
  return jax.tree.map(lambda x: 4 * x if x.ndim > 1 else x + 0.1, params)


def alone(arch, params, prompts, candidates):
  """(log P(candidate | prompt), is each token the most probable?), each of a text that
  has the candidate alone.
  """
  if arch.kind == 'decoder':
    pairs = zip(prompts, candidates, strict=True)
    texts = [[*prompt, *candidate] for prompt, candidate in pairs]
    batch = padded(texts, 40)
  else:
    texts = [[*START, *candidate] for candidate in candidates]
    written = padded(texts, 8)
    batch = padded(prompts, 48)
    batch |= {f'decoder_{name}': array for name, array in written.items()}
  logits = jax.jit(models.build(arch).apply)(params, batch).logits
  chances = np.asarray(jax.nn.log_softmax(logits), np.float64)
  found = []
  for row, (text, candidate) in enumerate(zip(texts, candidates, strict=True)):
    before = chances[row, len(text) - len(candidate) - 1 : len(text) - 1]
    own = before[np.arange(len(candidate)), list(candidate)]
    found.append((own.sum(), bool((before.argmax(-1) == candidate).all())))
  return found


def padded(texts, width):
  tokens = np.zeros((len(texts), width), np.int32)
  segments = np.zeros_like(tokens)
  for row, text in enumerate(texts):
    tokens[row, : len(text)] = text
    segments[row, : len(text)] = 1
  return dict(tokens=tokens, segments=segments)


def requests_of(shared, lengths=(1, 4, 9, 20, 2)):
  draw = np.random.default_rng(0)
  common = draw.integers(0, 61, shared).tolist()
  found = []
  for number, length in enumerate(lengths):
    prompt = [*common, number, *draw.integers(0, 61, length).tolist()]
    # Not all have the same number of candidates.
    found.append(Request(prompt, CANDIDATES[: 1 + number % 3]))
  return found


@pytest.mark.parametrize('shared', [0, 18])
@pytest.mark.parametrize('name', ARCHS)
def test_the_numbers_are_those_of_separate_texts(name, shared):
  arch = ARCHS[name]
  params = made(arch)
  requests = requests_of(shared)
  start = () if arch.kind == 'decoder' else START
  ranker = Ranker(models.decoder(arch), params, start=start, rows=2)
  ranked = ranker.rank(requests)
  prompts, candidates = [], []
  for request in requests:
    prompts += [request.prompt] * len(request.candidates)
    candidates += request.candidates
  wanted, greedy = zip(*alone(arch, params, prompts, candidates), strict=True)
  found = np.concatenate([each.sums for each in ranked])
  np.testing.assert_allclose(found, wanted, rtol=1e-5, atol=1e-5)
  assert np.concatenate([each.greedy for each in ranked]).tolist() == list(greedy)


def test_the_most_probable_token_is_greedy():
  arch = ARCHS['gpt2']
  params = made(arch)
  logits = models.build(arch).apply(params, dict(tokens=jnp.array([[5, 6]]))).logits
  best = int(logits[0, -1].argmax())
  request = Request((5, 6), ((best,), ((best + 1) % 61,)))
  (found,) = Ranker(models.decoder(arch), params).rank([request])
  assert found.greedy.tolist() == [True, False]


def test_what_prompts_share_is_read_once(monkeypatch):
  """And never the whole of a prompt: its last token says what follows."""
  arch = ARCHS['gpt2']
  read = []
  monkeypatch.setattr(
    ranking, '_read', lambda *given: (read.append(given[2]['tokens']), 'a cache')
  )
  monkeypatch.setattr(
    ranking, '_rank', lambda *given: (np.zeros((2, 3)), np.zeros((2, 3), bool))
  )
  ranker = Ranker(models.decoder(arch), None, rows=2)
  ranker.rank(requests_of(18))
  assert [tokens.shape for tokens in read] == [(1, 18)]
  same = [Request(range(18), CANDIDATES)] * 2
  ranker.rank(same)
  assert read[1].shape == (1, 17)


def test_a_model_is_filled_to_its_last_position():
  arch = models.arch('gpt2', **SMALL | dict(max_positions=40))
  params = made(arch)
  requests = [Request(range(37), CANDIDATES), Request(range(3), CANDIDATES)]
  ranker = Ranker(models.decoder(arch), params, room=40)
  found = ranker.rank(requests)
  ((wanted, _),) = alone(arch, params, [range(37)], CANDIDATES[1:2])
  assert found[0].sums[1] == pytest.approx(wanted, abs=1e-4)
  with pytest.raises(ValueError, match='request 1: 38 tokens of a prompt and 3'):
    ranker.rank([requests[0], Request(range(38), CANDIDATES)])


def test_a_long_prompt_and_a_long_candidate_need_not_have_room_together():
  arch = models.arch('gpt2', **SMALL | dict(max_positions=40))
  params = made(arch)
  long = tuple(range(9, 40))
  requests = [Request(range(37), CANDIDATES[:2]), Request(range(3), (long,))]
  first, second = Ranker(models.decoder(arch), params, room=40).rank(requests)
  prompts, candidates = [range(37), range(3)], [CANDIDATES[1], long]
  wanted = [score for score, _ in alone(arch, params, prompts, candidates)]
  assert [first.sums[1], second.sums[0]] == pytest.approx(wanted, abs=1e-3)


def test_short_candidates_are_not_padded_to_the_longest_of_all(monkeypatch):
  arch = ARCHS['gpt2']
  params = made(arch)
  draw = np.random.default_rng(0)
  sizes = [2, 12, 3, 11, 2, 10, 4, 2]
  candidates = [draw.integers(0, 61, size).tolist() for size in sizes]
  ranker = Ranker(models.decoder(arch), params, rows=1)
  padded_to = []
  rank = ranking._rank

  def seen(*given):
    padded_to.append(given[4]['tokens'].shape[-1])
    return rank(*given)

  monkeypatch.setattr(ranking, '_rank', seen)
  found = ranker.rank([Request((5, 6), (each,)) for each in candidates])
  assert padded_to == [4] * 5 + [12] * 3
  wanted = [score for score, _ in alone(arch, params, [(5, 6)] * 8, candidates)]
  assert [each.sums[0] for each in found] == pytest.approx(wanted, abs=1e-4)


@pytest.mark.parametrize(
  ('request_', 'said'),
  [
    (Request((), CANDIDATES), 'a prompt of no tokens'),
    (Request((1,), ()), 'none at all'),
    (Request((1,), ((2,), ())), 'a candidate of no tokens'),
  ],
)
def test_a_request_without_tokens_is_refused(request_, said):
  ranker = Ranker(models.decoder(ARCHS['gpt2']), None)
  with pytest.raises(ValueError, match=f'request 0: .*{said}'):
    ranker.rank([request_])
  assert ranker.rank([]) == []
