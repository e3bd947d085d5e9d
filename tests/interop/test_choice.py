"""Heads for multiple choice: folders of transformers open to the same scores, and ours
open there.
"""

import jax
import numpy as np
import pytest

from tl_jax import interop, models

FAMILIES = {
  'bert': 'Bert',
  'roberta': 'Roberta',
  'albert': 'Albert',
  'distilbert': 'DistilBert',
  'electra': 'Electra',
  'mpnet': 'MPNet',
  'deberta-v2': 'DebertaV2',
  'modernbert': 'ModernBert',
}
SMALL = dict(
  vocab_size=40,
  hidden_size=16,
  num_hidden_layers=2,
  num_attention_heads=2,
  intermediate_size=24,
  max_position_embeddings=32,
)
OWN = {
  'distilbert': dict(dim=16, n_layers=2, n_heads=2, hidden_dim=24),
  'electra': dict(embedding_size=16),
  'albert': dict(embedding_size=16),
  'deberta-v2': dict(pooler_hidden_size=16, type_vocab_size=0),
  'modernbert': dict(pad_token_id=0, eos_token_id=2, bos_token_id=1, cls_token_id=1),
}


@pytest.mark.parametrize('family', FAMILIES)
def test_transformers_gives_the_same_scores(family, tmp_path):
  torch = pytest.importorskip('torch')
  transformers = pytest.importorskip('transformers')
  name = FAMILIES[family]
  settings = {**SMALL, **OWN.get(family, {})}
  said = getattr(transformers, f'{name}Config')(**settings)
  torch.manual_seed(0)
  theirs = getattr(transformers, f'{name}ForMultipleChoice')(said).eval()
  for weight in theirs.parameters():
    weight.data += 0.2 * torch.randn_like(weight)
  theirs.save_pretrained(tmp_path / 'theirs')
  tokens = np.random.default_rng(0).integers(5, 40, (2, 3, 9))
  with torch.no_grad():
    wanted = theirs(torch.tensor(tokens)).logits.numpy()
  loaded = interop.load(tmp_path / 'theirs')
  assert loaded.arch.head == 'choice'
  batch = dict(tokens=tokens.reshape(6, 9))
  found = np.asarray(loaded.model.apply(loaded.params, batch).logits)
  np.testing.assert_allclose(found.reshape(2, 3), wanted, atol=1e-4)
  interop.save(tmp_path / 'ours', loaded)
  again = getattr(transformers, f'{name}ForMultipleChoice').from_pretrained(
    tmp_path / 'ours'
  )
  with torch.no_grad():
    logits = again.eval()(torch.tensor(tokens)).logits
  np.testing.assert_allclose(logits, wanted, atol=1e-6)


@pytest.mark.parametrize('family', ['tiny-gpt', 'tiny-t5'])
def test_a_family_without_the_class_is_not_exported(family, tmp_path):
  arch = models.arch(family, head='choice', vocabulary=32, pool='mean', pooler='')
  model = models.build(arch)
  loaded = interop.Loaded(model, model.init(jax.random.key(0)), None, arch)
  with pytest.raises(ValueError, match='no class for multiple choice over a'):
    interop.save(tmp_path / 'hf', loaded)


def test_another_summary_of_electra_is_refused():
  config = dict(
    model_type='electra',
    architectures=['ElectraForMultipleChoice'],
    summary_type='mean',
  )
  with pytest.raises(ValueError, match='summary_type'):
    interop.configs.read(config)
