"""Predictions of a linear map on a GPU, from its logits row by row: classes, and the most probable ones."""

from threading import Lock
from typing import Any

from ...core.dtypes import computed
from ...core.options import Options
from ..check import Loss
from ..run import RowLaunches
from .check import Linear
from .chunks import Arrays, by_size, chunks

PLAIN = Options(reduction="none")


def predict_classes(linear: Linear, arrays: Arrays) -> Any:
    """The class of the largest logit of each row."""
    result = arrays.empty((linear.rows,), "int64")
    with linear.library.on(arrays.x):
        for start, x, z in chunks(linear, arrays):
            linear.library.largest(z, result[start : start + x.shape[0]])
    return result


def fill(linear: Linear, arrays: Arrays, out: Any) -> None:
    """Write the logits of all rows to an array."""
    with linear.library.on(arrays.x):
        for _ in chunks(linear, arrays, out):
            pass


class TopCall:
    """The largest logits of each row and their log-probabilities, for operands that look alike.

    The array library selects them.  The loss of the first of them, which our kernel computes in float32, is where the
    others' log-probabilities are counted from: nothing is rounded to a half type, and the logits are read once more,
    not written.
    """

    def __init__(self, linear: Linear) -> None:
        self.linear, self.device = linear, linear.device
        self.rows = by_size(linear, self._row_launches)

    def _row_launches(self, rows: int) -> RowLaunches:
        z = self.linear.logits(rows)
        return RowLaunches(Loss(z, None, None, False, False, False, PLAIN, False, self.device))

    def __call__(self, arrays: Arrays, k: int, lock: Lock) -> tuple[Any, Any]:
        """(classes, log-probabilities), put on their stream; `lock` is that of the stream's workspace."""
        linear, address, dtype = self.linear, arrays.library.address, computed(self.linear.dtype)
        m, (indices, values) = linear.library, (arrays.empty((linear.rows, k), kind) for kind in ("int64", dtype))
        loss, first = arrays.empty((linear.chunk,), dtype), arrays.empty((linear.chunk,), "int64")
        with lock, m.on(arrays.x):
            for start, x, z in chunks(linear, arrays):
                rows = x.shape[0]
                at = slice(start, start + rows)
                numbers, classes = m.top(z, k)
                m.copy(classes, indices[at])
                m.copy(classes[:, 0], first[:rows])
                places = address(z), address(first), *(0,) * 6, address(loss)
                self.rows[rows](places, arrays.stream, 0, 0, 1.0)
                m.log_proba(numbers, loss[:rows], values[at])
        return indices, values
