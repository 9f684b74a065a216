"""fastsoftmax.torch.linear_cross_entropy against torch's logits and cross_entropy, and its derivatives."""

import inspect
import math

import pytest

import fastsoftmax as fs
from tests.pairs import exhaustive_but
from tests.torch.support import (
    ALONE,
    REDUCTIONS,
    VALUES,
    assert_differentiable,
    classes,
    name_of,
    normal,
    positive,
    torch,
)

ft = pytest.importorskip("fastsoftmax.torch")
from fastsoftmax.torch import rowwise  # noqa: E402

F = torch.nn.functional


def problem(n=6, d=3, k=4, dtype=torch.float64):
    return normal(n, d, dtype=dtype), normal(k, d, seed=1, dtype=dtype), normal(k, seed=2, dtype=dtype)


def test_every_option_is_there():
    def options(function):
        return {n: p.default for n, p in inspect.signature(function).parameters.items() if p.kind == p.KEYWORD_ONLY}

    expected, found = options(fs.linear_cross_entropy), options(ft.linear_cross_entropy)
    assert {name: found[name] for name in expected} == expected
    assert set(found) - set(expected) == {"shift", "stats", "k"}


@pytest.mark.parametrize("reduction", REDUCTIONS)
@pytest.mark.parametrize("options", exhaustive_but([ALONE[0], ALONE[1], VALUES], [*ALONE, VALUES]), ids=name_of)
def test_derivatives(options, reduction):
    (x, w, b), t = problem(), classes(6, most=4)
    assert_differentiable(lambda x, w, b: ft.linear_cross_entropy(x, w, t, b, reduction=reduction, **options), x, w, b)


