"""Linear passes over sparse features."""

from typing import Any

import numpy as np

from .check import Array


def product(x: Any, weight: Array, bias: Array | None, z: Array) -> None:
    """Stand-in until there are kernels: ``Z = X Wᵀ + b``."""
    z[...] = x @ weight.T
    if bias is not None:
        z += bias


def add_gradient(x: Any, g: Array, out: Array) -> None:
    """Stand-in until there are kernels: add ``Gᵀ X``."""
    out += (x.T @ g).T
