"""ROUGE, BLEU, chrF and exact match against the packages they come from, in several
scripts, and on every edge.
"""

import math
import subprocess
import sys

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tl_jax import metrics
from tl_jax.metrics import bleu, chrf, exact_match, rouge
from tl_jax.metrics.text import tokenize

PREDICTIONS = [
  'the cat sat on the mat',
  'a dog barked, loudly',
  'nothing in common here at all',
]
REFERENCES = [
  'the cat is on the mat',
  'the dog barked loudly',
  'completely different words',
]


def test_bleu_and_chrf_are_those_of_sacrebleu():
  import sacrebleu

  assert (
    bleu(PREDICTIONS, REFERENCES)['bleu']
    == sacrebleu.corpus_bleu(PREDICTIONS, [REFERENCES], force=True).score
  )
  assert (
    chrf(PREDICTIONS, REFERENCES)['chrf']
    == sacrebleu.corpus_chrf(PREDICTIONS, [REFERENCES]).score
  )
  several = [
    [reference, prediction]
    for reference, prediction in zip(REFERENCES, PREDICTIONS, strict=True)
  ]
  assert bleu(PREDICTIONS, several)['bleu'] == pytest.approx(100.0)
  assert chrf(PREDICTIONS, several)['chrf'] == pytest.approx(100.0)


def test_examples_may_differ_in_their_number_of_references():
  assert (
    bleu(PREDICTIONS, [[REFERENCES[0], PREDICTIONS[0]], *REFERENCES[1:]])['bleu']
    > bleu(PREDICTIONS, REFERENCES)['bleu']
  )


def test_rouge_is_that_of_the_package_on_latin_text():
  from rouge_score import rouge_scorer

  scorer = rouge_scorer.RougeScorer(['rouge1', 'rouge2', 'rougeL'])
  scores = [scorer.score(*pair) for pair in zip(REFERENCES, PREDICTIONS, strict=True)]
  found = rouge(PREDICTIONS, REFERENCES)
  for name in scores[0]:
    assert found[name] == pytest.approx(
      sum(score[name].fmeasure for score in scores) / len(scores)
    )
  assert found['rouge_unicode'] == 0.0


@settings(max_examples=100, deadline=None)
@given(st.text(st.characters(max_codepoint=127)))
def test_the_unicode_tokenizer_agrees_with_the_package_on_ascii(text):
  from rouge_score import tokenizers

  assert tokenize(text) == tokenizers.DefaultTokenizer().tokenize(text)


@settings(max_examples=100, deadline=None)
@given(st.text(max_size=30))
def test_any_text_is_at_least_as_near_to_itself_as_to_another(text):
  same = rouge([text], [text])
  assert same['rouge1'] in (0.0, 1.0)
  assert same['rouge1'] >= rouge([text], ['something else'])['rouge1']
  assert all(
    math.isfinite(value)
    for metric in (rouge, bleu, chrf)
    for value in metric([text], [text]).values()
  )


@pytest.mark.parametrize(
  'text',
  [
    '今天天气很好',
    'Привет, мир',
    'สวัสดีชาวโลก',
    'हिन्दी भाषा',
    'مرحبا بالعالم',
    '東京タワー',
  ],
)
def test_text_in_any_script_matches_itself(text):
  found = rouge([text], [text])
  assert found['rouge1'] == found['rougeL'] == 1.0
  assert found['rouge_unicode'] == 1.0
  assert rouge([text], ['αβγ'])['rouge1'] == 0.0


def test_stemming_joins_forms_of_a_word():
  assert rouge(['running dogs'], ['run dog'])['rouge1'] == 0.0
  assert rouge(['running dogs'], ['run dog'], stem=True)['rouge1'] == pytest.approx(1.0)
  assert rouge(['running dogs 東'], ['run dog 東'], stem=True)[
    'rouge1'
  ] == pytest.approx(1.0)


@pytest.mark.parametrize('metric', [rouge, bleu, chrf])
@pytest.mark.parametrize(
  ('predicted', 'expected'),
  [
    ([], []),
    ([''], ['words']),
    (['words here'], ['']),
    ([''], ['']),
    (['  '], ['  ']),
    (['...'], ['???']),
  ],
)
def test_empty_text_scores_zero(metric, predicted, expected):
  assert set(metric(predicted, expected).values()) == {0.0}


@pytest.mark.parametrize('metric', [rouge, bleu, chrf, exact_match])
def test_lengths_must_agree(metric):
  with pytest.raises(ValueError, match='1 predictions for 2 references'):
    metric(['a'], ['a', 'b'])


