"""The benchmark suite on a GPU, without one: the list of cases, the command, who is timed, times and memory.

Times are those of a stand-in's counter: nothing here is a measurement.
"""

import itertools
import json
from types import SimpleNamespace

import pytest

from fastsoftmax.bench import results
from fastsoftmax.bench import timing as bench_timing
from fastsoftmax.bench.cases import ITEMSIZE, LAUNCH, LINEAR, LOSS, LOSS_AND_GRAD, SHAPES, SOFTMAX
from fastsoftmax.bench.cuda import arrays, cases, contestants, linear, suite, timing
from fastsoftmax.bench.cuda.cases import CASES
from fastsoftmax.bench.report import cuda_table
from fastsoftmax.bench.results import COMPILED, IN_PLACE, INTO, LIGER, OURS, QUACK, QUACK_FUSED, TORCH
from fastsoftmax.cli import program
from tests.standins.gpu import HAS_TORCH, LOSS_CASE, NAME, TICK, TOY, StandIn

# The table.


def test_cases_are_those_that_are_asked_for():
    assert len({case.name for case in CASES}) == len(CASES)
    assert all(case.reason for case in CASES)
    large = [case for case in CASES if case.group == SHAPES]
    assert all(1 << 27 < case.elements <= 1 << 28 for case in large)
    for dtype in ("bfloat16", "float32"):
        classes = {function: [] for function in (LOSS_AND_GRAD, LOSS, SOFTMAX)}
        for case in large:
            if case.dtype == dtype:
                classes[case.function].append(case.shape[1])
        assert (min(classes[LOSS_AND_GRAD]), max(classes[LOSS_AND_GRAD])) == (32, 262144)
        assert {256, 4096, 262144} <= set(classes[LOSS]) & set(classes[SOFTMAX])
    assert {case.function for case in CASES if case.group == LAUNCH} == {LOSS_AND_GRAD, LOSS, SOFTMAX}
    passes = [case for case in CASES if case.group == LINEAR]
    assert {case.dtype for case in passes} == {"bfloat16", "float32"}
    assert all(linear.room(case) < 30e9 for case in passes)
    assert cases.wanted(passes[0]) == [OURS, TORCH, LIGER]
    assert {OURS, INTO, IN_PLACE, TORCH, COMPILED, LIGER, QUACK} <= set(cases.wanted(large[0]))
    quick = suite.chosen(quick=True)
    assert 0 < len(quick) < len(CASES)
    assert suite.chosen("*/softmax/*x262144/float32") == [CASES[-13]]


@pytest.mark.parametrize("free", [1e6, 4e9, 12e9, 80e9, 1e15])
def test_rows_are_as_many_as_memory_holds(free):
    for case in CASES[:-4]:
        fitted = cases.fitted(case, free)
        assert fitted.shape[1] == case.shape[1]
        assert 1 <= fitted.shape[0] <= case.shape[0]
        if free >= 4e9:
            assert cases.room(fitted) <= free
        if free == 1e15:
            assert fitted == case


def test_copy_moves_as_much_as_the_case_must():
    for case in CASES[3:-4]:
        labels = 8 * case.shape[0] * (case.function != SOFTMAX)
        assert abs(2 * cases.copied(case) + labels - case.nbytes) < 2 * ITEMSIZE[case.dtype]
    assert [case.nbytes for case in (*CASES[:3], *CASES[-4:])] == [0] * 7


# The command.


def test_command_runs_and_its_json_makes_the_tables(toy, capsys, tmp_path):
    file = tmp_path / "found.json"
    assert program.main(["bench", "--device", "cuda", "--seconds", "0", "--json", str(file)]) == 0
    printed = capsys.readouterr()
    assert printed.err == ""
    run = results.from_json(json.loads(file.read_text("utf-8")))
    assert printed.out == cuda_table.text(run) + "\n"
    assert [found.case.shape for found in run.results] == [case.shape for case in TOY]
    assert run.machine["GPU"] == NAME
    assert run.machine["compute-sanitizer"].startswith("not run: compute-sanitizer is not on PATH")
    assert {"date", "fastsoftmax", "NumPy", "CPU"} <= set(run.machine)
    launch, loss, softmax, forward = run.results
    torch = {TORCH, COMPILED} if HAS_TORCH else set()
    assert set(launch.timings) == {OURS, INTO} | torch
    assert set(loss.timings) == {OURS, INTO, IN_PLACE} | torch
    assert set(softmax.timings) == {OURS, INTO} | torch
    assert set(forward.timings) == {OURS} | torch
    if HAS_TORCH:
        assert loss.skipped[QUACK] == loss.skipped[QUACK_FUSED]
        assert loss.skipped[QUACK] == "quack is not installed: pip install quack-kernels"
        assert loss.skipped[LIGER] == "liger_kernel is not installed: pip install liger-kernel"
    assert loss.ours.median == TICK
    assert run.ceilings == {results.GPU_COPY: pytest.approx(2 * 25e6 / TICK / 1e9, rel=1e-4)}
    size = 300 * 7 * 4 // 1024 * 1024
    assert loss.floor == ("copy on the GPU", pytest.approx(TICK * (2 * 300 * 7 * 4 + 300 * 8) / (2 * size)))
    assert loss.fraction(IN_PLACE) == pytest.approx(loss.floor[1] / TICK)
    assert launch.floor is None
    assert 0 < launch.ours.median < 1


