"""The steps of a linear pass over a block of rows, while the block is in cache.

The rows that count are found, and copied where they cannot be read as they are; their logits are written to the
thread's scratch; the kernels of `layouts` replace them by their gradients there; and these
multiply the same rows once more.
"""

from ...core.dtypes import FLOAT64
from .. import parameters as P
from ..jit import inline
from ..layouts.common import copy
from ..simd.lanes import hsum
from ..simd.memory import get, itemsize_of, lanes_of, load, load_n, moved, put, ref, store, store_n
from ..simd.squares import transpose_in
from ..simd.vectors import splat
from ..simd.words import integer_at, label_at, put_integer
from ..threads.chunks import call
from . import parameters as L
from .blas import multiply
from .tiles import gradient, logits


@inline
def _converted(source, target, n):
    """Copy `n` elements between types that are computed in differently."""
    width, j = lanes_of(source), 0
    while j + width <= n:
        store(target, j, load(source, j))
        j += width
    while j < n:
        put(target, j, get(source, j))
        j += 1


@inline
def line(base, params, number):
    """The address of array number `number` of those with an element for each row of a block, in a thread's scratch."""
    return base + integer_at(params, L.AT_ROWS) + number * integer_at(params, L.BLOCK) * 8


@inline
def used(params, base, start, last, kind):
    """(rows of a block that count, where it ends): as many rows from number `start` on as make a whole block.

    Those that count are listed: numbers and labels, and what goes with them where some are ignored.  A label is read
    once, as it may change at any time: this list alone says from now on which rows there are.
    """
    target, ignored, block = (
        integer_at(params, L.TARGET),
        integer_at(params, L.IGNORE_INDEX),
        integer_at(params, L.BLOCK),
    )
    stop, count = min(start + block, last), 0
    if target == 0:
        return stop - start, stop
    index, labels, stop = line(base, params, L.INDEX), line(base, params, L.LABELS), start
    while stop < last and count < block:
        label = label_at(target, stop)
        put_integer(index, count, stop)
        put_integer(labels, count, label)
        count += label != ignored
        stop += 1
    if count < stop - start:
        _picked(params, base, L.LOSS_FACTOR, L.LOSS_FACTORS, count, kind)
        _picked(params, base, L.GRAD_FACTOR, L.GRAD_FACTORS, count, kind)
    return count, stop


@inline
def _picked(params, base, source, target, rows, kind):
    """Copy a factor of each row that is listed to its place in a block."""
    if integer_at(params, source) != 0:
        factors, there = ref(integer_at(params, source), 0, kind, True), ref(line(base, params, target), 0, kind, True)
        for i in range(rows):
            put(there, i, get(factors, integer_at(line(base, params, L.INDEX), i)))


@inline
def places(params, base, start, stop, rows):
    """The address of each row's place among those of a block that count, of which there are `rows`, or -1."""
    address = line(base, params, L.PLACES)
    for i in range(stop - start):
        put_integer(address, i, -1)
    for i in range(rows):
        put_integer(address, integer_at(line(base, params, L.INDEX), i) - start, i)
    return address


