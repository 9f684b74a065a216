"""SoftmaxRegression against scikit-learn's LogisticRegression and independent formulas."""

import itertools
import pickle
import tracemalloc
from functools import cache

import numpy as np
import pytest
import scipy.sparse
import scipy.special
import sklearn
import threadpoolctl
from numpy.random import RandomState
from sklearn import datasets
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import log_loss
from sklearn.model_selection import train_test_split
from threadpoolctl import threadpool_limits

from fastsoftmax import SoftmaxRegression
from fastsoftmax.regression import inputs, nesterov, sgd
from fastsoftmax.regression.objective import Data, Loss
from tests.pairs import exhaustive_but
from tests.support import child

SETS = {
    "iris": datasets.load_iris,
    "wine": datasets.load_wine,
    "breast cancer": datasets.load_breast_cancer,
    "digits": datasets.load_digits,
}
BATCH_SOLVERS = ["lbfgs", "newton-cg"]
SOLVERS = [*BATCH_SOLVERS, "sgd"]
TIGHT = {"tol": 1e-9, "max_iter": 3000}


def load(name):
    return SETS[name](return_X_y=True)


def weights(n):
    drawn = np.random.default_rng(3).uniform(0.2, 3, n)
    drawn[::7] = 0
    return drawn


def objective(model, x, y, sample_weight=None, smoothing=0.0, c=1.0):
    """The objective of a fitted model in float64, by its definition."""
    z = np.asarray(x @ model.coef_.T.astype(np.float64)) + model.intercept_
    if len(model.classes_) == 2:
        z = np.concatenate([np.zeros_like(z), z], axis=1)
    q = (np.asarray(y)[:, None] == model.classes_) * (1 - smoothing) + smoothing / z.shape[1]
    losses = -(q * scipy.special.log_softmax(z, axis=1)).sum(axis=1)
    s = np.ones(len(y)) if sample_weight is None else sample_weight
    return (s @ losses) / s.sum() + (model.coef_.astype(np.float64) ** 2).sum() / (2 * c * s.sum())


def exact(x, y, sample_weight=None, **options):
    """LogisticRegression's coefficients by a solver that finds the optimum to rounding."""
    model = LogisticRegression(solver="newton-cholesky", tol=1e-10, max_iter=1000, **options)
    with threadpool_limits(1):  # two threads of BLAS wait for each other for ten seconds
        return model.fit(x, y, sample_weight)


@cache
def exact_of(name):
    """In float64: in float32 LogisticRegression stalls short of the optimum."""
    return exact(*load(name))


def assert_same(model, other, tolerance=1e-4):
    assert model.coef_.shape == other.coef_.shape
    assert model.intercept_.shape == other.intercept_.shape
    np.testing.assert_allclose(model.coef_, other.coef_, rtol=0, atol=tolerance)
    # All intercepts together may be moved alike: the softmax is the same.
    free = len(model.classes_) > 2
    ours = model.intercept_ - (model.intercept_.mean() if free else 0)
    theirs = other.intercept_ - (other.intercept_.mean() if free else 0)
    np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=tolerance)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("solver", BATCH_SOLVERS)
@pytest.mark.parametrize("name", SETS)
def test_coefficients_are_those_of_logistic_regression(name, solver, dtype):
    x, y = load(name)
    model = SoftmaxRegression(solver=solver, **TIGHT).fit(x.astype(dtype), y)
    assert model.coef_.dtype == model.intercept_.dtype == dtype
    assert_same(model, exact_of(name))
    if len(model.classes_) > 2:
        assert abs(model.intercept_.sum()) < 1e-4