@pytest.mark.parametrize("reduction", ["mean", "none"])
def test_derivatives_by_probabilities_and_weights(reduction):
    (x, w, _), q = problem(4), positive(4, 4, grad=True)
    c, s = positive(4, seed=4, grad=True), positive(4, seed=5, grad=True)
    assert_differentiable(
        lambda *a: ft.linear_cross_entropy(*a[:3], class_weight=a[3], sample_weight=a[4], reduction=reduction),
        *(x, w, q, c, s),
    )


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16, torch.float16], ids=str)
@pytest.mark.parametrize("reduction", REDUCTIONS)
def test_values_and_gradients(reduction, dtype):
    """Of what needs one alone, in its own dtype, for any upstream gradient."""
    arrays, t = problem(dtype=dtype), classes(6, most=4)
    wide = [a.detach().double().requires_grad_() for a in arrays]
    tolerance = {torch.float64: 1e-12, torch.float32: 1e-5, torch.bfloat16: 1e-2, torch.float16: 2e-3}[dtype]
    for needs in ((0, 1, 2), (1,), (0, 2)):
        given = [a if i in needs else a.detach() for i, a in enumerate(arrays)]
        loss = ft.linear_cross_entropy(given[0], given[1], t, given[2], reduction=reduction, label_smoothing=0.1)
        exact = F.cross_entropy(F.linear(*wide), t, reduction=reduction, label_smoothing=0.1)
        torch.testing.assert_close(loss.double(), exact, rtol=1e-5, atol=1e-6)
        up = positive(*loss.shape)
        found = torch.autograd.grad(loss, [arrays[i] for i in needs], up.to(loss.dtype))
        expected = torch.autograd.grad(exact, [wide[i] for i in needs], up)
        for f, e in zip(found, expected, strict=True):
            assert f.dtype == dtype
            torch.testing.assert_close(f.double(), e, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("shift", [0, 1, 2, 7])
@pytest.mark.parametrize("reduction", REDUCTIONS)
def test_sequences_and_shifts(reduction, shift):
    x, w, t = normal(2, 5, 3), normal(4, 3, seed=1), classes(2, 5, most=4)
    loss = ft.linear_cross_entropy(x, w, t, shift=shift, reduction=reduction)
    z, ahead = F.linear(x, w)[:, : max(5 - shift, 0)], t[:, shift:]
    expected = F.cross_entropy(z.flatten(0, 1), ahead.flatten(), reduction=reduction)
    assert loss.shape == (ahead.shape if reduction == "none" else ())
    torch.testing.assert_close(loss.flatten(), expected.flatten(), equal_nan=True)
    if shift < 5:
        found, exact = (torch.autograd.grad(of.sum(), (x, w)) for of in (loss, expected))
        torch.testing.assert_close(found, exact, rtol=1e-10, atol=1e-14)


def test_offsets_of_classes():
    (x, w, b), t, offset = problem(), classes(6, most=4), normal(4, seed=3)

    def of(x, w, b, offset):
        found = ft.linear_cross_entropy(x, w, t, b, class_offset=offset, stats=("log_prob", "entropy"))
        return found.loss, found.log_prob, found.entropy

    assert_differentiable(of, x, w, b, offset)
    expected = F.cross_entropy(F.linear(x, w, b) + offset, t)
    torch.testing.assert_close(of(x, w, b, offset)[0], expected)


def test_probabilities_are_not_shifted():
    x, w = normal(2, 5, 3), normal(4, 3, seed=1)
    with pytest.raises(ValueError, match="shift needs class indices of shape"):
        ft.linear_cross_entropy(x, w, positive(2, 5, 4), shift=1)
    loss = ft.linear_cross_entropy(x, w, positive(2, 5, 4), reduction="none")
    assert loss.shape == (2, 5)


def test_statistics():
    """Differentiable, from features as from logits, in blocks of rows."""
    (x, w, b), t = problem(), classes(6, most=4)
    names = ("log_prob", "entropy", "log_sum_exp")

    def of(x, w, b):
        found = ft.linear_cross_entropy(x, w, t, b, temperature=0.7, softcap=3.0, stats=names)
        return tuple(getattr(found, name) for name in ("loss", *names))

    assert_differentiable(of, x, w, b)
    assert_differentiable(lambda w: of(x.detach(), w, b.detach())[2], w)
    everything = ft.linear_cross_entropy(x, w, t, b, stats=("top_k", "rank", *names), k=2)
    expected = ft.row_stats(F.linear(x, w, b), t, want=("top_k", "rank", *names), k=2)
    torch.testing.assert_close(tuple(everything[1:]), tuple(expected))
    sequences = ft.linear_cross_entropy(x.view(2, 3, 3), w, t.view(2, 3), shift=1, stats=("rank", "top_k"), k=2)
    assert sequences.rank.shape == (2, 2)
    assert sequences.top_k.indices.shape == (2, 2, 2)


def test_gradients_of_statistics_by_blocks(monkeypatch):
    (x, w, b), t = problem(), classes(6, most=4)

    def grads():
        found = ft.linear_cross_entropy(x, w, t, b, stats=("log_prob", "entropy"))
        return torch.autograd.grad(found.log_prob.sum() + found.entropy.pow(2).sum(), (x, w, b))

    together = grads()
    monkeypatch.setattr(rowwise, "BLOCK", 8)
    torch.testing.assert_close(grads(), together, rtol=1e-12, atol=1e-15)


def test_ignored_rows_reach_nothing():
    (x, w, b), t = problem(), torch.tensor([0, -100, 1, 2, 3, 0])
    with torch.no_grad():
        x[1] = math.nan
    for grad in torch.autograd.grad(ft.linear_cross_entropy(x, w, t, b), (x, w, b)):
        assert grad.isfinite().all()


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
def test_autocast(dtype):
    """Products of the autocast dtype, gradients in that of the parameters, compiled or not."""
    (x, w, b), t = problem(dtype=torch.float32), classes(6, most=4)

    def of(x, w, b):
        with torch.autocast("cpu", dtype):
            return ft.linear_cross_entropy(x, w, t, b)

    expected = ft.linear_cross_entropy(*(v.to(dtype) for v in (x, w)), t, b.to(dtype))
    exact = torch.autograd.grad(expected, (x, w, b))
    for f in (of, torch.compile(of, backend="aot_eager", fullgraph=True)):
        loss = f(x, w, b)
        assert loss.dtype == torch.float32
        torch.testing.assert_close(loss, expected, rtol=1e-6, atol=0)
        grads = torch.autograd.grad(loss, (x, w, b))
        torch.testing.assert_close(grads, exact, rtol=1e-2, atol=1e-4)
        assert {grad.dtype for grad in grads} == {torch.float32}


def test_module():
    module = ft.LinearCrossEntropyLoss(3, 4, bias=True, dtype=torch.float64, label_smoothing=0.1, shift=1)
    x, t = normal(2, 5, 3), classes(2, 5, most=4)
    loss = module(x, t)
    loss.backward()
    z = F.linear(x, module.linear.weight, module.linear.bias)[:, :-1]
    torch.testing.assert_close(loss, F.cross_entropy(z.flatten(0, 1), t[:, 1:].flatten(), label_smoothing=0.1))
    assert module.linear.weight.grad is not None
    assert set(module.state_dict()) == {"linear.weight", "linear.bias"}
    assert "label_smoothing=0.1" in repr(module)
