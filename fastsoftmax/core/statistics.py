"""One list of the statistics of a row: names, what they are, and which need a target."""

from typing import Any, NamedTuple

from .rules import names

REAL, INDEX, TRUTH, LARGEST = "real", "index", "truth", "largest"


class Statistic(NamedTuple):
    """A statistic of each row of logits."""

    name: str  # in `want`, and as a field of the result
    kind: str  # REAL: in the computing dtype; INDEX: int64; TRUTH: bool; LARGEST: k indices and k real numbers
    needs_target: bool = False


#: In the order of the result's fields.
STATISTICS = (
    Statistic("log_prob", REAL, needs_target=True),
    Statistic("entropy", REAL),
    Statistic("log_sum_exp", REAL),
    Statistic("argmax", INDEX),
    Statistic("max_prob", REAL),
    Statistic("correct", TRUTH, needs_target=True),
    Statistic("rank", INDEX, needs_target=True),
    Statistic("margin", REAL, needs_target=True),
    Statistic("top_k", LARGEST),
)
NAMES = tuple(statistic.name for statistic in STATISTICS)
#: A set of statistics is a number, in which each has a bit.
BITS = {name: 1 << number for number, name in enumerate(NAMES)}


def asked(variant: int, kind: str | None = None) -> tuple[str, ...]:
    """The names in a set, of one kind or of all; their order is that of their columns."""
    return tuple(s.name for s in STATISTICS if variant & BITS[s.name] and kind in (None, s.kind))


class Columns(NamedTuple):
    """The number of each statistic among those of its kind, -1 where it is not asked for."""

    log_prob: int
    entropy: int
    log_sum_exp: int
    argmax: int
    max_prob: int
    correct: int
    rank: int
    margin: int
    top_k: int


def columns_of(variant: int) -> Columns:
    """The columns that kernels write a set to; `top_k` is the column of the logarithm of the sum for it."""
    number = {name: i for kind in (REAL, INDEX, TRUTH) for i, name in enumerate(asked(variant, kind))}
    number |= {name: len(asked(variant, REAL)) for name in asked(variant, LARGEST)}
    return Columns(*(number.get(name, -1) for name in NAMES))


#: The statistics that have a gradient here, in the order of their upstream gradients.
DIFFERENTIABLE = ("log_prob", "entropy", "log_sum_exp")


def upstreams(values: tuple[Any, ...], *, target: bool) -> None:
    """Refuse upstream gradients, of `DIFFERENTIABLE`, of which there is none, or one without its target."""
    if all(value is None for value in values):
        raise ValueError(f"one of {', '.join(DIFFERENTIABLE)} must be given, the upstream gradient of a statistic")
    if values[0] is not None and not target:
        raise ValueError("log_prob needs a target, got None; pass the class index of each row")


def wanted(want: Any, *, target: bool) -> int:
    """The set of the statistics that `want` names; `target` says whether there is one."""
    picked = names("want", want, NAMES)
    if not picked:
        raise ValueError(f"want must name at least one of {', '.join(map(repr, NAMES))}, got none")
    for statistic in STATISTICS:
        if statistic.needs_target and statistic.name in picked and not target:
            raise ValueError(f"{statistic.name!r} needs a target, got None; pass the class index of each row")
    return sum({BITS[name] for name in picked})
