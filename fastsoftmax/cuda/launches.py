"""The launches that the rows of a call on a GPU take: loaded kernels, and the shapes and strides of their rows."""

from threading import Lock
from typing import Any, NamedTuple

from ..core import memo
from ..core.dtypes import SIZES, STORAGE
from ..core.options import Flags
from ..core.strides import Operand, merged, nearest_two, offsets
from . import plan
from .kernels import recipes
from .plan import Layout
from .toolkit import compiler


class Launch(NamedTuple):
    """The launch of a row kernel on rows that lie on at most two levels of strides."""

    kernel: compiler.Kernel
    shape: tuple[int, ...]  # the integers that follow ignore_index
    begins: tuple[int, ...]  # bytes from the addresses of x, y, out, and a mask or a second output
    row: int  # the number of the first row
    block: int  # the number of the first block


_loaded = memo.shared()
_loading = Lock()


def loaded(recipe: recipes.Recipe, device: int) -> Any:
    """A kernel, compiled and loaded for a GPU: once, and for ever, as a captured graph may launch it at any time.

    One that keeps rows in shared memory is loaded for as much of it as any plan asks for.
    """
    kernel = _loaded.get((recipe, device))
    if kernel is None:
        facts = compiler.facts(device)
        compiled = recipes.compiled(recipe, facts.capability)
        with _loading:  # of two threads the second takes what the first has loaded
            kernel = _loaded.get((recipe, device))
            if kernel is None:
                most = facts.shared - plan.RESERVED if recipe.staged else 0
                kernel = _loaded.keep((recipe, device), compiler.load(compiled, device, most))
    return kernel


def loaded_kernel(recipe: recipes.Recipe, device: int, grid: int, shared: int = 0) -> compiler.Kernel:
    """The kernel of a recipe on a GPU, to be launched with a number of blocks."""
    return compiler.Kernel(loaded(recipe, device), grid, recipe.threads, shared)


def launch_once(kernel: compiler.Kernel, device: int, stream: int, *arguments: Any) -> None:
    """Launch a kernel with some arguments."""
    compiler.launch(kernel.loaded, device, stream, kernel.grid, kernel.block, kernel.shared, arguments)


class RowWork(NamedTuple):
    """The work on each row: a kernel and its compile-time options."""

    kernel: str
    variant: Any = 0
    flags: Flags = Flags()
    label: int = 8  # bytes of a class index


def launches_of(
    work: RowWork,
    x: Operand,
    y: Operand | None,
    out: Operand | None,
    device: int,
    more: Operand | None = None,
) -> tuple[Launch, ...]:
    """The launches of a row kernel; there is `more`, a second output, or a mask, which plans do not depend on."""
    if 0 in x.shape[:-1]:
        return ()
    operands = [a for a in (x, y, out, more) if a is not None]
    levels = merged(x.shape, tuple(a.strides for a in operands))
    (outer, inner), steps = nearest_two(levels)
    rows, classes, facts = outer * inner, x.shape[-1], compiler.facts(device)
    kinds = STORAGE[x.dtype], STORAGE[(y or x).dtype]
    numbers = iter(range(len(operands)))
    place = [None if a is None else next(numbers) for a in (x, y, out, more)]
    # Kernels without a fourth operand have no parameters for it.
    several = 4 if more is not None or work.flags.adjusted else 3
    burden = plan.burden_of(work.kernel, work.flags, wide=y is not None and y.dtype != x.dtype)
    launches: list[Launch] = []
    for offset in offsets(levels):
        layouts = tuple(
            Layout(_size(a), (a.address + begin) % 16, *step, a.strides[-1] if classes > 1 else _size(a))
            for a, begin, step in zip(operands, offset, steps, strict=True)
        )
        about = facts.multiprocessors, facts.shared, facts.clusters
        if work.kernel == "listed":
            chosen = plan.listed_plan(rows, classes, SIZES[x.dtype], about)
        else:
            planned = tuple(layout for layout, a in zip(layouts, operands, strict=True) if a.dtype != "bool")
            chosen = plan.plan(rows, max(classes, 1), planned, about, burden)
        strides = [s for i in place[:several] for s in ((0, 0, 0) if i is None else layouts[i][2:])]
        begins = [0 if i is None else offset[i] for i in place]
        recipe = recipes.recipe(work.kernel, chosen, *kinds, work.variant, work.flags, work.label)
        kernel = loaded_kernel(recipe, device, chosen.grid, chosen.shared)
        block = launches[-1].block + launches[-1].kernel.grid if launches else 0
        launches.append(Launch(kernel, (rows, inner, classes, *strides), tuple(begins), len(launches) * rows, block))
    return tuple(launches)


def _size(a: Operand) -> int:
    return SIZES.get(a.dtype, 1)  # of a mask
