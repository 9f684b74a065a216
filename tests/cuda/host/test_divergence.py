"""Divergences on a GPU: arrays of libraries, teachers and directions, weights, outputs and refusals."""

import numpy as np
import pytest

import fastsoftmax as fs
from fastsoftmax import reference
from fastsoftmax.cuda import backend
from tests.backends import Gpu, raises
from tests.cuda.host.support import DTYPES, drawn, entries, near, spread
from tests.functions.test_divergence import KINDS, taught
from tests.standins.arrays import InterfaceArray
from tests.standins.libraries import LIBRARIES
from tests.support import LAYOUTS


def compare(kind, found, x, y, dtype=np.float32, **options):
    expected = reference.kl_divergence_and_grad(x.astype(np.float64), y.astype(np.float64), **options)
    work = np.float64 if np.dtype(dtype) == np.float64 else np.float32
    near(kind.host(found.loss), expected.loss, work, 8)
    near(kind.host(found.grad), expected.grad, dtype, 4)


@pytest.mark.parametrize("name", LIBRARIES)
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_libraries(library, name, dtype):
    if name == "numba" and dtype.name == "bfloat16":
        pytest.skip("Numba has no arrays of bfloat16")
    x, y, work = drawn(4, 7, dtype=dtype), drawn(4, 7, dtype=dtype, seed=1), np.float64 if dtype == np.float64 else "f"
    weight = drawn(4, dtype=work) ** 2
    for teacher in (y, y.astype(work)):  # of the student's dtype, or of the one that is computed in
        for _ in range(2):  # prepared, and then found again
            on = library.array(x), library.array(teacher)
            found = fs.kl_divergence_and_grad(*on, sample_weight=library.array(weight), temperature=2.0)
            assert all(type(part) is library.type for part in found)
            compare(library, found, x, teacher, dtype, sample_weight=weight, temperature=2.0)
    value = fs.kl_divergence(library.array(x), library.array(y), reduction="none", direction=0.3)
    expected = reference.kl_divergence(x.astype(float), y.astype(float), reduction="none", direction=0.3)
    near(library.host(value), expected, work, 8)


@pytest.mark.parametrize(("teacher", "direction"), KINDS)
@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
def test_kinds(driver, teacher, direction, reduction):
    """Each teacher, direction and reduction, with an upstream gradient: a number, or one a row."""
    x, y, up = drawn(6, 9), taught(teacher, drawn(6, 9, seed=1)), drawn(6, seed=2)
    options = {"teacher_is": teacher, "direction": direction, "reduction": reduction}
    for each in (up if reduction == "none" else -2.5, 0.5):
        on = driver.array(each) if isinstance(each, np.ndarray) else each
        found = fs.kl_divergence_and_grad(driver.array(x), driver.array(y), grad_output=on, **options)
        compare(driver, found, x, y, grad_output=each, **options)


@pytest.mark.parametrize("layout", [name for name in LAYOUTS if name in Gpu.layouts])
@pytest.mark.parametrize("axis", [0, -1])
def test_layouts_and_outputs(driver, layout, axis):
    x, y = LAYOUTS[layout](drawn(6, 9)), drawn(6, 9, seed=1)
    options = {"axis": axis, "direction": "reverse"}
    compare(driver, fs.kl_divergence_and_grad(driver.array(x), driver.array(y), **options), x, y, **options)
    out = driver.array(np.zeros(x.shape, np.float32))
    found = fs.kl_divergence_and_grad(driver.array(x), driver.array(y), out=out, **options)
    assert found.grad is out
    compare(driver, found, x, y, **options)


def test_masks(driver):
    """A mask of each element, of each class, and of classes along the first axis; twice, prepared and found again."""
    x, y = drawn(6, 9), drawn(6, 9, seed=1)
    where = np.random.default_rng(0).random((6, 9)) < 0.7
    where[:, 0] = where[0] = True
    for mask, axis in ((where, -1), (where[1], -1), (where, 0), (where[:, 1:2], 0)):
        on = [driver.array(a) for a in (x, y)]
        for _ in range(2):
            found = fs.kl_divergence_and_grad(*on, where=driver.array(mask), axis=axis)
            compare(driver, found, x, y, where=mask, axis=axis)
    with pytest.raises(ValueError, match="where must broadcast to the shape of the logits"):
        fs.kl_divergence(*on, where=driver.array(where[:2]))


@pytest.mark.parametrize("place", [0, 1])
def test_the_gradient_may_take_the_place_of_either(driver, place):
    x, y = drawn(4, 7), drawn(4, 7, seed=1)
    on = driver.array(x.copy()), driver.array(y.copy())
    compare(driver, fs.kl_divergence_and_grad(*on, out=on[place]), x, y)


def test_rows_of_three_levels_take_several_launches(driver):
    x, y, w = spread(drawn(3, 4, 5, 6)), drawn(3, 4, 5, 6, seed=1), drawn(3, 4, 5) ** 2
    on = driver.array(x), driver.array(y)
    found = fs.kl_divergence_and_grad(*on, sample_weight=driver.array(w), out=driver.array(spread(np.zeros_like(x))))
    compare(driver, found, x, y, sample_weight=w)
    assert entries(driver).count("divergence") == 3


