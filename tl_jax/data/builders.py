"""The embedded sets as tensorflow-datasets builders (array_record files, no
TensorFlow).

>>> VaderMovie.name, [config.name for config in VaderMovie.BUILDER_CONFIGS]
('vader_movie', ['polarity', 'rating'])
>>> sorted(EMBEDDED)
['austen', 'debian', 'shakespeare', 'vader_amazon', 'vader_movie', 'vader_nyt', 'vader_tweets']
"""

import contextlib
import gzip
import html
import io
import json
import pathlib

import numpy as np
import tensorflow_datasets as tfds

from tl_jax.data import store, subsets

FOLDER = pathlib.Path(__file__).parent / 'embedded'
REVISION = 3  # of the code below: a change in what it yields makes new cache folders
NOVELS = {
  'emma': 'Emma',
  'mansfieldpark': 'Mansfield Park',
  'northangerabbey': 'Northanger Abbey',
  'persuasion': 'Persuasion',
  'prideprejudice': 'Pride and Prejudice',
  'sensesensibility': 'Sense and Sensibility',
}
SECTIONS = (
  'games',
  'science',
  'mathematics',
  'sound',
  'graphics',
  'mail',
  'web',
  'editors',
  'databases',
  'fonts',
  'video',
  'network',
)
GENRES = ('comedy', 'history', 'tragedy', 'poetry')
TEST_PERCENT = 20
STRONG = 0.5  # mean ratings closer to zero than this have no polarity
WORDS = (60, 150)  # the length of a passage


def in_test(key: str) -> bool:
  """Does this text, or this group of texts, belong to the test split? A function of the
  key alone, 20 % do.
  """
  return subsets.fingerprint(key) % 100 < TEST_PERCENT


def passages(text: str, shortest: int = WORDS[0], longest: int = WORDS[1]) -> list[str]:
  """Cuts one scene or chapter into passages of about `shortest` to `longest` words, at
  line ends and sentence ends.

  A passage never crosses the text it is given; a text shorter than `shortest` words is
  one passage.
  """
  # A piece after the first of its line follows a space, the others a line end.
  pieces = [
    ('\n' if first else ' ') + piece
    for line in text.split('\n')
    if line.strip()
    for first, piece in zip(
      [True, *[False] * len(line)], _clauses(line.strip(), longest), strict=False
    )
  ]
  sizes = [len(piece.split()) for piece in pieces]
  total = sum(sizes)
  count = max(1, round(total / ((shortest + longest) / 2)))
  found, current, passed = [], [], 0
  for piece, size in zip(pieces, sizes, strict=True):
    # The k-th passage ends where the running total passes k equal shares, so that none
    # is left over short.
    if (
      current
      and passed + size / 2 > total * (len(found) + 1) / count
      and len(found) + 1 < count
    ):
      found.append(''.join(current).strip())
      current = []
    current.append(piece)
    passed += size
  return found + ([''.join(current).strip()] if current else [])


def _clauses(line: str, longest: int) -> list[str]:
  """A long prose line cut after sentence ends, into runs of at most about a third of
  the longest passage.
  """
  if len(line.split()) <= longest // 3:
    return [line]
  runs, current = [], []
  for word in line.split():
    current.append(word)
    ended = (
      word.rstrip('"\')').endswith(('.', '!', '?', ';'))
      and len(current) >= longest // 8
    )
    if ended or len(current) >= longest // 3:
      runs.append(' '.join(current))
      current = []
  return runs + ([' '.join(current)] if current else [])


def _lines(name: str):
  with gzip.open(FOLDER / name, 'rt', encoding='utf-8', newline='\n') as file:
    for line in file:
      yield line.rstrip('\n')


def _rated(name: str, config: str, test: bool):
  """(key, example) of one VADER set, for one split and one of the two configs."""
  for line in _lines(f'{name}.tsv.gz'):
    identifier, rating, text = line.split('\t')
    text, rating = html.unescape(text), float(rating)
    if in_test(text) != test or (config == 'polarity' and abs(rating) < STRONG):
      continue
    example = {'id': identifier, 'text': text, 'rating': rating}
    yield (
      identifier,
      {**example, 'label': int(rating > 0)} if config == 'polarity' else example,
    )


