"""The benchmark suite on a GPU, without one: what is asked of it, of whom, in which order, and what becomes of it.

Times are those of a stand-in's counter: nothing here is a measurement.
"""

import itertools
import json
import sys
from types import ModuleType, SimpleNamespace

import numpy as np
import pytest
from standin_gpu import HAS_TORCH, NAME, TICK, StandIn

from fastsoftmax import cli
from fastsoftmax.bench import (
    by_cuda,
    contestants,
    cuda_cases,
    cuda_suite,
    cuda_table,
    cuda_timing,
    gpu_arrays,
    memcheck,
    results,
)
from fastsoftmax.bench.cases import ITEMSIZE, LAUNCH, LOSS, LOSS_AND_GRAD, SHAPES, SOFTMAX, Case
from fastsoftmax.bench.cuda_cases import CASES
from fastsoftmax.bench.results import COMPILED, IN_PLACE, INTO, LIGER, OURS, QUACK, QUACK_FUSED, TORCH

needs_torch = pytest.mark.skipif(not HAS_TORCH, reason="torch is not installed")
TOY = (
    Case(LAUNCH, SOFTMAX, (8, 16)),
    Case(SHAPES, LOSS_AND_GRAD, (300, 7)),
    Case(SHAPES, SOFTMAX, (5, 33), "bfloat16"),
    Case(SHAPES, LOSS, (6, 5)),
)
LOSS_CASE = TOY[1]


@pytest.fixture
def gpu(monkeypatch):
    """A stand-in in the place of the GPU, and no tool that looks for a real one."""
    gpu = StandIn()
    monkeypatch.setattr(gpu_arrays, "found", lambda: gpu)
    monkeypatch.setattr(memcheck.shutil, "which", lambda _: None)
    return gpu


@pytest.fixture
def toy(gpu, monkeypatch):
    """A toy list of cases; torch.compile, which compiles for seconds, is eager."""
    gpu.memory = 1e8  # for the copy: a quarter of it
    monkeypatch.setattr(cuda_suite, "CASES", TOY)
    monkeypatch.setattr(cuda_cases, "LEAST", 1)
    monkeypatch.setitem(by_cuda.CONTESTANTS, COMPILED, by_cuda.CONTESTANTS[TORCH])
    monkeypatch.setitem(sys.modules, "quack", None)
    monkeypatch.setitem(sys.modules, "liger_kernel", None)
    with contestants.same_threads(1, [TORCH]):  # which would wait for one another on a few numbers
        yield gpu


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
    assert {OURS, INTO, IN_PLACE, TORCH, COMPILED, LIGER, QUACK} <= set(cuda_cases.wanted(large[0]))
    quick = cuda_suite.chosen(quick=True)
    assert 0 < len(quick) < len(CASES)
    assert cuda_suite.chosen("*/softmax/*x262144/float32") == [CASES[-9]]


@pytest.mark.parametrize("free", [1e6, 4e9, 12e9, 80e9, 1e15])
def test_rows_are_as_many_as_memory_holds(free):
    for case in CASES:
        fitted = cuda_cases.fitted(case, free)
        assert fitted.shape[1] == case.shape[1]
        assert 1 <= fitted.shape[0] <= case.shape[0]
        if free >= 4e9:
            assert cuda_cases.room(fitted) <= free
        if free == 1e15:
            assert fitted == case


def test_copy_moves_as_much_as_the_case_must():
    for case in CASES[3:]:
        labels = 8 * case.shape[0] * (case.function != SOFTMAX)
        assert abs(2 * cuda_cases.copied(case) + labels - case.nbytes) < 2 * ITEMSIZE[case.dtype]
    assert [case.nbytes for case in CASES[:3]] == [0, 0, 0]


# The command.


def test_command_runs_and_its_json_makes_the_tables(toy, capsys, tmp_path):
    file = tmp_path / "found.json"
    assert cli.main(["bench", "--device", "cuda", "--seconds", "0", "--json", str(file)]) == 0
    printed = capsys.readouterr()
    assert printed.err == ""
    run = results.from_json(json.loads(file.read_text("utf-8")))
    assert printed.out == cuda_table.text(run) + "\n"
    assert [found.case.shape for found in run.found] == [case.shape for case in TOY]
    assert run.machine["GPU"] == NAME
    assert run.machine["compute-sanitizer"].startswith("not run: compute-sanitizer is not on PATH")
    assert {"date", "fastsoftmax", "NumPy", "CPU"} <= set(run.machine)
    launch, loss, softmax, forward = run.found
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
    monkeypatch.delattr(gpu_arrays, "found")
    assert cli.main(["bench", "--device", "cuda", "--list", "--cases", "*x50257/*"]) == 0
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
        ([], "--device cuda: no such driver: pip install 'fastsoftmax[cu13]'"),
    ],
)
def test_what_cannot_be_measured_is_said_before(arguments, message, capsys, monkeypatch):
    def found():
        raise ImportError("no such driver: pip install 'fastsoftmax[cu13]'")

    monkeypatch.setattr(gpu_arrays, "found", found)
    monkeypatch.delattr(cuda_suite, "begun")
    assert cli.main(["bench", "--device", "cuda", *arguments]) == 2
    printed = capsys.readouterr()
    assert message in printed.err
    assert (printed.out, len(printed.err.splitlines())) == ("", 1)


