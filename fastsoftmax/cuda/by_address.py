"""Kernels by raw addresses: prepared for shapes and dtypes once, launched on any stream as often as one likes."""

import operator
from collections.abc import Mapping
from typing import Any, NamedTuple

from ..core.dtypes import FLOATS, LABELS, LOG_SOFTMAX, LOGSUMEXP, SIZES, SOFTMAX, computed, named, readable_beside
from ..core.memo import Memo
from ..core.options import Options, in_precision
from ..core.options import options as checked
from ..core.strides import Operand, contiguous, overlapping
from ..core.untraced import untraced
from .adjust import Adjust
from .check import Loss, Map
from .run import LossCall, MapCall
from .workspace import Workspace


class Function(NamedTuple):
    """The name of a function's kernel, and its operands: those it always has, and those it may have."""

    kernel: str
    variant: int
    needs: tuple[str, ...]
    may: tuple[str, ...] = ()


_WEIGHTS, _ADJUST = ("class_weight", "sample_weight"), ("class_offset", "where")
FUNCTIONS = {
    "softmax": Function("softmax", SOFTMAX, ("x", "out"), ("where",)),
    "log_softmax": Function("softmax", LOG_SOFTMAX, ("x", "out"), ("where",)),
    "logsumexp": Function("softmax", LOGSUMEXP, ("x", "result"), ("where",)),
    "softmax_vjp": Function("vjp", SOFTMAX, ("y", "grad", "out")),
    "log_softmax_vjp": Function("vjp", LOG_SOFTMAX, ("y", "grad", "out")),
    "cross_entropy": Function("cross_entropy", 0, ("logits", "target", "loss"), (*_WEIGHTS, *_ADJUST)),
    "cross_entropy_and_grad": Function(
        "cross_entropy", 1, ("logits", "target", "loss", "out"), (*_WEIGHTS, "grad_output", *_ADJUST)
    ),
}
_PLACES = ("logits", "target", "out", *_WEIGHTS, "grad_output", *_ADJUST, "loss")  # as a loss takes addresses
_WIDE = ("x", "y", "logits", "grad", "out")  # operands with all classes, and so with strides


def launcher(
    function: str,
    shape: tuple[int, ...],
    dtype: Any,
    *,
    device: int = 0,
    operands: tuple[str, ...] = (),
    strides: Mapping[str, tuple[int, ...]] | None = None,
    target_dtype: Any = "int64",
    **options: Any,
) -> "Launcher":
    """Prepare a function of the library for raw addresses: compile and load its kernels, reserve its memory.

    Row statistics, gradient and Hessian, divergences and linear functions are left out: they take arrays, such as
    objects with the CUDA array interface, and with `out` allocate little.

    Parameters
    ----------
    function : str
        The name of a function: "softmax", "log_softmax", "logsumexp", "softmax_vjp", "log_softmax_vjp",
        "cross_entropy" or "cross_entropy_and_grad".
    shape : tuple of int
        The shape of the logits, with the classes in the last axis.
    dtype : dtype or str
        Their dtype: "float16", "bfloat16", "float32" or "float64".
    device : int, default 0
        The number of the GPU.
    operands : tuple of str, default ()
        Which of the arrays that may be left out are there: "class_weight", "sample_weight", "grad_output",
        "class_offset" of a loss, "where" (bytes, in the shape of the logits) of all but the products.
    strides : mapping of str to tuple of int, optional
        Strides in bytes of logits, second operand, output or mask, by name, where they are not C-contiguous; those of
        a mask may be 0.
    target_dtype : dtype or str, default "int64"
        "int64" or "int32" for class indices; the dtype of probabilities for those.
    **options
        The options of a loss, as for `fastsoftmax.cross_entropy`: `reduction`, `label_smoothing`, ...

    Returns
    -------
    Launcher
        A function of a stream and addresses.

    Raises
    ------
    Missing
        If numba-cuda or NVIDIA's driver is not installed; the message names the command that installs them.
    TypeError, ValueError
        If an argument is unsuitable; the message says which.

    Examples
    --------
    >>> launch = launcher("cross_entropy_and_grad", (4096, 32000), "bfloat16")  # doctest: +SKIP
    >>> launch.warm_up(stream)  # doctest: +SKIP
    >>> launch(stream, logits=x.data.ptr, target=y.data.ptr, out=x.data.ptr, loss=loss.data.ptr)  # doctest: +SKIP
    """
    if function not in FUNCTIONS:
        raise ValueError(f"function must be one of {', '.join(map(repr, FUNCTIONS))}, got {function!r}")
    unknown = [name for name in operands if name not in FUNCTIONS[function].may]
    if unknown:
        raise ValueError(f"operands must be some of {FUNCTIONS[function].may} for {function}, got {unknown[0]!r}")
    sizes = tuple(operator.index(n) for n in shape)
    if not sizes or any(n < (1 if axis == len(sizes) - 1 else 0) for axis, n in enumerate(sizes)):
        raise ValueError(f"shape must have at least one class in its last axis, got {shape}")
    return Launcher(function, sizes, dtype, device, tuple(operands), dict(strides or {}), target_dtype, options)


