"""The compiled kernels by what they do, each compiled (or loaded from the disk cache) once, at its first use."""

from typing import Any

from .. import jit
from . import (
    batch_kernels,
    block_kernels,
    lane_kernels,
    linear_kernels,
    product,
    register_kernels,
    row_kernels,
    select,
    targets,
    vjp,
)

_LAYOUTS = (row_kernels, lane_kernels, batch_kernels, register_kernels, block_kernels)  # in the order of spec
_MAKERS = {
    "cross_entropy": tuple(layout.cross_entropy for layout in _LAYOUTS),
    "softmax": tuple(layout.softmax for layout in _LAYOUTS),
    "vjp": (vjp.rows, vjp.lanes, vjp.rows, vjp.lanes, vjp.lanes),
    "scan": (targets.scan, targets.scan),
    "largest": (select.largest, select.largest),
    "dense": (linear_kernels.dense, linear_kernels.dense),
    "sparse": (linear_kernels.sparse, linear_kernels.sparse),
    "sparse_logits": (linear_kernels.sparse_logits, linear_kernels.sparse_logits),
    "product": (product.product, product.product),
}
_compiled: dict[Any, Any] = {}


def address(name, layout, *constants):
    """The address of a kernel: its `name`, its layout (of spec), and the constants it is closed over."""
    key = (name, layout, constants)
    found = _compiled.get(key)
    if found is None:
        with jit.compiling():
            if key not in _compiled:
                _compiled[key] = _MAKERS[name][layout](*constants)
            found = _compiled[key]
    return found.address
