"""The arrays of a case, and what any contestant must make of them.

Rows repeat after some: the right result is then known for all of them at the price of a few, and a gigabyte of logits
is there in a second.
"""

import math
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from .. import reference
from .cases import APART, AXIS_0, DIVERGENCE, DRAM, FORTRAN, LOSS, LOSSES, SECOND, SOFT, UNALIGNED, Case

Array = NDArray[Any]

DISTINCT = 1 << 19  # logits in rows that differ, at least one row
LAST_LEVEL = 32 << 20  # bytes, where the operating system does not say
IGNORED = -100

#: Arguments of ours for each option; those that are arrays are drawn.
OPTIONS: dict[str, dict[str, Any]] = {
    "label_smoothing": {"label_smoothing": 0.1},
    "z_loss": {"z_loss": 1e-4},
    "focal_gamma": {"focal_gamma": 2.0},
    "softcap": {"softcap": 30.0},
    "temperature": {"temperature": 0.7},
    "ignore_index": {"ignore_index": IGNORED},
}
#: Relative differences that the dtype allows: contestants add up in their own order, some in the dtype itself.
TOLERANCE = {"float16": 2e-2, "bfloat16": 5e-2, "float32": 2e-4, "float64": 1e-10}
#: The distance of neighbours at 1, and at 0.
SPACING = {
    "float16": (2**-10, 2**-24),
    "bfloat16": (2**-7, 2**-133),
    "float32": (2**-23, 0.0),
    "float64": (2**-52, 0.0),
}


class Inputs(NamedTuple):
    """The inputs that contestants share; a contestant that writes to them makes a copy."""

    x: Array  # (rows, classes), whatever the layout: of axis=0 it is the transpose
    target: Array
    options: dict[str, Any]  # of ours
    distinct: int  # rows after which they repeat


def native(dtype: Any) -> np.dtype[Any]:
    """The dtype of a name; bfloat16 is known once `ml_dtypes` is there."""
    if dtype == "bfloat16":
        import ml_dtypes  # noqa: PLC0415  an extra

        dtype = ml_dtypes.bfloat16
    result: np.dtype[Any] = np.dtype(dtype)
    return result


def _room(case: Case, dtype: np.dtype[Any]) -> Array:
    """An array of zeros in the case's layout, seen as (rows, classes)."""
    rows, classes = case.shape
    if case.layout in {AXIS_0, FORTRAN}:
        return np.zeros((classes, rows), dtype).T
    if case.layout == APART:
        return np.zeros((2 * rows, classes), dtype)[::2]
    if case.layout == SECOND:
        return np.zeros((rows, 2 * classes), dtype)[:, ::2]
    if case.layout == UNALIGNED:
        return np.zeros(rows * classes * dtype.itemsize + 1, np.uint8)[1:].view(dtype).reshape(rows, classes)
    return np.empty((rows, classes), dtype)


def _repeat(room: Array, rows: Array) -> Array:
    """`room`, filled with the rows again and again."""
    for start in range(0, len(room), len(rows)):
        part = room[start : start + len(rows)]
        part[...] = rows[: len(part)]
    return room