def _name(what: str, dtype: Any, allowed: tuple[str, ...]) -> str:
    name = named(dtype)
    if name not in allowed:
        raise TypeError(f"{what} must be {' or '.join(allowed)}, got {dtype!r}")
    return name


class Launcher:
    """A function of the library for one shape, on raw addresses; made by `launcher`.

    It has a workspace of its own: its launches have to follow one another, on one stream or on several that wait for
    each other.  What runs at the same time (two graphs, say) takes a launcher each.
    """

    def __init__(
        self,
        function: str,
        shape: tuple[int, ...],
        dtype: Any,
        device: int,
        operands: tuple[str, ...],
        strides: dict[str, tuple[int, ...]],
        target_dtype: Any,
        options: dict[str, Any],
    ) -> None:
        self.name, self.shape, self.device, self.function = function, shape, device, FUNCTIONS[function]
        self.dtype = _name("dtype", dtype, FLOATS)
        self.names = (*self.function.needs, *operands)
        self.loss = self.function.kernel == "cross_entropy"
        if options and not self.loss:
            raise TypeError(f"{function} has no options, got {next(iter(options))!r}")
        self.options = in_precision(_options(options), computed(self.dtype)) if self.loss else None
        self.target = _name("target_dtype", target_dtype, (*LABELS, *readable_beside(self.dtype))) if self.loss else ""
        self.hard = self.target.startswith("int")
        # The operands that have all classes, in their order.
        wide = [n for n in self.function.needs if n in _WIDE or (n == "target" and not self.hard)]
        self.dtypes = {name: self.target if name == "target" else self.dtype for name in wide}
        self.strides = {name: self._strides(name, strides.pop(name, None)) for name in wide}
        masks = ["where"] if "where" in operands else []
        self.masks = tuple(self._strides(name, strides.pop(name, None)) for name in masks)
        if strides:
            raise ValueError(f"strides must be of {', '.join(wide + masks)}, got {next(iter(strides))!r}")
        self._calls: Memo[tuple[int, ...], Any] = Memo()
        self._workspace = Workspace(device)
        self._call((0,) * len(wide))

    def _strides(self, name: str, strides: tuple[int, ...] | None) -> tuple[int, ...]:
        size = SIZES[self.dtypes[name]] if name in self.dtypes else 1  # of a mask
        if strides is None:
            return contiguous(self.shape, size)
        if len(strides) != len(self.shape) or any(s % size for s in strides):
            raise ValueError(
                f"strides of {name} must be {len(self.shape)} numbers of bytes, multiples of {size}, got {strides}"
            )
        if name == "out" and overlapping(self.shape, tuple(strides), size):
            raise ValueError(
                f"strides of out must give each element a place of its own, got {strides} for {self.shape}"
            )
        return tuple(strides)

    def _call(self, remainders: tuple[int, ...]) -> Any:
        """The prepared call for addresses with these remainders modulo 16."""
        return self._calls.get(remainders) or self._calls.keep(remainders, self._prepare(remainders))

    def _prepare(self, remainders: tuple[int, ...]) -> Any:
        operands = {}
        for (name, dtype), at in zip(self.dtypes.items(), remainders, strict=True):
            size = SIZES[dtype]
            if at % size:
                raise ValueError(f"{name} must be at a multiple of {size} bytes, got an address that ends in {at:#x}")
            operands[name] = Operand(self.shape, self.strides[name], dtype, at)
        kernel, variant, needs, _ = self.function
        mask = Operand(self.shape, self.masks[0], "bool", 0) if self.masks else None
        adjust = Adjust("class_offset" in self.names, mask)
        if not self.loss:
            rows = Map(operands[needs[0]], operands.get("grad"), operands.get("out"), self.device, adjust)
            return MapCall(rows, kernel, variant, numbers="result" in self.names)
        assert self.options is not None
        weighted, factor, up = (name in self.names for name in (*_WEIGHTS, "grad_output"))
        x, soft, out = operands["logits"], operands.get("target"), operands.get("out")
        label = SIZES[self.target] if self.hard else 8
        problem = Loss(x, soft, out, weighted, factor, up, self.options, variant == 1, self.device, label)
        call = LossCall(problem._replace(adjust=adjust))
        call.state_for(0, self._workspace)
        return call

    def warm_up(self, stream: int) -> None:
        """Launch everything once with nothing to do, so that the driver has loaded it: do this before a capture.

        Parameters
        ----------
        stream : int
            The handle of a stream that is not being captured: the one that the launches go to, or one that they wait
            for, as the workspace is written to.
        """
        for call in self._calls.values():
            call.launch_empty(stream)

    def __call__(self, stream: int, **addresses: int) -> None:
        """Put the function on a stream.

        Parameters
        ----------
        stream : int
            The stream's handle; 0 is the default stream.
        **addresses
            The address of each operand, by the names of the function's arguments; `out` for the result or the
            gradient, `loss` for the loss (a number, or one a row for the reduction "none"), `result` for what
            `logsumexp` gives.  They must be multiples of the element's size.  Those that are no multiples of 16 take
            other kernels, which are prepared at their first launch: launch once before a capture.
        """
        if addresses.keys() != set(self.names):
            missing = [n for n in self.names if n not in addresses] or [n for n in addresses if n not in self.names]
            raise TypeError(f"{self.name} takes the addresses {', '.join(self.names)}; see to {missing[0]!r}")
        if 0 in addresses.values() and 0 not in self.shape:
            missing = [name for name, address in addresses.items() if address == 0]
            raise ValueError(f"{missing[0]} must have memory on the GPU, got the address 0 for the shape {self.shape}")
        call = self._call(tuple([addresses[name] & 15 for name in self.dtypes]))
        if self.loss:
            at = tuple([addresses.get(name, 0) for name in _PLACES])
            call(at, stream, call.states.get(stream) or call.state_for(stream, self._workspace))
            return
        y, out, result, mask = (addresses.get(name, 0) for name in ("grad", "out", "result", "where"))
        call(addresses[self.function.needs[0]], y, out, result, stream, mask)


def _options(options: dict[str, Any]) -> Options:
    """The checked options of a loss."""
    unknown = [name for name in options if name not in Options._fields]
    if unknown:
        raise TypeError(f"a loss has the options {', '.join(Options._fields)}, got {unknown[0]!r}")
    return checked(*{**Options._field_defaults, **options}.values())


untraced(Launcher.__call__, Launcher.warm_up)
