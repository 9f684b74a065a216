"""Threads: results that do not depend on them, and every way to bring them together that must not end a process."""

import os
import threading
import time
from itertools import product

import numpy as np
import pytest

import fastsoftmax as fs
from fastsoftmax.cpu.threads import launch
from tests.pairs import exhaustive_but
from tests.support import HANG, child

LAYERS = ("workqueue", "omp", "tbb")
needs_fork = pytest.mark.skipif(not hasattr(os, "fork"), reason="processes do not fork on this system")

#: What every child begins with: operands of each layout that is launched in parallel, and what to call with them.
BEGIN = (
    f"HANG = {HANG}"
    + """
import hashlib, os, signal, sys, threading, warnings
from concurrent.futures import ThreadPoolExecutor
import numpy as np
import fastsoftmax as fs
warnings.filterwarnings("ignore", "This process", DeprecationWarning)  # forks of threaded processes are meant here
rng = np.random.default_rng(7)
KINDS = [((20000, 10), "C"), ((20000, 10), "F"), ((600, 1000), "C"), ((600, 1000), "F"), ((7, 40000), "C")]

def operands(*dtypes):
    for dtype in dtypes:
        for shape, order in KINDS:
            yield np.array(rng.standard_normal(shape) * 5, dtype, order=order)

def results(x, reductions=("mean", "sum", "none")):
    labels = np.arange(len(x)) % x.shape[1]
    for reduction in reductions:
        yield from fs.cross_entropy_and_grad(x, labels, reduction=reduction)
    yield from (fs.softmax(x), fs.logsumexp(x), fs.softmax_vjp(x, x))

def digest(x, *reductions):
    return hashlib.sha256(b"".join(np.ascontiguousarray(r).tobytes() for r in results(x, *reductions))).hexdigest()
"""
)

#: Notes the number of threads of each launch in parallel.
RECORD = """
from fastsoftmax.cpu.threads import launch
launched, parallel = [], launch._parallel
def recorded(kernel, params, chunks, threads, run):
    launched.append(threads)
    parallel(kernel, params, chunks, threads, run)
launch._parallel = recorded
"""

#: Has launches in parallel use Numba's threads, as where they have none of their own.
NUMBAS = """
from fastsoftmax.cpu.threads import launch
launch.OWN = False
"""

#: The right answers, from the serial driver.
EXPECTED = """
import numba
try:
    allowed = numba.get_num_threads()
except ValueError:  # this threading layer cannot be loaded
    sys.exit(print("missing"))
numba.set_num_threads(1)
xs = list(operands("f4"))
expected = [digest(x, ["mean"]) for x in xs]
numba.set_num_threads(allowed)
def right(x): return digest(x, ["mean"]) in expected
"""


def run(code, **environment):
    """What a child process prints that runs `code` in the repository's folder; no warning and no error is accepted."""
    done = child(code, PYTHONWARNINGS="error", **environment)
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


def under(layer, code, threads="2"):
    """`run` under a threading layer; skips the test where the layer cannot be loaded."""
    printed = run(code, NUMBA_THREADING_LAYER=layer, NUMBA_NUM_THREADS=threads)
    if printed == "missing\n" and layer != "workqueue":  # which comes with Numba everywhere
        pytest.skip(f"Numba cannot load the threading layer {layer} here")
    return printed


WAYS = {
    "own, workqueue": ("", "workqueue"),
    "own, omp": ("", "omp"),
    **{layer: (NUMBAS, layer) for layer in LAYERS},
}


def ways(*usual):
    """A decorator: the test runs in all of the `WAYS`, by default in the usual ones."""
    cases = exhaustive_but([WAYS[name] for name in usual], list(WAYS.values()))
    return pytest.mark.parametrize(("before", "layer"), cases, ids=list(WAYS))


@pytest.mark.parametrize(
    ("before", "dtype", "threads"),
    exhaustive_but([("", "f4", "4")], list(product(("", NUMBAS), ("f4", "f8", "f2"), ("4", "2")))),
    ids=[f"{who}-{dtype}-{n}" for who in ("own", "Numba's") for dtype in ("f4", "f8", "f2") for n in (4, 2)],
)
def test_bit_identical_for_any_number_of_threads(before, dtype, threads):
    code = BEGIN + before + f"for x in operands({dtype!r}): print(x.dtype, x.shape, digest(x))\n"
    alone = run(code, NUMBA_NUM_THREADS="1")
    assert len(alone.splitlines()) == 5
    other_driver = "with ThreadPoolExecutor(1) as pool: assert pool.submit(digest, x).result() == digest(x)\n"
    assert run(code + other_driver, NUMBA_NUM_THREADS=threads) == alone


