"""The pooler that BERT and ALBERT are pre-trained with, and the head for pairs beside
it, in and out.
"""

import dataclasses
import json
import pathlib
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest

sys.path.insert(0, str(pathlib.Path(__file__).parent))
import cases  # noqa: E402

from tl_jax import interop, models, tree  # noqa: E402
from tl_jax.interop.tensors import open_tensors  # noqa: E402
from tl_jax.train.starting import transplanted  # noqa: E402

WIDTH = 24
PAIRED = {
  'bert': {
    'bert.pooler.dense.weight': (WIDTH, WIDTH),
    'bert.pooler.dense.bias': (WIDTH,),
    'cls.seq_relationship.weight': (2, WIDTH),
    'cls.seq_relationship.bias': (2,),
  },
  'albert': {
    'albert.pooler.weight': (WIDTH, WIDTH),
    'albert.pooler.bias': (WIDTH,),
    'sop_classifier.classifier.weight': (2, WIDTH),
    'sop_classifier.classifier.bias': (2,),
  },
}
PREFIX = {'bert': 'Bert', 'albert': 'Albert'}
each_family = pytest.mark.parametrize('family', PAIRED)


def paired(folder, family, cls=None, without=()):
  """A folder as its authors published it: masked head, pooler, and the head for pairs."""
  found = cases.fixture(f'{family}-ForMaskedLM')
  shapes = {**found['shapes'], **PAIRED[family]}
  config = found['config'] | dict(
    architectures=[cls or f'{PREFIX[family]}ForPreTraining']
  )
  # ALBERT's pairs: 2
  config = {
    key: value for key, value in config.items() if key not in ('id2label', 'label2id')
  }
  cases.materialise(
    folder,
    config,
    {name: shape for name, shape in shapes.items() if name not in without},
  )
  return folder


def as_classifier(loaded):
  """(model, params) of a transfer from a loaded model, with a head that is a function
  of its names.
  """
  model = models.build(
    dataclasses.replace(interop.with_head(loaded, 'classifier'), labels=3)
  )
  params, account = transplanted(loaded.params, model.init(jax.random.key(1)))
  head = {
    'kernel': cases.weights('kernel', (WIDTH, 3)),
    'bias': cases.weights('bias', (3,)),
  }
  return model, {**params, 'head': {**params['head'], **head}}, account


@each_family
@pytest.mark.parametrize('cls', ['ForPreTraining', 'ForMaskedLM'])
def test_what_is_opened_is_written_whole(family, cls, tmp_path):
  folder = paired(tmp_path / 'theirs', family, PREFIX[family] + cls)
  loaded = interop.load(folder)
  assert (
    loaded.arch.head == 'masked'
    and loaded.arch.pair_head
    and loaded.arch.pooler_place == 'body'
  )
  interop.save(tmp_path / 'ours', loaded)
  before, after = open_tensors(folder), open_tensors(tmp_path / 'ours')
  assert before.names == after.names
  assert all(
    before.read(name).tobytes() == after.read(name).tobytes() for name in before.names
  )
  assert json.loads((tmp_path / 'ours' / 'config.json').read_text())[
    'architectures'
  ] == [PREFIX[family] + cls]


@each_family
def test_without_the_head_for_pairs_the_folder_is_of_a_masked_model(family, tmp_path):
  without = [name for name in PAIRED[family] if 'pooler' not in name]
  loaded = interop.load(paired(tmp_path / 'theirs', family, without=without))
  assert not loaded.arch.pair_head and loaded.arch.keeps_pooler
  interop.save(tmp_path / 'ours', loaded)
  said = json.loads((tmp_path / 'ours' / 'config.json').read_text())
  assert said['architectures'] == [f'{PREFIX[family]}ForMaskedLM']
  assert interop.load(tmp_path / 'ours').arch == loaded.arch


@each_family
def test_a_transfer_reads_the_pre_trained_pooler(family, tmp_path):
  """The pooled states of transformers, through a head of one product."""
  found = cases.fixture(f'{family}-Model')
  cases.materialise(tmp_path, found['config'], found['shapes'], found['gain'])
  model, params, account = as_classifier(interop.load(tmp_path))
  logits = model.apply(
    params, {name: jnp.array(value) for name, value in found['batch'].items()}
  ).logits
  expected = found['pooled'] @ params['head']['kernel'] + params['head']['bias']
  # theirs reads the padding on the left of the third row
  assert np.abs(logits[:2] - expected[:2]).max() < 1e-4
  outcomes = {entry.target: entry.outcome for entry in account.entries}
  assert outcomes['pooler/kernel'] == 'copied' and outcomes['head/kernel'] == 'fresh'


