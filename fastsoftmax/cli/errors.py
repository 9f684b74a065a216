"""Errors of users, in one line that says how to mend them."""

from collections.abc import Iterable
from pathlib import Path

SUCCESS, FAILURE, USAGE, INTERRUPTED = 0, 1, 2, 130  # exit statuses
SHOWN = 40  # characters of a name that came out of a file


class BadInput(Exception):
    """A file or an option that cannot be used; the command line prints it without a traceback and exits with 2."""


def one_line(text: object) -> str:
    r"""A text without line breaks and control characters, which names out of files may hold.

    >>> one_line("a\tb" + chr(27) + "[1m")
    'a\\tb\\x1b[1m'
    """
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in str(text))


def shown(value: object, width: int = SHOWN) -> str:
    """A name or a class out of a file, printable and no longer than `width`.

    >>> shown("a long name of a class", 10)
    'a long na…'
    """
    text = one_line(value)
    return text if len(text) <= width else text[: width - 1] + "…"


def listed(values: Iterable[object], most: int = 5) -> str:
    """A few values, and how many more there are.

    >>> listed(range(7))
    '0, 1, 2, 3, 4 and 2 more'
    """
    names = [shown(value) for value in values]
    rest = len(names) - most
    return ", ".join(names[:most]) + (f" and {rest} more" if rest > 0 else "")


def unusable(path: Path, error: OSError) -> BadInput:
    """The error of the operating system about a file, in one line."""
    return BadInput(f"{path}: {error.strerror or error}; check the path, the permissions and the room on the disk")


def existing_file(path: Path, what: str) -> Path:
    """`path`, where it is a file that is not empty."""
    try:
        if path.is_dir():
            raise BadInput(f"{path} is a directory; give the {what} file itself")
        size = path.stat().st_size
    except FileNotFoundError:
        raise BadInput(f"{path} does not exist; give the path of the {what} file") from None
    except OSError as error:
        raise unusable(path, error) from None
    if size == 0:
        raise BadInput(f"{path} is empty; write the {what} file again")
    return path
