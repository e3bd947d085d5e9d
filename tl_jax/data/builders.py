"""The embedded sets as tensorflow-datasets builders.

They write array_record files, so that TensorFlow is not needed.

>>> VaderMovie.name, [config.name for config in VaderMovie.BUILDER_CONFIGS]
('vader_movie', ['polarity', 'rating'])
>>> sorted(EMBEDDED)[:4]
['austen', 'debian', 'help_sample', 'shakespeare']
"""

import contextlib
import gzip
import html
import io
import json
import pathlib

import numpy as np
import tensorflow_datasets as tfds

from tl_jax import files
from tl_jax.data import store, subsets
from tl_jax.data.classes import GENRES, NOVELS, POLARITY, SECTIONS

FOLDER = pathlib.Path(__file__).parent / 'embedded'
# Of the code below: a change in what it yields makes new cache folders.
REVISION = 4
# Mean ratings closer to zero than this have no polarity.
STRONG = 0.5
# The length of a passage: the fewest and the most words.
WORDS = (60, 150)


def passages(text: str, shortest: int = WORDS[0], longest: int = WORDS[1]) -> list[str]:
  """Cuts one scene or chapter into passages of `shortest` to `longest` words, or so.

  A passage ends where a line or a sentence ends. A text shorter than `shortest` words
  is one passage.
  """
  pieces = _pieces(text, longest)
  sizes = [len(piece.split()) for piece in pieces]
  total = sum(sizes)
  # As many as there would be at the middle length.
  count = max(1, round(total / ((shortest + longest) / 2)))
  found = []
  current = []
  passed = 0
  for piece, size in zip(pieces, sizes, strict=True):
    # The k-th passage ends where the running total passes k equal shares, so that no
    # short rest is left over. Half of a piece decides where it belongs.
    share = total * (len(found) + 1) / count
    full = passed + size / 2 > share
    last = len(found) + 1 == count
    if current and full and not last:
      found.append(''.join(current).strip())
      current = []
    current.append(piece)
    passed += size
  if current:
    found.append(''.join(current).strip())
  return found


def _pieces(text: str, longest: int) -> list[str]:
  """What a passage is made of, each with the space or line end before it."""
  pieces = []
  for line in text.split('\n'):
    if not line.strip():
      continue
    before = '\n'
    for clause in _clauses(line.strip(), longest):
      pieces.append(before + clause)
      before = ' '
  return pieces


def _clauses(line: str, longest: int) -> list[str]:
  """A long line of prose, cut after sentence ends into runs of words.

  A run has at most a third of the longest passage, so that passages can be balanced.
  """
  words = line.split()
  if len(words) <= longest // 3:
    return [line]
  runs = []
  current = []
  for word in words:
    current.append(word)
    # A quotation mark or bracket may follow the full stop.
    sentence_ends = word.rstrip('"\')').endswith(('.', '!', '?', ';'))
    long_enough = len(current) >= longest // 8
    if (sentence_ends and long_enough) or len(current) >= longest // 3:
      runs.append(' '.join(current))
      current = []
  if current:
    runs.append(' '.join(current))
  return runs


def _lines(name: str):
  """The lines of a packed file of this package, without their ends."""
  # newline: a carriage return within a text is a character of it.
  with gzip.open(FOLDER / name, 'rt', encoding='utf-8', newline='\n') as file:
    for line in file:
      yield line.rstrip('\n')


def _rated(name: str, config: str, test: bool):
  """(key, example) of one VADER set, for one split and one of the two configs."""
  for line in _lines(f'{name}.tsv.gz'):
    identifier, rating, text = line.split('\t')
    # The files have the texts as they were published, with &amp; and the like.
    text = html.unescape(text)
    rating = float(rating)
    if subsets.in_test(text) != test:
      continue
    example = {'id': identifier, 'text': text, 'rating': rating}
    if config == 'polarity':
      if abs(rating) < STRONG:
        continue
      example['label'] = int(rating > 0)
    yield identifier, example


def _blocks(name: str, test: bool):
  """(key, record, passage, position) of every passage of one literary set.

  The record's `group`, a scene or chapter, decides the split of the whole block:
  passages of one scene have characters and words in common.
  """
  for line in _lines(f'{name}.jsonl.gz'):
    record = json.loads(line)
    if subsets.in_test(f'{name}/{record["group"]}') != test:
      continue
    block = f'{record["work"]}/{record["block"]}'
    for position, text in enumerate(passages(record['text'])):
      yield f'{block}/{position}', record, text, position


