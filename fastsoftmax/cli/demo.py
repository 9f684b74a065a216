"""The demonstration is begun: a line at once, before imports that take seconds."""

import argparse
import importlib
from importlib.util import find_spec

from ..version import __version__
from .arguments import wants_json

BEGINNING = f"""\
fastsoftmax {__version__}: softmax regression on handwritten digits,
with fused kernels and with NumPy.  The first run compiles
the kernels, in some ten seconds; later ones load them.
"""


def run(args: argparse.Namespace) -> int:
    """Train on digits with the fused pass and with NumPy, compare, and measure the kernels."""
    for name in ("rich", "sklearn"):
        if find_spec(name) is None:
            raise ModuleNotFoundError(name=name)
    if not wants_json(args):
        print(BEGINNING, flush=True)
    status: int = importlib.import_module(".demonstration", __package__).run(args)
    return status
