"""The mathematics on its own, bound to NumPy: the algebra of states, the losses' derivatives, and no cancellation."""

import math
from decimal import Decimal, localcontext
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numba import njit

from fastsoftmax import reference
from fastsoftmax.core import law, law_of_divergence
from fastsoftmax.core.options import TERMS, Flags, Numbers, Options, flags_of, numbers_of
from fastsoftmax.cpu.simd import laws
from tests.support import INDICES_ONLY

INF, NAN = np.float64(np.inf), np.float64(np.nan)
PRIMITIVES = {name: getattr(np, name) for name in law.PRIMITIVES}
#: Conditions do not branch, so that both sides of each are computed, whatever comes of it.
L = SimpleNamespace(**law.bind(PRIMITIVES, np.errstate(all="ignore")))
EPS = np.finfo(np.float64).eps


@st.composite
def rows(draw, least=1, most=12, scales=(0.1, 3.0, 20.0), holes=(0.0, 0.0, 0.3)):
    """(logits, weights) of a row, some of them -inf and 0; from a seed, as Hypothesis itself likes 0 too much."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    n = draw(st.integers(least, most))
    z = rng.normal(size=n) * draw(st.sampled_from(scales))
    z[rng.random(n) < draw(st.sampled_from(holes))] = -np.inf
    w = rng.uniform(0.1, 4, n) * (rng.random(n) >= draw(st.sampled_from([0.0, 0.3])))
    return z, w if draw(st.booleans()) else np.ones(n)


def state_of(z):
    """(m, s) of a row, each with one rounding."""
    m = max(z)
    base = 0.0 if m == -INF else m
    return np.float64(m), np.float64(math.fsum(np.exp(z - base)))


def dot_of(z, w, m):
    """``sum_j w_j (z_j - m)`` and ``sum_j w_j``."""
    base = 0.0 if m == -INF else m
    dot = math.fsum(0.0 if w_j == 0 else w_j * (z_j - base) for z_j, w_j in zip(z, w, strict=True))
    return np.float64(dot), np.float64(math.fsum(w))


def test_bind_names_what_is_missing():
    with pytest.raises(TypeError, match=r"\['expm1', 'log1p', 'tanh'\]"):
        law.bind({"exp": np.exp, "log": np.log, "where": np.where}, lambda function: function)


def test_bind_decorates_every_function():
    seen = []
    bound = law.bind(PRIMITIVES, lambda function: seen.append(function.__name__) or function)
    assert {"merge", "index_score", "soft_score"} <= set(seen)
    assert "bind" not in bound
    for name in seen:
        own = getattr(law if hasattr(law, name) else law_of_divergence, name)
        assert bound[name] is not own
        assert bound[name].__doc__ == own.__doc__
    # The functions call one another's copies: those of the module itself have no primitives.
    assert bound["merge"](np.float64(1), np.float64(2), np.float64(1), np.float64(3)) == (1, 5)
    with pytest.raises(NameError):
        law.merge(1.0, 2.0, 1.0, 3.0)


@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        ("merge", (1.5, 2.0, 3.25, 1.0)),
        ("merge", (-math.inf, 0.0, -math.inf, 0.0)),
        ("log_sum_exp", (700.0, 3.0)),
        ("focal", (0.5, math.exp(-0.5), -math.expm1(-0.5), 1.5)),
        ("negative_log_likelihood", (0.0, 1e-20, 1.0)),
        ("cap_slope", (1.0, 0.5)),
    ],
)
def test_compiled_functions_are_the_same(name, arguments):
    function, expected = laws.scalar[name], getattr(L, name)(*map(np.float64, arguments))
    call = njit(lambda arguments: function(*arguments))  # it has no wrapper for Python
    np.testing.assert_allclose(call(arguments), expected, rtol=4 * EPS)


# States of rows ---------------------------------------------------------------------------------------------------

state = rows(most=4, holes=(0.0, 0.3, 1.0)).map(lambda row: state_of(row[0]))


@given(state, state, state)
def test_merging_is_an_abelian_monoid(a, b, c):
    assert L.merge(*a, *b) == L.merge(*b, *a)
    assert L.merge(*a, -INF, np.float64(0)) == a == L.merge(-INF, np.float64(0), *a)
    left, right = L.merge(*L.merge(*a, *b), *c), L.merge(*a, *L.merge(*b, *c))
    assert left[0] == right[0] == max(a[0], b[0], c[0])
    np.testing.assert_allclose(left[1], right[1], rtol=100 * EPS)


@given(state, st.sampled_from([(NAN, np.float64(1)), (np.float64(2), NAN), (-INF, NAN), (INF, NAN)]))
def test_nan_poisons_a_sum_for_good(a, nan):
    for merged in (L.merge(*a, *nan), L.merge(*nan, *a)):
        assert np.isnan(merged[1])
        assert np.isnan(L.normaliser(*merged))
        assert np.isnan(L.merge(*merged, *a)[1])


@given(st.data())
def test_blocks_merge_to_the_row(data):
    """The state, ``sum_j w_j (z_j - m)`` and ``sum_j w_j`` of a row that is cut anywhere, with blocks of only -inf."""
    z, w = data.draw(rows(holes=(0.0, 0.0, 0.3, 1.0)))
    cuts = data.draw(st.lists(st.integers(1, len(z)), max_size=4).map(sorted))
    m, s, dot, mass = -INF, np.float64(0), np.float64(0), np.float64(0)
    for begin, end in zip([0, *cuts], [*cuts, len(z)], strict=True):
        if begin < end:
            top, total = state_of(z[begin:end])
            dots, masses = dot_of(z[begin:end], w[begin:end], top)
            higher, s = L.merge(m, s, top, total)
            dot = L.merge_dot(dot, mass, m, higher) + L.merge_dot(dots, masses, top, higher)
            m, mass = higher, mass + masses
    expected, (expected_dot, expected_mass) = state_of(z), dot_of(z, w, max(z))
    assert m == expected[0]
    np.testing.assert_allclose(s, expected[1], rtol=100 * EPS)
    np.testing.assert_allclose(dot, expected_dot, rtol=100 * EPS, atol=EPS * 100 * sum(w) * 50)
    np.testing.assert_allclose(mass, expected_mass, rtol=4 * EPS)


def test_infinite_rows_and_impossible_classes():
    zero, one = np.float64(0), np.float64(1)
    assert (L.shift(-INF), L.shift(np.float64(-5))) == (0, -5)
    assert L.log_sum_exp(-INF, zero) == -INF
    assert L.log_sum_exp(np.float64(1e6), one) == 1e6
    assert L.normaliser(np.float64(-3), np.float64(2.5)) == 2.5
    assert all(np.isnan(L.normaliser(m, one)) for m in (INF, -INF, NAN))
    assert L.term(zero, -INF) == 0
    assert L.term(one, -INF) == -INF
    assert L.term(np.float64(2), np.float64(-3)) == -6
    for m in (INF, -INF):
        found = L.soft_score(Flags(z_loss=True), Numbers(), one, m, zero, zero, zero)
        found += L.index_score(Flags(), Numbers(), one, m, zero, zero, zero, zero)
        assert np.isnan([found[1], found[4]]).all()
    assert L.merge_dot(zero, zero, -INF, np.float64(3)) == 0
    assert L.merge_dot(np.float64(-2), np.float64(4), one, np.float64(3)) == -10


# Losses -----------------------------------------------------------------------------------------------------------


def index_loss(flags, o, z, w, t):
    """(loss, gradient) of a row by `index_score`, as the kernels put it together."""
    m = z.max()
    e = np.exp(z - L.shift(m))
    dot, mass = dot_of(z, w, m) if flags.smooth else (np.float64(0), np.float64(0))
    others = np.float64(math.fsum(np.delete(e, t)))
    loss, s, a, b, at_target = L.index_score(flags, o, w[t], m, others, dot, mass, z[t] - L.shift(m))
    grad = a * (e / s) - b * w
    grad[t] = at_target
    return loss, grad


def soft_loss(flags, o, z, v):
    """(loss, gradient) of a row whose target is the distribution `v`."""
    m, s = state_of(z)
    loss, s, a = L.soft_score(flags, o, np.float64(1), m, s, *dot_of(z, v, m))
    return loss, a * (np.exp(z - m) / s) - v


#: Options of the score, and the values that they are drawn from: those that tests try, if they are not said here.
DRAWN = {
    **{t.option: st.sampled_from(t.tried) for t in TERMS if t.option not in ("temperature", "softcap")},
    "label_smoothing": st.floats(0.01, 0.9),
    "z_loss": st.floats(1e-4, 1),
    "focal_gamma": st.floats(0.5, 4),
}


@st.composite
def problems(draw, **kinds):
    """(flags, numbers, logits, class weights, target, options of the reference): any losses together."""
    z, w = draw(rows(2, 6, **kinds).filter(lambda row: row[0].max() > -INF))
    options = {name: draw(values) for name, values in DRAWN.items() if draw(st.booleans())}
    o = Options(**options)
    flags = flags_of(o, hard=True, weighted=True, factors=False, grad=True)
    return flags, numbers_of(o, len(z)), z, w, draw(st.integers(0, len(z) - 1)), options


def assert_near(found, expected, size):  # of the terms that are added
    np.testing.assert_allclose(found, expected, rtol=1e-12, atol=1e-13 * size)


@given(problems())
def test_index_score_agrees_with_the_reference(problem):
    flags, o, z, w, t, options = problem
    (loss, grad), size = index_loss(flags, o, z, w, t), sum(w) * (1 + options.get("z_loss", 0) * 100)
    expected = reference.cross_entropy_and_grad([z], [t], class_weight=w, reduction="sum", **options)
    assert_near(loss, expected.loss, size)
    assert_near(grad, expected.grad[0], size)


@given(problems(), rows(6, 6))
def test_soft_score_agrees_with_the_reference(problem, other):
    flags, o, z, w, _, options = problem
    options = {name: value for name, value in options.items() if name not in INDICES_ONLY}
    y = other[1][: len(z)]
    loss, grad = soft_loss(flags, o, z, w * (y * o.keep + o.share))
    expected = reference.cross_entropy_and_grad([z], [y], class_weight=w, reduction="sum", **options)
    size = sum(w) * (1 + y.sum()) + options.get("z_loss", 0) * 100
    assert_near(loss, expected.loss, size)
    assert_near(grad, expected.grad[0], size)


def differences(loss, z, h=2.0**-17):
    """The gradient by central differences."""
    steps = h * np.eye(len(z))
    return np.array([(loss(z + step) - loss(z - step)) / (2 * h) for step in steps])


@given(problems(scales=(0.5, 2.0), holes=(0.0,)))
def test_gradients_are_derivatives_of_the_losses(problem):
    """A, B and the target's gradient against differences of the composed loss alone."""
    flags, o, z, w, t, _ = problem
    size = 1 + sum(w)
    numeric = differences(lambda x: index_loss(flags, o, x, w, t)[0], z)
    np.testing.assert_allclose(index_loss(flags, o, z, w, t)[1], numeric, rtol=1e-7, atol=1e-8 * size)
    v = w / 3
    numeric = differences(lambda x: soft_loss(flags, o, x, v)[0], z)
    np.testing.assert_allclose(soft_loss(flags, o, z, v)[1], numeric, rtol=1e-7, atol=1e-8 * size)


