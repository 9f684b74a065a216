"""The contestants of the linear cases.  One whose package is not installed is left out by name."""

import contextlib
import warnings
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numba
import numpy as np
import scipy.sparse
import threadpoolctl

from fastsoftmax import system
from fastsoftmax.api import linear
from fastsoftmax.bench import results
from fastsoftmax.bench.cpu import by_numpy
from fastsoftmax.bench.timing import Call

from .cases import FIT, LOSS, MEMORY, PREDICT, Case, Data, Missing, module

OURS, NUMPY, SKLEARN, SKLEARN_1 = results.OURS, results.NUMPY, results.SKLEARN, "scikit-learn, 1 thread"
TIGHTER = (
    f"{OURS}, tol=1e-5"  # a tenth of the default, for where that stops at a larger objective than scikit-learn does
)
CHUNKED, EAGER, PRODUCTS = "torch, chunked", "torch, eager", "bare products"
THROUGH_TORCH = results.THROUGH_TORCH

FEW_ITERATIONS = 3  # of a fit whose memory is measured: all that it holds is held by then
MAX_ITER = 1000  # of the fits that are timed: enough for everybody to stop for having converged


def _ours_loss(d: Data) -> Call:
    def call() -> object:
        loss, _, grad_weight, grad_bias = linear.linear_cross_entropy_and_grad(d.x, d.weight, d.target, d.bias)
        return loss, grad_weight, grad_bias

    return call


def _sklearn_loss(d: Data, threads: int | None = None) -> Call:
    """The private function that every solver of LogisticRegression calls, which does so with one thread."""
    losses, models = module("sklearn._loss.loss"), module("sklearn.linear_model._linear_loss")
    model = models.LinearModelLoss(losses.HalfMultinomialLoss(n_classes=len(d.weight)), fit_intercept=True)
    coef, target = np.asfortranarray(np.c_[d.weight, d.bias]), d.target.astype(d.weight.dtype)
    threads = threads or numba.get_num_threads()

    def call() -> object:
        loss, grad = model.loss_gradient(coef, d.x, target, n_threads=threads)
        return loss, grad[:, :-1], grad[:, -1]

    return call


def _numpy_loss(d: Data) -> Call:
    """As one writes it: all logits, softmax and loss fused by hand, and the products around them."""

    def call() -> object:
        loss, grad = by_numpy.loss_and_grad(d.x @ d.weight.T + d.bias, d.target)
        return loss, (d.x.T @ grad).T, grad.sum(axis=0)

    return call


def _chunked(x: Any, weight: Any, target: Any, bias: Any) -> Any:
    """The loss by torch, which computes some of the logits at a time."""
    torch = module("torch")
    function = getattr(torch.nn.functional, "linear_cross_entropy", None)
    if function is None:
        raise Missing(f"torch {torch.__version__} has no linear_cross_entropy")
    return function(x, weight, target, linear_bias=bias, options=torch.nn.LinearCrossEntropyOptions())


def _eager(x: Any, weight: Any, target: Any, bias: Any) -> Any:
    """The loss as torch's users write it."""
    functional = module("torch").nn.functional
    return functional.cross_entropy(functional.linear(x, weight, bias), target)


def _through_torch(x: Any, weight: Any, target: Any, bias: Any) -> Any:
    """Our loss of tensors."""
    return module("fastsoftmax.torch").linear_cross_entropy(x, weight, target, bias)


def _torch_loss(d: Data, loss: Callable[..., Any]) -> Call:
    """A loss of tensors and its backward pass."""
    torch = module("torch")
    x, target = torch.from_numpy(d.x), torch.from_numpy(d.target)
    weight, bias = (torch.from_numpy(a).requires_grad_() for a in (d.weight, d.bias))
    loss(x[:1], weight, target[:1], bias)  # which says what is missing

    def call() -> object:
        weight.grad = bias.grad = None
        found = loss(x, weight, target, bias)
        found.backward()
        return found.item(), weight.grad.numpy(), bias.grad.numpy()

    return call


def _products(d: Data, *, gradient: bool) -> Call:
    """The matrix products alone, the first into the logits, the other from them, in memory that is there already."""
    if scipy.sparse.issparse(d.x):
        ones = np.ones((d.x.shape[0], len(d.weight)), d.weight.dtype)
        return lambda: (d.x @ d.weight.T, d.x.T @ ones)
    z, grad = np.zeros((len(d.x), len(d.weight)), d.weight.dtype), np.zeros_like(d.weight)

    def call() -> object:
        np.matmul(d.x, d.weight.T, out=z)
        return np.matmul(z.T, d.x, out=grad) if gradient else None

    return call


def _numpy_predict(d: Data) -> Call:
    return lambda: (d.x @ d.weight.T + d.bias).argmax(axis=1)


def _sklearn_predict(d: Data) -> Call:
    model = module("sklearn.linear_model").LogisticRegression()
    model.coef_, model.intercept_, model.classes_ = d.weight, d.bias, np.arange(len(d.weight))
    return lambda: model.predict(d.x)


