"""Linear passes on a GPU: who computes them, whether it is right, and what their products alone take.

Loss and gradients by features and weights, from features that are there: PyTorch makes all logits, Liger and this
library a chunk of them at a time.
"""

import functools
import importlib
from collections.abc import Callable, Collection
from typing import Any, NamedTuple

import numpy as np

from ... import reference
from ...api import linear
from .. import by_torch, inputs
from ..cases import ITEMSIZE, Case
from ..results import LIGER, OURS, TORCH
from ..timing import Call, Turn
from ..unable import Unable
from .contestants import checked
from .gpu import Array, Gpu

DISTINCT, BLOCK = 8, 1000  # rows of features, and of weights, after which they repeat
KEPT = 12  # bytes a logit of bfloat16 that PyTorch keeps: logits, what their softmax is made of, gradients
OTHERS = 64  # classes without a label whose gradient is looked at


class Drawn(NamedTuple):
    """The inputs that the contestants of a case share, and the host's rows that they repeat."""

    gpu: Gpu
    rows: Array
    block: Array
    labels: Array
    x: Any
    weight: Any
    target: Any


def features(case: Case) -> int:
    """The number of features."""
    return int(case.option.removeprefix("d="))


def drawn(gpu: Gpu, case: Case) -> Drawn:
    """The same numbers every time, with logits of the size of 1."""
    (n, classes), d, random = case.shape, features(case), np.random.default_rng(0)
    dtype = inputs.native(case.dtype)
    rows = random.standard_normal((min(n, DISTINCT), d), np.float32).astype(dtype)
    block = (random.standard_normal((min(classes, BLOCK), d), np.float32) / d**0.5).astype(dtype)
    labels = random.integers(0, classes, len(rows))
    repeated = gpu.repeated(rows, n), gpu.repeated(block, classes), gpu.repeated(labels, n)
    return Drawn(gpu, rows, block, labels, *repeated)


def room(case: Case) -> int:
    """Bytes that a case takes, at most: what PyTorch keeps, weights and their gradients, features and theirs."""
    (n, classes), size = case.shape, ITEMSIZE[case.dtype]
    return size * (KEPT // 2 * n * classes + features(case) * (4 * classes + 4 * n))


def _ours(d: Drawn) -> Call:
    return functools.partial(linear.linear_cross_entropy_and_grad, d.x, d.weight, d.target, wrt=("x", "weight"))


def _by_autograd(d: Drawn, loss: Callable[[Any, Any, Any], Any]) -> Call:
    """A loss of two leaves, and its gradients."""
    if not d.gpu.tensors:
        raise Unable(d.gpu.absent.get("torch", "it takes tensors of torch"))
    torch, target = by_torch.module(), by_torch.tensor(d.target)
    x, weight = (by_torch.tensor(a).requires_grad_() for a in (d.x, d.weight))

    def loss_and_grad() -> object:
        value = loss(x, weight, target)
        return value, *torch.autograd.grad(value, (x, weight))

    return loss_and_grad


def _torch(d: Drawn) -> Call:
    def loss(x: Any, weight: Any, target: Any) -> Any:
        functional = by_torch.module().nn.functional
        return functional.cross_entropy(functional.linear(x, weight), target)

    return _by_autograd(d, loss)


def _liger(d: Drawn) -> Call:
    module = importlib.import_module("liger_kernel.transformers.fused_linear_cross_entropy")
    fused = module.LigerFusedLinearCrossEntropyLoss()
    return _by_autograd(d, lambda x, weight, target: fused(weight, x, target))


CONTESTANTS: dict[str, Callable[[Drawn], Call]] = {OURS: _ours, TORCH: _torch, LIGER: _liger}


def products(d: Drawn) -> Call:
    """The three products that no pass does without, of all rows at once."""
    x, weight = (by_torch.tensor(a) if d.gpu.tensors else a for a in (d.x, d.weight))
    logits = x @ weight.T
    return lambda: (x @ weight.T, logits.T @ x, logits @ weight)


class Expected(NamedTuple):
    """In float64: the loss, the gradient of the distinct rows, and that of some classes."""

    loss: Any
    grad_x: Array
    classes: Array
    grad_weight: Array


def expected(case: Case, d: Drawn) -> Expected:
    """From the distinct rows of features and weights alone."""
    (n, classes), part = case.shape, len(d.block)
    x, block = d.rows.astype(np.float64), d.block.astype(np.float64)
    z = np.tile(x @ block.T, -(-classes // part))[:, :classes]
    counts = np.bincount(np.arange(n) % len(x), minlength=len(x))
    loss, grad = reference.cross_entropy_and_grad(z, d.labels, sample_weight=counts)
    folded = np.pad(grad, ((0, 0), (0, -classes % part))).reshape(len(x), -1, part).sum(axis=1)
    some = np.unique([*d.labels, *range(min(classes, OTHERS)), classes - 1])
    return Expected(loss, folded @ block / counts[:, None], some, grad[:, some].T @ x)


def disagreement(case: Case, d: Drawn, result: Any, right: Expected) -> str:
    """The fault of a result, if any: gradients are large for classes that labels name, and small for others."""
    loss, grad_x, grad_weight = (d.gpu.host(a) for a in (result[0], result[1][: len(d.rows)], result[2][right.classes]))
    named = np.isin(right.classes, d.labels)
    pairs = {
        "the loss": (loss, right.loss),
        "the features' gradient": (grad_x, right.grad_x),
        "the weights' gradient": (grad_weight[named], right.grad_weight[named]),
        "the weights' gradient of other classes": (grad_weight[~named], right.grad_weight[~named]),
    }
    for name, (numbers, exact) in pairs.items():
        if inputs.off(numbers, exact, case.dtype):
            return f"wrong: {name} is off by up to {np.abs(numbers - exact).max():.3g}"
    spread, most = d.gpu.spread(result[1], len(d.rows)), inputs.TOLERANCE[case.dtype] * np.abs(right.grad_x).max()
    return "" if spread <= most else f"wrong: gradients of the same features differ by up to {spread:.3g}"


def prepared(
    case: Case, d: Drawn, names: Collection[str], turn: Turn = lambda: None, late: Callable[[], bool] = lambda: False
) -> tuple[dict[str, Call], dict[str, str]]:
    """The calls of a linear pass, as `contestants.prepared` has those of logits."""
    right = expected(case, d)
    return checked(
        names, lambda name: CONTESTANTS[name](d), lambda _, result: disagreement(case, d, result, right), turn, late
    )
