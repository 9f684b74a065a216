"""The block of parameters that every kernel reads: 8-byte fields, first those of one call, then those of its shape."""

import struct
from typing import NamedTuple

#: Integers of a call: a counter, addresses of operands, results and scratch, and the label to ignore.
CALL = (
    *("next_chunk", "x", "y", "out", "target", "class_weight", "loss_factor", "grad_factor"),
    *("result", "partial", "scratch", "ignore_index"),
)
NEXT_CHUNK, X, Y, OUT, TARGET, CLASS_WEIGHT, LOSS_FACTOR, GRAD_FACTOR = range(8)
RESULT, PARTIAL, SCRATCH, IGNORE_INDEX = range(8, 12)


class Numbers(NamedTuple):
    """The floats of a call."""

    scale: float = 1.0  # of gradients
    keep: float = 1.0  # 1 - label_smoothing
    share: float = 0.0  # label_smoothing / K
    z_loss: float = 0.0
    gamma: float = 0.0
    cap: float = 0.0
    inverse_temperature: float = 1.0


SCALE, KEEP, SHARE, Z_LOSS, GAMMA, CAP, INVERSE_TEMPERATURE = range(12, 19)


class Shape(NamedTuple):
    """The integers of a shape; strides in bytes, `outer` and `inner` from row to row, `step` from class to class."""

    rows: int  # or tiles of rows, where those go in SIMD lanes
    inner: int
    classes: int
    chunk: int
    tile: int
    scratch_size: int
    x_outer: int = 0
    x_inner: int = 0
    x_step: int = 0
    y_outer: int = 0
    y_inner: int = 0
    y_step: int = 0
    out_outer: int = 0
    out_inner: int = 0
    out_step: int = 0


ROWS, INNER, CLASSES, CHUNK, TILE, SCRATCH_SIZE = range(19, 25)
X_STRIDES, Y_STRIDES, OUT_STRIDES = 25, 28, 31  # three fields each
FIELDS = 34

#: The fields of a shape as bytes: ``pack_shape(*shape)``.
pack_shape = struct.Struct(f"={len(Shape._fields)}q").pack
#: Write a whole block: ``pack_block(block, 0, *integers, *numbers, pack_shape(*shape))``.
pack_block = struct.Struct(f"={len(CALL)}q{len(Numbers._fields)}d{8 * len(Shape._fields)}s").pack_into
#: The float at a byte of a block: ``unpack_float(block, byte)[0]``.
unpack_float = struct.Struct("=d").unpack_from
