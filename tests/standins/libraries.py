"""Stand-ins for PyTorch, CuPy, Numba and JAX on the stand-in driver's devices: as far as the package touches them.

Their modules are put into `sys.modules`, as a user's import would; the package finds a library by an array's type.
"""

import sys
from contextlib import contextmanager
from functools import partial
from types import ModuleType, SimpleNamespace

import numpy as np
from ml_dtypes import bfloat16

from tests.standins.arrays import capsule


class LibraryArray:
    """An array of any library: NumPy's, with an address on a device."""

    def __init__(self, driver, values, address, device, stream):
        self.driver, self.values, self.address, self.number, self.bound = driver, values, address, device, stream

    @property
    def shape(self):
        return self.values.shape

    def view(self, values):
        return self.driver.array(values, device=self.number, stream=self.bound, kind=type(self))

    def __getitem__(self, key):
        return self.view(self.values[key])

    @property
    def T(self):
        return self.view(self.values.T)


class Library:
    """A library: its module, and how it makes arrays, which it counts."""

    def __init__(self, monkeypatch, driver, name):
        self.driver, self.made, self.streams = driver, [], {}
        self.work = []  # (what, device, stream) of each operation
        self.module = ModuleType(name)
        monkeypatch.setitem(sys.modules, name, self.module)

    def array(self, values, *, device=0, **options):
        """A NumPy array as one of the library's."""
        return self.driver.array(values, device=device, kind=self.type, **options)

    def empty(self, shape, dtype, device=0, stream=None, order="C"):
        self.made.append((tuple(shape), np.dtype(dtype)))
        return self.driver.empty(shape, dtype, device=device, stream=stream, kind=self.type)

    def host(self, array):
        """The values of an array."""
        return np.ndarray.view(array.values) if isinstance(array, LibraryArray) else self.driver.host(array)

    def operate(self, what, result, out, *operands):
        """An operation of the library's: on the current stream of its operands' device, from what was written before.

        `result` is made of float64 copies of the operands, and rounded once.
        """
        number, stream = out.number, self.streams.get(out.number, 0)
        assert all(type(a) is self.type and a.number == number for a in operands)
        buffers = [self.driver.buffer(a.address) for a in (*operands, out) if a.values.size]
        for a in operands:
            place = self.written(a)
            assert place is None or place.all(), f"{what} reads what nothing was written to"
        if out.values.size:
            self.driver.order.step(stream, [b.name for b in buffers[:-1]], [buffers[-1].name])
        with np.errstate(invalid="ignore", over="ignore"):
            found = result(*(a.values.astype(np.float64) for a in operands))
            assert found.shape == out.shape
            out.values[...] = found
        if (place := self.written(out)) is not None:
            place[...] = 255
        self.work.append((what, number, stream))
        return out

    def result(self, what, dtype, result, *operands):
        """An operation that makes a new array."""
        shape = np.shape(result(*(np.zeros(a.shape) for a in operands)))
        return self.operate(what, result, self.empty(shape, dtype, operands[0].number), *operands)

    def written(self, array):
        """Which bytes of an array something was written to; None where all of them were from the first."""
        values = array.values
        buffer = self.driver.buffer(array.address) if values.size else None
        if buffer is None or buffer.written is None:
            return None
        shape, strides = (*values.shape, values.itemsize), (*values.strides, 1)
        return np.ndarray(shape, np.uint8, buffer.written, array.address - buffer.address, strides)


class Dtype:
    """A dtype as torch has it."""

    def __init__(self, name):
        self.name = name
        self.itemsize = 2 if name == "bfloat16" else np.dtype(name).itemsize

    def __repr__(self):
        return f"torch.{self.name}"


