"""The disk cache of compiled kernels: filled once, never stale, shared between processes, and done without."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from support import HANG

import fastsoftmax as fs
from fastsoftmax import jit
from fastsoftmax.cpu import kernels

PACKAGE = Path(fs.__file__).parent
HOMES = ("HOME", "USERPROFILE", "LOCALAPPDATA", "XDG_CACHE_HOME")
#: A small call, which compiles (or loads) one kernel and the serial driver, and what it found.
CALL = "import fastsoftmax as fs; print(f'{fs.logsumexp([0.0] * 100):.4f}')"
ANSWER = "4.6052\n"
#: Whether the kernels and the driver were loaded from the cache.
HITS = "; from fastsoftmax.cpu import launch; print(sum(launch._serial.stats.cache_hits.values()))"
FOLDER = "; from fastsoftmax import system; print(system.versions()['cache folder'])"


def child(code, where, **environment):
    """A started process that runs `code` with the package in the folder `where`; variables that are None are unset."""
    merged = {**os.environ, "PYTHONPATH": str(where), **environment}
    return subprocess.Popen(
        [sys.executable, "-W", "error", "-c", code],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env={name: value for name, value in merged.items() if value is not None},
        cwd=where,
        encoding="utf-8",
    )


def finished(process):
    """What a process printed; no warning and no error is accepted."""
    out, err = process.communicate(timeout=HANG)
    assert (process.returncode, err) == (0, "")
    return out


def run(code, where=PACKAGE.parent, **environment):
    return finished(child(code, where, **environment))


def files(folder):
    """What lies in a folder, and when it was written."""
    return {str(p.relative_to(folder)): p.stat().st_mtime_ns for p in folder.rglob("*.nb[ci]*")}


def edit(path, old, new):
    """Replace the only occurrence of a text in a file."""
    text = path.read_text("utf-8")
    assert text.count(old) == 1
    path.write_text(text.replace(old, new), "utf-8")


@pytest.fixture
def copy(tmp_path):
    """A folder with a copy of the package that nothing was compiled for."""
    shutil.copytree(PACKAGE, tmp_path / "fastsoftmax", ignore=shutil.ignore_patterns("__pycache__"))
    return tmp_path


def test_second_process_compiles_nothing(tmp_path):
    where = {"NUMBA_CACHE_DIR": str(tmp_path)}
    assert run(CALL + HITS, **where) == ANSWER + "0\n"
    first = files(tmp_path)
    assert any("kernel" in name for name in first)
    assert run(CALL + HITS, **where) == ANSWER + "1\n"
    assert files(tmp_path) == first


def test_switched_off(copy):
    printed = run(CALL + FOLDER, copy, FASTSOFTMAX_CACHE="0", NUMBA_CACHE_DIR=None)
    assert printed == ANSWER + "none (kernels are compiled by every process)\n"
    assert not files(copy)


def test_folders_that_cannot_be_written(copy, tmp_path):
    """A read-only installation and no home; in the way are files, as permissions do not stop everybody."""
    nowhere = tmp_path / "file"
    nowhere.touch()
    for folder in (copy / "fastsoftmax", copy / "fastsoftmax" / "cpu"):
        (folder / "__pycache__").touch()
    homes = dict.fromkeys(HOMES, str(nowhere / "home"))
    printed = run(CALL + FOLDER, copy, NUMBA_CACHE_DIR=None, PYTHONDONTWRITEBYTECODE="1", **homes)
    assert printed == ANSWER + "none (kernels are compiled by every process)\n"
    assert not files(copy)
    assert nowhere.is_file()


def test_home_takes_what_the_installation_does_not(copy, tmp_path):
    (copy / "fastsoftmax" / "cpu" / "__pycache__").touch()
    home = tmp_path / "home"
    environment = dict.fromkeys(HOMES, str(home))
    assert run(CALL + HITS, copy, NUMBA_CACHE_DIR=None, **environment) == ANSWER + "0\n"
    assert files(home)
    assert run(CALL + HITS, copy, NUMBA_CACHE_DIR=None, **environment) == ANSWER + "1\n"


def test_edited_source_never_meets_a_stale_kernel(copy):
    assert run(CALL + HITS, copy, NUMBA_CACHE_DIR=None) == ANSWER + "0\n"
    assert run(CALL + HITS, copy, NUMBA_CACHE_DIR=None) == ANSWER + "1\n"
    edit(copy / "fastsoftmax" / "law.py", "return m + log(s)", "return m - log(s)")
    assert run(CALL + HITS, copy, NUMBA_CACHE_DIR=None) == "-" + ANSWER + "0\n"


def test_kernels_share_no_files(tmp_path):
    """Kernels that were numbered within one index could be mixed up by two processes that write at the same time."""
    both = "; import numpy as np; fs.softmax(np.zeros((64, 10), 'f4')); fs.softmax(np.zeros((64, 10)))"
    run(CALL + both, NUMBA_CACHE_DIR=str(tmp_path))
    suffixes = [Path(name).suffix for name in files(tmp_path)]
    assert suffixes.count(".nbi") == suffixes.count(".nbc") >= 3


@pytest.mark.parametrize("suffix", ["nbi", "nbc"])
def test_damaged_files(suffix, tmp_path):
    """What a full disk leaves behind is a warning and a compilation."""
    run(CALL, NUMBA_CACHE_DIR=str(tmp_path))
    for path in tmp_path.rglob(f"*.{suffix}"):
        path.write_bytes(path.read_bytes()[:20])
    code = f"""
