"""SoftmaxRegression of rows whose classes are known by probabilities, against rows that are repeated for each class."""

import numpy as np
import pytest
import scipy.sparse
from sklearn import datasets
from sklearn.linear_model import LogisticRegression

from fastsoftmax import SoftmaxRegression

TIGHT = {"tol": 1e-9, "max_iter": 3000}


def drawn(classes, dtype=np.float64):
    """Features of iris, and probabilities of classes, some of them 0."""
    x = datasets.load_iris().data[::2].astype(dtype)
    p = np.random.default_rng(0).dirichlet(np.full(classes, 0.4), len(x))
    p[p < 0.02] = 0
    return x, (p / p.sum(axis=1, keepdims=True)).astype(dtype)


def repeated(x, p):
    """Rows for each class, with labels and weights, which have the same objective."""
    n, classes = p.shape
    return np.repeat(x, classes, axis=0), np.tile(np.arange(classes), n), p.ravel()


@pytest.mark.parametrize("form", [np.asarray, scipy.sparse.csr_array])
@pytest.mark.parametrize("solver", ["lbfgs", "newton-cg"])
@pytest.mark.parametrize("classes", [2, 3])
def test_the_optimum_is_that_of_repeated_rows(classes, solver, form):
    x, p = drawn(classes)
    rows, labels, weight = repeated(x, p)
    right = LogisticRegression(C=0.7, tol=1e-12, max_iter=10_000).fit(rows, labels, weight)
    model = SoftmaxRegression(C=0.7, solver=solver, **TIGHT).fit(form(x), p)
    np.testing.assert_array_equal(model.classes_, np.arange(classes))
    np.testing.assert_allclose(model.coef_, right.coef_, atol=1e-5)
    np.testing.assert_allclose(model.intercept_, right.intercept_, atol=1e-4)


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
@pytest.mark.parametrize("solver", ["lbfgs", "sgd"])
def test_certain_rows_are_labels(solver, dtype, smoothing):
    x, y = datasets.load_iris(return_X_y=True)
    made = {"solver": solver, "label_smoothing": smoothing, "random_state": 0, "early_stopping": True}
    weight = np.linspace(0.1, 2, len(y))
    model, right = (
        SoftmaxRegression(**made).fit(x.astype(np.float32), target, weight) for target in (np.eye(3, dtype=dtype)[y], y)
    )
    np.testing.assert_allclose(model.coef_, right.coef_, rtol=1e-4, atol=1e-5)
    assert len(model.loss_curve_) == len(right.loss_curve_)


def test_online_rows():
    x, p = drawn(3)
    rows, labels, weight = repeated(x, p)
    model, right = SoftmaxRegression(random_state=0, batch_size=10_000), SoftmaxRegression(batch_size=10_000)
    for _ in range(2):
        model.partial_fit(x, p)
        right.partial_fit(rows, labels, [0, 1, 2], weight)
    assert model.n_iter_ == 2
    np.testing.assert_allclose(model.predict_proba(x), right.predict_proba(x), atol=0.05)
    hard, soft = SoftmaxRegression(), SoftmaxRegression(classes=[2, 0, 1])
    y = p.argmax(axis=1)
    hard.partial_fit(x, y, [0, 1, 2])
    soft.partial_fit(x, np.eye(3)[y][:, [2, 0, 1]])
    np.testing.assert_allclose(soft.coef_, hard.coef_, rtol=1e-10)


def test_classes_name_the_columns():
    x, p = drawn(3)
    right = SoftmaxRegression().fit(x, p[:, [2, 0, 1]])
    model = SoftmaxRegression(classes=["b", "c", "a"]).fit(x, p)
    np.testing.assert_array_equal(model.classes_, ["a", "b", "c"])
    np.testing.assert_allclose(model.coef_, right.coef_, rtol=1e-12)
    right.fit_temperature(x, p[:, [2, 0, 1]])
    assert model.fit_temperature(x, p).temperature_ == pytest.approx(right.temperature_, rel=1e-9)
    assert set(model.predict(x)) <= {"a", "b", "c"}


def test_a_class_without_rows():
    """It gets what the penalty leaves of its coefficients, and is less probable than the others."""
    x, y = datasets.load_iris(return_X_y=True)
    model = SoftmaxRegression(classes=[0, 1, 2, 5]).fit(x, y)
    np.testing.assert_array_equal(model.classes_, [0, 1, 2, 5])
    assert model.predict_proba(x)[:, 3].max() < 0.02
    assert model.score(x, y) > 0.95


def test_what_are_no_probabilities():
    x, p = drawn(3)
    model = SoftmaxRegression()
    wrong = p.copy()
    wrong[4] *= 1.5
    for fit in (model.fit, model.partial_fit):
        with pytest.raises(
            ValueError, match=r"that add up to 1 in each row, got \[.*\] in row 4; divide rows by their"
        ):
            fit(x, wrong)
    wrong[3] = [-0.5, 0.5, 1.0]
    with pytest.raises(ValueError, match=r"at least 0 in each row, got \[-0.5, 0.5, 1.0\] in row 3"):
        model.fit(x, wrong)
    wrong[2, 1] = np.nan
    with pytest.raises(ValueError, match="NaN"):
        model.fit(x, wrong)
    with pytest.raises(ValueError, match="class_weight needs labels, but y holds probabilities"):
        SoftmaxRegression(class_weight="balanced").fit(x, p)
    for classes in ([0, 1], [0, 1, 1], [0, 1, 2, 3]):
        with pytest.raises(ValueError, match="classes must hold another label for each of y's 3 columns"):
            SoftmaxRegression(classes=classes).fit(x, p)
    with pytest.raises(ValueError, match=r"classes must be one-dimensional, or None, got shape \(\)"):
        SoftmaxRegression(classes=3).fit(x, p)
    with pytest.raises(ValueError, match=r"y must hold labels out of classes=\[0, 1\], got \[2\]"):
        SoftmaxRegression(classes=[0, 1]).fit(x, np.arange(len(x)) % 3)
    with pytest.raises(ValueError, match="classes must hold at least two labels"):
        SoftmaxRegression(classes=[0]).fit(x, np.zeros(len(x), int))
    with pytest.raises(ValueError, match="1d array"):
        model.fit(x, np.eye(3, dtype=int)[np.arange(len(x)) % 3])
