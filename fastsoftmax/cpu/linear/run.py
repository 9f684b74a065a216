"""Checked linear problems, run: operands are described, the pass is cut and computed, gradients are handed over."""

from typing import Any

import numpy as np

from ...core.dtypes import SOFTMAX, storage_of
from ...core.options import Flags
from ...core.strides import overlap
from .. import run
from ..check import Array
from ..execute import Job
from ..run import delivered, same
from ..threads import launch
from . import plan as plan_linear
from .blas import single_threaded
from .check import Linear, LinearLoss
from .matrices import matrix
from .operands import LinearOperands, Sparse, Sums
from .own_blocks import own, own_bytes, recipes_of
from .plan import LinearPlan
from .shared_blocks import shared, shared_bytes


def features_of(problem: Linear) -> Any:
    """The features as passes take them."""
    x = problem.x
    if x.parts is None:
        return x.array
    values, starts, indices = x.parts
    return Sparse(np.ascontiguousarray(values, problem.dtype), starts, indices, x.sparse == "csc", x.shape)


def _plan(p: LinearOperands, own_blocks: bool, block: int | None) -> LinearPlan:
    if isinstance(p.x, Sparse):
        return plan_linear.sparse_plan(
            *(p.x.shape, p.x.values.size, p.logits, p.dtype.itemsize),
            gradient=p.grad_weight,
            by_column=p.x.by_column,
            block=block,
        )
    staged = p.labels is not None or matrix(p.x, p.dtype) is None
    return plan_linear.linear_plan(
        *(*p.x.shape, p.logits, p.dtype.itemsize), gradient=p.grad_weight, staged=staged, own=own_blocks, block=block
    )


def _passed(p: LinearOperands, jobs: list[Job], block: int | None) -> Sums:
    """Work through all rows as planned."""
    own_blocks = isinstance(p.x, Sparse) or storage_of(p.x.dtype) >= 0
    plan = _plan(p, own_blocks, block)
    recipes = None if plan.shared else recipes_of(p, plan, jobs)
    if recipes is None and isinstance(p.x, Sparse):  # soft targets of a dtype that kernels do not read
        p = p._replace(soft=np.asarray(p.soft, p.dtype))
        recipes = recipes_of(p, plan, jobs)
    with single_threaded():
        if recipes is not None:
            return own(p, plan, jobs, recipes)
        return shared(p, plan if plan.shared else _plan(p, False, block), jobs)


def operands_of(problem: Linear) -> list[Array]:
    """The arrays that are read until the last row is done."""
    x = problem.x.array
    return [
        *([x.data, x.indices, x.indptr] if problem.x.sparse else [x]),
        problem.weight.array,
        *([] if problem.bias is None else [problem.bias.array]),
    ]


def bias_of(problem: Linear, dtype: np.dtype[Any]) -> Array | None:
    """The bias in a dtype."""
    return None if problem.bias is None else np.ascontiguousarray(problem.bias.array, dtype)


def cross_entropy(problem: LinearLoss) -> tuple[Any, dict[str, Array]]:
    """(loss, gradients by name) of a cross-entropy of a linear map."""
    linear, loss, wanted = problem.linear, problem.loss, problem.wanted
    count = run.counted(loss)
    result = np.zeros(linear.x.shape[0], linear.dtype) if loss.options.reduction == "none" else None
    grad_x = _grad_x(problem) if "x" in wanted else None
    loss_factor, grad_factor = run.factors_of(loss)
    p = LinearOperands(
        *(features_of(linear), linear.weight.array, bias_of(linear, linear.dtype), linear.dtype, linear.classes),
        labels=loss.labels,
        ignore_index=loss.options.ignore_index,
        soft=loss.soft,
        loss_factor=loss_factor,
        grad_factor=grad_factor,
        result=result,
        grad_weight="weight" in wanted,
        grad_bias="bias" in wanted,
        grad_x=grad_x,
    )
    sums = _passed(p, [run.loss_job(loss, count, grad=bool(wanted))], problem.block)
    grads = {"x": grad_x, "weight": sums.grad_weight, "bias": sums.grad_bias}
    value = run.reduced(loss, sums.total, count) if result is None else result
    return value, {name: _handed_over(problem, name, array) for name, array in grads.items() if array is not None}


def workspace(problem: LinearLoss, threads: int | None) -> int:
    """The memory in bytes that `cross_entropy` takes for virtual operands, besides them and its results."""
    linear, wanted = problem.linear, problem.wanted
    p = LinearOperands(
        *(linear.x.array, linear.weight.array, None, linear.dtype, linear.classes),
        labels=problem.loss.labels,
        grad_weight="weight" in wanted,
        grad_bias="bias" in wanted,
    )
    jobs = [run.loss_job(problem.loss, 1.0, grad=bool(wanted))]
    plan = _plan(p, True, problem.block)
    threads = launch.threads_for() if threads is None else threads
    recipes = None if plan.shared else recipes_of(p, plan, jobs)
    taken = shared_bytes(p, plan, jobs, threads) if recipes is None else own_bytes(p, plan, recipes, threads)
    # A gradient of half weights is accumulated before its result is there.
    return taken + (p.weight.size * (p.dtype.itemsize - p.weight.itemsize) if p.grad_weight else 0)


def _grad_x(problem: LinearLoss) -> Array:
    """The array for the features' gradients while their rows are read: `out`, unless that would disturb an operand."""
    x, out, labels = problem.linear.x, problem.out.get("x"), problem.loss.labels
    if out is None:
        return np.zeros(x.shape, x.dtype)
    in_place = same(out, x.array)
    operands = [*operands_of(problem.linear), labels, problem.loss.soft]
    disturbed = any(a is not None and overlap(out, a) for a in operands if not (in_place and a is x.array))
    there = matrix(out, x.dtype)
    if there is None or there.flipped or disturbed:
        return np.zeros(x.shape, x.dtype)
    if labels is not None:
        out[labels == problem.loss.options.ignore_index] = 0  # rows that no pass reads, or writes
    return out


def _handed_over(problem: LinearLoss, name: str, array: Array) -> Array:
    """A gradient in the dtype that it is asked for in, at `out` if that is given."""
    linear = problem.linear
    like = {"x": linear.x, "weight": linear.weight, "bias": linear.bias}[name]
    assert like is not None
    out = problem.out.get(name)
    return array.astype(like.dtype, copy=False) if out is None else delivered(array, out)


def hessian_product(problem: Linear, direction: Linear, factors: Array | None) -> tuple[Any, Array | None]:
    """The Hessian of the sum of the rows' losses, each times its factor, times a direction."""
    dtype = problem.dtype
    biases = [b for b in (bias_of(problem, dtype), bias_of(direction, dtype)) if b is not None]
    p = LinearOperands(
        features_of(problem),
        np.concatenate([problem.weight.array, direction.weight.array], dtype=dtype),
        np.concatenate(biases) if biases else None,
        *(dtype, problem.classes),
        loss_factor=None if factors is None else factors.astype(dtype),
        grad_weight=True,
        grad_bias=bool(biases),
    )
    jobs = [Job("softmax", Flags(), SOFTMAX, dtype), Job("vjp", Flags(), SOFTMAX, dtype)]
    sums = _passed(p, jobs, None)
    return sums.grad_weight, sums.grad_bias