def test_no_rows_and_weights_of_nothing(driver):
    none = np.zeros((0, 3), np.float32)
    assert np.isnan(driver.host(fs.kl_divergence(driver.array(none), driver.array(none))))
    found = fs.kl_divergence_and_grad(
        *(driver.array(drawn(2, 3, seed=n)) for n in (1, 2)), sample_weight=driver.array(np.zeros(2, np.float32))
    )
    assert np.isnan(driver.host(found.loss))
    assert np.isnan(driver.host(found.grad)).all()


def test_a_call_that_looks_the_same_is_prepared(driver, monkeypatch):
    def call(seed=0, **options):
        x, y = drawn(4, 7, seed=seed), drawn(4, 7, seed=seed + 1)
        return fs.kl_divergence_and_grad(driver.array(x), driver.array(y), **options), x, y

    call()
    fs.cross_entropy_and_grad(driver.array(drawn(4, 7)), driver.array(drawn(4, 7)))  # which is another call
    monkeypatch.setattr(backend, "_prepare_loss", None)
    compare(driver, *call(3))
    for changed in ({"direction": 0.3}, {"teacher_is": "prob"}, {"temperature": 2.0}, {"reduction": "sum"}):
        with pytest.raises(TypeError, match="NoneType"):
            call(**changed)


def test_what_another_stream_does_is_waited_for(driver):
    x, y, w = (
        driver.array(v, kind=InterfaceArray, stream=n) for n, v in enumerate((drawn(4, 7), drawn(4, 7), drawn(4)), 3)
    )
    fs.kl_divergence(x, y, sample_weight=w)
    assert [call for call in driver.calls if call[0] == "wait"] == [("wait", 0, 3, 4), ("wait", 0, 3, 5)]


X, ONES = np.zeros((2, 3), np.float32), np.ones(2, np.float32)


@pytest.mark.parametrize(
    ("error", "text", "options"),
    [
        (ValueError, "teacher_is must be one of 'logits', 'log_prob', 'prob', got 'probs'", {"teacher_is": "probs"}),
        (TypeError, "direction must be 'forward', 'reverse' or a number in (0, 1), got", {"direction": [1]}),
        (ValueError, "direction must be 'forward', 'reverse' or a number in (0, 1), got 1", {"direction": 1}),
        (ValueError, "teacher must have the shape of student, (2, 3), got (3, 3)", {"teacher": np.zeros((3, 3), "f")}),
        (TypeError, "teacher must have dtype float32 on a GPU, got float64", {"teacher": X.astype(float)}),
        (TypeError, "teacher must have dtype float32 on a GPU, got int64", {"teacher": X.astype(int)}),
        (ValueError, "sample_weight must have shape (2,)", {"sample_weight": ONES[:1]}),
        (ValueError, "temperature must be in", {"temperature": 1e30}),
        (TypeError, "axis must be an integer", {"axis": None}),
        (
            ValueError,
            "grad_output must be a number when there are sample weights on a GPU",
            {"sample_weight": ONES, "grad_output": ONES, "reduction": "none"},
        ),
        (ValueError, "out must have the shape of", {"out": X[:1]}),
    ],
)
def test_errors(driver, error, text, options):
    kind, given = Gpu(driver), {"teacher": X + 1, **options}
    raises(error, text, fs.kl_divergence_and_grad, X, given.pop("teacher"), backend=kind, **given)
    assert not driver.launches


@pytest.mark.parametrize("where", ["student", "teacher", "sample_weight", "out"])
def test_arguments_in_main_memory(driver, where):
    arguments = {"student": X + 1, "teacher": X + 2, "sample_weight": ONES, "out": X + 3}
    on = {name: value if name == where else driver.array(value) for name, value in arguments.items()}
    other = "teacher" if where == "student" else "student"
    raises(TypeError, f"{where} must lie on the GPU, as {other} is a", fs.kl_divergence_and_grad, **on)


def test_outputs_over_a_part_of_an_operand_are_refused(driver):
    """Whether the call was prepared or not."""
    room, x, text = np.zeros((8, 4), np.float32), drawn(3, 4), "out must not share memory with teacher, or be teacher"
    fs.kl_divergence_and_grad(driver.array(x), driver.array(room[:3]), out=driver.array(room[4:7]))
    for rows in (slice(1, 4), slice(2, 5)):
        y, out = driver.array(room[:3]), driver.array(room[rows])
        raises(ValueError, text, fs.kl_divergence_and_grad, driver.array(x), y, out=out)


def test_compiled_kernels(interpreted):
    """By the public function, and not NumPy's for once: a mean with weights, and rows that are held by a block."""
    for shape in ((40, 10), (3, 1500)):
        x, y, w = drawn(*shape), drawn(*shape, seed=1), drawn(shape[0], seed=2) ** 2
        on = (interpreted.array(v) for v in (x, y))
        found = fs.kl_divergence_and_grad(*on, sample_weight=interpreted.array(w), direction=0.3)
        compare(interpreted, found, x, y, sample_weight=w, direction=0.3)
