"""The custom operators, by all of torch's own checks, and what they are under compilers, transforms and modes."""

import math

import pytest

from tests.pairs import exhaustive_but, pairwise
from tests.torch.support import VALUES, classes, normal, positive, torch

ft = pytest.importorskip("fastsoftmax.torch")
from fastsoftmax.torch import losses, rowwise  # noqa: E402

F = torch.nn.functional
TERMS = [[*VALUES.values()], [0.0, 0.0, 0.0, 0.0, 1.0, math.inf]]
DTYPES = [torch.float32, torch.bfloat16, torch.float16, torch.float64]


def operators(x, t, weights, up, parameters):
    """The three operators of a loss, with their arguments."""
    dim, ignored, terms, reduction = parameters
    class_weight, sample_weight = weights
    given, options = (x, t, class_weight, None, None, sample_weight), (dim, ignored, terms, reduction, None)
    yield losses.CROSS_ENTROPY.value.op, (*given, *options)
    yield losses.CROSS_ENTROPY.grad.op, (*given, up, *options, [True])
    if reduction != "none":
        yield losses.CROSS_ENTROPY.both.op, (*given, *options, [True])


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


def others():
    """The other operators, with arguments of which the first gradients are wanted."""
    x, y, t = normal(4, 3, 2), normal(4, 3, 2, seed=1), classes(4, 2, most=3)
    features, w, b, labels = normal(6, 3), normal(4, 3, seed=1), normal(4, seed=2), classes(6, most=4)
    up, scalar = normal(4, 2), torch.tensor(2.0, dtype=torch.float64, requires_grad=True)
    linear, plain = (features, w, b, labels, None, b, None), (-100, TERMS[1], "mean", None, None)
    stats = ([1.0, math.inf], -100)
    yield rowwise.SOFTMAX, (x, x > -1, 1, True)
    yield rowwise.SOFTMAX_VJP, (x, y, 1, False)
    yield rowwise.LOGSUMEXP, (x, x > -1, [0, 1])
    yield rowwise.LOGSUMEXP, (x, None, [1])
    yield rowwise.ROW_STATISTICS, (x, t, x > -1, normal(3, seed=3), 1, *stats, 2, 511)
    yield rowwise.STATISTICS_GRAD, (x, t, None, None, up, None, up.detach(), 1, *stats)
    yield rowwise.LINEAR_STATISTICS, (features, w, b, labels, b, *stats, 2, 511)
    yield (
        rowwise.LINEAR_STATISTICS_GRAD,
        (features, w, b, labels, None, normal(6), None, None, *stats, [True, True, False]),
    )
    yield losses.LINEAR_CROSS_ENTROPY.value, (*linear, *plain)
    yield losses.LINEAR_CROSS_ENTROPY.both, (*linear, *plain, [True, False, True])
    yield losses.LINEAR_CROSS_ENTROPY.grad, (*linear, scalar, *plain, [True, True, True])
    kinds = (1, 1.0, "logits")
    yield losses.KL_DIVERGENCE.value, (x, y, None, x > -1, positive(4, 2), *kinds, "forward", 0.0, "", "none")
    yield losses.KL_DIVERGENCE.grad, (x, y, None, None, positive(4, 2), up, *kinds, "", 0.3, "", "none", [True])
    pair = torch.log_softmax(y, 1)[:, :2].detach().requires_grad_(), torch.tensor([[2], [0]]).expand(4, 2, 2)
    yield losses.KL_DIVERGENCE.value, (x, *pair, None, None, *kinds, "forward", 0.0, "bucket", "mean")
    yield losses.KL_DIVERGENCE.both, (x, *pair, None, None, *kinds, "", 0.3, "bucket", "mean", [True])
    yield losses.KL_DIVERGENCE.grad, (x, *pair, None, positive(4, 2), up, *kinds, "", 0.3, "bucket", "none", [True])


@pytest.mark.parametrize(("operator", "arguments"), list(others()), ids=lambda v: getattr(v, "name", ""))
def test_opcheck_of_others(operator, arguments):
    assert set(torch.library.opcheck(operator.op, arguments).values()) == {"SUCCESS"}


