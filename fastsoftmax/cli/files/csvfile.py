"""CSV files, read in chunks with pandas: cells by rules of our own, wherever the chunks end."""

import contextlib
import csv
import re
import sys
import warnings
from codecs import BOM_UTF8
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple, TextIO

import numpy as np

from ..errors import BadInput, listed, one_line, shown, unusable
from . import table
from .table import INTEGER, NUMBER, Array, Block, Features, Place, check_finite, choose_named, rows_of_block

SEPARATORS = {".csv": ",;\t", ".tsv": "\t"}  # the first of them that the header holds
#: What says that a number is missing; in the target only an empty cell is missing, as "None" may be a class.
MISSING = {"", "na", "n/a", "null", "nan", "none", "<na>", "-nan", "#n/a"}
TRUTH = {"true": 1.0, "false": 0.0}
COUNTED = "the one below the header is row 1"
TOO_LONG = "more cells than the header has names; quote cells that hold the separator, and name all columns"
ENCODING = "utf-8-sig"  # UTF-8, with or without the mark that spreadsheets put first
FIRST_ROWS = 1024  # from which the length of a row is known
WIDE = 1000  # columns from which what pandas does for each, 0.1 ms in every chunk, is worth a longer one
CHUNK_BYTES = 32 << 20  # of text in a chunk: rows may hold long texts beside a few features


class _Mode(NamedTuple):
    """The mode in which pandas reads."""

    blanks: bool  # those before a cell are skipped, which takes half as long again: for files with some before quotes
    as_text: bool  # features too


DIRECT = _Mode(blanks=False, as_text=False)


class _BlankBeforeQuoteError(Exception):
    """A blank before a quote, which has to be skipped for the quote to be one."""


class _NoNumberError(Exception):
    """A column that is none of numbers, to pandas."""


class CsvTable:
    """A CSV file with a header: columns are found by name, all but the target are numbers."""

    textual = True

    def __init__(self, path: Path, target: str | None, wanted: Features | None) -> None:
        import pandas  # noqa: F401, PLC0415  an extra; what is missing is said before anything is read

        self.path = path
        with _opened(path) as below:
            self._header, self._width = below.header, below.width
        self._columns = choose_named(path, self._header, target, wanted)
        names = tuple(self._header[i] for i in self._columns.features)
        self.features = Features(len(names), names)
        if wanted is None and "" in self._header:
            left_out = f"{path}: column {1 + self._header.index('')} has no name in the header, and is left out"
            print(
                one_line(f"{left_out} (row numbers? pandas writes them unless index=False is given)"), file=sys.stderr
            )

    def blocks(self, extra: int = 0) -> Iterator[Block]:
        """The rows in order."""
        start, most = 0, rows_of_block(len(self._header) + extra)
        if len(self._header) > WIDE:
            most = min(table.MOST_ROWS, 8 * most)
        # Read as numbers, until a cell is none: from there on as text, in which that cell can be named.
        mode = DIRECT
        while True:
            try:
                with _opened(self.path, mode) as below, self._frames(below, mode) as frames:
                    for frame in _chunks(frames, below, start, most):
                        read, total = below.progress()
                        yield self._block(frame, start, mode)._replace(read=read, total=total)
                        start += len(frame)
                return
            except _BlankBeforeQuoteError:
                mode = mode._replace(blanks=True)
            except _NoNumberError:
                mode = mode._replace(as_text=True)

    def _frames(self, below: "_Below", mode: _Mode) -> Any:
        """All columns, and one more for what rows have beyond the header."""
        import pandas as pd  # noqa: PLC0415  an extra

        # Numbers are found by pandas, in less time than they are asked for: whatever it finds, they are the nearest
        # float64s at last, as cells read as text are.
        numeric = () if mode.as_text else {*range(len(self._header))} - {self._columns.target}
        kinds = {column: object for column in range(self._width) if column not in numeric}
        # The nearest float64 is what pandas makes of a cell by default from 3.1 on, where it warns of being asked to.
        older = tuple(map(int, pd.__version__.split(".")[:2])) < (3, 1)
        return pd.read_csv(
            below,
            sep=below.separator,
            header=0,
            names=range(self._width),
            index_col=False,
            dtype=kinds,
            na_filter=False,
            skip_blank_lines=False,
            skipinitialspace=mode.blanks,
            low_memory=False,
            float_precision="round_trip" if older else None,
            iterator=True,
            engine="c",
        )

    def _block(self, frame: Any, start: int, mode: _Mode) -> Block:
        place = Place(self.path, start + 1, self.features.names, COUNTED)
        for column in range(len(self._header), self._width):
            surplus = frame[column].tolist()
            if any(surplus) and any(filled := [bool(cell.strip()) for cell in surplus]):
                raise BadInput(f"{place(filled.index(True))} has {TOO_LONG}")
        columns = [frame[i].to_numpy() for i in self._columns.features]
        if mode.as_text:
            columns = [_numbers(column, i, frame, place) for i, column in enumerate(columns)]
        elif any(column.dtype.kind not in "biuf" for column in columns):
            raise _NoNumberError
        x = np.stack(columns, axis=1, dtype=np.float64, casting="unsafe")
        check_finite(x, place)
        return Block(x, self._labels(frame, place), place, 0, 0)

    def _labels(self, frame: Any, place: Place) -> list[str] | None:
        label = self._columns.target
        if label is None:
            return None
        texts = [text.strip() for text in frame[label]]
        if "" in texts:
            name = shown(self._header[label])
            raise BadInput(f"{place(texts.index(''))} has no class in column {name!r}; fill it in, or remove the row")
        return texts


