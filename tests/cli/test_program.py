"""The command line as people meet it: in a terminal, in a pipe, interrupted, and with something missing."""

import contextlib
import json
import os
import re
import signal
import subprocess
import sys
import tomllib
from importlib import metadata
from types import SimpleNamespace

import numpy as np
import pytest

import fastsoftmax
from fastsoftmax import system
from fastsoftmax.bench.cpu import suite
from fastsoftmax.cli import demonstration, digits, info, program
from fastsoftmax.cli.progress import interruptions
from tests.support import ROOT, child, on_terminal

CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f]")  # all but tabs and newlines
#: The main job on one small shape, with the usual answer to SIGINT even where this process ignores it.
SMALL = """
import contextlib, signal, sys
from fastsoftmax import cli
from fastsoftmax.bench.cpu import suite
signal.signal(signal.SIGINT, signal.default_int_handler)
suite.SHOWN = suite.SHOWN[:1]
with contextlib.suppress(ImportError):
    from fastsoftmax.cli import demonstration as demo
    demo.SECONDS = 0.0
"""
RUN = SMALL + "sys.exit(cli.main(sys.argv[1:]))"


@pytest.fixture
def small(monkeypatch):
    monkeypatch.setattr(suite, "SHOWN", suite.SHOWN[:1])
    monkeypatch.setattr(demonstration, "SECONDS", 0.0)


def test_demonstration_as_json(small, capsys):
    assert program.main(["--json"]) == 0
    printed = capsys.readouterr()
    found = json.loads(printed.out)
    assert printed.err == ""
    assert found["machine"]["fastsoftmax"] == fastsoftmax.__version__
    training = found["training"]
    assert training["images"] + training["held_out"] == 1797
    assert training["held_out_accuracy"] >= 0.95
    assert training["weights_agree"]
    assert training["weights_difference"] <= 1e-5
    assert training["train_loss"] < 0.2
    assert [(line["function"], line["shape"]) for line in found["speed"]] == [("cross_entropy_and_grad", [64, 10])]
    assert set(found["speed"][0]["seconds"]) == {"fastsoftmax", "fastsoftmax, out=", "NumPy", "SciPy"}


@pytest.mark.exhaustive  # `train` in a pipe is in test_train
def test_demonstration_in_a_pipe():
    done = child(RUN, FORCE_COLOR="1")
    assert done.returncode == 0
    assert done.stderr == ""
    assert not CONTROL.search(done.stdout)
    before_paths, _, _ = done.stdout.partition("cache folder")
    assert max(map(len, before_paths.splitlines())) <= 60
    order = [
        "softmax regression on handwritten digits",
        "times as fast as NumPy here; the same weights",
        "train loss",
        "they agree",
        "cross_entropy_and_grad",
        "python -m fastsoftmax bench",
        "Machine",
        system.versions()["CPU"],
    ]
    words = " ".join(done.stdout.split())
    places = [words.index(expected) for expected in order]
    assert places == sorted(places)


@pytest.mark.exhaustive  # `train` on a terminal is in test_train
def test_progress_on_a_terminal():
    done, shown = on_terminal(RUN)
    assert done.returncode == 0
    assert b"\x1b[" in shown
    assert b"Training" in shown
    assert not CONTROL.search(done.stdout)


@pytest.mark.parametrize("module", ["sklearn", "rich"])
def test_missing_extra(module):
    done = child(f"import sys; sys.modules[{module!r}] = None\n{RUN}")
    assert done.returncode == 2
    assert done.stdout == ""
    assert len(done.stderr.splitlines()) == 1
    assert "-m pip install scikit-learn rich" in done.stderr


def test_other_missing_modules_are_no_excuse(monkeypatch):
    monkeypatch.setitem(sys.modules, "fastsoftmax.cli.demonstration", None)
    with pytest.raises(ModuleNotFoundError, match=r"fastsoftmax\.cli\.demonstration"):
        program.main(["--json"])