@each_family
def test_a_pooler_that_was_not_pre_trained_comes_with_the_task(family, tmp_path):
  found = cases.fixture(f'{family}-ForMaskedLM')
  cases.materialise(tmp_path / 'theirs', found['config'], found['shapes'])
  loaded = interop.load(tmp_path / 'theirs')
  assert loaded.arch.pooler_place == 'new' and 'pooler' not in loaded.params
  model, params, account = as_classifier(loaded)
  assert {entry.target for entry in account.entries if entry.outcome == 'fresh'} == {
    'head/kernel',
    'head/bias',
    'head/pooler/kernel',
    'head/pooler/bias',
  }
  # Written, it lies where a pre-trained one does, and whoever opens it finds it in the
  # body.
  interop.save(
    tmp_path / 'ours', loaded._replace(model=model, params=params, arch=model.arch)
  )
  again = interop.load(tmp_path / 'ours')
  np.testing.assert_array_equal(
    again.params['pooler']['kernel'], params['head']['pooler']['kernel']
  )
  adopted = models.adopt_pooler(model.arch, params)
  assert (
    adopted[0] == again.arch
    and tree.flatten(adopted[1]).keys() == tree.flatten(again.params).keys()
  )
  batch = {name: jnp.array(value) for name, value in found['batch'].items()}
  np.testing.assert_allclose(
    again.model.apply(again.params, batch).logits,
    model.apply(params, batch).logits,
    atol=1e-5,
  )


@pytest.mark.parametrize(
  'case', ['roberta-Model', 'distilbert-Model', 'electra-Model', 'modernbert-Model']
)
def test_the_layer_before_the_classifier_of_other_families_is_of_the_head(
  case, tmp_path
):
  found = cases.fixture(case)
  cases.materialise(tmp_path, found['config'], found['shapes'])
  loaded = interop.load(tmp_path)
  model, params, account = as_classifier(loaded)
  assert 'pooler' not in params and 'kernel' in params['head']['pooler']
  dropped = {entry.source for entry in account.entries if entry.outcome == 'dropped'}
  assert dropped == (
    {'pooler/kernel', 'pooler/bias'} if case.startswith('roberta') else set()
  )
  interop.save(
    tmp_path / 'ours', loaded._replace(model=model, params=params, arch=model.arch)
  )
  assert interop.load(tmp_path / 'ours').arch == model.arch


@pytest.mark.slow
@each_family
def test_transformers_opens_the_whole_to_the_same_numbers(family, tmp_path):
  torch, transformers = (
    pytest.importorskip('torch'),
    pytest.importorskip('transformers'),
  )
  folder = paired(tmp_path / 'theirs', family)
  loaded = interop.load(folder)
  interop.save(tmp_path / 'ours', loaded)
  batch = {
    name: np.array(value)
    for name, value in cases.fixture(f'{family}-ForMaskedLM')['batch'].items()
  }
  theirs = {
    'input_ids': batch['tokens'],
    'attention_mask': batch['segments'],
    'token_type_ids': batch['types'],
  }
  theirs = {name: torch.tensor(value[:2]).long() for name, value in theirs.items()}
  open_as = lambda suffix, path, **how: getattr(
    transformers, PREFIX[family] + suffix
  ).from_pretrained(path, **how)
  first, second = (
    open_as('ForPreTraining', path).eval()(**theirs)
    for path in (folder, tmp_path / 'ours')
  )
  pairs = 'seq_relationship_logits' if family == 'bert' else 'sop_logits'
  assert first.prediction_logits.equal(second.prediction_logits) and first[pairs].equal(
    second[pairs]
  )
  ours = {name: jnp.array(value[:2]) for name, value in batch.items()}
  said = loaded.model.apply(loaded.params, ours, keep=('pair',))
  words = said.logits
  expected = first[pairs].detach().numpy()
  assert np.abs(np.asarray(said.pair).reshape(2, 2) - expected).max() < 1e-4
  real = batch['segments'][:2] > 0
  assert (
    np.abs(
      np.asarray(words)[real] - first.prediction_logits.detach().numpy()[real]
    ).max()
    < 1e-4
  )
  # And a classifier made of it has the pooler that theirs has.
  model, params, _ = as_classifier(loaded)
  other = open_as('ForSequenceClassification', folder, num_labels=3).eval()
  with torch.no_grad():
    other.classifier.weight.copy_(torch.tensor(np.array(params['head']['kernel'])).T)
    other.classifier.bias.copy_(torch.tensor(np.array(params['head']['bias'])))
    expected = other(**theirs).logits.numpy()
  assert np.abs(model.apply(params, ours).logits - expected).max() < 1e-4
