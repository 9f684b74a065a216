"""The vocabulary that plans and kernels share: storage kinds, variants and flags, all compile-time constants."""

from typing import Any, NamedTuple

import numpy as np

# How elements lie in memory.
FLOAT16, BFLOAT16, FLOAT32, FLOAT64 = range(4)
#: What a storage kind is computed in, and kept in while it is worked on.
COMPUTED = {FLOAT16: FLOAT32, BFLOAT16: FLOAT32, FLOAT32: FLOAT32, FLOAT64: FLOAT64}
ITEMSIZE = {FLOAT16: 2, BFLOAT16: 2, FLOAT32: 4, FLOAT64: 8}

_STORAGE: dict[np.dtype[Any], int] = {
    np.dtype(np.float16): FLOAT16,
    np.dtype(np.float32): FLOAT32,
    np.dtype(np.float64): FLOAT64,
}


def storage_of(dtype: np.dtype[Any]) -> int:
    """The storage kind of a native dtype that the kernels read; -1 for any other."""
    known = _STORAGE.get(dtype)
    if known is None:
        known = BFLOAT16 if dtype.name == "bfloat16" and dtype.itemsize == 2 and dtype.isnative else -1
    return known


# Layouts: classes in SIMD lanes, row by row; rows in lanes, copied to scratch; classes in lanes, a batch of rows at a
# time; rows in lanes, and all of their classes in registers; rows in lanes, a block of classes at a time.
ROWS, LANES, BATCHES, IN_REGISTERS, BLOCKS = range(5)

# Variants of the kernels for maps from rows to rows or numbers.
SOFTMAX, LOG_SOFTMAX, LOGSUMEXP = range(3)

BATCH_HEADER = 384 + 3 * 1024  # bytes of scratch for what belongs to a batch of rows: six vectors and three squares
LANE_LINES = 8 * 64  # bytes of scratch for what belongs to a vector of rows whose classes go by in blocks
LANE_BLOCK = 32  # classes in a block of rows in lanes
BLOCK = 2048  # classes in a block of a long row: 8 KB of float32, a quarter of a first-level cache


class Flags(NamedTuple):
    """What a kernel has to do; what is off costs nothing."""

    hard: bool = False  # the target is class indices
    soft: bool = False  # the target is probabilities
    weighted: bool = False  # class weights
    smooth: bool = False  # label smoothing (of indices; soft targets are smoothed as they are read)
    z_loss: bool = False
    focal: bool = False
    cap: bool = False  # softcap
    temper: bool = False  # temperature
    factors: bool = False  # each row has its own weight or upstream gradient
    grad: bool = False
    kept: bool = False  # exponentials are kept in scratch between the passes
    gathered: bool = False  # (classes in lanes) logits are copied to where exponentials are kept, and read there
    direct: bool = False  # (classes in lanes) kept in the output instead
    streamed: bool = False  # the output is written past the caches
    infinite: bool = False  # (blocks of classes) the sum of a row that holds +inf is not NaN
    classes: int = 0  # (rows in registers) how many there are
