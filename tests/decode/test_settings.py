"""Settings: what is accepted, and how what is not is said."""

import dataclasses

import numpy as np
import pytest

from tl_jax import config
from tl_jax.decode import Decoding
from tl_jax.decode.settings import penalties


@pytest.mark.parametrize(
  ('wrong', 'message'),
  [
    (dict(method='greed'), "method: 'greed' is not a choice; nearest: 'greedy'"),
    (dict(max_new_tokens=0), 'max_new_tokens: must be an integer >= 1, got 0'),
    (
      dict(max_new_tokens=2, min_new_tokens=3),
      'min_new_tokens: 3 is more than max_new_tokens, 2',
    ),
    (
      dict(method='sample', temperature=0.0),
      "temperature: must be > 0, got 0; method='greedy'",
    ),
    (
      dict(method='sample', temperature=float('nan')),
      'temperature: must be a finite number',
    ),
    (dict(method='sample', top_p=0), 'top_p: must be a finite number > 0 and <= 1'),
    (dict(method='sample', top_k=-1), 'top_k: must be an integer >= 0'),
    (dict(method='sample', min_p=1.5), 'min_p: must be'),
    (dict(repetition_penalty=0), 'repetition_penalty: must be a finite number > 0'),
    (
      dict(temperature=0.5),
      "temperature: 0.5 is for method='sample', but the method is 'greedy'",
    ),
    (
      dict(samples=2),
      "samples: 2 is for method='sample' or method='beam', but the method is 'greedy'",
    ),
    (dict(method='sample', beams=2), "beams: 2 is for method='beam'"),
    (dict(method='beam', top_k=3), "top_k: 3 is for method='sample'"),
    (dict(method='beam', beams=2, samples=3), 'samples: 3 is more than the 2 beams'),
    (dict(method='beam', early_stopping='always'), 'early_stopping: must be'),
    (
      dict(method='beam', length_penalty=40.0),
      'length_penalty: 40 at max_new_tokens 64 leaves the range',
    ),
    (
      dict(method='beam', length_penalty=-40.0),
      'length_penalty: -40 at max_new_tokens 64 leaves the range',
    ),
    (
      dict(method='beam', penalty_form='gmnt'),
      "penalty_form: 'gmnt' is not a choice; nearest: 'gnmt'",
    ),
    (dict(eos=(3, -1)), r'eos\[1\]: must be an integer >= 0'),
    (dict(stop=('', 'x')), 'stop: an empty string'),
    (dict(stop=('\ud83d',)), r"stop: '.ud83d' holds half of a character"),
    (dict(forced_bos=(1, 2)), 'forced_bos: 2 ids, but one is the first'),
    (dict(bad_words=((),)), 'bad_words: an empty one'),
    (dict(suppress=(-1,)), r'suppress\[0\]: must be an integer >= 0'),
    (dict(stop=(3,)), r'stop\[0\]: must be text'),
    (dict(seed=1.5), 'seed: must be an integer'),
  ],
)
def test_what_cannot_be_right_is_refused_by_name(wrong, message):
  with pytest.raises(config.ConfigError, match=message) as caught:
    Decoding(**wrong)
  assert '\n' not in str(caught.value)


def test_a_config_group_becomes_settings():
  found = config.struct(
    Decoding,
    {'method': 'beam', 'early_stopping': 'never', 'eos': [1, 2]},
    'config.decode',
  )
  assert found == Decoding('beam', early_stopping='never', eos=(1, 2))
  with pytest.raises(
    config.ConfigError, match="config.decode.top_n: unknown key; nearest: .*'top_p'"
  ):
    config.struct(Decoding, {'top_n': 3}, 'config.decode')


def test_single_values_become_tuples_and_settings_are_hashable():
  found = Decoding(eos=np.int64(2), stop='\n', start=0)
  assert (found.eos, found.stop, found.start) == ((2,), ('\n',), (0,))
  assert (
    hash(found) == hash(dataclasses.replace(found))
    and dataclasses.replace(found, seed=1) != found
  )


def test_penalties_by_hand():
  """Wu et al. 2016, eq. 14, and transformers' power of the length."""
  gnmt = penalties(
    Decoding('beam', length_penalty=0.6, penalty_form='gnmt', max_new_tokens=7)
  )
  assert np.allclose(gnmt[[1, 7]], [1.0, 2**0.6])
  assert np.allclose(
    penalties(Decoding('beam', length_penalty=-2.0, max_new_tokens=3))[1:],
    [1, 1 / 4, 1 / 9],
  )
  assert (penalties(Decoding('beam', length_penalty=0.0, max_new_tokens=3)) == 1).all()
