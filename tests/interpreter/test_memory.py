"""The interpreter's memory: every width and space, what is out of bounds, misaligned or unwritten, and the counters."""

import numpy as np
import pytest

from tests.interpreter import ptx
from tests.interpreter.snippets import kernel, load, store

X = [("u64", "x"), ("u64", "out")]
INDEX = "mov.u32 %r29, %tid.x;"


def run(body, arrays, grid=1, block=32, parameters=X, extra=(), **options):
    """Launch a body on some arrays; the result of the launch."""
    memory = ptx.Memory()
    names = [name for _, name in parameters]
    arguments = [memory.add(a, names[i]) if isinstance(a, np.ndarray) else a for i, a in enumerate(arrays)]
    text = kernel(body, parameters, **{k: options.pop(k) for k in ("registers", "outside") if k in options})
    return ptx.launch(ptx.program(text), memory, grid, block, [*arguments, *extra], **options)


def at(parameter, scale, offset=0, target="%q1"):
    """The address of a parameter's byte scale * tid + offset."""
    return (
        f"ld.param.u64 {target}, [{parameter}]; mov.u32 %r29, %tid.x; mul.wide.u32 %q29, %r29, {scale}; "
        f"add.u64 {target}, {target}, %q29; add.s64 {target}, {target}, {offset};"
    )


@pytest.mark.parametrize("kind", ["u8", "s8", "u16", "s16", "b32", "u64", "f32", "f64"])
def test_loads_extend_and_stores_cut_off(kind):
    size = int(kind[1:]) // 8
    x = np.random.default_rng(0).integers(0, 256, 32 * size, np.uint8)
    out, wide = np.zeros_like(x), np.zeros(32, np.uint64)
    register = f"%f{1}" if kind == "f32" else "%d1" if kind == "f64" else "%q5"
    body = f"{at('x', size)} ld.global.{kind} {register}, [%q1]; {at('out', size)} st.global.{kind} [%q1], {register};"
    if register == "%q5":
        body += f"{at('wide', 8)} st.global.u64 [%q1], %q5;"
    run(body, [x, out, wide], parameters=[*X, ("u64", "wide")])
    np.testing.assert_array_equal(out, x)
    if register == "%q5":
        dtype = np.dtype(f"{'i' if kind[0] == 's' else 'u'}{size}")
        np.testing.assert_array_equal(wide.view(np.int64), x.view(dtype).astype(np.int64))


@pytest.mark.parametrize(
    ("kind", "count"), [("f32", 2), ("f32", 4), ("u32", 4), ("b16", 4), ("b64", 2), ("f64", 2), ("b32", 8)]
)
@pytest.mark.parametrize("hint", ["", ".nc", ".cs", ".volatile", ".L1::no_allocate", ".relaxed.gpu"])
def test_vectors(kind, count, hint):
    size = int(kind[1:]) // 8 * count
    x = np.random.default_rng(0).integers(0, 256, 32 * size, np.uint8)
    out = np.zeros_like(x)
    prefix = {"f32": "%f", "f64": "%d", "b16": "%h", "b64": "%q1"}.get(kind, "%r")
    names = "{" + ", ".join(f"{prefix}{i + 1}" for i in range(count)) + "}"
    body = f"{at('x', size)} ld{hint}.global.v{count}.{kind} {names}, [%q1];".replace("ld.nc.global", "ld.global.nc")
    result = run(f"{body} {at('out', size)} st.global.v{count}.{kind} [%q1], {names};", [x, out])
    np.testing.assert_array_equal(out, x)
    assert result.traffic["x"].loads == {size: 32}
    assert result.traffic["out"].stores == {size: 32}
    assert (result.traffic["x"].loaded, result.traffic["out"].stored) == (32 * size, 32 * size)


@pytest.mark.parametrize(
    ("offset", "inside"), [(0, True), (-4, False), (4, False), (1 << 33, False), (-(1 << 40), False)]
)
@pytest.mark.parametrize("what", ["ld", "st"])
def test_out_of_bounds(offset, inside, what):
    x, out = np.zeros(32, np.float32), np.zeros(32, np.float32)
    access = "ld.global.f32 %f1, [%q1];" if what == "ld" else "st.global.f32 [%q1], 0f00000000;"
    body = at("x", 4, offset) + access
    if inside:
        run(body, [x, out])
        return
    with pytest.raises(ptx.OutOfBounds, match=rf"accesses 4 bytes at 0x.*'x'.*{what}\.global"):
        run(body, [x, out])