@pytest.mark.parametrize('metric', [rouge, bleu, chrf])
@pytest.mark.parametrize(
  ('predicted', 'expected'),
  [([1], ['a']), (['a'], [None]), (['a'], [[]]), (['a'], [['b', 2]])],
)
def test_what_is_no_text_is_named(metric, predicted, expected):
  with pytest.raises(ValueError, match='example 0 must be a text'):
    metric(predicted, expected)


def test_an_unknown_tokenizer_gets_the_nearest_name():
  with pytest.raises(ValueError, match="'13b'; nearest: .*'13a'"):
    bleu(['a'], ['a'], tokenizer='13b')
  assert bleu(['今天天气很好'], ['今天天气很好'], tokenizer='zh')[
    'bleu'
  ] == pytest.approx(100.0)


@pytest.mark.parametrize(
  ('predicted', 'expected', 'normalize', 'value'),
  [
    ([], [], False, 0.0),
    (['a', 'b'], ['a', 'c'], False, 0.5),
    (['The cat!'], ['cat'], False, 0.0),
    (['The cat!'], ['cat'], True, 1.0),
    ([''], ['a'], False, 0.0),
    ([''], [''], False, 1.0),
    ([3, 4], [3, 5], False, 0.5),
    (['b'], [['a', 'b']], False, 1.0),
  ],
)
def test_exact_match(predicted, expected, normalize, value):
  assert exact_match(predicted, expected, normalize=normalize) == {'exact_match': value}


def test_the_names_of_the_interface_are_there_and_nothing_heavy_is_loaded():
  names = {
    'accuracy',
    'f1',
    'matthews',
    'choice_accuracy',
    'answer_sets',
    'best_answer',
    'entity_f1',
    'tag_accuracy',
    'brier',
    'calibration_error',
    'squad',
    'squad_v2',
    'pearson',
    'spearman',
    'mean_squared_error',
    'exact_match',
    'perplexity',
    'rouge',
    'bleu',
    'chrf',
    'distinct',
    'repetition',
    'self_bleu',
    'copying',
    'retrieval',
    'uniformity',
    'minimal_pairs',
    'last_word',
  }
  assert set(metrics.METRICS) == names
  assert all(getattr(metrics, name) is metrics.METRICS[name] for name in names)
  program = (
    'import sys, tl_jax.metrics, tl_jax.report, tl_jax.evals.curves;'
    'heavy = {"jax", "matplotlib", "sklearn", "scipy", "sacrebleu", "rouge_score", "flax"} & set(sys.modules);'
    'sys.exit(str(heavy) if heavy else 0)'
  )
  assert subprocess.run([sys.executable, '-c', program], check=False).returncode == 0


def test_rouge_of_a_summary_is_that_of_its_sentences():
  pytest.importorskip('rouge_score')
  from rouge_score import rouge_scorer

  written = 'Dogs bark at night. Cats sleep by day! Who knows?'
  right = 'Cats sleep by day. Dogs bark.'
  scorer = rouge_scorer.RougeScorer(['rougeL', 'rougeLsum'])
  lines = [text.replace('. ', '.\n').replace('! ', '!\n') for text in (right, written)]
  expected = scorer.score(*lines)
  found = rouge([written], [right])
  assert found['rougeLsum'] == pytest.approx(expected['rougeLsum'].fmeasure)
  assert found['rougeL'] == pytest.approx(expected['rougeL'].fmeasure)
  # Sentences in another order are still those of the summary.
  assert found['rougeLsum'] > found['rougeL']
  # Lines that are there are the sentences.
  assert rouge(lines[1:], lines[:1])['rougeLsum'] == pytest.approx(found['rougeLsum'])
  assert rouge(['今天。明天！'], ['明天！今天。'])['rougeLsum'] == pytest.approx(1.0)


def test_signatures_say_what_scores_compare_with():
  sacrebleu = pytest.importorskip('sacrebleu')
  scorer = sacrebleu.metrics.BLEU()
  scorer.corpus_score(PREDICTIONS, [REFERENCES])
  found = metrics.signatures(['bleu', 'rouge', 'exact_match'], REFERENCES)
  assert found.keys() == {'bleu', 'rouge'}
  assert found['bleu'] == scorer.get_signature().format()
  assert 'rouge-score ' in found['rouge']
  several = [[text, text] for text in REFERENCES]
  assert 'nrefs:2|' in metrics.signatures(['chrf'], several)['chrf']
  assert 'nrefs:var|' in metrics.signatures(['chrf'], ['a', ['b', 'c']])['chrf']
  assert 'nrefs:1|' in metrics.signatures(['bleu'], [])['bleu']