import warnings
with warnings.catch_warnings(record=True) as caught:
    warnings.simplefilter("always")
    {CALL}
print(caught[0].message)
"""
    printed = run(code, NUMBA_CACHE_DIR=str(tmp_path))
    assert printed.startswith(ANSWER + "fastsoftmax: damaged files")


@pytest.mark.parametrize(
    "path", ["law.py", "spec.py", "jit.py", *(f"cpu/{p.name}" for p in (PACKAGE / "cpu").glob("*.py"))]
)
def test_every_source_of_kernels_counts(path, copy, monkeypatch):
    monkeypatch.setattr(jit, "__file__", str(copy / "fastsoftmax" / "jit.py"))
    before = jit._digest()
    with (copy / "fastsoftmax" / path).open("a", encoding="utf-8") as source:
        source.write("#\n")
    assert (jit._digest() == before) == (Path(path).stem in jit.HOST)


def test_no_host_module_compiles_anything():
    compiles = re.compile(r"jit\.(inline|kernel|driver)|\bintrinsic\b|\boverload\b|\bnjit\b")
    for name in jit.HOST - {"ceilings"}:  # which are the benchmarks', and of no kernel
        assert not compiles.search((PACKAGE / "cpu" / f"{name}.py").read_text(encoding="utf-8")), name


def test_processes_that_start_together(tmp_path):
    where = {"NUMBA_CACHE_DIR": str(tmp_path)}
    started = [child(CALL, PACKAGE.parent, **where) for _ in range(2)]
    assert [finished(process) for process in started] == [ANSWER, ANSWER]
    assert not [name for name in files(tmp_path) if ".tmp" in name]
    assert run(CALL + HITS, **where) == ANSWER + "1\n"


def test_warmup():
    """Progress in order, and calls of what was warmed that compile nothing."""
    reports = []
    calls = fs.warmup(["float32"], progress=lambda *report: reports.append(report))
    assert [done for done, _, _ in reports] == list(range(calls + 1))
    assert {total for _, total, _ in reports} == {calls}
    assert reports[-1] == (calls, calls, "")
    assert all(name.startswith("float32: ") for _, _, name in reports[:-1])
    assert len({name for _, _, name in reports}) == calls + 1
    compiled = dict(kernels._compiled)
    for shape in ((100, 7), (64, 10), (3, 2000)):
        x = np.zeros(shape, np.float32)
        labels = np.zeros(len(x), np.int64)
        fs.cross_entropy(x, labels)
        fs.cross_entropy_and_grad(x, labels)
        for function in (fs.softmax, fs.log_softmax, fs.logsumexp):
            function(x)
        fs.softmax_vjp(x, x)
        fs.log_softmax_vjp(x, x)
    assert kernels._compiled == compiled


def test_warmup_says_nothing_when_told(capfd):
    for progress in (True, False):  # standard error is no terminal here
        assert fs.warmup([np.float32], progress=progress) == fs.warmup(["f4"], progress=False)
    assert fs.warmup([], progress=False) == 0
    assert capfd.readouterr() == ("", "")
