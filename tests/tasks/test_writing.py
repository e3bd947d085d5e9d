"""Tasks whose answers are texts: what is asked, what is answered, and from which fields."""

import numpy as np
import pytest

from tl_jax import config, tasks
from tl_jax.data import fetch, sources
from tl_jax.tasks import writing

WRITTEN = [
  name for name, task in tasks.TASKS.items() if task.problem.answer == 'generate'
]


def source_of(task):
  return task.source if isinstance(task.source, str) else task.source[0]


# The sets that are no part of the package, whose fields other tests do not meet.
# The builder of SuperGLUE needs TensorFlow; test_superglue reads its published lines.
NOT_BUILT = (*sources.EMBEDDED, 'super_glue')
OUTSIDE = [
  name
  for name, task in tasks.TASKS.items()
  if source_of(task).partition('/')[0] not in NOT_BUILT
]


@pytest.mark.parametrize('name', ['summary', 'translate_en_de', 'continue'])
def test_every_embedded_text_has_an_answer_and_a_side(name):
  task = tasks.find(name)
  pair = {}
  for split in ('train', 'test'):
    texts, targets = tasks.labelled(task, split)
    assert len(texts) == len(targets) > 600
    assert all(text.strip() for text in texts)
    assert all(len(target) == 1 and target[0].strip() for target in targets)
    pair[split] = set(texts)
  assert not pair['train'] & pair['test']


def test_a_synopsis_is_not_in_what_is_asked():
  """Not even where it has a full stop of its own."""
  texts, targets = tasks.labelled(tasks.find('summary'), 'train')
  found = {target[0]: text for text, target in zip(texts, targets, strict=True)}
  other, answers = tasks.labelled(tasks.find('summary'), 'test')
  found |= {target[0]: text for text, target in zip(other, answers, strict=True)}
  synopsis = 'B.A.T.M.A.N. advanced control and management tool'
  assert found[synopsis].startswith('This package contains')


def test_an_empty_side_is_no_example():
  task = writing.translation('t', 'wmt14_translate/de-en', 'en', 'de')
  assert task.example({'en': ' a \n', 'de': 'b\n'}) == tasks.Example(('a',), 'b')
  assert task.example({'en': 'a', 'de': ' '}) is None


def test_halves_are_cut_where_a_line_or_a_sentence_ends():
  assert writing.halves('One. Two three. Four.') == ('One. Two three.', 'Four.')
  assert writing.halves('no end at all') == ('no end at all', '')
  assert writing.halves('3.14 is one word. It is.')[0] == '3.14 is one word.'
  task = tasks.find('continue')
  assert task.example({'text': 'Too short. To go on.'}) is None
  long = ' '.join(['word'] * 25)
  assert task.example({'text': f'{long}.\n{long}.'}) == tasks.Example(
    (f'{long}.',), f'{long}.'
  )


def test_creative_texts_are_drawn_and_scored_as_such():
  task = tasks.find('continue')
  assert {'distinct', 'repetition', 'self_bleu', 'copying'} < set(task.metrics)
  assert task.decoding == dict(method='sample', top_p=0.95)
  # The likeliest translation or summary is the one that is asked for.
  assert not tasks.find('translate_en_de').decoding and not tasks.find('xsum').decoding


def test_the_summaries_of_a_paper_have_its_headline():
  assert tasks.find('cnn_dailymail').headline == 'rougeLsum'
  assert tasks.find('xsum').headline == 'rougeL'


@pytest.mark.parametrize('name', WRITTEN)
def test_the_config_knows_which_tasks_are_written(name):
  """And no other: from scratch, these start a model that writes."""
  loaded = config.load(f'configs/transfer.py:task={name},init=scratch')
  assert loaded.model.family == 'tiny-t5'


def test_the_config_starts_a_classifier_for_all_others():
  for name in set(tasks.TASKS) - set(WRITTEN):
    loaded = config.load(f'configs/transfer.py:task={name},init=scratch')
    assert loaded.model.family == 'tiny'


@pytest.mark.parametrize('name', OUTSIDE)
def test_tasks_read_fields_that_their_sets_have(name, tmp_path):
  """As the builders of tensorflow-datasets, and ours, describe themselves."""
  task = tasks.TASKS[name]
  source = source_of(task)
  if source in fetch.SETS:
    record = {field: 'text' for field in fetch.SETS[source].fields}
    record |= {'label': 0, 'section': next(iter(task.labels), '')}
  else:
    builder = sources._public_builder(source, source.partition('/')[0], str(tmp_path))
    features = builder.info.features
    # Of no dimension but a text: the number of a class, or a number.
    record = {
      field: 0 if np.issubdtype(feature.np_dtype, np.number) else 'text'
      for field, feature in features.items()
    }
  found = task.example({**record, 'source': source})
  assert 'text' in found.inputs[0]
  assert found.target == ('text' if name in WRITTEN else 0)
