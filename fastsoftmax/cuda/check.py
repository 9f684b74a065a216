"""Arguments on a GPU to checked, normalised problems: every user error of these calls is raised here.

Nothing is read but what the arrays say of themselves: a look at their contents would wait for the GPU.  What kernels do
not read is refused, and not converted behind the caller's back.
"""

from collections.abc import Mapping
from typing import Any, NamedTuple

from ..core import rules
from ..core.dtypes import FLOATS, LABELS, SIZES, computed, readable_beside
from ..core.options import Options, for_probabilities, in_precision
from ..core.strides import Operand, axes_last, contiguous, joined
from .adjust import NOTHING, Adjust, mask_of
from .arrays.library import Argument, Description, Library


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
    work: tuple[str, Any, tuple[float, ...]] = "cross_entropy", 0, ()  # kernel, variant, numbers besides the options'
    adjust: Adjust = NOTHING
    listed: tuple[int, int] = 0, 0  # classes that a teacher lists, and bytes of their log-probabilities


class Map(NamedTuple):
    """A function from rows to rows, or to a number a row, to compute on a GPU."""

    x: Operand
    y: Operand | None
    out: Operand | None
    device: int
    adjust: Adjust = NOTHING


def kind_of(argument: Argument) -> str:
    """The name of an argument's type."""
    kind = type(argument.value)
    return f"{kind.__module__.partition('.')[0]}.{kind.__name__}".removeprefix("builtins.")


def together(arguments: dict[str, Argument | None]) -> int:
    """The number of the GPU on which all arguments lie."""
    present = {name: argument for name, argument in arguments.items() if argument is not None}
    for name, argument in present.items():
        refused = argument.library.refused(argument.value, name)
        if refused is not None:
            raise TypeError(refused)
    descriptions = {name: argument.description for name, argument in present.items()}
    there = next(name for name, about in descriptions.items() if about.device >= 0)
    library: Library = present[there].library
    for name, about in descriptions.items():
        where = f"{there} is a {kind_of(present[there])} on GPU {descriptions[there].device}"
        mend = library.to_device.format(name, there)
        if about.device < 0:
            raise TypeError(f"{name} must lie on the GPU, as {where}, got a {kind_of(present[name])}; pass {mend}")
        if about.device != descriptions[there].device:
            raise ValueError(f"{name} must lie on the same GPU: {where}, {name} on GPU {about.device}; pass {mend}")
    return descriptions[there].device


def readable(name: str, argument: Argument, allowed: tuple[str, ...]) -> Description:
    """An argument of a dtype that kernels read, with memory, and with its elements at multiples of their size."""
    about = argument.description
    if about.dtype not in allowed:
        mend = argument.library.cast.format(name, allowed[0] if len(allowed) < len(FLOATS) else "float32")
        raise TypeError(
            f"{name} must have dtype {' or '.join(allowed)} on a GPU, got {about.dtype} with shape {about.shape}; "
            f"nothing is converted there: pass {mend}"
        )
    size = SIZES[about.dtype]
    if argument.address == 0 and 0 not in about.shape:
        raise ValueError(
            f"{name} must have memory on a GPU, got the address 0 with shape {about.shape}; pass an array whose memory "
            f"was not given back"
        )
    steps = [s for n, s in zip(about.shape, about.strides, strict=True) if n > 1]  # that of a single element is any
    if 0 not in about.shape and any(at % size for at in (argument.address, *steps)):
        raise ValueError(
            f"{name} must have its elements at multiples of {size} bytes on a GPU, got the address {argument.address} "
            f"and strides {about.strides}; pass {argument.library.contiguous.format(name)}"
        )
    return about


def rows_of(
    name: str, argument: Argument, axis: Any, allowed: tuple[str, ...] = FLOATS, *, empty: bool = False
) -> Operand:
    """An operand whose classes are along `axis`; `empty` says that there may be none."""
    about = readable(name, argument, allowed)
    at = rules.axis_of(axis, len(about.shape), name)
    if about.shape[at] == 0 and not empty:
        raise rules.no_class(name, axis, about.shape)
    return _last(about, at, argument.address)


def _last(about: Description, axis: int, address: int) -> Operand:
    shape, strides = ((*of[:axis], *of[axis + 1 :], of[axis]) for of in (about.shape, about.strides))
    return Operand(shape, strides, about.dtype, address)


