"""The stand-in for a driver: arrays and addresses, what it refuses, and the order of streams."""

import gc
from types import SimpleNamespace

import numpy as np
import pytest
from ml_dtypes import bfloat16

from tests.interpreter import ptx
from tests.standins.arrays import DeviceArray, ExchangedArray, InterfaceArray, described
from tests.standins.driver import NAME, Driver, DriverError

#: out[i] = in[i] + number, for 32 threads a block.
ADD = """
.version 8.0
.target sm_90
.address_size 64
.visible .entry add(.param .u64 in, .param .u64 out, .param .f32 number)
.maxntid 32, 1, 1
{
    .reg .f32 %f<4>;
    .reg .b32 %r<5>;
    .reg .b64 %rd<6>;
    ld.param.u64 %rd1, [in];
    ld.param.u64 %rd2, [out];
    ld.param.f32 %f1, [number];
    mov.u32 %r1, %ctaid.x;
    mov.u32 %r2, %tid.x;
    mad.lo.u32 %r3, %r1, 32, %r2;
    mul.wide.u32 %rd3, %r3, 4;
    add.u64 %rd4, %rd1, %rd3;
    add.u64 %rd5, %rd2, %rd3;
    ld.global.f32 %f2, [%rd4];
    add.f32 %f3, %f2, %f1;
    st.global.f32 [%rd5], %f3;
    ret;
}
"""
COMPILED = SimpleNamespace(entry="add", ptx=ADD, code=b"", threads=32, shared=0, capability=(9, 0), cluster=1)
ONE = np.float32(1)


@pytest.fixture
def driver():
    return Driver(devices=2)


def add(driver, x, out, stream=1, number=ONE, device=0):
    driver.launch(
        driver.load(COMPILED, device), device, stream, x.shape[0] // 32, 32, 0, (x.address, out.address, number)
    )


def test_a_launch_computes_in_the_arrays_and_is_recorded(driver):
    x, out = driver.array(np.arange(64, dtype=np.float32)), driver.empty(64, np.float32)
    add(driver, x, out, stream=7)
    np.testing.assert_array_equal(driver.host(out), np.arange(64) + 1)
    (launched,) = driver.launches
    assert (launched.entry, launched.stream, launched.grid, launched.block, launched.shared) == ("add", 7, 2, 32, 0)
    assert launched.arguments == (x.address, out.address, ONE)
    assert [launched.traffic[name].loaded for name in ("array 0", "array 1")] == [256, 0]


def test_it_says_what_it_is(driver):
    assert NAME.startswith("NOT A GPU")
    assert driver.facts(0).name == NAME
    assert NAME in repr(driver)
    assert NAME in repr(driver.array(np.zeros(1)))


@pytest.mark.parametrize("kind", [DeviceArray, InterfaceArray, ExchangedArray])
@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64, np.int64])
def test_arrays_are_described_as_they_are(driver, kind, dtype):
    base = np.arange(60, dtype=dtype).reshape(6, 10)
    view = base[1::2, ::-3]
    array = driver.array(view, kind=kind, offset=24, device=1)
    address, shape, strides, found = described(array)
    assert (shape, strides, found) == (view.shape, view.strides, view.dtype)
    assert (address - 24) % 256 == view.ctypes.data - base.ctypes.data
    assert driver.device_of(address) == 1
    np.testing.assert_array_equal(driver.host(array), view)
    other = driver.array(base, kind=kind)
    assert other.address == address - (view.ctypes.data - base.ctypes.data)


def test_bfloat16_has_dlpack_only(driver):
    array = driver.array(np.ones(3, bfloat16))
    assert not hasattr(array, "__cuda_array_interface__")
    assert array.__dlpack_device__() == (2, 0)
    np.testing.assert_array_equal(driver.host(array), np.ones(3, bfloat16))


@pytest.mark.usefixtures("few_objects")
def test_memory_that_nobody_holds_is_gone(driver):
    held = driver.allocate(0, 128, 1)
    address = held.handle
    assert driver.device_of(address) == 0
    del held
    gc.collect()
    with pytest.raises(DriverError, match="no address"):
        driver.device_of(address)


def test_cleared_memory_is_read_back(driver):
    address = driver.reserve(0, 16)
    driver.clear(0, 1, address, 16)
    assert driver.read(0, 1, address + 8, 8) == bytes(8)
    with pytest.raises(DriverError, match="reach out"):
        driver.read(0, 1, address + 8, 9)
    assert [call[0] for call in driver.calls] == ["reserve", "clear", "read"]


def test_reading_what_nothing_was_written_to(driver):
    x, out = driver.empty(32, np.float32), driver.empty(32, np.float32)
    with pytest.raises(ptx.Uninitialised, match="array 0"):
        add(driver, x, out)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"number": 1.0}, "a NumPy float"),
        ({"number": True}, "a NumPy float"),
        ({"number": np.float64(1)}, "expected f32"),
        ({"number": 1}, "expected f32"),
        ({"device": 1}, "belongs to device 0"),
        ({"device": 2}, "one of 2 devices"),
    ],
)
def test_wrong_arguments_are_refused(driver, change, message):
    x, out = driver.array(np.zeros(32, np.float32)), driver.empty(32, np.float32)
    with pytest.raises((DriverError, ptx.PtxError), match=message):
        add(driver, x, out, **change)


def test_what_the_device_cannot_do_is_refused(driver):
    x, out = driver.array(np.zeros(32, np.float32)), driver.empty(32, np.float32)
    arguments = x.address, out.address, ONE
    with pytest.raises(DriverError, match="a kernel for"):
        Driver(capability=(8, 0)).load(COMPILED, 0)
    with pytest.raises(DriverError, match="a block has"):
        driver.load(COMPILED, 0, 228 * 1024)
    with pytest.raises(DriverError, match="was loaded for"):
        driver.launch(driver.load(COMPILED, 0), 0, 1, 1, 32, 64 * 1024, arguments)
    with pytest.raises(ptx.PtxError, match="threads a block"):
        driver.launch(driver.load(COMPILED, 0), 0, 1, 1, 64, 0, arguments)
    driver.launch(driver.load(COMPILED, 0, 64 * 1024), 0, 1, 1, 32, 64 * 1024, arguments)


def test_streams_wait_for_each_other_or_fail(driver):
    x, y, z = (driver.array(np.zeros(32, np.float32)) for _ in range(3))
    add(driver, x, y, stream=1)
    with pytest.raises(DriverError, match="does not wait"):
        add(driver, y, z, stream=2)
    driver.wait(0, 2, 1)
    add(driver, y, z, stream=2)
    with pytest.raises(DriverError, match="does not wait"):  # stream 2 may still read it
        add(driver, x, y, stream=1)
    driver.wait(0, 3, 2)
    driver.wait(0, 1, 3)  # and so stream 1 waits for 2
    add(driver, x, y, stream=1)
    add(driver, x, z, stream=1)


def test_whoever_reads_back_has_waited(driver):
    x, y, z = (driver.array(np.zeros(32, np.float32)) for _ in range(3))
    add(driver, x, y, stream=1)
    add(driver, x, z, stream=2)
    driver.read(0, 1, y.address, 4)
    with pytest.raises(DriverError, match="does not wait"):
        add(driver, z, y, stream=3)
    add(driver, y, driver.array(np.zeros(32, np.float32)), stream=3)


def test_dlpack_makes_the_consumers_stream_wait(driver):
    array = driver.array(np.zeros(4, np.float32), stream=5)
    array.__dlpack__(stream=9)
    array.__dlpack__(stream=5)
    assert driver.calls == [("wait", 0, 9, 5)]
