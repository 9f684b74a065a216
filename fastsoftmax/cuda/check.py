"""Arguments on a GPU to checked, normalised problems: every user error of these calls is raised here.

Nothing is read but what the arrays say of themselves: a look at their contents would wait for the GPU.  What kernels do
not read is refused, and not converted behind the caller's back.
"""

import numbers
from typing import Any, NamedTuple

import numpy as np

from ..core import rules
from ..core.conversion import number
from ..core.operands import SIZES, Operand, disturbed
from ..core.options import Options, for_probabilities, in_precision
from ..core.strides import joined
from ..core.weights import SINGLE, held
from .arrays.dlpack import contiguous
from .arrays.lookup import Library, Look, Seen

FLOATS = ("float16", "bfloat16", "float32", "float64")
LABELS = ("int64", "int32")


class Loss(NamedTuple):
    """A cross-entropy to compute on a GPU; row-wise arrays are C-contiguous."""

    x: Operand
    soft: Operand | None  # probabilities; None for class indices
    out: Operand | None
    weighted: bool  # whether there are class weights
    loss_factor: bool  # weights of the rows
    grad_factor: bool  # an upstream gradient for each row
    options: Options
    grad: bool
    device: int
    label: int = 8  # bytes of a class index


class Map(NamedTuple):
    """A function from rows to rows, or to a number a row, to compute on a GPU."""

    x: Operand
    y: Operand | None
    out: Operand | None
    device: int


def computed(dtype: str) -> str:
    """What logits of a dtype are computed in, and losses and weights are."""
    return "float64" if dtype == "float64" else "float32"


def kind_of(seen: Seen) -> str:
    """The name of an argument's type."""
    kind = type(seen.value)
    return f"{kind.__module__.partition('.')[0]}.{kind.__name__}".removeprefix("builtins.")


def together(arguments: dict[str, Seen | None]) -> int:
    """The number of the GPU on which all arguments lie."""
    given = {name: seen for name, seen in arguments.items() if seen is not None}
    for name, seen in given.items():
        refused = seen.library.refused(seen.value, name)
        if refused is not None:
            raise TypeError(refused)
    looks = {name: seen.look for name, seen in given.items()}
    there = next(name for name, look in looks.items() if look.device >= 0)
    library: Library = given[there].library
    for name, look in looks.items():
        where = f"{there} is a {kind_of(given[there])} on GPU {looks[there].device}"
        mend = library.to_device.format(name, there)
        if look.device < 0:
            raise TypeError(f"{name} must lie on the GPU, as {where}, got a {kind_of(given[name])}; pass {mend}")
        if look.device != looks[there].device:
            raise ValueError(f"{name} must lie on the same GPU: {where}, {name} on GPU {look.device}; pass {mend}")
    return looks[there].device


def readable(name: str, seen: Seen, allowed: tuple[str, ...]) -> Look:
    """An argument of a dtype that kernels read, with memory, and with its elements at multiples of their size."""
    look = seen.look
    if look.dtype not in allowed:
        mend = seen.library.cast.format(name, allowed[0] if len(allowed) < len(FLOATS) else "float32")
        raise TypeError(
            f"{name} must have dtype {' or '.join(allowed)} on a GPU, got {look.dtype} with shape {look.shape}; "
            f"nothing is converted there: pass {mend}"
        )
    size = SIZES[look.dtype]
    if seen.address == 0 and 0 not in look.shape:
        raise ValueError(
            f"{name} must have memory on a GPU, got the address 0 with shape {look.shape}; pass an array whose memory "
            f"was not given back"
        )
    steps = [s for n, s in zip(look.shape, look.strides, strict=True) if n > 1]  # that of a single element is any
    if 0 not in look.shape and any(at % size for at in (seen.address, *steps)):
        raise ValueError(
            f"{name} must have its elements at multiples of {size} bytes on a GPU, got the address {seen.address} "
            f"and strides {look.strides}; pass {seen.library.contiguous.format(name)}"
        )
    return look


def _rows(name: str, seen: Seen, axis: Any, allowed: tuple[str, ...] = FLOATS) -> Operand:
    """An operand whose classes are along `axis`."""
    look = readable(name, seen, allowed)
    at = rules.axis_of(axis, len(look.shape), name)
    if look.shape[at] == 0:
        raise rules.no_class(name, axis, look.shape)
    return _last(look, at, seen.address)


def _last(look: Look, axis: int, address: int) -> Operand:
    shape, strides = list(look.shape), list(look.strides)
    return Operand((*shape[:axis], *shape[axis + 1 :], shape[axis]), _moved(strides, axis), look.dtype, address)


