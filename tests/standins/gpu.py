"""A stand-in for a GPU in tests of the benchmark suite.  IT IS NO GPU: its arrays are NumPy's, its clock is a counter.

Kernels are whatever NumPy arrays are given to, on the CPU; each time between two events is `TICK` seconds.
"""

import importlib.util
import itertools

import numpy as np

from fastsoftmax.bench.cases import LAUNCH, LOSS, LOSS_AND_GRAD, SHAPES, SOFTMAX, Case
from fastsoftmax.bench.cuda.gpu import Gpu

NAME = "NOT A GPU (stand-in of the tests)"
TICK = 1e-3
HAS_TORCH = importlib.util.find_spec("torch") is not None
#: A list of cases that takes no time.
TOY = (
    Case(LAUNCH, SOFTMAX, (8, 16)),
    Case(SHAPES, LOSS_AND_GRAD, (300, 7)),
    Case(SHAPES, SOFTMAX, (5, 33), "bfloat16"),
    Case(SHAPES, LOSS, (6, 5)),
)
LOSS_CASE = TOY[1]


class StandIn(Gpu):
    """NumPy arrays, and a log of what was asked."""

    tensors = HAS_TORCH  # what takes tensors makes its own of NumPy arrays

    def __init__(self, memory=1e12):
        super().__init__("NumPy", {} if HAS_TORCH else {"torch": "torch is not installed"})
        self.memory, self.log, self._count = memory, [], itertools.count()

    def array(self, host):
        return host.copy()

    def empty(self, like, rows):
        return np.empty((rows, *like.shape[1:]), like.dtype)

    def copy(self, to, source):
        self.log.append("copy")
        to[...] = source

    def host(self, array):
        if hasattr(array, "detach"):
            array = array.detach().double()
        return np.asarray(array).astype(np.float64)

    def record(self):
        self.log.append("record")
        return next(self._count)

    def seconds(self, start, end):
        return (end - start) * TICK

    def synchronize(self):
        self.log.append("synchronize")

    def flush(self):
        self.log.append("flush")

    def free(self):
        return self.memory

    def trim(self):
        self.log.append("trim")

    def facts(self):
        return {"GPU": NAME, "driver": "none", "arrays": self.library}
