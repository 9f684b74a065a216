"""Memory of prepared calls, by what the calls look like."""

import math
from collections.abc import Callable
from typing import Any, TypeVar

Key = TypeVar("Key")
Value = TypeVar("Value")

_clears: list[Callable[[], object]] = []  # functions, each of which empties a memory of the whole process


class Memo(dict[Key, Value]):
    """Values by keys, of which there are at most `most`: all are forgotten when one more comes.

    Examples
    --------
    >>> memo = Memo(2)
    >>> memo.keep("a", 1), memo.keep("b", 2), memo.keep("c", 3)
    (1, 2, 3)
    >>> memo
    {'c': 3}
    """

    __slots__ = ("most",)

    def __init__(self, most: float = math.inf) -> None:
        super().__init__()
        self.most = most

    def find(self, key: Key) -> Value | None:
        """The value of a key; None where there is none, as of a key that has no hash: one with an array in it, say."""
        try:
            return self.get(key)
        except TypeError:
            return None

    def keep(self, key: Key, value: Value) -> Value:
        """Set the value of a key, and return it."""
        if len(self) >= self.most:
            self.clear()
        self[key] = value
        return value


def shared(most: float = math.inf) -> Memo[Any, Any]:
    """A memo that the whole process shares, and `clear` empties."""
    memo: Memo[Any, Any] = Memo(most)
    on_clear(memo.clear)
    return memo


def on_clear(function: Callable[[], object]) -> None:
    """Have `clear` call a function, too."""
    _clears.append(function)


def clear() -> None:
    """Forget everything, as a new process has: for tests, which put other devices and other kernels in place."""
    for function in _clears:
        function()