def assert_digits(found, expected, ulps):
    """Within some ulps of a decimal, whatever its size."""
    error = abs(Decimal(float(found)) - expected) / abs(expected) / Decimal(EPS)
    assert error <= ulps, f"{found!r} is {float(error):.1f} eps from {float(expected)!r}"


@pytest.mark.parametrize("others", [1e-300, 3e-20, 1.7e-9, 1e-3, 0.5, 1.0, 40.0])
def test_small_losses_keep_their_digits(others):
    """The loss and the target's gradient of a confident model; NumPy's own 1 - p and log(s) would have lost them."""
    m, zero, one, others = np.float64(-300.25), np.float64(0), np.float64(1), np.float64(others)
    assert L.negative_log_likelihood(zero, others, 1 + others) == math.log1p(others)
    with localcontext(prec=400):
        rest = Decimal(float(others))
        s = 1 + rest
        loss, *_, gradient = L.index_score(Flags(), Numbers(), one, m, others, zero, zero, zero)
        assert_digits(loss, s.ln(), 4)
        assert_digits(gradient, -rest / s, 4)
        # The gradient of the z-loss has the same sign here (lse < 0), so that nothing may cancel.
        for strength in (0.375, 1e-30):
            o = Numbers(z_loss=strength)
            *_, gradient = L.index_score(Flags(z_loss=True), o, one, m, others, zero, zero, zero)
            slope = 2 * Decimal(strength) * (Decimal(float(m)) + s.ln())
            assert_digits(gradient, slope / s - rest / s, 8)


