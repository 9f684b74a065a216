"""Chunks of the rows of a linear pass on a GPU: their logits, and gradients that are added up over them."""

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple, TypeVar

from ...core.dtypes import computed
from ..arrays.products import Products
from .check import Linear

T = TypeVar("T")


class Arrays(NamedTuple):
    """The operands of the products, their library, and the stream that everything goes to."""

    x: Any
    weight: Any
    bias: Any
    library: Products
    stream: int

    def empty(self, shape: tuple[int, ...], dtype: str) -> Any:
        """A new C-contiguous array of the library."""
        return self.library.empty(self.x, shape, dtype, self.stream)


def by_size(linear: Linear, make: Callable[[int], T]) -> dict[int, T]:
    """Calls that `make` prepares for chunks, by their numbers of rows: for whole ones, and for the last."""
    whole, last = divmod(linear.rows, linear.chunk)
    return {rows: make(rows) for rows, times in ((linear.chunk, whole), (last, 1)) if rows and times}


def buffer(linear: Linear, arrays: Arrays) -> Any:
    """An array for the logits of a chunk, and for those of the next one after it."""
    whole = arrays.empty((linear.chunk, linear.pitch), linear.dtype)
    return whole[:, : linear.classes] if linear.pitch > linear.classes else whole


def chunks(linear: Linear, arrays: Arrays, logits: Any = None) -> Iterator[tuple[int, Any, Any]]:
    """(first row, features, logits) of one chunk after the other, in `logits`, or a buffer used anew for each."""
    logits = buffer(linear, arrays) if logits is None else logits
    for start in range(0, linear.rows, linear.chunk):
        stop = min(start + linear.chunk, linear.rows)
        x = arrays.x if stop - start == linear.rows else arrays.x[start:stop]
        z = logits if stop - start == linear.chunk else logits[: stop - start]
        linear.library.logits(x, arrays.weight, arrays.bias, z)
        yield start, x, z


class Total:
    """A gradient that is added up over chunks in the computing dtype, and rounded to its own once.

    There are arrays for the `result`, for the `total` (the same where nothing is rounded), and for a chunk's `part`, if
    there is one that is not added at once; with `direct`, it can be written to the total as it is computed.
    """

    def __init__(self, library: Products, result: Any, total: Any, part: Any, *, direct: bool) -> None:
        self.library, self.result, self.total, self.part, self.direct = library, result, total, part, direct
        self.begun = False

    def add(self, put: Callable[[Any], None], add: Callable[[Any], None] | None = None) -> None:
        """One more chunk: `put` writes its part to an array, `add` adds it to one without room for the part."""
        if self.direct and not self.begun:
            put(self.total)
        elif self.direct and add is not None:
            add(self.total)
        else:
            put(self.part)
            (self.library.add if self.begun else self.library.copy)(self.part, self.total)
        self.begun = True

    def finish(self) -> None:
        """Write the sum to the result."""
        if not self.begun:
            self.library.zero(self.result)
        elif self.total is not self.result:
            self.library.copy(self.total, self.result)


class Gradients:
    """The gradients of a pass, as far as they are asked for; `stored` is the dtype of those of weights and bias."""

    def __init__(self, linear: Linear, arrays: Arrays, results: dict[str, Any], stored: str) -> None:
        self.library, self.arrays, self.x = linear.library, arrays, results.get("x")
        wide, several = computed(linear.dtype), linear.rows > linear.chunk
        self.weight = self.bias = None
        if (result := results.get("weight")) is not None:
            shape, total, part = (linear.classes, linear.features), result, None
            direct = linear.dtype == wide or (stored != wide and not several)
            if not direct and stored == wide:
                part = arrays.empty(shape, linear.dtype)
            elif not direct:
                total, part = arrays.empty(shape, wide), result
            elif several and not linear.library.adds:
                part = arrays.empty(shape, wide)
            self.weight = Total(linear.library, result, total, part, direct=direct)
        if (result := results.get("bias")) is not None:  # its few numbers are never rounded on the way
            total = result if stored == wide else arrays.empty((linear.classes,), wide)
            part = arrays.empty((linear.classes,), wide) if several else None
            self.bias = Total(linear.library, result, total, part, direct=True)

    def add(self, start: int, x: Any, grad: Any) -> None:
        """Add those of a chunk, from its features and the gradients with respect to its logits."""
        m = self.library
        if self.weight is not None:
            across = grad.T
            add = (lambda out: m.add_product(across, x, out)) if m.adds else None
            self.weight.add(lambda out: m.product(across, x, out), add)
        if self.bias is not None:
            self.bias.add(lambda out: m.columns(grad, out))
        if self.x is not None:  # at last, as it may go where the features are
            m.product(grad, self.arrays.weight, self.x[start : start + x.shape[0]])

    def finish(self) -> None:
        """Write the sums to the results."""
        for total in (self.weight, self.bias):
            if total is not None:
                total.finish()
