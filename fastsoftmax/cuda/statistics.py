"""Prepared calls of statistics of rows on a GPU, each written to an array of its own, and of their gradient."""

from threading import Lock
from typing import Any

import numpy as np

from ..core.conversion import positive
from ..core.dtypes import SIZES, computed
from ..core.memo import Memo
from ..core.options import Options, flags_of, numbers_of
from ..core.statistics import BITS, DIFFERENTIABLE, INDEX, NAMES, REAL, TRUTH, asked, columns_of
from ..core.statistics import upstreams as given_upstreams
from . import check, derived
from .arrays.borrowed import keep
from .arrays.lookup import argument, arguments, by_type, call_key, keys, library
from .derived import Statistics
from .launches import RowWork, launches_of
from .prepared import Prepared, calls, find, may_wait, order, reach_of
from .run import STREAMS
from .toolkit import compiler
from .toolkit.packed import Cell
from .upstream import upstream_fits, upstream_number


def written_of(variant: int, dtype: str, k: int) -> dict[str, tuple[str, tuple[int, ...]]]:
    """By name the arrays that a set is written to: dtype, and the numbers of a row."""
    kinds = {REAL: computed(dtype), INDEX: "int64", TRUTH: "bool"}
    by_name = {name: kind for of, kind in kinds.items() for name in asked(variant, of)}
    written: dict[str, tuple[str, tuple[int, ...]]] = {name: (by_name[name], ()) for name in NAMES if name in by_name}
    if variant & BITS["top_k"]:
        written |= {"top_k": (kinds[REAL], (k,)), "indices": ("int64", (k,))}
    return written