def _moved(strides: list[int], axis: int) -> tuple[int, ...]:
    return (*strides[:axis], *strides[axis + 1 :], strides[axis])


def _output(out: Seen, like: Look, axis: Any) -> Operand:
    """Where results go: an array of the logits' shape and dtype."""
    look = out.look
    if not out.library.mutable:
        raise TypeError(
            f"out must be an array that can be written, got a {kind_of(out)}, which never changes; leave it out"
        )
    size, about = SIZES[like.dtype], (*look[:3], look.readonly)
    error = rules.wrong_output("out", about, like.shape, like.dtype, size, "an array like the logits")
    if error is not None:
        raise error
    readable("out", out, FLOATS)
    return _last(look, axis % len(look.shape), out.address)


def made(out: Seen, axes: tuple[int, ...], like: Look) -> Operand:
    """A new array for results along some axes of the logits."""
    return _last(out.look, axes[0], out.address) if len(axes) == 1 else merged_axes(out, axes, like)


def row_wise(name: str, seen: Seen, shape: tuple[int, ...], allowed: tuple[str, ...]) -> None:
    """Refuse an array with a number a row (or a class) that is not C-contiguous."""
    look = readable(name, seen, allowed)
    axes = [(n, s) for n, s in zip(shape, look.strides, strict=True) if n > 1]
    dense = contiguous(tuple(n for n, _ in axes), SIZES[look.dtype])
    if 0 not in shape and tuple(s for _, s in axes) != dense:
        raise _scattered(name, seen)


def _scattered(name: str, seen: Seen) -> ValueError:
    return ValueError(
        f"{name} must be C-contiguous on a GPU, got strides {seen.look.strides} with shape {seen.look.shape}; "
        f"nothing is copied there: pass {seen.library.contiguous.format(name)}"
    )


def _target(target: Seen, x: Operand, like: Look, axis: Any, options: Options) -> Operand | None:
    """Probabilities with the classes in the last axis; None for class indices."""
    look = target.look
    rows, whole = x.shape[:-1], look.dtype.startswith(("int", "uint"))
    if look.shape == rows and whole:
        row_wise("target", target, rows, LABELS)
        return None
    if look.shape == like.shape and look.dtype.startswith(("int", "uint", "bool")):
        mend = target.library.cast.format("target", computed(x.dtype))
        raise rules.not_probabilities(look.dtype, look.shape, rows, mend)
    if look.shape == like.shape:
        rules.no_ignored_rows(options.ignore_index)
        for_probabilities(options)
        return _rows("target", target, axis, tuple(dict.fromkeys((x.dtype, computed(x.dtype)))))
    if look.shape == rows:
        raise TypeError(
            f"class indices must have dtype int64 or int32 on a GPU, got {look.dtype} with shape {look.shape}; "
            f"pass {target.library.cast.format('target', 'int64')}"
        )
    raise rules.wrong_target(rows, like.shape, look.shape)


def weights(name: str, seen: Seen | None, shape: tuple[int, ...], meaning: str, dtype: str) -> bool:
    """Whether there are weights; their values are not looked at."""
    if seen is None:
        return False
    if seen.look.shape != shape:
        raise rules.wrong_weights(name, shape, meaning, seen.look.shape)
    row_wise(name, seen, shape, (dtype,))
    return True


def is_number(value: Any) -> bool:
    """Whether an upstream gradient is a number, and none that would have to be fetched from the GPU."""
    return isinstance(value, numbers.Real) or (isinstance(value, np.ndarray) and value.ndim == 0)


def upstream_number(value: Any) -> float | None:
    """An upstream gradient that is a number (1 if it was left out); None for an array."""
    if value is None:
        return 1.0
    return number("grad_output", value, "a number or an array") if is_number(value) else None


def upstream_fits(up: float | None, dtype: str) -> None:
    """Refuse a finite upstream gradient that the computing dtype has no number for."""
    if up is not None and not -SINGLE <= up <= SINGLE:
        held("grad_output", np.asarray(up), dtype)


def _upstream(seen: Seen | None, rows: tuple[int, ...], reduction: str, dtype: str) -> bool:
    """Whether there is an upstream gradient for each row."""
    if seen is None:
        return False
    look = seen.look
    if look.shape == () and rows != ():
        raise TypeError(
            "grad_output must be a Python number or an array with one number a row, got an array without axes, "
            "whose value would have to be fetched from the GPU; multiply the gradient by it instead"
        )
    rules.upstream(look.shape, rows, reduction)
    row_wise("grad_output", seen, rows, (dtype,))
    return True


