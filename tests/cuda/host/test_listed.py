"""Divergences on a GPU from teachers that list classes: libraries, tails, weights, outputs, axes and refusals."""

import numpy as np
import pytest

import fastsoftmax as fs
from fastsoftmax import reference
from fastsoftmax.cuda import backend
from tests.backends import Gpu, raises
from tests.cuda.host.support import DTYPES, drawn, entries, near, spread
from tests.functions.test_listed import KINDS, listed
from tests.standins.libraries import LIBRARIES


def pair_of(*shape, seed=1, dtype=np.float32, label=np.int64, axis=-1):
    """k classes of each row, `shape` being (..., classes, k), in arrays that are C-contiguous with them last."""
    *rows, classes, k = shape
    indices, log_prob = listed(seed, (*rows, classes), k, dtype)
    return np.moveaxis(indices.astype(label), -1, axis), np.moveaxis(np.ascontiguousarray(log_prob), -1, axis)


def compare(kind, found, x, pair, dtype=np.float32, **options):
    pair = pair[0].astype(np.int64), pair[1].astype(np.float64)
    expected = reference.kl_divergence_and_grad(x.astype(np.float64), pair, **options)
    near(kind.host(found.loss), expected.loss, np.float64 if np.dtype(dtype) == np.float64 else np.float32, 8)
    near(kind.host(found.grad), expected.grad, dtype, 4)


@pytest.mark.parametrize("name", LIBRARIES)
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_libraries(library, name, dtype):
    if name == "numba" and dtype.name == "bfloat16":
        pytest.skip("Numba has no arrays of bfloat16")
    x, work = drawn(4, 7, dtype=dtype), np.dtype(np.float64 if dtype == np.float64 else np.float32)
    weight = drawn(4, dtype=work) ** 2
    for of, label in ((dtype, np.int64), (work, np.int32)):
        pair = pair_of(4, 7, 3, dtype=of, label=label)
        for _ in range(2):  # prepared, and then found again
            on = library.array(x), tuple(map(library.array, pair))
            options = {"tail": "bucket", "temperature": 2.0}
            found = fs.kl_divergence_and_grad(*on, sample_weight=library.array(weight), **options)
            assert all(type(part) is library.type for part in found)
            compare(library, found, x, pair, dtype, sample_weight=weight, **options)


@pytest.mark.parametrize(("tail", "direction"), KINDS)
@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
def test_kinds(driver, tail, direction, reduction):
    """Each tail, direction and reduction, with an upstream gradient: a number, or one a row."""
    x, pair, up = drawn(6, 9), pair_of(6, 9, 4), drawn(6, seed=2)
    options = {"tail": tail, "direction": direction, "reduction": reduction}
    for each in (up if reduction == "none" else -2.5, 0.5):
        on = driver.array(each) if isinstance(each, np.ndarray) else each
        found = fs.kl_divergence_and_grad(driver.array(x), [*map(driver.array, pair)], grad_output=on, **options)
        compare(driver, found, x, pair, grad_output=each, **options)


def test_axes_outputs_and_several_launches(driver):
    """Along the first axis, in place, and of rows on three levels."""
    x, pair = drawn(9, 6), pair_of(6, 9, 4, axis=0)
    own = driver.array(x.copy())
    found = fs.kl_divergence_and_grad(own, tuple(map(driver.array, pair)), tail="bucket", axis=0, out=own)
    assert found.grad is own
    compare(driver, found, x, pair, tail="bucket", axis=0)
    x, w = spread(drawn(3, 4, 5, 6)), drawn(3, 4, 5) ** 2
    out = driver.array(spread(np.zeros_like(x)))
    for label, dtype in ((np.int64, np.float32), (np.int32, np.float32)):
        pair, before = pair_of(3, 4, 5, 6, 2, label=label, dtype=dtype), entries(driver).count("listed")
        on = tuple(map(driver.array, pair))
        found = fs.kl_divergence_and_grad(driver.array(x), on, tail="ignore", sample_weight=driver.array(w), out=out)
        compare(driver, found, x, pair, tail="ignore", sample_weight=w)
        assert entries(driver).count("listed") == before + 3
    none = driver.array(np.zeros((0, 3), np.float32)), driver.array(np.zeros((0, 2), np.int64))
    assert np.isnan(
        driver.host(fs.kl_divergence(none[0], (none[1], driver.array(np.zeros((0, 2), "f"))), tail="bucket"))
    )


