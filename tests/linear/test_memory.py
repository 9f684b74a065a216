"""Memory of linear passes: bounded by a budget, whatever the number of rows and of classes."""

import tracemalloc
from pathlib import Path

import numba
import numpy as np
import pytest

from fastsoftmax.api import linear
from tests.pairs import exhaustive_but
from tests.support import child

MEBIBYTE = 1 << 20
needs_limits = pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="needs Linux's limits and accounts")


def peak(call, rows):
    """The most memory, in bytes, that a call with all rows has at once; it is compiled before, which takes some too."""
    call(slice(min(rows, 300)))
    tracemalloc.start()
    try:
        result = call(slice(rows))
        return tracemalloc.get_traced_memory()[1], result
    finally:
        tracemalloc.stop()


@pytest.fixture(scope="module", autouse=True)
def _started():
    """The driver of threads is compiled."""
    linear.linear_predict(np.zeros((3000, 100), np.float32), np.zeros((50, 100), np.float32))


def operands(rows, features, classes, dtype):
    """Features, weights and labels that take no more memory than they have to."""
    random = np.random.default_rng(0)
    x = random.standard_normal((rows, features), np.float32).astype(dtype)
    weight = random.standard_normal((classes, features), np.float32).astype(dtype)
    return x, weight, np.arange(rows) % classes


#: Logits of 120 MB or more in each: blocks of a thread's own with few and with many classes, and shared ones.
SHAPES = [(3_000_000, 2, 10), (50_000, 400, 600), (10_000, 16, 4000), (600, 200, 50_000)]
shapes = pytest.mark.parametrize(
    "shape", exhaustive_but([(SHAPES[0],), (SHAPES[2],)], [(shape,) for shape in SHAPES]), ids=str
)


def bound(shape, dtype):
    """The budget and a gradient a thread."""
    return (1 << 25) + shape[1] * shape[2] * max(4, np.dtype(dtype).itemsize) * numba.get_num_threads()


@shapes
def test_loss_and_gradients(shape):
    assert shape[0] * shape[2] * 4 >= 120e6
    x, weight, target = operands(*shape, np.float32)
    most, result = peak(lambda at: linear.linear_cross_entropy_and_grad(x[at], weight, target[at]), shape[0])
    assert most <= bound(shape, np.float32) + result.grad_weight.nbytes
    most, _ = peak(lambda at: linear.linear_cross_entropy(x[at], weight, target[at]), shape[0])
    assert most <= bound(shape, np.float32)


@pytest.mark.parametrize("case", ["half", "Fortran", "ignored", "wide"])
def test_loss_and_gradients_of_converted_rows(case):
    """Rows that are copied before they are read: some at a time."""
    shape = (10_000, 16, 4000) if case != "half" else (50_000, 8, 600)
    dtype = {"half": np.float16, "wide": np.float64}.get(case, np.float32)
    x, weight, target = operands(*shape, np.float32 if case == "wide" else dtype)
    x, weight = np.array(x, order="F" if case == "Fortran" else "C"), weight.astype(dtype)
    if case == "ignored":
        target = np.where(np.arange(len(target)) % 3 == 0, -100, target)
    call = linear.linear_cross_entropy_and_grad
    most, result = peak(lambda at: call(x[at], weight, target[at], wrt=("x", "weight")), shape[0])
    assert most <= bound(shape, dtype) + result.grad_weight.nbytes + result.grad_x.nbytes


@shapes
def test_predictions(shape):
    x, weight, _ = operands(*shape, np.float32)
    most, found = peak(lambda at: linear.linear_predict(x[at], weight), shape[0])
    assert most <= bound(shape, np.float32) + found.nbytes
    most, top = peak(lambda at: linear.linear_top_k(x[at], weight, k=2), shape[0])
    assert most <= bound(shape, np.float32) + sum(a.nbytes for a in top)
    out = np.empty((shape[0], shape[2]), np.float32)
    most, _ = peak(lambda at: linear.linear_predict_proba(x[at], weight, out=out[at]), shape[0])
    assert most <= bound(shape, np.float32)


def test_half_probabilities():
    """Computed in float32 some rows at a time."""
    x, weight, _ = operands(50_000, 8, 600, np.float16)
    out = np.empty((50_000, 600), np.float16)
    most, _ = peak(lambda at: linear.linear_predict_proba(x[at], weight, out=out[at]), len(x))
    assert most <= bound((0, 8, 600), np.float32)


