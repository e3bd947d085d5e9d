"""What every parameter is called in Hugging Face checkpoints: one map per family, read
in both directions.

>>> place('bert', 'masked', 'layers/3/attention/query/kernel')
Place(name='bert.encoder.layer.3.attention.self.query.weight', transpose=True, part=0, columns=None, row=False)
"""

import collections
import re
from typing import NamedTuple

import numpy as np

from tl_jax import tree

LAYER = '{}'  # stands for the number of a layer
LEAVES = {'kernel': 'weight', 'scale': 'weight', 'bias': 'bias'}


class Place(NamedTuple):
  """Where a parameter lies: the tensor, whether it is transposed there, and which part
  of its outputs it is.

  columns: where the part begins and ends among the outputs, which the sizes of all
  parts say (`places`); None: all.
  row: a vector that is stored with a leading axis of 1.
  """

  name: str
  transpose: bool = False
  part: int = 0
  columns: tuple[int, int] | None = None
  row: bool = False


class Names(NamedTuple):
  """The map of one family.

  body and heads[head]: our module, or our whole name, to theirs; `|i` marks part i of
  several, `|row` a leading axis of 1. Names of the body stand below `base` in a model
  with a head (`bases`: heads with another).
  gated: rows of a gated MLP that differ from those of the body.
  turned: are kernels stored (out, in)? twin: the bias of a masked head and the second
  name of it, the one that counts where the head is not tied; extra: tensors that a
  folder may hold besides, as regular expressions, below `base` or not; those of other
  heads are known without them.
  others: tensors with the names that they may have in a folder instead, the best first.
  tables: other names of the token table, below `base`; zeros: tensors that are zeros
  where a folder has none;
  sines: tables of sinusoidal positions, below `base`, that a folder holds and no model
  learns.
  """

  body: dict
  heads: dict
  base: str
  bases: dict = {}
  turned: bool = True
  extra: tuple[str, ...] = ()
  twin: tuple[str, ...] = ()
  gated: dict = {}
  tables: tuple[str, ...] = ()
  zeros: tuple[str, ...] = ()
  sines: tuple[str, ...] = ()
  others: dict = {}


def _layers(ours: str, theirs: str, modules: dict) -> dict:
  return {
    f'{ours}layers/{LAYER}/{module}': f'{theirs}.{LAYER}.{name}'
    for module, name in modules.items()
  }


_BERT_LAYER = {
  'attention/query': 'attention.self.query',
  'attention/key': 'attention.self.key',
  'attention/value': 'attention.self.value',
  'attention/out': 'attention.output.dense',
  'attention_norm': 'attention.output.LayerNorm',
  'mlp/in': 'intermediate.dense',
  'mlp/out': 'output.dense',
  'mlp_norm': 'output.LayerNorm',
}
_BERT_EMBEDDING = {
  'embedding/tokens': 'embeddings.word_embeddings.weight',
  'embedding/positions': 'embeddings.position_embeddings.weight',
  'embedding/types': 'embeddings.token_type_embeddings.weight',
  'embedding/norm': 'embeddings.LayerNorm',
}
_TOKEN_HEADS = {'token': {'head': 'classifier'}, 'span': {'head': 'qa_outputs'}}
_POOLED_HEAD = {'head/pooler': 'classifier.dense', 'head': 'classifier.out_proj'}

_BERT = Names(
  _BERT_EMBEDDING
  | _layers('', 'encoder.layer', _BERT_LAYER)
  | {'pooler': 'pooler.dense'},
  _TOKEN_HEADS
  | {
    'masked': {
      'head/transform': 'cls.predictions.transform.dense',
      'head/norm': 'cls.predictions.transform.LayerNorm',
      'head/bias': 'cls.predictions.bias',
      'head/kernel': 'cls.predictions.decoder.weight',
      'head/pair': 'cls.seq_relationship',
    },
    # A pooler that the task brought lies where a pre-trained one does.
    'classifier': {'head': 'classifier', 'head/pooler': 'bert.pooler.dense'},
  },
  'bert.',
  twin=('cls.predictions.bias', 'cls.predictions.decoder.bias'),
  extra=(r'pooler\..*', r'cls\.seq_relationship\..*', r'cls\.predictions\.decoder\..*'),
)

