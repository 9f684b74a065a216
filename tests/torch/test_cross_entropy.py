"""fastsoftmax.torch.cross_entropy: values and gradients against the reference, derivatives against differences."""

import inspect
import math

import numpy as np
import pytest

import fastsoftmax as fs
from fastsoftmax import reference
from fastsoftmax.core.options import TERMS
from tests.pairs import exhaustive_but, pairwise
from tests.torch.support import (
    ALONE,
    PAIRS,
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
F = torch.nn.functional
HARD_ONLY = {term.option for term in TERMS if term.indices_only}
OF_HALVES = {torch.float16: (1e-3, 1e-6), torch.bfloat16: (8e-3, 1e-6), torch.float32: (1e-5, 1e-6)}


def numbers(tensor):
    return (
        None if tensor is None else tensor.detach().double().numpy() if tensor.is_floating_point() else tensor.numpy()
    )


def loss_and_grad(x, *arguments, up=1.0, **options):
    loss = ft.cross_entropy(x, *arguments, **options)
    (grad,) = torch.autograd.grad(loss, x, torch.as_tensor(up, dtype=loss.dtype).expand(loss.shape))
    return loss, grad


def assert_as_reference(x, t, weight=None, up=1.0, **options):
    """Loss and gradient for logits with their classes in dimension 1."""
    loss, grad = loss_and_grad(x, t, weight, up=up, **options)
    more = {name: numbers(v) if torch.is_tensor(v) else v for name, v in options.items()}
    expected = reference.cross_entropy_and_grad(
        numbers(x), numbers(t), axis=1, class_weight=numbers(weight), grad_output=up, **more
    )
    rtol, atol = OF_HALVES.get(x.dtype, (1e-11, 1e-14))
    np.testing.assert_allclose(numbers(loss), expected.loss, rtol=min(rtol, 1e-4), atol=atol)
    np.testing.assert_allclose(numbers(grad), expected.grad, rtol=rtol, atol=atol)
    assert (grad.dtype, grad.shape) == (x.dtype, x.shape)
    assert loss.dtype == (torch.float64 if x.dtype == torch.float64 else torch.float32)


def options_of(function):
    return {name: p.default for name, p in inspect.signature(function).parameters.items() if p.kind == p.KEYWORD_ONLY}


def test_every_option_is_there():
    expected = options_of(fs.cross_entropy)
    del expected["axis"], expected["class_weight"]
    found = options_of(ft.cross_entropy)
    assert {name: found[name] for name in expected} == expected
    assert set(found) - set(expected) <= {"dim", "stats", "k"}


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16, torch.float16], ids=str)
@pytest.mark.parametrize("reduction", REDUCTIONS)
def test_values(dtype, reduction):
    x, t = normal(7, 5, dtype=dtype), classes(7, most=5)
    assert_as_reference(x, t, reduction=reduction)
    assert_as_reference(x, t, up=0.5, reduction=reduction, label_smoothing=0.1)


@pytest.mark.parametrize("shape", [(4, 5, 3), (2, 5, 3, 2)])
@pytest.mark.parametrize("reduction", REDUCTIONS)
def test_classes_are_in_dimension_1(shape, reduction):
    rows = shape[:1] + shape[2:]
    x, t, w, s = normal(*shape), classes(*rows, most=5), positive(5, seed=2), positive(*rows, seed=3)
    assert_as_reference(x, t, w, sample_weight=s, reduction=reduction)
    loss = ft.cross_entropy(x.movedim(1, -1), t, w, sample_weight=s, reduction=reduction, dim=-1)
    torch.testing.assert_close(loss, ft.cross_entropy(x, t, w, sample_weight=s, reduction=reduction))


