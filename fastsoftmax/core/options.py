"""One list of the options of a loss: name, default, bounds, what they are to kernels, and values that tests try.

An option is a `Term`, a field of `Options`, a switch in `Flags` and one number or more in `Numbers`, which every
backend takes as they are.  They are checked once as they come, and once in the precision that they are used in.
"""

import math
from collections.abc import Callable
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np

from .conversion import number, whole
from .rules import shown

REDUCTIONS = ("mean", "sum", "none")
#: Square roots of what computing dtypes hold: such numbers have an inverse, and a product with one another.
LARGE = {"float32": 2.0**64, "float64": 2.0**512}


class Bounds(NamedTuple):
    """The numbers that an option may be."""

    low: float
    high: float = math.inf
    above: bool = False  # `low` itself is none of them
    below: bool = False  # nor is `high`

    def admit(self, value: Any) -> bool:
        """Whether a number is one of them."""
        return bool(
            (self.low < value if self.above else self.low <= value)
            and (value < self.high if self.below else value <= self.high)
        )

    def __str__(self) -> str:
        """Their interval, or where it begins."""
        if self.high == math.inf:
            return f"{'>' if self.above else '>='} {self.low:g}"
        return f"in {'(' if self.above else '['}{self.low:g}, {self.high:g}{')' if self.below else ']'}"


class Term(NamedTuple):
    """An option of a loss."""

    option: str
    default: float | None  # with which it is off; None stands for infinity, which is off too
    bounds: Bounds
    flag: str  # of `Flags`, on for other values than the default
    numbers: dict[str, Callable[[Any, int], float]]  # of `Numbers`, from its value and the number of classes
    tried: tuple[float, ...]  # values that tests take, the first of them alone and the second together with others
    indices_only: bool = False  # probabilities have no such option


TERMS = (
    Term(
        "label_smoothing",
        0.0,
        Bounds(0, 1),
        "smooth",
        {"keep": lambda value, _: 1.0 - value, "share": lambda value, classes: value / classes},
        (0.1, 0.3),
    ),
    Term("z_loss", 0.0, Bounds(0), "z_loss", {"z_loss": lambda value, _: value}, (1e-2, 1e-3)),
    Term("focal_gamma", 0.0, Bounds(0), "focal", {"gamma": lambda value, _: value}, (2.0, 1.5), indices_only=True),
    # From -1 on, the loss is not negative and falls as the target's probability grows (Leng et al., 2022).
    Term(
        "poly_epsilon", 0.0, Bounds(-1), "poly", {"poly": lambda value, _: value}, (2.0, -0.75, -1.0), indices_only=True
    ),
    Term(
        "temperature",
        1.0,
        Bounds(0, above=True),
        "temper",
        {"inverse_temperature": lambda value, _: 1.0 / value},
        (0.7, 1.5),
    ),
    Term("softcap", None, Bounds(0, above=True), "cap", {"cap": lambda value, _: value or 0.0}, (5.0, 8.0)),
)

BOUNDS = {term.option: term.bounds for term in TERMS}


class Options(NamedTuple):
    """The options of a loss, checked."""

    ignore_index: int = -100
    label_smoothing: float = 0.0
    z_loss: float = 0.0
    focal_gamma: float = 0.0
    poly_epsilon: float = 0.0
    temperature: float = 1.0
    softcap: float | None = None
    reduction: str = "mean"


class Flags(NamedTuple):
    """The switches of a loss, constants that kernels are compiled for; what is off costs nothing."""

    hard: bool = False  # the target is class indices
    soft: bool = False  # the target is probabilities
    weighted: bool = False  # class weights
    factors: bool = False  # each row has its own weight or upstream gradient
    grad: bool = False
    upstream: bool = False  # the gradient is that of statistics, by upstream gradients of three of them
    entropy: bool = False  # sum e_j d_j is reduced
    rest: bool = False  # the sum without the term of one maximum is
    adjusted: bool = False  # logits are adjusted first: by
    offset: bool = False  # a number for each class, which is added after softcap and temperature
    mask: bool = False  # a mask, which says for each logit whether its class is there
    residual: bool = False  # the magnitude of the gradient stands for the diagonal of the Hessian
    smooth: bool = False  # label smoothing (of indices; soft targets are smoothed as they are read)
    z_loss: bool = False
    focal: bool = False
    poly: bool = False
    temper: bool = False  # temperature
    cap: bool = False  # softcap


