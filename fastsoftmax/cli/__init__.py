"""The command line."""

from .program import main as main
