"""Scenarios of `fastsoftmax.cuda.toolkit.compiler` on the stand-in in C: run in a process of their own.

IT IS NO GPU.

python -m tests.standins.driven LIBRARY        # prints what went wrong, by the function's name, as JSON
"""

import ctypes
import json
import sys
import traceback

import numpy as np
import pytest

from tests.standins.c_driver import OUT_OF_MEMORY, CDriver, Interpreter

STREAM = 0x7F00BEEF0000
LEGACY, PER_THREAD = 1, 2


def _hex(stream):
    return hex(stream) if stream else "(nil)"


def _total():
    """The smallest kernel there is: four integers."""
    from fastsoftmax.core.dtypes import FLOAT32
    from fastsoftmax.cuda.kernels import recipes

    return recipes.compiled(recipes.total_recipe(FLOAT32), (9, 0))


def no_device(driver):
    from fastsoftmax.cuda import Missing
    from fastsoftmax.cuda.toolkit import compiler

    driver.devices(0)
    with pytest.raises(Missing, match=r"CUDA_ERROR_NO_DEVICE.*pip install 'numba-cuda\[cu13\]"):
        compiler.facts(0)
    driver.devices(2)


def facts(driver):
    from fastsoftmax.cuda.toolkit import compiler

    about = compiler.facts(1)
    assert about == ("NOT A GPU (stand-in driver)", (9, 0), 132, 232448, True), about


def devices(driver):
    from fastsoftmax.cuda.toolkit import compiler

    assert compiler.current_device() == 0  # of a thread that has none yet
    addresses = [compiler.reserve(number, 1000) for number in (1, 0)]
    assert [line for line in driver.took() if line.startswith("reserved")] == [
        "reserved 1000 device 1 stream (nil)",
        "reserved 1000 device 0 stream (nil)",
    ]
    assert [compiler.device_of(a + 999) for a in addresses] == [1, 0]
    assert compiler.current_device() == 0


def launches(driver):
    from fastsoftmax.cuda.toolkit import compiler

    compiled, seen = _total(), []
    loaded = compiler.load(compiled, 0)
    driver.knows(loaded, compiled)
    driver.run(lambda compiled, arguments, config: seen.append(arguments))
    driver.took()
    largest, least = (1 << 63) - 1, -(1 << 63)
    for stream in (0, LEGACY, PER_THREAD, STREAM):
        compiler.launch(loaded, 0, stream, 37, 256, 1024, (largest, least, -100, 0x7F0000000010))
        (line,) = driver.took()
        assert line == (
            f"launched grid 37 1 1 block 256 1 1 shared 1024 stream {_hex(stream)} attributes 0 device 0"
        ), line
    assert seen == [(largest, least, -100, 0x7F0000000010)] * 4, seen
    compiler.launch(loaded, 1, STREAM, 1, 32, 0, (0, 0, 0, 0))  # another GPU than the current one, which remains that
    (line,) = driver.took()
    assert line.endswith("device 1"), line
    assert compiler.current_device() == 0


def launches_again(driver):
    """Which change a few parameters, of the many that lie packed in memory."""
    from fastsoftmax.cuda.toolkit import compiler
    from fastsoftmax.cuda.toolkit.packed import Cell

    compiled, seen = _total(), []
    loaded = compiler.load(compiled, 0)
    driver.knows(loaded, compiled)
    driver.run(lambda compiled, arguments, config: seen.append(arguments))
    first = compiler.Kernel(loaded, 3, 64, 16, (Cell(0), Cell(1), -3, 4))
    other = compiler.Kernel(loaded, 1, 32, 0, (Cell(1), 6, 7, 8))
    both, one = compiler.Launches(STREAM, (first, other), 2), compiler.Launches(LEGACY, (other,), 2)
    driver.took()
    largest = (1 << 63) - 1
    for last in (4, -5):
        compiler.put(0, both, (0x7F0000000010, largest))
        assert seen == [(0x7F0000000010, largest, -3, last), (largest, 6, 7, 8)], seen
        seen.clear()
        compiler.put(0, one, (0, 9))
        assert seen == [(9, 6, 7, 8)], seen
        seen.clear()
        both.change(0, 3, -5)
        assert driver.took() == [
            f"launched grid 3 1 1 block 64 1 1 shared 16 stream {hex(STREAM)} attributes 0 device 0",
            f"launched grid 1 1 1 block 32 1 1 shared 0 stream {hex(STREAM)} attributes 0 device 0",
            f"launched grid 1 1 1 block 32 1 1 shared 0 stream {hex(LEGACY)} attributes 0 device 0",
        ]
    compiler.put(1, both, (0, 0))
    assert [line[-8:] for line in driver.took()] == ["device 1"] * 2
    assert compiler.current_device() == 0


def shared_memory(driver):
    from fastsoftmax.cuda.toolkit import compiler

    driver.took()
    compiler.load(_total(), 1)
    assert driver.took() == []
    for most in (48_637, 200_000):  # with static memory the smaller one, too, may be more than a kernel has unasked
        compiler.load(_total(), 1, most)
        assert driver.took() == [f"told 8 {most} device 1"]  # the most of dynamic shared memory