class Given(NamedTuple):
    """The array arguments of a loss."""

    logits: Seen
    target: Seen
    class_weight: Seen | None
    sample_weight: Seen | None
    grad_output: Seen | None
    out: Seen | None


def cross_entropy(given: Given, axis: Any, options: Options, *, grad: bool) -> Loss:
    """A cross-entropy problem from the arguments of the public functions."""
    device = together(given._asdict())
    like = given.logits.look
    x = _rows("logits", given.logits, axis)
    problem = of_logits(x, like, given, axis, options)._replace(grad=grad, device=device)
    if given.out is None:
        return problem
    out = _output(given.out, like, axis)
    disturbed(out, {"logits": (x, True), "target": (problem.soft or flat(given.target), False)})
    return problem._replace(out=out)


def of_logits(x: Operand, like: Look, given: Given, axis: Any, options: Options) -> Loss:
    """The loss, on no device yet, of logits that are described, as they came and with their classes last."""
    dtype, rows = computed(x.dtype), x.shape[:-1]
    options = in_precision(options, dtype)
    soft = _target(given.target, x, like, axis, options)
    weighted = weights("class_weight", given.class_weight, x.shape[-1:], "a class", dtype)
    loss_factor = weights("sample_weight", given.sample_weight, rows, "a row", dtype)
    grad_factor = _upstream(given.grad_output, rows, options.reduction, dtype)
    if loss_factor and grad_factor:
        raise ValueError(
            "grad_output must be a number when there are sample weights on a GPU, where nothing is multiplied "
            "beforehand; multiply the losses, or their weights, by one of them"
        )
    label = 8 if soft is not None else SIZES[given.target.look.dtype]
    return Loss(x, soft, None, weighted, loss_factor, grad_factor, options, False, -1, label)


def flat(seen: Seen) -> Operand:
    """An argument with its axes as they are."""
    look = seen.look
    return Operand(look.shape, look.strides, look.dtype, seen.address)


def row_map(given: Seen, axis: Any, out: Seen | None) -> Map:
    """A softmax-like problem along one axis."""
    device = together({"x": given, "out": out})
    x = _rows("x", given, axis)
    to = None if out is None else _output(out, given.look, axis)
    if to is not None:
        disturbed(to, {"x": (x, True)})
    return Map(x, None, to, device)


def product(y: Seen, grad: Seen, axis: Any, out: Seen | None) -> Map:
    """A vector-Jacobian product along one axis."""
    device = together({"y": y, "grad": grad, "out": out})
    kinds = tuple(dict.fromkeys((y.look.dtype, computed(y.look.dtype))))
    a, b = _rows("y", y, axis), _rows("grad", grad, axis, kinds)
    if a.shape != b.shape:
        raise ValueError(f"grad must have the shape of y, {y.look.shape}, got {grad.look.shape}")
    to = None if out is None else _output(out, y.look, axis)
    if to is not None:
        disturbed(to, {"y": (a, True), "grad": (b, True)})
    return Map(a, b, to, device)


def over_axes(given: Seen, axis: tuple[Any, ...] | None, out: Seen | None) -> tuple[Map, tuple[int, ...]]:
    """A softmax-like problem over several axes, which are merged into one, and their numbers."""
    device = together({"x": given, "out": out})
    look = readable("x", given, FLOATS)
    axes = rules.axes_of(axis, look.shape)
    x = merged_axes(given, axes, look)
    to = None
    if out is not None:
        _output(out, look, -1)
        to = merged_axes(out, axes, look)
        disturbed(to, {"x": (x, True)})
    return Map(x, None, to, device), axes


def merged_axes(seen: Seen, axes: tuple[int, ...], like: Look) -> Operand:
    """An operand with some axes merged into one, in the order of the logits' strides."""
    look = seen.look
    rest = [a for a in range(len(look.shape)) if a not in axes]
    order = (*rest, *sorted(axes, key=lambda a: -abs(like.strides[a])))
    shape, strides = (tuple(of[a] for a in order) for of in (look.shape, look.strides))
    found = joined(shape, strides, len(rest)) if axes else (1, SIZES[look.dtype])
    if found is None:
        raise ValueError(
            f"axis must name axes that can be merged into one on a GPU, where nothing is copied, got {axes} for shape "
            f"{look.shape} with strides {look.strides}; move them to the end of the array and make it contiguous"
        )
    return Operand((*shape[: len(rest)], found[0]), (*strides[: len(rest)], found[1]), look.dtype, seen.address)
