"""Operators on vectors; exp, log and their relatives: errors in ulps over the whole range, special values, NaNs."""

import functools
import math
from decimal import Context, Decimal, localcontext

import numpy as np
import pytest
from numba import njit

from fastsoftmax.core.dtypes import storage_of
from fastsoftmax.cpu import jit
from fastsoftmax.cpu.simd import elementary
from fastsoftmax.cpu.simd.memory import lanes_of, load, load_n, ref, store, store_n
from fastsoftmax.cpu.simd.vectors import fma, horner, select, splat

DTYPES = [np.float32, np.float64]
INF, NAN = math.inf, math.nan
DIGITS = 60  # of the decimal references: 1 + x keeps 40 digits of any x that the series do not take
TINY = Decimal("1e-15")  # below it three terms of a series have 40 digits
BOUNDS = {"exp": 2, "exp_nonpositive": 2, "expm1_nonpositive": 2, "log": 2, "log1p": 2, "tanh": 3}
DOUBLE = {
    "exp": np.exp,
    "exp_nonpositive": np.exp,
    "expm1_nonpositive": np.expm1,
    "log": np.log,
    "log1p": np.log1p,
    "tanh": np.tanh,
}


@functools.cache
def mapper(function, dtype):
    """`function` of vectors as a compiled function from one array to another, whose tail takes the masked accesses."""
    kind = storage_of(np.dtype(dtype))

    @njit(cache=False, **jit.OPTIONS)
    def apply(source, target, n):
        x, out = ref(source, 0, kind, True), ref(target, 0, kind, True)
        width, j = lanes_of(x), 0
        while j + width <= n:
            store(out, j, function(load(x, j)))
            j += width
        if j < n:
            store_n(out, j, n - j, function(load_n(x, j, n - j, 0.0)))

    return apply


def mapped(function, x):
    x = np.ascontiguousarray(x)
    out = np.full_like(x, 77)
    mapper(function, x.dtype.type)(x.ctypes.data, out.ctypes.data, x.size)
    return out


def compute(name, values, dtype):
    return mapped(getattr(elementary, name), np.array(values, dtype))


def domain(name, x):
    """What of a sample a function is made for: signs are turned rather than thrown away."""
    if name.endswith("nonpositive"):
        return -np.abs(x)
    return np.abs(x) if name.startswith("log") else x


