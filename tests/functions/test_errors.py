"""Bad input: every message says what was expected, what came, where, and no argument is changed."""

import numpy as np
import pytest

import fastsoftmax as fs
from tests.backends import raises

X = np.zeros((4, 3))
T = np.array([0, 1, 2, 0])
LOSSES = [fs.cross_entropy, fs.cross_entropy_and_grad]
both_losses = pytest.mark.parametrize("function", LOSSES, ids=lambda f: f.__name__)


@both_losses
@pytest.mark.parametrize("many", [False, True])
@pytest.mark.parametrize(
    ("value", "dtype"),
    [
        (-1, np.int8),
        (-99, np.int64),
        (3, np.uint8),
        (3, np.int64),
        (2**31, np.int64),
        (2**32 + 1, np.int64),
        (2**32 + 1, np.uint64),
        (2**63, np.uint64),
        (2**64 - 1, np.uint64),
        (2**64 - 100, np.uint64),
        (np.iinfo(np.int64).min, np.int64),
    ],
)
def test_class_index_out_of_range(function, many, value, dtype):
    """Found before any of them is used, wherever it stands, with its value and its row."""
    n = 200_000 if many else 4
    x, target = np.zeros((n, 3), np.float32), np.zeros(n, dtype)
    target[n - 2] = value
    before = target.copy()
    raises(ValueError, f"[0, 3) or ignore_index, got {value} at row {n - 2}", function, x, target)
    raises(ValueError, f"got {value} at row", function, x, target, class_weight=[1.0, 1.0, 1.0])
    np.testing.assert_array_equal(target, before)


def test_position_of_a_bad_index():
    target = np.zeros((2, 5), int)
    target[1, 3] = 7
    raises(ValueError, "got 7 at position (1, 3)", fs.cross_entropy, np.zeros((2, 5, 3)), target)
    target[0, 4] = -5
    raises(ValueError, "got -5 at position (0, 4)", fs.cross_entropy, np.zeros((2, 5, 3)), target)


def test_labels_are_checked_in_main_memory_whatever_is_said():
    for check in (None, True, False):
        raises(ValueError, "got 9 at row 0", fs.cross_entropy, X[:1], np.array([9]), check_targets=check)


def test_nothing_is_written_before_labels_are_checked():
    out = np.full((4, 3), 5.0)
    raises(ValueError, "got 9", fs.cross_entropy_and_grad, X, [0, 1, 2, 9], out=out)
    assert (out == 5).all()


@both_losses
@pytest.mark.parametrize("target", [T.astype(float), T.astype(np.float32), T.astype(bool), T.astype(complex)])
def test_class_indices_that_are_no_integers(function, target):
    raises(TypeError, str(target.dtype), function, X, target)


@both_losses
@pytest.mark.parametrize(
    "target", [[0, 1, 2], [[0], [1], [2], [0]], np.zeros((4, 2)), np.zeros((3, 4)), 0, [[0, 1, 2, 0]]], ids=np.shape
)
def test_shape_of_the_target(backend, function, target):
    text = "target must have shape (4,) (class indices) or (4, 3) (probabilities) for logits of shape (4, 3), got"
    raises(ValueError, f"{text} {np.shape(target)}", function, X, np.asarray(target), backend=backend)