def _by_row(x, labels, grad):
    """Everything that is computed row by row."""
    losses = fs.cross_entropy(x, labels, reduction="none")
    gradient = fs.cross_entropy_and_grad(x, labels, reduction="sum").grad
    return fs.softmax(x), fs.log_softmax(x), fs.logsumexp(x), losses, gradient, fs.softmax_vjp(x, grad)


#: One of each layout of work comes first, but for blocks of classes: their rows are in test_blocks.
SHAPES = [
    *((41, 10, "C"), (41, 100, "C"), (9, 5000, "C"), (9000, 10, "C"), (41, 48, "F")),
    *((9, 5000, "F"), (41, 1, "C"), (41, 1, "F"), (41, 10, "F"), (41, 48, "C"), (41, 100, "F"), (9000, 10, "F")),
]


@pytest.mark.parametrize(("rows", "classes", "order"), exhaustive_but(SHAPES[:5], SHAPES))
def test_rows_do_not_depend_on_each_other(rows, classes, order):
    """Bit by bit, among many, among few and alone."""
    rng = np.random.default_rng(rows + classes)
    x = np.array(rng.standard_normal((rows, classes)) * 4, np.float32, order=order)
    grad = np.array(rng.standard_normal((rows, classes)), np.float32, order=order)
    labels = rng.integers(0, classes, rows)
    whole = _by_row(x, labels, grad)
    alone = [slice(0, 1), slice(7, 8), slice(rows - 1, rows)]
    for part in [slice(0, 2), slice(3, rows - 1), slice(1, rows, 3), slice(None, None, -1), slice(5, 8), *alone]:
        for result, of_all in zip(_by_row(x[part], labels[part], grad[part]), whole, strict=True):
            np.testing.assert_array_equal(result, of_all[part], strict=True)


NUMBERS = [("", "workqueue", "3 1 2"), (NUMBAS, "workqueue", "1 1 1"), (NUMBAS, "omp", "3 1 2"), ("", "omp", "3 1 2")]


@pytest.mark.parametrize(
    ("before", "layer", "elsewhere"),
    exhaustive_but(NUMBERS[:1], NUMBERS),
    ids=["own, workqueue", "workqueue", "omp", "own, omp"],
)
def test_number_of_threads_is_that_of_numba(before, layer, elsewhere):
    """The environment's, or what the calling thread has set; and a call leaves it as it was."""
    code = """
def threads(wanted):
    if wanted: numba.set_num_threads(wanted)
    before = numba.get_num_threads()
    launched.clear()
    digest(xs[0])
    assert numba.get_num_threads() == before
    return max(launched, default=1)
print(threads(None), threads(1), threads(2), threads(3))
numba.set_num_threads(1)
with ThreadPoolExecutor(1) as pool:
    print(*(pool.submit(threads, n).result() for n in (None, 1, 2)))
print(numba.get_num_threads())
"""
    lines = under(layer, BEGIN + before + RECORD + EXPECTED + code, threads="3").splitlines()
    assert lines == ["3 1 2 3", elsewhere, "1"]  # workqueue can be entered from the main thread alone


@ways("own, workqueue")
def test_concurrent_calls(before, layer):
    """From eight threads, while the main thread launches a user's function: workqueue aborts when two enter it."""
    code = """
@numba.njit(parallel=True, nogil=True)
def theirs(x):
    total = 0.0
    for i in numba.prange(len(x)): total += x[i]
    return total
ones = np.ones(1_000_000)
assert theirs(ones) == 1e6  # compiled
def many(x): return all([right(x), *(fs.softmax(x).any() for _ in range(20))])
with ThreadPoolExecutor(8) as pool:
    for mine in (lambda: theirs(ones) == 1e6, lambda: right(xs[0])):
        found = [pool.submit(many, x) for x in xs * 4]
        while not all(f.done() for f in found): assert mine()
        print(all(f.result() for f in found))
"""
    assert under(layer, BEGIN + before + EXPECTED + code) == "True\nTrue\n"


def test_joblib():
    code = """
from joblib import Parallel, delayed
x = np.linspace(-4, 4, 200_000, dtype="f4").reshape(-1, 10)
expected = fs.softmax(x)
for how in ({"prefer": "threads"}, {"backend": "loky", "idle_worker_timeout": HANG}):
    found = Parallel(n_jobs=2, **how)(delayed(fs.softmax)(x) for _ in range(4))
    print(all(np.array_equal(f, expected) for f in found))
"""
    assert run(BEGIN + code) == "True\nTrue\n"


#: Forks, and gives the exit status of a child that computes; one that hangs is ended by its alarm.
FORK = """
def forked(check=lambda: None):
    child = os.fork()
    if child:
        return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    status = 1
    try:
        signal.alarm(HANG)
        check()
        status = 0 if all(map(right, xs)) else 2
    finally:
        os._exit(status)
"""


