"""Contestants that cannot take part, and the reasons."""

from collections.abc import Callable, Mapping
from typing import TypeVar

from .timing import Turn

Prepared = TypeVar("Prepared")

#: What brings a module, where its name is another one.
PACKAGES = {"liger_kernel": "liger-kernel", "quack": "quack-kernels"}


class Unable(Exception):
    """A contestant cannot compute a case here; the message says why."""


def one_line(error: BaseException) -> str:
    """An error as a reason."""
    text = " ".join(str(error).split())
    return f"{type(error).__name__}: {text[:200]}" if text else type(error).__name__


def attempted(
    attempts: Mapping[str, Callable[[], Prepared]], turn: Turn = lambda: None
) -> tuple[dict[str, Prepared], dict[str, str]]:
    """The results of contestants' attempts, and the reasons of those that failed, both by name."""
    results: dict[str, Prepared] = {}
    skipped: dict[str, str] = {}
    for name, attempt in attempts.items():
        turn()
        try:
            results[name] = attempt()
        except Unable as reason:
            skipped[name] = str(reason)
        except ModuleNotFoundError as error:
            skipped[name] = missing(error)
        except Exception as error:  # whatever another library raises, the run goes on
            skipped[name] = one_line(error)
    return results, skipped


def missing(error: ModuleNotFoundError) -> str:
    """The module that is not installed, and its package's name where that differs."""
    module = (error.name or "").partition(".")[0]
    return f"{module} is not installed" + (f": pip install {PACKAGES[module]}" if module in PACKAGES else "")
