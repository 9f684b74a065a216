"""Long rows in parts: launches of `layouts/part_kernels`, where whole rows would leave threads without work.

The bits are those of whole rows, so that the number of threads may decide.  Parts are not free: there are two more
launches, and what a row left in the cache of one processor is wanted by another (25 microseconds of 105 for 2x131072).
"""

from typing import Any, NamedTuple

from . import parameters as P
from . import table
from .addresses import address
from .layouts.constants import BLOCK, EMIT, PART, REDUCE, ROWS, SCORE, STATE, STATE_HEAD
from .plan import Plan
from .threads import launch

LAUNCHES = 1 << 15  # elements, in the time of a thread, that two more launches cost
RELOADED = 4  # one part in so many of the time, that it costs to read from another processor's cache
AT_ONCE = 1 << 20  # elements that are cut at a time: what is kept of them is in a last-level cache when it is read


class Parts(NamedTuple):
    """The rows of a launch, which may be cut."""

    kernel: tuple[Any, ...]  # its key in the table
    rows: int
    classes: int
    writes: bool  # whether rows are written

    def at_once(self, threads: int) -> int:
        """The rows that so many threads work on at a time; 0 where each is better left whole."""
        idle = -self.rows % threads  # threads without a row in the last round
        if (RELOADED * idle - self.rows) * self.classes < RELOADED * threads * LAUNCHES or idle == 0:
            return 0
        return min(self.rows, max(1, AT_ONCE // self.classes))

    def room(self, at_once: int) -> int:
        """The numbers in float64 that states of rows take."""
        return at_once * (STATE_HEAD + STATE * -(-self.classes // BLOCK))


def parts_of(
    kernel: str, constants: tuple[Any, ...], plan: Plan, rows: int, classes: int, *, writes: bool
) -> Parts | None:
    """The rows of a kernel of some constants, if they may be cut; otherwise None."""
    long = plan.layout == ROWS and plan.chunk == 1 and plan.parallel
    cut = long and kernel in ("cross_entropy", "softmax", "vjp")
    return Parts((f"{kernel} in parts", *constants), rows, classes, writes) if cut else None


def launch_parts(parts: Parts, at_once: int, space: Any, states: int, threads: int) -> None:
    """Run the kernel on all rows; `space` begins with its parameters, and has room for states at an address."""
    kernel, begin, pieces = table.address(*parts.kernel), address(space), -(-parts.classes // PART)
    space[P.STATES] = states
    for first in range(0, parts.rows, at_once):
        rows = min(at_once, parts.rows - first)
        space[P.FIRST_ROW] = first
        for phase in (REDUCE, SCORE, EMIT) if parts.writes else (REDUCE, SCORE):
            space[P.NEXT_CHUNK], space[P.PHASE] = 0, phase
            if phase == SCORE:  # some nanoseconds a block: 70 microseconds of 10**7 classes
                launch.launch(kernel, begin, rows, 1)
            else:
                launch.launch(kernel, begin, rows * pieces, threads)
