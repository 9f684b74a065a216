"""Runs the GPU kernels that add up weights and losses in the interpreter of their PTX."""

import numpy as np

from fastsoftmax.cuda.kernels import recipes, sums
from fastsoftmax.cuda.kernels.parameters import Counting, Totalling
from tests.cuda.kernels.support import KINDS, Placed
from tests.interpreter import ptx


def text_of(recipe, ptx_of=None):
    """The PTX of a recipe, or what `ptx_of` makes of it."""
    text = recipes.compiled(recipe, (9, 0)).ptx
    return ptx_of(text) if ptx_of else text


def counted(kind, target, weight, factor, *, label=8, classes=7, blocks=1, wants_bad=True, ptx_of=None):
    """(the sums of the blocks, the flag of a bad label, the traffic)."""
    rows, dtype = len(factor if target is None else target), KINDS[kind]
    placed, totals, flag = Placed(), np.full(blocks, 5.0), np.zeros(1, np.int64)
    arguments = Counting(
        target=placed.vector(target, np.int64 if label == 8 else np.int32, "target"),
        class_weight=placed.vector(None if weight is None else weight.astype(dtype), dtype, "class_weight"),
        loss_factor=placed.vector(None if factor is None else factor.astype(dtype), dtype, "loss_factor"),
        denominator=placed.memory.add(totals, "sums"),
        bad=placed.memory.add(flag, "bad") if wants_bad else 0,
        rows=rows,
        classes=classes,
    )
    program = ptx.program(text_of(recipes.count_recipe(kind, label), ptx_of))
    done = ptx.launch(program, placed.memory, blocks, sums.THREADS, arguments)
    return totals, int(flag[0]), done.traffic


def totalled(kind, partial, denominator=None, *, ptx_of=None):
    """(the sum, divided where there is a denominator, and the traffic)."""
    placed, result = Placed(), np.zeros(1, KINDS[kind])
    arguments = Totalling(
        placed.vector(partial, np.float64, "partial"),
        len(partial),
        placed.vector(None if denominator is None else [denominator], np.float64, "denominator"),
        placed.memory.add(result, "result"),
    )
    program = ptx.program(text_of(recipes.total_recipe(kind), ptx_of))
    done = ptx.launch(program, placed.memory, 1, sums.THREADS, arguments)
    return result[0], done.traffic
