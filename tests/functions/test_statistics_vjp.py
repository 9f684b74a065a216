"""row_stats_vjp against the reference, differences and torch, and the digits of log_softmax at the largest class."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import fastsoftmax as fs
from fastsoftmax import reference
from tests.support import (
    LAYOUTS,
    assert_exact,
    both,
    by_least_places,
    computed,
    exhaustive_but,
    labels,
    logits,
    row_counts,
    seeds,
    steepness,
)

#: Which statistics have upstream gradients; entropy has kernels of its own.
SETS = ["log_prob entropy log_sum_exp", "log_prob", "entropy", "log_sum_exp"]


def upstreams(seed, names, rows):
    random = np.random.default_rng(seed)
    return {name: random.normal(size=rows) if name != "log_sum_exp" else random.normal() for name in names}


def check(x, t, ups, out=None, **options):
    """The gradient against the reference's, within what the naive formulas lose and the terms that cancel."""
    found = fs.row_stats_vjp(x, t, **ups, out=out, **options)
    exact, naive = both(fs.row_stats_vjp, x, t, dtype=x.dtype, **ups, **options)
    size = sum(np.abs(np.broadcast_to(up, x.shape[:-1])) for up in ups.values())[..., None]
    depth = 1 + steepness(x, options) * 0.25  # rounding a logit moves its probability by ulps of its own size
    assert_exact(found, exact, naive, ulps=4, size=size * depth / options.get("temperature", 1.0))
    assert found.dtype == x.dtype.newbyteorder("=")
    return found


@by_least_places
@given(seeds, row_counts, st.data())
def test_values(places, seed, rows, data):
    dtype, classes, layout, out_layout = data.draw(places)
    out_layout = out_layout if out_layout in {"C", "Fortran", "every second", "backwards"} else "C"
    x = LAYOUTS[layout](logits(seed, (rows, classes), dtype))
    t, before = labels(np.random.default_rng(seed), x.shape), x.copy()
    out = LAYOUTS[out_layout](np.ones(x.shape, dtype))
    assert check(x, t, upstreams(seed, SETS[0].split(), rows), out) is out
    np.testing.assert_array_equal(x, before)
    assert (out[t == -100] == 0).all()


@pytest.mark.parametrize("classes", [10, 1000])
@pytest.mark.parametrize("names", exhaustive_but(SETS[:2], SETS))
def test_sets_of_names(names, classes):
    """With a target and, where none is needed, without; softcap and temperature too."""
    x = logits(3, (30, classes), np.dtype(np.float32))
    t = labels(np.random.default_rng(3), x.shape)
    for options in ({}, {"temperature": 0.7, "softcap": 5.0}) if classes == 10 else ({},):
        check(x, t, upstreams(3, names.split(), 30), **options)
    if names == "entropy":
        check(x, None, upstreams(3, ["entropy"], 30))


@pytest.mark.parametrize("classes", exhaustive_but([6], [6, 40]))
@given(seed=seeds)
def test_it_is_the_derivative(classes, seed):
    """Central differences of row_stats itself."""
    shape = 3, classes
    x, h, options = logits(seed, shape, np.float64, 1.0), 2.0**-17, {"temperature": 0.5, "softcap": 3.0}
    t = labels(np.random.default_rng(seed), shape)
    ups = upstreams(seed, SETS[0].split(), shape[0])

    def value(x):
        stats = fs.row_stats(x, t, want=tuple(ups), **options)
        return sum(np.sum(up * np.where(t == -100, 0, getattr(stats, name))) for name, up in ups.items())

    numeric = np.empty(shape)
    for at in np.ndindex(shape):
        step = np.zeros(shape)
        step[at] = h
        numeric[at] = (value(x + step) - value(x - step)) / (2 * h)
    np.testing.assert_allclose(fs.row_stats_vjp(x, t, **ups, **options), numeric, rtol=1e-7, atol=1e-8)


def test_as_torch_differentiates_it():
    torch = pytest.importorskip("torch")
    x = logits(5, (6, 30), np.float64)
    ups = upstreams(5, SETS[0].split(), 6)
    t = labels(np.random.default_rng(5), x.shape, ignored=0)
    z = torch.tensor(x, requires_grad=True)
    log_p = torch.log_softmax(z, dim=1)
    total = (torch.tensor(ups["log_prob"]) * log_p[torch.arange(6), torch.tensor(t)]).sum()
    total = total + (torch.tensor(ups["entropy"]) * -(log_p.exp() * log_p).sum(1)).sum()
    (total + ups["log_sum_exp"] * z.logsumexp(1).sum()).backward()
    np.testing.assert_allclose(fs.row_stats_vjp(x, t, **ups), z.grad, rtol=1e-12, atol=1e-15)


