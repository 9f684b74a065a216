"""The interpreter's barriers, races and clusters, and mutants of a reduction that must fail."""

import numpy as np
import pytest

from tests.interpreter import ptx
from tests.interpreter.snippets import TID, kernel, load, run, store

EXCHANGE = f""".shared .align 4 .b8 room[256]; {TID} mov.u32 %r2, room; shl.b32 %r3, %r1, 2; add.u32 %r4, %r2, %r3;
    xor.b32 %r5, %r3, 128; add.u32 %r6, %r2, %r5; st.shared.u32 [%r4], %r1; bar.sync 0;
    ld.shared.u32 %r7, [%r6]; {store("u32", "out", "%r7")}"""


def test_a_barrier_orders_a_block():
    np.testing.assert_array_equal(run(EXCHANGE), np.arange(64) ^ 32)
    np.testing.assert_array_equal(run(EXCHANGE.replace("bar.sync", "barrier.sync")), np.arange(64) ^ 32)
    with pytest.raises(ptx.Race, match="races with thread 32 of block 0 for offset 128 of shared memory"):
        run(EXCHANGE.replace("bar.sync 0;", "bar.warp.sync -1;"))
    run(EXCHANGE.replace("bar.sync 0;", "bar.warp.sync -1;"), races=False)


@pytest.mark.parametrize("barrier", ["", "bar.warp.sync -1;", "bar.sync 0;", "shfl.sync.bfly.b32 %r8, %r1, 1, 31, -1;"])
def test_within_a_warp_a_warp_barrier_is_enough_but_a_shuffle_is_not(barrier):
    body = EXCHANGE.replace("%r3, 128", "%r3, 4").replace("bar.sync 0;", barrier)
    if "bar" in barrier:
        np.testing.assert_array_equal(run(body), np.arange(64) ^ 1)
        return
    with pytest.raises(ptx.Race, match="no barrier orders them"):
        run(body)


@pytest.mark.parametrize(
    ("before", "between", "after", "raises"),
    [
        ("st", "", "st", True),
        ("st", "", "ld", True),
        ("ld", "", "st", True),
        ("ld", "", "ld", False),
        ("st", "bar.sync 0;", "st", False),
        ("st", "bar.sync 0;", "ld", False),
        ("ld", "bar.sync 0;", "st", False),
        ("ld", "bar.sync 0; bar.sync 0;", "st", False),
    ],
)
@pytest.mark.parametrize("space", ["shared", "global"])
@pytest.mark.parametrize("widths", [("u32", "u32"), ("u8", "u32"), ("u32", "u8"), ("u64", "u16")])
def test_pairs_of_accesses(before, between, after, raises, space, widths):
    """Thread 0 accesses the word first, thread 40 of another warp later, at widths that overlap."""
    place = "%q20" if space == "global" else "%q21"
    access = {
        "ld": lambda kind: f"ld.{space}.{kind} %q1, [{place}];",
        "st": lambda kind: f"st.{space}.{kind} [{place}], %q2;",
    }
    body = f""".shared .align 8 .b8 room[8]; mov.u64 %q21, room; mov.u64 %q2, 5; {TID} ld.param.u64 %q20, [out];
        setp.ne.u32 %p1, %r1, 7; @%p1 bra READY; st.shared.u64 [%q21], %q2; READY: bar.sync 0;
        setp.ne.u32 %p1, %r1, 0; @%p1 bra A; {access[before](widths[0])} A: {between}
        setp.ne.u32 %p1, %r1, 40; @%p1 bra B; {access[after](widths[1])} B:"""
    if raises:
        with pytest.raises(ptx.Race, match=r"thread 40 of block 0.* races with thread 0 of block 0"):
            run(body)
    else:
        run(body)


def test_several_readers_before_a_writer():
    """All threads of the first warp have read what a thread of it, or of the other warp, writes then."""
    body = f""".shared .align 4 .b8 room[4]; {TID} setp.ne.u32 %p1, %r1, 0; @%p1 bra A; st.shared.u32 [room], %r1;
        A: bar.sync 0; setp.ge.u32 %p1, %r1, 32; @%p1 bra B; ld.shared.u32 %r2, [room]; BARRIER
        B: setp.ne.u32 %p1, %r1, WRITER; @%p1 bra C; st.shared.u32 [room], %r1; C:"""
    for writer, barrier, raises in ((0, "", True), (0, "bar.warp.sync -1;", False), (32, "bar.warp.sync -1;", True)):
        text = body.replace("WRITER", str(writer)).replace("BARRIER", barrier)
        if raises:
            with pytest.raises(ptx.Race, match="several threads of block 0"):
                run(text)
        else:
            run(text)