def test_interruption_keeps_what_was_measured(toy, capsys, monkeypatch, tmp_path):
    prepared, calls = cuda_suite.prepared, []

    def interrupted(*arguments):
        calls.append(1)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return prepared(*arguments)

    monkeypatch.setattr(cuda_suite, "prepared", interrupted)
    file = tmp_path / "found.json"
    assert cli.main(["bench", "--device", "cuda", "--seconds", "0", "--json", str(file)]) == 130
    assert capsys.readouterr().err == "interrupted\n"
    assert len(results.from_json(json.loads(file.read_text("utf-8"))).found) == 2


# Whether results are right.


def right(case=LOSS_CASE):
    """What a case is made of, its right result, and what is expected."""
    d = by_cuda.drawn(StandIn(), case)
    call = by_cuda.CONTESTANTS[OURS].make(case, d)
    return d, call(), by_cuda.inputs.expected_of(case, d.rows, case.shape[0])


def test_inputs_repeat_after_the_distinct_rows(monkeypatch):
    monkeypatch.setattr(by_cuda, "DISTINCT", 70)
    d = by_cuda.drawn(StandIn(), LOSS_CASE)
    assert (len(d.rows.x), d.x.shape, d.target.shape) == (10, (300, 7), (300,))
    np.testing.assert_array_equal(d.x.reshape(30, 10, 7), np.broadcast_to(d.rows.x, (30, 10, 7)))
    np.testing.assert_array_equal(d.target.reshape(30, 10), np.broadcast_to(d.rows.target, (30, 10)))
    assert len(np.unique(d.rows.x, axis=0)) == 10


@pytest.mark.parametrize("case", TOY, ids=lambda case: case.name)
def test_right_results_are_right(case, monkeypatch):
    monkeypatch.setattr(by_cuda, "DISTINCT", 3 * case.shape[1])
    d, result, expected = right(case)
    assert by_cuda.disagreement(case, d, result, expected) == ""


@pytest.mark.parametrize(
    ("row", "value", "message"),
    [
        (0, 0.01, "wrong: numbers off by"),
        (9, np.nan, "wrong: numbers off by"),
        (10, 0.01, "wrong: rows of the same logits differ by"),
        (157, np.nan, "wrong: rows of the same logits differ by"),
        (299, 0.01, "wrong: rows of the same logits differ by"),
    ],
)
def test_a_wrong_number_in_any_row_is_found(row, value, message, monkeypatch):
    monkeypatch.setattr(by_cuda, "DISTINCT", 70)
    d, (loss, grad), expected = right()
    grad[row, 3] += value
    assert by_cuda.disagreement(LOSS_CASE, d, (loss, grad), expected).startswith(message)


def test_a_wrong_loss_is_found():
    d, (loss, grad), expected = right()
    assert by_cuda.disagreement(LOSS_CASE, d, (loss * 1.01, grad), expected).startswith("wrong: a loss of")
    case = LOSS_CASE._replace(function=LOSS)
    assert by_cuda.disagreement(case, d, loss * 1.01, (expected[0], None)).startswith("wrong: a loss of")


def test_who_is_wrong_is_not_timed(gpu, monkeypatch):
    wrong = by_cuda.Contestant(lambda case, d: lambda: (1.0, d.x))
    monkeypatch.setitem(by_cuda.CONTESTANTS, TORCH, wrong)
    calls, skipped = by_cuda.prepared(LOSS_CASE, by_cuda.drawn(gpu, LOSS_CASE), [OURS, TORCH])
    assert list(calls) == [OURS]
    assert skipped[TORCH].startswith("wrong: a loss of 1 where")


# The others, by stand-ins with their signatures.


