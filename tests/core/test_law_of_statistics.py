"""The mathematics of statistics, Hessians and divergences, bound to NumPy: decimals, differences, no cancellation."""

import math
from decimal import Decimal, localcontext
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fastsoftmax import reference
from fastsoftmax.core import law
from fastsoftmax.core.dtypes import FORWARD, LOG_PROB, LOGITS, MIXED, PROB, REVERSE
from fastsoftmax.core.law_of_divergence import Norms
from tests.core.test_law import EPS, INF, PRIMITIVES, L, assert_digits, differences, rows, state_of


def below_of(z, m):
    """The sum of the exponentials below the maximum, and ``sum e_j d_j``."""
    d = z - L.shift(m)
    e = np.exp(d)
    spread = math.fsum(a * b for a, b in zip(e, d, strict=True) if a > 0)
    return np.float64(math.fsum(e[z < m])), np.float64(spread)


def exact(z):
    """(probabilities, entropy, log of the sum) of a row in decimals; the precision is the context's."""
    d = [Decimal(float(x)) - Decimal(float(z.max())) for x in z if x > -INF]
    e = [x.exp() for x in d]
    s = sum(e)
    return [x / s for x in e], sum((s.ln() - a) * b / s for a, b in zip(d, e, strict=True)), s.ln()


@given(st.data())
def test_parts_of_rows_merge_to_the_row(data):
    """What is below the maximum, and the spread, of a row that is cut anywhere, with ties and parts of -inf."""
    z, _ = data.draw(rows(holes=(0.0, 0.3, 1.0)).filter(lambda row: row[0].max() > -INF))
    if data.draw(st.booleans()):
        z = np.round(z)
    cuts = data.draw(st.lists(st.integers(1, len(z)), max_size=4).map(sorted))
    m, s, below, spread = -INF, np.float64(0), np.float64(0), np.float64(0)
    for begin, end in zip([0, *cuts], [*cuts, len(z)], strict=True):
        if begin < end:
            top, total = state_of(z[begin:end])
            part, width = below_of(z[begin:end], top)
            higher, both = L.merge(m, s, top, total)
            below = L.merge_below(m, s, below, higher) + L.merge_below(top, total, part, higher)
            spread = L.merge_spread(m, s, spread, higher) + L.merge_spread(top, total, width, higher)
            m, s = higher, both
    expected, width = below_of(z, z.max())
    np.testing.assert_allclose(below, expected, rtol=1e-12)
    np.testing.assert_allclose(spread, width, rtol=1e-11)
    np.testing.assert_allclose(L.rest(s, below), math.fsum(np.exp(np.delete(z, z.argmax()) - z.max())), rtol=1e-12)


@given(rows(2, 12, scales=(0.1, 3.0, 20.0, 300.0)).filter(lambda row: row[0].max() > -INF))
def test_entropies_keep_their_digits(row):
    z, _ = row
    m, s = state_of(z)
    below, spread = below_of(z, m)
    found = L.entropy(np.log1p(L.rest(s, below)), spread, s)
    with localcontext(prec=400):
        expected = exact(z)[1]
        assert found >= 0
        # Rounding a difference of 600 is 300 eps of its exponential.
        assert abs(Decimal(float(found)) - expected) <= 700 * Decimal(EPS) * expected + Decimal("1e-300")


@pytest.mark.parametrize("gap", [0.0, 1e-3, 0.5, 1.0, 30.0, 600.0])
def test_complements_keep_their_digits(gap):
    z = np.array([gap, 0.0])
    m, s = state_of(z)
    rest = L.rest(s, below_of(z, m)[0])
    with localcontext(prec=400):
        p = exact(z)[0]
        assert_digits(L.complement(np.exp(0.0) / s, rest / s), 1 - p[0], 700)
        assert_digits(L.complement(np.exp(-gap) / s, rest / s), 1 - p[1], 4)
        assert_digits(L.others_of(np.float64(0), np.float64(1), s, rest) / s, 1 - p[0], 700)
        assert_digits(L.others_of(np.float64(-gap), np.exp(-gap), s, rest) / s, 1 - p[1], 4)