def test_in_place_a_neighbours_element_is_read_too_late():
    """What a cross-entropy in place must not do: read the target's logit when its gradient may have been written."""
    body = f"""{TID} {load("%r2", "u32", "out")} mov.u32 %r10, 0; FIRST {store("u32", "out", "%r2")}
        {load("%r3", "u32", "out", "%r10")}"""
    with pytest.raises(ptx.Race, match="'out'"):
        run(body.replace("FIRST", ""))
    early = load("%r3", "u32", "out", "%r10")
    run(body.replace(early, "").replace("FIRST", f"{early} bar.sync 0;"))
    with pytest.raises(ptx.Race, match="'out'"):
        run(body.replace(early, "").replace("FIRST", early))


def test_blocks_are_never_ordered():
    body = f"""{TID} mov.u32 %r2, %ctaid.x; ld.param.u64 %q1, [out]; setp.ne.u32 %p1, %r1, 0; @%p1 bra END;
        st.global.u32 [%q1], %r2; END: bar.sync 0;"""
    run(body, 64, grid=1)
    with pytest.raises(ptx.Race, match="races with thread 0 of block 1"):
        run(body, 64, grid=2)
    one = body.replace("setp.ne.u32 %p1, %r1, 0;", "mul.lo.u32 %r3, %r2, 32; or.b32 %r3, %r3, %r1; CHOOSE")
    one = one.replace("CHOOSE", "rem.u32 %r3, %r3, 16384; setp.ne.u32 %p1, %r3, 0;")
    with pytest.raises(ptx.Race, match=r"thread 0 of block 512 .* races with thread 0 of block 0"):
        run(one, 1 << 15, grid=1024)  # these two are of different batches


@pytest.mark.parametrize(
    "body",
    [
        "setp.lt.u32 %p1, %r1, 32; @%p1 bra A; bar.sync 0; A:",
        "setp.lt.u32 %p1, %r1, 32; @%p1 bra A; bar.sync 0; bra.uni B; A: bar.sync 0; B:",
        "setp.lt.u32 %p1, %r1, 5; @%p1 exit; bar.sync 0;",
    ],
)
def test_divergent_barriers(body):
    with pytest.raises(ptx.Divergence, match="a barrier that not all threads reach"):
        run(TID + body)


def test_named_barriers_count_their_threads():
    run(EXCHANGE.replace("bar.sync 0", "bar.sync 1, 64"))
    with pytest.raises(ptx.Divergence):
        run(EXCHANGE.replace("bar.sync 0", "bar.sync 1, 96"))


def test_loops_have_an_end():
    with pytest.raises(ptx.Endless, match="1000 steps"):
        run("LOOP: bra LOOP;", limit=1000)


BOTH = "barrier.cluster.arrive.aligned; barrier.cluster.wait.aligned;"
#: Thread t of a block reads what thread t of the next block of the cluster has stored.
RING = f""".shared .align 4 .b8 room[128]; {TID} mov.u32 %r2, %cluster_ctarank; mov.u32 %r3, %cluster_nctarank;
    mov.u32 %r4, %ctaid.x; mad.lo.u32 %r29, %r4, 32, %r1; shl.b32 %r5, %r1, 2; mov.u32 %r6, room; add.u32 %r6, %r6, %r5;
    st.shared.u32 [%r6], %r29; {BOTH}
    add.u32 %r7, %r2, 1; rem.u32 %r7, %r7, %r3; mapa.shared::cluster.u32 %r8, %r6, %r7;
    ld.shared::cluster.u32 %r9, [%r8]; {BOTH}
    {store("u32", "out", "%r9")}"""


@pytest.mark.parametrize("cluster", [1, 2, 4])
def test_clusters_share_their_memory(cluster):
    block = np.repeat(np.arange(8), 32)
    expected = (block // cluster * cluster + (block + 1) % cluster) * 32 + np.arange(256) % 32
    np.testing.assert_array_equal(run(RING, 256, grid=8, cluster=cluster), expected)
    generic = "cvt.u64.u32 %q1, %r6; cvta.shared.u64 %q2, %q1; mapa.u64 %q3, %q2, %r7;"
    text = RING.replace("mapa.shared::cluster.u32 %r8, %r6, %r7;", generic)
    text = text.replace("ld.shared::cluster.u32 %r9, [%r8]", "ld.u32 %r9, [%q3]")
    np.testing.assert_array_equal(run(text, 256, grid=8, cluster=cluster), expected)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        (f"%r29; {BOTH}", "%r29; bar.sync 0;", "before a barrier of the cluster"),
        (f"[%r8]; {BOTH}", "[%r8];", r"exits while its shared memory|has exited"),
        (f"[%r8]; {BOTH}", f"[%r8]; st.shared.u32 [%r6], %r1; {BOTH}", "races with"),
        (f"%r29; {BOTH}", f"%r29; {BOTH} st.shared.u32 [%r6], %r29;", "races with"),
        (f"%r29; {BOTH}", "%r29; " + BOTH.replace("; ", "; st.shared.u32 [%r6], %r29; "), "races with"),
    ],
)
def test_what_is_wrong_in_clusters(old, new, message):
    """In the last one a word is stored after the arrival: a wait orders only what was before it."""
    body = " ".join(RING.split())
    assert old in body
    run(body, 64, grid=2, cluster=2)
    with pytest.raises(ptx.Race, match=message):
        run(body.replace(old, new), 64, grid=2, cluster=2)


