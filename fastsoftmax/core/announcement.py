"""A line on standard error for whoever waits for the compiler: once a process, and only where that is a terminal."""

import os
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

SECONDS = 1.0  # of compiling, after which it is said
LINE = (
    "fastsoftmax compiles kernels for this machine, some seconds, and keeps them for later processes "
    "(FASTSOFTMAX_QUIET=1 leaves this line out)"
)


class _State:
    """The seconds of compiling so far, and whether all is said."""

    spent, said = 0.0, False


def nothing_to_say() -> None:
    """Leave the line out: progress is shown otherwise."""
    _State.said = True


def _say() -> None:
    if not _State.said:
        _State.said = True
        print(LINE, file=sys.stderr, flush=True)


def _wanted() -> bool:
    quiet = os.environ.get("FASTSOFTMAX_QUIET", "").strip() not in {"", "0"}
    return not (_State.said or quiet or sys.stderr is None or not sys.stderr.isatty())


@contextmanager
def announced() -> Iterator[None]:
    """A block that compiles."""
    timer = threading.Timer(max(0.0, SECONDS - _State.spent), _say) if _wanted() else None
    begun = time.perf_counter()
    if timer is not None:
        timer.daemon = True
        timer.start()
    try:
        yield
    finally:
        _State.spent += time.perf_counter() - begun
        if timer is not None:
            timer.cancel()
