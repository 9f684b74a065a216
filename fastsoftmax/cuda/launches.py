"""Which launches the rows of a call on a GPU take: kernels that are ready, and what each is given."""

from threading import Lock
from typing import Any, NamedTuple

from ..core import memo
from ..core.dtypes import BFLOAT16, FLOAT16, FLOAT32, FLOAT64, ITEMSIZE
from ..core.operands import Operand
from ..core.options import Flags
from ..core.strides import merged, offsets, two
from . import plan as plan_cuda
from .kernels import recipes
from .plan import Layout
from .toolkit import compiler

STORAGE = {"float16": FLOAT16, "bfloat16": BFLOAT16, "float32": FLOAT32, "float64": FLOAT64}
NOTHING = Flags()


class Step(NamedTuple):
    """A kernel that is ready, and its launch."""

    loaded: Any
    grid: int
    threads: int
    shared: int


class Piece(NamedTuple):
    """Rows on at most two levels of strides, which one launch takes."""

    step: Step
    shape: tuple[int, ...]  # the integers that follow ignore_index
    begins: tuple[int, ...]  # bytes from the addresses of x, y and out
    row: int  # the number of the first row
    block: int  # the number of the first block


_loaded = memo.shared()
_loading = Lock()


def loaded(recipe: recipes.Recipe, device: int) -> Any:
    """A kernel, compiled and loaded for a GPU: once, and for ever, as a captured graph may launch it at any time.

    One that keeps rows in shared memory is loaded for as much of it as any plan asks for.
    """
    found = _loaded.get((recipe, device))
    if found is None:
        about = compiler.facts(device)
        compiled = recipes.compiled(recipe, about.capability)
        with _loading:  # of two threads the second takes what the first has loaded
            found = _loaded.get((recipe, device))
            if found is None:
                most = about.shared - plan_cuda.RESERVED if recipe.staged else 0
                found = _loaded.keep((recipe, device), compiler.load(compiled, device, most))
    return found


def step_of(recipe: recipes.Recipe, device: int, grid: int, shared: int = 0) -> Step:
    """A kernel that is ready for a GPU, and its launch."""
    return Step(loaded(recipe, device), grid, recipe.threads, shared)


class Rows(NamedTuple):
    """What is to be done with each row."""

    kernel: str
    variant: int = 0
    flags: Flags = NOTHING
    label: int = 8  # bytes of a class index


def pieces_of(what: Rows, x: Operand, y: Operand | None, out: Operand | None, device: int) -> tuple[Piece, ...]:
    """The launches of a row kernel."""
    if 0 in x.shape:
        return ()
    operands = [a for a in (x, y, out) if a is not None]
    levels = merged(x.shape, tuple(a.strides for a in operands))
    (outer, inner), steps = two(levels)
    rows, classes, facts = outer * inner, x.shape[-1], compiler.facts(device)
    kinds = STORAGE[x.dtype], STORAGE[(y or x).dtype]
    given = iter(range(len(operands)))
    place = [None if a is None else next(given) for a in (x, y, out)]
    asked = plan_cuda.burden(what.kernel, what.flags, wide=y is not None and y.dtype != x.dtype)
    pieces: list[Piece] = []
    for offset in offsets(levels):
        layouts = tuple(
            Layout(ITEMSIZE[STORAGE[a.dtype]], (a.address + begin) % 16, *step, _class_step(a))
            for a, begin, step in zip(operands, offset, steps, strict=True)
        )
        about = facts.multiprocessors, facts.shared, facts.clusters
        plan = plan_cuda.plan(rows, classes, layouts, about, asked)
        strides = [s for i in place for s in ((0, 0, 0) if i is None else layouts[i][2:])]
        begins = [0 if i is None else offset[i] for i in place]
        recipe = recipes.recipe(what.kernel, plan, *kinds, what.variant, what.flags, what.label)
        step = step_of(recipe, device, plan.grid, plan.shared)
        block = pieces[-1].block + pieces[-1].step.grid if pieces else 0
        pieces.append(Piece(step, (rows, inner, classes, *strides), tuple(begins), len(pieces) * rows, block))
    return tuple(pieces)


def _class_step(a: Operand) -> int:
    return a.strides[-1] if a.shape[-1] > 1 else ITEMSIZE[STORAGE[a.dtype]]
