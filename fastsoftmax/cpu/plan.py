"""The choice of a kernel and of its tiles: pure heuristics on hashable descriptions, without Numba.

A plan depends on shapes and strides alone, never on the number of threads: the pieces that losses are summed by are the
same everywhere, and so are the results, bit by bit.
"""

from typing import NamedTuple

from ..core.strides import round_up
from .layouts.constants import BATCH_HEADER, BATCHES, BLOCK, BLOCKS, LANE_BLOCK, LANE_LINES, LANES, ROWS


class Way(NamedTuple):
    """The constants of kernels besides a loss's switches: where they keep things, and where they write."""

    kept: bool = False  # exponentials are kept in scratch between the passes
    gathered: bool = False  # (classes in lanes) logits are copied to where exponentials are kept, and read there
    direct: bool = False  # (classes in lanes) kept in the output instead
    streamed: bool = False  # the output is written past the caches
    below: bool = False  # (batches) exponentials below the maximum are summed too, as its place is not known
    infinite: bool = False  # (blocks of classes) the sum of a row that holds +inf is not NaN
    classes: int = 0  # (rows in registers) how many there are
    mask: int = 0  # whether the elements of a mask that are read together lie side by side


class Plan(NamedTuple):
    """The cut of the work."""

    layout: int
    chunk: int  # rows, or tiles of rows, in a piece of work
    chunks: int
    tile: int  # SIMD vectors of rows in a tile (with rows in lanes), or rows in a batch
    parallel: bool
    kept: bool
    direct: bool
    streamed: bool
    scratch: int  # bytes a thread


FEW_CLASSES = 24  # up to here a row does not fill enough vectors, even in batches: rows go in lanes
REGISTERS = 16  # classes of rows that are kept in registers
WORTHWHILE = 1 << 13  # elements from which that is worth a kernel for one number of classes (0.5 s to compile)
CHUNK = 1 << 15  # elements in a piece of work: some 10 microseconds
PARALLEL = 1 << 16  # elements below which a parallel launch (4 microseconds, and cold caches) does not pay
LABELS = 1 << 14  # labels in a piece of work of the scan
PARALLEL_LABELS = 1 << 17  # labels below which the scan is not worth a parallel launch
PARALLEL_WEIGHTS = 1 << 15  # the same where their weights are summed, which takes four times as long
BATCHED = 256  # classes up to which rows are worked on in batches: above, one row after the other takes no longer
BATCH = 1 << 11  # elements in a batch of rows: 8 KB of float32, and as much for their exponentials
PACKED = 512  # classes up to which rows in lanes are copied to scratch
TILE_VECTORS = 16  # vectors of rows in a tile whose classes go by in blocks: a kilobyte a class
TALL = (
    32  # the same where two arrays go by: longer pieces of each class (11.2 ms, 15.5 with 8, for a Hessian of 1e6x10)
)
TILE_BYTES = 1 << 18  # scratch of a tile of rows in lanes: a quarter of a second-level cache
# Longest row of exponentials that is kept: all vocabularies of language models.  Longer ones would gain as well, but
# this is scratch of every thread; a second exponential takes 1.5 times as long (AVX2), 1.1 if it cost half as much.
KEPT_BYTES = 1 << 20
# Long rows of outputs that no cache would hold are written past them, but for new arrays: the operating system has just
# zeroed their pages, and some of that is still in a cache (10.7 instead of 12.1 ms for 8192x4096).
STREAM_BYTES = 1 << 25
# The system makes such arrays of large pages, and each is zeroed by whoever comes first; a thread that comes meanwhile
# zeroes one as well, in vain (`docs/measured.md`). So a thread takes all the chunks that lie in one.
LARGE_PAGE = 1 << 21


def run_of(chunks: int, size: int) -> int:
    """The neighbouring chunks that a thread takes at a time, of as many as fill a new array of so many bytes."""
    return max(1, chunks * LARGE_PAGE // size) if size >= STREAM_BYTES else 1


def rows_in_lanes(classes: int, strides: tuple[int, ...], itemsize: int) -> bool:
    """Whether rows go in SIMD lanes: few classes, or classes farther apart in memory than rows.

    The strides of axes of length 1 count: a row that is cut out of many is computed as they are.
    """
    if classes <= FEW_CLASSES:
        return True
    *rows, step = map(abs, strides)
    return step != itemsize and min(filter(None, rows), default=step) < step


def rows_in_registers(rows: int, classes: int, operands: list[tuple[int, int, int]]) -> bool:
    """Whether rows stay in registers: short ones, enough of them, whose classes are nearer to each other than rows.

    The `operands` are strides: two levels, then classes.  Results are the same bits as those of rows in lanes.
    """
    if classes > REGISTERS or rows * classes < WORTHWHILE:
        return False
    return all(abs(step) <= abs(row) for _, row, step in operands)


def plan(
    outer: int,
    inner: int,
    classes: int,
    computed: int,
    lanes: bool,
    keep: bool,
    direct: bool,
    streamable: bool,
    copies: int = 0,
    always: bool = False,
    adjusted: bool = False,
    masked: bool = False,
) -> Plan:
    """Cut ``outer * inner`` rows of `classes` logits that are computed with in `computed` bytes each.

    `keep` says that the kernel can use kept exponentials, `direct` that its output can hold them, `streamable` that its
    output may go past the caches: that it is contiguous, was there before, and is not the logits themselves.  `copies`
    says that rows in lanes have room for so many copies in scratch, however many classes they have, and exponentials
    that are kept; `always` that those are, of rows of any length.  Logits that are `adjusted` have room in scratch, and
    a mask beside rows in lanes.
    """
    rows = outer * inner
    parallel = rows * classes >= PARALLEL
    if lanes:
        width = 64 // computed
        blocks, vectors = classes > PACKED and not copies, -(-inner // width)
        if blocks:
            vector = LANE_LINES + LANE_BLOCK * 64
            tile = -(-vectors // -(-vectors // TILE_VECTORS))  # tiles of one size, as near as may be
        else:
            vector = (max(copies, 1) + masked) * round_up(classes, width) * 64  # whole squares, for transposing
            tile = max(1, min(TALL if copies > 1 else 8, TILE_BYTES // vector, vectors))
        tiles, chunk = outer * -(-vectors // tile), max(1, CHUNK // (classes * tile * width))
        layout, chunks, scratch = BLOCKS if blocks else LANES, -(-tiles // chunk), vector * tile + 64
        return Plan(layout, chunk, chunks, tile, parallel, keep and not blocks, False, False, scratch)
    kept = keep and (always or classes * computed <= KEPT_BYTES)
    streamed = streamable and classes > BATCHED and rows * classes * computed >= STREAM_BYTES
    direct = direct and kept and not streamed and classes > BATCHED
    line = max(copies, 1) * round_up(classes * computed, 64) if (kept and not direct) or adjusted else 0
    if classes <= BATCHED:
        batch = max(1, min(64 // computed, BATCH // classes))
        chunk = max(1, CHUNK // (classes * batch)) * batch
        scratch = BATCH_HEADER + batch * line
        return Plan(BATCHES, chunk, -(-rows // chunk), batch, parallel, kept, direct, streamed, scratch + 64)
    chunk = max(1, CHUNK // classes)
    scratch = max(copies, 1) * round_up(-(-classes // BLOCK) * 8, 64) + line if kept or adjusted else 0
    return Plan(ROWS, chunk, -(-rows // chunk), 1, parallel, kept, direct, streamed, scratch + 64)
