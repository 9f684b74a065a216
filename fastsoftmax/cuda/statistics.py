"""Prepared calls of statistics of rows on a GPU: one kernel writes what is asked for, each to an array of its own."""

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