def test_a_buffer_next_to_another_is_not_reached_by_it():
    """Not even where the addresses of both are in one access."""
    memory, x = ptx.Memory(), np.zeros(32, np.float32)
    first = memory.add(x, "x")
    memory.add(x.copy(), "y", at=first + 128 + 64)
    body = at("x", 8) + "ld.global.f32 %f1, [%q1];"
    with pytest.raises(ptx.OutOfBounds, match=r"thread 16 of block 0.*'x'"):
        ptx.launch(ptx.program(kernel(body, X[:1])), memory, 1, 32, [first])
    with pytest.raises(ValueError, match="overlaps"):
        memory.add(x, at=first + 64)


def test_buffers_far_apart_are_one_access():
    """Offsets of more than 32 bits, as rows of a huge array have."""
    memory, rows = ptx.Memory(), [np.full(4, i, np.float32) for i in range(3)]
    first = memory.add(rows[0], "row 0")
    for i in (1, 2):
        memory.add(rows[i], f"row {i}", at=first + i * 3_000_000_000)
    body = at("x", 3_000_000_000).replace("mul.wide.u32 %q29, %r29, 3000000000", "mul.wide.u32 %q29, %r29, 0xB2D05E00")
    body += f"ld.global.f32 %f1, [%q1]; add.f32 %f1, %f1, 0f3F800000; st.global.f32 [%q1+8], %f1; {INDEX}"
    ptx.launch(ptx.program(kernel(body, X[:1])), memory, 1, 3, [first])
    assert [row.tolist() for row in rows] == [[i, i, i + 1, i] for i in range(3)]


@pytest.mark.parametrize(
    ("kind", "count", "offset"), [("f32", 1, 2), ("f64", 1, 4), ("f32", 4, 4), ("f32", 4, 8), ("b16", 1, 1)]
)
def test_misaligned(kind, count, offset):
    size = int(kind[1:]) // 8 * count
    x, out = np.zeros(33 * size, np.uint8), np.zeros(4, np.uint8)
    prefix = {"f32": "%f", "f64": "%d", "b16": "%h"}[kind]
    names = "{" + ", ".join(f"{prefix}{i + 1}" for i in range(count)) + "}" if count > 1 else f"{prefix}1"
    access = f"ld.global{f'.v{count}' * (count > 1)}.{kind} {names}, [%q1];"
    run(at("x", size) + access, [x, out])
    with pytest.raises(ptx.Misaligned, match=f"no multiple of {size} bytes"):
        run(at("x", size, offset) + access, [x, out])


def test_the_base_of_a_buffer_may_be_misaligned():
    x = np.arange(40, dtype=np.float32)
    memory = ptx.Memory()
    program = ptx.program(kernel(at("x", 16) + "ld.global.v4.f32 {%f1, %f2, %f3, %f4}, [%q1+4];", X[:1]))
    ptx.launch(program, memory, 1, 8, [memory.add(x, offset=12)])
    with pytest.raises(ptx.Misaligned):
        ptx.launch(program, memory, 1, 8, [memory.add(x, offset=4)])


def test_what_must_not_be_written_or_was_not_written():
    memory, x = ptx.Memory(), np.zeros(32, np.float32)
    writing = ptx.program(kernel(at("x", 4) + "st.global.f32 [%q1], 0f3F800000;", X[:1]))
    reading = ptx.program(kernel(at("x", 4) + "ld.global.f32 %f1, [%q1];", X[:1]))
    with pytest.raises(ptx.PtxError, match="only to be read"):
        ptx.launch(writing, memory, 1, 32, [memory.add(x, "x", writable=False)])
    fresh = memory.add(x, "fresh", initialised=False)
    with pytest.raises(ptx.Uninitialised, match="thread 0 of block 0 reads part of 'fresh'"):
        ptx.launch(reading, memory, 1, 32, [fresh])
    ptx.launch(writing, memory, 1, 31, [fresh])
    ptx.launch(reading, memory, 1, 31, [fresh])
    with pytest.raises(ptx.Uninitialised, match="thread 31"):
        ptx.launch(reading, memory, 1, 32, [fresh])


