"""Gradient and diagonal of the Hessian on a GPU: prepared calls of one kernel with two results."""

from threading import Lock
from typing import Any

import numpy as np

from ..core.dtypes import SIZES, computed
from ..core.hessian import Hessian, hessian_of, outputs
from ..core.memo import Memo
from ..core.options import Options, flags_of, numbers_of
from . import check
from .arrays.borrowed import keep
from .arrays.library import Argument
from .arrays.lookup import argument, arguments, by_type, call_key, keys, library
from .check import Arguments, Loss
from .launches import RowWork, launches_of
from .prepared import Prepared, calls, find, may_wait, order, reach_of
from .run import STREAMS
from .toolkit import compiler
from .toolkit.packed import Cell

X, TARGET, OUT, SECOND, CLASS_WEIGHT, SAMPLE_WEIGHT = range(6)


class HessianCall:
    """Gradient and Hessian of operands that look alike."""

    def __init__(self, problem: Loss, hessian: Hessian) -> None:
        x, o, self.device, self.hard = problem.x, problem.options, problem.device, problem.soft is None
        flags = flags_of(o, hard=self.hard, weighted=problem.weighted, factors=problem.loss_factor, grad=True)
        work = RowWork("hessian", 0, flags._replace(rest=True, residual=hessian.residual), problem.label)
        self.launches = launches_of(work, x, problem.soft, problem.out, problem.device)
        self.size, number = SIZES[computed(x.dtype)], np.dtype(computed(x.dtype)).type
        self.numbers = tuple(map(number, (*numbers_of(o, x.shape[-1]), hessian.curvature, hessian.least)))
        self.label, self.weighted, self.factors = problem.label, problem.weighted, problem.loss_factor
        self.ignore_index, self.lock = o.ignore_index, Lock()
        self.prepared: Memo[int, compiler.Launches] = Memo(STREAMS)

    def _prepare(self, stream: int) -> compiler.Launches:
        """The launches on a stream; each has cells for the addresses of all arrays."""
        kernels = []
        for number, launch in enumerate(self.launches):
            x, target, out, second, weight, factor = (Cell(6 * number + i) for i in range(6))
            y, label = (0, target) if self.hard else (target, 0)
            weights = weight if self.weighted else 0, 0, factor if self.factors else 0
            integers = x, y, out, label, *weights, 0, 0, 0, 0, self.ignore_index, *launch.shape, second
            kernels.append(launch.kernel.with_arguments(*integers, *self.numbers))
        return self.prepared.keep(stream, compiler.Launches(stream, kernels, 6 * len(kernels)))

    def __call__(self, places: tuple[int, ...], stream: int) -> None:
        """Put the call on a stream, with the addresses of logits, target, both results, and weights."""
        values: tuple[int, ...] = ()
        for _, _, (x, y, out, _), row, _ in self.launches:
            steps = x, self.label * row if self.hard else y, out, out, 0, self.size * row
            values += tuple(place + step for place, step in zip(places, steps, strict=True))
        with self.lock:
            compiler.put(self.device, self.prepared.get(stream) or self._prepare(stream), values)


def grad_hess(
    logits: Any,
    target: Any,
    weights: tuple[Any, Any],
    axis: Any,
    options: Options,
    hessian: Any,
    least: Any,
    dtype: Any,
    out: Any,
) -> tuple[Any, Any]:
    """(gradient, diagonal of the Hessian)."""
    first, second = outputs(out)
    kind = by_type.get(type(logits)) or library(logits)
    about = kind.call_key(logits, target, first) or call_key(kind, logits, target, first)
    look, stream, x_at, target_at, at, owners = about
    each = *weights, second
    each_key, each_at, each_owners = keys(each, stream)
    wanted = hessian, least, type(least), str(dtype)
    key = kind, look, axis, type(axis), options, "hessian", each_key, wanted
    prepared, written = None if out is not None else find(key, x_at, target_at, at), (first, second)
    if prepared is None:
        prepared, written = _prepare(key, (logits, target, first), each, axis, options, (hessian, least, dtype), stream)
    call, owners = prepared.call, (*(owners or (logits, target, first)), *each_owners)
    arrays = logits, target, first, *each
    borrowed = order(kind, stream, call.device, arrays, owners) if prepared.waits else None
    if out is None:
        written = tuple(kind.empty_like(logits, stream) if array is None else array for array in written)
    at, second_at = (kind.address(array) for array in written) if out is None else (at, each_at[2])
    call((x_at, target_at, at, second_at, *each_at[:2]), stream)
    if borrowed:
        keep(call.device, stream, borrowed)
    return tuple(map(kind.exported, written)) if prepared.exports else written


def _prepare(
    key: Any,
    arrays: tuple[Any, Any, Any],
    each: tuple[Any, Any, Any],
    axis: Any,
    options: Options,
    wanted: tuple[Any, Any, Any],
    stream: int,
) -> tuple[Prepared, tuple[Any, Any]]:
    """A prepared call, and where its first results go: the outputs, or new arrays."""
    logits, target, first = arguments(arrays, stream, required=(0, 1))
    class_weight, sample_weight, second = arguments(each, stream)
    hessian, least, dtype = wanted
    problem = check.cross_entropy(
        Arguments(logits, target, class_weight, sample_weight, None, first), axis, options, grad=True
    )
    about, written = logits.description, (arrays[-1], each[-1])
    _same_dtype(dtype, about.dtype)
    of = hessian_of(hessian, least, options, problem.x.shape[-1])
    if first is None:
        written = tuple(logits.library.empty_like(logits.value, stream) for _ in range(2))
        new = check.output(argument(written[0], stream), (axis % len(about.shape),), about)
        problem = problem._replace(out=new)
    else:
        _second(second, problem, target, (axis,), logits)
    reach = reach_of(problem.out, problem.x, problem.soft or check.flat(target))
    waits = may_wait(logits.library, (logits, target, first, class_weight, sample_weight, second))
    exports = first is None and not logits.library.mutable
    made = Prepared(HessianCall(problem, of), (), computed(about.dtype), None, reach, waits, exports)
    if first is None:
        calls.keep(key, made)
    return made, written


def _same_dtype(dtype: Any, logits: str) -> None:
    """Refuse results of another dtype than the logits'."""
    if dtype is None:
        return
    name = str(getattr(dtype, "name", getattr(dtype, "__name__", dtype))).removeprefix("torch.")
    if name != logits:
        raise TypeError(f"dtype must be that of the logits on a GPU, {logits}, got {name}; convert the results")


def _second(second: Argument, problem: Loss, target: Argument, axes: tuple[Any, ...], logits: Argument) -> None:
    """Refuse an output of the Hessian that does not lie as that of the gradient does, or shares memory."""
    check.together({"logits": logits, "out[1]": second})
    first, x = problem.out, problem.x
    read = {"logits": (x, False), "target": (problem.soft or check.flat(target), False), "out[0]": (first, False)}
    to = check.destination(second, logits.description, axes, read, "out[1]")
    assert first is not None
    assert to is not None
    if to.strides != first.strides or (to.address - first.address) % 16:
        raise ValueError(
            "out must hold two arrays that lie alike on a GPU, where one kernel writes both, got strides "
            f"{first.strides} and {to.strides} at the addresses {first.address} and {to.address}; pass new arrays"
        )
