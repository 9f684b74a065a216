"""Objectives and metrics against the reference, called as the boosters call them; needs neither of them."""

import copy
import inspect
import pickle
from itertools import product

import numpy as np
import pytest

from fastsoftmax import boosting, reference
from tests.boosting.support import BOTH, Data
from tests.pairs import covering, exhaustive_but

ROWS, CLASSES = 40, 5
OPTIONS = {
    "plain": {},
    "focal": {"hessian": "diagonal", "focal_gamma": 2.0, "class_weight": np.arange(1.0, 6.0)},
    "smooth": {"hessian": "residual", "label_smoothing": 0.2, "temperature": 1.5},
}


@pytest.fixture(params=BOTH)
def booster(request):
    return BOTH[request.param]


def expected(booster, margins, target, weight, options):
    """Gradient, Hessian and mean loss in float64."""
    of_hessian = {"hessian": booster.hessian, "min_hessian": booster.least}
    losses = {name: value for name, value in options.items() if name != "hessian"}
    wide = np.asarray(margins, np.float64)
    found = reference.cross_entropy_grad_hess(wide, target, sample_weight=weight, **{**of_hessian, **options})
    return *found, reference.cross_entropy(wide, target, sample_weight=weight, **losses)


#: The focal loss is of class indices.
EVERY = [
    (booster, case, weighted, soft)
    for booster, case, weighted, soft in product(BOTH, OPTIONS, [False, True], [False, True])
    if not (soft and case == "focal")
]


@pytest.mark.parametrize(
    ("booster", "case", "weighted", "soft"), exhaustive_but(covering(EVERY, 1), EVERY), indirect=["booster"]
)
def test_both_interfaces(booster, case, weighted, soft):
    """The same bits from both, near the reference's values, in the order and dtype that the booster takes as it is."""
    options, random = OPTIONS[case], np.random.default_rng(3)
    margins = booster.margins(random, ROWS, CLASSES)
    labels = random.integers(0, CLASSES, ROWS)
    weight = random.uniform(0.0, 2.0, ROWS).astype(np.float32) if weighted else None
    more = {"labels": random.dirichlet(np.ones(CLASSES), ROWS)} if soft else {}
    objective, before = booster.objective(**options, **more), margins.copy()
    data = Data(labels.astype(np.float32), weight)
    native = objective(margins, data)
    fitted = objective(labels, margins, sample_weight=weight)
    *right, loss = expected(booster, margins, more.get("labels", labels), weight, options)
    for one, other, exact in zip(native, fitted, right, strict=True):
        np.testing.assert_allclose(one, exact, rtol=2e-5, atol=1e-6)
        np.testing.assert_array_equal(one, other)
        assert one.dtype == np.float32
        assert one.flags.f_contiguous if booster.order == "F" else one.flags.c_contiguous
    np.testing.assert_array_equal(margins, before)
    *_, of_native = objective.metric(margins, data)[:2]
    fitted = objective.metric(labels, margins, weight)
    of_fitted = fitted[1] if isinstance(fitted, tuple) else fitted
    assert of_native == of_fitted == pytest.approx(loss, rel=1e-6)


def test_what_the_interfaces_look_at():
    """LightGBM counts parameters, XGBoost looks for a name, and each wants another form of metric."""
    for booster in BOTH.values():
        objective = booster.objective()
        for function in (objective, objective.metric):
            assert list(inspect.signature(function).parameters) == ["y_true", "y_pred", "sample_weight"]
        assert objective.metric.__name__ == "softmax_cross_entropy"
    labels, margins = np.array([0, 1]), np.zeros((2, 4))
    name, value = "softmax_cross_entropy", pytest.approx(np.log(4))
    of_lightgbm, of_xgboost = boosting.lightgbm_objective().metric, boosting.xgboost_objective().metric
    assert of_lightgbm(margins, Data(labels, None)) == of_lightgbm(labels, margins) == (name, value, False)
    assert of_xgboost(margins, Data(labels, np.array([], np.float32))) == (name, value)
    assert of_xgboost(labels, margins) == value


def test_the_least_hessian():
    """XGBoost divides by sums of Hessians, and its own are at least 1e-16; those of LightGBM are what they are."""
    margins = np.array([[200.0, 0.0]])
    assert boosting.xgboost_objective()([0], np.float32(margins)).hess.min() == np.float32(1e-16)
    assert boosting.lightgbm_objective()([0], margins).hess.max() == 0
    assert boosting.lightgbm_objective(hessian="diagonal", focal_gamma=3.0)([1], margins * 0.01).hess.min() >= 0


def test_left_out_rows(booster):
    found = booster.objective()(np.array([-100.0, 1.0], np.float32), booster.margins(np.random.default_rng(0), 2, 3))
    assert (found.grad[0] == 0).all()
    assert (found.grad[1] != 0).all()


def test_copies(booster):
    """Packages copy parameters and estimators, and send them to other processes."""
    objective = booster.objective(labels=[[0.5, 0.25, 0.25]], label_smoothing=0.1)
    assert copy.deepcopy(objective) is objective
    assert copy.deepcopy({"metric": objective.metric})["metric"] is objective.metric
    other, margins = pickle.loads(pickle.dumps(objective)), booster.margins(np.random.default_rng(0), 1, 3)
    np.testing.assert_array_equal(objective([0], margins).grad, other([0], margins).grad)
    assert objective.metric([0], margins) == other.metric([0], margins)