@needs_fork
@ways("own, omp", "omp")
def test_fork_after_a_launch(before, layer):
    """Threads do not survive: children of every kind compute in one thread, rightly, and end well."""
    code = """
assert all(map(right, xs))
before = len(launched)
def alone():
    assert fs.softmax(xs[0]) is not None and len(launched) == before
    assert forked() == 0
print("child and grandchild", forked(alone))
import multiprocessing
with multiprocessing.get_context("fork").Pool(2) as pool:
    print("pool", all(pool.map_async(right, xs).get(HANG)))
print("parent", all(map(right, xs)) and len(launched) > before)
"""
    printed = under(layer, BEGIN + before + RECORD + EXPECTED + FORK + code)
    assert printed == "child and grandchild 0\npool True\nparent True\n"


@needs_fork
@ways("own, workqueue")
def test_fork_during_a_launch(before, layer):
    """A lock that another thread of the parent holds would never be released in the child."""
    code = """
inside, leave, done = (threading.Event() for _ in range(3))
def held(*_): inside.set(), leave.wait()
def busy():
    while not done.is_set(): fs.softmax(xs[0])
def free(): assert not launch._launching.locked()
launch._parallel = held
threading.Thread(target=launch.launch, args=(0, 0, 0, 2), daemon=True).start()
assert inside.wait() and launch._launching.locked()
print("held", forked(free), launch._launching.locked())
launch._parallel = parallel
leave.set()
(another := threading.Thread(target=busy)).start()
print("busy", [forked() for _ in range(4)])
done.set()
another.join()
"""
    printed = under(layer, BEGIN + before + RECORD + EXPECTED + FORK + code)
    assert printed == "held 0 True\nbusy [0, 0, 0, 0]\n"


@needs_fork
def test_fork_while_a_kernel_is_compiled():
    """A fork waits for the compiler, whose lock would never be released in the child."""
    code = """
from fastsoftmax.cpu import table
compiling, forking, make = threading.Event(), threading.Event(), table._FACTORIES["vjp"]
def slow(*constants):
    compiling.set()
    forking.wait()
    return make(*constants)
os.register_at_fork(before=forking.set)  # which is called before what was registered earlier
x = np.zeros((64, 10), np.float32)
xs = [x]
def right(x): return bool((fs.softmax(x) == np.float32(0.1)).all())
table._FACTORIES["vjp"] = slow
threading.Thread(target=lambda: fs.softmax_vjp(x, x)).start()
assert compiling.wait()
print(forked())
"""
    assert run(BEGIN + FORK + code) == "0\n"


@needs_fork
def test_fork_while_a_module_is_imported():
    """A fork waits for the import, whose lock would never be released in the child."""
    code = """
importing, forking = threading.Event(), threading.Event()
class Slow:
    def find_spec(self, name, path, target=None):
        if name == "fastsoftmax.cpu.prepared":
            importing.set()
            forking.wait()
sys.meta_path.insert(0, Slow())
os.register_at_fork(before=forking.set)
x = np.zeros((64, 10), np.float32)
xs = [x]
def right(x): return bool((fs.softmax(x) == np.float32(0.1)).all())
threading.Thread(target=lambda: fs.softmax(x)).start()
assert importing.wait()
print(forked())
"""
    assert run(BEGIN + FORK + code) == "0\n"


@needs_fork
def test_fork_before_any_launch():
    """Small calls start no threads: a child may start its own."""
    code = """
xs = [np.zeros((20000, 10), np.float32)]
fs.softmax(xs[0][:9])
def right(x): return bool((fs.softmax(x) == np.float32(0.1)).all()) and launched == [2]
print(forked(), launched)
"""
    assert run(BEGIN + RECORD + FORK + code, NUMBA_NUM_THREADS="2") == "0 []\n"


@pytest.mark.parametrize(
    ("driver", "threads", "before"),
    [("_serial", 1, ""), ("_parallel", 2, ""), ("_parallel", 2, NUMBAS)],
    ids=["serial", "own", "Numba's"],
)
def test_kernels_release_the_interpreter(driver, threads, before):
    """Python runs in another thread during a launch, though this thread never gives way on its own."""
    code = f"""
import time, numba
from fastsoftmax.cpu.threads import launch
numba.set_num_threads({threads})
x, out = np.ones((2, 1000, 1000), np.float32)
fs.softmax(x, out=out)
count, stop, progress, driver = 0, [], [], launch.{driver}
def counting():
    global count
    while not stop:
        count += 1
        time.sleep(0)  # gives way
def observed(*arguments):
    before = count
    driver(*arguments)
    progress.append(count - before)
launch.{driver} = observed
sys.setswitchinterval(1000)
threading.Thread(target=counting).start()
while not any(progress): fs.softmax(x, out=out)
stop.append(True)
print(any(progress))
"""
    assert run(BEGIN + before + code, NUMBA_NUM_THREADS="2") == "True\n"


