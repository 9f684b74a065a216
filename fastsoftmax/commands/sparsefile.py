"""CSR matrices as ``scipy.sparse.save_npz`` writes them, read a block of rows at a time."""

import zipfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from .arrayfile import COUNTED, Member, labels, member_stream, pieces, reading
from .mistakes import BadInput
from .tables import Array, Block, Features, Matrix, Place, check_count, check_finite, numeric

ROWS = 4096  # of a block: how full they are is known only when they are read


class SparseTable:
    """A CSR matrix, and labels where an array of the same file has them."""

    textual = False

    def __init__(self, path: Path, y: Member | None, wanted: Features | None) -> None:
        self.path, self._y = path, y
        with reading(path), np.load(path, allow_pickle=False) as arrays:
            kind, shape = arrays["format"].item(), tuple(map(int, arrays["shape"]))
        kind = kind.decode() if isinstance(kind, bytes) else kind
        if kind != "csr" or len(shape) != 2:
            raise BadInput(f"{path} holds a matrix in format {kind!r}, shape {shape}; save x.tocsr() instead")
        self._rows, width = shape
        self.features = Features(width, ())
        if y is not None and y.shape[0] != self._rows:
            raise BadInput(f"{path}: the target has {y.shape[0]} labels for {self._rows} rows; give one a row")
        if wanted is not None:
            check_count(path, width, wanted, apart=y is not None)

    def blocks(self, extra: int = 0) -> Iterator[Block]:
        """The rows in order."""
        step = max(1, min(ROWS, (1 << 20) // (extra + 1)))
        counts = [min(step, self._rows - start) for start in range(0, self._rows, step)]
        start = 0
        with reading(self.path), zipfile.ZipFile(self.path) as archive:
            for x, y in zip(self._parts(archive, counts), labels(archive, self._y, counts), strict=True):
                place = Place(self.path, start, range(self.features.size), COUNTED)
                check_finite(x, place)
                start += x.shape[0]
                yield Block(x, y, place, start, self._rows)

    def _parts(self, archive: zipfile.ZipFile, counts: list[int]) -> Iterator[Matrix]:
        from scipy.sparse import csr_array  # noqa: PLC0415  files without sparse matrices do without it

        indptr, bounds = member_stream(archive, "indptr")
        stored: list[int] = []  # how many elements the next block has
        columns, values = (pieces(*member_stream(archive, name), _last(stored)) for name in ("indices", "data"))
        first = next(pieces(indptr, bounds, iter([1])))
        for count, ends in zip(counts, pieces(indptr, bounds, iter(counts)), strict=True):
            pointers = np.concatenate([first, ends]).astype(np.int64)
            if (np.diff(pointers) < 0).any():
                raise ValueError("array 'indptr' goes down")
            stored.append(int(pointers[-1] - pointers[0]))
            column, value = next(columns), numeric(next(values), f"{self.path}: array 'data'")
            self._check(column)
            yield csr_array((value, column, pointers - pointers[0]), shape=(count, self.features.size))
            first = ends[-1:]

    def _check(self, column: Array) -> None:
        if column.size and not 0 <= column.min() <= column.max() < self.features.size:
            raise ValueError(f"array 'indices' has values outside [0, {self.features.size})")


def _last(stored: list[int]) -> Iterator[int]:
    """The newest number of a list, each time one is asked for."""
    while True:
        yield stored[-1]