class Torch(Library):
    """PyTorch: strides in elements, a current stream a device, and what autograd keeps."""

    def __init__(self, monkeypatch, driver):
        super().__init__(monkeypatch, driver, "torch")
        names = ("float16", "bfloat16", "float32", "float64", "int16", "int32", "int64", "bool")
        self.dtypes = {name: Dtype(name) for name in names}
        library = self

        class Tensor(LibraryArray):
            requires_grad = False
            is_cuda = True

            def is_neg(self):
                return False

            def is_contiguous(self):
                return self.values.flags.c_contiguous

            def stride(self):
                return tuple(s // self.values.itemsize for s in self.values.strides)

            def get_device(self):
                return self.number

            def data_ptr(self):
                return self.address if self.values.size else 0

            @property
            def dtype(self):
                return library.dtypes[self.values.dtype.name]

            @property
            def __cuda_array_interface__(self):
                raise RuntimeError("torch's interface is not to be asked: it refuses bfloat16 and gradients")

            @property
            def device(self):
                return self.number

            def __iadd__(self, other):
                return library.operate("add", np.add, self, self, other)

            def copy_(self, other):
                return library.operate("copy", lambda a: a, self, other)

            def zero_(self):
                return library.operate("zero", lambda: np.zeros(self.shape), self)

            def __isub__(self, other):
                return library.operate("sub", np.subtract, self, self, other)

            def __imul__(self, other):
                if isinstance(other, float):
                    return library.operate("mul", lambda a: a * other, self, self)
                return library.operate("mul", np.multiply, self, self, other)

        Tensor.__module__ = "torch"
        self.type, self.module.Tensor = Tensor, Tensor
        self.module.nn = SimpleNamespace(Parameter=type("Parameter", (Tensor,), {"__module__": "torch.nn.parameter"}))
        for function in (self.mm, self.addmm, self.sum, self.argmax, self.topk, self.sort, self.gather, self.div):
            setattr(self.module, function.__name__, function)
        self.module._C = SimpleNamespace(_cuda_getCurrentRawStream=lambda device: self.streams.get(device, 0))
        self.module.empty_like, self.module.empty_strided = self.empty_like, self.empty_strided
        for name, dtype in self.dtypes.items():
            setattr(self.module, name, dtype)

    def empty_like(self, tensor, dtype=None):
        made = np.empty_like(tensor.values, dtype and dtype.name)
        self.made.append((made.shape, made.dtype))
        return self.driver.array(made, device=tensor.number, kind=self.type)

    def empty_strided(self, shape, strides, *, dtype, device):
        steps = np.cumprod((1, *(max(n, 1) for n in shape[:0:-1])))[::-1] if shape else ()
        assert tuple(strides) == tuple(steps)
        return self.empty(shape, bfloat16 if dtype.name == "bfloat16" else dtype.name, device)

    def mm(self, a, b, *, out):
        assert a.dtype is b.dtype is out.dtype
        return self.operate("mm", np.matmul, out, a, b)

    def addmm(self, c, a, b, *, out):
        """Of a bias, or of what is there already."""
        assert a.dtype is b.dtype is c.dtype is out.dtype
        return self.operate("addmm", lambda c, a, b: c + a @ b, out, c, a, b)

    def sum(self, a, axis, *, dtype, out=None):
        if out is None:
            return self.result("sum", dtype.name, lambda a: a.sum(axis), a)
        assert dtype is out.dtype
        return self.operate("sum", lambda a: a.sum(axis), out, a)

    def div(self, a, b, *, out):
        return self.operate("div", np.divide, out, a, b)

    def topk(self, a, k, axis):
        """NaN is the largest.  Equal numbers in no order that is of any use: the last first."""
        order = lambda a: np.argsort(a, axis, kind="stable")[:, ::-1][:, :k]  # noqa: E731
        numbers = self.result("topk", a.values.dtype, lambda a: np.take_along_axis(a, order(a), axis), a)
        return numbers, self.result("topk", np.int64, order, a)

    def sort(self, a, dim, *, descending=False, stable=False):
        """NaN is the largest.  Equal numbers in no order of any use unless it is to be stable: the last first."""
        rising = lambda a: np.argsort(a, dim, kind="stable")  # noqa: E731
        backwards = lambda a: a.shape[1] - 1 - rising(a[:, ::-1])  # noqa: E731  equal numbers too

        def order(a):
            found = (backwards if stable == descending else rising)(a)
            return found[:, ::-1] if descending else found

        numbers = self.result("sort", a.values.dtype, lambda a: np.take_along_axis(a, order(a), dim), a)
        return numbers, self.result("sort", np.int64, order, a)

    def gather(self, a, axis, places):
        take = lambda a, places: np.take_along_axis(a, places.astype(np.int64), axis)  # noqa: E731
        return self.result("gather", a.values.dtype, take, a, places)

    def argmax(self, a, axis, *, out):
        assert out.dtype is self.dtypes["int64"]
        return self.operate("argmax", lambda a: a.argmax(axis), out, a)


class Cupy(Library):
    """CuPy: strides in bytes, memory as an object of its own, and a current device."""

    def __init__(self, monkeypatch, driver):
        super().__init__(monkeypatch, driver, "cupy")

        class ndarray(LibraryArray):
            @property
            def data(self):
                return SimpleNamespace(ptr=self.address if self.values.size else 0, device_id=self.number)

            @property
            def strides(self):
                return self.values.strides

            @property
            def dtype(self):
                return self.values.dtype

            @property
            def __cuda_array_interface__(self):
                raise AssertionError("attributes are cheaper")

            def __dlpack_device__(self):
                return 2, self.number

            def fill(self, value):
                return library.operate("fill", lambda: np.full(self.shape, float(value)), self)

            def sum(self, *, dtype):
                return library.result("sum", dtype, np.sum, self)

            def __iadd__(self, other):
                assert np.can_cast(other.dtype, self.dtype, "same_kind") or other.dtype == self.dtype
                return library.operate("add", np.add, self, self, other)

            def __isub__(self, other):
                return library.elementwise("subtract", self, other, out=self)

            def __imul__(self, other):
                return library.elementwise("multiply", self, other, out=self)

        ndarray.__module__ = "cupy"
        library = self
        self.type, self.module.ndarray, self.current = ndarray, ndarray, 0
        for function in (self.dot, self.sum, self.argmax, self.copyto, self.argsort, self.take_along_axis):
            setattr(self.module, function.__name__, function)
        for name in ("subtract", "divide"):
            setattr(self.module, name, partial(self.elementwise, name))
        stream = lambda device: SimpleNamespace(ptr=self.streams.get(device, 0))  # noqa: E731
        self.module.cuda = SimpleNamespace(get_current_stream=stream, Device=self.device)
        self.module.empty = lambda shape, dtype: self.empty(shape, dtype, self.current)
        self.module.empty_like = self.empty_like

    @contextmanager
    def device(self, number):
        before, self.current = self.current, number
        yield
        self.current = before

    def empty_like(self, array, dtype=None):
        made = np.empty_like(array.values, dtype)
        self.made.append((made.shape, made.dtype))
        return self.driver.array(made, device=self.current, kind=self.type)

    def operate(self, what, result, out, *operands):
        assert self.current == out.number, "CuPy goes by the current device"
        return super().operate(what, result, out, *operands)

    def dot(self, a, b, *, out):
        assert a.dtype == b.dtype == out.dtype
        assert out.values.flags.c_contiguous
        return self.operate("dot", np.matmul, out, a, b)

    def sum(self, a, axis, *, dtype, out):
        assert dtype == out.dtype
        return self.operate("sum", lambda a: a.sum(axis), out, a)

    def argmax(self, a, axis, *, out):
        assert out.dtype == np.int64
        return self.operate("argmax", lambda a: a.argmax(axis), out, a)

    def elementwise(self, name, *given, out=None, casting="same_kind"):
        """As CuPy's functions of elements, which convert as NumPy's do."""
        operands = [b for b in given if not isinstance(b, int | float)]

        def of(*arrays):
            left = iter(arrays)
            return getattr(np, name)(*(b if isinstance(b, int | float) else next(left) for b in given))

        if out is None:
            return self.result(name, operands[0].values.dtype, of, *operands)
        assert all(
            np.can_cast(b.values.dtype, out.dtype, casting) or bfloat16 in (b.dtype, out.dtype) for b in operands
        )
        return self.operate(name, of, out, *operands)

    def argsort(self, a, *, axis):
        return self.result("argsort", np.int64, lambda a: np.argsort(a, axis, kind="stable"), a)

    def take_along_axis(self, a, places, *, axis):
        take = lambda a, places: np.take_along_axis(a, places.astype(np.int64), axis)  # noqa: E731
        return self.result("take", a.values.dtype, take, a, places)

    def copyto(self, out, array, *, casting="same_kind"):
        assert casting == "unsafe" or np.can_cast(array.dtype, out.dtype, casting) or array.dtype == bfloat16
        return self.operate("copy", lambda a: a, out, array)


class Numba(Library):
    """Numba: each array may be bound to a stream."""

    def __init__(self, monkeypatch, driver):
        self.driver, self.made, self.current = driver, [], 0
        library = self

        class DeviceNDArray(LibraryArray):
            @property
            def device_ctypes_pointer(self):
                return SimpleNamespace(value=self.address if self.values.size else None)

            @property
            def strides(self):
                return self.values.strides

            @property
            def dtype(self):
                return self.values.dtype

            @property
            def stream(self):
                return self.bound or 0

            @property
            def __cuda_array_interface__(self):
                return {}

        DeviceNDArray.__module__ = "numba.cuda.cudadrv.devicearray"
        self.type = DeviceNDArray
        from numba import cuda

        monkeypatch.setattr(cuda, "gpus", {n: self.device(n) for n in range(driver.count)})
        monkeypatch.setattr(cuda, "external_stream", lambda handle: handle)
        monkeypatch.setattr(
            cuda,
            "device_array",
            lambda shape, dtype, stream=0: library.empty(shape, dtype, self.current, stream or None),
        )

    def device(self, number):
        @contextmanager
        def entered():
            before, self.current = self.current, number
            yield
            self.current = before

        class Again:
            def __enter__(self):
                self.held = entered()
                self.held.__enter__()

            def __exit__(self, *error):
                self.held.__exit__(*error)

        return Again()


class Jax(Library):
    """JAX: arrays that never change, known by DLPack alone."""

    def __init__(self, monkeypatch, driver):
        super().__init__(monkeypatch, driver, "jax")
        library = self

        class ArrayImpl(LibraryArray):
            @property
            def __cuda_array_interface__(self):
                raise AttributeError("not asked")

            @property
            def device(self):
                return self.number

            def __dlpack_device__(self):
                return 2, self.number

            def __dlpack__(self, *, stream=None):
                if self.bound is not None and stream != self.bound:
                    library.driver.wait(self.number, stream, self.bound)
                return capsule(SimpleNamespace(values=self.values, device=self.number, address=self.address))

        ArrayImpl.__module__ = "jaxlib._jax"
        self.type = ArrayImpl
        self.module.dlpack = SimpleNamespace(from_dlpack=self.from_dlpack)

    def from_dlpack(self, array):
        """As JAX does: with a stream of its own that waits for the array's."""
        array.__dlpack__(stream=77)
        values = self.driver.host(array)
        made = self.type(self.driver, values, array.pointer, array.device, 77)
        made.owner = array
        return made


LIBRARIES = {"torch": Torch, "cupy": Cupy, "numba": Numba, "jax": Jax}
