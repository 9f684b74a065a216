"""Training by XGBoost: the predictions of its own objective to 1e-6, and what users meet.

Runs where XGBoost is installed (``pip install '.[boosting]'``).
"""

import numpy as np
import pytest

import fastsoftmax as fs
from fastsoftmax import reference
from fastsoftmax.boosting import xgboost_objective
from tests.boosting.support import problem

xgboost = pytest.importorskip("xgboost")

PARAMETERS = {"max_depth": 3, "nthread": 1, "base_score": 0.5, "disable_default_eval_metric": 1}
ROUNDS = 20


def train(objective, x, y, weight=None, metric=None, **parameters):
    """A booster, and its metrics in each round."""
    data, history = xgboost.DMatrix(x, y, weight=weight), {}
    wanted = {**PARAMETERS, "num_class": int(max(y)) + 1, **parameters}
    wanted, obj = ({**wanted, "objective": objective}, None) if isinstance(objective, str) else (wanted, objective)
    more = {"evals": [(data, "training")], "evals_result": history, "verbose_eval": False}
    booster = xgboost.train(wanted, data, ROUNDS, obj=obj, custom_metric=metric, **more)
    return booster, history.get("training", {})


def margins(booster, x):
    return booster.predict(xgboost.DMatrix(x), output_margin=True)


@pytest.mark.parametrize("classes", [2, 3, 7])
@pytest.mark.parametrize("weighted", [False, True])
def test_predictions_of_the_built_in_objective(classes, weighted):
    x, y, weight = problem(classes)
    weight = weight if weighted else None
    theirs, losses = train("multi:softprob", x, y, weight, disable_default_eval_metric=0)
    objective = xgboost_objective()
    ours, found = train(objective, x, y, weight, metric=objective.metric)
    np.testing.assert_allclose(margins(ours, x), margins(theirs, x), rtol=1e-6, atol=1e-6)
    np.testing.assert_allclose(fs.softmax(margins(ours, x)), theirs.predict(xgboost.DMatrix(x)), rtol=0, atol=1e-6)
    assert np.ptp(margins(ours, x)) > 1
    np.testing.assert_allclose(found["softmax_cross_entropy"], losses["mlogloss"], rtol=1e-5)


def test_probabilities_of_a_named_objective():
    """With its name among the parameters the built-in objective turns margins into probabilities, and no more."""
    x, y, _ = problem(4)
    objective = xgboost_objective(hessian="residual", label_smoothing=0.1)
    ours, found = train(objective, x, y, metric=objective.metric)
    named, other = xgboost.DMatrix(x, y), {}
    booster = xgboost.train(
        {**PARAMETERS, "num_class": 4, "objective": "multi:softprob"}, named, ROUNDS, obj=objective,
        custom_metric=objective.metric, evals=[(named, "training")], evals_result=other, verbose_eval=False,
    )  # fmt: skip
    np.testing.assert_array_equal(margins(booster, x), margins(ours, x))
    np.testing.assert_allclose(booster.predict(xgboost.DMatrix(x)), fs.softmax(margins(ours, x)), rtol=1e-6)
    assert other["training"] == found


def test_scikit_learn_gives_the_same_trees():
    x, y, weight = problem(4)
    objective = xgboost_objective()
    ours, history = train(objective, x, y, weight, metric=objective.metric)
    names = {name: value for name, value in PARAMETERS.items() if name != "nthread"}
    model = xgboost.XGBClassifier(
        objective=objective, n_estimators=ROUNDS, n_jobs=1, eval_metric=objective.metric, **names
    )
    model.fit(x, y, sample_weight=weight, eval_set=[(x, y)], sample_weight_eval_set=[weight], verbose=False)
    np.testing.assert_array_equal(model.predict(x, output_margin=True), margins(ours, x))
    found = model.evals_result()["validation_0"]["softmax_cross_entropy"]
    np.testing.assert_allclose(found, history["softmax_cross_entropy"], rtol=1e-6)
    np.testing.assert_allclose(model.predict_proba(x), fs.softmax(margins(ours, x)), rtol=1e-6)


def test_two_classes_of_scikit_learn():
    x, y, _ = problem(2)
    model = xgboost.XGBClassifier(objective=xgboost_objective(), n_estimators=2, n_jobs=1)
    with pytest.raises(ValueError, match=r"pass num_class=K \(2 or more\)"):
        model.fit(x, y)
    model.set_params(num_class=2, disable_default_eval_metric=1).fit(x, y)
    assert model.predict(x, output_margin=True).shape == (len(y), 2)


def test_soft_labels_of_one_class_are_its_index():
    x, y, _ = problem(4)
    theirs, _ = train(xgboost_objective(), x, y)
    ours, _ = train(xgboost_objective(labels=np.eye(4)[y]), x, y)
    np.testing.assert_allclose(margins(ours, x), margins(theirs, x), rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize(
    "options",
    [
        {"focal_gamma": 2.0, "hessian": "diagonal"},
        {"label_smoothing": 0.2, "temperature": 2.0},
        {"labels": np.random.default_rng(0).dirichlet(np.ones(4), 600), "hessian": "residual"},
    ],
)
def test_the_loss_that_is_asked_for_goes_down(options):
    """The metric is the reference's loss of the margins, and no round ends above the one before."""
    x, y, _ = problem(4)
    objective = xgboost_objective(**options)
    booster, history = train(objective, x, y, metric=objective.metric)
    values = history["softmax_cross_entropy"]
    assert (np.diff(values) < 0).all()
    losses = {name: value for name, value in options.items() if name not in {"labels", "hessian"}}
    exact = reference.cross_entropy(np.float64(margins(booster, x)), options.get("labels", y), **losses)
    assert values[-1] == pytest.approx(exact, rel=1e-5)


def test_what_is_wrong_is_said():
    x, y, _ = problem(4)
    with pytest.raises(ValueError, match=r"got 3 at row .*; pass num_class=4"):
        train(xgboost_objective(), x, y, num_class=3)
    with pytest.raises(ValueError, match=r"pass num_class=K"):
        train(xgboost_objective(), x, y, num_class=0)
    objective = xgboost_objective()
    with pytest.raises(ValueError, match=r"got probabilities: .* pass predict\(data, output_margin=True\)"):
        train("multi:softprob", x, y, metric=objective.metric)
    with pytest.raises(ValueError, match=r"of a trained model, predict\(data, output_margin=True\)"):
        train("multi:softmax", x, y, metric=objective.metric)
    with pytest.raises(ValueError, match="labels= has shape"):
        train(xgboost_objective(labels=np.eye(4)[y][1:]), x, y)
    with pytest.raises(ValueError, match="pass soft targets as labels="):
        xgboost.train({}, xgboost.DMatrix(x, np.eye(4)[y]), 1, obj=objective)
