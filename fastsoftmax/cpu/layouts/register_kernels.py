"""The kernels for rows of few classes that lie side by side: a vector's worth of rows at a time, in registers.

The same steps as in `lanes`, with loops over classes unrolled: a kernel is compiled for one number of classes, which is
``way.classes``.  Logits, exponentials and gradients do not pass through scratch, and memory is read and written in
whole vectors (`registers`).  The last rows, which do not fill the vectors, are copied to scratch for that.
"""

from collections import namedtuple

from ...core.dtypes import COMPUTED, LOGSUMEXP, MASK_OF, SOFTMAX
from .. import jit
from .. import parameters as P
from ..jit import inline
from ..simd.elementary import exp_by, exp_constants
from ..simd.lanes import hsum
from ..simd.laws import vector
from ..simd.memory import get, lanes_of, load_n, moved, ref, ref_like, store_n
from ..simd.vectors import select, splat
from ..simd.words import integer_at, put_float
from .adjusted import adjusted_class
from .common import address_of, bounds, class_mass, copy, read_options, scratch_of, transform
from .lane_kernels import scored, targets
from .lanes import added, below, derivative, larger, locate, no_sums, state
from .registers import folded, load_classes, load_classes_where, mapped, store_classes

INF = float("inf")
_shift, _normaliser, _rest = vector["shift"], vector["normaliser"], vector["rest"]
_log_of_sum, _log_sum_exp = vector["log_of_sum"], vector["log_sum_exp"]
_remaining = vector["remaining"]

# What every class of a vector of rows is worked on with: flags, options, class weights, exp's constants; the rows'
# targets, what is subtracted before exp, and what `derivative` wants.
Shared = namedtuple("Shared", ("flags", "o", "w", "exp", "t", "base", "scores"))


@inline
def _larger(_shared, m, _j, x):
    return larger(x, m)


@inline
def exponential(shared, _j, x):
    """The exponential of a class, relative to the shift."""
    return exp_by(shared.exp, transform(shared.flags, shared.o, x) - shared.base)


@inline
def _exponential_below(shared, _j, x):
    exp, m = shared
    return exp_by(exp, below(m, x))


@inline
def _sum(_shared, total, _j, p):
    return total + p


@inline
def _sum_below(m, total, _j, x, p):
    return total + select(x < m, p, 0.0)


@inline
def _product(factor, _j, p):
    return p * factor


@inline
def _difference(shared, _j, x):
    m, log_s = shared
    return x - m - log_s


@inline
def class_masses(shared, j, x, y):
    """w_j, for logits `x` and soft targets `y`."""
    w = splat(y, 1.0)
    if shared.flags.weighted:
        w = splat(y, get(shared.w, j))
    return class_mass(shared.flags, shared.o, y, w, x)


@inline
def added_class(shared, sums, j, x, p, y):
    """The Sums with a class."""
    d = transform(shared.flags, shared.o, x) - shared.base
    return added(shared.flags, sums, shared.t, j, x, d, p, class_masses(shared, j, x, y))


@inline
def _derivative(shared, j, x, p, y):
    return derivative(shared.flags, shared.o, shared.t, j, x, p, class_masses(shared, j, x, y), shared.scores)


@inline
def _adjust(shared, j, x):
    flags, o, offset = shared
    return adjusted_class(flags, o, offset, j, x, splat(x, 0.0))


@inline
def maximum(x):
    """The largest logits of the rows."""
    return folded(_larger, 0, splat(x[0], -INF), (x,))


@inline
def taken(params, operand, strides, outer, row, n, classes, kind, contiguous, together, scratch):
    """`n` rows of an operand, from a row on, as one vector a class.

    `contiguous` and `together` say whether the classes of a row are side by side, and whether the rows are.
    """
    address, room = address_of(params, operand, strides, outer, row), ref(scratch, 0, kind, True)
    if together and n == lanes_of(room):
        room = ref(address, 0, kind, True)
    elif together:
        copy(ref(address, 0, kind, True), room, n * classes)
    else:
        first, step = ref(address, integer_at(params, strides + 2), kind, contiguous), integer_at(params, strides + 1)
        for i in range(n):
            copy(moved(first, i * step, 0), moved(room, 0, i * classes), classes)
    return load_classes(room, classes)


