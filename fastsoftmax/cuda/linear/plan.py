"""The chunks of rows of a linear pass on a GPU: pure heuristics on shapes."""

from ...core.strides import round_up

BUDGET = 1 << 29  # bytes of a chunk's logits on a GPU, unless `ROWS` take more
ROWS = 2048  # rows that a product there should have: its part of the weights' gradient is added up once a chunk
MULTIPLE = 128  # rows of a product's tiles
ACCESS = 16  # bytes that a GPU's thread reads at a time


def chunk_rows(rows: int, classes: int, itemsize: int, block: int | None = None) -> int:
    """The rows whose logits are in the buffer at a time: `block`, if the caller names a number.

    Multiples of 8 where there are several chunks: each one's targets then begin at the same place of an access.

    Examples
    --------
    >>> chunk_rows(100_000, 32_000, 2), chunk_rows(100_000, 262_144, 2), chunk_rows(1000, 10, 4)
    (8320, 2048, 1000)
    """
    most = BUDGET // (classes * itemsize) // MULTIPLE * MULTIPLE
    size = max(ROWS, most) if block is None else round_up(block, 8)
    return max(1, min(size, rows))


def row_pitch(classes: int, itemsize: int) -> int:
    """The logits from row to row, so that each row begins where a GPU's access may."""
    return round_up(classes, ACCESS // itemsize)
