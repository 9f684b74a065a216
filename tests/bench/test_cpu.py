"""The benchmark suite: its cases, what the contestants compute, how they are timed, what is made of the times."""

import contextlib
import json
import os
import signal
import sys
import threading

import numba
import numpy as np
import pytest

import fastsoftmax as fs
from fastsoftmax import reference
from fastsoftmax.bench import cases, inputs, results, timing
from fastsoftmax.bench.cases import CASES, LOSS, LOSS_AND_GRAD, LOSSES, SOFTMAX, Case
from fastsoftmax.bench.cpu import busy, contestants, floors, starts, suite
from fastsoftmax.bench.report import table
from fastsoftmax.bench.results import IN_PLACE, INTO, JAX, NUMPY, OURS, TORCH, Result, Run, Timing
from tests.support import HANG, child

BY_NAME = {case.name: case for case in CASES}
TOLERANCE = {"bfloat16": 0.05, "float16": 0.02, "float32": 1e-5, "float64": 1e-12}


def small(name, rows=33):
    """A case of the table with few rows and classes, both odd where they can be."""
    case = BY_NAME[name]
    return case._replace(shape=(rows, min(case.shape[1], 67)), memory=cases.CACHE)


def numbers(result):
    """A result of any library as float64."""
    if hasattr(result, "detach"):
        result = result.detach().double()
    return np.asarray(result).astype(np.float64)


def test_names_tell_cases_apart():
    assert len(BY_NAME) == len(CASES)
    assert BY_NAME["threads/cross_entropy_and_grad/65536x10/float32/threads=1"].threads == 1
    assert all(case.reason for case in CASES)
    assert {case.group for case in CASES} == set(cases.GROUPS)
    assert {case.group for case in CASES if cases.is_quick(case)} == set(cases.GROUPS)
    assert [case.name for case in suite.chosen("dtypes/*/1024x32000/float64")] == [
        "dtypes/cross_entropy_and_grad/1024x32000/float64",
        "dtypes/softmax/1024x32000/float64",
    ]


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("shapes/cross_entropy_and_grad/64x10/float32", 2 * 64 * 10 * 4 + 64 * 8),
        ("shapes/cross_entropy/64x10/float32", 64 * 10 * 4 + 64 * 8),
        ("shapes/softmax/64x10/float32", 2 * 64 * 10 * 4),
        ("shapes/logsumexp/64x10/float32", 64 * 10 * 4 + 64 * 4),
        ("dtypes/softmax/65536x10/bfloat16", 2 * 65536 * 10 * 2),
        ("options/cross_entropy_and_grad/65536x10/float32/soft_targets", 3 * 65536 * 10 * 4),
        ("start/import/64x10/float32", 0),
    ],
)
def test_necessary_bytes(name, expected):
    assert BY_NAME[name].nbytes == expected


CHECKED = [
    *(f"shapes/{function}/{shape}/float32" for function in cases.FUNCTIONS for shape in ("64x10", "4096x1008")),
    *(f"dtypes/{f}/65536x10/{d}" for f in (LOSS_AND_GRAD, SOFTMAX) for d in ("bfloat16", "float16", "float64")),
    *(f"layouts/{LOSS_AND_GRAD}/65536x10/float32/{layout}" for layout in ("axis=0", "every-second-class", "unaligned")),
    *(f"options/{LOSS_AND_GRAD}/65536x10/float32/{option}" for option in ("class_weight", "ignore_index")),
    *(f"options/{LOSS_AND_GRAD}/65536x10/float32/{option}" for option in ("label_smoothing", "soft_targets")),
    *(f"autograd/{LOSS_AND_GRAD}/4096x1008/{dtype}" for dtype in ("float32", "bfloat16")),
]