@pytest.mark.parametrize("kind", ["indices", "probabilities"])
@pytest.mark.parametrize("reduction", ["mean", "none"])
def test_masks_and_offsets(reduction, kind):
    """Of classes, in dimension 1: values, derivatives by offsets too, and none of what is masked."""
    x, where = normal(4, 5, 3), torch.rand(4, 5, 1, generator=torch.Generator().manual_seed(0)) > 0.3
    where[:, 2] = True
    t = torch.full((4, 3), 2) if kind == "indices" else positive(4, 5, 3, seed=2) * where
    offset, more = normal(5, seed=1), {"label_smoothing": 0.1, "reduction": reduction}
    assert_as_reference(x, t, where=where, class_offset=offset.detach(), **more)
    assert_differentiable(lambda x, o: ft.cross_entropy(x, t, where=where, class_offset=o, **more), x, offset)
    names = ("log_prob", "entropy")
    if kind == "indices":
        assert_differentiable(
            lambda x, o: ft.cross_entropy(x, t, where=where, class_offset=o, stats=names, **more)[:3], x, offset
        )
    with torch.no_grad():
        x.masked_fill_(~where, math.nan)
    (grad,) = torch.autograd.grad(ft.cross_entropy(x, t, where=where, **more).sum(), x, create_graph=True)
    (second,) = torch.autograd.grad(grad.pow(2).sum(), x)
    for g in (grad, second):
        assert (g[~where.expand_as(g)] == 0).all()
        assert g.isfinite().all()


def test_a_row_alone():
    x = normal(5)
    loss, grad = loss_and_grad(x, torch.tensor(2))
    expected = reference.cross_entropy_and_grad(numbers(x), 2)
    np.testing.assert_allclose((loss.item(), *grad.tolist()), (expected.loss, *expected.grad), rtol=1e-12)


cases = exhaustive_but(
    [(o, r) for o in ALONE for r in REDUCTIONS if (not o) or r == REDUCTIONS[len(o) % 3 - 1]],
    [(o, r) for o in (*ALONE, *PAIRS) for r in REDUCTIONS],
)


@pytest.mark.parametrize(("options", "reduction"), cases, ids=lambda v: v if isinstance(v, str) else name_of(v))
def test_derivatives(options, reduction):
    """Of class indices, with and without weights, by everything that has any."""
    t = classes(4, most=3)
    x, w, s = normal(4, 3), positive(3, seed=1, grad=True), positive(4, seed=2, grad=True)
    assert_differentiable(lambda x: ft.cross_entropy(x, t, reduction=reduction, **options), x)
    assert_differentiable(
        lambda x, w, s: ft.cross_entropy(x, t, w, sample_weight=s, reduction=reduction, **options), x, w, s
    )


soft = [o for o in (*ALONE, *PAIRS) if not HARD_ONLY & set(o)]


@pytest.mark.parametrize("reduction", exhaustive_but(["mean", "none"], REDUCTIONS))
@pytest.mark.parametrize("options", exhaustive_but([soft[0], soft[-1]], soft), ids=name_of)
def test_derivatives_with_probabilities(options, reduction):
    """The probabilities' own included."""
    x, q = normal(4, 3), positive(4, 3, seed=1, grad=True)
    w, s = positive(3, seed=2, grad=True), positive(4, seed=3, grad=True)
    assert_differentiable(
        lambda x, q, w, s: ft.cross_entropy(x, q, w, sample_weight=s, reduction=reduction, **options), x, q, w, s
    )


@pytest.mark.parametrize("options", [o for o in ALONE if o], ids=name_of)
def test_options_matter_to_second_derivatives(options):
    """The Hessian with an option is not the one without: of weighted classes, which smoothing needs for that."""
    x, t, w = normal(3, 4), classes(3, most=4), positive(4)
    plain, other = (
        torch.autograd.functional.hessian(lambda x, o=o: ft.cross_entropy(x, t, w, **o), x) for o in ({}, options)
    )
    assert (plain - other).abs().max() > 1e-4