def destination(
    out: Argument | None,
    like: Description,
    axes: tuple[Any, ...],
    read: Mapping[str, tuple[Operand | None, bool]],
    name: str = "out",
) -> Operand | None:
    """An output for results along some axes, checked: like the logits, and apart from operands, or in their place."""
    if out is None:
        return None
    about = out.description
    if not out.library.mutable:
        raise TypeError(
            f"{name} must be an array that can be written, got a {kind_of(out)}, which never changes; leave it out"
        )
    facts = *about[:3], about.readonly
    rules.output(name, facts, like.shape, like.dtype, SIZES[like.dtype], "an array like the logits")
    readable(name, out, FLOATS)
    to = output(out, axes, like)
    rules.undisturbed(name, to, read)
    return to


def output(out: Argument, axes: tuple[Any, ...], like: Description) -> Operand:
    """An array for results along some axes of the logits."""
    if len(axes) != 1:
        return merged_axes(out, axes, like)
    return _last(out.description, axes[0] % len(like.shape), out.address)


def row_wise(name: str, argument: Argument, shape: tuple[int, ...], allowed: tuple[str, ...]) -> None:
    """Refuse an array with a number a row (or a class) that is not C-contiguous."""
    about = readable(name, argument, allowed)
    dense(name, argument, shape, about.strides, "C-contiguous")


def dense(name: str, argument: Argument, shape: tuple[int, ...], strides: tuple[int, ...], what: str) -> None:
    """Refuse an array whose elements are not side by side, the last axis first; `what` is said to be wanted."""
    about = argument.description
    axes = [(n, s) for n, s in zip(shape, strides, strict=True) if n > 1]
    if 0 not in shape and tuple(s for _, s in axes) != contiguous(tuple(n for n, _ in axes), SIZES[about.dtype]):
        raise ValueError(
            f"{name} must be {what} on a GPU, got strides {about.strides} with shape {about.shape}; "
            f"nothing is copied there: pass {argument.library.contiguous.format(name)}"
        )


def target_of(target: Argument, x: Operand, like: Description, axis: Any, options: Options) -> Operand | None:
    """Probabilities with the classes in the last axis; None for class indices."""
    about, rows, cast = target.description, x.shape[:-1], target.library.cast
    if about.shape == rows:
        if not about.dtype.startswith(("int", "uint")):
            raise TypeError(
                f"class indices must have dtype int64 or int32 on a GPU, got {about.dtype} with shape {about.shape}; "
                f"pass {cast.format('target', 'int64')}"
            )
        row_wise("target", target, rows, LABELS)
        return None
    got = about.shape, about.dtype, about.dtype.startswith(("int", "uint", "bool"))
    rules.probabilities(got, like.shape, rows, cast.format("target", computed(x.dtype)), options.ignore_index)
    for_probabilities(options)
    return rows_of("target", target, axis, readable_beside(x.dtype))


def weights(name: str, argument: Argument | None, shape: tuple[int, ...], meaning: str, dtype: str) -> bool:
    """Whether there are weights; their values are not looked at."""
    if argument is None:
        return False
    rules.weights(name, argument.description.shape, shape, meaning)
    row_wise(name, argument, shape, (dtype,))
    return True


def upstream(
    argument: Argument | None, rows: tuple[int, ...], reduction: str, dtype: str, name: str = "grad_output"
) -> bool:
    """Whether there is an upstream gradient for each row."""
    if argument is None:
        return False
    about = argument.description
    if about.shape == () and rows != ():
        raise TypeError(
            f"{name} must be a Python number or an array with one number a row, got an array without axes, "
            "whose value would have to be fetched from the GPU; multiply the gradient by it instead"
        )
    rules.upstream(name, about.shape, rows, reduction)
    row_wise(name, argument, rows, (dtype,))
    return True


def factors(
    sample_weight: Argument | None, grad_output: Argument | None, rows: tuple[int, ...], reduction: str, dtype: str
) -> tuple[bool, bool]:
    """Whether there are weights of the rows, and whether there is an upstream gradient for each."""
    found = weights("sample_weight", sample_weight, rows, "a row", dtype), upstream(grad_output, rows, reduction, dtype)
    if all(found):
        raise ValueError(
            "grad_output must be a number when there are sample weights on a GPU, where nothing is multiplied "
            "beforehand; multiply the losses, or their weights, by one of them"
        )
    return found


def adjustment(
    where: Argument | None, class_offset: Argument | None, like: Description, axes: tuple[Any, ...]
) -> Adjust:
    """The adjustment of logits whose classes are along some axes; no contents are looked at."""
    ndim = len(like.shape)
    if class_offset is not None:
        classes = like.shape[axes[0] % ndim]
        rules.class_offset(class_offset.description.shape, classes)
        row_wise("class_offset", class_offset, (classes,), (computed(like.dtype),))
    mask = None if where is None else mask_of(where, like, tuple(a % ndim for a in axes))
    return Adjust(class_offset is not None, mask)


