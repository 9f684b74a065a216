"""Labels of calls on a GPU: those out of range, of 32 bits, and checked where that is asked for.

Kernels are NumPy's (tests/standins/numpy_kernels.py), so that each argument counts: nothing here is a GPU's result.
"""

import numpy as np
import pytest

import fastsoftmax as fs
from fastsoftmax import reference
from tests.cuda.host.support import drawn, entries, near, spread
from tests.support import labels, probabilities


@pytest.mark.parametrize("check", [None, False])
def test_bad_labels_are_nan_and_nobody_waits(driver, check):
    x, t = drawn(3, 4), np.array([0, 4, 1])
    loss, grad = fs.cross_entropy_and_grad(driver.array(x), driver.array(t), reduction="none", check_targets=check)
    assert np.isnan(driver.host(loss)).tolist() == [False, True, False]
    assert np.isnan(driver.host(grad)).all(axis=1).tolist() == [False, True, False]
    assert not [call for call in driver.calls if call[0] in ("read", "clear")]


@pytest.mark.parametrize("bad", [None, -3])
def test_labels_of_32_bits(driver, bad):
    """As JAX has them, who has no others by default."""
    x, t = drawn(3, 4, 5), labels(np.random.default_rng(0), (3, 4, 5)).astype(np.int32)
    on = driver.array(spread(x[..., ::-1]))
    if bad is None:
        for reduction in ("mean", "none"):
            loss = fs.cross_entropy(on, driver.array(t), reduction=reduction, check_targets=True)
            near(driver.host(loss), reference.cross_entropy(x[..., ::-1], t, reduction=reduction))
        return
    t[1, 2] = bad
    with pytest.raises(ValueError, match=r"got -3 at position \(1, 2\)"):
        fs.cross_entropy(on, driver.array(t), check_targets=True)


def test_many_labels_are_counted_by_several_blocks(driver):
    """Whose sums are added up in the memory where the losses' sums come later."""
    x, t = drawn(100_000, 2), labels(np.random.default_rng(0), (100_000, 2))
    weight = np.array([0.5, 2], np.float32)
    loss = fs.cross_entropy(driver.array(x), driver.array(t), class_weight=driver.array(weight))
    near(driver.host(loss), reference.cross_entropy(x, t, class_weight=weight))
    assert entries(driver) == ["count", "total", "cross_entropy", "total"]
    assert driver.launches[0].grid > 1


@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
@pytest.mark.parametrize("bad", [-1, 4, 2**32 + 1, -(2**63)])
def test_bad_labels_raise_where_it_is_asked_for(driver, reduction, bad):
    """With their value and place, after one wait, and before anything is written."""
    x, t, out = drawn(2, 3, 4), np.array([[0, -100, 1], [2, bad, 3]]), np.full((2, 3, 4), 5, np.float32)
    on = driver.array(x), driver.array(t)
    options = {"reduction": reduction, "out": driver.array(out)}
    with pytest.raises(ValueError, match=rf"\[0, 4\) or ignore_index, got {bad} at position \(1, 1\)"):
        fs.cross_entropy_and_grad(*on, check_targets=True, **options)
    assert (out == 5).all()
    assert entries(driver) == ["count"]


@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
def test_good_labels_are_read_back_once(driver, reduction):
    x, t = drawn(3, 4), np.array([0, -100, 1])
    for _ in range(2):
        driver.calls.clear()
        loss = fs.cross_entropy(driver.array(x), driver.array(t), reduction=reduction, check_targets=True)
        near(driver.host(loss), reference.cross_entropy(x, t, reduction=reduction))
        assert [call[0] for call in driver.calls if call[0] in ("read", "clear")] == ["clear", "read"]


def test_probabilities_have_no_labels_to_check(driver):
    x, t = drawn(3, 4), probabilities(np.random.default_rng(0), (3, 4), np.float32)
    fs.cross_entropy(driver.array(x), driver.array(t), check_targets=True)
    assert "read" not in {call[0] for call in driver.calls}
