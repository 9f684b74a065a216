"""The arithmetic of PTX in NumPy, rounded as a GPU rounds: fused multiply-add, flushed subnormals, conversions."""

import numpy as np

F2, F4, F8 = np.float16, np.float32, np.float64
U1, U2, U4, U8 = np.uint8, np.uint16, np.uint32, np.uint64
I1, I2, I4, I8 = np.int8, np.int16, np.int32, np.int64
BITS = {2: U2, 4: U4, 8: U8}
TINY = {F2: F2(2.0**-14), F4: F4(2.0**-126), F8: F8(2.0**-1022)}
#: The bits of a float64 below a float32's: rounding twice goes wrong where they are exactly one half.
LOW, HALF = I8((1 << 29) - 1), I8(1 << 28)
NAN_BF16 = U4(0x7FFF)


def flush(x):
    """Subnormal numbers become zeros of their sign (``.ftz``)."""
    small = np.abs(x) < TINY[F4]
    return np.where(small, x * F4(0), x) if small.any() else x


def two_sum(a, b):
    """``a + b`` rounded, and what was lost."""
    total = a + b
    part = total - a
    return total, (a - (total - part)) + (b - part)


def to_odd(total, lost):
    """A rounded float64 and what it lost as one float64 rounded to odd, which survives a second rounding."""
    bits = np.asarray(total).view(I8)
    away = np.where((lost > 0) == (total > 0), I8(1), I8(-1))
    inexact = (lost != 0) & (bits & I8(1) == 0) & np.isfinite(total)
    # The neighbour of 0 on the side of `lost` is not one step in bits; a sum is 0 only if it is exact.
    return np.where(inexact, bits + away, bits).view(F8)


def narrow(total, lost, rounding):
    """The float32 nearest to ``total + lost``, or the one on the side that `rounding` names."""
    odd = to_odd(total, lost)
    near = odd.astype(F4)
    if rounding == "rn":
        return near
    up, down = near.astype(F8) < odd, near.astype(F8) > odd
    if rounding == "rz":
        up, down = up & (odd < 0), down & (odd > 0)
    up = up & (rounding != "rm")
    down = down & (rounding != "rp")
    near = np.where(up, np.nextafter(near, F4(np.inf)), near)
    return np.where(down, np.nextafter(near, F4(-np.inf)), near).astype(F4, copy=False)


def add4(a, b, rounding):
    """float32 addition, rounded as named."""
    return narrow(*two_sum(a.astype(F8), b.astype(F8)), rounding)


def mul4(a, b, rounding):
    """float32 multiplication, rounded as named: the product is exact in float64."""
    return narrow(a.astype(F8) * b.astype(F8), F8(0), rounding)


def fma4(a, b, c, rounding="rn"):
    """``a * b + c`` in float32 with one rounding."""
    product, addend = a.astype(F8) * b.astype(F8), c.astype(F8)
    total = product + addend
    if rounding != "rn" or total.ndim == 0:
        return narrow(*two_sum(product, addend), rounding)
    near = total.astype(F4)
    # Rounding twice is wrong at most where the first one gives a tie, which subnormal numbers have at other bits.
    doubtful = total.view(I8) & LOW == HALF
    doubtful |= np.abs(near) <= TINY[F4]
    at = np.nonzero(doubtful)[0]
    if len(at):
        few = (x[at] if x.ndim else x for x in (product, addend))
        near[at] = narrow(*two_sum(*few), rounding)
    return near


def split(a):
    """A float64 as two numbers of 26 bits each."""
    big = a * F8(134217729.0)
    high = big - (big - a)
    return high, a - high


def two_product(a, b):
    """``a * b`` rounded, and what was lost (without overflow or underflow)."""
    product = a * b
    (ah, al), (bh, bl) = split(a), split(b)
    return product, ((ah * bh - product) + ah * bl + al * bh) + al * bl


def fma8(a, b, c):
    """``a * b + c`` in float64 with one rounding (Boldo and Melquiond, 2008), by steps where numbers are extreme."""
    uh, ul = two_product(a, b)
    th, tl = two_sum(c, ul)
    vh, vl = two_sum(uh, th)
    exact = vh + to_odd(*two_sum(tl, vl))
    plain = a * b + c
    usual = (np.abs(uh) < 1e290) & (np.abs(uh) > 1e-270) & (np.abs(a) < 1e290) & (np.abs(b) < 1e290)
    return np.where(usual & (np.abs(c) < 1e290), exact, plain)


