"""The compiled kernels by what they do, each compiled (or loaded from the disk cache) once, at its first use."""

from typing import Any

from .. import jit
from . import lane_kernels, linear_kernels, product, register_kernels, row_kernels, select, targets, vjp

_MAKERS = {
    "cross_entropy": (row_kernels.cross_entropy, lane_kernels.cross_entropy, register_kernels.cross_entropy),
    "softmax": (row_kernels.softmax, lane_kernels.softmax, register_kernels.softmax),
    "vjp": (vjp.rows, vjp.lanes),
    "scan": (targets.scan, targets.scan),
    "largest": (select.largest, select.largest),
    "dense": (linear_kernels.dense, linear_kernels.dense),
    "sparse": (linear_kernels.sparse, linear_kernels.sparse),
    "sparse_logits": (linear_kernels.sparse_logits, linear_kernels.sparse_logits),
    "product": (product.product, product.product),
}
_compiled: dict[Any, Any] = {}


def address(name, layout, *constants):
    """The address of a kernel: its `name`, its layout, and the constants it is closed over."""
    key = (name, layout, constants)
    found = _compiled.get(key)
    if found is None:
        with jit.compiling:
            if key not in _compiled:
                _compiled[key] = _MAKERS[name][layout](*constants)
            found = _compiled[key]
    return found.address
