"""lm-eval on models of ours: what it asks, and that it finds what our own evaluation
finds.
"""

import importlib.util
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tl_jax import config, interop, models, train
from tl_jax.data import tokenizers
from tl_jax.evals import harness

WORDS = ('good', 'bad', 'film', 'story')


def tiny(kind='decoder', positions=128):
  tokenizer = tokenizers.train([' '.join(WORDS) + '\n=> '] * 20, 'bpe', 400)
  family = 'tiny-gpt' if kind == 'decoder' else 'tiny-t5'
  fields = dict(layers=1, vocabulary=tokenizer.vocabulary_size, head='causal')
  arch = models.arch(family, **fields, max_positions=positions)
  model = models.build(arch)
  params = model.init(jax.random.key(0))
  return interop.Loaded(model, params, tokenizer, arch)


@pytest.fixture(scope='module')
def loaded():
  return tiny()


def chance(loaded, context, after):
  text = jnp.array([[*context, *after]])
  logits = loaded.model.apply(loaded.params, dict(tokens=text)).logits[0]
  chances = jax.nn.log_softmax(logits)[len(context) - 1 : -1]
  return float(chances[np.arange(len(after)), list(after)].sum())


def test_scores_come_in_the_order_of_the_pairs(loaded):
  scorer = harness.Scorer(loaded, rows=2)
  pairs = [([5, 6], [7]), ([8], [9, 10]), ([5, 6], [11, 12]), ([5, 6], []), ([], [7])]
  found = scorer.score(pairs)
  for (context, after), (score, is_greedy) in zip(pairs, found, strict=True):
    if not after:
      assert (score, is_greedy) == (0.0, True)
      continue
    wanted = chance(loaded, context or [scorer.first], after)
    assert score == pytest.approx(wanted, abs=1e-4) and isinstance(is_greedy, bool)


def test_a_long_context_loses_its_beginning():
  loaded = tiny(positions=24)
  scorer = harness.Scorer(loaded, rows=2)
  context = list(range(5, 45))
  ((score, _),) = scorer.score([(context, [7, 8])])
  assert score == pytest.approx(chance(loaded, context[-22:], [7, 8]), abs=1e-4)
  with pytest.raises(ValueError, match='24 tokens that follow a context'):
    scorer.score([([5], [7] * 24)])


def test_texts_are_written_as_the_task_says(loaded):
  scorer = harness.Scorer(loaded, rows=2)
  asked = [('good film', dict(max_gen_toks=5)), ('bad', dict(max_gen_toks=3))]
  long, short = scorer.write(asked)
  first = scorer.write([(asked[0][0], dict(max_gen_toks=5, until=[long[1:3]]))])
  assert first == [long.split(long[1:3])[0]]
  drawn = dict(max_gen_toks=5, do_sample=True, temperature=3.0)
  assert scorer.write([('good film', drawn)]) != [long]
  assert scorer.write([('bad', dict(max_gen_toks=3, do_sample=False))]) == [short]
  with pytest.raises(ValueError, match="unknown; nearest: 'do_sample'"):
    scorer.write([('bad', dict(do_samples=True))])


def test_an_encoder_decoder_reads_the_context_in_its_frame():
  loaded = tiny('encoder-decoder')
  scorer = harness.Scorer(loaded, rows=2)
  suffix = list(loaded.tokenizer.suffix)
  assert scorer.encode('good', True)[-len(suffix) or None :] == suffix or not suffix
  (found,) = scorer.score([(scorer.encode('good film', True), [7, 8])])
  start = list(scorer._start)
  batch = dict(
    tokens=jnp.array([scorer.encode('good film', True)]),
    decoder_tokens=jnp.array([[*start, 7, 8]]),
  )
  logits = loaded.model.apply(loaded.params, batch).logits[0]
  wanted = jax.nn.log_softmax(logits)[len(start) - 1 : -1][np.arange(2), [7, 8]].sum()
  assert found[0] == pytest.approx(float(wanted), abs=1e-4)
  assert len(scorer.write([('good', dict(max_gen_toks=4))])) == 1


