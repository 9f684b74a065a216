"""Arguments that are no plain arrays or ordinary numbers: refused with advice that works, or used for what they are."""

import re
import sys
from decimal import Decimal
from fractions import Fraction
from itertools import product

import ml_dtypes
import numpy
import numpy as np
import pytest
import scipy.sparse

import fastsoftmax as fs
from fastsoftmax import reference
from tests.pairs import exhaustive_but
from tests.support import Fails, assert_exact

X, T = np.random.default_rng(3).standard_normal((4, 3)).astype(np.float32), np.array([0, 1, 2, 0])
W, B = np.random.default_rng(4).standard_normal((5, 3)).astype(np.float32), np.zeros(5, np.float32)
MASKED = np.ma.masked_greater(X, 1)
LOSSES = [fs.cross_entropy, fs.cross_entropy_and_grad]
SMOOTH = np.full((4, 3), 1 / 3)

#: Every array argument of every function: a call that is right, the argument's name, and what it is there.
CALLS = {
    "softmax": (fs.softmax, {"x": X, "out": np.empty_like(X)}),
    "softmax over all axes": (fs.softmax, {"x": X, "out": np.empty_like(X), "axis": None}),
    "log_softmax": (fs.log_softmax, {"x": X, "out": np.empty_like(X)}),
    "logsumexp": (fs.logsumexp, {"x": X}),
    "softmax_vjp": (fs.softmax_vjp, {"y": X, "grad": X, "out": np.empty_like(X)}),
    "log_softmax_vjp": (fs.log_softmax_vjp, {"y": X, "grad": X, "out": np.empty_like(X)}),
    "cross_entropy": (
        fs.cross_entropy,
        {"logits": X, "target": T, "class_weight": np.ones(3), "sample_weight": np.ones(4)},
    ),
    "probabilities": (fs.cross_entropy, {"logits": X, "target": SMOOTH}),
    "cross_entropy_and_grad": (
        fs.cross_entropy_and_grad,
        {"logits": X, "target": T, "grad_output": np.ones(4), "reduction": "none", "out": np.empty_like(X)},
    ),
    "linear_cross_entropy_and_grad": (
        fs.linear_cross_entropy_and_grad,
        {"x": X, "weight": W, "bias": B, "target": T, "sample_weight": np.ones(4), "class_weight": np.ones(5)},
    ),
    "linear_hessian_product": (
        fs.linear_hessian_product,
        {"x": X, "weight": W, "bias": B, "weight_direction": W, "bias_direction": B, "sample_weight": np.ones(4)},
    ),
    "linear_predict": (fs.linear_predict, {"x": X, "weight": W, "bias": B}),
    "linear_predict_proba": (fs.linear_predict_proba, {"x": X, "weight": W, "out": np.empty((4, 5), np.float32)}),
    "linear_top_k": (lambda **given: fs.linear_top_k(k=2, **given), {"x": X, "weight": W}),
}
ARRAYS = [(call, name) for call, (_, given) in CALLS.items() for name in given if isinstance(given[name], np.ndarray)]
every_array = pytest.mark.parametrize(("call", "name"), ARRAYS)


def advised(error, **names):
    """What a message says to pass, evaluated."""
    (advice,) = re.findall(r"pass ([^;]*?)(?:, or |, which is |$)", str(error.value))
    return eval(advice, {"numpy": numpy, **names})


@every_array
def test_masked_arrays(call, name):
    """Their masked elements would be used as if they were valid."""
    function, given = CALLS[call]
    masked = np.ma.array(given[name], mask=np.zeros(np.shape(given[name]), bool))
    with pytest.raises(TypeError, match=re.escape(name) + " must .* masked") as error:
        function(**given | {name: masked})
    if name == "out":
        function(**given | {name: advised(error, **{name: masked})})
    else:
        assert ".filled(...)" in str(error.value)
        function(**given | {name: masked.filled(0)})


def test_masked_arrays_in_other_places():
    out = {"weight": np.ma.zeros((5, 3), dtype=np.float32)}
    with pytest.raises(TypeError, match=r"out\['weight'\] must be a plain array, got a masked one"):
        fs.linear_cross_entropy_and_grad(X, W, T, out=out)
    sparse = scipy.sparse.csr_array(X)
    sparse.data = np.ma.array(sparse.data)
    with pytest.raises(TypeError, match=r"x must not be a masked array"):
        fs.linear_predict(sparse, W)
    for value in ([np.ma.masked, 1.0], [MASKED[0], MASKED[1]]):
        with pytest.raises(TypeError, match=r"x must not be a masked array"):
            fs.softmax(value)
    for option in ("temperature", "softcap", "z_loss"):
        with pytest.raises(TypeError, match=f"{option} must be a number"):
            fs.cross_entropy(X, T, **{option: np.ma.array(1.0)})


