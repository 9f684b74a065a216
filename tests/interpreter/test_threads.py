"""The interpreter's threads: branches that meet again, guards, scopes, shuffles and votes."""

import numpy as np
import pytest

from tests.interpreter import ptx
from tests.interpreter.snippets import OUT, TID, kernel, run, store


def test_branches_meet_again():
    """Three ways through a loop with a different number of rounds for each thread."""
    body = f"""{TID} mov.u32 %r2, 0; mov.u32 %r3, 0;
        LOOP: setp.ge.u32 %p1, %r2, %r1; @%p1 bra DONE;
        and.b32 %r4, %r2, 1; setp.eq.u32 %p2, %r4, 0; @%p2 bra EVEN;
        add.u32 %r3, %r3, %r2; bra.uni NEXT;
        EVEN: add.u32 %r3, %r3, 100;
        NEXT: add.u32 %r2, %r2, 1; bra LOOP;
        DONE: activemask.b32 %r5; popc.b32 %r6, %r5; mad.lo.u32 %r3, %r6, 100000, %r3; {store("u32", "out", "%r3")}"""
    expected = [sum(i if i % 2 else 100 for i in range(t)) + 3200000 for t in range(64)]
    np.testing.assert_array_equal(run(body), expected)


def test_guards():
    body = f"""{TID} setp.lt.u32 %p1, %r1, 40; mov.u32 %r2, 7; @%p1 mov.u32 %r2, 8; @!%p1 add.u32 %r2, %r2, %r1;
        {store("u32", "out", "%r2")} @%p1 exit; mov.u32 %r3, 9; {store("u32", "out", "%r3")}"""
    np.testing.assert_array_equal(run(body), [8] * 40 + [9] * 24)


def test_switch():
    body = f"""{TID} and.b32 %r2, %r1, 3; TABLE: .branchtargets A, B, C, A; brx.idx %r2, TABLE;
        A: mov.u32 %r3, 10; bra.uni END; B: mov.u32 %r3, 20; bra.uni END; C: mov.u32 %r3, 30;
        END: {store("u32", "out", "%r3")}"""
    np.testing.assert_array_equal(run(body), [10, 20, 30, 10] * 16)


def test_inner_names_belong_to_their_scope():
    body = f"""{TID} mov.u32 %r2, 1;
        {{ .reg .b32 t; .reg .pred q; mov.u32 t, 5; setp.lt.u32 q, %r1, 3; @q bra OVER; add.u32 %r2, %r2, t; OVER: }}
        {{ .reg .b32 t; mov.u32 t, 50; setp.gt.u32 %p1, %r1, 9; @%p1 bra OVER; add.u32 %r2, %r2, t; OVER: }}
        {store("u32", "out", "%r2")}"""
    np.testing.assert_array_equal(run(body), [1 + 5 * (t >= 3) + 50 * (t <= 9) for t in range(64)])


def test_special_registers():
    names = ["%tid.x", "%tid.y", "%ntid.x", "%ntid.y", "%ctaid.x", "%nctaid.x", "%laneid", "%warpid", "%lanemask_lt"]
    for name in names:
        out = np.zeros(240, np.uint32)
        body = f"""mov.u32 %r1, %tid.x; mov.u32 %r2, %tid.y; mov.u32 %r3, %ntid.x; mad.lo.u32 %r1, %r2, %r3, %r1;
            mov.u32 %r4, %ctaid.x; mad.lo.u32 %r29, %r4, 80, %r1; mov.u32 %r5, {name}; {store("u32", "out", "%r5")}"""
        memory = ptx.Memory()
        ptx.launch(ptx.program(kernel(body, OUT)), memory, 3, (20, 4), [memory.add(out)])
        t = np.arange(240) % 80
        expected = {
            "%tid.x": t % 20,
            "%tid.y": t // 20,
            "%ntid.x": 20,
            "%ntid.y": 4,
            "%ctaid.x": np.arange(240) // 80,
            "%nctaid.x": 3,
            "%laneid": t % 32,
            "%warpid": t // 32,
            "%lanemask_lt": 2 ** (t % 32) - 1,
        }[name]
        np.testing.assert_array_equal(out, np.broadcast_to(expected, 240), name)


def shuffled(mode, lane, b, clamp, segment):
    """The PTX manual's own words, in Python."""
    last, first = (lane & segment) | (clamp & ~segment & 31), lane & segment
    to = {"up": lane - b, "down": lane + b, "bfly": lane ^ b, "idx": first | (b & ~segment & 31)}[mode]
    valid = to >= last if mode == "up" else to <= last
    return (to if valid else lane), valid


