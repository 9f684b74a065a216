"""Which kernel runs, over what tiles: pure heuristics on hashable descriptions, without Numba."""

from functools import lru_cache
from typing import NamedTuple


class Flags(NamedTuple):
    """What a kernel has to do; each is a compile-time constant, so that what is off costs nothing."""

    index: bool = False  # the target is class indices
    soft: bool = False  # the target is probabilities
    weighted: bool = False  # class weights
    smooth: bool = False  # label smoothing (of indices; soft targets are smoothed as they are read)
    z_loss: bool = False
    focal: bool = False
    cap: bool = False  # softcap
    temper: bool = False  # temperature
    factors: bool = False  # each row has its own weight or upstream gradient
    grad: bool = False
    packed: bool = False  # (rows in lanes) a tile is copied to scratch before it is worked on
    kept: bool = False  # exponentials are kept in scratch between the passes
    streamed: bool = False  # the output is written past the caches


class Layout(NamedTuple):
    """How the logits lie in memory, as far as it decides which kernel is best."""

    storage: int  # FLOAT16, BFLOAT16, FLOAT32 or FLOAT64 of cpu.simd
    contiguous_classes: bool
    contiguous_rows: bool
    classes: int
    lanes: bool  # rows in SIMD lanes, rather than classes


class Plan(NamedTuple):
    """How the work is cut.  It depends on shapes alone: results do not depend on the number of threads."""

    chunk: int  # rows in a piece of work
    chunks: int
    parallel: bool
    stored: bool  # exponentials are kept in scratch between the passes over a row
    scratch: int  # bytes a thread
    stream: bool  # gradients are written past the caches
    tile: int  # SIMD vectors of rows in a tile (lanes only)
