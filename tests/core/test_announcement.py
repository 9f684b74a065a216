"""A line for whoever waits for the compiler."""

import time

import pytest

from fastsoftmax.core import announcement
from tests.support import child, on_terminal

CODE = """
import time
from fastsoftmax.core import announcement
announcement.SECONDS = 0.05
for _ in range(4):
    with announcement.announced():
        time.sleep(0.03)
"""


def test_said_once_after_some_time_of_compiling():
    """The second block passes the limit, and the others say nothing more."""
    done, shown = on_terminal(CODE)
    assert done.returncode == 0
    assert shown.decode().split() == announcement.LINE.split()


@pytest.mark.parametrize("why", ["quiet", "pipe", "progress", "short"])
def test_nothing_is_said(why):
    code = {
        "quiet": "import os; os.environ['FASTSOFTMAX_QUIET'] = '1'\n" + CODE,
        "pipe": CODE,
        "progress": "from fastsoftmax.core import announcement; announcement.nothing_to_say()\n" + CODE,
        "short": CODE.replace("0.05", "5"),
    }[why]
    if why == "pipe":
        assert child(code).stderr == ""
    else:
        assert on_terminal(code)[1] == b""


def test_kernels_are_announced(monkeypatch):
    """A kernel that is compiled is such a block, one that is loaded is none."""
    from fastsoftmax.cpu import jit

    monkeypatch.setattr(announcement._State, "spent", 0.0)
    monkeypatch.setattr(jit.store, "load", lambda *_: None)
    monkeypatch.setattr(jit.store, "keep", lambda *_: None)

    def nothing(params, chunk, slot):
        pass

    begun = time.perf_counter()
    jit.kernel(nothing)
    spent = announcement._State.spent
    assert 0.0 < spent <= time.perf_counter() - begun
    monkeypatch.setattr(jit, "_load", lambda about: (0, None, ""))
    jit.kernel(nothing)
    assert announcement._State.spent == spent
