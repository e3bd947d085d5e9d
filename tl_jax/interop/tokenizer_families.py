"""The tokenizer families of Hugging Face: their classes, models and role pieces.

>>> CLASSES['DistilBertTokenizer'], MODELS['mistral'], ROLES['t5']['eos']
('bert', 'llama', '</s>')
"""

# The class that takes a tokenizer.json as it is.
GENERIC = 'PreTrainedTokenizerFast'

_BERT_CLASSES = (
  'BertTokenizer',
  'DistilBertTokenizer',
  'ElectraTokenizer',
  'MobileBertTokenizer',
)
_ROBERTA_CLASSES = (
  'RobertaTokenizer',
  'BartTokenizer',
  'LongformerTokenizer',
  'LEDTokenizer',
)
# The family of a tokenizer by its class, without `Fast`.
CLASSES = dict.fromkeys(_BERT_CLASSES, 'bert')
CLASSES |= dict.fromkeys(_ROBERTA_CLASSES, 'roberta')
CLASSES |= dict.fromkeys(('T5Tokenizer', 'MT5Tokenizer'), 't5')
CLASSES |= {
  'GPT2Tokenizer': 'gpt2',
  'AlbertTokenizer': 'albert',
  'XLMRobertaTokenizer': 'xlm-roberta',
  'CamembertTokenizer': 'camembert',
  'MPNetTokenizer': 'mpnet',
  'MBartTokenizer': 'mbart',
  'MBart50Tokenizer': 'mbart50',
  'PegasusTokenizer': 'pegasus',
  'MarianTokenizer': 'marian',
  'DebertaV2Tokenizer': 'deberta-v2',
  'LlamaTokenizer': 'llama',
  'GemmaTokenizer': 'gemma',
}

# Model types that give their name to the family of their tokenizer.
_OWN_NAMES = (
  'albert',
  'xlm-roberta',
  'camembert',
  'mpnet',
  'deberta-v2',
  'mbart',
  'pegasus',
  'marian',
)
# The family of a tokenizer by the `model_type`, where no class is named.
MODELS = dict.fromkeys(('bert', 'distilbert', 'electra', 'mobilebert'), 'bert')
MODELS |= dict.fromkeys(('gpt2', 'gpt_neo', 'gptj', 'opt'), 'gpt2')
MODELS |= dict.fromkeys(('roberta', 'bart', 'longformer'), 'roberta')
MODELS |= dict.fromkeys(('t5', 'mt5', 'umt5', 'switch_transformers'), 't5')
MODELS |= {name: name for name in _OWN_NAMES}
MODELS |= dict.fromkeys(('llama', 'mistral', 'mixtral'), 'llama')
MODELS |= dict.fromkeys(('gemma', 'gemma2', 'gemma3', 'gemma3_text'), 'gemma')

# Classes that pad on the left where a folder does not say, as their models generate.
LEFT = (
  'LlamaTokenizer',
  'GemmaTokenizer',
  'CodeLlamaTokenizer',
  'CohereTokenizer',
  'XLNetTokenizer',
)

_BERT = dict(unk='[UNK]', sep='[SEP]', pad='[PAD]', cls='[CLS]', mask='[MASK]')
_ALBERT = dict(
  bos='[CLS]',
  eos='[SEP]',
  unk='<unk>',
  sep='[SEP]',
  pad='<pad>',
  cls='[CLS]',
  mask='[MASK]',
)
_ROBERTA = dict(
  bos='<s>',
  eos='</s>',
  unk='<unk>',
  sep='</s>',
  pad='<pad>',
  cls='<s>',
  mask='<mask>',
)
_T5 = dict(eos='</s>', unk='<unk>', pad='<pad>')
_MBART50 = {role: piece for role, piece in _ROBERTA.items() if role != 'bos'}
# The pieces of the roles where a folder does not say.
ROLES = {
  'bert': _BERT,
  'gpt2': dict(bos='<|endoftext|>', eos='<|endoftext|>', unk='<|endoftext|>'),
  'roberta': _ROBERTA,
  't5': _T5,
  'albert': _ALBERT,
  'llama': dict(bos='<s>', eos='</s>', unk='<unk>'),
  'gemma': dict(bos='<bos>', eos='<eos>', unk='<unk>', pad='<pad>', mask='<mask>'),
  'xlm-roberta': _ROBERTA,
  'camembert': _ROBERTA,
  'mpnet': _ROBERTA | dict(unk='[UNK]'),
  'mbart': _ROBERTA,
  'mbart50': _MBART50,
  'pegasus': _T5 | dict(mask='<mask_2>'),
  'marian': _T5,
  'deberta-v2': _BERT | dict(bos='[CLS]', eos='[SEP]'),
}

_WORDPIECE = dict(
  type='WordPiece', continuing_subword_prefix='##', max_input_chars_per_word=100
)
_BYTE_PAIRS = dict(
  type='BPE',
  byte_fallback=False,
  ignore_merges=False,
  continuing_subword_prefix='',
  fuse_unk=False,
)
_CHARACTER_PAIRS = dict(
  type='BPE', byte_fallback=True, ignore_merges=False, fuse_unk=True
)
_UNIGRAM = dict(type='Unigram', byte_fallback=False)
# What transformers 5 puts into the model whatever tokenizer.json says.
FIXED_MODELS = {
  'bert': _WORDPIECE,
  'mpnet': _WORDPIECE,
  'gpt2': _BYTE_PAIRS,
  'roberta': _BYTE_PAIRS,
  'llama': _CHARACTER_PAIRS,
  'gemma': _CHARACTER_PAIRS,
  't5': _UNIGRAM | dict(unk_id=2),
  'albert': _UNIGRAM | dict(unk_id=1),
  'xlm-roberta': _UNIGRAM | dict(unk_id=3),
  'camembert': _UNIGRAM | dict(unk_id=3),
  'deberta-v2': _UNIGRAM,
}
