"""Imports and first calls, timed in processes of their own: the price of a process's first result."""

import importlib.util
import os
import subprocess
import sys
import tempfile
from pathlib import Path

from ..cases import FIRST_EMPTY, FIRST_WARM, IMPORT, Case
from ..results import COMPILED, JAX, OURS, TORCH, Result, Timing
from ..timing import Turn

TIMEOUT = 120  # seconds for a process
PACKAGES = {OURS: "fastsoftmax", TORCH: "torch", COMPILED: "torch", JAX: "jax"}
ROOT = Path(__file__).parents[3]  # of the package, installed or not

_DATA = "import numpy as np; x = np.zeros({shape}, np.float32); y = np.zeros({rows}, np.int64); "
#: What is there before, and what is timed.
_FIRST = {
    OURS: ("import fastsoftmax", "fastsoftmax.cross_entropy_and_grad(x, y)"),
    COMPILED: (
        "import torch; x, y = torch.from_numpy(x).requires_grad_(), torch.from_numpy(y)",
        "loss = torch.compile(torch.nn.functional.cross_entropy, dynamic=False)(x, y); torch.autograd.grad(loss, x)",
    ),
    JAX: (
        "import jax; of = lambda x, y: -jax.numpy.take_along_axis(jax.nn.log_softmax(x), y[:, None], 1).mean(); "
        "x, y = jax.numpy.array(x), jax.numpy.array(y, 'int32')",
        "jax.block_until_ready(jax.jit(jax.value_and_grad(of))(x, y))",
    ),
}
_TIMED = "import time; {before}\nstart = time.perf_counter(); {timed}\nprint(time.perf_counter() - start)"


def _code(case: Case, name: str) -> str:
    """The program of a process."""
    if case.function == IMPORT:
        return _TIMED.format(before="", timed=f"import {PACKAGES[name]}")
    before, timed = _FIRST[name]
    return _TIMED.format(before=_DATA.format(shape=case.shape, rows=case.shape[0]) + before, timed=timed)


def _seconds(code: str, folder: str) -> float:
    """The seconds that a process prints, with its compiled code kept in a folder; RuntimeError where it fails."""
    path = os.pathsep.join([str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])])
    caches = {"NUMBA_CACHE_DIR": f"{folder}/numba", "TORCHINDUCTOR_CACHE_DIR": f"{folder}/torch"}
    environment = {**os.environ, "PYTHONPATH": path, "JAX_PLATFORMS": "cpu", "FASTSOFTMAX_CACHE": "1", **caches}
    done = subprocess.run(
        [sys.executable, "-c", code],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        env=environment,
        encoding="utf-8",
        timeout=TIMEOUT,
        check=False,
    )
    if done.returncode:
        raise RuntimeError((done.stderr.strip().splitlines() or [f"exit status {done.returncode}"])[-1][:200])
    return float(done.stdout.split()[-1])


def _timed(case: Case, name: str, repetitions: int, turn: Turn) -> Timing:
    """The seconds of some processes: each with an empty folder, or all with the one that the first has filled."""
    code, taken = _code(case, name), []
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as filled:
        if case.function == FIRST_WARM:
            _seconds(code, filled)
        for _ in range(repetitions):
            turn()
            with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as empty:
                taken.append(_seconds(code, empty if case.function == FIRST_EMPTY else filled))
    return Timing.of(taken)


def wanted(case: Case) -> list[str]:
    """The contestants of a case."""
    return [OURS, TORCH, JAX] if case.function == IMPORT else [OURS, COMPILED, JAX]


def measured(case: Case, names: list[str], repetitions: int, turn: Turn = lambda: None) -> Result:
    """Time a case of the group "start", in so many processes for each contestant."""
    timings: dict[str, Timing] = {}
    skipped: dict[str, str] = {}
    for name in names:
        turn()
        if case.function == FIRST_WARM and name == JAX:
            skipped[name] = "JAX keeps nothing on disk unless it is told to"
        elif importlib.util.find_spec(PACKAGES[name]) is None:
            skipped[name] = f"{PACKAGES[name]} is not installed"
        else:
            try:
                timings[name] = _timed(case, name, repetitions, turn)
            except subprocess.TimeoutExpired:
                skipped[name] = f"took longer than {TIMEOUT} s"
            except RuntimeError as error:
                skipped[name] = str(error)
    return Result(case, timings, skipped)
