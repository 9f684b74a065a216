"""The diagonals of the Hessian in gradient boosting, exact and others: names, factors, and a bound from below."""

from typing import Any, NamedTuple

from .dtypes import named
from .options import Bounds, Options, options, within
from .rules import shown

HESSIANS = ("diagonal", "upper", "lightgbm", "residual")


class Hessian(NamedTuple):
    """The diagonal that is wanted."""

    residual: bool  # the magnitude of the gradient
    curvature: float  # a factor of p (1 - p)
    least: float  # what smaller values are raised to


def hessian_of(name: Any, least: Any, opts: Options, classes: int) -> Hessian:
    """A diagonal by its name."""
    if not isinstance(name, str) or name not in HESSIANS:
        raise ValueError(f"hessian must be one of {', '.join(map(repr, HESSIANS))}, got {shown(name)}")
    if opts.focal_gamma and name != "diagonal":
        raise ValueError(f"focal_gamma has the exact diagonal only, got hessian={name!r}; pass hessian='diagonal'")
    factor = {"upper": 2.0, "lightgbm": classes / max(classes - 1, 1)}.get(name, 1.0)
    return Hessian(name == "residual", factor, within("min_hessian", least, Bounds(0)))


def boosting_options(ignore_index: Any, label_smoothing: Any, focal_gamma: Any, temperature: Any) -> Options:
    """The checked options of gradient and Hessian, which are sums."""
    given = Options(ignore_index, label_smoothing, focal_gamma=focal_gamma, temperature=temperature, reduction="sum")
    return options(*given)


def outputs(out: Any) -> tuple[Any, Any]:
    """The outputs for gradient and Hessian, None for those that are not given; the arrays are not looked at."""
    if out is None:
        return None, None
    if not isinstance(out, tuple | list) or len(out) != 2 or any(array is None for array in out):
        raise TypeError(f"out must be a pair (grad, hess) of arrays, got {shown(out)}")
    return out[0], out[1]


def written_dtype(dtype: Any, logits: str) -> str:
    """The name of results' dtype for logits whose results are of some dtype: that one, or float32."""
    wanted = logits if dtype is None else named(dtype)
    if wanted not in (logits, "float32"):
        raise TypeError(f"dtype must be float32 or that of the logits, {logits}, got {wanted}; convert the results")
    return wanted
