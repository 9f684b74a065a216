"""Linear passes in which every thread takes blocks of its own: one launch for all rows."""

from typing import Any, NamedTuple

import numpy as np

from ...core.dtypes import storage_of
from ...core.strides import round_up
from .. import table
from ..addresses import address
from ..execute import Job, Recipe, recipe_for
from ..parameters import FIELDS, pack_block
from ..threads import launch
from . import parameters as L
from . import plan as plan_linear
from .blas import gemm_address
from .matrices import Matrix, as_matrix, matrix
from .operands import LinearOperands, Sparse, Sums
from .plan import LinearPlan
from .sparse import tile_columns
from .tiles import least_classes

Array = Any  # of NumPy


class Scratch(NamedTuple):
    """The places in a thread's scratch, in bytes."""

    rows: int  # what goes with each row, where some are ignored
    x: int  # copied rows; the progress of columns
    logits: int
    size: int


class Gradients(NamedTuple):
    """The gradients of the weights and the bias by chunk."""

    room: Array  # (chunks, bytes)
    biases: int  # where those of the bias begin, in bytes

    def sums(self, p: LinearOperands, shape: tuple[int, int]) -> tuple[Array | None, Array | None]:
        """Their sums, in the order of chunks."""
        chunks, size = self.room.shape
        weight = bias = None
        if p.grad_weight:
            strides = (size, shape[1] * p.dtype.itemsize, p.dtype.itemsize)
            weight = np.ndarray((chunks, *shape), p.dtype, self.room, 0, strides)
            weight = weight[0] if chunks == 1 else weight.sum(axis=0)
        if p.grad_bias:
            bias = np.ndarray((chunks, p.classes), np.float64, self.room, self.biases, (size, 8)).sum(axis=0)
        return weight, bias


class Source(NamedTuple):
    """All that depends on how the features lie in memory."""

    kernel: tuple[Any, ...]
    features: tuple[int, ...]  # fields from X to FEATURES
    weight: Matrix
    structure: tuple[int, int, int]  # fields from STARTS to STORED
    room: int  # bytes of scratch for copied rows, or for the progress of columns
    shape: tuple[int, int]  # of a chunk's gradient of the weights


def _z_strides(p: LinearOperands, plan: LinearPlan) -> tuple[int, int]:
    """The strides of a block's logits, in bytes: class-major with few classes."""
    size = p.dtype.itemsize
    return (size, round_up(plan.block * size + 64, 64)) if plan.few else (p.logits * size, size)


def recipes_of(p: LinearOperands, plan: LinearPlan, jobs: list[Job]) -> list[Recipe] | None:
    """The recipes of a block's kernels, for logits where they are; None where one cannot take its operands so."""
    z, recipes = _z_strides(p, plan), []
    for job in jobs:
        y: tuple[Any, Any] = (None, None) if p.soft is None else (p.soft.dtype, p.soft.strides)
        if job.kernel == "vjp":
            y = p.dtype, z
        out = z if job.flags.grad or job.kernel != "cross_entropy" else None
        recipe = recipe_for(
            job.kernel, job.flags, job.variant, p.dtype, (plan.block, p.classes), p.dtype, z, out is not None, *y, out
        )
        if recipe is None:
            return None
        recipes.append(recipe)
    return recipes


