"""Maps, statistics and divergences: values against the library's, derivatives against differences and torch."""

import numpy as np
import pytest

import fastsoftmax as fs
from fastsoftmax import reference
from fastsoftmax.core.statistics import DIFFERENTIABLE, NAMES
from tests.pairs import exhaustive_but
from tests.torch.support import assert_differentiable, classes, normal, positive, torch

ft = pytest.importorskip("fastsoftmax.torch")
F = torch.nn.functional
MAPS = {"softmax": torch.softmax, "log_softmax": torch.log_softmax, "logsumexp": torch.logsumexp}
DTYPES = [torch.float64, torch.float32, torch.bfloat16, torch.float16]
TOLERANCE = {torch.float64: 1e-12, torch.float32: 2e-6, torch.bfloat16: 8e-3, torch.float16: 1e-3}


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("name", MAPS)
def test_maps_are_those_of_torch(name, dtype):
    """And their gradients, which torch computes in float64."""
    x, up = normal(3, 5, 2, dtype=dtype), normal(3, 5, 2, seed=1, grad=False)
    for dim in (0, 1, -1):
        found = getattr(ft, name)(x, dim)
        wide = x.detach().double().requires_grad_()
        expected = MAPS[name](wide, dim)
        g = up if expected.ndim == 3 else up.sum(dim)
        (grad,) = torch.autograd.grad(found, x, g.to(dtype))
        (exact,) = torch.autograd.grad(expected, wide, g.to(dtype).double())
        assert found.dtype == grad.dtype == dtype
        tolerance = {"rtol": TOLERANCE[dtype], "atol": 4 * TOLERANCE[dtype]}
        torch.testing.assert_close(found.double(), expected, **tolerance)
        torch.testing.assert_close(grad.double(), exact, **tolerance)


@pytest.mark.parametrize("name", MAPS)
def test_derivatives_of_maps(name):
    x = normal(3, 4, 2)
    for dim in (0, 1, -1):
        assert_differentiable(lambda x, d=dim: getattr(ft, name)(x, d), x)


@pytest.mark.parametrize("name", MAPS)
def test_masks_of_maps(name):
    """What is away is never looked at, NaN or not, and has no gradient."""
    x, kept = normal(3, 4, 2), torch.tensor([True, False, True, True])
    apart, where = torch.where(kept[:, None], x.detach(), torch.nan).requires_grad_(), kept[:, None]

    def ours(x, dim):
        return getattr(ft, name)(x, dim, where=where).clamp_min(-1e3)

    for dim in (0, 1) if name == "logsumexp" else (1,):  # the other maps of nothing are NaN
        assert_differentiable(lambda x, d=dim: ours(x, d), x)
    found, expected = getattr(ft, name)(apart, 1, where=where), MAPS[name](x[:, kept], 1)
    up = normal(*found.shape, seed=1, grad=False)
    shown, upstream = (found, up) if name == "logsumexp" else (found[:, kept], up[:, kept])
    torch.testing.assert_close(shown, expected, rtol=1e-12, atol=1e-14)
    (grad,), (exact,) = torch.autograd.grad(found, apart, up), torch.autograd.grad(expected, x, upstream)
    torch.testing.assert_close(grad, exact, rtol=1e-10, atol=1e-13)


def test_logsumexp_over_several_dimensions():
    x = normal(3, 4, 2)
    assert_differentiable(lambda x: ft.logsumexp(x, (0, 2)), x)
    assert_differentiable(lambda x: ft.logsumexp(x, (0, 2), where=x.detach() > -1), x)
    for keepdim in (False, True):
        for dim in (1, (0, 2), (2, 0, 1), (-1,)):
            torch.testing.assert_close(ft.logsumexp(x, dim, keepdim), torch.logsumexp(x, dim, keepdim))


@pytest.mark.parametrize("name", MAPS)
def test_numbers_without_dimensions(name):
    x = torch.tensor(2.0, dtype=torch.float64, requires_grad=True)
    found, expected = getattr(ft, name)(x, -1), MAPS[name](x, -1)
    torch.testing.assert_close(found, expected)
    torch.testing.assert_close(torch.autograd.grad(found, x), torch.autograd.grad(expected, x))


def test_dtype_of_maps():
    x = normal(3, 4, dtype=torch.bfloat16)
    assert ft.softmax(x, dtype=torch.float32).dtype == ft.log_softmax(x, -1, torch.float32).dtype == torch.float32


