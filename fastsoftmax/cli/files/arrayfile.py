"""NPY files through a memory map, and the arrays of NPZ files straight from the stream that unpacks them."""

import contextlib
import math
import os
import shutil
import tempfile
import zipfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import IO, Any, NamedTuple

import numpy as np

from ..errors import BadInput, listed, shown, unusable
from .table import (
    Array,
    Block,
    Columns,
    Features,
    Place,
    Table,
    array_labels,
    check_count,
    check_finite,
    choose_named,
    choose_numbered,
    is_text,
    numeric,
    rows_of_block,
)

COUNTED = "rows are counted from 0"
SPARSE = {"indices", "indptr", "format", "shape", "data"}  # the arrays of scipy.sparse.save_npz
PACKED = 1032  # bytes at most that deflate makes of one


def open_npy(path: Path, target: str | None, wanted: Features | None) -> Table:
    """The table of an array in a NPY file: 2-D, or with named fields."""
    with reading(path):
        with path.open("rb") as file:
            np.lib.format.read_magic(file)  # NumPy takes whatever is no array for a pickled object
        array = np.load(path, mmap_mode="r", allow_pickle=False)
    if array.dtype.names and array.ndim == 1:
        return NpyTable(path, array, choose_named(path, array.dtype.names, target, wanted))
    if array.ndim != 2 or array.dtype.names:
        raise BadInput(f"{path} has shape {array.shape}; it must be 2-D, a row for each example, or have named fields")
    numeric(array[:0], str(path))
    if not len(array):  # its file does not bound how many columns it says that it has
        raise BadInput(f"{path} has no rows; write the data again, a row for each example")
    return NpyTable(path, array, choose_numbered(path, array.shape[1], target, wanted))


class NpyTable:
    """An array that is mapped into memory: a block is copied when it is due."""

    textual = False

    def __init__(self, path: Path, array: Array, columns: Columns) -> None:
        self.path, self._array, self._columns = path, array, columns
        names = array.dtype.names
        self.features = Features(len(columns.features), tuple(names[i] for i in columns.features) if names else ())

    def blocks(self, extra: int = 0) -> Iterator[Block]:
        """The rows in order."""
        total, step = len(self._array), rows_of_block(self.features.size + extra)
        for start in range(0, total, step):
            part = self._array[start : start + step]
            x = self._numbers(part)
            place = Place(self.path, start, self.features.names or self._columns.features, COUNTED)
            check_finite(x, place)
            yield Block(x, self._labels(part), place, start + len(part), total)

    def _numbers(self, part: Array) -> Array:
        names, wanted = part.dtype.names, self._columns.features
        if names:
            fields = [numeric(part[names[i]], f"{self.path}: column {shown(names[i])!r}") for i in wanted]
            if any(field.ndim != 1 for field in fields):
                raise BadInput(f"{self.path} has fields that are arrays; give each number a field of its own")
            return np.stack(fields, axis=1) if fields else np.empty((len(part), 0))
        every = wanted == list(range(part.shape[1]))
        return numeric(np.array(part) if every else part[:, wanted], str(self.path))

    def _labels(self, part: Array) -> Array | None:
        label, names = self._columns.target, part.dtype.names
        if label is None:
            return None
        column = part[names[label]] if names else part[:, label]
        return array_labels(np.array(column), f"{self.path}: column {shown(names[label] if names else label)!r}")


class Member(NamedTuple):
    """The header of an array in a NPZ file."""

    name: str
    shape: tuple[int, ...]
    by_columns: bool  # stored column by column
    dtype: np.dtype[Any]
    nbytes: int  # as they are in memory, after the header


@contextlib.contextmanager
def reading(path: Path) -> Iterator[None]:
    """Whatever NumPy, zipfile or the system say about a file is one line."""
    try:
        yield
    except BadInput:
        raise
    except OSError as error:
        raise unusable(path, error) from None
    except Exception as error:  # of damaged bytes NumPy's parser makes any error of Python's
        said = " ".join(str(error).split()) or type(error).__name__
        objects = "pickle" in said or "objects" in said
        hint = "it holds Python objects, which are not read" if objects else shown(said, 120)
        raise BadInput(
            f"{path} is no {path.suffix[1:].upper()} file that can be read ({hint}); write it again"
        ) from None


def member_stream(archive: zipfile.ZipFile, name: str) -> tuple[Member, IO[bytes]]:
    """The header of an array in a NPZ file, and the stream that goes on with its elements."""
    info = archive.getinfo(f"{name}.npy")
    # What an archive says of its members is compared with its own size before anything counts on it.
    most = {zipfile.ZIP_STORED: 1, zipfile.ZIP_DEFLATED: PACKED}.get(info.compress_type)
    assert archive.fp is not None  # for mypy: it is open
    if most is None:
        raise ValueError(f"array {name!r} is packed by another method than numpy.savez_compressed uses")
    if info.compress_size > archive.fp.seek(0, os.SEEK_END) or info.file_size > most * info.compress_size:
        raise ValueError(f"array {name!r} is said to be larger than the file can be")
    stream = archive.open(info)
    version = np.lib.format.read_magic(stream)
    if version != (1, 0):  # others are for headers longer than NumPy reads, up to 4 GB, which it unpacks to find out
        raise ValueError(f"array {name!r} is of format version {version}")
    shape, by_columns, dtype = np.lib.format.read_array_header_1_0(stream)
    if dtype.hasobject:
        raise ValueError(f"array {name!r} is pickled")
    member = Member(name, shape, by_columns, dtype, info.file_size - stream.tell())
    if min(shape, default=0) < 0 or math.prod(shape) * dtype.itemsize != member.nbytes:
        raise ValueError(f"array {name!r} has shape {shape} in its header, and {member.nbytes} bytes")
    return member, stream


