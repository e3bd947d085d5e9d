"""Members of a sweep: checked as overrides are, named for good, read once per base."""

import time

import pytest

from tl_jax import config
from tl_jax.config import ConfigError
from tl_jax.scale import members, space

BASE = 'configs/transfer.py:task=sentiment,method=lora'


def listing_of(*parts):
  found = parts[0]
  for part in parts[1:]:
    found = found * part
  return members.expand(found, 'sweep.py')


def test_a_member_is_the_run_that_the_command_line_makes():
  fields = {
    'optim.lr': 1e-4,
    'method': {'name': 'lora', 'rank': 2},
    'optim.groups': (),
    'schedule.epochs': None,
    'task.metrics': ('accuracy', 'f1'),
    'optim.clip': 1,
  }
  listing = listing_of(space.base(BASE), space.fixed(fields))
  (member,) = listing.members
  texts = [(key, members.as_text(value)) for key, value in fields.items()]
  by_hand = config.load(BASE, texts)
  assert config.digest(listing.config(member)) == config.digest(by_hand)
  assert member.id.endswith(config.digest(by_hand)[:10])


@pytest.mark.parametrize(
  ('fields', 'words'),
  [
    ({'optim.lrr': 1e-3}, r"config.optim.lrr: unknown key; nearest: 'optim.lr'"),
    ({'data.batch': 'many'}, "config.data.batch: 'many' is not an integer"),
    ({'data.batch': 2.5}, 'config.data.batch'),
    ({'optim.lr': float('inf')}, 'config.optim.lr'),
    ({'optim': 3}, 'config.optim: is a group'),
  ],
)
def test_a_wrong_field_is_one_line_with_the_point(fields, words):
  with pytest.raises(ConfigError, match=words) as caught:
    listing_of(space.base(BASE), space.product(seed=[1, 2]), space.fixed(fields))
  assert str(caught.value).startswith('sweep.py: point 0: ')
  assert '\n' not in str(caught.value)


def test_equal_configs_are_one_member():
  twice = space.fixed(seed=0) + space.fixed(seed=1) + space.fixed()
  listing = listing_of(space.base(BASE), twice)
  # The base has seed 0 already.
  assert len(listing.members) == 2 and listing.repeated == 1


def test_ids_say_what_differs_and_stay_when_the_file_is_edited(tmp_path):
  path = tmp_path / 'sweep.py'
  text = (
    'from tl_jax.scale import space\n'
    f"SWEEP = space.base({BASE!r}) * space.product({{'optim.lr': {{}}}}, seed=[1])\n"
  )

  def opened(rates):
    path.write_text(text.replace('{}', rates))
    listing = members.open_sweep(path, tmp_path)
    members.write_listing(listing, tmp_path)
    return [member.id for member in listing.members]

  first = opened('[0.001]')
  again = opened('[0.01, 0.001]')
  assert again[1] == first[0] and again[0].startswith('lr=0.01-')
  assert members.read_listing(tmp_path) == members.open_sweep(path, tmp_path)


def test_a_member_may_be_what_another_config_starts_from():
  listing = listing_of(
    space.base(BASE), space.product({'optim.lr': [0.1, 0.2]}, seed=[1, 2])
  )
  folder = f'w/members/{listing.members[1].id}'
  found = config.load(f'configs/transfer.py:task=topic,init={folder},labels=3')
  assert (found.init, found.task.labels) == (folder, 3)


def test_bases_are_told_apart_in_names():
  specs = [f'configs/transfer.py:task=topic,method={name}' for name in ('lora', 'full')]
  listing = listing_of(space.base(*specs), space.product(seed=[1, 2]))
  assert listing.members[0].id.startswith('method=lora-seed=1-')
  assert listing.members[3].id.startswith('method=full-seed=2-')


@pytest.mark.parametrize(
  ('text', 'words'),
  [
    ('x = 1', 'neither sweep'),
    ('SWEEP = 3', 'no space'),
    ('def sweep():\n  return []', 'no space'),
    ('def sweep():\n  return 1 / 0', ':2: ZeroDivisionError'),
    (
      'from tl_jax.scale import space\nSWEEP = space.fixed(seed=1)',
      'no base config',
    ),
    (
      'from tl_jax.scale import space\n'
      "SWEEP = space.base('configs/transfer.py')\nMETRIC = 3",
      'METRIC',
    ),
  ],
)
def test_a_file_that_is_no_sweep(tmp_path, text, words):
  path = tmp_path / 'sweep.py'
  path.write_text(text)
  with pytest.raises(ConfigError, match=words):
    members.open_sweep(path)


def test_a_base_is_executed_once(tmp_path):
  path = tmp_path / 'base.py'
  path.write_text(
    'import pathlib\n'
    'def get_config():\n'
    "  log = pathlib.Path(__file__).with_suffix('.log')\n"
    "  log.write_text(log.read_text() + 'x' if log.exists() else 'x')\n"
    "  return {'seed': 0}\n"
  )
  listing = listing_of(space.base(str(path)), space.product(seed=range(50)))
  assert len(listing.members) == 50
  assert path.with_suffix('.log').read_text() == 'x'


def test_ten_thousand_members_take_seconds():
  began = time.process_time()
  drawn = space.random(2000, {'optim.lr': space.log_uniform(1e-5, 1e-3)})
  listing = listing_of(space.base(BASE), space.product(seed=range(5)), drawn)
  assert len({member.id for member in listing.members}) == 10_000
  assert time.process_time() - began < 5


@pytest.mark.parametrize('text', ['', 'a', '1-', '-3', '1,,2'])
def test_what_are_no_numbers_of_members(text):
  with pytest.raises(ConfigError, match='--member'):
    members.numbers_of(text)


def test_a_member_that_is_not_there():
  listing = listing_of(space.base(BASE), space.product(seed=[1, 2]))
  with pytest.raises(ConfigError, match='2 members, numbered from 0; there is no 2'):
    listing.member(2)
