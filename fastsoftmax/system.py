"""Versions, machine and caches of this installation; kernels compiled ahead of use."""

import contextlib
import ctypes
import importlib.metadata
import platform
import sys
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from .api import cross_entropy, softmax
from .core.announcement import nothing_to_say
from .core.conversion import dtype_of, truth
from .version import __version__

Progress = Callable[[int, int, str], None]

CUDA_PACKAGES = ("numba-cuda", "numba-cuda-mlir")


def _cpu_name() -> str:
    info = Path("/proc/cpuinfo")
    if info.exists():
        for line in info.read_text(errors="replace").splitlines():
            if line.lower().startswith(("model name", "cpu model")):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def _vector_bits(features: str) -> int:
    """The width of the vector registers that code is generated for."""
    present = {f[1:] for f in features.split(",") if f.startswith("+")}
    if "avx512f" in present:
        return 512
    return 256 if "avx" in present else 128


def installed(*packages: str) -> dict[str, str]:
    """The versions of those packages that are installed, none of which is imported."""
    known = {}
    for package in packages:
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            known[package] = importlib.metadata.version(package)
    return known


def _driver() -> str:
    """The CUDA version of NVIDIA's driver, where there is one; its library is loaded, but nothing starts on a GPU."""
    version = ctypes.c_int()
    try:
        library = ctypes.CDLL("nvcuda.dll" if sys.platform == "win32" else "libcuda.so.1")
        library.cuDriverGetVersion(ctypes.byref(version))
    except (OSError, AttributeError):
        return "no driver found"
    return f"driver for CUDA {version.value // 1000}.{version.value % 1000 // 10}"


def _cuda() -> str:
    packages = ", ".join(map(" ".join, installed(*CUDA_PACKAGES).items()))
    return f"{packages or 'no numba-cuda installed'}; {_driver()}"


def versions() -> dict[str, str]:
    """The facts that `show_versions` prints, by name.

    Returns
    -------
    dict of str to str
        Versions, the CPU and its vector width, threads, where compiled kernels are kept, and what there is of CUDA.

    Examples
    --------
    >>> import fastsoftmax.system
    >>> fastsoftmax.system.versions()["fastsoftmax"] == fastsoftmax.__version__
    True
    """
    import numba  # noqa: PLC0415  importing it takes half a second: only here, when asked
    import scipy  # noqa: PLC0415
    from numba.core import config  # noqa: PLC0415

    from .core import rules, store  # noqa: PLC0415
    from .cpu import forks, jit  # noqa: PLC0415

    threads = numba.get_num_threads()
    layer = f"fastsoftmax's (Numba's: {numba.threading_layer()})" if forks.OWN else numba.threading_layer()
    name, features = jit.target()
    disabled = {"compiler": str(rules.compiler_disabled())} if config.DISABLE_JIT else {}
    return {
        "fastsoftmax": __version__,
        "Python": f"{platform.python_version()} ({platform.system()} {platform.machine()})",
        "NumPy": np.__version__,
        "SciPy": scipy.__version__,
        "Numba": numba.__version__,
        "CPU": f"{_cpu_name()} (LLVM: {name})",
        "vector width": f"{_vector_bits(features)} bits",
        **disabled,
        "threading layer": f"{layer}{', off after a fork' if forks.threads_lost() else ''}",
        "threads": f"{threads} of {config.NUMBA_NUM_THREADS}",
        "cache folder": str(store.folder(store.CPU) or "none (kernels are compiled by every process)"),
        "CUDA": _cuda(),
    }


def show_versions() -> None:
    """Print the versions, the CPU, the threads and the cache folder, as bug reports need them.

    Examples
    --------
    >>> import fastsoftmax
    >>> fastsoftmax.show_versions()  # doctest: +ELLIPSIS
    fastsoftmax ...
    """
    facts = versions()
    width = max(map(len, facts))
    for name, fact in facts.items():
        print(f"{name:<{width}}  {fact}")


def _calls(dtype: np.dtype[Any]) -> Iterator[tuple[str, Callable[[], object]]]:
    """A small call of each function for each layout that is met often, by name; later calls load what it compiles."""
    for layout, shape in (("few classes", (64, 10)), ("many classes", (4, 1000))):
        x = np.zeros(shape, dtype)
        y = np.zeros(shape[0], np.int64)
        calls: list[tuple[Callable[..., object], tuple[Any, ...]]] = [
            (cross_entropy.cross_entropy_and_grad, (x, y)),
            (cross_entropy.cross_entropy, (x, y)),
            *((function, (x,)) for function in (softmax.softmax, softmax.log_softmax, softmax.logsumexp)),
            *((function, (x, x)) for function in (softmax.softmax_vjp, softmax.log_softmax_vjp)),
        ]
        for function, arguments in calls:
            yield f"{function.__name__}, {layout}", partial(function, *arguments)
    yield "threads", partial(softmax.softmax, np.zeros((1 << 8, 1 << 8), dtype))


def _line(done: int, total: int, name: str) -> None:
    """Progress on a terminal; nothing where it would only fill a log."""
    if sys.stderr is not None and sys.stderr.isatty():
        nothing_to_say()
        end = "\n" if done == total else ""
        print(f"\r\x1b[Kcompiling kernels {done}/{total} {name if done < total else ''}", end=end, file=sys.stderr)


def warmup(dtypes: Sequence[Any] = (np.float32, np.float64), *, progress: bool | Progress = True) -> int:
    """Compile the kernels that are used most, so that no later call waits for a compiler.

    Compiled kernels are kept on disk: one call at installation serves every process after it.  Options of the losses
    compile kernels of their own when they are first used, in about a quarter of a second each.

    Parameters
    ----------
    dtypes : sequence of dtype, default (float32, float64)
        The dtypes of logits to prepare for.
    progress : bool or callable, default True
        True shows a line on standard error when that is a terminal; a function is called with
        ``(done, total, name of the next)``.

    Returns
    -------
    int
        The number of calls that were prepared.

    Examples
    --------
    >>> import fastsoftmax
    >>> fastsoftmax.warmup(["float32"], progress=False)
    15
    """
    kinds = [dtype_of("dtypes", d) for d in dtypes]
    calls = [(f"{kind.name}: {name}", call) for kind in kinds for name, call in _calls(kind)]
    report: Progress | None = progress if callable(progress) else _line if truth("progress", progress) else None
    for done, (name, call) in enumerate(calls):
        if report:
            report(done, len(calls), name)
        call()
    if report:
        report(len(calls), len(calls), "")
    return len(calls)
