"""Runs the GPU kernels in the interpreter of their PTX: operands in, results and traffic out."""

from dataclasses import dataclass, field

import numpy as np
from ml_dtypes import bfloat16

from fastsoftmax import cross_entropy_and_grad
from fastsoftmax.core.dtypes import storage_of
from fastsoftmax.core.options import Flags, Numbers, Options, flags_of, numbers_of
from fastsoftmax.cuda.kernels import recipes
from fastsoftmax.cuda.kernels.parameters import Integers
from fastsoftmax.cuda.plan import Layout, Plan, burden_of, plan
from tests.cuda.kernels import machine_code  # noqa: F401  skips where numba-cuda is not installed
from tests.interpreter import ptx
from tests.support import assert_exact, both, computed, steepness, terms

H200 = (132, 232448, True)
A100 = (108, 166912, False)
KINDS = {0: np.dtype(np.float16), 1: np.dtype(bfloat16), 2: np.dtype(np.float32), 3: np.dtype(np.float64)}


@dataclass
class Result:
    """What a launch made."""

    plan: Plan
    out: np.ndarray | None  # of "weighted" the signs
    rows: np.ndarray | None  # a number a row
    total: float  # the sum of the partial sums
    bad: int
    traffic: dict = field(repr=False)

    def moved(self, name):
        """(bytes read, bytes written) of an operand."""
        traffic = self.traffic.get(name)
        return (0, 0) if traffic is None else (traffic.loaded, traffic.stored)


def options_of(classes, *, soft=False, **options):
    """(flags, numbers) of options without arrays."""
    o = Options(**options)
    return flags_of(o, hard=not soft, weighted=False, factors=False, grad=False), numbers_of(o, classes)


@dataclass(frozen=True)
class Lie:
    """How a matrix lies in memory, in elements: the ways between rows (two levels) and between classes."""

    offset: int = 0  # of the first element from a multiple of 256 bytes
    extra: int = 0  # elements between rows
    step: int = 1  # from class to class; negative: the last class first
    inner: int = 0  # rows of the inner level; 0: all
    apart: int = 0  # elements between groups of inner rows
    major: bool = False  # classes far apart, rows side by side
    backwards: bool = False  # the last row first
    again: bool = False  # every row is the first

    def index(self, n, k):
        """The place of every element."""
        row, far, length, step = self.ways(n, k)
        i, j = np.arange(n)[:, None], np.arange(k)[None, :]
        index = i // length * far + i % length * row + j * step
        return index - index.min(initial=0)

    def ways(self, n, k):
        """(from row to row, from group to group of rows, rows of a group, from class to class)."""
        length = self.inner or max(n, 1)
        if self.major:
            return 1, length * k + self.apart, length, length
        row = (k - 1) * abs(self.step) + 1 + self.extra
        way = 0 if self.again else -row if self.backwards else row
        return way, row * length + self.apart, length, self.step


POISON = np.nan