def memory(driver):
    from fastsoftmax.cuda.toolkit import compiler

    driver.took()
    held = compiler.allocate(1, 64, STREAM)
    address = int(held.handle)
    compiler.clear(1, STREAM, address, 64)
    assert compiler.read(1, STREAM, address + 60, 4) == b"\0\0\0\0"
    (ctypes.c_char * 4).from_address(address)[:] = b"here"
    compiler.copy(1, STREAM, address + 56, address, 4)
    assert bytes((ctypes.c_char * 4).from_address(address + 56)) == b"here"
    del held
    assert driver.took() == [
        f"allocated 64 device 1 stream {_hex(STREAM)}",
        f"cleared {address:#x} 64 stream {_hex(STREAM)}",
        f"copied {address + 60:#x} 4 stream {_hex(STREAM)}",
        f"waited stream {_hex(STREAM)}",
        f"moved {address + 56:#x} 4 stream {_hex(STREAM)}",
        f"freed {address:#x} stream {_hex(STREAM)}",
    ]


def order(driver):
    from fastsoftmax.cuda.toolkit import compiler

    driver.took()
    compiler.wait(0, STREAM, LEGACY)
    recorded, ordered = driver.took()
    event = recorded.split()[1]
    assert (recorded, ordered) == (
        f"recorded {event} stream {_hex(LEGACY)}",
        f"ordered stream {_hex(STREAM)} after {event}",
    )


def events(driver):
    """An event is used again, on any GPU; none is put into a capture; asking ends nobody's capture."""
    from cuda.bindings import driver as bindings

    from fastsoftmax.cuda.toolkit import compiler

    driver.took()
    event = compiler.mark(1, STREAM)
    assert driver.took() == [f"recorded {int(event)} stream {_hex(STREAM)}"]
    assert compiler.mark(1, LEGACY, event) is event
    assert driver.took() == [f"recorded {int(event)} stream {_hex(LEGACY)}"]
    assert compiler.passed(event)
    driver.stream(behind=True)
    assert not compiler.passed(event)
    driver.stream(capturing=True)
    assert compiler.mark(0, STREAM) is compiler.mark(0, STREAM, event) is None
    assert driver.took() == []
    driver.stream()
    relaxed = bindings.CUstreamCaptureMode.CU_STREAM_CAPTURE_MODE_RELAXED
    assert bindings.cuThreadExchangeStreamCaptureMode(relaxed)[1] == 0  # as it was
    bindings.cuThreadExchangeStreamCaptureMode(bindings.CUstreamCaptureMode(0))


def failures(driver):
    from fastsoftmax.cuda.toolkit import compiler

    address, loaded = compiler.reserve(0, 8), compiler.load(_total(), 0)
    for call in (
        lambda: compiler.reserve(0, 1000),
        lambda: compiler.clear(0, STREAM, address, 8),
        lambda: compiler.launch(loaded, 0, STREAM, 1, 32, 0, (0, 0, 0, 0)),
    ):
        driver.fail(OUT_OF_MEMORY)
        with pytest.raises(Exception, match="CUDA_ERROR_OUT_OF_MEMORY"):  # of cuda-core's own class, or a RuntimeError
            call()
        call()


class OnDevice:
    """NumPy's values in the memory of the stand-in driver's first GPU."""

    def __init__(self, values):
        from fastsoftmax.cuda.toolkit import compiler

        self.values, self.memory = values, compiler.allocate(0, values.nbytes, STREAM)
        self.data()[:] = np.frombuffer(values.tobytes(), np.uint8)

    def data(self):
        return at(self.memory.handle, self.values.nbytes)

    @property
    def __cuda_array_interface__(self):
        about = self.values.__array_interface__
        return about | {"data": (int(self.memory.handle), False), "version": 3, "stream": STREAM}


def at(address, size):
    return np.frombuffer((ctypes.c_char * size).from_address(int(address)), np.uint8)


def a_public_function(driver):
    """From the arguments to the results, with every part real but the driver and what executes kernels."""
    import fastsoftmax
    from fastsoftmax.cuda.toolkit import compiler

    run, load, reserve, allocate = Interpreter(), compiler.load, compiler.reserve, compiler.allocate

    def loaded(compiled, *rest):
        kernel = load(compiled, *rest)
        driver.knows(kernel, compiled)
        return kernel

    def reserved(number, size):
        address = reserve(number, size)
        run.add(address, size)
        return address

    def allocated(number, size, stream):
        memory = allocate(number, size, stream)
        run.add(int(memory.handle), size)
        return memory

    compiler.load, compiler.reserve, compiler.allocate = loaded, reserved, allocated
    driver.run(run)
    rng = np.random.default_rng(0)
    logits, target = rng.normal(size=(9, 100)).astype(np.float32), rng.integers(0, 100, 9)
    x, y = OnDevice(logits), OnDevice(target)
    loss, gradient = fastsoftmax.cross_entropy_and_grad(x, y)
    p = np.exp(logits.astype(np.float64))
    p /= p.sum(axis=1, keepdims=True)
    want = p - np.eye(100)[target]
    np.testing.assert_allclose(
        at(gradient.pointer, logits.nbytes).view(np.float32).reshape(9, 100), want / 9, atol=1e-7
    )
    np.testing.assert_allclose(at(loss.pointer, 4).view(np.float32)[0], -np.log(p[range(9), target]).mean(), rtol=1e-6)
    assert (loss.stream, gradient.shape) == (STREAM, (9, 100))


SCENARIOS = {
    f.__name__: f
    for f in (
        no_device,
        facts,
        devices,
        launches,
        launches_again,
        shared_memory,
        memory,
        order,
        events,
        failures,
        a_public_function,
    )
}


def main(library):
    driver, wrong = CDriver(library), {}
    for name, scenario in SCENARIOS.items():
        try:
            scenario(driver)
        except Exception:  # whatever it is, the test that is named so shows it
            wrong[name] = traceback.format_exc()
    print(json.dumps(wrong))


if __name__ == "__main__":
    main(sys.argv[1])
