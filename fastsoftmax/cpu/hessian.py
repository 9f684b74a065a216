"""Gradient and diagonal of the Hessian: two results of one launch."""

from ..core.dtypes import storage_of
from . import run
from .check import Array, Rows, in_double
from .derived import GradHess
from .execute import Operands, execute


def grad_hess(problem: GradHess) -> tuple[Array, Array]:
    """(gradient, diagonal of the Hessian)."""
    of, hessian = in_double(problem.of) if problem.of.widened else problem.of, problem.hessian
    outs = (None, None) if problem.out is None else problem.out
    run.counted(of)
    labels, (grad, hess) = run.undisturbed(of.labels, *outs), _destinations(problem)
    job = run.loss_job(of, 1.0, grad=True)
    flags = job.flags._replace(rest=True, residual=hessian.residual)
    job = job._replace(kernel="hessian", flags=flags, variant=storage_of(problem.dtype))
    data = run.ordered(Operands(of.x.array, of.soft, grad, hess, None, labels, *run.factors_of(of)))[0]
    execute(job._replace(curvature=hessian.curvature, least=hessian.least), data)
    return run.delivered(grad, outs[0]), run.delivered(hess, outs[1])


def _destinations(problem: GradHess) -> tuple[Array, Array]:
    """Arrays for both results, with the same strides: `out`, or new ones."""
    of, like = problem.of, Rows(problem.of.x.array, problem.dtype)
    read = [of.x.array, *([] if of.soft is None else [of.soft])]
    first, second = (None, None) if problem.out is None else problem.out
    grad = run.destination(like, first, read[:1], read[1:])
    hess = run.destination(like, second, [], [*read, grad])
    if grad.strides != hess.strides:
        return run.destination(like, None, [], []), run.destination(like, None, [], [])
    return grad, hess