@pytest.mark.parametrize("name", CHECKED)
def test_contestants_are_right(name):
    case = small(name)
    d = inputs.inputs(case)
    for contestant in contestants.wanted(case):
        # The compiled ones are tested alone, the other has options of its own.
        if contestant in {results.COMPILED, results.THROUGH_COMPILED, results.PLAIN}:
            continue
        if package := contestants.CONTESTANTS[contestant].package:
            pytest.importorskip(package)
        if contestant == JAX and (d.options or case.layout == cases.UNALIGNED):
            continue
        (call,) = contestants.CONTESTANTS[contestant].make(case, [d])
        assert_right(case, d, call())


def assert_right(case, d, result):
    """Compare with the reference, all rows."""
    tolerance = TOLERANCE[case.dtype]
    if case.function not in LOSSES:
        np.testing.assert_allclose(numbers(result), getattr(reference, case.function)(d.x), rtol=tolerance, atol=1e-6)
        return
    expected = reference.cross_entropy_and_grad(d.x, d.target, **d.options)
    loss, grad = (result, None) if case.function == LOSS else result
    np.testing.assert_allclose(numbers(loss), expected.loss, rtol=tolerance)
    if grad is not None:
        found = numbers(grad).T if case.layout == cases.AXIS_0 and grad.shape != d.x.shape else numbers(grad)
        np.testing.assert_allclose(found, expected.grad, rtol=tolerance, atol=1e-6)


@pytest.mark.exhaustive  # half a minute of PyTorch's compiler
@pytest.mark.parametrize("name", [results.COMPILED, results.THROUGH_COMPILED])
def test_compiled_torch_is_right(name):
    pytest.importorskip("torch")
    case = small("autograd/cross_entropy_and_grad/64x10/float32")
    d = inputs.inputs(case)
    calls, skipped = contestants.prepared(case, [d], [name])
    if skipped:
        assert "compiler" in skipped[name].lower()  # of C++, which torch needs
        pytest.skip(skipped[name])
    assert_right(case, d, calls[name]())


@pytest.mark.parametrize("name", ["shapes/cross_entropy_and_grad/64x10/float32", "shapes/softmax/64x10/float32"])
def test_results_past_the_rows_that_differ(name, monkeypatch):
    """Rows repeat; what is expected of them is right all the same."""
    monkeypatch.setattr(inputs, "DISTINCT", 50)
    case = small(name)
    d = inputs.inputs(case)
    assert d.distinct == 5
    np.testing.assert_array_equal(d.x[:5], d.x[5:10])
    assert len(np.unique(d.x, axis=0)) == 5
    loss, rows = inputs.expected(case, d)
    if case.function == LOSS_AND_GRAD:
        full = reference.cross_entropy_and_grad(d.x, d.target)
        np.testing.assert_allclose(loss, full.loss, rtol=1e-12)
        np.testing.assert_allclose(rows, full.grad[:5], rtol=1e-12)
    else:
        np.testing.assert_allclose(rows, reference.softmax(d.x)[:5], rtol=1e-12)


@pytest.mark.parametrize("spoil", ["loss", "first", "last"])
def test_wrong_results_are_found(spoil, monkeypatch):
    monkeypatch.setattr(inputs, "DISTINCT", 50)
    case = small("shapes/cross_entropy_and_grad/64x10/float32")
    d = inputs.inputs(case)
    right = inputs.expected(case, d)
    loss, grad = fs.cross_entropy_and_grad(d.x, d.target)
    assert inputs.disagreement(case, d, (loss, grad), right) == ""
    if spoil == "loss":
        loss = loss * 1.001
    else:
        grad[0 if spoil == "first" else -1, 3] *= 1.01
    assert inputs.disagreement(case, d, (loss, grad), right).startswith("wrong: ")


