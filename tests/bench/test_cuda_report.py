"""Reports of runs on a GPU: the table, and the page of a run.

Times are those of a stand-in's counter: nothing here is a measurement.
"""

import json

from fastsoftmax.bench import results
from fastsoftmax.bench.cases import LAUNCH, LOSS_AND_GRAD, SHAPES
from fastsoftmax.bench.cuda.cases import CASES
from fastsoftmax.bench.report import cuda_table
from fastsoftmax.bench.results import COMPILED, IN_PLACE, INTO, LIGER, OURS, QUACK, TORCH
from tests.standins.gpu import NAME


def a_run():
    """Made-up times, labelled as such."""

    def found(case, **seconds):
        names = {"ours": OURS, "into": INTO, "in_place": IN_PLACE, "torch": TORCH, "compiled": COMPILED, "quack": QUACK}
        timings = {names[key]: results.Timing(value, value, 9) for key, value in seconds.items()}
        floor = None if case.group == LAUNCH else ("copy on the GPU", 0.9e-3)
        return results.Result(case, timings, {LIGER: "liger_kernel is not installed"}, floor, floor)

    loss = {case.shape[1]: case for case in CASES if (case.group, case.function) == (SHAPES, LOSS_AND_GRAD)}
    return results.Run(
        {"GPU": NAME, "driver": "none", "arrays": "NumPy", "date": "2026-01-02", "compute-sanitizer": "not run"},
        {results.GPU_COPY: 3000.0},
        [
            found(CASES[0], ours=8e-6, torch=8e-5),
            found(loss[256], ours=1.2e-3, into=1.1e-3, in_place=1e-3, torch=4e-3),
            found(loss[4096], ours=0.95e-3, torch=2.5e-3, compiled=2e-3, quack=0.9e-3),
            found(CASES[-5], ours=1e-3),
            found(CASES[-3], ours=1.2e-3, torch=3e-3),
        ],
    )


def test_table():
    run = a_run()
    lines = cuda_table.text(run).splitlines()
    assert max(map(len, lines)) <= 120
    assert NAME in lines[0]
    cells = [line.split() for line in lines if " 65536x4096 " in f" {line} "]
    speed = f"{run.results[2].case.nbytes / 0.95e-3 / 1e9:.0f}"
    assert cells[0] == ["65536x4096", "float32", "0.95", speed, "95%", "-", "-", "2.63", "2.11", "0.95"]
    text = "\n".join(lines)
    assert "80% of the copy from 256 classes on: in 1 of 2 cases; at worst 75% (1048576x256 float32, " in text
    assert "90% of the copy from 4096 classes on: in 1 of 1 cases; at worst 95% (65536x4096 float32, " in text
    assert "3 times as fast as torch: in 1 of 2 cases; at worst 2.63 (65536x4096 float32, " in text
    assert "1.5 times as fast as torch.compile: in 1 of 1 cases" in text
    assert "1 times as fast as QuACK: in 0 of 1 cases; at worst 0.95" in text
    assert "at most 10 µs of the host's time a call: in 1 of 1 cases; at worst 8.0 µs" in text
    assert "liger_kernel is not installed" in text
    cells = [line.split() for line in lines if " d=4096 " in line]
    assert cells == [["8192x131072", "d=4096", "bfloat16", "1.2", "75%", "2.50"]]


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
    speed = f"{run.results[2].case.nbytes / 0.95e-3 / 1e9:.0f}"
    row = f"| 65536×4096 float32 | 0.95 | {speed} | 95% | – | – | 2.63 | 2.11 | 0.95 |"
    assert row in text.splitlines()
    assert "| 8192×131072 d=4096 bfloat16 | 1.2 | 75% | 2.50 |" in text.splitlines()
    block = report_cuda.readme_block("gpu", loaded)
    assert row in block.splitlines()
    assert "| `cross_entropy_and_grad` 64×1024 | 8 | 80 |" in text
    assert "- without a time in 2 of 2: Liger: liger_kernel is not installed" in text
    assert "copy moves 3000 GB/s (2026-01-02; [all of it](benchmarks/results/gpu.md))" in report_cuda.readme_block(
        "gpu", run
    )
