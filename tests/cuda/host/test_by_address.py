"""Kernels by raw addresses: values, what is launched and allocated, captures, and formulas in kernels of one's own.

Kernels are NumPy's (`numpy_kernels`) or run in an interpreter of their PTX: nothing here is a result of a GPU.
"""

import re

import numpy as np
import pytest

import fastsoftmax as fs
from fastsoftmax import reference
from tests.interpreter import ptx
from tests.standins.numpy_kernels import compiler
from tests.support import ALL, ALONE, WEIGHTS, names

F4 = np.float32


def drawn(*shape, dtype=F4, seed=0):
    return (3 * np.random.default_rng(seed).standard_normal(shape)).astype(dtype)


def near(actual, expected, error=2e-6):
    np.testing.assert_allclose(np.asarray(actual, np.float64), expected, rtol=error, atol=10 * error)


def placed(driver, device=0, **values):
    """Arrays on a device, by name, and their addresses."""
    return {name: driver.array(value, device=device).address for name, value in values.items()}


@pytest.mark.parametrize("name", ["softmax", "log_softmax", "softmax_vjp", "log_softmax_vjp", "logsumexp"])
def test_maps(driver, name):
    x, g = drawn(3, 4, 5), drawn(3, 4, 5, seed=1)
    given = {"y": x, "grad": g} if name.endswith("vjp") else {"x": x}
    made = np.zeros(x.shape[:-1] if name == "logsumexp" else x.shape, F4)
    launch = fs.cuda.launcher(name, x.shape, "float32", device=1)
    launch(7, **placed(driver, 1, **given, **{"result" if name == "logsumexp" else "out": made}))
    near(made, getattr(reference, name)(*given.values()))
    assert [(one.device, one.stream) for one in driver.launches] == [(1, 7)]


@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
@pytest.mark.parametrize("target", ["int64", "int32", "float32"])
def test_losses(driver, reduction, target):
    x, out = drawn(6, 5), np.zeros((6, 5), F4)
    t = np.abs(drawn(6, 5)) if target == "float32" else (np.arange(6) % 5).astype(target)
    weights = {"class_weight": np.linspace(0.5, 2, 5), "sample_weight": np.linspace(0, 1, 6)}
    loss = np.zeros(6 if reduction == "none" else (), F4)
    options = {"reduction": reduction, "label_smoothing": 0.1, "z_loss": 0.01}
    arrays = {name: value.astype(F4) for name, value in weights.items()}
    launch = fs.cuda.launcher(
        "cross_entropy_and_grad", x.shape, np.float32, operands=tuple(arrays), target_dtype=target, **options
    )
    launch(5, **placed(driver, logits=x, target=t, out=out, loss=loss, **arrays))
    expected = reference.cross_entropy_and_grad(x, t, **weights, **options)
    near(loss, expected.loss)
    near(out, expected.grad)


@pytest.mark.parametrize("options", [*ALONE.values(), {k: v for k, v in ALL.items() if k not in WEIGHTS}], ids=names)
def test_options(driver, options):
    """By name, as the public functions have them."""
    x, t, out, loss = drawn(6, 5), np.arange(6) % 5, np.zeros((6, 5), F4), np.zeros((), F4)
    launch = fs.cuda.launcher("cross_entropy_and_grad", (6, 5), "float32", **options)
    launch(5, **placed(driver, logits=x, target=t, out=out, loss=loss))
    expected = reference.cross_entropy_and_grad(x, t, **options)
    near(loss, expected.loss)
    near(out, expected.grad)


@pytest.mark.parametrize("apart", [False, True])
def test_masks_and_offsets(driver, apart):
    """Of every row, or the same for all; warmed up, too."""
    x, t, out, loss = drawn(6, 5), np.arange(6) % 5, np.zeros((6, 5), F4), np.zeros((), F4)
    where = np.broadcast_to(np.array([[True, True, False, True, True]]), (1 if apart else 6, 5)).copy()
    t[2], x[:, 2] = 0, np.nan
    by = {"where": where, "class_offset": drawn(5, seed=3)}
    ways = {"strides": {"where": (0, 1)}} if apart else {}
    launch = fs.cuda.launcher("cross_entropy_and_grad", (6, 5), "float32", operands=tuple(by), **ways)
    launch.warm_up(5)
    launch(5, **placed(driver, logits=x, target=t, out=out, loss=loss, **by))
    expected = reference.cross_entropy_and_grad(x, t, **by)
    near(loss, expected.loss)
    near(out, expected.grad)
    launch = fs.cuda.launcher("log_softmax", (6, 5), "float32", operands=("where",), **ways)
    launch.warm_up(5)
    launch(5, **placed(driver, x=x, out=out, where=where))
    near(out, reference.log_softmax(x, where=where))


