"""The temperature of a fitted model, and sparse coefficients, against scikit-learn and by definition."""

import pickle

import numpy as np
import pytest
import scipy.optimize
import scipy.sparse
import scipy.special
from sklearn import datasets
from sklearn.calibration import CalibratedClassifierCV
from sklearn.exceptions import ConvergenceWarning, NotFittedError
from sklearn.frozen import FrozenEstimator

from fastsoftmax import SoftmaxRegression


def halves(name, *, noise=0.3):
    """A set of which labels were drawn anew in part, so that no model is sure of itself with right: two halves."""
    x, y = getattr(datasets, f"load_{name}")(return_X_y=True)
    random = np.random.default_rng(1)
    y = np.where(random.random(len(y)) < noise, random.permutation(y), y)
    x = (x - x.mean(axis=0)) / (x.std(axis=0) + 1e-9)
    return x[::2], y[::2], x[1::2], y[1::2]


def logits(model, x):
    z = model.decision_function(x).astype(np.float64)
    return z if z.ndim == 2 else np.stack([np.zeros_like(z), z], axis=1)


def by_definition(model, x, y, weight=None):
    """The temperature by a search that knows nothing of derivatives."""
    z = logits(model, x)

    def loss(log_t):
        log_p = scipy.special.log_softmax(z / np.exp(log_t), axis=1)
        return -np.average(log_p[np.arange(len(y)), np.searchsorted(model.classes_, y)], weights=weight)

    return np.exp(scipy.optimize.minimize_scalar(loss, bounds=(-10, 10), options={"xatol": 1e-12}).x)


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("name", ["breast_cancer", "wine", "digits"])
def test_the_loss_is_smallest(name, weighted):
    x, y, xt, yt = halves(name)
    weight = np.random.default_rng(2).integers(0, 3, len(yt)).astype(float) if weighted else None
    model = SoftmaxRegression(C=100).fit(x, y)
    before = model.decision_function(xt)
    assert model.fit_temperature(xt, yt, weight) is model
    np.testing.assert_allclose(model.temperature_, by_definition(model, xt, yt, weight), rtol=1e-6)
    assert abs(model.temperature_ - 1) > 0.05
    expected = scipy.special.softmax(logits(model, xt) / model.temperature_, axis=1)
    np.testing.assert_allclose(model.predict_proba(xt), expected, rtol=1e-11)
    np.testing.assert_allclose(model.predict_log_proba(xt), np.log(expected), rtol=1e-10)
    np.testing.assert_array_equal(model.decision_function(xt), before)
    np.testing.assert_array_equal(model.predict(xt), model.classes_[expected.argmax(axis=1)])


@pytest.mark.parametrize("name", ["breast_cancer", "digits"])
def test_probabilities_are_those_of_scikit_learn(name):
    x, y, xt, yt = halves(name)
    model = SoftmaxRegression(C=100).fit(x, y)
    try:
        theirs = CalibratedClassifierCV(FrozenEstimator(model), method="temperature").fit(xt, yt)
    except ValueError as error:  # scikit-learn before 1.8
        pytest.skip(str(error).partition("\n")[0])
    expected = theirs.predict_proba(xt)
    assert np.abs(model.predict_proba(xt) - expected).max() > 1e-3
    np.testing.assert_allclose(model.fit_temperature(xt, yt).predict_proba(xt), expected, atol=1e-4)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("form", ["csr_array", "csc_array"])
def test_sparse_features_and_string_labels(form, dtype):
    x, y, xt, yt = halves("wine")
    names = np.array(["a", "b", "c"])
    model = SoftmaxRegression(C=100).fit(x.astype(dtype), names[y])
    expected = by_definition(model, xt.astype(dtype), names[yt])
    made = getattr(scipy.sparse, form)(xt.astype(dtype))
    np.testing.assert_allclose(model.fit_temperature(made, names[yt]).temperature_, expected, rtol=1e-5)


def test_a_fit_forgets_it():
    x, y, xt, yt = halves("wine")
    model = SoftmaxRegression().fit(x, y).fit_temperature(xt, yt)
    assert pickle.loads(pickle.dumps(model)).temperature_ == model.temperature_
    assert not hasattr(model.partial_fit(xt, yt), "temperature_")
    model.fit_temperature(xt, yt)
    assert not hasattr(model.fit(x, y), "temperature_")


def test_rows_that_say_nothing():
    """Of rows that are all right, or at random, no temperature is best: one of the ends is kept, and it is said."""
    x = np.array([[-1.0], [1.0], [-2.0], [2.0]])
    model = SoftmaxRegression().fit(x, [0, 1, 0, 1])
    with pytest.warns(ConvergenceWarning, match="as every row is predicted right; pass more rows"):
        model.fit_temperature(x, [0, 1, 0, 1])
    assert np.exp(-10) <= model.temperature_ < 0.05
    np.testing.assert_array_equal(model.predict_proba(x), np.eye(2)[[0, 1, 0, 1]])
    with pytest.warns(ConvergenceWarning, match="as predictions are no better than chance"):
        model.fit_temperature(x, [1, 0, 1, 0])
    np.testing.assert_allclose(model.temperature_, np.exp(10), rtol=0.01)
    model.coef_[:] = model.intercept_[:] = 0
    assert model.fit_temperature(x, [0, 1, 0, 1]).temperature_ == 1


def test_what_does_not_fit_is_refused():
    x, y, xt, yt = halves("wine")
    for name in ("sparsify", "densify"):
        with pytest.raises(NotFittedError):
            getattr(SoftmaxRegression(), name)()
    with pytest.raises(NotFittedError):
        SoftmaxRegression().fit_temperature(x, y)
    model = SoftmaxRegression().fit(x, y)
    with pytest.raises(ValueError, match=r"y must hold labels out of classes=\[0, 1, 2\], got \[7\]"):
        model.fit_temperature(xt, np.where(yt == 1, 7, yt))
    with pytest.raises(ValueError, match="expecting 13 features"):
        model.fit_temperature(xt[:, 1:], yt)
    with pytest.raises(ValueError, match="sample_weight must not be negative"):
        model.fit_temperature(xt, yt, np.full(len(yt), -1.0))
    assert not hasattr(model, "temperature_")


@pytest.mark.parametrize("name", ["breast_cancer", "wine"])
def test_sparse_coefficients(name):
    x, y, xt, yt = halves(name)
    model, same = (SoftmaxRegression(warm_start=True, max_iter=200).fit(x, y) for _ in range(2))
    assert model.sparsify() is model
    assert scipy.sparse.issparse(model.coef_)
    model.fit_temperature(xt, yt)
    assert model.temperature_ == same.fit_temperature(xt, yt).temperature_
    for call in ("decision_function", "predict", "predict_proba", "predict_log_proba"):
        for given in (xt, scipy.sparse.csr_array(xt)):
            found = getattr(model, call)(given)
            assert isinstance(found, np.ndarray)
            np.testing.assert_array_equal(found, getattr(same, call)(given))
    dense = model.coef_.toarray()
    np.testing.assert_array_equal(model.densify().coef_, dense)
    assert isinstance(model.densify().coef_, np.ndarray)
    model.sparsify().fit(x, y)  # from where it was
    assert len(model.loss_curve_) < len(same.loss_curve_)
    assert isinstance(model.coef_, np.ndarray)
