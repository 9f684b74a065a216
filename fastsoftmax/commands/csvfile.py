"""CSV files, read in chunks with pandas."""

import contextlib
import csv
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from .mistakes import BadInput, listed, one_line, shown, unusable
from .tables import Array, Block, Features, Place, check_finite, choose_named, rows_of_block

SEPARATORS = {".csv": ",", ".tsv": "\t"}
#: What stands for a missing number; in the target only an empty cell is missing, as "None" may be a class.
MISSING = ["", "NA", "N/A", "NULL", "NaN", "None", "nan", "null", "n/a", "<NA>", "-nan", "-NaN"]
COUNTED = "the one below the header is row 1"
ENCODING = "utf-8-sig"  # UTF-8, with or without the mark that spreadsheets put first


class CsvTable:
    """A CSV file with a header: columns are found by name, all but the target are numbers."""

    textual = True

    def __init__(self, path: Path, target: str | None, wanted: Features | None) -> None:
        import pandas  # noqa: F401, PLC0415  an extra; what is missing is said before anything is read

        self.path = path
        self._separator = SEPARATORS[path.suffix.lower()]
        self._header = _header(path, self._separator)
        self._columns = choose_named(path, self._header, target, wanted)
        names = tuple(self._header[i] for i in self._columns.features)
        self.features = Features(len(names), names)

    def blocks(self, extra: int = 0) -> Iterator[Block]:
        """The rows in order."""
        start = 0
        with _reading(self.path) as file, self._frames(file, rows_of_block(len(self._header) + extra)) as frames:
            total = self.path.stat().st_size
            for frame in filter(len, frames):
                yield self._block(frame, start)._replace(read=min(file.tell(), total), total=total)
                start += len(frame)

    def _frames(self, file: BinaryIO, rows: int) -> Any:
        """Every column, as pandas drops what a row has too much where it reads a part of them only."""
        import pandas as pd  # noqa: PLC0415  an extra

        label = self._columns.target
        return pd.read_csv(
            file,
            sep=self._separator,
            header=0,
            names=range(len(self._header)),
            index_col=False,
            chunksize=rows,
            low_memory=False,
            dtype=None if label is None else {label: str},
            keep_default_na=False,
            na_values={i: MISSING for i in range(len(self._header)) if i != label},
            encoding=ENCODING,
        )

    def _block(self, frame: Any, start: int) -> Block:
        names = self.features.names
        place = Place(self.path, start + 1, names, COUNTED)
        chosen = frame[self._columns.features]
        for position, kind in enumerate(chosen.dtypes):
            if kind.kind not in "biuf":
                raise _not_a_number(chosen.iloc[:, position], position, place)
        x = np.ascontiguousarray(chosen.to_numpy(np.float64))
        check_finite(x, place)
        return Block(x, self._labels(frame, place), place, 0, 0)

    def _labels(self, frame: Any, place: Place) -> Array | None:
        label = self._columns.target
        if label is None:
            return None
        texts = np.char.strip(frame[label].to_numpy().astype(str))
        if len(texts) and (texts == "").any():
            row = int(np.argmax(texts == ""))
            name = shown(self._header[label])
            raise BadInput(f"{place(row)} has no class in column {name!r}; fill it in, or remove the row")
        return texts


def _not_a_number(column: Any, position: int, place: Place) -> BadInput:
    """The error for the first cell of a column that is neither a number nor missing."""
    import pandas as pd  # noqa: PLC0415  an extra

    bad = (pd.to_numeric(column, errors="coerce").isna() & column.notna()).to_numpy()
    row = int(np.argmax(bad))
    return BadInput(
        f"{place(row, position)} holds {shown(column.iloc[row])!r}, which is not a number; "
        "features must be numeric: encode the column, or remove it"
    )


def _header(path: Path, separator: str) -> list[str]:
    """The names of the columns, each of them once."""
    with _reading(path), path.open(encoding=ENCODING, newline="") as file:
        names = [name.strip() for name in next(csv.reader(file, delimiter=separator), [])]
    if not any(names):
        raise BadInput(f"{path} begins with an empty line; its first line must name the columns")
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise BadInput(f"{path} has columns of the same name: {listed(map(repr, twice))}; give each its own name")
    return names


@contextlib.contextmanager
def _reading(path: Path) -> Iterator[BinaryIO]:
    """The file, opened; whatever pandas, csv or the system say about it is one line."""
    from pandas.errors import EmptyDataError, ParserError, ParserWarning  # noqa: PLC0415  an extra

    try:
        with path.open("rb") as file, warnings.catch_warnings():
            # Where the first row has more cells than the header pandas warns, and drops them.
            warnings.simplefilter("error", ParserWarning)
            yield file
    except UnicodeDecodeError as error:
        raise BadInput(f"{path} is not text in UTF-8 ({error.reason}); save it as UTF-8") from None
    except OSError as error:
        raise unusable(path, error) from None
    except (csv.Error, EmptyDataError, ParserError, ParserWarning) as error:
        said = one_line(" ".join(str(error).split()))
        raise BadInput(f"{path} is not a table that pandas can read: {said} Mend that line") from None
