"""What each linear pass does with a checked problem: cut it as planned, and have blocks of rows computed.

Threads either take blocks of their own (one launch for the whole pass), or share one block after the other, where the
weights are so large that a gradient a thread would be too much.
"""

import math
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np

from . import plan_linear, run, run_sparse
from .check import Array
from .check_linear import Linear, LinearLoss
from .cpu import kernels, launch
from .cpu import linear_params as L
from .cpu.addresses import address
from .cpu.blas import gemm_address, single_threaded
from .cpu.execute import Job, Operands, computed, execute, recipe_for
from .cpu.params import FIELDS, pack_block
from .cpu.tiles import least_classes
from .plan_linear import LinearPlan
from .run import delivered, overlap, same
from .spec import LOG_SOFTMAX, SOFTMAX, Flags, storage_of


class Matrix(NamedTuple):
    """A matrix as BLAS takes it: elements from row to row, or from column to column where it is flipped."""

    array: Array
    leading: int
    flipped: bool

    @property
    def T(self) -> "Matrix":  # noqa: N802  as NumPy has it
        """The transpose."""
        return Matrix(self.array.T, self.leading, not self.flipped)


def matrix(array: Array, dtype: np.dtype[Any]) -> Matrix | None:
    """An array as a matrix of a dtype; None where its elements do not lie that way."""
    if array.dtype != dtype or not array.flags.aligned:
        return None
    (rows, columns), (row, column), size = array.shape, array.strides, dtype.itemsize
    if (column == size or columns <= 1) and (rows <= 1 or (row >= columns * size and row % size == 0)):
        return Matrix(array, max(row // size if rows > 1 else columns, 1), False)
    if (row == size or rows <= 1) and (columns <= 1 or (column >= rows * size and column % size == 0)):
        return Matrix(array, max(column // size if columns > 1 else rows, 1), True)
    return None


def as_matrix(array: Array, dtype: np.dtype[Any], *, plain: bool = False) -> Matrix:
    """An array as a matrix of a dtype, copied if need be; one that is not flipped if `plain`."""
    found = matrix(array, dtype)
    if found and not (plain and found.flipped):
        return found
    return Matrix(np.array(array, dtype, order="C"), max(array.shape[1], 1), False)


def product(
    a: Matrix, b: Matrix, c: Array, *, bias: Array | None = None, sums: Array | None = None, add: bool = False
) -> None:
    """``C = A B`` (plus the bias, or what is in C), tile by tile in all threads; `sums` get the sums of A's rows."""
    (m, n), inner = c.shape, a.array.shape[1]
    height, width, count = plan_linear.tiles(m, n)
    block: Any = np.array(
        [
            *(0, address(a.array), a.leading, a.flipped, address(b.array), b.leading, b.flipped, address(c)),
            *(max(c.strides[0] // c.itemsize, 1), m, n, inner, height, width, add, address(bias), address(sums)),
            gemm_address(c.dtype),
        ],
        np.int64,
    )
    threads = launch.threads_for() if m * n * inner >= plan_linear.PARALLEL else 1
    launch.launch(kernels.address("product", False, storage_of(c.dtype)), address(block), count, threads)


class Pass(NamedTuple):
    """What a pass over all rows computes with."""

    x: Array
    weight: Array  # (logits a row, features), of any dtype
    bias: Array | None  # in the computing dtype
    dtype: np.dtype[Any]
    classes: int
    labels: Array | None = None
    ignore_index: int = 0
    soft: Array | None = None
    loss_factor: Array | None = None
    grad_factor: Array | None = None
    result: Array | None = None  # the losses of the rows
    grad_weight: bool = False
    grad_bias: bool = False
    grad_x: Array | None = None

    @property
    def staged(self) -> bool:
        """Whether rows are copied before they are read."""
        return isinstance(self.x, np.ndarray) and matrix(self.x, self.dtype) is None

    def plan(self, own: bool, block: int | None) -> LinearPlan:
        """How it is cut."""
        return plan_linear.linear_plan(
            *(*self.x.shape, self.weight.shape[0], self.dtype.itemsize),
            gradient=self.grad_weight,
            staged=self.staged or self.labels is not None,
            own=own,
            block=block,
        )


class Found(NamedTuple):
    """What it found: the sum of the losses, and gradients in the computing dtype (float64 for the bias)."""

    total: float
    grad_weight: Array | None
    grad_bias: Array | None


def _rounded(size: int) -> int:
    """Bytes rounded up to whole cache lines."""
    return (size + 63) // 64 * 64


class Own(NamedTuple):
    """The layout of a thread's scratch, in bytes."""

    z_step: int
    at_rows: int
    at_x: int
    at_logits: int
    size: int


def _own_scratch(p: Pass, plan: LinearPlan, kernels_need: int) -> Own:
    size, logits, features = p.dtype.itemsize, p.weight.shape[0], p.x.shape[1]
    z_step = (plan.block * size + 127) // 64 * 64 if plan.few else size
    at_rows = _rounded(L.HEADER + kernels_need)
    at_x = _rounded(at_rows + 5 * 8 * plan.block)
    at_logits = _rounded(at_x + plan.block * features * size)
    room = logits * z_step if plan.few else plan.block * logits * size
    return Own(z_step, at_rows, at_x, at_logits, _rounded(at_logits + room + 64))


def _recipes(p: Pass, plan: LinearPlan, jobs: list[Job]) -> list[Any] | None:
    """The kernels of a block's jobs on its logits; None where they cannot take the operands as they are."""
    size, logits = p.dtype.itemsize, p.weight.shape[0]
    z = (size, (plan.block * size + 127) // 64 * 64) if plan.few else (logits * size, size)
    found = []
    for job in jobs:
        y = None if p.soft is None else (p.soft.dtype, p.soft.strides)
        y = (p.dtype, z) if job.kernel == "vjp" else y
        shape = (plan.block, p.classes)
        recipe = recipe_for(
            *(job.kernel, job.flags, job.variant, p.dtype, shape, p.dtype, z, True, *(y or (None, None))),
            z if job.flags.grad or job.kernel != "cross_entropy" else None,
        )
        if recipe is None:
            return None
        found.append(recipe)
    return found


def _own(p: Pass, plan: LinearPlan, jobs: list[Job], recipes: list[Any]) -> Found:
    """Each thread takes chunks of blocks; the gradients of chunks are added up in their order."""
    weight = as_matrix(p.weight, p.dtype, plain=plan.few)
    bias = p.bias if p.bias is not None or not plan.few else np.zeros(p.weight.shape[0], p.dtype)
    scratch = _own_scratch(p, plan, max(r.scratch for r in recipes))
    weights_size = _rounded(p.classes * p.x.shape[1] * p.dtype.itemsize) if p.grad_weight else 0
    grads_size = weights_size + (_rounded(p.classes * 8) if p.grad_bias else 0)
    grads: Any = np.zeros((plan.chunks, grads_size), np.uint8)
    params: Any = np.zeros((2, FIELDS), np.int64)
    for row, job, recipe in zip(params, jobs, recipes, strict=False):
        shared = (0, 0, 0, 0, 0, address(job.class_weight), 0, 0, 0, 0, 0, job.ignore_index)
        pack_block(row, 0, *shared, *job.numbers, recipe.shape)
    threads = launch.threads_for() if plan.parallel else 1
    threads = max(1, min(threads, plan.chunks, (plan_linear.BUDGET - grads.nbytes) // scratch.size))
    space: Any = np.empty(scratch.size * threads + 64, np.uint8)
    partial: Any = np.empty(plan.chunks, np.float64)
    direct = matrix(p.x, p.dtype)
    addresses = [(r.kernel, address(params[i])) for i, r in enumerate(recipes)]
    block: Any = np.array(
        [
            *(0, address(p.x), *p.x.strides, direct is not None and not direct.flipped, *p.x.shape),
            *(address(weight.array), weight.leading, weight.flipped, address(bias), p.classes, p.weight.shape[0]),
            *(address(p.labels), p.ignore_index, address(p.soft), 0 if p.soft is None else p.soft.strides[0]),
            *(address(p.loss_factor), address(p.grad_factor), address(p.result)),
            *(*addresses[0], *addresses[-1], recipes[0].height, plan.block, plan.chunk, gemm_address(p.dtype)),
            *(address(grads) if p.grad_weight else 0, address(grads) + weights_size if p.grad_bias else 0, grads_size),
            *(address(p.grad_x), 0 if p.grad_x is None else p.grad_x.strides[0], address(partial)),
            *((address(space) + 63) // 64 * 64, scratch.size, scratch.at_logits, scratch.at_x, scratch.at_rows),
        ],
        np.int64,
    )
    few, fewer = (least_classes(n) if plan.few else None for n in (p.weight.shape[0], p.classes))
    contiguous = p.x.strides[1] == p.x.itemsize
    kernel = kernels.address("linear", False, few, fewer, len(jobs) > 1, storage_of(p.x.dtype), contiguous)
    launch.launch(kernel, address(block), plan.chunks, threads)
    return Found(float(partial.sum()), *_gathered(p, grads, weights_size))


def _gathered(p: Pass, grads: Array, weights_size: int) -> tuple[Array | None, Array | None]:
    """The sums of the chunks' gradients."""
    chunks, size = grads.shape
    shape = (chunks, p.classes, p.x.shape[1])
    strides = (size, p.x.shape[1] * p.dtype.itemsize, p.dtype.itemsize)
    weights = np.ndarray(shape, p.dtype, grads, 0, strides).sum(axis=0) if p.grad_weight else None
    biases = None
    if p.grad_bias:
        biases = np.ndarray((chunks, p.classes), np.float64, grads, weights_size, (size, 8)).sum(axis=0)
    return weights, biases


def _shared(p: Pass, plan: LinearPlan, jobs: list[Job]) -> Found:
    """All threads share one block after the other: its logits, what is made of them, its gradients."""
    weight = as_matrix(p.weight, p.dtype)
    z = np.empty((plan.block, p.weight.shape[0]), p.dtype)
    grad_weight = np.zeros((p.classes, p.x.shape[1]), p.dtype) if p.grad_weight else None
    grad_bias = np.zeros(p.classes, np.float64) if p.grad_bias else None
    total = []
    for start in range(0, p.x.shape[0], plan.block):
        block = _Block(p, slice(start, min(start + plan.block, p.x.shape[0])))
        if not block.rows:
            continue
        g = z[: block.rows]
        if isinstance(p.x, np.ndarray):
            x = block.x()
            product(x, weight.T, g, bias=p.bias)
        else:
            run_sparse.product(p.x[block.index], weight.array, p.bias, g)
        total.append(block.differentiate(jobs, g))
        g = g[:, : p.classes]
        flipped = Matrix(g, z.shape[1], False).T
        if grad_weight is not None and not isinstance(p.x, np.ndarray):
            run_sparse.add_gradient(p.x[block.index], g, grad_weight)
            if grad_bias is not None:
                grad_bias += g.sum(axis=0, dtype=np.float64)
        elif grad_weight is not None and grad_weight.size:
            product(flipped, x, grad_weight, sums=grad_bias, add=True)
        elif grad_bias is not None:
            grad_bias += g.sum(axis=0, dtype=np.float64)
        if p.grad_x is not None:
            block.put_grad_x(Matrix(g, z.shape[1], False), weight)
    return Found(math.fsum(total), grad_weight, grad_bias)


class _Block:
    """The rows of a block that all threads share, without those that are ignored."""

    def __init__(self, p: Pass, rows: slice) -> None:
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
        rows = [None if a is None else a[self.index] for a in (p.soft, p.labels, p.loss_factor, p.grad_factor)]
        soft, *narrow = rows
        result = None if p.result is None else np.empty(self.rows, p.dtype)
        total = execute(jobs[0], Operands(z, soft, z if jobs[0].flags.grad else None, *narrow, result))
        if p.result is not None:
            p.result[self.index] = result
        return total

    def put_grad_x(self, g: Matrix, weight: Matrix) -> None:
        """The features' gradients, ``G W``; those of ignored rows are 0 already."""
        out = self.p.grad_x
        assert out is not None
        there = out[self.at]
        if self.index is self.at and there.dtype == self.p.dtype and there.strides[1] == there.itemsize:
            product(g, weight, there)
        else:
            result = np.empty((self.rows, weight.array.shape[1]), self.p.dtype)
            product(g, weight, result)
            out[self.index] = result


def run_pass(p: Pass, jobs: list[Job], block: int | None) -> Found:
    """Work through all rows as planned."""
    own = isinstance(p.x, np.ndarray) and storage_of(p.x.dtype) >= 0 and computed(p.x.dtype) == p.dtype
    plan = p.plan(own, block)
    recipes = None if plan.shared else _recipes(p, plan, jobs)
    with single_threaded():
        if recipes is not None:
            return _own(p, plan, jobs, recipes)
        return _shared(p, plan if plan.shared else p.plan(False, block), jobs)


def _bias(problem: Linear) -> Array | None:
    return None if problem.bias is None else np.ascontiguousarray(problem.bias.array, problem.dtype)


def cross_entropy(problem: LinearLoss) -> tuple[Any, dict[str, Array]]:
    """(loss, gradients by name) of a cross-entropy of a linear map."""
    linear, loss, wanted = problem.linear, problem.loss, problem.wanted
    count = run.counted(loss)
    rows = linear.x.shape[0]
    result = np.zeros(rows, linear.dtype) if loss.options.reduction == "none" else None
    grad_x = _grad_x(problem) if "x" in wanted else None
    loss_factor, grad_factor = run.factors_of(loss)
    p = Pass(
        *(linear.x.array, linear.weight.array, _bias(linear), linear.dtype, linear.classes),
        *(loss.labels, loss.options.ignore_index, loss.soft, loss_factor, grad_factor, result),
        *("weight" in wanted, "bias" in wanted, grad_x),
    )
    found = run_pass(p, [run.loss_job(loss, count, grad=bool(wanted))], problem.block)
    grads = {"x": grad_x, "weight": found.grad_weight, "bias": found.grad_bias}
    value = run.reduced(loss, found.total, count) if result is None else result
    return value, {name: _handed_over(problem, name, array) for name, array in grads.items() if array is not None}


def _grad_x(problem: LinearLoss) -> Array:
    """Where the features' gradients go while their rows are read: `out`, unless other operands lie there."""
    x, out = problem.linear.x, problem.out.get("x")
    if out is None:
        return np.zeros(x.shape, x.dtype)
    operands = (problem.linear.weight.array, problem.loss.labels, problem.loss.soft)
    in_place = same(out, x.array)
    disturbed = [a for a in operands if a is not None and overlap(out, a)]
    if disturbed or out.strides[1] != out.itemsize or (overlap(out, x.array) and not in_place):
        return np.zeros(x.shape, x.dtype)
    labels = problem.loss.labels
    if labels is not None:
        ignored = labels == problem.loss.options.ignore_index
        if in_place and ignored.any():
            return np.zeros(x.shape, x.dtype)  # these rows are to be read until the end, and then be zeros
        out[ignored] = 0
    return out


def _handed_over(problem: LinearLoss, name: str, array: Array) -> Array:
    """A gradient in the dtype that it is asked for in, at `out` if that is given."""
    linear = problem.linear
    like = {"x": linear.x, "weight": linear.weight, "bias": linear.bias}[name]
    assert like is not None
    out = problem.out.get(name)
    return array.astype(like.dtype, copy=False) if out is None else delivered(array, out)


def hessian_product(problem: Linear, direction: Linear, sample_weight: Array | None) -> tuple[Array, Array | None]:
    """The Hessian of the sum of the rows' losses times a direction."""
    dtype = problem.dtype
    weight = np.concatenate([problem.weight.array, direction.weight.array], dtype=dtype)
    biases = [b for b in (_bias(problem), _bias(direction)) if b is not None]
    factors = None if sample_weight is None else sample_weight.astype(dtype)
    p = Pass(
        *(problem.x.array, weight, np.concatenate(biases) if biases else None, dtype, problem.classes),
        loss_factor=factors,
        grad_weight=True,
        grad_bias=bool(biases),
    )
    jobs = [Job("softmax", Flags(kept=True), SOFTMAX, dtype), Job("vjp", Flags(), SOFTMAX, dtype)]
    found = run_pass(p, jobs, None)
    assert found.grad_weight is not None
    return found.grad_weight, found.grad_bias


def _blocks(problem: Linear, room: Array | None) -> Iterator[tuple[slice, Array]]:
    """The rows of one block after the other, and their logits: in `room`, or in scratch that each block overwrites."""
    rows, features = problem.x.shape
    weight, bias = as_matrix(problem.weight.array, problem.dtype), _bias(problem)
    size = plan_linear.shared_rows(features, problem.classes, problem.dtype.itemsize, staged=True)
    z = np.empty((min(size, rows), problem.classes), problem.dtype) if room is None else room
    with single_threaded():
        for start in range(0, rows, size):
            at = slice(start, min(start + size, rows))
            here = z[at] if room is not None else z[: at.stop - start]
            if problem.x.sparse:
                run_sparse.product(problem.x.array[at], weight.array, bias, here)
            else:
                product(as_matrix(problem.x.array[at], problem.dtype), weight.T, here, bias=bias)
            yield at, here


def predict(problem: Linear) -> Array:
    """The class of the largest logit of each row."""
    result = np.empty(problem.x.shape[0], np.int64)
    for at, z in _blocks(problem, None):
        z.argmax(axis=1, out=result[at])
    return result


def predict_proba(problem: Linear, out: Array | None) -> Array:
    """The probabilities of the classes for each row."""
    result = np.empty((problem.x.shape[0], problem.classes), problem.proba_dtype) if out is None else out
    job = Job("softmax", Flags(kept=True), SOFTMAX, problem.dtype)
    there = matrix(result, problem.dtype)
    room = result if there is not None and not there.flipped else None
    for at, z in _blocks(problem, room):
        execute(job, Operands(z, out=z))
        if room is None:
            result[at] = z
    return result


def top_k(problem: Linear, k: int) -> tuple[Array, Array]:
    """The classes of the largest logits of each row, in falling order, and their log-probabilities."""
    indices, values = (np.empty((problem.x.shape[0], k), t) for t in (np.int64, problem.dtype))
    job = Job("softmax", Flags(), LOG_SOFTMAX, problem.dtype)
    for at, z in _blocks(problem, None):
        execute(job, Operands(z, out=z))
        indices[at] = np.argsort(-z, axis=1, kind="stable")[:, :k]
        values[at] = np.take_along_axis(z, indices[at], axis=1)
    return indices, values