def whole_array(archive: zipfile.ZipFile, name: str) -> Array:
    """A small array of a NPZ file."""
    member, stream = member_stream(archive, name)
    with stream:
        data = stream.read()  # to its end, where zipfile compares the checksum
    array = np.frombuffer(data, member.dtype).reshape(member.shape, order="F" if member.by_columns else "C")
    if not is_text(array):
        raise ValueError(f"array {name!r} holds characters that do not exist")
    return array


def pieces(member: Member, stream: IO[bytes], counts: Iterable[int]) -> Iterator[Array]:
    """The next rows of an array, as many as `counts` says each time."""
    size = member.dtype.itemsize * math.prod(member.shape[1:])
    for count in counts:
        data = stream.read(size * count)
        if len(data) != size * count:
            raise ValueError(f"array {member.name!r} is cut short")
        yield np.frombuffer(data, member.dtype).reshape(count, *member.shape[1:])
    stream.read(1)  # nothing: zipfile compares the checksum when it has seen the end


def matrix_of(path: Path, members: dict[str, Member], target: str | None) -> Member:
    """The array of the features: `X` or `x`, or the only one with two axes."""
    named = [members[name] for name in ("X", "x") if name in members and name != target]
    flat = [member for name, member in members.items() if len(member.shape) == 2 and name != target]
    if not named and len(flat) != 1:
        raise BadInput(
            f"{path} has {len(flat)} arrays with two axes ({listed(m.name for m in flat) or 'none'}); "
            "name that of the features X"
        )
    x = named[0] if named else flat[0]
    if len(x.shape) != 2:
        raise BadInput(f"{path}: array {x.name!r} has shape {x.shape}; it must be 2-D, a row for each example")
    numeric(np.empty(0, x.dtype), f"{path}: array {shown(x.name)!r}")
    return x


def labels_of(path: Path, members: dict[str, Member], target: str | None, rows: int | None) -> Member | None:
    """The array of the target, if there is one, with as many labels as there are rows."""
    if target is None:
        return None
    y = members[target]
    if len(y.shape) != 1 or rows not in (None, y.shape[0]):
        expected = "(n,)" if rows is None else f"({rows},)"
        raise BadInput(f"{path}: array {shown(target)!r} has shape {y.shape}; the target must have shape {expected}")
    return y


def in_steps(total: int, step: int) -> Iterator[int]:
    """The number of rows of each block, one after the other: a list of them might be longer than any data."""
    return (min(step, total - start) for start in range(0, total, step))


class NpzTable:
    """Features and labels that are arrays of a NPZ file, neither of which is ever in memory as a whole."""

    textual = False

    def __init__(self, path: Path, x: Member, y: Member | None, wanted: Features | None) -> None:
        self.path, self._x, self._y = path, x, y
        self.features = Features(x.shape[1], ())
        if wanted is not None:
            check_count(path, x.shape[1], wanted, apart=y is not None)

    def blocks(self, extra: int = 0) -> Iterator[Block]:
        """The rows in order."""
        total, step = self._x.shape[0], rows_of_block(self.features.size + extra)
        start = 0
        with reading(self.path), contextlib.ExitStack() as stack:
            archive = stack.enter_context(zipfile.ZipFile(self.path))
            both = (
                self._parts(stack, archive, in_steps(total, step)),
                labels(archive, self._y, in_steps(total, step)),
            )
            for x, y in zip(*both, strict=True):
                block = numeric(x, f"{self.path}: array {shown(self._x.name)!r}")
                place = Place(self.path, start, range(self.features.size), COUNTED)
                check_finite(block, place)
                start += len(x)
                yield Block(block, y, place, start, total)

    def _parts(self, stack: contextlib.ExitStack, archive: zipfile.ZipFile, counts: Iterator[int]) -> Iterator[Array]:
        member, stream = member_stream(archive, self._x.name)
        if not member.by_columns or 1 in member.shape:
            yield from pieces(member, stream, counts)
            return
        # A row is spread over the whole stream: unpack it to where it can be mapped.
        file = stack.enter_context(tempfile.TemporaryFile())  # noqa: SIM115  the stack is a context manager
        shutil.copyfileobj(stream, file, 1 << 20)
        file.flush()
        array = np.memmap(file, member.dtype, "r", shape=member.shape, order="F")
        start = 0
        for count in counts:
            yield np.array(array[start : start + count], order="C")
            start += count


def labels(archive: zipfile.ZipFile, member: Member | None, counts: Iterator[int]) -> Iterator[Array | None]:
    """The labels of the next rows, or as many None."""
    if member is None:
        yield from (None for _ in counts)
        return
    _, stream = member_stream(archive, member.name)
    for part in pieces(member, stream, counts):
        yield array_labels(part, f"array {shown(member.name)!r}")