def _torch_predict(d: Data) -> Call:
    torch = module("torch")
    x, weight, bias = (torch.from_numpy(a) for a in (d.x, d.weight, d.bias))
    return lambda: torch.nn.functional.linear(x, weight, bias).argmax(dim=1).numpy()


def _fit(d: Data, package: str, name: str, max_iter: int = MAX_ITER, tol: float = 1e-4) -> Call:
    """A classifier with every option at its default but the number of iterations, and perhaps the tolerance."""
    module("sklearn")
    make = getattr(module(package), name, None)
    if make is None:
        raise Missing(f"{package} has no {name}")

    def call() -> object:
        with warnings.catch_warnings():
            if max_iter == FEW_ITERATIONS:
                warnings.filterwarnings("ignore", "(?s).*(converge|ITERATIONS)")
            return make(max_iter=max_iter, tol=tol).fit(d.x, d.target)

    return call


Make = Callable[[Data], Call]


class Contestant(NamedTuple):
    """A way to compute an operation."""

    name: str
    operation: str
    make: Make
    dense_only: bool = False
    most_logits: float = np.inf  # what takes longer than its number is worth is left out


OUR_CLASSIFIER, THEIR_CLASSIFIER = ("fastsoftmax", "SoftmaxRegression"), ("sklearn.linear_model", "LogisticRegression")

CONTESTANTS = (
    Contestant(OURS, LOSS, _ours_loss),
    Contestant(SKLEARN, LOSS, _sklearn_loss),
    Contestant(SKLEARN_1, LOSS, lambda d: _sklearn_loss(d, 1), most_logits=1e8),
    Contestant(THROUGH_TORCH, LOSS, lambda d: _torch_loss(d, _through_torch), dense_only=True),
    Contestant(CHUNKED, LOSS, lambda d: _torch_loss(d, _chunked), dense_only=True),
    Contestant(EAGER, LOSS, lambda d: _torch_loss(d, _eager), dense_only=True),
    Contestant(NUMPY, LOSS, _numpy_loss, most_logits=1e8),
    Contestant(PRODUCTS, LOSS, lambda d: _products(d, gradient=True)),
    Contestant(OURS, PREDICT, lambda d: lambda: linear.linear_predict(d.x, d.weight, d.bias)),
    Contestant(SKLEARN, PREDICT, _sklearn_predict),
    Contestant(NUMPY, PREDICT, _numpy_predict),
    Contestant(EAGER, PREDICT, _torch_predict, dense_only=True),
    Contestant(PRODUCTS, PREDICT, lambda d: _products(d, gradient=False)),
    Contestant(OURS, FIT, lambda d: _fit(d, *OUR_CLASSIFIER)),
    Contestant(TIGHTER, FIT, lambda d: _fit(d, *OUR_CLASSIFIER, tol=1e-5)),
    Contestant(SKLEARN, FIT, lambda d: _fit(d, *THEIR_CLASSIFIER)),
    Contestant(OURS, MEMORY, lambda d: _fit(d, *OUR_CLASSIFIER, FEW_ITERATIONS)),
    Contestant(SKLEARN, MEMORY, lambda d: _fit(d, *THEIR_CLASSIFIER, FEW_ITERATIONS)),
)


def contestants(case: Case) -> dict[str, Make]:
    """Those that compute a case, by name."""
    return {
        c.name: c.make
        for c in CONTESTANTS
        if c.operation == case.operation
        and not (c.dense_only and case.density < 1)
        and case.rows * case.classes <= c.most_logits
    }


def calls_on(case: Case, d: Data) -> tuple[dict[str, Call], dict[str, str]]:
    """The calls that can be made here, by name, and why others cannot."""
    calls, missing = {}, {}
    for name, make in contestants(case).items():
        try:
            calls[name] = make(d)
        except Missing as reason:
            missing[name] = str(reason)
    return calls, missing


def libraries() -> dict[str, str]:
    """The versions of the others that are installed, and what they multiply matrices with."""
    pools = {(p["internal_api"], p["version"], p["num_threads"]) for p in threadpoolctl.threadpool_info()}
    threads = ", ".join(f"{a} {b or ''}: {n}".replace(" :", ":") for a, b, n in sorted(pools, key=str))
    return system.installed("scikit-learn", "torch") | {"thread pools": threads}


@contextlib.contextmanager
def same_threads() -> Iterator[int]:
    """Give BLAS, OpenMP and PyTorch the number of threads that Numba has (NUMBA_NUM_THREADS)."""
    threads = numba.get_num_threads()
    with contextlib.ExitStack() as stack:
        with contextlib.suppress(Missing):
            torch = module("torch")
            stack.callback(torch.set_num_threads, torch.get_num_threads())
            torch.set_num_threads(threads)
        with contextlib.suppress(Missing):
            module("sklearn._loss.loss")  # so that its OpenMP is there to be limited
        stack.enter_context(threadpoolctl.threadpool_limits(threads))
        yield threads
