"""What was prepared for calls, kept for later ones that look alike."""

from typing import TypeVar

Key = TypeVar("Key")
Value = TypeVar("Value")


def remember(known: dict[Key, Value], key: Key, value: Value, most: int) -> Value:
    """Keep a value under a key among at most `most`: all are forgotten when there are as many.

    Examples
    --------
    >>> known = {}
    >>> remember(known, "a", 1, 2), remember(known, "b", 2, 2), remember(known, "c", 3, 2)
    (1, 2, 3)
    >>> known
    {'c': 3}
    """
    if len(known) >= most:
        known.clear()
    known[key] = value
    return value