_ROBERTA = Names(
  _BERT.body,
  _TOKEN_HEADS
  | {
    'masked': {
      'head/transform': 'lm_head.dense',
      'head/norm': 'lm_head.layer_norm',
      'head/bias': 'lm_head.bias',
      'head/kernel': 'lm_head.decoder.weight',
    },
    'classifier': _POOLED_HEAD,
  },
  'roberta.',
  twin=('lm_head.bias', 'lm_head.decoder.bias'),
  extra=(r'pooler\..*', r'lm_head\.decoder\..*'),
)

_MPNET = Names(
  _BERT_EMBEDDING
  | _layers(
    '',
    'encoder.layer',
    _BERT_LAYER
    | {
      'attention/query': 'attention.attn.q',
      'attention/key': 'attention.attn.k',
      'attention/value': 'attention.attn.v',
      'attention/out': 'attention.attn.o',
      'attention_norm': 'attention.LayerNorm',
    },
  )
  | {
    'relative/kernel': 'encoder.relative_attention_bias.weight|as-is',
    'pooler': 'pooler.dense',
  },
  _ROBERTA.heads,
  'mpnet.',
  twin=_ROBERTA.twin,
  extra=_ROBERTA.extra,
)

# Its masked head has two spellings: the one that its authors trained, and that of
# classes which knew no better.
_DEBERTA_HEAD, _DEBERTA_LEGACY = 'lm_predictions.lm_head', 'cls.predictions'
_DEBERTA_V2 = Names(
  _BERT_EMBEDDING
  | _layers(
    '',
    'encoder.layer',
    _BERT_LAYER
    | {
      'attention/query': 'attention.self.query_proj',
      'attention/key': 'attention.self.key_proj',
      'attention/value': 'attention.self.value_proj',
    },
  )
  | {
    'relative/table': 'encoder.rel_embeddings.weight',
    'relative/norm': 'encoder.LayerNorm',
  },
  _TOKEN_HEADS
  | {
    'masked': {
      'head/transform': f'{_DEBERTA_HEAD}.dense',
      'head/norm': f'{_DEBERTA_HEAD}.LayerNorm',
      'head/bias': f'{_DEBERTA_HEAD}.bias',
      'head/kernel': f'{_DEBERTA_LEGACY}.decoder.weight',
    },
    'classifier': {'head/pooler': 'pooler.dense', 'head': 'classifier'},
  },
  'deberta.',
  extra=(
    r'(lm_|mask_|cls\.)predictions\..*',
    r'embeddings\.position_embeddings\.weight',
    r'encoder\.LayerNorm\..*',
  ),
  others={
    f'{_DEBERTA_HEAD}.{module}.{leaf}': (
      f'{_DEBERTA_LEGACY}.transform.{module}.{leaf}',
    )
    for module in ('dense', 'LayerNorm')
    for leaf in ('weight', 'bias')
  }
  | {
    f'{_DEBERTA_HEAD}.bias': (
      f'{_DEBERTA_LEGACY}.decoder.bias',
      f'{_DEBERTA_LEGACY}.bias',
    )
  },
)

_DISTILBERT = Names(
  _BERT_EMBEDDING
  | _layers(
    '',
    'transformer.layer',
    {
      'attention/query': 'attention.q_lin',
      'attention/key': 'attention.k_lin',
      'attention/value': 'attention.v_lin',
      'attention/out': 'attention.out_lin',
      'attention_norm': 'sa_layer_norm',
      'mlp/in': 'ffn.lin1',
      'mlp/out': 'ffn.lin2',
      'mlp_norm': 'output_layer_norm',
    },
  ),
  _TOKEN_HEADS
  | {
    'masked': {
      'head/transform': 'vocab_transform',
      'head/norm': 'vocab_layer_norm',
      'head/bias': 'vocab_projector.bias',
      'head/kernel': 'vocab_projector.weight',
    },
    'classifier': {'head/pooler': 'pre_classifier', 'head': 'classifier'},
  },
  'distilbert.',
  extra=(r'vocab_projector\.weight',),
)

_ELECTRA = Names(
  _BERT_EMBEDDING
  | {'embedding/project': 'embeddings_project'}
  | _layers('', 'encoder.layer', _BERT_LAYER),
  _TOKEN_HEADS
  | {
    'masked': {
      'head/transform': 'generator_predictions.dense',
      'head/norm': 'generator_predictions.LayerNorm',
      'head/bias': 'generator_lm_head.bias',
      'head/kernel': 'generator_lm_head.weight',
    },
    'replaced': {
      'head/transform': 'discriminator_predictions.dense',
      'head': 'discriminator_predictions.dense_prediction',
    },
    'classifier': _POOLED_HEAD,
  },
  'electra.',
  extra=(r'generator_lm_head\.weight',),
)

