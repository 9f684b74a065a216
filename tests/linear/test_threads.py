"""Threads in linear passes: results and plans that do not depend on them, and BLAS's own, which are held back."""

import os
import signal
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import threadpoolctl

from fastsoftmax import SoftmaxRegression
from fastsoftmax.api import linear
from fastsoftmax.cpu.linear import blas
from fastsoftmax.cpu.linear import plan as plan_linear
from fastsoftmax.cpu.threads import launch
from tests.linear.support import problem
from tests.support import HANG, child

#: Passes of every way that are large enough for a launch in parallel; the results of each, and what was launched.
BEGIN = """
import hashlib, sys, warnings
from concurrent.futures import ThreadPoolExecutor
import numba
import numpy as np
import scipy.sparse
from tests.linear.support import ALL, problem, ways
from fastsoftmax.api import linear
from fastsoftmax.cpu.threads import launch
launched, parallel = [], launch._parallel
def recorded(kernel, params, chunks, threads, run):
    launched.append(threads)
    parallel(kernel, params, chunks, threads, run)
launch._parallel = recorded

def digest(*results):
    return hashlib.sha256(b"".join(np.ascontiguousarray(r).tobytes() for r in results if r is not None)).hexdigest()

def losses(*shape, ignored, wrt=ALL, sparse=None):
    x, weight, target, bias, _ = problem(1, shape, np.float32, ignored=ignored)
    if sparse:
        x = scipy.sparse.csr_array(np.where(x > 1, x, 0)).asformat(sparse)
    return lambda: linear.linear_cross_entropy_and_grad(x, weight, target, bias, wrt=wrt)

def others(*shape):
    x, weight, _, bias, _ = problem(2, shape, np.float32)
    return (
        lambda: linear.linear_hessian_product(x, weight, bias, weight, bias),
        lambda: (linear.linear_predict(x, weight, bias), linear.linear_predict_proba(x, weight, bias)),
        lambda: linear.linear_top_k(x, weight, bias, k=3),
    )

CALLS = {
    "tiles": losses(30000, 20, 5, ignored=0),
    "tiles, some ignored": losses(30000, 20, 5, ignored=0.3),
    "own": losses(4000, 12, 60, ignored=0),
    "own, some ignored": losses(4000, 12, 60, ignored=0.3),
    "shared": losses(300, 1100, 1000, ignored=0),
    "shared, some ignored": losses(300, 1100, 1000, ignored=0.3),
    "csr": losses(30000, 30, 20, ignored=0.3, wrt=ALL[1:], sparse="csr"),
    "csc": losses(30000, 30, 20, ignored=0.3, wrt=ALL[1:], sparse="csc"),
}
for way, shape in (("tiles", (30000, 20, 5)), ("own", (4000, 12, 60)), ("shared", (100, 1100, 600))):
    for name, call in zip(("hessian", "predict", "top_k"), others(*shape)):
        CALLS[f"{name}, {way}"] = call
"""


def run(code, **environment):
    """What a child process prints that runs `code`; no warning and no error is accepted."""
    done = child(code, PYTHONWARNINGS="error", **environment)
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


def test_bit_identical_for_any_number_of_threads():
    """The plans, too, are the same; all of them are really run in parallel."""
    code = """
for name, call in CALLS.items():
    found, plans = set(), set()
    for threads in (1, 2, 4):
        numba.set_num_threads(threads)
        launched.clear()
        with ways() as taken:
            found.add(digest(*call()))
        plans.add(str(taken))
        assert threads >= max(launched, default=1) > (threads > 1), (name, launched, threads)
        assert not taken or taken[0][0] == "own" * (name in ("csr", "csc")) or taken[0][0] in name, (name, taken)
    print(name, len(found), len(plans))
"""
    lines = run(BEGIN + code, NUMBA_NUM_THREADS="4").splitlines()
    assert len(lines) == 17
    assert all(line.endswith(" 1 1") for line in lines), lines


def test_concurrent_calls():
    """From eight threads at once, each in its own way."""
    code = """
names = list(CALLS)[::2]
expected = {name: digest(*CALLS[name]()) for name in names}
with ThreadPoolExecutor(8) as pool:
    found = list(pool.map(lambda name: (name, digest(*CALLS[name]())), names * 6))
print([name for name, got in found if got != expected[name]], len(found))
"""
    assert run(BEGIN + code, NUMBA_NUM_THREADS="2") == "[] 54\n"


