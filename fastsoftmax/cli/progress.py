"""Progress on standard error where that is a terminal, and places to be interrupted everywhere."""

import contextlib
import signal
import sys
from collections.abc import Callable, Iterator
from types import FrameType

from ..core.announcement import nothing_to_say

Advance = Callable[[int, int, str], None]  # done, of how many, what comes next


@contextlib.contextmanager
def interruptions() -> Iterator[Callable[[], None]]:
    """A function that raises KeyboardInterrupt when an interruption has come in; a second one is raised at once.

    One that is raised wherever it comes in may end up in a callback of the compiler, which prints it and goes on.
    """
    came = False

    def note(number: int, frame: FrameType | None) -> None:
        nonlocal came
        if came:
            signal.default_int_handler(number, frame)
        came = True

    def check() -> None:
        if came:
            raise KeyboardInterrupt

    if signal.getsignal(signal.SIGINT) is not signal.default_int_handler:
        yield check  # whoever runs us has decided what an interruption does
        return
    signal.signal(signal.SIGINT, note)
    try:
        yield check
        check()
    finally:
        signal.signal(signal.SIGINT, signal.default_int_handler)


@contextlib.contextmanager
def progress(*, show: bool = True) -> Iterator[Advance]:
    """A bar on standard error where that is a terminal, and a place to be interrupted everywhere."""
    with interruptions() as check, _bar(show=show) as update:

        def advance(done: int, total: int, name: str) -> None:
            check()
            update(done, total, name)

        yield advance


@contextlib.contextmanager
def _bar(*, show: bool) -> Iterator[Advance]:
    try:
        from rich.console import Console  # noqa: PLC0415  an extra brings rich
        from rich.progress import Progress  # noqa: PLC0415
    except ModuleNotFoundError:  # only the demonstration insists on it
        yield lambda done, total, name: None
        return
    terminal = show and sys.stderr.isatty()  # asked here, because rich listens to FORCE_COLOR as well
    console = Console(stderr=True, force_terminal=terminal)
    if terminal:
        nothing_to_say()
    bar = Progress(console=console, transient=True, disable=not terminal, redirect_stdout=False, redirect_stderr=False)
    with bar:
        task = bar.add_task("", total=None)

        def update(done: int, total: int, name: str) -> None:
            new = bar.tasks[0].description != name  # shown at once: a stage may end before the next tenth of a second
            bar.update(task, completed=done, total=total, description=name, refresh=new)

        yield update
