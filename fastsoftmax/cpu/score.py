"""From what rows were reduced to, one row in each lane, to their losses and to the numbers of their gradients."""

from collections import namedtuple

from ..jit import inline
from . import params as P
from .laws import vector
from .memory import integer_at, load_n, ref_like, store_n
from .simd import first_lanes, select, splat

_index_score, _soft_score = vector["index_score"], vector["soft_score"]

# What the reduction of a vector of rows found; `d` is z_t - m and `weight` the class weight of the target.
State = namedtuple("State", ("m", "others", "dot", "mass", "d", "weight"))


@inline
def score(flags, o, params, like, state, t, index, n):
    """(losses, A, B, gradients of the targets' logits) of `n` rows from number `index` on, whose targets are `t`.

    The last three have every factor in them, and 1/s.  Losses are 0 in the lanes of ignored rows and past the last;
    they are written to RESULT where it is wanted.  `like` is a reference of the computing type.
    """
    one = splat(like, 1.0)
    if flags.soft:
        loss, norm, a = _soft_score(flags, o, one, state.m, state.others, state.dot, state.mass)
        b, at_target = one, one
    else:
        loss, norm, a, share, at_target = _index_score(
            flags, o, state.weight, state.m, state.others, state.dot, state.mass, state.d
        )
        b = splat(like, share)
    up = one * (o.scale * o.inverse_temperature)
    if flags.factors:
        up = up * load_n(ref_like(like, integer_at(params, P.GRAD_FACTOR)), index, n, 0.0)
        loss = loss * load_n(ref_like(like, integer_at(params, P.LOSS_FACTOR)), index, n, 0.0)
    if flags.hard:
        loss = select(t > -1, loss, 0.0)
    loss = first_lanes(loss, n)
    if integer_at(params, P.RESULT) != 0:
        store_n(ref_like(like, integer_at(params, P.RESULT)), index, n, loss)
    return loss, a * up / norm, b * up, at_target * up