@pytest.mark.parametrize("form", [np.asarray, scipy.sparse.csr_array, scipy.sparse.csc_matrix])
@pytest.mark.parametrize("solver", BATCH_SOLVERS)
@pytest.mark.parametrize("name", ["iris", "breast cancer"])
def test_weights_and_sparse_features(name, solver, form):
    x, y = load(name)
    x = x - (x.max(axis=0) + x.min(axis=0)) / 2
    for options, sample_weight in (
        ({"class_weight": "balanced"}, None),
        ({"class_weight": {0: 0.3, 1: 2.0}}, weights(len(y))),
        ({"class_weight": "balanced", "C": 0.1}, weights(len(y))),
        ({"fit_intercept": False, "C": 20.0}, weights(len(y))),
    ):
        model = SoftmaxRegression(solver=solver, **options, **TIGHT).fit(form(x), y, sample_weight)
        assert_same(model, exact(x, y, sample_weight, **options))


@pytest.mark.parametrize("solver", BATCH_SOLVERS)
def test_no_penalty(solver):
    x, y = datasets.make_classification(400, 6, n_informative=5, n_redundant=0, n_classes=3, random_state=0)
    model = SoftmaxRegression(C=np.inf, solver=solver, **TIGHT).fit(x, y)
    other = LogisticRegression(C=np.inf, tol=1e-10, max_iter=5000).fit(x, y)
    assert_same(model, other)


@pytest.mark.parametrize("smoothing", [0.0, 0.2])
@pytest.mark.parametrize("name", ["iris", "breast cancer"])
def test_loss_curve_is_the_objective(name, smoothing):
    x, y = load(name)
    model = SoftmaxRegression(label_smoothing=smoothing, C=0.3, **TIGHT).fit(x, y, weights(len(y)))
    expected = objective(model, x, y, weights(len(y)), smoothing, 0.3)
    assert model.loss_curve_[-1] == pytest.approx(expected, rel=1e-9)
    assert model.n_iter_ == len(model.loss_curve_)
    assert model.loss_curve_[0] > expected
    rng = np.random.default_rng(0)
    best, best_intercept = model.coef_, model.intercept_
    for _ in range(10):  # it is a minimum
        model.coef_ = best + 1e-3 * rng.standard_normal(best.shape) / np.abs(x).max(axis=0)
        model.intercept_ = best_intercept + 1e-3 * rng.standard_normal(best_intercept.shape)
        assert objective(model, x, y, weights(len(y)), smoothing, 0.3) > expected


def test_float32_is_polished_in_float64():
    """60 classes of 3000 rows: large enough for passes in float32, which alone leave gradients of 1e-7."""
    x, y = datasets.make_classification(6000, 60, n_informative=30, n_classes=30, random_state=0)
    x = x.astype(np.float32)
    narrow = SoftmaxRegression(tol=1e-8, max_iter=1000).fit(x, y)
    wide = SoftmaxRegression(tol=1e-8, max_iter=1000).fit(x.astype(np.float64), y)
    assert_same(narrow, wide, 1e-5)


@pytest.mark.parametrize("name", SETS)
def test_predictions(name):
    x, y = load(name)
    model = SoftmaxRegression(max_iter=1000).fit(x, y)
    other = LogisticRegression()
    other.classes_, other.coef_, other.intercept_ = model.classes_, model.coef_, model.intercept_
    other.n_features_in_ = x.shape[1]
    np.testing.assert_array_equal(model.predict(x), other.predict(x))
    for method in ("decision_function", "predict_proba"):
        ours, theirs = getattr(model, method)(x), getattr(other, method)(x)
        assert ours.shape == theirs.shape
        np.testing.assert_allclose(ours, theirs, rtol=1e-10, atol=1e-12)
    # The logarithm of a probability of two that was taken from 1 has lost its digits: not the same as theirs.
    logits = other.decision_function(x)
    logits = logits if logits.ndim == 2 else np.stack([np.zeros_like(logits), logits], axis=1)
    expected = scipy.special.log_softmax(logits.astype(np.longdouble), axis=1).astype(np.float64)
    np.testing.assert_allclose(model.predict_log_proba(x), expected, rtol=1e-10, atol=1e-12)
    assert model.score(x, y) == other.score(x, y)


def test_labels_of_any_type():
    x, y = load("iris")
    names = np.array(["setosa", "versicolor", "virginica"])
    model = SoftmaxRegression().fit(x, names[y])
    assert list(model.classes_) == list(names)
    np.testing.assert_array_equal(model.predict(x), names[SoftmaxRegression().fit(x, y).predict(x)])