@pytest.fixture
def others(monkeypatch):
    """Modules of QuACK and Liger as far as they are called, computing by torch; what was asked of them is in a list."""
    torch = pytest.importorskip("torch")
    asked = []

    def forward(x, target, *, return_dx=False):
        """Losses and gradients of the rows, without a reduction."""
        asked.append("fused")
        leaf = x.detach().requires_grad_()
        losses = torch.nn.functional.cross_entropy(leaf, target, reduction="none").float()
        return (losses, torch.autograd.grad(losses.sum(), leaf)[0]) if return_dx else losses

    def cross_entropy(x, target, *, reduction):
        asked.append(("quack", x.requires_grad))
        return torch.nn.functional.cross_entropy(x, target, reduction=reduction)

    class Loss(torch.nn.CrossEntropyLoss):
        def forward(self, x, target):
            asked.append(("liger", x.requires_grad, x.data_ptr()))
            return super().forward(x, target)

    contents = {
        "quack": {},
        "quack.cross_entropy": {"cross_entropy": cross_entropy, "cross_entropy_fwd": forward},
        "quack.softmax": {"softmax": lambda x: torch.softmax(x, -1)},
        "liger_kernel": {},
        "liger_kernel.transformers": {},
        "liger_kernel.transformers.cross_entropy": {"LigerCrossEntropyLoss": Loss},
        "liger_kernel.transformers.softmax": {"LigerSoftmax": lambda: lambda x: torch.softmax(x, -1)},
    }
    for name, attributes in contents.items():
        module = ModuleType(name)
        vars(module).update(attributes)
        monkeypatch.setitem(sys.modules, name, module)
    return asked


@needs_torch
@pytest.mark.parametrize("function", [LOSS_AND_GRAD, LOSS, SOFTMAX])
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_others_compute_the_same(function, dtype, others):
    case = Case(SHAPES, function, (30, 7), dtype)
    d = by_cuda.drawn(StandIn(), case)
    names = [name for name in cuda_cases.wanted(case) if name != COMPILED]
    calls, skipped = by_cuda.prepared(case, d, names)
    assert (list(calls), skipped) == (names, {})
    leaves = [asked[1] for asked in others if asked != "fused"]
    assert all(leaf == (function == LOSS_AND_GRAD) for leaf in leaves)
    assert ("fused" in others) == (function == LOSS_AND_GRAD)
    assert all(asked[2] != d.x.ctypes.data for asked in others if asked[0] == "liger")  # it overwrites its logits


def test_arrays_that_are_no_tensors_leave_the_others_out():
    gpu = StandIn()
    gpu.tensors, gpu.absent = False, {"torch": "torch sees no GPU"}
    calls, skipped = by_cuda.prepared(LOSS_CASE, by_cuda.drawn(gpu, LOSS_CASE), cuda_cases.wanted(LOSS_CASE))
    assert list(calls) == [OURS, INTO, IN_PLACE]
    assert skipped == dict.fromkeys([TORCH, QUACK, QUACK_FUSED, LIGER, COMPILED], "torch sees no GPU")


# Time and memory.


def test_events_stand_around_each_call_after_a_flush():
    gpu = StandIn()
    calls = {"a": lambda: gpu.log.append("a"), "b": lambda: gpu.log.append("b")}
    turns = []
    found = cuda_timing.measure(gpu, calls, seconds=0.0, least=2, turn=lambda: turns.append(1))
    assert found == {name: results.Timing(TICK, TICK, 2 * cuda_timing.MOST) for name in calls}
    assert len(turns) == 2 + 2 * 2
    one = lambda name, times: ["flush", "record", name, "record"] * times + ["synchronize"]  # noqa: E731
    warm, timed = cuda_timing.WARM, cuda_timing.MOST
    order = [("a", warm), ("b", warm), ("a", timed), ("b", timed), ("b", timed), ("a", timed)]
    assert gpu.log == [step for name, times in order for step in one(name, times)]


def test_host_times_do_not_wait_for_the_gpu(monkeypatch):
    gpu, clock = StandIn(), itertools.count()

    def now():
        gpu.log.append("clock")
        return next(clock)

    monkeypatch.setattr(cuda_timing, "time", SimpleNamespace(perf_counter=now))
    found = cuda_timing.host_times(gpu, {"a": lambda: gpu.log.append("a")}, seconds=0.0, least=1, most=1)
    warm, timed = ["a"] * cuda_timing.WARM, ["a"] * cuda_timing.QUEUED
    assert gpu.log == ["clock", *warm, "synchronize", "clock", *timed, "clock", "synchronize"]
    assert found == {"a": results.Timing(1 / cuda_timing.QUEUED, 1 / cuda_timing.QUEUED, 1)}


def test_time_that_is_over_leaves_others_out_and_then_cases(toy):
    run, clock = cuda_suite.begun(cuda_suite.Settings(seconds=0.0, budget=1000.0))
    clock._end = clock._share = 0.0
    share, clock.share = clock.share, lambda cases: None
    found = cuda_suite.measured(LOSS_CASE, [OURS, TORCH], toy, clock, cuda_suite.Settings(seconds=0.0), lambda: None)
    assert (list(found.timings), found.skipped) == ([OURS], {TORCH: by_cuda.LATE})
    clock.share = share
    cuda_suite.add(run, clock, [LOSS_CASE], cuda_suite.Settings())
    assert run.found[0].timings == {}
    assert set(run.found[0].skipped.values()) == {"the 1000 s for the whole run were over"}


