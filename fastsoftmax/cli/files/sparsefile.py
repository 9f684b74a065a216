"""CSR matrices as ``scipy.sparse.save_npz`` writes them, read a block of rows at a time."""

import math
import zipfile
from collections.abc import Iterator
from itertools import chain
from pathlib import Path

import numpy as np

from ..errors import BadInput
from .arrayfile import COUNTED, Member, in_steps, labels, member_stream, pieces, reading, whole_array
from .table import Block, Features, Matrix, Place, check_count, check_finite, numeric

FEW = 1024  # bytes of what is read as a whole, whatever a small file unpacks to
ROWS = 4096  # of a block: how full they are is known only when they are read


class SparseTable:
    """A CSR matrix, and labels where an array of the same file has them."""

    textual = False

    def __init__(self, path: Path, y: Member | None, wanted: Features | None) -> None:
        self.path, self._y = path, y
        with reading(path), zipfile.ZipFile(path) as archive:
            if any(member_stream(archive, name)[0].nbytes > FEW for name in ("format", "shape")):
                raise ValueError("arrays 'format' and 'shape' are longer than a name and two numbers")
            kind, shape = whole_array(archive, "format").item(), tuple(map(int, whole_array(archive, "shape")))
            members = {name: member_stream(archive, name)[0] for name in ("indptr", "indices", "data")}
        kind = kind.decode() if isinstance(kind, bytes) else kind
        if kind != "csr" or len(shape) != 2:
            raise BadInput(f"{path} holds a matrix in format {kind!r}, shape {shape}; save x.tocsr() instead")
        self._rows, width = shape
        self._stored = math.prod(members["data"].shape)
        self.features = Features(width, ())
        with reading(path):
            _check_members(members, self._rows, width)
        if y is not None and y.shape[0] != self._rows:
            raise BadInput(f"{path}: the target has {y.shape[0]} labels for {self._rows} rows; give one a row")
        if wanted is not None:
            check_count(path, width, wanted, apart=y is not None)

    def blocks(self, extra: int = 0) -> Iterator[Block]:
        """The rows in order."""
        step = max(1, min(ROWS, (1 << 20) // (extra + 1)))
        start = 0
        with reading(self.path), zipfile.ZipFile(self.path) as archive:
            both = (
                self._parts(archive, in_steps(self._rows, step)),
                labels(archive, self._y, in_steps(self._rows, step)),
            )
            for x, y in zip(*both, strict=True):
                place = Place(self.path, start, range(self.features.size), COUNTED)
                check_finite(x, place)
                start += x.shape[0]
                yield Block(x, y, place, start, self._rows)

    def _parts(self, archive: zipfile.ZipFile, counts: Iterator[int]) -> Iterator[Matrix]:
        from scipy.sparse import csr_array  # noqa: PLC0415  files without sparse matrices do without it

        streams = {name: member_stream(archive, name) for name in ("indptr", "indices", "data")}
        stored: list[int] = []  # how many elements the next block has
        columns, values = (pieces(*streams[name], _last(stored)) for name in ("indices", "data"))
        ends = pieces(*streams["indptr"], chain([1], counts))
        first = next(ends)
        wrong = first[0] != 0
        for end in ends:
            pointers = np.concatenate([first, end]).astype(np.int64)
            if wrong or (np.diff(pointers) < 0).any() or pointers[-1] > self._stored:
                raise ValueError("array 'indptr' goes down, or begins after 0, or passes the end of array 'data'")
            stored.append(int(pointers[-1] - pointers[0]))
            column, value = next(columns), numeric(next(values), f"{self.path}: array 'data'")
            if column.size and not 0 <= column.min() <= column.max() < self.features.size:
                raise ValueError(f"array 'indices' has values outside [0, {self.features.size})")
            yield csr_array((value, column, pointers - pointers[0]), shape=(len(end), self.features.size))
            first = end[-1:]
        for _, stream in streams.values():
            while stream.read(1 << 20):  # to the end, where zipfile compares the checksum
                pass


def _check_members(members: dict[str, Member], rows: int, width: int) -> None:
    """Raise unless the arrays of a matrix are as long as its shape says, before anything loops over its rows."""
    indptr, indices, data = (members[name] for name in ("indptr", "indices", "data"))
    if rows < 0 or width < 0 or indptr.shape != (rows + 1,):
        raise ValueError(f"array 'indptr' has shape {indptr.shape} for a matrix of shape {(rows, width)}")
    if any(member.dtype.kind not in "iu" for member in (indptr, indices)):
        raise ValueError(f"arrays 'indptr' and 'indices' have dtypes {indptr.dtype} and {indices.dtype}, not integers")
    if len(data.shape) != 1 or data.shape != indices.shape:
        short = "data" if data.shape < indices.shape else "indices"
        raise ValueError(f"array {short!r} is cut short: 'data' has shape {data.shape}, 'indices' {indices.shape}")


def _last(stored: list[int]) -> Iterator[int]:
    """The newest number of a list, each time one is asked for."""
    while True:
        yield stored[-1]
