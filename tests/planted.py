"""Documents with what must be found planted among them."""

import json
import random
import re

from tl_jax import data

GERMAN = (
  'Das ist ein Text in einer anderen Sprache, und er hat nichts mit den übrigen zu tun.',
  'Wir haben ihn nur geschrieben, weil man sehen will, ob er auch wirklich gefunden wird.',
  'Es war einmal ein Mann, der nicht wusste, wohin er mit dem Wagen fahren sollte.',
  'Auch wenn das Wetter schlecht ist, gehen die Leute an jedem Sonntag aus der Stadt.',
  'Die Kinder sind schon im Garten und spielen, bis es dunkel wird und sie müde sind.',
  'Nach dem Essen haben wir noch lange bei einem Glas Wein vor dem Haus gesessen.',
)
MENU = (
  'Home',
  'About us',
  'Contact',
  'Privacy policy',
  'Log in',
  'Sitemap',
  'Next page',
)


def prose(count, words=130):
  """So many different English documents, whose sentences end as sentences do."""
  text = ' '.join(example['text'] for example in data.load('austen', 'train'))
  sentences = []
  for sentence in re.split(r'(?<=[.!?]) +', ' '.join(text.split())):
    length = len(sentence.split())
    signs = len(re.findall(r'[^\w\s]', sentence))
    # Dialogues have so many signs that Gopher's rule on letters leaves them out.
    is_whole = sentence[:1].isupper() and not re.search(
      r'\b(Mrs?|Dr|St|[A-Z])\.$', sentence
    )
    if is_whole and 6 <= length <= 40 and signs <= 0.15 * length:
      sentences.append(sentence)
  found = []
  own = []
  for sentence in sentences:
    own.append(sentence)
    if sum(len(each.split()) for each in own) >= words and len(own) >= 6:
      found.append(' '.join(own))
      own = []
    if len(found) == count:
      break
  assert len(found) == count
  return found


def changed(text, generator):
  """A text of which one word in a hundred is another."""
  words = text.split()
  for place in generator.sample(range(len(words)), max(1, len(words) // 100)):
    words[place] = 'otherwise'
  return ' '.join(words)


def corpus(folder, count=300, each=30, seed=0):
  """Writes web.jsonl, asked.jsonl (evaluation), and returns name -> kind of a document."""
  generator = random.Random(seed)
  texts = prose(count + each)
  clean, asked = texts[:count], texts[count:]
  rows = [('clean', text) for text in clean]
  rows += [('exact', '  ' + text.replace(' ', '  ', 9) + '\n') for text in clean[:each]]
  rows += [('near', changed(text, generator)) for text in clean[each : 2 * each]]
  for place in range(each):
    lines = [f'{name} {place} {turn}' for turn in range(9) for name in MENU]
    rows.append(('boilerplate', '\n'.join(lines)))
    german = list(GERMAN) * 2
    generator.shuffle(german)
    rows.append(('german', f'Nummer {place}. ' + ' '.join(german)))
    own = f'Somebody wrote about number {place}. '
    rows.append(('evaluation', own + asked[place] + ' ' + clean[place][:50] + '.'))
  head, rest = rows[:count], rows[count:]
  generator.shuffle(rest)
  kinds = {}
  with open(folder / 'web.jsonl', 'w') as file:
    for number, (kind, text) in enumerate(head + rest, 1):
      kinds[f'web.jsonl:{number}'] = kind
      file.write(json.dumps(dict(text=text)) + '\n')
  with open(folder / 'asked.jsonl', 'w') as file:
    for text in asked:
      file.write(json.dumps(dict(text=text)) + '\n')
  return kinds