def test_who_is_wrong_or_fails_or_is_missing_is_not_timed(monkeypatch):
    case = small("shapes/softmax/64x10/float32")

    def failing(case, sets):
        raise RuntimeError("no\nluck")

    makes = {NUMPY: lambda case, sets: [lambda: sets[0].x], results.SCIPY: failing}
    for name, make in makes.items():
        monkeypatch.setitem(contestants.CONTESTANTS, name, contestants.Contestant(make))
    monkeypatch.setitem(sys.modules, "torch", None)
    names = [OURS, NUMPY, results.SCIPY, TORCH]
    found = suite.measured(case, names, seconds=0.0)
    assert list(found.timings) == [OURS]
    assert found.skipped[NUMPY].startswith("wrong: ")
    assert found.skipped[results.SCIPY] == "RuntimeError: no luck"
    assert found.skipped[TORCH] == "torch is not installed"


def test_loss_of_jax_without_optax_says_so(monkeypatch):
    pytest.importorskip("jax")
    monkeypatch.setattr(contestants.by_jax, "has_optax", lambda: False)
    case = small("shapes/cross_entropy_and_grad/64x10/float32")
    calls, skipped = contestants.prepared(case, [inputs.inputs(case)], [JAX])
    assert (list(calls), skipped) == (["JAX without optax"], {})


@pytest.mark.parametrize("layout", [cases.AXIS_0, cases.APART, cases.SECOND, cases.FORTRAN, cases.UNALIGNED])
def test_layouts(layout):
    case = Case("layouts", LOSS_AND_GRAD, (6, 4), layout=layout)
    x = inputs.inputs(case).x
    np.testing.assert_array_equal(x, inputs.inputs(case._replace(layout=cases.ROWS)).x)
    expected = {cases.AXIS_0: (4, 24), cases.APART: (32, 4), cases.SECOND: (32, 8), cases.FORTRAN: (4, 24)}
    assert x.strides == expected.get(layout, (16, 4))
    assert x.flags.aligned == (layout != cases.UNALIGNED)


def test_inputs_rotate_past_the_caches(monkeypatch):
    case = BY_NAME["shapes/softmax/65536x100/float32"]._replace(shape=(10, 100))
    monkeypatch.setattr(inputs, "last_level", lambda: case.nbytes)
    assert len(inputs.ring(case)) == 4
    assert len(inputs.ring(case._replace(memory=cases.CACHE))) == 1
    called = []
    call = contestants.rotating([lambda i=i: called.append(i) for i in range(3)])
    for _ in range(4):
        call()
    assert called == [0, 1, 2, 0]


def test_threads_are_the_same_and_given_back():
    torch = pytest.importorskip("torch")
    before = numba.get_num_threads(), torch.get_num_threads()
    with contestants.same_threads(1, [TORCH]) as threads:
        assert (threads, numba.get_num_threads(), torch.get_num_threads()) == (1, 1, 1)
    assert (numba.get_num_threads(), torch.get_num_threads()) == before


def test_measure_takes_turns():
    counts = {"a": 0, "b": 0}
    turns = []

    def call(name):
        counts[name] += 1

    calls = {name: (lambda name=name: call(name)) for name in counts}
    times = timing.measure(calls, seconds=0.0, least=2, turn=lambda: turns.append(1))
    assert set(times) == {"a", "b"}
    assert all(0 < t.least <= t.median for t in times.values())
    assert all(t.repetitions >= 2 for t in times.values())
    assert min(counts.values()) >= 2
    assert len(turns) == 2 + 2 * 2


def found(name="shapes/softmax/64x10/float32", **seconds):
    """A case with times of a millisecond and what is given."""
    names = {"ours": OURS, "into": INTO, "in_place": IN_PLACE, "torch": TORCH, "numpy": NUMPY}
    timings = {names[key]: Timing(value / 2, value, 7) for key, value in seconds.items()}
    return Result(BY_NAME[name], timings, {JAX: "jax is not installed"}, ("copy", 1e-4), ("update", 5e-5), 0.5)


