"""Two runs compared: by which values, and what is said of them."""

import json

import numpy as np
import pytest

from tl_jax import metrics
from tl_jax.config import ConfigError
from tl_jax.evals import comparing, paired
from tl_jax.evals.additive import additive_of

COUNT = 300


def write(folder, predictions, targets, told=None, outputs=None, key='target'):
  """A workdir with predictions, and a result.json if it is told metrics."""
  folder.mkdir(exist_ok=True)
  lines = []
  rows = enumerate(zip(predictions, targets, strict=True))
  for index, (prediction, target) in rows:
    line = {'text': f'text {index}', key: target, 'prediction': prediction}
    if outputs is not None:
      line['outputs'] = outputs[index]
    lines.append(json.dumps(line) + '\n')
  (folder / 'predictions.jsonl').write_text(''.join(lines))
  if told is not None:
    result = dict(task='own.csv', metrics=told, examples='0' * 16)
    (folder / 'result.json').write_text(json.dumps(result))
  return folder


@pytest.fixture
def classes(tmp_path):
  """Workdirs of two models of two labels, whose second is 'no', and their metrics."""
  generator = np.random.default_rng(0)
  truth = generator.random(COUNT) < 0.7
  folders, told = [], []
  for name, errors in (('good', 0.1), ('bad', 0.3)):
    numbers = truth ^ (generator.random(COUNT) < errors)
    scores = {'loss': 1.0}
    for metric in ('accuracy', 'f1'):
      scores |= metrics.METRICS[metric](numbers, truth)
    names = [np.where(each, 'no', 'yes').tolist() for each in (numbers, truth)]
    outputs = [[0.0, 1.0] if number else [1.0, 0.0] for number in numbers]
    folders.append(write(tmp_path / name, *names, scores, outputs))
    told.append(scores)
  return folders, told


def test_a_comparison_has_the_values_of_both_results(classes):
  folders, told = classes
  report = comparing.compare(comparing.pair(*folders), samples=100)
  names = [found.metric for found in report.comparisons]
  assert names == ['accuracy', 'f1', 'f1_macro', 'f1_micro']
  for found in report.comparisons:
    assert found.first.mean == pytest.approx(told[0][found.metric])
    assert found.second.mean == pytest.approx(told[1][found.metric])
    assert found.is_different() and found.difference.low > 0
  assert report.left_out == ('loss',)
  assert report.sentence.startswith('accuracy of A is higher than that of B by 0.')
  assert report.sentence.endswith('a difference at 5 %')


def test_runs_that_are_no_different_are_said_to_be_so(classes):
  folders, _ = classes
  report = comparing.compare(comparing.pair(folders[0], folders[0]), samples=20)
  assert report.other_predictions == 0
  assert 'no difference at 5 % between A and B' in report.sentence
  # An interval of no width would look like certainty.
  assert report.comparisons[0].difference.low is None


def test_files_are_compared_by_the_metrics_of_their_kind(classes):
  folders, _ = classes
  files = [folder / 'predictions.jsonl' for folder in folders]
  both = comparing.pair(*files)
  of_classes = ('accuracy', 'f1', 'f1_macro', 'f1_micro')
  assert both.names == (*of_classes, 'brier', 'calibration_error_15')
  # And by any that there is for them.
  report = comparing.compare(comparing.pair(*files, 'matthews'), samples=50)
  [found] = report.comparisons
  assert found.metric == 'matthews' and found.is_different()
  assert comparing.pair(*files, 'f1').names == ('f1',)
  assert report.left_out == ()


def test_a_result_of_other_predictions_is_refused(classes):
  folders, _ = classes
  good, bad = (folder / 'result.json' for folder in folders)
  bad.write_text(good.read_text())
  with pytest.raises(ConfigError, match='bad.*says.*not of one model'):
    comparing.pair(*folders)
  # The files by themselves say what they say.
  comparing.pair(*(folder / 'predictions.jsonl' for folder in folders))


def test_a_metric_that_predictions_do_not_have_is_named(classes):
  folders, _ = classes
  with pytest.raises(ConfigError, match="'acuracy'.*nearest: 'accuracy'"):
    comparing.pair(*folders, 'acuracy')
  with pytest.raises(ConfigError, match="'loss' cannot be computed"):
    comparing.pair(*folders, 'loss')


def test_f1_of_one_class_needs_to_know_the_class(tmp_path):
  folder = write(tmp_path / 'a', ['x', 'y'], ['x', 'x'])
  names = comparing.pair(folder, folder).names
  assert names == ('accuracy', 'f1_macro', 'f1_micro')


@pytest.mark.parametrize(
  ('key', 'rows', 'names'),
  [
    (
      'target',
      ([['a'], ['a', 'b']], [['a'], []], [['a'], ['b']]),
      ('f1_micro', 'f1_macro', 'accuracy'),
    ),
    (
      'target',
      ([1.0, 2.0, 4.0], [1.0, 1.5, 1.2], [1.0, 2.0, 3.0]),
      ('pearson', 'spearman', 'mean_squared_error'),
    ),
  ],
)
def test_every_kind_of_labels_is_compared(tmp_path, key, rows, names):
  first, second, targets = rows
  pair = comparing.pair(
    write(tmp_path / 'a', first, targets, key=key),
    write(tmp_path / 'b', second, targets, key=key),
  )
  assert pair.names == names
  report = comparing.compare(pair, samples=20)
  for found in report.comparisons:
    function = metrics.METRICS[pair.functions[found.metric]]
    value = function(pair.answers.first, pair.answers.references)[found.metric]
    assert found.first.mean == pytest.approx(value)