RECORDS = np.zeros((4, 3), [("a", "f4"), ("b", "f8")])
WRONG = {
    "complex": X + 0j,
    "list of complex": (X + 0j).tolist(),
    "structured": np.zeros(4, [("a", "f4"), ("b", "f8"), ("c", "i1")]),
    "longdouble": X.astype(np.longdouble),
    "float8": X.astype(ml_dtypes.float8_e5m2),
    "float8 of no kind": X.astype(ml_dtypes.float8_e4m3fn),
    "int4": T[:, None].astype(ml_dtypes.int4).repeat(3, 1),
    "objects": X.astype(object),
    "fractions": [[Fraction(1, 3), Decimal("0.5"), 2]] * 4,
    "strings of numbers": X.astype(str),
    "times": X.astype("m8[s]"),
    "sparse": scipy.sparse.csr_array(X),
    "a generator": iter(X.tolist()),
    "a mapping": {0: X[0], 1: X[1], 2: X[2], 3: X[3]},
}


@pytest.mark.parametrize("kind", WRONG)
def test_advice_on_dtypes_works(kind):
    """Of an array that is refused the message says what to pass instead: that is accepted."""
    value = WRONG[kind]
    for function, names, others in ((fs.softmax, ["x"], ()), (fs.softmax_vjp, ["y"], (X,)), (fs.cross_entropy, [], ())):
        for name in names or ["logits"]:
            with pytest.raises(TypeError, match=f"^{name} must have dtype") as error:
                function(value, *(others or ((T,) if function is fs.cross_entropy else ())))
            found = function(advised(error, **{name: value}), *(others or ((T,) if not names else ())))
            assert np.shape(found) in ((4, 3), ())
            value = WRONG[kind] if kind != "a generator" else iter(X.tolist())


@pytest.mark.parametrize(
    ("target", "same"),
    [
        (T.astype(float), T),
        (T.astype(float).tolist(), T),
        (T.astype(bool), T.astype(bool).astype(int)),
        (T.astype(complex), T),
        (T.astype(object), T),
        (T.astype(str), T),
        (["b", "c", "d", "b"], T),
        (np.array(["b", "c", "d", "b"], object), T),
        (np.array(["b", "c", "d", "b"], "S1"), T),
    ],
)
def test_advice_on_labels_works(target, same):
    for function, operands in ((fs.cross_entropy, (X,)), (fs.linear_cross_entropy, (X, W))):
        with pytest.raises(TypeError, match="must have an integer dtype") as error:
            function(*operands, target)
        assert function(*operands, advised(error, target=target)) == function(*operands, same)


@pytest.mark.parametrize("target", [[0.5, 1, 2, 0], [np.nan, 1, 2, 0], [np.inf, 1, 2, 0]])
def test_floating_labels_that_are_no_numbers_of_classes(target):
    with pytest.raises(TypeError, match=re.escape(f"{target[0]} at (0,) is no class")):
        fs.cross_entropy(X, target)


def test_advice_on_weights_by_class_works():
    by_class = {0: 1.0, 1: 2.0, 2: 0.5}
    with pytest.raises(TypeError, match="class_weight must have dtype") as error:
        fs.cross_entropy(X, T, class_weight=by_class)
    weight = advised(error, class_weight=by_class)
    assert fs.cross_entropy(X, T, class_weight=weight) == fs.cross_entropy(X, T, class_weight=[1.0, 2.0, 0.5])


@pytest.mark.parametrize("dtype", [np.int64, np.uint8, bool])
def test_only_floating_targets_are_probabilities(dtype):
    """One row of logits with as many labels would have a plausible loss."""
    one_hot = np.eye(3, dtype=dtype)[T]
    for function, operands in ((fs.cross_entropy, (X,)), (fs.linear_cross_entropy, (X, np.eye(3, dtype=np.float32)))):
        with pytest.raises(TypeError, match=r"must have shape \(4,\), and for probabilities pass") as error:
            function(*operands, one_hot)
        assert function(*operands, advised(error, target=one_hot)) == function(*operands, T)
    for function in LOSSES:
        with pytest.raises(TypeError, match=r"class indices must have shape \(\), and for probabilities"):
            function(X[0], [1, 2, 0])
        with pytest.raises(TypeError, match=r"probabilities must have a floating dtype"):
            function(X.T, one_hot.T, axis=0)