@pytest.mark.parametrize("solver", SOLVERS)
def test_warm_start(solver):
    x, y = load("iris")
    model = SoftmaxRegression(solver=solver, warm_start=True, max_iter=5000).fit(x, y)
    first, cold = model.n_iter_, model.loss_curve_[0]
    model.fit(x, y)
    assert model.n_iter_ < first / 2
    assert model.loss_curve_[0] < cold
    with pytest.raises(ValueError, match="warm_start"):
        model.fit(x[:, :2], y)
    assert model.set_params(fit_intercept=False).fit(x, y).intercept_.tolist() == [0, 0, 0]


# The optima of the objective, to which descent is compared, are those that lbfgs finds.
DATA = [("iris", 0.01), ("wine", 0.02), ("breast cancer", 0.02), ("digits", 0.05)]


@pytest.mark.parametrize(("name", "gap"), exhaustive_but(DATA[:3], DATA))
@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
def test_descent_needs_no_tuning(name, gap):
    """Features as they are, of scales from 0.01 to 1000."""
    x, y = load(name)
    best = SoftmaxRegression(max_iter=1000).fit(x, y)
    model = SoftmaxRegression(solver="sgd", batch_size=64, random_state=0).fit(x, y)
    assert objective(model, x, y) < objective(best, x, y) + gap
    again = SoftmaxRegression(solver="sgd", batch_size=64, random_state=0).fit(x, y)
    np.testing.assert_array_equal(model.coef_, again.coef_)
    other = SoftmaxRegression(solver="sgd", batch_size=64, random_state=1).fit(x, y)
    assert (model.coef_ != other.coef_).any()


def test_descent_by_one_batch_ends_at_the_optimum():
    x, y = load("wine")
    model = SoftmaxRegression(solver="sgd", tol=1e-7, max_iter=100_000, random_state=0).fit(x, y)
    np.testing.assert_allclose(model.coef_, exact(x, y).coef_, rtol=0, atol=1e-4)


def test_weighted_batches_have_the_right_mean():
    """Gradients of the batches of an epoch average to that of all rows, however their weights fall into batches."""
    x, y = load("iris")
    s = np.random.default_rng(0).lognormal(0, 2, len(y))
    data = Data(x, y, s)
    theta = np.random.default_rng(1).standard_normal((3, 5))
    loss, schedule = Loss(3, 1e-3, 0.0, True, np.float64), nesterov.Schedule(50, None, 0.9)
    descent = sgd.Descent(data, loss, theta, schedule, None, RandomState(0))
    results = [descent.stepper.loss(batch, theta, scale) for batch, scale in descent.batches()]
    assert len(results) == 3
    value, grad = descent.stepper.loss(data, theta)
    assert np.mean([v for v, _ in results]) == pytest.approx(value, rel=1e-12)
    np.testing.assert_allclose(np.mean([g for _, g in results], axis=0), grad, rtol=1e-10)


def test_descent_slows_down_to_converge():
    """A constant step size stays at the distance from the optimum that the noise of batches keeps it at."""
    x, y = load("digits")
    model = SoftmaxRegression(solver="sgd", C=0.01, tol=1e-5, max_iter=1000, batch_size=64, random_state=0).fit(x, y)
    best = SoftmaxRegression(C=0.01, max_iter=1000).fit(x, y)
    assert objective(model, x, y, c=0.01) < 1.003 * objective(best, x, y, c=0.01)


def test_early_stopping():
    x, y = load("digits")
    rng = np.random.default_rng(0)
    noisy = np.where(rng.uniform(size=len(y)) < 0.3, rng.integers(0, 10, len(y)), y)
    options = {"solver": "sgd", "C": 1e4, "batch_size": 128, "random_state": 0, "max_iter": 300}
    model = SoftmaxRegression(early_stopping=True, **options).fit(x, noisy)
    curve = model.validation_loss_curve_
    assert len(curve) == model.n_iter_ < 100
    best = int(np.argmin(curve))
    assert best < len(curve) - 1  # it went on for a while, and back to the best
    _, held_out = train_test_split(np.arange(len(y)), test_size=0.1, stratify=noisy, random_state=RandomState(0))
    assert log_loss(noisy[held_out], model.predict_proba(x[held_out])) == pytest.approx(curve[best], rel=1e-9)