def test_labels_are_copied(booster):
    soft = np.full((1, 3), 1 / 3)
    objective, margins = booster.objective(labels=soft), booster.margins(np.random.default_rng(0), 1, 3)
    before = objective([0], margins).grad
    soft[:] = 0
    np.testing.assert_array_equal(objective([0], margins).grad, before)


PROBABILITIES = reference.softmax(np.random.default_rng(0).standard_normal((3, 4)))
ZEROS = np.zeros((3, 4))


@pytest.mark.parametrize(
    ("error", "text", "arguments"),
    [
        (ValueError, "got (3,) for 3 labels; pass num_class=K (2 or more)", ([0, 1, 2], np.zeros(3))),
        (ValueError, "got (3, 1) for 3 labels; pass num_class=K", ([0, 1, 2], np.zeros((3, 1)))),
        (ValueError, "with K=4", ([0, 1, 2], np.zeros(12))),
        (ValueError, "got (4, 3) for 3 labels; pass margins.T", ([0, 1, 2], np.zeros((4, 3)))),
        (ValueError, "got 4 at row 1; pass num_class=5", ([0, 4, 2], ZEROS)),
        (ValueError, "got -1 at row 2", ([0, 1, -1], ZEROS)),
        (ValueError, "whole numbers from 0 on, got 0.5 at row 1", ([0, 0.5, 1], ZEROS)),
        (ValueError, "whole numbers from 0 on, got nan at row 0", ([np.nan, 0.5, 1], ZEROS)),
        (ValueError, "pass soft targets as labels=", (np.zeros((3, 4)), ZEROS)),
        (ValueError, "labels must have shape (3,), got (2,)", ([0, 1], ZEROS)),
        (ValueError, "raw scores, got probabilities", ([0, 1, 2], PROBABILITIES)),
        (TypeError, "wrong order; pass (margins, data)", (Data(np.zeros(3), None), ZEROS)),
        (TypeError, "wrong order; pass (margins, data), or (labels, margins", (ZEROS, [0, 1, 2])),
        (ValueError, "sample_weight must have shape (3,)", ([0, 1, 2], ZEROS, [1.0, 1.0])),
    ],
)  # fmt: skip
def test_errors_in_training(booster, error, text, arguments):
    objective = booster.objective()
    for function in (objective, objective.metric):
        with pytest.raises(error) as caught:
            function(*arguments)
        assert text in str(caught.value)


def test_errors_say_what_the_booster_calls_it():
    for name, flat, raw in (
        ("lightgbm", "margins.reshape(K, -1).T", "predict(X, raw_score=True)"),
        ("xgboost", "margins.reshape(-1, K)", "predict(data, output_margin=True)"),
    ):
        objective = BOTH[name].objective()
        with pytest.raises(ValueError, match="got") as caught:
            objective([0, 1, 2], np.zeros(12))
        assert flat in str(caught.value)
        with pytest.raises(ValueError, match="got") as caught:
            objective.metric([0, 1, 2], PROBABILITIES)
        assert raw in str(caught.value)


def test_margins_that_look_like_probabilities(booster):
    """A constant start, and XGBoost's first rounds of two classes, whose margins add up to 1 too."""
    objective = booster.objective()
    objective([0, 1, 1], np.full((3, 4), 0.25))
    halves = np.array([[0.4, 0.6], [0.45, 0.55]], booster.dtype)
    if booster.dtype is np.float32:
        objective([0, 1], halves)
    else:
        with pytest.raises(ValueError, match="probabilities"):
            objective([0, 1], halves)


def test_soft_labels_of_other_rows(booster):
    objective = booster.objective(labels=np.full((3, 4), 0.25))
    with pytest.raises(ValueError, match="labels= has shape") as caught:
        objective.metric([0, 1], booster.margins(np.random.default_rng(0), 2, 4))
    assert "for other rows, an objective or metric of their own" in str(caught.value)


@pytest.mark.parametrize(
    ("error", "text", "options"),
    [
        (ValueError, "hessian must be one of", {"hessian": "exact"}),
        (ValueError, "pass hessian='diagonal'", {"focal_gamma": 2.0}),
        (ValueError, "label_smoothing must be", {"label_smoothing": 2.0}),
        (ValueError, "temperature must be", {"temperature": 0.0}),
        (ValueError, "labels must be probabilities of shape (rows, num_class)", {"labels": [0, 1]}),
        (TypeError, "labels must", {"labels": [["a"]]}),
        (TypeError, "class_weight must", {"class_weight": {0: 1.0}}),
        (ValueError, "focal_gamma", {"labels": [[1.0]], "focal_gamma": 1.0, "hessian": "diagonal"}),
    ],
)  # fmt: skip
def test_errors_before_training(booster, error, text, options):
    with pytest.raises(error) as caught:
        booster.objective(**options)
    assert text in str(caught.value)