def test_statistics_are_the_library_s():
    """All of them, with the classes in any dimension and rows that are ignored."""
    x, t = normal(3, 5, 2), classes(3, 2, most=5)
    options = {"temperature": 0.7, "softcap": 3.0, "k": 2}
    found = ft.row_stats(x, t, want=NAMES, dim=1, **options)
    expected = fs.row_stats(x.detach().numpy(), t.numpy(), want=NAMES, axis=1, **options)
    assert found._fields == expected._fields
    for name in NAMES:
        pair = getattr(found, name), getattr(expected, name)
        for ours, theirs in zip(*pair, strict=True) if name == "top_k" else [pair]:
            np.testing.assert_array_equal(ours.detach().numpy(), theirs)
            assert ours.requires_grad == (name in DIFFERENTIABLE)
    assert ft.row_stats(x, want="entropy", dim=1).log_prob is None


@pytest.mark.parametrize("dtype", DTYPES[1:], ids=str)
def test_statistics_of_narrow_types(dtype):
    x, t = normal(6, 5, dtype=dtype, grad=False), classes(6, most=5)
    found = ft.row_stats(x, t, want=DIFFERENTIABLE)
    exact = ft.row_stats(x.double(), t, want=DIFFERENTIABLE)
    for name in DIFFERENTIABLE:
        assert getattr(found, name).dtype == torch.float32
        torch.testing.assert_close(getattr(found, name).double(), getattr(exact, name), rtol=1e-5, atol=1e-6)


sets = [DIFFERENTIABLE, ("log_prob", "max_prob"), ("entropy", "argmax"), ("log_sum_exp", "top_k"), ("entropy",)]


@pytest.mark.parametrize("want", sets, ids="-".join)
def test_derivatives_of_statistics(want):
    x, t = normal(3, 4, 2), classes(3, 2, most=4)
    names = [name for name in want if name in DIFFERENTIABLE]

    def of(x):
        target = t if "log_prob" in want else None
        found = ft.row_stats(x, target, want=want, dim=1, temperature=0.7, softcap=3.0, k=2)
        return tuple(getattr(found, name) for name in names)

    assert_differentiable(of, x)


def test_an_entropy_bonus_is_that_of_torch():
    """What a policy gradient has: log-probabilities and entropies in one pass, either of them alone in the loss."""
    x, t = normal(6, 5), torch.randint(5, (6,))
    theirs = torch.distributions.Categorical(logits=x)
    for pick in ((1.0, 0.0), (0.0, 1.0), (1.0, 0.1)):
        found = ft.row_stats(x, t, want=("log_prob", "entropy"))
        parts = zip(pick, ((found.log_prob, theirs.log_prob(t)), (found.entropy, theirs.entropy())), strict=True)
        ours, expected = zip(*([a * f for f in pair] for a, pair in parts if a), strict=True)
        grads = [torch.autograd.grad(sum(v.sum() for v in of), x, retain_graph=True)[0] for of in (ours, expected)]
        torch.testing.assert_close(*grads, rtol=1e-10, atol=1e-14)


def test_stats_of_a_loss():
    x, t = normal(3, 5, 2), classes(3, 2, most=5)
    found = ft.cross_entropy(x, t, temperature=0.7, softcap=3.0, label_smoothing=0.1, stats=NAMES, k=3)
    expected = ft.row_stats(x, t, want=NAMES, dim=1, temperature=0.7, softcap=3.0, k=3)
    assert found._fields == ("loss", *expected._fields)
    torch.testing.assert_close(tuple(found[1:]), tuple(expected))
    torch.testing.assert_close(
        found.loss, ft.cross_entropy(x, t, temperature=0.7, softcap=3.0, label_smoothing=0.1), rtol=0, atol=0
    )
    (grad,) = torch.autograd.grad(found.loss + found.log_sum_exp.pow(2).sum(), x)
    z = 3.0 * torch.tanh(x / 3.0) / 0.7
    theirs = F.cross_entropy(z, t, label_smoothing=0.1) + (torch.logsumexp(z, 1) * (t != -100)).pow(2).sum()
    torch.testing.assert_close(grad, torch.autograd.grad(theirs, x)[0], rtol=1e-10, atol=1e-13)


kinds = [(d, r) for d in ("forward", "reverse", 0.3) for r in ("mean", "sum", "none")]


@pytest.mark.parametrize(("direction", "reduction"), exhaustive_but(kinds[::4] + kinds[2:3], kinds))
def test_derivatives_of_divergences(direction, reduction):
    """By the student, the teacher and the weights."""
    student, teacher, s = normal(3, 4), normal(3, 4, seed=1), positive(3, seed=2, grad=True)
    more = {"direction": direction, "reduction": reduction, "temperature": 1.5}
    assert_differentiable(lambda x, y, s: ft.kl_divergence(x, y, sample_weight=s, **more), student, teacher, s)