def _dense(p: LinearOperands, plan: LinearPlan, hessian: bool) -> Source:
    few, fewer = (least_classes(n) if plan.few else None for n in (p.logits, p.classes))
    x, (row, step) = matrix(p.x, p.x.dtype), p.x.strides
    if x is not None and not x.flipped:
        row, step = x.leading * p.x.itemsize, p.x.itemsize
    direct = p.x.dtype == p.dtype and x is not None and not x.flipped
    return Source(
        ("dense", few, fewer, hessian, storage_of(p.x.dtype), step == p.x.itemsize, storage_of(p.dtype)),
        (address(p.x), row, step, direct, *p.x.shape),
        as_matrix(p.weight, p.dtype, plain=plan.few),
        (0, 0, 0),
        (plan.block + 64 // p.dtype.itemsize) * p.x.shape[1] * p.dtype.itemsize,
        (p.classes, p.x.shape[1]),
    )


def _sparse(p: LinearOperands, hessian: bool) -> Source:
    x: Sparse = p.x
    size = x.indices.itemsize
    formats = (None, size) if x.by_column else (size, None)
    columns = tile_columns(p.logits, 64 // p.dtype.itemsize)
    return Source(
        ("sparse", *formats, columns, hessian, storage_of(p.dtype)),
        (address(x.values), 0, 0, True, *x.shape),
        as_matrix(p.weight.T, p.dtype, plain=True),
        (address(x.starts), address(x.indices), x.stored),
        x.shape[1] * 8 if x.by_column else 0,
        (x.shape[1], p.classes),
    )


def _source(p: LinearOperands, plan: LinearPlan, hessian: bool) -> Source:
    return _sparse(p, hessian) if isinstance(p.x, Sparse) else _dense(p, plan, hessian)


def _scratch(p: LinearOperands, plan: LinearPlan, source: Source, kernels_need: int) -> Scratch:
    rows = round_up(L.HEADER + kernels_need, 64)
    x = round_up(rows + L.LINES * 8 * plan.block, 64)
    logits = round_up(x + source.room, 64)
    room = p.logits * _z_strides(p, plan)[1] if plan.few else plan.block * p.logits * p.dtype.itemsize
    return Scratch(rows, x, logits, round_up(logits + room + 64, 64))


def _gradient_sizes(p: LinearOperands) -> tuple[int, int]:
    """The bytes of a chunk's gradients of the weights, and of those and the bias."""
    weights = round_up(p.classes * p.x.shape[1] * p.dtype.itemsize, 64) if p.grad_weight else 0
    return weights, weights + (round_up(p.classes * 8, 64) if p.grad_bias else 0)


def _threads(plan: LinearPlan, threads: int, grads: int, scratch: int) -> int:
    """The number of threads that may work at once: as many as the budget has scratch for."""
    return max(1, min(threads if plan.parallel else 1, plan.chunks, (plan_linear.BUDGET - grads) // scratch))


def own_bytes(p: LinearOperands, plan: LinearPlan, recipes: list[Recipe], threads: int) -> int:
    """The memory that a pass takes besides its operands and results."""
    source, grads = _source(p, plan, len(recipes) > 1), plan.chunks * _gradient_sizes(p)[1]
    scratch = _scratch(p, plan, source, max(r.scratch for r in recipes)).size
    copied = 0 if p.weight.dtype == p.dtype else source.weight.array.nbytes
    return grads + copied + scratch * _threads(plan, threads, grads, scratch) + 8 * (plan.chunks + 3 * FIELDS)


def _parameters(jobs: list[Job], recipes: list[Recipe]) -> Array:
    """The parameters of the kernels of a block's jobs, but for what each block fills in."""
    params = np.zeros((2, FIELDS), np.int64)
    for i, (job, recipe) in enumerate(zip(jobs, recipes, strict=True)):
        call = (0, 0, 0, 0, 0, address(job.class_weight), address(job.offset), 0, 0, 0, 0, 0, job.ignore_index)
        pack_block(params[i], 0, *call, *job.numbers, recipe.shape)
    return params


def own(p: LinearOperands, plan: LinearPlan, jobs: list[Job], recipes: list[Recipe]) -> Sums:
    """The pass over all chunks; the gradients of chunks are added up in their order."""
    source = _source(p, plan, len(jobs) > 1)
    bias = p.bias if p.bias is not None or not plan.few else np.zeros(p.logits, p.dtype)
    scratch = _scratch(p, plan, source, max(r.scratch for r in recipes))
    biases, size = _gradient_sizes(p)
    grads, params = Gradients(np.zeros((plan.chunks, size), np.uint8), biases), _parameters(jobs, recipes)
    threads = _threads(plan, launch.threads_for(), grads.room.nbytes, scratch.size)
    space, partial = np.empty(scratch.size * threads + 64, np.uint8), np.empty(plan.chunks, np.float64)
    weight, begin = source.weight, address(grads.room)
    block = np.array(
        [
            *(0, *source.features),
            *(address(weight.array), weight.leading, weight.flipped, address(bias), p.classes, p.logits),
            *(address(p.labels), p.ignore_index, address(p.soft), 0 if p.soft is None else p.soft.strides[0]),
            *(address(p.loss_factor), address(p.grad_factor), address(p.result)),
            *(recipes[0].kernel, address(params), recipes[-1].kernel, address(params[-1]), recipes[0].height),
            *(plan.block, plan.chunk, gemm_address(p.dtype)),
            *(begin if p.grad_weight else 0, begin + grads.biases if p.grad_bias else 0, grads.room.shape[1]),
            *(address(p.grad_x), 0 if p.grad_x is None else p.grad_x.strides[0], address(partial)),
            *(round_up(address(space), 64), scratch.size, scratch.logits, scratch.x, scratch.rows),
            *source.structure,
        ],
        np.int64,
    )
    launch.launch(table.address(*source.kernel), address(block), plan.chunks, threads)
    grad_weight, grad_bias = grads.sums(p, source.shape)
    if isinstance(p.x, Sparse) and grad_weight is not None:
        grad_weight = grad_weight.T
    return Sums(float(partial.sum()), grad_weight, grad_bias)


def sparse_logits(x: Sparse, weight: Matrix, bias: Array | None, rows: slice, z: Array) -> None:
    """``Z = X Wᵀ + b`` of some rows of sparse features, from transposed weights; Z is C-contiguous."""
    count, logits = z.shape
    size, lanes = x.indices.itemsize, 64 // z.itemsize
    formats = (None, size) if x.by_column else (size, None)
    chunk = plan_linear.sparse_chunk(count, x.shape, x.by_column)
    chunks = -(-count // chunk)
    progress = round_up(x.shape[1] * 8, 64) if x.by_column else 0
    threads = max(1, min(launch.threads_for(), chunks))
    space = np.empty(progress * threads, np.uint8)
    block = np.zeros(L.FIELDS, np.int64)
    for field, value in (
        *((L.X, address(x.values)), (L.STARTS, address(x.starts)), (L.INDICES, address(x.indices))),
        *((L.ROWS, count), (L.FEATURES, x.shape[1]), (L.LOGITS, logits), (L.CHUNK, chunk)),
        *((L.WEIGHT, address(weight.array)), (L.BIAS, address(bias)), (L.GRAD_WEIGHT, address(z))),
        *((L.STORED, x.stored), (L.IGNORE_INDEX, rows.start), (L.SCRATCH, address(space)), (L.SCRATCH_SIZE, progress)),
    ):
        block[field] = value
    kernel = table.address("sparse_logits", *formats, tile_columns(logits, lanes), storage_of(z.dtype))
    launch.launch(kernel, address(block), chunks, threads)