def _blocks(name: str, test: bool):
  """(key, record, passage, position) of one literary set; `group` decides the split of
  a whole block.
  """
  for line in _lines(f'{name}.jsonl.gz'):
    record = json.loads(line)
    if in_test(f'{name}/{record["group"]}') == test:
      for position, text in enumerate(passages(record['text'])):
        yield f'{record["work"]}/{record["block"]}/{position}', record, text, position


def _rated_info(builder, description: str):
  features = {
    'id': tfds.features.Text(),
    'text': tfds.features.Text(),
    'rating': tfds.features.Scalar(np.float32),
  }
  if builder.builder_config.name == 'polarity':
    features['label'] = tfds.features.ClassLabel(names=['negative', 'positive'])
  return tfds.core.DatasetInfo(
    builder=builder,
    description=description,
    features=tfds.features.FeaturesDict(features),
    homepage='https://github.com/cjhutto/vaderSentiment',
    citation='Hutto, C.J. and Gilbert, E.E. (2014). VADER. ICWSM-14.',
  )


def _two(name: str):
  """The two configs of a rated set."""
  strong = f'{name}: texts whose mean rating is at least {STRONG} away from zero, labelled negative or positive'
  return [
    tfds.core.BuilderConfig(name='polarity', description=strong),
    tfds.core.BuilderConfig(
      name='rating',
      description=f'{name}: every text, with its mean rating from -4 to 4',
    ),
  ]


class VaderMovie(tfds.core.GeneratorBasedBuilder):
  """Movie-review snippets with mean sentiment ratings (Hutto and Gilbert 2014)."""

  VERSION = tfds.core.Version('1.0.0')
  BUILDER_CONFIGS = _two('movie-review snippets')

  def _info(self):
    return _rated_info(self, self.__doc__)

  def _split_generators(self, dl_manager):
    return {
      'train': self._generate_examples(False),
      'test': self._generate_examples(True),
    }

  def _generate_examples(self, test):
    yield from _rated(self.name, self.builder_config.name, test)


class VaderAmazon(tfds.core.GeneratorBasedBuilder):
  """Product-review snippets with mean sentiment ratings (Hutto and Gilbert 2014)."""

  VERSION = tfds.core.Version('1.0.0')
  BUILDER_CONFIGS = _two('product-review snippets')

  def _info(self):
    return _rated_info(self, self.__doc__)

  def _split_generators(self, dl_manager):
    return {
      'train': self._generate_examples(False),
      'test': self._generate_examples(True),
    }

  def _generate_examples(self, test):
    yield from _rated(self.name, self.builder_config.name, test)


class VaderTweets(tfds.core.GeneratorBasedBuilder):
  """Tweet-like texts with mean sentiment ratings (Hutto and Gilbert 2014)."""

  VERSION = tfds.core.Version('1.0.0')
  BUILDER_CONFIGS = _two('tweet-like texts')

  def _info(self):
    return _rated_info(self, self.__doc__)

  def _split_generators(self, dl_manager):
    return {
      'train': self._generate_examples(False),
      'test': self._generate_examples(True),
    }

  def _generate_examples(self, test):
    yield from _rated(self.name, self.builder_config.name, test)


class VaderNyt(tfds.core.GeneratorBasedBuilder):
  """Newspaper opinion snippets with mean sentiment ratings (Hutto and Gilbert 2014)."""

  VERSION = tfds.core.Version('1.0.0')
  BUILDER_CONFIGS = _two('newspaper opinion snippets')

  def _info(self):
    return _rated_info(self, self.__doc__)

  def _split_generators(self, dl_manager):
    return {
      'train': self._generate_examples(False),
      'test': self._generate_examples(True),
    }

  def _generate_examples(self, test):
    yield from _rated(self.name, self.builder_config.name, test)


