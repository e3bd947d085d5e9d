"""The classes of the embedded sets, in the order of their numbers.

The sets are made with them, and tasks ask for them: neither needs the other for that.

>>> GENRES.index('tragedy')
2
"""

POLARITY = ('negative', 'positive')
# The file of a novel -> its title.
NOVELS = {
  'emma': 'Emma',
  'mansfieldpark': 'Mansfield Park',
  'northangerabbey': 'Northanger Abbey',
  'persuasion': 'Persuasion',
  'prideprejudice': 'Pride and Prejudice',
  'sensesensibility': 'Sense and Sensibility',
}
# Of descriptions of packages, by what they are for.
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
# Of the works of Shakespeare.
GENRES = ('comedy', 'history', 'tragedy', 'poetry')
