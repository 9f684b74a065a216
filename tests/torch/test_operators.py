"""The custom operators, by all of torch's own checks, and what they are under compilers, transforms and modes."""

import math

import pytest

from tests.pairs import exhaustive_but, pairwise
from tests.torch.support import VALUES, classes, normal, positive, torch

ft = pytest.importorskip("fastsoftmax.torch")
from fastsoftmax.torch.losses import CROSS_ENTROPY  # noqa: E402

F = torch.nn.functional
TERMS = [[*VALUES.values()], [0.0, 0.0, 0.0, 0.0, 1.0, math.inf]]
DTYPES = [torch.float32, torch.bfloat16, torch.float16, torch.float64]


def operators(x, t, weights, up, parameters):
    """The three operators of a loss, with their arguments."""
    dim, ignored, terms, reduction = parameters
    given, options = (x, t, *weights), (dim, ignored, terms, reduction, None)
    yield CROSS_ENTROPY.value.op, (*given, *options)
    yield CROSS_ENTROPY.grad.op, (*given, up, *options, [True])
    if reduction != "none":
        yield CROSS_ENTROPY.both.op, (*given, *options, [True])


cases = pairwise(DTYPES, ["mean", "none"], [True, False], ["indices", "soft"], [True, False])


@pytest.mark.parametrize(("dtype", "reduction", "grad", "kind", "weighted"), exhaustive_but(cases[::4], cases), ids=str)
def test_opcheck(dtype, reduction, grad, kind, weighted):
    """Schema, autograd registration, fake tensors, AOT dispatch with dynamic shapes."""
    x = normal(4, 3, 2, dtype=dtype, grad=grad)
    t = classes(4, 2, most=3) if kind == "indices" else positive(4, 3, 2).to(x.dtype)
    real = torch.float64 if dtype == torch.float64 else torch.float32
    weights = (positive(3).to(real), positive(4, 2).to(real)) if weighted else (None, None)
    up = torch.ones((4, 2) if reduction == "none" else (), dtype=real, requires_grad=grad)
    terms = TERMS[1] if kind == "soft" else TERMS[weighted]
    for op, arguments in operators(x, t, weights, up, (1, -100, terms, reduction)):
        found = torch.library.opcheck(op, arguments)
        assert set(found.values()) == {"SUCCESS"}
        assert len(found) >= 4


@pytest.mark.parametrize("reduction", ["mean", "none"])
def test_compiled_without_a_break(reduction):
    """Of any shape, with the gradient, once for all of them."""

    def function(x, t):
        return (ft.cross_entropy(2 * x, t, label_smoothing=0.1, reduction=reduction) * 3).sum()

    compiled = torch.compile(function, backend="aot_eager", fullgraph=True, dynamic=True)
    for rows in (5, 7, 9):
        x, t = normal(rows, 4), classes(rows, most=4)
        grads = []
        for f in (function, compiled):
            loss = f(x, t)
            grads.append((loss, *torch.autograd.grad(loss, x)))
        torch.testing.assert_close(*grads, rtol=1e-13, atol=0)


def test_compiled_code_has_one_operator():
    graphs = []

    def backend(module, _):
        graphs.append([str(node.target) for node in module.graph.nodes if node.op == "call_function"])
        return module.forward

    torch.compile(ft.cross_entropy, backend=backend, fullgraph=True)(normal(5, 4, grad=False), classes(5, most=4))
    assert graphs == [["fastsoftmax.cross_entropy.default"]]


def test_meta_and_fake_tensors():
    from torch._subclasses.fake_tensor import FakeTensorMode

    x, t = normal(5, 4, dtype=torch.bfloat16, grad=False), classes(5, most=4)
    loss = ft.cross_entropy(x.to("meta").requires_grad_(), t.to("meta"))
    assert (loss.device.type, loss.shape, loss.dtype) == ("meta", (), torch.float32)
    with FakeTensorMode() as mode:
        loss = ft.cross_entropy(mode.from_tensor(x), mode.from_tensor(t), reduction="none")
    assert (loss.shape, loss.dtype) == ((5,), torch.float32)


@pytest.mark.parametrize("reduction", ["mean", "none"])
def test_transforms(reduction):
    """torch.func.grad, vmap, and the two together."""
    x, t = normal(3, 5, 4, grad=False), classes(3, 5, most=4)

    def of(f):
        return lambda x, t: (f(x, t, reduction=reduction, label_smoothing=0.1) ** 2).sum()

    ours, theirs = of(ft.cross_entropy), of(F.cross_entropy)
    for transform in (torch.func.vmap, lambda f: torch.func.vmap(torch.func.grad(f))):
        torch.testing.assert_close(transform(ours)(x, t), transform(theirs)(x, t), rtol=1e-12, atol=1e-14)
    torch.testing.assert_close(torch.func.grad(ours)(x[0], t[0]), torch.func.grad(theirs)(x[0], t[0]))