def test_errors_leave_the_lock_free(monkeypatch):
    def interrupted(*_):
        assert launch._launching.locked()
        raise KeyboardInterrupt

    monkeypatch.setattr(launch, "_parallel", interrupted)
    with pytest.raises(KeyboardInterrupt):
        launch.launch(0, 0, 0, 2)
    assert not launch._launching.locked()


def test_new_arrays_are_taken_by_large_pages(monkeypatch):
    """In a call that is prepared and in one that is not; the bits are those of `out=`, whose chunks are single."""
    x, seen, parallel = np.random.default_rng(3).standard_normal((8192, 1024), np.float32), [], launch._parallel
    labels = np.arange(len(x)) % x.shape[1]

    def recorded(*about):
        seen.append(about[-1])
        parallel(*about)

    monkeypatch.setattr(launch, "_parallel", recorded)
    for threads, run in ((2, 16), (32, 2)):  # 2 MB of 33; and each thread has four at least
        monkeypatch.setattr(launch, "threads_for", lambda threads=threads: threads)
        monkeypatch.setattr(launch, "_last", (threading.get_ident(), 0))
        for _ in range(2):
            loss, grad = fs.cross_entropy_and_grad(x, labels)
            assert seen.pop() == run
            loss_, grad_ = fs.cross_entropy_and_grad(x, labels, out=np.empty_like(x))
            assert seen.pop() == 1
            assert loss == loss_
            assert (grad.view(np.int32) == grad_.view(np.int32)).all()
    fs.softmax(x[:4096])
    assert seen.pop() == 1  # half as large: it may lie where an earlier array was


def test_launches_leave_cores_to_others(monkeypatch):
    """To those under way, each of which has one at least, and to a Python thread that will launch again in a moment."""
    seen = []
    monkeypatch.setattr(launch, "_parallel", lambda *about: seen.append(about[3]))
    monkeypatch.setattr(launch, "_serial", lambda *_: seen.append(1))
    monkeypatch.setattr(launch, "_under_way", under_way := {})
    me, long_ago = threading.get_ident(), 0

    def launched(threads, last):
        monkeypatch.setattr(launch, "_last", last)
        launch.launch(0, 0, 0, threads)
        assert launch._last[0] == (me if threads > 1 else last[0])
        return seen.pop()

    for now in (time.monotonic_ns(), long_ago):
        assert launched(2, (me, now)) == 2
        assert launched(1, (me + 1, now)) == 1
    monkeypatch.setattr(launch, "RECENT", int(HANG * 1e9))
    assert [launched(n, (me + 1, time.monotonic_ns())) for n in (2, 3)] == [1, 2]
    monkeypatch.setattr(launch, "RECENT", 0)
    assert launched(2, (me + 1, time.monotonic_ns())) == 2
    under_way |= {me + 1: True, me + 2: True}
    assert [launched(n, (me, long_ago)) for n in (2, 3, 4)] == [1, 1, 2]
    assert set(under_way) == {me + 1, me + 2}
    under_way[me] = True  # of a launch that was interrupted before it could take this back
    launch.launch(0, 0, 0, 2)
    assert set(under_way) == {me + 1, me + 2}


@pytest.mark.parametrize(("rows", "gives"), [(64, False), (6000, True)])
def test_small_calls_hold_the_interpreter(rows, gives):
    """Whoever gives it away waits 5 ms for each thread that computes in Python: more than the call takes."""
    code = f"""
import time
x, out = np.ones(({rows}, 10), np.float32), np.ones(({rows}, 10), np.float32)
for _ in range(2): fs.softmax(x, out=out)
count, stop = 0, []
def counting():
    global count
    while not stop:
        count += 1
        time.sleep(0)  # gives way
sys.setswitchinterval(1000)
(another := threading.Thread(target=counting)).start()
before = count
for _ in range(20000):
    fs.softmax(x, out=out)
    if count != before: break
print(count != before)
stop.append(True)
"""
    assert run(BEGIN + code) == f"{gives}\n"


def test_bad_labels_leave_the_threads_usable():
    """The label is found by a launch in parallel; the next call is one again."""
    code = """
x, labels = np.zeros((200_000, 2), np.float32), np.zeros(200_000, np.int64)
labels[123_456] = 2
for _ in range(2):
    try: fs.cross_entropy(x, labels)
    except ValueError as error: print("row 123456" in str(error), launched, launch._launching.locked())
labels[123_456] = 1
print(f"{fs.cross_entropy(x, labels):.4f}", launched)
"""
    lines = run(BEGIN + RECORD + code, NUMBA_NUM_THREADS="2").splitlines()
    assert lines == ["True [2] False", "True [2, 2] False", "0.6931 [2, 2, 2, 2]"]
