"""Arrays of libraries on a GPU: theirs in, theirs out, on their streams; and the libraries that are installed.

Kernels are NumPy's (tests/standins/numpy_kernels.py), so that each argument counts: nothing here is a GPU's result.
"""

import subprocess
import sys

import numpy as np
import pytest
from ml_dtypes import bfloat16

import fastsoftmax as fs
from fastsoftmax import reference
from fastsoftmax.cuda.arrays import array
from fastsoftmax.cuda.arrays.library import Description
from fastsoftmax.cuda.arrays.torch import Torch as TorchLibrary
from tests.cuda.host.support import DTYPES, drawn, near, of
from tests.standins.arrays import DeviceArray, ExchangedArray, InterfaceArray
from tests.standins.libraries import LIBRARIES
from tests.standins.numpy_kernels import compiler

MAPS = [fs.softmax, fs.log_softmax]
PRODUCTS = [fs.softmax_vjp, fs.log_softmax_vjp]
name = pytest.mark.parametrize("name", LIBRARIES)


@name
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_every_function_takes_and_gives_arrays_of_the_same_kind(library, driver, name, dtype):
    if name == "numba" and dtype == bfloat16:
        pytest.skip("Numba has no arrays of bfloat16")
    x, g, t = drawn(4, 7, dtype=dtype), drawn(4, 7, dtype=dtype, seed=1), np.array([0, 6, -100, 3])
    wide = x.astype(np.float64), g.astype(np.float64)
    on = library.array(x), library.array(g), library.array(t)

    def same(result, expected, stored=dtype):
        assert type(result) is library.type
        assert result.values.dtype == stored
        assert result.shape == np.shape(expected)
        near(library.host(result), expected, stored)

    for function in MAPS:
        same(function(on[0]), of(function)(wide[0]))
    same(fs.logsumexp(on[0]), reference.logsumexp(wide[0]))
    for function in PRODUCTS:
        same(function(*on[:2]), of(function)(*wide))
    real = np.float64 if dtype == np.float64 else np.float32
    same(fs.cross_entropy(on[0], on[2]), reference.cross_entropy(wide[0], t), real)
    result, expected = fs.cross_entropy_and_grad(on[0], on[2]), reference.cross_entropy_and_grad(wide[0], t)
    same(result.loss, expected.loss, real)
    same(result.grad, expected.grad)
    assert not {"read", "clear"} & {call[0] for call in driver.calls}


@pytest.mark.parametrize("kind", [DeviceArray, InterfaceArray, ExchangedArray])
def test_arrays_of_no_library_give_arrays_of_our_own(driver, kind):
    x, t = drawn(4, 7), np.array([0, 6, -100, 3])
    loss, grad = fs.cross_entropy_and_grad(driver.array(x, kind=kind), driver.array(t, kind=kind))
    expected = reference.cross_entropy_and_grad(x, t)
    assert type(loss) is type(grad) is array.Array
    assert (loss.shape, grad.shape, grad.dtype, grad.device, grad.stream) == ((), (4, 7), "float32", 0, 1)
    near(driver.host(loss), expected.loss)
    near(driver.host(grad), expected.grad)
    near(driver.host(fs.softmax(grad)), reference.softmax(expected.grad))  # which are arguments in their turn


@name
@pytest.mark.parametrize("device", [0, 1])
def test_the_stream_is_that_of_the_caller(library, driver, name, device):
    """The library's current stream on the array's device, or the array's own; the default stream for JAX."""
    library.streams = {0: 5, 1: 6}
    bound = {"stream": 5 + device} if name == "numba" else {}
    x, t = (library.array(a, device=device, **bound) for a in (drawn(4, 7), np.arange(4)))
    loss, grad = fs.cross_entropy_and_grad(x, t, class_weight=library.array(np.ones(7, np.float32), device=device))
    fs.softmax(grad)
    stream = 1 if name == "jax" else 5 + device
    launched = [(one.device, one.stream) for one in driver.launches]
    assert launched[:3] == [(device, stream)] * 3
    assert grad.number == loss.number == device
    if name not in ("numba", "jax"):  # whose arrays have streams of their own to wait for
        assert not [call for call in driver.calls if call[0] == "wait"]