SHARED = ".shared .align 16 .b8 room[128];"


@pytest.mark.parametrize("generic", [False, True])
def test_shared_memory(generic):
    x, out = np.arange(64, dtype=np.float32), np.zeros(64, np.float32)
    space, base = ("", "cvta.shared.u64 %q5, %q4;") if generic else (".shared", "mov.u64 %q5, %q4;")
    body = f"""{INDEX} mov.u32 %r1, %ctaid.x; mad.lo.u32 %r29, %r1, 32, %r29; {load("%f1", "f32", "x")}
        {SHARED} mov.u64 %q4, room; {base} mov.u32 %r2, %tid.x; mul.wide.u32 %q6, %r2, 4; add.u64 %q5, %q5, %q6;
        st{space}.f32 [%q5], %f1; bar.sync 0; sub.u32 %r3, 31, %r2; mul.wide.u32 %q6, %r3, 4;
        mov.u64 %q7, room; {base.replace("%q5", "%q8").replace("%q4", "%q7")} add.u64 %q8, %q8, %q6;
        ld{space}.f32 %f2, [%q8]; {store("f32", "out", "%f2")}"""
    run(body, [x, out], grid=2)
    np.testing.assert_array_equal(out, np.concatenate([np.arange(31, -1, -1), np.arange(63, 31, -1)]))


@pytest.mark.parametrize(
    ("access", "error", "message"),
    [
        ("ld.shared.f32 %f1, [room];", ptx.Uninitialised, "shared memory at offset 0"),
        ("st.shared.f32 [room+128], %f1;", ptx.OutOfBounds, "of 128 bytes of shared"),
        ("st.shared.f32 [room+2], %f1;", ptx.Misaligned, "no multiple of 4"),
        ("st.shared.v4.f32 [room+8], {%f1, %f1, %f1, %f1};", ptx.Misaligned, "no multiple of 16"),
        ("mov.u32 %r1, room; ld.shared.f32 %f1, [%r1+-4];", ptx.OutOfBounds, "shared"),
    ],
)
def test_what_is_wrong_in_shared_memory(access, error, message):
    with pytest.raises(error, match=message):
        run(f"{SHARED} mov.f32 %f1, 0f00000000; {access}", [np.zeros(1), np.zeros(1)], block=1)


def test_dynamic_shared_memory_follows_the_declared_one():
    outside = ".extern .shared .align 16 .b8 more[];\n.shared .align 4 .b8 few[20];"
    body = f"""mov.u32 %r1, more; mov.u32 %r2, few; {INDEX} setp.ne.u32 %p1, %r29, 0; @%p1 bra END;
        st.shared.u32 [few], %r1; st.shared.v4.u32 [more+16], {{%r1, %r2, %r1, %r2}}; ld.shared.u32 %r3, [%r1+16];
        {store("u32", "out", "%r3")} END:"""
    out = np.zeros(1, np.uint32)
    run(body, [out, out.copy()], outside=outside, shared=32, block=1)
    with pytest.raises(ptx.OutOfBounds, match="of 48 bytes"):
        run(body, [out, out], outside=outside, shared=16)
    with pytest.raises(ptx.PtxError, match="bytes of shared memory"):
        run(body, [out, out], outside=outside, shared=300_000)


def test_local_memory_belongs_to_a_thread():
    out = np.zeros(64, np.uint32)
    body = f"""{INDEX} .local .align 8 .b8 depot[16]; mov.u64 %q1, depot; cvta.local.u64 %q2, %q1;
        mul.lo.u32 %r1, %r29, 3; st.local.u32 [%q1+4], %r1; ld.u32 %r2, [%q2+4]; {store("u32", "out", "%r2")}"""
    run(body, [out.copy(), out], block=64)
    np.testing.assert_array_equal(out, 3 * np.arange(64))
    with pytest.raises(ptx.OutOfBounds, match="local"):
        run(body.replace("depot+4", "depot").replace("[%q1+4]", "[%q1+16]"), [out.copy(), out], block=64)


