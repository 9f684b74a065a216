"""Compiled kernels of a GPU on disk, so that a process need not compile what another one has: 2 to 4 seconds each.

They lie in ``$NUMBA_CACHE_DIR/fastsoftmax-cuda``, as the CPU's kernels would, or else in ``~/.cache/fastsoftmax/cuda``
(``$XDG_CACHE_HOME`` is heeded).  To clear the cache, remove that folder; ``FASTSOFTMAX_CACHE=0`` switches it off.
Where nothing can be written nothing is kept, and a file that is not what its own hash says counts as missing.
"""

import base64
import contextlib
import hashlib
import json
import os
import sys
import tempfile
from collections.abc import Callable
from functools import lru_cache
from importlib import metadata
from pathlib import Path
from typing import Any

from .package import Compiled

PACKAGES = ("numba-cuda", "numba", "llvmlite", "cuda-core", "cuda-bindings")
ASSEMBLERS = ("nvidia-nvvm", "nvidia-nvjitlink", "nvidia-cuda-nvcc", "nvidia-nvjitlink-cu12", "nvidia-cuda-nvcc-cu12")
STEERING = ("NUMBA_CUDA", "NUMBA_OPT", "NUMBA_DEBUG", "CUDA_HOME", "CUDA_PATH")  # how variables begin that matter


def folder() -> Path | None:
    """Where kernels are kept; None if they are not."""
    if os.environ.get("FASTSOFTMAX_CACHE", "1") == "0":
        return None
    if given := os.environ.get("NUMBA_CACHE_DIR"):
        return Path(given, "fastsoftmax-cuda")
    try:
        return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache", "fastsoftmax", "cuda")
    except RuntimeError:  # no home
        return None


def _version(name: str) -> str:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return ""


@lru_cache(maxsize=1)
def digest() -> str:
    """A name for all that kernels are compiled from and by, besides their recipe: our sources, versions, switches."""
    state, root = hashlib.sha256(), Path(__file__).parent
    for path in sorted([root.parent / "law.py", root.parent / "spec.py", *root.glob("*.py")]):
        text = path.read_bytes()
        state.update(f"{path.name} {len(text)} ".encode() + text)
    switches = sorted((k, v) for k, v in os.environ.items() if k.startswith(STEERING) and k != "NUMBA_CACHE_DIR")
    state.update(repr((sys.version, [*map(_version, PACKAGES + ASSEMBLERS)], switches)).encode())
    return state.hexdigest()


def _packed(key: str, compiled: Compiled) -> bytes:
    fields = compiled._asdict() | {"key": key, "code": base64.b64encode(compiled.code).decode()}
    text = json.dumps(fields).encode()
    return hashlib.sha256(text).hexdigest().encode() + text


def _unpacked(key: str, content: bytes) -> Compiled | None:
    """The kernel of a file; None if it is not what it was written as."""
    mark, text = content[:64], content[64:]
    if hashlib.sha256(text).hexdigest().encode() != mark:
        return None
    fields: dict[str, Any] = json.loads(text)
    if fields.pop("key") != key:
        return None
    fields |= {"code": base64.b64decode(fields["code"]), "capability": tuple(fields["capability"])}
    return Compiled(**fields)


def _write(path: Path, content: bytes) -> None:
    """All of it or nothing, whoever else writes there; nothing where that cannot be done."""
    with contextlib.suppress(OSError):
        path.parent.mkdir(parents=True, exist_ok=True)
        number, name = tempfile.mkstemp(dir=path.parent)
        try:
            with os.fdopen(number, "wb") as file:
                file.write(content)
            os.replace(name, path)
        except OSError:
            os.unlink(name)


def kept(about: Any, compile: Callable[[], Compiled]) -> Compiled:
    """A compiled kernel from disk, or else compiled and kept; `about` is all that makes it another than others."""
    where = folder()
    if where is None:
        return compile()
    key = hashlib.sha256(f"{about!r} {digest()}".encode()).hexdigest()
    path, found = where / f"{key}.kernel", None
    with contextlib.suppress(OSError):
        found = _unpacked(key, path.read_bytes())
    if found is None:
        found = compile()
        _write(path, _packed(key, found))
    return found