def test_what_another_stream_does_is_waited_for(driver):
    """By the stream, not by the caller."""
    x = driver.array(drawn(4, 7), kind=InterfaceArray, stream=3)
    t = driver.array(np.arange(4), kind=InterfaceArray, stream=4)
    out = driver.array(drawn(4, 7), kind=ExchangedArray, stream=5)
    loss, _ = fs.cross_entropy_and_grad(x, t, out=out)
    waits = [call for call in driver.calls if call[0] == "wait"]
    assert set(waits) == {("wait", 0, 3, 4), ("wait", 0, 3, 5)}
    assert {one.stream for one in driver.launches} == {3}
    assert loss.stream == 3
    assert loss.__cuda_array_interface__["stream"] == 3


@pytest.mark.parametrize("name", ["torch"])
def test_libraries_may_be_mixed(library, driver, name):
    library.streams = {0: 9}
    x, t = drawn(4, 7), np.arange(4)
    loss = fs.cross_entropy(library.array(x), driver.array(t, kind=InterfaceArray, stream=2))
    near(library.host(loss), reference.cross_entropy(x, t))
    assert [call for call in driver.calls if call[0] == "wait"] == [("wait", 0, 9, 2)]


@name
def test_with_out_nothing_is_allocated_but_the_loss(library, driver, name):
    if name == "jax":
        pytest.skip("its arrays never change")
    x, g, t = drawn(40, 7), drawn(40, 7, seed=1), np.arange(40) % 7
    on, out = [library.array(a) for a in (x, g, t)], library.array(np.zeros_like(x))
    fs.cross_entropy_and_grad(on[0], on[2], out=out)  # reserves the stream's workspace
    library.made.clear()
    driver.calls.clear()
    assert fs.softmax(on[0], out=out) is out
    near(library.host(out), reference.softmax(x))
    assert fs.softmax_vjp(*on[:2], out=out) is out
    near(library.host(out), reference.softmax_vjp(x, g), size=10)
    assert library.made == []
    loss, grad = fs.cross_entropy_and_grad(on[0], on[2], out=out)
    assert grad is out
    near(library.host(out), reference.cross_entropy_and_grad(x, t).grad)
    assert library.made == [((), np.float32)]
    near(library.host(loss), reference.cross_entropy(x, t))
    assert {call[0] for call in driver.calls} == {"launch"} or not driver.calls


@pytest.mark.parametrize("name", ["torch", "cupy"])
def test_in_place(library, driver, name):
    x, t = drawn(4, 7), np.arange(4)
    on = library.array(x.copy())
    loss, grad = fs.cross_entropy_and_grad(on, library.array(t), out=on)
    assert grad is on
    expected = reference.cross_entropy_and_grad(x, t)
    near(library.host(on), expected.grad)
    near(library.host(loss), expected.loss)


# The libraries themselves, as far as they are installed and without a GPU.


def test_torch_has_what_is_asked_of_it():
    torch = pytest.importorskip("torch")
    kind = TorchLibrary()
    for dtype in ("float16", "bfloat16", "float32", "float64", "int64"):
        x = torch.zeros((4, 6), dtype=getattr(torch, dtype))[:, ::2]
        key, address, owner = kind.key(x, 0)
        assert owner is x
        assert address == x.data_ptr() == kind.address(x)
        assert kind.describe(x, key) == Description((4, 3), (6 * x.itemsize, 2 * x.itemsize), dtype, -1)
        hash(key)
        assert kind.empty_like(x, 0).shape == x.shape
        new = kind.empty(x, (2,), "float32", 0)
        assert (new.dtype, new.device, tuple(new.shape)) == (torch.float32, x.device, (2,))
    assert "detach" in kind.refused(torch.zeros(1, requires_grad=True), "x")
    assert kind.key(torch.zeros(1), 0)[0] != kind.key(torch.zeros(1, requires_grad=True), 0)[0]
    assert kind.stream(torch.zeros(1)) == 0
    assert kind.call_key(x, None, x) is None  # it lies on no GPU


def test_numbas_arrays_have_what_is_asked_of_them():
    from numba.cuda.cudadrv.devicearray import DeviceNDArray

    assert hasattr(DeviceNDArray, "device_ctypes_pointer")
    assert DeviceNDArray.__module__.startswith("numba.")


def test_nothing_is_imported_for_arrays_in_main_memory():
    code = """
import sys, numpy as np, fastsoftmax as fs
fs.softmax([1.0, 2.0]); fs.cross_entropy(np.zeros((2, 3)), [0, 1], class_weight=[1, 1, 1.0])
print(sorted(m for m in sys.modules if m.startswith(("fastsoftmax.cuda", "fastsoftmax.cuda.check", "numba.cuda"))))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, encoding="utf-8", check=True)
    assert done.stdout.strip() == "[]"
    assert compiler is sys.modules["fastsoftmax.cuda.toolkit.compiler"]
