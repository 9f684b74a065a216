"""The mathematics of core/law as device functions: once for float32 and once for float64, from one text."""

import math
from types import FunctionType

from ...core import law
from ...core.dtypes import FLOAT32, FLOAT64
from ..toolkit.compiler import device
from . import elementary
from .memory import constant


def _primitive(function):
    """A function of one number of `math` as a device function."""

    @device
    def primitive(x):
        return function(x)

    return primitive


_exp, _expm1, _log, _log1p, _tanh = map(_primitive, (math.exp, math.expm1, math.log, math.log1p, math.tanh))
_where = device(lambda condition, a, b: a if condition else b)


def _in_dtype(kind):
    """A decorator: literals of the function become numbers of the dtype, as they would make everything float64."""

    def decorate(function):
        def converted(value):
            return constant(kind, value) if isinstance(value, float) else value

        code = function.__code__.replace(co_consts=tuple(map(converted, function.__code__.co_consts)))
        copy = FunctionType(code, function.__globals__, function.__name__)
        copy.__doc__, copy.__module__ = function.__doc__, function.__module__
        return device(copy)

    return decorate


def _bound(kind, exp):
    primitives = {"exp": exp, "expm1": _expm1, "log": _log, "log1p": _log1p, "tanh": _tanh, "where": _where}
    return law.bind({**primitives, "INF": constant(kind, law.INF)}, _in_dtype(kind))


#: The functions of `law` by computing dtype.
LAWS = {FLOAT32: _bound(FLOAT32, elementary.exp), FLOAT64: _bound(FLOAT64, _exp)}
#: exp(x) for x <= 0 of an element, by computing dtype and whether results are stored in a half type.
EXPONENTIALS = {
    (FLOAT32, True): elementary.quick,
    (FLOAT32, False): elementary.exp,
    (FLOAT64, False): _exp,
}
