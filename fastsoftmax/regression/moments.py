"""Means and standard deviations of features, whatever their units.

Sums are of differences from rows that are there: a feature that does not vary has a deviation of exactly 0, and one far
from 0 keeps its digits.  Where squares could leave the range of the dtype, they are taken of numbers near 1.
"""

from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
import scipy.sparse
from numpy.typing import NDArray

from .objective import Data

Array = NDArray[Any]

BLOCK = 1 << 18  # numbers in a block of X that moments are taken of
SQUARES = {4: 1e15, 8: 1e120}  # by bytes: numbers, and their inverses, whose squares and sums of those are in range
RARE = 5.0  # standard errors that the mean of a sample is off by chance at most: beyond, it has missed some rows


class Moments(NamedTuple):
    """Weighted mean and standard deviation of the features, and the weight they stand for."""

    mean: Array  # (d,)
    deviation: Array  # (d,)
    total: float

    def merge(self, other: "Moments") -> "Moments":
        """The moments of both sets of rows (Chan, Golub and LeVeque, 1983)."""
        total = self.total + other.total
        if not other.total:
            return self
        share = other.total / total
        apart = other.mean - self.mean
        with np.errstate(under="ignore"):
            within = np.hypot((1 - share) ** 0.5 * self.deviation, share**0.5 * other.deviation)
            deviation = np.hypot(within, (share * (1 - share)) ** 0.5 * apart)
        return Moments(self.mean + share * apart, deviation, total)

    def about(self, *, centred: bool) -> tuple[Array, Array]:
        """The features' centres and their distances from there: means and deviations, or 0 and sizes."""
        if centred:
            return self.mean, self.deviation
        return np.zeros_like(self.mean), np.hypot(self.mean, self.deviation)


def moments_of(data: Data) -> Moments:
    """The moments of all rows that have a weight, in a pass or two by blocks."""
    weight = np.ones(len(data.target)) if data.weight is None else data.weight
    if not weight.any():
        d = data.x.shape[1]
        return Moments(np.zeros(d), np.zeros(d), 0.0)
    share = weight / weight.sum()
    with np.errstate(over="ignore", under="ignore", invalid="ignore"):  # what leaves the range is computed again
        if scipy.sparse.issparse(data.x):
            return Moments(*_of_sparse(data.x, share), data.total())
        return Moments(*(_in_range(data.x, share) or _of_dense(data.x, share)), data.total())


def _exponents(peak: Array) -> Array:
    """Exponents of powers of two that bring numbers near 1."""
    return np.maximum(np.frexp(peak)[1], -1000)


