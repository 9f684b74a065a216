"""All three gradients of linear passes by central differences, for every option."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fastsoftmax.api import linear
from tests.linear.support import ALL, problem, shared, ways
from tests.support import INDEX_OPTIONS, SOFT_OPTIONS, names, seeds

STEP = 1e-5


def assert_is_gradient(x, weight, target, bias, options):
    """The gradients are the derivatives of the loss in some directions."""

    def differentiated(**operands):
        return linear.linear_cross_entropy_and_grad(target=target, reduction="sum", wrt=ALL, **operands, **options)

    operands, random = {"x": x, "weight": weight, "bias": bias}, np.random.default_rng(0)
    result = differentiated(**operands)
    for name in ALL:
        for _ in range(4):
            direction = random.choice([-1.0, 0.0, 1.0], operands[name].shape)
            there, back = (
                differentiated(**{**operands, name: operands[name] + h * direction}).loss for h in (STEP, -STEP)
            )
            got = (getattr(result, f"grad_{name}") * direction).sum()
            # The difference quotient loses eps * loss / step to rounding, and step**2 times the third derivative.
            size = (1 + abs(result.loss)) * (1 + np.abs(direction).sum())
            np.testing.assert_allclose(got, (there - back) / (2 * STEP), rtol=1e-7, atol=1e-9 * size)


@pytest.mark.parametrize("options", INDEX_OPTIONS, ids=names)
@settings(max_examples=6)
@given(seeds, st.integers(1, 9), st.sampled_from([3, 20]), st.sampled_from([ways, shared]))
def test_class_indices(options, seed, rows, features, context):
    *arguments, options = problem(seed, (rows, features, 60), np.float64, options)
    with context():
        assert_is_gradient(*arguments, options)


@pytest.mark.parametrize("options", SOFT_OPTIONS, ids=names)
@settings(max_examples=6)
@given(seeds, st.integers(1, 9), st.sampled_from([3, 20]), st.sampled_from([ways, shared]))
def test_probabilities(options, seed, rows, features, context):
    *arguments, options = problem(seed, (rows, features, 60), np.float64, options, soft=True)
    with context():
        assert_is_gradient(*arguments, options)


@settings(max_examples=10)
@given(seeds, st.integers(1, 9), st.sampled_from([3, 20]))
def test_few_classes(seed, rows, features):
    *arguments, options = problem(seed, (rows, features, 5), np.float64)
    assert_is_gradient(*arguments, options)
