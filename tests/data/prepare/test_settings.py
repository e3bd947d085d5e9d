"""Every value of a corpus has its range; what no document could pass is refused."""

import pytest

from tl_jax import config
from tl_jax.data.prepare import Corpus

SOURCES = {'a': 'a.txt'}


def corpus(**said):
  return config.struct(Corpus, dict(sources=SOURCES) | said, 'config')


@pytest.mark.parametrize(
  'said, message',
  [
    (dict(seed=-1), 'config.seed: must be an integer >= 0'),
    (dict(examples=-1), 'config.examples: must be an integer >= 0'),
    (dict(steps=('exact', 'exact')), "steps: 'exact' stands there twice"),
    (dict(languages=('en', 'en')), "languages: 'en' stands there twice"),
    (dict(evaluation=('b.csv', './b.csv')), "evaluation: './b.csv' stands there twice"),
    (dict(sources={'a': 'a.txt', 'b': './a.txt'}), "sources: './a.txt' stands there"),
    (dict(gopher=dict(signs_per_word=-0.1)), 'config.gopher.signs_per_word: must be'),
    (dict(gopher=dict(stop_words=9)), 'stop_words: must be an integer >= 0 and <= 8'),
    (dict(gopher=dict(least_words=9, most_words=8)), 'least_words: 9 is above most_w'),
    (dict(gopher=dict(shortest_mean=9.0, longest_mean=8.0)), 'shortest_mean: 9.0 is'),
    (dict(c4=dict(words=-1)), 'config.c4.words: must be an integer >= 0'),
    (dict(c4=dict(longest_word=0)), 'config.c4.longest_word: must be an integer >= 1'),
    (dict(c4=dict(sentences=-1)), 'config.c4.sentences: must be an integer >= 0'),
    (dict(fineweb=dict(line_ends_per_word=-1.0)), 'line_ends_per_word: must be'),
    (dict(repetition=dict(top=(0.2,))), 'config.repetition.top: needs 3 items, got 1'),
    (dict(repetition=dict(repeated=(0.1,) * 7)), 'repetition.repeated: needs 6 items'),
    (dict(repetition=dict(top=(0.2, 0.1, -1.0))), r'repetition.top\[2\]: must be'),
    (dict(classifier=dict(alpha=0.0)), 'config.classifier.alpha: must be a finite'),
    (dict(selection=dict(share=0.0)), 'config.selection.share: must be a finite'),
    (dict(perplexity=dict(share=0.0)), 'config.perplexity.share: must be a finite'),
  ],
)
def test_a_value_out_of_its_range_is_named(said, message):
  with pytest.raises(config.ConfigError, match=message):
    corpus(**said)


def test_a_bound_that_nothing_breaks_is_a_value():
  assert corpus(gopher=dict(bullet_lines=1.0)).gopher.bullet_lines == 1
  assert corpus(repetition=dict(lines=1.0)).repetition.lines == 1
