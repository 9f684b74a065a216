"""Shared by the tests of fastsoftmax.torch: tensors, options, and the checks of derivatives."""

import itertools

import pytest

from fastsoftmax.core.options import TERMS

torch = pytest.importorskip("torch")
torch.set_num_threads(1)  # more would spin beside ours

#: The options of a loss, each alone: a value that is neither off nor special, and has two derivatives everywhere.
VALUES = {term.option: {"focal_gamma": 2.5, "poly_epsilon": 1.5, "z_loss": 0.1, "softcap": 5.0}.get(
    term.option, term.tried[0]) for term in TERMS}  # fmt: skip
ALONE = [{}, *({name: value} for name, value in VALUES.items())]
PAIRS = [dict(pair) for pair in itertools.combinations(VALUES.items(), 2)]
REDUCTIONS = ("mean", "sum", "none")


def name_of(options):
    return "-".join(f"{name}={value}" for name, value in options.items()) or "plain"


def normal(*shape, seed=0, dtype=torch.float64, grad=True):
    numbers = torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return numbers.to(dtype).requires_grad_(grad)


def positive(*shape, seed=0, grad=False):
    return normal(*shape, seed=seed, grad=False).exp().requires_grad_(grad)


def classes(*shape, most, seed=0):
    """Class indices, one of which is ignored where there are several."""
    target = torch.randint(most, shape, generator=torch.Generator().manual_seed(seed))
    if target.numel() > 1:
        target.view(-1)[1] = -100
    return target


def assert_differentiable(function, *inputs):
    """First derivatives against differences of values, and second ones against differences of first ones."""
    assert torch.autograd.gradcheck(function, inputs, fast_mode=True)
    assert torch.autograd.gradgradcheck(function, inputs, fast_mode=True)
