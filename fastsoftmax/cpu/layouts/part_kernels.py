"""The kernels of rows that are cut in parts, as there are fewer rows than work for all threads (the passes: `rows`).

A row's blocks of classes meet in one order wherever they were reduced, so that the parts have the bits of the whole:
parts are *reduced* to the states of their blocks, rows are *scored* by the states in the order of classes, and parts
are *emitted*.  Scratch, and room for states, belong to a row here, not to a thread.
"""

from ...core.dtypes import FLOAT64, LOG_SOFTMAX, LOGSUMEXP
from .. import jit
from .. import parameters as P
from ..simd.elementary import exp_constants
from ..simd.memory import get, put, ref
from ..simd.words import fence, integer_at, put_float, quotient
from .common import class_of, read_options, row_ref
from .constants import BLOCK, PART, REDUCE, SCORE, STATE, STATE_HEAD
from .row_kernels import emit_map, finished, kinds_of, row_at, scored
from .row_results import emit_row, fill
from .rows import INF, State, joined, no_blocks, reduce_block
from .vjp import block_sum, emit_product


@jit.inline
def _located(params, chunk):
    """(phase, number of the row of those at work, its first class, the class after its last) of a chunk."""
    phase, k = integer_at(params, P.PHASE), integer_at(params, P.CLASSES)
    if phase == SCORE:
        return phase, chunk, 0, k
    parts = quotient(k + PART - 1, PART)
    number = quotient(chunk, parts)
    begin = (chunk - number * parts) * PART
    return phase, number, begin, min(begin + PART, k)


@jit.inline
def _states(params, number):
    """A reference to the numbers of a row's score, which its states follow."""
    blocks = quotient(integer_at(params, P.CLASSES) + BLOCK - 1, BLOCK)
    return ref(integer_at(params, P.STATES) + number * (STATE_HEAD + STATE * blocks) * 8, 0, FLOAT64, True)


@jit.inline
def _at(j):
    """The place of the state of the block that begins with class `j`."""
    return STATE_HEAD + STATE * quotient(j, BLOCK)


@jit.inline
def _reduce(flags, way, o, row, states, begin, end):
    """Leave the states of a part's blocks, none of which lacks its maximum: the blocks before are not known."""
    for j in range(begin, end, BLOCK):
        m, others, dot, mass, _ = reduce_block(flags, way, o, row, j, INF)
        put(states, _at(j), m)
        put(states, _at(j) + 1, others)
        put(states, _at(j) + 2, dot)
        put(states, _at(j) + 3, mass)


@jit.inline
def _reduced(flags, way, o, row, states):
    """The State of a row all of whose blocks are reduced.

    With `rest` those with a new maximum, which are few, are reduced once more without its term.
    """
    state = no_blocks()
    for j in range(0, row.k, BLOCK):
        at = _at(j)
        block = State(get(states, at), get(states, at + 1), get(states, at + 2), get(states, at + 3), row.t)
        if flags.rest and block.m > state.m:
            block = reduce_block(flags, way, o, row, j, state.m)
        state = joined(flags, j, state, block)
    return state


def cross_entropy(flags, way, _variant, x_kind, y_kind, x_contiguous, y_contiguous, out_contiguous):
    """Loss, and the gradient if ``flags.grad``."""
    kind, kept_kind, mask_kind, read_kind, read_contiguous = kinds_of(flags, way, x_kind, x_contiguous)
    gathered, mask_near = way.gathered, way.mask

    def kernel(params, chunk, slot):
        phase, number, begin, end = _located(params, chunk)
        o, states, i = read_options(params), _states(params, number), integer_at(params, P.FIRST_ROW) + number
        result = ref(integer_at(params, P.RESULT), 0, kind, True)
        t = class_of(params, i) if flags.hard else -1
        row = row_at(
            params, i, number, exp_constants(result), t, kind, kept_kind, read_kind, read_contiguous, gathered,
            mask_kind, mask_near, x_kind, x_contiguous, y_kind, y_contiguous, out_contiguous,
        )  # fmt: skip
        ignored = flags.hard and t < 0
        if phase == REDUCE:
            if not ignored:
                _reduce(flags, way, o, row, states, begin, end)
        elif phase == SCORE:
            loss = 0.0
            if not ignored:
                state = _reduced(flags, way, o, row, states)
                loss, a, b, at_target = scored(flags, o, params, row, i, state)
                put(states, 0, state.m)
                put(states, 1, a)
                put(states, 2, b)
                put(states, 3, at_target)
            if integer_at(params, P.RESULT) != 0:
                put(result, i, loss)
            put_float(integer_at(params, P.PARTIAL), i, loss)
        elif flags.grad:
            if ignored:
                fill(row.out, begin, end, 0.0)
            else:
                m, a, b, at_target = get(states, 0), get(states, 1), get(states, 2), get(states, 3)
                emit_row(flags, way, o, row, begin, end, m, a, b, at_target)
            if way.streamed:
                fence()

    return jit.kernel(kernel)


def softmax(flags, way, variant, x_kind, y_kind, x_contiguous, y_contiguous, out_contiguous):
    """softmax, log_softmax or logsumexp (`variant`)."""
    kind, kept_kind, mask_kind, read_kind, read_contiguous = kinds_of(flags, way, x_kind, x_contiguous)
    gathered, mask_near = way.gathered, way.mask
    flags = flags._replace(rest=variant == LOG_SOFTMAX)

    def kernel(params, chunk, slot):
        phase, number, begin, end = _located(params, chunk)
        o, states, i = read_options(params), _states(params, number), integer_at(params, P.FIRST_ROW) + number
        result = ref(integer_at(params, P.RESULT), 0, x_kind, True)
        row = row_at(
            params, i, number, exp_constants(result), -1, kind, kept_kind, read_kind, read_contiguous, gathered,
            mask_kind, mask_near, x_kind, x_contiguous, y_kind, y_contiguous, out_contiguous,
        )  # fmt: skip
        if phase == REDUCE:
            _reduce(flags, way, o, row, states, begin, end)
        elif phase == SCORE:
            state = _reduced(flags, way, o, row, states)
            if variant == LOGSUMEXP:
                put(result, i, finished(flags, variant, row, state))
            else:
                put(states, 0, state.m)
                put(states, 1, finished(flags, variant, row, state))
        elif variant != LOGSUMEXP:
            emit_map(flags, way, o, variant, row, begin, end, get(states, 0), get(states, 1))
            if way.streamed:
                fence()

    return jit.kernel(kernel)


def vjp(_flags, _way, variant, kind, grad_kind, y_contiguous, g_contiguous, out_contiguous):
    """The vector-Jacobian product of softmax or log_softmax (`variant`)."""
    logarithmic = variant == LOG_SOFTMAX

    def kernel(params, chunk, slot):
        phase, number, begin, end = _located(params, chunk)
        states, i = _states(params, number), integer_at(params, P.FIRST_ROW) + number
        y = row_ref(params, P.X, P.X_STRIDES, i, kind, y_contiguous)
        g = row_ref(params, P.Y, P.Y_STRIDES, i, grad_kind, g_contiguous)
        out = row_ref(params, P.OUT, P.OUT_STRIDES, i, kind, out_contiguous)
        if phase == REDUCE:
            for j in range(begin, end, BLOCK):
                put(states, _at(j), block_sum(logarithmic, y, g, j, end))
        elif phase == SCORE:
            total = 0.0
            for j in range(0, end, BLOCK):
                total += get(states, _at(j))
            put(states, 0, total)
        else:
            emit_product(logarithmic, y, g, out, begin, end, get(states, 0))

    return jit.kernel(kernel)
