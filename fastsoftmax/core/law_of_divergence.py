"""The mathematics of divergences of a student's distribution p from a teacher's q: a part of `law`, bound with it.

What a teacher is, and the direction of a divergence, are compile-time constants as flags are.
"""

from collections import namedtuple

from .dtypes import FORWARD, LOGITS, PROB, REVERSE

CONSTANTS = ("FORWARD", "LOGITS", "PROB", "REVERSE")

#: What both rows are normalised by: shifts of the exponentials, logarithms and inverses of their sums.
Norms = namedtuple("Norms", ("shift", "log_s", "inverse", "teacher_shift", "teacher_log_s", "teacher_inverse"))


def difference(p, q, t):
    """``p - q`` with all of its digits, for ``t = log(p/q)``: ``q expm1(t)``, or ``-p expm1(-t)`` where t > 0."""
    return where(t > 0.0, 0.0 - p, q) * expm1(where(t > 0.0, 0.0 - t, t))


def divergence_term(p, q, t):
    """``q log(q/p) - q + p >= 0`` for ``t = log(p/q)``; over distributions it adds up to the divergence KL(q || p)."""
    value = difference(p, q, t) - term(q, t)
    return where(value < 0.0, 0.0, value)


def log_ratio(p, q, t):
    """``t = log(p/q)``, 0 where both are the same, which may be 0."""
    return where(p == q, 0.0, t)


def mixture(t, beta):
    """``(log(m/q), log(m/p))`` of the mixture ``m = beta q + (1 - beta) p``, for ``t = log(p/q)``.

    One of them is the logarithm of ``u = 1 + share (exp(-|t|) - 1)``, and the other that and t.  What rounding took
    from u is added where u is near 1.
    """
    near, share = where(t > 0.0, 0.0 - t, t), where(t > 0.0, beta, 1.0 - beta)
    e = exp(near)
    u = e * share + (1.0 - share)
    log_share = log(u) + where(e > 0.5, (expm1(near) * share - (u - 1.0)) / u, 0.0)
    return where(t > 0.0, log_share + t, log_share), where(t > 0.0, log_share, log_share - t)


def pair(teacher, e, d, teacher_e, y, norms):
    """``(p, q, log(p/q))`` of a class with the exponential `e` of ``z_j - m = d``.

    Of a teacher's logits `y` is its d, else its number as it is; `teacher_e` is the exponential of y, but that of a
    probability is not looked at.
    """
    p = e * norms.inverse
    if teacher == LOGITS:
        q, t = teacher_e * norms.teacher_inverse, (d - y) - (norms.log_s - norms.teacher_log_s)
    elif teacher == PROB:
        q, t = y, d - norms.log_s - log(y)
    else:
        q, t = teacher_e, d - norms.log_s - y
    return p, q, log_ratio(p, q, t)


def divergence_terms(direction, beta, p, q, t):
    """(a term of the divergence, a term of the number that its gradient needs)."""
    if direction == FORWARD:
        return divergence_term(p, q, t), q
    if direction == REVERSE:
        return divergence_term(q, p, 0.0 - t), term(p, t)
    to_q, to_p = mixture(t, beta)
    m = q * beta + p * (1.0 - beta)
    return divergence_term(m, q, to_q) * beta + divergence_term(m, p, to_p) * (1.0 - beta), term(p, to_p)


def divergence_slope(teacher, direction, beta, p, q, t, second):
    """The derivative by a logit of the student; `second` is the sum of the second terms."""
    if direction == FORWARD:
        g = difference(p, q, t)
        return g if teacher == LOGITS else g + p * (second - 1.0)
    if direction == REVERSE:
        return term(p, t - second)
    _, to_p = mixture(t, beta)
    return term(p, second - to_p) * (1.0 - beta)
