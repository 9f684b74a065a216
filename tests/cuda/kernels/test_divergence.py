"""The GPU kernels of divergences, executed by the interpreter of their PTX, in every form.  No GPU."""

import numpy as np
import pytest

from fastsoftmax import reference
from fastsoftmax.cuda.plan import BLOCK, CLUSTER, ONLINE, PART_WARP, SCALAR, SHARED, WARP
from tests.cuda.kernels.divergences import compare, divergence_of
from tests.cuda.kernels.forms import BFLOAT16, FLOAT16, FLOAT32, FLOAT64, MAJOR, TINY
from tests.cuda.kernels.support import A100, Lie
from tests.functions.test_divergence import DIRECTIONS, KINDS, USUAL, taught
from tests.pairs import exhaustive_but
from tests.support import computed, logits

inf, nan = np.inf, np.nan
#: Dtype, classes and how rows lie, by form; two rows take twice the room of one.
CASES = {
    SCALAR: (FLOAT32, 50, {"lie": MAJOR}), PART_WARP: (FLOAT32, 10, {}), WARP: (BFLOAT16, 515, {}),
    BLOCK: (FLOAT32, 3001, {"lie": Lie(offset=2)}), SHARED: (FLOAT16, 33005, {"facts": A100}),
    CLUSTER: (FLOAT64, 8203, {}), ONLINE: (FLOAT32, 17001, {"facts": TINY}),
}  # fmt: skip
HELD = PART_WARP, WARP, BLOCK, CLUSTER
EACH = [(form, *USUAL[i % 3]) for i, form in enumerate(CASES)]
by_form = pytest.mark.parametrize("form", exhaustive_but([PART_WARP, ONLINE], CASES))


