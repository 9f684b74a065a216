r"""The mathematics of the library, once: plain functions of primitives, for vectors, scalars, arrays and GPU threads.

A row of K logits is summarised by ``(m, s)``: ``m = max_j z_j`` and ``s = sum_j exp(z_j - m)``, so that
``lse = m + log(s)``.  A loss ``f(lse, z_t, sum_j w_j z_j)`` has the gradient

    dL/dz_j = A p_j - B w_j - C [j = t],    A = df/dlse,  B = -df/d(sum w z),  C = -df/dz_t,

so that every loss is its value and three numbers a row (`index_score`, `soft_score`).  Values are written with
``log s`` and ``d_j = z_j - m``, never with ``lse - z_t``, which loses the digits of a large common offset; ``others``
is ``s`` without the target's own term, because ``1 - p_t = others / s`` keeps the digits that ``p_t - 1`` loses when
the model is confident.

Nothing here is imported by name.  The functions use the names in `PRIMITIVES`, which do not exist in this module:
``bind`` gives each target a copy of the functions with its own primitives and its own compiler.  Their conditions
depend on compile-time flags only; choices that depend on data are ``where(condition, a, b)``, which evaluates both.
"""

from types import FunctionType

from . import law_of_divergence

PRIMITIVES = ("exp", "expm1", "log", "log1p", "tanh", "where")
INF = float("inf")


def shift(m):
    """The shift before exp: the maximum, but 0 for a part that is all -inf, where -inf - -inf would be NaN."""
    return where(m == -INF, 0.0, m)


def merge(m, s, m2, s2):
    """The state of two parts of a row together; associative and commutative, with the identity (-inf, 0)."""
    top = where(m > m2, m, m2)
    base = shift(top)
    return top, s * exp(m - base) + s2 * exp(m2 - base)


def merge_dot(dot, total, m, top):
    """``sum w_j (z_j - m)`` with respect to a new maximum; `total` is ``sum w_j``."""
    return dot + where(total == 0.0, 0.0, total * (shift(m) - shift(top)))


def rest(s, below):
    """``s`` without the term of one maximum, which is 1: `below`, the sum of the terms below the maximum.

    Where the maximum is not alone that is ``s - 1``, at least 1: ``s - below`` counts the maxima.
    """
    return where(s - below < 1.5, below, s - 1.0)


def merge_below(m, s, below, top):
    """The terms below the maximum `top` of the whole row, of a part with the maximum `m`."""
    return where(m == top, below, s * exp(m - shift(top)))


def merge_spread(m, s, spread, top):
    """``sum_j e_j (z_j - top)`` with ``e_j = exp(z_j - top)``, of a part whose `spread` is that for its maximum `m`."""
    base, own = shift(top), shift(m)
    factor = exp(m - base)
    return where(factor == 0.0, 0.0, factor * (spread + s * (own - base)))


def normaliser(m, s):
    """s, or NaN where a probability does not exist: a row that is all -inf, or that holds +inf (as in torch)."""
    return where(m * 0.0 == 0.0, s, m - m)


def log_sum_exp(m, s):
    """log(sum_j exp(z_j)); infinite where the maximum is, as long as s > 0 or m = -inf."""
    return m + log(s)


def term(w, d):
    """``w * d`` with 0 * -inf = 0: a class of weight 0 adds nothing, however impossible it is."""
    return where(w == 0.0, 0.0, w * d)


def capped(x, cap, inverse_cap):
    """Softcap: ``c tanh(x / c)``."""
    return tanh(x * inverse_cap) * cap


def adjusted(z, o):
    """``z + o``, but -inf where o is, whatever z is: such a class is left out."""
    return where(o == -INF, o, z + o)


def remaining(z, mask):
    """``z`` where a mask is 0, and what the mask is, -inf, where it is not: without that class, whatever z is."""
    return where(mask == 0.0, z, mask)


def cap_slope(x, inverse_cap):
    """The derivative of the softcap: ``1 - tanh(x / c)**2``."""
    y = tanh(x * inverse_cap)
    return 1.0 - y * y


def log_total(d, others, s):
    """``log(s)``, one log for all targets: with the digits of `others` where the target is the maximum (``d = 0``).

    Elsewhere it is log1p of ``s - 1``, which is exact from s = 1 on, and s is not less.
    """
    return log1p(where(d == 0.0, others, s - 1.0))


