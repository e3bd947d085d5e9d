"""Runs whose answers are texts, end to end: what is learned, kept, measured, written and
gone on with.
"""

import json
import types

import jax
import numpy as np
import pytest

from tl_jax import config, data, evals, interop, models, tasks, train, tree
from tl_jax import metrics as metrics_of
from tl_jax.config import ConfigError
from tl_jax.train import datasets, preparing, writing
from tl_jax.train.checks import check

SHAPES = ('tiny-t5', 'tiny-gpt')
# The least that trains: one layer of width 16.
QUICK = [
  ('tokenizer.size', '320'),
  ('data.length', '32'),
  ('data.batch', '4'),
  ('data.target_length', '8'),
  ('schedule.steps', '4'),
  ('schedule.warmup', '1'),
  ('checkpoint.every', '2'),
  ('checkpoint.keep', '5'),
  ('eval.every', '2'),
  ('log.every', '1'),
  ('log.tensorboard', 'false'),
]
METHODS = (
  *('probe', 'bitfit', 'norms', 'last', 'subset', 'dora', 'qlora', 'ia3', 'diff'),
  *('adapter', 'prompt', 'prefix', 'lora+l2sp', 'full+mixout', 'full+prior_decay'),
  *('full+unfreeze', 'full+rdrop', 'prompt+lora'),
)
COLORS = ('red', 'blue', 'green', 'pink', 'gray')
ANIMALS = ('cat', 'dog', 'cow', 'pig')


def model_of(family):
  small = dict(family=family, layers=1, width=16, heads=2, mlp=16)
  if family == 'tiny-t5':
    # As T5 scales its output by the width.
    small |= dict(head_dim=8, output_scale=0.25)
  return ('model', str(small))


@pytest.fixture(scope='module')
def file(tmp_path_factory):
  """Colours and animals, of which the answer names the two the other way round."""
  rows = []
  for color in COLORS:
    for animal in ANIMALS:
      split = 'test' if len(rows) % 5 == 0 else 'train'
      text = f'the {color} {animal} runs'
      rows.append(dict(text=text, answer=f'{animal} {color}', split=split))
  path = tmp_path_factory.mktemp('file') / 'pairs.jsonl'
  path.write_text('\n'.join(map(json.dumps, rows)))
  return path


def text_config(file, argument='', more=()):
  spec = f'configs/transfer.py:task={file},target=answer{argument}'
  return config.load(spec, [*QUICK, *more])


def lines(path):
  return [json.loads(line) for line in path.read_text().splitlines()]


@pytest.fixture(scope='module', params=SHAPES)
def trained(request, file, tmp_path_factory):
  """(workdir, result) of four steps from scratch."""
  workdir = tmp_path_factory.mktemp(request.param)
  more = [model_of(request.param)]
  result = train.transfer(text_config(file, more=more), workdir)
  return workdir, result


def test_a_run_leaves_what_it_wrote_and_how_good_it_is(trained):
  workdir, result = trained
  found = lines(workdir / 'predictions.jsonl')
  assert len(found) == result['n'] == 4
  assert found[0].keys() == {'index', 'source', 'prediction', 'reference'}
  assert found[0]['source'] == 'the red cat runs'
  assert found[0]['reference'] == 'cat red'
  metrics = result['metrics']
  assert {'loss', 'perplexity', 'token_accuracy', 'rougeL', 'chrf'} <= metrics.keys()
  assert result['signatures']['chrf'].startswith('nrefs:1|')
  exact = np.mean([row['prediction'] == row['reference'] for row in found])
  assert metrics['exact_match'] == exact
  middle, last = lines(workdir / 'evaluations.jsonl')
  assert (middle['step'], last['step']) == (2, 4)
  assert middle['validation/perplexity'] > last['validation/perplexity']
  assert 'validation/rougeL' not in middle


def test_evaluation_says_the_same_and_writes_the_same(trained):
  workdir, result = trained
  before = (workdir / 'predictions.jsonl').read_text()
  again = train.evaluate(workdir)
  assert again['metrics'] == pytest.approx(result['metrics'])
  assert again['n'] == 4
  assert (workdir / 'predictions.jsonl').read_text() == before