def test_second_derivatives_are_those_of_torch():
    x, t = normal(6, 5), classes(6, most=5)
    options = {"label_smoothing": 0.1, "weight": positive(5)}
    ours, theirs = (
        torch.autograd.functional.hessian(lambda x, f=f: f(x, t, **options), x)
        for f in (ft.cross_entropy, F.cross_entropy)
    )
    torch.testing.assert_close(ours, theirs, rtol=1e-11, atol=1e-14)


def test_third_derivatives():
    x, t = normal(2, 3), classes(2, most=3)

    def gradient(x, f):
        return torch.autograd.grad(f(x, t), x, create_graph=True)[0].pow(2).sum()

    found = [torch.autograd.functional.hessian(lambda x, f=f: gradient(x, f), x) for f in
             (ft.cross_entropy, F.cross_entropy)]  # fmt: skip
    torch.testing.assert_close(*found, rtol=1e-10, atol=1e-14)


@pytest.mark.parametrize("up", [1.0, 0.25])
@pytest.mark.parametrize("reduction", REDUCTIONS)
def test_a_graph_that_is_kept_gives_the_same_again(reduction, up):
    x, t = normal(5, 4), classes(5, most=4)
    loss = ft.cross_entropy(x, t, reduction=reduction)
    ups = torch.full(loss.shape, up, dtype=torch.float64)
    first = torch.autograd.grad(loss, x, ups, retain_graph=True)[0].clone()
    x.grad = torch.zeros_like(x)
    loss.backward(ups, retain_graph=True)
    loss.backward(ups)
    torch.testing.assert_close(x.grad, 2 * first, rtol=1e-15, atol=0)


def test_gradients_of_different_calls_are_apart():
    """What the backward pass hands out belongs to its leaf: adding to it changes nobody else's."""
    x, y, t = normal(5, 4), normal(5, 4), classes(5, most=4)
    for of in (x, y):
        ft.cross_entropy(of, t).backward()
    before = y.grad.clone()
    x.grad.zero_()
    assert torch.equal(y.grad, before)


def test_broadcast_upstream_gradients():
    x, t = normal(6, 4), classes(6, most=4)
    ft.cross_entropy(x, t, reduction="none").sum().backward()
    torch.testing.assert_close(x.grad, loss_and_grad(x, t, reduction="sum")[1], rtol=1e-13, atol=0)


layouts = {
    "transposed": lambda x: x.t().contiguous().t(),
    "every second": lambda x: x.repeat_interleave(2, 1)[:, ::2],
    "broadcast": lambda x: x[:1].expand(x.shape),
    "offset": lambda x: torch.cat([x[:1], x])[1:],
}


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16], ids=str)
@pytest.mark.parametrize("reduction", ["mean", "none"])
@pytest.mark.parametrize("layout", layouts)
def test_layouts(layout, reduction, dtype):
    """Nothing that is given is changed, and gradients have the strides that torch would give them."""
    x, t = layouts[layout](normal(7, 5, dtype=dtype, grad=False)), classes(14, most=5)[::2]
    before, x = x.clone(), x.detach().requires_grad_()
    assert_as_reference(x, t, reduction=reduction)
    assert torch.equal(x, before)
    assert loss_and_grad(x, t, reduction=reduction)[1].stride() == torch.empty_like(x).stride()


@pytest.mark.parametrize("reduction", REDUCTIONS)
@pytest.mark.parametrize("grad", [True, False])
def test_no_rows(reduction, grad):
    x, t = normal(0, 4, grad=grad), torch.empty(0, dtype=torch.int64)
    loss = ft.cross_entropy(x, t, reduction=reduction)
    assert torch.equal(loss.isnan(), F.cross_entropy(x, t, reduction=reduction).isnan())
    if grad:
        loss.sum().backward()
        assert x.grad.shape == (0, 4)


def test_all_rows_ignored():
    x, t = normal(3, 4), torch.full((3,), -100)
    for reduction in REDUCTIONS:
        ours, theirs = (f(x, t, reduction=reduction) for f in (ft.cross_entropy, F.cross_entropy))
        torch.testing.assert_close(ours, theirs, equal_nan=True)
        grads = [torch.autograd.grad(loss.sum(), x)[0] for loss in (ours, theirs)]
        torch.testing.assert_close(*grads, equal_nan=True)