@inline
def _copy_where(source, mask, target, n):
    """Copy `n` logits, -inf in the places of those that a mask leaves out."""
    width, j = lanes_of(source), 0
    while j < n:
        live = min(width, n - j)
        store_n(target, j, live, _remaining(load_n(source, j, live, 0.0), load_n(mask, j, live, 0.0)))
        j += live


@inline
def taken_where(
    params, outer, row, n, classes, kind, contiguous, together, mask_kind, mask_contiguous, mask_together, scratch
):
    """`taken` of the logits, with -inf where their mask says so."""
    address, room = address_of(params, P.X, P.X_STRIDES, outer, row), ref(scratch, 0, kind, True)
    at = address_of(params, P.MASK, P.MASK_STRIDES, outer, row)
    if together and mask_together and n == lanes_of(room):
        return load_classes_where(ref(address, 0, kind, True), ref(at, 0, mask_kind, True), classes)
    x = ref(address, integer_at(params, P.X_STRIDES + 2), kind, contiguous)
    mask = ref(at, integer_at(params, P.MASK_STRIDES + 2), mask_kind, mask_contiguous)
    steps = integer_at(params, P.X_STRIDES + 1), integer_at(params, P.MASK_STRIDES + 1)
    for i in range(n):
        _copy_where(moved(x, i * steps[0], 0), moved(mask, i * steps[1], 0), moved(room, 0, i * classes), classes)
    return load_classes(room, classes)


@inline
def seen(
    flags,
    o,
    params,
    like,
    outer,
    row,
    n,
    classes,
    kind,
    contiguous,
    together,
    mask_kind,
    mask_contiguous,
    mask_together,
    scratch,
):
    """The logits of `n` rows as the passes see them: masked, adjusted; `like` refers to the computing dtype."""
    if mask_kind is None:
        x = taken(params, P.X, P.X_STRIDES, outer, row, n, classes, kind, contiguous, together, scratch)
    else:
        x = taken_where(
            params,
            outer,
            row,
            n,
            classes,
            kind,
            contiguous,
            together,
            mask_kind,
            mask_contiguous,
            mask_together,
            scratch,
        )
    if flags.adjusted:
        x = mapped(_adjust, (flags, o, ref_like(like, integer_at(params, P.OFFSET))), (x,))
    return x


@inline
def deliver(params, operand, outer, row, vectors, n, classes, kind, contiguous, together, scratch):
    """Write `n` rows of an operand with the strides of OUT, from a row on, of what is in a vector of rows."""
    address, room = address_of(params, operand, P.OUT_STRIDES, outer, row), ref(scratch, 0, kind, True)
    step = integer_at(params, P.OUT_STRIDES + 1)
    if together and n == lanes_of(room):
        store_classes(ref(address, 0, kind, True), vectors)
    else:
        store_classes(room, vectors)
        if together:
            copy(room, ref(address, 0, kind, True), n * classes)
        else:
            first = ref(address, integer_at(params, P.OUT_STRIDES + 2), kind, contiguous)
            for i in range(n):
                copy(moved(room, 0, i * classes), moved(first, i * step, 0), classes)


