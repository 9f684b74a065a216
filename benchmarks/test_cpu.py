"""The claim, case by case: ``python -m pytest benchmarks`` (pytest-benchmark; its options choose, save and compare).

Each case is also checked against NumPy first: a fast wrong answer is no answer.
"""

import warnings

import numpy as np
import pytest

from fastsoftmax import bench, system

CASES = bench.cases()
CONTESTANTS = (bench.OURS, bench.INTO, bench.NUMPY, bench.SCIPY)
FACTS = {name: fact for name, fact in system.versions().items() if name != "cache folder"}


@pytest.fixture(autouse=True)
def _slow_is_no_error():
    """A case that takes longer than the time for its repetitions makes pytest-benchmark warn."""
    with warnings.catch_warnings():
        warnings.simplefilter("default")
        yield


@pytest.mark.parametrize("contestant", CONTESTANTS)
@pytest.mark.parametrize("case", CASES, ids=[f"{c.function}-{c.shape}" for c in CASES])
@pytest.mark.benchmark(min_rounds=3, max_time=0.5, warmup=True, warmup_iterations=1)
def test_cpu(benchmark, case, contestant):
    calls = bench.contestants(case)
    benchmark.group = f"{case.function} {case.shape} {case.dtype}"
    benchmark.extra_info.update(
        bytes=case.nbytes, shape=[case.rows, case.classes], dtype=case.dtype, threads=FACTS["threads"], versions=FACTS
    )
    result = benchmark(calls[contestant])
    tolerance = 1e-4 if case.function == bench.LOSS else 1e-5
    for ours, expected in zip(_parts(result), _parts(calls[bench.NUMPY]()), strict=True):
        np.testing.assert_allclose(ours, expected, rtol=tolerance, atol=1e-7)


def _parts(result):
    return result if isinstance(result, tuple) else (result,)
