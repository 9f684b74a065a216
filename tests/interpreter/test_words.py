"""The interpreter's integers, bits, comparisons, moves and conversions against Python's integers and NumPy."""

import math

import ml_dtypes
import numpy as np
import pytest

from tests.interpreter import ptx
from tests.interpreter.snippets import WORDS, compute, integers, kernel, pairs

F4, F8 = np.float32, np.float64
BFLOAT16 = np.dtype(ml_dtypes.bfloat16)
SPECIAL = [0.0, -0.0, 1.0, -1.0, np.inf, -np.inf, np.nan, 3.5, -2.5, 0.1]


def gives(statement, result, expected, *operands):
    """Assert what an instruction gives."""
    np.testing.assert_array_equal(compute(statement, result, *operands), expected, statement)


def wrapped(values, dtype):
    """Python integers modulo the width."""
    bits = 8 * np.dtype(dtype).itemsize
    return np.array([int(v) & (2**bits - 1) for v in values], f"u{bits // 8}").view(dtype)


@pytest.mark.parametrize("kind", ["u32", "s32", "u64", "s64"])
def test_integer_arithmetic(kind):
    bits, signed = int(kind[1:]), kind[0] == "s"
    a, b = integers(bits, signed)
    dtype = a.dtype
    x, y = a.tolist(), b.tolist()
    pair = list(zip(x, y, strict=True))
    plain = {
        "add": [p + q for p, q in pair],
        "sub": [p - q for p, q in pair],
        "mul.lo": [p * q for p, q in pair],
        "mul.hi": [p * q >> bits for p, q in pair],
        "min": [min(p, q) for p, q in pair],
        "max": [max(p, q) for p, q in pair],
    }
    for name, expected in plain.items():
        found = compute(f"{name}.{kind} %out, %a, %b;", kind, (kind, a), (kind, b))
        np.testing.assert_array_equal(found, wrapped(expected, dtype), name)
    mad = compute(f"mad.lo.{kind} %out, %a, %b, 7;", kind, (kind, a), (kind, b))
    np.testing.assert_array_equal(mad, wrapped([p * q + 7 for p, q in pair], dtype))
    nonzero = [i for i, (p, q) in enumerate(pair) if q != 0 and not (q == -1 and p == np.iinfo(dtype).min)]
    for name, function in (
        ("div", lambda p, q: abs(p) // abs(q) * (1 if (p < 0) == (q < 0) else -1)),
        ("rem", math.fmod),
    ):
        exact = (
            (lambda p, q: p - q * (abs(p) // abs(q) * (1 if (p < 0) == (q < 0) else -1))) if name == "rem" else function
        )
        found = compute(f"{name}.{kind} %out, %a, %b;", kind, (kind, a[nonzero]), (kind, b[nonzero]))
        np.testing.assert_array_equal(found, wrapped([exact(*pair[i]) for i in nonzero], dtype), name)
    if bits == 32:
        wide = f"{kind[0]}64"
        found = compute(f"mul.wide.{kind} %out, %a, %b;", wide, (kind, a), (kind, b))
        np.testing.assert_array_equal(found, wrapped([p * q for p, q in pair], found.dtype))
        found = compute(f"mad.wide.{kind} %out, %a, %b, 5;", wide, (kind, a), (kind, b))
        np.testing.assert_array_equal(found, wrapped([p * q + 5 for p, q in pair], found.dtype))


@pytest.mark.parametrize("bits", [32, 64])
def test_logic_and_shifts(bits):
    a, b = integers(bits, False)
    x, y, mask, kind = a.tolist(), b.tolist(), 2**bits - 1, f"b{bits}"
    pair = list(zip(x, y, strict=True))
    for name, expected in {
        "and": [p & q for p, q in pair],
        "or": [p | q for p, q in pair],
        "xor": [p ^ q for p, q in pair],
    }.items():
        gives(f"{name}.{kind} %out, %a, %b;", kind, expected, (kind, a), (kind, b))
    gives(f"not.{kind} %out, %a;", kind, [p ^ mask for p in x], (kind, a))
    for count in (0, 1, bits // 2, bits - 1, bits, bits + 1, 2**31):
        c = np.full(len(a), count, np.uint32)
        left = [p << count & mask if count < bits else 0 for p in x]
        right = [p >> count if count < bits else 0 for p in x]
        sign = [(p - 2**bits if p >> (bits - 1) else p) >> min(count, bits - 1) & mask for p in x]
        for text, operands in ((f"{count}", ()), ("%b", (("u32", c),))):
            for name, expected in ((f"shl.b{bits}", left), (f"shr.u{bits}", right), (f"shr.s{bits}", sign)):
                found = compute(f"{name} %out, %a, {text};", f"u{bits}", (kind, a), *operands)
                np.testing.assert_array_equal(found, np.array(expected, f"u{bits // 8}"), f"{name} {count}")


def test_bits():
    a, b = integers(32, False)
    x, pair = a.tolist(), list(zip(a.tolist(), b.tolist(), strict=True))
    one = {
        "popc.b32": [p.bit_count() for p in x],
        "clz.b32": [32 - p.bit_length() for p in x],
        "brev.b32": [int(f"{p:032b}"[::-1], 2) for p in x],
    }
    for name, expected in one.items():
        gives(f"{name} %out, %a;", "b32", expected, ("b32", a))
    (long,) = integers(64, False, 1)
    gives("clz.b64 %out, %a;", "b32", [64 - p.bit_length() for p in long.tolist()], ("b64", long))
    gives("popc.b64 %out, %a;", "b32", [p.bit_count() for p in long.tolist()], ("b64", long))
    for table in (0x96, 0xE8, 0x01, 0xFE, 0x00, 0xCA):
        c = np.roll(a, 3)
        found = compute(f"lop3.b32 %out, %a, %b, %c, {table};", "b32", ("b32", a), ("b32", b), ("b32", c))
        expected = [
            sum((table >> ((p >> i & 1) << 2 | (q >> i & 1) << 1 | (r >> i & 1)) & 1) << i for i in range(32))
            for p, q, r in zip(a.tolist(), b.tolist(), c.tolist(), strict=True)
        ]
        np.testing.assert_array_equal(found, expected, hex(table))
    for selector in (0x3210, 0x7654, 0x5410, 0x7632, 0x0123, 0x9BDF, 0x4440):
        data = [[*p.to_bytes(4, "little"), *q.to_bytes(4, "little")] for p, q in pair]
        chosen = [
            [
                row[selector >> 4 * i & 7] if not selector >> 4 * i & 8 else 255 * (row[selector >> 4 * i & 7] >> 7)
                for i in range(4)
            ]
            for row in data
        ]
        found = compute(f"prmt.b32 %out, %a, %b, {selector};", "b32", ("b32", a), ("b32", b))
        np.testing.assert_array_equal(found, [int.from_bytes(row, "little") for row in chosen], hex(selector))


@pytest.mark.parametrize("count", [0, 1, 16, 31, 32, 33])
def test_funnel_shifts(count):
    a, b = integers(32, False)
    pair = [q << 32 | p for p, q in zip(a.tolist(), b.tolist(), strict=True)]
    clamped, around = min(count, 32), count & 31
    for name, expected in {
        "shf.l.wrap": [v << around >> 32 & 0xFFFFFFFF for v in pair],
        "shf.r.wrap": [v >> around & 0xFFFFFFFF for v in pair],
        "shf.l.clamp": [v << clamped >> 32 & 0xFFFFFFFF for v in pair],
        "shf.r.clamp": [v >> clamped & 0xFFFFFFFF for v in pair],
    }.items():
        gives(f"{name}.b32 %out, %a, %b, {count};", "b32", expected, ("b32", a), ("b32", b))


@pytest.mark.parametrize(("position", "length"), [(0, 0), (0, 32), (4, 8), (16, 16), (24, 20), (31, 1), (40, 3)])
def test_bit_fields(position, length):
    a, b = integers(32, False)
    start, stop = min(position, 32), min(position + length, 32)
    for p, found in zip(
        a.tolist(), compute(f"bfe.u32 %out, %a, {position}, {length};", "u32", ("u32", a)).tolist(), strict=True
    ):
        assert found == (p >> start) & (2 ** max(stop - start, 0) - 1)
    signed = compute(f"bfe.s32 %out, %a, {position}, {length};", "s32", ("s32", a)).tolist()
    for p, found in zip(a.tolist(), signed, strict=True):
        bits = [p >> i & 1 for i in range(start, stop)]
        sign = (p >> min(position + length - 1, 31)) & 1 if length else 0
        expected = int("".join(map(str, reversed(bits + [sign] * (32 - len(bits))))), 2)
        assert found & 0xFFFFFFFF == expected
    inserted = compute(f"bfi.b32 %out, %a, %b, {position}, {length};", "b32", ("b32", a), ("b32", b)).tolist()
    for p, q, found in zip(a.tolist(), b.tolist(), inserted, strict=True):
        mask = sum(1 << i for i in range(start, stop))
        assert found == (q & ~mask) | (p << start & mask)


def test_comparisons_of_floats_and_nan():
    a, b = (x.astype(F4) for x in pairs(SPECIAL))
    unordered = np.isnan(a) | np.isnan(b)
    plain = {"eq": a == b, "ne": (a != b) & ~unordered, "lt": a < b, "le": a <= b, "gt": a > b, "ge": a >= b}
    for name, expected in plain.items():
        gives(f"setp.{name}.f32 %out, %a, %b;", "pred", expected, ("f32", a), ("f32", b))
        found = compute(f"setp.{name}u.f32 %out, %a, %b;", "pred", ("f32", a), ("f32", b))
        np.testing.assert_array_equal(found, expected | unordered, name + "u")
    gives("setp.num.f32 %out, %a, %b;", "pred", ~unordered, ("f32", a), ("f32", b))
    gives("setp.nan.f32 %out, %a, %b;", "pred", unordered, ("f32", a), ("f32", b))
    both = compute("setp.lt.and.f32 %out, %a, %b, %c;", "pred", ("f32", a), ("f32", b), ("pred", np.arange(len(a)) % 2))
    np.testing.assert_array_equal(both, (a < b) & (np.arange(len(a)) % 2 == 1))


def test_comparisons_of_integers():
    a, b = integers(32, False)
    for kind, x, y in (("u32", a, b), ("s32", a.view("i4"), b.view("i4"))):
        for name, function in (("lt", np.less), ("ge", np.greater_equal), ("eq", np.equal), ("ne", np.not_equal)):
            found = compute(f"setp.{name}.{kind} %out, %a, %b;", "pred", (kind, x), (kind, y))
            np.testing.assert_array_equal(found, function(x, y))
    gives("setp.lo.u32 %out, %a, %b;", "pred", a < b, ("u32", a), ("u32", b))
    gives("setp.hs.u32 %out, %a, %b;", "pred", a >= b, ("u32", a), ("u32", b))
    second = compute("setp.lt.u32 %p1|%out, %a, %b;", "pred", ("u32", a), ("u32", b))
    np.testing.assert_array_equal(second, a >= b)
    p = np.arange(len(a)) % 3 == 0
    gives("selp.b32 %out, %a, %b, %c;", "b32", np.where(p, a, b), ("b32", a), ("b32", b), ("pred", p))
    gives("and.pred %p1, %a, %b; not.pred %out, %p1;", "pred", ~(p & (a % 2 == 1)), ("pred", p), ("pred", a % 2))


def test_floats_to_integers_stay_in_range():
    x = np.array([0.5, -0.5, 1.5, 2.5, -2.5, 2.0**31, -(2.0**31), 2.0**33, -1e30, np.inf, -np.inf, np.nan, 7.99], F4)
    modes = {"rni": np.rint, "rzi": np.trunc, "rmi": np.floor, "rpi": np.ceil}
    for mode, function in modes.items():
        for kind in ("s32", "u32", "s64", "u64"):
            limits = np.iinfo(f"{'i' if kind[0] == 's' else 'u'}{int(kind[1:]) // 8}")
            nan = {"s32": 0, "u32": 0, "s64": limits.min, "u64": 2**63}[kind]
            expected = [
                nan
                if v != v
                else min(max(int(function(F8(v))) if np.isfinite(v) else math.inf * np.sign(v), limits.min), limits.max)
                for v in x
            ]
            found = compute(f"cvt.{mode}.{kind}.f32 %out, %a;", kind, ("f32", x))
            assert found.tolist() == expected, (mode, kind)
        gives(f"cvt.{mode}.f32.f32 %out, %a;", "f32", function(x), ("f32", x))


def test_conversions_between_integers_and_to_floats():
    (a,) = integers(32, False, 1)
    s = a.view("i4")
    gives("cvt.s64.s32 %out, %a;", "s64", s.astype(np.int64), ("s32", s))
    gives("cvt.u64.u32 %out, %a;", "u64", a.astype(np.uint64), ("u32", a))
    gives("cvt.rn.f32.s32 %out, %a;", "f32", s.astype(F4), ("s32", s))
    gives("cvt.rn.f32.u32 %out, %a;", "f32", a.astype(F4), ("u32", a))
    gives("cvt.rn.f64.s32 %out, %a;", "f64", s.astype(F8), ("s32", s))
    gives("cvt.u16.u32 %h1, %a; cvt.u32.u16 %out, %h1;", "u32", a & 0xFFFF, ("u32", a))
    gives("cvt.s32.s8 %out, %a;", "s32", a.astype(np.uint8).view("i1"), ("b32", a))
    gives("cvt.sat.u8.s32 %r1, %a; mov.b32 %out, %r1;", "u32", np.clip(s, 0, 255), ("s32", s))
    wide = np.array([1 + 2.0**-24, 1 + 2.0**-23 + 2.0**-24, 0.1, -0.1, 1e300, np.nan])
    with np.errstate(over="ignore"):
        gives("cvt.rn.f32.f64 %out, %a;", "f32", wide.astype(F4), ("f64", wide))
    found = compute("cvt.rz.f32.f64 %out, %a;", "f32", ("f64", np.array([0.1, -0.1, 1e300])))
    assert found.tolist() == [F4(0.1) if F4(0.1) < 0.1 else np.nextafter(F4(0.1), F4(0)), -found[0], np.finfo(F4).max]


def test_half_precision():
    rng = np.random.default_rng(0)
    x = np.concatenate(
        [rng.standard_normal(200) * 2.0 ** rng.integers(-30, 17, 200), SPECIAL, [65519, 65520, 1 + 2.0**-8]]
    ).astype(F4)
    y = np.roll(x, 1)
    with np.errstate(over="ignore"):
        halves, brains = x.astype(np.float16), x.astype(BFLOAT16)
        packed = {"f16": (y.astype(np.float16), halves), "bf16": (y.astype(BFLOAT16), brains)}
    for kind, (high, low) in packed.items():
        nan = {"f16": None, "bf16": 0x7FFF}[kind]
        words = [np.where(np.isnan(v.astype(F4)) & (nan is not None), nan, v.view(np.uint16)) for v in (high, low)]
        found = compute(f"cvt.rn.{kind}x2.f32 %out, %b, %a;", f"{kind}x2", ("f32", x), ("f32", y))
        np.testing.assert_array_equal(found >> 16, words[0])
        np.testing.assert_array_equal(found & 0xFFFF, words[1])
        found = compute(f"cvt.rn.{kind}.f32 %out, %a;", kind, ("f32", x)).view(np.uint16)
        np.testing.assert_array_equal(found, words[1])
        gives(f"cvt.f32.{kind} %out, %a;", "f32", low.astype(F4), (kind, low.view(np.uint16)))
    for name, function in (("add", np.add), ("mul", np.multiply), ("max", np.fmax)):
        with np.errstate(all="ignore"):
            expected = function(halves, np.roll(halves, 1))
            pair = function(brains.astype(F4), np.roll(brains, 1).astype(F4)).astype(BFLOAT16).astype(F4)
        found = compute(f"{name}.f16 %out, %a, %b;", "f16", ("f16", halves), ("f16", np.roll(halves, 1)))
        np.testing.assert_array_equal(found, expected)
        found = compute(
            f"{name}.bf16 %out, %a, %b;", "bf16", ("bf16", brains.view("u2")), ("bf16", np.roll(brains, 1).view("u2"))
        )
        np.testing.assert_array_equal(found.view(BFLOAT16).astype(F4), pair)


def test_moves_pack_and_unpack():
    a, b = integers(32, False)
    joined = compute("mov.b64 %out, {%a, %b};", "b64", ("b32", a), ("b32", b))
    np.testing.assert_array_equal(joined, a.astype(np.uint64) | b.astype(np.uint64) << np.uint64(32))
    gives("mov.b64 {%r1, %out}, %a;", "b32", b, ("b64", joined))
    gives("mov.b64 {%out, _}, %a;", "b32", a, ("b64", joined))
    gives("mov.b32 {%h1, %h2}, %a; mov.b32 %out, {%h2, %h1};", "b32", a << 16 | a >> 16, ("b32", a))
    gives("mov.b32 %f1, %a; mov.b32 %out, %f1;", "b32", a, ("b32", a))
    gives("mov.f32 %out, 0f3DCCCCCD;", "f32", np.full(32, F4(0.1)))
    gives("mov.f64 %out, 0d3FB999999999999A;", "f64", np.full(32, 0.1))


def test_what_is_not_known_is_named():
    for statement in (
        "wgmma.fence.sync.aligned;",
        "add.rn.satfinite.f32 %f1, %f2, %f2;",
        "mov.u32 %r1, %nonsense;",
        "ld.global.v3.u32 %r1, [%q1];",
    ):
        with pytest.raises(ptx.PtxError, match=r"unknown|read before"):
            ptx.launch(ptx.program(kernel(statement)), ptx.Memory(), 1, 1, ())
    with pytest.raises(ptx.Unsupported, match="order of threads"):
        ptx.program(kernel("red.global.add.f32 [%q1], %f1;"))
    with pytest.raises(ptx.PtxError, match="%f1 is read before"):
        ptx.launch(ptx.program(kernel("add.f32 %f2, %f1, %f1;")), ptx.Memory(), 1, 1, ())
    assert set(WORDS) == {32, 64}
