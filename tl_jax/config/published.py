"""What a config asks about a published model long before it is opened.

>>> dropout('/tmp/model.gguf'), dropout('scratch')
(0.0, 0.1)
"""

import json
import pathlib

# Families whose hidden values are never dropped, as their folders name them. All GGUF
# files that are read are of such models, too.
WITHOUT_DROPOUT = (
  'gemma',
  'gemma2',
  'gemma3_text',
  'granite',
  'llama',
  'mistral',
  'modernbert',
  'olmo2',
  'phi3',
  'qwen2',
  'qwen3',
  'smollm3',
)
USUAL = 0.1


def dropout(init: str) -> float:
  """The rate at which a run drops hidden values that starts from this checkpoint.

  A model that never saw dropout has many layers that were not made to stand it: at the
  usual rate it begins far from what it had learned. A workdir gets the usual rate,
  whatever its run started from: it need not be there yet, and the config of a run must
  not change when it is made.
  """
  if init.lower().endswith('.gguf'):
    return 0.0
  try:
    said = json.loads((pathlib.Path(init) / 'config.json').read_bytes())
    family = said.get('model_type')
  # What is wrong with a folder is said when it is opened.
  except (OSError, ValueError, AttributeError):
    return USUAL
  return 0.0 if family in WITHOUT_DROPOUT else USUAL