def test_unlabelled_texts_get_what_the_evaluation_wrote(trained, tmp_path):
  workdir, _ = trained
  known = lines(workdir / 'predictions.jsonl')
  source = tmp_path / 'in.jsonl'
  source.write_text('\n'.join(json.dumps(dict(text=row['source'])) for row in known))
  output = tmp_path / 'out.jsonl'
  request = train.Request(str(workdir), str(source), str(output))
  train.predict(request)
  found = [row['text'] for row in lines(output)]
  assert found == [row['prediction'] for row in known]
  # Put to it in other words, a model says something else, if only of how sure it is.
  other = tmp_path / 'other.jsonl'
  train.predict(request._replace(output=str(other), template='cow {text}'))
  assert [row['score'] for row in lines(other)] != [
    row['score'] for row in lines(output)
  ]


def written_by(workdir, output, decoding, *more):
  """What a model writes for the test split, decoded in this way."""
  overrides = [('task.decoding', str(decoding)), *more]
  train.evaluate(workdir, overrides=overrides, output=str(output))
  return [row['prediction'] for row in lines(output)]


def test_texts_are_drawn_by_seed_and_number_alone(trained, tmp_path):
  workdir, _ = trained
  output = tmp_path / 'out.jsonl'
  greedy = [row['prediction'] for row in lines(workdir / 'predictions.jsonl')]
  drawn = written_by(workdir, output, dict(method='sample'))
  assert drawn != greedy
  # The same whatever the batches, and of the likeliest piece alone what is greedy.
  again = written_by(workdir, output, dict(method='sample'), ('data.batch', '3'))
  assert again == drawn
  assert written_by(workdir, output, dict(method='sample', seed=1)) != drawn
  assert written_by(workdir, output, dict(method='sample', top_k=1)) == greedy


@pytest.fixture(scope='module')
def creative(file, tmp_path_factory):
  """(workdir, result) of a run whose texts are drawn and scored as free ones."""
  workdir = tmp_path_factory.mktemp('creative')
  more = [
    model_of('tiny-gpt'),
    ('eval.every', '0'),
    ('task.decoding', str(dict(method='sample', top_p=0.9))),
    ('task.metrics', "('distinct', 'copying')"),
  ]
  return workdir, train.transfer(text_config(file, more=more), workdir)


def test_free_texts_are_compared_with_the_training_text(creative, file, tmp_path):
  workdir, result = creative
  metrics = result['metrics']
  assert {'perplexity', 'distinct_2', 'copying_8', 'longest_copy'} <= metrics.keys()
  targets = [row['answer'] for row in lines(file) if row['split'] == 'test']
  expected = metrics_of.distinct(targets)['distinct_2']
  assert metrics['reference/distinct_2'] == expected
  assert train.evaluate(workdir)['metrics'] == pytest.approx(metrics)
  # On another file, what was copied is still of what the run learned.
  other = tmp_path / 'other.jsonl'
  text = 'the red dog runs'
  rows = [dict(text='x', answer=text, split=split) for split in ('train', 'test')]
  other.write_text('\n'.join(map(json.dumps, rows)))
  found = train.evaluate(
    workdir, overrides=[('task.name', str(other))], output=str(tmp_path / 'o')
  )
  assert found['metrics']['reference/copying_4'] == 1.0


def test_unlabelled_texts_are_drawn_as_in_the_evaluation(creative, tmp_path):
  workdir, _ = creative
  known = lines(workdir / 'predictions.jsonl')
  source = tmp_path / 'in.jsonl'
  source.write_text('\n'.join(json.dumps(dict(text=row['source'])) for row in known))
  request = train.Request(str(workdir), str(source), str(tmp_path / 'out.jsonl'))
  train.predict(request)
  drawn = [row['text'] for row in lines(tmp_path / 'out.jsonl')]
  assert drawn == [row['prediction'] for row in known]
  # What top_p says is not of another method.
  greedy = request._replace(
    output=str(tmp_path / 'greedy.jsonl'), decoding=dict(method='greedy')
  )
  train.predict(greedy)
  assert [row['text'] for row in lines(tmp_path / 'greedy.jsonl')] != drawn


def test_the_vocabulary_is_of_texts_and_targets(trained):
  pieces = train.load(trained[0]).tokenizer.pieces
  assert any('red' in piece for piece in pieces)


@pytest.fixture(scope='module')
def adapted(trained, file, tmp_path_factory):
  """The workdir of a LoRA from the model of `trained`."""
  workdir = tmp_path_factory.mktemp('lora')
  argument = f',init={trained[0]},method=lora'
  train.transfer(text_config(file, argument), workdir)
  return workdir