def test_derived_figures():
    one = found(ours=1e-3, into=5e-4, in_place=1e-4, torch=3e-3, numpy=2e-3)
    assert one.ours.median == 1e-3
    assert one.peer == (NUMPY, Timing(1e-3, 2e-3, 7))
    assert one.ratio == 2.0
    assert one.gbps(OURS) == pytest.approx(5120 / 1e-3 / 1e9)
    assert one.fraction(OURS) == pytest.approx(0.1)
    assert one.fraction(IN_PLACE) == pytest.approx(0.5)
    alone = found(ours=1e-3)
    assert (alone.peer, alone.ratio, alone.gbps(TORCH), alone.fraction(TORCH)) == (None, None, None, None)
    assert found("start/import/64x10/float32", ours=0.1).gbps(OURS) is None


def run_of(*some):
    """A run."""
    return Run({"CPU": "a CPU", "threads": "2 of 2", "date": "2026-01-02"}, {results.COPY: 10.0}, list(some))


def test_json_both_ways():
    run = run_of(found(ours=1e-3, numpy=2e-3), found("start/import/64x10/float32", ours=0.1)._replace(floor=None))
    text = json.dumps(results.as_json(run))
    assert results.from_json(json.loads(text)) == run
    assert json.loads(text)["cases"][0]["name"] == "shapes/softmax/64x10/float32"
    with pytest.raises(ValueError, match="format 1, got format 0"):
        results.from_json({"format": 0})


def test_table():
    run = run_of(
        found(ours=1e-3, into=5e-4, numpy=2e-3),
        found("options/cross_entropy_and_grad/65536x10/float32/z_loss", ours=1.0),
        found("start/import/64x10/float32", ours=0.1),
        Result(BY_NAME["shapes/softmax/65536x3/float32"], {}, {OURS: "x" * 200, JAX: "jax is not installed"}),
    )
    lines = table.text(run).splitlines()
    assert max(map(len, lines)) <= 120
    (row,) = [line for line in lines if line.startswith("  64x10")]
    assert row.split() == ["64x10", "1", "0.5", "1562", "0.00512", "10%", "20%", "NumPy", "2", "2.00"]
    assert any("Other processes took up to 0.5 cores in 3 cases" in line for line in lines)
    missing = [line for line in lines if "jax is not installed" in line]
    assert missing == ["  JAX: jax is not installed (shapes/softmax/64x10/float32 and 3 more)"]


@pytest.fixture
def little_memory(monkeypatch):
    """Floors on arrays of some megabytes."""
    monkeypatch.setattr(floors, "last_level", lambda: 1 << 19)
    floors._arrays.cache_clear()
    yield
    floors._arrays.cache_clear()


