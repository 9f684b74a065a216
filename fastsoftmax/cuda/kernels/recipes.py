"""Recipes of kernels, all that one is compiled from, and the kernels, each compiled once for a kind of GPU."""

from functools import lru_cache, partial
from typing import Any, NamedTuple

from ...core.dtypes import COMPUTED, FLOAT64, LOG_SOFTMAX, LOGSUMEXP
from ...core.options import Flags, Numbers
from ..plan import BLOCK, CLUSTER, PART_WARP, WARP, Plan
from ..toolkit import cache, compiler
from . import derivative, divergence, held_rows, hessian, listed, statistics, streamed_rows, sums, vjp, weighted
from .entry import make_kernel
from .parameters import (
    Counting,
    DerivativeIntegers,
    DerivativeNumbers,
    DivergenceNumbers,
    HessianIntegers,
    HessianNumbers,
    Integers,
    ListedIntegers,
    StatisticIntegers,
    Totalling,
    adjusted,
)
from .parts import Shape

LOSSES = "cross_entropy", "divergence", "listed"  # are added up
HELD = (PART_WARP, WARP, BLOCK, CLUSTER)
NOTHING = Flags()
#: Those of row kernels, by their names; of the others `Integers` and `Numbers`.
PARAMETERS: dict[str, Any] = {
    "statistics": (StatisticIntegers, Numbers),
    "derivatives": (DerivativeIntegers, DerivativeNumbers),
    "hessian": (HessianIntegers, HessianNumbers),
    "divergence": (Integers, DivergenceNumbers),
    "listed": (ListedIntegers, DivergenceNumbers),
}


class Recipe(NamedTuple):
    """The constants that a kernel is compiled from."""

    name: str
    kind: int  # storage of logits, results and gradients
    y_kind: int = 0  # storage of the second operand
    #: The number of a map, the columns of statistics, the teacher and direction of a divergence, whether gradient and
    #: Hessian are float32 where logits are something else, or whether there are factors and a sign ("weighted").
    variant: Any = 0
    flags: Flags = NOTHING
    held: bool = False  # rows are kept in registers
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
    variant: Any = 0,
    flags: Flags = NOTHING,
    label: int = 8,
) -> Recipe:
    """The recipe of a row kernel for a plan."""
    held = plan.form in HELD and not plan.shared
    constants = held, plan.threads, plan.group, plan.items, plan.vector, plan.peeled, plan.cluster
    y_kind = kind if y_kind is None else y_kind
    return Recipe(name, kind, y_kind, variant, flags, *constants, label, plan.resident, plan.shared > 0)


def _make_work(recipe: Recipe) -> Any:
    """The work on a row as a device function."""
    group, blocks, staged = recipe.group, recipe.cluster, recipe.staged
    shape = Shape(recipe.kind, recipe.y_kind, recipe.vector, recipe.items, group * blocks, recipe.peeled)
    shape = shape._replace(adjusted=recipe.flags.adjusted)
    rows, threads = (held_rows, (group, blocks)) if recipe.held else (streamed_rows, (group, blocks, staged))
    if recipe.name == "cross_entropy":
        return rows.make_loss(shape, recipe.flags, recipe.label, *threads)
    if recipe.name == "statistics":
        make = statistics.make_statistics
        return make(shape, recipe.variant, recipe.flags, recipe.label, group, blocks, held=recipe.held)
    if recipe.name in ("derivatives", "hessian"):
        of_hessian = partial(hessian.make_hessian, single=recipe.variant)
        make_row = derivative.make_derivative if recipe.name == "derivatives" else of_hessian
        return make_row(shape, recipe.flags, recipe.label, group, blocks, held=recipe.held, staged=staged)
    if recipe.name in ("divergence", "listed", "weighted"):
        return _make_pair(recipe, shape)
    if recipe.name == "softmax":
        return rows.make_softmax(shape, recipe.variant, recipe.flags, *threads)
    make_product = vjp.make_held if recipe.held else vjp.make_streamed
    return make_product(shape, recipe.variant == LOG_SOFTMAX, *threads)


def _make_pair(recipe: Recipe, shape: Shape) -> Any:
    """The work on a row and its teacher, of all classes or of some, or its factors."""
    if recipe.name == "listed":
        return listed.make_listed(shape, recipe.flags, recipe.variant, recipe.label, recipe.group)
    group, blocks, held, staged = recipe.group, recipe.cluster, recipe.held, recipe.staged
    if recipe.name == "weighted":
        return weighted.make_weighted(shape, recipe.variant, recipe.flags, group, blocks, held=held)
    return divergence.make_divergence(shape, recipe.flags, recipe.variant, group, blocks, held=held, staged=staged)


def _make_row_kernel(recipe: Recipe) -> Any:
    """The kernel of a recipe as a Python function."""
    kind, losses = COMPUTED[recipe.kind], recipe.name in LOSSES
    numbers = recipe.name == "weighted" or (recipe.name == "softmax" and recipe.variant == LOGSUMEXP)
    stored = kind if losses else (recipe.kind if numbers else None)
    work, (threads, group, blocks) = _make_work(recipe), (recipe.threads, recipe.group, recipe.cluster)
    return make_kernel(work, kind, threads, group, blocks, losses=losses, stored=stored)


def parameters_of(recipe: Recipe) -> tuple[Any, Any]:
    """The parameters of a row kernel: integers, and numbers."""
    integers, numbers = PARAMETERS.get(recipe.name, (Integers, Numbers))
    return adjusted(integers) if recipe.flags.adjusted else integers, numbers


def count_recipe(kind: int, label: int = 8) -> Recipe:
    """The recipe of "count" for weights of the computing dtype of `kind` and labels of `label` bytes."""
    return Recipe("count", COMPUTED[kind], threads=sums.THREADS, label=label)


def total_recipe(kind: int) -> Recipe:
    """The recipe of "total" for a result of the computing dtype of `kind`."""
    return Recipe("total", COMPUTED[kind], threads=sums.THREADS)


@lru_cache(maxsize=64)
def _function(recipe: Recipe) -> tuple[Any, tuple[Any, ...]]:
    """(the kernel of a recipe as a Python function, the types of its parameters): the same for every GPU."""
    if recipe.name == "count":
        return sums.make_count(recipe.kind, recipe.label), (("int64", Counting),)
    if recipe.name == "total":
        return sums.make_total(recipe.kind), (("int64", Totalling),)
    real = "float64" if COMPUTED[recipe.kind] == FLOAT64 else "float32"
    integers, numbers = parameters_of(recipe)
    return _make_row_kernel(recipe), (("int64", integers), (real, numbers))


@lru_cache(maxsize=1024)
def compiled(recipe: Recipe, capability: tuple[int, int]) -> compiler.Compiled:
    """The kernel of a recipe for GPUs of a compute capability: of this process, of the disk, or compiled."""
    return cache.load_or_compile((recipe, capability), lambda: _compile(recipe, capability))


def _compile(recipe: Recipe, capability: tuple[int, int]) -> compiler.Compiled:
    function, arguments = _function(recipe)
    resident, cluster = recipe.resident, recipe.cluster
    return compiler.compile(function, arguments, capability, recipe.threads, resident=resident, cluster=cluster)