def chunks(x, y, size, epochs):
    rng = np.random.default_rng(0)
    for _ in range(epochs):
        order = rng.permutation(len(y))
        for first in range(0, len(y), size):
            rows = order[first : first + size]
            yield x[rows], y[rows]


@pytest.mark.parametrize("form", exhaustive_but([np.asarray], [np.asarray, scipy.sparse.csr_array]))
def test_online_learning_approaches_the_fit(form):
    """Each row counts as new: after 30 epochs the penalty is that of 30 times C.  Objectives agree to 2 %."""
    x, y = load("digits")
    x = x / 16
    model = SoftmaxRegression(C=0.01)
    for part, labels in chunks(x, y, 100, 30):
        model.partial_fit(form(part), labels, classes=np.arange(10))
    assert model.n_iter_ == len(model.loss_curve_) == 30 * 18
    best = SoftmaxRegression(C=0.3, max_iter=1000).fit(x, y)
    assert objective(model, x, y, c=0.3) < 1.02 * objective(best, x, y, c=0.3)


def test_online_learning_row_by_row():
    x, y = load("iris")
    model = SoftmaxRegression(random_state=0)
    for part, labels in chunks(x, y, 1, 3):
        model.partial_fit(part, labels, classes=[0, 1, 2])
    assert model.score(x, y) > 0.9
    again = pickle.loads(pickle.dumps(model))
    np.testing.assert_array_equal(again.partial_fit(x, y).coef_, model.partial_fit(x, y).coef_)


def test_online_learning_goes_on_from_a_fit():
    x, y = load("iris")
    model = SoftmaxRegression().fit(x, y)
    before, accuracy = model.coef_.copy(), model.score(x, y)
    model.partial_fit(x, y)
    assert 0 < np.abs(model.coef_ - before).max() < 0.5
    assert model.score(x, y) > accuracy - 0.05


def test_rules_of_online_learning():
    x, y = load("iris")
    with pytest.raises(ValueError, match="classes must be passed on the first call"):
        SoftmaxRegression().partial_fit(x, y)
    with pytest.raises(ValueError, match="balanced"):
        SoftmaxRegression(class_weight="balanced").partial_fit(x, y, classes=[0, 1, 2])
    with pytest.raises(ValueError, match=r"out of classes=\[0, 1\], got \[2\]"):
        SoftmaxRegression().partial_fit(x, y, classes=[0, 1])
    with pytest.raises(ValueError, match="at least two labels"):
        SoftmaxRegression().partial_fit(x, y * 0, classes=[0])
    model = SoftmaxRegression().partial_fit(x[:5], y[:5], classes=[2, 0, 1])
    assert model.classes_.tolist() == [0, 1, 2]
    with pytest.raises(ValueError, match="those of the first call"):
        model.partial_fit(x, y, classes=[0, 1, 2, 3])
    with pytest.raises(ValueError, match="features"):
        model.partial_fit(x[:, :2], y)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("C", 0),
        ("C", "1"),
        ("label_smoothing", 1.1),
        ("solver", "saga"),
        ("tol", -1e-4),
        ("max_iter", 0),
        ("max_iter", 10.0),
        ("batch_size", 0),
        ("learning_rate", "constant"),
        ("learning_rate", 0.0),
        ("momentum", 1.0),
        ("class_weight", "balance"),
        ("C", True),
    ],
)
def test_bad_parameters_are_named(name, value):
    x, y = load("iris")
    with pytest.raises(ValueError, match=f"^{name} must be .*, got {value!r}$"):
        SoftmaxRegression(**{name: value}).fit(x, y)


