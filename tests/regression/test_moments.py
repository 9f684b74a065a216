"""Means and deviations of features, and coordinates made of them."""

import numpy as np
import pytest
import scipy.sparse

from fastsoftmax.regression import coordinates, moments
from fastsoftmax.regression.objective import Data, Loss

FORMS = {
    "dense": np.asarray,
    "fortran": np.asfortranarray,
    "csr": scipy.sparse.csr_array,
    "csc": scipy.sparse.csc_array,
}


def features(dtype, unit):
    rng = np.random.default_rng(0)
    x = rng.standard_normal((500, 6))
    x[:, 1] = 0.1  # a constant whose mean rounds
    x[:, 2] += 100
    x[rng.uniform(size=500) < 0.9, 3] = 0
    x[:, 4] = 0
    x[0, 5] = 1e6  # an outlier in the first row
    return (x * unit).astype(dtype)


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize(
    ("dtype", "unit"),
    [
        (np.float32, 1),
        (np.float32, 1e30),
        (np.float32, 1e-30),
        (np.float64, 1),
        (np.float64, 1e300),
        (np.float64, 1e-290),
    ],
)
def test_moments_in_any_units(dtype, unit, form, weighted, monkeypatch):
    monkeypatch.setattr(moments, "BLOCK", 100)  # some blocks
    x = features(dtype, unit)
    weight = np.random.default_rng(1).uniform(0, 2, 500) * (np.arange(500) % 5 > 0) if weighted else None
    if weighted:
        x[5] = np.finfo(dtype).max  # counts for nothing
    found = moments.moments_of(Data(FORMS[form](x), np.zeros(500, np.int64), weight))
    share = np.full(500, 1 / 500) if weight is None else weight / weight.sum()
    kept = share > 0
    first = x[kept][0].astype(np.longdouble)
    apart = x[kept] - first
    mean = first + share[kept] @ apart
    deviation = np.sqrt(share[kept] @ np.square(x[kept] - mean))
    tolerance = 3e-4 if dtype == np.float32 else 1e-9
    np.testing.assert_allclose(found.deviation, np.asarray(deviation, np.float64), rtol=tolerance, atol=1e-20 * unit)
    assert (np.abs(found.mean - mean) <= tolerance * deviation + 1e-7 * np.abs(mean)).all()
    assert found.deviation[1] == found.deviation[4] == 0
    assert found.mean[1] == x[1, 1]
    assert found.total == pytest.approx(500 if weight is None else weight.sum())


def test_rows_without_weight_have_no_moments():
    found = moments.moments_of(Data(np.ones((3, 2)), np.zeros(3, np.int64), np.zeros(3)))
    assert found.total == 0
    known = moments.moments_of(Data(np.eye(3)[:, :2], np.zeros(3, np.int64), None))
    assert known.merge(found) is known


@pytest.mark.parametrize("unit", [1.0, 1e200])
def test_moments_of_parts_merge_to_those_of_all(unit):
    x = features(np.float64, unit)
    parts = [moments.moments_of(Data(part, np.zeros(len(part), np.int64), None)) for part in (x[:120], x[120:])]
    merged, whole = parts[0].merge(parts[1]), moments.moments_of(Data(x, np.zeros(500, np.int64), None))
    np.testing.assert_allclose(merged.deviation, whole.deviation, rtol=1e-9)
    np.testing.assert_allclose(merged.mean, whole.mean, rtol=1e-9, atol=1e-14 * unit)


@pytest.mark.parametrize("unit", [1.0, 1e30])
def test_rows_that_a_sample_misses(unit):
    """Two rows of opposite sign, whose mean is that of the others, and one row of another feature that is far away."""
    x = np.zeros((9000, 4), np.float32)
    x[:, 0] = np.random.default_rng(0).standard_normal(9000) + 1000
    sampled = np.sort(np.random.default_rng(0).choice(9000, coordinates.ROWS, replace=False))
    missed = np.setdiff1d(np.arange(9000), sampled)[:3]
    x[missed[:2], 1] = [3, -3]
    x[missed[2], 2] = 1e6
    x = x * np.float32(unit)
    found = coordinates.Coordinates(
        Data(x, np.zeros(9000, np.int64), None), Loss(2, 0.0, 0.0, True, np.float32)
    ).moments
    exact = x.astype(np.float64).std(axis=0)
    assert (found.deviation[:3] < 10 * exact[:3]).all()
    assert (found.deviation[:3] > exact[:3] / 10).all()
    assert found.deviation[3] == 0
    np.testing.assert_allclose(found.mean, x.mean(axis=0, dtype=np.float64), rtol=1e-4, atol=1e-6 * unit)


def test_an_indefinite_block_has_a_factor():
    block = np.array([[1.0, 1.001], [1.001, 1.0]])  # as rounding may leave it
    inverse = coordinates._inverse_factor(block, np.ones(2))
    assert np.isfinite(inverse).all()
    assert (inverse.diagonal() > 0).all()
    np.testing.assert_array_equal(coordinates._inverse_factor(np.full((2, 2), 9.0), np.full(2, 4.0)), np.eye(2) / 2)
