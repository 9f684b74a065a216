"""Every public function answers any arguments with a result, a TypeError or a ValueError, and the process lives on."""

import subprocess
import sys

import pytest

from tests.support import ROOT


def tried(*arguments):
    """A process that has tried calls; a crash of it is seen here."""
    command = [sys.executable, "-m", "tests.functions.fuzzing", *arguments]
    done = subprocess.run(
        command, capture_output=True, stdin=subprocess.DEVNULL, cwd=ROOT, encoding="utf-8", check=False
    )
    assert done.returncode == 0, done.stderr[-10_000:]


def test_strange_arguments():
    tried("12", "0")


@pytest.mark.exhaustive
def test_many_strange_arguments():
    tried("3000", "1", "wide")
