"""Small memory on a GPU that calls on a stream share: they follow one another, and so may what they write there.

It is made at a stream's first call and never given back, as a captured graph may hold it: 16 bytes, and 8 for each
block of the largest launch (a few thousand).
"""

import threading

from . import package

HEADER = 16  # the denominator of a mean, and a word for a bad label
LEAST = 1 << 15


class Workspace:
    """Memory of one GPU, for one stream.

    Attributes
    ----------
    lock
        Held by whoever launches, so that the launches of two threads do not mix.
    """

    def __init__(self, device: int) -> None:
        self.device, self.size, self.address = device, 0, 0
        self.lock = threading.Lock()

    def reserve(self, partials: int) -> int:
        """The address of enough memory for a number of partial sums behind the header; what there was remains."""
        size = HEADER + 8 * partials
        with self.lock:
            if size > self.size:
                size = max(size, 2 * self.size, LEAST)
                self.address, self.size = package.reserve(self.device, size), size
            return self.address


_known: dict[tuple[int, int], Workspace] = {}


def workspace(device: int, stream: int) -> Workspace:
    """The workspace of a stream."""
    key = device, stream
    found = _known.get(key)
    return _known.setdefault(key, Workspace(device)) if found is None else found
