"""Linear passes on a GPU: chunks of rows whose logits the library computes, our kernels replace, and it multiplies on.

A chunk's logits are written to one buffer, the loss's kernel puts their gradients in their place, and those meet the
chunk's features and the weights once more.  Everything is put on one stream; nothing here waits for it, but for the
check of labels when it is asked for.
"""

from collections.abc import Callable, Iterator
from threading import Lock
from typing import Any, NamedTuple

from .check_cuda import computed
from .check_linear_cuda import Linear, LinearLoss
from .cuda.libraries import Library
from .cuda.matrices import Matrices
from .cuda.workspace import HEADER, Workspace
from .operands import SIZES
from .run_cuda import Counted, Losses, Summed


class Arrays(NamedTuple):
    """The operands of the products, their library, and the stream that everything goes to."""

    x: Any
    weight: Any
    bias: Any
    library: Library
    stream: int

    def new(self, shape: tuple[int, ...], dtype: str) -> Any:
        """A new C-contiguous array of the library."""
        return self.library.new(self.x, shape, dtype, self.stream)


def chunks(linear: Linear, arrays: Arrays, room: Any = None) -> Iterator[tuple[int, Any, Any]]:
    """(first row, features, logits) of one chunk after the other; in `room`, or a buffer that each chunk overwrites."""
    if room is None:
        room = arrays.new((linear.chunk, linear.pitch), linear.dtype)
        if linear.pitch > linear.classes:
            room = room[:, : linear.classes]
    for start in range(0, linear.rows, linear.chunk):
        stop = min(start + linear.chunk, linear.rows)
        x = arrays.x if stop - start == linear.rows else arrays.x[start:stop]
        z = room if stop - start == linear.chunk else room[: stop - start]
        linear.matrices.logits(x, arrays.weight, arrays.bias, z)
        yield start, x, z


class Total:
    """A gradient that is added up over chunks in the computing dtype, and rounded to its own once.

    Where there is one chunk nothing is added up; where its dtype is the computing one that is done in place.
    """

    def __init__(self, matrices: Matrices, result: Any, total: Any, part: Any) -> None:
        self.matrices, self.result, self.total, self.part = matrices, result, total, part
        self.begun = False

    def add(self, put: Callable[[Any], None], add: Callable[[Any], None] | None = None) -> None:
        """One more chunk: `put` writes its part to an array, `add` adds it to one without room for the part."""
        if not self.begun and self.part is not self.result:
            put(self.total)
        elif add is not None and self.part is None:
            add(self.total)
        else:
            put(self.part)
            (self.matrices.add if self.begun else self.matrices.copy)(self.part, self.total)
        self.begun = True

    def finish(self) -> None:
        """Hand over what was added up."""
        if not self.begun:
            self.matrices.zero(self.result)
        elif self.total is not self.result:
            self.matrices.copy(self.total, self.result)


class Gradients:
    """The gradients of a pass, as far as they are asked for."""

    def __init__(self, linear: Linear, arrays: Arrays, results: dict[str, Any]) -> None:
        self.matrices, self.arrays, self.x = linear.matrices, arrays, results.get("x")
        weight, bias, wide = results.get("weight"), results.get("bias"), computed(linear.dtype)
        several, rounded = linear.rows > linear.chunk, wide != linear.dtype
        self.weight = self.bias = None
        if weight is not None:
            shape, total, part = (linear.classes, linear.features), weight, None
            if several and rounded:
                total, part = arrays.new(shape, wide), weight
            elif several and not linear.matrices.adds:
                part = arrays.new(shape, wide)
            self.weight = Total(linear.matrices, weight, total, part)
        if bias is not None:  # the few numbers of sums of columns are never rounded on the way
            new = (lambda: arrays.new((linear.classes,), wide)) if several or rounded else lambda: None
            self.bias = Total(linear.matrices, bias, new() if rounded else bias, new() if several else None)

    def add(self, start: int, x: Any, grad: Any) -> None:
        """Those of a chunk, from its features and the gradients with respect to its logits."""
        m = self.matrices
        if self.weight is not None:
            across = grad.T
            add = (lambda out: m.add_product(across, x, out)) if m.adds else None
            self.weight.add(lambda out: m.product(across, x, out), add)
        if self.bias is not None:
            self.bias.add(lambda out: m.columns(grad, out))
        if self.x is not None:  # at last, as it may go where the features are
            m.product(grad, self.arrays.weight, self.x[start : start + x.shape[0]])

    def finish(self) -> None:
        """Hand over what was added up."""
        for total in (self.weight, self.bias):
            if total is not None:
                total.finish()