@pytest.mark.parametrize("direction", ["forward", "reverse", 0.3])
def test_derivatives_where_some_probabilities_are_equal(direction):
    """The difference of equal logarithms has a derivative."""
    pair = [torch.tensor([z], dtype=torch.float64, requires_grad=True) for z in ([0.0, 1.0, 2.0], [0.0, 2.0, 1.0])]
    assert_differentiable(lambda x, y: ft.kl_divergence(x, y, direction=direction), *pair)


@pytest.mark.parametrize("direction", ["forward", "reverse", 0.3])
def test_masks_of_divergences(direction):
    """Classes that are away have no part in values or derivatives."""
    student, teacher = normal(3, 5), normal(3, 5, seed=1)
    where = torch.tensor([True, True, False, True, False])
    assert_differentiable(lambda x, y: ft.kl_divergence(x, y, where=where, direction=direction), student, teacher)
    found = ft.kl_divergence(student, teacher, where=where, direction=direction)
    expected = ft.kl_divergence(student[:, where], teacher[:, where], direction=direction)
    torch.testing.assert_close(found, expected, rtol=1e-12, atol=0)
    torch.testing.assert_close(*(torch.autograd.grad(v, student)[0] for v in (found, expected)), rtol=1e-10, atol=1e-14)


TAILS = [("ignore", "forward"), ("renormalize", "forward"), ("renormalize", 0.3)]
TAILS += [("bucket", d) for d in ("forward", "reverse", 0.3)]


@pytest.mark.parametrize(("tail", "direction"), TAILS)
@pytest.mark.parametrize("listed", [2, 5], ids=["some", "all"])
def test_teachers_that_list_classes(tail, direction, listed):
    """Values against the reference; derivatives by the student, the listed log-probabilities and the weights."""
    student, s = normal(3, 5, 2), positive(3, 2, seed=2, grad=True)
    indices = torch.rand((3, 5, 2), generator=torch.Generator().manual_seed(3)).argsort(1)[:, :listed]
    more = {"tail": tail, "direction": direction, "temperature": 1.5}
    log_q = torch.log_softmax(normal(3, 5, 2, seed=1, grad=False), 1)[:, :listed]
    given = (indices.numpy(), log_q.numpy())
    expected = reference.kl_divergence_and_grad(student.detach().numpy(), given, axis=1, **more)
    found = ft.kl_divergence(student, (indices, log_q), dim=1, **more)
    (grad,) = torch.autograd.grad(found, student)
    np.testing.assert_allclose(found.item(), expected.loss, rtol=1e-11, atol=1e-14)
    np.testing.assert_allclose(grad.numpy(), expected.grad, rtol=1e-9, atol=1e-14)

    def of(x, y, s):
        return ft.kl_divergence(x, (indices, y), dim=1, sample_weight=s, reduction="sum", **more)

    assert_differentiable(of, student, (log_q - 0.1).requires_grad_(), s)


def test_what_a_teacher_lists_is_what_row_stats_finds():
    x, student = normal(6, 9, grad=False), normal(6, 9, seed=1)
    top = ft.row_stats(x, want="top_k", k=3).top_k
    found = ft.kl_divergence(student, top, tail="bucket", reduction="none")
    assert (found <= ft.kl_divergence(student, x, reduction="none")).all()  # less is known of the teacher
    with pytest.raises(TypeError, match="teacher must be a Tensor without tail, got a pair; pass tail="):
        ft.kl_divergence(student, top)
    with pytest.raises(TypeError, match="teacher must be a pair"):
        ft.kl_divergence(student, x, tail="bucket")


@pytest.mark.parametrize("teacher_is", ["log_prob", "prob"])
def test_derivatives_by_teachers(teacher_is):
    student, teacher = normal(3, 4), normal(3, 4, seed=1)
    of = torch.softmax if teacher_is == "prob" else torch.log_softmax
    assert_differentiable(lambda x, y: ft.kl_divergence(x, of(y, -1), teacher_is=teacher_is), student, teacher)


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16], ids=str)
def test_divergences_are_those_of_torch(dtype):
    student, teacher = normal(3, 4, 2, dtype=dtype), normal(3, 4, 2, seed=1, dtype=dtype, grad=False)
    found = ft.kl_divergence(student, teacher, dim=1, reduction="sum")
    wide = student.detach().double().requires_grad_()
    expected = F.kl_div(
        torch.log_softmax(wide, 1), torch.log_softmax(teacher.double(), 1), reduction="sum", log_target=True
    )
    torch.testing.assert_close(found.double(), expected, rtol=1e-5, atol=1e-6)
    (grad,), (exact,) = torch.autograd.grad(found, student), torch.autograd.grad(expected, wide)
    torch.testing.assert_close(grad.double(), exact, rtol=TOLERANCE[dtype], atol=TOLERANCE[dtype])