def sample(dtype, mantissas, uniform):
    """Every exponent and both signs with random mantissas, and a uniform sample of where exp is neither 0 nor inf."""
    rng = np.random.default_rng(1)
    bits, count = (np.uint32, 23) if dtype is np.float32 else (np.uint64, 52)
    low, high = (-106, 90) if dtype is np.float32 else (-750, 712)
    top = np.arange(2 ** (8 * dtype().itemsize - count), dtype=bits)[:, None] << bits(count)
    drawn = rng.integers(0, 2**count, (top.size, mantissas), dtype=bits)
    drawn[:, 0], drawn[:, -1] = 0, 2**count - 1  # the ends of each binade
    everywhere = (top | drawn).view(dtype).ravel()
    everywhere = everywhere[~np.isnan(everywhere)]
    small = 2.0 ** rng.uniform(
        math.log2(np.finfo(dtype).smallest_subnormal), math.log2(np.finfo(dtype).tiny), uniform // 8
    )
    around_one = 1 + rng.normal(size=uniform // 4) * 2.0 ** rng.integers(-count, 0, uniform // 4)
    return np.concatenate([everywhere, rng.uniform(low, high, uniform), small, around_one]).astype(dtype)


# Operators -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", DTYPES)
def test_arithmetic(dtype):
    """Operators between vectors and numbers on either side, in the precision of the vector."""
    kind, width = storage_of(np.dtype(dtype)), 64 // np.dtype(dtype).itemsize

    @njit(cache=False, **jit.OPTIONS)
    def run(a, b, target):
        x, y, out = load(ref(a, 0, kind, True), 0), load(ref(b, 0, kind, True), 0), ref(target, 0, kind, True)
        store(out, 0, (x + y) * 0.1 - 3)
        store(out, width, 2 / x - y / x)
        store(out, 2 * width, fma(x, 2, y))
        store(out, 3 * width, -x)
        store(out, 4 * width, select(x < y, 1.0, splat(x, 0.0)) + select(x == y, 2.0, splat(x, 0.0)))
        store(out, 5 * width, select(x != y, 1.0, splat(x, 0.0)) + select(x > 1.0, 2.0, splat(x, 0.0)))

    x = np.arange(width, dtype=dtype) - 3.5
    y = x[::-1].copy()
    y[0], x[1], y[2] = x[0], NAN, NAN
    out = np.empty((6, width), dtype)
    run(x.ctypes.data, y.ctypes.data, out.ctypes.data)
    np.testing.assert_array_equal(out[0], (x + y) * dtype(0.1) - dtype(3))
    np.testing.assert_array_equal(out[1], dtype(2) / x - y / x)
    np.testing.assert_array_equal(out[2], x * 2 + y)  # exact, fused or not
    np.testing.assert_array_equal(out[3], -x)
    np.testing.assert_array_equal(out[4], (x < y) + 2.0 * (x == y))
    np.testing.assert_array_equal(out[5], (x != y) + 2.0 * (x > 1))


# float32 against NumPy's float64 ----------------------------------------------------------------------------------


@pytest.mark.parametrize("name", BOUNDS)
def test_float32_errors(name):
    x = domain(name, sample(np.float32, 4096, 1_000_000))
    found = mapped(getattr(elementary, name), x)
    with np.errstate(all="ignore"):
        exact = DOUBLE[name](x.astype(np.float64))
        rounded = exact.astype(np.float32)
        # The spacing is that of subnormals where the result is one.
        ulps = np.abs(found.astype(np.float64) - exact) / np.spacing(np.abs(rounded)).astype(np.float64)
    finite = np.isfinite(rounded)
    assert x.size > 2_000_000
    assert finite.sum() > 1_000_000
    np.testing.assert_array_equal(found[~finite], rounded[~finite])
    worst = np.argmax(np.where(finite, ulps, 0.0))
    assert np.isfinite(found[finite]).all()
    assert ulps[worst] <= BOUNDS[name], f"{name}({float(x[worst])!r}) = {found[worst]!r}: {ulps[worst]:.3f} ulp"


# float64 against decimal ------------------------------------------------------------------------------------------


def decimal_expm1(x):
    return x + x * x / 2 + x * x * x / 6 if abs(x) < TINY else x.exp() - 1


def decimal_log1p(x):
    return x - x * x / 2 + x * x * x / 3 if x < TINY else (1 + x).ln()


def decimal_tanh(x):
    t = decimal_expm1(-2 * abs(x))
    return (-t / (t + 2)).copy_sign(x)


DECIMAL = {
    "exp": Decimal.exp,
    "exp_nonpositive": Decimal.exp,
    "expm1_nonpositive": decimal_expm1,
    "log": Decimal.ln,
    "log1p": decimal_log1p,
    "tanh": decimal_tanh,
}


@pytest.mark.parametrize("name", BOUNDS)
def test_float64_errors(name):
    x = domain(name, sample(np.float64, 3, 4000)[:: 1 if name == "exp_nonpositive" else 2])
    x = x[np.isfinite(x) & (np.abs(x) < 1e4 if "log" not in name else x > 0)]
    found = mapped(getattr(elementary, name), x)
    worst, where, finite = 0.0, 0.0, 0
    with localcontext(Context(prec=DIGITS)):
        for argument, result in zip(x.tolist(), found.tolist(), strict=True):
            exact = DECIMAL[name](Decimal(argument))
            nearest = float(exact)
            if math.isinf(nearest):
                assert result == nearest, argument
                continue
            assert math.isfinite(result), argument
            ulps = float(abs(Decimal(result) - exact) / Decimal(math.ulp(nearest)))
            worst, where = max((worst, where), (ulps, argument))
            finite += 1
    assert finite > 2000
    assert worst <= BOUNDS[name], f"{name}({where!r}): {worst:.3f} ulp"


# Special values ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(
    ("name", "arguments", "expected"),
    [
        ("exp", [-INF, INF, 0.0, -0.0, 1e30, -1e30], [0.0, INF, 1.0, 1.0, INF, 0.0]),
        ("exp_nonpositive", [-INF, 0.0, -0.0, -1e30], [0.0, 1.0, 1.0, 0.0]),
        ("expm1_nonpositive", [-INF, 0.0, -0.0, -1e30], [-1.0, 0.0, 0.0, -1.0]),
        ("log", [0.0, -0.0, INF, 1.0, -1.0, -INF, -1e-30], [-INF, -INF, INF, 0.0, NAN, NAN, NAN]),
        ("log1p", [0.0, INF], [0.0, INF]),
        ("tanh", [0.0, -0.0, INF, -INF, 1e30, -1e30, 50.0, -50.0], [0.0, 0.0, 1.0, -1.0, 1.0, -1.0, 1.0, -1.0]),
    ],
)
def test_special_values(name, arguments, expected, dtype):
    np.testing.assert_array_equal(compute(name, arguments, dtype), np.array(expected, dtype))


