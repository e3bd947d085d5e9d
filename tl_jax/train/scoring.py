"""A trained model as what finds documents perplexing, for `data prepare`.

>>> scorer('/no/such/model')
Traceback (most recent call last):
ValueError: /no/such/model: not a folder
"""

import pathlib

from tl_jax import files
from tl_jax.config import ConfigError
from tl_jax.data.prepare import Scorer
from tl_jax.evals import perplexities
from tl_jax.train.answering import open_settings
from tl_jax.train.prediction import digest_of_model
from tl_jax.train.restoring import load


def scorer(model: str) -> Scorer:
  """The newest step of a workdir, or the model of a folder or file.

  Raises ConfigError for what is not there and for a model without a word for tokens.
  """
  path = pathlib.Path(files.require_local(model, 'model'))
  _, step = open_settings(path)
  loaded = load(path, step)
  try:
    score = perplexities.scorer(loaded)
  except ValueError as error:
    raise ConfigError(f'{model}: {error}') from error
  return Scorer(digest_of_model(path, step), score)
