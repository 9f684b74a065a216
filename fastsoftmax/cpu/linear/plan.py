"""The cuts of a linear pass: pure heuristics on shapes, without Numba.

Blocks and chunks depend on shapes alone, never on the number of threads, and so the order in which gradients are added
up is the same everywhere.  Only how many threads may work at once is bounded by what their scratch takes.
"""

import math
from typing import NamedTuple

FEW_CLASSES = 48  # logits up to which tiles of registers multiply faster than BLAS, and logits are class-major
BUDGET = 1 << 25  # bytes of extra memory, besides a gradient's worth a thread
GRADS = 17_000_000  # bytes of it for gradients by chunk
SHARED = 31_000_000  # bytes of it for a block that all threads share: its logits, and its rows where they are copied
OWN_WEIGHTS = 4_000_000  # bytes of weights up to which every thread takes blocks of its own
OWN_BLOCK = 1_000_000  # bytes of logits, or of rows, in such a block: second-level cache
# Bytes of rows in a block with few classes; twice as many take 12 % longer at 60000x784x10.
FEW_BLOCK = 50_000
CHUNKS = 64
CHUNK_WORK = 1 << 18  # multiplications in a chunk, at least: some 5 microseconds
PARALLEL = 1 << 21  # multiplications below which a parallel launch does not pay: some 20 microseconds
TILE = 512  # rows and columns in a tile of a product that threads share: 95 % of BLAS's speed on large matrices
TILES = 16  # tiles of a product, at least, for the threads to share


class LinearPlan(NamedTuple):
    """The way of a pass through its rows."""

    shared: bool  # all threads work on one block, tile by tile; else each takes blocks of its own
    few: bool  # classes are multiplied in tiles of registers, not by BLAS
    block: int  # rows
    chunk: int  # rows
    chunks: int
    parallel: bool


def linear_plan(
    rows: int, features: int, logits: int, itemsize: int, *, gradient: bool, staged: bool, own: bool, block: int | None
) -> LinearPlan:
    """Cut `rows` rows of some features and logits, computed with in `itemsize` bytes each.

    `gradient` says that the weights' gradient is asked for, `staged` that rows are copied before they are read, `own`
    that blocks may be a thread's own; `block` rows is what the caller wants.
    """
    parallel = rows * max(features, 1) * logits >= PARALLEL
    if not own or logits * features * itemsize > OWN_WEIGHTS or logits * itemsize * 64 > OWN_BLOCK:
        size = block or shared_rows(features, logits, itemsize, staged)
        size = max(1, min(size, rows))
        return LinearPlan(True, False, size, size, -(-rows // size), parallel)
    few = logits <= FEW_CLASSES
    size = max(1, min(block or _own_rows(features, logits, itemsize, few), rows))
    chunk = _chunk(rows, rows * features * logits, logits * (features * itemsize + 8) if gradient else 0, least=1)
    if block is None:  # blocks of one size rather than a small last one
        size = _multiple(math.ceil(chunk / math.ceil(chunk / size)) + 15, 16)
    return LinearPlan(False, few, size, chunk, max(1, -(-rows // chunk)), parallel)


def _chunk(rows: int, work: int, grads: int, *, least: int) -> int:
    """The rows of a chunk: `work` multiplications in all, `grads` bytes of gradients for each chunk.

    A power of two of chunks, which any usual number of threads can share evenly: seven chunks of 20000x512x1000 took
    two threads 10 % longer than eight.
    """
    most = min(CHUNKS, GRADS // grads) if grads else CHUNKS
    chunks = 1 << max(0, min(most, work // CHUNK_WORK).bit_length() - 1)
    return max(1, -(-rows // max(least, chunks)))


def sparse_plan(
    shape: tuple[int, int],
    stored: int,
    logits: int,
    itemsize: int,
    *,
    gradient: bool,
    by_column: bool,
    block: int | None,
) -> LinearPlan:
    """Cut the rows of sparse features with `stored` values.

    Blocks are large where every one of them walks through all columns.  Two chunks are the least for a gradient,
    however large it is: two threads can share them.
    """
    rows, features = shape
    most = OWN_BLOCK // (logits * itemsize)
    size = max(1, min(block or _multiple(min(most, 1 << 14 if by_column else 256), 16), rows))
    chunk = _chunk(rows, stored * logits * 4, logits * (features * itemsize + 8) if gradient else 0, least=2)
    return LinearPlan(False, False, size, chunk, max(1, -(-rows // chunk)), stored * logits >= PARALLEL >> 2)


def sparse_chunk(rows: int, shape: tuple[int, int], by_column: bool) -> int:
    """The rows that a thread takes at a time for their logits alone."""
    return max(1, -(-rows // (4 if by_column else CHUNKS)))


def _multiple(rows: float, of: int) -> int:
    """A number of rows rounded down to whole vectors, where there is more than one."""
    return max(1, int(rows) // of * of if rows >= of else int(rows))


def _own_rows(features: int, logits: int, itemsize: int, few: bool) -> int:
    row = max(features, 1) * itemsize
    if few:
        return _multiple(min(256, max(16, FEW_BLOCK // row), OWN_BLOCK // row), 16)
    return _multiple(min(256, OWN_BLOCK // (logits * itemsize), OWN_BLOCK // row), 16)


def shared_rows(features: int, logits: int, itemsize: int, staged: bool) -> int:
    """The rows of a block that all threads share."""
    row = (logits + (features if staged else 0)) * itemsize
    return _multiple(min(SHARED // row, 1 << 14), 16)


def tiles(m: int, n: int) -> tuple[int, int, int]:
    """(rows, columns, number) of the tiles of a product of m rows and n columns."""
    height, width = TILE, TILE
    while height > 64 and math.ceil(m / height) * math.ceil(n / width) < TILES:
        if m / height > n / width or width == 64:
            height //= 2
        else:
            width //= 2
    return height, width, math.ceil(m / height) * math.ceil(n / width)
