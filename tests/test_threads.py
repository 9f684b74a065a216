"""Threads: results that do not depend on them, and every way to bring them together that must not end a process."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import fastsoftmax as fs

ROOT = Path(__file__).parent.parent
LAYERS = ("workqueue", "omp", "tbb")

#: What every child begins with: operands of each layout that is launched in parallel, and what to call with them.
BEGIN = """
import hashlib, os, signal, sys, threading, warnings
from concurrent.futures import ThreadPoolExecutor
import numpy as np
import fastsoftmax as fs

rng = np.random.default_rng(7)
SHAPES = ((20000, 10), (600, 1000), (7, 40000))

def operands(*dtypes):
    for dtype in dtypes:
        for shape in SHAPES:
            x = (rng.standard_normal(shape) * 5).astype(dtype)
            yield x
            if shape != SHAPES[-1]:
                yield np.asfortranarray(x)

def results(x):
    labels = np.arange(len(x)) % x.shape[1]
    for reduction in ("mean", "sum", "none"):
        yield from fs.cross_entropy_and_grad(x, labels, reduction=reduction)
    yield fs.softmax(x)
    yield fs.logsumexp(x)
    yield fs.softmax_vjp(x, x)

def digest(x):
    return hashlib.sha256(b"".join(np.ascontiguousarray(r).tobytes() for r in results(x))).hexdigest()
"""

#: Records the launches in parallel by the number of their threads.
RECORD = """
from fastsoftmax.cpu import launch
launched, real = [], launch._parallel
def recorded(kernel, params, chunks, threads):
    launched.append(threads)
    real(kernel, params, chunks, threads)
launch._parallel = recorded
"""


def run(code, **environment):
    """What a child process prints that runs `code` in the repository's folder; no warning and no error is accepted."""
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code],
        capture_output=True,
        env={**os.environ, **environment},
        cwd=ROOT,
        encoding="utf-8",
        timeout=120,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


@pytest.fixture(scope="module")
def layers():
    """The threading layers that this machine can load."""
    code = "import os, numba; os.environ['NUMBA_THREADING_LAYER']"
    found = []
    for layer in LAYERS:
        code = "import numba; numba.get_num_threads(); print(numba.threading_layer())"
        child = [sys.executable, "-c", code]
        done = subprocess.run(child, env={**os.environ, "NUMBA_THREADING_LAYER": layer}, capture_output=True, check=False)
        if done.returncode == 0:
            found.append(layer)
    return found


def test_bit_identical_for_any_number_of_threads():
    code = f"{BEGIN}\nfor x in operands('f4', 'f8', 'f2'): print(x.dtype, x.shape, digest(x))"
    code += "\nwith ThreadPoolExecutor(1) as pool: print(pool.submit(digest, x).result() == digest(x))"
    alone = run(code, NUMBA_NUM_THREADS="1")
    assert len(alone.splitlines()) == 16
    for threads in ("2", "4"):
        assert run(code, NUMBA_NUM_THREADS=threads) == alone
