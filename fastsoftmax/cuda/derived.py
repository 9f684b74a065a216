"""Checked problems of what comes from rows besides a loss: statistics, gradients, Hessians, divergences, sums."""

from typing import Any, NamedTuple

from ..core import rules
from ..core.divergence import TAILS, admitted, direction_of, listed_shape, teacher_of
from ..core.dtypes import LABELS, SIZES, STORAGE, computed, readable_beside
from ..core.hessian import Hessian, hessian_of, written_dtype
from ..core.options import Options, in_precision
from ..core.statistics import DIFFERENTIABLE
from ..core.strides import Operand
from .adjust import NOTHING, Adjust, broadcast
from .arrays.library import Argument, Description
from .check import (
    Arguments,
    Loss,
    Map,
    adjustment,
    cross_entropy,
    dense,
    destination,
    factors,
    flat,
    over_axes,
    readable,
    rows_of,
    target_of,
    together,
    upstream,
)


class Statistics(NamedTuple):
    """Statistics of rows, or their gradient, to compute on a GPU."""

    x: Operand
    label: int  # bytes of a class index; 0: there is no target
    options: Options
    device: int
    out: Operand | None = None  # of the gradient
    adjust: Adjust = NOTHING


def statistics(
    logits: Argument,
    target: Argument | None,
    axis: Any,
    options: Options,
    class_offset: Argument | None = None,
    where: Argument | None = None,
) -> Statistics:
    """A problem of statistics of rows, with or without class indices."""
    device = together({"logits": logits, "target": target, "class_offset": class_offset, "where": where})
    x, like = rows_of("logits", logits, axis), logits.description
    return statistics_of_logits(x, like, target, axis, options, device, class_offset, where)


def statistics_of_logits(
    x: Operand,
    like: Description,
    target: Argument | None,
    axis: Any,
    options: Options,
    device: int,
    class_offset: Argument | None,
    where: Argument | None,
) -> Statistics:
    """The same, of logits that are described, as they came and with their classes last."""
    options, label = in_precision(options, computed(x.dtype)), 0
    if target is not None:
        about = target.description
        rules.class_indices(about.shape, x.shape[:-1], like.shape)
        target_of(target, x, like, axis, options)
        label = SIZES[about.dtype]
    adjust = adjustment(where, class_offset, like, (axis,))
    return Statistics(x, label, options, device, adjust=adjust)


def derivative(
    logits: Argument,
    target: Argument | None,
    upstreams: tuple[Argument | None, ...],
    axis: Any,
    options: Options,
    out: Argument | None,
    class_offset: Argument | None = None,
    where: Argument | None = None,
) -> Statistics:
    """A problem of the gradient of statistics, by those of their upstream gradients that are arrays."""
    given = dict(zip(DIFFERENTIABLE, upstreams, strict=True))
    adjust = {"class_offset": class_offset, "where": where}
    device = together({"logits": logits, "target": target, **given, "out": out, **adjust})
    like, x = logits.description, rows_of("logits", logits, axis)
    problem = statistics_of_logits(x, like, target, axis, options, device, class_offset, where)
    for name, argument in given.items():
        upstream(argument, problem.x.shape[:-1], "none", computed(problem.x.dtype), name)
    read = {"logits": (problem.x, True)} | ({} if target is None else {"target": (flat(target), False)})
    return problem._replace(out=destination(out, like, (axis,), read))


def signed_sum(
    x: Argument, b: Argument | None, axis: tuple[Any, ...] | None, where: Argument | None
) -> tuple[Map, tuple[int, ...]]:
    """A problem of the logarithm of a sum of exponentials with factors, and the numbers of its axes."""
    together({"x": x, "b": b, "where": where})
    problem, axes = over_axes(x, axis, None, where, empty=True)
    if b is None:
        return problem, axes
    about = readable("b", b, readable_beside(x.description.dtype))
    rules.factors(about.shape, x.description.shape)
    return problem._replace(y=broadcast("b", b, x.description, axes)), axes


class GradHess(NamedTuple):
    """A gradient and a diagonal of a Hessian to compute on a GPU."""

    of: Loss  # the problem of the gradient alone
    hessian: Hessian
    like: Description  # both results: in the shape of the logits, in their dtype or float32