def test_arriving_twice():
    with pytest.raises(ptx.Divergence, match="without waiting"):
        run(RING.replace(BOTH, f"barrier.cluster.arrive.aligned; {BOTH}", 1), 64, grid=2, cluster=2)


def test_what_a_driver_would_refuse():
    fixed = ".explicitcluster .reqnctapercluster 2, 1, 1"
    for options, message in (
        ({"n": 2048}, "threads a block"),
        ({"n": 96, "grid": 3, "cluster": 2}, "does not suit"),
        ({"n": 64, "grid": 2, "directives": fixed}, "does not suit"),
    ):
        with pytest.raises(ptx.PtxError, match=message):
            run(RING, **options)
    run(RING, 64, grid=2, cluster=2, directives=fixed)


#: The sum of a row by a block of 128: shuffles, a word for each warp, and a guard at the end of the row.
SUM = f""".shared .align 16 .b8 room[16]; {TID} mov.f32 %f1, 0f00000000; ld.param.u32 %r20, [n];
    setp.ge.u32 %p1, %r1, %r20; @%p1 bra ADD; {load("%f1", "f32", "x")} ADD:
    {" ".join(f"shfl.sync.bfly.b32 %f2, %f1, {o}, 31, -1; add.f32 %f1, %f1, %f2;" for o in (16, 8, 4, 2, 1))}
    and.b32 %r2, %r1, 31; setp.ne.u32 %p2, %r2, 0; shr.u32 %r3, %r1, 5; mul.lo.u32 %r3, %r3, 4; @%p2 bra WAIT;
    mov.u32 %r4, room; add.u32 %r4, %r4, %r3; st.shared.f32 [%r4], %f1; WAIT: bar.sync 0;
    ld.shared.v4.f32 {{%f3, %f4, %f5, %f6}}, [room]; add.f32 %f3, %f3, %f4; add.f32 %f5, %f5, %f6;
    add.f32 %f3, %f3, %f5; {store("f32", "out", "%f3")}"""
MUTANTS = {
    "nothing": ("bar.sync 0;", "bar.sync 0;", None),
    "no barrier": ("bar.sync 0;", "", ptx.Race),
    "guard turned round": ("setp.ge.u32 %p1", "setp.lt.u32 %p1", ptx.OutOfBounds),
    "guard one too far": ("setp.ge.u32 %p1", "setp.gt.u32 %p1", ptx.OutOfBounds),
    "no guard": ("@%p1 bra ADD;", "", ptx.OutOfBounds),
    "shuffle in another direction": ("bfly.b32 %f2, %f1, 4", "up.b32 %f2, %f1, 4", AssertionError),
    "shuffle by another lane": ("%f2, %f1, 8, 31", "%f2, %f1, 7, 31", AssertionError),
    "shuffle in a narrower segment": ("%f2, %f1, 16, 31", "%f2, %f1, 16, 0x101f", AssertionError),
    "shuffle with half a mask": ("%f1, 2, 31, -1", "%f1, 2, 31, 0xffff", ptx.Divergence),
    "every thread stores": ("@%p2 bra WAIT;", "", ptx.Race),
    "words that overlap": ("mul.lo.u32 %r3, %r3, 4", "mul.lo.u32 %r3, %r3, 2", ptx.Misaligned),
    "less aligned": ("[room];", "[room+4];", ptx.Misaligned),
    "a word that is not stored": ("setp.ne.u32 %p2, %r2, 0", "setp.ne.u32 %p2, %r1, 0", ptx.Uninitialised),
}


@pytest.mark.parametrize("name", MUTANTS)
def test_mutants_of_a_reduction(name):
    old, new, error = MUTANTS[name]
    assert old in SUM
    x, out = np.arange(100, dtype=np.float32) ** 2, np.zeros(128, np.float32)
    memory = ptx.Memory()
    text = kernel(SUM.replace(old, new), [("u64", "x"), ("u64", "out"), ("u32", "n")])

    def check():
        ptx.launch(ptx.program(text), memory, 1, 128, [memory.add(x, "x"), memory.add(out, "out"), 100])
        np.testing.assert_array_equal(out, np.full(128, x.astype(float).sum(), np.float32))

    if error is None:
        check()
    else:
        with pytest.raises(error):
            check()


def test_many_blocks_are_each_as_if_alone():
    body = f"""{TID} mov.u32 %r2, %ctaid.x; mad.lo.u32 %r29, %r2, 64, %r1; mul.lo.u32 %r3, %r29, %r2;
        {store("u32", "out", "%r3")}"""
    i = np.arange(64 * 300)
    np.testing.assert_array_equal(run(body, 64 * 300, grid=300), i * (i // 64))
