"""The classes of the embedded and the fetched sets, in the order of their numbers.

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
# The sections that have most packages, as the archive calls them.
LARGE_SECTIONS = (
  'perl',
  'python',
  'golang',
  'utils',
  'javascript',
  'rust',
  'ruby',
  'libdevel',
  'java',
  'gnu-r',
  'science',
  'net',
)
# Of the works of Shakespeare.
GENRES = ('comedy', 'history', 'tragedy', 'poetry')
# Wanted mail, and unwanted.
MAIL = ('ham', 'spam')
# Of Usenet.
NEWSGROUPS = (
  'alt.atheism',
  'comp.graphics',
  'comp.os.ms-windows.misc',
  'comp.sys.ibm.pc.hardware',
  'comp.sys.mac.hardware',
  'comp.windows.x',
  'misc.forsale',
  'rec.autos',
  'rec.motorcycles',
  'rec.sport.baseball',
  'rec.sport.hockey',
  'sci.crypt',
  'sci.electronics',
  'sci.med',
  'sci.space',
  'soc.religion.christian',
  'talk.politics.guns',
  'talk.politics.mideast',
  'talk.politics.misc',
  'talk.religion.misc',
)
# Of the Brown corpus: the letter of a file -> its genre.
BROWN_GENRES = {
  'a': 'reportage',
  'b': 'editorial',
  'c': 'review',
  'd': 'religion',
  'e': 'hobbies',
  'f': 'lore',
  'g': 'belles lettres',
  'h': 'government',
  'j': 'learned',
  'k': 'fiction',
  'l': 'mystery',
  'm': 'science fiction',
  'n': 'adventure',
  'p': 'romance',
  'r': 'humor',
}