@inline
def _fill_in(params, base, at, z, rows):
    """Say in a copy of a kernel's parameters where a block's logits are; they are replaced where they are."""
    height = integer_at(params, L.LANES_TILE)
    put_integer(at, P.X, z)
    put_integer(at, P.OUT, z)
    put_integer(at, P.ROWS, (rows + height - 1) // height)
    put_integer(at, P.CHUNK, (rows + height - 1) // height)
    put_integer(at, P.INNER, rows)
    put_integer(at, P.PARTIAL, base + L.LOSS)
    put_integer(at, P.SCRATCH, base + L.HEADER)


@inline
def _fill_in_rows(params, base, at, start, gathered, kind, size):
    """Say where labels, targets and factors are: in the caller's arrays, or listed in scratch, as labels always are."""
    put_integer(at, P.TARGET, line(base, params, L.LABELS))
    if gathered:
        put_integer(at, P.LOSS_FACTOR, line(base, params, L.LOSS_FACTORS))
        put_integer(at, P.GRAD_FACTOR, line(base, params, L.GRAD_FACTORS))
        put_integer(at, P.RESULT, line(base, params, L.RESULTS) if integer_at(params, L.RESULT) != 0 else 0)
    else:
        put_integer(at, P.LOSS_FACTOR, integer_at(params, L.LOSS_FACTOR) + start * size)
        put_integer(at, P.GRAD_FACTOR, integer_at(params, L.GRAD_FACTOR) + start * size)
        result = integer_at(params, L.RESULT)
        put_integer(at, P.RESULT, result + start * size if result != 0 else 0)
    put_integer(at, P.Y, integer_at(params, L.Y) + start * integer_at(params, L.Y_ROW))


@inline
def _row_major_logits(params, kind, size, x, x_step, rows, z):
    """``X Wᵀ + b`` by BLAS; the bias comes first, and the product is added to it."""
    k, d, bias = integer_at(params, L.LOGITS), integer_at(params, L.FEATURES), integer_at(params, L.BIAS)
    like = ref(z, 0, kind, True)
    if bias != 0:
        for i in range(rows):
            copy(ref(bias, 0, kind, True), moved(like, 0, i * k), k)
    w, leading = integer_at(params, L.WEIGHT), integer_at(params, L.WEIGHT_LEADING)
    flipped = 1 - integer_at(params, L.WEIGHT_FLIPPED)
    multiply(integer_at(params, L.GEMM), like, rows, k, d, x, x_step // size, 0, w, leading, flipped, bias != 0, z, k)


@inline
def _scaled(major, params, kind, z, z_step, rows, start):
    """Multiply the logits from number CLASSES on, those in a direction, by their rows' factors."""
    k, count, like = integer_at(params, L.CLASSES), integer_at(params, L.LOGITS), ref(z, 0, kind, True)
    factor, width = moved(ref(integer_at(params, L.LOSS_FACTOR), 0, kind, True), 0, start), lanes_of(like)
    for i in range(count - k if major else rows):
        line, n = (moved(like, (k + i) * z_step, 0), rows) if major else (moved(like, i * z_step, k), count - k)
        for j in range(0, n, width):
            live = min(width, n - j)
            by = load_n(factor, j, live, 0.0) if major else splat(line, get(factor, i))
            store_n(line, j, live, load_n(line, j, live, 0.0) * by)


@inline
def bias_gradient(major, params, kind, z, z_step, rows, sums):
    """Add the sums of a block's gradients by class to float64 sums at an address; row-major ones are not kept."""
    k, total, like = integer_at(params, L.CLASSES), ref(sums, 0, FLOAT64, True), ref(z, 0, kind, True)
    width = lanes_of(like)
    if major:
        for c in range(k):
            line, part = moved(like, c * z_step, 0), splat(like, 0.0)
            for j in range(0, rows, width):
                part = part + load_n(line, j, min(width, rows - j), 0.0)
            put(total, c, get(total, c) + hsum(part))
        return
    for j in range(0, k, width):
        live, part = min(width, k - j), splat(like, 0.0)
        for i in range(rows):
            part = part + load_n(moved(like, i * z_step, 0), j, live, 0.0)
        store_n(like, j, live, part)
    for c in range(k):
        put(total, c, get(total, c) + get(like, c))


@inline
def feature_gradient(major, mixed, params, x_kind, kind, size, z, z_step, rows, scratch, gathered, base, start):
    """``G W``, row by row, to where the rows' gradients go."""
    d, k = integer_at(params, L.FEATURES), integer_at(params, L.CLASSES)
    like, step = ref(scratch, 0, kind, True), integer_at(params, L.GRAD_X_ROW)
    w, leading, flipped = (
        integer_at(params, L.WEIGHT),
        integer_at(params, L.WEIGHT_LEADING),
        integer_at(params, L.WEIGHT_FLIPPED),
    )
    multiply(integer_at(params, L.GEMM), like, rows, d, k, z, z_step // size, major, w, leading, flipped, 0, scratch, d)
    out = ref(integer_at(params, L.GRAD_X), 0, x_kind, True)
    for i in range(rows):
        row = integer_at(line(base, params, L.INDEX), i) if gathered else start + i
        if mixed is None:
            copy(moved(like, 0, i * d), moved(out, row * step, 0), d)
        else:
            for j in range(d):
                put(moved(out, row * step, 0), j, get(moved(like, 0, i * d), j))


@inline
def _transposed(source, target, rows, d):
    """Copy a block whose rows lie side by side, by squares; the last square of a row begins before its end.

    There must be room for a vector of rows after the last one.
    """
    width = lanes_of(target)
    for j in range(0, d, width):
        first = min(j, d - width)
        for i in range(0, rows, width):
            transpose_in(target, i * d + first, d, source, first, i, min(width, rows - i))


@inline
def staged(mixed, params, x_kind, x_contiguous, kind, base, start, rows, gathered):
    """Copy a block's rows to scratch, those that count."""
    d, row_step, step = integer_at(params, L.FEATURES), integer_at(params, L.X_ROW), integer_at(params, L.X_STEP)
    target = ref(base + integer_at(params, L.AT_X), 0, kind, True)
    if mixed is None:
        first = ref(integer_at(params, L.X) + start * row_step, step, x_kind, False)
        if row_step == itemsize_of(first) and d >= lanes_of(target) and not gathered:
            _transposed(first, target, rows, d)
            return
    for i in range(rows):
        row = integer_at(line(base, params, L.INDEX), i) if gathered else start + i
        source = ref(integer_at(params, L.X) + row * row_step, step, x_kind, x_contiguous)
        if mixed is None:
            copy(source, moved(target, 0, i * d), d)
        else:
            _converted(source, moved(target, 0, i * d), d)


@inline
def _scattered(params, kind, base, rows):
    """Losses of the rows that count, to their places among all rows."""
    source, target = ref(line(base, params, L.RESULTS), 0, kind, True), ref(integer_at(params, L.RESULT), 0, kind, True)
    for i in range(rows):
        put(target, integer_at(line(base, params, L.INDEX), i), get(source, i))


@inline
def located(few, params, kind, base, start, gathered):
    """(address and step of a block's rows, address and step of its logits); `few` classes are class-major."""
    size = itemsize_of(ref(0, 0, kind, True))
    x, x_step = integer_at(params, L.X) + start * integer_at(params, L.X_ROW), integer_at(params, L.X_ROW)
    if gathered or integer_at(params, L.DIRECT) == 0:
        x, x_step = base + integer_at(params, L.AT_X), integer_at(params, L.FEATURES) * size
    # Rows after the last one are written by the tiles, and not read.
    z_step = (
        integer_at(params, L.LOGITS) * size if few is None else (integer_at(params, L.BLOCK) * size + 127) // 64 * 64
    )
    return x, x_step, base + integer_at(params, L.AT_LOGITS), z_step


@inline
def put_logits(few, params, kind, x, x_step, rows, z, z_step):
    """A block's logits, in tiles of `few` classes or by BLAS."""
    like = ref(z, 0, kind, True)
    d, k, size = integer_at(params, L.FEATURES), integer_at(params, L.LOGITS), itemsize_of(like)
    if few is None:
        _row_major_logits(params, kind, size, x, x_step, rows, z)
    else:
        w, bias = ref(integer_at(params, L.WEIGHT), 0, kind, True), ref(integer_at(params, L.BIAS), 0, kind, True)
        leading = integer_at(params, L.WEIGHT_LEADING) * size
        logits(few, ref(x, 0, kind, True), x_step, rows, d, w, leading, k, like, z_step, bias)


@inline
def add_gradient(few, params, kind, x, x_step, rows, z, z_step, grads, ahead):
    """Add ``Gᵀ X`` of a block to the gradient of the weights at `grads`."""
    like = ref(z, 0, kind, True)
    d, k, size = integer_at(params, L.FEATURES), integer_at(params, L.CLASSES), itemsize_of(like)
    if few is None:
        multiply(integer_at(params, L.GEMM), like, k, d, rows, z, z_step // size, 1, x, x_step // size, 0, 1, grads, d)
    else:
        out = ref(grads, 0, kind, True)
        gradient(few, ref(x, 0, kind, True), x_step, rows, d, like, z_step, k, out, d * size, ahead)


@inline
def differentiate(major, hessian, params, kind, base, start, rows, gathered, z, z_step):
    """Replace the logits of a block by their gradients, or by those of the Hessian in a direction."""
    size = itemsize_of(ref(0, 0, kind, True))
    _fill_in(params, base, base + L.FIRST, z, rows)
    if hessian:
        if integer_at(params, L.LOSS_FACTOR) != 0:
            _scaled(major, params, kind, z, z_step, rows, start)
        call(integer_at(params, L.FIRST_KERNEL), base + L.FIRST, 0, 0)
        _fill_in(params, base, base + L.SECOND, z, rows)
        put_integer(base + L.SECOND, P.Y, z + integer_at(params, L.CLASSES) * (z_step if major else size))
        call(integer_at(params, L.SECOND_KERNEL), base + L.SECOND, 0, 0)
    else:
        _fill_in_rows(params, base, base + L.FIRST, start, gathered, kind, size)
        call(integer_at(params, L.FIRST_KERNEL), base + L.FIRST, 0, 0)
        if gathered and integer_at(params, L.RESULT) != 0:
            _scattered(params, kind, base, rows)
