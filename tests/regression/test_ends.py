"""The three ways in which a fit ends: at the optimum, with a warning, or with an error that leaves the model alone."""

import warnings

import numpy as np
import pytest
import scipy.sparse
from sklearn.datasets import load_breast_cancer, load_iris
from sklearn.exceptions import ConvergenceWarning, NotFittedError
from sklearn.linear_model import LogisticRegression

from fastsoftmax import SoftmaxRegression
from fastsoftmax.regression import objective, parameters

SOLVERS = ["lbfgs", "newton-cg", "sgd"]
BATCH_SOLVERS = SOLVERS[:2]
X, Y = load_iris(return_X_y=True)


@pytest.mark.parametrize("form", [np.asarray, scipy.sparse.csr_array])
@pytest.mark.parametrize("solver", BATCH_SOLVERS)
def test_repeated_columns_in_float32(solver, form):
    x = (np.hstack([X, X[:, :1], X[:, :2].sum(axis=1, keepdims=True)]) * 1024).astype(np.float32)
    model = SoftmaxRegression(solver=solver, C=1e-4, tol=1e-8, max_iter=1000).fit(form(x), Y)
    best = LogisticRegression(C=1e-4, solver="newton-cholesky", tol=1e-10).fit(x.astype(np.float64), Y)
    np.testing.assert_allclose(model.coef_, best.coef_, rtol=0, atol=1e-4 * np.abs(best.coef_).max())


@pytest.mark.parametrize("solver", SOLVERS)
@pytest.mark.parametrize("scale", [1e-4, 1e20, 1e-280, 1e300])
def test_units_change_nothing_without_a_penalty(solver, scale):
    """To the rounding of features in other units: sgd's path is the same, and batches end at the same tolerance."""
    options = {"solver": solver, "C": np.inf, "max_iter": 50, "random_state": 0}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        plain = SoftmaxRegression(**options).fit(X, Y)
        scaled = SoftmaxRegression(**options).fit(X * scale, Y)
    assert plain.loss_curve_[-1] < 0.1
    assert scaled.loss_curve_[-1] == pytest.approx(plain.loss_curve_[-1], rel=1e-3)
    np.testing.assert_allclose(scaled.predict_proba(X * scale), plain.predict_proba(X), atol=0.01)


def test_huge_features_in_float32():
    model = SoftmaxRegression(C=np.inf).fit((X * 1e20).astype(np.float32), Y)
    assert model.score((X * 1e20).astype(np.float32), Y) > 0.97


def test_units_beyond_the_dtype_are_named():
    with pytest.raises(ValueError, match=r"X must vary by more than 1e-290 .* in column 0; multiply that column"):
        SoftmaxRegression(C=np.inf).fit(X * 1e-300, Y)
    with pytest.raises(ValueError, match=r"float32 holds its coefficients.*pass float64"):
        SoftmaxRegression(C=np.inf).fit((X * 1e-40).astype(np.float32), Y)
    assert np.isfinite(SoftmaxRegression().fit(X * 1e-300, Y).coef_).all()  # the penalty keeps them small


def test_separable_data_end_however_small_the_tolerance():
    x, y = load_breast_cancer(return_X_y=True)
    model = SoftmaxRegression(C=np.inf, tol=1e-8, max_iter=5000).fit(x, y)
    assert model.loss_curve_[-1] < 1e-8


@pytest.mark.parametrize("solver", BATCH_SOLVERS)
@pytest.mark.parametrize("constant", [1.0, 0.1, 1e12])
def test_a_constant_column_is_no_feature(solver, constant):
    y = np.r_[np.zeros(9999, int), 1]
    p = y.mean()
    model = SoftmaxRegression(C=np.inf, solver=solver).fit(np.full((10_000, 1), constant, np.float32), y)
    assert model.coef_.tolist() == [[0.0]]
    assert model.loss_curve_[-1] == pytest.approx(-p * np.log(p) - (1 - p) * np.log1p(-p), rel=1e-5)


def test_a_warm_start_leaves_a_column_that_became_constant():
    x = X.copy()
    model = SoftmaxRegression(warm_start=True, tol=1e-8, max_iter=1000).fit(x, Y)
    x[:, 1] = 3.0
    again = model.fit(x, Y)
    best = SoftmaxRegression(tol=1e-8, max_iter=1000).fit(x, Y)
    np.testing.assert_allclose(again.coef_, best.coef_, atol=1e-5)
    assert not again.coef_[:, 1].any()


