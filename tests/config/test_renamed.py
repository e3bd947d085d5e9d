"""What an earlier version wrote is read with the keys of today."""

from tl_jax.config import nearest
from tl_jax.config.renamed import (
  RENAMED,
  new_name,
  with_former_names,
  with_new_names,
)


def test_only_the_key_of_its_own_group_is_renamed():
  old = {
    'slots': 1,
    'data': {'slots': 2, 'inner': {'slots': 3}},
    'method': {'slots': 4},
  }
  new = with_new_names(old)
  assert new == old | {'data': {'examples_per_row': 2, 'inner': {'slots': 3}}}
  assert with_new_names(new) == new
  assert with_former_names(new) == old


def test_a_value_that_has_another_word_today_is_read_as_it():
  for old, new in ((False, 'pieces'), (True, 'words')):
    former, current = (
      {'objective': {key: value}}
      for key, value in (('whole_word', old), ('masking', new))
    )
    assert with_new_names(former) == with_new_names(current) == current
    assert with_former_names(current) == former
  # What no earlier version could say stays as it is.
  spans = {'objective': {'masking': 'spans'}}
  assert with_new_names(spans) == spans
  assert with_former_names(spans) == {'objective': {'whole_word': 'spans'}}


def test_the_new_name_is_the_nearest():
  assert new_name('data.slots') == new_name('slots') == 'examples_per_row'
  assert new_name('steps') is None
  near = nearest('slots', ['steps', 'length', 'examples_per_row'])
  assert near.startswith("'examples_per_row'")


def test_a_key_stays_in_its_group():
  for former, current in RENAMED.items():
    assert former.rpartition('.')[0] == current.rpartition('.')[0]
