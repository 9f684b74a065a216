"""Matrices as BLAS takes them, and their product cut into tiles that threads share."""

from typing import Any, NamedTuple

import numpy as np

from ..plan_linear import PARALLEL, tiles
from ..spec import storage_of
from . import kernels, launch
from .addresses import address
from .blas import gemm_address

Array = Any  # of NumPy


class Matrix(NamedTuple):
    """Elements from row to row, or from column to column where it is flipped; the array has the matrix's own shape."""

    array: Array
    leading: int
    flipped: bool

    @property
    def T(self) -> "Matrix":
        """The transpose."""
        return Matrix(self.array.T, self.leading, not self.flipped)


def matrix(array: Array, dtype: np.dtype[Any]) -> Matrix | None:
    """An array as a matrix of a dtype; None where its elements do not lie that way."""
    if array.dtype != dtype or not array.flags.aligned:
        return None
    (rows, columns), (row, column), size = array.shape, array.strides, dtype.itemsize
    if (column == size or columns <= 1) and (rows <= 1 or (row >= columns * size and row % size == 0)):
        return Matrix(array, max(row // size if rows > 1 else columns, 1), False)
    if (row == size or rows <= 1) and (columns <= 1 or (column >= rows * size and column % size == 0)):
        return Matrix(array, max(column // size if columns > 1 else rows, 1), True)
    return None


def as_matrix(array: Array, dtype: np.dtype[Any], *, plain: bool = False) -> Matrix:
    """An array as a matrix of a dtype, copied if need be; one that is not flipped if `plain`."""
    found = matrix(array, dtype)
    if found and not (plain and found.flipped):
        return found
    return Matrix(np.array(array, dtype, order="C"), max(array.shape[1], 1), False)


def product(
    a: Matrix, b: Matrix, c: Array, *, bias: Array | None = None, sums: Array | None = None, add: bool = False
) -> None:
    """``C = A B`` (plus the bias, or what is in C), tile by tile in all threads; C's columns are contiguous.

    `sums` (float64) get the sums of the rows of A, which is flipped then, added to what they hold.
    """
    (m, n), inner = c.shape, a.array.shape[1]
    height, width, count = tiles(m, n)
    block = np.array(
        [
            *(0, address(a.array), a.leading, a.flipped, address(b.array), b.leading, b.flipped, address(c)),
            *(max(c.strides[0] // c.itemsize, 1), m, n, inner, height, width, add, address(bias), address(sums)),
            gemm_address(c.dtype),
        ],
        np.int64,
    )
    threads = launch.threads_for() if m * n * inner >= PARALLEL else 1
    launch.launch(kernels.address("product", False, storage_of(c.dtype)), address(block), count, threads)
