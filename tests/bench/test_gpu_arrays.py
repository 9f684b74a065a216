"""The array libraries of the benchmark suite on a GPU, by stand-ins and by torch on the CPU; and compute-sanitizer."""

import os
import subprocess
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace

import numpy as np
import pytest
from ml_dtypes import bfloat16

from fastsoftmax.bench.cuda import arrays, contestants, gpu, memcheck, suite
from fastsoftmax.bench.results import IN_PLACE, OURS
from fastsoftmax.bench.unable import Unable
from fastsoftmax.cuda import toolkit
from tests.standins.gpu import HAS_TORCH, StandIn
from tests.support import HANG

ABOUT = SimpleNamespace(name="NOT A GPU", capability=(9, 0), multiprocessors=132)


class Events:
    """A clock that counts events, in milliseconds."""

    def __init__(self):
        self.count = 0

    def event(self, **_):
        self.count += 1
        return SimpleNamespace(at=self.count, record=lambda: None)


def elapsed(start, end):
    return float(end.at - start.at)


class Held(np.ndarray):
    """NumPy's arrays with the methods of CuPy's and Numba's that copy."""

    def get(self):
        return np.array(self)

    copy_to_host = get

    def copy_to_device(self, source):
        self[...] = source


def held(values):
    return np.array(values).view(Held)


def room(shape, dtype):
    return held(np.zeros(shape, dtype))


@pytest.fixture
def cupy(monkeypatch):
    """CuPy as far as it is called."""
    events, module = Events(), ModuleType("cupy")
    runtime = SimpleNamespace(deviceSynchronize=lambda: None, memGetInfo=lambda: (7, 9))
    module.cuda = SimpleNamespace(
        is_available=lambda: True, Event=events.event, get_elapsed_time=elapsed, runtime=runtime
    )
    module.__version__, module.asarray, module.empty = "14", held, room
    module.get_default_memory_pool = lambda: SimpleNamespace(free_all_blocks=lambda: None)
    monkeypatch.setitem(sys.modules, "cupy", module)
    return module


@pytest.fixture
def cuda():
    """`numba.cuda` as far as it is called."""
    context = SimpleNamespace(get_memory_info=lambda: (7, 9))
    return SimpleNamespace(
        to_device=held,
        device_array=room,
        event=Events().event,
        event_elapsed_time=elapsed,
        synchronize=lambda: None,
        current_context=lambda: context,
    )


@pytest.fixture(params=["torch", "cupy", "numba"])
def library(request, cuda):
    """Each library; torch is itself, on the CPU, without a GPU's events."""
    if request.param == "torch":
        pytest.importorskip("torch")
        return arrays.Torch({}, "cpu")
    if request.param == "cupy":
        request.getfixturevalue("cupy")
        return arrays.Cupy({})
    return arrays.Numba({}, cuda)


def test_rows_go_there_repeat_and_come_back(library, monkeypatch):
    monkeypatch.setattr(gpu, "FLUSHED", 64)
    rows = np.arange(12, dtype=np.float32).reshape(3, 4)
    made = library.repeated(rows, 8)
    np.testing.assert_array_equal(library.host(made), np.arange(32).reshape(8, 4) % 12)
    assert library.host(made).dtype == np.float64
    labels = library.repeated(np.array([5, 6]), 3)
    np.testing.assert_array_equal(library.host(labels), [5, 6, 5])
    copy = library.copied(made)
    assert library.spread(copy, 3) == 0
    copy[7, 1] += 2
    assert library.spread(copy, 3) == 2
    assert library.host(made)[7, 1] == rows[1, 1]
    copy[4, 0] = float("nan")
    assert np.isnan(library.spread(copy, 3))
    library.flush()
    library.flush()


def test_times_of_events(cupy, cuda):
    for library in (arrays.Cupy({}), arrays.Numba({}, cuda)):
        start, _, end = (library.record() for _ in range(3))
        assert library.seconds(start, end) == 2e-3
        library.synchronize()
        library.trim()
        assert library.free() == 7


@pytest.mark.skipif(not HAS_TORCH, reason="torch is not installed")
def test_torch_counts_in_milliseconds_and_takes_bfloat16(monkeypatch):
    import torch

    library = arrays.Torch({}, "cpu")
    values = np.array([[1.5, -2.0]], bfloat16)
    there = library.array(values)
    assert there.dtype == torch.bfloat16
    np.testing.assert_array_equal(library.host(there), values.astype(np.float64))
    assert library.seconds(SimpleNamespace(elapsed_time=lambda end: end), 3.0) == 3e-3


def test_bfloat16_without_torch_says_what_to_install(cupy, cuda):
    for library in (arrays.Cupy({}), arrays.Numba({}, cuda)):
        with pytest.raises(Unable, match="pip install torch"):
            library.array(np.zeros(2, bfloat16))


# Which one is taken.


@pytest.fixture
def compiler(monkeypatch, cuda):
    """A compiler with a GPU below it."""
    standin = SimpleNamespace(facts=lambda number: ABOUT, cuda=cuda)
    monkeypatch.setitem(sys.modules, "fastsoftmax.cuda.toolkit.compiler", standin)
    monkeypatch.setattr(toolkit, "compiler", standin, raising=False)
    arrays.first_gpu.cache_clear()
    yield standin
    arrays.first_gpu.cache_clear()


