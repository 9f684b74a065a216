"""The functions as users of PyTorch write them, eager and compiled."""

import functools
import importlib
import math
from typing import Any

import numpy as np

from .cases import AXIS_0, LOSS, LOSS_AND_GRAD, Case
from .inputs import Inputs
from .timing import Call
from .unable import Unable

#: Arguments of F.cross_entropy by those of ours.
ARGUMENTS = {"class_weight": "weight", "label_smoothing": "label_smoothing", "ignore_index": "ignore_index"}
ARGUMENTS |= {"where": "where", "class_offset": "class_offset"}  # which adjust its logits


def module() -> Any:
    """PyTorch."""
    return importlib.import_module("torch")


def tensor(array: Any) -> Any:
    """A tensor that shares an array's memory, or a tensor's without what autograd knows of it."""
    torch = module()
    if isinstance(array, torch.Tensor):
        return array.detach()
    if array.dtype.name == "bfloat16":  # which from_numpy does not know
        return torch.from_numpy(array.view(np.uint16)).view(torch.bfloat16)
    return torch.from_numpy(array)


def _function(case: Case, options: dict[str, Any]) -> Any:
    """The function of logits (and targets) to call, or to compile."""
    torch = module()
    if case.function in {LOSS, LOSS_AND_GRAD}:
        where, offset = options.pop("where", None), options.pop("class_offset", None)

        def loss(x: Any, target: Any) -> Any:
            x = x if where is None else x.masked_fill(~where, -math.inf)
            x = x if offset is None else x + offset
            return torch.nn.functional.cross_entropy(x, target, **options)

        return loss
    return {
        "softmax": lambda x: torch.softmax(x, -1),
        "log_softmax": lambda x: torch.log_softmax(x, -1),
        "logsumexp": lambda x: torch.logsumexp(x, -1),
    }[case.function]


def _options(case: Case, d: Inputs) -> dict[str, Any]:
    if unknown := set(d.options) - set(ARGUMENTS):
        raise Unable(f"torch's cross_entropy has no {', '.join(sorted(unknown))}")
    return {ARGUMENTS[name]: tensor(o) if isinstance(o, np.ndarray) else o for name, o in d.options.items()}


def _calls(case: Case, sets: list[Inputs], *, compile_: bool) -> list[Call]:
    """A call for each set of inputs."""
    torch = module()
    function = _function(case, _options(case, sets[0]))
    if compile_:
        torch.compiler.reset()  # after some recompilations of one piece of code it would fall back to eager mode
        function = torch.compile(function, dynamic=False)
    return [_call(case, d, function) for d in sets]


def ours(case: Case, sets: list[Inputs], *, compile_: bool = False) -> list[Call]:
    """Our loss of tensors, whose gradient comes from autograd as torch's own does."""
    torch = module()
    loss = importlib.import_module("..torch", __package__).cross_entropy
    if compile_:
        torch.compiler.reset()
        loss = torch.compile(loss, dynamic=False, fullgraph=True)
    return [_call(case, d, functools.partial(loss, **_options(case, d))) for d in sets]


def _call(case: Case, d: Inputs, function: Any) -> Call:
    """The gradient is a fresh tensor each time: autograd.grad does not touch a leaf's own."""
    torch, x = module(), tensor(d.x)
    if case.function == LOSS_AND_GRAD:
        target = tensor(d.target)
        leaf = (x.T if case.layout == AXIS_0 else x).requires_grad_()

        def loss_and_grad() -> object:
            loss = function(leaf.T if case.layout == AXIS_0 else leaf, target)
            return loss, torch.autograd.grad(loss, leaf)[0]

        return loss_and_grad
    if case.function == LOSS:
        target = tensor(d.target)
        return lambda: function(x, target)
    return lambda: function(x)


def eager(case: Case, sets: list[Inputs]) -> list[Call]:
    """As it stands."""
    return _calls(case, sets, compile_=False)


def compiled(case: Case, sets: list[Inputs]) -> list[Call]:
    """The forward function compiled; autograd compiles the backward one with it."""
    return _calls(case, sets, compile_=True)
