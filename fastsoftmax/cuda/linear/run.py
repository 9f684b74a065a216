"""Linear passes on a GPU: chunks of rows whose logits the library computes, our kernels replace, and it multiplies on.

A chunk's logits are written to one buffer, the loss's kernel puts their gradients in their place, and those meet the
chunk's features and the weights once more.  Everything is put on one stream; nothing here waits for it, but for the
check of labels when it is asked for.
"""

from threading import Lock
from typing import Any

from ...core.dtypes import SOFTMAX
from ...core.operands import SIZES
from ..check import Map, computed
from ..run import Counted, Losses, MapCall, Summed
from ..toolkit import compiler
from ..workspace import HEADER, Workspace
from .check import Linear, LinearLoss
from .chunks import Arrays, Gradients, buffer, by_size, chunks, sizes


class LinearCall:
    """A cross-entropy of a linear map for operands that look alike."""

    def __init__(self, problem: LinearLoss) -> None:
        self.linear, self.wanted, loss = problem.linear, problem.wanted, problem.loss
        self.device, linear = loss.device, problem.linear
        self.mean, self.reduced = loss.options.reduction == "mean", loss.options.reduction != "none"
        self.hard, self.label, self.dtype = loss.soft is None, loss.label, computed(linear.dtype)
        self.size, self.step = SIZES[self.dtype], loss.label if loss.soft is None else loss.soft.strides[0]
        self.losses = by_size(linear, lambda rows: self._losses(problem, rows))
        self.counted, self.summed = Counted(loss), Summed(loss)
        # Each chunk's sums are added up before the next one's go to the same place, so that their room does not grow
        # with the rows: a call that is captured on another stream finds it there.
        self.several, self.parts = linear.rows > linear.chunk, sum(times for _, times in sizes(linear))

    @staticmethod
    def _losses(problem: LinearLoss, rows: int) -> Losses:
        """The kernels for a chunk: each chunk's targets lie alike, as `plan.chunk_rows` sees to."""
        z, loss = problem.linear.logits(rows), problem.loss
        soft = None if loss.soft is None else loss.soft._replace(shape=z.shape)
        return Losses(loss._replace(x=z, soft=soft, out=z if loss.grad else None))

    def roomed(self, room: Workspace) -> tuple[Lock, int]:
        """A stream's workspace: its lock, and the address of memory that is large enough."""
        blocks = max((losses.blocks for losses in self.losses.values()), default=0)
        return room.lock, room.reserve(max(self.parts + blocks, self.counted.blocks))

    def _join(self, stream: int, sums: int, blocks: int, to: int) -> None:
        """Put the sum of a chunk's sums on the stream."""
        step = self.counted.joining
        compiler.launch(step.loaded, self.device, stream, step.grid, step.threads, 0, (sums, blocks, 0, to))

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
        gradients, joined = Gradients(self.linear, arrays, results, self.linear.dtype), header + HEADER
        sums, parts = joined + 8 * self.parts if self.several else joined, 0
        with lock, self.linear.matrices.on(arrays.x):
            if self.mean or check:
                self.counted((target, class_weight, factor), stream, header, check=bool(check))
            for start, x, z in chunks(self.linear, arrays):
                losses, z_at, past = self.losses[z.shape[0]], arrays.library.address(z), self.size * start
                at = [place + past if place else 0 for place in (factor, upstream, loss)]
                rows = (z_at, target + self.step * start, z_at if self.wanted else 0, class_weight, *at)
                losses(rows, stream, sums, denominator, up)
                if self.several and self.reduced:
                    self._join(stream, sums, losses.blocks, joined + 8 * parts)
                parts += 1 if self.several else losses.blocks
                if self.wanted:
                    gradients.add(start, x, z)
            if self.reduced:
                self.summed(stream, header, parts, loss)
            gradients.finish()


class HessianCall:
    """A product of the Hessian by weights and bias, times a direction, for operands that look alike."""

    def __init__(self, linear: Linear) -> None:
        self.linear = linear
        self.softmax = by_size(linear, lambda rows: self._map(rows, "softmax"))
        self.product = by_size(linear, lambda rows: self._map(rows, "vjp"))

    def _map(self, rows: int, kernel: str) -> MapCall:
        z = self.linear.logits(rows)
        y = z if kernel == "vjp" else None
        return MapCall(Map(z, y, z, self.linear.device), kernel, SOFTMAX, numbers=False)

    def _factor(self, arrays: Arrays, sample_weight: Any, *, mean: bool) -> Any:
        """What each row, or all of them, are multiplied by; None for 1."""
        if not mean:
            return sample_weight
        if sample_weight is None:
            return 1.0 / max(self.linear.rows, 1)
        factor = arrays.new((self.linear.rows,), computed(self.linear.dtype))
        self.linear.matrices.normalise(sample_weight, factor)
        return factor

    def __call__(
        self, arrays: Arrays, direction: tuple[Any, Any], sample_weight: Any, *, mean: bool
    ) -> tuple[Any, Any | None]:
        """Put it on its stream, for a direction of weights and bias: the products, of the computing dtype."""
        linear, library, stream = self.linear, arrays.library, arrays.stream
        m, wide = linear.matrices, computed(linear.dtype)
        results = {"weight": arrays.new((linear.classes, linear.features), wide)}
        if arrays.bias is not None:
            results["bias"] = arrays.new((linear.classes,), wide)
        with m.on(arrays.x):
            factor = self._factor(arrays, sample_weight, mean=mean)
            gradients, room = Gradients(linear, arrays, results, wide), buffer(linear, arrays)
            for start, x, p in chunks(linear, arrays):
                rows = x.shape[0]
                u = room if rows == linear.chunk else room[:rows]
                m.logits(x, *direction, u)
                p_at, u_at = library.address(p), library.address(u)
                self.softmax[rows](p_at, 0, p_at, 0, stream)
                self.product[rows](p_at, u_at, u_at, 0, stream)
                if factor is not None:
                    m.scale(factor if isinstance(factor, float) else factor[start : start + rows], u)
                gradients.add(start, x, u)
            gradients.finish()
        return results["weight"], results.get("bias")
