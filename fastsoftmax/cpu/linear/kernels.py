"""The kernels that take a chunk of rows through the steps of a linear pass (`block`, `sparse`), block by block.

The weights' gradients are added up by chunk, in the order of blocks: the plan cuts the chunks, never the number of
threads.
"""

from ...core.dtypes import COMPUTED
from .. import jit
from .. import parameters as P
from ..jit import inline
from ..simd.memory import itemsize_of, ref
from ..simd.words import float_at, integer_at, put_float, put_integer
from . import parameters as L
from .block import (
    add_gradient,
    bias_gradient,
    differentiate,
    feature_gradient,
    line,
    located,
    places,
    put_logits,
    staged,
    used,
)
from .sparse import csc_advance, csc_begin, csc_gradient, csc_logits, csr_gradient, csr_logits


@inline
def _dense_block(few, fewer, mixed, hessian, x_kind, x_contiguous, kind, params, chunk, base, start, stop, rows):
    """One block of rows, `rows` of which count: the sum of its losses."""
    major, size = few is not None, itemsize_of(ref(0, 0, kind, True))
    gathered, skip = rows < stop - start, chunk * integer_at(params, L.GRADS_SIZE)
    if gathered or integer_at(params, L.DIRECT) == 0:
        staged(mixed, params, x_kind, x_contiguous, kind, base, start, rows, gathered)
    x, x_step, z, z_step = located(few, params, kind, base, start, gathered)
    put_logits(few, params, kind, x, x_step, rows, z, z_step)
    differentiate(major, hessian, params, kind, base, start, rows, gathered, z, z_step)
    if integer_at(params, L.GRAD_WEIGHT) != 0:
        ahead = 0 if gathered or integer_at(params, L.DIRECT) == 0 else x_step * rows
        add_gradient(fewer, params, kind, x, x_step, rows, z, z_step, integer_at(params, L.GRAD_WEIGHT) + skip, ahead)
    if integer_at(params, L.GRAD_X) != 0:
        room = base + integer_at(params, L.AT_X)
        feature_gradient(major, mixed, params, x_kind, kind, size, z, z_step, rows, room, gathered, base, start)
    if integer_at(params, L.GRAD_BIAS) != 0:
        bias_gradient(major, params, kind, z, z_step, rows, integer_at(params, L.GRAD_BIAS) + skip)
    return float_at(base + L.LOSS, 0)


@inline
def _sparse_block(csr, csc, columns, hessian, kind, params, chunk, base, start, stop, rows):
    """One block of rows of sparse features, `rows` of which count: the sum of its losses."""
    z, z_step = (
        base + integer_at(params, L.AT_LOGITS),
        integer_at(params, L.LOGITS) * itemsize_of(ref(0, 0, kind, True)),
    )
    gathered, skip, cursors = (
        rows < stop - start,
        chunk * integer_at(params, L.GRADS_SIZE),
        base + integer_at(params, L.AT_X),
    )
    if csr is not None:
        index = line(base, params, L.INDEX) if gathered else 0
        csr_logits(params, kind, csr, columns, rows, index, start, z)
    if csc is not None:
        index = places(params, base, start, stop, rows) if gathered else 0
        csc_logits(params, kind, csc, columns, rows, index, start, stop, z, cursors)
    differentiate(False, hessian, params, kind, base, start, rows, gathered, z, z_step)
    if integer_at(params, L.GRAD_WEIGHT) != 0:
        grads = integer_at(params, L.GRAD_WEIGHT) + skip
        if csr is not None:
            csr_gradient(params, kind, csr, columns, rows, index, start, z, grads)
        if csc is not None:
            csc_gradient(params, kind, csc, columns, index, start, stop, z, grads, cursors)
    if integer_at(params, L.GRAD_BIAS) != 0:
        bias_gradient(False, params, kind, z, z_step, rows, integer_at(params, L.GRAD_BIAS) + skip)
    return float_at(base + L.LOSS, 0)


@inline
def _rows_of(params, chunk):
    """(first, last + 1) of the rows of a chunk."""
    first = chunk * integer_at(params, L.CHUNK)
    return first, min(first + integer_at(params, L.CHUNK), integer_at(params, L.ROWS))


@inline
def _begin(hessian, params, slot):
    """The address of a thread's scratch, with its copies of the parameters of the kernels that blocks call."""
    base = integer_at(params, L.SCRATCH) + slot * integer_at(params, L.SCRATCH_SIZE)
    for i in range(P.FIELDS):
        put_integer(base + L.FIRST, i, integer_at(integer_at(params, L.FIRST_PARAMS), i))
        if hessian:
            put_integer(base + L.SECOND, i, integer_at(integer_at(params, L.SECOND_PARAMS), i))
    put_float(base + L.LOSS, 0, 0.0)
    return base


def dense(few, fewer, hessian, x_kind, x_contiguous, kind):
    """The pass over the blocks of a chunk.

    Few classes are multiplied in tiles, of which the smaller ones have `few` classes in the logits and `fewer` in the
    gradients (`tiles.least_classes`); both are None where BLAS multiplies.  `kind` is computed in.
    """
    mixed = None if COMPUTED[x_kind] == kind else True

    def kernel(params, chunk, slot):
        base, total = _begin(hessian, params, slot), 0.0
        first, last = _rows_of(params, chunk)
        start = first
        while start < last:
            rows, stop = used(params, base, start, last, kind)
            if rows > 0:
                total += _dense_block(
                    few, fewer, mixed, hessian, x_kind, x_contiguous, kind, params, chunk, base, start, stop, rows
                )
            start = stop
        put_float(integer_at(params, L.PARTIAL), chunk, total)

    return jit.kernel(kernel)


def sparse(csr, csc, columns, hessian, kind):
    """The pass over the blocks of a chunk of sparse features: `csr` or `csc` is the size of indices, the other None."""

    def kernel(params, chunk, slot):
        base, total = _begin(hessian, params, slot), 0.0
        first, last = _rows_of(params, chunk)
        if csc is not None:
            csc_begin(params, csc, base + integer_at(params, L.AT_X), first)
        start = first
        while start < last:
            most = last if csc is None else min(start + integer_at(params, L.BLOCK), last)
            rows, stop = used(params, base, start, most, kind)
            if rows > 0:
                total += _sparse_block(csr, csc, columns, hessian, kind, params, chunk, base, start, stop, rows)
            if csc is not None:
                csc_advance(params, csc, stop, base + integer_at(params, L.AT_X))
            start = stop
        put_float(integer_at(params, L.PARTIAL), chunk, total)

    return jit.kernel(kernel)


def sparse_logits(csr, csc, columns, kind):
    """The logits of the rows of a chunk, one row after the other, where GRAD_WEIGHT says."""

    def kernel(params, chunk, slot):
        start, stop = _rows_of(params, chunk)
        size = itemsize_of(ref(0, 0, kind, True))
        z = integer_at(params, L.GRAD_WEIGHT) + start * integer_at(params, L.LOGITS) * size
        first = integer_at(params, L.IGNORE_INDEX)
        if csr is not None:
            csr_logits(params, kind, csr, columns, stop - start, 0, first + start, z)
        if csc is not None:
            cursors = integer_at(params, L.SCRATCH) + slot * integer_at(params, L.SCRATCH_SIZE)
            csc_begin(params, csc, cursors, first + start)
            csc_logits(params, kind, csc, columns, stop - start, 0, first + start, first + stop, z, cursors)

    return jit.kernel(kernel)
