"""Products of matrices and sums of columns, which linear passes leave to the library that the arrays are from.

Everything is written to arrays that are there, on the library's current stream.
"""

from contextlib import AbstractContextManager, nullcontext
from typing import Any

from .library import Library, module


class Products(Library):
    """A library that multiplies matrices; the last argument is where the result goes."""

    pitched = False  # whether products may go to rows that lie apart
    sorts = False  # whether `top` sorts all numbers, which takes room for several times as many
    adds = False  # whether `add_product` needs no room for the product

    def on(self, array: Any) -> AbstractContextManager[Any]:
        """With the device of an array as the current one, where the library goes by that."""
        return nullcontext()

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
        out += part

    def columns(self, rows: Any, out: Any) -> None:
        """The sum of rows, which are converted to the dtype of the output as they are read."""
        module(self.name).sum(rows, 0, dtype=out.dtype, out=out)

    def copy(self, array: Any, out: Any) -> None:
        """The same numbers, in the dtype of the output."""
        raise NotImplementedError

    def largest(self, rows: Any, out: Any) -> None:
        """The place of the largest number of each row, which NaN is; of equal ones, the first."""
        module(self.name).argmax(rows, 1, out=out)

    def zero(self, out: Any) -> None:
        """Zeros."""
        raise NotImplementedError

    def top(self, rows: Any, k: int) -> tuple[Any, Any]:
        """New arrays: the k largest numbers of each row in falling order, and where they are."""
        raise NotImplementedError

    def log_proba(self, logits: Any, loss: Any, out: Any) -> None:
        """Logarithms of probabilities in the dtype of the output, from some logits and the loss of each row's first.

        Differences of logits are exact in the wider dtype.
        """
        self.copy(logits, out)
        out -= logits[:, :1]
        out -= loss[:, None]

    def scale(self, factor: Any, out: Any) -> None:
        """Rows times a number, or times one number each: in place, rounded where rows are narrower."""
        out *= factor if isinstance(factor, float) else factor[:, None]

    def normalise(self, weights: Any, out: Any) -> None:
        """Weights whose sum is 1."""
        raise NotImplementedError
