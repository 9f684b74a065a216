"""The block of parameters that every kernel reads: 8-byte fields, packed by the launcher."""

import struct

import numpy as np

INTEGERS = (
    *("next_chunk", "rows", "inner", "classes", "chunk"),
    *("x", "x_outer", "x_inner", "x_class"),  # address; strides in bytes of rows (two levels) and classes
    *("y", "y_outer", "y_inner", "y_class"),
    *("out", "out_outer", "out_inner", "out_class"),
    *("target", "ignore_index", "class_weight", "loss_factor", "grad_factor"),
    *("result", "partial", "scratch", "scratch_size", "tile"),
)
FLOATS = ("scale", "keep", "share", "z_loss", "gamma", "cap", "inverse_temperature")

# The same as numbers, which are compile-time constants of the kernels.
NEXT_CHUNK, ROWS, INNER, CLASSES, CHUNK = range(5)
X, X_OUTER, X_INNER, X_CLASS, Y, Y_OUTER, Y_INNER, Y_CLASS, OUT, OUT_OUTER, OUT_INNER, OUT_CLASS = range(5, 17)
TARGET, IGNORE_INDEX, CLASS_WEIGHT, LOSS_FACTOR, GRAD_FACTOR = range(17, 22)
RESULT, PARTIAL, SCRATCH, SCRATCH_SIZE, TILE = range(22, 27)
SCALE, KEEP, SHARE, Z_LOSS, GAMMA, CAP, INVERSE_TEMPERATURE = range(
    len(INTEGERS), len(INTEGERS) + len(FLOATS)
)

_FORMAT = struct.Struct(f"={len(INTEGERS)}q{len(FLOATS)}d")
_INTEGER_DEFAULTS = dict.fromkeys(INTEGERS, 0)
_FLOAT_DEFAULTS = {**dict.fromkeys(FLOATS, 0.0), "scale": 1.0, "keep": 1.0, "inverse_temperature": 1.0}


def pack(integers, floats=None):
    """The parameter block as an int64 array; fields that are not given are 0 (or their neutral value)."""
    values = {**_INTEGER_DEFAULTS, **integers}.values(), {**_FLOAT_DEFAULTS, **(floats or {})}.values()
    return np.frombuffer(bytearray(_FORMAT.pack(*values[0], *values[1])), np.int64)
