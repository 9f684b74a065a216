"""Every case and contestant on a GPU by pytest-benchmark: ``python -m pytest benchmarks/test_cuda.py``.

The same cases, contestants and checks as ``python -m fastsoftmax bench --device cuda``, whose contestants take turns
within a budget of time; here they come one after the other, and pytest-benchmark's options choose, save and compare.
Without a GPU all of it is skipped. With ``FASTSOFTMAX_TOY=1`` every benchmark runs on next to nothing.

What pytest-benchmark shows is the host's clock around a call and the wait for it; the time by the GPU's own events is
among the extra information.
"""

import functools
import os

import pytest

from fastsoftmax.bench.cases import LAUNCH, LINEAR
from fastsoftmax.bench.cuda import arrays, cases, contestants, linear, suite, timing
from fastsoftmax.bench.cuda.cases import CASES
from fastsoftmax.bench.results import COMPILED, OURS

if MISSING := arrays.missing():
    pytest.skip(MISSING, allow_module_level=True)

TOY = os.environ.get("FASTSOFTMAX_TOY", "0") != "0"
TOY_ROWS, TOY_CLASSES = 32, 64
GPU = arrays.first_gpu()
FACTS = suite.facts(GPU)
PAIRS = [(case, name) for case in CASES for name in cases.wanted(case)]


@functools.lru_cache(maxsize=1)
def drawn(case):
    GPU.trim()
    return of(case).drawn(GPU, case)


def of(case):
    """The module that knows how a case is computed."""
    return linear if case.group == LINEAR else contestants


def sized(case):
    """As many rows as there is memory for; next to nothing in a toy."""
    if TOY:
        shape = min(case.shape[0], TOY_ROWS), min(case.shape[1], TOY_CLASSES)
        return case._replace(shape=shape, option="d=16" if case.group == LINEAR else case.option)
    return case if case.group in (LAUNCH, LINEAR) else cases.fitted(case, GPU.free())


@pytest.mark.parametrize(("case", "name"), PAIRS, ids=[f"{case.name}-{name}" for case, name in PAIRS])
def test_cuda(benchmark, case, name):
    if TOY and name == COMPILED:
        pytest.skip("in a toy: it compiles for seconds a case")
    benchmark.group = case.name
    drawn.cache_clear()
    measured = sized(case)
    calls, skipped = of(case).prepared(measured, drawn(measured), [name])
    if not calls:
        assert not name.startswith(OURS), skipped[name]
        assert not skipped[name].startswith("wrong"), skipped[name]
        pytest.skip(f"{name}: {skipped[name]}")
    measure = timing.host_times if case.group == LAUNCH else timing.measure
    taken = measure(GPU, calls, seconds=0.0 if TOY else 0.3)[name]
    info = measured._asdict() | {"bytes": measured.nbytes, "seconds": taken._asdict(), "versions": FACTS}
    benchmark.extra_info.update(info)
    benchmark.pedantic(waited, (calls[name],), setup=GPU.flush, rounds=1 if TOY else 10)


def waited(call):
    """A call, and the wait for it."""
    call()
    GPU.synchronize()