def inputs(case: Case) -> Inputs:
    """The same arrays every time."""
    rows, classes = case.shape
    distinct = max(1, min(rows, DISTINCT // classes))
    random = np.random.default_rng(0)
    dtype = native(case.dtype)
    x = _repeat(_room(case, dtype), random.standard_normal((distinct, classes), np.float32).astype(dtype))
    labels = random.integers(0, classes, distinct)
    options = dict(OPTIONS.get(case.option, {}))
    if case.option == "ignore_index":
        labels[::10] = IGNORED
    elif case.option == "class_weight":
        options["class_weight"] = random.uniform(0.5, 2, classes).astype(dtype)
    elif case.option == "class_offset":
        options["class_offset"] = random.standard_normal(classes).astype(dtype)
    elif case.option == "where":
        mask = random.random((distinct, classes)) < 0.8
        mask[np.arange(distinct), labels] = True
        options["where"] = _repeat(np.empty((rows, classes), np.bool_), mask)
    target = labels
    if case.function == DIVERGENCE:
        target = random.standard_normal((distinct, classes), np.float32).astype(dtype)
    elif case.option == SOFT:
        target = reference.softmax(random.standard_normal((distinct, classes), np.float32)).astype(dtype)
    return Inputs(x, _repeat(np.empty((rows, *target.shape[1:]), target.dtype), target), options, distinct)


def last_level() -> int:
    """Bytes of the last-level cache, as Linux says."""
    sizes = [path.read_text().strip() for path in Path("/sys/devices/system/cpu/cpu0/cache").glob("index*/size")]
    return max((int(size[:-1]) << 10 for size in sizes if size.endswith("K")), default=LAST_LEVEL)


def ring(case: Case) -> list[Inputs]:
    """Sets of inputs to take in turn: one, or as many as no cache holds where the case is about memory."""
    copies = math.ceil(4 * last_level() / case.nbytes) if case.memory == DRAM else 1
    return [inputs(case) for _ in range(copies)]


def available() -> float:
    """Bytes of memory that are free; infinite where the operating system does not say."""
    info = Path("/proc/meminfo")
    lines = info.read_text().splitlines() if info.exists() else []
    return next((float(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable")), math.inf)


def expected(case: Case, d: Inputs) -> tuple[Any, Array | None]:
    """The loss (None where there is none), and the result of the distinct rows (None for a loss alone), in float64."""
    return expected_of(case, d._replace(x=d.x[: d.distinct], target=d.target[: d.distinct]), len(d.x))


def expected_of(case: Case, d: Inputs, rows: int) -> tuple[Any, Array | None]:
    """The same from the distinct rows alone, which repeat up to a number of rows."""
    if case.function not in LOSSES:
        return None, getattr(reference, case.function)(d.x)
    counts, options = np.bincount(np.arange(rows) % d.distinct), dict(d.options)
    if "where" in options:
        options["where"] = options["where"][: len(d.x)]
    loss, grad = reference.cross_entropy_and_grad(d.x, d.target, sample_weight=counts, **options)
    return loss, None if case.function == LOSS else grad / counts[:, None]


def _numbers(result: Any, rows: int) -> Array:
    """The first rows of a contestant's result, and the last one, in float64."""
    if hasattr(result, "detach"):  # of torch, whose bfloat16 NumPy does not know
        result = result.detach()
        if result.ndim:
            result = result[[*range(rows), -1]]
        return np.asarray(result.double())
    array = np.asarray(result)
    return np.asarray(array[[*range(rows), -1]] if array.ndim else array, np.float64)


def off(numbers: Array, right: Any, dtype: str) -> bool:
    """Whether a result is wrong by more than rounding explains: of each number, and of the largest for those near 0."""
    eps, least = SPACING[dtype]
    near = 2 * (eps * np.abs(right).max(initial=0.0) + least)
    return not bool((np.abs(numbers - right) <= TOLERANCE[dtype] * np.abs(right) + near).all())


def parts(case: Case, result: Any) -> tuple[Any, Any]:
    """The loss and the rows of a contestant's result, None for what its function does not compute."""
    if case.function == LOSS:
        return result, None
    return result if case.function in LOSSES else (None, result)


def disagreement(case: Case, d: Inputs, result: Any, right: tuple[Any, Array | None]) -> str:
    """The fault of a contestant's result; an empty text if it is right."""
    loss, rows = right
    value, computed = parts(case, result)
    if loss is not None and off(_numbers(value, 0), loss, case.dtype):
        return f"wrong: a loss of {float(value):.6g} where it is {float(loss):.6g}"
    if rows is None:
        return ""
    full = np.concatenate([rows, rows[None, (len(d.x) - 1) % d.distinct]])
    numbers = _numbers(computed if computed.shape[:1] == d.x.shape[:1] else computed.T, d.distinct)
    return f"wrong: numbers off by up to {np.abs(numbers - full).max():.3g}" if off(numbers, full, case.dtype) else ""
