"""The interpreter's arithmetic, instruction by instruction, against exact numbers, integers of any size and NumPy."""

import math
from fractions import Fraction

import numpy as np
import pytest

from tests.interpreter import ptx
from tests.interpreter.snippets import compute, kernel, pairs

F4, F8 = np.float32, np.float64
SPECIAL = [0.0, -0.0, 1.0, -1.0, np.inf, -np.inf, np.nan, 3.5, -2.5, 0.1, 1e-40, -1e-45, 3e38, -3e38, 2.0**-126, 1e30]
PRECISION = {F4: (24, -149, 127), F8: (53, -1074, 1023)}


def floats(dtype, count=2, n=600, seed=0):
    """Numbers of every size, and all combinations of the special ones."""
    rng = np.random.default_rng(seed)
    wide = [rng.standard_normal(n) * 2.0 ** rng.integers(-60, 60, n) for _ in range(count)]
    near = [np.round(rng.standard_normal(n) * 64) * 2.0**-6 for _ in range(count)]
    columns = [np.concatenate(parts) for parts in zip(wide, near, strict=True)]
    with np.errstate(over="ignore"):
        return [
            np.concatenate([c, s]).astype(dtype)[:1024] for c, s in zip(columns, pairs(SPECIAL[:9], count), strict=True)
        ]


def rounded(x, dtype, mode="rn"):
    """An exact number as the float that `mode` names."""
    digits, lowest, highest = PRECISION[dtype]
    if x == 0:
        return dtype(0)
    size = abs(x)
    exponent = max(math.floor(math.log2(size.numerator) - math.log2(size.denominator)) - digits, lowest)
    while Fraction(2) ** (exponent + digits) <= size:
        exponent += 1
    exact = size / Fraction(2) ** exponent
    whole = math.floor(exact)
    rest = exact - whole
    down = {
        "rz": True,
        "rm": x > 0,
        "rp": x < 0,
        "rn": rest < Fraction(1, 2) or (rest == Fraction(1, 2) and whole % 2 == 0),
    }
    whole += 0 if rest == 0 or down[mode] else 1
    value = Fraction(whole) * Fraction(2) ** exponent
    if value >= Fraction(2) ** (highest + 1):
        return (
            dtype(math.copysign(np.inf, x))
            if not down[mode] or mode == "rn"
            else dtype(math.copysign(np.finfo(dtype).max, x))
        )
    return dtype(float(value) * (1 if x > 0 else -1))


def exactly(function, plain, dtype, columns, mode="rn"):
    """A function of rationals, rounded once; NumPy's for what is not finite or has a zero's sign."""
    with np.errstate(all="ignore"):
        result = np.array(plain(*columns), dtype)
    for i, row in enumerate(zip(*columns, strict=True)):
        if all(np.isfinite(row)):
            value = function(*(Fraction(float(v)) for v in row))
            result[i] = rounded(value, dtype, mode) if value else result[i]
    return result


def same(found, expected):
    """The same numbers, zeros with their signs, and NaN where NaN."""
    np.testing.assert_array_equal(found, expected)
    zeros = np.asarray(expected) == 0
    if np.asarray(expected).dtype.kind == "f":
        np.testing.assert_array_equal(np.signbit(found[zeros]), np.signbit(expected[zeros]))


@pytest.mark.parametrize(("kind", "dtype"), [("f32", F4), ("f64", F8)])
@pytest.mark.parametrize(
    ("name", "function"),
    [("add", lambda a, b: a + b), ("sub", lambda a, b: a - b), ("mul", lambda a, b: a * b)],
)
def test_sums_and_products_are_rounded_once(name, function, kind, dtype):
    a, b = floats(dtype)
    same(
        compute(f"{name}.{kind} %out, %a, %b;", kind, (kind, a), (kind, b)), exactly(function, function, dtype, (a, b))
    )


@pytest.mark.parametrize("mode", ["rz", "rm", "rp"])
def test_sums_and_products_that_are_rounded_to_one_side(mode):
    a, b = (x[:500] for x in floats(F4))
    for name, function in (("add", lambda a, b: a + b), ("mul", lambda a, b: a * b)):
        found = compute(f"{name}.{mode}.f32 %out, %a, %b;", "f32", ("f32", a), ("f32", b))
        np.testing.assert_array_equal(found, exactly(function, function, F4, (a, b), mode))


@pytest.mark.parametrize(
    ("kind", "dtype", "mode"), [("f32", F4, m) for m in ("rn", "rz", "rm", "rp")] + [("f64", F8, "rn")]
)
def test_fused_multiply_add_is_rounded_once(kind, dtype, mode):
    a, b, c = floats(dtype, 3, 300)
    half = len(a) // 3
    c[:half] = -(a[:half].astype(F8) * b[:half]).astype(dtype)  # what remains is the product's lost part
    c[half : 2 * half] *= dtype(2.0 ** (-24 if dtype is F4 else -53))  # near a tie
    found = compute(f"fma.{mode}.{kind} %out, %a, %b, %c;", kind, *((kind, x) for x in (a, b, c)))
    with np.errstate(all="ignore"):
        usual = np.isfinite(a) & np.isfinite(b) & np.isfinite(c)
    expected = exactly(lambda a, b, c: a * b + c, lambda a, b, c: a * b + c, dtype, (a, b, c), mode)
    keep = usual & (expected != 0)
    np.testing.assert_array_equal(found[keep], expected[keep])
    np.testing.assert_array_equal(found[~usual], expected[~usual])
    assert keep.sum() > 500