def test_bad_weights_and_classes():
    x, y = load("iris")
    with pytest.raises(ValueError, match=r"got -1\.0 at 3"):
        SoftmaxRegression().fit(x, y, np.where(np.arange(150) == 3, -1.0, 1.0))
    with pytest.raises(ValueError, match=r"weight.*(non-zero|must be positive)"):
        SoftmaxRegression().fit(x, y, np.zeros(150))
    with pytest.raises(ValueError, match="one class"):
        SoftmaxRegression().fit(x, y * 0)


@pytest.mark.parametrize("solver", SOLVERS)
def test_no_convergence_is_warned_of(solver):
    x, y = load("wine")
    with pytest.warns(ConvergenceWarning, match=f"{solver} did not converge in max_iter=3"):
        model = SoftmaxRegression(solver=solver, max_iter=3, tol=1e-8, random_state=0).fit(x, y)
    assert model.n_iter_ == len(model.loss_curve_) == 3


def test_half_precision_is_computed_in_float32():
    x, y = load("iris")
    half = x.astype(np.float16)
    model = SoftmaxRegression(**TIGHT).fit(half, y)
    assert model.coef_.dtype == np.float32
    assert_same(model, exact(half.astype(np.float64), y))
    assert model.predict_proba(half).dtype == np.float32


@pytest.mark.parametrize("solver", SOLVERS)
def test_progress_in_a_pipe_is_plain_lines(solver, capsys):
    x, y = load("iris")
    model = SoftmaxRegression(solver=solver, verbose=1, max_iter=1000, random_state=0).fit(x, y)
    out, err = capsys.readouterr()
    assert out == ""
    assert err.isprintable() is False
    lines = err.splitlines()
    assert all(line.isprintable() for line in lines)
    numbers = [int(line.split()[1].rstrip(":")) for line in lines]
    doubling = [k for k in (2**p for p in range(12)) if k <= model.n_iter_]
    assert numbers == sorted({*doubling, model.n_iter_})
    assert f"loss {model.loss_curve_[-1]:.6g}" in lines[-1]
    SoftmaxRegression(solver=solver, max_iter=1000, random_state=0).fit(x, y)
    assert capsys.readouterr() == ("", "")


def test_progress_on_a_terminal_is_a_bar(capsys, monkeypatch):
    monkeypatch.setattr("sys.stderr.isatty", lambda: True)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "120")
    x, y = load("iris")
    SoftmaxRegression(verbose=1).fit(x, y)
    out, err = capsys.readouterr()
    assert out == ""
    assert "/100" in err
    assert "gradient" in err
    assert "iteration" not in err


@pytest.mark.skipif(
    tuple(map(int, sklearn.__version__.split(".")[:2])) < (1, 9), reason="scikit-learn has callbacks since 1.9"
)
@pytest.mark.parametrize("solver", SOLVERS)
def test_callbacks(solver):
    x, y = load("iris")
    seen = []

    class Watch:
        """Records losses of the models that are handed out, and stops the fit after five."""

        def setup(self, estimator, context):
            seen.append("setup")

        def on_fit_task_begin(self, estimator, context):
            seen.append("begin")

        def on_fit_task_end(self, estimator, context, *, fitted_estimator):
            if context.parent is None:
                seen.append("end of fit")
                return False
            if fitted_estimator is not None:
                seen.append(objective(fitted_estimator, x, y))
            return sum(isinstance(entry, float) for entry in seen) == 5

        def teardown(self, estimator, context):
            seen.append("teardown")

    model = SoftmaxRegression(solver=solver, random_state=0).set_callbacks(Watch()).fit(x, y)
    losses = [entry for entry in seen if isinstance(entry, float)]
    assert model.n_iter_ == len(losses) == 5
    assert losses[-1] < losses[0]
    assert losses[-1] == pytest.approx(objective(model, x, y), rel=1e-6)
    assert (seen[0], seen[1], seen[-2], seen[-1]) == ("setup", "begin", "end of fit", "teardown")
    assert seen.count("begin") == 1 + 5 + 1