def entropy(log_s, spread, s):
    """``-sum_j p_j log p_j = log(s) - spread / s`` for ``spread = sum_j e_j d_j <= 0``: neither term is negative."""
    return log_s - spread / s


def others_of(d, e, s, but_one):
    """``s`` without the term ``e = exp(d)`` of one class; `but_one` is that without a maximum's (see `rest`).

    A difference would have no digits there.
    """
    return where(d == 0.0, but_one, s - e)


def complement(p, top):
    """``1 - p``: no probability but that of a single maximum is above 1/2, and `top` is its complement."""
    return where(p > 0.5, top, 1.0 - p)


def log_of_sum(m, but_one):
    """``log(s)`` by the sum without a maximum's term; NaN where a probability does not exist."""
    return normaliser(m, log1p(but_one))


def negative_log_likelihood(d, others, s):
    """``-log p_t = log(s) - (z_t - m)``; tiny losses keep their digits."""
    return log_total(d, others, s) - d


def focal(nll, q, u, gamma):
    """The focal loss ``(1-q)**gamma * nll`` of ``q = p_t``, ``u = 1 - q``, and its derivative by nll (Lin et al. 2017).

    ``d/dnll = (1-q)**gamma * (1 + gamma * q * nll / (1-q))``, whose last fraction tends to 1 as q does.
    """
    return damped(nll, 1.0, q, u, gamma)


def damped(loss, slope, q, u, gamma):
    """``(1-q)**gamma`` times a loss, and its derivative by nll, where `slope` is that of the loss."""
    factor = where(u == 0.0, 0.0, exp(log(u) * gamma))
    steepness = where(q == 0.0, 0.0, where(u == 0.0, 1.0, loss / u) * q * gamma)
    return where(loss == 0.0, 0.0, factor * loss), factor * (steepness + slope)


def poly(nll, q, u, epsilon):
    """The Poly-1 loss ``nll + epsilon (1-q)``, and its derivative by nll, ``1 + epsilon q`` (Leng et al. 2022).

    For a negative epsilon that is ``(1 + epsilon) - epsilon (1-q)``: neither term is negative, and nothing cancels.
    """
    change = q * epsilon
    return u * epsilon + nll, where(change < 0.0, (epsilon + 1.0) - u * epsilon, change + 1.0)


def focal_curvature(nll, q, u, gamma):
    """``u**2 f''(nll)`` of the focal loss ``f = (1-q)**gamma nll``, for ``q = p_t`` and ``u = 1 - q``.

    ``f'' = gamma q u**(gamma-1) (2 - nll + (gamma-1) q nll / u)``.  The second derivatives by the logits are
    ``f'' (p_j - [j=t])**2 + f' p_j (1 - p_j)``; with this they are quotients that do not overflow as u tends to 0.
    """
    bend = 2.0 - nll + where(u == 0.0, 1.0, nll / u) * q * (gamma - 1.0)
    curvature = exp(log(u) * (gamma + 1.0)) * bend * q * gamma
    return where(u == 0.0, 0.0, where(q == 0.0, 0.0, curvature))


def smoothing(log_s, dot, mass, share):
    """(loss, A) of ``share * sum_j w_j (-log p_j)``, as ``log(s) sum w_j - sum w_j d_j``; its B is `share`."""
    return (log_s * mass - dot) * share, mass * share


def z_loss(lse, weight, strength):
    """(loss, A) of ``strength * lse**2``, which keeps the normaliser near 1 (Chowdhery et al., 2022)."""
    return lse * lse * weight * strength, lse * weight * (strength * 2.0)


def target_gradient(excess, b, c, q, u, w):
    """``A p_t - B w_t - C`` without cancellation, for ``A = C + excess``: ``excess p_t - C (1 - p_t) - B w_t``."""
    return excess * q - c * u - w * b