def fma2(a, b, c):
    """``a * b + c`` in float16: exact in float64, but for the rounding."""
    total, lost = two_sum(a.astype(F8) * b.astype(F8), c.astype(F8))
    return to_odd(total, lost).astype(F2)


def largest(a, b):
    """The larger number; the other one where one is NaN; +0 of two zeros."""
    return signed_zeros(np.fmax(a, b), a, b, np.bitwise_and)


def smallest(a, b):
    """The smaller number; the other one where one is NaN; -0 of two zeros."""
    return signed_zeros(np.fmin(a, b), a, b, np.bitwise_or)


def signed_zeros(result, a, b, combine):
    """Give zeros the sign that the bits of two zeros have together."""
    zeros = result == 0
    if not zeros.any():
        return result
    bits = BITS[a.itemsize]
    return np.where((a == 0) & (b == 0), combine(a.view(bits), b.view(bits)).view(a.dtype), result)


def spread_nan(result, a, b):
    """The ``.NaN`` of min and max: NaN where either operand is."""
    return np.where((a != a) | (b != b), a.dtype.type(np.nan), result)


def saturate(x):
    """Between 0 and 1, and NaN to 0."""
    return np.where(x > 0, np.minimum(x, x.dtype.type(1)), x.dtype.type(0))


def half_of(x, saturated=False):
    """float32 or float64 to float16."""
    near = x.astype(F2)
    return np.where(np.isinf(near) & np.isfinite(x), np.copysign(F2(65504), near), near) if saturated else near


def bf16_of(x):
    """float32 to the bits of bfloat16, to nearest even."""
    bits = x.view(U4)
    near = (bits + U4(0x7FFF) + ((bits >> U4(16)) & U4(1))) >> U4(16)
    return np.where(x != x, NAN_BF16, near).astype(U2)


def float_of(bits):
    """The bits of bfloat16 to float32."""
    return (bits.astype(U4) << U4(16)).view(F4)


def pack(high, low):
    """Two 16-bit patterns as one word."""
    return (high.astype(U4) << U4(16)) | low.astype(U4)


def integer_of(x, dtype, rounded):
    """A float to an integer: rounded as named, kept in range, NaN to 0 (the lowest for 64 bits)."""
    whole = {"rni": np.rint, "rzi": np.trunc, "rmi": np.floor, "rpi": np.ceil}[rounded](x)
    limits = np.iinfo(dtype)
    top = x.dtype.type(limits.max)
    inside = (whole >= limits.min) & (whole < top if float(top) > limits.max else whole <= top)
    near = np.where(inside, whole, 0).astype(dtype)
    near = np.where((whole > 0) & ~inside, dtype(limits.max), np.where((whole < 0) & ~inside, dtype(limits.min), near))
    return np.where(x != x, dtype(1 << 63 if dtype is U8 else limits.min if dtype is I8 else 0), near).astype(dtype)


def clip_to(x, dtype):
    """An integer in the range of a narrower type (``cvt.sat``)."""
    limits, own = np.iinfo(dtype), np.iinfo(x.dtype)
    return np.clip(x, max(limits.min, own.min), min(limits.max, own.max)).astype(dtype)


def shift_left(x, count):
    """Shifts by the width or more give 0."""
    width = 8 * x.itemsize
    return np.where(count < width, x << (count & U4(width - 1)).astype(x.dtype), x.dtype.type(0))


def shift_right(x, count):
    """Shifts by the width or more give 0, or the sign."""
    width = 8 * x.itemsize
    return (
        x >> np.minimum(count, U4(width - 1)).astype(x.dtype)
        if x.dtype.kind == "i"
        else np.where(count < width, x >> (count & U4(width - 1)).astype(x.dtype), x.dtype.type(0))
    )


