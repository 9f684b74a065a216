"""Gradient and diagonal of the Hessian on a GPU: prepared calls of one kernel with two results."""

from threading import Lock
from typing import Any

import numpy as np

from ..core.dtypes import SIZES, computed
from ..core.hessian import outputs
from ..core.memo import Memo
from ..core.options import Options, flags_of, numbers_of
from ..core.strides import Operand
from . import check
from .arrays.borrowed import keep
from .arrays.lookup import argument, arguments, by_type, call_key, keys, library
from .check import Arguments
from .derived import GradHess, destinations
from .derived import grad_hess as checked
from .launches import RowWork, launches_of
from .prepared import Prepared, calls, find, may_wait, order, reach_of
from .run import STREAMS
from .toolkit import compiler
from .toolkit.packed import Cell

X, TARGET, OUT, SECOND, CLASS_WEIGHT, SAMPLE_WEIGHT = range(6)


class HessianCall:
    """Gradient and Hessian of operands that look alike."""

    def __init__(self, asked: GradHess, outs: tuple[Operand, Operand]) -> None:
        problem, hessian, like = asked
        x, o, self.device, self.hard = problem.x, problem.options, problem.device, problem.soft is None
        flags = flags_of(o, hard=self.hard, weighted=problem.weighted, factors=problem.loss_factor, grad=True)
        flags, single = flags._replace(rest=True, residual=hessian.residual), like.dtype != x.dtype
        work = RowWork("hessian", single, flags, problem.label)
        self.launches = launches_of(work, x, problem.soft, outs[0], problem.device, outs[1])
        self.dtype = like.dtype
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
        for _, _, (x, y, out, second), row, _ in self.launches:
            steps = x, self.label * row if self.hard else y, out, second, 0, self.size * row
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
        written = tuple(kind.empty_like(logits, stream, call.dtype) if a is None else a for a in written)
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
    problem = checked(Arguments(logits, target, class_weight, sample_weight, None, None), axis, options, wanted)
    x, like, written = problem.of.x, problem.like, (arrays[-1], each[-1])
    if first is None:
        written = tuple(logits.library.empty_like(logits.value, stream, like.dtype) for _ in range(2))
        new = [check.output(argument(array, stream), (axis % len(like.shape),), like) for array in written]
        to = new[0], new[1]
    else:
        to = destinations(problem, logits, target, (first, second), axis)
    reach = reach_of(to[0], x, problem.of.soft or check.flat(target))
    waits = may_wait(logits.library, (logits, target, first, class_weight, sample_weight, second))
    exports = first is None and not logits.library.mutable
    made = Prepared(HessianCall(problem, to), (), computed(x.dtype), None, reach, waits, exports)
    if first is None:
        calls.keep(key, made)
    return made, written
