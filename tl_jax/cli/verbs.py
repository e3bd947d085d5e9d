"""The verbs of the command line by name. Each file of verbs says what its own do.

>>> VERBS['steps'].example
'tl-jax steps /tmp/base'
"""

from tl_jax.cli import (
  compare,
  data,
  forecast,
  forecast_loss,
  generate,
  merge,
  models,
  plan,
  predict,
  probe,
  steps,
  sweep,
  tables,
  training,
)

# In the order in which a person meets them: `tl-jax --help` lists them so.
VERBS = {
  'demo': tables.DEMO,
  'pretrain': training.PRETRAIN,
  'transfer': training.TRANSFER,
  'evaluate': training.EVALUATE,
  'compare': compare.COMPARE,
  'forecast': forecast.FORECAST,
  'forecast-loss': forecast_loss.FORECAST_LOSS,
  'probe': probe.PROBE,
  'predict': predict.PREDICT,
  'generate': generate.GENERATE,
  'import': models.IMPORT,
  'export': models.EXPORT,
  'merge': merge.MERGE,
  'table': tables.TABLE,
  'sweep': sweep.SWEEP,
  'plan': plan.PLAN,
  'data': data.DATA,
  'steps': steps.STEPS,
}
