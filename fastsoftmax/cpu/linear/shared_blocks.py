"""Linear passes in which all threads share one block of rows after the other: for weights that are large.

A gradient a thread would be too much memory there, and a product of a block is work enough for all of them.
"""

import math
from typing import Any

import numpy as np

from ...core import interrupts
from ..execute import Job, Operands, execute, recipe_for
from ..parameters import FIELDS
from .matrices import Matrix, as_matrix, matrix, product
from .operands import LinearOperands, Sums
from .plan import LinearPlan

Array = Any  # of NumPy


def shared(p: LinearOperands, plan: LinearPlan, jobs: list[Job]) -> Sums:
    """The pass over all blocks: their logits, what is made of them, their gradients."""
    weight = as_matrix(p.weight, p.dtype)
    z = np.empty((plan.block, p.logits), p.dtype)
    grad_weight = np.zeros((p.classes, p.x.shape[1]), p.dtype) if p.grad_weight else None
    grad_bias = np.zeros(p.classes, np.float64) if p.grad_bias else None
    losses = []
    for start in range(0, p.x.shape[0], plan.block):
        interrupts.check()
        block = _Block(p, slice(start, min(start + plan.block, p.x.shape[0])))
        if not block.rows:
            continue
        x, here = block.x(), z[: block.rows]
        product(x, weight.T, here, bias=p.bias)
        losses.append(block.differentiate(jobs, here))
        g = Matrix(here[:, : p.classes], p.logits, False)
        if grad_weight is not None and grad_weight.size:
            product(g.T, x, grad_weight, sums=grad_bias, add=True)
        elif grad_bias is not None:
            grad_bias += g.array.sum(axis=0, dtype=np.float64)
        if p.grad_x is not None:
            block.put_grad_x(g, weight)
    return Sums(math.fsum(losses), grad_weight, grad_bias)


def shared_bytes(p: LinearOperands, plan: LinearPlan, jobs: list[Job], threads: int) -> int:
    """The memory that a pass takes besides its operands and results."""
    logits = (plan.block, p.logits)
    z = (p.logits * p.dtype.itemsize, p.dtype.itemsize)
    out = z if jobs[0].flags.grad else None
    recipe = recipe_for(
        "cross_entropy", jobs[0].flags, 0, p.dtype, logits, p.dtype, z, out is not None, None, None, out
    )
    assert recipe is not None
    converted = plan.block * p.x.shape[1] + p.classes * p.x.shape[1] if p.x.dtype != p.dtype else 0
    size = (plan.block * p.logits + converted) * p.dtype.itemsize
    return size + recipe.scratch * (threads if recipe.parallel else 1) + 8 * (recipe.chunks + 2 * FIELDS)


def _rows_in_place(array: Array, dtype: np.dtype[Any]) -> bool:
    """Whether BLAS can write the rows of an array where they are."""
    rows = matrix(array, dtype)
    return rows is not None and not rows.flipped


class _Block:
    """Some rows, without those that are ignored."""

    def __init__(self, p: LinearOperands, rows: slice) -> None:
        self.p, self.at, self.rows = p, rows, rows.stop - rows.start
        self.index: Any = rows
        if p.labels is not None:
            counts = p.labels[rows] != p.ignore_index
            if not counts.all():
                self.index = rows.start + np.flatnonzero(counts)
                self.rows = len(self.index)

    def x(self) -> Matrix:
        """The features."""
        return as_matrix(self.p.x[self.index], self.p.dtype)

    def differentiate(self, jobs: list[Job], z: Array) -> float:
        """Replace logits by their gradients, or by those of the Hessian in a direction; the sum of the losses."""
        p = self.p
        if len(jobs) > 1:
            first, second = z[:, : p.classes], z[:, p.classes :]
            if p.loss_factor is not None:
                second *= p.loss_factor[self.index, None]
            execute(jobs[0], Operands(first, out=first))
            return execute(jobs[1], Operands(first, second, first))
        soft, labels, *factors = (
            None if a is None else a[self.index] for a in (p.soft, p.labels, p.loss_factor, p.grad_factor)
        )
        result = None if p.result is None else np.empty(self.rows, p.dtype)
        out = z if jobs[0].flags.grad else None
        total = execute(jobs[0], Operands(z, soft, out, None, None, labels, factors[0], factors[1], None, result))
        if p.result is not None:
            p.result[self.index] = result
        return total

    def put_grad_x(self, g: Matrix, weight: Matrix) -> None:
        """The features' gradients, ``G W``."""
        out = self.p.grad_x
        assert out is not None
        there = out[self.at]
        if self.index is self.at and _rows_in_place(there, self.p.dtype):
            product(g, weight, there)
        else:
            result = np.empty((self.rows, weight.array.shape[1]), self.p.dtype)
            product(g, weight, result)
            out[self.index] = result
