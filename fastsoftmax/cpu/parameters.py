"""The block of parameters that every kernel reads: 8-byte fields, of a call, of its loss and of its shape."""

import struct
from typing import NamedTuple

from ..core.options import Numbers

#: Integers of a call: a counter, addresses of operands, results and scratch, and the label to ignore.
CALL = (
    *("next_chunk", "x", "y", "out", "target", "class_weight", "offset", "loss_factor", "grad_factor"),
    *("result", "partial", "scratch", "ignore_index"),
)
NEXT_CHUNK, X, Y, OUT, TARGET, CLASS_WEIGHT, OFFSET, LOSS_FACTOR, GRAD_FACTOR = range(9)
RESULT, PARTIAL, SCRATCH, IGNORE_INDEX = range(9, 13)


NUMBERS = len(CALL)  # the first of a loss's numbers, which is
SCALE = NUMBERS + Numbers._fields.index("scale")


class Further(NamedTuple):
    """The fields behind the shape, which kernels of neither losses nor softmax read: addresses, numbers."""

    columns: int = 0  # statistics in the computing dtype, one after the other, each of `rows_in_all` numbers
    places: int = 0  # the same in int64
    truths: int = 0  # the same in bytes
    rows_in_all: int = 0
    listed: int = 0  # the number of classes that a teacher lists: `places`, and in `columns` the logarithms
    third: int = 0  # a third number a row, beside loss_factor and grad_factor
    hessian: int = 0  # a second output, with the strides of the first
    mask: int = 0
    mask_outer: int = 0  # its strides, as those of a `Shape`
    mask_inner: int = 0
    mask_step: int = 0
    curvature: float = 1.0  # a factor of the Hessian
    least: float = 0.0  # which it is raised to
    beta: float = 0.5  # the teacher's share in a mixture


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


_SHAPE = NUMBERS + len(Numbers._fields)
ROWS, INNER, CLASSES, CHUNK, TILE, SCRATCH_SIZE = range(_SHAPE, _SHAPE + 6)
X_STRIDES, Y_STRIDES, OUT_STRIDES = range(_SHAPE + 6, _SHAPE + 15, 3)  # three fields each
FIELDS = _SHAPE + len(Shape._fields)
COLUMNS, PLACES, TRUTHS, ROWS_IN_ALL, LISTED, THIRD, HESSIAN, MASK = range(FIELDS, FIELDS + 8)
MASK_STRIDES = FIELDS + 8  # three fields
CURVATURE, LEAST, BETA = range(FIELDS + 11, FIELDS + len(Further._fields))
# Of rows in parts: the address of their states, the first of them, and what is done with them.
STATES, FIRST_ROW, PHASE = range(FIELDS + len(Further._fields), FIELDS + len(Further._fields) + 3)
ALL_FIELDS = PHASE + 1

#: The fields of a shape as bytes: ``pack_shape(*shape)``.
pack_shape = struct.Struct(f"={len(Shape._fields)}q").pack
#: Write a whole block: ``pack_block(block, 0, *integers, *numbers, pack_shape(*shape))``.
pack_block = struct.Struct(f"={len(CALL)}q{len(Numbers._fields)}d{8 * len(Shape._fields)}s").pack_into
#: The further fields of a block of `ALL_FIELDS`: ``pack_further(block, FIELDS * 8, *further)``.
pack_further = struct.Struct("=11q3d").pack_into
#: The float at a byte of a block: ``unpack_float(block, byte)[0]``.
unpack_float = struct.Struct("=d").unpack_from