@pytest.mark.parametrize("mode", ["up", "down", "bfly", "idx"])
@pytest.mark.parametrize("width", [32, 16, 8, 4, 2, 1])
def test_shuffles(mode, width):
    segment = 32 - width
    clamp = 0 if mode == "up" else 31
    for b in (0, 1, 2, 5, 16, 31):
        body = f"""{TID} mul.lo.u32 %r2, %r1, 3; shfl.sync.{mode}.b32 %r3|%p1, %r2, {b}, {segment << 8 | clamp}, -1;
            selp.b32 %r4, 1000, 0, %p1; add.u32 %r3, %r3, %r4; {store("u32", "out", "%r3")}"""
        pairs = [shuffled(mode, t % 32, b, clamp, segment) for t in range(64)]
        expected = [3 * (t - t % 32 + to) + 1000 * valid for t, (to, valid) in enumerate(pairs)]
        np.testing.assert_array_equal(run(body), expected)
    body = body.replace(f"%r2, {b},", "%r2, %r1,").replace("-1;", "%r8;") + ""
    body = body.replace("mul.lo", "mov.u32 %r8, 0xffffffff; mul.lo", 1)
    pairs = [shuffled(mode, t % 32, t % 32, clamp, segment) for t in range(64)]
    expected = [3 * (t - t % 32 + to) + 1000 * valid for t, (to, valid) in enumerate(pairs)]
    np.testing.assert_array_equal(run(body), expected)


def test_shuffles_of_some_lanes_wait_for_those_of_the_mask():
    """The upper half of each warp comes later, and then all of its own mask are there."""
    body = f"""{TID} and.b32 %r2, %r1, 16; setp.ne.u32 %p1, %r2, 0; mov.u32 %r3, 0xffff; @!%p1 bra JOIN;
        mov.u32 %r3, 0xffff0000; mov.u32 %r4, 0;
        SPIN: add.u32 %r4, %r4, 1; setp.lt.u32 %p2, %r4, 5; @%p2 bra SPIN;
        JOIN: shfl.sync.bfly.b32 %r5, %r1, 1, 0x1f, %r3; {store("u32", "out", "%r5")}"""
    np.testing.assert_array_equal(run(body), np.arange(64) ^ 1)
    with pytest.raises(ptx.Divergence, match="not in its mask"):
        run(body.replace("%r1, 1, 0x1f", "%r1, 16, 0x1f"))
    halves = body.replace("mov.u32 %r3, 0xffff0000;", "bar.sync 0;").replace("0xffff;", "-1;") + "bar.sync 0;"
    with pytest.raises(ptx.Divergence, match="lanes of their warps"):
        run(halves)


def test_a_thread_outside_of_its_own_mask():
    with pytest.raises(ptx.Divergence, match="is not in the mask"):
        run(f"{TID} shfl.sync.bfly.b32 %r5, %r1, 1, 0x1f, 0xffff;")


def test_a_warp_that_is_not_full():
    body = f"{TID} shfl.sync.MODE.b32 %r5, %r1, 1, 0x1f, -1; {store('u32', 'out', '%r5')}"
    np.testing.assert_array_equal(run(body.replace("MODE", "bfly"), 40), np.arange(40) ^ 1)
    with pytest.raises(ptx.Divergence, match="does not have"):
        run(body.replace("MODE", "down"), 40)


def test_votes_matches_and_reductions():
    t = np.arange(64)
    odd = f"{TID} and.b32 %r2, %r1, 1; setp.eq.u32 %p1, %r2, 1; setp.ge.u32 %p2, %r1, 32; or.pred %p1, %p1, %p2;"
    for mode, expected in (("all", t >= 32), ("any", t >= 0), ("uni", t >= 32)):
        body = f"{odd} vote.sync.{mode}.pred %p3, %p1, -1; selp.b32 %r3, 1, 0, %p3; {store('u32', 'out', '%r3')}"
        np.testing.assert_array_equal(run(body), expected)
    body = f"{odd} vote.sync.ballot.b32 %r3, %p1, -1; {store('u32', 'out', '%r3')}"
    np.testing.assert_array_equal(run(body), np.where(t < 32, 0xAAAAAAAA, 0xFFFFFFFF))
    body = f"{TID} and.b32 %r2, %r1, 3; match.any.sync.b32 %r3, %r2, -1; {store('u32', 'out', '%r3')}"
    np.testing.assert_array_equal(run(body), [0x11111111 << (i % 4) for i in range(64)])
    for name, function in (("add", np.add), ("max", np.maximum), ("xor", np.bitwise_xor)):
        kind = "b32" if name == "xor" else "u32"
        body = f"{TID} redux.sync.{name}.{kind} %r3, %r1, -1; {store('u32', 'out', '%r3')}"
        np.testing.assert_array_equal(run(body), np.repeat(function.reduce(t.reshape(2, 32), axis=1), 32))
    body = f"{TID} elect.sync %r3|%p1, 0xfffffff0; selp.b32 %r3, 1, 0, %p1; {store('u32', 'out', '%r3')}"
    with pytest.raises(ptx.Divergence):
        run(body)
    np.testing.assert_array_equal(run(body.replace("0xfffffff0", "-1")), t % 32 == 0)
