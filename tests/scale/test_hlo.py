"""Compiled programs read from their text: loops, collectives, arrays, traffic."""

import pytest

from tl_jax.scale import buffers, collectives, hlo, traffic

# As XLA writes it, less what nobody reads: a ring that is unrolled by two, in a loop over
# layers; a gather along one axis; a reduction that keeps a part.
TEXT = """HloModule jit_step, is_scheduled=true, entry_computation_layout={()->()}

FileNames
1 "/home/me/tl_jax/models/blocks.py"
2 "/usr/lib/python3/site-packages/jax/core.py"
3 "/home/me/tl_jax/leaves/products.py"

FunctionNames
1 "scan"

FileLocations
1 {file_name_id=1 function_name_id=1 line=7 end_line=7 column=1 end_column=2}
2 {file_name_id=2 function_name_id=1 line=8 end_line=8 column=1 end_column=2}
3 {file_name_id=3 function_name_id=1 line=9 end_line=9 column=1 end_column=2}

StackFrames
1 {file_location_id=1 parent_frame_id=0}
2 {file_location_id=3 parent_frame_id=1}
3 {file_location_id=2 parent_frame_id=2}

%ring_condition (p: (u32[], f32[256])) -> pred[] {
  %p = (u32[], f32[256]{0}) parameter(0)
  %n = u32[] get-tuple-element(%p), index=0
  %four = u32[] constant(4)
  ROOT %less = pred[] compare(%n, %four), direction=LT
}

%ring (p: (u32[], f32[256])) -> (u32[], f32[256]) {
  %p = (u32[], f32[256]{0}) parameter(0)
  %n = u32[] get-tuple-element(%p), index=0
  %x = f32[256]{0} get-tuple-element(%p), index=1
  %two = u32[] constant(2)
  %next = u32[] add(%n, %two)
  %start = (f32[256]{0}, f32[256]{0}, u32[]{:S(2)}, u32[]{:S(2)}) \
collective-permute-start(%x), source_target_pairs={{0,1},{1,0},{2,3},{3,2}}
  %done = f32[256]{0} collective-permute-done(%start)
  ROOT %out = (u32[], f32[256]{0}) tuple(%next, %done)
}

%layer_condition (p: (s32[], f32[256], s32[])) -> pred[] {
  %p = (s32[], f32[256]{0}, s32[]) parameter(0)
  %n = s32[] get-tuple-element(%p), index=0
  %most = s32[] get-tuple-element(%p), index=2
  ROOT %less = pred[] compare(%n, %most), direction=LT
}

%layer (p: (s32[], f32[256], s32[])) -> (s32[], f32[256], s32[]) {
  %p = (s32[], f32[256]{0}, s32[]) parameter(0)
  %n = s32[] get-tuple-element(%p), index=0
  %x = f32[256]{0} get-tuple-element(%p), index=1
  %most = s32[] get-tuple-element(%p), index=2
  %one = s32[] constant(1)
  %next = s32[] add(%n, %one)
  %zero = u32[] constant(0)
  %given = (u32[], f32[256]{0}) tuple(%zero, %x)
  %turned = (u32[], f32[256]{0}) while(%given), condition=%ring_condition, body=%ring
  %y = f32[256]{0} get-tuple-element(%turned), index=1
  %wide = f32[4096]{0} broadcast(%y), metadata={op_name="jit(step)/jvp()/wide" \
stack_frame_id=3}
  %small = f32[256]{0} slice(%wide), slice={[0:256]}
  ROOT %out = (s32[], f32[256]{0}, s32[]) tuple(%next, %small, %most)
}

%sum (a: f32[], b: f32[]) -> f32[] {
  %a = f32[] parameter(0)
  %b = f32[] parameter(1)
  ROOT %c = f32[] add(%a, %b)
}

%scattered (p: f32[1024], i: s32[]) -> f32[256] {
  %p = f32[1024]{0} parameter(0)
  %i = s32[] parameter(1)
  %all = f32[1024]{0} all-reduce(%p), replica_groups=[1,4]<=[4], to_apply=%sum
  ROOT %part = f32[256]{0} dynamic-slice(%all, %i), dynamic_slice_sizes={256}
}

ENTRY %main (x: f32[256], i: s32[]) -> f32[256] {
  %x = f32[256]{0} parameter(0)
  %i = s32[] parameter(1)
  %none = s32[] constant(0)
  %layers = s32[] constant(3)
  %gathered = f32[1024]{0} all-gather(%x), \
replica_groups=mesh['a'=2,'b'=2] {'a','b'}, dimensions={0}
  %kept = f32[256]{0} fusion(%gathered, %i), kind=kCustom, calls=%scattered
  %given = (s32[], f32[256]{0}, s32[]) tuple(%none, %kept, %layers)
  %loop = (s32[], f32[256]{0}, s32[]) while(%given), condition=%layer_condition, \
body=%layer
  ROOT %y = f32[256]{0} get-tuple-element(%loop), index=1
}
"""
WIRING = collectives.Wiring(dict(data=2, fsdp=2), (0, 0, 1, 1))