def test_list_needs_no_gpu(capsys, monkeypatch):
    monkeypatch.delattr(arrays, "first_gpu")
    assert program.main(["bench", "--device", "cuda", "--list", "--cases", "*x50257/*"]) == 0
    assert [line.split()[0] for line in capsys.readouterr().out.splitlines()] == [
        "shapes/cross_entropy_and_grad/5341x50257/bfloat16",
        "shapes/cross_entropy_and_grad/5341x50257/float32",
    ]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--threads", "1"], "--threads is for --device cpu"),
        (["--html", "page.html"], "--html is for --device cpu"),
        (["--cases", "shapes/softmax/64x10/*"], "there are launch/cross_entropy_and_grad/64x1024/float32, "),
        ([], "--device cuda: no such driver: pip install 'numba-cuda[cu13]>=0.30,<0.31'"),
    ],
)
def test_what_cannot_be_measured_is_said_before(arguments, message, capsys, monkeypatch):
    def found():
        raise ImportError("no such driver: pip install 'numba-cuda[cu13]>=0.30,<0.31'")

    monkeypatch.setattr(arrays, "first_gpu", found)
    monkeypatch.delattr(suite, "begun")
    assert program.main(["bench", "--device", "cuda", *arguments]) == 2
    printed = capsys.readouterr()
    assert message in printed.err
    assert (printed.out, len(printed.err.splitlines())) == ("", 1)


def test_interruption_keeps_what_was_measured(toy, capsys, monkeypatch, tmp_path):
    prepared, calls = suite.prepared, []

    def interrupted(*arguments):
        calls.append(1)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return prepared(*arguments)

    monkeypatch.setattr(suite, "prepared", interrupted)
    file = tmp_path / "found.json"
    assert program.main(["bench", "--device", "cuda", "--seconds", "0", "--json", str(file)]) == 130
    assert capsys.readouterr().err == "interrupted\n"
    assert len(results.from_json(json.loads(file.read_text("utf-8"))).results) == 2


# Time and memory.


def test_events_stand_around_each_call_after_a_flush():
    gpu = StandIn()
    calls = {"a": lambda: gpu.log.append("a"), "b": lambda: gpu.log.append("b")}
    turns = []
    found = timing.measure(gpu, calls, seconds=0.0, least=2, turn=lambda: turns.append(1))
    assert found == {name: results.Timing(TICK, TICK, 2 * timing.MOST) for name in calls}
    assert len(turns) == 2 + 2 * 2
    one = lambda name, times: ["flush", "record", name, "record"] * times + ["synchronize"]  # noqa: E731
    warm, timed = timing.WARM, timing.MOST
    order = [("a", warm), ("b", warm), ("a", timed), ("b", timed), ("b", timed), ("a", timed)]
    assert gpu.log == [step for name, times in order for step in one(name, times)]


def test_host_times_do_not_wait_for_the_gpu(monkeypatch):
    gpu, clock = StandIn(), itertools.count()

    def now():
        gpu.log.append("clock")
        return next(clock)

    for module in (timing, bench_timing):
        monkeypatch.setattr(module, "time", SimpleNamespace(perf_counter=now))
    found = timing.host_times(gpu, {"a": lambda: gpu.log.append("a")}, seconds=0.0, least=1, most=1)
    warm, timed = ["a"] * timing.WARM, ["a"] * timing.QUEUED
    assert gpu.log == ["clock", *warm, "synchronize", "clock", *timed, "clock", "synchronize"]
    assert found == {"a": results.Timing(1 / timing.QUEUED, 1 / timing.QUEUED, 1)}


def test_time_that_is_over_leaves_others_out_and_then_cases(toy):
    run, clock = suite.begun(suite.Settings(seconds=0.0, budget=1000.0))
    clock._end = clock._share = 0.0
    share, clock.share = clock.share, lambda cases: None
    found = suite.measured(LOSS_CASE, [OURS, TORCH], toy, clock, suite.Settings(seconds=0.0), lambda: None)
    assert (list(found.timings), found.skipped) == ([OURS], {TORCH: contestants.LATE})
    clock.share = share
    suite.add(run, clock, [LOSS_CASE], suite.Settings())
    assert run.results[0].timings == {}
    assert set(run.results[0].skipped.values()) == {"the 1000 s for the whole run were over"}


def test_shares_of_the_time_left(monkeypatch):
    now = SimpleNamespace(perf_counter=lambda: 7.0)
    monkeypatch.setattr(suite, "time", now)
    clock = suite.Clock(1000.0)
    clock.share(4)
    assert (clock.of_case, clock.left) == (250, 1000)
    now.perf_counter = lambda: 57.0
    assert (clock.of_case, clock.left) == (200, 950)
    assert suite.Settings().whole < 480
    assert suite.Settings(quick=True).whole <= 120


def test_quick_runs_say_what_they_leave_out(toy):
    run, clock = suite.begun(suite.Settings(quick=True, seconds=0.0))
    suite.add(run, clock, [LOSS_CASE], suite.Settings(quick=True, seconds=0.0))
    assert "quick" in run.results[0].skipped[COMPILED]


def test_cases_without_room_are_skipped(toy):
    toy.memory = 1e4
    run = results.Run({}, {}, [])
    suite.add(run, suite.Clock(1000.0), [LOSS_CASE._replace(shape=(3, 70000))], suite.Settings())
    assert run.results[0].skipped[OURS] == "needs 0.0 GB on the GPU, 0.0 are free"
    assert toy.log[-1] == "trim"
