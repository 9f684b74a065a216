"""CSV files, read in chunks with pandas: cells by rules of our own, wherever the chunks end."""

import contextlib
import csv
import re
import warnings
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any, TextIO

import numpy as np

from .mistakes import BadInput, listed, one_line, shown, unusable
from .tables import INTEGER, NUMBER, Array, Block, Features, Place, check_finite, choose_named, rows_of_block

SEPARATORS = {".csv": ",;\t", ".tsv": "\t"}  # the first of them that the header holds
#: What says that a number is missing; in the target only an empty cell is missing, as "None" may be a class.
MISSING = {"", "na", "n/a", "null", "nan", "none", "<na>", "-nan", "#n/a"}
TRUTH = {"true": 1.0, "false": 0.0}
COUNTED = "the one below the header is row 1"
TOO_LONG = "more cells than the header has names; quote cells that hold the separator, and name all columns"
ENCODING = "utf-8-sig"  # UTF-8, with or without the mark that spreadsheets put first
FIRST_ROWS = 1024  # from which the length of a row is known
CHUNK_BYTES = 32 << 20  # of text in a chunk: rows may hold long texts beside a few features


class CsvTable:
    """A CSV file with a header: columns are found by name, all but the target are numbers."""

    textual = True

    def __init__(self, path: Path, target: str | None, wanted: Features | None) -> None:
        import pandas  # noqa: F401, PLC0415  an extra; what is missing is said before anything is read

        self.path = path
        with _opened(path) as text:
            self._header, self._width = text.header, text.width
        self._columns = choose_named(path, self._header, target, wanted)
        names = tuple(self._header[i] for i in self._columns.features)
        if wanted is None and "" in names:
            raise BadInput(
                f"{path}: column {1 + self._header.index('')} has no name in the header (pandas writes row numbers so, "
                "unless index=False is passed to to_csv); remove it, or give it a name"
            )
        self.features = Features(len(names), names)

    def blocks(self, extra: int = 0) -> Iterator[Block]:
        """The rows in order."""
        start, most = 0, rows_of_block(len(self._header) + extra)
        # As numbers, and from the first chunk in which a cell is none as text, in which that cell can be named.
        for as_text in (False, True):
            with _opened(self.path) as text, self._frames(text, as_text=as_text) as frames:
                try:
                    for frame in _chunks(frames, text, start, most):
                        read, total = text.progress()
                        yield self._block(frame, start, as_text=as_text)._replace(read=read, total=total)
                        start += len(frame)
                    return
                except ValueError:
                    if as_text:
                        raise

    def _frames(self, text: "_Text", *, as_text: bool) -> Any:
        """All columns, and one more for what rows have beyond the header."""
        import pandas as pd  # noqa: PLC0415  an extra

        kinds: dict[int, type] = dict.fromkeys(range(self._width), object)
        if not as_text:
            kinds |= dict.fromkeys(self._columns.features, float)
        return pd.read_csv(
            text,
            sep=text.separator,
            header=0,
            names=range(self._width),
            index_col=False,
            dtype=kinds,
            na_filter=False,
            skip_blank_lines=False,
            skipinitialspace=True,
            low_memory=False,
            iterator=True,
            engine="c",
        )

    def _block(self, frame: Any, start: int, *, as_text: bool) -> Block:
        place = Place(self.path, start + 1, self.features.names, COUNTED)
        surplus = (frame.iloc[:, len(self._header) :] != "").to_numpy().any(axis=1)
        if surplus.any():
            raise BadInput(f"{place(int(np.argmax(surplus)))} has {TOO_LONG}")
        chosen = frame[self._columns.features]
        if as_text:
            x = np.stack([_numbers(chosen.iloc[:, i], i, frame, place) for i in range(self.features.size)], axis=1)
        else:
            x = np.ascontiguousarray(chosen.to_numpy(np.float64))
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
            decimal = "write the decimal point as a point" if re.fullmatch(r"[+-]?\d+,\d+", text) else ""
            raise BadInput(
                f"{place(row, position)} holds {shown(cell)!r}, which is not a number; "
                + (decimal or "features must be numeric: encode the column, or remove it")
            )
    return numbers


