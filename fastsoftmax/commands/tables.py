"""Tables of features and labels, read a block of rows at a time: what CSV, NPY and NPZ files have in common."""

import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from .mistakes import BadInput, existing_file, listed, shown

Array = NDArray[Any]
Matrix = Any  # an array (n, d), or a CSR matrix of scipy.sparse

BLOCK_BYTES = 8 << 20  # of features in a block: a small part of any memory, and thousands of rows of most files
MOST_ROWS = 65536
INTEGER = re.compile(r"0|-?[1-9][0-9]{0,17}")  # written as Python writes it, within 64 bits: "007" is another name
DIGITS = re.compile(r"[0-9]+")
FORMATS = (".csv", ".tsv", ".npy", ".npz")


class Features(NamedTuple):
    """The features that a model was trained on."""

    size: int
    names: tuple[str, ...]  # empty where the columns had none


class Place(NamedTuple):
    """How to say where something is, in a block of a file."""

    path: Path
    start: int  # number of the block's first row
    names: Sequence[object]  # of the features
    counted: str  # from where rows are counted

    def __call__(self, row: int, column: int | None = None) -> str:
        """The place of an element, or of a label."""
        where = "" if column is None else f", column {shown(self.names[column])!r}"
        return f"{self.path}: row {self.start + row}{where} ({self.counted})"


class Block(NamedTuple):
    """Some rows of a table."""

    x: Matrix  # float32 or float64, all finite
    labels: Array | None  # integers, booleans, or strings
    place: Place
    read: int  # bytes or rows so far, to show progress
    total: int


class Table(Protocol):
    """A file that is read a block of rows at a time."""

    path: Path
    features: Features
    textual: bool  # labels are text, integers too

    def blocks(self, extra: int = 0) -> Iterator[Block]:
        """The rows in order; `extra` numbers a row are kept beside the features while a block is at work."""
        ...


class Columns(NamedTuple):
    """Which columns of a file are the features, in the order of the model, and which one is the target."""

    features: list[int]
    target: int | None


def open_table(path: Path, target: str | None, wanted: Features | None = None) -> Table:
    """The table in a file.

    Parameters
    ----------
    path : Path
        A file that ends in .csv, .tsv, .npy or .npz.
    target : str or None
        What holds the labels: a column, or in NPZ an array. None: labels are not read.
    wanted : Features or None
        The features of a model; None: all columns but the target.

    Raises
    ------
    BadInput
        For a file that cannot be used, or that has not what was asked for.
    """
    from . import arrayfile, csvfile  # noqa: PLC0415  both import this module

    ending = path.suffix.lower()
    if ending not in FORMATS and not path.is_dir():
        raise BadInput(f"{path} does not end in one of {', '.join(FORMATS)}; convert the data to one of these")
    existing_file(path, "data")
    if ending == ".npy":
        return arrayfile.open_npy(path, target, wanted)
    if ending == ".npz":
        return arrayfile.open_npz(path, target, wanted)
    return csvfile.CsvTable(path, target, wanted)


