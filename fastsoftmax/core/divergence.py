"""The teachers and directions of a divergence: names, and the constants that kernels know them by."""

from typing import Any, NamedTuple

from .conversion import number
from .dtypes import FORWARD, LOG_PROB, LOGITS, MIXED, PROB, REVERSE
from .options import Bounds, Options, options
from .rules import shown

TEACHERS = {"logits": LOGITS, "log_prob": LOG_PROB, "prob": PROB}
TAILS = ("ignore", "renormalize", "bucket")  # in the order of their numbers in `dtypes`
_BETWEEN = Bounds(0, 1, above=True, below=True)


class Listed(NamedTuple):
    """A teacher that lists some classes of each row, and what becomes of the others."""

    indices: Any
    log_prob: Any
    tail: str


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


def teacher_as_given(teacher: Any, tail: Any, teacher_is: Any) -> Any:
    """The teacher, `Listed` where there is a `tail`."""
    if tail is None:
        return teacher
    if not isinstance(tail, str) or tail not in TAILS:
        raise ValueError(f"tail must be None or one of {', '.join(map(repr, TAILS))}, got {shown(tail)}")
    if not isinstance(teacher, (tuple, list)) or len(teacher) != 2:
        raise TypeError(
            f"teacher must be a pair (indices, log_prob) with tail={tail!r}, got {shown(teacher)}; leave out tail for "
            "a teacher of all classes"
        )
    if not isinstance(teacher_is, str) or teacher_is != "logits":
        raise ValueError(
            f"teacher_is must be left out with tail={tail!r}, where teacher is a pair (indices, log_prob), got "
            f"{shown(teacher_is)}; pass the logarithms of probabilities in that pair"
        )
    indices, log_prob = teacher
    return Listed(indices, log_prob, tail)


def arrays_of(teacher: Any) -> tuple[Any, ...]:
    """The arrays that a teacher consists of."""
    return teacher[:2] if isinstance(teacher, Listed) else (teacher,)


def admitted(tail: str, direction: int, where: Any) -> None:
    """Refuse a mask, and a direction that says nothing where a teacher gives the other classes no probability."""
    if where is not None:
        raise ValueError("where must be None for a teacher that lists classes; leave out of the pair what it masks")
    if tail == "ignore" and direction != FORWARD:
        raise ValueError("direction must be 'forward' with tail='ignore'; pass tail='bucket' for other directions")
    if tail == "renormalize" and direction == REVERSE:
        raise ValueError(
            "direction must be 'forward' or a number in (0, 1) with tail='renormalize': in reverse the divergence is "
            "infinite, as the other classes have no probability; pass tail='bucket'"
        )


def listed_shape(got: tuple[int, ...], log_prob: tuple[int, ...], student: tuple[int, ...], axis: int) -> None:
    """Refuse a pair that does not list some classes of each row of the student's; `axis` counts from the front."""
    rest = student[:axis], student[axis + 1 :]
    if len(got) != len(student) or (got[:axis], got[axis + 1 :]) != rest or not 1 <= got[axis] <= student[axis]:
        last = axis < len(student) - 1 and len(got) == len(student) and got[:-1] == rest[0] + rest[1]
        mend = f"; row_stats puts them last: pass np.moveaxis(indices, -1, {axis}), and log_prob likewise" * last
        raise ValueError(
            f"indices must have the shape of student, {student}, but for 1 to {student[axis]} listed classes along "
            f"axis {axis}, got {got}{mend}"
        )
    if log_prob != got:
        raise ValueError(f"log_prob must have the shape of indices, {got}, got {log_prob}")