class StatisticsCall:
    """Statistics of logits and targets that look alike."""

    def __init__(self, problem: Statistics, variant: int, k: int) -> None:
        x, o, self.device, self.label = problem.x, problem.options, problem.device, problem.label
        self.written = written_of(variant, x.dtype, k)
        self.sizes = [(SIZES | {"bool": 1})[dtype] * (shape or (1,))[0] for dtype, shape in self.written.values()]
        flags = flags_of(o, hard=problem.label > 0, weighted=False, factors=False, grad=False)._replace(soft=False)
        adjust, self.adjusted = problem.adjust, problem.adjust.given
        work = RowWork("statistics", columns_of(variant), adjust.of(flags), problem.label or 8)
        self.launches = launches_of(work, x, None, None, problem.device, adjust.mask)
        self.numbers = tuple(map(np.dtype(computed(x.dtype)).type, numbers_of(o, x.shape[-1])))
        self.ignore_index, self.k, self.lock = o.ignore_index, k, Lock()
        self.prepared: Memo[int, compiler.Launches] = Memo(STREAMS)

    def _prepare(self, stream: int) -> compiler.Launches:
        """The launches on a stream; each has cells for the addresses of logits, target and statistics."""
        kernels, names = [], list(self.written)
        each = 4 + len(names)
        for number, launch in enumerate(self.launches):
            x, target, offset, mask, *written = (Cell(number * each + i) for i in range(each))
            at = dict(zip(names, written, strict=True))
            columns = [at.get(name, 0) for name in (*NAMES, "indices")]
            integers = x, 0, 0, target if self.label else 0, *columns, self.k, self.ignore_index, *launch.shape
            integers += (offset, mask) if self.adjusted else ()
            kernels.append(launch.kernel.with_arguments(*integers, *self.numbers))
        return self.prepared.keep(stream, compiler.Launches(stream, kernels, each * len(kernels)))

    def __call__(
        self, x: int, target: int, written: tuple[int, ...], stream: int, adjust: tuple[int, ...] = (0, 0)
    ) -> None:
        """Put the call on a stream, with the addresses of its operands and of the statistics in their order.

        Those to `adjust` by are of offsets of the classes and of a mask.
        """
        places: tuple[int, ...] = ()
        for _, _, (begin, _, _, mask), row, _ in self.launches:
            columns = (at + row * size for at, size in zip(written, self.sizes, strict=True))
            places += x + begin, target + row * self.label, adjust[0], adjust[1] + mask, *columns
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
        adjust, self.adjusted = problem.adjust, problem.adjust.given
        work = RowWork("derivatives", 0, adjust.of(flags), problem.label or 8)
        self.launches = launches_of(work, x, None, problem.out, problem.device, adjust.mask)
        self.size, self.number = SIZES[computed(x.dtype)], np.dtype(computed(x.dtype)).type
        numbers = numbers_of(o, x.shape[-1])
        self.rest = numbers.inverse_temperature, numbers.cap
        self.ignore_index, self.lock = o.ignore_index, Lock()
        self.prepared: Memo[tuple[int, tuple[float, ...]], compiler.Launches] = Memo(STREAMS)

    def _prepare(self, stream: int, ups: tuple[float, ...]) -> compiler.Launches:
        """The launches on a stream by upstream gradients; each has cells for the addresses of all arrays."""
        kernels, numbers = [], tuple(map(self.number, (*ups, *self.rest)))
        for number, launch in enumerate(self.launches):
            x, target, out, *rows, offset, mask = (Cell(8 * number + i) for i in range(8))
            at = [cell if array else 0 for cell, array in zip(rows, self.arrays, strict=True)]
            integers = x, 0, out, target if self.label else 0, *at, self.ignore_index, *launch.shape
            integers += (offset, mask) if self.adjusted else ()
            kernels.append(launch.kernel.with_arguments(*integers, *numbers))
        return self.prepared.keep((stream, ups), compiler.Launches(stream, kernels, 8 * len(kernels)))

    def __call__(
        self, x: int, target: int, out: int, rows: tuple[int, ...], ups: tuple[float, ...], stream: int
    ) -> None:
        """Put the call on a stream, with the addresses of its arrays and the upstream gradients that are numbers.

        The last two of `rows` are those of offsets of the classes and of a mask.
        """
        places: tuple[int, ...] = ()
        *rows_at, offset, mask = rows
        for _, _, (x_begin, _, begin, mask_begin), row, _ in self.launches:
            places += x + x_begin, target + row * self.label, out + begin, *(at + row * self.size for at in rows_at)
            places += offset, mask + mask_begin
        with self.lock:
            compiler.put(self.device, self.prepared.get((stream, ups)) or self._prepare(stream, ups), places)


def row_stats(
    logits: Any,
    target: Any,
    variant: int,
    axis: Any,
    options: Options,
    k: Any,
    adjust: tuple[Any, Any] | None = None,
) -> dict[str, Any]:
    """The statistics of a set, by name."""
    kind = by_type.get(type(logits)) or library(logits)
    look, stream, x_at, target_at, _, owners = kind.call_key(logits, target, None) or call_key(
        kind, logits, target, None
    )
    most = (k, type(k)) if variant & BITS["top_k"] else None
    where, class_offset = adjust or (None, None)
    each_key, each_at, each_owners = keys((class_offset, where), stream)
    arrays = logits, target, class_offset, where
    key = kind, look, axis, type(axis), options, "statistics", variant, most, each_key
    prepared = find(key, x_at, target_at, 0)
    if prepared is None:
        prepared = _prepare_statistics(key, arrays, axis, options, variant, k, stream)
    call, owners = prepared.call, (*(owners or arrays)[:2], *each_owners)
    borrowed = order(kind, stream, call.device, arrays, owners) if prepared.waits else None
    found = {
        name: kind.empty(logits, prepared.shape + each, dtype, stream) for name, (dtype, each) in call.written.items()
    }
    call(x_at, target_at, tuple(map(kind.address, found.values())), stream, each_at)
    if borrowed:
        keep(call.device, stream, borrowed)
    if prepared.exports:
        found = {name: kind.exported(array) for name, array in found.items()}
    if most is not None:
        found["top_k"] = found.pop("indices"), found["top_k"]
    return found