def test_a_call_that_looks_the_same_is_prepared(driver, monkeypatch):
    def call(seed=0, k=3, **options):
        x, pair, options = drawn(4, 7, seed=seed), pair_of(4, 7, k, seed=seed + 1), {"tail": "bucket"} | options
        return fs.kl_divergence_and_grad(driver.array(x), tuple(map(driver.array, pair)), **options), x, pair

    call()
    monkeypatch.setattr(backend, "_prepare_loss", None)
    compare(driver, *call(3), tail="bucket")
    for changed in ({"direction": 0.3}, {"tail": "ignore"}, {"temperature": 2.0}, {"k": 2}):
        with pytest.raises(TypeError, match="NoneType"):
            call(**changed)


X, PAIR = np.zeros((2, 3), np.float32), (np.array([[0, 1], [2, 0]]), np.full((2, 2), -1, np.float32))


@pytest.mark.parametrize(
    ("error", "text", "options"),
    [
        (ValueError, "direction must be 'forward' with tail='ignore'", {"tail": "ignore", "direction": 0.5}),
        (ValueError, "pass tail='bucket'", {"tail": "renormalize", "direction": "reverse"}),
        (ValueError, "where must be None for a teacher that lists classes", {"where": X == 0}),
        (ValueError, "along axis 1, got (2, 4)", {"teacher": (np.zeros((2, 4), int), np.zeros((2, 4), "f"))}),
        (ValueError, "along axis 1, got (2, 0)", {"teacher": (np.zeros((2, 0), int), np.zeros((2, 0), "f"))}),
        (ValueError, "log_prob must have the shape of indices, (2, 2), got", {"teacher": (PAIR[0], PAIR[1][:, :1])}),
        (
            TypeError,
            "indices must have dtype int64 or int32 on a GPU, got uint8",
            {"teacher": (PAIR[0].astype("B"), X)},
        ),
        (TypeError, "log_prob must have dtype float32 on a GPU, got float64", {"teacher": (PAIR[0], np.zeros((2, 2)))}),
        (
            ValueError,
            "log_prob must be C-contiguous with the classes in the last axis on a GPU, got strides (4, 8)",
            {"teacher": (PAIR[0], np.asfortranarray(PAIR[1]))},
        ),
        (
            ValueError,
            "indices must be C-contiguous with the classes in the last axis on a GPU, got strides",
            {"teacher": PAIR, "axis": 0, "student": np.zeros((3, 2), "f")},
        ),
        (ValueError, "out must have the shape of", {"out": X[:1]}),
    ],
)
def test_errors(driver, error, text, options):
    given = {"student": X, "teacher": PAIR, "tail": "bucket", **options}
    teacher = tuple(map(driver.array, given.pop("teacher")))
    student = given.pop("student")
    if "dtype" in text and "uint8" in text:
        teacher = teacher[0], driver.array(PAIR[1])
    raises(error, text, fs.kl_divergence_and_grad, student, teacher, backend=Gpu(driver), **given)
    assert not driver.launches


@pytest.mark.parametrize("where", ["student", "indices", "log_prob"])
def test_arguments_in_main_memory(driver, where):
    arrays = {"student": X, "indices": PAIR[0], "log_prob": PAIR[1]}
    x, *pair = (value if name != where else driver.array(value) for name, value in arrays.items())
    other = "indices" if where == "student" else "student"
    raises(TypeError, f"{other} must lie on the GPU, as {where} is a", fs.kl_divergence, x, pair, tail="bucket")


def test_the_gradient_does_not_go_over_a_list(driver):
    room = driver.array(np.zeros((2, 3), np.float32))
    x, pair = driver.array(X), (driver.array(np.zeros((2, 3), int)), room)
    text = "out must not share memory with log_prob"
    raises(ValueError, text, fs.kl_divergence_and_grad, x, pair, tail="bucket", out=room)


def test_compiled_kernels(interpreted):
    """By the public function, and not NumPy's for once: a mean with weights, of a warp and of a block a row."""
    for shape in ((40, 10), (3, 1500)):
        x, pair, w = drawn(*shape), pair_of(*shape, 5), drawn(shape[0], seed=2) ** 2
        on = interpreted.array(x), tuple(map(interpreted.array, pair))
        found = fs.kl_divergence_and_grad(*on, sample_weight=interpreted.array(w), tail="bucket", direction=0.3)
        compare(interpreted, found, x, pair, sample_weight=w, tail="bucket", direction=0.3)
