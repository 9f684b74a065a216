"""Every case and contestant of the suite by pytest-benchmark: ``python -m pytest benchmarks/test_cpu.py``.

The same cases, contestants and checks as ``python -m fastsoftmax bench``, whose contestants take turns; here they come
one after the other, and pytest-benchmark's options choose, save and compare. With ``FASTSOFTMAX_TOY=1`` in the
environment every benchmark runs on next to nothing: that it does is all it shows.
"""

import contextlib
import functools
import importlib.util
import os
import warnings

import pytest

from fastsoftmax.bench import inputs, timing
from fastsoftmax.bench.cases import BUSY, CACHE, CASES, START
from fastsoftmax.bench.cpu import contestants, starts, suite
from fastsoftmax.bench.results import OURS

TOY = os.environ.get("FASTSOFTMAX_TOY", "0") != "0"
TOY_ROWS, TOY_CLASSES = 32, 64
PAIRS = [(case, name) for case in CASES if case.group not in {BUSY, START} for name in contestants.wanted(case)]
STARTS = [(case, name) for case in CASES if case.group == START for name in starts.wanted(case)]
FACTS = suite.facts()
MANY = None if TOY else 1


def ids(pairs):
    return [f"{case.name}-{name}" for case, name in pairs]


def toy(case):
    """The same on few rows and classes, of which many cases have the same."""
    rows, classes = case.shape
    return case._replace(shape=(min(rows, TOY_ROWS), min(classes, TOY_CLASSES)), memory=CACHE, reason="", group="toy")


@pytest.fixture(autouse=True)
def _slow_is_no_error():
    """A case that takes longer than the time for its repetitions makes pytest-benchmark warn."""
    with warnings.catch_warnings():
        warnings.simplefilter("default")
        yield


@functools.lru_cache(maxsize=MANY)
def sets(case):
    return inputs.ring(case)


@functools.lru_cache(maxsize=MANY)
def prepared(case, name):
    """The call of a contestant that has given the right result, or why there is none."""
    calls, skipped = contestants.prepared(case, sets(case), [name])
    return next(iter(calls.values()), None), next(iter(skipped.values()), "")


def absent(name):
    """Whether a contestant needs a package that is not installed: of ours, the one that is called through torch."""
    package = contestants.CONTESTANTS[name].package if name in contestants.CONTESTANTS else ""
    return bool(package) and importlib.util.find_spec(package) is None


@contextlib.contextmanager
def uncompiled():
    """In a toy, torch.compile compiles nothing: that takes seconds a shape."""
    if TOY:
        with contextlib.suppress(ModuleNotFoundError):
            import torch

            with torch.compiler.set_stance("force_eager"):
                yield
            return
    yield


@pytest.mark.parametrize(("case", "name"), PAIRS, ids=ids(PAIRS))
@pytest.mark.benchmark(min_rounds=3, max_time=0.5, warmup=False)
def test_cpu(benchmark, case, name):
    benchmark.group = case.name
    measured = toy(case) if TOY else case
    if suite.room(measured) > inputs.available():
        pytest.skip(f"needs {suite.room(measured) / 1e9:.1f} GB")
    with contestants.same_threads(case.threads, [name]) as threads, uncompiled():
        call, why = prepared(measured, name)
        if call is None:
            assert absent(name) or not name.startswith(OURS), why
            assert not why.startswith("wrong"), why
            pytest.skip(f"{name}: {why}")
        benchmark.extra_info.update(case._asdict(), bytes=case.nbytes, in_threads=threads, versions=FACTS)
        if not TOY:
            timing.settle(call, timing.PAUSE)
        benchmark(call)


@pytest.mark.parametrize(("case", "name"), STARTS, ids=ids(STARTS))
def test_start(benchmark, case, name):
    """The time is that of the process; what the process itself has measured is among the extra information."""
    if TOY and name != OURS:
        pytest.skip("in a toy: ours only")
    result = benchmark.pedantic(lambda: starts.measured(case, [name], 1), rounds=1)
    if name in result.skipped:
        assert name != OURS, result.skipped
        pytest.skip(f"{name}: {result.skipped[name]}")
    benchmark.extra_info.update(case._asdict(), seconds=result.timings[name].least, versions=FACTS)
