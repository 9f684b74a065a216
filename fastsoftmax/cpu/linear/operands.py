"""The operands of a linear pass, and its sums: what the passes of `own_blocks` and `shared_blocks` take and return."""

from typing import Any, NamedTuple

import numpy as np

Array = Any  # of NumPy


class Sparse(NamedTuple):
    """Sparse features in CSR or CSC format, values in the computing dtype and indices of 4 or 8 bytes (CSC: sorted)."""

    values: Array
    starts: Array
    indices: Array
    by_column: bool
    shape: tuple[int, int]

    @property
    def stored(self) -> int:
        """The number of values, whatever the starts say."""
        size: int = min(self.values.size, self.indices.size)
        return size


class LinearOperands(NamedTuple):
    """The operands of a pass; row-wise ones are C-contiguous and in the computing dtype (labels: int64)."""

    x: Any  # an array, or Sparse
    weight: Array  # (logits a row, features): the classes, and a direction's for a product with the Hessian
    bias: Array | None  # (logits a row), in the computing dtype
    dtype: np.dtype[Any]
    classes: int
    labels: Array | None = None
    ignore_index: int = 0
    soft: Array | None = None
    loss_factor: Array | None = None
    grad_factor: Array | None = None
    result: Array | None = None  # where the losses of the rows go; ignored ones are 0 already
    grad_weight: bool = False
    grad_bias: bool = False
    grad_x: Array | None = None  # where the gradients of the rows go; those of ignored ones are 0 already

    @property
    def logits(self) -> int:
        """The number of logits of a row."""
        rows: int = self.weight.shape[0]
        return rows


class Sums(NamedTuple):
    """The sum of the losses, and gradients in the computing dtype (float64 for the bias)."""

    total: float
    grad_weight: Array | None
    grad_bias: Array | None
