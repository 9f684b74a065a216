"""Checked problems of what comes from rows besides a loss: statistics, their gradients, Hessians, divergences."""

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from ..core import divergence as core
from ..core import rules
from ..core.conversion import array_of, numbers
from ..core.divergence import direction_of, teacher_of
from ..core.dtypes import PROB, computed
from ..core.hessian import Hessian, hessian_of, outputs, written_dtype
from ..core.options import Options
from ..core.statistics import DIFFERENTIABLE, upstreams
from ..core.weights import upstream
from .adjust import adjustment, broadcast
from .check import (
    Array,
    Loss,
    Rows,
    cross_entropy,
    destination,
    last,
    logits_of,
    output,
    result_dtype,
    target_of,
    weights_of,
)


def statistics(
    logits: ArrayLike, target: ArrayLike | None, axis: Any, opts: Options, adjust: tuple[Any, Any] = (None, None)
) -> Loss:
    """The problem of statistics of rows: that of a loss without reduction, or without a target."""
    array, x, dtype, opts = logits_of(logits, axis, opts)
    labels = None
    if target is not None:
        rules.class_indices(array_of("target", target).shape, x.array.shape[:-1], array.shape)
        labels, _ = target_of(target, array, x.array, axis, opts)
    by = adjustment(*adjust, array, axis, dtype)
    return Loss(x, labels, None, None, None, 1.0, opts, None, dtype != computed(x.dtype.name), by)


class Listed(NamedTuple):
    """The k classes of each row that a teacher lists, and one more for the others: C-contiguous, classes last."""

    indices: Array  # int64, shape (..., k), that nobody else can change
    log_prob: Array  # float64, shape (..., k + 1)
    excess: Array  # what is added to each row's divergence, float64


class Divergence(NamedTuple):
    """A divergence of a student from a teacher to compute."""

    of: Loss  # the student's logits, and a dense teacher in the place of probabilities
    variant: int | tuple[int, int]  # what a dense teacher is, and the direction; or that alone
    beta: float
    listed: Listed | None = None


def divergence(
    student: ArrayLike,
    teacher: ArrayLike,
    axis: Any,
    kind: tuple[Any, Any],
    sample_weight: ArrayLike | None,
    opts: Options,
    grad_output: ArrayLike | None,
    out: Any,
    where: Any,
) -> Divergence:
    """A problem of a divergence from the arguments of the public functions."""
    what, (direction, beta) = teacher_of(kind[0]), direction_of(kind[1])
    array, x, dtype, opts = logits_of(student, axis, opts, "student")
    soft = picked = None
    if isinstance(teacher, core.Listed):
        core.admitted(teacher.tail, direction, where)
        picked = listed(teacher, array, rules.axis_of(axis, array.ndim, "student"))
    else:
        other = numbers("teacher", teacher)
        rules.same_classes(other.shape, array.shape)
        soft = last(other, axis)
    if where is not None and soft is not None:
        x, soft = _of_classes(last(broadcast(where, array.shape), axis), x, soft, what)
    _, weight = weights_of(None, sample_weight, x.array, None, opts, dtype)
    up = 1.0 if grad_output is None else upstream(grad_output, x.array.shape[:-1], opts.reduction, dtype)
    to = destination(out, array, x.dtype, axis)
    wide, variant = dtype != computed(x.dtype.name), (what, direction) if picked is None else direction
    return Divergence(Loss(x, None, soft, None, weight, up, opts, to, wide), variant, beta, picked)


def _of_classes(mask: Array, x: Rows, soft: Array, what: int) -> tuple[Rows, Array]:
    """Copies of a student and a dense teacher without the classes where a mask is False."""
    dtype = result_dtype(soft.dtype)
    y = np.where(mask, soft, dtype.type(0.0 if what == PROB else -np.inf)).astype(dtype, copy=False)
    return Rows(np.where(mask, x.array, x.dtype.type(-np.inf)).astype(x.dtype, copy=False), x.dtype), y