def _chunks(frames: Any, text: "_Text", start: int, most: int) -> Iterator[Any]:
    """Some rows at a time, from a row on; how many depends on how long they are."""
    rows, done = min(FIRST_ROWS, most), 0
    with contextlib.suppress(StopIteration):
        while True:
            frame = frames.get_chunk(rows if done >= start else min(rows, start - done))
            done += len(frame)
            if done > start:
                yield frame
            rows = min(most, max(1, CHUNK_BYTES * done // text.progress()[0]))


class _Text:
    """The lines below a header, as pandas reads them."""

    def __init__(self, path: Path, file: TextIO) -> None:
        self._path, self._file = path, file
        names, self.separator = _header(path, file)
        #: Cells of a row at most: one more than in the header, as some programs end rows with a separator.
        self.width = len(names) + 1
        while names and not names[-1]:
            names.pop()
        self.header = names
        # pandas takes the number of columns from the first line.
        self._first, self._held = self.separator * (self.width - 1) + "\n", ""
        self._total = path.stat().st_size

    def progress(self) -> tuple[int, int]:
        """The bytes that were read, and those of the file."""
        return min(self._file.buffer.tell(), self._total), self._total

    def read(self, size: int = -1) -> str:
        """The next piece; empty lines at the end of a file of several columns are left out."""
        if self._first:
            first, self._first = self._first, ""
            return first
        pieces = [self._held]
        while piece := self._file.read(size):
            if "\0" in piece:
                raise BadInput(f"{self._path} holds NUL characters, as text in UTF-8 does not; save it as UTF-8")
            end = len(piece.rstrip("\r\n")) if len(self.header) > 1 else len(piece)
            if end:
                self._held = piece[end:]
                return "".join(pieces) + piece[:end]
            pieces.append(piece)
        return ""

    def __iter__(self) -> Iterator[str]:
        """The lines, which pandas never asks for: it takes for a file what has them."""
        return iter(self._file)


def _header(path: Path, file: TextIO) -> tuple[list[str], str]:
    """The names of the columns, each of them once, and the separator between them."""
    lines: list[str] = []
    known, names, separator = SEPARATORS[path.suffix.lower()], [], ""
    next(csv.reader(_noted(file, lines)), None)
    for separator in known:
        names = [name.strip() for name in next(csv.reader(lines, delimiter=separator, skipinitialspace=True), [])]
        if len(names) > 1:
            break
    else:
        separator = known[0]
    if not any(names):
        raise BadInput(f"{path} begins with an empty line; its first line must name the columns")
    twice = [name for name, count in Counter(filter(None, names)).items() if count > 1]
    if twice:
        raise BadInput(f"{path} has columns of the same name: {listed(map(repr, twice))}; give each its own name")
    if all(map(NUMBER.fullmatch, names)) and not all(map(INTEGER.fullmatch, names)):
        raise BadInput(f"{path} begins with numbers, {listed(names)}; its first line must name the columns")
    return names, separator


def _noted(file: TextIO, lines: list[str]) -> Iterator[str]:
    """The lines of a file, which are added to a list as they are read."""
    for line in file:
        lines.append(line)
        yield line


@contextlib.contextmanager
def _opened(path: Path) -> Iterator[_Text]:
    """The file below its header; whatever pandas, csv or the system say about it is one line."""
    from pandas.errors import ParserError, ParserWarning  # noqa: PLC0415  an extra

    try:
        with path.open(encoding=ENCODING, newline="") as file, warnings.catch_warnings():
            # Where the first row has two cells more than the header pandas warns, and drops them.
            warnings.simplefilter("error", ParserWarning)
            yield _Text(path, file)
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
        raise BadInput(f"{path} is not a table that pandas can read: {said} Mend that line") from None