@pytest.mark.parametrize("dtype", DTYPES)
def test_ends_of_the_range(dtype):
    """The largest argument of exp with a finite result, subnormal results, and the logarithms of all magnitudes."""
    info = np.finfo(dtype)
    last = np.nextafter(dtype(math.log(info.max)), dtype(0))
    below = compute("exp", [last, np.nextafter(last, dtype(0))], dtype)
    assert np.isfinite(below).all()
    assert (below > info.max / 1.001).all()
    beyond = dtype(math.log(info.max) * 1.000001)
    assert compute("exp", [beyond, np.nextafter(beyond, dtype(INF))], dtype).tolist() == [INF, INF]
    tiny = info.smallest_subnormal
    for name in ("exp", "exp_nonpositive"):
        smallest = compute(name, math.log(tiny) + np.log([1.0, 0.51, 0.49]), dtype)
        assert smallest.tolist() == [tiny, tiny, 0.0]
    powers = 2.0 ** np.arange(math.log2(tiny), math.log2(info.max))
    np.testing.assert_allclose(compute("log", powers, dtype), np.log(powers), rtol=2 * info.eps)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", BOUNDS)
def test_nan_in_every_lane(name, dtype):
    """A NaN of either sign stays in its lane, in whole vectors and in tails."""
    n = 2 * 64 // np.dtype(dtype).itemsize - 1
    x = domain(name, np.full((n, n), 0.7, dtype))
    clean = compute(name, x[0], dtype)
    assert np.isfinite(clean).all()
    assert len(set(clean.tolist())) == 1
    for nan in (NAN, -NAN):
        for i in range(n):
            x[i, i] = nan
            found = compute(name, x[i], dtype)
            assert np.isnan(found[i])
            np.testing.assert_array_equal(np.delete(found, i), clean[1:])


@pytest.mark.parametrize("dtype", DTYPES)
def test_shapes_of_the_functions(dtype):
    """Probabilities never exceed 1, exp(x) - 1 stays between -1 and 0, and tanh is odd and within [-1, 1]."""
    x = sample(dtype, 3, 100_000)
    p = mapped(elementary.exp_nonpositive, domain("exp_nonpositive", x))
    assert p.min() == 0
    assert p.max() == 1
    e = mapped(elementary.expm1_nonpositive, domain("expm1_nonpositive", x))
    assert e.min() == -1
    assert e.max() == 0
    up, down = mapped(elementary.tanh, x), mapped(elementary.tanh, -x)
    np.testing.assert_array_equal(up, -down)
    assert np.abs(up).max() == 1


# Multiplication by powers of two ----------------------------------------------------------------------------------


@jit.inline
def _by_instruction(x):
    r, t = elementary._reduced(x)
    return elementary._scaled(horner(r, elementary.EXP32, elementary.EXP64), t)


@jit.inline
def _by_steps(x):
    r, t = elementary._reduced(x)
    return elementary._scaled_in_steps(horner(r, elementary.EXP32, elementary.EXP64), t)


@pytest.mark.parametrize("dtype", DTYPES)
def test_both_ways_to_scale_agree(dtype):
    """To the bit, subnormal results included (on machines with the instruction; elsewhere they are one)."""
    low, high = (-104.0, 88.0) if dtype is np.float32 else (-746.0, 709.0)
    x = np.random.default_rng(2).uniform(low, high, 100_000).astype(dtype)
    x = np.concatenate([x, np.linspace(low, low * 0.9, 50_000, dtype=dtype), np.array([0.0, low, high], dtype)])
    found, expected = mapped(_by_steps, x), mapped(_by_instruction, x)
    np.testing.assert_array_equal(found.view(np.uint8), expected.view(np.uint8))
    assert ((found > 0) & (found < np.finfo(dtype).tiny)).sum() > 1000
    assert np.isnan(mapped(_by_steps, np.array([NAN, -NAN], dtype))).all()
