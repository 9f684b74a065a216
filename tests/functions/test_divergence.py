"""kl_divergence against the reference, torch and differences; never negative, and digits where both agree."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import fastsoftmax as fs
from fastsoftmax import reference
from tests.pairs import exhaustive_but
from tests.support import LAYOUTS, assert_exact, both, by_least_places, logits, row_counts, seeds, steepness

TEACHERS = ["logits", "log_prob", "prob"]
DIRECTIONS = ["forward", "reverse", 0.3]
#: Each teacher and each direction, and all of their pairs.
USUAL = [("logits", "forward"), ("log_prob", "reverse"), ("prob", 0.3)]
KINDS = [(teacher, direction) for teacher in TEACHERS for direction in DIRECTIONS]


def taught(teacher, y, temperature=1.0):
    """What a teacher with the logits `y` gives."""
    made = {"logits": lambda z: z, "log_prob": reference.log_softmax, "prob": reference.softmax}[teacher]
    return made(y / temperature if teacher != "logits" else y).astype(y.dtype)


def compare(found, x, y, **options):
    """Both results with the reference's, within what it loses in the dtype; terms are of the size of the logits."""
    exact, naive = both(fs.kl_divergence_and_grad, x, y, dtype=x.dtype, **options)
    scale = 1 + np.max(steepness(x, {})) + np.max(steepness(y, {})) if x.size else 1.0
    weight = np.max(options.get("sample_weight", 1.0)) * np.max(np.abs(options.get("grad_output", 1.0)))
    assert_exact(found.loss, exact.loss, naive.loss, along=None, size=scale * weight * len(x))
    assert_exact(found.grad, exact.grad, naive.grad, size=scale * weight)


@by_least_places
@given(seeds, row_counts, st.data())
def test_values(places, seed, rows, data):
    """Student and teacher of every layout, dtype and length."""
    dtype, classes, layout, other = data.draw(places)
    x = LAYOUTS[layout](logits(seed, (rows, classes), dtype))
    y = LAYOUTS[other](logits(seed + 1, (rows, classes), dtype))
    before = x.copy(), y.copy()
    found = fs.kl_divergence_and_grad(x, y, temperature=2.0, reduction="sum")
    compare(found, x, y, temperature=2.0, reduction="sum")
    assert found.grad.dtype == x.dtype.newbyteorder("=")
    np.testing.assert_array_equal(x, before[0])
    np.testing.assert_array_equal(y, before[1])


@pytest.mark.parametrize(
    ("teacher", "direction", "classes"),
    exhaustive_but(
        [("logits", 0.3, 1000), ("log_prob", "reverse", 10)],
        [(*kind, classes) for kind in KINDS for classes in (10, 1000)],
    ),
)
def test_kinds(teacher, direction, classes):
    """Each kind of teacher and direction, with weights, upstream gradients and a temperature."""
    x, y = (logits(seed, (30, classes), np.dtype(np.float32)) for seed in (1, 2))
    random = np.random.default_rng(1)
    given = {"teacher_is": teacher, "direction": direction, "temperature": 1.5}
    y = taught(teacher, y, 1.5)
    for options in (
        {"reduction": "none", "grad_output": random.normal(size=30)},
        {"sample_weight": random.uniform(0, 2, 30)},
    ):
        found = fs.kl_divergence_and_grad(x, y, **given, **options)
        compare(found, x, y, **given, **options)
        if "grad_output" not in options:
            np.testing.assert_allclose(fs.kl_divergence(x, y, **given, **options), found.loss, rtol=1e-6)


@pytest.mark.parametrize("classes", exhaustive_but([3], [3, 40]))
@pytest.mark.parametrize(("teacher", "direction"), exhaustive_but(USUAL[2:], KINDS))
@given(seed=seeds)
def test_gradients_are_derivatives(teacher, direction, classes, seed):
    """Differences of the divergence itself, of teachers whose numbers add up to 1 and of others."""
    x, y, h = logits(seed, (2, classes), np.float64, 1.0), logits(seed + 1, (2, classes), np.float64, 1.0), 2.0**-17
    y = taught(teacher, y)
    if teacher == "prob":
        y = y * 0.7
    options = {"teacher_is": teacher, "direction": direction, "temperature": 0.7, "reduction": "sum"}
    numeric = np.empty(x.shape)
    for at in np.ndindex(x.shape):
        step = np.zeros(x.shape)
        step[at] = h
        numeric[at] = (fs.kl_divergence(x + step, y, **options) - fs.kl_divergence(x - step, y, **options)) / (2 * h)
    grad = fs.kl_divergence_and_grad(x, y, **options).grad
    np.testing.assert_allclose(grad, numeric, rtol=1e-6, atol=1e-8)


def test_as_torch_has_it():
    """kl_div of log-probabilities, both ways, and its "batchmean"."""
    torch = pytest.importorskip("torch")
    x, y = logits(1, (6, 30), np.float64), logits(2, (6, 30), np.float64)
    z, w = torch.tensor(x, requires_grad=True), torch.tensor(y)
    for direction in ("forward", "reverse"):
        pair = z.log_softmax(1), w.log_softmax(1)
        loss = torch.nn.functional.kl_div(
            *(pair if direction == "forward" else pair[::-1]), reduction="batchmean", log_target=True
        )
        z.grad = None
        loss.backward()
        found = fs.kl_divergence_and_grad(x, y, direction=direction)
        np.testing.assert_allclose(found.loss, loss.item(), rtol=1e-13)
        np.testing.assert_allclose(found.grad, z.grad, rtol=1e-11, atol=1e-15)


