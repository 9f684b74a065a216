"""The teachers and directions of a divergence: names, and the constants that kernels know them by."""

from typing import Any

from .conversion import number
from .dtypes import FORWARD, LOG_PROB, LOGITS, MIXED, PROB, REVERSE
from .options import Bounds, Options, options
from .rules import shown

TEACHERS = {"logits": LOGITS, "log_prob": LOG_PROB, "prob": PROB}
_BETWEEN = Bounds(0, 1, above=True, below=True)


def divergence_options(temperature: Any, reduction: Any) -> Options:
    """The checked options of a divergence; no rows are ignored."""
    return options(*Options(temperature=temperature, reduction=reduction))


def teacher_of(name: Any) -> int:
    """The number of what a teacher is."""
    if not isinstance(name, str) or name not in TEACHERS:
        raise ValueError(f"teacher_is must be one of {', '.join(map(repr, TEACHERS))}, got {shown(name)}")
    return TEACHERS[name]


def direction_of(value: Any) -> tuple[int, float]:
    """(the number of a direction, the teacher's share in a mixture)."""
    if isinstance(value, str) and value in ("forward", "reverse"):
        return (FORWARD, 0.5) if value == "forward" else (REVERSE, 0.5)
    said = "'forward', 'reverse' or a number in (0, 1)"
    beta = number("direction", value, said)
    if not _BETWEEN.admit(beta):
        raise ValueError(f"direction must be {said}, got {shown(value)}")
    return MIXED, beta