def test_ignored_rows_reach_nothing():
    """NaN in their logits included, in second derivatives too."""
    x, t = normal(3, 4, grad=False), torch.tensor([1, -100, 2])
    x[1] = math.nan
    x.requires_grad_()
    for reduction in REDUCTIONS:
        (first,) = torch.autograd.grad(ft.cross_entropy(x, t, reduction=reduction).sum(), x, create_graph=True)
        (second,) = torch.autograd.grad(first.pow(2).sum(), x)
        for grad in (first, second):
            assert (grad[1] == 0).all()
            assert grad.isfinite().all()


def test_impossible_classes():
    """Logits of -inf have probability 0, and derivatives."""
    x, t = normal(3, 4, grad=False), torch.tensor([1, 0, 2])
    x[0, 0] = x[1, 3] = -math.inf
    x.requires_grad_()
    (first,) = torch.autograd.grad(ft.cross_entropy(x, t, label_smoothing=0.0), x, create_graph=True)
    (second,) = torch.autograd.grad(first.pow(2).sum(), x)
    assert first.isfinite().all()
    assert second.isfinite().all()
    assert second[0, 0] == second[1, 3] == 0


def test_half_gradients_keep_what_a_scaler_saves():
    """Gradients of float16 below its smallest number, times 65536: the factor comes before the rounding."""
    x, t = normal(4096, 3, dtype=torch.float16), classes(4096, most=3)
    with torch.no_grad():
        x += 12 * F.one_hot(t.clamp(0), 3)
    _, grad = loss_and_grad(x, t, up=65536.0)
    exact = reference.cross_entropy_and_grad(numbers(x), numbers(t), grad_output=65536.0).grad
    np.testing.assert_allclose(numbers(grad), exact, rtol=1e-3, atol=1e-7)
    assert (np.abs(exact) / 65536 < 2**-25).any()  # which would have been 0


def test_weights_get_a_gradient_only_if_they_want_one():
    x, t, w = normal(5, 4), classes(5, most=4), positive(4, grad=True)
    ft.cross_entropy(x, t, w.detach()).backward()
    ft.cross_entropy(x.detach(), t, w).backward()
    (grad,) = torch.autograd.grad(F.cross_entropy(x, t, w.detach()), x)
    torch.testing.assert_close(x.grad, grad)
    assert w.grad.abs().max() > 0


def test_nothing_is_kept_without_a_gradient():
    x, t = normal(5, 4), classes(5, most=4)
    with torch.no_grad():
        assert not ft.cross_entropy(x, t).requires_grad
    assert not ft.cross_entropy(x.detach(), t).requires_grad
    parameter = torch.nn.Parameter(x.detach())
    assert ft.cross_entropy(parameter, t).requires_grad


def test_errors_name_arguments():
    x, t = normal(5, 4), classes(5, most=4)
    with pytest.raises(ValueError, match="reduction must be one of"):
        ft.cross_entropy(x, t, reduction="all")
    with pytest.raises(ValueError, match=r"label_smoothing must be a finite number in \[0, 1\]"):
        ft.cross_entropy(x, t, label_smoothing=2.0)
    with pytest.raises(ValueError, match=r"class indices in \[0, 4\)"):
        ft.cross_entropy(x, t + 4)
    with pytest.raises(TypeError, match=r"input must be a torch.Tensor, got a numpy.ndarray; pass torch.as_tensor"):
        ft.cross_entropy(x.detach().numpy(), t)


@pytest.mark.parametrize(
    ("options", "dtype"), pairwise([{}, VALUES], [torch.float64, torch.float32, torch.bfloat16], strength=1), ids=str
)
def test_scales_of_upstream_gradients(options, dtype):
    x, t = normal(6, 5, dtype=dtype), classes(6, most=5)
    assert_as_reference(x, t, up=-3.0, **options)
