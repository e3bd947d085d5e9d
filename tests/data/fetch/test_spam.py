"""E-mails as examples: what is kept, what is one thread, and which side it is on."""

import base64

from tiny_packages import corpus, mail, write_tar

from tl_jax.data.fetch import spam
from tl_jax.data.fetch.packages import Brought


def read(path, files):
  brought = [Brought(spam.SPAM.packages[0], write_tar(path / 'a.tgz', files), '')]
  return {record.key: record for record in spam.read(brought)}


def test_subject_and_body_are_kept_and_no_sender(tmp_path):
  found = read(tmp_path, corpus())
  assert len(found) == 40
  example = found['spam-1/00002'].example
  assert example == {
    'id': 'spam-1/00002',
    'subject': 'Subject 2',
    'body': 'Body 2',
    'label': 'spam',
  }
  assert found['easy-ham-1/00003'].example['label'] == 'ham'
  assert 'example.com' not in str([record.example for record in found.values()])


def test_mails_of_one_thread_are_on_one_side(tmp_path):
  files = {}
  for number in range(30):
    name = f'package/data/easy-ham-1/{number:05}.a.txt'
    files[name] = mail(f'Topic {number}', f'first {number}', number)
    # One answer is known by its subject, another by what it answers to.
    answer = mail(f'Re: [list] topic  {number}', f'second {number}', 100 + number)
    files[f'package/data/hard-ham-1/{number:05}.b.txt'] = answer
    turned = mail('Something else', f'third {number}', 200 + number, number)
    turned = turned.replace(b'Something', b'Something %d' % number)
    files[f'package/data/easy-ham-2/{number:05}.c.txt'] = turned
  found = read(tmp_path, files)
  assert len(found) == 90
  for number in range(30):
    names = [f'{name}/{number:05}' for name in ('easy-ham-1', 'hard-ham-1')]
    sides = {found[name].split for name in [*names, f'easy-ham-2/{number:05}']}
    assert len(sides) == 1
  assert {record.split for record in found.values()} == {'train', 'test'}


def test_a_mail_that_comes_twice_is_one(tmp_path):
  files = {
    'package/data/spam-1/00001.a.txt': mail('Buy now', 'Cheap  pills', 1),
    'package/data/spam-2/00001.b.txt': mail('Re: BUY now', 'cheap pills', 2),
    'package/data/spam-2/00002.b.txt': mail('Buy now', 'other pills', 3),
  }
  assert sorted(read(tmp_path, files)) == ['spam-1/00001', 'spam-2/00002']


def parsed(text: str, content: bytes = b''):
  return spam.read_mail('data/spam-1/00001.a.txt', text.encode() + content)


def test_encoded_headers_and_bodies_are_spelled_out():
  body = base64.b64encode('Grüße'.encode('latin-1')).decode()
  found = parsed(
    'Subject: =?iso-8859-1?Q?Gr=FC=DFe?= =?no-such-charset?Q?=e9t=e9?=\n'
    'Content-Type: text/plain; charset=iso-8859-1\n'
    f'Content-Transfer-Encoding: base64\n\n{body}\n'
  )
  assert (found.subject, found.body) == ('Grüßeété', 'Grüße')


def test_a_page_is_read_where_there_is_no_plain_text():
  head = 'Subject: s\nContent-Type: multipart/alternative; boundary=x\n\n'
  page = (
    '--x\nContent-Type: text/html\n\n<style>p {}</style><P>Click&nbsp;<b>here</b>\n'
  )
  plain = '--x\nContent-Type: text/plain\n\nPlain words\n'
  assert parsed(head + page + '--x--\n').body == 'Click here'
  assert parsed(head + plain + page + '--x--\n').body == 'Plain words'


def test_what_a_filter_wrote_into_a_mail_is_left_out():
  found = parsed('Subject: s\n\nSPAM: 9.9 hits\n> SPAM: AWL\nBuy now\n')
  assert found.body == 'Buy now'


def test_bytes_of_no_charset_are_text_all_the_same():
  text = 'Subject: s\nContent-Type: text/plain; charset=utf-8\n\n'
  assert parsed(text, b'caf\xe9 \x81').body == 'caf\xe9 \x81'
