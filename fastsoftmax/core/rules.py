"""Rules for arguments on every device, and the errors where they are broken: on descriptions, not on arrays."""

import operator
from collections.abc import Mapping
from typing import Any

from .strides import Operand, overlapping

WRT = ("x", "weight", "bias")  # of a linear pass, with respect to which there are gradients


class NoCompiler(RuntimeError):
    """Nothing can be computed, as nothing may be compiled."""


def compiler_disabled() -> NoCompiler:
    """The error where Numba is told not to compile."""
    return NoCompiler(
        "fastsoftmax computes with compiled kernels only, and NUMBA_DISABLE_JIT switches Numba's compiler off; "
        "unset that variable before the process starts"
    )


def shown(value: Any, most: int = 80) -> str:
    """A value as messages have it: short, and whatever it is."""
    try:
        said = str(value) if isinstance(value, BaseException) else repr(value)
    except Exception:  # of any object; of integers with more digits than Python prints
        return f"{'an integer' if isinstance(value, int) else 'a ' + type(value).__name__} that cannot be printed"
    return said if len(said) <= most else f"{said[:most]}..."


def axis_of(axis: Any, ndim: int, name: str) -> int:
    """The number of an axis, counted from the front."""
    try:
        index = operator.index(axis)
    except Exception:  # of any object
        raise TypeError(f"axis must be an integer, got {shown(axis)}") from None
    if not -ndim <= index < ndim:
        where = f"must be in [-{ndim}, {ndim})" if ndim else "does not exist"
        raise ValueError(f"axis {where} for {name} with {ndim} dimensions, got {shown(index)}")
    return index % ndim


def broadcasts(got: tuple[int, ...], shape: tuple[int, ...]) -> bool:
    """Whether an array of some shape broadcasts to another shape."""
    return len(got) <= len(shape) and all(n in (1, m) for n, m in zip(got[::-1], shape[::-1], strict=False))


def mask(got: tuple[int, ...], dtype: Any, shape: tuple[int, ...]) -> None:
    """Refuse a `where=` that is no mask of logits of some shape."""
    if str(dtype) not in ("bool", "torch.bool"):
        raise TypeError(f"where must be boolean, True where a class is there, got dtype {dtype}; pass where != 0")
    if not broadcasts(got, shape):
        raise ValueError(f"where must broadcast to the shape of the logits, {shape}, got {got}")


def factors(got: tuple[int, ...], shape: tuple[int, ...]) -> None:
    """Refuse factors of exponentials that do not broadcast to the shape of the logits."""
    if not broadcasts(got, shape):
        raise ValueError(f"b must broadcast to the shape of x, {shape}, got {got}")


def class_offset(got: tuple[int, ...], classes: int) -> None:
    """Refuse a `class_offset=` that does not have a number for each class."""
    if got != (classes,):
        raise ValueError(f"class_offset must have shape ({classes},), a number for each class, got {got}")


def no_offset(value: Any, position: int, most: float, dtype: str) -> ValueError:
    """The error for a number that is added to no logit that is computed in a dtype, whose largest number is `most`."""
    return ValueError(
        f"class_offset must hold numbers within {most:.2g}, as they are added in {dtype}, or -inf for classes that are "
        f"left out, got {value} at ({position},)"
    )


def alone(axis: Any, ndim: int) -> Any:
    """An axis; of a number without axes, 0 and -1 are none, as NumPy's and SciPy's reductions have it."""
    return () if ndim == 0 and type(axis) is int and axis in (0, -1) else axis


def no_class(name: str, axis: Any, shape: tuple[int, ...]) -> ValueError:
    """The error for an axis of no length."""
    return ValueError(
        f"{name} must have at least one class along axis {axis}, got shape {shape}; "
        "a softmax over nothing is not defined"
    )


