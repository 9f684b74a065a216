"""Compiled kernels on disk, so that a process need not compile what another one has.

A file is machine code, and whoever can write it can run code as the user: kernels are read only from folders and files
that nobody but this user and root may write, and ours are made with mode 0700.  Each file begins with a hash of all
that follows: what the kernel is for, in words, and the kernel.  One that was damaged, cut off, renamed or made for
something else counts as missing, is compiled anew and replaced.  Nothing is unpickled.

``NUMBA_CACHE_DIR`` says where they lie, or else they lie in ``fastsoftmax`` in the user's folder for caches:
``~/.cache`` (``$XDG_CACHE_HOME`` is heeded), ``~/Library/Caches`` on macOS.  Each version has its own folder there.
Whoever keeps a kernel removes those that nobody has used for 90 days, and the least recently used above 256 MB: some
6000 are kept.  To clear the cache, remove the folder; ``FASTSOFTMAX_CACHE=0`` switches it off.
"""

import contextlib
import hashlib
import json
import os
import stat
import sys
import tempfile
import time
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ..version import __version__

OFF = {"", "0", "false", "no", "off"}
CPU, CUDA = "cpu", "cuda"  # kinds of kernels, each with a folder of its own
MARK = 64  # hexadecimal digits of a hash
USERS = {"win32": "AppData/Local", "darwin": "Library/Caches"}  # folders for caches in a home; others have .cache
DAY = 24 * 3600
UNUSED, ROOM = 90 * DAY, 256 << 20  # seconds without a use, and bytes in all, above which kernels are removed

_said: set[str] = set()
_tidied: set[Path] = set()


def enabled() -> bool:
    """False where FASTSOFTMAX_CACHE switches the store off."""
    return os.environ.get("FASTSOFTMAX_CACHE", "1").strip().lower() not in OFF


def _safe(status: os.stat_result) -> bool:
    """Whether nobody but this user and root may write what has this status."""
    if not hasattr(os, "geteuid"):
        return True
    return status.st_uid in {os.geteuid(), 0} and not status.st_mode & (stat.S_IWGRP | stat.S_IWOTH)


def _holds_safely(folder: Path) -> bool:
    """Whether nobody else can put something in the place of what lies in a folder, if there is one."""
    try:
        status = folder.stat()
    except OSError:
        return True
    return _safe(status) or bool(status.st_mode & stat.S_ISVTX and status.st_uid == 0)


def _warn(text: str) -> None:
    """Say something once."""
    if text not in _said:
        _said.add(text)
        warnings.warn(text, stacklevel=3)


def _refuse(folder: Path, why: str) -> None:
    """Say why there is no cache in a folder."""
    _warn(f"fastsoftmax keeps no compiled kernels in {folder}, and every process compiles its own: {why}")


def _unsafe(folder: Path) -> None:
    _refuse(
        folder,
        "another user owns or may write that folder, and what lies there could be anybody's code; make it yours alone "
        "(chmod go-w), name another in NUMBA_CACHE_DIR, or set FASTSOFTMAX_CACHE=0",
    )


def _nowhere() -> None:
    """Say that no folder can be written, unless it has been said why one is refused."""
    if enabled() and not _said:
        _warn(
            "fastsoftmax can write no folder to keep compiled kernels in, and every process compiles its own for "
            "seconds: name a folder that can be written in NUMBA_CACHE_DIR, or set FASTSOFTMAX_CACHE=0"
        )


def _made(folder: Path) -> bool:
    """Whether there is a folder, made with those above it where there was none."""
    try:
        if not os.path.isdir(folder.parent):
            _made(folder.parent)
        folder.mkdir(mode=0o700, exist_ok=True)
    except OSError:
        return os.path.isdir(folder)
    return True


def _root() -> tuple[Path, str] | None:
    """The folder of the folders of kernels, and how their names begin; None if kernels are kept nowhere."""
    if not enabled():
        return None
    if given := os.environ.get("NUMBA_CACHE_DIR"):
        folder = Path(given)
        if not folder.is_absolute():
            _refuse(folder, "NUMBA_CACHE_DIR must be an absolute path, as it would be another in each directory")
        elif not _holds_safely(folder):
            _unsafe(folder)
        else:
            return folder, "fastsoftmax-"
        return None
    user = Path(os.environ.get("XDG_CACHE_HOME") or ".")
    if not user.is_absolute():
        try:
            user = Path.home() / USERS.get(sys.platform, ".cache")
        except RuntimeError:  # no home
            return None
    return (user / "fastsoftmax", "") if user.is_absolute() else None


def _place(kind: str) -> Path | None:
    """The folder that kernels of a kind may be read from: not below the current directory, and nobody else's."""
    root = _root()
    if root is None:
        return None
    folder = root[0] / f"{root[1]}{__version__}-{kind}"
    if not _made(folder):
        return None
    if not _safe(folder.stat()):
        _unsafe(folder)
        return None
    return folder


