"""What the tests of linear passes share: problems, the ways of a pass, and the comparison with the reference."""

from contextlib import contextmanager, nullcontext
from unittest import mock

import numpy as np
from hypothesis import strategies as st

from fastsoftmax import reference
from fastsoftmax.api import linear
from fastsoftmax.cpu.linear import plan, run
from tests.backends import Cpu
from tests.support import assert_exact, both, computed, divisor, filled, labels, probabilities, terms

#: Few classes are multiplied in tiles; more of them by BLAS in blocks of a thread's own; many in blocks that all share.
#: 17 and 47 classes have the same tiles as 5, 100 the same kernels as 60: fewer combinations to compile.
TILES, OWN = st.sampled_from([5, 10, 17, 47]), st.sampled_from([49, 60, 100])
feature_counts = st.sampled_from([1, 2, 7, 16, 33, 130])
ALL = ("x", "weight", "bias")
CPU = Cpu()


@contextmanager
def shared():
    """All threads share one block after the other, however few the weights are."""
    with mock.patch.object(plan, "OWN_WEIGHTS", -1):
        yield


@contextmanager
def ways():
    """A list of the ways that passes take meanwhile: "tiles", "own" or "shared", with their plans."""
    taken, own, share = [], run.own, run.shared

    def on_own(p, plan, *rest):
        taken.append(("tiles" if plan.few else "own", plan))
        return own(p, plan, *rest)

    def on_shared(p, plan, *rest):
        taken.append(("shared", plan))
        return share(p, plan, *rest)

    with mock.patch.object(run, "own", on_own), mock.patch.object(run, "shared", on_shared):
        yield taken


def contexts(backend):
    """The ways of passes over as many classes as may take either."""
    return (nullcontext,) if backend.gpu else (ways, shared)


def problem(seed, shape, dtype, options=None, *, soft=False, ignored=0.2, scale=1.0):
    """(x, weight, target, bias, options) with logits of about `scale`, for (rows, features, classes)."""
    rows, features, classes = shape
    random = np.random.default_rng(seed)
    x = random.standard_normal((rows, features)).astype(dtype)
    weight = (random.standard_normal((classes, features)) * scale / max(features, 1) ** 0.5).astype(dtype)
    bias = random.standard_normal(classes).astype(dtype)
    z = (rows, classes)
    target = probabilities(random, z, computed(dtype)) if soft else labels(random, z, ignored)
    return x, weight, target, bias, filled(options or {}, random, z)


def dense(x):
    """Features as an array."""
    return np.asarray(x.toarray() if hasattr(x, "toarray") else x)


def computed_together(x, weight):
    """What logits of features and weights are computed in."""
    dtypes = [a.dtype if hasattr(a, "dtype") else np.asarray(a).dtype for a in (x, weight)]
    return np.dtype(np.float64 if any(d.kind in "biu" or d.itemsize == 8 for d in dtypes) else np.float32)


def _sizes(x, weight, target, bias, options, reduction, up):
    """The magnitudes that rounding errors of a row's loss and of its gradient are proportional to, of shape (n, 1).

    A logit has an error of some ulps of the terms that it adds up, and passes it on: to the loss as it is, to the
    row's gradient in proportion to that.
    """
    a, w, b = dense(x).astype(np.float64), np.asarray(weight, np.float64), np.zeros(len(weight))
    if target.ndim == 1:
        a[target == options.get("ignore_index", -100)] = 0
    if bias is not None:
        b = np.asarray(bias, np.float64)
    z = a @ w.T + b
    steep = 1 + (np.abs(a) @ np.abs(w).T + np.abs(b)).max(axis=1, keepdims=True) / options.get("temperature", 1.0)
    grad = reference.cross_entropy_and_grad(z, target, reduction=reduction, grad_output=up, **options).grad
    grad = np.nan_to_num(np.abs(grad)).max(axis=1, keepdims=True) + terms(z, target, options, reduction, up)
    rows = np.reshape(options.get("sample_weight", np.ones(len(z))), (-1, 1)) * np.max(options.get("class_weight", 1.0))
    return (rows + terms(z, target, options, "sum", 1.0)) * steep, grad * steep, divisor(z, target, options)


def assert_as_reference(
    x, weight, target, bias, options, reduction="mean", *, wrt=ALL, grad_output=None, backend=CPU, **given
):
    """Loss and gradients against the reference in higher precision; what they are is handed back."""
    up = {} if grad_output is None else {"grad_output": grad_output}
    work = computed_together(x, weight)
    given = {"block_rows": backend.block_rows, "reduction": reduction, "wrt": wrt, **options, **up, **given}
    result = backend.call(linear.linear_cross_entropy_and_grad, x, weight, target, bias, **given)
    arguments = {"dtype": work, "wrt": wrt, "reduction": reduction, **options, **up}
    exact, naive = both(linear.linear_cross_entropy_and_grad, x, weight, target, bias, **arguments)
    arguments = {"dtype": work, **options, "reduction": "none"}
    rows, naive_rows = both(linear.linear_cross_entropy, x, weight, target, bias, **arguments)
    loss, grad, count = _sizes(x, weight, np.asarray(target), bias, options, reduction, up.get("grad_output", 1.0))
    assert result.loss.dtype == work
    if reduction == "none":
        assert_exact(result.loss, rows, naive_rows, along=None, size=loss.max(initial=0.0))
    else:
        part = count if reduction == "mean" else 1.0
        lost = np.abs(naive_rows - rows).sum() / part
        assert_exact(result.loss, exact.loss, exact.loss + lost, size=loss.sum() / part)
    sizes = {
        "x": grad * np.abs(np.asarray(weight, np.float64)).sum(axis=0),
        "weight": (grad * np.abs(np.nan_to_num(dense(x).astype(np.float64)))).sum(axis=0),
        "bias": grad.sum(),
    }
    for name, size in sizes.items():
        got, right, plain = (getattr(r, f"grad_{name}") for r in (result, exact, naive))
        assert (got is None) == (name not in wrt or (name == "bias" and bias is None))
        if got is not None:
            assert_exact(got, right, plain, size=size)
    return result
