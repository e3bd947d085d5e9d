"""Low-rank adapters of every family stand on the modules that peft stands on by
default, and come back the same.
"""

import json
import pathlib
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest

sys.path.insert(0, str(pathlib.Path(__file__).parent))
import cases  # noqa: E402

from tl_jax import interop, transfer, tree  # noqa: E402

# What peft calls the matrices of queries and values; Phi-3 holds queries, keys and
# values as one.
TARGETS = {
  'xlm-roberta-ForMaskedLM': ['query', 'value'],
  'camembert-ForMaskedLM': ['query', 'value'],
  'mpnet-ForMaskedLM': ['q', 'v'],
  'deberta-v2-ForMaskedLM': ['query_proj', 'value_proj'],
  'gemma-ForCausalLM': ['q_proj', 'v_proj'],
  'granite-ForCausalLM': ['q_proj', 'v_proj'],
  'olmo2-ForCausalLM': ['q_proj', 'v_proj'],
  'smollm3-ForCausalLM': ['q_proj', 'v_proj'],
  'phi3-ForCausalLM': ['qkv_proj'],
}
QUICK = ('deberta-v2-ForMaskedLM', 'phi3-ForCausalLM')
pairs = pytest.mark.parametrize(
  'case',
  [
    case if case in QUICK else pytest.param(case, marks=pytest.mark.slow)
    for case in TARGETS
  ],
)


def adapted(case, folder):
  """(the loaded base, the same with a LoRA by default, its folder) of a fixture."""
  found = cases.fixture(case)
  cases.materialise(folder / 'base', found['config'], found['shapes'], found['gain'])
  loaded = interop.load(folder / 'base')
  method = transfer.lora(rank=3)
  trainable, frozen = method.init(jax.random.key(0), loaded.params)
  noise = lambda name, leaf: (
    leaf + 0.2 * np.random.default_rng([*name.encode()]).standard_normal(leaf.shape)
  )
  trainable = tree.map_named(
    lambda name, leaf: noise(name, leaf).astype(np.float32), trainable
  )
  ours = loaded._replace(params=method.merge(trainable, frozen))
  return loaded, ours, interop.save_adapter(folder / 'adapter', ours, trainable)


def logits(loaded, batch):
  return np.asarray(loaded.model.apply(loaded.params, batch).logits)


@pairs
def test_an_adapter_names_the_modules_of_peft_and_comes_back(case, tmp_path):
  loaded, ours, folder = adapted(case, tmp_path)
  said = json.loads((folder / 'adapter_config.json').read_text())
  assert said['target_modules'] == TARGETS[case]
  batch = {
    name: jnp.array(value) for name, value in cases.fixture(case)['batch'].items()
  }
  again = interop.load_adapter(folder, tmp_path / 'base')
  mine = logits(ours, batch)
  np.testing.assert_allclose(logits(again, batch), mine, atol=1e-5)
  assert np.abs(mine - logits(loaded, batch)).max() > 0.1


@pytest.mark.slow
@pytest.mark.filterwarnings('ignore')
@pytest.mark.parametrize('case', TARGETS)
def test_peft_opens_it_to_the_same_logits(case, tmp_path):
  torch, peft = pytest.importorskip('torch'), pytest.importorskip('peft')
  transformers = pytest.importorskip('transformers')
  _, ours, folder = adapted(case, tmp_path)
  (prefix, *_), suffix = cases.CASES[case]
  base = getattr(transformers, prefix + suffix).from_pretrained(
    tmp_path / 'base', attn_implementation='eager'
  )
  model = peft.PeftModel.from_pretrained(base, folder).eval()
  tokens = np.random.default_rng(0).integers(5, 61, (2, 9)).astype(np.int32)
  with torch.no_grad():
    theirs = model(input_ids=torch.tensor(tokens).long()).logits.numpy()
  assert np.abs(logits(ours, dict(tokens=jnp.array(tokens))) - theirs).max() < 1e-4