def funnel(low, high, count, left, wrapped):
    """A word out of two: ``shf``."""
    count = (count & U4(31) if wrapped else np.minimum(count, U4(32))).astype(U8)
    pair = (high.astype(U8) << U8(32)) | low.astype(U8)
    return ((pair << count) >> U8(32) if left else pair >> count).astype(U4)


def permute(a, b, selector):
    """The bytes of two words in any order: ``prmt``, with a selector's fourth bit for the sign."""
    pair = (b.astype(U8) << U8(32)) | a.astype(U8)
    word = U4(0)
    for i in range(4):
        choice = (selector >> U4(4 * i)) & U4(15)
        byte = ((pair >> (U8(8) * (choice & U4(7)).astype(U8))) & U8(255)).astype(U4)
        byte = np.where(choice & U4(8) != 0, np.where(byte & U4(128) != 0, U4(255), U4(0)), byte)
        word = word | (byte << U4(8 * i))
    return word.astype(U4)


def high_product(a, b):
    """The upper half of a product."""
    if a.itemsize < 8:
        wide = I8 if a.dtype.kind == "i" else U8
        return ((a.astype(wide) * b.astype(wide)) >> wide(8 * a.itemsize)).astype(a.dtype)
    au, bu, m = a.view(U8), b.view(U8), U8(0xFFFFFFFF)
    al, ah, bl, bh = au & m, au >> U8(32), bu & m, bu >> U8(32)
    middle = (al * bl >> U8(32)) + (ah * bl & m) + (al * bh & m)
    high = ah * bh + (ah * bl >> U8(32)) + (al * bh >> U8(32)) + (middle >> U8(32))
    if a.dtype.kind == "i":
        high = high - np.where(a < 0, bu, U8(0)) - np.where(b < 0, au, U8(0))
    return high.view(a.dtype)


def field(a, position, length):
    """Bits out of a word: ``bfe``, with the sign for signed types."""
    width = 8 * a.itemsize
    position, length = np.minimum(position & U4(255), U4(width)), np.minimum(length & U4(255), U4(width))
    unsigned = BITS[a.itemsize]
    kept = np.minimum(length, U4(width) - position)
    bits = shift_right(a.view(unsigned), position)
    bits = shift_right(shift_left(bits, U4(width) - kept), U4(width) - kept)
    if a.dtype.kind == "u":
        return bits
    last = np.minimum(position + length - U4(1), U4(width - 1))
    negative = (shift_right(a.view(unsigned), last) & unsigned(1) != 0) & (length > 0)
    return np.where(negative, bits | shift_left(~unsigned(0) + (bits & unsigned(0)), kept), bits).view(a.dtype)


def insert(a, b, position, length):
    """Bits of `a` put into `b`: ``bfi``."""
    width, unsigned = 8 * a.itemsize, a.dtype.type
    position, length = np.minimum(position & U4(255), U4(width)), np.minimum(length & U4(255), U4(width))
    ones = ~shift_left(~unsigned(0) + (a & unsigned(0)), length)
    mask = shift_left(ones, position)
    return (b & ~mask) | (shift_left(a, position) & mask)


def reversed_bits(x):
    """``brev``."""
    octets = np.ascontiguousarray(x)[..., None].view(U1)
    bits = np.unpackbits(octets, axis=-1, bitorder="little")
    return np.packbits(bits[..., ::-1], axis=-1, bitorder="little").view(x.dtype)[..., 0]


def leading_zeros(x):
    """``clz``: exact through float64's exponent only below 2**53, hence in halves."""
    if x.itemsize == 8:
        high = leading_zeros((x >> U8(32)).astype(U4))
        return np.where(high < 32, high, U4(32) + leading_zeros(x.astype(U4)))
    return (U4(32) - np.frexp(x.astype(F8))[1].astype(U4)).astype(U4)


def exp2(x):
    """``ex2.approx``, correctly rounded."""
    return np.exp2(x.astype(F8)).astype(x.dtype)


def log2(x):
    """``lg2.approx``, correctly rounded."""
    return np.log2(x.astype(F8)).astype(x.dtype)


def reciprocal(x):
    """``rcp``."""
    return x.dtype.type(1) / x


def gross(x):
    """The float64 forms of ``.approx``: the lower word is 0."""
    return (x.view(U8) & U8(0xFFFFFFFF00000000)).view(F8)