def index_score(flags, o, weight, m, others, dot, mass, d):
    """Score a row whose target is a class.

    Parameters
    ----------
    flags, o
        The compile-time switches and the numbers that go with them.
    weight
        The class weight of the target (1 without weights).
    m, others, dot, mass, d
        The maximum, the sum without the target's term, ``sum_j w_j (z_j - m)``, ``sum_j w_j``, and ``z_t - m``.

    Returns ``(loss, s, A, B, gradient of the target's logit)``.
    """
    e = exp(d)
    s = normaliser(m, others + e)
    # Two divisions rather than products with 1/s: `u` is exactly 1 where p_t is 0.
    log_s, q, u = log_total(d, others, s), e / s, others / s
    loss, c = negative_log_likelihood(d, others, s), weight * o.keep
    excess = weight * 0.0
    if flags.poly:
        loss, slope = poly(loss, q, u, o.poly)
        if flags.focal:
            loss, slope = damped(loss, slope, q, u, o.gamma)
        c = c * slope
    elif flags.focal:
        loss, slope = focal(loss, q, u, o.gamma)
        c = c * slope
    loss = loss * (weight * o.keep)
    if flags.smooth:
        more, excess = smoothing(log_s, dot, mass, o.share)
        loss = loss + more
    if flags.z_loss:
        more, a = z_loss(shift(m) + log_s, weight, o.z_loss)
        loss, excess = loss + more, a + excess
    return loss, s, c + excess, o.share, target_gradient(excess, o.share, c, q, u, weight)


def curvature_score(flags, o, weight, m, others, d):
    """Numbers of the diagonal of the Hessian, ``A p_j (1 - p_j)``, and of the focal loss's addition to it.

    That is ``f'' (p_j - [j=t])**2``: `bend` at the target, and ``bend (p_j / u)**2`` elsewhere.  The parameters are
    those of `index_score`, but for `others`, the sum without a maximum's term.  Returns ``(1 - p of the maximum, q u of
    the target, bend, 1 / (s u))``, the last 0 where u is.
    """
    s, e = normaliser(m, others + 1.0), exp(d)
    but_target = others_of(d, e, s, others)
    q, u = e / s, but_target / s
    bend = weight * 0.0
    if flags.focal:
        bend = focal_curvature(negative_log_likelihood(d, but_target, s), q, u, o.gamma) * (weight * o.keep)
    return others / s, q * u, bend, where(but_target == 0.0, 0.0, 1.0 / but_target)


def soft_score(flags, o, one, m, s, dot, mass):
    """(loss, s, A) of a row whose target is a distribution v; `dot` is ``sum v_j (z_j - m)``, `mass` ``sum v_j``."""
    s = normaliser(m, s)
    log_s = log(s)
    loss, a = smoothing(log_s, dot, mass, 1.0)
    if flags.z_loss:
        more, a_more = z_loss(shift(m) + log_s, one, o.z_loss)
        loss, a = loss + more, a + a_more
    return loss, s, a


def upstream_score(m, others, spread, d, a, b, c):
    """Score the gradient ``a d(log p_t) + b d(entropy) + c d(lse)`` of a row.

    ``g_j = a ([j=t] - p_j) - b p_j (log p_j + H) + c p_j`` is ``A p_j - B p_j d_j``, with `a` more at the target:
    ``log p_j + H = d_j - spread / s``.

    Parameters
    ----------
    m, others, spread, d
        The maximum, the sum without a maximum's term, ``sum_j e_j d_j``, and ``z_t - m``.
    a, b, c
        The upstream gradients of ``log p_t``, of the entropy and of the log-sum-exp.

    Returns
    -------
    tuple
        ``(s, A, B, gradient of the target's logit)``.
    """
    s = normaliser(m, others + 1.0)
    e, mean = exp(d), spread / s
    q, u = e / s, others_of(d, e, s, others) / s
    return s, c - a + b * mean, b, a * u + q * (c + b * mean) - b * term(q, d)


def bind(primitives, decorate):
    """Every function of this module, and of `law_of_divergence`, as a namespace for one target.

    Parameters
    ----------
    primitives : dict
        The target's `PRIMITIVES` by name.
    decorate : callable
        What compiles a function for the target (the identity for plain Python).

    Returns
    -------
    dict
        The functions by name.
    """
    missing = set(PRIMITIVES) - set(primitives)
    if missing:
        raise TypeError(f"the target lacks the primitives {sorted(missing)}")
    divergences = vars(law_of_divergence)
    bound = {"INF": INF, **{name: divergences[name] for name in law_of_divergence.CONSTANTS}, **primitives}
    for name, function in [*globals().items(), *divergences.items()]:
        if isinstance(function, FunctionType) and name != "bind":
            copy = FunctionType(function.__code__, bound, name)
            copy.__doc__, copy.__module__ = function.__doc__, function.__module__
            bound[name] = decorate(copy)
    return bound
