"""The mathematics bound to this target: once for float64 scalars, once for SIMD vectors, from one text."""

import math

from ...core import law
from ..jit import inline
from . import elementary
from .vectors import select


@inline
def _where(condition, a, b):
    return a if condition else b


scalar = law.bind({"exp": math.exp, "log": math.log, "log1p": math.log1p, "tanh": math.tanh, "where": _where}, inline)
vector = law.bind(
    {
        "exp": elementary.exp_nonpositive,
        "log": elementary.log,
        "log1p": elementary.log1p,
        "tanh": elementary.tanh,
        "where": select,
    },
    inline,
)