def output(name: str, about: tuple[Any, ...], shape: tuple[int, ...], dtype: Any, itemsize: int, like: str) -> None:
    """Refuse an output, of some (shape, strides, dtype, whether it is read-only), that results do not go to.

    `like` is what to pass instead.
    """
    got, strides, kind, readonly = about
    if got != shape:
        raise ValueError(f"{name} must have the shape of the result, {shape}, got {got}")
    if kind != dtype:
        raise TypeError(f"{name} must have dtype {dtype}, as the result has, got {kind}; use {like}")
    if readonly:
        raise ValueError(f"{name} must be writeable, got a read-only array; pass a copy")
    if overlapping(got, strides, itemsize):
        broadcast = any(s == 0 and n > 1 for s, n in zip(strides, got, strict=True))
        raise ValueError(
            f"{name} must not {'be broadcast' if broadcast else 'overlap itself'}, got strides {strides} with shape "
            f"{got}: its elements share memory; use {like}"
        )


def undisturbed(said: str, out: Operand, read: Mapping[str, tuple[Operand | None, bool]]) -> None:
    """Refuse an output that would be written over what is still to be read; some operands may be the output itself."""
    for name, (operand, in_place) in read.items():
        if operand is None or 0 in out.shape or (in_place and operand == out):
            continue
        if out.overlaps(operand):
            which = f"or be {name} itself, " if in_place else ""
            raise ValueError(f"{said} must not share memory with {name}, {which}on a GPU, where nothing is copied")


def bad_label(value: int, row: tuple[Any, ...], classes: int) -> ValueError:
    """The error for a class index that is not one."""
    where = tuple(map(int, row))
    return ValueError(
        f"target must hold class indices in [0, {classes}) or ignore_index, got {value} at "
        f"{'row ' + str(where[0]) if len(where) == 1 else 'position ' + str(where)}; "
        "mend the labels, or pass ignore_index to leave out rows with that value"
    )


def probabilities(
    about: tuple[tuple[int, ...], Any, bool],
    logits: tuple[int, ...],
    rows: tuple[int, ...],
    mend: str,
    ignore_index: int,
) -> None:
    """Refuse a target, of some (shape, dtype, whether that is an integer one), that holds no probabilities.

    `mend` makes some of class indices in the shape of the logits; there are no rows to ignore.
    """
    got, dtype, integers = about
    if got != logits:
        raise ValueError(
            f"target must have shape {rows} (class indices) or {logits} (probabilities) "
            f"for logits of shape {logits}, got {got}"
        )
    if integers:
        raise TypeError(
            f"probabilities must have a floating dtype, got a target of {dtype} in the shape of the logits, {got}; "
            f"class indices must have shape {rows}, and for probabilities pass {mend}"
        )
    if ignore_index >= 0:
        raise ValueError(
            f"ignore_index must be negative when target holds probabilities, got {ignore_index}; "
            "give rows a sample_weight of 0 instead"
        )


def class_indices(got: tuple[int, ...], rows: tuple[int, ...], logits: tuple[int, ...]) -> None:
    """Refuse a target that is not one class index a row."""
    if got != rows:
        raise ValueError(
            f"target must hold class indices here, and have shape {rows} for logits of shape {logits}, got {got}"
        )


def same_classes(teacher: tuple[int, ...], student: tuple[int, ...]) -> None:
    """Refuse a teacher that does not fit its student."""
    if teacher != student:
        listed = len(teacher) > len(student) and teacher[0] == 2
        pair = "; pass tail with a pair (indices, log_prob)" if listed else ""
        raise ValueError(f"teacher must have the shape of student, {student}, got {teacher}{pair}")


def same_shape(y: tuple[int, ...], grad: tuple[int, ...]) -> None:
    """Refuse an upstream gradient that does not fit what a product is taken with."""
    if grad != y:
        raise ValueError(f"grad must have the shape of y, {y}, got {grad}")


def weights(name: str, got: tuple[int, ...], shape: tuple[int, ...], meaning: str) -> None:
    """Refuse weights that do not fit."""
    if got != shape:
        raise ValueError(f"{name} must have shape {shape}, one weight {meaning}, got {got}")