_ALBERT = Names(
  _BERT_EMBEDDING
  | {'embedding/project': 'encoder.embedding_hidden_mapping_in', 'pooler': 'pooler'}
  | _layers(
    '',
    'encoder.albert_layer_groups',
    {
      f'{ours}': f'albert_layers.0.{theirs}'
      for ours, theirs in {
        'attention/query': 'attention.query',
        'attention/key': 'attention.key',
        'attention/value': 'attention.value',
        'attention/out': 'attention.dense',
        'attention_norm': 'attention.LayerNorm',
        'mlp/in': 'ffn',
        'mlp/out': 'ffn_output',
        'mlp_norm': 'full_layer_layer_norm',
      }.items()
    },
  ),
  _TOKEN_HEADS
  | {
    'masked': {
      'head/transform': 'predictions.dense',
      'head/norm': 'predictions.LayerNorm',
      'head/bias': 'predictions.bias',
      'head/kernel': 'predictions.decoder.weight',
      'head/pair': 'sop_classifier.classifier',
    },
    'classifier': {'head': 'classifier', 'head/pooler': 'albert.pooler'},
  },
  'albert.',
  twin=('predictions.bias', 'predictions.decoder.bias'),
  extra=(r'pooler\..*', r'sop_classifier\..*', r'predictions\.decoder\..*'),
)

_MODERN_POOLER = {
  'head/pooler': 'head.dense',
  'head/pooler/norm': 'head.norm',
  'head': 'classifier',
}
_MODERNBERT = Names(
  {
    'embedding/tokens': 'embeddings.tok_embeddings.weight',
    'embedding/norm': 'embeddings.norm',
    'final_norm': 'final_norm',
  }
  | _layers(
    '',
    'layers',
    {
      'attention/query': 'attn.Wqkv|0',
      'attention/key': 'attn.Wqkv|1',
      'attention/value': 'attn.Wqkv|2',
      'attention/out': 'attn.Wo',
      'attention_norm': 'attn_norm',
      'mlp/gate': 'mlp.Wi|0',
      'mlp/in': 'mlp.Wi|1',
      'mlp/out': 'mlp.Wo',
      'mlp_norm': 'mlp_norm',
    },
  ),
  {
    'masked': {
      'head/transform': 'head.dense',
      'head/norm': 'head.norm',
      'head/bias': 'decoder.bias',
      'head/kernel': 'decoder.weight',
    },
    'classifier': _MODERN_POOLER,
    'token': _MODERN_POOLER,
    'span': _MODERN_POOLER,
  },
  'model.',
  extra=(r'decoder\.weight',),
)

_GPT2 = Names(
  {
    'embedding/tokens': 'wte.weight',
    'embedding/positions': 'wpe.weight',
    'final_norm': 'ln_f',
  }
  | _layers(
    '',
    'h',
    {
      'attention/query': 'attn.c_attn|0',
      'attention/key': 'attn.c_attn|1',
      'attention/value': 'attn.c_attn|2',
      'attention/out': 'attn.c_proj',
      'attention_norm': 'ln_1',
      'mlp/in': 'mlp.c_fc',
      'mlp/out': 'mlp.c_proj',
      'mlp_norm': 'ln_2',
    },
  ),
  _TOKEN_HEADS
  | {
    'causal': {'head/kernel': 'lm_head.weight|turned'},
    'classifier': {'head/kernel': 'score.weight|turned'},
    'token': {'head/kernel': 'classifier.weight|turned', 'head': 'classifier'},
    'span': {'head/kernel': 'qa_outputs.weight|turned', 'head': 'qa_outputs'},
  },
  'transformer.',
  turned=False,
  extra=(r'h\.\d+\.attn\.(masked_)?bias', r'lm_head\.weight'),
)

_SCORE_HEADS = {
  'causal': {'head': 'lm_head'},
  'classifier': {'head': 'score'},
  'token': {'head': 'score'},
  'span': {'head': 'qa_outputs'},
}
_OPT = Names(
  {
    'embedding/tokens': 'decoder.embed_tokens.weight',
    'embedding/positions': 'decoder.embed_positions.weight',
    'embedding/project': 'decoder.project_in',
    'final_project': 'decoder.project_out',
    'final_norm': 'decoder.final_layer_norm',
  }
  | _layers(
    '',
    'decoder.layers',
    {
      'attention/query': 'self_attn.q_proj',
      'attention/key': 'self_attn.k_proj',
      'attention/value': 'self_attn.v_proj',
      'attention/out': 'self_attn.out_proj',
      'attention_norm': 'self_attn_layer_norm',
      'mlp/in': 'fc1',
      'mlp/out': 'fc2',
      'mlp_norm': 'final_layer_norm',
    },
  ),
  _SCORE_HEADS,
  'model.',
  extra=(r'lm_head\.weight',),
)