def folder(kind: str) -> Path | None:
    """The folder of kernels of a kind; None if they are not kept."""
    place = _place(kind)
    return place if place and os.access(place, os.W_OK) else None


def _file(about: str) -> str:
    return f"{hashlib.sha256(about.encode()).hexdigest()}.kernel"


def _packed(about: str, fields: dict[str, Any], code: bytes) -> bytes:
    body = json.dumps({"about": about, **fields}).encode() + b"\n" + code
    return hashlib.sha256(body).hexdigest().encode() + body


def _unpacked(about: str, content: bytes) -> tuple[dict[str, Any], bytes] | None:
    """The fields and the code of a file; None if it is not what it was written as."""
    mark, body = content[:MARK], content[MARK:]
    if hashlib.sha256(body).hexdigest().encode() != mark:
        return None
    head, _, code = body.partition(b"\n")
    fields: dict[str, Any] = json.loads(head)
    return (fields, code) if fields.pop("about") == about else None


def load(kind: str, about: str) -> tuple[dict[str, Any], bytes] | None:
    """The fields and the code of a kernel; None if there is none.  `about` is all that makes it another than others."""
    place = _place(kind)
    if place is None:
        return None
    with contextlib.suppress(OSError), (place / _file(about)).open("rb") as file:
        status = os.fstat(file.fileno())
        found = _unpacked(about, file.read()) if _safe(status) else None
        if found and time.time() - status.st_mtime > DAY:
            with contextlib.suppress(OSError):
                os.utime(file.name)  # it is in use, which _tidy looks at; not each time, as that is a write
        return found
    return None


def keep(kind: str, about: str, fields: dict[str, Any], code: bytes) -> None:
    """Write a kernel: all of it or nothing, whoever else writes there; nothing where that cannot be done."""
    content = _packed(about, fields, code)
    place = _place(kind)
    if place is not None:
        with contextlib.suppress(OSError):
            number, name = tempfile.mkstemp(dir=place, suffix=".kernel")
            try:
                with os.fdopen(number, "wb") as file:
                    file.write(content)
                os.replace(name, place / _file(about))
            except OSError:
                os.unlink(name)
                raise
            _tidy()
            return
    if folder(kind) is None:
        _nowhere()


def _kernels(place: Path) -> Iterator[tuple[Path, os.stat_result]]:
    """The files of kernels in a folder, and those that somebody began to write."""
    for file in place.glob("*.kernel"):
        with contextlib.suppress(OSError):
            yield file, file.lstat()


def _tidy() -> None:
    """Remove kernels that nobody has used for long, and the least recently used ones where all take too much room."""
    root = _root()
    if root is None or root[0] in _tidied:  # once a process: thousands of files are looked at
        return
    _tidied.add(root[0])
    files = []
    for place in root[0].glob(f"{root[1]}*"):
        with contextlib.suppress(OSError):
            if _safe(place.lstat()):  # a link is not
                files += [(status.st_mtime, status.st_size, file) for file, status in _kernels(place)]
    oldest, taken = time.time() - UNUSED, 0
    for used, size, file in sorted(files, reverse=True):
        taken += size
        if used < oldest or taken > ROOM:
            with contextlib.suppress(OSError):
                file.unlink()
                file.parent.rmdir()  # of a version that is gone: one that holds files stays


def _files(where: Any) -> Iterator[Any]:
    """The files of a module's or a package's code: sources, or what there is in their place."""
    if where.is_dir():
        for inner in sorted(where.iterdir(), key=lambda file: str(file.name)):
            if inner.name != "__pycache__" and (inner.is_dir() or inner.name.endswith((".py", ".pyc"))):
                yield from _files(inner)
    elif where.is_file():
        yield where


def _package() -> Any:
    """The folder of this package, which may lie in an archive."""
    folder = Path(__file__).parent.parent
    if folder.is_dir():
        return folder
    from importlib import resources  # noqa: PLC0415  only for archives

    return resources.files(__package__.partition(".")[0])


def digest(*names: str) -> str:
    """A hash of the code of some modules and packages of this package.

    Code without sources has one as well; in a frozen program, which has no files of its own, it is that of the program.
    """
    state, package, count = hashlib.sha256(__version__.encode()), _package(), 0
    for name in names:
        for end in ("", ".py", ".pyc"):
            for file in _files(package / (name + end)):
                text, count = file.read_bytes(), count + 1
                state.update(f"{name} {file.name} {len(text)} ".encode() + text)
    if count < len(names):
        program = Path(sys.executable).stat()
        state.update(f"{program.st_size} {program.st_mtime_ns}".encode())
    return state.hexdigest()
