"""Results in files: written a block at a time beside their place, and moved there when they are complete."""

import contextlib
import csv
import io
import json
import math
import os
import shutil
import signal
import sys
import tempfile
import threading
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from types import FrameType
from typing import IO, Any, BinaryIO, Protocol

import numpy as np

from .errors import BadInput, unusable
from .files.table import Array


@contextlib.contextmanager
def replacing(path: Path) -> Iterator[BinaryIO]:
    """A file that takes the place of `path` when the block is left without an error, and vanishes otherwise."""
    final = Path(os.path.realpath(path))  # a link stays a link
    try:
        file = _beside(final)
    except OSError as error:
        raise unusable(path, error) from None
    try:
        with file, _removed_when_killed(file.name):
            yield file
            file.flush()
            _set_mode(file, final)
        os.replace(file.name, final)
    except OSError as error:
        raise unusable(path, error) from None
    finally:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(file.name)


@contextlib.contextmanager
def _removed_when_killed(name: str) -> Iterator[None]:
    """Remove a file before a signal that asks the process to end does end it."""

    def end(number: int, frame: FrameType | None) -> None:
        with contextlib.suppress(OSError):
            os.unlink(name)
        signal.signal(number, signal.SIG_DFL)
        signal.raise_signal(number)

    asked = [getattr(signal, signal_name) for signal_name in ("SIGTERM", "SIGHUP") if hasattr(signal, signal_name)]
    # What somebody else answers is left alone, and only the main thread may answer.
    if threading.current_thread() is not threading.main_thread():
        asked = []
    ours = [number for number in asked if signal.getsignal(number) is signal.SIG_DFL]
    for number in ours:
        signal.signal(number, end)
    try:
        yield
    finally:
        for number in ours:
            signal.signal(number, signal.SIG_DFL)


def strict_json(facts: Any) -> str:
    r"""Facts as JSON, which has no infinity and no NaN: they become strings.

    >>> strict_json({"C": float("inf")})
    '{\n  "C": "inf"\n}'
    """
    return json.dumps(_finite(facts), indent=2, allow_nan=False)


def _finite(facts: Any) -> Any:
    if isinstance(facts, dict):
        return {name: _finite(fact) for name, fact in facts.items()}
    if isinstance(facts, list):
        return [_finite(fact) for fact in facts]
    return str(facts) if isinstance(facts, float) and not math.isfinite(facts) else facts


def _beside(final: Path) -> Any:
    return tempfile.NamedTemporaryFile("w+b", dir=final.parent, prefix=f".{final.name}.", suffix=".part", delete=False)


def _set_mode(file: BinaryIO, final: Path) -> None:
    """The permissions of the file that is replaced, or of a new one; a temporary file is for its owner only."""
    if not hasattr(os, "fchmod"):
        return
    mask = os.umask(0)
    os.umask(mask)
    os.fchmod(file.fileno(), final.stat().st_mode & 0o777 if final.exists() else 0o666 & ~mask)


def check_place(path: Path, endings: tuple[str, ...], what: str, *inputs: Path) -> None:
    """Raise where a file cannot be written, before anything is computed."""
    if path.suffix.lower() not in endings:
        raise BadInput(f"{path} does not end in {' or '.join(endings)}; name the {what} so")
    if not path.parent.is_dir():
        raise BadInput(f"{path.parent} is no folder; make it first, or write the {what} elsewhere")
    if path.exists() and not path.is_file():
        raise BadInput(f"{path} is no regular file; name another one for the {what}")
    if any(path.exists() and path.samefile(source) for source in inputs if source.exists()):
        raise BadInput(f"{path} is an input as well; name another file for the {what}")
    try:
        with tempfile.TemporaryFile(dir=path.parent):
            pass
    except OSError as error:
        raise unusable(path, error) from None


class Sink(Protocol):
    """A destination of blocks of predictions."""

    def write(self, block: Array) -> None:
        """Add some rows: classes of shape (rows,), or probabilities of shape (rows, classes)."""
        ...


class CsvSink:
    """Predictions as text, a line for each row below a header."""

    def __init__(self, put: Callable[[str], object], header: list[str]) -> None:
        self._put = put
        self._lines([header])

    def write(self, block: Array) -> None:
        """Add some rows."""
        # As strings, since a float32 is shorter than the float64 that tolist() makes of it.
        text = block.astype(str)
        self._lines((text[:, None] if text.ndim == 1 else text).tolist())

    def _lines(self, rows: list[list[str]]) -> None:
        lines = io.StringIO()
        csv.writer(lines, lineterminator="\n").writerows(rows)
        self._put(lines.getvalue())


class NpySink:
    """Predictions as an array whose length is known at the end only."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file, self._rows, self._like = file, 0, np.empty(0)

    def write(self, block: Array) -> None:
        """Add some rows."""
        if not self._rows:
            self._like = block[:0]
            self._header()
        self._rows += len(block)
        self._file.write(np.ascontiguousarray(block).tobytes())

    def close(self) -> None:
        """Write the header once more: NumPy leaves room in it for an array that grows."""
        self._file.seek(0)
        self._header()

    def _header(self) -> None:
        shape = (self._rows, *self._like.shape[1:])
        head = {"descr": np.lib.format.dtype_to_descr(self._like.dtype), "fortran_order": False, "shape": shape}
        np.lib.format.write_array_header_1_0(self._file, head)


@contextlib.contextmanager
def _packed(file: IO[bytes], name: str, classes: Array) -> Iterator[Sink]:
    """Predictions and the classes as NPZ; they wait in a temporary file, as a header that is packed stays as it is."""
    with tempfile.TemporaryFile() as room:
        rows = NpySink(room)
        yield rows
        rows.close()
        room.seek(0)
        with zipfile.ZipFile(file, "w") as archive:
            with archive.open(f"{name}.npy", "w", force_zip64=True) as member:
                shutil.copyfileobj(room, member, 1 << 20)
            with archive.open("classes.npy", "w") as member:
                np.lib.format.write_array(member, classes, allow_pickle=False)


@contextlib.contextmanager
def sink(path: Path | None, header: list[str], classes: Array) -> Iterator[Sink]:
    """The destination of predictions: standard output, or a file by its ending."""
    if path is None:
        yield CsvSink(sys.stdout.write, header)
        return
    ending = path.suffix.lower()
    with replacing(path) as file:
        if ending == ".csv":
            yield CsvSink(lambda text: file.write(text.encode()), header)
        elif ending == ".npy":
            rows = NpySink(file)
            yield rows
            rows.close()
        else:
            with _packed(file, "prediction" if header == ["prediction"] else "proba", classes) as packed:
                yield packed
