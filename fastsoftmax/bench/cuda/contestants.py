"""The table of contestants on a GPU: how each computes a case, and whether it has computed the right thing."""

import functools
import importlib
import warnings
from collections.abc import Callable, Collection
from typing import Any, NamedTuple

import numpy as np

from ...api import cross_entropy, softmax
from .. import by_torch, inputs
from ..cases import LOSS, LOSSES, SOFTMAX, Case
from ..inputs import DISTINCT, TOLERANCE, Inputs
from ..results import COMPILED, IN_PLACE, INTO, LIGER, OURS, QUACK, QUACK_FUSED, TORCH
from ..timing import Call, Turn
from ..unable import Unable, attempted
from .gpu import Array, Gpu

LATE = "the time for this case was over before it could be prepared"


class Drawn(NamedTuple):
    """The inputs that the contestants of a case share on a GPU; a contestant that writes to them makes a copy."""

    gpu: Gpu
    rows: Inputs  # the distinct ones, the host's
    x: Any
    target: Any

    @property
    def on_gpu(self) -> Inputs:
        """The arrays on the GPU, as the contestants of the CPU's table have theirs."""
        return self.rows._replace(x=self.x, target=self.target)


def drawn(gpu: Gpu, case: Case) -> Drawn:
    """The same numbers every time; rows repeat after some, and their labels with them."""
    rows, classes = case.shape
    distinct = max(1, min(rows, DISTINCT // classes))
    some = inputs.inputs(case._replace(shape=(distinct, classes)))
    return Drawn(gpu, some, gpu.repeated(some.x, rows), gpu.repeated(some.target, rows))


def _of_ours(case: Case, d: Drawn, x: Any, **out: Any) -> Call:
    module, arguments = (cross_entropy, (x, d.target)) if case.function in LOSSES else (softmax, (x,))
    return functools.partial(getattr(module, case.function), *arguments, **out)


def _ours(case: Case, d: Drawn) -> Call:
    return _of_ours(case, d, d.x)


def _into(case: Case, d: Drawn) -> Call:
    return _of_ours(case, d, d.x, out=d.gpu.empty(d.x, d.x.shape[0]))


def _in_place(case: Case, d: Drawn) -> Call:
    """Each call takes what the last one left: numbers of which the next gradient is as good."""
    x = d.gpu.copied(d.x)
    return _of_ours(case, d, x, out=x)


def _tensors(d: Drawn) -> Any:
    """PyTorch, where arrays are its tensors."""
    if not d.gpu.tensors:
        raise Unable(d.gpu.absent.get("torch", "it takes tensors of torch"))
    return by_torch.module()


def _torch(case: Case, d: Drawn) -> Call:
    _tensors(d)
    return by_torch.eager(case, [d.on_gpu])[0]


def _compiled(case: Case, d: Drawn) -> Call:
    _tensors(d)
    return by_torch.compiled(case, [d.on_gpu])[0]


def _through_autograd(case: Case, d: Drawn, x: Any, loss: Callable[[Any, Any], Any]) -> Call:
    """A loss of a leaf, and its gradient where that is the case."""
    torch, target = _tensors(d), by_torch.tensor(d.target)
    if case.function == LOSS:
        return lambda: loss(x, target)
    leaf = x.requires_grad_()

    def loss_and_grad() -> object:
        value = loss(leaf, target)
        return value, torch.autograd.grad(value, leaf)[0]

    return loss_and_grad


def _liger(case: Case, d: Drawn) -> Call:
    """The loss writes its gradient over the logits: each call takes what the last one left."""
    _tensors(d)
    if case.function == SOFTMAX:
        softmax, x = importlib.import_module("liger_kernel.transformers.softmax").LigerSoftmax(), by_torch.tensor(d.x)
        return lambda: softmax(x)
    loss = importlib.import_module("liger_kernel.transformers.cross_entropy").LigerCrossEntropyLoss()
    return _through_autograd(case, d, by_torch.tensor(d.x).clone(), loss)


def _quack(case: Case, d: Drawn) -> Call:
    """The loss keeps the logarithms of the sums; its gradient is a second kernel."""
    _tensors(d)
    if case.function == SOFTMAX:
        softmax, x = importlib.import_module("quack.softmax").softmax, by_torch.tensor(d.x)
        return lambda: softmax(x)
    loss = functools.partial(importlib.import_module("quack.cross_entropy").cross_entropy, reduction="mean")
    return _through_autograd(case, d, by_torch.tensor(d.x), loss)


def _quack_fused(_: Case, d: Drawn) -> Call:
    _tensors(d)
    forward, x = importlib.import_module("quack.cross_entropy").cross_entropy_fwd, by_torch.tensor(d.x)
    return functools.partial(forward, x, by_torch.tensor(d.target), return_dx=True)


def _mean(result: Any) -> Any:
    """The mean of losses of rows, and its gradient."""
    losses, grad = result
    return losses.float().mean(), grad.float() / len(losses)


class Contestant(NamedTuple):
    """A way to compute a case, and what makes the result the expected one, outside what is timed."""

    make: Callable[[Case, Drawn], Call]
    finish: Callable[[Any], Any] = lambda result: result


CONTESTANTS = {
    OURS: Contestant(_ours),
    INTO: Contestant(_into),
    IN_PLACE: Contestant(_in_place),
    TORCH: Contestant(_torch),
    QUACK: Contestant(_quack),
    QUACK_FUSED: Contestant(_quack_fused, _mean),
    LIGER: Contestant(_liger),
    COMPILED: Contestant(_compiled),
}


def disagreement(case: Case, d: Drawn, result: Any, right: tuple[Any, Array | None]) -> str:
    """The fault of a result, if any: distinct rows are compared with the reference, all others with those."""
    (loss, rows), (value, numbers) = right, inputs.parts(case, result)
    if loss is not None:
        computed = d.gpu.host(value)
        if inputs.off(computed, loss, case.dtype):
            return f"wrong: a loss of {float(computed):.6g} where it is {float(loss):.6g}"
    if rows is None:
        return ""
    distinct = len(rows)
    first = d.gpu.host(numbers[:distinct])
    if inputs.off(first, rows, case.dtype):
        return f"wrong: numbers off by up to {np.abs(first - rows).max():.3g}"
    spread, most = d.gpu.spread(numbers, distinct), TOLERANCE[case.dtype] * float(np.abs(rows).max())
    return "" if spread <= most else f"wrong: rows of the same logits differ by up to {spread:.3g}"


def checked(
    names: Collection[str],
    call_of: Callable[[str], Call],
    fault_of: Callable[[str, Any], str],
    turn: Turn,
    late: Callable[[], bool],
) -> tuple[dict[str, Call], dict[str, str]]:
    """The calls of contestants, each checked and warm, and why others have none; without time left, ours alone."""

    def attempt(name: str) -> Call:
        if late() and not name.startswith(OURS):
            raise Unable(LATE)
        with warnings.catch_warnings():  # torch's compiler has some about itself
            warnings.simplefilter("ignore")
            call = call_of(name)
            result = call()
        if wrong := fault_of(name, result):
            raise Unable(wrong)
        return call

    return attempted({name: functools.partial(attempt, name) for name in names}, turn)


def prepared(
    case: Case, d: Drawn, names: Collection[str], turn: Turn = lambda: None, late: Callable[[], bool] = lambda: False
) -> tuple[dict[str, Call], dict[str, str]]:
    """The calls of a case, checked and warm, and why others of `names` have none.

    Where it is `late`, only our own are prepared.
    """
    right = inputs.expected_of(case, d.rows, case.shape[0])

    def fault(name: str, result: Any) -> str:
        return disagreement(case, d, CONTESTANTS[name].finish(result), right)

    return checked(names, lambda name: CONTESTANTS[name].make(case, d), fault, turn, late)