def test_lora_keeps_the_head_and_moves_the_layers(trained, adapted):
  before, after = (
    tree.flatten(train.restore(folder)) for folder in (trained[0], adapted)
  )
  assert before.keys() == after.keys()
  moved = {
    name
    for name, leaf in before.items()
    if not np.array_equal(np.asarray(leaf), np.asarray(after[name]))
  }
  # Also a head with a matrix of its own, which is no new one.
  assert moved and all(
    name.endswith(('query/kernel', 'value/kernel')) for name in moved
  )
  account = json.loads((adapted / 'account.json').read_text())['counts']
  assert account['copied'] == len(before) and not account['fresh']
  result = json.loads((adapted / 'result.json').read_text())
  assert train.evaluate(adapted)['metrics'] == pytest.approx(
    result['metrics'], abs=1e-5
  )


def test_a_run_goes_on_to_the_same_end_bit_for_bit(trained, file, tmp_path):
  whole, result = trained
  loaded = text_config(file, more=[model_of(family_of(whole))])
  train.transfer(loaded, tmp_path / 'cut')
  # Back to step 2.
  for path in (tmp_path / 'cut' / 'checkpoints').glob('*4*'):
    path.rename(tmp_path / path.name)
  (tmp_path / 'cut' / 'result.json').unlink()
  again = train.transfer(loaded, tmp_path / 'cut')
  assert again['metrics'] == result['metrics']
  jax.tree.map(
    np.testing.assert_array_equal, train.restore(whole), train.restore(tmp_path / 'cut')
  )


def family_of(workdir):
  return json.loads((workdir / 'config.json').read_text())['config']['model']['family']


def test_what_is_too_long_is_cut_and_told(file, tmp_path):
  more = [model_of('tiny-t5'), ('data.target_length', '2')]
  ready = preparing.prepare(check(text_config(file, more=more)), tmp_path)
  (line,) = [
    line for line in ready.lines(ready.settings, np.arange(16)) if ' cut to ' in line
  ]
  assert '16 train targets cut to 2 tokens' in line
  assert '4 test targets cut to 2 tokens' in line
  # An end is kept; of all targets, none is whole.
  (_, cut), targets = ready.corpus.train.cut, ready.corpus.train.targets
  whole = [len(ready.tokenizer.encode(one, special=False)) for (one,) in targets]
  assert cut.whole.tolist() == [length + 1 for length in whole]
  assert f'; {max(whole) + 1} would keep 99 % whole' in line


def test_an_encoder_is_refused_for_texts_to_write(pretrained, file, tmp_path):
  with pytest.raises(ConfigError, match='config.task.target: .*pairs.jsonl') as error:
    train.transfer(text_config(file, f',init={pretrained}'), tmp_path)
  message = str(error.value)
  assert "of kind 'decoder' or 'encoder-decoder'" in message
  assert str(pretrained) in message and "'encoder'" in message and '\n' not in message
  with pytest.raises(ConfigError, match="family 'tiny' is of kind 'encoder'"):
    train.read(text_config(file, more=[('model.family', 'tiny')]))


@pytest.mark.parametrize(
  ('argument', 'more', 'message'),
  [
    (',label=text', (), "config.task.target: 'answer' beside label='text'"),
    (',kind=regression', (), "config.task.target: 'answer' beside kind='regression'"),
    ('', [('task.metrics', "('pearson',)")], "config.task.metrics: 'pearson' does not"),
    (',text=body', (), 'body: no such column|body: missing'),
    (
      '',
      [('task.decoding', "{'method': 'bean'}")],
      "config.task.decoding.method: .*'bean'",
    ),
    ('', [('task.decoding', "{'beems': 2}")], 'config.task.decoding.beems.*beams'),
    (
      '',
      [('task.decoding', "{'top_p': 0.5}")],
      "config.task.decoding.top_p: 0.5 is for method='sample'",
    ),
    (
      '',
      [('task.decoding', "{'max_new_tokens': 5}")],
      'max_new_tokens: config.data.target_length says it',
    ),
  ],
)
def test_what_does_not_go_together_is_one_line(file, argument, more, message):
  with pytest.raises(ValueError, match=message) as error:
    train.read(text_config(file, argument, more))
  assert '\n' not in str(error.value)


def test_a_template_is_of_texts_to_write(pretrained):
  loaded = config.load(
    f'configs/transfer.py:task=sentiment,init={pretrained}',
    [('task.template', 'a {text}')],
  )
  with pytest.raises(ConfigError, match='config.task.template'):
    train.read(loaded)