def _prepare_statistics(
    key: Any, arrays: tuple[Any, ...], axis: Any, options: Options, variant: int, k: Any, stream: int
) -> Prepared:
    """A prepared call."""
    logits, target, *adjust = arguments(arrays, stream, required=(0,))
    problem = derived.statistics(logits, target, axis, options, *adjust)
    waits, exports = may_wait(logits.library, (logits, target, *adjust)), not logits.library.mutable
    shape, dtype = problem.x.shape[:-1], computed(problem.x.dtype)
    most = positive("k", k, problem.x.shape[-1]) if variant & BITS["top_k"] else 0
    prepared = Prepared(StatisticsCall(problem, variant, most), shape, dtype, None, (0, 0, 0, 0), waits, exports)
    calls.keep(key, prepared)
    return prepared


def row_stats_vjp(
    logits: Any,
    target: Any,
    upstreams: tuple[Any, ...],
    axis: Any,
    options: Options,
    out: Any,
    adjust: tuple[Any, Any] | None = None,
) -> Any:
    """The gradient of statistics, by their upstream gradients: numbers, or arrays."""
    kind = by_type.get(type(logits)) or library(logits)
    about = kind.call_key(logits, target, out) or call_key(kind, logits, target, out)
    look, stream, x_at, target_at, at, owners = about
    given_upstreams(upstreams, target=target is not None)
    named = list(zip(DIFFERENTIABLE, upstreams, strict=True))
    ups = [0.0 if value is None else upstream_number(value, name) for name, value in named]
    where, class_offset = adjust or (None, None)
    each = *(value if up is None else None for value, up in zip(upstreams, ups, strict=True)), class_offset, where
    each_key, each_at, each_owners = keys(each, stream)
    which = tuple(value is not None for value in upstreams)
    key = kind, look, axis, type(axis), options, "derivatives", each_key, which
    prepared, written = find(key, x_at, target_at, at), out
    if prepared is None:
        prepared, written = _prepare_derivative(key, (logits, target, out), each, axis, options, which, stream)
    call, owners = prepared.call, (*(owners or (logits, target, out)), *each_owners)
    for (name, _), up in zip(named, ups, strict=True):
        upstream_fits(up, prepared.dtype, name)
    borrowed = order(kind, stream, call.device, (logits, target, out, *each), owners) if prepared.waits else None
    if out is None:
        written = kind.empty_like(logits, stream) if written is None else written
        at = kind.address(written)
    call(x_at, target_at, at, each_at, tuple(up or 0.0 for up in ups), stream)
    if borrowed:
        keep(call.device, stream, borrowed)
    return kind.exported(written) if prepared.exports else written


def _prepare_derivative(
    key: Any,
    arrays: tuple[Any, Any, Any],
    each: tuple[Any, ...],
    axis: Any,
    options: Options,
    given: tuple[bool, ...],
    stream: int,
) -> tuple[Prepared, Any]:
    """A prepared call, and where its first gradient goes: the output, or a new array."""
    logits, target, out = arguments(arrays, stream, required=(0,))
    rows = arguments(each, stream)
    *ups, class_offset, where = rows
    problem = derived.derivative(logits, target, tuple(ups), axis, options, out, class_offset, where)
    about, written = logits.description, arrays[-1]
    reach = reach_of(problem.out, problem.x, None if target is None else check.flat(target))
    if out is None:
        written = logits.library.empty_like(logits.value, stream)
        new = check.output(argument(written, stream), (axis % len(about.shape),), about)
        problem = problem._replace(out=new)
    call = DerivativeCall(problem, given, tuple(array is not None for array in each[:-2]))
    waits = may_wait(logits.library, (logits, target, out, *rows))
    exports = out is None and not logits.library.mutable
    prepared = Prepared(call, problem.x.shape[:-1], computed(about.dtype), None, reach, waits, exports)
    calls.keep(key, prepared)
    return prepared, written
