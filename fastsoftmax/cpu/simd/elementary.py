"""exp, log and their relatives on SIMD vectors, in float32 and float64 from one text.

Branch-free: range reduction, a polynomial, and selects for what lies outside.  The coefficients interpolate the exact
function at Chebyshev nodes (computed with 60 digits), rounded to the precision they serve.  Errors in ulps over the
whole range are measured in ``tests/cpu/test_elementary.py``.
"""

from collections import namedtuple

from ..jit import inline
from .vectors import (
    AVX512,
    bits,
    fma,
    from_bits,
    held,
    horner,
    mantissa_bits,
    pick,
    picked,
    polynomial,
    scalef,
    select,
    splat,
    to_float,
)

LOG2E = 1.4426950408889634
INF = float("inf")
NAN = float("nan")

# (exp(r) - 1 - r) / r**2 on |r| <= ln(2)/2: relative error 2e-9 and 4e-18.
EXPM32 = (0.001392626785673201, 0.00836324691772461, 0.04166655242443085, 0.16666576266288757, 0.5)
EXPM64 = (
    2.5100494788905042e-08,
    2.76202305675069e-07,
    2.7557268229963227e-06,
    2.4801520996825697e-05,
    0.00019841269863201828,
    0.0013888888917406447,
    0.008333333333330032,
    0.04166666666662374,
    0.16666666666666669,
    0.5000000000000001,
)
# exp(r) itself: two more coefficients of 1.
EXP32, EXP64 = (*EXPM32, 1.0, 1.0), (*EXPM64, 1.0, 1.0)
# (log((1+s)/(1-s)) - 2s) / s**3 as a polynomial in s**2, for 1+f = (1+s)/(1-s) in [sqrt(1/2), sqrt(2)].
LOG32 = (0.23330964148044586, 0.28550803661346436, 0.4000012278556824, 0.6666666865348816)
LOG64 = (
    0.1461703754879165,
    0.1533167403016786,
    0.18182890556695602,
    0.2222221111514416,
    0.2857142862609589,
    0.3999999999989924,
    0.666666666666667,
)
# ln(2) in two parts; the first has so few bits that multiplying it by an exponent is exact without a fused multiply.
LN2_HI32, LN2_LO32 = 0.693115234375, 3.1946184945309415e-05
LN2_HI64, LN2_LO64 = 0.6931471803691238, 1.9082149292705877e-10
# Adding 1.5 * 2**(mantissa bits) rounds to the nearest integer, which then stands in the low bits.
MAGIC32, MAGIC64 = 12582912.0, 6755399441055744.0
# At these and below exp is 0; so it is at -inf, whose reduction would be NaN.  They are -191 and -1151 times ln(2):
# `_power` is the bit pattern 0 there, and nothing subnormal is computed on the way, which takes a Zen 3 20 cycles.
ZERO32, ZERO64 = -132.39, -797.81
# What a power of two is raised by (and lowered again) so that no exponent of exp_nonpositive is too small for it.
LIFT32, LIFT64 = 2.0**64, 2.0**128

# What exp computes with, as vectors: (lowest argument, 1/ln(2), MAGIC, the parts of -ln(2)), and the polynomial.
Constants = namedtuple("Constants", ("reduction", "polynomial"))
REDUCTION32 = (ZERO32, LOG2E, MAGIC32, -LN2_HI32, -LN2_LO32)
REDUCTION64 = (ZERO64, LOG2E, MAGIC64, -LN2_HI64, -LN2_LO64)


@inline
def exp_constants(like):
    """The constants of `exp_by`, for vectors like `like`: made once, before a loop, and kept in registers."""
    return Constants(held(picked(like, REDUCTION32, REDUCTION64)), held(picked(like, EXP32, EXP64)))


@inline
def _reduced(x):
    """(r, t) with ``x = n ln(2) + r``, |r| <= ln(2)/2, and ``t = n + MAGIC``."""
    return _reduced_by(picked(x, REDUCTION32, REDUCTION64), x)


@inline
def _reduced_by(reduction, x):
    _, log2e, magic, high, low = reduction
    t = fma(x, log2e, magic)
    n = t - magic
    return fma(n, low, fma(n, high, x)), t


@inline
def _scaled_in_steps(p, t):
    """``p * 2**n`` for ``t = n + MAGIC``, in two steps where 2**n alone would be subnormal.

    The scale is multiplied rather than added to the bits of p, so that a NaN stays one.
    """
    tiny = pick(t, MAGIC32 - 126.0, MAGIC64 - 1022.0) > t
    lifted = select(tiny, bits(pick(t, LIFT32, LIFT64)), bits(splat(t, 1.0)))
    return p * _power(t, lifted) * select(tiny, pick(t, 1.0 / LIFT32, 1.0 / LIFT64), splat(t, 1.0))