def test_only_texts_are_decoded(pretrained):
  loaded = config.load(
    f'configs/transfer.py:task=sentiment,init={pretrained}',
    [('task.decoding', "{'method': 'sample'}")],
  )
  with pytest.raises(ConfigError, match='config.task.decoding: sentiment is of kind'):
    train.read(loaded)


def test_numbers_are_not_smoothed(pretrained, tmp_path):
  loaded = config.load(
    f'configs/transfer.py:task=intensity,init={pretrained}',
    [('task.smoothing', '0.1'), ('data.length', '32')],
  )
  with pytest.raises(ConfigError, match='config.task.smoothing: only a single label'):
    train.transfer(loaded, tmp_path)


def test_metrics_are_chosen_and_the_first_leads(file):
  more = [('task.metrics', "('bleu', 'exact_match')")]
  settings = train.read(text_config(file, more=more))
  task = datasets.open_task(settings.task, '')
  assert (task.metrics, task.headline) == (('bleu', 'exact_match'), 'bleu')


def test_no_target_is_longer_than_the_room_for_it(file, tmp_path):
  more = [model_of('tiny-gpt'), ('data.target_length', '32')]
  with pytest.raises(ConfigError, match='config.data.target_length: 32 .* room for 31'):
    train.transfer(text_config(file, more=more), tmp_path)


@pytest.mark.parametrize(
  ('said', 'prefix', 'expected'),
  [
    # T5 starts at the pad; BART at its end, and writes <s> first; mBART-50 a language.
    ({}, (), (0, ())),
    (dict(decoder_start_token_id=2), (1,), (2, (1,))),
    (dict(decoder_start_token_id=2, forced_bos_token_id=7), (9,), (2, (7,))),
    # mBART starts at the language, Marian at a pad of its own.
    (dict(decoder_start_token_id=8), (), (8, ())),
    (dict(decoder_start_token_id=5, pad_token_id=5), (), (5, ())),
  ],
)
def test_every_family_begins_as_its_folder_says(said, prefix, expected):
  task = tasks.find('summary')
  arch = models.arch('tiny-t5')
  tokenizer = types.SimpleNamespace(eos=3, pad=0, prefix=prefix)
  source = interop.Loaded(None, None, tokenizer, arch, generation=said)
  writer = writing.writer_of(task, arch, tokenizer, source)
  assert (writer.start, writer.begin) == expected
  assert writer.eos == 3 and writer.kind == 'encoder-decoder'


@pytest.mark.parametrize(
  ('chosen', 'expected'),
  [
    ({}, dict(do_sample=False)),
    (dict(method='beam'), dict(do_sample=False, num_beams=4)),
    (
      dict(method='sample', top_p=0.9),
      dict(do_sample=True, top_k=0, top_p=0.9),
    ),
  ],
)
def test_elsewhere_texts_are_decoded_as_the_task_says(chosen, expected):
  tokenizer = types.SimpleNamespace(eos=2, pad=1, prefix=(0,))
  # As of a model of summaries: none of it is meant for another task.
  said = dict(decoder_start_token_id=2, num_beams=6, min_length=56, max_length=142)
  arch = models.arch('bart-base')
  source = interop.Loaded(None, None, tokenizer, arch, generation=said)
  ids = dict(eos_token_id=[2], pad_token_id=1, decoder_start_token_id=2)
  wanted = ids | dict(forced_bos_token_id=0, max_new_tokens=8, **expected)
  assert writing.declared(source, 8, chosen) == wanted


def test_the_end_is_that_of_the_tokenizer_among_those_of_the_folder():
  task, arch = tasks.find('summary'), models.arch('tiny-gpt')
  tokenizer = types.SimpleNamespace(eos=3, pad=0, prefix=())
  for ends, expected in (([5, 3], 3), ([5, 6], 5), (None, 3)):
    source = interop.Loaded(
      None, None, tokenizer, arch, generation=dict(eos_token_id=ends)
    )
    assert writing.writer_of(task, arch, tokenizer, source).eos == expected
  with pytest.raises(ConfigError, match='which piece ends a text'):
    writing.writer_of(task, arch, types.SimpleNamespace(eos=None, pad=0), None)