def grad_hess(arguments: Arguments, axis: Any, options: Options, wanted: tuple[Any, Any, Any]) -> GradHess:
    """A problem of gradient and Hessian, by the name of that, its bound, and the dtype of both; nothing to write to."""
    problem, like = cross_entropy(arguments, axis, options, grad=True), arguments.logits.description
    name, least, dtype = wanted
    like = like._replace(dtype=written_dtype(dtype, like.dtype))
    return GradHess(problem, hessian_of(name, least, options, problem.x.shape[-1]), like)


def destinations(
    problem: GradHess, logits: Argument, target: Argument, outs: tuple[Argument, Argument], axis: Any
) -> tuple[Operand, Operand]:
    """Checked outputs for a gradient and a Hessian: one of them may take the logits' place."""
    together({"logits": logits, "out[0]": outs[0], "out[1]": outs[1]})
    read = {"logits": (problem.of.x, True), "target": (problem.of.soft or flat(target), False)}
    first = destination(outs[0], problem.like, (axis,), read, "out[0]")
    second = destination(outs[1], problem.like, (axis,), read | {"out[0]": (first, False)}, "out[1]")
    assert first is not None
    assert second is not None
    return first, second


def divergence(arguments: Arguments, kind: tuple[Any, Any], axis: Any, options: Options, *, grad: bool) -> Loss:
    """A divergence of logits from a target, student and teacher; `kind` is what that is, and the direction."""
    what, (direction, beta) = teacher_of(kind[0]), direction_of(kind[1])
    student, teacher, _, sample_weight, grad_output, out, _, where = arguments
    named = {"student": student, "teacher": teacher, "sample_weight": sample_weight, "grad_output": grad_output}
    device, like = together({**named, "out": out, "where": where}), student.description
    x = rows_of("student", student, axis)
    y = rows_of("teacher", teacher, axis, readable_beside(x.dtype))
    rules.same_classes(teacher.description.shape, like.shape)
    dtype = computed(x.dtype)
    options = in_precision(options, dtype)
    loss_factor, grad_factor = factors(sample_weight, grad_output, x.shape[:-1], options.reduction, dtype)
    to = destination(out, like, (axis,), {"student": (x, True), "teacher": (y, True)})
    work = "divergence", (what, direction), (beta,)
    adjust = adjustment(where, None, like, (axis,))
    return Loss(x, y, to, False, loss_factor, grad_factor, options, grad, device, work=work, adjust=adjust)


def listed(arguments: Arguments, kind: tuple[Any, Any], axis: Any, options: Options, *, grad: bool) -> Loss:
    """A divergence from a teacher's pair, indices and log-probabilities; `kind` is the tail, and the direction."""
    tail, (direction, beta) = kind[0], direction_of(kind[1])
    student, indices, log_prob, sample_weight, grad_output, out, _, where = arguments
    assert log_prob is not None
    admitted(tail, direction, where)
    named = {"student": student, "indices": indices, "log_prob": log_prob, "sample_weight": sample_weight}
    device, like = together({**named, "grad_output": grad_output, "out": out}), student.description
    x, at = rows_of("student", student, axis), rules.axis_of(axis, len(like.shape), "student")
    listed_shape(indices.description.shape, log_prob.description.shape, like.shape, at)
    for name, argument, allowed in (("indices", indices, LABELS), ("log_prob", log_prob, readable_beside(x.dtype))):
        rows = rows_of(name, argument, axis, allowed)
        dense(name, argument, rows.shape, rows.strides, "C-contiguous with the classes in the last axis")
    dtype, label, taught = computed(x.dtype), SIZES[indices.description.dtype], log_prob.description.dtype
    options = in_precision(options, dtype)
    loss_factor, grad_factor = factors(sample_weight, grad_output, x.shape[:-1], options.reduction, dtype)
    read = {"student": (x, True), "indices": (flat(indices), False), "log_prob": (flat(log_prob), False)}
    to, variant = destination(out, like, (axis,), read), (direction, TAILS.index(tail), STORAGE[taught])
    problem = Loss(
        x, None, to, False, loss_factor, grad_factor, options, grad, device, label, ("listed", variant, (beta,))
    )
    return problem._replace(listed=(indices.description.shape[at], SIZES[taught]))