def test_everything_is_compiled_without_a_break():
    """Forward and backward, of any shape."""

    def function(x, t, features, w, labels):
        a = ft.cross_entropy(x, t, stats=("entropy", "top_k"), k=2)
        b = ft.linear_cross_entropy(features, w, labels, shift=1, stats="log_prob")
        c = ft.logsumexp(x, 1).sum() + ft.softmax(x, 1).pow(2).sum() + ft.log_softmax(x, 0).exp().pow(3).sum()
        d = ft.kl_divergence(x, 2 * x, dim=1) + ft.kl_divergence(x, x + 1, dim=1, direction=0.5)
        top = ft.row_stats(2 * x.detach(), want="top_k", dim=1, k=2).top_k
        d = (
            d
            + ft.kl_divergence(x, [each.movedim(-1, 1) for each in top], dim=1, tail="bucket")
            + ft.softmax(x, 1, where=x < 9).pow(2).sum()
        )
        e = ft.row_stats(x, t, want=("log_sum_exp", "correct"), dim=1).log_sum_exp.sum()
        return a.loss + a.entropy.sum() + b.loss + b.log_prob.sum() + c + d + e, a.top_k.indices

    compiled = torch.compile(function, backend="aot_eager", fullgraph=True, dynamic=True)
    for rows in (4, 6):
        arguments = normal(rows, 3, 2), classes(rows, 2, most=3), normal(rows, 5, 3), normal(4, 3, seed=1)
        arguments = *arguments, classes(rows, 5, most=4)
        results = [f(*arguments) for f in (function, compiled)]
        torch.testing.assert_close(*results)
        grads = [torch.autograd.grad(loss, [a for a in arguments if a.requires_grad]) for loss, _ in results]
        torch.testing.assert_close(*grads, rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("reduction", ["mean", "none"])
def test_compiled_without_a_break(reduction):
    """Of any shape and options, with the gradient."""

    def function(x, t, temperature):
        loss = ft.cross_entropy(2 * x, t, label_smoothing=0.1, temperature=temperature, reduction=reduction)
        return (3 * loss).sum()

    compiled = torch.compile(function, backend="aot_eager", fullgraph=True, dynamic=True)
    for rows, temperature in ((5, 0.5), (7, 1.5), (9, 2.5)):
        x, t = normal(rows, 4), classes(rows, most=4)
        grads = []
        for f in (function, compiled):
            loss = f(x, t, temperature)
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
    features, w = normal(5, 3).to("meta"), normal(4, 3).to("meta")
    found = ft.linear_cross_entropy(features, w, t.to("meta"), stats="entropy")
    grads = torch.autograd.grad(found.loss + found.entropy.sum(), (features, w), create_graph=True)
    assert [g.shape for g in torch.autograd.grad(sum(g.sum() for g in grads), (features, w))] == [(5, 3), (4, 3)]
    with FakeTensorMode() as mode:
        loss = ft.cross_entropy(mode.from_tensor(x), mode.from_tensor(t), reduction="none")
    assert (loss.shape, loss.dtype) == ((5,), torch.float32)


def test_meta_tensors_beside_real_ones():
    """Without a check the result is memory that nobody has written to."""
    x, t, w = normal(5, 4, grad=False), classes(5, most=4), normal(4, 4, grad=False)
    for call in (
        lambda: ft.cross_entropy(x, t.to("meta")),
        lambda: ft.cross_entropy(x.to("meta"), t),
        lambda: ft.cross_entropy(x.clone().requires_grad_(), t.to("meta"), reduction="none"),
        lambda: ft.linear_cross_entropy(x, w, t.to("meta")),
        lambda: ft.row_stats(x, t.to("meta"), want="log_prob"),
    ):
        with pytest.raises(ValueError, match=r"one device, got (cpu and meta|meta and cpu); pass tensor.to"):
            call()


@pytest.mark.parametrize("reduction", ["mean", "none"])
def test_vmap_over_nothing(reduction):
    """As torch's own: no results, of the right shape and dtype, and a gradient."""
    x, t = torch.zeros(5, 0, 4, dtype=torch.bfloat16), classes(0, 5, most=4)
    found, expected = (
        torch.func.vmap(lambda x, t, f=f: f(x, t, reduction=reduction), in_dims=(1, 0))(x, t)
        for f in (ft.cross_entropy, lambda x, *rest, **more: F.cross_entropy(x.float(), *rest, **more))
    )
    assert (found.shape, found.dtype) == (expected.shape, torch.float32)
    grad = torch.func.grad(lambda x: torch.func.vmap(ft.cross_entropy, in_dims=(1, 0))(x, t).sum())(x)
    assert (grad.shape, grad.dtype) == (x.shape, x.dtype)


@pytest.mark.parametrize("reduction", ["mean", "none"])
def test_transforms(reduction):
    """torch.func.grad, vmap, and the two together in both orders, inside and outside of compiled code."""
    x, t = normal(3, 5, 4, grad=False), classes(3, 5, most=4)

    def of(f):
        return lambda x, t: (f(x, t, reduction=reduction, label_smoothing=0.1) ** 2).sum()

    ours, theirs = of(ft.cross_entropy), of(F.cross_entropy)
    for transform in (
        torch.func.vmap,
        lambda f: torch.func.vmap(torch.func.grad(f)),
        lambda f: torch.func.grad(lambda x, t: torch.func.vmap(f)(x, t).sum()),
        lambda f: torch.compile(torch.func.vmap(f), backend="aot_eager", fullgraph=True),
        lambda f: torch.func.vmap(torch.func.jacrev(torch.func.grad(f))),
    ):
        torch.testing.assert_close(transform(ours)(x, t), transform(theirs)(x, t), rtol=1e-12, atol=1e-14)
    torch.testing.assert_close(torch.func.grad(ours)(x[0], t[0]), torch.func.grad(theirs)(x[0], t[0]))


def test_transforms_of_others():
    """Maps, statistics and divergences under vmap and grad."""
    x, y = normal(3, 5, 4, grad=False), normal(3, 5, 4, seed=1, grad=False)

    def ours(x, y):
        stats = ft.row_stats(x, want=("entropy", "log_sum_exp", "top_k"), k=4)
        return (ft.kl_divergence(x, y, reduction="sum") + ft.softmax(x).pow(2).sum()
                + ft.kl_divergence(x, (stats.top_k.indices[:, :1], y[:, :1]), tail="ignore", reduction="sum")
                + stats.entropy.sum() + stats.log_sum_exp.sum() + ft.logsumexp(y, where=y > -9).sum())  # fmt: skip

    def theirs(x, y):
        p, q = torch.log_softmax(x, -1), torch.log_softmax(y, -1)
        return (F.kl_div(p, q, reduction="sum", log_target=True) + p.exp().pow(2).sum()
                + (y[:, :1].exp() * (y[:, :1] - p.max(-1, keepdim=True).values)).sum()
                - (p.exp() * p).sum() + torch.logsumexp(x, -1).sum() + torch.logsumexp(y, -1).sum())  # fmt: skip

    found, expected = (torch.func.vmap(torch.func.grad(f))(x, y) for f in (ours, theirs))
    torch.testing.assert_close(found, expected, rtol=1e-11, atol=1e-13)


def test_per_sample_gradients_of_a_linear_map():
    x, w, t = normal(3, 5, 4, grad=False), normal(6, 4, seed=1, grad=False), classes(3, 5, most=6)
    found, expected = (
        torch.func.vmap(torch.func.grad(f), in_dims=(None, 0, 0))(w, x, t)
        for f in (lambda w, x, t: ft.linear_cross_entropy(x, w, t), lambda w, x, t: F.cross_entropy(x @ w.T, t))
    )
    torch.testing.assert_close(found, expected, rtol=1e-11, atol=1e-13)


def samples(name):
    pytest.importorskip("expecttest")  # which torch's own tests need
    from torch.testing._internal.common_methods_invocations import op_db

    (info, *_) = [info for info in op_db if info.name == name and not info.variant_test_name]
    return info.sample_inputs("cpu", torch.float64, requires_grad=True)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize("name", ["nn.functional.cross_entropy", "softmax", "log_softmax", "logsumexp"])
def test_sample_inputs_of_torch(name):
    """Torch's own: options, layouts, shapes; without those that we refuse: no classes, negative weights."""
    function, theirs = getattr(ft, name.rpartition(".")[2]), F.cross_entropy
    tried = 0
    for sample in samples(name):
        theirs = F.cross_entropy if "cross" in name else getattr(torch, name)
        if 0 in sample.input.shape or (sample.input.ndim == 0 and name == "logsumexp"):
            continue
        tried += 1
        more = {name: v.detach().abs() if name == "weight" else v for name, v in sample.kwargs.items()}
        found, expected = (f(sample.input, *sample.args, **more) for f in (function, theirs))
        torch.testing.assert_close(found, expected, rtol=1e-11, atol=1e-13, equal_nan=True)
        if expected.requires_grad:
            of = [v for v in (sample.input, *sample.args) if torch.is_tensor(v) and v.requires_grad]
            grads = [torch.autograd.grad(v.sum(), of, allow_unused=True) for v in (found, expected)]
            torch.testing.assert_close(*grads, rtol=1e-10, atol=1e-13, equal_nan=True)
    assert tried >= 3