class LinearCall:
    """A cross-entropy of a linear map for operands that look alike."""

    def __init__(self, problem: LinearLoss) -> None:
        self.linear, self.wanted, loss = problem.linear, problem.wanted, problem.loss
        self.device, linear = loss.device, problem.linear
        self.mean, self.reduced = loss.options.reduction == "mean", loss.options.reduction != "none"
        self.hard, self.label, self.dtype = loss.soft is None, loss.label, computed(linear.dtype)
        self.size, self.step = SIZES[self.dtype], loss.label if loss.soft is None else loss.soft.strides[0]
        self.whole, self.last = linear.rows // linear.chunk, linear.rows % linear.chunk
        self.losses = {rows: self._losses(problem, rows) for rows in {linear.chunk * (self.whole > 0), self.last} - {0}}
        self.counted, self.summed = Counted(loss), Summed(loss)
        self.blocks = sum(self.losses[n].blocks * times for n, times in self._sizes())

    def _sizes(self) -> list[tuple[int, int]]:
        """(rows, how many) of the chunks."""
        return [(n, times) for n, times in ((self.linear.chunk, self.whole), (self.last, 1)) if n in self.losses]

    @staticmethod
    def _losses(problem: LinearLoss, rows: int) -> Losses:
        """The kernels for a chunk: each chunk's targets lie alike, as `plan_linear.gpu_rows` sees to."""
        z, loss = problem.linear.logits(rows), problem.loss
        soft = None if loss.soft is None else loss.soft._replace(shape=z.shape)
        return Losses(loss._replace(x=z, soft=soft, out=z if loss.grad else None))

    def roomed(self, room: Workspace) -> tuple[Lock, int]:
        """A stream's workspace: its lock, and the address of memory that is large enough."""
        return room.lock, room.reserve(max(self.blocks, self.counted.blocks))

    def __call__(
        self,
        arrays: Arrays,
        places: tuple[int, ...],
        results: dict[str, Any],
        room: tuple[Lock, int],
        up: float,
        check: bool | None,
    ) -> None:
        """Put the pass on its stream.

        Parameters
        ----------
        arrays
            Features, weights and bias.
        places
            The addresses of target, class weights, sample weights, upstream gradient and loss; 0 for those that there
            are not.
        results
            Where the gradients go, by their names.
        room
            What `roomed` says.
        up
            What gradients are multiplied by.
        check
            Wait for the stream to find labels out of range, before anything is written.
        """
        lock, header = room
        target, class_weight, factor, upstream, loss = places
        stream, denominator = arrays.stream, header if self.mean else 0
        gradients, done = Gradients(self.linear, arrays, results), 0
        with lock, self.linear.matrices.on(arrays.x):
            if self.mean or check:
                self.counted((target, class_weight, factor), stream, header, check=bool(check))
            for start, x, z in chunks(self.linear, arrays):
                losses, z_at, past = self.losses[z.shape[0]], arrays.library.address(z), self.size * start
                at = [place + past if place else 0 for place in (factor, upstream, loss)]
                rows = (z_at, target + self.step * start, z_at if self.wanted else 0, class_weight, *at)
                losses(rows, stream, header + HEADER + 8 * done, denominator, up)
                done += losses.blocks
                if self.wanted:
                    gradients.add(start, x, z)
            if self.reduced:
                self.summed(stream, header, self.blocks, loss)
            gradients.finish()


def predict(linear: Linear, arrays: Arrays) -> Any:
    """The class of the largest logit of each row."""
    result = arrays.new((linear.rows,), "int64")
    with linear.matrices.on(arrays.x):
        for start, x, z in chunks(linear, arrays):
            linear.matrices.largest(z, result[start : start + x.shape[0]])
    return result


def fill(linear: Linear, arrays: Arrays, out: Any) -> None:
    """Write the logits of all rows to an array."""
    with linear.matrices.on(arrays.x):
        for _ in chunks(linear, arrays, out):
            pass
