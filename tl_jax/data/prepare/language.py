"""The language of a document by its small words, without a model.

>>> from tl_jax.data.prepare import batch
>>> texts = ['It is the end of the day and we are here.', 'Das ist das Ende und wir sind da.']
>>> names, shares = languages(batch.of(texts))
>>> names
['en', 'de']

Every language has words of grammar that make a third of its texts. The language is the
one whose words make the largest share; where they make hardly any, it is not known.
"""

import numpy as np

from tl_jax.data.prepare.batch import Batch

UNKNOWN = ''
# Below this share of its words nothing is known of a text.
LEAST = 0.08
WORDS = dict(
  en='the of and to in is that it for was with as on be by this are from at not or have '
  'an you which his he has had but they their were been one all we there can if will',
  de='der die und in den von zu das mit sich des auf für ist im dem nicht ein eine als '
  'auch es an werden aus er hat dass sie nach wird bei einer um am sind noch wie einem '
  'über einen so zum war haben nur oder aber vor zur bis mehr durch man sein wurde wir',
  fr='de la le et les des en un du une que est pour qui dans a par plus pas au sur ne se '
  'ce il sont la avec son cette ou être ont aux mais comme nous sa fait on ces été elle',
  es='de la que el en y a los se del las un por con no una su para es al lo como más o '
  'pero sus le ha me si sin sobre este ya entre cuando todo esta ser son dos también fue',
  it='di e il la che in a per è un del non si le una i da della con sono dei al ha come '
  'più nel alla gli anche ma lo su se delle o questo stato essere dal nella ci suo',
  nl='de van het een en in is dat op te zijn met voor niet aan er die als ook om door '
  'bij naar dan over maar uit nog wordt tot of ze wat worden heeft deze hij dit meer',
  pt='de a o que e do da em um para é com não uma os no se na por mais as dos como mas '
  'foi ao ele das tem à seu sua ou ser quando muito há nos já está eu também só pelo',
  sv='och i att det som en på är av för med till den har de inte om ett han men var jag '
  'sig från vi så kan man när år under också efter eller nu sin där vid mot ska skulle',
  pl='i w na z do nie się to że o jest jak po co tak od za ale dla przez przy był było '
  'są oraz jego tego czy także już tylko lub które który która być może ma jej tym go',
)
_SETS = {name: frozenset(words.split()) for name, words in WORDS.items()}


def languages(batch: Batch) -> tuple[list[str], np.ndarray]:
  """(the language of every document, '' for an unknown one; the share of its words that
  are small words of it, (documents,)).
  """
  lower = [word.lower() for word in batch.table.words]
  # Signs and numbers are of every language.
  total = np.maximum(batch.per_document(batch.table.is_alphabetic), 1)
  shares = []
  for words in _SETS.values():
    is_own = np.array([word in words for word in lower], bool)
    shares.append(batch.per_document(is_own) / total)
  found = np.array(shares)
  best = found.argmax(0)
  most = found.max(0)
  names = list(_SETS)
  said = []
  for place, share in zip(best, most, strict=True):
    said.append(names[place] if share >= LEAST else UNKNOWN)
  return said, most
