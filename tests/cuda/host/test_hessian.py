"""Gradient and Hessian on a GPU: arrays of libraries, weights, outputs and refusals."""

import numpy as np
import pytest

import fastsoftmax as fs
from fastsoftmax import reference
from fastsoftmax.cuda import hessian
from tests.backends import Gpu, raises
from tests.cuda.host.support import DTYPES, drawn, entries, near, spread
from tests.standins.arrays import InterfaceArray
from tests.standins.libraries import LIBRARIES
from tests.support import LAYOUTS, labels, probabilities

TARGET = np.array([0, 6, -100, 3])


def compare(kind, found, x, t, dtype=np.float32, **options):
    expected = reference.cross_entropy_grad_hess(x.astype(np.float64), t, **options)
    for got, exact in zip(found, expected, strict=True):
        near(kind.host(got), exact, dtype)


@pytest.mark.parametrize("name", LIBRARIES)
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_libraries(library, name, dtype):
    if name == "numba" and dtype.name == "bfloat16":
        pytest.skip("Numba has no arrays of bfloat16")
    x, work = drawn(4, 7, dtype=dtype), np.float64 if dtype == np.float64 else np.float32
    weights = {"class_weight": drawn(7, dtype=work) ** 2, "sample_weight": drawn(4, dtype=work) ** 2}
    on = {key: library.array(value) for key, value in weights.items()}
    for _ in range(2):  # prepared, and then found again
        found = fs.cross_entropy_grad_hess(library.array(x), library.array(TARGET), hessian="upper", **on)
        assert all(type(part) is library.type for part in found)
        compare(library, found, x, TARGET, dtype, hessian="upper", **weights)
    soft = probabilities(np.random.default_rng(1), x.shape, dtype)
    found = fs.cross_entropy_grad_hess(library.array(x), library.array(soft), dtype=dtype.name, min_hessian=0.01)
    compare(library, found, x, soft.astype(np.float64), dtype, min_hessian=0.01)


@pytest.mark.parametrize("layout", [name for name in LAYOUTS if name in Gpu.layouts])
@pytest.mark.parametrize("axis", [0, -1])
def test_layouts_and_outputs(driver, layout, axis):
    x = LAYOUTS[layout](drawn(6, 9))
    t = labels(np.random.default_rng(1), np.moveaxis(x, axis, -1).shape)
    options = {"axis": axis, "focal_gamma": 2.0, "label_smoothing": 0.1, "temperature": 0.7}
    found = fs.cross_entropy_grad_hess(driver.array(x), driver.array(t), **options)
    compare(driver, found, x, t, **options)
    out = driver.array(np.zeros(x.shape, np.float32)), driver.array(np.zeros(x.shape, np.float32))
    found = fs.cross_entropy_grad_hess(driver.array(x), driver.array(t), out=out, **options)
    assert found.grad is out[0]
    assert found.hess is out[1]
    compare(driver, found, x, t, **options)


def test_the_gradient_may_take_the_place_of_the_logits(driver):
    x, own, other = drawn(4, 7), driver.array(drawn(4, 7)), driver.array(np.zeros((4, 7), np.float32))
    compare(driver, fs.cross_entropy_grad_hess(own, driver.array(TARGET), out=(own, other)), x, TARGET)


def test_rows_of_three_levels_take_several_launches(driver):
    x = spread(drawn(3, 4, 5, 6))
    out = [driver.array(lie(np.zeros(x.shape, np.float32))) for lie in (spread, np.asfortranarray)]
    t, w = labels(np.random.default_rng(2), x.shape), drawn(3, 4, 5) ** 2
    found = fs.cross_entropy_grad_hess(driver.array(x), driver.array(t), sample_weight=driver.array(w), out=out)
    compare(driver, found, x, t, sample_weight=w)
    assert entries(driver) == ["hessian"] * 3


def test_a_call_that_looks_the_same_is_prepared(driver, monkeypatch):
    fs.cross_entropy_grad_hess(driver.array(drawn(4, 7)), driver.array(TARGET))
    monkeypatch.setattr(hessian, "_prepare", None)
    x = drawn(4, 7, seed=1)
    compare(driver, fs.cross_entropy_grad_hess(driver.array(x), driver.array(TARGET)), x, TARGET)
    for changed in ({"hessian": "upper"}, {"min_hessian": 0.1}, {"axis": 0}, {"temperature": 2.0}):
        with pytest.raises(TypeError, match="NoneType"):
            fs.cross_entropy_grad_hess(driver.array(x), driver.array(TARGET), **changed)


def test_what_another_stream_does_is_waited_for(driver):
    x, t, w = (driver.array(v, kind=InterfaceArray, stream=n) for n, v in enumerate((drawn(4, 7), TARGET, drawn(4)), 3))
    fs.cross_entropy_grad_hess(x, t, sample_weight=w)
    assert [call for call in driver.calls if call[0] == "wait"] == [("wait", 0, 3, 4), ("wait", 0, 3, 5)]


Z, W = np.zeros((2, 3), np.float32), np.ones((2, 3), np.float32)


@pytest.mark.parametrize(
    ("error", "text", "options"),
    [
        (ValueError, "hessian must be one of", {"hessian": "exact"}),
        (ValueError, "min_hessian must be a finite number >= 0", {"min_hessian": -1.0}),
        (ValueError, "focal_gamma has the exact diagonal only", {"focal_gamma": 1.0, "hessian": "upper"}),
        (TypeError, "dtype must be float32 or that of the logits, float32, got float64", {"dtype": np.float64}),
        (TypeError, "out must be a pair (grad, hess) of arrays", {"out": (Z, None)}),
        (TypeError, "out[0] must have dtype float32", {"out": (np.zeros((2, 3)), Z)}),
        (TypeError, "out must be a pair (grad, hess) of arrays", {"out": Z}),
        (ValueError, "out[1] must have the shape of", {"out": (Z, np.zeros(3, np.float32))}),
        (ValueError, "out[1] must not share memory with out[0]", {"out": (W, W)}),
        (ValueError, "out[1] must not share memory with logits", {"out": (W, Z[::-1])}),
    ],
)
def test_errors(driver, error, text, options):
    raises(error, text, fs.cross_entropy_grad_hess, Z, np.array([0, 1]), backend=Gpu(driver), **options)


def test_compiled_kernels(interpreted):
    """By the public function, and not NumPy's for once."""
    x = drawn(40, 10)
    t, w = labels(np.random.default_rng(3), x.shape), drawn(40) ** 2
    on = (interpreted.array(v) for v in (x, t))
    found = fs.cross_entropy_grad_hess(*on, sample_weight=interpreted.array(w), min_hessian=1e-3)
    compare(interpreted, found, x, t, sample_weight=w, min_hessian=1e-3)


@pytest.mark.parametrize("name", LIBRARIES)
def test_float32_from_float64(library, name):
    """In the logits' memory order, where a library can make such arrays."""
    x = np.asfortranarray(drawn(4, 7, dtype=np.float64))
    found = fs.cross_entropy_grad_hess(library.array(x), library.array(TARGET), dtype="float32")
    compare(library, found, x, TARGET)
    for part in map(library.host, found):
        assert part.dtype == np.float32
        assert part.flags.f_contiguous == (name in ("torch", "cupy"))