def test_first_library_that_sees_the_gpu(compiler, cupy, monkeypatch):
    blind = ModuleType("torch")
    blind.__version__, blind.cuda = "2.9+cpu", SimpleNamespace(is_available=lambda: False)
    monkeypatch.setitem(sys.modules, "torch", blind)
    found = arrays.first_gpu()
    assert found.library == "CuPy 14"
    assert found.absent == {"torch": "torch 2.9+cpu sees no GPU: install a build of it for CUDA"}
    arrays.first_gpu.cache_clear()
    cupy.cuda.is_available = lambda: False
    assert arrays.first_gpu().absent["cupy"] == "CuPy 14 sees no GPU"
    arrays.first_gpu.cache_clear()
    monkeypatch.setitem(sys.modules, "cupy", None)
    monkeypatch.setitem(sys.modules, "torch", None)
    found = arrays.first_gpu()
    assert type(found) is arrays.Numba
    assert found.absent["torch"] == "torch is not installed: pip install torch"
    assert arrays.missing() == ""


def test_facts_of_the_machine(compiler, cuda, monkeypatch):
    library = arrays.Numba({}, cuda)
    monkeypatch.setattr(gpu.shutil, "which", lambda _: None)
    facts = suite.facts(library)
    assert (facts["GPU"], facts["compute capability"], facts["multiprocessors"]) == ("NOT A GPU", "9.0", "132")
    assert facts["driver"] == "unknown (nvidia-smi is not on PATH)"
    assert facts["date"].count("-") == 2


def tool(folder, name, script):
    """A program on PATH."""
    path = folder / name
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)


@pytest.mark.skipif(os.name == "nt", reason="stands in for tools by shell scripts")
def test_driver_by_its_tool(monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    tool(tmp_path, "nvidia-smi", "echo '580.1, 81559 MiB, 700.00 W'")
    assert gpu.driver() == "580.1 (81559 MiB, at most 700.00 W)"
    tool(tmp_path, "nvidia-smi", "exit 9")
    assert gpu.driver() == "unknown (nvidia-smi: exit status 9)"


WITHOUT = """
import sys
sys.modules["numba.cuda"] = None  # as where numba-cuda is not installed
from fastsoftmax.cli import program
sys.exit(program.main(["bench", "--device", "cuda"]))
"""


def test_command_without_the_package_names_the_command_that_installs_it():
    done = subprocess.run([sys.executable, "-c", WITHOUT], capture_output=True, encoding="utf-8", check=False)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("--device cuda: arrays on a GPU need numba-cuda")
    assert "pip install 'numba-cuda[cu13]>=0.30,<0.31'" in done.stderr
    assert len(done.stderr.splitlines()) == 1


@pytest.mark.exhaustive
def test_benchmarks_are_skipped_with_that_reason():
    code = f"import sys; sys.modules['numba.cuda'] = None; import pytest; sys.exit(pytest.main({ARGUMENTS}))"
    root = Path(__file__).parents[2]
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, encoding="utf-8", cwd=root, check=False)
    assert "arrays on a GPU need numba-cuda" in done.stdout
    assert "1 skipped" in done.stdout
    assert done.returncode == 5  # nothing was collected


ARGUMENTS = ["-q", "-rs", "-p", "no:cacheprovider", "benchmarks/test_cuda.py"]


# compute-sanitizer.


@pytest.mark.skipif(os.name == "nt", reason="stands in for tools by shell scripts")
@pytest.mark.parametrize(
    ("script", "verdict"),
    [
        ("echo '12 calls'; echo '========= ERROR SUMMARY: 0 errors'", "memcheck: no errors in 12 calls"),
        ("echo '========= ERROR SUMMARY: 3 errors'; exit 97", "memcheck: ERRORS (ERROR SUMMARY: 3 errors)"),
        ("echo 'softmax, out=: wrong: x'; echo 1 calls; exit 1", "memcheck: exit status 1 (softmax, out=: wrong: x)"),
        ("echo no such option >&2; exit 2", "memcheck: exit status 2 (no such option)"),
        ("exec sleep 86400", "not finished within 1 s"),
    ],
)
def test_verdict_of_compute_sanitizer(script, verdict, monkeypatch, tmp_path):
    tool(tmp_path, memcheck.TOOL, script)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    assert memcheck.verdict(1.0 if "sleep" in script else HANG) == verdict


@pytest.mark.skipif(os.name == "nt", reason="stands in for tools by shell scripts")
def test_compute_sanitizer_is_given_the_small_calls(monkeypatch, tmp_path):
    tool(tmp_path, memcheck.TOOL, 'echo "$@ $PYTORCH_NO_CUDA_MEMORY_CACHING"; exit 97')
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    command = f"--tool memcheck --error-exitcode 97 {sys.executable} -m fastsoftmax.bench.cuda.memcheck 1"
    assert memcheck.verdict(HANG) == f"memcheck: ERRORS ({command})"


def test_small_calls_are_checked(monkeypatch, capsys):
    monkeypatch.setattr(arrays, "first_gpu", StandIn)
    monkeypatch.setattr(memcheck, "SMALL", memcheck.SMALL[:3])
    assert memcheck.main() == 0
    assert capsys.readouterr().out == "8 calls\n"
    wrong = contestants.Contestant(lambda case, d: lambda: (1.0, d.x))
    monkeypatch.setitem(contestants.CONTESTANTS, IN_PLACE, wrong)
    assert memcheck.main() == 1
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 3
    assert lines[0].startswith("shapes/cross_entropy_and_grad/37x5/float32, fastsoftmax, in place: wrong: a loss of 1")
    assert OURS in contestants.CONTESTANTS
