"""The disk cache of compiled kernels: filled once, never stale, shared between processes, and done without."""

import compileall
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import fastsoftmax as fs
from fastsoftmax.core import store
from fastsoftmax.cpu import jit, table
from tests.core.test_house import imported
from tests.pairs import exhaustive_but
from tests.support import HANG, modules_of

PACKAGE = Path(fs.__file__).parent
HOMES = ("HOME", "USERPROFILE", "LOCALAPPDATA", "XDG_CACHE_HOME")
#: A small call, which compiles (or loads) one kernel and the serial driver in a second, and what it found.
CALL = "import fastsoftmax as fs; print(f'{fs.softmax_vjp([0.5] * 100, [1.0] * 100)[0]:.4f}')"
ANSWER = "-24.5000\n"
#: Whether all kernels and drivers were loaded from the cache.
HITS = "; from fastsoftmax.cpu import jit; print(int(jit.counts['loaded'] > 0 == jit.counts['compiled']))"
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
    return {str(p.relative_to(folder)): p.stat().st_mtime_ns for p in folder.rglob("*.kernel*")}


def edit(path, old, new):
    """Replace the only occurrence of a text in a file."""
    text = path.read_text("utf-8")
    assert text.count(old) == 1
    path.write_text(text.replace(old, new), "utf-8")


@pytest.fixture(scope="module")
def filled(tmp_path_factory):
    """A folder of kernels that CALL needs: tests change copies of it."""
    folder = tmp_path_factory.mktemp("filled")
    assert run(CALL + HITS, NUMBA_CACHE_DIR=str(folder)) == ANSWER + "0\n"
    assert len(files(folder)) >= 2
    return folder


@pytest.fixture
def copy(tmp_path):
    """A folder with a copy of the package that nothing was compiled for."""
    shutil.copytree(PACKAGE, tmp_path / "fastsoftmax", ignore=shutil.ignore_patterns("__pycache__"))
    return tmp_path


def test_second_process_compiles_nothing(filled):
    first = files(filled)
    assert run(CALL + HITS, NUMBA_CACHE_DIR=str(filled)) == ANSWER + "1\n"
    assert files(filled) == first


@pytest.fixture
def at_home(tmp_path):
    """Variables with which kernels go where users have them, in a home of its own."""
    return {"NUMBA_CACHE_DIR": None, **dict.fromkeys(HOMES, str(tmp_path / "home"))}


def test_switched_off(copy, at_home):
    printed = run(CALL + FOLDER, copy, FASTSOFTMAX_CACHE="0", **at_home)
    assert printed == ANSWER + "none (kernels are compiled by every process)\n"
    assert not files(copy)


@pytest.mark.exhaustive
def test_folders_that_cannot_be_written(copy, tmp_path):
    """No home; in the way is a file, as permissions do not stop everybody."""
    nowhere = tmp_path / "file"
    nowhere.touch()
    homes = dict.fromkeys(HOMES, str(nowhere / "home"))
    shown = "import warnings; warnings.simplefilter('always')\n"
    shown += "warnings.showwarning = lambda text, *_, **__: print(str(text).partition(', and')[0])\n"
    printed = run(shown + CALL + FOLDER, copy, NUMBA_CACHE_DIR=None, PYTHONDONTWRITEBYTECODE="1", **homes)
    warned = "fastsoftmax can write no folder to keep compiled kernels in\n"
    assert printed == warned + ANSWER + "none (kernels are compiled by every process)\n"
    assert not files(copy)
    assert nowhere.is_file()


def test_edited_source_never_meets_a_stale_kernel(copy, at_home):
    """And nothing is written beside the sources: it would stay behind when the package is uninstalled."""
    call = "import fastsoftmax as fs; print(f'{fs.logsumexp([0.0] * 10):.4f}')" + HITS
    assert run(call, copy, **at_home) == "2.3026\n0\n"
    assert run(call, copy, **at_home) == "2.3026\n1\n"
    edit(copy / "fastsoftmax" / "core" / "law.py", "return m + log(s)", "return m - log(s)")
    assert run(call, copy, **at_home) == "-2.3026\n0\n"
    assert files(copy / "home")
    assert not files(copy / "fastsoftmax")


@pytest.mark.exhaustive
def test_kernels_share_no_files(tmp_path):
    """One that two processes wrote to could hold the kernel of the one under the name of the other."""
    both = "; import numpy as np; [fs.softmax_vjp(x, x) for x in (np.zeros((64, 10), 'f4'), np.zeros((64, 10)))]"
    count = "; from fastsoftmax.cpu import jit; print(jit.counts['compiled'])"
    printed = run(CALL + both + count, NUMBA_CACHE_DIR=str(tmp_path))
    assert printed == f"{ANSWER}{len(files(tmp_path))}\n"
    assert len(files(tmp_path)) >= 4


def _swapped(contents):
    return contents[1:] + contents[:1]


DAMAGE = {
    "begun": lambda contents: [c[:20] for c in contents],
    "short": lambda contents: [c[:-1] for c in contents],
    "flipped": lambda contents: [c[:-100] + bytes([c[-100] ^ 1]) + c[-99:] for c in contents],
    "swapped": _swapped,
}


@pytest.mark.parametrize("damage", exhaustive_but(["flipped"], DAMAGE))
def test_damaged_files(damage, filled, tmp_path):
    """What a full disk or a bad one leaves behind is compiled anew and replaced, without a word."""
    shutil.copytree(filled, tmp_path, dirs_exist_ok=True)
    paths = [tmp_path / name for name in sorted(files(tmp_path))]
    for path, content in zip(paths, DAMAGE[damage]([path.read_bytes() for path in paths]), strict=True):
        path.write_bytes(content)
    assert run(CALL + HITS, NUMBA_CACHE_DIR=str(tmp_path)) == ANSWER + "0\n"
    assert run(CALL + HITS, NUMBA_CACHE_DIR=str(tmp_path)) == ANSWER + "1\n"
    assert [tmp_path / name for name in sorted(files(tmp_path))] == paths


