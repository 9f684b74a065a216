"""Sparse matrices of SciPy's, whose structure is checked on the very numbers that are followed later.

Compiled code, SciPy's and ours, goes wherever row starts and indices lead.  What a matrix says of itself (that its
indices are sorted) may be out of date, and unsigned numbers that fall have differences that are positive: nothing is
believed, and everything is compared in a signed type.
"""

import copy
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]


class Compressed(NamedTuple):
    """A matrix in CSR or CSC format: the last two signed, native, C-contiguous, and both of 4 or of 8 bytes."""

    values: Array
    starts: Array
    indices: Array


def sparse_format(x: Any) -> str | None:
    """The format of a sparse matrix of SciPy's; None for anything else."""
    return getattr(x, "format", "") if type(x).__module__.startswith("scipy.sparse") else None


def compressed(x: Any, name: str = "x") -> Compressed:
    """The arrays of a matrix in CSR or CSC format; in CSC, with the rows of each column in rising order.

    Raises an error if they lead out of the matrix.
    """
    by_column, values = x.format == "csc", np.asarray(x.data)
    starts, indices = _signed(name, indptr=x.indptr, indices=x.indices)
    lines, limit = (x.shape[1], x.shape[0]) if by_column else x.shape
    return _checked(name, x.format, lines, limit, Compressed(values, starts, indices), ordered=by_column)


def sound(x: Any, name: str = "x") -> Any:
    """A sparse matrix for compiled code to read: a copy, of a format that it reads, which shares only the values.

    Raises an error if indices lead out of the matrix.  Whoever changes the caller's arrays after that changes no copy.
    """
    kind = sparse_format(x)
    if kind == "lil":
        return sound(x.tocsr(), name)
    if kind not in ("csr", "csc", "bsr", "coo"):
        return x
    private = copy.copy(x)
    if kind == "coo":
        private.coords = tuple(np.array(places) for places in x.coords)
        for axis, (places, limit) in enumerate(zip(private.coords, x.shape, strict=True)):
            (checked,) = _signed(name, **{f"coords[{axis}]": places})
            _within(name, f"coords[{axis}]", checked, limit)
        return private
    private.indptr, private.indices = np.array(x.indptr), np.array(x.indices)
    if kind == "bsr":
        (rows, columns), (height, width) = x.shape, x.blocksize
        parts = Compressed(np.asarray(x.data), *_signed(name, indptr=private.indptr, indices=private.indices))
        _checked(name, kind, rows // height, columns // width, parts, ordered=False)
    else:
        compressed(private, name)
    return private


def _signed(name: str, **arrays: Any) -> tuple[Array, ...]:
    """Arrays of integers in one signed dtype, which holds whatever may be an index."""
    parts = [np.asarray(a) for a in arrays.values()]
    for part, array in zip(arrays, parts, strict=True):
        if array.dtype.kind not in "iu" or array.ndim != 1:
            raise TypeError(
                f"{name} must have integers in {part}, in one dimension, got {array.dtype} with shape {array.shape}; "
                f"make the matrix anew from {name}.toarray() or from its parts"
            )
    narrow = all(np.can_cast(a.dtype, np.int32) for a in parts)
    # Unsigned numbers beyond int64 become negative, and no index is.
    return tuple(np.ascontiguousarray(a, np.int32 if narrow else np.int64) for a in parts)


def _checked(name: str, kind: str, lines: int, limit: int, parts: Compressed, *, ordered: bool) -> Compressed:
    """The parts of a matrix of some lines, whose indices are below a limit; sorted within each line if `ordered`."""
    values, starts, indices = parts
    most = min(len(indices), len(values))
    ascending = len(starts) == lines + 1 and starts[0] == 0 and bool((starts[1:] >= starts[:-1]).all())
    if not ascending or starts[-1] > most:
        raise ValueError(
            f"{name} must be a valid {kind.upper()} matrix with {lines + 1} ascending numbers in indptr, from 0 to at "
            f"most {most}, got shape {starts.shape} from {starts[:1]} to {starts[-1:]}"
        )
    used = indices[: starts[-1]]
    _within(name, "indices", used, limit)
    return _sorted(parts, used) if ordered else parts


def _within(name: str, part: str, used: Array, limit: int) -> None:
    # Negative numbers are large ones without a sign: one look at each, 2 of the 33 ms of a pass.
    if used.size and used.view(f"u{used.itemsize}").max() >= limit:
        where = int(np.flatnonzero((used < 0) | (used >= limit))[0])
        raise ValueError(f"{name} must have indices in [0, {limit}), got {used[where]} at {part}[{where}]")


def _sorted(parts: Compressed, used: Array) -> Compressed:
    """The parts of a matrix with its indices in rising order within each line; copied only if they are not."""
    values, starts, _ = parts
    falls = np.flatnonzero(used[1:] < used[:-1]) + 1
    if (starts[np.searchsorted(starts, falls)] == falls).all():  # from one line to the next
        return parts
    line = np.repeat(np.arange(len(starts) - 1), np.diff(starts))
    order = np.lexsort((used, line))
    return Compressed(values[order], starts, used[order])