@pytest.fixture(scope='module')
def module():
  return hlo.parse(TEXT)


def loops(module):
  for computation in module.computations.values():
    for one in computation.instructions:
      if one.opcode == 'while':
        yield hlo.trips(module, computation, one)


def test_loops_go_round_as_often_as_their_counters_say(module):
  # From 0 to 4 by 2, and from 0 to a bound that the loop carries.
  assert sorted(loops(module)) == [2, 3]


def test_collectives_count_as_often_as_they_run(module):
  found = {one.kind: one for one in collectives.found_in(module, WIRING)}
  ring = found['collective-permute']
  assert (ring.times, ring.sent, ring.axes) == (6, 6 * 1024, 'fsdp')
  gather = found['all-gather']
  assert (gather.payload, gather.sent) == (4096, 3072)
  assert gather.axes == 'data+fsdp' and gather.network == 'dcn'
  # A sum of which a fusion keeps a part is a reduction that scatters.
  scatter = found['reduce-scatter']
  assert (scatter.payload, scatter.sent) == (4096, 3072)


def test_sums_by_kind_and_network(module):
  talks = collectives.found_in(module, WIRING)
  rows = collectives.summary(talks)
  assert [row['kind'] for row in rows][0] == 'collective-permute'
  sent = collectives.sent_by_network(talks)
  assert sent == dict(ici=6144.0, dcn=6144.0)


def test_what_is_sent_apart_goes_to_another_slice():
  text = TEXT.replace(
    '  %kept = f32[256]{0} fusion',
    '  %sent = (f32[256]{0}, u32[], token[]) send(%x, %x), channel_id=1\n'
    '  %kept = f32[256]{0} fusion',
  )
  found = collectives.found_in(hlo.parse(text), WIRING)
  (send,) = [one for one in found if one.kind == 'send']
  assert (send.network, send.axes, send.sent) == ('dcn', 'data', 1024)


def test_an_array_inside_of_a_loop_is_there_beside_what_waits(module):
  found = buffers.at_peak(module)
  assert found[0].size == 4 * 4096
  assert found[0].part == 'forward'
  # Of the frames, the innermost that is no file that everything calls.
  assert found[0].line == 'tl_jax/models/blocks.py:7'
  # What the loop goes on with is made while what it came with waits; and a counter.
  assert sum(buffer.size for buffer in found) == 4 * 4096 + 2 * 1024 + 4


