"""Tables of features and labels, read a block of rows at a time: what CSV, NPY and NPZ files have in common."""

import re
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from ..errors import BadInput, listed, shown

Array = NDArray[Any]
Matrix = Any  # an array (n, d), or a CSR matrix of scipy.sparse

BLOCK_BYTES = 8 << 20  # of features in a block: a small part of any memory, and thousands of rows of most files
MOST_ROWS = 65536
TEXT_BYTES = 256 << 20  # of names in an array, in which each is as long as the longest
INTEGER = re.compile(r"0|-?[1-9][0-9]{0,18}")  # written as Python writes it: "007" is another name
NUMBER = re.compile(r"[+-]?(?:(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:e[+-]?[0-9]+)?|inf(?:inity)?)", re.IGNORECASE)
WHOLE = re.compile(r"([+-]?)(0|[1-9][0-9]*)(?:\.0*)?")
DIGITS = re.compile(r"[0-9]+")


class Features(NamedTuple):
    """The features that a model was trained on."""

    size: int
    names: tuple[str, ...]  # empty where the columns had none


class Place(NamedTuple):
    """The words for a place in a block of a file."""

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
    labels: Array | list[str] | None  # integers, booleans, or strings
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
    """The columns of a file that are features, in the order of the model, and the one that is the target."""

    features: list[int]
    target: int | None


