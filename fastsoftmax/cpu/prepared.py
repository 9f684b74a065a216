"""Calls that look like an earlier one: everything but their addresses is packed beforehand, one dispatch does the rest.

A small call is mostly Python.  What follows from shapes, strides, dtypes and options was checked, planned and packed at
the first call of its kind; a `Ready` call allocates its results and enters compiled code once, where the labels are
checked, the parameters filled in (each call has a block of its own, so that threads never meet) and the kernel run.
"""

import math
from typing import Any, NamedTuple

import numpy as np
from numba import types

from . import jit
from . import parameters as P
from .addresses import HEADER, address, in_struct
from .execute import Job, Operands, recipe_of
from .layouts.labels import tally
from .parameters import FIELDS, pack_block
from .simd.memory import float_at, integer_at, put_float, put_integer
from .threads.chunks import call as call_kernel

Array = Any  # of NumPy

#: The fields before the parameters: how to find addresses, what to run, and how far operands reach from theirs.
KERNEL, CHUNKS, SCRATCH, ADDRESS_AT, SECOND, ROWS, MEAN, SINGLE, SHARES_X, SHARES_SECOND = range(10)
X_EXTENT, SECOND_EXTENT, OUT_EXTENT, HEAD = 10, 12, 14, 16
MOST = 2  # chunks: NumPy adds up more in another order


@jit.inline
def _apart(block, a, a_extent, b, b_extent):
    """Whether operands at `a` and `b` have no byte in common, by the first and the last byte of each."""
    a_low, a_high = a + integer_at(block, a_extent), a + integer_at(block, a_extent + 1)
    b_low, b_high = b + integer_at(block, b_extent), b + integer_at(block, b_extent + 1)
    return a_high <= b_low or b_high <= a_low


@jit.inline
def _undisturbed(block, x, second, out):
    """Whether writing `out` leaves what is still to be read as it is."""
    if out == 0:
        return True
    return (integer_at(block, SHARES_X) != 0 or _apart(block, out, OUT_EXTENT, x, X_EXTENT)) and (
        second == 0 or integer_at(block, SHARES_SECOND) != 0 or _apart(block, out, OUT_EXTENT, second, SECOND_EXTENT)
    )


@jit.inline
def _weight(block, second):
    """The number of rows that count; -1 if a label is bad, or at an odd address."""
    if integer_at(block, SECOND) != P.TARGET:
        return float(integer_at(block, ROWS))
    if second % 8 != 0:
        return -1.0
    classes, ignore = integer_at(block, HEAD + P.CLASSES), integer_at(block, HEAD + P.IGNORE_INDEX)
    used, good = tally(second, 0, integer_at(block, ROWS), classes, ignore)
    return used if used == good else -1.0


@jit.inline
def _address(block, array):
    """Where the elements of an array lie, given where its object lies; 0 for none."""
    return integer_at(array + integer_at(block, ADDRESS_AT), 0) if array != 0 else 0


def _run(block, x, second, out, result):
    """(whether the call was done, its loss), for a block and the places of array objects."""
    x, second, out = _address(block, x), _address(block, second), _address(block, out)
    weight = _weight(block, second)
    if weight < 0.0 or not _undisturbed(block, x, second, out):
        return False, 0.0
    chunks = integer_at(block, CHUNKS)
    size = FIELDS + chunks + 8
    space = np.empty(size + integer_at(block, SCRATCH) // 8, np.int64)
    params = space.ctypes.data
    for field in range(FIELDS):
        put_integer(params, field, integer_at(block, HEAD + field))
    put_integer(params, P.X, x)
    if second != 0:
        put_integer(params, integer_at(block, SECOND), second)
    put_integer(params, P.OUT, out)
    put_integer(params, P.RESULT, _address(block, result))
    put_integer(params, P.PARTIAL, params + FIELDS * 8)
    put_integer(params, P.SCRATCH, (params + size * 8) // 64 * 64)
    divisor = weight if integer_at(block, MEAN) != 0 else 1.0
    divisor = divisor if divisor != 0.0 else math.nan  # as in torch, with smoothing too
    put_float(params, P.SCALE, float_at(params, P.SCALE) / divisor)
    for chunk in range(chunks):
        call_kernel(integer_at(block, KERNEL), params, chunk, 0)
    losses = space.view(np.float64)  # and so it is not freed before
    total = losses[FIELDS]
    for chunk in range(1, chunks):
        total += losses[FIELDS + chunk]
    loss = total / divisor
    # Rounded here, so that NumPy has nothing to say of losses that float32 cannot hold.
    return True, float(np.float32(loss)) if integer_at(block, SINGLE) != 0 else loss


_driver = jit.driver(_run, types.Tuple((types.boolean, types.float64))(*[types.int64] * 5))


class Made(NamedTuple):
    """What a call makes: examples of its arrays, in the caller's order of axes, and the type of its loss."""

    out: Array | None = None  # None where the caller gives it, or there is none
    result: Array | None = None
    loss: Any = None
    mean: bool = False


class Ready:
    """A function of operands that look like those that it was prepared for."""

    __slots__ = ("block", "dtype", "entry", "like", "loss", "place", "result", "shape")

    def __init__(self, block: Array, made: Made) -> None:
        self.entry, self.block, self.place, self.loss = _driver.entry(), block, address(block), made.loss
        self.shape: Any = None if made.out is None else made.out.shape
        self.dtype: Any = None if made.out is None else made.out.dtype
        self.like = made.out is not None and not made.out.flags.c_contiguous
        self.result = None if made.result is None else (made.result.shape, made.result.dtype)

    def __call__(self, x: Array, second: Array | None, out: Array | None) -> tuple[Any, Array | None] | None:
        """(loss or row-wise result, output); None where this call's labels or memory need a closer look."""
        if out is None and self.shape is not None:
            out = np.empty_like(x) if self.like else np.empty(self.shape, self.dtype)
        result = None if self.result is None else np.empty(*self.result)
        done, loss = self.entry(
            self.place,
            id(x),
            0 if second is None else id(second),
            0 if out is None else id(out),
            0 if result is None else id(result),
        )
        if not done:
            return None
        if result is not None:
            return result[()], out
        return None if self.loss is None else self.loss(loss), out


def _extent(array: Array | None) -> tuple[int, int]:
    """The first byte of an array's elements and the one after the last, counted from its address."""
    if array is None:
        return 0, 0
    reach = [step * (n - 1) for n, step in zip(array.shape, array.strides, strict=True)]
    return sum(min(r, 0) for r in reach), sum(max(r, 0) for r in reach) + array.itemsize


def prepare(job: Job, data: Operands, made: Made, shared: tuple[bool, bool]) -> Ready | None:
    """The function of operands like `data`; None where one launch in this thread does not do.

    `shared` says whether the output is the logits, and whether it is the second operand, element by element.
    """
    x, y, out, target = data[:4]
    recipe = None if x.size == 0 or not in_struct else recipe_of(job, data, in_place=shared[0])
    if recipe is None or recipe.parallel or recipe.chunks > MOST:
        return None
    second, field = (y, P.Y) if target is None else (target, P.TARGET)
    block: Array = np.zeros(HEAD + FIELDS, np.int64)
    block[:HEAD] = (
        *(recipe.kernel, recipe.chunks, recipe.scratch, HEADER, field, x.size // x.shape[-1]),
        *(made.mean, made.loss is np.float32, *shared),
        *(*_extent(x), *_extent(second), *_extent(out)),
    )
    call = (0,) * P.IGNORE_INDEX
    pack_block(block, HEAD * 8, *call, job.ignore_index, *job.numbers, recipe.shape)
    return Ready(block, made)
