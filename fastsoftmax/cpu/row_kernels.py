"""The kernels that work through chunks of rows with their classes in SIMD lanes (the passes are in `rows`).

Each function closes a kernel over compile-time constants: the losses' flags, and for every operand its storage kind and
whether its classes are contiguous.
"""

from .. import jit
from ..spec import COMPUTED, FLOAT64, LOG_SOFTMAX, SOFTMAX
from . import params as P
from .common import bounds, read_options, row_ref, scratch_of
from .laws import scalar
from .rows import BLOCK, INF, Row, clear_row, emit_row, reduce_row, transformed
from .simd import (
    fence,
    get,
    integer_at,
    lanes_of,
    load,
    load_n,
    put,
    put_float,
    ref,
    store,
    store_n,
)

_index_score, _soft_score = scalar["index_score"], scalar["soft_score"]
_normaliser, _shift, _log_sum_exp = scalar["normaliser"], scalar["shift"], scalar["log_sum_exp"]
_log, _exp = scalar["log"], scalar["exp"]


@jit.inline
def _scratch(params, slot):
    """(address of the blocks' maxima, address of the exponentials) of a thread; the latter begins a cache line."""
    blocks = (integer_at(params, P.CLASSES) + BLOCK - 1) // BLOCK
    base = scratch_of(params, slot)
    return base, base + (blocks * 8 + 63) // 64 * 64


def cross_entropy(flags, _variant, x_kind, y_kind, x_contiguous, y_contiguous, out_contiguous):
    """Loss, and the gradient if ``flags.grad``, of each row of a chunk; the chunk's losses are summed in row order."""
    source, kind = jit.DIGEST, COMPUTED[x_kind]

    def kernel(params, chunk, slot):
        source  # noqa: B018  a part of the cache's key
        first, last = bounds(params, chunk)
        o, k = read_options(params), integer_at(params, P.CLASSES)
        bases, kept = _scratch(params, slot)
        result = ref(integer_at(params, P.RESULT), 0, kind, True)
        loss_factor = ref(integer_at(params, P.LOSS_FACTOR), 0, kind, True)
        grad_factor = ref(integer_at(params, P.GRAD_FACTOR), 0, kind, True)
        way = integer_at(params, P.X_STRIDES + 1)
        total = 0.0
        for i in range(first, last):
            row = Row(
                row_ref(params, P.X, P.X_STRIDES, i, x_kind, x_contiguous),
                row_ref(params, P.Y, P.Y_STRIDES, i, y_kind, y_contiguous),
                ref(integer_at(params, P.CLASS_WEIGHT), 0, kind, True),
                ref(kept, 0, kind, True),
                ref(bases, 0, FLOAT64, True),
                row_ref(params, P.OUT, P.OUT_STRIDES, i, x_kind, out_contiguous),
                k,
                integer_at(integer_at(params, P.TARGET), i) if flags.index else -1,
                way,
            )
            loss = 0.0
            if flags.index and row.t == integer_at(params, P.IGNORE_INDEX):
                if flags.grad:
                    clear_row(row)
            else:
                up = o.scale * float(get(grad_factor, i)) if flags.factors and flags.grad else o.scale
                loss = _row_loss(flags, o, row, up)
                if flags.factors:
                    loss = loss * float(get(loss_factor, i))
            total += loss
            if integer_at(params, P.RESULT) != 0:
                put(result, i, loss)
        put_float(integer_at(params, P.PARTIAL), chunk, total)
        if flags.streamed:
            fence()

    return jit.kernel(kernel)


@jit.inline
def _row_loss(flags, o, row, up):
    """Reduce, score and emit one row; `up` multiplies its gradient."""
    state = reduce_row(flags, o, row)
    at_target = 0.0
    if flags.soft:
        loss, s, a = _soft_score(flags, o, 1.0, state.m, state.others, state.dot, state.mass)
        b = 1.0
    else:
        d = float(transformed(flags, o, row.x, get(row.x, row.t))) - _shift(state.m)
        weight = float(get(row.w, row.t)) if flags.weighted else 1.0
        loss, s, a, b, at_target = _index_score(flags, o, weight, state.m, state.others, state.dot, state.mass, d)
    if flags.grad:
        up = up * o.inverse_temperature
        emit_row(flags, o, row, state.m, a * up / s, b * up, at_target * up)
    return loss


def softmax(flags, variant, x_kind, _y_kind, x_contiguous, _y_contiguous, out_contiguous):
    """softmax, log_softmax or logsumexp (`variant`) of each row of a chunk."""
    source, kind = jit.DIGEST, COMPUTED[x_kind]

    def kernel(params, chunk, slot):
        source  # noqa: B018  a part of the cache's key
        first, last = bounds(params, chunk)
        o, k = read_options(params), integer_at(params, P.CLASSES)
        bases, kept = _scratch(params, slot)
        result = ref(integer_at(params, P.RESULT), 0, x_kind, True)
        for i in range(first, last):
            x = row_ref(params, P.X, P.X_STRIDES, i, x_kind, x_contiguous)
            out = row_ref(params, P.OUT, P.OUT_STRIDES, i, x_kind, out_contiguous)
            e, blocks = ref(kept, 0, kind, True), ref(bases, 0, FLOAT64, True)
            row = Row(x, x, x, e, blocks, out, k, -1, integer_at(params, P.X_STRIDES + 1))
            state = reduce_row(flags, o, row)
            if variant == SOFTMAX:
                s = _normaliser(state.m, state.others)
                emit_row(flags, o, row, state.m, 1.0 / s, 0.0, 0.0)
            elif variant == LOG_SOFTMAX:
                log_s = _log(_normaliser(state.m, state.others))
                _emit_difference(row, _shift(state.m), log_s)
            else:
                put(result, i, _finished(row, state))
        if flags.streamed:
            fence()

    return jit.kernel(kernel)


@jit.inline
def _finished(row, state):
    """logsumexp of a reduced row; the sum of a row that holds +inf is NaN either way, so that the row is read again."""
    if state.m == INF:
        for j in range(row.k):
            if get(row.x, j) != get(row.x, j):
                return state.others
        return INF
    return _log_sum_exp(state.m, state.others)


@jit.inline
def _emit_difference(row, m, log_s):
    """Write ``(x_j - m) - log s``."""
    width, j = lanes_of(row.x), 0
    while j + width <= row.k:
        store(row.out, j, load(row.x, j) - m - log_s)
        j += width
    if j < row.k:
        store_n(row.out, j, row.k - j, load_n(row.x, j, row.k - j, 0.0) - m - log_s)