def _rated_info(builder, description: str):
  features = {
    'id': tfds.features.Text(),
    'text': tfds.features.Text(),
    'rating': tfds.features.Scalar(np.float32),
  }
  # A mean rating near zero is a class to nobody: only clear ones have a label.
  if builder.builder_config.name == 'polarity':
    features['label'] = tfds.features.ClassLabel(names=list(POLARITY))
  return tfds.core.DatasetInfo(
    builder=builder,
    description=description,
    features=tfds.features.FeaturesDict(features),
    homepage='https://github.com/cjhutto/vaderSentiment',
    citation='Hutto, C.J. and Gilbert, E.E. (2014). VADER. ICWSM-14.',
  )


def _two(name: str):
  """The two configs of a rated set."""
  strong = (
    f'{name}: texts whose mean rating is at least {STRONG} away from zero, labelled '
    'negative or positive'
  )
  rated = f'{name}: every text, with its mean rating from -4 to 4'
  return [
    tfds.core.BuilderConfig(name='polarity', description=strong),
    tfds.core.BuilderConfig(name='rating', description=rated),
  ]


# tfds registers every class that it could build. The two bases lack `_info`, so that it
# leaves them out.
class _Embedded(tfds.core.GeneratorBasedBuilder):
  """A set of this package: nothing to download, and two splits by a hash."""

  def _split_generators(self, dl_manager):
    return {
      'train': self._generate_examples(test=False),
      'test': self._generate_examples(test=True),
    }


class _Rated(_Embedded):
  """A set with mean ratings, in the two configs `polarity` and `rating`."""

  def _generate_examples(self, test):
    yield from _rated(self.name, self.builder_config.name, test)


class VaderMovie(_Rated):
  """Movie-review snippets with mean sentiment ratings (Hutto and Gilbert 2014)."""

  VERSION = tfds.core.Version('1.0.0')
  BUILDER_CONFIGS = _two('movie-review snippets')

  def _info(self):
    return _rated_info(self, self.__doc__)


class VaderAmazon(_Rated):
  """Product-review snippets with mean sentiment ratings (Hutto and Gilbert 2014)."""

  VERSION = tfds.core.Version('1.0.0')
  BUILDER_CONFIGS = _two('product-review snippets')

  def _info(self):
    return _rated_info(self, self.__doc__)


class VaderTweets(_Rated):
  """Tweet-like texts with mean sentiment ratings (Hutto and Gilbert 2014)."""

  VERSION = tfds.core.Version('1.0.0')
  BUILDER_CONFIGS = _two('tweet-like texts')

  def _info(self):
    return _rated_info(self, self.__doc__)


class VaderNyt(_Rated):
  """Newspaper opinion snippets with mean sentiment ratings (Hutto and Gilbert 2014)."""

  VERSION = tfds.core.Version('1.0.0')
  BUILDER_CONFIGS = _two('newspaper opinion snippets')

  def _info(self):
    return _rated_info(self, self.__doc__)


def _info_of(builder, features: dict):
  """The description of a set with these features, under its own docstring."""
  return tfds.core.DatasetInfo(
    builder=builder,
    description=builder.__doc__,
    features=tfds.features.FeaturesDict(features),
  )


class Shakespeare(_Embedded):
  """Passages of 42 works of Shakespeare, with work and genre.

  The `label` is the genre. Whole scenes and sonnets stay in one split.
  """

  VERSION = tfds.core.Version('1.0.0')

  def _info(self):
    features = {
      'id': tfds.features.Text(),
      'text': tfds.features.Text(),
      'work': tfds.features.Text(),
      'title': tfds.features.Text(),
      'genre': tfds.features.Text(),
      'label': tfds.features.ClassLabel(names=list(GENRES)),
      'position': tfds.features.Scalar(np.int32),
    }
    return _info_of(self, features)

  def _generate_examples(self, test):
    for key, record, text, position in _blocks('shakespeare', test):
      example = {
        'id': key,
        'text': text,
        'work': record['work'],
        'title': record['title'],
        'genre': record['genre'],
        'label': record['genre'],
        'position': position,
      }
      yield key, example