def cross_entropy(flags, way, _variant, x_kind, y_kind, x_near, y_near, out_near):
    """Loss, and the gradient if ``flags.grad``, of each tile of a chunk; the losses are summed in a fixed order."""
    kind, classes = COMPUTED[x_kind], way.classes
    mask_kind, mask_contiguous, mask_together = MASK_OF[kind] if flags.mask else None, way.mask > 0, way.mask > 1
    x_contiguous, y_contiguous, out_contiguous = x_near > 0, y_near > 0, out_near > 0
    x_together, y_together, out_together = x_near > 1, y_near > 1, out_near > 1

    def kernel(params, chunk, slot):
        first, last = bounds(params, chunk)
        o, scratch, total = read_options(params), scratch_of(params, slot), 0.0
        like, w = ref(scratch, 0, kind, True), ref(integer_at(params, P.CLASS_WEIGHT), 0, kind, True)
        exp, width = exp_constants(like), lanes_of(like)
        for number in range(first, last):
            outer, start, rows = locate(params, number, width)
            for row in range(start, start + rows, width):
                n, index = min(width, start + rows - row), outer * integer_at(params, P.INNER) + row
                x = seen(
                    flags, o, params, like, outer, row, n, classes,
                    x_kind, x_contiguous, x_together, mask_kind, mask_contiguous, mask_together, scratch,
                )  # fmt: skip
                y = x
                if flags.soft:
                    y = taken(
                        params, P.Y, P.Y_STRIDES, outer, row, n, classes, y_kind, y_contiguous, y_together, scratch
                    )
                t, m = targets(flags, params, like, index, n), transform(flags, o, maximum(x))
                shared = Shared(flags, o, w, exp, t, _shift(m), (m, m, m))
                p = mapped(exponential, shared, (x,))
                s = state(flags, o, m, folded(added_class, shared, no_sums(like), (x, p, y)))
                loss, scores = scored(flags, o, params, like, s, t, index, n)
                if flags.grad:
                    shared = Shared(flags, o, w, exp, t, shared.base, scores)
                    g = mapped(_derivative, shared, (x, p, y))
                    deliver(params, P.OUT, outer, row, g, n, classes, x_kind, out_contiguous, out_together, scratch)
                total += hsum(loss)
        put_float(integer_at(params, P.PARTIAL), chunk, total)

    return jit.kernel(kernel)


def softmax(flags, way, variant, x_kind, _y_kind, x_near, _y_near, out_near):
    """softmax, log_softmax or logsumexp (`variant`) of each tile of a chunk."""
    kind, classes = COMPUTED[x_kind], way.classes
    mask_kind, mask_contiguous, mask_together = MASK_OF[kind] if flags.mask else None, way.mask > 0, way.mask > 1
    x_contiguous, out_contiguous = x_near > 0, out_near > 0
    x_together, out_together = x_near > 1, out_near > 1

    def kernel(params, chunk, slot):
        first, last = bounds(params, chunk)
        o, scratch = read_options(params), scratch_of(params, slot)
        result = ref(integer_at(params, P.RESULT), 0, x_kind, True)
        like = ref(scratch, 0, kind, True)
        exp, width = exp_constants(like), lanes_of(like)
        for number in range(first, last):
            outer, start, rows = locate(params, number, width)
            for row in range(start, start + rows, width):
                n, index = min(width, start + rows - row), outer * integer_at(params, P.INNER) + row
                x = seen(
                    flags, o, params, like, outer, row, n, classes,
                    x_kind, x_contiguous, x_together, mask_kind, mask_contiguous, mask_together, scratch,
                )  # fmt: skip
                m = maximum(x)
                if variant == LOGSUMEXP:
                    p = mapped(_exponential_below, (exp, m), (x,))
                    total = folded(_sum, 0, splat(like, 0.0), (p,))
                    store_n(result, index, n, _log_sum_exp(m, total))
                else:
                    p = mapped(exponential, Shared(flags, o, like, exp, m, _shift(m), m), (x,))
                    s = folded(_sum, 0, splat(like, 0.0), (p,))
                    if variant == SOFTMAX:
                        results = mapped(_product, 1.0 / _normaliser(m, s), (p,))
                    else:
                        rest = _rest(s, folded(_sum_below, m, splat(like, 0.0), (x, p)))
                        results = mapped(_difference, (_shift(m), _log_of_sum(m, rest)), (x,))
                    deliver(
                        params, P.OUT, outer, row, results, n, classes, x_kind, out_contiguous, out_together, scratch
                    )

    return jit.kernel(kernel)