@pytest.mark.parametrize(
    ("direction", "classes"),
    exhaustive_but([("forward", 10)], [(d, classes) for d in DIRECTIONS for classes in (10, 1000)]),
)
@given(seed=seeds)
def test_it_is_never_negative_and_keeps_digits(direction, classes, seed):
    """Of rows that are nearly the same: to first order half of the variance of their difference, and no noise."""
    random = np.random.default_rng(seed)
    y = random.integers(-64, 65, (5, classes)).astype(np.float32) / 32
    step = random.choice([0, 1, -1], (5, classes)) * np.float32(2.0**-12)
    x = y + step  # exact
    found = fs.kl_divergence_and_grad(x, y, direction=direction, reduction="none")
    assert (found.loss >= 0).all()
    exact = reference.kl_divergence_and_grad(x, y, direction=direction, reduction="none", dtype=np.longdouble)
    # The logarithms of both sums are rounded: some eps of the difference of the logits is eps / 2**-12 of it.
    np.testing.assert_allclose(found.loss, exact.loss, rtol=0.02)
    size = np.abs(exact.grad).max(axis=1, keepdims=True)
    assert (np.abs(found.grad - exact.grad) <= 0.01 * size).all()
    same = fs.kl_divergence(x, x.copy(), direction=direction, reduction="none")
    np.testing.assert_array_equal(same, 0.0)


@pytest.mark.parametrize("classes", exhaustive_but([4], [4, 100, 1000]))
def test_impossible_classes(classes):
    """0 log 0 = 0; a class that only the teacher has makes the forward divergence infinite."""
    x, y = np.zeros((3, classes), np.float32), np.zeros((3, classes), np.float32)
    x[0, 0] = y[0, 0] = -np.inf  # neither has it
    x[1, 0], y[2, 0] = -np.inf, -np.inf
    forward = fs.kl_divergence(x, y, reduction="none")
    reverse = fs.kl_divergence(x, y, reduction="none", direction="reverse")
    mixed = fs.kl_divergence(x, y, reduction="none", direction=0.5)
    np.testing.assert_array_equal(forward[:2], [0, np.inf])
    np.testing.assert_array_equal(reverse[[0, 2]], [0, np.inf])
    np.testing.assert_allclose(forward[2], np.log(classes / (classes - 1)), rtol=1e-4)
    assert np.isfinite(mixed).all()
    assert (mixed[1:] > 0).all()
    grad = fs.kl_divergence_and_grad(x, y, reduction="none").grad
    np.testing.assert_allclose(grad[1, 0], -1 / classes, rtol=1e-6)
    assert grad[0, 0] == 0
    prob = reference.softmax(y)
    np.testing.assert_allclose(fs.kl_divergence(x[2:], prob[2:], teacher_is="prob"), forward[2], rtol=1e-4)


def test_out_axes_and_no_rows():
    x, y = logits(0, (4, 5, 6), np.float32), logits(1, (4, 5, 6), np.float32)
    expected = reference.kl_divergence_and_grad(x, y, axis=1)
    own = x.copy()
    found = fs.kl_divergence_and_grad(own, y, axis=1, out=own)
    assert found.grad is own
    np.testing.assert_allclose(own, expected.grad, rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(found.loss, expected.loss, rtol=1e-5)
    other = y.copy()
    np.testing.assert_array_equal(fs.kl_divergence_and_grad(x, other, axis=1, out=other).grad, own)
    assert np.isnan(fs.kl_divergence(np.empty((0, 3)), np.empty((0, 3))))
    assert fs.kl_divergence([[1, 2]], [[2, 1]]).dtype == np.float64
    mixed = fs.kl_divergence(x, y.astype(np.float64), axis=1)
    np.testing.assert_allclose(mixed, expected.loss, rtol=1e-5)


@pytest.mark.parametrize(
    ("error", "text", "options"),
    [
        (ValueError, "teacher_is must be one of 'logits', 'log_prob', 'prob', got 'probs'", {"teacher_is": "probs"}),
        (TypeError, "direction must be 'forward', 'reverse' or a number in (0, 1), got 'back'", {"direction": "back"}),
        (ValueError, "direction must be 'forward', 'reverse' or a number in (0, 1), got 1", {"direction": 1}),
        (ValueError, "teacher must have the shape of student, (2, 3), got (3,)", {"teacher": np.zeros(3)}),
        (ValueError, "temperature must be a finite number > 0, got 0", {"temperature": 0}),
        (ValueError, "reduction must be one of", {"reduction": "batchmean"}),
        (ValueError, "sample_weight must have shape (2,)", {"sample_weight": [1.0]}),
    ],
)
def test_errors(error, text, options):
    options = {"teacher": np.zeros((2, 3)), **options}
    for function in (fs.kl_divergence, fs.kl_divergence_and_grad):
        with pytest.raises(error) as caught:
            function(np.zeros((2, 3)), **options)
        assert text in str(caught.value)
