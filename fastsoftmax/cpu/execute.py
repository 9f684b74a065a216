"""From operands to launched kernels: arrays become addresses and strides, and what the kernels do not read is converted.

The kernels take rows on two levels of strides.  Leading axes are merged where they can be; more levels are walked here.
"""

import math
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np

from ..plan import plan, rows_in_lanes
from ..spec import COMPUTED, FLOAT64, ITEMSIZE, Flags, storage_of
from . import kernels, launch, params

Array = Any  # of NumPy

CONVERTED = 1 << 18  # elements of an operand that are converted at a time


class Job(NamedTuple):
    """What all pieces of one call have in common."""

    kernel: str
    flags: Flags
    variant: int
    dtype: np.dtype[Any]  # of the logits once they are readable, and of what is written
    classes: int
    fields: dict[str, int]  # parameters that do not depend on the piece
    numbers: dict[str, float]

    @property
    def storage(self) -> int:
        """The storage kind of the logits."""
        return storage_of(self.dtype)

    @property
    def computed(self) -> np.dtype[Any]:
        """The dtype that the kernels compute in, which scratch, weights and factors have."""
        return computed(self.dtype)


def computed(dtype: np.dtype[Any]) -> np.dtype[Any]:
    """What logits of a dtype are computed in: float64 for float64, else float32."""
    return np.dtype(np.float64 if COMPUTED[storage_of(dtype)] == FLOAT64 else np.float32)


class Operands(NamedTuple):
    """The arrays of a job, classes last, or views of some of their rows.  The row-wise ones are C-contiguous."""

    x: Array
    y: Array | None = None
    out: Array | None = None
    target: Array | None = None
    loss_factor: Array | None = None
    grad_factor: Array | None = None
    result: Array | None = None

    def piece(self, *index: Any) -> "Operands":
        """Views of the rows at an index of the leading axes."""
        return Operands(*(None if a is None else a[(*index, ...)] for a in self))  # type: ignore[arg-type]


class Geometry(NamedTuple):
    """Two levels of rows, and the strides in bytes of each operand: outer, inner, class."""

    outer: int
    inner: int
    steps: tuple[tuple[int, int, int], ...]


def geometry(arrays: list[Array]) -> Geometry | None:
    """The leading axes of operands of one shape merged into two levels; None where that takes more."""
    merged: list[tuple[int, tuple[int, ...]]] = []
    for axis, n in enumerate(arrays[0].shape[:-1]):
        steps = tuple([a.strides[axis] for a in arrays])
        if n == 1:
            continue
        if merged and all(far == near * n for far, near in zip(merged[-1][1], steps, strict=True)):
            merged[-1] = (merged[-1][0] * n, steps)
        else:
            merged.append((n, steps))
    if len(merged) > 2:
        return None
    single = (1, (0,) * len(arrays))
    (outer, far), (inner, near) = ([single, single] + merged)[-2:]
    return Geometry(outer, inner, tuple(zip(far, near, (a.strides[-1] for a in arrays), strict=True)))


def execute(job: Job, data: Operands) -> float:
    """Run a job on all rows of its operands; returns the sum of the losses (0 where there are none)."""
    if data.x.size == 0:
        return 0.0
    if data.x.dtype != job.dtype or (data.y is not None and data.y.dtype not in _dtypes_of_y(job)):
        return math.fsum(_converted(job, data))
    geo = geometry([a for a in data[:3] if a is not None])
    if geo is None:
        return math.fsum([execute(job, data.piece(i)) for i in range(data.x.shape[0])])
    return _launch(job, data, geo)


def _dtypes_of_y(job: Job) -> tuple[np.dtype[Any], ...]:
    """What a second operand may be: products read one dtype, losses also soft targets in the computing dtype."""
    return (job.dtype,) if job.kernel == "vjp" else (job.computed, job.dtype)


def _converted(job: Job, data: Operands) -> Iterator[float]:
    """The losses of pieces whose operands are copied to what the kernels read, some rows at a time."""
    for index in pieces(data.x.shape[:-1], max(1, CONVERTED // job.classes)):
        piece = data.piece(*index)
        y = piece.y
        if y is not None and y.dtype not in _dtypes_of_y(job):
            y = y.astype(_dtypes_of_y(job)[0])
        yield execute(job, piece._replace(x=piece.x.astype(job.dtype, copy=False), y=y))


def pieces(shape: tuple[int, ...], rows: int) -> Iterator[tuple[Any, ...]]:
    """Indices that cut leading axes of a shape into pieces of at most `rows` rows (but at least one)."""
    across = math.prod(shape[1:])
    if not shape or shape[0] * across <= rows:
        yield ()
    elif across < rows:
        for i in range(0, shape[0], rows // across):
            yield (slice(i, i + rows // across),)
    else:
        for i in range(shape[0]):
            yield from ((i, *rest) for rest in pieces(shape[1:], rows))


def _address(array: Array | None) -> int:
    return 0 if array is None else array.__array_interface__["data"][0]


class Where(NamedTuple):
    """An operand as a kernel sees it."""

    address: int
    outer: int
    inner: int
    step: int  # from class to class
    contiguous: bool  # along what goes in SIMD lanes


def _launch(job: Job, data: Operands, geo: Geometry) -> float:
    """Plan and run one kernel over rows that lie in two levels."""
    itemsize, width = data.x.itemsize, 64 // job.computed.itemsize
    lanes = rows_in_lanes(job.classes, geo.steps[0][2], geo.steps[0][1], itemsize)
    streamable = data.out is not None and data.out is not data.x and geo.steps[-1][2] == itemsize
    keep = job.flags.kept and not (lanes and job.flags.cap)
    p = plan(geo.outer, geo.inner, job.classes, job.computed.itemsize, lanes, keep, streamable)
    flags = job.flags._replace(packed=p.packed, kept=p.kept, streamed=p.streamed)
    steps = iter(geo.steps)
    x, y, out = (
        None if a is None else Where(_address(a), *(s := next(steps)), s[1 if lanes else 2] == a.itemsize)
        for a in data[:3]
    )
    y_storage = job.storage if data.y is None else storage_of(data.y.dtype)
    contiguous = (True if a is None else a.contiguous for a in (x, y, out))
    kernel = kernels.address(job.kernel, lanes, flags, job.variant, job.storage, y_storage, *contiguous)
    threads = launch.threads_for(p.parallel)
    scratch, partial = np.empty(p.scratch * threads + 64, np.uint8), np.empty(p.chunks)
    fields = {
        "rows": geo.outer * -(-geo.inner // (p.tile * width)) if lanes else geo.outer * geo.inner,
        "inner": geo.inner,
        "classes": job.classes,
        "chunk": p.chunk,
        "tile": p.tile,
        "target": _address(data.target),
        "loss_factor": _address(data.loss_factor),
        "grad_factor": _address(data.grad_factor),
        "result": _address(data.result),
        "partial": _address(partial),
        "scratch": (_address(scratch) + 63) // 64 * 64,
        "scratch_size": p.scratch,
    }
    for name, where in (("x", x), ("y", y), ("out", out)):
        if where is not None:
            fields |= {name: where.address, f"{name}_outer": where.outer}
            fields |= {f"{name}_inner": where.inner, f"{name}_class": where.step}
    launch.launch(kernel, params.pack({**job.fields, **fields}, job.numbers), p.chunks, threads)
    return float(partial.sum()) if job.kernel == "cross_entropy" else 0.0
