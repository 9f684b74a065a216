"""Prepared calls of statistics of rows on a GPU, each written to an array of its own, and of their gradient."""

from threading import Lock

import numpy as np

from ..core.dtypes import SIZES, computed
from ..core.memo import Memo
from ..core.options import flags_of, numbers_of
from ..core.statistics import BITS, INDEX, NAMES, REAL, TRUTH, asked, columns_of
from .check import Statistics
from .launches import RowWork, launches_of
from .run import STREAMS
from .toolkit import compiler
from .toolkit.packed import Cell


class StatisticsCall:
    """Statistics of logits and targets that look alike."""

    def __init__(self, problem: Statistics, variant: int, k: int) -> None:
        x, o, self.device, self.label = problem.x, problem.options, problem.device, problem.label
        kinds = {REAL: computed(x.dtype), INDEX: "int64", TRUTH: "bool"}
        by_name = {name: dtype for kind, dtype in kinds.items() for name in asked(variant, kind)}
        #: By name: the dtype of an array that is written, and the numbers of a row.
        self.written: dict[str, tuple[str, tuple[int, ...]]] = {
            name: (by_name[name], ()) for name in NAMES if name in by_name
        }
        if variant & BITS["top_k"]:
            self.written |= {"top_k": (kinds[REAL], (k,)), "indices": ("int64", (k,))}
        self.sizes = [(SIZES | {"bool": 1})[dtype] * (shape or (1,))[0] for dtype, shape in self.written.values()]
        flags = flags_of(o, hard=problem.label > 0, weighted=False, factors=False, grad=False)._replace(soft=False)
        work = RowWork("statistics", columns_of(variant), flags, problem.label or 8)
        self.launches = launches_of(work, x, None, None, problem.device)
        self.numbers = tuple(map(np.dtype(computed(x.dtype)).type, numbers_of(o, x.shape[-1])))
        self.ignore_index, self.k, self.lock = o.ignore_index, k, Lock()
        self.prepared: Memo[int, compiler.Launches] = Memo(STREAMS)

    def _prepare(self, stream: int) -> compiler.Launches:
        """The launches on a stream; each has cells for the addresses of logits, target and statistics."""
        kernels, names = [], list(self.written)
        each = 2 + len(names)
        for number, launch in enumerate(self.launches):
            x, target, *written = (Cell(number * each + i) for i in range(each))
            at = dict(zip(names, written, strict=True))
            columns = [at.get(name, 0) for name in (*NAMES, "indices")]
            integers = x, 0, 0, target if self.label else 0, *columns, self.k, self.ignore_index, *launch.shape
            kernels.append(launch.kernel.with_arguments(*integers, *self.numbers))
        return self.prepared.keep(stream, compiler.Launches(stream, kernels, each * len(kernels)))

    def __call__(self, x: int, target: int, written: tuple[int, ...], stream: int) -> None:
        """Put the call on a stream, with the addresses of its operands and of the statistics in their order."""
        places: tuple[int, ...] = ()
        for _, _, (begin, _, _), row, _ in self.launches:
            columns = (at + row * size for at, size in zip(written, self.sizes, strict=True))
            places += x + begin, target + row * self.label, *columns
        with self.lock:
            compiler.put(self.device, self.prepared.get(stream) or self._prepare(stream), places)


class DerivativeCall:
    """The gradient of statistics of logits and targets that look alike.

    Those of `DIFFERENTIABLE` that are `given` have upstream gradients; `arrays` says which are one number a row.
    """

    def __init__(self, problem: Statistics, given: tuple[bool, ...], arrays: tuple[bool, ...]) -> None:
        x, o, self.device, self.label, self.arrays = problem.x, problem.options, problem.device, problem.label, arrays
        flags = flags_of(o, hard=problem.label > 0, weighted=False, factors=False, grad=True)
        flags = flags._replace(soft=False, upstream=True, rest=True, entropy=given[1])
        work = RowWork("derivatives", 0, flags, problem.label or 8)
        self.launches = launches_of(work, x, None, problem.out, problem.device)
        self.size, self.number = SIZES[computed(x.dtype)], np.dtype(computed(x.dtype)).type
        numbers = numbers_of(o, x.shape[-1])
        self.rest = numbers.inverse_temperature, numbers.cap
        self.ignore_index, self.lock = o.ignore_index, Lock()
        self.prepared: Memo[tuple[int, tuple[float, ...]], compiler.Launches] = Memo(STREAMS)

    def _prepare(self, stream: int, ups: tuple[float, ...]) -> compiler.Launches:
        """The launches on a stream by upstream gradients; each has cells for the addresses of all arrays."""
        kernels, numbers = [], tuple(map(self.number, (*ups, *self.rest)))
        for number, launch in enumerate(self.launches):
            x, target, out, *rows = (Cell(6 * number + i) for i in range(6))
            at = [cell if array else 0 for cell, array in zip(rows, self.arrays, strict=True)]
            integers = x, 0, out, target if self.label else 0, *at, self.ignore_index, *launch.shape
            kernels.append(launch.kernel.with_arguments(*integers, *numbers))
        return self.prepared.keep((stream, ups), compiler.Launches(stream, kernels, 6 * len(kernels)))

    def __call__(
        self, x: int, target: int, out: int, rows: tuple[int, ...], ups: tuple[float, ...], stream: int
    ) -> None:
        """Put the call on a stream, with the addresses of its arrays and the upstream gradients that are numbers."""
        places: tuple[int, ...] = ()
        for _, _, (x_begin, _, begin), row, _ in self.launches:
            places += x + x_begin, target + row * self.label, out + begin, *(at + row * self.size for at in rows)
        with self.lock:
            compiler.put(self.device, self.prepared.get((stream, ups)) or self._prepare(stream, ups), places)
