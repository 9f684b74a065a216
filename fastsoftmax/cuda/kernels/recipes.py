"""The compiled kernels by what they do, each compiled once for a kind of GPU."""

from functools import lru_cache
from typing import Any, NamedTuple

from ...core.dtypes import COMPUTED, FLOAT64, LOG_SOFTMAX, LOGSUMEXP
from ...core.options import Flags, Numbers
from ..plan import BLOCK, CLUSTER, PART_WARP, WARP, Plan
from ..toolkit import cache, compiler
from . import held_rows, streamed_rows, sums, vjp
from .entry import make_kernel
from .parameters import Counting, Integers, Totalling
from .parts import Shape

HELD = (PART_WARP, WARP, BLOCK, CLUSTER)
NOTHING = Flags()


class Recipe(NamedTuple):
    """What a kernel is compiled from."""

    name: str
    kind: int  # storage of logits, results and gradients
    y_kind: int = 0  # storage of the second operand
    variant: int = 0
    flags: Flags = NOTHING
    form: int = 0
    threads: int = 0
    group: int = 0
    items: int = 0
    vector: int = 0
    peeled: bool = False
    cluster: int = 1
    label: int = 8  # bytes of a class index
    resident: int = 1  # blocks that a multiprocessor is to have registers for
    staged: bool = False  # rows are kept in shared memory


def recipe(
    name: str,
    plan: Plan,
    kind: int,
    y_kind: int | None = None,
    variant: int = 0,
    flags: Flags = NOTHING,
    label: int = 8,
) -> Recipe:
    """The recipe of a row kernel for a plan."""
    constants = plan.form, plan.threads, plan.group, plan.items, plan.vector, plan.peeled, plan.cluster
    y_kind = kind if y_kind is None else y_kind
    return Recipe(name, kind, y_kind, variant, flags, *constants, label, plan.resident, plan.shared > 0)


def _work(made: Recipe) -> Any:
    """What is done with a row."""
    shape = Shape(made.kind, made.y_kind, made.vector, made.items, made.group * made.cluster, made.peeled)
    group, blocks, staged = made.group, made.cluster, made.staged
    held = made.form in HELD and not staged
    if made.name == "cross_entropy":
        if held:
            return held_rows.make_loss(shape, made.flags, group, blocks, made.label)
        return streamed_rows.make_loss(shape, made.flags, group, blocks, staged, made.label)
    if made.name == "softmax":
        if held:
            return held_rows.make_softmax(shape, made.variant, group, blocks)
        return streamed_rows.make_softmax(shape, made.variant, group, blocks, staged)
    logarithmic = made.variant == LOG_SOFTMAX
    if held:
        return vjp.make_held(shape, logarithmic, group, blocks)
    return vjp.make_streamed(shape, logarithmic, group, blocks, staged)


def _row_kernel(made: Recipe) -> Any:
    """The kernel of a recipe as a Python function."""
    kind, losses = COMPUTED[made.kind], made.name == "cross_entropy"
    stored = kind if losses else (made.kind if made.name == "softmax" and made.variant == LOGSUMEXP else None)
    return make_kernel(_work(made), kind, made.threads, made.group, made.cluster, losses=losses, stored=stored)


def count_recipe(kind: int, label: int = 8) -> Recipe:
    """The recipe of "count" for weights of the computing dtype of `kind` and labels of `label` bytes."""
    return Recipe("count", COMPUTED[kind], threads=sums.THREADS, label=label)


def total_recipe(kind: int) -> Recipe:
    """The recipe of "total" for a result of the computing dtype of `kind`."""
    return Recipe("total", COMPUTED[kind], threads=sums.THREADS)


@lru_cache(maxsize=64)
def _function(made: Recipe) -> tuple[Any, tuple[Any, ...]]:
    """(the kernel of a recipe as a Python function, the types of its parameters): the same for every GPU."""
    if made.name == "count":
        return sums.make_count(made.kind, made.label), ("int64",) * len(Counting._fields)
    if made.name == "total":
        return sums.make_total(made.kind), ("int64",) * len(Totalling._fields)
    real = "float64" if COMPUTED[made.kind] == FLOAT64 else "float32"
    return _row_kernel(made), (("int64", Integers), (real, Numbers))


@lru_cache(maxsize=1024)
def compiled(made: Recipe, capability: tuple[int, int]) -> compiler.Compiled:
    """The kernel of a recipe for GPUs of a compute capability: of this process, of the disk, or compiled."""
    return cache.load_or_compile((made, capability), lambda: _compile(made, capability))


def _compile(made: Recipe, capability: tuple[int, int]) -> compiler.Compiled:
    function, arguments = _function(made)
    return compiler.compile(function, arguments, capability, made.threads, resident=made.resident, cluster=made.cluster)