class Placed:
    """Arrays in the interpreter's memory, between numbers that must be neither read nor written."""

    def __init__(self):
        self.memory = ptx.Memory()
        self.rooms = []

    def vector(self, array, dtype, name, *, written=False):
        """The address of a contiguous copy; 0 for None."""
        if array is None:
            return 0
        return self.memory.add(np.ascontiguousarray(array, dtype), name, writable=written)

    def rows(self, array, name, lie, *, written=False):
        """(address, layout, function that gives the matrix) of a copy of a matrix."""
        (n, k), size = array.shape, array.itemsize
        index = lie.index(n, k)
        room = np.full(int(index.max(initial=0)) + 1, POISON).astype(array.dtype)
        room[index] = array
        base = self.memory.add(room, name, offset=lie.offset * size, writable=written)
        address = base + int(index[0, 0]) * size
        row, far, length, step = (way * size for way in lie.ways(n, k))
        groups = -(-n // (length // size))
        layout = Layout(size, address, far if groups > 1 else 0, row if n > 1 else 0, step if k > 1 else size)

        def get():
            between = np.ones(len(room), bool)
            between[index] = False
            assert np.isnan(room[between].astype(np.float64)).all(), f"{name} was written between its rows"
            return room[index]

        return address, layout, get

    def adjustments(self, where, class_offset, lie, dtype, k):
        """The parameters of a mask, which may have one row or one class for all, and of offsets of `k` classes."""
        ways, at = (0, 0, 0), 0
        if where is not None:
            index = lie.index(*where.shape)
            room = np.ones(int(index.max(initial=0)) + 1, bool)
            room[index] = where
            at = self.memory.add(room, "where", offset=lie.offset, writable=False) + int(index[0, 0])
            row, far, _, step = lie.ways(*where.shape)
            ways = (far, row) if len(where) > 1 else (0, 0)
            ways = (*ways, step if where.shape[1] == k else 0)
        return *ways, self.vector(class_offset, dtype, "class_offset"), at


def adjusted(flags, where, class_offset):
    """The flags of logits that are adjusted."""
    offset, mask = class_offset is not None, where is not None
    return flags._replace(adjusted=offset or mask, offset=offset, mask=mask)


def strides(layout):
    """The three strides of an operand as parameters."""
    return (0, 0, 0) if layout is None else (layout.outer, layout.inner, layout.step)


def run(name, x, *, y=None, target=None, variant=0, flags=None, numbers=None, lie=None, y_lie=None, out_lie=None,
        in_place=False, class_weight=None, loss_factor=None, grad_factor=None, denominator=None, ignore_index=-100,
        wants_rows=True, wants_bad=True, facts=H200, change=None, rough=False, label=8, capability=(9, 0),
        ptx_of=None, where=None, class_offset=None, mask_lie=None):  # fmt: skip
    """Launch a kernel as its plan says; `change` replaces fields of the plan, `in_place="y"` overwrites `y`."""
    n, k = x.shape
    work, lie, placed = computed(x.dtype), lie or Lie(), Placed()
    flags, numbers = adjusted(flags or Flags(), where, class_offset), numbers or Numbers()
    weighted = name == "weighted"
    needs_out = flags.grad or (name not in ("cross_entropy", "weighted") and variant < 2)
    addresses, layouts = {"x": 0, "y": 0, "out": 0}, {"x": None, "y": None, "out": None}
    inside = "y" if in_place == "y" else "x"
    addresses["x"], layouts["x"], get = placed.rows(x, "x", lie, written=in_place and inside == "x")
    if y is not None:
        addresses["y"], layouts["y"], get_y = placed.rows(y, "y", y_lie or lie, written=inside == "y")
        get = get_y if inside == "y" else get
    if needs_out and in_place:
        addresses["out"], layouts["out"] = addresses[inside], layouts[inside]
    elif needs_out:
        blank = np.zeros_like(x)
        addresses["out"], layouts["out"], get = placed.rows(blank, "out", out_lie or lie, written=True)
    burden = burden_of(name, flags, wide=y is not None and y.dtype != x.dtype)
    made = plan(n, k, tuple(a for a in layouts.values() if a is not None), facts, burden)
    made = made._replace(**(change or {}))
    stored = x.dtype if weighted or name == "softmax" else work
    signs = np.full(n, 7, stored)
    rows, partial = np.full(n, 7, stored), np.full(made.grid, 7.0)
    bad = np.zeros(1, np.int64)
    memory = placed.memory
    if weighted and variant[1]:
        addresses["out"] = memory.add(signs, "signs")
    integers = Integers(
        **addresses,
        target=placed.vector(target, np.int64 if label == 8 else np.int32, "target"),
        class_weight=placed.vector(class_weight, work, "class_weight"),
        loss_factor=placed.vector(loss_factor, work, "loss_factor"),
        grad_factor=placed.vector(grad_factor, work, "grad_factor"),
        result=memory.add(rows, "rows") if wants_rows else 0,
        partial=memory.add(partial, "partial") if name == "cross_entropy" else 0,
        denominator=placed.vector(None if denominator is None else [denominator], np.float64, "denominator"),
        bad=memory.add(bad, "bad") if wants_bad else 0,
        ignore_index=ignore_index,
        rows=n,
        inner=lie.ways(n, k)[2],
        classes=k,
        **{
            f"{a}_{b}": value
            for a in layouts
            for b, value in zip(("outer", "inner", "step"), strides(layouts[a]), strict=True)
        },
    )
    extra = placed.adjustments(where, class_offset, mask_lie or Lie(), work, k) if flags.adjusted else ()
    recipe = recipes.recipe(
        name, made, storage_of(x.dtype), None if y is None else storage_of(y.dtype), variant, flags, label
    )
    text = (ptx_of or (lambda compiled: compiled.ptx))(recipes.compiled(recipe, capability))
    launched = ptx.launch(
        ptx.program(text), memory, made.grid, made.threads, (*integers, *extra, *map(work.type, numbers)),
        made.shared, made.cluster, rough=rough,
    )  # fmt: skip
    out = signs if weighted else get() if needs_out else None
    return Result(made, out, rows if wants_rows else None, float(partial.sum()), int(bad[0]), launched.traffic)


def loss_of(x, target, options, *, denominator=None, grad=True, numbers=None, without="", **how):
    """Loss and gradient of rows by the kernel, from options as the reference takes them."""
    k, plain = x.shape[1], dict(options)
    class_weight, sample_weight = plain.pop("class_weight", None), plain.pop("sample_weight", None)
    ignore_index = plain.pop("ignore_index", -100)
    how |= {name: plain.pop(name, None) for name in ("where", "class_offset")}
    soft = np.ndim(target) == x.ndim
    flags, made = options_of(k, soft=soft, **plain)
    flags = flags._replace(grad=grad, weighted=class_weight is not None, factors=sample_weight is not None)
    return run(
        "cross_entropy", x, y=target if soft else None, target=None if soft else target, flags=flags,
        numbers=numbers or made, class_weight=class_weight, ignore_index=ignore_index, denominator=denominator,
        loss_factor=None if without == "loss_factor" else sample_weight,
        grad_factor=None if without == "grad_factor" else sample_weight, **how,
    )  # fmt: skip


def assert_as_reference(x, target, options, result, *, scale=1.0):
    """Losses and gradients of rows against the reference in higher precision, row by row."""
    exact, naive = both(cross_entropy_and_grad, x, target, dtype=x.dtype, reduction="none", **options)
    # An error of one ulp in a transformed logit is one of the whole logit; differences of plain ones are exact.
    steep = steepness(x, options) if {"temperature", "softcap"} & options.keys() else 0.0
    size = 1 + finite(exact.loss)[:, None] + steep
    assert_exact(result.rows[:, None], exact.loss[:, None], naive.loss[:, None], ulps=16, size=size)
    np.testing.assert_allclose(result.total, result.rows.astype(np.longdouble).sum(), rtol=1e-14, equal_nan=True)
    if result.out is not None:
        size = finite(exact.grad).max(axis=-1, keepdims=True, initial=0.0)
        with np.errstate(invalid="ignore"):
            pull = np.nan_to_num(terms(x, target, options, "none", 1.0), posinf=0.0)
        size = (size + pull) * (1 + steep) * abs(scale)
        assert_exact(result.out, exact.grad * scale, naive.grad * scale, ulps=16, size=size)
    return exact


def finite(values):
    """Magnitudes, and 0 where there is none."""
    return np.where(np.isfinite(values), np.abs(values), 0)