@pytest.mark.parametrize("function", [fs.softmax, fs.log_softmax, fs.logsumexp], ids=lambda f: f.__name__)
@pytest.mark.parametrize("dtype", exhaustive_but([np.float32], [np.float16, np.float32, np.float64]))
def test_one_element(function, dtype):
    """Over all axes of a number, or over no axis of an array, each element is alone."""
    number = {"softmax": 1.0, "log_softmax": 0.0, "logsumexp": 3.0}[function.__name__]
    for x in (dtype(3), np.array(3, dtype)):
        for axis in (None, ()):
            result = function(x, axis)
            assert (result.dtype, result.shape, float(result)) == (dtype, (), number)
    array = np.array([[3, -np.inf, np.inf, np.nan], [3, 3, 3, 3]], dtype)
    expected = np.full(array.shape, number, dtype)
    expected[0, 1:] = array[0, 1:] if function is fs.logsumexp else np.nan
    np.testing.assert_array_equal(function(array, ()), expected, strict=True)
    np.testing.assert_array_equal(function(array.T, ()), expected.T, strict=True)
    assert function(array[:0], ()).shape == (0, 4)
    if function is fs.logsumexp:
        assert function(dtype(3), None, keepdims=True).shape == ()
    else:
        out = np.empty((), dtype)
        assert function(3.0 if dtype is np.float64 else dtype(3), None, out=out) is out
        assert out == number


HUGE = 10**400
BEYOND = {
    "temperature": [1e-39, 1e-30, 1e30, sys.float_info.max, 5e-324],
    "softcap": [1e-39, 5e-324],
    "focal_gamma": [1e300, 1e39],
    "z_loss": [1e300, 1e39],
}


WIDER = list(product(BEYOND, [np.float32, np.float16], ["mean", "none"]))


@pytest.mark.parametrize(
    ("name", "dtype", "reduction"),
    exhaustive_but([("temperature", np.float32, "mean")], WIDER),
)
def test_options_beyond_float32(name, dtype, reduction):
    """float32 has no number for them, or none for what they are multiplied with: float64 is computed in."""
    x, w = X.astype(dtype), W.astype(dtype)
    for value in BEYOND[name]:
        options = {name: value, "reduction": reduction}
        if not 2.0**-512 <= value <= 2.0**512:
            with pytest.raises(ValueError, match=f"{name} must be .* computed in float64, got"):
                fs.cross_entropy(x, T, **options)
            with pytest.raises(ValueError, match=f"{name} must be .* computed in float64, got"):
                fs.linear_cross_entropy(x, w, T, **options)
            continue
        expected = fs.cross_entropy_and_grad(x.astype(np.float64), T, **options)
        out = np.empty_like(x)
        with np.errstate(all="ignore"):
            loss, grad = np.asarray(expected.loss, np.float32), expected.grad.astype(dtype)
        for given in (None, out, out):  # the last call looks like the one before
            found = fs.cross_entropy_and_grad(x, T, **options, out=given)
            assert found.loss.dtype == np.float32
            assert found.grad.dtype == dtype
            np.testing.assert_array_equal(found.loss, loss)
            np.testing.assert_array_equal(found.grad, grad)
        np.testing.assert_array_equal(fs.cross_entropy(x, T, **options), loss)
        wide = fs.linear_cross_entropy(x.astype(np.float64), w.astype(np.float64), T, **options)
        np.testing.assert_allclose(fs.linear_cross_entropy(x, w, T, **options), wide, rtol=1e-13)


