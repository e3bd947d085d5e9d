"""The configurations of the small checkpoints of `cases`, by family."""

_SMALL = dict(
  vocab_size=61,
  hidden_size=24,
  num_hidden_layers=3,
  num_attention_heads=2,
  intermediate_size=40,
  max_position_embeddings=32,
)
_GROUPED = _SMALL | dict(
  num_attention_heads=4, num_key_value_heads=2, pad_token_id=0, rms_norm_eps=1e-3
)
_LLAMA3 = dict(
  rope_theta=100.0,
  rope_type='llama3',
  factor=4.0,
  low_freq_factor=1.0,
  high_freq_factor=4.0,
  original_max_position_embeddings=8,
)
_LONG = dict(
  rope_parameters=dict(
    rope_type='longrope',
    rope_theta=100.0,
    short_factor=[1.0, 1.5, 2.0],
    long_factor=[1.0, 4.0, 9.0],
  )
)
_T5 = dict(
  vocab_size=61,
  d_model=24,
  d_kv=10,
  d_ff=40,
  num_layers=2,
  num_decoder_layers=3,
  num_heads=2,
  relative_attention_num_buckets=8,
  relative_attention_max_distance=10,
  layer_norm_epsilon=1e-3,
  decoder_start_token_id=0,
)
_BART = dict(
  vocab_size=61,
  d_model=24,
  encoder_layers=2,
  decoder_layers=3,
  encoder_attention_heads=2,
  decoder_attention_heads=2,
  encoder_ffn_dim=40,
  decoder_ffn_dim=40,
  max_position_embeddings=32,
  scale_embedding=True,
)
_TOKENS = dict(
  pad_token_id=0, eos_token_id=1, bos_token_id=2, cls_token_id=2, sep_token_id=3
)
_ENCODER = (
  'Model',
  'ForMaskedLM',
  'ForSequenceClassification',
  'ForTokenClassification',
  'ForQuestionAnswering',
)
_DECODER = (
  'Model',
  'ForCausalLM',
  'ForSequenceClassification',
  'ForTokenClassification',
  'ForQuestionAnswering',
)
# name: (prefix of the classes, prefix of the config, its values, suffixes of the
# classes)
GROUPS = {
  'bert': ('Bert', 'Bert', _SMALL | dict(layer_norm_eps=1e-3), _ENCODER),
  'bert-relu': ('Bert', 'Bert', _SMALL | dict(hidden_act='relu'), ('ForMaskedLM',)),
  'bert-untied': (
    'Bert',
    'Bert',
    _SMALL | dict(tie_word_embeddings=False),
    ('ForMaskedLM',),
  ),
  'roberta': (
    'Roberta',
    'Roberta',
    _SMALL | dict(hidden_act='relu', layer_norm_eps=1e-3),
    _ENCODER,
  ),
  'xlm-roberta': (
    'XLMRoberta',
    'XLMRoberta',
    _SMALL | dict(layer_norm_eps=1e-3, type_vocab_size=1),
    _ENCODER,
  ),
  'camembert': ('Camembert', 'Camembert', _SMALL | dict(hidden_act='relu'), _ENCODER),
  'mpnet': (
    'MPNet',
    'MPNet',
    _SMALL | dict(hidden_act='relu', layer_norm_eps=1e-3),
    _ENCODER,
  ),
  'deberta-v2': (
    'DebertaV2',
    'DebertaV2',
    _SMALL
    | dict(
      layer_norm_eps=1e-3,
      relative_attention=True,
      position_buckets=8,
      max_relative_positions=16,
      legacy=False,
      pos_att_type=['p2c', 'c2p'],
      share_att_key=True,
      norm_rel_ebd='layer_norm',
      position_biased_input=False,
    ),
    _ENCODER,
  ),
  'deberta-v2-plain': (
    'DebertaV2',
    'DebertaV2',
    _SMALL | dict(type_vocab_size=2, pooler_hidden_act='relu'),
    ('Model', 'ForSequenceClassification'),
  ),
  'distilbert': (
    'DistilBert',
    'DistilBert',
    dict(
      vocab_size=61,
      dim=24,
      n_layers=2,
      n_heads=2,
      hidden_dim=40,
      max_position_embeddings=32,
    ),
    _ENCODER,
  ),
  'electra': (
    'Electra',
    'Electra',
    _SMALL | dict(embedding_size=16, hidden_act='relu'),
    (*_ENCODER, 'ForPreTraining'),
  ),
  'albert': (
    'Albert',
    'Albert',
    _SMALL | dict(embedding_size=16, num_hidden_groups=2, num_hidden_layers=4),
    _ENCODER,
  ),
  'modernbert': (
    'ModernBert',
    'ModernBert',
    _SMALL | _TOKENS | dict(local_attention=4, norm_eps=1e-3, num_hidden_layers=4),
    _ENCODER,
  ),
  'modernbert-mean': (
    'ModernBert',
    'ModernBert',
    _SMALL | _TOKENS | dict(classifier_pooling='mean'),
    ('ForSequenceClassification',),
  ),
  'gpt2': (
    'GPT2',
    'GPT2',
    dict(
      vocab_size=61,
      n_embd=24,
      n_layer=2,
      n_head=2,
      n_positions=32,
      pad_token_id=0,
      layer_norm_epsilon=1e-3,
    ),
    ('Model', 'LMHeadModel', *_DECODER[2:]),
  ),
  'gpt2-untied': (
    'GPT2',
    'GPT2',
    dict(
      vocab_size=61,
      n_embd=24,
      n_layer=2,
      n_head=2,
      n_positions=32,
      n_inner=30,
      activation_function='relu',
      tie_word_embeddings=False,
    ),
    ('LMHeadModel',),
  ),
  'opt': (
    'OPT',
    'OPT',
    dict(
      vocab_size=61,
      hidden_size=24,
      num_hidden_layers=2,
      num_attention_heads=2,
      ffn_dim=40,
      max_position_embeddings=32,
      word_embed_proj_dim=24,
    ),
    (*_DECODER[:3], _DECODER[4]),
  ),
  'opt-350m': (
    'OPT',
    'OPT',
    dict(
      vocab_size=61,
      hidden_size=24,
      num_hidden_layers=2,
      num_attention_heads=2,
      ffn_dim=40,
      word_embed_proj_dim=16,
      max_position_embeddings=32,
      do_layer_norm_before=False,
    ),
    (*_DECODER[:3], _DECODER[4]),
  ),
  'llama': (
    'Llama',
    'Llama',
    _GROUPED
    | dict(head_dim=16, attention_bias=True, mlp_bias=True, rope_parameters=_LLAMA3),
    _DECODER,
  ),
  'llama-linear': (
    'Llama',
    'Llama',
    _GROUPED
    | dict(
      tie_word_embeddings=True,
      rope_parameters=dict(rope_theta=100.0, rope_type='linear', factor=2.0),
    ),
    ('ForCausalLM',),
  ),
  'mistral': ('Mistral', 'Mistral', _GROUPED | dict(sliding_window=5), _DECODER),
  'qwen2': (
    'Qwen2',
    'Qwen2',
    _GROUPED | dict(use_sliding_window=True, sliding_window=4, max_window_layers=1),
    _DECODER,
  ),
  'qwen3': (
    'Qwen3',
    'Qwen3',
    _GROUPED | dict(head_dim=10, hidden_act='gelu_new'),
    _DECODER,
  ),
  'gemma': (
    'Gemma',
    'Gemma',
    _GROUPED | dict(hidden_size=12, head_dim=4),
    _DECODER[:4],
  ),
  'gemma2': (
    'Gemma2',
    'Gemma2',
    _GROUPED
    | dict(
      head_dim=10,
      sliding_window=4,
      query_pre_attn_scalar=9,
      attn_logit_softcapping=2.0,
      final_logit_softcapping=3.0,
    ),
    _DECODER[:4],
  ),
  'gemma3': (
    'Gemma3',
    'Gemma3Text',
    _GROUPED
    | dict(
      head_dim=10,
      sliding_window=4,
      num_hidden_layers=4,
      query_pre_attn_scalar=9,
      layer_types=[
        'sliding_attention',
        'sliding_attention',
        'full_attention',
        'sliding_attention',
      ],
      rope_parameters=dict(
        full_attention=dict(rope_theta=1000.0, rope_type='linear', factor=2.0),
        sliding_attention=dict(rope_theta=10.0, rope_type='default'),
      ),
    ),
    ('TextModel', 'ForCausalLM', 'TextForSequenceClassification'),
  ),
  'granite': (
    'Granite',
    'Granite',
    _GROUPED
    | dict(
      embedding_multiplier=3.0,
      attention_multiplier=0.2,
      residual_multiplier=0.6,
      logits_scaling=2.0,
    ),
    _DECODER[:2],
  ),
  'olmo2': ('Olmo2', 'Olmo2', _GROUPED, _DECODER[:3]),
  'smollm3': (
    'SmolLM3',
    'SmolLM3',
    _GROUPED
    | dict(
      num_hidden_layers=4,
      no_rope_layer_interval=2,
      use_sliding_window=True,
      sliding_window=5,
    ),
    _DECODER,
  ),
  'phi3': ('Phi3', 'Phi3', _GROUPED | dict(sliding_window=5), _DECODER[:4]),
  'phi3-long': (
    'Phi3',
    'Phi3',
    _GROUPED | _LONG | dict(original_max_position_embeddings=7),
    ('ForCausalLM',),
  ),
  'phi3-short': (
    'Phi3',
    'Phi3',
    _GROUPED | _LONG | dict(original_max_position_embeddings=20),
    ('ForCausalLM',),
  ),
  't5': (
    'T5',
    'T5',
    _T5,
    ('Model', 'EncoderModel', 'ForConditionalGeneration', *_DECODER[2:]),
  ),
  't5-1.1': (
    'T5',
    'T5',
    _T5 | dict(d_ff=30, feed_forward_proj='gated-gelu', tie_word_embeddings=False),
    ('ForConditionalGeneration', 'EncoderModel'),
  ),
  'mt5': (
    'MT5',
    'MT5',
    _T5 | dict(d_ff=30, feed_forward_proj='gated-gelu'),
    ('Model', 'EncoderModel', 'ForConditionalGeneration', *_DECODER[2:]),
  ),
  'umt5': (
    'UMT5',
    'UMT5',
    _T5 | dict(d_ff=30, feed_forward_proj='gated-gelu'),
    ('Model', 'EncoderModel', 'ForConditionalGeneration', *_DECODER[2:]),
  ),
  'umt5-untied': (
    'UMT5',
    'UMT5',
    _T5 | dict(d_ff=30, feed_forward_proj='gated-gelu', tie_word_embeddings=False),
    ('ForConditionalGeneration',),
  ),
  'bart': (
    'Bart',
    'Bart',
    _BART | dict(activation_function='relu'),
    (
      'Model',
      'ForConditionalGeneration',
      'ForSequenceClassification',
      'ForQuestionAnswering',
    ),
  ),
  'mbart': (
    'MBart',
    'MBart',
    _BART | dict(activation_function='relu'),
    (
      'Model',
      'ForConditionalGeneration',
      'ForSequenceClassification',
      'ForQuestionAnswering',
    ),
  ),
  'marian': (
    'Marian',
    'Marian',
    _BART
    | dict(
      decoder_layers=2,
      encoder_layers=3,
      activation_function='swish',
      decoder_ffn_dim=30,
      pad_token_id=60,
      decoder_start_token_id=60,
    ),
    ('Model', 'MTModel'),
  ),
  'pegasus': (
    'Pegasus',
    'Pegasus',
    _BART | dict(activation_function='relu', decoder_attention_heads=3),
    ('Model', 'ForConditionalGeneration'),
  ),
  'bart-uneven': (
    'Bart',
    'Bart',
    _BART | dict(decoder_attention_heads=3, decoder_ffn_dim=30),
    ('ForConditionalGeneration',),
  ),
}
