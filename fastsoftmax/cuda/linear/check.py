"""Arguments of linear passes on a GPU to checked problems; those of the losses are checked in `cuda.check`.

Features, weights and bias are for the library's own products, which take any strides; all of one dtype, as nothing is
converted behind the caller's back.
"""

from collections.abc import Mapping
from typing import Any, NamedTuple

from ...core import rules
from ...core.conversion import positive_or_none
from ...core.dtypes import FLOATS, SIZES, computed
from ...core.options import Options
from ...core.strides import Operand
from .. import check
from ..arrays.library import Argument, Description
from ..arrays.products import Products
from ..check import Loss, flat, kind_of, readable, row_wise, together
from ..derived import Statistics, statistics_of_logits
from .plan import chunk_rows, row_pitch


class Linear(NamedTuple):
    """Logits ``x Wᵀ + b`` on a GPU."""

    library: Products
    rows: int
    features: int
    classes: int
    dtype: str
    device: int
    chunk: int  # rows whose logits are there at a time
    pitch: int  # logits from row to row

    def logits(self, rows: int) -> Operand:
        """The logits of some rows, at an address that is a multiple of what a GPU's thread reads at a time."""
        size = SIZES[self.dtype]
        return Operand((rows, self.classes), (self.pitch * size, size), self.dtype, 0)


class LinearLoss(NamedTuple):
    """A cross-entropy of such logits, and the gradients that are asked for."""

    linear: Linear
    loss: Loss  # of the logits of all rows, which are never there
    wanted: tuple[str, ...]


class LinearStatistics(NamedTuple):
    """Statistics of such logits."""

    linear: Linear
    statistics: Statistics  # of the logits of all rows


class Arguments(NamedTuple):
    """The array arguments of a loss."""

    x: Argument
    weight: Argument
    bias: Argument | None
    target: Argument
    class_weight: Argument | None
    sample_weight: Argument | None
    grad_output: Argument | None
    class_offset: Argument | None = None


def _multiplied(x: Argument) -> Products:
    """The features' library, if it multiplies."""
    if not isinstance(x.library, Products):
        how = "from_dlpack" if x.library.waits else "asarray"
        raise TypeError(
            f"x must be an array of PyTorch or CuPy for a linear function on a GPU, as its products are theirs, got a "
            f"{kind_of(x)}; pass torch.{how}(x) or cupy.{how}(x), and weight and bias likewise: nothing is copied"
        )
    return x.library


def _same_library(name: str, argument: Argument, x: Argument) -> None:
    """Refuse an operand that the features' library is to compute with, and that is of another one."""
    if argument.library is not x.library:
        raise TypeError(
            f"{name} must be of the library that x is from, {x.library.name}, which multiplies them, got a "
            f"{kind_of(argument)}; pass {x.library.name}.from_dlpack({name}), which copies nothing"
        )


def _same_kind(name: str, argument: Argument, x: Argument) -> Description:
    """Refuse an operand of a product that is of another library or dtype than the features."""
    _same_library(name, argument, x)
    return readable(name, argument, (x.description.dtype,))


def linear(x: Argument, weight: Argument, bias: Argument | None, block: Any = None) -> Linear:
    """The logits of features, checked."""
    device, multiplied = together({"x": x, "weight": weight, "bias": bias}), _multiplied(x)
    about = readable("x", x, FLOATS)
    rules.features_shape(about.shape)
    w = _same_kind("weight", weight, x)
    rules.weight_shape(w.shape, about.shape)
    if bias is not None:
        rules.bias_shape(_same_kind("bias", bias, x).shape, w.shape[0])
    (rows, features), classes, size = about.shape, w.shape[0], SIZES[about.dtype]
    chunk = chunk_rows(rows, classes, size, positive_or_none("block_rows", block))
    pitch = row_pitch(classes, size) if multiplied.pitched else classes
    return Linear(multiplied, rows, features, classes, about.dtype, device, chunk, pitch)