def rows_of_block(width: int) -> int:
    """The number of rows of `width` numbers in a block."""
    return max(1, min(MOST_ROWS, BLOCK_BYTES // (8 * max(width, 1))))


def choose_named(path: Path, names: Sequence[str], target: str | None, wanted: Features | None) -> Columns:
    """The columns of a file whose columns have names."""
    where = {name: i for i, name in enumerate(names)}
    if target is not None and target not in where:
        raise BadInput(f"{path} has no column {shown(target)!r}; it has: {listed(names)}")
    label = None if target is None else where[target]
    if wanted is None or not wanted.names:  # a column without a name is none that a model can ask for
        return _choose_counted(path, [i for i, name in enumerate(names) if name], label, wanted)
    if target in wanted.names:
        raise BadInput(
            f"column {shown(target)!r} is a feature of the model, so it does not hold the classes; "
            "name the column that does with --target, or leave --target out"
        )
    missing = [name for name in wanted.names if name not in where]
    if missing:
        raise BadInput(f"{path} lacks columns that the model was trained on: {listed(missing)}; add them")
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
    return _choose_counted(path, range(width), label, wanted)


def _choose_counted(path: Path, columns: Iterable[int], label: int | None, wanted: Features | None) -> Columns:
    features = [i for i in columns if i != label]
    if wanted is not None:
        check_count(path, len(features), wanted, apart=label is not None)
    return Columns(features, label)


def check_count(path: Path, count: int, wanted: Features, *, apart: bool) -> None:
    """Raise unless a file has as many features as the model."""
    if count == wanted.size:
        return
    hint = "" if apart or count != wanted.size + 1 else "; where one of them is the target, name it with --target"
    raise BadInput(
        f"{path} has {count} features{' besides the target' if apart else ''}, the model was trained on "
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
    fault = "a missing value or NaN" if np.isnan(value) else f"{value}"
    raise BadInput(f"{place(row, column)} holds {fault}; fill it in, or remove the row")


def numeric(array: Array, what: str) -> Array:
    """An array of numbers as float32 or float64, without a copy where it is that already."""
    dtype = array.dtype.newbyteorder("=")
    if dtype.kind not in "biuf":
        raise BadInput(f"{what} has dtype {dtype}, which is not numeric; convert it to float32 or float64")
    if dtype == np.float16:
        return array.astype(np.float32)
    return array.astype(dtype if dtype in (np.float32, np.float64) else np.float64, copy=False)


def coded(labels: Array | list[str]) -> tuple[list[Any], Array]:
    """The different labels, and where among them that of each row is.

    >>> coded(["b", "a", "b"])
    (['b', 'a'], array([0, 1, 0]))
    """
    if isinstance(labels, np.ndarray):
        different, codes = np.unique(labels, return_inverse=True)
        return different.tolist(), codes
    place: dict[str, int] = {}  # one long text among many rows would make each of an array as long
    codes = np.fromiter((place.setdefault(text, len(place)) for text in labels), np.int64, len(labels))
    return list(place), codes


def text_array(texts: Sequence[str], what: str) -> Array:
    """An array of strings, unless it takes too much memory."""
    longest = max(map(len, texts), default=0)
    if 4 * longest * len(texts) > TEXT_BYTES:
        raise BadInput(
            f"{what} has {len(texts)} different names, one of them {longest} characters long, which is too much for "
            "a model; is it the right column? Shorten the names otherwise"
        )
    return np.array(texts, dtype=str)


def text_classes(texts: list[str], what: str) -> list[int] | list[str]:
    """The classes that texts in a file stand for: integers where all are, else the texts as they are written.

    >>> text_classes(["3", "-1"], "y"), text_classes(["3", "b"], "y"), text_classes(["1.0", "2.0"], "y")
    ([3, -1], ['3', 'b'], ['1.0', '2.0'])
    """
    if all(INTEGER.fullmatch(text) and -(2**63) <= int(text) < 2**63 for text in texts):
        return [int(text) for text in texts]
    if all(NUMBER.fullmatch(text) or text.lower() == "nan" for text in texts) and not all(map(DIGITS.fullmatch, texts)):
        odd = next((text for text in texts if not float(text).is_integer()), None)
        if odd is not None:
            raise continuous(what, odd)
        written: dict[str, str] = {}
        for text in texts:
            other = written.setdefault(plain(text), text)
            if other != text:
                raise BadInput(f"{what} writes one class as {shown(other)} and as {shown(text)}; write it in one way")
    return texts


def is_text(array: Array) -> bool:
    """Whether all characters of an array of strings exist; other arrays have none."""
    if array.dtype.kind != "U" or not array.dtype.itemsize:
        return True
    points = np.ascontiguousarray(array).view(np.dtype(np.uint32).newbyteorder(array.dtype.byteorder))
    return bool(((points < 0xD800) | ((points >= 0xE000) & (points <= 0x10FFFF))).all())


def plain(text: str) -> str:
    """A whole number as Python writes it, and any other text as it is.

    >>> plain("+1.0"), plain("1.5"), plain("01")
    ('1', '1.5', '01')
    """
    whole = WHOLE.fullmatch(text)
    if not whole:
        return text
    sign, digits = whole.groups()
    return ("-" if sign == "-" and digits != "0" else "") + digits


def continuous(what: str, value: object) -> BadInput:
    """The error for a target that is measured rather than classified."""
    return BadInput(
        f"{what} holds {shown(value)}, a number that is no class; a target must hold integers or strings: "
        "convert it, or name another one"
    )


def array_labels(array: Array, what: str) -> Array:
    """Labels that were an array; whole numbers of a floating dtype become integers."""
    kind = array.dtype.kind
    if kind == "f":
        fraction = ~(np.isfinite(array) & (array == np.trunc(array)) & (np.abs(array) < np.float64(2**63)))
        if fraction.any():
            raise continuous(what, array[np.argmax(fraction)])
        return array.astype(np.int64)
    if kind == "S":
        try:
            return np.char.decode(array, "utf-8")
        except UnicodeDecodeError:  # characters put in their place would make one class of several
            raise BadInput(f"{what} holds bytes that are not text in UTF-8; write it again as strings") from None
    if not is_text(array):
        raise BadInput(f"{what} holds characters that do not exist; it is damaged, write it again")
    if kind not in "biuU":
        raise continuous(what, f"values of dtype {array.dtype}")
    return array