def test_a_sum_just_below_a_tie_is_not_rounded_twice():
    """In float64 the sum is the tie itself, which would go to the even neighbour above."""
    a, b, c = (np.array([x], F4) for x in (2.0**-24 * (1 + 2.0**-23), 1 - 2.0**-23, 1 + 2.0**-23))
    assert F4(F8(a[0]) * F8(b[0]) + F8(c[0])) == 1 + 2.0**-22
    assert compute("fma.rn.f32 %out, %a, %b, %c;", "f32", ("f32", a), ("f32", b), ("f32", c))[0] == c[0]


def test_flushed_subnormal_numbers():
    a, b = (x.astype(F4) for x in pairs(SPECIAL))
    flush = lambda x: np.where(np.abs(x) < F4(2.0**-126), np.copysign(F4(0), x), x)  # noqa: E731
    for name, function in (("add", np.add), ("mul", np.multiply)):
        found = compute(f"{name}.ftz.f32 %out, %a, %b;", "f32", ("f32", a), ("f32", b))
        with np.errstate(all="ignore"):
            same(found, flush(function(flush(a), flush(b))))
    assert compute("ex2.approx.ftz.f32 %out, %a;", "f32", ("f32", np.array([-130, -149], F4))).tolist() == [0, 0]
    assert compute("ex2.approx.f32 %out, %a;", "f32", ("f32", np.array([-130], F4))) == F4(2.0**-130)


def test_saturation():
    a = np.array([-1, -0.0, 0.25, 1, 7, np.inf, -np.inf, np.nan], F4)
    same(compute("add.sat.f32 %out, %a, 0f00000000;", "f32", ("f32", a)), np.array([0, 0, 0.25, 1, 1, 1, 0, 0], F4))
    same(compute("cvt.sat.f32.f32 %out, %a;", "f32", ("f32", a)), np.array([0, 0, 0.25, 1, 1, 1, 0, 0], F4))


@pytest.mark.parametrize("kind", ["f32", "f64"])
def test_extremes_ignore_nan_unless_asked(kind):
    a, b = (x.astype(F4 if kind == "f32" else F8) for x in pairs(SPECIAL))
    for name, function in (("max", np.fmax), ("min", np.fmin)):
        found = compute(f"{name}.{kind} %out, %a, %b;", kind, (kind, a), (kind, b))
        expected = function(a, b)
        zeros = (a == 0) & (b == 0)
        negative = np.signbit(a) & np.signbit(b) if name == "max" else np.signbit(a) | np.signbit(b)
        expected[zeros] = np.where(negative[zeros], -0.0, 0.0)
        same(found, expected)
    spread = compute("max.NaN.f32 %out, %a, %b;", "f32", ("f32", a.astype(F4)), ("f32", b.astype(F4)))
    np.testing.assert_array_equal(np.isnan(spread), np.isnan(a) | np.isnan(b))
    c = np.roll(b, 7)
    three = compute(f"max.{kind} %out, %a, %b, %c;", kind, (kind, a), (kind, b), (kind, c))
    np.testing.assert_array_equal(three, np.fmax(np.fmax(a, b), c))


def test_elementary_functions():
    a = np.abs(floats(F4, 1)[0])
    wide = a.astype(F8)
    with np.errstate(all="ignore"):
        cases = {
            "rcp.approx.f32": 1 / wide,
            "rcp.rn.f32": 1 / wide,
            "sqrt.rn.f32": np.sqrt(wide),
            "lg2.approx.f32": np.log2(wide),
            "rsqrt.approx.f32": 1 / np.sqrt(wide),
            "tanh.approx.f32": np.tanh(wide),
        }
        cases = {name: expected.astype(F4) for name, expected in cases.items()}
    for name, expected in cases.items():
        np.testing.assert_allclose(compute(f"{name} %out, %a;", "f32", ("f32", a)), expected, rtol=2e-7)
    z = np.array([0, -0.0, -np.inf, np.inf, np.nan, 1, -1, 0.5, 127, 200], F4)
    expected = np.array([1, 1, 0, np.inf, np.nan, 2, 0.5, math.sqrt(2), 2.0**127, np.inf], F4)
    np.testing.assert_array_equal(compute("ex2.approx.f32 %out, %a;", "f32", ("f32", z)), expected)


def test_rough_functions_are_wrong_by_less_than_documented():
    x = np.random.default_rng(0).uniform(-20, 20, 512).astype(F4)
    body = "mov.u32 %r1, %tid.x; mul.wide.u32 %q1, %r1, 4; ld.param.u64 %q2, [x]; add.u64 %q2, %q2, %q1;"
    body += "ld.global.f32 %f1, [%q2]; ex2.approx.f32 %f2, %f1; st.global.f32 [%q2], %f2;"
    program, errors = ptx.program(kernel(body, [("u64", "x")])), []
    for rough in (False, True):
        out, memory = x.copy(), ptx.Memory()
        ptx.launch(program, memory, 1, 512, [memory.add(out)], rough=rough)
        errors.append(np.abs(out / np.exp2(x.astype(F8)) - 1).max())
    assert errors[0] <= 2.0**-24
    assert 2.0**-24 < errors[1] < 2.0**-21.5