def test_tables_of_the_module():
    out = np.zeros(8, np.uint32)
    outside = ".global .align 4 .b8 table[16] = {1, 0, 0, 0, 2, 0, 0, 0, 3, 0, 0, 0, 255, 255};"
    body = f"""{INDEX} and.b32 %r1, %r29, 3; mul.wide.u32 %q2, %r1, 4; mov.u64 %q1, table; add.u64 %q1, %q1, %q2;
        ld.global.u32 %r2, [%q1]; {store("u32", "out", "%r2")}"""
    run(body, [out.copy(), out], block=8, outside=outside)
    assert out.tolist() == [1, 2, 3, 65535] * 2


def test_parameters_of_every_type():
    out = np.zeros(4, np.float64)
    parameters = [*X, ("f32", "a"), ("f64", "b"), ("u32", "c"), ("b64", "d")]
    body = """ld.param.f32 %f1, [a]; cvt.f64.f32 %d1, %f1; ld.param.f64 %d2, [b]; ld.param.u32 %r1, [c];
        cvt.rn.f64.u32 %d3, %r1; ld.param.b64 %d4, [d]; ld.param.u64 %q1, [out];
        st.global.v2.f64 [%q1], {%d1, %d2}; st.global.v2.f64 [%q1+16], {%d3, %d4};"""
    extra = [np.float32(0.1), 0.2, 3, np.float64(0.4)]
    run(body, [out.copy(), out], block=1, parameters=parameters, extra=extra)
    assert out.tolist() == [float(np.float32(0.1)), 0.2, 3, 0.4]
    for i, wrong in ((0, 1), (0, np.float64(1)), (1, np.float32(1)), (2, np.int64(1)), (3, np.float32(1))):
        with pytest.raises(ptx.PtxError, match="expected"):
            run(body, [out, out], parameters=parameters, extra=[*extra[:i], wrong, *extra[i + 1 :]])
    with pytest.raises(ptx.PtxError, match="expected 6 arguments"):
        run(body, [out, out], parameters=parameters)


@pytest.mark.parametrize(
    ("name", "expected"),
    [("add", 5 + sum(range(64))), ("max", 63), ("min", 0), ("or", 63), ("xor", 5), ("and", 0), ("exch", 63)],
)
def test_atomics(name, expected):
    x, out = np.array([5], np.uint32), np.zeros(64, np.uint32)
    kind = "u32" if name in ("add", "max", "min") else "b32"
    body = f"ld.param.u64 %q1, [x]; {INDEX} atom.global.{name}.{kind} %r1, [%q1], %r29; {store('u32', 'out', '%r1')}"
    result = run(body, [x, out], block=64)
    assert x[0] == expected
    assert out[0] == 5
    assert result.traffic["x"].atomics == 64
    run(body.replace("atom", "red").replace("%r1, [%q1]", "[%q1]").replace(store("u32", "out", "%r1"), ""), [x, out])


@pytest.mark.parametrize(
    ("scale", "size", "sectors"), [(4, 4, 8), (0, 4, 2), (8, 4, 16), (32, 4, 64), (16, 16, 32), (2, 2, 4), (-4, 4, 10)]
)
def test_sectors_are_counted_once_a_warp(scale, size, sectors):
    """64 threads: two warps, each with its own."""
    x = np.zeros(64 * 32 + 64, np.uint8)
    memory = ptx.Memory()
    kind, count = {2: ("u16", 1), 4: ("u32", 1), 16: ("u32", 4)}[size]
    names = "{%r1, %r2, %r3, %r4}" if count == 4 else "%r1" if size == 4 else "%h1"
    body = at("x", abs(scale), 0).replace(
        "add.u64 %q1, %q1, %q29", f"{'sub' if scale < 0 else 'add'}.u64 %q1, %q1, %q29"
    )
    text = kernel(body + f"ld.global{'.v4' * (count == 4)}.{kind} {names}, [%q1];", X[:1])
    start = memory.add(x, "x") + (1024 + 16 if scale < 0 else 0)
    assert ptx.launch(ptx.program(text), memory, 1, 64, [start]).traffic["x"].load_sectors == sectors
