"""The benchmark suite: cases, contestants, timing, results.

``python -m fastsoftmax bench`` runs it; the scripts and tests in ``benchmarks/`` of the repository use its parts.
"""
