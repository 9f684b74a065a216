"""scikit-learn's own checks of an estimator, for each solver, with no expected failure."""

import pytest
from sklearn.utils.estimator_checks import parametrize_with_checks

from fastsoftmax import SoftmaxRegression

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")


@parametrize_with_checks([SoftmaxRegression(solver=solver, random_state=0) for solver in ("lbfgs", "sgd")])
def test_scikit_learn_checks(estimator, check):
    check(estimator)


@pytest.mark.exhaustive  # it differs in nothing that these look at, but for kernels of its own
@parametrize_with_checks([SoftmaxRegression(solver="newton-cg", random_state=0)])
def test_scikit_learn_checks_of_newton(estimator, check):
    check(estimator)