class Numbers(NamedTuple):
    """The numbers of a loss, which kernels are given in this order in the computing dtype."""

    scale: float = 1.0  # of gradients
    keep: float = 1.0  # 1 - label_smoothing
    share: float = 0.0  # label_smoothing / K
    z_loss: float = 0.0
    gamma: float = 0.0
    poly: float = 0.0
    inverse_temperature: float = 1.0
    cap: float = 0.0


@lru_cache(maxsize=1024)
def flags_of(o: Options, *, hard: bool, weighted: bool, factors: bool, grad: bool) -> Flags:
    """The switches of a loss for class indices (`hard`) or probabilities."""
    switches = {term.flag: getattr(o, term.option) != term.default for term in TERMS}
    switches["smooth"] &= hard
    return Flags(hard=hard, soft=not hard, weighted=weighted, factors=factors, grad=grad, **switches)


@lru_cache(maxsize=1024)
def numbers_of(o: Options, classes: int) -> Numbers:
    """The numbers of a loss of so many classes; gradients are multiplied by 1."""
    return Numbers(
        **{name: of(getattr(o, term.option), classes) for term in TERMS for name, of in term.numbers.items()}
    )


def within(name: str, value: Any, bounds: Bounds) -> float:
    """A finite option within its bounds."""
    found = number(name, value, f"a number {bounds}")
    if not (math.isfinite(found) and bounds.admit(found)):
        raise ValueError(f"{name} must be a finite number {bounds}, got {shown(value)}")
    return found


def _value(term: Term, value: Any) -> float | None:
    """The value of an option; of one that is off at infinity, None stands for that."""
    infinite = f"a number {term.bounds}, or None"
    if term.default is None and (value is None or number(term.option, value, infinite) == math.inf):
        return None
    return within(term.option, value, term.bounds)


def _options(ignore_index: Any, *values: Any) -> Options:
    *values_of_terms, reduction = values
    if not isinstance(reduction, str) or reduction not in REDUCTIONS:
        raise ValueError(f"reduction must be one of {', '.join(map(repr, REDUCTIONS))}, got {shown(reduction)}")
    ignored = whole("ignore_index", ignore_index, "an integer")
    if not -(2**63) <= ignored < 2**63:
        raise ValueError(f"ignore_index must fit in 64 bits, got {shown(ignored)}")
    checked = [_value(term, value) for term, value in zip(TERMS, values_of_terms, strict=True)]
    return Options._make([ignored, *checked, str(reduction)])


_cached_options = lru_cache(maxsize=256, typed=True)(_options)  # 1.0 is no ignore_index


def options(*values: Any) -> Options:
    """The checked options, of values in the order of `Options`; a set that was seen before costs one look-up."""
    try:
        return _cached_options(*values)
    except Exception:  # of values that cannot be hashed or compared, or that are refused with an error of their own
        once_more = _options
    return once_more(*values)


def transforms(ignore_index: Any, temperature: Any, softcap: Any) -> Options:
    """The checked options of what is no loss: which rows are ignored, and what becomes of logits."""
    return options(*Options(ignore_index, temperature=temperature, softcap=softcap, reduction="none"))


def for_probabilities(o: Options) -> None:
    """Refuse an option that is defined for class indices alone."""
    for term in TERMS:
        if term.indices_only and getattr(o, term.option) != term.default:
            said = f"{term.option} is defined for class indices, got target with probabilities"
            raise ValueError(f"{said}; leave it at {term.default:g}")


def _beyond(given: Options, dtype: str) -> tuple[str, float, float] | None:
    """An option that has no product with ordinary logits in a dtype, or no inverse where it needs one; its bounds."""
    large = LARGE[dtype]
    for term in TERMS:
        value, low = getattr(given, term.option), 1 / large if term.bounds.above else term.bounds.low
        high = math.inf if term.default is None else large
        if value is not None and not low <= value <= high:
            return term.option, low, high
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