@given(problems())
def test_likelihoods_are_never_negative(problem):
    _, _, z, _, t, _ = problem
    loss, grad = index_loss(Flags(), Numbers(), z, np.ones(len(z)), t)
    assert loss >= 0 >= grad[t]
    if z[t] == -math.inf:
        assert loss == INF
        return
    with localcontext(prec=60):
        others = sum((Decimal(x) - Decimal(z[t])).exp() for x in np.delete(z, t) if x > -math.inf)
        expected = (1 + others).ln() if others else Decimal(0)
        # Rounding a difference of 100 is 50 eps of its exponential.
        assert abs(Decimal(float(loss)) - expected) <= 60 * Decimal(EPS) * expected


@pytest.mark.parametrize("gamma", [0.5, 1.0, 2.0, 5.0])
@pytest.mark.parametrize("nll", [1e-12, 1e-3, 0.2, 1.0, 3.0, 30.0])
def test_focal_loss_and_its_derivative(nll, gamma):
    with localcontext(prec=60):
        n, g = Decimal(nll), Decimal(gamma)

        def exact(x):
            return (1 - (-x).exp()) ** g * x

        h = n * Decimal("1e-20")
        q = (-n).exp()
        loss, slope = L.focal(np.float64(nll), np.float64(float(q)), np.float64(float(1 - q)), gamma)
        assert_digits(loss, exact(n), 80 * gamma)  # exp(gamma log u) has gamma |log u| more roundings
        assert_digits(slope, (exact(n + h) - exact(n - h)) / (2 * h), 80 * gamma)