def test_shares_of_the_time_left():
    clock = cuda_suite.Clock(1000.0)
    clock.share(4)
    assert 240 < clock.of_case <= 250
    assert 990 < clock.left <= 1000
    assert cuda_suite.Settings().whole < 480
    assert cuda_suite.Settings(quick=True).whole <= 120


def test_quick_runs_say_what_they_leave_out(toy):
    run, clock = cuda_suite.begun(cuda_suite.Settings(quick=True, seconds=0.0))
    cuda_suite.add(run, clock, [LOSS_CASE], cuda_suite.Settings(quick=True, seconds=0.0))
    assert "quick" in run.found[0].skipped[COMPILED]


def test_cases_without_room_are_skipped(toy):
    toy.memory = 1e4
    run = results.Run({}, {}, [])
    cuda_suite.add(run, cuda_suite.Clock(1000.0), [LOSS_CASE._replace(shape=(3, 70000))], cuda_suite.Settings())
    assert run.found[0].skipped[OURS] == "needs 0.0 GB on the GPU, 0.0 are free"
    assert toy.log[-1] == "trim"


# What becomes of it.


def a_run():
    """Made-up times, labelled as such."""

    def found(case, **seconds):
        names = {"ours": OURS, "into": INTO, "in_place": IN_PLACE, "torch": TORCH, "compiled": COMPILED, "quack": QUACK}
        timings = {names[key]: results.Timing(value, value, 9) for key, value in seconds.items()}
        floor = None if case.group == LAUNCH else ("copy on the GPU", 0.9e-3)
        return results.Found(case, timings, {LIGER: "liger_kernel is not installed"}, floor, floor)

    loss = {case.shape[1]: case for case in CASES if (case.group, case.function) == (SHAPES, LOSS_AND_GRAD)}
    return results.Run(
        {"GPU": NAME, "driver": "none", "arrays": "NumPy", "date": "2026-01-02", "compute-sanitizer": "not run"},
        {results.GPU_COPY: 3000.0},
        [
            found(CASES[0], ours=8e-6, torch=8e-5),
            found(loss[256], ours=1.2e-3, into=1.1e-3, in_place=1e-3, torch=4e-3),
            found(loss[4096], ours=0.95e-3, torch=2.5e-3, compiled=2e-3, quack=0.9e-3),
            found(CASES[-1], ours=1e-3),
        ],
    )


def test_table():
    run = a_run()
    lines = cuda_table.text(run).splitlines()
    assert max(map(len, lines)) <= 120
    assert NAME in lines[0]
    cells = [line.split() for line in lines if " 65536x4096 " in f" {line} "]
    speed = f"{run.found[2].case.nbytes / 0.95e-3 / 1e9:.0f}"
    assert cells[0] == ["65536x4096", "float32", "0.95", speed, "95%", "-", "-", "2.63", "2.11", "0.95"]
    text = "\n".join(lines)
    assert "80% of the copy from 256 classes on: in 1 of 2 cases; at worst 75% (1048576x256 float32, " in text
    assert "90% of the copy from 4096 classes on: in 1 of 1 cases; at worst 95% (65536x4096 float32, " in text
    assert "3 times as fast as torch: in 1 of 2 cases; at worst 2.63 (65536x4096 float32, " in text
    assert "1.5 times as fast as torch.compile: in 1 of 1 cases" in text
    assert "1 times as fast as QuACK: in 0 of 1 cases; at worst 0.95" in text
    assert "at most 10 µs of the host's time a call: in 1 of 1 cases; at worst 8.0 µs" in text
    assert "liger_kernel is not installed" in text


def test_report_of_a_run(tmp_path):
    from benchmarks import report, report_cuda

    run = a_run()
    file = tmp_path / "gpu.json"
    file.write_text(json.dumps(results.as_json(run)))
    loaded = report.load(file)
    assert loaded == run
    report_cuda.write(file, loaded)
    text = file.with_suffix(".md").read_text("utf-8")
    assert text.startswith(f"# Kernel speed on {NAME}\n")
    speed = f"{run.found[2].case.nbytes / 0.95e-3 / 1e9:.0f}"
    row = f"| 65536×4096 float32 | 0.95 | {speed} | 95% | – | – | 2.63 | 2.11 | 0.95 |"
    assert row in text.splitlines()
    block = report_cuda.readme_block("gpu", loaded)
    assert row in block.splitlines()
    assert "| `cross_entropy_and_grad` 64×1024 | 8 | 80 |" in text
    assert "- without a time in 2 of 2: Liger: liger_kernel is not installed" in text
    assert "copy moves 3000 GB/s (2026-01-02; [all of it](benchmarks/results/gpu.md))" in report_cuda.readme_block(
        "gpu", run
    )