# BLAS's own threads.


def pools():
    """The number of threads of each BLAS, by the library's file."""
    return {p["filepath"]: p["num_threads"] for p in threadpoolctl.threadpool_info() if p["user_api"] == "blas"}


def is_scipys(path):
    """Whether a library is the one that came with SciPy; where none did, all are held back."""
    found = [p for p in pools() if "scipy" in Path(p).parent.name]
    return path in found or not found


X, WEIGHT, TARGET, BIAS, _ = problem(3, (300, 9, 60), np.float32)
CALLS = {
    "loss": lambda: linear.linear_cross_entropy(X, WEIGHT, TARGET, BIAS),
    "gradient": lambda: linear.linear_cross_entropy_and_grad(X, WEIGHT, TARGET, BIAS),
    "shared": lambda: linear.linear_cross_entropy_and_grad(X, WEIGHT.astype(np.float64), TARGET, BIAS),
    "hessian": lambda: linear.linear_hessian_product(X, WEIGHT, BIAS, WEIGHT, BIAS),
    "predict": lambda: linear.linear_predict(X, WEIGHT, BIAS),
    "proba": lambda: linear.linear_predict_proba(X, WEIGHT, BIAS),
    "top_k": lambda: linear.linear_top_k(X, WEIGHT, BIAS, k=2),
}
calls = pytest.mark.parametrize("call", CALLS.values(), ids=list(CALLS))


@pytest.fixture(autouse=True)
def _three():
    """Pools of three threads, so that one is seen to be something else."""
    blas._libraries()  # loads SciPy's
    with threadpoolctl.threadpool_limits(3, user_api="blas"):
        assert set(pools().values()) == {3}
        yield


class Launches:
    """What BLAS is set to at every launch; then `action` is called instead of the first."""

    def __init__(self, monkeypatch, action=lambda: None):
        self.seen, self.action, self.launch = [], action, launch.launch
        monkeypatch.setattr(launch, "launch", self)

    def __call__(self, *arguments):
        self.seen.append(pools())
        self.action()
        self.launch(*arguments)

    def assert_held(self):
        """SciPy's BLAS had one thread whenever kernels ran, and nobody else's was touched."""
        assert self.seen
        for seen in self.seen:
            assert seen == {path: 1 if is_scipys(path) else 3 for path in seen}


@calls
def test_pool_is_held_and_restored(call, monkeypatch):
    launches = Launches(monkeypatch)
    for _ in range(2):
        call()
        assert set(pools().values()) == {3}
    launches.assert_held()


@calls
@pytest.mark.parametrize("error", [KeyboardInterrupt, MemoryError])
def test_pool_is_restored_after_an_error(call, error, monkeypatch):
    def fail():
        raise error

    launches = Launches(monkeypatch, fail)
    with pytest.raises(error):
        call()
    assert set(pools().values()) == {3}
    launches.assert_held()
    assert blas._pool.held == 0


@calls
def test_pool_is_restored_before_an_interruption_is_raised(call, monkeypatch):
    """Wherever it comes in: while the pool is set, while kernels run, while it is restored."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    real, came = blas._set_threads, []

    def set_threads(library, threads):
        if threads == wanted:
            came.append(signal.raise_signal(signal.SIGINT))
        real(library, threads)

    monkeypatch.setattr(blas, "_set_threads", set_threads)
    try:
        for wanted in (1, 3):  # noqa: B007  read by what stands in
            with pytest.raises(KeyboardInterrupt):
                call()
            assert set(pools().values()) == {3}
            assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
        wanted = None
        Launches(monkeypatch, lambda: signal.raise_signal(signal.SIGINT))
        with pytest.raises(KeyboardInterrupt):
            call()
        assert set(pools().values()) == {3}
        assert len(came) == 2
    finally:
        signal.signal(signal.SIGINT, before)


def test_pass_over_many_blocks_is_left_between_them(monkeypatch):
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    plan = plan_linear.shared_rows
    monkeypatch.setattr(plan_linear, "shared_rows", lambda *a, **k: min(plan(*a, **k), 100))
    launches = Launches(monkeypatch)
    try:
        CALLS["predict"]()
        whole, launches.seen = len(launches.seen), []
        launches.action = lambda: signal.raise_signal(signal.SIGINT)
        with pytest.raises(KeyboardInterrupt):
            CALLS["predict"]()
    finally:
        signal.signal(signal.SIGINT, before)
    assert 0 < len(launches.seen) < whole
    assert set(pools().values()) == {3}


def test_fit_is_left_after_a_pass(monkeypatch):
    """With all pools as they were: a fit holds every BLAS to one thread."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    launches = Launches(monkeypatch)
    try:
        SoftmaxRegression().fit(X, TARGET)
        whole, launches.seen = len(launches.seen), []
        launches.action = lambda: signal.raise_signal(signal.SIGINT)
        with pytest.raises(KeyboardInterrupt):
            SoftmaxRegression().fit(X, TARGET)
        assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    finally:
        signal.signal(signal.SIGINT, before)
    assert 0 < len(launches.seen) < whole
    assert set(pools().values()) == {3}


