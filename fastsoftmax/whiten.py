"""Coordinates in which softmax regression is well conditioned.

The Hessian of the objective has a block a class, Xᵀ diag(p_k (1 - p_k)) X / n + λ, and smaller ones beside them.  With
the Cholesky factor L Lᵀ of such a block, measured on some of the rows at the current coefficients, the step of class k
is L⁻ᵀ v, where v has a Hessian near 1 whatever the scale of the features and their correlations.  Features are centred
in the same way, by a change of coordinates: X itself is never touched.  The optimum is the same.
"""

from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
import scipy.linalg
import scipy.sparse
from numpy.typing import NDArray

from .objective import Data, Loss

Array = NDArray[Any]

ROWS = 4096  # in the sample
SAMPLE = 1 << 22  # numbers in the sample, at most
FACTORS = 1 << 21  # numbers in all factors, at most
BLOCK = 1 << 18  # numbers in a block of X that moments are taken of
SHARE = 0.25  # of the work of a round that goes into its coordinates, at most
CHEAP = 1 << 24  # multiplications that are not worth sparing
JITTER = 1e-10  # of a block's diagonal: keeps it positive definite in rounding


class White(NamedTuple):
    """A change of coordinates: θ = base + step(v)."""

    mean: Array  # (1 or R, d): where the features of a class are centred
    factor: Array  # (1 or R, d, d), transposed inverse Cholesky factors, or (1, d), scales
    bias: Array  # (1 or R,): the scale of intercepts

    def _times(self, v: Array, *, transposed: bool) -> Array:
        if self.factor.ndim == 2:
            return np.asarray(v * self.factor)
        if len(self.factor) == 1:
            return np.asarray(v @ (self.factor[0] if transposed else self.factor[0].T))
        factor = self.factor.swapaxes(1, 2) if transposed else self.factor
        return np.asarray(np.matmul(factor, v[:, :, None])[:, :, 0])

    def step(self, v: Array) -> Array:
        """The change of θ, (R, d + 1), for one of v."""
        result = np.empty_like(v)
        result[:, :-1] = self._times(v[:, :-1], transposed=False)
        result[:, -1] = self.bias * v[:, -1] - np.einsum("rd,rd->r", result[:, :-1], self._means(len(v)))
        return result

    def gradient(self, grad: Array) -> Array:
        """The gradient by v, (R, d + 1), of one by θ."""
        result = np.empty_like(grad)
        result[:, :-1] = self._times(grad[:, :-1] - grad[:, -1:] * self.mean, transposed=True)
        result[:, -1] = self.bias * grad[:, -1]
        return result

    def _means(self, rows: int) -> Array:
        return np.broadcast_to(self.mean, (rows, self.mean.shape[1]))


class Moments(NamedTuple):
    """Weighted mean and variance of the features, and the weight they stand for."""

    mean: Array  # (d,)
    variance: Array  # (d,)
    total: float

    def merge(self, other: "Moments") -> "Moments":
        """The moments of both sets of rows (Chan, Golub and LeVeque, 1983)."""
        total = self.total + other.total
        if not total:
            return self
        share = other.total / total
        apart = other.mean - self.mean
        variance = self.variance + share * (other.variance - self.variance) + share * (1 - share) * apart * apart
        return Moments(self.mean + share * apart, variance, total)


