"""The benchmark suite: cases, contestants, how they are timed, what was found.

``python -m fastsoftmax bench`` runs it; the scripts and tests in ``benchmarks/`` of the repository use its parts.
"""
