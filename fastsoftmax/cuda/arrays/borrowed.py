"""Operands that are ordered on another stream than the call's, kept until the call has run.

Their owner goes by its own stream: it would give the memory of a temporary to the next array there, while the call is
still to read it.  A later call on the stream lets go of what earlier ones have done with.
"""

import atexit
import threading
from collections import deque
from typing import Any

from ..toolkit import compiler


class _Line:
    """Operands that a stream is still to read."""

    def __init__(self) -> None:
        self.kept: deque[tuple[Any, Any]] = deque()  # (event, what is kept until then), in the order of the calls
        self.spare: list[Any] = []  # events that have come


_lines: dict[tuple[int, int], _Line] = {}
_captured: list[Any] = []  # for ever, as a graph may be launched at any time
_lock = threading.Lock()
atexit.register(_lines.clear)  # before the owners are gone, who are told


def keep(device: int, stream: int, operands: Any) -> None:
    """Keep the operands of what a stream was given last."""
    read = []
    with _lock:
        line = _lines.setdefault((device, stream), _Line())
        while line.kept and compiler.passed(line.kept[0][0]):
            read.append(line.kept.popleft())
            line.spare.append(read[-1][0])
        old = line.spare.pop() if line.spare else None
        event = compiler.mark(device, stream, old)
        if event is not None:
            line.kept.append((event, operands))
        else:
            _captured.append(operands)
            line.spare += [] if old is None else [old]
    read.clear()  # without the lock: owners have code of their own for what nobody holds any more