def _step(x: Array) -> int:
    """Rows of a block."""
    return max(1, BLOCK // max(1, int(x.shape[1])))


def _blocks(x: Array, share: Array) -> Iterator[tuple[Array, Array]]:
    """Blocks of rows that have a weight, with their shares."""
    step, every = _step(x), bool(share.all())
    for start in range(0, len(x), step):
        rows, part = x[start : start + step], share[start : start + step]
        if not every:
            rows, part = rows[part > 0], part[part > 0]
        if len(part):
            yield rows, part


def _peak(apart: Array) -> Array:
    """The largest size in each column."""
    return np.asarray(np.maximum(apart.max(axis=0), -apart.min(axis=0)))


def _in_range(x: Array, share: Array) -> tuple[Array, Array] | None:
    """Means and deviations in one pass in the dtype of X; None where squares may leave its range.

    Differences are from the mean of the first block: rows that are far from it make the variance as large.
    """
    centre = None
    first, second, peak = np.zeros((3, x.shape[1]))
    for rows, part in _blocks(x, share):
        if centre is None:
            centre = rows[0] + (rows - rows[0]).mean(axis=0, dtype=x.dtype)
        apart = rows - centre
        np.maximum(peak, _peak(apart), out=peak)
        weight = len(share) * part.astype(x.dtype)
        first += weight @ apart
        second += weight @ np.square(apart, out=apart)
    most = SQUARES[x.dtype.itemsize]
    if centre is None or not ((peak == 0) | ((peak > 1 / most) & (peak < most))).all():
        return None
    first /= len(share)
    return centre + first, np.sqrt(np.maximum(second / len(share) - first * first, 0.0))


def _of_dense(x: Array, share: Array) -> tuple[Array, Array]:
    """Means and deviations of dense features in any units: halved, so that no difference overflows, and scaled."""
    centre = 0.5 * np.asarray(x[int(np.argmax(share > 0))], np.float64)
    first, peak = np.zeros((2, x.shape[1]))
    for rows, part in _blocks(x, share):
        apart = np.multiply(rows, 0.5, dtype=np.float64) - centre
        first += part @ apart
        np.maximum(peak, _peak(apart), out=peak)
    middle = centre + first
    exponent = _exponents(peak)
    unit = np.ldexp(1.0, -exponent)
    second = np.zeros(x.shape[1])
    for rows, part in _blocks(x, share):
        apart = unit * (np.multiply(rows, 0.5, dtype=np.float64) - middle)
        second += part @ np.square(apart, out=apart)
    return 2 * middle, np.where(peak > 0, 2 * np.ldexp(np.sqrt(second), exponent), 0.0)


class Entries(NamedTuple):
    """Numbers of a sparse matrix, with their columns and the shares of their rows."""

    values: Array
    columns: Array
    share: Array


def _entries(x: Any, share: Array) -> Iterator[Entries]:
    """Blocks of the entries of rows that have a weight."""
    by_column = x.format == "csc"
    length = x.shape[1] if by_column else x.shape[0]
    step = max(1, BLOCK * length // max(1, x.nnz))
    for start in range(0, length, step):
        block = x[:, start : start + step] if by_column else x[start : start + step]
        if not block.has_canonical_format:
            block = block.copy()
            block.sum_duplicates()
        counts = np.diff(block.indptr)
        if by_column:
            columns, part = np.repeat(np.arange(start, start + len(counts)), counts), share[block.indices]
        else:
            columns, part = block.indices, np.repeat(share[start : start + step], counts)
        kept = part > 0
        yield Entries(*(a if kept.all() else a[kept] for a in (block.data.astype(np.float64), columns, part)))


def _of_sparse(x: Any, share: Array) -> tuple[Array, Array]:
    d = x.shape[1]
    count, peak = np.zeros(d, np.int64), np.ones(d)
    if x.dtype == np.float64:  # squares of float32 are well within float64's range
        peak[:] = 0
    for entries in _entries(x, share):
        count += np.bincount(entries.columns, minlength=d)
        if x.dtype == np.float64:
            np.maximum.at(peak, entries.columns, np.abs(entries.values))
    # What is not there is 0, but in columns where everything is.
    row = x[[int(np.argmax(share > 0))]].toarray()[0].astype(np.float64)
    exponent = _exponents(peak)
    unit = np.ldexp(1.0, -exponent)
    centre = np.where(count == np.count_nonzero(share), row, 0.0) * unit
    first, second = np.zeros(d), np.zeros(d)
    for values, columns, part in _entries(x, share):
        apart = values * unit[columns] - centre[columns]
        first += np.bincount(columns, part * apart, minlength=d)
        second += np.bincount(columns, part * np.square(apart), minlength=d)
    deviation = np.sqrt(np.maximum(second - first * first, 0.0))
    return np.ldexp(centre + first, exponent), np.ldexp(deviation, exponent)


def _means(data: Data, shift: Array | None) -> Array:
    """Means of dense features, in one pass in their dtype: of their differences from a shift, if there is one."""
    dtype, step = data.x.dtype, _step(data.x)
    weight = np.ones(len(data.target), dtype) if data.weight is None else data.weight.astype(dtype)
    total = np.zeros(data.x.shape[1])
    for start in range(0, len(data.x), step):
        rows = data.x[start : start + step]
        total += weight[start : start + step] @ (rows if shift is None else rows - shift)
    mean: Array = total / weight.sum(dtype=np.float64)
    return mean if shift is None else np.asarray(shift + mean)


def _farthest(x: Array, columns: Array, value: Array) -> Array:
    """The greatest distances of columns from values."""
    peak = np.zeros(len(columns))
    for start in range(0, len(x), _step(x)):
        np.maximum(peak, _peak(x[start : start + _step(x)][:, columns] - value), out=peak)
    return peak


def refined(sampled: Moments, count: int, data: Data) -> Moments:
    """The moments of a sample of `count` dense rows, corrected by all rows.

    Means become those of all rows: a sample's are wrong by a part of the deviation that costs some iterations.  Where
    they differ by more than chance, or the sample sees no variation, few rows vary, and the deviation is that of one.
    """
    n, shift = len(data.target), sampled.mean.astype(data.x.dtype)
    still = np.flatnonzero(sampled.deviation == 0)
    far = (np.abs(sampled.mean) > 100 * sampled.deviation) & (sampled.deviation > 0)  # what rounding could hide
    with np.errstate(over="ignore", under="ignore", invalid="ignore"):
        mean = _means(data, shift if far.any() else None)
    if not np.isfinite(mean).all():
        return moments_of(data)
    off = np.abs(mean - sampled.mean)
    deviation = np.where(off * count**0.5 > RARE * sampled.deviation, off * n**0.5, sampled.deviation)
    deviation[still] = _farthest(data.x, still, shift[still]) / n**0.5
    mean[still] = np.where(deviation[still] > 0, mean[still], sampled.mean[still])
    return Moments(mean, deviation, data.total())