def test_descent_from_coefficients_that_overflow_names_the_warm_start():
    model = SoftmaxRegression(solver="sgd", warm_start=True, max_iter=1000, random_state=0).fit(X, Y)
    best = model.score(X, Y)
    model.coef_ = np.full_like(model.coef_, 1e300)
    with pytest.raises(ValueError, match=r"^the descent diverged: .*; set warm_start=False"):
        model.fit(X, Y)
    assert model.set_params(warm_start=False).fit(X, Y).score(X, Y) == best


@pytest.mark.parametrize("solver", SOLVERS)
def test_floating_point_settings_of_the_caller_do_not_matter(solver):
    x, y = load_breast_cancer(return_X_y=True)
    x = x.astype(np.float32)
    with np.errstate(all="raise"), warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        model = SoftmaxRegression(solver=solver, random_state=0).fit(x, y)
        model.partial_fit(x, y)
        assert model.score(x, y) > 0.9
        assert np.isfinite(model.predict_log_proba(x)).all()


def test_weights_of_any_size():
    plain = SoftmaxRegression(tol=1e-8).fit(X, Y, np.linspace(0, 1, 150))
    for factor in (1e300, 1e-300):
        model = SoftmaxRegression(tol=1e-8, C=1 / factor).fit(X, Y, factor * np.linspace(0, 1, 150))
        np.testing.assert_allclose(model.coef_, plain.coef_, atol=1e-6)
    narrow = SoftmaxRegression(tol=1e-8, C=1e-300).fit(X.astype(np.float32), Y, 1e300 * np.linspace(0, 1, 150))
    np.testing.assert_allclose(narrow.coef_, plain.coef_, atol=1e-4)
    with pytest.raises(ValueError, match=r"must add up to a finite number.*divide them"):
        SoftmaxRegression().fit(X, Y, np.full(150, 1e308))


ZERO = {0: 0, 1: 1, 2: 1}


@pytest.mark.parametrize(
    ("options", "weight", "message"),
    [
        ({"class_weight": dict.fromkeys(range(3), 0)}, None, "^class_weight must leave a row with a weight greater"),
        ({"class_weight": ZERO}, (Y == 0) * 1.0, "^sample_weight times class_weight must leave a row"),
        ({"class_weight": {0: -1}}, None, "^class_weight must hold finite numbers of at least 0, got -1 for class 0$"),
        ({"class_weight": {1: np.nan}}, None, "^class_weight must hold finite .* got nan for class 1$"),
        ({"C": 1e-320}, None, r"^C must be at least .* got 9\.99"),
        ({"C": 10**400}, None, "^C must be a number greater than 0, got an integer of 1329 bits$"),
        ({"fit_intercept": "no"}, None, "^fit_intercept must be True or False, got 'no'$"),
        ({"warm_start": 1}, None, "^warm_start must be True or False, got 1$"),
        ({"early_stopping": "False"}, None, "^early_stopping must be True or False, got 'False'$"),
        ({"verbose": "yes"}, None, "^verbose must be an integer, got 'yes'$"),
        ({"solver": np.arange(2)}, None, "^solver must be one of"),
        ({"learning_rate": np.ones(2)}, None, "^learning_rate must be"),
    ],
)
def test_the_parameter_is_named(options, weight, message):
    with pytest.raises(ValueError, match=message):
        SoftmaxRegression(**options).fit(X, Y, weight)


def test_integers_of_any_size_are_limits():
    assert SoftmaxRegression(max_iter=10**400, batch_size=10**400).fit(X, Y).n_iter_ < 100


def test_online_rows_without_weight_teach_nothing():
    model = SoftmaxRegression(class_weight=ZERO)
    model.partial_fit(X[Y == 0], Y[Y == 0], classes=[0, 1, 2])
    assert not model.coef_.any()
    for _ in range(30):
        model.partial_fit(X, Y)
    assert model.score(X[Y > 0], Y[Y > 0]) > 0.9