def test_without_lm_eval_its_extra_is_named(loaded, monkeypatch):
  monkeypatch.setattr(importlib.util, 'find_spec', lambda name: None)
  with pytest.raises(config.ConfigError, match='lm-eval is missing'):
    harness.language_model(loaded)


TASK = """
task: mine
dataset_path: json
dataset_kwargs:
  data_files:
    test: {path}
test_split: test
output_type: multiple_choice
doc_to_text: "{{{{text}}}}\\n=>"
doc_to_choice: ["bad", "good film"]
doc_to_target: label
metric_list:
  - metric: acc
  - metric: acc_norm
"""


@pytest.mark.slow
def test_a_task_of_local_files_has_the_accuracy_of_our_own_evaluation(
  tmp_path, loaded, monkeypatch
):
  lm_eval = pytest.importorskip('lm_eval')
  monkeypatch.setenv('HF_HUB_OFFLINE', '1')
  monkeypatch.setenv('HF_DATASETS_CACHE', str(tmp_path / 'cache'))
  from lm_eval.tasks import TaskManager

  rows = []
  for place in range(60):
    text = ' '.join(WORDS[(place * step) % 4] for step in range(1, 2 + place % 5))
    label = ('bad', 'good film')[place % 3 == 0]
    split = 'train' if place < 20 else 'test'
    rows.append(dict(text=f'{text} {place}', label=label, split=split))
  test = tmp_path / 'test.jsonl'
  test.write_text('\n'.join(json.dumps(row) for row in rows if row['split'] == 'test'))
  tasks = tmp_path / 'tasks'
  tasks.mkdir()
  (tasks / 'mine.yaml').write_text(TASK.format(path=test))
  found = lm_eval.simple_evaluate(
    harness.language_model(loaded),
    tasks=['mine'],
    task_manager=TaskManager(include_path=str(tasks), include_defaults=False),
    bootstrap_iters=0,
  )
  interop.save(tmp_path / 'gpt', loaded)
  whole = tmp_path / 'mine.jsonl'
  whole.write_text('\n'.join(map(json.dumps, rows)))
  spec = f'configs/transfer.py:task={whole},method=in_context,init={tmp_path / "gpt"}'
  own = train.transfer(config.load(spec, [('data.length', '100')]), tmp_path / 'w')
  assert own['n'] == 40
  assert found['results']['mine']['acc,none'] == own['metrics']['sum/accuracy']
  # It divides by characters, with the space before an answer or without it, as ours.
  assert (
    found['results']['mine']['acc_norm,none'] == own['metrics']['character/accuracy']
  )
  samples = found['samples']['mine']
  lines = (tmp_path / 'w' / 'predictions.jsonl').read_text().splitlines()
  by_text = {line['text']: line for line in map(json.loads, lines)}
  for sample in samples:
    scores = by_text[sample['doc']['text']]['scores']['sum']
    theirs = [float(each[0]) for each in sample['filtered_resps']]
    assert list(scores.values()) == pytest.approx(theirs, abs=1e-4)


@pytest.mark.slow
def test_whole_texts_have_the_probability_of_their_windows(loaded):
  pytest.importorskip('lm_eval')
  from lm_eval.api.instance import Instance

  model = harness.language_model(loaded)
  # More tokens than the model has positions, fewer than twice as many.
  text = 'good film ' * 80
  request = Instance('loglikelihood_rolling', {}, (text,), 0)
  (found,) = model.loglikelihood_rolling([request])
  scorer = harness.Scorer(loaded, rows=1)
  ids = scorer.encode(text, special=False)
  assert 128 < len(ids) < 254
  # As many tokens as the model has positions, then the rest behind what it saw.
  size = 127
  wanted = chance(loaded, [scorer.first], ids[:size])
  rest = ids[size:]
  wanted += chance(loaded, ids[-size - 1 : -len(rest)], rest)
  assert found == pytest.approx(wanted, rel=1e-4)
