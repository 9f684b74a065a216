"""Small memory on a GPU that calls on a stream share: they follow one another, and so may what they write there.

It is made at a stream's first call and never given back, as a captured graph may hold it: 16 bytes, and 8 for each
block of the largest launch (some ten thousand).  It is cut off a slab, so that the first call on another stream, which
may be one that is being captured, allocates nothing.
"""

import threading

from ..core import memo
from .toolkit import compiler

HEADER = 16  # the denominator of a mean, and a word for a bad label
LEAST = 1 << 17
SLAB = 16 * LEAST  # the driver's own granule

#: By GPU: the address of what is left of its slab, and its size.
_slabs: memo.Memo[int, tuple[int, int]] = memo.shared()
_cutting = threading.Lock()


def _cut(device: int) -> int:
    """The address of a piece of a slab, of the least size of a workspace."""
    with _cutting:
        address, left = _slabs.get(device, (0, 0))
        if left == 0:
            address, left = compiler.reserve(device, SLAB), SLAB
        _slabs[device] = address + LEAST, left - LEAST
        return address


class Workspace:
    """Memory of a GPU for one stream; whoever launches holds its lock, so that two threads' launches do not mix."""

    def __init__(self, device: int) -> None:
        self.device, self.size, self.address = device, 0, 0
        self.lock = threading.Lock()

    def reserve(self, partials: int) -> int:
        """The address of enough memory for a number of partial sums behind the header; what there was remains."""
        size = HEADER + 8 * partials
        with self.lock:
            if size > self.size:
                if size <= LEAST:
                    self.address, self.size = _cut(self.device), LEAST
                else:
                    size = max(size, 2 * self.size)
                    self.address, self.size = compiler.reserve(self.device, size), size
            return self.address


_known: memo.Memo[tuple[int, int], Workspace] = memo.shared()


def workspace(device: int, stream: int) -> Workspace:
    """The workspace of a stream."""
    key = device, stream
    known = _known.get(key)
    return _known.setdefault(key, Workspace(device)) if known is None else known