class Arguments(NamedTuple):
    """The array arguments of a loss."""

    logits: Argument
    target: Argument
    class_weight: Argument | None
    sample_weight: Argument | None
    grad_output: Argument | None
    out: Argument | None
    class_offset: Argument | None = None
    where: Argument | None = None


def cross_entropy(arguments: Arguments, axis: Any, options: Options, *, grad: bool) -> Loss:
    """A cross-entropy problem from the arguments of the public functions."""
    device = together(arguments._asdict())
    like = arguments.logits.description
    x = rows_of("logits", arguments.logits, axis)
    problem = of_logits(x, like, arguments, axis, options)._replace(grad=grad, device=device)
    read = {"logits": (x, True), "target": (problem.soft or flat(arguments.target), False)}
    return problem._replace(out=destination(arguments.out, like, (axis,), read))


def of_logits(x: Operand, like: Description, arguments: Arguments, axis: Any, options: Options) -> Loss:
    """The loss, on no device yet, of logits that are described, as they came and with their classes last."""
    dtype, rows = computed(x.dtype), x.shape[:-1]
    options = in_precision(options, dtype)
    soft = target_of(arguments.target, x, like, axis, options)
    weighted = weights("class_weight", arguments.class_weight, x.shape[-1:], "a class", dtype)
    loss_factor, grad_factor = factors(arguments.sample_weight, arguments.grad_output, rows, options.reduction, dtype)
    label = 8 if soft is not None else SIZES[arguments.target.description.dtype]
    adjust = adjustment(arguments.where, arguments.class_offset, like, (axis,))
    return Loss(x, soft, None, weighted, loss_factor, grad_factor, options, False, -1, label, adjust=adjust)


def flat(argument: Argument) -> Operand:
    """An argument with its axes as they are."""
    about = argument.description
    return Operand(about.shape, about.strides, about.dtype, argument.address)


def row_map(x: Argument, axis: Any, out: Argument | None, where: Argument | None, *, empty: bool) -> Map:
    """A softmax-like problem along one axis; `empty` says that there may be no classes."""
    device, about = together({"x": x, "out": out, "where": where}), x.description
    operand = rows_of("x", x, axis, empty=empty)
    to = destination(out, about, (axis,), {"x": (operand, True)})
    return Map(operand, None, to, device, adjustment(where, None, about, (axis,)))


def product(y: Argument, grad: Argument, axis: Any, out: Argument | None) -> Map:
    """A vector-Jacobian product along one axis."""
    device = together({"y": y, "grad": grad, "out": out})
    a, b = rows_of("y", y, axis), rows_of("grad", grad, axis, readable_beside(y.description.dtype))
    rules.same_shape(y.description.shape, grad.description.shape)
    return Map(a, b, destination(out, y.description, (axis,), {"y": (a, True), "grad": (b, True)}), device)


def over_axes(
    x: Argument, axis: tuple[Any, ...] | None, out: Argument | None, where: Argument | None, *, empty: bool
) -> tuple[Map, tuple[int, ...]]:
    """A softmax-like problem over several axes, which are merged into one, and their numbers."""
    device = together({"x": x, "out": out, "where": where})
    about = readable("x", x, FLOATS)
    axes = rules.axes_of(axis, about.shape, empty=empty)
    operand = merged_axes(x, axes, about)
    to = destination(out, about, axes, {"x": (operand, True)})
    return Map(operand, None, to, device, adjustment(where, None, about, axes)), axes


def merged_axes(argument: Argument, axes: tuple[int, ...], like: Description) -> Operand:
    """An operand with some axes merged into one, in the order of the logits' strides."""
    about = argument.description
    order, rest = axes_last(axes, like.strides), len(about.shape) - len(axes)
    shape, strides = (tuple(of[a] for a in order) for of in (about.shape, about.strides))
    merged = joined(shape, strides, rest) if axes else (1, SIZES[about.dtype])
    if merged is None:
        raise ValueError(
            f"axis must name axes that can be merged into one on a GPU, where nothing is copied, got {axes} for shape "
            f"{about.shape} with strides {about.strides}; move them to the end of the array and make it contiguous"
        )
    return Operand((*shape[:rest], merged[0]), (*strides[:rest], merged[1]), about.dtype, argument.address)
