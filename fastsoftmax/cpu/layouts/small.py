"""A small call in one piece of compiled code: labels checked, parameters filled in, the kernel run, the loss divided.

Of a larger call, which threads share, it is all that comes before the launch.  Each call has a block of parameters of
its own, so that threads never meet.
"""

import math

import numpy as np
from numba import types

from .. import jit
from .. import parameters as P
from ..parameters import ALL_FIELDS, FIELDS
from ..simd.words import float_at, integer_at, put_float, put_integer
from ..threads.chunks import call as call_kernel
from .labels import count_valid

#: The fields before the parameters: how to find addresses, what to run, and how far operands reach from theirs.
KERNEL, CHUNKS, SCRATCH, ADDRESS_AT, SECOND, ROWS, MEAN, SINGLE, SHARES_X, SHARES_SECOND = range(10)
X_EXTENT, SECOND_EXTENT, OUT_EXTENT, HEAD = 10, 12, 14, 16
ALIGN = 8  # words between partial losses and scratch, so that it can begin a cache line


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
    used, good = count_valid(second, 0, integer_at(block, ROWS), classes, ignore)
    return used if used == good else -1.0


@jit.inline
def _address(block, array):
    """The address of an array's elements, given that of its object; 0 for none."""
    return integer_at(array + integer_at(block, ADDRESS_AT), 0) if array != 0 else 0


@jit.inline
def _fill(block, params, size, x, second, out, result, divisor):
    """Fill in the parameters of a call, which partial losses follow, and scratch after `size` words."""
    for field in range(FIELDS):
        put_integer(params, field, integer_at(block, HEAD + field))
    put_integer(params, P.X, x)
    if second != 0:
        put_integer(params, integer_at(block, SECOND), second)
    put_integer(params, P.OUT, out)
    put_integer(params, P.RESULT, _address(block, result))
    put_integer(params, P.PARTIAL, params + ALL_FIELDS * 8)
    put_integer(params, P.SCRATCH, (params + size * 8) // 64 * 64)
    put_float(params, P.SCALE, float_at(params, P.SCALE) / divisor)


def _call(block, x, second, out, result, given):
    """(whether the call was done, its loss), for a block and the places of array objects.

    Where the address of room for parameters and scratch is `given`, they are filled in and no more: (whether the call
    may be launched, what its loss is to be divided by).
    """
    x, second, out = _address(block, x), _address(block, second), _address(block, out)
    weight = _weight(block, second)
    if weight < 0.0 or not _undisturbed(block, x, second, out):
        return False, 0.0
    chunks = integer_at(block, CHUNKS)
    size = ALL_FIELDS + chunks + ALIGN
    divisor = weight if integer_at(block, MEAN) != 0 else 1.0
    divisor = divisor if divisor != 0.0 else math.nan  # as in torch, with smoothing too
    if given != 0:
        _fill(block, given, size, x, second, out, result, divisor)
        return True, divisor
    space = np.empty(size + integer_at(block, SCRATCH) // 8, np.int64)
    params = space.ctypes.data
    _fill(block, params, size, x, second, out, result, divisor)
    for chunk in range(chunks):
        call_kernel(integer_at(block, KERNEL), params, chunk, 0)
    losses = space.view(np.float64)  # and so it is not freed before
    total = losses[ALL_FIELDS]
    for chunk in range(1, chunks):
        total += losses[ALL_FIELDS + chunk]
    loss = total / divisor
    # Rounded here, so that NumPy has nothing to say of losses that float32 cannot hold.
    return True, float(np.float32(loss)) if integer_at(block, SINGLE) != 0 else loss


_SIGNATURE = types.Tuple((types.boolean, types.float64))(*[types.int64] * 6)
call = jit.driver(_call, _SIGNATURE)
#: The same for what takes microseconds: whoever gives the interpreter away waits 5 ms for each thread that computes in
#: Python, until it is back.
held = jit.driver(_call, _SIGNATURE, releases=False)
