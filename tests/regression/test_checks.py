"""scikit-learn's own checks of an estimator, for each solver, with no expected failure."""

import pytest
from sklearn.utils.estimator_checks import parametrize_with_checks

from fastsoftmax import SoftmaxRegression


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
@parametrize_with_checks([SoftmaxRegression(solver=solver, random_state=0) for solver in ("lbfgs", "newton-cg", "sgd")])
def test_scikit_learn_checks(estimator, check):
    check(estimator)