@inline
def _power(t, one):
    """``2**n`` times the power of two with the bits `one`, for ``t = n + MAGIC``."""
    return from_bits(t, (bits(t) << mantissa_bits(t)) + one)


@inline
def _scaled(p, t):
    """``p * 2**n`` for ``t = n + MAGIC``."""
    return _scaled_by(pick(t, MAGIC32, MAGIC64), p, t)


@inline
def _scaled_by(magic, p, t):
    """The same: one instruction, subnormal results included, where there is one for it."""
    if AVX512:
        return scalef(p, t - magic)
    return _scaled_in_steps(p, t)


@inline
def _scaled_down(magic, p, t):
    """The same for n <= 0: two multiplications of which the first is exact, and nothing to choose between."""
    if AVX512:
        return scalef(p, t - magic)
    return p * _power(t, bits(pick(t, LIFT32, LIFT64))) * pick(t, 1.0 / LIFT32, 1.0 / LIFT64)


@inline
def exp_by(constants, x):
    """`exp_nonpositive`, with constants that were made before."""
    lowest, _, magic, _, _ = constants.reduction
    r, t = _reduced_by(constants.reduction, select(lowest > x, lowest, x))
    return _scaled_down(magic, polynomial(r, constants.polynomial), t)


@inline
def exp_nonpositive(x):
    """exp(x) for x <= 0 or NaN, which is all that a softmax needs: gradual underflow, exactly 0 at -inf."""
    return exp_by(Constants(picked(x, REDUCTION32, REDUCTION64), picked(x, EXP32, EXP64)), x)


@inline
def exp(x):
    """exp(x) for any x: gradual underflow, exactly 0 at -inf, inf past the largest float, NaN for NaN."""
    low = pick(x, ZERO32, ZERO64)
    high = pick(x, 88.72283935546875, 709.782712893384)
    r, t = _reduced(select(low > x, low, x))
    # 2**1024 (2**128) itself does not exist: take half of it, twice.
    lower = select(x > pick(x, 88.0, 709.0), 1.0, splat(x, 0.0))
    return select(x > high, INF, _scaled(horner(r, EXP32, EXP64) * (1.0 + lower), t - lower))


@inline
def expm1_nonpositive(x):
    """exp(x) - 1 for x <= 0 or NaN, without cancellation."""
    low = pick(x, -80.0, -700.0)
    r, t = _reduced(select(low > x, low, x))
    scale = _power(t, bits(splat(x, 1.0)))  # a normal number at -80 and -700
    e = fma(horner(r, EXPM32, EXPM64), r * r, r)
    return fma(scale, e, scale - 1.0)


@inline
def _log_normal(x, n):
    """log(x) - n ln(2) for a normal x > 0, n being whole; junk for any other."""
    # The exponent of x / sqrt(1/2), so that the mantissa falls into [sqrt(1/2), sqrt(2)].
    root = bits(pick(x, 0.7071067811865476, 0.7071067811865476))
    k = bits(x) - root >> mantissa_bits(x)
    f = from_bits(x, bits(x) - (k << mantissa_bits(x))) - 1.0
    n = to_float(x, k) - n
    s = f / (f + 2.0)
    z = s * s
    half = f * f * 0.5
    tail = fma(n, pick(x, LN2_LO32, LN2_LO64), s * fma(z, horner(z, LOG32, LOG64), half))
    return fma(n, pick(x, LN2_HI32, LN2_HI64), f - (half - tail))


@inline
def log(x):
    """log(x): -inf at 0, inf at inf, NaN for NaN and below 0; subnormals are exact as well."""
    small = pick(x, 2.0**-126, 2.0**-1022) > x
    y = x * select(small, pick(x, 2.0**32, 2.0**64), splat(x, 1.0))
    result = _log_normal(y, select(small, pick(x, 32.0, 64.0), splat(x, 0.0)))
    result = select(x == INF, INF, select(x == 0.0, -INF, result))
    return select(x < 0.0, NAN, select(x != x, x, result))


@inline
def log1p(x):
    """log(1 + x) for x >= 0: log of the rounded sum, plus what the rounding lost."""
    u = x + 1.0
    result = _log_normal(u, 0.0) + (x - (u - 1.0)) / u
    return select(x < INF, result, x)


@inline
def tanh(x):
    """tanh(x) by expm1(-2|x|), which keeps its relative precision around 0."""
    sign = bits(splat(x, -0.0))
    t = expm1_nonpositive(from_bits(x, bits(x) | sign) * 2.0)
    return from_bits(x, bits((0.0 - t) / (t + 2.0)) | bits(x) & sign)  # 0 - t is never -0
