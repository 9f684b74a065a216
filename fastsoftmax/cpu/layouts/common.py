"""The parts that kernels of all layouts share: reading parameters, and the elementwise part of the losses."""

from ...core.options import Numbers
from .. import parameters as P
from ..jit import inline
from ..simd.laws import vector
from ..simd.memory import lanes_of, load, load_n, ref, store, store_n
from ..simd.vectors import fma, select, splat
from ..simd.words import floats_at, integer_at, label_at, quotient, within

INF = float("inf")
_capped = vector["capped"]


@inline
def read_options(params):
    """The numbers of a loss."""
    return floats_at(params, P.NUMBERS, Numbers)


@inline
def transform(flags, o, x):
    """The logits that the loss sees, of those that are read: adjusted ones are transformed already."""
    return x if flags.adjusted else tempered(flags, o, x)


@inline
def tempered(flags, o, x):
    """Logits as they came after softcap, then temperature."""
    if flags.cap:
        x = _capped(x, o.cap, 1.0 / o.cap)
    if flags.temper:
        x = x * o.inverse_temperature
    return x


@inline
def class_mass(flags, o, y, w, z):
    """w_j of ``sum_j w_j z_j``: the class weight, times the smoothed target where the target is soft.

    Of adjusted logits, classes with the logit -inf are left out of smoothing.
    """
    if flags.soft:
        share = splat(y, o.share)
        if flags.adjusted:
            share = select(z == -INF, 0.0, share)
        w = w * fma(y, o.keep, share)
    return w


@inline
def smoothed_mass(flags, z, w):
    """The same for a target that is a class, whose own class weight `w` is."""
    return select(z == -INF, 0.0, w) if flags.adjusted and flags.smooth else w


@inline
def emitted_mass(flags, z, w):
    """The same for a gradient, which is 0 where a class is left out."""
    return select(z == -INF, 0.0, w) if flags.adjusted else w


@inline
def class_of(params, i):
    """The class of row `i` by its label; -1 where it is ignored, or is no class.

    All labels were classes when they were checked.  Another thread, or another process that shares a memmap, may have
    written others since: that spoils the row's result, and must not lead out of the arrays.
    """
    t = label_at(integer_at(params, P.TARGET), i)
    counts = t != integer_at(params, P.IGNORE_INDEX) and within(t, integer_at(params, P.CLASSES))
    return t if counts else -1


@inline
def bounds(params, chunk):
    """(first, last + 1) of the rows, or tiles, of a chunk."""
    first = chunk * integer_at(params, P.CHUNK)
    return first, min(first + integer_at(params, P.CHUNK), integer_at(params, P.ROWS))


@inline
def address_of(params, operand, strides, outer, inner):
    """The address of a row by its two levels; `operand` and `strides` are fields."""
    far, near = integer_at(params, strides), integer_at(params, strides + 1)
    return integer_at(params, operand) + outer * far + inner * near


@inline
def row_ref(params, operand, strides, i, kind, contiguous):
    """A reference to the classes of row `i` of an operand."""
    length = integer_at(params, P.INNER)
    outer = quotient(i, length) if i >= length else 0  # a division takes longer than a vector of exponentials
    inner = i - outer * length
    return ref(address_of(params, operand, strides, outer, inner), integer_at(params, strides + 2), kind, contiguous)


@inline
def read_ref(params, i, kind, contiguous, gathered, kept):
    """A reference to the logits of row `i` where they are read: at the address `kept` if they are copied there."""
    length = integer_at(params, P.INNER)
    outer = quotient(i, length) if i >= length else 0
    address = kept if gathered else address_of(params, P.X, P.X_STRIDES, outer, i - outer * length)
    return ref(address, integer_at(params, P.X_STRIDES + 2), kind, contiguous)


@inline
def tile_ref(params, operand, strides, outer, start, kind, contiguous):
    """A reference to the first class of the rows of an operand from number `start` on."""
    address = address_of(params, operand, strides, outer, start)
    return ref(address, integer_at(params, strides + 1), kind, contiguous)


@inline
def scratch_of(params, slot):
    """The address of a thread's scratch."""
    return integer_at(params, P.SCRATCH) + slot * integer_at(params, P.SCRATCH_SIZE)


@inline
def copy(source, target, n):
    """Copy `n` elements, converting from storage to storage."""
    width, j = lanes_of(source), 0
    while j + width <= n:
        store(target, j, load(source, j))
        j += width
    if j < n:
        store_n(target, j, n - j, load_n(source, j, n - j, 0.0))