_LLAMA_LAYER = {
  'attention/query': 'self_attn.q_proj',
  'attention/key': 'self_attn.k_proj',
  'attention/value': 'self_attn.v_proj',
  'attention/query_norm': 'self_attn.q_norm',
  'attention/key_norm': 'self_attn.k_norm',
  'attention/out': 'self_attn.o_proj',
  'attention_norm': 'input_layernorm',
  'mlp/gate': 'mlp.gate_proj',
  'mlp/in': 'mlp.up_proj',
  'mlp/out': 'mlp.down_proj',
  'mlp_norm': 'post_attention_layernorm',
}
_LLAMA = Names(
  {'embedding/tokens': 'embed_tokens.weight', 'final_norm': 'norm'}
  | _layers('', 'layers', _LLAMA_LAYER),
  _SCORE_HEADS,
  'model.',
  {'span': 'transformer.'},
  extra=(r'lm_head\.weight',),
)
_PHI3 = _LLAMA._replace(
  body=_LLAMA.body
  | _layers(
    '',
    'layers',
    {
      'attention/query': 'self_attn.qkv_proj|0',
      'attention/key': 'self_attn.qkv_proj|1',
      'attention/value': 'self_attn.qkv_proj|2',
      'mlp/gate': 'mlp.gate_up_proj|0',
      'mlp/in': 'mlp.gate_up_proj|1',
    },
  )
)
# Its norms stand behind the sublayers: `post_attention_layernorm` is no longer the one
# before the MLP.
_OLMO2 = _LLAMA._replace(
  body=_LLAMA.body
  | _layers(
    '',
    'layers',
    {
      'attention_out_norm': 'post_attention_layernorm',
      'mlp_out_norm': 'post_feedforward_layernorm',
    },
  )
)
_GEMMA = _LLAMA._replace(
  body=_LLAMA.body
  | _layers(
    '',
    'layers',
    {
      'attention_out_norm': 'post_attention_layernorm',
      'mlp_norm': 'pre_feedforward_layernorm',
      'mlp_out_norm': 'post_feedforward_layernorm',
    },
  )
)


def _t5_stack(ours: str, theirs: str, mlp: int) -> dict:
  """A stack of T5, with the one input map `wi` of its plain MLP."""
  attention = {
    'attention/query': '0.SelfAttention.q',
    'attention/key': '0.SelfAttention.k',
    'attention/value': '0.SelfAttention.v',
    'attention/out': '0.SelfAttention.o',
    'attention_norm': '0.layer_norm',
  }
  cross = {
    name.replace('attention', 'cross'): place.replace('0.', '1.').replace(
      'Self', 'EncDec'
    )
    for name, place in attention.items()
  }
  rest = {
    'mlp/in': f'{mlp}.DenseReluDense.wi',
    'mlp/out': f'{mlp}.DenseReluDense.wo',
    'mlp_norm': f'{mlp}.layer_norm',
  }
  modules = attention | rest | (cross if mlp == 2 else {})
  return _layers(
    ours, f'{theirs}.block', {name: f'layer.{place}' for name, place in modules.items()}
  ) | {
    f'{ours}relative/kernel': f'{theirs}.block.0.layer.0.SelfAttention.relative_attention_bias.weight|as-is',
    f'{ours}final_norm': f'{theirs}.final_layer_norm',
  }


_T5_BODY = (
  {'embedding/tokens': 'shared.weight'}
  | _t5_stack('encoder/', 'encoder', 1)
  | _t5_stack('decoder/', 'decoder', 2)
  | _t5_stack('', 'encoder', 1)
)
_T5_GATED = {
  name.replace('mlp/in', part): f'{theirs}_{i}'
  for name, theirs in _T5_BODY.items()
  if name.endswith('mlp/in')
  for i, part in enumerate(('mlp/gate', 'mlp/in'))
}
_STACK_TABLES = ('encoder.embed_tokens.weight', 'decoder.embed_tokens.weight')
_SUMMARY_HEAD = {
  'head/pooler': 'classification_head.dense',
  'head': 'classification_head.out_proj',
}
_T5 = Names(
  _T5_BODY,
  {'causal': {'head/kernel': 'lm_head.weight'}, 'classifier': _SUMMARY_HEAD}
  | _TOKEN_HEADS,
  '',
  {'classifier': 'transformer.', 'token': 'transformer.'},
  gated=_T5_GATED,
  extra=(
    r'(encoder|decoder)\.embed_tokens\.weight',
    r'lm_head\.weight',
    r'decoder\.block\.0\.layer\.1\.EncDecAttention\.relative_attention_bias\.weight',
  ),
  tables=_STACK_TABLES,
)