def _pieces(x: Any) -> Iterator[tuple[slice, slice]]:
    """Blocks of rows of X, or of columns where they are what lies together, as slices of rows and columns."""
    n, d = x.shape
    by_column = scipy.sparse.issparse(x) and x.format == "csc"
    length, width = (d, n) if by_column else (n, d)
    if scipy.sparse.issparse(x):
        width = max(1, x.nnz // max(1, length))
    block = max(1, BLOCK // max(1, width))
    for start in range(0, length, block):
        part = slice(start, min(start + block, length))
        yield (slice(None), part) if by_column else (part, slice(None))


def _sums(x: Any, weight: Array, centre: Array) -> tuple[Array, Array]:
    """Weighted sums of a block's x - c and (x - c)², of x and x² where it is sparse."""
    if scipy.sparse.issparse(x):
        return np.asarray(x.T @ weight), np.asarray(x.multiply(x).T @ weight)
    apart = np.subtract(x, centre, dtype=np.result_type(x.dtype, np.float32))
    along = weight.astype(apart.dtype)
    first = along @ apart
    np.square(apart, out=apart)
    return first, along @ apart


def means(data: Data) -> Array:
    """Means of dense features, in one pass by blocks.

    They are worth it: those of a sample are wrong by a part of the standard deviation that costs some iterations.
    """
    dtype = np.result_type(data.x.dtype, np.float32)
    weight = np.ones(len(data.labels), dtype) if data.weight is None else data.weight.astype(dtype)
    total = np.zeros(data.x.shape[1])
    for rows, _ in _pieces(data.x):
        total += weight[rows] @ data.x[rows].astype(dtype, copy=False)
    return total / data.total()


def moments(data: Data) -> Moments:
    """Means and variances of the features, in one pass by blocks.

    Dense rows are taken relative to the first one, sparse ones relative to 0: the variance of a feature far from 0
    would be lost in rounding.
    """
    n, d = data.x.shape
    total = data.total()
    if not total:
        return Moments(np.zeros(d), np.zeros(d), 0.0)
    sparse = scipy.sparse.issparse(data.x)
    weight = np.ones(n) if data.weight is None else data.weight
    centre = np.zeros(d) if sparse else np.asarray(data.x[0], np.float64)
    shift = centre.astype(np.result_type(data.x.dtype, np.float32))
    first, second = np.zeros(d), np.zeros(d)
    for rows, columns in _pieces(data.x):
        sums = _sums(data.x[rows, columns], weight[rows], shift)
        first[columns] += sums[0]
        second[columns] += sums[1]
    mean = first / total
    return Moments(centre + mean, np.maximum(second / total - mean * mean, 0.0), total)


def scales(variance: Array, least: float) -> Array:
    """Inverse standard deviations; 1 for a feature that does not vary."""
    curvature = variance + least
    return np.asarray(1 / np.sqrt(np.where(curvature > 0, curvature, 1.0)))


def sample(data: Data) -> Data:
    """Some rows, dense, the same ones at every call: all of them where they are few."""
    n, d = data.x.shape
    count = min(n, ROWS, max(1, SAMPLE // max(1, d)))
    if count < n:
        data = data.rows(np.sort(np.random.default_rng(0).choice(n, count, replace=False)))
    dense = data.x.toarray() if scipy.sparse.issparse(data.x) else np.ascontiguousarray(data.x)
    return data._replace(x=dense)


def affordable(loss: Loss, shape: tuple[int, int], passes: int) -> int:
    """How many factors may be computed for X of a shape: R, 1 for all classes, or 0 for scales alone.

    They may take a quarter of the multiplications of the `passes` over the data that they are to speed up.
    """
    n, d = shape
    budget = max(CHEAP, SHARE * passes * 2 * n * d * loss.rows)
    one = min(n, ROWS, max(1, SAMPLE // max(1, d))) * d * d + d**3
    for count in (loss.rows, 1):
        if count * one <= budget and count * d * d <= FACTORS:
            return count
    return 0


def _factor(x: Array, weight: Array, loss: Loss, noise: float) -> tuple[Array, Array]:
    """Centre (d,) and transposed inverse Cholesky factor (d, d) of a block of the Hessian.

    `noise` is added to the block relative to its diagonal: what a sample does not know of its small eigenvalues.
    """
    total = float(weight.sum())
    mean = weight @ x / total if loss.intercept and total else np.zeros(x.shape[1], x.dtype)
    apart = x - mean
    apart *= np.sqrt(weight)[:, None]
    block = (apart.T @ apart).astype(np.float64)
    diagonal = block.diagonal().copy()
    flat = diagonal <= JITTER * max(1e-300, float(diagonal.max(initial=0.0)))
    ridge = np.where(flat & (loss.penalty == 0), 1.0, loss.penalty + (noise + JITTER) * diagonal)
    block[np.diag_indices_from(block)] += ridge
    lower = scipy.linalg.cholesky(block, lower=True, overwrite_a=True, check_finite=False)
    inverse, _ = scipy.linalg.lapack.dtrtri(lower, lower=1, overwrite_c=1)
    return mean.astype(np.float64), inverse.T


def by_blocks(rows: Data, loss: Loss, theta: Array, factors: int, *, whole: bool) -> White:
    """Coordinates by the Hessian's blocks at θ on a sample of rows."""
    weight = loss.variances(rows.x, theta).astype(rows.x.dtype, copy=False)
    if factors == 1 and loss.rows > 1:
        weight = weight.mean(axis=1, keepdims=True)
    share = np.full(len(weight), 1 / len(weight)) if rows.weight is None else rows.weight / rows.weight.sum()
    weight *= share.astype(weight.dtype)[:, None]
    noise = 0.0 if whole else rows.x.shape[1] / (8 * len(weight))
    parts = [_factor(rows.x, np.ascontiguousarray(w), loss, noise) for w in weight.T]
    bias = 1 / np.sqrt(np.maximum(weight.sum(axis=0, dtype=np.float64), 1e-6))
    means, inverses = zip(*parts, strict=True)
    return White(np.stack(means), np.stack(inverses), bias * loss.intercept)


def by_scale(of: Moments, loss: Loss) -> White:
    """Coordinates by the features' means and variances alone: the Hessian's diagonal at θ = 0."""
    curvature = (1 - 1 / loss.classes) / loss.classes
    mean = of.mean if loss.intercept else np.zeros_like(of.mean)
    second = of.variance if loss.intercept else of.variance + of.mean * of.mean
    # A sample sees no variance of a feature that is nearly always the same: it is not 0 for that.
    second = np.maximum(second, second.mean() / ROWS)
    factor = scales(curvature * second, loss.penalty)
    return White(mean[None], factor[None], np.full(1, curvature**-0.5 * loss.intercept))
