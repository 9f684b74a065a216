"""The options of a loss: checked once as they are, and once in the precision that they are used in, on any device."""

import math
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np

from .conversion import number, whole
from .rules import shown

REDUCTIONS = ("mean", "sum", "none")
#: Square roots of what computing dtypes hold: such numbers have an inverse, and a product with one another.
LARGE = {"float32": 2.0**64, "float64": 2.0**512}


class Flags(NamedTuple):
    """What a loss has to do, as constants that kernels are compiled for; what is off costs nothing."""

    hard: bool = False  # the target is class indices
    soft: bool = False  # the target is probabilities
    weighted: bool = False  # class weights
    smooth: bool = False  # label smoothing (of indices; soft targets are smoothed as they are read)
    z_loss: bool = False
    focal: bool = False
    cap: bool = False  # softcap
    temper: bool = False  # temperature
    factors: bool = False  # each row has its own weight or upstream gradient
    grad: bool = False


class Options(NamedTuple):
    """The options of a loss, checked."""

    ignore_index: int
    label_smoothing: float
    z_loss: float
    focal_gamma: float
    temperature: float
    softcap: float | None
    reduction: str


def _number(name: str, value: Any, low: float, *, strict: bool = False, high: float = math.inf) -> float:
    """A finite option within its bounds."""
    bounds = f"{'>' if strict else '>='} {low:g}" if high == math.inf else f"in [{low:g}, {high:g}]"
    found = number(name, value, f"a number {bounds}")
    if not (math.isfinite(found) and low <= found <= high and (found > low or not strict)):
        raise ValueError(f"{name} must be a finite number {bounds}, got {shown(value)}")
    return found


def _softcap(value: Any) -> float | None:
    """A softcap; None and infinity are none."""
    if value is None or number("softcap", value, "a number > 0, or None") == math.inf:
        return None
    return _number("softcap", value, 0.0, strict=True)


def _options(
    ignore_index: Any,
    label_smoothing: Any,
    z_loss: Any,
    focal_gamma: Any,
    temperature: Any,
    softcap: Any,
    reduction: Any,
) -> Options:
    if not isinstance(reduction, str) or reduction not in REDUCTIONS:
        raise ValueError(f"reduction must be one of {', '.join(map(repr, REDUCTIONS))}, got {shown(reduction)}")
    ignored = whole("ignore_index", ignore_index, "an integer")
    if not -(2**63) <= ignored < 2**63:
        raise ValueError(f"ignore_index must fit in 64 bits, got {shown(ignored)}")
    return Options(
        ignored,
        _number("label_smoothing", label_smoothing, 0.0, high=1.0),
        _number("z_loss", z_loss, 0.0),
        _number("focal_gamma", focal_gamma, 0.0),
        _number("temperature", temperature, 0.0, strict=True),
        _softcap(softcap),
        str(reduction),
    )


_cached_options = lru_cache(maxsize=256, typed=True)(_options)  # 1.0 is no ignore_index


def options(*values: Any) -> Options:
    """The checked options; a set of values that was seen before costs one look-up."""
    try:
        return _cached_options(*values)
    except Exception:  # of values that cannot be hashed or compared, or that are refused with an error of their own
        once_more = _options
    return once_more(*values)


def _beyond(given: Options, dtype: str) -> tuple[str, float, float] | None:
    """An option that has no product with ordinary logits in a dtype, or no inverse where it needs one; its bounds."""
    large = LARGE[dtype]
    bounds: dict[str, tuple[float, float]] = {
        "z_loss": (0, large),
        "focal_gamma": (0, large),
        "temperature": (1 / large, large),
        "softcap": (1 / large, math.inf),
    }
    for name, (low, high) in bounds.items():
        value = getattr(given, name)
        if value is not None and not low <= value <= high:
            return name, low, high
    return None


@lru_cache(maxsize=1024)
def wide_enough(given: Options, dtype: str) -> str:
    """The dtype to compute in: float64 where a narrower one has no number for an option."""
    return dtype if _beyond(given, dtype) is None else "float64"


@lru_cache(maxsize=1024)
def in_precision(given: Options, dtype: str) -> Options:
    """The options of a loss that is computed in a dtype: a softcap that it has no number for is none."""
    found, cap = _beyond(given, dtype), given.softcap
    if found is not None:
        name, low, high = found
        limits = f"in [{low:.2g}, {high:.2g}]" if high < math.inf else f">= {low:.2g}"
        raise ValueError(
            f"{name} must be {limits} for logits that are computed in {dtype}, got {getattr(given, name)}"
            + ("; convert the logits to float64" if dtype == "float32" else "")
        )
    return given._replace(softcap=None) if cap is not None and cap > np.finfo(dtype).max else given
