"""The losses and gradients of PyTorch, to the letter, over random combinations of the options that it has.

Runs where PyTorch is installed (``pip install '.[torch]'``).
"""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import fastsoftmax as fs
from tests.support import labels, logits, probabilities, seeds

torch = pytest.importorskip("torch")
F = torch.nn.functional


@st.composite
def options_of_both(draw):
    """Options as PyTorch names them, without weights."""
    return {
        "label_smoothing": draw(st.sampled_from([0.0, 0.1, 1.0])),
        "reduction": draw(st.sampled_from(["mean", "sum", "none"])),
    }


def theirs(x, target, weight, options, upstream):
    """Loss and gradient by autograd; classes in the second axis, as PyTorch wants them."""
    logits_ = torch.tensor(x, requires_grad=True)
    given_ = None if weight is None else torch.tensor(weight, dtype=torch.float64)
    loss = F.cross_entropy(logits_, torch.tensor(target), weight=given_, **options)
    loss.backward(torch.tensor(upstream) if options["reduction"] == "none" else None)
    return loss.detach().numpy(), logits_.grad.numpy()


def ours(x, target, weight, options, upstream):
    """The same by this library."""
    more = {"grad_output": upstream} if options["reduction"] == "none" else {}
    return fs.cross_entropy_and_grad(x, target, axis=1, class_weight=weight, **options, **more)


def assert_same(x, target, weight, options, upstream):
    loss, grad = theirs(x, target, weight, options, upstream)
    result = ours(x, target, weight, options, upstream)
    np.testing.assert_allclose(result.loss, loss, rtol=1e-11, atol=1e-14)
    np.testing.assert_allclose(result.grad, grad, rtol=1e-9, atol=1e-14)


shapes = st.sampled_from([(1, 1), (7, 2), (20, 10), (5, 100), (3, 5, 4), (2, 3, 4, 5)])


@given(seeds, shapes, options_of_both(), st.booleans(), st.sampled_from([-100, -1, 0, 1000]))
def test_class_indices(seed, shape, options, weighted, ignore_index):
    random = np.random.default_rng(seed)
    x = logits(seed, shape, np.float64)
    target = labels(random, np.moveaxis(x, 1, -1).shape, ignored=0.3, ignore_index=ignore_index)
    weight = random.uniform(0.1, 2, shape[1]) if weighted else None
    assert_same(x, target, weight, {**options, "ignore_index": ignore_index}, random.standard_normal(target.shape))


@given(seeds, shapes, options_of_both(), st.booleans())
def test_probabilities(seed, shape, options, weighted):
    random = np.random.default_rng(seed)
    x, target = logits(seed, shape, np.float64), probabilities(random, shape, np.float64)
    weight = random.uniform(0.1, 2, shape[1]) if weighted else None
    upstream = random.standard_normal(shape[:1] + shape[2:])
    assert_same(x, target, weight, options, upstream)


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
@pytest.mark.parametrize("weight", [None, [1.0, 0.0, 2.0]])
def test_all_ignored(reduction, weight, smoothing):
    options = {"reduction": reduction, "label_smoothing": smoothing}
    assert_same(np.ones((4, 3)), np.full(4, -100), weight, options, np.ones(4))


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_weights_that_add_up_to_nothing(smoothing):
    """A mean over weights of 0 is NaN, and so is its gradient."""
    options = {"reduction": "mean", "label_smoothing": smoothing}
    x, target, weight = logits(0, (4, 3), np.float64), np.full(4, 1), [1.0, 0.0, 2.0]
    assert_same(x, target, weight, options, None)


@pytest.mark.parametrize("name", ["softmax", "log_softmax", "logsumexp"])
@pytest.mark.parametrize("classes", [5, 300])
def test_maps(name, classes):
    """Infinities and NaN included."""
    x = logits(0, (12, classes), np.float64)
    x[1, 2], x[2, 0], x[3, 4], x[4] = np.nan, np.inf, -np.inf, -np.inf
    x[5, :2] = np.inf
    expected = getattr(torch, name)(torch.tensor(x), -1).numpy()
    np.testing.assert_allclose(getattr(fs, name)(x), expected, rtol=1e-13, atol=1e-300)


@pytest.mark.parametrize("name", ["softmax", "log_softmax"])
@given(seeds)
def test_products(name, seed):
    x, g = logits(seed, (6, 20), np.float64), logits(seed + 1, (6, 20), np.float64)
    of = torch.tensor(x, requires_grad=True)
    y = getattr(torch, name)(of, -1)
    y.backward(torch.tensor(g))
    result = getattr(fs, name + "_vjp")(y.detach().numpy(), g)
    np.testing.assert_allclose(result, of.grad.numpy(), rtol=1e-10, atol=1e-14)


def test_probabilities_are_not_ignored():
    """Both refuse to ignore rows of probabilities."""
    x = logits(0, (4, 3), np.float64)
    with pytest.raises(RuntimeError, match="ignore_index"):
        F.cross_entropy(torch.tensor(x), torch.tensor(x), ignore_index=1)
    with pytest.raises(ValueError, match="ignore_index"):
        fs.cross_entropy(x, x, ignore_index=1)
