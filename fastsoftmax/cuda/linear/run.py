"""Linear passes on a GPU: chunks of rows whose logits the library computes, our kernels replace, and it multiplies on.

A chunk's logits are written to one buffer, the loss's kernel puts their gradients in their place, and those meet the
chunk's features and the weights once more.  Everything is put on one stream; nothing here waits for it, but for the
check of labels when it is asked for.
"""

from threading import Lock
from typing import Any

from ...core.dtypes import SIZES, SOFTMAX, computed
from ..check import Map
from ..launches import launch_once
from ..run import CountLaunches, MapCall, RowLaunches, SumLaunches
from ..statistics import StatisticsCall, written_of
from ..workspace import HEADER, Workspace
from .check import Linear, LinearLoss, LinearStatistics
from .chunks import Arrays, Gradients, buffer, by_size, chunks


class LinearCall:
    """A cross-entropy of a linear map for operands that look alike."""

    def __init__(self, problem: LinearLoss) -> None:
        self.linear, self.wanted, loss = problem.linear, problem.wanted, problem.loss
        self.device, linear = loss.device, problem.linear
        self.mean, self.reduced = loss.options.reduction == "mean", loss.options.reduction != "none"
        self.dtype = computed(linear.dtype)
        self.size, self.step = SIZES[self.dtype], loss.label if loss.soft is None else loss.soft.strides[0]
        self.rows = by_size(linear, lambda rows: self._row_launches(problem, rows))
        self.count, self.sum = CountLaunches(loss), SumLaunches(loss)
        # Each chunk's sums are added up before the next one's go to the same place, so that their memory does not grow
        # with the rows: a call that is captured on another stream finds it there.
        self.several, self.parts = linear.rows > linear.chunk, -(-linear.rows // linear.chunk)

    @staticmethod
    def _row_launches(problem: LinearLoss, rows: int) -> RowLaunches:
        """The kernels for a chunk: each chunk's targets lie alike, as `plan.chunk_rows` sees to."""
        z, loss = problem.linear.logits(rows), problem.loss
        soft = None if loss.soft is None else loss.soft._replace(shape=z.shape)
        return RowLaunches(loss._replace(x=z, soft=soft, out=z if loss.grad else None))

    def state_for(self, workspace: Workspace) -> tuple[Lock, int]:
        """The lock of a stream's workspace, and the address of enough of its memory."""
        blocks = max((rows.blocks for rows in self.rows.values()), default=0)
        return workspace.lock, workspace.reserve(max(self.parts + blocks, self.count.blocks))

    def __call__(
        self,
        arrays: Arrays,
        places: tuple[int, ...],
        results: dict[str, Any],
        state: tuple[Lock, int],
        up: float,
        check: bool | None,
    ) -> None:
        """Put the pass on its stream; with `check`, wait for it to find bad labels before anything is written.

        The `places` are the addresses of target, class weights, sample weights, upstream gradient, offsets of classes
        and loss (0: none).
        Gradients, times `up`, go to the `results` of their names; `state` is what `state_for` returns.
        """
        lock, header = state
        target, class_weight, factor, upstream, offset, loss = places
        stream, denominator = arrays.stream, header if self.mean else 0
        gradients, joined = Gradients(self.linear, arrays, results, self.linear.dtype), header + HEADER
        sums, parts = joined + 8 * self.parts if self.several else joined, 0
        with lock, self.linear.library.on(arrays.x):
            if self.mean or check:
                self.count((target, class_weight, factor), stream, header, check=bool(check))
            for start, x, z in chunks(self.linear, arrays):
                launches, z_at, past = self.rows[z.shape[0]], arrays.library.address(z), self.size * start
                *factors, at = (place + past if place else 0 for place in (factor, upstream, loss))
                rows = (z_at, target + self.step * start, z_at if self.wanted else 0, class_weight, *factors)
                launches((*rows, offset, 0, at), stream, sums, denominator, up)
                if self.several and self.reduced:
                    launch_once(self.count.join, self.device, stream, sums, launches.blocks, 0, joined + 8 * parts)
                parts += 1 if self.several else launches.blocks
                if self.wanted:
                    gradients.add(start, x, z)
            if self.reduced:
                self.sum(stream, header, parts, loss)
            gradients.finish()


class StatisticsPass:
    """Statistics of the rows of a linear map, for operands that look alike."""

    def __init__(self, problem: LinearStatistics, variant: int, k: int) -> None:
        self.linear, of = problem.linear, problem.statistics
        self.device, self.label = of.device, of.label
        self.written = written_of(variant, self.linear.dtype, k)
        self.rows = by_size(
            self.linear, lambda rows: StatisticsCall(of._replace(x=self.linear.logits(rows)), variant, k)
        )

    def __call__(self, arrays: Arrays, target: int, written: tuple[int, ...], offset: int) -> None:
        """Put the pass on its stream, with the addresses of targets (0: none), statistics, and offsets of classes."""
        with self.linear.library.on(arrays.x):
            for start, x, z in chunks(self.linear, arrays):
                call, z_at = self.rows[x.shape[0]], arrays.library.address(z)
                at = tuple(place + start * size for place, size in zip(written, call.sizes, strict=True))
                call(z_at, target + start * self.label, at, arrays.stream, (offset, 0))


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
        """The factor of each row, or of all of them; None for 1."""
        if not mean:
            return sample_weight
        if sample_weight is None:
            return 1.0 / max(self.linear.rows, 1)
        factor = arrays.empty((self.linear.rows,), computed(self.linear.dtype))
        self.linear.library.normalise(sample_weight, factor)
        return factor

    def __call__(
        self, arrays: Arrays, direction: tuple[Any, Any], sample_weight: Any, *, mean: bool
    ) -> tuple[Any, Any | None]:
        """The products for a direction of weights and bias, of the computing dtype, put on their stream."""
        linear, library, stream = self.linear, arrays.library, arrays.stream
        m, wide = linear.library, computed(linear.dtype)
        results = {"weight": arrays.empty((linear.classes, linear.features), wide)}
        if arrays.bias is not None:
            results["bias"] = arrays.empty((linear.classes,), wide)
        with m.on(arrays.x):
            factor = self._factor(arrays, sample_weight, mean=mean)
            gradients, products = Gradients(linear, arrays, results, wide), buffer(linear, arrays)
            for start, x, p in chunks(linear, arrays):
                rows = x.shape[0]
                u = products if rows == linear.chunk else products[:rows]
                m.logits(x, *direction, u)
                p_at, u_at = library.address(p), library.address(u)
                self.softmax[rows](p_at, 0, p_at, 0, stream)
                self.product[rows](p_at, u_at, u_at, 0, stream)
                if factor is not None:
                    m.scale(factor if isinstance(factor, float) else factor[start : start + rows], u)
                gradients.add(start, x, u)
            gradients.finish()
        return results["weight"], results.get("bias")
