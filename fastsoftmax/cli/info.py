"""The command ``info``: versions, the CPU, the threads and the cache folder, as bug reports need them."""

import argparse
import json

from .. import system
from .arguments import wants_json
from .errors import SUCCESS


def run(args: argparse.Namespace) -> int:
    """Print the versions, the CPU, the threads and the cache folder, as bug reports need them."""
    if wants_json(args):
        print(json.dumps(system.versions(), indent=2))
    else:
        system.show_versions()
    return SUCCESS
