"""``python -m fastsoftmax bench`` as people meet it."""

import json
import sys

import pytest

from fastsoftmax.bench import results
from fastsoftmax.bench.cpu import contestants, floors, suite
from fastsoftmax.cli import program

CASE = "shapes/softmax/64x10/float32"
OURS = results.OURS


@pytest.fixture
def little(monkeypatch):
    """Our own contestants of one small case, and ceilings out of thin air."""
    monkeypatch.setattr(suite, "CASES", tuple(case for case in suite.CASES if case.name == CASE))
    monkeypatch.setattr(suite, "wanted", lambda case: [OURS, results.INTO, results.NUMPY])
    ceilings = {results.COPY: 10.0, results.EXP: 1.0, results.EXP64: 0.5}
    monkeypatch.setattr(floors, "measured", lambda threads, seconds: ceilings)


def test_tables_and_json(little, capsys, tmp_path):
    file = tmp_path / "found.json"
    assert program.main(["bench", "--seconds", "0", "--json", str(file)]) == 0
    printed = capsys.readouterr()
    assert printed.err == ""
    assert "64x10" in printed.out
    run = results.from_json(json.loads(file.read_text("utf-8")))
    assert [found.case.name for found in run.results] == [CASE]
    assert set(run.results[0].timings) == {OURS, results.INTO, results.NUMPY}
    assert run.results[0].floor == ("exponentials", pytest.approx(640 / 1e9 / int(run.machine["threads"].split()[0])))
    assert "cache folder" not in run.machine
    assert run.machine["date"]


@pytest.mark.parametrize("arguments", [["bench", "--json", "-"], ["--json", "bench"]])
def test_json_on_standard_output(arguments, little, capsys):
    assert program.main([*arguments, "--seconds", "0", "--threads", "1"]) == 0
    run = results.from_json(json.loads(capsys.readouterr().out))
    assert run.machine["threads"].startswith("1 of ")
    assert list(run.results[0].timings) == [OURS, results.INTO, results.NUMPY]


def test_list(capsys):
    assert program.main(["bench", "--list", "--cases", "shapes/softmax/*x1?*/*"]) == 0
    lines = capsys.readouterr().out.splitlines()
    shapes = [line.split()[0].split("/")[2] for line in lines]
    assert shapes == [
        "64x10",
        "65536x10",
        "65536x100",
        "4096x1008",
        "256x131072",
    ]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--cases", "nothing"], "no case matches 'nothing'; there are shapes/cross_entropy_and_grad/64x10/float32, "),
        (["--quick", "--cases", "*/1000000x1000/*"], "leave out --quick"),
        (["--threads", "10000"], "--threads must be at most "),
        (["--json", "results.txt"], "results.txt does not end in .json"),
        (["--html", "no/such/page.html"], "is no folder"),
    ],
)
def test_bad_input_is_refused_before_anything_is_measured(arguments, message, capsys, monkeypatch):
    monkeypatch.delattr(suite, "begun")
    assert program.main(["bench", *arguments]) == 2
    printed = capsys.readouterr()
    assert message in printed.err
    assert (printed.out, len(printed.err.splitlines())) == ("", 1)


def test_page_without_matplotlib(capsys, monkeypatch, tmp_path):
    monkeypatch.delattr(suite, "begun")
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    assert program.main(["bench", "--html", str(tmp_path / "page.html")]) == 2
    assert "-m pip install matplotlib" in capsys.readouterr().err


def test_interruption_keeps_what_was_measured(little, capsys, monkeypatch, tmp_path):
    monkeypatch.setattr(suite, "CASES", suite.CASES * 2)
    prepared = contestants.prepared
    calls = []

    def interrupted(*arguments):
        calls.append(1)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return prepared(*arguments)

    monkeypatch.setattr(suite, "prepared", interrupted)
    file = tmp_path / "found.json"
    assert program.main(["bench", "--seconds", "0", "--json", str(file)]) == 130
    printed = capsys.readouterr()
    assert printed.err == "interrupted\n"
    assert "64x10" in printed.out
    assert len(results.from_json(json.loads(file.read_text("utf-8"))).results) == 1


def test_interruption_before_anything_was_measured(little, capsys, monkeypatch, tmp_path):
    def interrupted(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(suite, "prepared", interrupted)
    file = tmp_path / "found.json"
    assert program.main(["bench", "--json", str(file)]) == 130
    assert capsys.readouterr().out == ""
    assert not file.exists()