def test_an_upstream_gradient(driver):
    x, t, up, out, loss = drawn(6, 5), np.arange(6) % 5, drawn(6), np.zeros((6, 5), F4), np.zeros(6, F4)
    launch = fs.cuda.launcher("cross_entropy_and_grad", (6, 5), "float32", operands=("grad_output",), reduction="none")
    launch(5, **placed(driver, logits=x, target=t, out=out, loss=loss, grad_output=up))
    near(out, reference.cross_entropy_and_grad(x, t, grad_output=up, reduction="none").grad)


def test_strides_and_alignment(driver):
    room, t, loss = drawn(6, 8), np.arange(6) % 5, np.zeros((), F4)
    x = room[:, 1:6]
    launch = fs.cuda.launcher("cross_entropy", (6, 5), "float32", strides={"logits": (32, 4)})
    launch(5, **placed(driver, logits=x, target=t, loss=loss))
    near(loss, reference.cross_entropy(x, t))


def test_warmed_up_nothing_is_allocated_loaded_or_waited_for(driver, monkeypatch):
    """Neither by a launch nor, for other arrays, by the next: what a capture demands."""
    x, t, loss, out = drawn(6, 5), np.arange(6) % 5, np.zeros((), F4), np.zeros((6, 5), F4)
    launch = fs.cuda.launcher("cross_entropy_and_grad", (6, 5), "float32")
    launch.warm_up(8)
    warmed = [one.entry for one in driver.launches]
    assert {"count", "cross_entropy", "total"} == set(warmed)
    addresses = placed(driver, logits=x, target=t, out=out, loss=loss)
    other = {**addresses, **placed(driver, logits=x + 1, loss=loss.copy())}
    driver.launches.clear()
    driver.calls.clear()
    for name in ("load", "reserve", "allocate", "clear", "read", "wait", "facts"):
        monkeypatch.setattr(compiler, name, None)
    launch(8, **addresses)
    launch(8, **other)
    assert [(one.entry, one.stream) for one in driver.launches] == 2 * [
        ("count", 8),
        ("cross_entropy", 8),
        ("total", 8),
    ]
    near(loss, reference.cross_entropy(x, t))


def test_launchers_have_memory_of_their_own(driver):
    first, second = (fs.cuda.launcher("cross_entropy", (6, 5), "float32") for _ in range(2))
    assert first._workspace.address != second._workspace.address != 0


@pytest.mark.parametrize(
    ("arguments", "options", "error", "text"),
    [
        (("softmin", (2, 3), "float32"), {}, ValueError, "function must be one of 'softmax'"),
        (("softmax", (2, 0), "float32"), {}, ValueError, "shape must have at least one class in its last axis"),
        (("softmax", (), "float32"), {}, ValueError, "got ()"),
        (("softmax", (2, 3), "int8"), {}, TypeError, "float32 or float64, got 'int8'"),
        (("softmax", (2, 3), "float32"), {"z_loss": 1.0}, TypeError, "softmax has no options, got 'z_loss'"),
        (("cross_entropy", (2, 3), "float32"), {"gamma": 1.0}, TypeError, "a loss has the options ignore_index"),
        (("cross_entropy", (2, 3), "float32"), {"temperature": 0}, ValueError, "temperature must be a"),
        (("cross_entropy", (2, 3), "float32"), {"operands": ("grad_output",)}, ValueError, "got 'grad_output'"),
        (("cross_entropy", (2, 3), "float32"), {"target_dtype": "int8"}, TypeError, "target_dtype must be int64"),
        (("softmax", (2, 3), "float32"), {"strides": {"x": (6, 2)}}, ValueError, "strides of x must be 2 numbers"),
        (("softmax", (2, 3), "float32"), {"strides": {"out": (4, 4)}}, ValueError, "strides of out must give each"),
        (("softmax", (2, 3), "float32"), {"strides": {"z": (6, 2)}}, ValueError, "strides must be of x, out, got 'z'"),
    ],
)  # fmt: skip
def test_wrong_arguments(driver, arguments, options, error, text):
    with pytest.raises(error, match=re.escape(text)):
        fs.cuda.launcher(*arguments, **options)


def test_wrong_addresses(driver):
    launch = fs.cuda.launcher("softmax", (2, 3), "float32")
    with pytest.raises(TypeError, match="softmax takes the addresses x, out; see to 'out'"):
        launch(0, x=256)
    with pytest.raises(TypeError, match="see to 'y'"):
        launch(0, x=256, y=256, out=256)


# The real kernels, from their PTX.


