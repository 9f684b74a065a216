"""The compiled kernels by what they do, each compiled (or loaded from the disk cache) once, at its first use."""

from collections.abc import Callable
from typing import Any

from . import jit
from .layouts import (
    batch_kernels,
    block_kernels,
    divergence,
    hessian,
    labels,
    lane_kernels,
    largest,
    listed,
    part_kernels,
    register_kernels,
    row_kernels,
    statistics,
    vjp,
)
from .linear import kernels, product


def _by_layout(*factories: Any) -> Callable[..., Any]:
    """One factory of those of the layouts, in the order of `constants`."""
    return lambda layout, *constants: factories[layout](*constants)


_LAYOUTS = row_kernels, lane_kernels, batch_kernels, register_kernels, block_kernels
_FACTORIES: dict[str, Callable[..., Any]] = {
    "cross_entropy": _by_layout(*(layout.cross_entropy for layout in _LAYOUTS)),
    "softmax": _by_layout(*(layout.softmax for layout in _LAYOUTS)),
    "vjp": _by_layout(vjp.rows, vjp.lanes, vjp.rows, vjp.lanes, vjp.lanes),
    "derivatives": _by_layout(row_kernels.cross_entropy, lane_kernels.cross_entropy, row_kernels.cross_entropy),
    "divergence": _by_layout(divergence.rows, divergence.lanes, divergence.rows),
    "listed": _by_layout(listed.rows, listed.lanes, listed.rows),
    "hessian": _by_layout(hessian.rows, hessian.lanes, hessian.rows, hessian.registers),
    "statistics": _by_layout(statistics.rows, statistics.lanes, statistics.rows),
    "cross_entropy in parts": part_kernels.cross_entropy,
    "softmax in parts": part_kernels.softmax,
    "vjp in parts": part_kernels.vjp,
    "scan": labels.scan,
    "largest": largest.largest,
    "dense": kernels.dense,
    "sparse": kernels.sparse,
    "sparse_logits": kernels.sparse_logits,
    "product": product.product,
}
_compiled: dict[tuple[Any, ...], Any] = {}


def address(*key: Any) -> int:
    """The address of a kernel, by its name, its layout where it has one, and the constants it is compiled for."""
    kernel = _compiled.get(key)
    if kernel is None:
        with jit.compiling():
            if key not in _compiled:
                name, *constants = key
                _compiled[key] = _FACTORIES[name](*constants)
            kernel = _compiled[key]
    result: int = kernel.address
    return result