NESTED = """HloModule nested

ENTRY %main (x: f32[256], i: s32[]) -> f32[256] {
  %x = f32[256]{0} parameter(0)
  %i = s32[] parameter(1)
  %a = f32[1024]{0} broadcast(%x)
  %b = f32[2048]{0} broadcast(%x)
  %inner = (f32[1024]{0}, f32[2048]{0}) tuple(%a, %b)
  %outer = (f32[256]{0}, (f32[1024]{0}, f32[2048]{0}), s32[]) tuple(%x, %inner, %i)
  %again = (f32[1024]{0}, f32[2048]{0}) get-tuple-element(%outer), index=1
  %last = s32[] get-tuple-element(%outer), index=2
  %begun = ((f32[1024]{0}, f32[2048]{0}), (f32[4096]{0}, f32[8192]{0})) \
all-gather-start(%a, %b), replica_groups=[1,4]<=[4], dimensions={0}
  %ended = (f32[4096]{0}, f32[8192]{0}) all-gather-done(%begun)
  %wide = f32[8192]{0} get-tuple-element(%ended), index=1
  %kept = f32[2048]{0} get-tuple-element(%again), index=1
  ROOT %y = f32[256]{0} fusion(%wide, %kept, %last), kind=kLoop, calls=%small
}

%small (w: f32[8192], k: f32[2048], l: s32[]) -> f32[256] {
  %w = f32[8192]{0} parameter(0)
  %k = f32[2048]{0} parameter(1)
  %l = s32[] parameter(2)
  ROOT %cut = f32[256]{0} slice(%w), slice={[0:256]}
}
"""


def test_elements_of_a_tuple_may_be_tuples():
  nested = hlo.parse(NESTED)
  found = nested.computations[nested.entry].named
  assert found['outer'].widths == (1, 2, 1)
  assert found['outer'].places(2) == slice(3, 4)
  assert found['begun'].widths == (2, 2)
  # While it gathers, what it reads and what it makes are there once each.
  sizes = sorted(buffer.size for buffer in buffers.at_peak(nested))
  assert sizes == [4 * size for size in (1024, 2048, 4096, 8192)]


def test_traffic_counts_the_rounds_of_loops(module):
  once = traffic.moved(module)
  text = TEXT.replace('%layers = s32[] constant(3)', '%layers = s32[] constant(6)')
  twice = traffic.moved(hlo.parse(text))
  wide = 1024 + 4 * 4096 + 2 * 1024
  ring = 2 * (2 * 1024 + 8)
  assert twice - once >= 3 * wide
  assert twice - once == pytest.approx(3 * (wide + ring), rel=0.1)


@pytest.mark.parametrize(
  ('text', 'size', 'padded'),
  [
    ('f32[3,5]{1,0:T(8,128)}', 60, 4096),
    ('f32[3,5]{0,1:T(8,128)}', 60, 4096),
    ('bf16[16,128]{1,0:T(8,128)(2,1)}', 4096, 4096),
    ('f32[300]{0:T(1024)}', 1200, 4096),
    ('pred[]{:T(512)}', 1, 1),
    ('s4[6]{0}', 3, 3),
    ('f32[2,3]', 24, 24),
  ],
)
def test_layouts_pad(text, size, padded):
  found = hlo.shape_of(text)
  assert (found.bytes, found.padded) == (size, padded)


def test_near_memory_is_not_the_large_one():
  assert hlo.shape_of('bf16[8,128]{1,0:T(8,128)(2,1)S(1)}').space == 1


@pytest.mark.parametrize(
  ('attributes', 'first'),
  [
    ('replica_groups={{0,1},{2,3}}', (0, 1)),
    ('replica_groups={{0,2},{1,3}}, other={{7}}', (0, 2)),
    ('replica_groups=[2,2]<=[4]', (0, 1)),
    ('replica_groups=[2,2]<=[2,2]T(1,0)', (0, 2)),
    ("replica_groups=mesh['a'=2,'b'=2] {'b'}", (0, 1)),
    ("replica_groups=mesh['a'=2,'b'=2] {'a'}", (0, 2)),
    ("replica_groups=mesh['a'=8] {'a':(2)2}", (0, 2)),
    ('', (0, 1, 2, 3)),
  ],
)
def test_groups_in_every_spelling(attributes, first):
  assert collectives.groups(attributes, 4)[0] == first