def test_what_is_written_does_not_depend_on_batches(trained):
  """Prompts of other lengths beside a text, or none, change nothing of it."""
  loaded = train.load(trained[0])
  decoder = models.decoder(loaded.arch)
  writer = tasks.Writer(loaded.arch.kind, loaded.tokenizer.eos, loaded.tokenizer.pad)
  limits = tasks.Limits(32, None, 6, writer=writer)
  settings = writing.decoding(limits, loaded.tokenizer.pad)
  texts = ['the red cat runs', 'the cow', 'a', 'the pink pig runs the red dog']
  prompts = [loaded.tokenizer.encode(text, special=False) for text in texts]

  def write(some, batch):
    return evals.write(
      decoder, loaded.params, loaded.tokenizer, some, settings, batch=batch
    )

  together = write(prompts, batch=4)
  assert together == [write([prompt], batch=1)[0] for prompt in prompts]


# What a method has nothing to train of: T5 has no biases, and both heads are tied.
NOTHING = {'probe': SHAPES, 'bitfit': ('tiny-t5',), 'subset': ('tiny-t5',)}
OPTIONS = {
  'qlora': [('method.kind', 'int8')],
  'prompt': [('method.length', '4')],
  'prefix': [('method.length', '4')],
}


@pytest.mark.slow
@pytest.mark.parametrize('method', METHODS)
def test_every_method_trains_texts(trained, file, tmp_path, method):
  argument = f',init={trained[0]},method={method}'
  loaded = text_config(file, argument, OPTIONS.get(method, []))
  if family_of(trained[0]) in NOTHING.get(method, ()):
    with pytest.raises(ConfigError, match=f'{method}: the pattern .* matches no'):
      train.transfer(loaded, tmp_path)
    return
  result = train.transfer(loaded, tmp_path)
  again = train.evaluate(tmp_path)['metrics']
  assert again == pytest.approx(result['metrics'], rel=1e-4, abs=1e-4)


@pytest.mark.slow
@pytest.mark.parametrize('family', SHAPES)
def test_what_is_learned_is_what_is_written(file, tmp_path, family):
  rows = [
    line | dict(split=split) for line in lines(file) for split in ('train', 'test')
  ]
  file = tmp_path / 'both.jsonl'
  file.write_text('\n'.join(map(json.dumps, rows)))
  more = [
    model_of(family),
    ('model.width', '32'),
    ('model.mlp', '64'),
    ('schedule.steps', '500'),
    ('checkpoint.every', '500'),
    ('eval.every', '0'),
    ('optim.lr', '1e-2'),
  ]
  result = train.transfer(text_config(file, more=more), tmp_path / 'run')
  assert result['metrics']['exact_match'] == 1.0


@pytest.mark.slow
def test_transformers_opens_what_was_learned(adapted, tmp_path, run_cli):
  transformers = pytest.importorskip('transformers')
  torch = pytest.importorskip('torch')
  done = run_cli('export', adapted, tmp_path / 'hf')
  assert not done.returncode, done.stderr
  declared = json.loads((tmp_path / 'hf' / 'config.json').read_text())
  (name,) = declared['architectures']
  assert name in ('T5ForConditionalGeneration', 'GPT2LMHeadModel')
  theirs = getattr(transformers, name).from_pretrained(tmp_path / 'hf').eval()
  ours = train.load(adapted)
  ids = np.array([[5, 9, 11, 7]], np.int32)
  batch = dict(tokens=ids)
  inputs = dict(input_ids=torch.tensor(ids, dtype=torch.long))
  if ours.arch.kind == 'encoder-decoder':
    batch['decoder_tokens'] = ids[:, :3]
    inputs['decoder_input_ids'] = torch.tensor(ids[:, :3], dtype=torch.long)
  with torch.no_grad():
    expected = theirs(**inputs).logits.numpy()
  found = ours.model.apply(ours.params, batch).logits
  np.testing.assert_allclose(found, expected, atol=1e-4)


def test_examples_of_a_row_are_known_to_prompts():
  """A row of texts says which examples it has, for methods that stand before each."""
  examples = data.pipeline.Examples(
    data.tokens.TokenList([np.arange(3), np.arange(4)]), prompts=np.array([1, 2])
  )
  (batch,) = data.evaluation(examples, length=8, batch=1, examples_per_row=4)
  assert batch['examples'].tolist() == [[1, 2, 0, 0]]
  assert batch['learned'].tolist() == [[0, 1, 1, 0, 0, 1, 1, 0]]
