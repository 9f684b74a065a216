"""Coordinates in which softmax regression is well conditioned.

The Hessian of the objective has a block a class, Xᵀ diag(p_k (1 - p_k)) X / n + λ, and smaller ones beside them.  With
the Cholesky factor L Lᵀ of such a block, measured on some of the rows at the current coefficients, the step of class k
is L⁻ᵀ v, where v has a Hessian near 1 whatever the scale of the features and their correlations.  Features are centred
in the same way, by a change of coordinates: X itself is never touched.  The optimum is the same.

Blocks are formed of features that were scaled to a curvature near 1 first, so that neither huge nor tiny units get lost
in squares, and what is too small to be told from rounding is the same whatever the units.
"""

from functools import cached_property
from typing import Any, NamedTuple

import numpy as np
import scipy.linalg
import scipy.sparse
from numpy.typing import NDArray

from .moments import Moments, moments_of, refined
from .objective import Data, Loss

Array = NDArray[Any]

ROWS = 4096  # in the sample
SAMPLE = 1 << 22  # numbers in the sample, at most
FACTORS = 1 << 21  # numbers in all factors, at most
SHARE = 0.25  # of the work of a round that goes into its coordinates, at most
CHEAP = 1 << 24  # multiplications that are not worth sparing
JITTER = 1e-10  # of a block's diagonal: keeps it positive definite in rounding
MORE = (0.0, 1e-6, 1e-3, 1.0)  # of the diagonal, where that is not enough
LEAST = 1e-12  # weight of a block: one of a class that all rows are sure about is not 0
TINY = 1e-290  # deviation of a feature whose coefficient may leave float64's range
NARROW = 1e25  # scales that float32 holds, and their inverses, with room for what is multiplied by them


class Whitening(NamedTuple):
    """A change to coordinates v in which the Hessian is near 1: θ = base + step(v)."""

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

    def largest(self, grad: Array) -> float:
        """The largest element of the gradient by v of one by θ."""
        return float(np.abs(self.gradient(grad)).max())

    def _means(self, rows: int) -> Array:
        return np.broadcast_to(self.mean, (rows, self.mean.shape[1]))


def _inverse(size: Array) -> Array:
    """1 / size, and 0 for what does not vary."""
    return np.divide(1.0, size, out=np.zeros(len(size)), where=size >= TINY)


def scales(moments: Moments, loss: Loss, curvature: float) -> Array:
    """Inverse square roots of the features' curvatures, 0 for those that do not vary, whose coefficients stay."""
    spread = moments.about(centred=loss.intercept)[1]
    size, vary = np.hypot(curvature**0.5 * spread, loss.penalty**0.5), spread > 0
    if len(small := np.flatnonzero(vary & (size < TINY))):
        at = int(small[0])
        raise ValueError(
            f"X must vary by more than {TINY:g} in a column, where coefficients have no penalty (C=inf), got "
            f"{size[at]:g} in column {at}; multiply that column by {1 / TINY:g}"
        )
    return _inverse(np.where(vary, size, 0.0))


def standard(moments: Moments, loss: Loss) -> Whitening:
    """Coordinates of features that have mean 0, where there are intercepts, and variance 1."""
    mean, size = moments.about(centred=loss.intercept)
    return Whitening(mean[None], _inverse(size)[None], np.full(1, float(loss.intercept)))


def by_scale(moments: Moments, loss: Loss) -> Whitening:
    """Coordinates by the features' means and deviations alone: the Hessian's diagonal at θ = 0."""
    curvature = (1 - 1 / loss.classes) / loss.classes
    mean = moments.about(centred=loss.intercept)[0]
    return Whitening(mean[None], scales(moments, loss, curvature)[None], np.full(1, curvature**-0.5 * loss.intercept))


def folded(theta: Array, moments: Moments, loss: Loss) -> Array:
    """θ of the same logits without coefficients of features that do not vary: the intercepts take them."""
    flat = moments.about(centred=loss.intercept)[1] == 0
    if not theta[:, :-1][:, flat].any():
        return theta
    result = theta.copy()
    result[:, :-1][:, flat] = 0
    result[:, -1] += loss.intercept * (theta[:, :-1][:, flat] @ moments.mean[flat])
    return result


def fits_float32(whitening: Whitening) -> bool:
    """Whether float32 holds coefficients of features of these scales, and their gradients."""
    used = whitening.factor[whitening.factor > 0]
    return bool(((used < NARROW) & (used > 1 / NARROW)).all() and (np.abs(whitening.mean) < NARROW).all())


