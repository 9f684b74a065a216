"""Linear passes on a GPU: predictions and second derivatives, and PyTorch's own functions on the CPU.

Kernels are NumPy's, and so are the libraries' products (tests/standins): nothing here is a result of a GPU.
"""

import numpy as np
import pytest

import fastsoftmax as fs
from fastsoftmax import reference
from fastsoftmax.cuda.linear import backend, plan
from tests.backends import Gpu
from tests.cuda.host.support import DTYPES, near
from tests.cuda.linear.support import SHAPE, every, on, wide
from tests.linear.support import problem

# Predictions.


@every
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("biased", [True, False])
def test_predictions(library, driver, name, dtype, biased, monkeypatch):
    """Classes chunk by chunk; probabilities all at once, in place of their logits."""
    monkeypatch.setattr(plan, "BUDGET", 0)
    monkeypatch.setattr(plan, "ROWS", 16)
    x, weight, _, bias, _ = problem(10, SHAPE, dtype)
    given = x, weight, bias if biased else None
    arrays, (x, weight, bias) = on(library, *given), wide(given)
    z = x @ weight.T + (0 if bias is None else bias)
    z = z.astype(dtype).astype(np.float64)  # half types have equal logits now and then
    found = fs.linear_predict(*arrays)
    assert (type(found), found.values.dtype) == (library.type, np.int64)
    np.testing.assert_array_equal(library.host(found), z.argmax(axis=1))
    library.made.clear()
    proba = fs.linear_predict_proba(*arrays)
    assert library.made == [((50, 9), dtype)]
    assert (type(proba), proba.values.dtype) == (library.type, dtype)
    right = reference.softmax(z)
    near(library.host(proba), right, dtype)
    out = library.array(np.full((50, 9), np.nan, dtype))
    for _ in range(2):
        assert fs.linear_predict_proba(*arrays, out=out) is out
        near(library.host(out), right, dtype)
    assert [one.entry for one in driver.launches] == ["softmax"] * 3
    known = len(backend._prepared)
    apart = library.array(np.zeros((50, 9), dtype), offset=8)  # which takes another kernel
    near(library.host(fs.linear_predict_proba(*arrays, out=apart)), right, dtype)
    assert len(backend._prepared) == known + 1


