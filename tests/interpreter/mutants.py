"""Kernels that are wrong in one place: what tests of the right ones must notice."""

import re

#: One statement a line, as NVVM writes them.
BARRIER = re.compile(r"^\s*bar\.sync\s[^\n]*;$|^\s*barrier\.cluster\.arrive[^\n]*barrier\.cluster\.wait[^\n]*;$", re.M)
GUARD = re.compile(r"^(\s*@)(!?)(%p\d+\s+bra\s+(\S+);)", re.M)
SHUFFLE = re.compile(r"^\s*shfl\.sync\.(\w+)\.b32[^\n]*;$", re.M)
#: Where what follows a branch ends.
END = re.compile(r"^\$?\w+:|^\s*(?:@!?%p\d+\s+)?(?:bra|ret)\b", re.M)


def replaced(text, match, new):
    """The text with one match replaced."""
    return text[: match.start()] + new + text[match.end() :]


def named(kind, i, text, match):
    """What was changed, for a message."""
    line = text.count("\n", 0, match.start()) + match[0].count("\n", 0, 1) + 1
    return f"{kind} {i}, line {line}: {match[0].strip()}"


def without_barriers(text):
    """Every barrier left out, one at a time."""
    for i, match in enumerate(BARRIER.finditer(text)):
        yield named("barrier", i, text, match), replaced(text, match, "")


def with_inverted_guards(text, *, of=r"(?:ld|st)\.global"):
    """Every branch around an access to memory taken by the threads that would not take it, one at a time."""
    for i, match in enumerate(GUARD.finditer(text)):
        following = re.split(
            r"^\$?\w+:|^\s*(?:@!?%p\d+\s+)?(?:bra|ret)\b", text[match.end() :], maxsplit=1, flags=re.M
        )[0]
        if re.search(of, following):
            turned = f"{match[1]}{'' if match[2] else '!'}{match[3]}"
            yield named("guard", i, text, match), replaced(text, match, turned)


def with_other_shuffles(text):
    """Every shuffle in another direction, one at a time."""
    other = {"bfly": "up", "up": "down", "down": "up", "idx": "bfly"}
    for i, match in enumerate(SHUFFLE.finditer(text)):
        new = match[0].replace(f".{match[1]}.", f".{other[match[1]]}.", 1)
        yield named("shuffle", i, text, match), replaced(text, match, new)