@both_losses
@pytest.mark.parametrize(
    ("options", "error", "text"),
    [
        ({"reduction": "avg"}, ValueError, "reduction must be one of 'mean', 'sum', 'none', got 'avg'"),
        ({"reduction": None}, ValueError, "got None"),
        ({"label_smoothing": 1.5}, ValueError, "label_smoothing must be a finite number in [0, 1], got 1.5"),
        ({"label_smoothing": -0.1}, ValueError, "got -0.1"),
        ({"label_smoothing": np.nan}, ValueError, "got nan"),
        ({"label_smoothing": "a"}, TypeError, "label_smoothing must be a number in [0, 1], got 'a'"),
        ({"z_loss": -1}, ValueError, "z_loss must be a finite number >= 0, got -1"),
        ({"z_loss": np.inf}, ValueError, "got inf"),
        ({"focal_gamma": -1}, ValueError, "focal_gamma must be a finite number >= 0, got -1"),
        ({"temperature": 0}, ValueError, "temperature must be a finite number > 0, got 0"),
        ({"temperature": -2.0}, ValueError, "got -2.0"),
        ({"temperature": np.nan}, ValueError, "got nan"),
        ({"softcap": 0.0}, ValueError, "softcap must be a finite number > 0, got 0.0"),
        ({"softcap": -1}, ValueError, "got -1"),
        ({"softcap": [1.0, 2.0]}, TypeError, "softcap must be a number > 0"),
        ({"ignore_index": 1.5}, TypeError, "ignore_index must be an integer, got 1.5"),
        ({"ignore_index": 2**63}, ValueError, "ignore_index must fit in 64 bits"),
        ({"axis": 2}, ValueError, "axis must be in [-2, 2) for logits with 2 dimensions, got 2"),
        ({"axis": -3}, ValueError, "got -3"),
        ({"axis": 1.0}, TypeError, "axis must be an integer, got 1.0"),
        ({"class_weight": [1.0, 1.0]}, ValueError, "class_weight must have shape (3,), one weight a class, got (2,)"),
        ({"sample_weight": [1.0, 1.0]}, ValueError, "sample_weight must have shape (4,), one weight a row, got (2,)"),
        ({"sample_weight": [[1.0]] * 4}, ValueError, "got (4, 1)"),
    ],
    ids=str,
)
def test_options(backend, function, options, error, text):
    raises(error, text, function, X, T, **options, backend=backend)


@both_losses
@pytest.mark.parametrize(
    ("options", "error", "text"),
    [
        ({"class_weight": [1.0, -1.0, 1.0]}, ValueError, "finite numbers >= 0, got -1.0 at (1,)"),
        ({"class_weight": [1.0, 1.0, np.nan]}, ValueError, "got nan at (2,)"),
        ({"class_weight": [1.0, 1.0, np.inf]}, ValueError, "got inf at (2,)"),
        ({"class_weight": ["a", "b", "c"]}, TypeError, "class_weight must have dtype"),
        ({"sample_weight": [1.0, 1.0, 1.0, -2.0]}, ValueError, "got -2.0 at (3,)"),
    ],
    ids=str,
)
def test_values_of_weights(function, options, error, text):
    """Which a GPU does not look at."""
    raises(error, text, function, X, T, **options)


@both_losses
def test_unknown_option(function):
    raises(TypeError, "smoothing", function, X, T, smoothing=0.1)


@both_losses
def test_options_of_probabilities(backend, function):
    """As in torch, probabilities have no rows to ignore."""
    text = "ignore_index must be negative when target holds probabilities"
    raises(ValueError, text, function, X, X, ignore_index=1, backend=backend)
    raises(ValueError, "focal_gamma is defined for class indices", function, X, X, focal_gamma=2.0, backend=backend)


@pytest.mark.parametrize("function", [fs.softmax, fs.log_softmax, fs.logsumexp], ids=lambda f: f.__name__)
@pytest.mark.parametrize(
    ("x", "error", "text"),
    [
        (np.zeros((2, 3), complex), TypeError, "got complex128 with shape (2, 3)"),
        (np.array([1, None]), TypeError, "got object with shape (2,)"),
        (np.array(["a", "b"]), TypeError, "x must have dtype"),
        (np.zeros(3, "M8[s]"), TypeError, "got datetime64[s]"),
        ([[1, 2], [3]], ValueError, "x must be an array of numbers"),
        (None, TypeError, "got object"),
    ],
)
def test_input_of_maps(function, x, error, text):
    raises(error, text, function, x)


