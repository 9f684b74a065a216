"""Products of matrices and sums of columns, which linear passes leave to the library that the arrays are from.

Everything is written to arrays that are there, on the library's current stream.
"""

from contextlib import AbstractContextManager
from typing import Any

from .library import Library


class Products(Library):
    """A library that multiplies matrices; the last argument is where the result goes."""

    pitched = False  # whether products may go to rows that lie apart
    sorts = False  # whether `top` sorts all numbers, which takes room for several times as many
    adds = False  # whether `add_product` needs no room for the product

    def on(self, array: Any) -> AbstractContextManager[Any]:
        """With the device of an array as the current one, where the library goes by that."""
        raise NotImplementedError

    def logits(self, x: Any, weight: Any, bias: Any, out: Any) -> None:
        """``x Wᵀ + b``, with a bias or None."""
        raise NotImplementedError

    def product(self, a: Any, b: Any, out: Any) -> None:
        """``a b``."""
        raise NotImplementedError

    def add_product(self, a: Any, b: Any, out: Any) -> None:
        """``out + a b``, for `adds`."""
        raise NotImplementedError

    def add(self, part: Any, out: Any) -> None:
        """``out + part``, where the output may be of a wider dtype."""
        raise NotImplementedError

    def columns(self, rows: Any, out: Any) -> None:
        """The sum of rows, in the dtype of the output."""
        raise NotImplementedError

    def copy(self, array: Any, out: Any) -> None:
        """The same numbers, in the dtype of the output."""
        raise NotImplementedError

    def largest(self, rows: Any, out: Any) -> None:
        """The place of the largest number of each row; of equal ones, the first."""
        raise NotImplementedError

    def zero(self, out: Any) -> None:
        """Zeros."""
        raise NotImplementedError

    def top(self, rows: Any, k: int) -> tuple[Any, Any]:
        """New arrays: the k largest numbers of each row in falling order, and where they are."""
        raise NotImplementedError

    def log_proba(self, logits: Any, loss: Any, out: Any) -> None:
        """Logarithms of probabilities in the dtype of the output, from some logits and the loss of each row's first."""
        raise NotImplementedError

    def scale(self, factor: Any, out: Any) -> None:
        """Rows times a number, or times one number each."""
        raise NotImplementedError

    def normalise(self, weights: Any, out: Any) -> None:
        """Weights whose sum is 1."""
        raise NotImplementedError
