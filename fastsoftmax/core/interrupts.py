"""Ctrl-C and forks held back while something must not be left halfway: an import, a compilation, a borrowed setting.

Python raises KeyboardInterrupt wherever the main thread happens to be: within a callback of the compiler, which prints
it and goes on with half of its state, or between setting the threads of a BLAS and the block that sets them back.
A fork leaves the locks of other threads taken in the child, where nobody releases them: Python has one a module.
"""

import _signal as signal  # type: ignore[import-not-found]  # `signal` wraps it in enumerations: 5 us a call
import importlib
import os
import sys
import threading
from functools import cache
from types import FrameType
from typing import Any

#: Held by whoever imports, compiles or starts threads: a fork waits for it.
fork_waits = threading.RLock()

#: Who holds interruptions back, the innermost last; only the main thread ever does.
_holding: list["Deferred"] = []


class Deferred:
    """A block of the main thread that no SIGINT leaves: one that comes meanwhile is handled at its end.

    It is handled by whoever would have handled it: by default KeyboardInterrupt is raised.  Blocks may be nested: it is
    raised at the end of the outermost.  Other threads are never interrupted, and a process whose SIGINT is ignored, or
    not handled by Python, is left as it is.
    """

    __slots__ = ("came", "handler")

    def __init__(self) -> None:
        self.came = False
        self.handler: Any = None

    def __enter__(self) -> "Deferred":
        if threading.current_thread() is threading.main_thread():
            handler = signal.getsignal(signal.SIGINT)
            if callable(handler):
                self.handler = handler
                signal.signal(signal.SIGINT, self._note)
                _holding.append(self)
        return self

    def __exit__(self, *_: object) -> None:
        if self.handler is not None:
            self._restore()
            self.deliver()

    def _note(self, _number: int, _frame: FrameType | None) -> None:
        self.came = True

    def _restore(self) -> None:
        """Put back the handler that was found, unless somebody has set another meanwhile."""
        if self in _holding:
            _holding.remove(self)
        if signal.getsignal(signal.SIGINT) == self._note:
            signal.signal(signal.SIGINT, self.handler)

    def deliver(self) -> None:
        """Have what came meanwhile handled now."""
        if self.came:
            self.came = False
            self.handler(signal.SIGINT, sys._getframe(1))


def check() -> None:
    """Have an interruption that came within the innermost block handled now: a place where it may be left."""
    if _holding and threading.current_thread() is threading.main_thread():
        _holding[-1].deliver()


@cache
def imported(name: str, package: str) -> Any:
    """A module that the first call that needs it imports, whole: Numba takes half a second."""
    with fork_waits, Deferred():
        return importlib.import_module(name, package)


def _after_fork() -> None:
    """The main thread of a child may be another, which holds nothing back."""
    while _holding:
        held = _holding[-1]
        held.came = False
        held._restore()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
    os.register_at_fork(
        before=fork_waits.acquire, after_in_parent=fork_waits.release, after_in_child=fork_waits.release
    )
