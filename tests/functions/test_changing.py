"""Arrays that others change during a call, after the check: any result, and no access outside of the arrays.

Everything runs in child processes, which such an access ends: operands lie between pages that nobody may touch.
"""

import sys

import pytest

from tests.pairs import exhaustive_but
from tests.support import child

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="pages are protected by mprotect")

BEGIN = """
import sys
import numpy as np
import scipy.sparse
from tests.guarded import checked_before, guarded, spoiled, structure
from tests.linear.support import ALL, problem, shared
from tests.linear.test_layouts import sparse
import fastsoftmax as fs
from fastsoftmax.api import linear
from fastsoftmax.cpu import table

def same(found, expected):
    for got, right in zip(found, expected, strict=True):
        np.testing.assert_array_equal(got, right)
"""


def run(code):
    """The lines that a child prints that runs `code`; no warning and no error is accepted."""
    done = child(BEGIN + code, PYTHONWARNINGS="error")
    assert (done.returncode, done.stderr) == (0, ""), done.stdout
    return done.stdout.splitlines()


#: Calls of every layout (their numbers as in spec), of rows and classes that few kernels serve.
SINGLE = "for shape in ((40, 10), (40, 100), (30, 300)): check(logits(*shape, np.float32))"
REGISTERS, BLOCKS = "check(logits(1024, 10, np.float32))", "check(guarded(logits(600, 40, np.float32)).T)"
LAYOUTS = {
    "float32": (f"{SINGLE}\n{REGISTERS}\n{BLOCKS}", [0, 1, 2, 3, 4]),
    "float64": ("for shape in ((40, 10), (40, 100), (30, 300)): check(logits(*shape, np.float64))", [0, 1, 2]),
    "float16": ("for shape in ((40, 10), (40, 100), (30, 300)): check(logits(*shape, np.float16))", [0, 1, 2]),
    "strided": ("for k in (100, 300): check(logits(30, k, np.float32, step=2))", [0, 2]),
    "weights": ("for k in (100, 300): check(logits(30, k, np.float32), class_weight=np.linspace(0.5, 1, k))", [0, 2]),
}


@pytest.mark.parametrize("name", exhaustive_but(["float32"], LAYOUTS))
def test_labels(name):
    """Rows whose labels stay as they were have their losses and gradients."""
    begin = """
def logits(rows, classes, dtype, step=1):
    values = np.random.default_rng(classes).standard_normal((rows, classes * step))
    return guarded(values.astype(dtype))[:, ::step]

def check(x, **options):
    rows, classes = x.shape
    target = guarded(np.random.default_rng(rows).integers(0, classes, rows))
    target[5::7] = -100
    bad, labels = spoiled(target, classes)
    out = guarded(np.zeros(x.T.shape, x.dtype)).T if x.flags.f_contiguous else guarded(np.zeros(x.shape, x.dtype))
    expected = fs.cross_entropy_and_grad(x, target, reduction="none", **options)
    with checked_before(target, labels):
        found = fs.cross_entropy_and_grad(x, target, reduction="none", out=out, **options)
    assert bad.sum() > 5
    assert (target == labels).all()
    same((found.loss[~bad], found.grad[~bad]), (expected.loss[~bad], expected.grad[~bad]))
"""
    end = """
print(sorted({layout for name, layout, *_ in table._compiled if name == "cross_entropy"}))
"""
    calls, layouts = LAYOUTS[name]
    assert run(f"{begin}\n{calls}\n{end}") == [str(layouts)]


#: Linear passes, by the way that they take; features without a gradient are sparse.
PASSES = """
def call(x, weight, target, bias, wrt=ALL, together=False):
    options = {"reduction": "none", "wrt": wrt, "block_rows": 32}
    if not together:
        return linear.linear_cross_entropy_and_grad(x, weight, target, bias, **options)
    with shared():
        return linear.linear_cross_entropy_and_grad(x, weight, target, bias, **options)

def passes():
    for shape in ((300, 20, 5), (100, 12, 60)):
        x, weight, target, bias, _ = problem(1, shape, np.float32, ignored=0.3)
        yield x, weight, target, bias
    yield x, weight, target, bias, ALL, True
    _, weight, target, bias, _ = problem(12, (70, 30, 20), np.float32, ignored=0.3)
    for form in ("csr", "csc"):
        yield sparse(12, (70, 30), np.float32, form), weight, target, bias, ALL[1:]
"""


def test_labels_of_linear_passes():
    """Rows whose labels stay as they were have their losses."""
    code = """
for x, weight, good, bias, *way in passes():
    target = guarded(good)
    bad, labels = spoiled(target, len(weight))
    expected = call(x, weight, target, bias, *way)
    with checked_before(target, labels):
        found = call(x, weight, target, bias, *way)
    assert bad.sum() > 5
    same([found.loss[~bad]], [expected.loss[~bad]])
    print("right")
"""
    assert run(PASSES + code) == ["right"] * 5


FORMS = [(form, index) for form in ("csr", "csc") for index in ("int32", "int64")]


@pytest.mark.parametrize(("form", "index"), exhaustive_but([("csr", "int32"), ("csc", "int64")], FORMS))
def test_structure_of_sparse_features(form, index):
    """Numbers of columns and rows that are none, and starts that lead anywhere.

    A row in CSR that stays as it was has its probabilities and its loss.
    """
    code = """
_, weight, target, bias, _ = problem(12, (70, 30, 5), np.float32, ignored=0.3)
SPOILED = [0, 1, 14, 15, 68, 69]  # rows
touched = np.isin(np.arange(70), SPOILED)

def bad_indices(x):
    other = x.shape[0 if x.by_column else 1]
    bad = [other, -1, 1 << 30, -(1 << 31)]
    if x.by_column:
        x.indices[::4] = np.resize(bad, len(x.indices[::4]))
        return
    for row in SPOILED:
        part = x.indices[x.starts[row] : x.starts[row + 1]]
        part[...] = np.resize(bad, len(part))

def bad_starts(values):
    def spoil(x):
        x.starts[[0, 15, -1]] = values
    return spoil

def results(x):
    yield linear.linear_cross_entropy_and_grad(x, weight, target, bias, reduction="none", wrt=ALL[1:]).loss
    yield linear.linear_predict_proba(x, weight, bias)
    linear.linear_hessian_product(x, weight, bias, weight, bias)

HUGE = (1 << 31) - 1
x = sparse(12, (70, 30), np.float32, form, np.dtype(index))
expected = list(results(x))
for spoil in (bad_indices, *map(bad_starts, ([-5, HUGE, HUGE], [HUGE, -5, -HUGE], [-HUGE, 0, 10_000]))):
    with structure(spoil):
        found = list(results(x))
    if form == "csr":
        same([a[~touched] for a in found], [a[~touched] for a in expected])
print("right")
"""
    assert run(f"form, index = {form!r}, {index!r}\n{code}") == ["right"]


def test_labels_that_a_thread_changes():
    """Labels that are good at any time: ignored, or a class.

    Counted in one reading and listed in another, their rows overflowed the list: the process died in `free`.
    """
    code = """
import threading
rows = 100_000
x, weight, target = np.ones((rows, 20), np.float32), np.ones((5, 20), np.float32), np.full(rows, -100)
stop = threading.Event()
def writer():
    while not stop.is_set():
        target[:] = 1
        target[:] = -100
thread = threading.Thread(target=writer, daemon=True)
thread.start()
for _ in range(30):
    linear.linear_cross_entropy_and_grad(x, weight, target, reduction="sum")
stop.set()
thread.join()
print("alive")
"""
    assert run(code) == ["alive"]