def loss(
    arguments: Arguments, options: Options, wrt: tuple[str, ...], out: Mapping[str, Argument], *, block: Any = None
) -> LinearLoss:
    """A cross-entropy of a linear map from the arguments of the public functions."""
    together(arguments._asdict() | {f"out[{name!r}]": argument for name, argument in out.items()})
    problem = linear(arguments.x, arguments.weight, arguments.bias, block)
    z = problem.logits(problem.rows)
    of_loss = check.Arguments(arguments.x, *arguments[3:7], None, arguments.class_offset)
    loss_problem = check.of_logits(z, Description(z.shape, z.strides, z.dtype, problem.device), of_loss, -1, options)
    wanted = tuple(n for n in wrt if n != "bias" or arguments.bias is not None)
    _outputs(arguments, rules.outputs(out, wanted))
    return LinearLoss(problem, loss_problem._replace(grad=bool(wanted), device=problem.device), wanted)


def statistics(
    x: Argument,
    weight: Argument,
    bias: Argument | None,
    target: Argument | None,
    class_offset: Argument | None,
    *,
    options: Options,
    block: Any,
) -> LinearStatistics:
    """Statistics of the rows of a linear map."""
    device = together({"x": x, "weight": weight, "bias": bias, "target": target, "class_offset": class_offset})
    problem = linear(x, weight, bias, block)
    z = problem.logits(problem.rows)
    like = Description(z.shape, z.strides, z.dtype, device)
    return LinearStatistics(problem, statistics_of_logits(z, like, target, -1, options, device, class_offset, None))


def _output(
    said: str,
    out: Argument,
    x: Argument,
    shape: tuple[int, ...],
    like: str,
    read: Mapping[str, tuple[Operand | None, bool]],
) -> Operand:
    """An output, checked: of some shape, and of the library and dtype of the features."""
    about, dtype = _same_kind(said, out, x), x.description.dtype
    rules.output(said, (*about[:3], about.readonly), shape, dtype, SIZES[dtype], f"an array like {like}")
    row_wise(said, out, shape, FLOATS)
    rules.undisturbed(said, flat(out), read)
    return flat(out)


def _outputs(arguments: Arguments, out: dict[str, Argument]) -> None:
    """Refuse outputs that do not fit, or lie where something is still to be read."""
    read = {name: flat(argument) for name, argument in arguments._asdict().items() if argument is not None}
    for name, argument in out.items():
        said = f"out[{name!r}]"
        shape = getattr(arguments, name).description.shape
        in_place = {other: (operand, name == other == "x") for other, operand in read.items()}
        read[said] = _output(said, argument, arguments.x, shape, name, in_place)


def proba(x: Argument, weight: Argument, bias: Argument | None, out: Argument | None) -> Linear:
    """The logits of all rows, to be written where their probabilities go."""
    together({"x": x, "weight": weight, "bias": bias, "out": out})
    problem = linear(x, weight, bias)
    if out is not None:
        read = {name: (a and flat(a), False) for name, a in {"x": x, "weight": weight, "bias": bias}.items()}
        _output("out", out, x, (problem.rows, problem.classes), "the logits", read)
    return problem._replace(chunk=max(problem.rows, 1), pitch=problem.classes)


def hessian(
    x: Argument,
    weight: Argument,
    bias: Argument | None,
    along: Argument,
    bias_along: Argument | None,
    sample_weight: Argument | None,
    *,
    reduction: Any,
) -> Linear:
    """The logits of a product with the Hessian, of features, weights, bias, and the direction of both."""
    multiplied = {"x": x, "weight": weight, "bias": bias, "weight_direction": along, "bias_direction": bias_along}
    together(multiplied | {"sample_weight": sample_weight})
    problem = linear(x, weight, bias)
    shape = _same_kind("weight_direction", along, x).shape
    rules.direction(weight.description.shape, shape, (bias, bias_along), reduction)
    if bias_along is not None:
        rules.bias_shape(_same_kind("bias_direction", bias_along, x).shape, problem.classes, "bias_direction")
    if sample_weight is not None:
        _same_library("sample_weight", sample_weight, x)
    check.weights("sample_weight", sample_weight, (problem.rows,), "a row", computed(problem.dtype))
    # Logits and their derivatives are there at the same time.
    return problem._replace(chunk=chunk_rows(problem.rows, 2 * problem.classes, SIZES[problem.dtype]))
