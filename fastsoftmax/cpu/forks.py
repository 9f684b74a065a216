"""Whether this process is a fork of one that had asked Numba for threads, as every launch in parallel does.

Threads do not survive a fork, and a pool of children that all use every core would be slower: such a child computes in
one thread.
This module is imported with the package, before Numba, so that the fork is seen however early it comes.
"""

import os
import sys

#: Whether launches in parallel have threads of their own, in `cpu.threads.workers`; elsewhere they use Numba's.
OWN = sys.platform != "win32" and sys.maxsize > 1 << 32

_lost = False


def _after_fork() -> None:
    global _lost
    launcher = sys.modules.get("numba.np.ufunc.parallel")
    _lost = _lost or (launcher is not None and getattr(launcher, "_is_initialized", True))


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)


def threads_lost() -> bool:
    """True in a process that must compute in one thread."""
    return _lost
