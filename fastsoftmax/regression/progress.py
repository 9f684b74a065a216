"""Progress of a fit on standard error: a bar on a terminal, a few plain lines elsewhere."""

import sys
from types import TracebackType
from typing import Any

from .solvers import Step


def _bar(total: int) -> Any:
    """A bar of rich, where there is a terminal and rich to draw on it."""
    if not sys.stderr.isatty():
        return None
    try:
        from rich.console import Console  # noqa: PLC0415  an extra brings rich
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn  # noqa: PLC0415
    except ImportError:
        return None
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    text = TextColumn("loss {task.fields[loss]:.6g}  gradient {task.fields[gradient]:.2e}")
    bar = Progress(*columns, text, console=Console(stderr=True))
    bar.add_task("fit", total=total, loss=float("nan"), gradient=float("nan"))
    return bar


class Progress:
    """Shows iterations of a fit as they come, of `total` at most, or nothing at all.

    Where standard error is no terminal, or rich is missing, iterations 1, 2, 4, 8, ... and the last one are printed as
    lines of plain text.
    """

    def __init__(self, total: int, *, shown: bool) -> None:
        shown = shown and sys.stderr is not None  # as under pythonw, where there is no console
        self._shown, self._bar = shown, _bar(total) if shown else None
        self._last: Step | None = None
        self._printed = 0

    def __enter__(self) -> "Progress":
        if self._bar is not None:
            self._bar.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        if self._bar is not None:
            self._bar.stop()
        elif self._last is not None and self._last.iteration != self._printed:
            self._line(self._last)

    def update(self, step: Step) -> None:
        """Show an iteration."""
        if not self._shown:
            return
        self._last = step
        if self._bar is not None:
            self._bar.update(self._bar.task_ids[0], completed=step.iteration, loss=step.loss, gradient=step.gradient)
        elif step.iteration & (step.iteration - 1) == 0:
            self._line(step)

    def _line(self, step: Step) -> None:
        self._printed = step.iteration
        print(f"iteration {step.iteration}: loss {step.loss:.6g}, gradient {step.gradient:.2e}", file=sys.stderr)