def test_hessian_product():
    x, weight, _ = operands(50_000, 8, 600, np.float32)
    most, _ = peak(lambda at: linear.linear_hessian_product(x[at], weight, None, weight, None, reduction="sum"), len(x))
    assert most <= bound((0, 8, 1200), np.float32) + 4 * weight.nbytes


@shapes
def test_prediction_of_the_memory(shape):
    """`workspace_bytes` is what a call takes, but for small objects."""
    x, weight, target = operands(*shape, np.float32)
    call = linear.linear_cross_entropy_and_grad
    for wrt in ((), ("weight",), ("weight", "x")):
        most, result = peak(lambda at, wrt=wrt: call(x[at], weight, target[at], wrt=wrt), shape[0])
        results = sum(g.nbytes for g in result[1:] if g is not None)
        predicted = linear.workspace_bytes(*shape, np.float32, wrt=wrt)
        assert most <= predicted + results + MEBIBYTE / 2
        assert most >= 0.7 * predicted - MEBIBYTE / 2
        assert predicted <= bound(shape, np.float32)


#: A child that maps more features than it may have memory, and watches what memory it has.
CHILD = """
import re, resource, sys
import numpy as np
import scipy.sparse
from fastsoftmax.api import linear

def anonymous():
    return int(re.search(r"RssAnon:\\s*(\\d+)", open("/proc/self/status").read())[1]) << 10

rows, features, classes = 1_000_000, 100, 20
x = np.memmap(sys.argv[1], np.float32, "r", shape=(rows, features))
weight = np.random.default_rng(0).standard_normal((classes, features), np.float32)
target, bias = np.arange(rows) % classes, np.linspace(0, 1, classes, dtype=np.float32)
CALLS = {
    "loss": lambda x, t: linear.linear_cross_entropy(x, weight, t, bias),
    "gradient": lambda x, t: linear.linear_cross_entropy_and_grad(x, weight, t, bias).grad_weight,
    "hessian": lambda x, t: linear.linear_hessian_product(x, weight, bias, weight, bias)[0],
    "predict": lambda x, t: linear.linear_predict(x, weight, bias),
    "top_k": lambda x, t: linear.linear_top_k(x, weight, bias, k=1).indices,
}
for call in CALLS.values():
    call(x[:100_000], target[:100_000])  # compiled, and its threads are started
"""


@pytest.fixture(scope="module")
def mapped(tmp_path_factory):
    """400 MB of features, most of which are zeros that take no room on the disk."""
    path = tmp_path_factory.mktemp("features") / "x"
    x = np.memmap(path, np.float32, "w+", shape=(1_000_000, 100))
    x[::50_000] = np.random.default_rng(1).standard_normal((20, 100), np.float32)
    x.flush()
    return path


@pytest.mark.exhaustive  # a fit of such a map is in test_estimator
@needs_limits
def test_map_larger_than_memory(mapped):
    """Under a limit on memory that files mapped for reading do not count towards."""
    code = """
used = int(re.search(r"VmData:\\s*(\\d+)", open("/proc/self/status").read())[1]) << 10
resource.setrlimit(resource.RLIMIT_DATA, (used + (100 << 20),) * 2)
try:
    np.array(x)
except MemoryError:
    print("limited")
rows = slice(None, None, 50_000)
for name, call in CALLS.items():
    found = call(x, target)
    if found.ndim and len(found) == len(x):
        assert (found[rows].ravel() == call(x[rows].copy(), target[rows]).ravel()).all()
        assert (np.delete(found, np.arange(len(x))[rows]) == classes - 1).all()
    else:
        assert np.isfinite(found).all() and found.any()
    print(name)
"""
    done = child(CHILD + code, str(mapped), NUMBA_NUM_THREADS="2", OPENBLAS_NUM_THREADS="2")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.split() == ["limited", "loss", "gradient", "hessian", "predict", "top_k"]


@needs_limits
def test_resident_memory(mapped):
    """The operating system's account: what tracemalloc does not see is in it, but no file's pages are."""
    code = """
import threading
for name, call in CALLS.items():
    before, most, stop = anonymous(), 0, threading.Event()
    def watch():
        global most
        while not stop.wait(1e-3):
            most = max(most, anonymous())
    watching = threading.Thread(target=watch)
    watching.start()
    found = call(x, target)
    stop.set()
    watching.join()
    print(name, most - before - found.nbytes)
"""
    done = child(CHILD + code, str(mapped), NUMBA_NUM_THREADS="2")
    assert (done.returncode, done.stderr) == (0, "")
    taken = {name: int(size) for name, size in map(str.split, done.stdout.splitlines())}
    assert len(taken) == 5
    assert max(taken.values()) <= (1 << 25) + 3 * MEBIBYTE, taken
