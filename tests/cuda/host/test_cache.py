"""Compiled kernels on disk: found again by other processes, and only if nothing that they are made of has changed."""

import os
import shutil
import subprocess
import sys
import warnings
from pathlib import Path

import pytest

import fastsoftmax as fs
from fastsoftmax.core import store
from fastsoftmax.core.dtypes import FLOAT32
from fastsoftmax.cuda.kernels import recipes
from fastsoftmax.cuda.toolkit import cache, compiler
from tests.core.test_house import PACKAGE, imported
from tests.cuda.kernels import machine_code  # noqa: F401  skips these tests where numba-cuda is not installed
from tests.support import modules_of

MADE = compiler.Compiled("kernel", "// text \N{GREEK SMALL LETTER MU}", b"\x7f\0code", 64, 32, (9, 0), 2)


@pytest.fixture
def where(tmp_path, monkeypatch):
    monkeypatch.setenv("NUMBA_CACHE_DIR", str(tmp_path))
    monkeypatch.delenv("FASTSOFTMAX_CACHE", raising=False)
    return tmp_path / f"fastsoftmax-{fs.__version__}-cuda"


class Compiler:
    """Counts."""

    count = 0

    def __call__(self):
        self.count += 1
        return MADE


def test_another_process_compiles_nothing(where):
    recipe = recipes.total_recipe(FLOAT32)
    made = recipes.compiled.__wrapped__(recipe, (9, 0))
    assert len(list(where.iterdir())) == 1
    code = f"""
from fastsoftmax.cuda.kernels import recipes; from fastsoftmax.cuda.toolkit import compiler
from fastsoftmax.core.dtypes import FLOAT32
compiler.compile = None
found = recipes.compiled(recipes.total_recipe(FLOAT32), (9, 0))
assert found == compiler.{made!r}
"""
    subprocess.run([sys.executable, "-c", code], check=True)


def test_what_is_compiled_counts_and_nothing_else(tmp_path, monkeypatch):
    """The kernels and their compiler: an edit of another module recompiles nothing."""
    package = tmp_path / "fastsoftmax"
    shutil.copytree(PACKAGE, package, ignore=shutil.ignore_patterns("__pycache__"))
    monkeypatch.setattr(store, "__file__", str(package / "core" / "store.py"))
    kernels = {path.relative_to(PACKAGE).as_posix() for path in (PACKAGE / "cuda" / "kernels").glob("*.py")}
    counted = modules_of(cache.digest.__wrapped__, package)
    assert counted == kernels | {
        "core/law.py",
        "core/law_of_divergence.py",
        "core/dtypes.py",
        "cuda/toolkit/compiler.py",
    }
    for path in counted - {"cuda/kernels/recipes.py", "cuda/toolkit/compiler.py"}:  # whose imports are not compiled
        assert imported(path) <= counted | {"core/options.py"}, path
    before = cache.digest.__wrapped__()
    monkeypatch.setattr(cache.Numbers, "_fields", (*cache.Numbers._fields[::-1],))
    assert cache.digest.__wrapped__() != before


def test_kernels_are_told_apart(where, monkeypatch):
    """By their recipe and GPU, and by what they are made of."""
    compiler = Compiler()
    for about in ("a", "b", "a"):
        assert cache.load_or_compile(about, compiler) == MADE
    assert compiler.count == 2
    monkeypatch.setattr(cache, "digest", lambda: "another")
    assert cache.load_or_compile("a", compiler) == MADE
    assert compiler.count == 3
    assert {path.suffix for path in where.iterdir()} == {".kernel"}


def test_the_digest_is_of_sources_versions_and_switches(monkeypatch):
    seen = {cache.digest.__wrapped__()}
    monkeypatch.setenv("NUMBA_CUDA_DEBUGINFO", "1")
    seen.add(cache.digest.__wrapped__())
    monkeypatch.setattr(cache, "_version", lambda name: "0")
    seen.add(cache.digest.__wrapped__())
    read = Path.read_bytes
    monkeypatch.setattr(Path, "read_bytes", lambda path: read(path) + b"#" * (path.name == "score.py"))
    seen.add(cache.digest.__wrapped__())
    assert len(seen) == 4


@pytest.mark.parametrize("damage", [lambda c: c[:-1], lambda c: b"", lambda c: c[:80] + b"x" + c[81:]])
def test_damaged_files_are_compiled_anew_and_replaced(where, damage):
    compiler = Compiler()
    cache.load_or_compile("a", compiler)
    (path,) = where.iterdir()
    good = path.read_bytes()
    path.write_bytes(damage(good))
    assert cache.load_or_compile("a", compiler) == MADE
    assert compiler.count == 2
    assert path.read_bytes() == good


def test_a_file_under_another_name_is_not_taken(where):
    compiler = Compiler()
    cache.load_or_compile("a", compiler)
    (first,) = where.iterdir()
    cache.load_or_compile("b", compiler)
    (second,) = {*where.iterdir()} - {first}
    os.replace(first, second)
    cache.load_or_compile("b", compiler)
    assert compiler.count == 3


@pytest.mark.parametrize("how", ["file in the way", "replace"])
def test_where_nothing_can_be_written_nothing_is_kept(where, monkeypatch, how):
    compiler = Compiler()
    if how == "replace":
        monkeypatch.setattr(os, "replace", lambda *paths: (_ for _ in ()).throw(PermissionError))
    else:
        where.write_text("in the way")
    monkeypatch.setattr(store, "_said", set())
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        for _ in range(2):
            assert cache.load_or_compile("a", compiler) == MADE
    assert [str(each.message).partition(",")[0] for each in caught] == [
        "fastsoftmax can write no folder to keep compiled kernels in"
    ] * (how == "file in the way")
    assert compiler.count == 2
    assert where.is_file() or not list(where.iterdir())


def test_it_can_be_switched_off(where, monkeypatch):
    monkeypatch.setenv("FASTSOFTMAX_CACHE", "0")
    assert cache.load_or_compile("a", Compiler()) == MADE
    assert not where.exists()
    assert store.folder(store.CUDA) is None