def test_focal_loss_at_its_ends():
    zero, one = np.float64(0), np.float64(1)
    assert L.focal(zero, one, zero, 2.0) == (0, 0)
    assert L.focal(INF, zero, one, 2.0) == (INF, 1)
    assert L.focal(np.float64(0.25), np.float64(0.75), np.float64(0.25), 0.0) == (0.25, 1)
    assert all(np.isnan(L.focal(NAN, NAN, NAN, 2.0)))


@pytest.mark.parametrize("gamma", [0.0, 1.5])
@pytest.mark.parametrize("epsilon", [-1.0, -0.75, 1e-3, 2.0, 1e6])
@pytest.mark.parametrize("nll", [1e-12, 1e-3, 0.2, 3.0, 30.0])
def test_poly_loss_and_its_derivative(nll, epsilon, gamma):
    """The derivative has all its digits where the loss cancels; not so the focal one, which has the loss in it."""
    with localcontext(prec=60):
        n, g, e = Decimal(nll), Decimal(gamma), Decimal(epsilon)

        def exact(x):
            return (1 - (-x).exp()) ** g * (x + e * (1 - (-x).exp()))

        q, h = (-n).exp(), n * Decimal("1e-20")
        at, derivative = (float(q), float(1 - q)), (exact(n + h) - exact(n - h)) / (2 * h)
        loss, slope = L.poly(np.float64(nll), *map(np.float64, at), epsilon)
        error = (8 + 80 * g) * Decimal(EPS) * (1 - q) ** g * (1 + abs(e))
        if gamma:
            loss, slope = L.damped(loss, slope, *map(np.float64, at), gamma)
            assert abs(Decimal(float(slope)) - derivative) <= (1 + g) * error
        else:
            assert_digits(slope, derivative, 8)
        assert abs(Decimal(float(loss)) - exact(n)) <= n * error


def test_poly_loss_at_its_ends():
    zero, one = np.float64(0), np.float64(1)
    assert L.poly(zero, one, zero, 2.0) == (0, 3)
    assert L.poly(INF, zero, one, -1.0) == (INF, 1)
    assert L.poly(np.float64(0.25), np.float64(0.75), np.float64(0.25), 0.0) == (0.25, 1)
    assert all(np.isnan(L.poly(NAN, NAN, NAN, -1.0)))


@given(st.floats(-200, 200), st.sampled_from([0.5, 5.0, 30.0]))
def test_softcap_and_its_slope(x, cap):
    x, inverse = np.float64(x), 1 / cap
    y = L.capped(x, cap, inverse)
    assert abs(y) <= cap
    assert y == -L.capped(-x, cap, inverse)
    slope = L.cap_slope(x, inverse)
    np.testing.assert_allclose(slope, np.cosh(x * inverse) ** -2.0, rtol=1e-12, atol=4 * EPS)
    h = cap * 2.0**-17
    numeric = (L.capped(x + h, cap, inverse) - L.capped(x - h, cap, inverse)) / (2 * h)
    np.testing.assert_allclose(slope, numeric, rtol=1e-8, atol=1e-9)
