"""Operands of other libraries, whose owners go by streams of their own: their memory is held until a call has run.

Kernels are NumPy's (tests/standins/numpy_kernels.py), so that each argument counts: nothing here is a GPU's result.
"""

import gc
import weakref
from types import SimpleNamespace

import numpy as np
import pytest

import fastsoftmax as fs
from fastsoftmax.cuda import workspace
from fastsoftmax.cuda.arrays import borrowed, dlpack
from fastsoftmax.cuda.arrays.library import Description
from tests.cuda.host.support import drawn
from tests.standins import numpy_kernels  # noqa: F401  skips where numba-cuda is not installed
from tests.standins.arrays import ExchangedArray, InterfaceArray
from tests.standins.libraries import Torch

pytestmark = pytest.mark.usefixtures("few_objects")


class Owner:
    """What holds an array's memory: the reference that a capsule is, until nobody has it any more."""


class Exchanged(ExchangedArray):
    """An array with DLPack, whose capsules are counted by what they hold."""

    def __dlpack__(self, *, stream=None, **_):
        owner = Owner()
        self.owners = [o for o in getattr(self, "owners", ()) if o() is not None] + [weakref.ref(owner)]
        about = Description(self.shape, self.values.strides, self.dtype.name, self.device)
        return dlpack.export(self.address, about, owner)

    def held(self):
        return [owner for owner in self.owners if owner() is not None]


def exchanged(driver, *arrays):
    return [driver.array(values, kind=Exchanged) for values in arrays]


def maps(driver):
    x, y = exchanged(driver, drawn(4, 7), drawn(4, 7, seed=1))
    return [x, y], lambda: fs.softmax_vjp(x, y)


def numbers(driver):
    (x,) = exchanged(driver, drawn(4, 7))
    return [x], lambda: fs.logsumexp(x)


def losses(driver):
    weights = np.ones(7, np.float32), np.ones(4, np.float32)
    x, t, *more = exchanged(driver, drawn(4, 7), np.arange(4), *weights)
    options = dict(zip(("class_weight", "sample_weight"), more, strict=True))
    return [x, t, *more], lambda: fs.cross_entropy_and_grad(x, t, **options)


@pytest.mark.parametrize("made", [maps, numbers, losses])
def test_capsules_are_held_until_the_call_has_run(driver, made):
    """And no longer: a later call on the stream lets go of them."""
    arrays, call = made(driver)
    other, late = exchanged(driver, drawn(3, 3))[0], exchanged(driver, drawn(3, 3))[0]
    for _ in range(2):  # prepared, and repeated
        driver.behind = {1}
        call()
        gc.collect()
        assert [len(a.held()) for a in arrays] == [1] * len(arrays)
        fs.softmax(other)  # while the stream is behind
        assert [len(a.held()) for a in arrays] == [1] * len(arrays)
        driver.behind = set()
        fs.softmax(late)
        assert [len(a.held()) for a in (*arrays, other)] == [0] * (len(arrays) + 1)
    assert len(driver.events) <= 3  # which are used again


def test_a_temporary_of_another_stream_is_held(driver):
    """It is gone for its owner as soon as the caller drops it."""
    x, t = driver.array(drawn(4, 7), stream=5), driver.array(np.arange(4), kind=InterfaceArray, stream=6)
    temporary = weakref.ref(t)
    driver.behind = {5}
    fs.cross_entropy(x, t)
    del t
    gc.collect()
    assert temporary() is not None
    driver.behind = set()
    second = driver.array(np.arange(4)[::-1].copy(), kind=InterfaceArray, stream=6)
    fs.cross_entropy(x, second)
    assert temporary() is None


def test_what_its_own_stream_orders_is_not_held(driver):
    x, t = (driver.array(a, kind=InterfaceArray, stream=5) for a in (drawn(4, 7), np.arange(4)))
    driver.behind = {5}
    fs.cross_entropy(x, t)
    assert driver.events == []
    assert borrowed._lines == {}


def test_a_captured_call_holds_them_for_ever(driver):
    """Its graph may be launched at any time."""
    (x,) = exchanged(driver, drawn(4, 7))
    fs.softmax(x)
    driver.capturing = {1}
    fs.softmax(x)
    driver.capturing = set()
    for _ in range(2):
        fs.softmax(exchanged(driver, drawn(3, 3))[0])
    assert len(x.held()) == 1


def test_streams_do_not_wait_for_one_another(driver, monkeypatch):
    """What one has done with is let go though another one is behind."""
    monkeypatch.setattr(workspace, "SLAB", workspace.LEAST)  # the driver goes by whole reservations
    kept = []
    for stream in (5, 6):
        x = driver.array(drawn(4, 7), stream=stream)
        (t,) = exchanged(driver, np.arange(4))
        kept.append((x, t))
    driver.behind = {5, 6}
    for x, t in kept:
        fs.cross_entropy(x, t)
    driver.behind = {6}
    for x, _ in kept:
        fs.cross_entropy(x, exchanged(driver, np.arange(4))[0])
    assert [len(t.held()) for _, t in kept] == [0, 1]


def test_owners_are_told_without_the_lock(driver):
    """What they do then may be a call of ours."""
    (x,) = exchanged(driver, drawn(4, 7))
    locked = []

    class Telling(SimpleNamespace):
        def __del__(self):
            locked.append(borrowed._lock.locked())

    borrowed.keep(0, 9, [Telling()])
    borrowed.keep(0, 9, [x])
    assert locked == [False]


def test_labels_of_a_linear_pass_are_held(driver, monkeypatch):
    library = Torch(monkeypatch, driver)
    library.streams = {0: 5}
    x, weight = library.array(drawn(4, 3)), library.array(drawn(7, 3, seed=1))
    (t,) = exchanged(driver, np.arange(4))
    driver.behind = {5}
    fs.linear_cross_entropy_and_grad(x, weight, t)
    assert len(t.held()) == 1
    driver.behind = set()
    fs.linear_cross_entropy_and_grad(x, weight, exchanged(driver, np.arange(4))[0])
    assert t.held() == []