@pytest.mark.parametrize("name", BEYOND)
def test_options_beyond_numbers(name):
    for value in (HUGE, Fraction(HUGE)):
        with pytest.raises(ValueError, match=f"{name} must be a number .* that float64 can hold"):
            fs.cross_entropy(X, T, **{name: value})
    for value in (np.inf, Decimal("1e400"), np.longdouble("1e400")) if name != "softcap" else ():
        with pytest.raises(ValueError, match=f"{name} must be a finite number"):
            fs.cross_entropy(X, T, **{name: value})


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("name", BEYOND)
def test_options_at_their_bounds(name, dtype):
    """What is just allowed is right, in each dtype."""
    large = 2.0**64 if dtype == np.float32 else 2.0**512
    bounds = {"temperature": (1 / large, large), "softcap": (1 / large, float(np.finfo(dtype).max))}
    x = X.astype(dtype)
    for value in bounds.get(name, (1 / large, large)):
        exact = reference.cross_entropy_and_grad(x, T, **{name: value}, dtype=np.longdouble)
        with np.errstate(all="ignore"):
            naive = reference.cross_entropy_and_grad(x, T, **{name: value}, dtype=dtype)
        found = fs.cross_entropy_and_grad(x, T, **{name: value})
        assert np.isfinite(found.loss)
        assert_exact(found.loss, exact.loss, naive.loss)
        assert_exact(found.grad, exact.grad, naive.grad, along=None)
    if name != "softcap" and dtype == np.float64:
        beyond = np.nextafter(large, np.inf)
        with pytest.raises(ValueError, match=f"{name} must be in .* got {re.escape(str(beyond))}"):
            fs.cross_entropy(x, T, **{name: beyond})


@pytest.mark.parametrize("softcap", [1e39, sys.float_info.max, np.inf, float("inf"), np.float32("inf")])
def test_softcap_that_is_none(softcap):
    """A softcap that float32 has no number for caps none of its logits."""
    for function in LOSSES:
        np.testing.assert_equal(function(X, T, softcap=softcap), function(X, T))
    assert fs.linear_cross_entropy(X, W, T, softcap=softcap) == fs.linear_cross_entropy(X, W, T)


@pytest.mark.parametrize(
    "value",
    ["2", b"2", 1 + 0j, np.complex64(1), [1.0], np.ones(1), np.ones((1, 1)), Fails, object(), np.datetime64("now")],
    ids=lambda value: type(value).__name__,
)
@pytest.mark.parametrize("name", ["label_smoothing", "z_loss", "focal_gamma", "temperature", "softcap"])
def test_options_that_are_no_numbers(name, value):
    value = Fails() if value is Fails else value  # which pytest cannot look at
    with pytest.raises(TypeError, match=f"{name} must be a number"):
        fs.cross_entropy(X, T, **{name: value})


@pytest.mark.parametrize("value", [Fraction(1, 2), Decimal("0.5"), np.float16(0.5), np.array(0.5), True, 1])
def test_options_that_are_numbers(value):
    expected = fs.cross_entropy(X, T, label_smoothing=float(value))
    assert fs.cross_entropy(X, T, label_smoothing=value) == expected


@pytest.mark.parametrize("value", [np.array(["mean", "sum"]), ["mean"], b"mean", Fails, HUGE, np.nan])
def test_reductions_that_are_none(value):
    value = Fails() if value is Fails else value
    for function in (*LOSSES, lambda *given, **options: fs.linear_hessian_product(X, W, B, W, B, **options)):
        with pytest.raises(ValueError, match="reduction must be"):
            function(X, T, reduction=value)


@pytest.mark.parametrize("value", [10**5000, -HUGE], ids=["5001 digits", "401 digits"])
def test_integers_of_many_digits(value):
    """Python refuses to print more than 4300."""
    calls = {
        "ignore_index": lambda: fs.cross_entropy(X, T, ignore_index=value),
        "axis": lambda: fs.softmax(X, value),
        "z_loss": lambda: fs.cross_entropy(X, T, z_loss=value),
        "k": lambda: fs.linear_top_k(X, W, k=value),
        "rows": lambda: fs.workspace_bytes(value, 3, 3),
        "grad_output": lambda: fs.cross_entropy_and_grad(X, T, grad_output=value),
        "class_weight": lambda: fs.cross_entropy(X, T, class_weight=[value, 1, 1]),
    }
    for name, call in calls.items():
        with pytest.raises((TypeError, ValueError), match=name):
            call()


def test_large_blocks():
    assert fs.linear_cross_entropy(X, W, T, block_rows=HUGE) == fs.linear_cross_entropy(X, W, T)


@every_array
def test_objects_that_fail(call, name):
    function, given = CALLS[call]
    with pytest.raises(TypeError, match=re.escape(name)):
        function(**given | {name: Fails()})


