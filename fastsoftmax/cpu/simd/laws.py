"""The mathematics bound to this target: once for float64 scalars, once for SIMD vectors, from one text."""

import math

from ...core import law
from ..jit import inline
from . import elementary
from .vectors import select


@inline
def _where(condition, a, b):
    return a if condition else b


_names = "exp", "expm1", "log", "log1p", "tanh"
scalar = law.bind({"where": _where, **{name: getattr(math, name) for name in _names}}, inline)
vector = law.bind(
    {
        "exp": elementary.exp_nonpositive,
        "expm1": elementary.expm1_nonpositive,
        "log": elementary.log,
        "log1p": elementary.log1p,
        "tanh": elementary.tanh,
        "where": select,
    },
    inline,
)
