"""The kernels for rows of few classes that lie side by side: a vector's worth of rows at a time, in registers.

The same steps as in `lanes`, with loops over classes unrolled: a kernel is compiled for one number of classes, which is
``flags.classes``.  Logits, exponentials and gradients do not pass through scratch, and memory is read and written in
whole vectors (`registers`).  The last rows, which do not fill the vectors, are copied to scratch for that.
"""

from collections import namedtuple

from .. import jit
from ..jit import inline
from ..spec import COMPUTED, LOGSUMEXP, SOFTMAX
from . import params as P
from .common import address_of, bounds, class_mass, copy, read_options, scratch_of, transform
from .elementary import exp_by, exp_constants
from .lane_kernels import scored, targets
from .lanes import added, below, derivative, larger, locate, no_sums, state
from .laws import vector
from .memory import get, integer_at, lanes_of, put_float, ref, ref_like, store_n
from .registers import folded, load_classes, mapped, store_classes
from .simd import hsum, splat

INF = float("inf")
_log, _shift, _normaliser, _log_sum_exp = (vector[name] for name in ("log", "shift", "normaliser", "log_sum_exp"))

# What every class of a vector of rows is worked on with: flags, options, class weights, exp's constants; the rows'
# targets, what is subtracted before exp, and what `derivative` wants.
Shared = namedtuple("Shared", ("flags", "o", "w", "exp", "t", "base", "scores"))


@inline
def _larger(_shared, m, _j, x):
    return larger(x, m)


@inline
def _exponential(shared, _j, x):
    return exp_by(shared.exp, transform(shared.flags, shared.o, x) - shared.base)


@inline
def _exponential_below(shared, _j, x):
    exp, m = shared
    return exp_by(exp, below(m, x))


@inline
def _sum(_shared, total, _j, p):
    return total + p


@inline
def _product(factor, _j, p):
    return p * factor


@inline
def _difference(shared, _j, x):
    m, log_s = shared
    return x - m - log_s


@inline
def _mass(shared, j, y):
    """w_j, for soft targets `y`."""
    w = splat(y, 1.0)
    if shared.flags.weighted:
        w = splat(y, get(shared.w, j))
    return class_mass(shared.flags, shared.o, y, w)


@inline
def _added(shared, sums, j, x, p, y):
    d = transform(shared.flags, shared.o, x) - shared.base
    return added(shared.flags, sums, shared.t, j, x, d, p, _mass(shared, j, y))


@inline
def _derivative(shared, j, x, p, y):
    return derivative(shared.flags, shared.o, shared.t, j, x, p, _mass(shared, j, y), shared.scores)


@inline
def _maximum(x):
    return folded(_larger, 0, splat(x[0], -INF), (x,))


@inline
def _source(r, n, classes, scratch):
    """Where `n` rows can be read as a whole vector of rows."""
    room = r
    if n < lanes_of(r):
        room = ref_like(r, scratch)
        copy(r, room, n * classes)
    return room


@inline
def _deliver(out, vectors, n, classes, scratch):
    """Write `n` rows of what is in a vector of rows."""
    if n < lanes_of(out):
        room = ref_like(out, scratch)
        store_classes(room, vectors)
        copy(room, out, n * classes)
    else:
        store_classes(out, vectors)


@inline
def _operand(params, operand, strides, outer, row, kind):
    """A reference to the elements of an operand from a row on."""
    return ref(address_of(params, operand, strides, outer, row), 0, kind, True)


def cross_entropy(flags, _variant, x_kind, y_kind, _x_contiguous, _y_contiguous, _out_contiguous):
    """Loss, and the gradient if ``flags.grad``, of each tile of a chunk; the losses are summed in a fixed order."""
    source, kind, classes = jit.DIGEST, COMPUTED[x_kind], flags.classes

    def kernel(params, chunk, slot):
        source  # noqa: B018  a part of the cache's key
        first, last = bounds(params, chunk)
        o, scratch, total = read_options(params), scratch_of(params, slot), 0.0
        like, w = ref(scratch, 0, kind, True), ref(integer_at(params, P.CLASS_WEIGHT), 0, kind, True)
        exp, width = exp_constants(like), lanes_of(like)
        for number in range(first, last):
            outer, start, rows = locate(params, number, width)
            for row in range(start, start + rows, width):
                n, index = min(width, start + rows - row), outer * integer_at(params, P.INNER) + row
                x = load_classes(
                    _source(_operand(params, P.X, P.X_STRIDES, outer, row, x_kind), n, classes, scratch), classes
                )
                y = x
                if flags.soft:
                    y = load_classes(
                        _source(_operand(params, P.Y, P.Y_STRIDES, outer, row, y_kind), n, classes, scratch), classes
                    )
                t, m = targets(flags, params, like, index, n), transform(flags, o, _maximum(x))
                shared = Shared(flags, o, w, exp, t, _shift(m), (m, m, m))
                p = mapped(_exponential, shared, (x,))
                s = state(flags, o, m, folded(_added, shared, no_sums(like), (x, p, y)))
                loss, scores = scored(flags, o, params, like, s, t, index, n)
                if flags.grad:
                    shared = Shared(flags, o, w, exp, t, shared.base, scores)
                    out = _operand(params, P.OUT, P.OUT_STRIDES, outer, row, x_kind)
                    _deliver(out, mapped(_derivative, shared, (x, p, y)), n, classes, scratch)
                total += hsum(loss)
        put_float(integer_at(params, P.PARTIAL), chunk, total)

    return jit.kernel(kernel)


def softmax(flags, variant, x_kind, _y_kind, _x_contiguous, _y_contiguous, _out_contiguous):
    """softmax, log_softmax or logsumexp (`variant`) of each tile of a chunk."""
    source, kind, classes = jit.DIGEST, COMPUTED[x_kind], flags.classes

    def kernel(params, chunk, slot):
        source  # noqa: B018  a part of the cache's key
        first, last = bounds(params, chunk)
        o, scratch = read_options(params), scratch_of(params, slot)
        result = ref(integer_at(params, P.RESULT), 0, x_kind, True)
        like = ref(scratch, 0, kind, True)
        exp, width = exp_constants(like), lanes_of(like)
        for number in range(first, last):
            outer, start, rows = locate(params, number, width)
            for row in range(start, start + rows, width):
                n, index = min(width, start + rows - row), outer * integer_at(params, P.INNER) + row
                x = load_classes(
                    _source(_operand(params, P.X, P.X_STRIDES, outer, row, x_kind), n, classes, scratch), classes
                )
                m = _maximum(x)
                if variant == LOGSUMEXP:
                    p = mapped(_exponential_below, (exp, m), (x,))
                    total = folded(_sum, 0, splat(like, 0.0), (p,))
                    store_n(result, index, n, _log_sum_exp(m, total))
                else:
                    p = mapped(_exponential, Shared(flags, o, like, exp, m, _shift(m), m), (x,))
                    s = _normaliser(m, folded(_sum, 0, splat(like, 0.0), (p,)))
                    out = _operand(params, P.OUT, P.OUT_STRIDES, outer, row, x_kind)
                    if variant == SOFTMAX:
                        _deliver(out, mapped(_product, 1.0 / s, (p,)), n, classes, scratch)
                    else:
                        _deliver(out, mapped(_difference, (_shift(m), _log(s)), (x,)), n, classes, scratch)

    return jit.kernel(kernel)