class Austen(_Embedded):
  """Passages of the six novels of Jane Austen.

  The `label` is the novel. Whole chapters stay in one split.
  """

  VERSION = tfds.core.Version('1.0.0')

  def _info(self):
    features = {
      'id': tfds.features.Text(),
      'text': tfds.features.Text(),
      'work': tfds.features.Text(),
      'title': tfds.features.Text(),
      'label': tfds.features.ClassLabel(names=list(NOVELS.values())),
      'position': tfds.features.Scalar(np.int32),
    }
    return _info_of(self, features)

  def _generate_examples(self, test):
    for key, record, text, position in _blocks('austen', test):
      work = NOVELS[record['work']]
      example = {
        'id': key,
        'text': text,
        'work': work,
        'title': record['title'],
        'label': work,
        'position': position,
      }
      yield key, example


class Debian(_Embedded):
  """First paragraphs of descriptions of Debian packages, one per source package.

  The `label` is the section of the archive. A text begins with the synopsis of its
  package, unless the config is `synopsis`: there it is a field of its own.
  """

  VERSION = tfds.core.Version('1.0.0')
  BUILDER_CONFIGS = [
    tfds.core.BuilderConfig(name='section', description='synopsis and description'),
    tfds.core.BuilderConfig(name='synopsis', description='description, and synopsis'),
  ]

  def _info(self):
    features = {
      'id': tfds.features.Text(),
      'text': tfds.features.Text(),
      'source': tfds.features.Text(),
      'label': tfds.features.ClassLabel(names=list(SECTIONS)),
    }
    if self.builder_config.name == 'synopsis':
      features['synopsis'] = tfds.features.Text()
    return _info_of(self, features)

  def _generate_examples(self, test):
    apart = self.builder_config.name == 'synopsis'
    seen = set()
    for line in _lines('debian.jsonl.gz'):
      record = json.loads(line)
      example = {
        'id': record['package'],
        'text': record['text'],
        'source': record['source'],
        'label': record['section'],
      }
      if apart:
        example['synopsis'] = record['synopsis']
        example['text'] = record['text'].removeprefix(f'{record["synopsis"]}. ')
        # Some packages differ in their synopsis alone.
        words = subsets.fingerprint(example['text'])
        if words in seen:
          continue
        seen.add(words)
      # By the source package: its binary packages describe themselves in like words.
      if subsets.in_test(record['source']) == test:
        yield record['package'], example


class HelpSample(_Embedded):
  """Paragraphs of the LibreOffice help in English and German.

  Whole pages stay in one split, which is that of the full set.
  """

  VERSION = tfds.core.Version('1.0.0')

  def _info(self):
    features = {
      'id': tfds.features.Text(),
      'en': tfds.features.Text(),
      'de': tfds.features.Text(),
    }
    return _info_of(self, features)

  def _generate_examples(self, test):
    for line in _lines('help_sample.jsonl.gz'):
      record = json.loads(line)
      if subsets.in_test(record['page']) != test:
        continue
      key = f'{record["page"]}#{record["paragraph"]}'
      yield key, {'id': key, 'en': record['en'], 'de': record['de']}


# Each set with its builder and the packed file of this package that it reads.
EMBEDDED = {
  'debian': (Debian, 'debian.jsonl.gz'),
  'help_sample': (HelpSample, 'help_sample.jsonl.gz'),
  'vader_movie': (VaderMovie, 'vader_movie.tsv.gz'),
  'vader_amazon': (VaderAmazon, 'vader_amazon.tsv.gz'),
  'vader_tweets': (VaderTweets, 'vader_tweets.tsv.gz'),
  'vader_nyt': (VaderNyt, 'vader_nyt.tsv.gz'),
  'shakespeare': (Shakespeare, 'shakespeare.jsonl.gz'),
  'austen': (Austen, 'austen.jsonl.gz'),
}


def prepare(name: str, config: str | None, root: pathlib.Path):
  """(tfds builder, key of its content) of an embedded set, prepared once below `root`.

  A damaged or half-made folder is made again.
  """
  builder_class, file = EMBEDDED[name]
  _, checksum = files.digest(FOLDER / file)
  key = store.digest(REVISION, checksum, config)[:12]

  def open_builder(folder: pathlib.Path):
    return builder_class(
      data_dir=str(folder), config=config, file_format='array_record'
    )

  def write(folder: pathlib.Path):
    builder = open_builder(folder)
    tfds.disable_progress_bar()
    # tfds announces itself on stdout, which belongs to the caller.
    with contextlib.redirect_stdout(io.StringIO()):
      builder.download_and_prepare()

  label = name if config is None else f'{name}-{config}'
  folder = store.commit(pathlib.Path(root) / f'{label}-{key}', write)
  return open_builder(folder), key