def texts_of(tmp_path, references):
  right = [each if isinstance(each, str) else each[0] for each in references]
  wrong = ['a fish' if place % 2 else text for place, text in enumerate(right)]
  return comparing.pair(
    write(tmp_path / 'a', right, references, key='reference'),
    write(tmp_path / 'b', wrong, references, key='reference'),
  )


def test_texts_are_compared(tmp_path):
  pytest.importorskip('sacrebleu')
  pytest.importorskip('rouge_score')
  references = ['the cat sat on a mat', ['dogs run far away', 'a dog runs']] * 10
  pair = texts_of(tmp_path, references)
  assert pair.names[0] == 'rougeL' and {'exact_match', 'chrf'} < set(pair.names)
  report = comparing.compare(pair, samples=30)
  for found in report.comparisons:
    assert found.is_different() and found.difference.mean > 0, found.metric
  # BLEU is of the whole corpus: the values of single texts have another mean.
  [bleu] = comparing.compare(
    comparing.pair(tmp_path / 'a', tmp_path / 'b', 'bleu'), samples=30
  ).comparisons
  value = metrics.bleu(pair.answers.second, pair.answers.references)['bleu']
  assert bleu.second.mean == pytest.approx(value)
  assert bleu.second.low < value < bleu.second.high


@pytest.mark.parametrize('name', ['bleu', 'chrf'])
def test_counts_that_are_summed_give_the_score_of_the_corpus(tmp_path, name):
  """For each draw as well, which is why nothing is counted anew."""
  pytest.importorskip('sacrebleu')
  references = ['the cat sat on a mat', ['dogs run far away', 'a dog runs'], 'кот'] * 4
  pair = texts_of(tmp_path, references)
  pair = comparing.pair(tmp_path / 'a', tmp_path / 'b', name)
  fast, anew = [], []
  first, second, right = pair.answers
  for sums, found in ((additive_of(name, [first, second], right), fast), (None, anew)):
    found += paired.compare(
      metrics.METRICS[name], [name], first, second, right, samples=20, additive=sums
    )
  assert fast[0].p_value == anew[0].p_value
  assert fast[0].second.mean == pytest.approx(anew[0].second.mean)
  assert fast[0].difference.low == pytest.approx(anew[0].difference.low)
  assert fast[0].difference.high == pytest.approx(anew[0].difference.high)


def test_rouge_of_other_scripts_is_that_of_the_whole_set(tmp_path):
  """One tokenizer for all: texts by themselves would each choose their own."""
  pytest.importorskip('rouge_score')
  pair = texts_of(tmp_path, ['der Bär schläft', 'Grüße', 'кот спит'])
  report = comparing.compare(pair, samples=10)
  value = metrics.rouge(pair.answers.second, pair.answers.references)['rougeL']
  assert report.comparisons[0].second.mean == pytest.approx(value)


def test_without_texts_of_ones_own_scores_of_libraries_are_left_out(
  tmp_path, monkeypatch
):
  monkeypatch.setattr(comparing.importlib.util, 'find_spec', lambda name: None)
  pair = texts_of(tmp_path, ['one text', 'another text'])
  assert pair.names == ('exact_match',)


def test_a_report_is_json(classes):
  folders, _ = classes
  report = comparing.compare(comparing.pair(*folders), samples=20)
  found = json.loads(json.dumps(report.as_dict(), allow_nan=False))
  assert found['n'] == COUNT and found['headline'] == 'accuracy'
  assert found['metrics']['accuracy']['different'] is True
  assert found['metrics']['accuracy']['difference']['mean'] > 0.1


@pytest.mark.parametrize('texts, name', [(['Oslo'], 'squad_f1'), ([], 'squad_v2_f1')])
def test_answers_of_files_alone_are_compared_by_the_version_they_have(
  tmp_path, texts, name
):
  lines = []
  for place in range(20):
    target = texts if place % 2 else ['Rome']
    lines.append(dict(index=place, question=f'{place}?', target=target))
  for side, said in (('a', 'Rome'), ('b', 'Oslo')):
    rows = [json.dumps(line | dict(prediction=said)) for line in lines]
    (tmp_path / f'{side}.jsonl').write_text('\n'.join(rows))
  both = comparing.pair(tmp_path / 'a.jsonl', tmp_path / 'b.jsonl')
  found = comparing.compare(both, samples=50)
  assert name in [each.metric for each in found.comparisons]


@pytest.mark.parametrize(
  ('name', 'line', 'right', 'wrong'),
  [
    ('mrr', dict(text='a', target=['b']), 1.0, 4.0),
    (
      'pair_accuracy',
      dict(good='a', bad='b', target='x/y'),
      [-1.0, -2.0],
      [-2.0, -1.0],
    ),
    ('last_word_accuracy', dict(text='a', target='b'), [-1.0, 1.0], [-2.0, 0.0]),
  ],
)
def test_vectors_pairs_and_last_words_are_compared(tmp_path, name, line, right, wrong):
  for file, answer in (('a', right), ('b', wrong)):
    lines = [
      json.dumps(dict(index=place, **line, prediction=answer)) for place in range(9)
    ]
    (tmp_path / f'{file}.jsonl').write_text('\n'.join(lines))
  both = comparing.pair(tmp_path / 'a.jsonl', tmp_path / 'b.jsonl')
  report = comparing.compare(both, samples=99)
  assert report.comparisons[0].metric == name
  assert report.comparisons[0].difference.mean > 0
  assert 'a difference at 5 %' in report.sentence