# Every layer of UMT5 has a table of its own, where T5's first layer has it for all.
_OWN_TABLE = 'layer.0.SelfAttention.relative_attention_bias.weight|as-is'
_UMT5 = _T5._replace(
  body=_T5_BODY
  | {
    f'{ours}layers/{LAYER}/relative/kernel': f'{theirs}.block.{LAYER}.{_OWN_TABLE}'
    for ours, theirs in (
      ('encoder/', 'encoder'),
      ('decoder/', 'decoder'),
      ('', 'encoder'),
    )
  }
)


def _bart_stack(side: str) -> dict:
  attention = {
    'attention/query': 'self_attn.q_proj',
    'attention/key': 'self_attn.k_proj',
    'attention/value': 'self_attn.v_proj',
    'attention/out': 'self_attn.out_proj',
    'attention_norm': 'self_attn_layer_norm',
  }
  cross = {
    name.replace('attention', 'cross'): place.replace('self_attn', 'encoder_attn')
    for name, place in attention.items()
  }
  mlp = {'mlp/in': 'fc1', 'mlp/out': 'fc2', 'mlp_norm': 'final_layer_norm'}
  return _layers(f'{side}/', f'{side}.layers', attention | cross | mlp) | {
    f'{side}/embedding/positions': f'{side}.embed_positions.weight',
    f'{side}/embedding/norm': f'{side}.layernorm_embedding',
    f'{side}/final_norm': f'{side}.layer_norm',
  }


_BART = Names(
  {'embedding/tokens': 'shared.weight'}
  | _bart_stack('encoder')
  | _bart_stack('decoder'),
  {
    'causal': {'head/kernel': 'lm_head.weight', 'head/bias': 'final_logits_bias|row'},
    'classifier': _SUMMARY_HEAD,
    'span': {'head': 'qa_outputs'},
  },
  'model.',
  tables=_STACK_TABLES,
  zeros=('final_logits_bias',),
  extra=(
    r'(encoder|decoder)\.embed_tokens\.weight',
    r'lm_head\.weight',
    r'(encoder|decoder)\.version',
  ),
)
_SINUSOIDAL = _BART._replace(
  sines=('encoder.embed_positions.weight', 'decoder.embed_positions.weight')
)

# By `model_type` of config.json.
NAMES = {
  'bert': _BERT,
  'roberta': _ROBERTA,
  'xlm-roberta': _ROBERTA,
  'camembert': _ROBERTA,
  'distilbert': _DISTILBERT,
  'electra': _ELECTRA,
  'albert': _ALBERT,
  'mpnet': _MPNET,
  'deberta-v2': _DEBERTA_V2,
  'modernbert': _MODERNBERT,
  'gpt2': _GPT2,
  'opt': _OPT,
  'llama': _LLAMA,
  'mistral': _LLAMA._replace(bases={}),  # its class for questions keeps `model.`
  'qwen2': _LLAMA,
  'qwen3': _LLAMA,
  'gemma': _LLAMA,
  'gemma2': _GEMMA,
  'gemma3_text': _GEMMA,
  'granite': _LLAMA,
  'olmo2': _OLMO2,
  'smollm3': _LLAMA,
  'phi3': _PHI3,
  't5': _T5,
  'mt5': _T5,
  'umt5': _UMT5,
  'bart': _BART,
  'mbart': _BART,
  'marian': _SINUSOIDAL,
  'pegasus': _SINUSOIDAL,
}
# What modules of any family keep beside their parameters, in files of one age or
# another.
ALWAYS_EXTRA = (r'.*\b(position_ids|token_type_ids)', r'.*\brotary_emb\.\w+')


