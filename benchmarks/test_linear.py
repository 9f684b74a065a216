"""Linear passes and fits beside scikit-learn and PyTorch: ``python -m pytest benchmarks/test_linear.py``.

With ``FASTSOFTMAX_TOY=1`` in the environment every benchmark runs on next to nothing: that it does is all it shows.
Results are compared with an independent contestant's: a fast wrong answer is no answer.
"""

import functools
import os

import pytest

from benchmarks.linear import cases, check, contestants
from benchmarks.linear.cases import FIT, MEMORY
from benchmarks.linear.contestants import OURS, PRODUCTS, THROUGH_TORCH, TIGHTER
from fastsoftmax.bench import machine, timing

TOY = os.environ.get("FASTSOFTMAX_TOY", "0") != "0"
PAIRS = [(case, name) for case in cases.CASES for name in contestants.contestants(case)]
FACTS = machine.facts() | contestants.libraries()
ROUNDS = 1 if TOY else 5


@pytest.fixture(autouse=True)
def threads():
    with contestants.same_threads() as threads:
        yield threads


@functools.lru_cache(maxsize=1)
def prepared(case):
    """The data of a case, its calls, why others are missing, and what one that is not ours finds."""
    data = cases.data(case)
    calls, missing = contestants.calls_on(case, data)
    others = [name for name in calls if name not in (OURS, THROUGH_TORCH, TIGHTER, PRODUCTS)]
    return data, calls, missing, calls[others[0]]() if others and case.operation != MEMORY else None


@pytest.mark.parametrize(("case", "contestant"), PAIRS, ids=[f"{case.name}-{name}" for case, name in PAIRS])
def test_linear(benchmark, threads, case, contestant):
    name, case = case.name, case.toy if TOY else case
    try:
        data, calls, missing, expected = prepared(case)
    except cases.Missing as reason:
        pytest.skip(str(reason))
    if contestant in missing:
        pytest.skip(f"{contestant}: {missing[contestant]}")
    call = calls[contestant]
    benchmark.group = name
    benchmark.extra_info.update(
        case._asdict(), bytes=case.nbytes, flops=case.flops, threads=threads, versions=FACTS, pause=timing.PAUSE
    )
    if case.operation == MEMORY:
        benchmark.extra_info["extra_bytes"] = check.extra_memory(case, data, contestant)
    rounds = 1 if case.operation in {FIT, MEMORY} else ROUNDS
    result = benchmark.pedantic(call, setup=lambda: timing.settle(call, timing.PAUSE), rounds=rounds)
    if case.operation == FIT:
        benchmark.extra_info["excess"] = check.excess(data, result, expected)
        assert benchmark.extra_info["excess"] < check.NEAR
    elif contestant != PRODUCTS and expected is not None:
        assert check.disagreement(case, data, result, expected) == ""
