"""Every public function answers any arguments with a result, a TypeError or a ValueError, and the process lives on."""

import subprocess
import sys
from pathlib import Path

import pytest

FUZZING = Path(__file__).with_name("fuzzing.py")


def tried(*arguments):
    """A process that has tried calls; a crash of it is seen here."""
    command = [sys.executable, str(FUZZING), *arguments]
    done = subprocess.run(command, capture_output=True, stdin=subprocess.DEVNULL, encoding="utf-8", check=False)
    assert done.returncode == 0, done.stderr[-10_000:]


def test_strange_arguments():
    tried("200", "0")


@pytest.mark.exhaustive
def test_many_strange_arguments():
    tried("3000", "1", "wide")
