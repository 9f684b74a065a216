"""Matrices as BLAS takes them, and their product cut into tiles that threads share."""

from typing import Any, NamedTuple

import numpy as np

from ...core.dtypes import storage_of
from .. import table
from ..addresses import address
from ..threads import launch
from .blas import gemm_address
from .plan import PARALLEL, tiles

Array = Any  # of NumPy
LONGEST = 2**31 - 1  # elements from line to line that BLAS can be told of


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
    """An array as a matrix of a dtype; None where its elements do not lie that way.

    The one place where strides become what BLAS is told.  Those of axes of length 1 are not looked at, as NumPy lets
    them be anything; a leading dimension that does not fit in BLAS's 32 bits is as good as none.
    """
    if array.dtype != dtype or not array.flags.aligned:
        return None
    (rows, columns), (row, column), size = array.shape, array.strides, dtype.itemsize
    leading = _leading(rows, columns, row, column, size)
    if leading is not None:
        return Matrix(array, leading, False)
    leading = _leading(columns, rows, column, row, size)
    return None if leading is None else Matrix(array, leading, True)


def _leading(lines: int, length: int, far: int, near: int, size: int) -> int | None:
    """The elements from line to line, of lines whose elements lie side by side and which do not overlap."""
    if near != size and length > 1:
        return None
    if lines <= 1 or length == 0:
        return max(length, 1)
    leading, rest = divmod(far, size)
    return leading if rest == 0 and length <= leading <= LONGEST else None


def as_matrix(array: Array, dtype: np.dtype[Any], *, plain: bool = False) -> Matrix:
    """An array as a matrix of a dtype, copied if need be; one that is not flipped if `plain`."""
    there = matrix(array, dtype)
    if there and not (plain and there.flipped):
        return there
    return Matrix(np.array(array, dtype, order="C"), max(array.shape[1], 1), False)


def product(
    a: Matrix, b: Matrix, c: Array, *, bias: Array | None = None, sums: Array | None = None, add: bool = False
) -> None:
    """``C = A B`` (plus the bias, or what is in C), tile by tile in all threads; C's columns are contiguous.

    `sums` (float64) get the sums of the rows of A, which is flipped then, added to what they hold.
    """
    (m, n), inner, to = c.shape, a.array.shape[1], matrix(c, c.dtype)
    assert to is not None
    assert not to.flipped
    height, width, count = tiles(m, n)
    block = np.array(
        [
            *(0, address(a.array), a.leading, a.flipped, address(b.array), b.leading, b.flipped, address(c)),
            *(to.leading, m, n, inner, height, width, add, address(bias), address(sums)),
            gemm_address(c.dtype),
        ],
        np.int64,
    )
    threads = launch.threads_for() if m * n * inner >= PARALLEL else 1
    launch.launch(table.address("product", storage_of(c.dtype)), address(block), count, threads)
