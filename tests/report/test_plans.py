"""The page of a plan: a bar for every class, as long as the class is large."""

import re

from tl_jax.report import plans

PLAN = dict(
  program='step',
  topology=dict(name='v5e:2x2', devices=4),
  mesh=dict(data=1, fsdp=4),
  settings=dict(remat='full'),
  notes=['a <note>'],
  overrides='',
  memory=dict(fits=True, needed=2**31, available=2**33, hbm=2**33),
  classes={'trainable': 2**30, 'gathered': 2**31, 'frozen': 0},
  roofline=dict(compute=1.0, hbm=2.0, ici=0.0, seconds=2.0),
)


def widths(html):
  return [float(width) for width in re.findall(r'width:([\d.]+)%', html)]


def test_a_bar_for_every_class_that_there_is():
  html = plans.page([PLAN])
  # Two classes against the memory, two times against the longest.
  assert widths(html) == [12.5, 25.0, 50.0, 100.0]
  assert 'frozen' not in html


def test_what_does_not_fit_is_said():
  memory = dict(PLAN['memory'], fits=False, needed=2**34)
  html = plans.page([dict(PLAN, memory=memory)])
  assert 'does not fit' in html
  # Against what would be needed: no bar leaves the page.
  assert widths(html)[:2] == [6.2, 12.5]


def test_text_of_others_is_text():
  html = plans.page([PLAN])
  assert 'a &lt;note&gt;' in html and '<note>' not in html


def test_a_plan_that_was_not_compiled_has_no_memory():
  html = plans.page([dict(PLAN, memory=None, roofline=dict(compute=1.0, seconds=1.0))])
  assert 'Nothing was compiled' in html
