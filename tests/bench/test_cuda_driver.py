"""The benchmark suite's calls of the public functions on "GPU" arrays: the stand-in driver's, with NumPy for kernels.

Nothing here is a result of a GPU.
"""

import pytest

from fastsoftmax.bench.cases import LOSS, LOSS_AND_GRAD, SHAPES, SOFTMAX, Case
from fastsoftmax.bench.cuda import contestants
from fastsoftmax.bench.cuda.cases import wanted
from fastsoftmax.bench.results import IN_PLACE, INTO, OURS
from tests.standins.gpu import StandIn
from tests.standins.libraries import Torch
from tests.standins.numpy_kernels import NumpyDriver


class OnDriver(StandIn):
    """Arrays of a library on the stand-in driver's device."""

    tensors = False

    def __init__(self, library):
        super().__init__()
        self.held, self.absent = library, {"torch": "a stand-in for torch has no functions"}
        library.type.__getitem__ = lambda array, key: library.array(array.values[key])

    def array(self, host):
        return self.held.array(host.copy())

    def empty(self, like, rows):
        return self.held.empty((rows, *like.shape[1:]), like.values.dtype)

    def copy(self, to, source):
        self.held.host(to)[...] = self.held.host(source)
        buffer = self.held.driver.buffer(to.address)
        if buffer.written is not None:
            buffer.written[:] = 255

    def host(self, array):
        return super().host(self.held.host(array))


@pytest.mark.parametrize("function", [LOSS_AND_GRAD, LOSS, SOFTMAX])
@pytest.mark.parametrize("dtype", ["bfloat16", "float32"])
def test_ours_are_launched_and_right(function, dtype, monkeypatch, nothing_prepared):
    driver = NumpyDriver().install(monkeypatch)
    monkeypatch.setattr(contestants, "DISTINCT", 21)
    case = Case(SHAPES, function, (10, 7), dtype)
    d = contestants.drawn(OnDriver(Torch(monkeypatch, driver)), case)
    calls, skipped = contestants.prepared(case, d, wanted(case))
    ours = {LOSS_AND_GRAD: [OURS, INTO, IN_PLACE], LOSS: [OURS], SOFTMAX: [OURS, INTO]}[function]
    assert list(calls) == ours
    assert set(skipped.values()) == {"a stand-in for torch has no functions"}
    kernel = "softmax" if function == SOFTMAX else "cross_entropy"
    assert [launched.entry for launched in driver.launches].count(kernel) == len(ours)
    before = len(driver.launches)
    calls[ours[-1]]()
    assert kernel in [launched.entry for launched in driver.launches[before:]]
