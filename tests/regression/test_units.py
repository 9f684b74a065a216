"""Fits of features in any units, redundant or not, against Newton's method on standardised features."""

import warnings
from typing import NamedTuple

import numpy as np
import pytest
import scipy.sparse
import scipy.special
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.exceptions import ConvergenceWarning

from fastsoftmax import SoftmaxRegression

FORMS = {"dense": np.asarray, "csr": scipy.sparse.csr_array, "csc": scipy.sparse.csc_array}


class Reference(NamedTuple):
    """The objective in float64, of logits z u + b with standardised features z: coefficients are w = u / size."""

    z: np.ndarray
    size: np.ndarray
    onehot: np.ndarray
    penalty: float
    intercept: bool

    @classmethod
    def of(cls, x, y, c, intercept):
        x = np.asarray(x, np.float64)
        centre = x[0] + (x - x[0]).mean(axis=0) if intercept else np.zeros(x.shape[1])
        apart = x - centre
        peak = np.abs(apart).max(axis=0)
        kept = peak > 0
        apart, peak = apart[:, kept], peak[kept]
        size = peak * np.sqrt(np.square(apart / peak).mean(axis=0))
        return cls(apart / size, size, (y[:, None] == np.unique(y)) * 1.0, 1 / (c * len(y)), intercept)

    def value(self, logits, w):
        """The objective by logits and coefficients of the features as they came."""
        if logits.shape[1] == 1:
            logits = np.hstack([np.zeros_like(logits), logits])
        losses = -(self.onehot * scipy.special.log_softmax(logits, axis=1)).sum(axis=1)
        return losses.mean() + 0.5 * np.square(self.penalty**0.5 * w).sum()

    def _parts(self, theta):
        """Value, gradient and Hessian at θ = (u, b) of each class that has a row."""
        features = np.hstack([self.z, np.full((len(self.z), 1), float(self.intercept))])
        rows = len(theta)
        logits = features @ theta.T
        full = logits if rows > 1 else np.hstack([np.zeros_like(logits), logits])
        p = scipy.special.softmax(full, axis=1)[:, -rows:]
        ridge = np.append(np.square(self.penalty**0.5 / self.size), 0.0)
        value = self.value(logits, theta[:, :-1] / self.size)
        grad = (p - self.onehot[:, -rows:]).T @ features / len(p) + ridge * theta
        hessian = np.einsum("nr,rs,ni,nj->risj", p, np.eye(rows), features, features) - np.einsum(
            "nr,ns,ni,nj->risj", p, p, features, features
        )
        square = hessian.reshape(theta.size, theta.size) / len(p) + np.diag(np.tile(ridge, rows))
        return value, grad.ravel(), square

    def minimum(self):
        """The least objective that 100 steps of Newton's method find."""
        rows = 1 if self.onehot.shape[1] == 2 else self.onehot.shape[1]
        theta = np.zeros((rows, self.z.shape[1] + 1))
        value, grad, hessian = self._parts(theta)
        for _ in range(100):
            scale = np.sqrt(np.maximum(hessian.diagonal(), 1e-9))
            normal = hessian / scale / scale[:, None] + 1e-12 * np.eye(len(scale))
            step = -np.linalg.lstsq(normal, grad / scale, rcond=None)[0] / scale
            length = 1.0
            while length > 1e-9:
                there = self._parts(theta + length * step.reshape(theta.shape))
                if there[0] < value:
                    break
                length /= 2
            else:
                break
            theta = theta + length * step.reshape(theta.shape)
            value, grad, hessian = there
        return value


# Numbers of few bits and units that are powers of two, so that twins and sums are exact in float32: what is not, but
# for rounding, is a direction that fits can use without a penalty.
KINDS = ["normal", "twin", "sum", "constant", "zero", "levels", "wide"]


def drawn(rng, *shape):
    """Normal numbers, to eight bits behind the point."""
    return np.round(rng.standard_normal(shape) * 256) / 256


def columns_of(rng, kind, columns):
    """Columns of a kind, to be put beside others."""
    n = len(columns[0])
    if kind == "levels":
        return list((rng.integers(0, 3, n)[:, None] == np.arange(3)).T * 1.0)
    if kind == "wide":  # more features than the few rows have numbers
        return list(drawn(rng, 8, n))
    made = {
        "normal": drawn(rng, n) + 3 * drawn(rng),
        "twin": columns[-1],
        "sum": columns[0] + columns[-1],
        "constant": np.full(n, 3 * drawn(rng)),
        "zero": np.zeros(n),
    }
    return [made[kind]]


def problem(seed):
    """Features of every kind of redundancy and unit, and labels, by chance or by the first feature."""
    rng = np.random.default_rng(seed)
    n, classes = rng.choice([6, 40]), rng.choice([2, 3])
    columns = [drawn(rng, n) + 3 * drawn(rng)]
    for kind in rng.choice(KINDS, rng.integers(0, 5)):
        columns += columns_of(rng, kind, columns)
    x = np.stack(columns, axis=1) * 2.0 ** rng.integers(-100, 101, len(columns))
    y = np.append(np.arange(classes), rng.integers(0, classes, n - classes))
    if rng.uniform() < 0.3:
        y = (columns[0] > np.median(columns[0])) * 1
    return x, y


def fitted(x, y, **options):
    """A model, and whether it was warned of."""
    model = SoftmaxRegression(max_iter=300, random_state=0, **options)
    with warnings.catch_warnings(record=True) as raised:
        warnings.simplefilter("always")
        model.fit(x, y)
    assert all(issubclass(entry.category, ConvergenceWarning) for entry in raised)
    return model, bool(raised)


@settings(max_examples=60)
@given(
    st.integers(0, 2**32 - 1),
    st.sampled_from([np.float32, np.float64]),
    st.sampled_from(sorted(FORMS)),
    st.sampled_from(["lbfgs", "newton-cg", "sgd"]),
    st.sampled_from([1e-10, 1e-3, 1.0, 1e4, np.inf]),
    st.booleans(),
)
def test_fits_in_any_units_end_at_the_optimum_or_say_so(seed, dtype, form, solver, c, intercept):
    x, y = problem(seed)
    x = x.astype(dtype)
    model, warned = fitted(FORMS[form](x), y, solver=solver, C=c, fit_intercept=intercept)
    wide, coef = x.astype(np.float64), model.coef_.astype(np.float64)
    reference = Reference.of(wide, y, c, intercept)
    found = reference.value(wide @ coef.T + model.intercept_, coef)
    if solver != "sgd":  # whose curve holds means during epochs
        assert model.loss_curve_[-1] == pytest.approx(found, rel=1e-4, abs=1e-6)
    if not warned:
        assert found <= reference.minimum() + (0.02 if solver == "sgd" else 1e-4)