def listed(teacher: core.Listed, student: Array, axis: int) -> Listed:
    """The checked classes of a teacher that lists some."""
    indices, log_prob = array_of("indices", teacher.indices), numbers("log_prob", teacher.log_prob)
    if indices.dtype.kind not in "iu":
        raise TypeError(f"indices must have an integer dtype, got {indices.dtype} with shape {indices.shape}")
    core.listed_shape(indices.shape, log_prob.shape, student.shape, axis)
    places, classes = np.array(last(indices, axis), np.int64, order="C"), student.shape[axis]
    y = np.array(last(log_prob, axis), np.float64, order="C")
    _distinct(places, classes)
    excess, rest = np.zeros(y.shape[:-1]), np.full((*y.shape[:-1], 1), -np.inf)
    if teacher.tail == "renormalize":
        y -= y.max(axis=-1, keepdims=True)
        y -= np.log(np.exp(y).sum(axis=-1, keepdims=True))
    else:
        total = np.exp(y).sum(axis=-1, keepdims=True)
        if teacher.tail == "ignore":
            excess = total[..., 0] - 1.0
        elif y.shape[-1] < classes:
            rest = np.log(np.maximum(1.0 - total, 0.0))
    return Listed(places, np.concatenate([y, rest], axis=-1), excess)


def _distinct(places: Array, classes: int) -> None:
    """Refuse indices that are no classes, or name one twice in a row."""
    bad = (places < 0) | (places >= classes)
    if bad.any():
        at = tuple(map(int, np.argwhere(bad)[0]))
        ignored = "; row_stats gives -1 for rows that it ignores: leave them out, or its target" * int(places[at] == -1)
        raise ValueError(f"indices must hold classes in [0, {classes}), got {places[at]} in row {at[:-1]}{ignored}")
    ordered = np.sort(places, axis=-1)
    twice = ordered[..., 1:] == ordered[..., :-1]
    if twice.any():
        at = tuple(map(int, np.argwhere(twice)[0]))
        raise ValueError(f"indices must name each class once in a row, got {ordered[at]} twice in row {at[:-1]}")


class GradHess(NamedTuple):
    """A gradient and a diagonal of a Hessian to compute."""

    of: Loss  # the problem of the gradient alone
    hessian: Hessian
    dtype: np.dtype[Any]  # of both results
    out: tuple[Array, Array] | None  # where they go, with the classes in the last axis


def grad_hess(
    logits: ArrayLike,
    target: ArrayLike,
    weights: tuple[Any, Any],
    axis: Any,
    opts: Options,
    hessian: tuple[Any, Any],
    dtype: Any,
    out: Any,
) -> GradHess:
    """A problem of gradient and Hessian, which is named and bounded by `hessian`."""
    problem = cross_entropy(logits, target, axis, *weights, opts)
    wanted = np.dtype(written_dtype(dtype, problem.x.dtype.name))
    first, second = outputs(out)
    to = None
    if out is not None:
        like = array_of("logits", logits)
        output(first, like, wanted, "out[0]")
        output(second, like, wanted, "out[1]")
        if np.shares_memory(first, second):
            raise ValueError("out must be two arrays that share no memory, got some that do; pass one for each result")
        to = last(first, axis), last(second, axis)
    return GradHess(problem, hessian_of(*hessian, problem.options, problem.x.array.shape[-1]), wanted, to)


class Derivative(NamedTuple):
    """A gradient of statistics of rows to compute."""

    of: Loss  # its problem
    upstreams: tuple[Array | float | None, ...]  # of `DIFFERENTIABLE`, in float64: numbers, or one a row


def row_stats_vjp(
    logits: ArrayLike,
    target: ArrayLike | None,
    values: tuple[Any, ...],
    axis: Any,
    opts: Options,
    out: Any,
    adjust: tuple[Any, Any],
) -> Derivative:
    """A problem of the gradient of statistics."""
    upstreams(values, target=target is not None)
    problem = statistics(logits, target, axis, opts, adjust)
    shape, dtype = problem.x.array.shape[:-1], "float64" if problem.widened else computed(problem.x.dtype.name)
    given = zip(DIFFERENTIABLE, values, strict=True)
    checked = tuple(None if v is None else upstream(v, shape, "none", dtype, name) for name, v in given)
    like = array_of("logits", logits)
    return Derivative(problem._replace(out=destination(out, like, problem.x.dtype, axis)), checked)
