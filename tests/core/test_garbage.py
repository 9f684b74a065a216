"""The search for garbage during a compilation: off, and afterwards as it was."""

import contextlib
import gc

import pytest

from fastsoftmax.core.garbage import uncollected
from fastsoftmax.cpu import jit


@pytest.mark.parametrize("collects", [True, False])
def test_is_as_it_was_afterwards(collects):
    before = gc.isenabled()
    try:
        (gc.enable if collects else gc.disable)()
        with uncollected():
            with uncollected():
                assert not gc.isenabled()
            assert not gc.isenabled()
        assert gc.isenabled() is collects
        with contextlib.suppress(OSError), uncollected():
            raise OSError
        assert gc.isenabled() is collects
    finally:
        (gc.enable if before else gc.disable)()


def test_a_compilation_looks_for_none(monkeypatch):
    looks = []

    def load(about):
        looks.append(gc.isenabled())
        return 1, None

    monkeypatch.setattr(jit, "_identified", lambda *arguments: "")
    monkeypatch.setattr(jit, "_load", load)
    jit.kernel(None)
    assert looks == [False]
    assert gc.isenabled()