def test_without_scikit_learn_it_is_one_clear_error():
    code = """
import sys
sys.modules["sklearn"] = None
import fastsoftmax
assert "SoftmaxRegression" in dir(fastsoftmax)
try:
    fastsoftmax.SoftmaxRegression
except ImportError as error:
    print(error)
try:
    fastsoftmax.SoftmaxClassifier
except AttributeError as error:
    print(error)
"""
    done = child(code)
    assert (done.returncode, done.stderr) == (0, "")
    first, second = done.stdout.splitlines()
    assert first.endswith("install it with: pip install scikit-learn rich")
    assert second == "module 'fastsoftmax' has no attribute 'SoftmaxClassifier'"


LARGER_THAN_MEMORY = """
import resource, sys, warnings
import numpy as np
from fastsoftmax import SoftmaxRegression, softmax
path, solver, dtype, order, n, d = *sys.argv[1:5], *map(int, sys.argv[5:])
warnings.simplefilter("ignore")
x = np.memmap(path, dtype, "r", shape=(n, d), order=order)
y = np.arange(n) % 5
model = SoftmaxRegression(solver=solver, max_iter=2, batch_size=256, random_state=0)
model.fit(x[:20000], y[:20000]).predict(x[:20000])  # loads kernels and libraries
softmax(np.zeros((4096, 5), dtype))  # and the kernel that a sample of more rows is worth
used = int(next(l for l in open("/proc/self/status") if l.startswith("VmData")).split()[1]) << 10
resource.setrlimit(resource.RLIMIT_DATA, (used + (64 << 20),) * 2)
try:
    np.array(x)
except MemoryError:
    print("limited")
model.fit(x, y)
model.partial_fit(x, y)
model.predict(x)
print(model.score(x, y) > 0.9)
"""


MAPPED = [*itertools.product(SOLVERS, "C"), ("lbfgs", "F")]


@pytest.mark.parametrize(("solver", "order"), exhaustive_but([("lbfgs", "C")], MAPPED))
def test_memmap_larger_than_memory(tmp_path, solver, order):
    """Features of 100 MB in a process that may have 64 MB more than it has after a small fit."""
    n, d = 100_000, 256
    x = np.memmap(tmp_path / "x", np.float32, "w+", shape=(n, d), order=order)
    rng = np.random.default_rng(0)
    for first in range(0, n, 20_000):
        x[first : first + 20_000] = rng.standard_normal((20_000, d), dtype=np.float32)
    x[:, :5] += 4 * np.eye(5, dtype=np.float32)[np.arange(n) % 5]
    x.flush()
    done = child(LARGER_THAN_MEMORY, str(tmp_path / "x"), solver, "float32", order, str(n), str(d))
    assert (done.returncode, done.stdout) == (0, "limited\nTrue\n"), done.stderr


PLACES = list(itertools.product(SOLVERS, ["C", "F", "strided"]))


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
@pytest.mark.parametrize(("solver", "layout"), exhaustive_but(PLACES[::4], PLACES))
def test_memory_does_not_grow_with_classes_or_features(solver, layout):
    """At 20000×128×200 in float32 X has 10 MB, and the logits would have 16."""
    n, d, k = 20_000, 128, 200
    rng = np.random.default_rng(0)
    x = rng.standard_normal((n, d), dtype=np.float32)
    if layout == "F":
        x = np.asfortranarray(x)
    elif layout == "strided":
        x = np.repeat(x, 2, axis=1)[:, ::2]
    y = rng.integers(0, k, n)
    model = SoftmaxRegression(solver=solver, max_iter=2)
    model.fit(x[:5000], y[:5000])  # more than coordinates are measured on: the same kernels are loaded
    tracemalloc.start()
    try:
        model.fit(x, y)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    vectors = 60 * 8 * k * (d + 1)  # of L-BFGS: 25, and of its callers
    assert peak < vectors + 8 * x.shape[0] * 4 + (8 << 20)