def _numbers(column: Any, position: int, frame: Any, place: Place) -> Array:
    """The numbers in a column of text."""
    numbers = np.empty(len(column))
    for row, cell in enumerate(column):
        text = cell.strip(" \t\v\f\r\n")
        if NUMBER.fullmatch(text):
            numbers[row] = float(text)
        elif text.lower() in TRUTH:
            numbers[row] = TRUTH[text.lower()]
        elif not any(frame.iloc[row]):
            raise BadInput(f"{place(row)} is an empty line; remove it, or fill it in")
        elif text.lower() in MISSING:
            raise BadInput(f"{place(row, position)} holds a missing value or NaN; fill it in, or remove the row")
        else:
            decimal = (
                "write numbers with a decimal point and no commas"
                if re.fullmatch(r"[+-]?\d+(,\d+)+(\.\d*)?", text)
                else ""
            )
            raise BadInput(
                f"{place(row, position)} holds {shown(cell)!r}, which is not a number; "
                + (decimal or "features must be numeric: encode the column, or remove it")
            )
    return numbers


def _chunks(frames: Any, below: "_Below", start: int, most: int) -> Iterator[Any]:
    """Some rows at a time, from a row on; how many depends on how long they are."""
    rows, done = min(FIRST_ROWS, most), 0
    with contextlib.suppress(StopIteration):
        while True:
            frame = frames.get_chunk(rows if done >= start else min(rows, start - done))
            done += len(frame)
            if done > start:
                yield frame
            rows = min(most, max(1, CHUNK_BYTES * done // below.progress()[0]))


class _Below:
    """A file below its header, as pandas reads it."""

    def __init__(self, path: Path, file: BinaryIO, mode: _Mode) -> None:
        self._path, self._file, self._mode = path, file, mode
        names, self.separator, start = _header(path)
        file.seek(start)
        #: Cells of a row at most: one more than in the header, as some programs end rows with a separator.
        self.width = len(names) + 1
        while names and not names[-1]:
            names.pop()
        self.header = names
        # pandas takes the number of columns from the first line.
        self._first, self._held = self.separator.encode() * (self.width - 1) + b"\n", b""
        self._last = b""
        self._total = path.stat().st_size

    def progress(self) -> tuple[int, int]:
        """The bytes that were read, and those of the file."""
        return min(self._file.tell(), self._total), self._total

    def read(self, size: int = -1) -> bytes:
        """The next piece; empty lines at the end of a file of several columns are left out."""
        if self._first:
            first, self._first = self._first, b""
            return first
        pieces = [self._held]
        while piece := self._file.read(size):
            if b"\0" in piece:
                raise BadInput(f"{self._path} holds NUL characters, as text in UTF-8 does not; save it as UTF-8")
            if not self._mode.blanks and b' "' in self._last + piece:
                raise _BlankBeforeQuoteError
            self._last = piece[-1:]
            end = len(piece.rstrip(b"\r\n")) if len(self.header) > 1 else len(piece)
            if end:
                self._held = piece[end:]
                return b"".join([*pieces, piece[:end]])
            pieces.append(piece)
        return b""

    def __iter__(self) -> Iterator[bytes]:
        """The lines, which pandas never asks for: it takes for a file what has them."""
        return iter(self._file)


def _header(path: Path) -> tuple[list[str], str, int]:
    """The names of the columns, each of them once, the separator between them, and how many bytes they take."""
    lines: list[str] = []
    names: list[str] = []
    with path.open(encoding=ENCODING, newline="") as file:
        next(csv.reader(_noted(file, lines)), None)
    for separator in SEPARATORS[path.suffix.lower()]:
        parsed = [name.strip() for name in next(csv.reader(lines, delimiter=separator, skipinitialspace=True), [])]
        if len(parsed) > len(names):
            names, chosen = parsed, separator
        if len(names) > 1:
            break
    if not any(names):
        raise BadInput(f"{path} begins with an empty line; its first line must name the columns")
    twice = [name for name, count in Counter(filter(None, names)).items() if count > 1]
    if twice:
        raise BadInput(f"{path} has columns of the same name: {listed(map(repr, twice))}; give each its own name")
    if all(map(NUMBER.fullmatch, names)) and not all(map(INTEGER.fullmatch, names)):
        raise BadInput(f"{path} begins with numbers, {listed(names)}; its first line must name the columns")
    with path.open("rb") as raw:
        mark = len(BOM_UTF8) * raw.read(len(BOM_UTF8)).startswith(BOM_UTF8)
    return names, chosen, mark + len("".join(lines).encode())


def _noted(file: TextIO, lines: list[str]) -> Iterator[str]:
    """The lines of a file, which are added to a list as they are read."""
    for line in file:
        lines.append(line)
        yield line


@contextlib.contextmanager
def _opened(path: Path, mode: _Mode = DIRECT) -> Iterator[_Below]:
    """The file below its header; whatever pandas, csv or the system say about it is one line."""
    from pandas.errors import ParserError, ParserWarning  # noqa: PLC0415  an extra

    try:
        with path.open("rb") as file, warnings.catch_warnings():
            # Where the first row has two cells more than the header pandas warns, and drops them.
            warnings.simplefilter("error", ParserWarning)
            yield _Below(path, file, mode)
    except UnicodeDecodeError as error:
        raise BadInput(f"{path} is not text in UTF-8 ({error.reason}); save it as UTF-8") from None
    except OSError as error:
        raise unusable(path, error) from None
    except (csv.Error, ParserError, ParserWarning) as error:
        said = one_line(" ".join(str(error).split()))
        long = re.search(r"in line (\d+), saw (\d+)", said)
        if long or isinstance(error, ParserWarning):
            where = f"line {long[1]} has {long[2]} cells," if long else "row 1 has"
            raise BadInput(f"{path}: {where} {TOO_LONG}") from None
        raise BadInput(f"{path} is not a table that pandas can read: {said.rstrip('.')}; mend that line") from None