def early(**options):
    return SoftmaxRegression(solver="sgd", early_stopping=True, random_state=0, max_iter=1000, **options)


def test_early_stopping_needs_rows_to_hold_out():
    x, y = np.arange(8.0).reshape(4, 2), np.array(["a", "a", "b", "b"])
    with pytest.raises(
        ValueError, match=r"validation_fraction must hold out 2 to 2 .* got 0\.1, which is 1; set it to"
    ) as e:
        early().fit(x, y)
    fraction = float(str(e.value).split("set it to ")[1].split(",")[0])
    assert early(validation_fraction=fraction).fit(x, y).classes_.tolist() == ["a", "b"]  # the advice works
    with pytest.raises(ValueError, match=r"early_stopping needs two rows of each class.*got 1 of class .*'b'"):
        early().fit(x, ["a", "a", "a", "b"])
    with pytest.raises(ValueError, match="early_stopping needs rows with weights greater than 0 to"):
        early().fit(X, Y, np.arange(150) == 0)


@pytest.mark.parametrize("rate", [100.0, 1e300])
@pytest.mark.parametrize("options", [{}, {"batch_size": 32}, {"batch_size": 32, "early_stopping": True}])
def test_descent_that_diverges_is_an_error(rate, options):
    model = SoftmaxRegression(solver="sgd", learning_rate=rate, random_state=0, **options)
    with pytest.raises(ValueError, match=r"^the descent diverged: .*lower learning_rate="):
        model.fit(X * np.array([1e3, 1, 1, 1]), Y % 2)
    assert vars(model) == vars(SoftmaxRegression(solver="sgd", learning_rate=rate, random_state=0, **options))


def test_online_descent_that_diverges_leaves_what_was_learned():
    model = SoftmaxRegression().partial_fit(X, Y, classes=[0, 1, 2])
    before = model.coef_
    with pytest.raises(ValueError, match=r"^the descent diverged: .*lower learning_rate=1e\+09"):
        model.set_params(learning_rate=1e9).partial_fit(X, Y)
    assert model.coef_ is before
    assert model.n_iter_ == len(model.loss_curve_) == 1


def test_online_descent_that_strays_is_warned_of():
    model = SoftmaxRegression(learning_rate=1e4).partial_fit(X, Y, classes=[0, 1, 2])
    with pytest.warns(ConvergenceWarning, match=r"mean loss of these rows .* has 1\.1; lower learning_rate=10000"):
        model.partial_fit(X, Y)


def interrupt(monkeypatch, after):
    """Ctrl-C in the middle of a fit."""
    plain, calls = objective.Loss.__call__, iter(range(after))

    def loss(*arguments):
        if next(calls, None) is None:
            raise KeyboardInterrupt
        return plain(*arguments)

    monkeypatch.setattr(objective.Loss, "__call__", loss)


@pytest.mark.parametrize("how", ["error", "late error", "warning", "interrupt", "online", "online interrupt"])
@pytest.mark.parametrize("solver", SOLVERS)
def test_what_fails_leaves_the_model_as_it_was(solver, how, monkeypatch):
    """Features and classes of the second fit are others."""
    model = SoftmaxRegression(solver=solver, max_iter=500, random_state=0).fit(X[:, :3], Y)
    before = vars(model).copy()
    curve = list(model.loss_curve_)
    x, y = X, Y + 7
    if how == "error":
        with pytest.raises(ValueError, match="sample_weight"):
            model.fit(x, y, -np.ones(150))
    elif how == "late error":
        with pytest.raises(ValueError, match="class_weight"):
            model.set_params(class_weight=dict.fromkeys((7, 8, 9), 0)).fit(x, y)
        model.set_params(class_weight=None)
    elif how == "warning":
        with pytest.raises(ConvergenceWarning):
            model.set_params(max_iter=2).fit(x, y)
        model.set_params(max_iter=500)
    elif how == "online":
        with pytest.raises(ValueError, match="labels"):
            model.partial_fit(X[:, :3], y)
    else:
        interrupt(monkeypatch, 0 if "online" in how else 2)
        with pytest.raises(KeyboardInterrupt):
            model.partial_fit(X[:, :3], Y) if "online" in how else model.fit(x, y)
    after = vars(model)
    assert after.keys() == before.keys()
    assert [name for name in after if after[name] is not before[name] and name.endswith("_")] == []
    assert model.loss_curve_ == curve
    monkeypatch.undo()
    assert model.score(X[:, :3], Y) > 0.9


