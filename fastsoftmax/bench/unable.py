"""Why a contestant cannot take part."""


class Unable(Exception):
    """A contestant cannot compute a case here; the message says why."""