def place(
  family: str, head: str, name: str, *, gated: bool = False, bare: bool = False
) -> Place:
  """Where the parameter `name` of ours lies in a checkpoint of the family with this
  head.

  gated: T5 calls its input maps otherwise then. bare: the checkpoint is of the body
  alone, without `base`. Raises ValueError for a parameter that the family has no name
  for.
  """
  names = NAMES[family]
  layer = re.search(r'(?<=layers/)\d+', name)
  pattern = re.sub(r'(?<=layers/)\d+', LAYER, name)
  module, _, leaf = pattern.rpartition('/')
  own = names.heads.get(head, {})
  tables = (own, names.gated if gated else {}, names.body)
  found = next(
    (table[key] for table in tables for key in (pattern, module) if key in table), None
  )
  if found is None:
    raise ValueError(
      f'{name}: a {family} checkpoint with head {head!r} has no place for it'
    )
  theirs, _, mark = found.partition('|')
  whole = pattern in own or (module not in own and pattern in names.body)
  theirs = theirs if whole else f'{theirs}.{LEAVES[leaf]}'
  in_body = pattern not in own and module not in own
  base = '' if bare or not in_body else names.bases.get(head, names.base)
  part = int(mark) if mark.isdecimal() else 0
  transpose = (
    leaf == 'kernel' and mark != 'as-is' and (names.turned or mark == 'turned')
  )
  theirs = (base + theirs).replace(LAYER, layer.group() if layer else '')
  return Place(theirs, transpose, part, row=mark == 'row')


def is_spare(family: str, name: str, kind: str) -> bool:
  """May a folder of the family hold this tensor besides what a model of this kind
  needs?

  Those of other heads, buffers, and of an encoder that was made of an encoder-decoder
  the other stack.
  """
  names = NAMES[family]
  below = next(
    (
      name.removeprefix(base)
      for base in (names.base, *names.bases.values())
      if base and name.startswith(base)
    ),
    name,
  )
  patterns = names.extra + names.twin + ALWAYS_EXTRA
  if any(re.fullmatch(pattern, one) for pattern in patterns for one in (name, below)):
    return True
  if (
    kind == 'encoder'
    and any(ours.startswith('decoder/') for ours in names.body)
    and below.startswith('decoder.')
  ):
    return True
  heads = {
    theirs.partition('|')[0]
    for head in names.heads.values()
    for theirs in head.values()
  }
  return any(name == module or name.startswith(f'{module}.') for module in heads)


def from_theirs(where: Place, tensor: np.ndarray) -> np.ndarray:
  """Our array, as a view of a whole tensor of theirs."""
  tensor = tensor[0] if where.row else tensor
  ours = tensor.T if where.transpose else tensor
  return ours if where.columns is None else ours[..., slice(*where.columns)]


def to_theirs(places: dict[str, Place], arrays: dict) -> dict[str, np.ndarray]:
  """Their tensors by name, from our arrays by name: the inverse of `from_theirs` over a
  whole model.
  """
  return {name: read() for name, _, _, read in lazily(places, arrays)}


def lazily(places: dict[str, Place], arrays: dict):
  """(name, shape, dtype, read) of each of their tensors, in the order of their names;
  read() makes one tensor.
  """
  groups = {}
  for name, where in places.items():
    groups.setdefault(where.name, []).append((where, arrays[name]))
  for name in sorted(groups):
    found = sorted(groups[name], key=lambda pair: pair[0].part)
    where, first = found[0]
    shape = (*first.shape[:-1], sum(array.shape[-1] for _, array in found))
    shape = (1, *shape) if where.row else shape[::-1] if where.transpose else shape
    yield name, shape, np.dtype(first.dtype), lambda found=found: _join(found)


def _join(found) -> np.ndarray:
  where = found[0][0]
  arrays = [np.asarray(array) for _, array in found]
  ours = arrays[0] if len(arrays) == 1 else np.concatenate(arrays, -1)
  ours = ours[None] if where.row else ours.T if where.transpose else ours
  return np.ascontiguousarray(ours)


def places(
  family: str, head: str, params, *, gated: bool = False, bare: bool = False
) -> dict[str, Place]:
  """The place of every parameter of a tree, of arrays or of their shapes."""
  flat = tree.flatten(params)
  found = {name: place(family, head, name, gated=gated, bare=bare) for name in flat}
  together = collections.defaultdict(list)
  for name, where in found.items():
    together[where.name].append(name)
  for parts in together.values():
    begin = 0
    for name in (
      sorted(parts, key=lambda name: found[name].part) if len(parts) > 1 else ()
    ):
      end = begin + flat[name].shape[-1]
      found[name] = found[name]._replace(columns=(begin, end))
      begin = end
  return found
