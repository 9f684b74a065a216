"""Calls on torch's tensors that look like an earlier one are prepared, and only those that do."""

import numpy as np
import pytest

import fastsoftmax as fs
from fastsoftmax import reference
from fastsoftmax.cuda import backend, workspace
from tests.standins.libraries import Torch
from tests.standins.numpy_kernels import NumpyDriver


@pytest.fixture
def library(monkeypatch, nothing_prepared):
    return Torch(monkeypatch, NumpyDriver().install(monkeypatch))


def drawn(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def near(actual, expected):
    np.testing.assert_allclose(actual, expected, rtol=2e-6, atol=2e-6)


def forget(monkeypatch):
    """From now on whatever is not prepared fails."""
    for name in ("_prepare_map", "_prepare_loss"):
        monkeypatch.setattr(backend, name, None)


@pytest.mark.parametrize("into", [False, True])
@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
def test_losses(library, monkeypatch, into, reduction):
    """With other tensors, on other streams, and with any scale of gradients."""
    monkeypatch.setattr(workspace, "SLAB", workspace.LEAST)  # the driver goes by whole reservations
    options = {"reduction": reduction, "label_smoothing": 0.1}
    first = library.array(drawn(5, 8)), library.array(np.arange(5))
    where = {"out": library.array(np.zeros((5, 8), np.float32))} if into else {}
    fs.cross_entropy_and_grad(*first, **options, **where)
    forget(monkeypatch)
    for seed, up in enumerate((1.0, 0.5, -0.0, 0.0, 1.0, float("inf")), 1):
        library.streams[0] = stream = 3 + (seed > 4)
        x, t = drawn(5, 8, seed=seed), np.random.default_rng(seed).integers(0, 8, 5)
        if into:
            where["out"] = library.array(np.zeros((5, 8), np.float32))
        on = library.array(x), library.array(t)
        loss, grad = fs.cross_entropy_and_grad(*on, grad_output=up, **options, **where)
        with np.errstate(invalid="ignore"):
            expected = reference.cross_entropy_and_grad(x, t, grad_output=up, **options)
        near(library.host(loss), expected.loss)
        near(library.host(grad), expected.grad)
        scale = next(one for one in library.driver.launches[::-1] if one.entry == "cross_entropy").arguments[24]
        assert (scale, np.signbit(scale)) == (up, np.signbit(up))
        assert library.driver.launches[-1].stream == stream


def test_other_options(library):
    x, t = drawn(5, 8), np.arange(5)
    on = library.array(x), library.array(t)
    for options in ({}, {"label_smoothing": 0.1}, {"label_smoothing": 0.2}, {"ignore_index": 3}, {}):
        near(library.host(fs.cross_entropy(*on, **options)), reference.cross_entropy(x, t, **options))


def test_maps(library, monkeypatch):
    x, g = drawn(4, 8), drawn(4, 8, seed=1)
    on, out = [library.array(a) for a in (x, g)], library.array(np.zeros((4, 8), np.float32))
    calls = [
        (lambda: fs.softmax(on[0]), reference.softmax(x)),
        (lambda: fs.log_softmax(on[0], 0, out=out), reference.log_softmax(x, 0)),
        (lambda: fs.logsumexp(on[0]), reference.logsumexp(x)),
        (lambda: fs.logsumexp(on[0], 0, keepdims=True), reference.logsumexp(x, 0, keepdims=True)),
        (lambda: fs.softmax(on[0], (0, 1)), reference.softmax(x, (0, 1))),
        (lambda: fs.softmax_vjp(*on, out=out), reference.softmax_vjp(x, g)),
        (lambda: fs.log_softmax_vjp(*on), reference.log_softmax_vjp(x, g)),
    ]
    for call, expected in calls:
        near(library.host(call()), expected)
    forget(monkeypatch)
    for call, expected in calls:
        result = call()
        near(library.host(result), expected)
        assert result.shape == expected.shape


def test_what_looks_different_is_looked_at(library, monkeypatch):
    x, t = library.array(drawn(4, 8)), library.array(np.arange(4))
    out = library.array(np.zeros((4, 8), np.float32))
    fs.cross_entropy_and_grad(x, t, out=out)
    forget(monkeypatch)
    shifted = library.array(drawn(4, 8), offset=4)
    for arguments, options in (
        ((shifted, t), {}),
        ((x, library.array(np.arange(4, dtype=np.int32))), {}),
        ((library.array(drawn(8, 4).T), t), {}),
        ((x, t), {"axis": 1}),
        ((x, t), {"axis": -1.0}),
        ((x, t), {"out": x}),
        ((x, t), {"out": None}),
        ((x, t), {"class_weight": t}),
        ((x, t), {"sample_weight": t}),
        ((x, t), {"grad_output": t}),
        ((x, np.arange(4)), {}),
    ):
        with pytest.raises(TypeError, match="NoneType"):
            fs.cross_entropy_and_grad(*arguments, **{"out": out, **options})
    for same in ({"check_targets": True}, {"grad_output": 1}):
        fs.cross_entropy_and_grad(x, t, out=out, **same)
    x.requires_grad = True
    with pytest.raises(TypeError, match="NoneType"):
        fs.cross_entropy_and_grad(x, t, out=out)


def test_an_output_in_the_way_is_refused_though_the_call_was_made_before(library):
    room = np.zeros((12, 8), np.float32)
    room[:4] = drawn(4, 8)
    x, t = library.array(room[:4]), library.array(np.arange(4))
    fs.cross_entropy_and_grad(x, t, out=library.array(room[8:]))
    fs.cross_entropy_and_grad(x, t, out=library.array(room[4:8]))
    fs.softmax(x, out=library.array(room[4:8]))
    fs.cross_entropy_and_grad(x, t, out=x)
    fs.softmax(x, out=x)
    for rows in (room[2:6], room[3:7]):
        with pytest.raises(ValueError, match="out must not share memory with logits"):
            fs.cross_entropy_and_grad(x, t, out=library.array(rows))
        with pytest.raises(ValueError, match="out must not share memory with x"):
            fs.softmax(x, out=library.array(rows))
