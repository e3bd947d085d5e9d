"""The page of a prepared corpus."""

from tl_jax.report import corpus_page

NUMBERS = dict(
  documents=4, bytes=900, words=100, distinct=50, type_token_ratio=0.5, entropy=5.25
)
MANIFEST = dict(
  kept=3,
  removed={'near': 1, 'gopher: <b>': 0},
  examples={'near': [('a.jsonl:7', 'some <script> text')]},
  before={'web': NUMBERS},
  after={'web': NUMBERS | dict(documents=3)},
  cuts={'web': dict(lines=1200, dropped_lines=1100, bytes=1000, dropped_bytes=301)},
  overlap=[dict(one='web', other='books', share=0.25)],
)


def test_lines_say_what_stays_and_why_not_the_rest():
  assert corpus_page.sentences(MANIFEST)[0] == '* 3 of 4 documents stay (75.0 %)'
  assert '25.0 %  near' in corpus_page.sentences(MANIFEST)[1]
  assert corpus_page.table(MANIFEST)[1][:3] == ['web', 'before', '4']
  assert corpus_page.table(MANIFEST)[2][-2:] == ['1,100 of 1,200', '30.1 %']


def test_it_is_a_warning_where_a_rule_took_much_of_what_stays():
  (warning,) = corpus_page.warnings(MANIFEST)
  assert warning.startswith('web: c4 dropped 1,100 of 1,200 lines')
  assert warning in corpus_page.page(MANIFEST)
  less = {'web': MANIFEST['cuts']['web'] | dict(dropped_bytes=300)}
  assert corpus_page.warnings(MANIFEST | dict(cuts=less)) == []


def test_the_page_shows_examples_as_text():
  page = corpus_page.page(MANIFEST)
  assert 'some &lt;script&gt; text' in page and '<script>' not in page
  assert 'a.jsonl:7' in page and '25.0 %' in page and '5.250' in page
  assert 'http' not in page.split('</style>')[1]
