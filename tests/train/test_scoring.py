"""What a trained model finds perplexing, from its workdir to a corpus."""

import collections
import gzip
import json
import random

import pytest
from planted import MENU, prose

from tl_jax import config, train
from tl_jax.data import prepare
from tl_jax.data.prepare import Corpus
from tl_jax.data.prepare.perplexity import Perplexity
from tl_jax.train import scoring


def test_its_step_is_in_the_digest_and_what_is_no_model_is_named(pretrained, tmp_path):
  found = scoring.scorer(str(pretrained))
  one, other = found.score(['a good film', 'zq xv zq kj'])
  assert 1 < one < 600 and 1 < other < 600
  assert found.digest == scoring.scorer(str(pretrained)).digest
  with pytest.raises(ValueError, match=str(tmp_path)):
    scoring.scorer(str(tmp_path / 'nowhere'))


def planted(folder):
  """Writes web.txt, and returns the kinds of its lines; read.txt has others like them."""
  texts = prose(800, words=50)
  generator = random.Random(0)
  shuffled = []
  for text in texts[:40]:
    words = text.split()
    generator.shuffle(words)
    shuffled.append(' '.join(words))
  menus = []
  for place in range(120):
    items = generator.sample(MENU, len(MENU))
    menus.append(f'{place} ' + ' '.join([*items, *items, *items]))
  clean, read = texts[40:260], texts[260:]
  lines = [*clean, *shuffled, *menus[:40]]
  (folder / 'web.txt').write_text('\n'.join(lines))
  # Shuffled words are in no text that a model should read.
  (folder / 'read.txt').write_text('\n'.join([*read, *menus[40:]]))
  kinds = ['clean'] * len(clean) + ['shuffled'] * 40 + ['menu'] * 40
  return dict(zip(lines, kinds, strict=True))


@pytest.mark.slow
def test_shuffled_words_and_boilerplate_are_at_both_ends(tmp_path):
  kinds = planted(tmp_path)
  source = str(tmp_path / 'web.txt')
  c = config.load(f'configs/pretrain.py:tiny-gpt,text={tmp_path / "read.txt"}')
  c.compute.update(dtype='float32', dropout=0.0)
  c.data.update(batch=16, length=64)
  c.schedule.update(steps=400, warmup=20)
  c.optim.lr = 3e-3
  c.tokenizer.size = 1024
  c.log.tensorboard = False
  train.pretrain(c, tmp_path / 'model')
  # The share of what was not planted.
  rule = Perplexity(str(tmp_path / 'model'), 'middle', 220 / 300)
  corpus = Corpus({'web': source}, steps=(), perplexity=rule)
  prepare.prepare(corpus, tmp_path / 'out', scorer=scoring.scorer(rule.model))
  with gzip.open(tmp_path / 'out' / 'corpus' / 'part-00000.jsonl.gz', 'rt') as file:
    kept = [json.loads(line)['text'] for line in file]
  found = collections.Counter(kinds[text] for text in kept)
  assert found['shuffled'] <= 2 and found['menu'] <= 2 and found['clean'] >= 209