def test_a_fit_leaves_nothing_of_the_one_before():
    pandas = pytest.importorskip("pandas")
    frame = pandas.DataFrame(X, columns=list("abcd"))
    model = early().fit(frame, Y)
    assert {"validation_loss_curve_", "feature_names_in_"} < set(vars(model))
    model.set_params(early_stopping=False).fit(X[:, :2], Y)
    assert not {"validation_loss_curve_", "feature_names_in_"} & set(vars(model))
    assert model.n_features_in_ == 2


def test_going_on_from_coefficients_that_were_set():
    fitted = SoftmaxRegression().fit(X, Y)
    model = SoftmaxRegression()
    model.classes_, model.coef_ = fitted.classes_, fitted.coef_
    with pytest.raises(ValueError, match="must have intercept_; set them beside classes_"):
        model.partial_fit(X, Y)
    with pytest.raises(NotFittedError):
        model.predict(X)
    model.intercept_ = fitted.intercept_
    np.testing.assert_array_equal(model.predict(X), fitted.predict(X))
    model.partial_fit(X, Y)
    assert model.n_iter_ == len(model.loss_curve_) == 1
    assert model.loss_curve_[0] == pytest.approx(fitted.loss_curve_[-1], abs=0.1)
    model.coef_ = np.zeros((3, 5))
    with pytest.raises(ValueError, match=r"coef_ of shape \(3, 4\)"):
        model.partial_fit(X, Y)


@pytest.mark.parametrize("solver", BATCH_SOLVERS)
def test_a_start_that_is_not_finite_is_an_error(solver):
    model = SoftmaxRegression(warm_start=True, solver=solver).fit(X, Y)
    model.coef_ = 1e300 * model.coef_
    with pytest.raises(ValueError, match=r"not finite at the coefficients .*e\+300; set warm_start=False"):
        model.fit(X * 1e100, Y)
    model.coef_ = np.full((3, 4), np.nan)
    with pytest.raises(ValueError, match=r"warm_start needs .* finite coef_"):
        model.fit(X, Y)


@pytest.mark.parametrize("solver", BATCH_SOLVERS)
@pytest.mark.parametrize("wrong", ["objective", "gradient"])
def test_what_is_not_finite_on_the_way_ends_a_fit_with_a_warning(solver, wrong, monkeypatch):
    """After four evaluations; what was found till then is kept."""
    plain, calls = objective.Loss.__call__, iter(range(4))

    def loss(*arguments):
        value, grad = plain(*arguments)
        if next(calls, None) is None:
            return (np.nan, grad) if wrong == "objective" else (value, np.nan * grad)
        return value, grad

    monkeypatch.setattr(objective.Loss, "__call__", loss)
    with pytest.warns(ConvergenceWarning, match="no step was found that decreases the objective"):
        model = SoftmaxRegression(solver=solver).fit(X, Y)
    assert np.isfinite(model.coef_).all()
    assert model.loss_curve_[-1] < np.log(3)


def test_coefficients_that_float32_does_not_hold_are_warned_of():
    """A column and its third differ by rounding, which tells the labels; it takes coefficients of millions."""
    rng = np.random.default_rng(0)
    first = rng.standard_normal(12).astype(np.float32)
    x = np.stack([first, first / np.float32(3)], axis=1)
    y = (x.astype(np.float64) @ [1, -3] > 0) * 1
    with pytest.warns(ConvergenceWarning, match="coefficients in float32, the dtype of X, are too coarse.*as float64"):
        SoftmaxRegression(C=np.inf, tol=1e-8, max_iter=5000).fit(x, y)
    wide = SoftmaxRegression(C=np.inf, tol=1e-8, max_iter=5000).fit(x.astype(np.float64), y)
    assert wide.score(x.astype(np.float64), y) == 1


def test_rows_of_weight_zero_have_no_penalty():
    assert parameters.penalty(1.0, 0.0) == 0
    assert parameters.penalty(np.inf, 3.0) == 0
    assert parameters.penalty(0.5, 4.0) == 0.5