def drawn(dtype, classes, rows=9):
    """Students and teachers of every sort, some of them nearly the same, with impossible classes and common offsets."""
    x, y = (logits(seed, (rows, classes), dtype) for seed in (1, 2))
    x[1], y[2] = y[1], x[2] + np.float32(0.125).astype(dtype)
    x[3, 0], y[3, 0] = -inf, -inf
    y[4, classes // 2], x[5] = -inf, x[5] + np.float32(100).astype(dtype)
    return x, y


def reads(form, variant, *, grad=True):
    """How often each row is read: as often as there are passes, where nobody keeps it."""
    if form not in (SCALAR, ONLINE):
        return 1
    return 2 if not grad or variant == ("logits", "forward") else 3


@pytest.mark.parametrize(
    ("form", "teacher", "direction"),
    exhaustive_but(
        [EACH[0], (PART_WARP, "logits", "forward"), EACH[2], (BLOCK, "logits", "forward"), EACH[4], EACH[6]],
        [*((form, *kind) for form in CASES for kind in USUAL), *((PART_WARP, *kind) for kind in KINDS[1:])],
    ),
)
def test_values(form, teacher, direction):
    """Of rows of every sort; each is read once where it is kept, and the gradient may take the place of either."""
    dtype, classes, how = CASES[form]
    x, y = drawn(dtype, classes)
    y, given = taught(teacher, y), {"teacher_is": teacher, "direction": direction}
    rows, total, grad, made, traffic = divergence_of(x, y, **given, **how)
    assert made.form == form
    compare(rows, grad, x, y, **given)
    np.testing.assert_allclose(total, rows.astype(np.longdouble).sum(), rtol=1e-14)
    times = reads(form, (teacher, direction))
    for name in "xy":
        assert x.nbytes * times <= traffic[name].loaded <= 1.01 * x.nbytes * times
    assert traffic["out"].stored == x.nbytes
    for place in "xy":
        inside = divergence_of(x, y, in_place=place, **given, **how)
        np.testing.assert_array_equal(inside[2].astype(np.float64), grad.astype(np.float64))
        np.testing.assert_array_equal(inside[0], rows)


@by_form
def test_the_value_alone(form):
    """Nothing is written but the values, which are the same bit by bit."""
    dtype, classes, how = CASES[form]
    x, y = drawn(dtype, classes)
    rows, _, _, _, traffic = divergence_of(x, y, grad=False, **how)
    np.testing.assert_array_equal(rows, divergence_of(x, y, **how)[0])
    assert "out" not in traffic
    assert traffic["x"].loaded <= 1.01 * x.nbytes * reads(form, None, grad=False)


@pytest.mark.parametrize("form", exhaustive_but([PART_WARP], [PART_WARP, WARP, BLOCK, SHARED]))
@pytest.mark.parametrize(("teacher", "direction"), exhaustive_but(USUAL[1:], USUAL))
def test_factors_and_temperature(form, teacher, direction):
    """A weight or an upstream gradient for each row, a factor of all of them, and the divisor of a mean."""
    dtype, classes, how = CASES[form]
    x, y = drawn(dtype, classes)
    given = {"teacher_is": teacher, "direction": direction, "temperature": 0.7}
    y = taught(teacher, y, 0.7)
    weight = np.random.default_rng(3).uniform(0, 2, len(x)).astype(computed(dtype))
    weight[1] = 0
    rows, _, grad, _, _ = divergence_of(x, y, **given, **how, sample_weight=weight, denominator=4.0, scale=-3.0)
    compare(rows, grad, x, y, **given, sample_weight=weight, scale=-0.75)
    if form == PART_WARP:
        assert np.isnan(divergence_of(x, y, **given, sample_weight=weight, denominator=0.0)[2][2:]).all()


@pytest.mark.parametrize("form", exhaustive_but([WARP], [PART_WARP, WARP, BLOCK, SHARED, ONLINE]))
def test_a_teacher_of_the_computing_dtype(form):
    """Twice as wide as a student of a half type."""
    classes, how = CASES[form][1] // (2 if form == SHARED else 1), CASES[form][2]  # as long as shared memory holds both
    x, y = drawn(FLOAT32, classes)
    x = x.astype(BFLOAT16)
    rows, _, grad, made, traffic = divergence_of(x, y, **how)
    compare(rows, grad, x, y)
    assert traffic["y"].loaded <= 1.01 * y.nbytes * reads(made.form, ("logits", "forward"))


@pytest.mark.parametrize("form", exhaustive_but([PART_WARP], [PART_WARP, BLOCK, ONLINE]))
@pytest.mark.parametrize("direction", DIRECTIONS)
def test_it_is_never_negative_and_keeps_digits(form, direction):
    """Of rows that are nearly the same: no noise, even of approximate instructions as wrong as a GPU's may be."""
    dtype, classes, how = CASES[form]
    random = np.random.default_rng(7)
    y = random.integers(-64, 65, (6, classes)).astype(dtype) / 32
    x = y + random.choice([0, 1, -1], y.shape).astype(dtype) * dtype.type(2.0**-12)  # exact
    x[0] = y[0]
    exact = reference.kl_divergence_and_grad(x, y, direction=direction, reduction="none", dtype=np.longdouble)
    for rough in (False, True):
        rows, _, grad, _, _ = divergence_of(x, y, direction=direction, rough=rough, **how)
        assert (rows >= 0).all()
        assert rows[0] == 0
        np.testing.assert_allclose(rows[1:], exact.loss[1:], rtol=0.02)
        size = np.abs(exact.grad).max(axis=1, keepdims=True)
        assert (np.abs(grad - exact.grad) <= 0.01 * size + 1e-12).all()


@by_form
def test_impossible_classes_and_rows_without_probabilities(form):
    """0 log 0 = 0; a class that one side has alone is infinite in one direction; rows without probabilities are NaN."""
    dtype, classes, how = CASES[form]
    x, y = np.zeros((7, classes), dtype), np.zeros((7, classes), dtype)
    x[0, 0] = y[0, 0] = -inf
    x[1, 0], y[2, 0] = -inf, -inf
    x[3, -1], x[4], x[5, 0], y[6, 0] = nan, -inf, inf, nan
    rows, _, grad, _, _ = divergence_of(x, y, **how)
    np.testing.assert_array_equal(rows[:2], [0, inf])
    np.testing.assert_allclose(rows[2], np.log(classes / (classes - 1)), rtol=1e-2, atol=1e-5)
    assert np.isnan(rows[3:]).all()
    assert np.isnan(grad[3:]).all()
    np.testing.assert_allclose(grad[1, 0].astype(float), -1 / classes, rtol=1e-2)
    rows = divergence_of(x, y, direction="reverse", grad=False, **how)[0]
    np.testing.assert_array_equal(rows[[0, 2]], [0, inf])
    mixed = divergence_of(x, y, direction=0.5, grad=False, **how)[0]
    assert (mixed[1:3] > 0).all()
    assert np.isfinite(mixed[:3]).all()


LIES = [Lie(step=-1, offset=5), Lie(step=2, extra=3, inner=2, apart=7), Lie(backwards=True, extra=1)]


@pytest.mark.parametrize("lie", exhaustive_but(LIES[:1], LIES), ids=["backwards", "apart", "rows backwards"])
def test_layouts(lie):
    """Student and teacher need not lie alike."""
    x, y = drawn(FLOAT32, 10)
    other = Lie(inner=lie.inner, extra=2, offset=1)
    rows, _, grad, _, _ = divergence_of(x, y, direction="reverse", lie=lie, y_lie=other)
    compare(rows, grad, x, y, direction="reverse")


@pytest.mark.parametrize("classes", exhaustive_but([1, 33, 129], [1, 2, 3, 33, 100, 129, 257, 1023, 2048]))
def test_lengths(classes):
    """From one class on, whichever threads hold the ends; more rows than are worked on at a time."""
    rows = 70 if classes < 40 else 6
    x, y = drawn(FLOAT32, classes, rows) if classes > 1 else (np.ones((rows, 1), FLOAT32), np.zeros((rows, 1), FLOAT32))
    found, _, grad, _, _ = divergence_of(x, y)
    compare(found, grad, x, y)


@pytest.mark.parametrize(("teacher", "direction"), exhaustive_but([("prob", "forward")], [("prob", "forward"), *USUAL]))
@pytest.mark.parametrize("form", exhaustive_but([PART_WARP], [PART_WARP, BLOCK, ONLINE]))
def test_masks(form, teacher, direction):
    """Neither row is looked at where a class is masked; its gradient is 0."""
    dtype, classes, how = CASES[form]
    x, y = (logits(seed, (5, classes), dtype) for seed in (1, 2))
    where = np.random.default_rng(3).random(x.shape) < 0.7
    where[:, 0], y = True, taught(teacher, y)
    given = {"teacher_is": teacher, "direction": direction}
    filled = (
        np.where(where, x, -inf).astype(x.dtype),
        np.where(where, y, 0 if teacher == "prob" else -inf).astype(y.dtype),
    )
    x, y = np.where(where, x, nan).astype(x.dtype), np.where(where, y, nan).astype(y.dtype)
    rows, _, grad, made, _ = divergence_of(x, y, where=where, **given, **how)
    assert made.form == form
    compare(rows, grad, *filled, **given)
    assert (grad[~where] == 0).all()