@pytest.mark.parametrize("classes", exhaustive_but([10, 1000], [10, 100, 1000]))
def test_impossible_and_certain_classes(classes):
    """-inf has gradient 0 and spoils nothing; at a certain target ``1 - p`` keeps its digits."""
    x = np.zeros((2, classes))
    x[0, 3:] = -np.inf
    x[1, 1] = 60.0
    found = fs.row_stats_vjp(x, [0, 1], log_prob=1.0, entropy=[1.0, 0.0])
    assert (found[0, 3:] == 0).all()
    np.testing.assert_allclose(found[0, :3], [2 / 3, -1 / 3, -1 / 3], rtol=1e-15)
    np.testing.assert_allclose(found[1, 1], (classes - 1) * np.exp(-60.0), rtol=4e-15)
    np.testing.assert_allclose(found[1, 0], -np.exp(-60.0), rtol=4e-15)


@pytest.mark.parametrize(
    ("classes", "order"),
    exhaustive_but(
        [(10, "C"), (100, "C"), (5000, "C"), (1000, "F")],
        [(classes, order) for classes in (2, 10, 100, 1000, 5000) for order in "CF"],
    ),
)
def test_log_softmax_keeps_its_digits(classes, order):
    """At the largest class of a row: two ulps, and a quarter of one for each unit that it is ahead (scipy#19521)."""
    gap = np.repeat([0.0, 1e-3, 1.0, 5.0, 10.0, 20.0, 40.0, 80.0], 40)
    rows, place = np.arange(len(gap)), np.arange(len(gap)) * 37 % classes
    x = np.zeros((len(gap), classes), np.float32, order=order)
    x[rows, place] = gap
    exact = -np.log1p((classes - 1) * np.exp(-np.asarray(x[rows, place], np.float64)))
    error = np.abs(fs.log_softmax(x)[rows, place] - exact) / (np.finfo(np.float32).eps * np.abs(exact))
    assert (error <= 2 + gap / 4).all(), error.max()


@given(seeds, st.sampled_from([(60, 10), (20, 1000)]), st.sampled_from(["C", "F"]))
def test_log_softmax_of_any_row_keeps_its_digits(seed, shape, order):
    """Where every difference is rounded: a few ulps, and at most one more for each unit that the largest is ahead."""
    random = np.random.default_rng(seed)
    x = np.asarray(random.normal(size=shape) + random.choice([0.0, 20.0]) * np.eye(*shape), np.float32, order=order)
    place = x.argmax(axis=1)[:, None]
    others = x.astype(np.longdouble) - np.take_along_axis(x, place, 1)
    np.put_along_axis(others, place, -np.inf, 1)
    exact = -np.log1p(np.exp(others).sum(axis=1))
    error = np.abs(np.take_along_axis(fs.log_softmax(x), place, 1)[:, 0] - exact)
    assert (error <= (6 - others.max(axis=1)) * np.finfo(np.float32).eps * np.abs(exact)).all()


def test_errors():
    x, t = np.zeros((2, 3)), [0, 1]
    for error, text, arguments in [
        (ValueError, "one of log_prob, entropy, log_sum_exp must be given", {"target": t}),
        (ValueError, "log_prob needs a target, got None", {"log_prob": 1.0}),
        (ValueError, "entropy must have shape (2,), one number a row, or be a scalar, got (3,)", {"entropy": [*t, 2]}),
        (TypeError, "log_sum_exp must have dtype", {"log_sum_exp": "a"}),
        (ValueError, "out must have the shape of the result", {"entropy": 1.0, "out": np.zeros(3)}),
        (ValueError, "in [0, 3) or ignore_index, got 7", {"target": [0, 7], "log_prob": 1.0}),
    ]:
        with pytest.raises(error) as caught:
            fs.row_stats_vjp(x, **arguments)
        assert text in str(caught.value)


def test_out_and_other_dtypes():
    """In place, integers, no rows, several axes in any order, and what float32 cannot invert."""
    x, t = logits(0, (4, 5, 6), np.float32), np.zeros((4, 6), np.int64)
    expected = reference.row_stats_vjp(x, t, log_prob=1.0, axis=1)
    found = fs.row_stats_vjp(x.transpose(2, 0, 1).copy().transpose(1, 2, 0), t, log_prob=1.0, axis=1)
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-7)
    own = x.copy()
    assert fs.row_stats_vjp(own, t, log_prob=1.0, axis=1, out=own) is own
    np.testing.assert_allclose(own, expected, rtol=1e-5, atol=1e-7)
    assert fs.row_stats_vjp([[1, 2]], entropy=1.0).dtype == np.float64
    assert fs.row_stats_vjp(np.zeros((0, 3)), entropy=1.0).shape == (0, 3)
    wide = fs.row_stats_vjp(x * np.float32(1e30), t, log_prob=1e30, axis=1, temperature=1e30)
    np.testing.assert_allclose(wide, expected, rtol=1e-5, atol=1e-7)
    assert computed(wide.dtype) == wide.dtype == np.float32
