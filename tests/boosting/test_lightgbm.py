"""Training by LightGBM: the trees of its own objective, to the bit, and what users meet.

Runs where LightGBM is installed (``pip install '.[boosting]'``).
"""

import numpy as np
import pytest

import fastsoftmax as fs
from fastsoftmax import reference
from fastsoftmax.boosting import lightgbm_objective
from tests.boosting.support import problem

lightgbm = pytest.importorskip("lightgbm")

#: One thread, so that sums have one order.
PARAMETERS = {
    "num_leaves": 8,
    "min_data_in_leaf": 5,
    "verbosity": -1,
    "num_threads": 1,
    "deterministic": True,
    "boost_from_average": False,
}
ROUNDS = 20


def train(objective, x, y, weight=None, feval=None, **parameters):
    """A booster, and its metrics in each round."""
    data, history = lightgbm.Dataset(x, y, weight=weight, params={"verbosity": -1}), {}
    record = lightgbm.record_evaluation(history)
    wanted = {**PARAMETERS, "num_class": int(max(y)) + 1, "objective": objective, **parameters}
    booster = lightgbm.train(wanted, data, ROUNDS, valid_sets=[data], feval=feval, callbacks=[record])
    return booster, history.get("training", {})


def trees(booster):
    """Text with every split and leaf, in all digits."""
    return booster.model_to_string().partition("\nTree=0\n")[2].partition("end of trees")[0]


@pytest.mark.parametrize("classes", [2, 3, 7])
@pytest.mark.parametrize("weighted", [False, True])
def test_trees_of_the_built_in_objective(classes, weighted):
    x, y, weight = problem(classes)
    weight = weight if weighted else None
    theirs, losses = train("multiclass", x, y, weight, metric="multi_logloss")
    objective = lightgbm_objective()
    ours, found = train(objective, x, y, weight, feval=objective.metric, metric="None")
    assert len(trees(ours)) > 1000
    assert trees(ours) == trees(theirs)
    np.testing.assert_allclose(found["softmax_cross_entropy"], losses["multi_logloss"], rtol=1e-12)
    margins = ours.predict(x, raw_score=True)
    np.testing.assert_allclose(fs.softmax(margins), theirs.predict(x), rtol=0, atol=1e-12)


def test_scikit_learn_gives_the_same_trees():
    x, y, weight = problem(4)
    objective = lightgbm_objective()
    ours, history = train(objective, x, y, weight, feval=objective.metric, metric="None")
    names = {name: value for name, value in PARAMETERS.items() if name not in {"num_threads", "boost_from_average"}}
    model = lightgbm.LGBMClassifier(objective=objective, n_estimators=ROUNDS, n_jobs=1, metric="None", **names)
    sets = {"eval_X": x, "eval_y": y, "eval_sample_weight": [weight]}
    if "eval_X" not in lightgbm.LGBMClassifier.fit.__code__.co_varnames:
        sets = {"eval_set": [(x, y)], "eval_sample_weight": [weight]}
    model.fit(x, y, sample_weight=weight, eval_metric=objective.metric, **sets)
    assert trees(model.booster_) == trees(ours)
    (found,) = model.evals_result_.values()
    np.testing.assert_allclose(found["softmax_cross_entropy"], history["softmax_cross_entropy"], rtol=1e-12)


def test_two_classes_of_scikit_learn():
    x, y, _ = problem(2)
    model = lightgbm.LGBMClassifier(objective=lightgbm_objective(), n_estimators=2, n_jobs=1, verbosity=-1)
    with pytest.raises(ValueError, match=r"pass num_class=K \(2 or more\)"):
        model.fit(x, y)
    model.set_params(num_class=2, metric="None").fit(x, y)
    assert model.predict(x, raw_score=True).shape == (len(y), 2)


def test_soft_labels_of_one_class_are_its_index():
    x, y, _ = problem(4)
    theirs, _ = train(lightgbm_objective(), x, y)
    ours, _ = train(lightgbm_objective(labels=np.eye(4)[y]), x, y)
    assert trees(ours) == trees(theirs)


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
    objective = lightgbm_objective(**options)
    booster, history = train(objective, x, y, feval=objective.metric, metric="None")
    values = history["softmax_cross_entropy"]
    assert (np.diff(values) < 0).all()
    losses = {name: value for name, value in options.items() if name not in {"labels", "hessian"}}
    exact = reference.cross_entropy(booster.predict(x, raw_score=True), options.get("labels", y), **losses)
    assert values[-1] == pytest.approx(exact, rel=1e-12)


def test_what_is_wrong_is_said():
    x, y, _ = problem(4)
    with pytest.raises(ValueError, match=r"got 3 at row .*; pass num_class=4"):
        train(lightgbm_objective(), x, y, num_class=3)
    with pytest.raises(ValueError, match=r"pass num_class=K"):
        train(lightgbm_objective(), x, y, num_class=1)
    with pytest.raises(ValueError, match=r"got probabilities: .* pass predict\(X, raw_score=True\)"):
        train("multiclass", x, y, feval=lightgbm_objective().metric, metric="None")
    with pytest.raises(ValueError, match="labels= has shape"):
        train(lightgbm_objective(labels=np.eye(4)[y][1:]), x, y)