def upstream(name: str, got: tuple[int, ...], shape: tuple[int, ...], reduction: str) -> None:
    """Refuse an upstream gradient that is an array and fits no loss."""
    if reduction != "none":
        raise ValueError(f"{name} must be a scalar for reduction={reduction!r}, got an array of shape {got}")
    if got != shape:
        raise ValueError(f"{name} must have shape {shape}, one number a row, or be a scalar, got {got}")


def axes_of(axis: tuple[Any, ...] | None, shape: tuple[int, ...], *, empty: bool = False) -> tuple[int, ...]:
    """The numbers of several axes, or of all, in rising order; `empty` says that they may have no elements."""
    ndim = len(shape)
    axes = sorted(range(ndim) if axis is None else [axis_of(a, ndim, "x") for a in axis])
    if len(set(axes)) != len(axes):
        raise ValueError(f"axis must name axes, each once, got {shown(axis)}")
    if not empty and any(shape[a] == 0 for a in axes):
        raise ValueError(f"x must have at least one element along the axes {shown(axis)}, got shape {shape}")
    return tuple(axes)


def features_shape(shape: tuple[int, ...]) -> None:
    """Refuse features that are no matrix."""
    if len(shape) != 2:
        raise ValueError(f"x must have shape (n, d), one row of features for each of n samples, got shape {shape}")


def weight_shape(shape: tuple[int, ...], x: tuple[int, ...], name: str = "weight") -> None:
    """Refuse weights that are no matrix for features of some shape."""
    if len(shape) != 2 or shape[1] != x[1]:
        raise ValueError(
            f"{name} must have shape (K, d) = (K, {x[1]}), as x has shape {x}, got {shape}"
            + (f"; pass {name}.T" if len(shape) == 2 and shape[0] == x[1] else "")
        )
    if shape[0] == 0:
        raise ValueError(
            f"{name} must have at least one class, got shape {shape}; a softmax over nothing is not defined"
        )


def bias_shape(shape: tuple[int, ...], classes: int, name: str = "bias") -> None:
    """Refuse a bias that has not one number a class."""
    if shape != (classes,):
        raise ValueError(f"{name} must have shape (K,) = {(classes,)}, got {shape}")


def names(argument: str, value: Any, allowed: tuple[str, ...]) -> tuple[str, ...]:
    """The names that an argument, a name or a sequence of them, picks of those that are allowed."""
    picked: list[Any] = []
    try:
        for name in (value,) if isinstance(value, str) else value:
            picked.append(name)
            if not isinstance(name, str) or name not in allowed:
                break  # arrays may have no end to speak of
    except Exception:  # of any object
        picked = [value]
    for name in picked:
        if not isinstance(name, str) or name not in allowed:
            raise ValueError(f"{argument} must name some of {', '.join(map(repr, allowed))}, got {shown(name)}")
    return tuple(picked)


def wrt_names(wrt: Any) -> tuple[str, ...]:
    """The names of gradients."""
    return names("wrt", wrt, WRT)


def outputs(out: Any, wanted: tuple[str, ...]) -> dict[str, Any]:
    """The outputs of gradients, by their names; the arrays are not looked at."""
    if out is None:
        return {}
    if not isinstance(out, Mapping):
        raise TypeError(f"out must be a mapping such as {{'weight': array}}, got {type(out).__name__}")
    for name in out:
        if name not in wanted:
            raise ValueError(f"out must hold arrays for what wrt names, {wanted}, got one for {name!r}")
    return dict(out)


def direction(weight: tuple[int, ...], along: tuple[int, ...], biases: tuple[Any, Any], reduction: Any) -> None:
    """Refuse a direction that does not fit weights and bias, and a reduction that a Hessian does not have."""
    if along != weight:
        raise ValueError(f"weight_direction must have the shape of weight, {weight}, got {along}")
    if (biases[0] is None) != (biases[1] is None):
        raise ValueError("bias and bias_direction must both be given, or neither of them")
    if not isinstance(reduction, str) or reduction not in ("mean", "sum"):
        raise ValueError(f"reduction must be 'mean' or 'sum', got {shown(reduction)}")