@pytest.mark.parametrize("function", [fs.softmax, fs.log_softmax, fs.logsumexp], ids=lambda f: f.__name__)
def test_axes_of_maps(backend, function):
    def axis(error, text, axis, x=X):
        raises(error, text, function, x, axis=axis, backend=backend)

    axis(ValueError, "axis must be in [-2, 2) for x with 2 dimensions, got 2", 2)
    axis(ValueError, "got -3", (0, -3))
    axis(ValueError, "each once", (0, -2))
    axis(TypeError, "axis must be an integer, got 'a'", "a")
    axis(TypeError, "axis must be an integer, got [0]", [0])
    if function is not fs.logsumexp:  # which is -inf of nothing
        axis(ValueError, "at least one element along the axes", (0, 1), np.zeros((2, 0)))
        axis(ValueError, "x must have at least one class along axis -1, got shape (2, 0)", -1, np.zeros((2, 0)))
    axis(ValueError, "axis does not exist for x with 0 dimensions", -2, np.array(3.0))
    backend.call(function, X, 1)
    axis(TypeError, "axis must be an integer, got 1.0", 1.0)  # equal to an axis that was seen


WITH_OUT = ["softmax", "log_softmax", "softmax_vjp", "log_softmax_vjp", "cross_entropy_and_grad"]


def _refused(backend, name, out, error, text):
    second = {"softmax": (), "log_softmax": (), "cross_entropy_and_grad": (T,)}.get(name, (X,))
    raises(error, text, getattr(fs, name), X, *second, out=out, backend=backend)


def strided(strides, at=0):
    """Rows and classes at any distances."""
    return np.ndarray((4, 3), buffer=np.zeros(30), offset=at, strides=strides)


@pytest.mark.parametrize("name", WITH_OUT)
@pytest.mark.parametrize(
    ("out", "error", "text"),
    [
        (np.zeros((3, 4)), ValueError, "out must have the shape of the result, (4, 3), got (3, 4)"),
        (np.zeros((4, 3), np.float32), TypeError, "out must have dtype float64, as the result has, got float32"),
        (np.broadcast_to(0.0, (4, 3)), ValueError, "out must be writeable"),
        (strided((0, 8)), ValueError, "out must not be broadcast, got strides (0, 8)"),
        (
            strided((8, 8)),
            ValueError,
            "out must not overlap itself, got strides (8, 8) with shape (4, 3): its elements share memory; use ",
        ),
        (strided((-8, 16), 72), ValueError, "out must not overlap"),
    ],
)
def test_out(backend, name, out, error, text):
    _refused(backend, name, out, error, text)


@pytest.mark.parametrize("name", WITH_OUT)
@pytest.mark.parametrize(
    ("out", "error", "text"),
    [
        (np.zeros((4, 3), ">f8"), TypeError, "got >f8"),
        ([[0.0] * 3] * 4, TypeError, "out must be a numpy.ndarray, got list"),
        (strided((8, 8)), ValueError, "its elements share memory; use numpy"),
        (strided((20, 8)), ValueError, "out must not overlap itself"),
    ],
)
def test_out_in_main_memory(name, out, error, text):
    _refused(None, name, out, error, text)


@pytest.mark.parametrize("function", [fs.softmax_vjp, fs.log_softmax_vjp], ids=lambda f: f.__name__)
def test_products(backend, function):
    text = "grad must have the shape of y, (4, 3), got (4, 2)"
    raises(ValueError, text, function, X, np.zeros((4, 2)), backend=backend)
    raises(ValueError, "axis must be in", function, X, X, 5, backend=backend)
    raises(TypeError, "got complex128", function, X, X.astype(complex))


@pytest.mark.parametrize(
    ("grad_output", "reduction", "text"),
    [
        (np.ones(4), "mean", "grad_output must be a scalar for reduction='mean', got an array of shape (4,)"),
        (np.ones(3), "none", "grad_output must have shape (4,), one number a row, or be a scalar, got (3,)"),
    ],
)
def test_upstream_gradient(backend, grad_output, reduction, text):
    options = {"grad_output": grad_output, "reduction": reduction}
    raises(ValueError, text, fs.cross_entropy_and_grad, X, T, **options, backend=backend)


def test_loss_has_no_out():
    raises(TypeError, "out", fs.cross_entropy, X, T, out=np.zeros((4, 3)))


def test_errors_name_the_argument_of_the_call():
    raises(TypeError, "logits must have dtype", fs.cross_entropy, X.astype(complex), T)
    raises(ValueError, "logits must have at least one class", fs.cross_entropy, np.zeros((4, 0)), T)
    raises(TypeError, "target must have dtype", fs.cross_entropy, X, ["a"] * 4)
