"""The mathematics bound to this target: once for float64 scalars, once for SIMD vectors, from one text."""

import math

from ...core import law
from ..jit import inline
from . import elementary
from .vectors import select


@inline
def _exp(x):
    return math.exp(x)


@inline
def _log(x):
    return math.log(x)


@inline
def _log1p(x):
    return math.log1p(x)


@inline
def _tanh(x):
    return math.tanh(x)


@inline
def _where(condition, a, b):
    return a if condition else b


@inline
def _select(mask, a, b):
    return select(mask, a, b)


scalar = law.bind({"exp": _exp, "log": _log, "log1p": _log1p, "tanh": _tanh, "where": _where}, inline)
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
