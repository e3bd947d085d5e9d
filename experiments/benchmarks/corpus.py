"""How fast documents are filtered, and whether the same ones are left out, beside plain
datatrove with its own word tokenizer on the same steps, in one run on one core.

  pip install 'datatrove[processing]==0.10.1' spacy orjson
  python experiments/benchmarks/corpus.py --text=web.jsonl --rounds=3

Both read the documents from memory and apply Gopher's quality and repetition rules, C4's
and FineWeb's, then MinHash signatures of what is left. Both are asked in turn; given are
the medians of CPU seconds, and the share of the documents on which the rules agree.
"""

import argparse
import statistics
import sys
import time
from collections.abc import Sequence

from tl_jax.data.prepare import Corpus, reading
from tl_jax.data.prepare.filtering import filtered


def ours(documents: Sequence[tuple[str, str]]) -> set[str]:
  """The places of the documents that our rules leave."""
  corpus = Corpus({'web': 'web'})
  kept = set()
  size = corpus.chunk
  for first in range(0, len(documents), size):
    found = filtered(corpus, documents[first : first + size], {})
    kept |= set(found.places)
  return kept


class Theirs:
  """The same rules of datatrove, one after the other."""

  def __init__(self):
    from datatrove.pipeline import filters
    from datatrove.pipeline.dedup import minhash

    # Its own default for C4's rule takes sentences; ours takes lines, as the paper does.
    self._filters = (
      filters.GopherQualityFilter(),
      filters.GopherRepetitionFilter(),
      filters.C4QualityFilter(),
      filters.FineWebQualityFilter(),
    )
    self._signature = minhash.MinhashDedupSignature('/tmp')

  def __call__(self, documents: Sequence[tuple[str, str]]) -> set[str]:
    """The places of the documents that they leave."""
    from datatrove.data import Document

    kept = set()
    for place, text in documents:
      document = Document(text=text, id=place)
      # A filter gives (False, reason), or True.
      if all(rule.filter(document) is True for rule in self._filters):
        kept.add(place)
        shingles = self._signature.get_shingles(document.text)
        if len(shingles):
          self._signature.get_signature(shingles)
    return kept


def main() -> None:
  parser = argparse.ArgumentParser(
    description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
  )
  parser.add_argument('--text', required=True, help='a file, a folder or a set')
  parser.add_argument('--most', type=int, default=2000, help='documents')
  parser.add_argument('--rounds', type=int, default=3)
  options = parser.parse_args()
  documents = []
  for document in reading.documents(options.text):
    documents.append(document)
    if len(documents) == options.most:
      break
  size = sum(len(text.encode()) for _, text in documents) / 1e6
  sides = dict(tl_jax=ours, datatrove=Theirs())
  seconds: dict[str, list[float]] = {name: [] for name in sides}
  kept = {}
  for _ in range(options.rounds):
    for name, run in sides.items():
      began = time.process_time()
      kept[name] = run(documents)
      seconds[name].append(time.process_time() - began)
  for name in sides:
    median = statistics.median(seconds[name])
    sys.stdout.write(
      f'{name}: {size / median:.2f} MB/s ({median:.2f} CPU s for {size:.1f} MB), '
      f'{len(kept[name])} of {len(documents)} documents stay\n'
    )
  ratios = []
  for one, other in zip(seconds['datatrove'], seconds['tl_jax'], strict=True):
    ratios.append(one / other)
  differing = kept['tl_jax'] ^ kept['datatrove']
  agreement = 1 - len(differing) / len(documents)
  sys.stdout.write(
    f'ratio {statistics.median(ratios):.1f} (asked: 5), '
    f'agreement {agreement:.3f} (asked: .98)\n'
  )


if __name__ == '__main__':
  main()