@pytest.mark.parametrize("solver", ["lbfgs", "newton-cg", "sgd"])
def test_threads_of_blas_are_as_they_were(solver):
    """A fit holds them: they would spin on the cores that its passes need."""
    x, y = datasets.load_iris(return_X_y=True)

    def threads():
        return [pool["num_threads"] for pool in threadpoolctl.threadpool_info() if pool["user_api"] == "blas"]

    with threadpoolctl.threadpool_limits(3, user_api="blas"):
        SoftmaxRegression(solver=solver, max_iter=500, random_state=0).fit(x, y)
        assert set(threads()) == {3}
        with pytest.raises(ValueError, match="one class"):
            SoftmaxRegression(solver=solver).fit(x, np.zeros(len(x)))
        assert set(threads()) == {3}


def _damaged(form):
    """A sparse matrix whose indices lead out of it, which SciPy does not see."""
    x = scipy.sparse.random(40, 30, 0.2, "csr", random_state=0, dtype=np.float32)
    x = x.tobsr((2, 3)) if form == "bsr" else x.asformat(form)
    if form == "coo":
        x.coords[1][5] = 1 << 30
    elif form == "lil":
        x.rows[5] = [1 << 30] * len(x.rows[5])
    else:
        x.indices[5] = 1 << 30
    return x


@pytest.mark.parametrize("form", ["csr", "csc", "bsr", "coo"])
def test_sparse_features_are_checked_in_a_copy_of_their_structure(form, monkeypatch):
    """Another thread that changes indices after they were checked does not lead SciPy's compiled code astray."""
    x = scipy.sparse.random(40, 30, 0.2, "csr", random_state=0, dtype=np.float32)
    x = x.tobsr((2, 3)) if form == "bsr" else x.asformat(form)
    y, seen, validate = np.arange(40) % 3, [], inputs.validate_data
    structure = list(x.coords) if form == "coo" else [x.indptr, x.indices]
    before = [a.copy() for a in structure]

    def recording(model, X, *args, **options):
        seen.append(X)
        result = validate(model, X, *args, **options)
        seen.append(result[0] if isinstance(result, tuple) else result)
        return result

    monkeypatch.setattr(inputs, "validate_data", recording)
    model = SoftmaxRegression(max_iter=500).fit(x, y)
    SoftmaxRegression(max_iter=500).partial_fit(x, y, [0, 1, 2])
    model.decision_function(x)
    assert len(seen) == 6
    for found in seen:
        parts = found.coords if found.format == "coo" else (found.indptr, found.indices)
        assert not any(np.shares_memory(a, b) for a in parts for b in structure)
    np.testing.assert_array_equal(seen[0].toarray(), x.toarray())
    now = x.coords if form == "coo" else (x.indptr, x.indices)
    for array, own, old in zip(now, structure, before, strict=True):
        assert array is own
        np.testing.assert_array_equal(own, old)


@pytest.mark.parametrize("form", ["csr", "csc", "bsr", "coo", "lil"])
def test_sparse_features_that_lead_out_of_the_matrix(form):
    """Nothing follows such indices: neither scikit-learn's conversions, nor SciPy's products and slices, nor ours."""
    good = scipy.sparse.random(40, 30, 0.2, "csr", random_state=0, dtype=np.float32)
    y = np.arange(40) % 3
    model = SoftmaxRegression(max_iter=500).fit(good, y)
    x = _damaged(form)
    calls = [SoftmaxRegression(solver=solver).fit for solver in SOLVERS]
    for call in (*calls, lambda x, y: SoftmaxRegression().partial_fit(x, y, [0, 1, 2])):
        with pytest.raises(ValueError, match=r"X must have indices in \[0, \d+\), got 1073741824 at "):
            call(x, y)
    for call in (model.predict, model.predict_proba, model.predict_log_proba, model.decision_function):
        with pytest.raises(ValueError, match=r"X must have indices in \[0, \d+\), got 1073741824 at "):
            call(x)
    if form in ("csr", "csc", "bsr"):
        x = good.tobsr((2, 3)) if form == "bsr" else good.asformat(form)
        x.indptr = x.indptr.astype(np.uint32)
        x.indptr[1] = 1 << 30  # differences without a sign are positive where these fall
        with pytest.raises(ValueError, match=r"X must be a valid [A-Z]{3} matrix with \d+ ascending numbers in indptr"):
            model.decision_function(x)