def affordable(loss: Loss, shape: tuple[int, int], passes: int) -> int:
    """The number of factors to compute for X of a shape: R, 1 for all classes, or 0 for scales alone.

    They may take a quarter of the multiplications of the `passes` over the data that they are to speed up.
    """
    n, d = shape
    budget = max(CHEAP, SHARE * passes * 2 * n * d * loss.rows)
    one = min(n, ROWS, max(1, SAMPLE // max(1, d))) * d * d + d**3
    for count in (loss.rows, 1):
        if count * one <= budget and count * d * d <= FACTORS:
            return count
    return 0


def sample(data: Data) -> tuple[Data, bool]:
    """Some rows that have a weight, dense, the same ones at every call, and whether they are all."""
    n, d = data.x.shape
    count = min(n, ROWS, max(1, SAMPLE // max(1, d)))
    used = None if data.weight is None or data.weight.all() else np.flatnonzero(data.weight)
    there = n if used is None else len(used)
    if count < there:
        chosen = np.sort(np.random.default_rng(0).choice(there, count, replace=False))
        data = data.rows(chosen if used is None else used[chosen])
    elif used is not None:
        data = data.rows(used)
    dense = data.x.toarray() if scipy.sparse.issparse(data.x) else np.ascontiguousarray(data.x)
    return data._replace(x=dense), count >= there


class Sample(NamedTuple):
    """Some rows in coordinates in which each feature has a curvature near 1: z = scale (x - mean)."""

    z: Array  # (m, d)
    share: Array  # (m,): weights that add up to 1
    mean: Array  # (d,)
    scale: Array  # (d,): powers of two
    whole: bool

    def variances(self, loss: Loss, theta: Array) -> Array:
        """p (1 - p) times the rows' shares, (m, R): the curvature of the loss along the logits at θ."""
        inner = np.empty_like(theta)
        inner[:, :-1] = np.divide(theta[:, :-1], self.scale, out=np.zeros_like(theta[:, :-1]), where=self.scale > 0)
        inner[:, -1] = theta[:, -1] + theta[:, :-1] @ self.mean
        weight = loss.variances(self.z, inner)
        weight *= self.share.astype(weight.dtype)[:, None]
        return weight


def standardised(rows: Data, moments: Moments, loss: Loss, *, whole: bool) -> Sample:
    """A sample in these coordinates, in float64 where it is all rows: nothing but rounding hides small eigenvalues."""
    whitening = by_scale(moments, loss)
    mean, factor = whitening.mean[0], whitening.factor[0]
    scale = np.where(factor > 0, np.ldexp(1.0, np.frexp(factor)[1]), 0.0)
    z = np.empty(rows.x.shape, np.float64 if whole else rows.x.dtype)
    step = 256
    for start in range(0, len(z), step):  # exact for what does not vary: products with powers of two are
        z[start : start + step] = rows.x[start : start + step] * scale - mean * scale
    share = np.full(len(z), 1 / len(z)) if rows.weight is None else rows.weight / rows.weight.sum()
    return Sample(z, share, mean, scale, whole)


def _factor(rows: Sample, weight: Array, loss: Loss) -> tuple[Array, Array]:
    """Centre (d,) and transposed inverse Cholesky factor (d, d) of a block of the Hessian, both of X as it is."""
    d = rows.z.shape[1]
    total = float(weight.sum(dtype=np.float64))
    centre = weight @ rows.z / total if loss.intercept and total else np.zeros(d, rows.z.dtype)
    apart = rows.z - centre
    apart *= np.sqrt(weight)[:, None]
    block = (apart.T @ apart).astype(np.float64)
    diagonal = block.diagonal().copy()
    # What a sample does not know of small eigenvalues is noise.
    noise = JITTER if rows.whole else JITTER + d / (8 * len(weight))
    expected = max(total, LEAST) * loss.classes / (1 - 1 / loss.classes)
    ridge = (loss.penalty**0.5 * rows.scale) ** 2 + noise * diagonal
    ridge += np.where(diagonal + ridge <= JITTER * expected, expected, 0.0)
    inverse = _inverse_factor(block, diagonal + ridge)
    inverse *= rows.scale  # of the columns: it is not transposed yet
    shift = np.divide(centre, rows.scale, out=np.zeros(d), where=rows.scale > 0)
    return rows.mean + shift, inverse.T


def _inverse_factor(block: Array, diagonal: Array) -> Array:
    """L⁻¹ of a block with another diagonal: a larger one, where rounding has left it indefinite."""
    for more in MORE:
        block[np.diag_indices_from(block)] = (1 + more) * diagonal
        try:
            lower = scipy.linalg.cholesky(block, lower=True, check_finite=False)
        except np.linalg.LinAlgError:
            continue
        return np.asarray(scipy.linalg.lapack.dtrtri(lower, lower=1, overwrite_c=1)[0])
    return np.diag(diagonal**-0.5)


def by_blocks(rows: Sample, loss: Loss, theta: Array, factors: int) -> Whitening:
    """Coordinates by the Hessian's blocks at θ on a sample of rows."""
    weight = rows.variances(loss, theta)
    if factors == 1 and loss.rows > 1:
        weight = weight.mean(axis=1, keepdims=True)
    parts = [_factor(rows, np.ascontiguousarray(w), loss) for w in weight.T]
    bias = 1 / np.sqrt(np.maximum(weight.sum(axis=0, dtype=np.float64), 1e-6))
    means, inverses = zip(*parts, strict=True)
    return Whitening(np.stack(means), np.stack(inverses), bias * loss.intercept)


class Coordinates:
    """Chooses coordinates for a round: the richer, the longer it is."""

    def __init__(self, data: Data, loss: Loss) -> None:
        self.data, self.loss = data, loss

    @cached_property
    def _rows(self) -> tuple[Data, bool]:
        return sample(self.data)

    @cached_property
    def moments(self) -> Moments:
        """Those of all rows where features are sparse: a sample may miss the few that a feature is not 0 in."""
        if scipy.sparse.issparse(self.data.x):
            return moments_of(self.data)
        rows, whole = self._rows
        sampled = moments_of(rows)
        return sampled if whole else refined(sampled, len(rows.target), self.data)

    @cached_property
    def _sample(self) -> Sample:
        rows, whole = self.__dict__.pop("_rows", None) or sample(self.data)
        return standardised(rows, self.moments, self.loss, whole=whole)

    @cached_property
    def by_scale(self) -> Whitening:
        """Coordinates by the features' scales alone."""
        return by_scale(self.moments, self.loss)

    def __call__(self, theta: Array, length: int) -> Whitening:
        """Coordinates at θ for a round of some length."""
        factors = affordable(self.loss, self.data.x.shape, length)
        return by_blocks(self._sample, self.loss, theta, factors) if factors else self.by_scale