def test_pool_is_not_touched_by_bad_input():
    before = pools()
    with pytest.raises(ValueError, match="got 77"):
        linear.linear_cross_entropy(X, WEIGHT, np.full(300, 77))
    assert pools() == before


def test_nested_and_overlapping_holds():
    """Whoever is last restores what the first one found, in whatever order they leave."""
    held = {path: 1 if is_scipys(path) else 3 for path in pools()}
    with blas.single_threaded():
        with blas.single_threaded():
            assert pools() == held
            CALLS["gradient"]()
        assert pools() == held
    assert set(pools().values()) == {3}
    first, second = blas.single_threaded(), blas.single_threaded()
    first.__enter__()
    second.__enter__()
    first.__exit__(None, None, None)
    assert pools() == held
    second.__exit__(None, None, None)
    assert set(pools().values()) == {3}


def test_pool_with_several_python_threads(monkeypatch):
    """All are inside at once; half of them fail."""
    barrier, turn = threading.Barrier(4), threading.local()

    def meet():
        if not hasattr(turn, "number"):
            turn.number = barrier.wait(HANG)
            if turn.number % 2:
                raise MemoryError

    launches = Launches(monkeypatch, meet)
    with ThreadPoolExecutor(4) as pool:
        found = [pool.submit(CALLS["gradient"]) for _ in range(4)]
        assert sorted(f.exception() is None for f in found) == [False, False, True, True]
    launches.assert_held()
    assert set(pools().values()) == {3}


@pytest.mark.skipif(not hasattr(os, "fork"), reason="processes do not fork on this system")
def test_fork_while_the_pool_is_held():
    """A child of another thread finds the pool as it was set, and holds and restores it in its turn."""
    code = """
import os, signal, threading, warnings
import numpy as np, threadpoolctl
signal.alarm(1200)
warnings.filterwarnings("ignore", "This process", DeprecationWarning)  # forks of threaded processes are meant here
from fastsoftmax.api import linear
from fastsoftmax.cpu.linear import blas; from fastsoftmax.cpu.threads import launch
def pools(): return {p["num_threads"] for p in threadpoolctl.threadpool_info() if p["user_api"] == "blas"}
x, weight, target = np.ones((300, 9), np.float32), np.ones((60, 9), np.float32), np.zeros(300, int)
linear.linear_cross_entropy(x, weight, target)
threadpoolctl.threadpool_limits(3, user_api="blas")
before, real, inside, leave = pools(), launch.launch, threading.Event(), threading.Event()
def held(*arguments):
    inside.set()
    leave.wait()
    real(*arguments)
seen = []
def watched(*arguments):
    seen.append(1 in pools())
    real(*arguments)
launch.launch = held
busy = threading.Thread(target=linear.linear_cross_entropy, args=(x, weight, target))
busy.start()
assert inside.wait() and 1 in pools()
launch.launch = watched
process = os.fork()
if not process:
    good = pools() == before
    linear.linear_cross_entropy(x, weight, target)
    os._exit(0 if good and seen and all(seen) and pools() == before else 1)
print(os.waitstatus_to_exitcode(os.waitpid(process, 0)[1]), 1 in pools())
leave.set()
busy.join()
print(pools() == before)
with blas.single_threaded():  # and of the very thread that holds it
    process = os.fork()
if not process:
    good = pools() == before
    linear.linear_cross_entropy(x, weight, target)
    os._exit(0 if good and seen and all(seen) and pools() == before else 1)
print(os.waitstatus_to_exitcode(os.waitpid(process, 0)[1]), pools() == before)
"""
    assert run(code) == "0 True\nTrue\n0 True\n"