def rows_of_block(width: int) -> int:
    """How many rows of `width` numbers make a block."""
    return max(1, min(MOST_ROWS, BLOCK_BYTES // (8 * max(width, 1))))


def choose_named(path: Path, names: Sequence[str], target: str | None, wanted: Features | None) -> Columns:
    """The columns of a file whose columns have names."""
    if target is not None and target not in names:
        raise BadInput(f"{path} has no column {shown(target)!r}; it has: {listed(names)}")
    label = None if target is None else names.index(target)
    if wanted is None:
        return Columns([i for i in range(len(names)) if i != label], label)
    if not wanted.names:
        return _choose_counted(path, len(names), label, wanted)
    missing = [name for name in wanted.names if name not in names]
    if missing:
        raise BadInput(f"{path} lacks columns that the model was trained on: {listed(missing)}; add them")
    where = {name: i for i, name in enumerate(names)}
    return Columns([where[name] for name in wanted.names], label)


def choose_numbered(path: Path, width: int, target: str | None, wanted: Features | None) -> Columns:
    """The columns of a file whose columns have numbers only."""
    label = None
    if target is not None:
        if not re.fullmatch(r"[+-]?[0-9]+", target) or not -width <= int(target) < width:
            raise BadInput(
                f"{path} has {width} columns without names, got the target {shown(target)!r}; "
                f"give the column's index, from {-width} to {width - 1}"
            )
        label = int(target) % width
    return _choose_counted(path, width, label, wanted)


def _choose_counted(path: Path, width: int, label: int | None, wanted: Features | None) -> Columns:
    features = [i for i in range(width) if i != label]
    if wanted is not None:
        check_count(path, len(features), wanted, apart=label is not None)
    return Columns(features, label)


def check_count(path: Path, found: int, wanted: Features, *, apart: bool) -> None:
    """Raise unless a file has as many features as the model."""
    if found == wanted.size:
        return
    hint = "" if apart or found != wanted.size + 1 else "; where one of them is the target, name it with --target"
    raise BadInput(
        f"{path} has {found} features{' besides the target' if apart else ''}, the model was trained on "
        f"{wanted.size}; give data with the same columns{hint}"
    )


def check_finite(x: Matrix, place: Place) -> None:
    """Raise for the first NaN or infinity of a block."""
    dense = isinstance(x, np.ndarray)
    good = np.isfinite(x if dense else x.data)
    if good.all():
        return
    if dense:
        row, column = map(int, np.argwhere(~good)[0])
        value = x[row, column]
    else:
        at = int(np.argmin(good))
        row, column = int(np.searchsorted(x.indptr, at, side="right")) - 1, int(x.indices[at])
        value = x.data[at]
    found = "a missing value or NaN" if np.isnan(value) else f"{value}"
    raise BadInput(f"{place(row, column)} holds {found}; fill it in, or remove the row")


def numeric(array: Array, what: str) -> Array:
    """An array of numbers as float32 or float64, without a copy where it is that already."""
    dtype = array.dtype.newbyteorder("=")
    if dtype.kind not in "biuf":
        raise BadInput(f"{what} has dtype {dtype}, which is not numeric; convert it to float32 or float64")
    if dtype == np.float16:
        return array.astype(np.float32)
    return array.astype(dtype if dtype in (np.float32, np.float64) else np.float64, copy=False)


def text_labels(texts: Array, what: str) -> Array:
    """Labels that were text in a file: int64 where all are integers, else the strings.

    >>> text_labels(np.array(["3", "-1"]), "y"), text_labels(np.array(["3", "b"]), "y")
    (array([ 3, -1]), array(['3', 'b'], dtype='<U1'))
    """
    different = [str(text) for text in np.unique(texts)]
    if all(INTEGER.fullmatch(text) for text in different):
        return texts.astype(np.int64)
    if all(_is_number(text) for text in different) and not all(DIGITS.fullmatch(text) for text in different):
        odd = next(text for text in different if not INTEGER.fullmatch(text))
        raise continuous(what, odd)
    return texts


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def continuous(what: str, value: object) -> BadInput:
    """The error for a target that is measured rather than classified."""
    return BadInput(
        f"{what} holds {shown(value)}, a number that is no class; a target must hold integers or strings: "
        "convert it, or name another one"
    )


def array_labels(array: Array, what: str, *, whole: bool) -> Array:
    """Labels that were an array; whole numbers of a floating dtype count where `whole` says so."""
    kind = array.dtype.kind
    if kind == "f" and whole:
        fraction = ~(np.isfinite(array) & (array == np.trunc(array)) & (np.abs(array) < 2.0**63))
        if fraction.any():
            raise continuous(what, array[np.argmax(fraction)])
        return array.astype(np.int64)
    if kind == "S":
        return np.char.decode(array, "utf-8", "replace")
    if kind not in "biuU":
        example = array[0] if kind == "f" and len(array) else f"values of dtype {array.dtype}"
        raise continuous(what, example)
    return array