@every
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("k", [1, 4, 9])
def test_most_probable_classes(library, driver, name, dtype, k, monkeypatch):
    """Of equal ones the first comes first, as far as the library gives them; nothing is rounded to a half type."""
    monkeypatch.setattr(plan, "BUDGET", 0)
    monkeypatch.setattr(plan, "ROWS", 16)
    monkeypatch.setattr(backend, "SORTED", 2)
    x, weight, _, bias, _ = problem(18, SHAPE, dtype)
    weight[4], bias[4] = weight[2], bias[2]
    arrays, z = on(library, x, weight, bias), x.astype(float) @ weight.astype(float).T
    if name == "cupy":  # which rounds before it adds the bias
        z = z.astype(dtype).astype(float)
    z = (z + bias.astype(float)).astype(dtype).astype(float)
    indices, log_proba = fs.linear_top_k(*arrays, k=k)
    assert (indices.values.dtype, indices.shape) == (np.int64, (50, k))
    real = np.float64 if dtype == np.float64 else np.float32
    assert log_proba.values.dtype == real
    right = np.argsort(-z, axis=1, kind="stable")[:, :k]
    near(library.host(log_proba), np.take_along_axis(reference.log_softmax(z), right, 1), real, 5)
    found = library.host(indices)
    np.testing.assert_array_equal(np.take_along_axis(z, found, 1), np.take_along_axis(z, right, 1))
    if name == "cupy" or k == 9:
        np.testing.assert_array_equal(found, right)
    both = [list(row) for row in found if 2 in row and 4 in row]
    assert all(row.index(2) < row.index(4) for row in both)
    assert k == 1 or both
    rows = 8 if name == "cupy" else 16
    assert [one.arguments[12] for one in driver.launches] == [rows] * (50 // rows) + [2]
    assert {one.entry for one in driver.launches} == {"cross_entropy"}
    again, _ = fs.linear_top_k(library.array(x[:7].copy()), *arrays[1:], k=k)  # a call that looks different
    np.testing.assert_array_equal(library.host(again), found[:7])


@every
def test_most_probable_classes_of_numbers_that_are_none(library, driver, name):
    """NaN is the largest, then +inf; the first of the most probable is the predicted one."""
    x, weight, _, bias, _ = problem(21, SHAPE, np.float32)
    x[3], x[5], x[7, 0], x[9] = np.nan, np.inf, np.inf, 0
    bias[1] = bias[4] = bias[6] = -np.inf
    weight[7], bias[8] = np.nan, np.inf
    for biased in (bias, None):
        arrays = on(library, x, weight, biased)
        indices, log_proba = fs.linear_top_k(*arrays, k=5)
        with np.errstate(invalid="ignore"):
            right = reference.linear_top_k(x, weight, biased, k=5)
        rows = np.delete(np.arange(50), [3, 5] if name == "torch" else [])  # where more than k are NaN, torch chooses
        np.testing.assert_array_equal(library.host(indices)[rows, 0], right.indices[rows, 0])
        np.testing.assert_array_equal(library.host(fs.linear_predict(*arrays)), right.indices[:, 0])
        assert np.isnan(library.host(log_proba)).all()
        assert np.isnan(right.log_proba).all()
        if name == "cupy":
            np.testing.assert_array_equal(library.host(indices)[[3, 9]], right.indices[[3, 9]])


# Second derivatives.


@every
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("reduction", ["mean", "sum"])
def test_products_with_the_hessian(library, driver, name, dtype, weighted, reduction, monkeypatch):
    """In the dtype that is computed in, whatever the operands' is; in chunks of half as many rows."""
    monkeypatch.setattr(plan, "BUDGET", 3000 * np.dtype(dtype).itemsize)
    monkeypatch.setattr(plan, "ROWS", 16)
    monkeypatch.setattr(plan, "MULTIPLE", 8)
    x, weight, _, bias, _ = problem(19, (300, 7, 9), dtype)
    _, along, _, bias_along, _ = problem(20, (1, 7, 9), dtype)
    real = np.float64 if dtype == np.float64 else np.float32
    s = np.random.default_rng(0).uniform(0.1, 2, 300).astype(real)
    for features, biased in ((x, True), (x[:100].copy(), False)):  # two chunks, or one
        given = features, weight, bias if biased else None, along, bias_along if biased else None
        more = {"sample_weight": s[: len(features)].copy()} if weighted else {}
        right = reference.linear_hessian_product(*wide(given), reduction=reduction, **more)
        product = Gpu(driver, library).call(fs.linear_hessian_product, *given, reduction=reduction, **more)
        size = np.abs(right[0]).max() * (1 if dtype in (np.float32, np.float64) else 4)
        assert (product.weight.dtype, product.weight.shape) == (real, (9, 7))
        near(product.weight, right[0], dtype, size)
        assert (product.bias is None) == (not biased)
        if biased:
            near(product.bias, right[1], dtype, size)
    assert [launched.entry for launched in driver.launches] == ["softmax", "vjp"] * 3
    assert [launched.arguments[12] for launched in driver.launches] == [160, 160, 140, 140, 100, 100]


# PyTorch itself, as far as it goes without a GPU.


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float32", "float64"])
def test_torch_multiplies_as_it_is_asked_to(dtype):
    """Into rows that lie apart, on top of what is there, and in float32 where sums are."""
    torch = pytest.importorskip("torch")
    from fastsoftmax.cuda.arrays.torch import Torch

    m, kind, random = Torch(), getattr(torch, dtype), torch.Generator().manual_seed(0)
    draw = lambda *shape: torch.randn(shape, generator=random, dtype=torch.float64).to(kind)  # noqa: E731
    x, weight, bias, room = draw(6, 5), draw(7, 5), draw(7), torch.full((6, 8), 3.0, dtype=kind)
    z, close = room[:, :7], {"rtol": 2e-2, "atol": 2e-2}
    for b in (None, bias):
        m.logits(x, weight, b, z)
        right = x.double() @ weight.double().T + (0 if b is None else b.double())
        torch.testing.assert_close(z.double(), right, **close)
    assert (room[:, 7] == 3).all()
    grad_x, total, wide = torch.zeros((6, 5), dtype=kind), draw(7, 5), torch.zeros(7, dtype=torch.float32)
    m.product(z[:4], weight, grad_x[2:])
    torch.testing.assert_close(grad_x[2:].double(), z[:4].double() @ weight.double(), rtol=5e-2, atol=5e-2)
    before = total.double().clone()
    m.add_product(z.T, x, total)
    torch.testing.assert_close(total.double(), before + z.double().T @ x.double(), rtol=5e-2, atol=5e-2)
    if dtype != "float64":
        m.columns(z, wide)
        torch.testing.assert_close(wide.double(), z.double().sum(0), rtol=1e-6, atol=1e-6)
        m.add(bias, wide)
        torch.testing.assert_close(wide.double(), z.double().sum(0) + bias.double(), rtol=1e-6, atol=1e-6)
        m.copy(wide, bias)
        assert torch.equal(bias, wide.to(kind))
    classes = torch.zeros(8, dtype=torch.int64)
    m.largest(z, classes[1:7])
    assert classes.tolist() == [0, *right.to(kind).argmax(1).tolist(), 0]
    m.zero(total)
    assert not total.any()


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float32", "float64"])
def test_torch_finds_the_largest_and_scales(dtype):
    torch = pytest.importorskip("torch")
    from fastsoftmax.cuda.arrays.torch import Torch

    m, kind, real = Torch(), getattr(torch, dtype), torch.float64 if dtype == "float64" else torch.float32
    room = torch.tensor([[1, 3, 2, 3, 0, 9], [5, 4, 4, 4, 4, 9], [-1, -2, 0, -2, -2, 9]], dtype=kind)
    z = room[:, :5]
    numbers, places = m.top(z, 3)
    assert numbers.dtype == kind
    assert numbers.tolist() == [[3, 3, 2], [5, 4, 4], [0, -1, -2]]
    assert places[0].tolist() == [1, 3, 2]
    assert (torch.gather(z, 1, places) == numbers).all()
    assert places[1, 1] < places[1, 2]
    out, loss = torch.zeros((3, 3), dtype=real), torch.tensor([0.5, 0.25, 0.125], dtype=real)
    m.log_proba(numbers, loss, out)
    assert out.tolist() == [[-0.5, -0.5, -1.5], [-0.25, -1.25, -1.25], [-0.125, -1.125, -2.125]]
    weights = torch.tensor([1.0, 2.0, 5.0], dtype=real)
    factor = torch.zeros(3, dtype=real)
    m.normalise(weights, factor)
    assert factor.tolist() == [0.125, 0.25, 0.625]
    m.scale(factor, z)
    assert z[:, 0].tolist() == [0.125, 1.25, -0.625]
    m.scale(2.0, z)
    assert z[:, 0].tolist() == [0.25, 2.5, -1.25]
    assert (room[:, 5] == 9).all()
    assert z.dtype == kind
