"""The compiled kernels by what they do, each compiled (or loaded from the disk cache) once, at its first use."""

from typing import Any

from .. import jit
from ..linear import kernels, product
from . import batch_kernels, block_kernels, labels, lane_kernels, largest, register_kernels, row_kernels, vjp

_LAYOUTS = (row_kernels, lane_kernels, batch_kernels, register_kernels, block_kernels)  # in the order of `constants`
_MAKERS = {
    "cross_entropy": tuple(layout.cross_entropy for layout in _LAYOUTS),
    "softmax": tuple(layout.softmax for layout in _LAYOUTS),
    "vjp": (vjp.rows, vjp.lanes, vjp.rows, vjp.lanes, vjp.lanes),
    "scan": (labels.scan, labels.scan),
    "largest": (largest.largest, largest.largest),
    "dense": (kernels.dense, kernels.dense),
    "sparse": (kernels.sparse, kernels.sparse),
    "sparse_logits": (kernels.sparse_logits, kernels.sparse_logits),
    "product": (product.product, product.product),
}
_compiled: dict[Any, Any] = {}


def address(name, layout, *constants):
    """The address of a kernel: its `name`, its layout, and the constants it is closed over."""
    key = (name, layout, constants)
    found = _compiled.get(key)
    if found is None:
        with jit.compiling():
            if key not in _compiled:
                _compiled[key] = _MAKERS[name][layout](*constants)
            found = _compiled[key]
    return found.address