@pytest.mark.exhaustive
@pytest.mark.parametrize("form", ["modules", "archive"])
def test_package_without_sources(form, copy, tmp_path, at_home):
    """Stripped images and zipped applications: kernels are compiled, kept and found as ever."""
    package = copy / "fastsoftmax"
    if form == "modules":
        compileall.compile_dir(package, legacy=True, quiet=1)
        for path in package.rglob("*.py"):
            path.unlink()
        where = copy
    else:
        where = Path(shutil.make_archive(str(copy / "zipped"), "zip", copy, "fastsoftmax"))
        shutil.rmtree(package)
    environment = {**at_home, "PYTHONPATH": str(where)}
    code = f"import fastsoftmax; assert {str(where)!r} in fastsoftmax.__file__; {CALL}{HITS}"
    assert run(code, tmp_path, **environment) == ANSWER + "0\n"
    assert run(code, tmp_path, **environment) == ANSWER + "1\n"
    assert files(tmp_path / "home")


def test_compiler_that_is_switched_off():
    """Nothing can be computed: the error names the variable; `info` says it among the facts."""
    calls = """
import fastsoftmax as fs
calls = [
    lambda: fs.softmax([0.0]),
    lambda: fs.cross_entropy_and_grad([[0.0]], [0]),
    lambda: fs.linear_cross_entropy([[0.0]], [[0.0]], [0]),
    lambda: fs.linear_predict([[0.0]], [[0.0]]),
    lambda: fs.SoftmaxRegression().fit([[0.0], [1.0]], [0, 1]),
    lambda: fs.warmup(progress=False),
]
for call in calls:
    try: print("no error", call())
    except RuntimeError as error: assert "NUMBA_DISABLE_JIT" in str(error)
print(fs.system.versions()["compiler"])
"""
    assert "NUMBA_DISABLE_JIT" in run(calls, NUMBA_DISABLE_JIT="1")
    for arguments, status in ((["info"], 0), (["warmup"], 2)):
        command = [sys.executable, "-m", "fastsoftmax", *arguments]
        environment = {**os.environ, "NUMBA_DISABLE_JIT": "1"}
        done = subprocess.run(
            command,
            capture_output=True,
            env=environment,
            cwd=PACKAGE.parent,
            encoding="utf-8",
            timeout=HANG,
            check=False,
        )
        assert done.returncode == status
        assert "NUMBA_DISABLE_JIT" in (done.stderr if status else done.stdout)
        assert done.stderr.count("\n") == (1 if status else 0)


def test_what_is_compiled_counts_and_nothing_else(copy, monkeypatch):
    """Every module that compiles, and the constants that those share: an edit of another recompiles nothing."""
    monkeypatch.setattr(store, "__file__", str(copy / "fastsoftmax" / "core" / "store.py"))
    compiles = re.compile(r"\bjit\.(inline|kernel|driver)|^@(inline|intrinsic|overload)|\bnjit\b", re.MULTILINE)
    sources = {path.relative_to(PACKAGE).as_posix(): path.read_text("utf-8") for path in PACKAGE.rglob("*.py")}
    compiled = {path for path, text in sources.items() if compiles.search(text) and not path.startswith("cuda/")}
    others = {"core/law.py", "core/dtypes.py", "cpu/parameters.py", "cpu/linear/parameters.py", "cpu/simd/half.py"}
    others |= {"cpu/inlined.py", "cpu/layouts/constants.py", "core/law_of_divergence.py"}
    others |= {f"cpu/{room}/__init__.py" for room in ("layouts", "simd", "threads")}
    counted = modules_of(jit._digest, copy / "fastsoftmax")
    assert counted == compiled | others
    for path in counted - {"cpu/jit.py", "cpu/threads/launch.py", "cpu/linear/blas.py"}:  # which do more than compile
        assert imported(path) <= counted | {"core/options.py"}, path


def test_numbers_of_a_loss_count(monkeypatch):
    """They are read by their places."""
    before = jit._digest()
    monkeypatch.setattr(jit.Numbers, "_fields", (*jit.Numbers._fields[::-1],))
    assert jit._digest() != before


@pytest.mark.parametrize("value", [jit.inline(lambda x: x), len, object()], ids=["compiled", "callable", "address"])
def test_a_kernel_closes_over_constants_alone(value):
    """What else it closed over would have another name in each process, or the name of something else."""

    def kernel(params, chunk, slot):
        return value

    with pytest.raises(TypeError, match="kernel closes over value, which has no name of its own"):
        jit.kernel(kernel)


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
    compiled = dict(table._compiled)
    for shape in ((100, 7), (64, 10), (3, 2000)):
        x = np.zeros(shape, np.float32)
        labels = np.zeros(len(x), np.int64)
        fs.cross_entropy(x, labels)
        fs.cross_entropy_and_grad(x, labels)
        for function in (fs.softmax, fs.log_softmax, fs.logsumexp):
            function(x)
        fs.softmax_vjp(x, x)
        fs.log_softmax_vjp(x, x)
    assert table._compiled == compiled


def test_warmup_says_nothing_when_told(capfd):
    for progress in (True, False):  # standard error is no terminal here
        assert fs.warmup([np.float32], progress=progress) == fs.warmup(["f4"], progress=False)
    assert fs.warmup([], progress=False) == 0
    assert capfd.readouterr() == ("", "")