def test_public_functions_run_the_compiled_kernels(interpreted):
    """Each function once, with operands that leave no parameter of the kernels unused."""
    driver, random = interpreted, np.random.default_rng(0)
    x, t = drawn(7, 33), random.integers(0, 33, 7).astype(np.int32)
    t[2] = -100
    class_weight, sample_weight = (random.uniform(0.5, 2, n).astype(F4) for n in (33, 7))
    on, labels = driver.array(x), driver.array(t)
    out = driver.empty((7, 33), F4)
    near(driver.host(fs.softmax(on, out=out)), reference.softmax(x))
    near(driver.host(fs.logsumexp(on)), reference.logsumexp(x))
    near(driver.host(fs.softmax_vjp(out, on)), reference.softmax_vjp(reference.softmax(x), x))
    options = {"label_smoothing": 0.1, "z_loss": 0.01, "temperature": 2.0, "softcap": 5.0}
    weights = {"class_weight": class_weight, "sample_weight": sample_weight}
    moved = {name: driver.array(value) for name, value in weights.items()}
    loss, grad = fs.cross_entropy_and_grad(on, labels, **moved, **options, check_targets=True)
    expected = reference.cross_entropy_and_grad(x, t, **weights, **options)
    near(driver.host(loss), expected.loss)
    near(driver.host(grad), expected.grad)
    t[5] = 33
    with pytest.raises(ValueError, match="got 33 at row 5"):
        fs.cross_entropy_and_grad(on, labels, **moved, **options, check_targets=True)
    loss, grad = fs.cross_entropy_and_grad(on, labels, **moved, **options)
    assert np.isnan(driver.host(loss))
    empty = driver.array(np.zeros((0, 33), F4)), driver.array(np.zeros(0, np.int32))
    assert np.isnan(driver.host(fs.cross_entropy(*empty)))


def test_each_launch_is_planned_for_where_its_rows_begin(interpreted):
    """Three levels of rows are two launches; the second one's begin at no multiple of 16 bytes."""
    room = drawn(2, 233)
    x = room[:, :228].reshape(2, 3, 76)[..., :72].reshape(2, 3, 2, 36)[..., :32]
    near(interpreted.host(fs.softmax(interpreted.array(x))), reference.softmax(x))


def test_a_launcher_warms_up_the_compiled_kernels(interpreted):
    x, t, loss = drawn(7, 33), np.arange(7), np.zeros((), F4)
    launch = fs.cuda.launcher("cross_entropy", x.shape, "float32")
    launch.warm_up(3)
    launch(3, **placed(interpreted, logits=x, target=t, loss=loss))
    near(loss, reference.cross_entropy(x, t))
    wide = drawn(7, 32)
    launch = fs.cuda.launcher("cross_entropy", wide.shape, "float32")
    for offset in (0, 4):  # kernels for multiples of 16 bytes, and for others
        x = wide * (1 + offset)
        logits = interpreted.array(x, offset=offset).address
        launch(3, logits=logits, **placed(interpreted, target=t, loss=loss))
        near(loss, reference.cross_entropy(x, t))


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_formulas_in_a_kernel_of_ones_own(dtype):
    """A thread a row: state, merge, score; the literals have the dtype of the formulas."""
    from numba import cuda

    from fastsoftmax.core.dtypes import FLOAT32, FLOAT64
    from fastsoftmax.cuda.kernels.memory import number_access

    real = np.dtype(dtype).type
    law = fs.cuda.device_functions(dtype)
    merge, shift, likelihood, exp = law.merge, law.shift, law.negative_log_likelihood, law.exp
    read, write = number_access(FLOAT32 if dtype == "float32" else FLOAT64)
    low, zero, one, size = real(-np.inf), real(0), real(1), np.dtype(dtype).itemsize

    def kernel(x, target, result, rows, classes):
        i = cuda.blockIdx.x * cuda.blockDim.x + cuda.threadIdx.x
        if i < rows:
            m, s = low, zero
            for j in range(classes):
                m, s = merge(m, s, read(x + (i * classes + j) * size), one)
            t = i % classes
            d = read(x + (i * classes + t) * size) - shift(m)
            write(result + i * size, likelihood(d, s - exp(d), s))

    compiled = compiler.compile(kernel, ("int64",) * 5, (9, 0), 32)
    x, result = drawn(9, 6, dtype=dtype), np.zeros(9, dtype)
    memory = ptx.Memory()
    arguments = (memory.add(x, "x"), 0, memory.add(result, "result"), 9, 6)
    ptx.launch(ptx.program(compiled.ptx), memory, 1, 32, arguments)
    near(result, reference.cross_entropy(x, np.arange(9) % 6, reduction="none"), 1e-6 if dtype == "float32" else 1e-14)
    if dtype == "float32":
        assert ".f64" not in compiled.ptx


def test_dtypes_of_the_formulas():
    assert vars(fs.cuda.device_functions(np.float64)).keys() >= {"merge", "shift", "log_sum_exp", "index_score", "exp"}
    with pytest.raises(ValueError, match="dtype must be 'float32' or 'float64', got 'float16'"):
        fs.cuda.device_functions("float16")


def test_the_namespace_is_loaded_when_it_is_asked_for():
    assert {"cuda"} <= set(dir(fs))
    assert set(fs.cuda.__all__) <= set(dir(fs.cuda))
    assert fs.cuda.Missing is compiler.Missing
    with pytest.raises(AttributeError, match="nothing"):
        fs.cuda.nothing  # noqa: B018