@given(rows(2, 8, scales=(0.5, 3.0), holes=(0.0,)), st.lists(st.floats(-2, 2), min_size=3, max_size=3), st.data())
def test_upstream_score_is_the_derivative(row, upstream, data):
    z, t = row[0], data.draw(st.integers(0, len(row[0]) - 1))
    a, b, c = map(np.float64, upstream)

    def value(x):
        stats = reference.row_stats(x, t, want=("log_prob", "entropy", "log_sum_exp"))
        return a * stats.log_prob + b * stats.entropy + c * stats.log_sum_exp

    m, s = state_of(z)
    below, spread = below_of(z, m)
    d = z - m
    norm, A, B, at_target = L.upstream_score(m, L.rest(s, below), spread, d[t], a, b, c)
    p = np.exp(d) / norm
    grad = p * A - p * d * B
    grad[t] = at_target
    np.testing.assert_allclose(grad, differences(value, z), rtol=1e-6, atol=1e-8)
    mine = reference.row_stats_vjp(z, t, log_prob=a, entropy=b, log_sum_exp=c)
    np.testing.assert_allclose(grad, mine, rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("gamma", [0.5, 1.0, 2.0, 5.0])
@pytest.mark.parametrize("nll", [1e-9, 1e-3, 0.2, 1.0, 3.0, 30.0])
def test_focal_curvature_is_the_second_derivative(nll, gamma):
    with localcontext(prec=80):
        n, g = Decimal(nll), Decimal(gamma)
        h = n * Decimal("1e-20")

        def focal(x):
            return (1 - (-x).exp()) ** g * x

        q = (-n).exp()
        second = (focal(n + h) - 2 * focal(n) + focal(n - h)) / h**2 * (1 - q) ** 2
        found = L.focal_curvature(np.float64(nll), np.float64(float(q)), np.float64(float(1 - q)), gamma)
        assert abs(Decimal(float(found)) - second) <= 40 * (1 + g) * Decimal(EPS) * g * q * (1 - q) ** (g + 1) * (3 + n)
    zero, one = np.float64(0), np.float64(1)
    assert L.focal_curvature(zero, one, zero, gamma) == 0
    assert L.focal_curvature(INF, zero, one, gamma) == 0


def divergence(log_p, log_q, functions=L):
    """The term of two logarithms of probabilities."""
    p, q = np.exp(log_p), np.exp(log_q)
    with np.errstate(invalid="ignore"):
        return functions.divergence_term(p, q, functions.log_ratio(p, q, log_p - log_q))


@given(st.floats(-700, 0), st.floats(-700, 0), st.sampled_from([1.0, 1e-3, 1e-8]))
def test_divergence_terms_are_never_negative(log_p, difference, scale):
    log_q = min(0.0, log_p + scale * (difference + 350) / 50)
    found = divergence(np.float64(log_p), np.float64(log_q))
    assert found >= 0
    with localcontext(prec=80):
        p, q = Decimal(log_p).exp(), Decimal(log_q).exp()
        t = Decimal(log_p) - Decimal(log_q)
        expected = -q * t - q + p
        # The difference of two logarithms is rounded: half an ulp of t, squared with it.
        error = Decimal(EPS) * (4 * (p + q) * abs(t) + 800 * expected)
        assert abs(Decimal(float(found)) - expected) <= error


@given(st.floats(-100, 100).filter(lambda t: t == 0 or abs(t) > 1e-30), st.floats(0.01, 0.99))
def test_mixtures_keep_their_digits(t, beta):
    with localcontext(prec=120):
        ratio, b = Decimal(t).exp(), Decimal(beta)
        exact = (b + (1 - b) * ratio).ln(), (b / ratio + (1 - b)).ln()
    for got, right in zip(L.mixture(np.float64(t), np.float64(beta)), exact, strict=True):
        assert abs(Decimal(float(got)) - right) <= 8 * Decimal(EPS) * (abs(right) + min(abs(Decimal(t)), 1))


def test_divergence_terms_of_impossible_classes():
    zero = np.float64(0)
    assert divergence(zero, -INF) == 1
    assert divergence(-INF, zero) == INF
    assert divergence(-INF, -INF) == 0


def test_divergence_terms_do_not_rely_on_the_last_bit():
    """Not even of an expm1 that is some ulp too small."""
    inaccurate = {**PRIMITIVES, "expm1": lambda x: np.expm1(x) - 4 * EPS * abs(x)}
    short = SimpleNamespace(**law.bind(inaccurate, np.errstate(all="ignore")))
    assert (divergence(np.float64(-1), -1 + 2**-52 * np.arange(1.0, 50.0), short) >= 0).all()


def of_row(teacher, direction, z, y):
    """(the divergence, its gradient) of a row of logits, and what a teacher gives of it."""
    (m, s), (m_y, s_y) = state_of(z), state_of(y)
    taught = teacher == LOGITS
    norms = Norms(m, np.log(s), 1 / s, m_y if taught else m, np.log(s_y), 1 / s_y)
    given = y - m_y if taught else y
    p, q, t = L.pair(teacher, np.exp(z - m), z - m, np.exp(given), given, norms)
    value, second = L.divergence_terms(direction, 0.3, p, q, t)
    return value.sum(), L.divergence_slope(teacher, direction, 0.3, p, q, t, second.sum())


@pytest.mark.parametrize("direction", [FORWARD, REVERSE, MIXED])
@pytest.mark.parametrize("teacher", [LOGITS, LOG_PROB, PROB])
@given(rows(least=2, scales=(0.1, 3.0), holes=(0.0,)), st.integers(0, 2**32 - 1))
def test_gradients_of_divergences(teacher, direction, drawn, seed):
    """Differences of the value, of teachers whose numbers add up to 0.7, too."""
    z, y = drawn[0], np.random.default_rng(seed).normal(size=len(drawn[0]))
    if teacher != LOGITS:
        y = y - np.log(np.exp(y).sum()) + np.log(0.7)
    y = np.exp(y) if teacher == PROB else y
    value, grad = of_row(teacher, direction, z, y)
    assert value >= 0
    numeric = differences(lambda x: of_row(teacher, direction, x, y)[0], z)
    np.testing.assert_allclose(grad, numeric, rtol=1e-6, atol=1e-8)