def test_tensors():
    torch = pytest.importorskip("torch")
    x = torch.ones(4, 3, requires_grad=True)
    for value in (x, x.to(torch.bfloat16), x.detach().to_sparse()):
        with pytest.raises(TypeError, match="x must be an array of numbers") as error:
            fs.softmax(value)
        np.testing.assert_allclose(fs.softmax(advised(error, x=value)), np.full((4, 3), 1 / 3), rtol=1e-6)
    np.testing.assert_allclose(fs.softmax(x.detach()), np.full((4, 3), 1 / 3), rtol=1e-6)
    assert fs.cross_entropy(X, T, temperature=torch.tensor(2.0)) == fs.cross_entropy(X, T, temperature=2.0)
    with pytest.raises(TypeError, match="temperature must be a number"):
        fs.cross_entropy(X, T, temperature=torch.ones(2))
    with pytest.raises(TypeError, match="ignore_index must be an integer"):
        fs.cross_entropy(X, T, ignore_index=torch.ones(2, requires_grad=True))


def test_sparse_matrices_of_one_axis():
    one = scipy.sparse.coo_array(X[0])
    for x in (one, one.tocsr() if hasattr(one, "tocsr") else one):
        with pytest.raises((TypeError, ValueError), match="x must"):
            fs.linear_predict(x, W)


@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
@pytest.mark.parametrize("target", [T, SMOOTH], ids=["indices", "probabilities"])
def test_functions_work_whatever_numpy_does_about_infinities(target, reduction):
    """`numpy.seterr(all="raise")` in the caller's process is for the caller's own operations."""
    x = np.array([[1e38, -3e38, 0], [1e-40, 0, 1e-45], [np.inf, 0, 1], [-np.inf, 0, 1]], np.float32)
    with np.errstate(over="ignore"):
        half, wide = x.astype(np.float16), x.astype(float) * 1e30
    options = {"sample_weight": [1e-60, 1e-50, 1, 1], "class_weight": [1e-50, 1, 1], "reduction": reduction}

    def all_calls():
        yield from (f(x) for f in (fs.softmax, fs.log_softmax, fs.logsumexp))
        yield from (f(half, (0, 1)) for f in (fs.softmax, fs.logsumexp))
        yield from (f(x, wide) for f in (fs.softmax_vjp, fs.log_softmax_vjp))
        yield fs.cross_entropy(x, target, **options)
        yield from fs.cross_entropy_and_grad(x, target, **options, grad_output=1e-40)
        yield from fs.cross_entropy_and_grad(x, target, reduction=reduction)
        yield from fs.linear_cross_entropy_and_grad(x, np.eye(3, dtype=np.float32), target, **options)
        yield fs.linear_cross_entropy(half, np.eye(3, dtype=np.float16), target, **options)
        if reduction != "none":
            yield from fs.linear_hessian_product(
                *(x, W, B, W.astype(float) * 1e30, B), sample_weight=options["sample_weight"], reduction=reduction
            )
        yield fs.linear_predict_proba(x, W, B)
        yield from fs.linear_top_k(x, W, B, k=2)

    with np.errstate(all="ignore"):
        expected = list(all_calls())
    with np.errstate(all="raise"):
        for _ in range(2):  # the second time as prepared calls
            for a, b in zip(all_calls(), expected, strict=True):
                np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_losses_beyond_the_dtype_of_the_loss(dtype):
    """They are infinite, and NumPy has nothing to say about it: of a first call, and of a prepared one."""
    x = np.zeros((300, 3), dtype)
    x[:, 0] = np.finfo(dtype).max / 4
    for _ in range(2):
        loss = fs.cross_entropy(x, np.ones(300, int), reduction="sum")
        assert (loss, type(loss)) == (np.inf, dtype)


WEIGHTS = {"sample_weight": np.array([1.0, 2.0, 0.5, 4.0]), "class_weight": np.array([1.0, 0.5, 3.0])}