def test_warmup_without_rich_still_warms(monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "rich.console", None)
    assert program.main(["warmup", "float32", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["calls"] > 0


@pytest.mark.exhaustive  # as `train` is, in test_train
@pytest.mark.parametrize("where", ["compile_kernels", "_train", "_measure"])
def test_interrupted(where):
    """An interruption that comes in at any stage ends the run with one line."""
    interrupt = f"""
stage = demo.{where}
def interrupted(*arguments):
    signal.raise_signal(signal.SIGINT)
    return stage(*arguments)
demo.{where} = interrupted
"""
    done = child(f"{SMALL}{interrupt}\nsys.exit(cli.main(sys.argv[1:]))")
    assert (done.returncode, done.stderr) == (130, "interrupted\n")
    assert not CONTROL.search(done.stdout)


def test_second_interruption_is_immediate():
    if signal.getsignal(signal.SIGINT) is not signal.default_int_handler:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    with contextlib.suppress(KeyboardInterrupt), interruptions():  # the first is raised at the end
        signal.raise_signal(signal.SIGINT)
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_reader_that_leaves():
    """``python -m fastsoftmax info | head -0``."""
    reader = subprocess.Popen(
        [sys.executable, "-m", "fastsoftmax", "info"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, cwd=ROOT
    )
    assert reader.stdout is not None
    reader.stdout.close()
    assert reader.stderr is not None
    with reader.stderr as stderr:
        assert stderr.read() == b""
    assert reader.wait() == program.FAILURE


ESCAPED = """
import sys
from fastsoftmax import cli
from fastsoftmax.cli import info
from fastsoftmax.cli.errors import BadInput
def said(args):
    print("a \\u2026 class")
    raise BadInput("no \\u00e9")
info.run = said
sys.exit(cli.main(["info"]))
"""


@pytest.mark.parametrize("encoding", ["ascii", "ascii:surrogateescape", "latin-1"])
def test_streams_that_lack_a_character(encoding):
    """What an encoding lacks is escaped, and nothing ends in a traceback."""
    done = child(ESCAPED, PYTHONIOENCODING=encoding, encoding="latin-1")
    assert done.returncode == 2
    assert done.stdout == "a \\u2026 class\n"
    assert done.stderr == ("no é\n" if encoding == "latin-1" else "no \\xe9\n")


def test_streams_are_left_as_they_were(capfd):
    before = sys.stdout.errors, sys.stderr.errors
    assert program.main(["info"]) == 0
    assert (sys.stdout.errors, sys.stderr.errors) == before


def test_closed_streams():
    """As after ``>&- 2>&-``: there is nowhere to write, and nothing else happens."""
    done = child(
        "import sys; sys.stdout = sys.stderr = None\nfrom fastsoftmax import cli\nsys.exit(cli.main(['info']))"
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs a device that is always full")
def test_full_standard_output():
    code = "import sys; sys.stdout = open('/dev/full', 'w')\nfrom fastsoftmax import cli\nsys.exit(cli.main(['info']))"
    done = child(code)
    assert done.returncode == 2
    assert done.stderr == "the output cannot be written: [Errno 28] No space left on device\n"


def test_too_little_memory(monkeypatch, capsys):
    def full(_):
        raise MemoryError("Unable to allocate 7 PiB\nfor an array")

    monkeypatch.setattr(info, "run", full)
    assert program.main(["info"]) == program.USAGE
    assert capsys.readouterr().err == "there is not enough memory for this: Unable to allocate 7 PiB\\nfor an array\n"


def test_info(capsys):
    assert program.main(["info"]) == 0
    text = capsys.readouterr().out
    assert program.main(["--json", "info"]) == 0
    before = json.loads(capsys.readouterr().out)
    assert program.main(["info", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == before == system.versions()
    for name, fact in before.items():
        assert re.search(rf"^{re.escape(name)} +{re.escape(fact)}$", text, re.MULTILINE)


@pytest.mark.parametrize(
    ("version", "expected"),
    [(13000, "driver for CUDA 13.0"), (12080, "driver for CUDA 12.8"), (None, "no driver found")],
)
def test_info_of_cuda(version, expected, monkeypatch):
    """The packages that are installed, and the driver, without the import of either; nothing missing is an error."""

    def library(_):
        if version is None:
            raise OSError("libcuda.so.1: cannot open shared object file")
        return SimpleNamespace(cuDriverGetVersion=lambda number: setattr(number._obj, "value", version))

    monkeypatch.setattr(system.ctypes, "CDLL", library)
    monkeypatch.setattr(system, "CUDA_PACKAGES", ("numpy",))
    assert system.versions()["CUDA"] == f"numpy {np.__version__}; {expected}"
    monkeypatch.setattr(system, "CUDA_PACKAGES", ("no-such-package",))
    assert system.versions()["CUDA"] == f"no numba-cuda installed; {expected}"


@pytest.mark.parametrize(
    "arguments", [["--help"], ["info", "--help"], ["warmup", "--help"], ["bench", "--help"], ["--version"]]
)
def test_help(arguments, capsys):
    with pytest.raises(SystemExit) as exit_:
        program.main(arguments)
    assert exit_.value.code == 0
    assert ("fastsoftmax" if arguments == ["--version"] else "--json") in capsys.readouterr().out


@pytest.mark.parametrize("arguments", [["nonsense"], ["--nonsense"], ["warmup", "float8"]])
def test_wrong_usage(arguments, capsys):
    with pytest.raises(SystemExit) as exit_:
        program.main(arguments)
    assert exit_.value.code == 2
    assert "usage:" in capsys.readouterr().err


def test_disagreement_fails(small, monkeypatch, capsys):
    monkeypatch.setattr(digits, "TOLERANCE", -1.0)
    assert program.main([]) == 1
    assert "THEY DO NOT AGREE" in capsys.readouterr().out


def test_digits_are_split_once_and_for_all():
    first, second = digits.load(), digits.load()
    for a, b in zip(first, second, strict=True):
        np.testing.assert_array_equal(a, b)
    assert first.x.min() == 0
    assert first.x.max() == 1


def test_version_is_the_one_that_was_built():
    declared = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))
    assert declared["tool"]["hatch"]["version"]["path"] == "fastsoftmax/version.py"
    with contextlib.suppress(metadata.PackageNotFoundError):  # a checkout that nobody installed
        assert metadata.version("fastsoftmax") == fastsoftmax.__version__
