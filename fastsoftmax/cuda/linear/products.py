"""Products of matrices and sums of columns on a GPU, by the library that the arrays are from: PyTorch or CuPy.

Everything is written to arrays that are there, on the library's current stream.  Neither is imported here: who has one
of their arrays has done so.
"""

import sys
from contextlib import AbstractContextManager, nullcontext
from typing import Any

from ..arrays.library import Library


class Matrices:
    """What a linear pass asks of a library; the last argument is where the result goes."""

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
        """Where the largest number of each row is; of equal ones, the first."""
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


class Torch(Matrices):
    """PyTorch: cuBLAS reads and writes rows that lie apart, and adds to what is there."""

    pitched = True
    adds = True

    def on(self, array: Any) -> AbstractContextManager[Any]:
        """A tensor's functions go to its own device."""
        return nullcontext()

    def logits(self, x: Any, weight: Any, bias: Any, out: Any) -> None:
        """In one call: the bias is what the product is added to."""
        torch = sys.modules["torch"]
        if bias is None:
            torch.mm(x, weight.T, out=out)
        else:
            torch.addmm(bias, x, weight.T, out=out)

    def product(self, a: Any, b: Any, out: Any) -> None:
        """By cuBLAS, in float32 on the way for half types."""
        sys.modules["torch"].mm(a, b, out=out)

    def add_product(self, a: Any, b: Any, out: Any) -> None:
        """By cuBLAS, whose β is 1."""
        sys.modules["torch"].addmm(out, a, b, out=out)

    def add(self, part: Any, out: Any) -> None:
        """In the wider dtype."""
        out.add_(part)

    def columns(self, rows: Any, out: Any) -> None:
        """Converted as they are read."""
        sys.modules["torch"].sum(rows, 0, dtype=out.dtype, out=out)

    def copy(self, array: Any, out: Any) -> None:
        """Rounded where that is narrower."""
        out.copy_(array)

    def largest(self, rows: Any, out: Any) -> None:
        """NaN is the largest."""
        sys.modules["torch"].argmax(rows, 1, out=out)

    def zero(self, out: Any) -> None:
        """In place."""
        out.zero_()

    def top(self, rows: Any, k: int) -> tuple[Any, Any]:
        """Equal ones in the order of their places; which of them are among the k is PyTorch's choice."""
        torch = sys.modules["torch"]
        places = torch.sort(torch.topk(rows, k, 1)[1], 1)[0]
        numbers, order = torch.sort(torch.gather(rows, 1, places), dim=1, descending=True, stable=True)
        return numbers, torch.gather(places, 1, order)

    def log_proba(self, logits: Any, loss: Any, out: Any) -> None:
        """Differences of logits are exact in the wider dtype."""
        out.copy_(logits)
        out.sub_(logits[:, :1])
        out.sub_(loss[:, None])

    def scale(self, factor: Any, out: Any) -> None:
        """In place."""
        out.mul_(factor if isinstance(factor, float) else factor[:, None])

    def normalise(self, weights: Any, out: Any) -> None:
        """Summed in float64."""
        torch = sys.modules["torch"]
        torch.div(weights, torch.sum(weights, 0, dtype=torch.float64), out=out)


class Cupy(Matrices):
    """CuPy, whose products go to C-contiguous arrays, and which goes by the current device."""

    sorts = True

    def on(self, array: Any) -> AbstractContextManager[Any]:
        """With the array's device."""
        device: AbstractContextManager[Any] = sys.modules["cupy"].cuda.Device(array.data.device_id)
        return device

    def logits(self, x: Any, weight: Any, bias: Any, out: Any) -> None:
        """The bias is added afterwards."""
        cupy = sys.modules["cupy"]
        cupy.dot(x, weight.T, out=out)
        if bias is not None:
            cupy.add(out, bias, out=out)

    def product(self, a: Any, b: Any, out: Any) -> None:
        """By cuBLAS, in float32 on the way for half types."""
        sys.modules["cupy"].dot(a, b, out=out)

    def add(self, part: Any, out: Any) -> None:
        """In the wider dtype."""
        sys.modules["cupy"].add(out, part, out=out)

    def columns(self, rows: Any, out: Any) -> None:
        """Converted as they are read."""
        sys.modules["cupy"].sum(rows, axis=0, dtype=out.dtype, out=out)

    def copy(self, array: Any, out: Any) -> None:
        """Rounded where that is narrower."""
        sys.modules["cupy"].copyto(out, array, casting="unsafe")

    def largest(self, rows: Any, out: Any) -> None:
        """NaN is the largest."""
        sys.modules["cupy"].argmax(rows, axis=1, out=out)

    def zero(self, out: Any) -> None:
        """In place."""
        out.fill(0)

    def top(self, rows: Any, k: int) -> tuple[Any, Any]:
        """By sorting all of them backwards: NaN comes last in CuPy's order, and of equal ones the first then does."""
        cupy = sys.modules["cupy"]
        places = cupy.argsort(rows[:, ::-1], axis=1)[:, : -k - 1 : -1]
        places = cupy.subtract(rows.shape[1] - 1, places)
        return cupy.take_along_axis(rows, places, axis=1), places

    def log_proba(self, logits: Any, loss: Any, out: Any) -> None:
        """Differences of logits are exact in the wider dtype."""
        cupy = sys.modules["cupy"]
        cupy.copyto(out, logits)
        cupy.subtract(out, logits[:, :1], out=out)
        cupy.subtract(out, loss[:, None], out=out)

    def scale(self, factor: Any, out: Any) -> None:
        """In place, rounded where rows are narrower."""
        cupy = sys.modules["cupy"]
        cupy.multiply(out, factor if isinstance(factor, float) else factor[:, None], out=out, casting="same_kind")

    def normalise(self, weights: Any, out: Any) -> None:
        """Summed in float64."""
        cupy = sys.modules["cupy"]
        cupy.divide(weights, weights.sum(dtype="float64"), out=out, casting="same_kind")


_KNOWN: dict[str, Matrices] = {"torch": Torch(), "cupy": Cupy()}


def matrices(library: Library) -> Matrices | None:
    """The products of a library's arrays; None where it has no such thing."""
    return _KNOWN.get(library.name)