@pytest.mark.parametrize("name", WEIGHTS)
@pytest.mark.parametrize("scale", [1e-300, 1e-50, 1e-40, 1e30, 1e39, 1e300])
def test_weights_whose_ratios_alone_matter(name, scale):
    """A mean divides by their sum: the unit that they are given in is nothing to it."""
    power = 2.0 ** round(np.log2(scale))
    given = {key: value * (power if key == name else 1) for key, value in WEIGHTS.items()}
    for smoothing in (0.0, 0.1):
        expected = fs.cross_entropy_and_grad(X, T, **WEIGHTS, label_smoothing=smoothing)
        found = fs.cross_entropy_and_grad(X, T, **given, label_smoothing=smoothing)
        np.testing.assert_equal(found, expected)
    linear = fs.linear_cross_entropy_and_grad(X, np.eye(3, dtype=np.float32), T, **given)
    np.testing.assert_equal(linear, fs.linear_cross_entropy_and_grad(X, np.eye(3, dtype=np.float32), T, **WEIGHTS))
    if name == "sample_weight":
        soft = fs.cross_entropy(X, SMOOTH, sample_weight=given[name])
        np.testing.assert_equal(soft, fs.cross_entropy(X, SMOOTH, sample_weight=WEIGHTS[name]))
        product = fs.linear_hessian_product(X, W, B, W, B, sample_weight=given[name])
        np.testing.assert_equal(product, fs.linear_hessian_product(X, W, B, W, B, sample_weight=WEIGHTS[name]))


def test_weights_that_add_up_to_infinity():
    x = X.astype(np.float64)
    for weights in ({"sample_weight": np.full(4, 1e308)}, {"class_weight": np.full(3, 1e308)}):
        np.testing.assert_allclose(fs.cross_entropy(x, T, **weights), fs.cross_entropy(x, T), rtol=1e-14)
    np.testing.assert_allclose(
        fs.linear_hessian_product(x, W, B, W, B, sample_weight=np.full(4, 1e308)).weight,
        fs.linear_hessian_product(x, W, B, W, B).weight,
        rtol=1e-12,
    )


def test_large_weights_of_ignored_rows():
    """They have no part in the sum, nor in what the others are scaled by."""
    given = {"sample_weight": np.array([1.0, 2.0, 1e300, 4.0]), "ignore_index": 2}
    expected = fs.cross_entropy_and_grad(X, T, sample_weight=WEIGHTS["sample_weight"], ignore_index=2)
    np.testing.assert_equal(fs.cross_entropy_and_grad(X, T, **given), expected)


@pytest.mark.parametrize("reduction", ["sum", "none"])
def test_weights_that_multiply_as_they_are(reduction):
    for name, weights in WEIGHTS.items():
        wrong = weights.copy()
        wrong[1] = 1e39
        with pytest.raises(ValueError, match=re.escape(f"{name} must hold numbers up to 3.4e+38")) as error:
            fs.cross_entropy(X, T, **{name: wrong}, reduction=reduction)
        assert "got 1e+39 at (1,)" in str(error.value)
        fs.cross_entropy(X, T, **{name: wrong / wrong.max()}, reduction=reduction)
    for up in (1e39, [1.0, -1e39, 1.0, 1.0]):
        if reduction == "none" or up == 1e39:
            with pytest.raises(ValueError, match="grad_output must hold numbers up to"):
                fs.cross_entropy_and_grad(X, T, reduction=reduction, grad_output=up)
    assert np.isinf(fs.cross_entropy_and_grad(X, T, reduction=reduction, grad_output=np.inf).grad[:, 0]).all()


def test_upstream_gradients_of_half_logits():
    """They are read in the computing precision: a half type would make these infinite, or equal."""
    x, up = X.astype(np.float16), np.array([1e5, 1e5 + 1, 1e-9, 2.0**-30])
    for function, operands in (
        (fs.cross_entropy_and_grad, (x, T)),
        (fs.linear_cross_entropy_and_grad, (x, np.eye(3, dtype=np.float16), T)),
    ):
        options = {} if function is fs.cross_entropy_and_grad else {"wrt": "x"}
        found = function(*operands, reduction="none", grad_output=up, **options)[1]
        exact = reference.cross_entropy_and_grad(x, T, reduction="none", grad_output=up).grad
        with np.errstate(over="ignore"):
            np.testing.assert_allclose(found.astype(float), exact.astype(np.float16), rtol=2e-3, atol=1e-7)


def test_progress_where_there_is_no_standard_error(monkeypatch, capsys):
    """As under pythonw."""
    from fastsoftmax import SoftmaxRegression

    monkeypatch.setattr(sys, "stderr", None)
    x, y = np.random.default_rng(0).standard_normal((40, 3)), np.arange(40) % 3
    SoftmaxRegression(verbose=1).fit(x, y)
    assert fs.warmup(["float32"]) > 0
    monkeypatch.undo()
    assert capsys.readouterr().out == ""
