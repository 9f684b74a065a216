"""What the kernels of both layouts share: reading their parameters and the elementwise part of the losses."""

from collections import namedtuple

from ..jit import inline
from . import params as P
from .laws import vector
from .simd import float_at, fma, integer_at

Options = namedtuple("Options", P.FLOATS)
_capped = vector["capped"]


@inline
def read_options(params):
    return Options(
        float_at(params, P.SCALE),
        float_at(params, P.KEEP),
        float_at(params, P.SHARE),
        float_at(params, P.Z_LOSS),
        float_at(params, P.GAMMA),
        float_at(params, P.CAP),
        float_at(params, P.INVERSE_TEMPERATURE),
    )


@inline
def transform(flags, o, x):
    """The logits that the loss sees: softcap, then temperature."""
    if flags.cap:
        x = _capped(x, o.cap, 1.0 / o.cap)
    if flags.temper:
        x = x * o.inverse_temperature
    return x


@inline
def class_mass(flags, o, y, w):
    """w_j of ``sum_j w_j z_j``: the class weight, times the smoothed target where the target is soft."""
    if flags.soft:
        w = w * fma(y, o.keep, o.share)
    return w


@inline
def row_address(params, base, i):
    """The address of row `i` of the operand whose address and strides stand in the fields `base` to `base + 2`."""
    inner = integer_at(params, P.INNER)
    outer = i // inner
    step, near = integer_at(params, base + 1), integer_at(params, base + 2)
    return integer_at(params, base) + outer * step + (i - outer * inner) * near
