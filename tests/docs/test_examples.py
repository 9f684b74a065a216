"""The examples run, at toy size, where what they import is installed."""

import ast
import importlib.util
import os
import subprocess
import sys

import pytest

from tests.support import HANG, ROOT

EXAMPLES = sorted((ROOT / "examples").glob("*.py"))


def imported(path):
    """The packages that a program imports."""
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.Import):
            yield from (name.name.partition(".")[0] for name in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield node.module.partition(".")[0]


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_examples_run(path):
    missing = [name for name in sorted(set(imported(path))) if importlib.util.find_spec(name) is None]
    if missing:
        pytest.skip(f"needs {', '.join(missing)}")
    done = subprocess.run(
        [sys.executable, path],
        env={**os.environ, "FASTSOFTMAX_TOY": "1", "PYTHONPATH": str(ROOT)},
        capture_output=True,
        encoding="utf-8",
        timeout=HANG,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout


def test_there_are_examples():
    assert EXAMPLES
    for path in EXAMPLES:
        assert path.name in ast.get_docstring(ast.parse(path.read_text("utf-8")))