@pytest.mark.parametrize("ahead", floors.AHEAD)
def test_floors_do_what_they_say(ahead, little_memory):
    size = 3 * floors.CHUNK + 512
    copy, update, total = (floors.Mover(name, size, 2, ahead) for name in (floors.COPY, floors.UPDATE, floors.SUM))
    count, x, y = size // 4, copy._read, copy._written
    x[:] = np.arange(len(x), dtype=np.float32) % 7
    before = x.copy()
    copy()
    np.testing.assert_array_equal(y[:count], before[:count])
    assert not y[count:].any()
    total()
    assert total._results.sum() == before[:count].sum(dtype=np.float64)
    update()
    update()  # the next bytes
    np.testing.assert_array_equal(x[: 2 * count], -before[: 2 * count])
    np.testing.assert_array_equal(x[2 * count :], before[2 * count :])
    for _ in range(len(x) // count - 2):  # and around
        update()
    update()
    np.testing.assert_array_equal(x[:count], before[:count])


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_exponentials_are_computed(dtype):
    x = floors._aligned(floors.IN_CACHE, -1.5, dtype)
    result, kind = np.zeros(1), floors.FLOAT64 if dtype == "float64" else floors.FLOAT32
    params = np.array([0, floors.address(x), 0, x.nbytes, x.nbytes, floors.address(result)], np.int64)
    floors.launch.launch(floors._kernel(floors.EXP, kind, 0), floors.address(params), 1, 1)
    expected = len(x) * np.exp(-1.5 - np.arange(floors.ceilings.REPEATS)).sum()
    assert result[0] == pytest.approx(expected, rel=1e-5)
    assert floors.exponentials(dtype) > 0


def test_floor_of_a_case(little_memory):
    ceilings = {results.EXP: 2.0, results.EXP64: 0.5}
    name = "shapes/softmax/4096x1008/float32"
    seconds = 4096 * 1008 / 2e9 / 2
    assert floors.of_case(BY_NAME[name], {}, {}, ceilings, 2) == (("exponentials", seconds), ("exponentials", seconds))
    wide = BY_NAME[name]._replace(dtype="float64", function=cases.LOGSUMEXP)
    assert floors.of_case(wide, {}, {}, ceilings, 1) == (("exponentials", 4096 * 1008 / 5e8), None)
    large = BY_NAME["shapes/softmax/65536x100/float32"]
    calls = floors.calls_for(large, 2)
    assert sorted(calls) == ["copy 0", "copy 1024", "update 0", "update 1024"]
    read = large.nbytes // 2 // 256 * 256
    assert {call.size for call in calls.values()} == {read}
    times = {key: Timing(1.0, 2.0 if key.endswith(" 0") else 3.0 if key[0] == "c" else 1.0) for key in calls}
    copy, update = floors.of_case(large, times, calls, ceilings, 2)
    assert copy == ("copy past the caches", pytest.approx(2.0, rel=1e-4))
    assert update == ("update in place", pytest.approx(1.0, rel=1e-4))
    forward = BY_NAME["shapes/cross_entropy/65536x100/float32"]
    assert sorted(floors.calls_for(forward, 2)) == ["sum 0", "sum 1024"]


def test_starts(monkeypatch):
    monkeypatch.setattr(starts, "TIMEOUT", HANG)
    case = BY_NAME["start/import/64x10/float32"]
    one = starts.measured(case, [OURS], 2)
    assert one.skipped == {}
    assert one.timings[OURS].repetitions == 2
    assert 0 < one.timings[OURS].least <= one.timings[OURS].median < starts.TIMEOUT


def test_starts_that_fail(monkeypatch):
    monkeypatch.setattr(starts, "TIMEOUT", HANG)
    case = BY_NAME["start/import/64x10/float32"]
    monkeypatch.setitem(starts.PACKAGES, TORCH, "no_such_package")
    monkeypatch.setattr(starts, "_code", lambda case, name: "raise ValueError('no luck')")
    assert starts.measured(case, [OURS, TORCH], 1).skipped == {
        OURS: "ValueError: no luck",
        TORCH: "no_such_package is not installed",
    }
    monkeypatch.setattr(starts, "_code", lambda case, name: "import time; time.sleep(86400)")  # it is killed
    monkeypatch.setattr(starts, "TIMEOUT", 0.01)
    assert starts.measured(case, [OURS], 1).skipped == {OURS: "took longer than 0.01 s"}
    warm = BY_NAME["start/first_call_cached/64x10/float32"]
    assert "nothing on disk" in starts.measured(warm, [JAX], 1).skipped[JAX]


posix = pytest.mark.skipif(sys.platform == "win32", reason="there are no sessions on this system")


BESIDE = ["quiet", pytest.param("two-hogs", marks=posix), "torch", "scikit-learn", "BLAS", "dask", "two-threads-call"]
PACKAGES = {"torch": "torch", "scikit-learn": "sklearn", "dask": "distributed"}


@pytest.mark.parametrize("option", [*BESIDE, "sixteen-threads-compute"])
def test_busy(option, monkeypatch):
    """Both numbers of threads are timed beside as many processes, or threads, as are said; processes in sessions."""
    if option in PACKAGES:
        pytest.importorskip(PACKAGES[option])
    started, hogs, computing, beside = [], busy.hogs, busy._computing, []

    @contextlib.contextmanager
    def seen(count):
        with hogs(count) as processes:
            assert {os.getsid(p.pid) for p in processes} == {p.pid for p in processes}
            assert all(p.poll() is None for p in processes)
            started.extend(processes)
            yield processes

    @contextlib.contextmanager
    def noted(count):
        before = threading.active_count()
        with computing(count):
            beside.append(threading.active_count() - before)
            yield

    monkeypatch.setattr(busy, "hogs", seen)
    monkeypatch.setattr(busy, "_computing", noted)
    monkeypatch.setattr(busy, "TURN", 0.001)
    case = BY_NAME[f"busy/softmax/65536x10/float32/{option}"]._replace(shape=(64, 10))
    run = run_of()
    suite.add(run, [case], suite.Settings(seconds=0.0))
    assert len(started) == cases.HOGS.get(option, 0)
    assert sum(beside) == cases.IN_PYTHON.get(option, 0)
    assert all(p.returncode == -signal.SIGKILL for p in started)
    assert run.results[0].skipped == {}
    assert set(run.results[0].timings) == {INTO, busy.ALONE}
    assert all(0 < t.least <= t.median and t.repetitions >= 5 for t in run.results[0].timings.values())


@pytest.mark.parametrize("option", ["quiet", "rested"])
def test_empty_launches(option, monkeypatch):
    monkeypatch.setattr(busy, "TURN", 0.001)
    monkeypatch.setattr(busy, "REST", 1e-4)
    run = run_of()
    suite.add(run, [BY_NAME[f"busy/empty_launch/2x1/float32/{option}"]], suite.Settings(seconds=0.0))
    assert set(run.results[0].timings) == {INTO, busy.ALONE}
    assert run.results[0].case.nbytes == 0


def test_busy_says_who_is_missing(monkeypatch):
    monkeypatch.setitem(sys.modules, "distributed", None)
    run = run_of()
    suite.add(run, [BY_NAME["busy/softmax/8192x10/float32/dask"]], suite.Settings(seconds=0.0))
    assert run.results[0].timings == {}
    assert run.results[0].skipped == {"dask": "distributed is not installed"}


@posix
def test_hogs_end_with_whoever_started_them():
    """Though that was killed, and could end nobody: standard error, which they share, comes to its end."""
    code = """
import os, signal
from fastsoftmax.bench.cpu import busy
busy.LIMIT = 7200
with busy.hogs(1):
    os.kill(os.getpid(), signal.SIGKILL)
"""
    done = child(code)  # which waits for that, and not as long
    assert (done.returncode, done.stderr) == (-signal.SIGKILL, "")


def test_cases_without_room_are_skipped(monkeypatch):
    monkeypatch.setattr(suite, "available", lambda: 1e6)
    run = run_of()
    suite.add(run, [BY_NAME["size/cross_entropy_and_grad/1000000x1000/float32"]], suite.Settings())
    assert run.results[0].timings == {}
    assert run.results[0].skipped[OURS] == "needs 14.0 GB of memory, 0.0 are free"


def test_bfloat16_without_its_package(monkeypatch):
    monkeypatch.setitem(sys.modules, "ml_dtypes", None)
    run = run_of()
    suite.add(run, [BY_NAME["dtypes/softmax/65536x10/bfloat16"]], suite.Settings())
    assert run.results[0].skipped[OURS] == "ml_dtypes is not installed"


def test_quick_runs_say_what_they_leave_out(monkeypatch):
    monkeypatch.setattr(suite, "_with_floors", lambda case, names, *_: Result(case, dict.fromkeys(names), {}))
    run, case = run_of(), BY_NAME["shapes/softmax/64x10/float32"]
    suite.add(run, [case], suite.Settings(quick=True))
    suite.add(run, [case], suite.Settings())
    quick, full = run.results
    assert set(full.timings) - set(quick.timings) == set(quick.skipped) == set(suite.QUICK_WITHOUT)
    assert full.skipped == {}