class Shakespeare(tfds.core.GeneratorBasedBuilder):
  """Passages of 42 works of Shakespeare, with work and genre (`label`); whole scenes
  and sonnets stay in one split.
  """

  VERSION = tfds.core.Version('1.0.0')

  def _info(self):
    return tfds.core.DatasetInfo(
      builder=self,
      description=self.__doc__,
      features=tfds.features.FeaturesDict(
        {
          'id': tfds.features.Text(),
          'text': tfds.features.Text(),
          'work': tfds.features.Text(),
          'title': tfds.features.Text(),
          'genre': tfds.features.Text(),
          'label': tfds.features.ClassLabel(names=list(GENRES)),
          'position': tfds.features.Scalar(np.int32),
        }
      ),
    )

  def _split_generators(self, dl_manager):
    return {
      'train': self._generate_examples(False),
      'test': self._generate_examples(True),
    }

  def _generate_examples(self, test):
    for key, record, text, position in _blocks('shakespeare', test):
      yield (
        key,
        {
          'id': key,
          'text': text,
          'work': record['work'],
          'title': record['title'],
          'genre': record['genre'],
          'label': record['genre'],
          'position': position,
        },
      )


class Austen(tfds.core.GeneratorBasedBuilder):
  """Passages of the six novels of Jane Austen, `label` the novel; whole chapters stay
  in one split.
  """

  VERSION = tfds.core.Version('1.0.0')

  def _info(self):
    return tfds.core.DatasetInfo(
      builder=self,
      description=self.__doc__,
      features=tfds.features.FeaturesDict(
        {
          'id': tfds.features.Text(),
          'text': tfds.features.Text(),
          'work': tfds.features.Text(),
          'title': tfds.features.Text(),
          'label': tfds.features.ClassLabel(names=list(NOVELS.values())),
          'position': tfds.features.Scalar(np.int32),
        }
      ),
    )

  def _split_generators(self, dl_manager):
    return {
      'train': self._generate_examples(False),
      'test': self._generate_examples(True),
    }

  def _generate_examples(self, test):
    for key, record, text, position in _blocks('austen', test):
      work = NOVELS[record['work']]
      yield (
        key,
        {
          'id': key,
          'text': text,
          'work': work,
          'title': record['title'],
          'label': work,
          'position': position,
        },
      )


class Debian(tfds.core.GeneratorBasedBuilder):
  """First paragraphs of descriptions of Debian packages, `label` the section of the
  archive; one per source package.
  """

  VERSION = tfds.core.Version('1.0.0')

  def _info(self):
    return tfds.core.DatasetInfo(
      builder=self,
      description=self.__doc__,
      features=tfds.features.FeaturesDict(
        {
          'id': tfds.features.Text(),
          'text': tfds.features.Text(),
          'source': tfds.features.Text(),
          'label': tfds.features.ClassLabel(names=list(SECTIONS)),
        }
      ),
    )

  def _split_generators(self, dl_manager):
    return {
      'train': self._generate_examples(False),
      'test': self._generate_examples(True),
    }

  def _generate_examples(self, test):
    with gzip.open(FOLDER / 'debian.jsonl.gz', 'rt', encoding='utf-8') as file:
      for record in map(json.loads, file):
        if in_test(record['source']) == test:
          yield (
            record['package'],
            {
              'id': record['package'],
              'text': record['text'],
              'source': record['source'],
              'label': record['section'],
            },
          )


EMBEDDED = {
  'debian': (Debian, 'debian.jsonl.gz'),
  'vader_movie': (VaderMovie, 'vader_movie.tsv.gz'),
  'vader_amazon': (VaderAmazon, 'vader_amazon.tsv.gz'),
  'vader_tweets': (VaderTweets, 'vader_tweets.tsv.gz'),
  'vader_nyt': (VaderNyt, 'vader_nyt.tsv.gz'),
  'shakespeare': (Shakespeare, 'shakespeare.jsonl.gz'),
  'austen': (Austen, 'austen.jsonl.gz'),
}


def prepare(name: str, config: str | None, root: pathlib.Path):
  """The tfds builder of an embedded set, prepared once below `root`; a damaged or
  half-made folder is made again.
  """
  builder_class, file = EMBEDDED[name]
  key = store.digest(REVISION, store.file_digest(FOLDER / file), config)[:12]

  def write(folder):
    builder = builder_class(
      data_dir=str(folder), config=config, file_format='array_record'
    )
    tfds.disable_progress_bar()
    # tfds announces itself on stdout, which belongs to the caller
    with contextlib.redirect_stdout(io.StringIO()):
      builder.download_and_prepare()

  label = name if config is None else f'{name}-{config}'
  folder = store.commit(pathlib.Path(root) / f'{label}-{key}', write)
  return builder_class(
    data_dir=str(folder), config=config, file_format='array_record'
  ), key
