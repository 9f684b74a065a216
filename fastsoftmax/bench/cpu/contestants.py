"""The table of contestants: who computes which cases, and how each is called.

All of a case work on the same numbers, and whoever changes its inputs has a copy.  Results of those that are not ours
are fresh at each call, and so are ours but for the two that say otherwise.
"""

import contextlib
import functools
import importlib
import itertools
import warnings
from collections.abc import Callable, Collection, Iterator
from typing import Any, NamedTuple

import numba
import numpy as np
import scipy.special
import threadpoolctl

from ...api import cross_entropy, softmax
from .. import by_torch
from ..cases import (
    AUTOGRAD,
    AXIS_0,
    BUSY,
    BUSY_SKLEARN,
    BUSY_TORCH,
    DERIVED,
    DTYPES,
    LAYOUTS,
    LOG_SOFTMAX,
    LOGSUMEXP,
    LOSS,
    LOSS_AND_GRAD,
    LOSSES,
    OPTIONS,
    SHAPES,
    SIZE,
    SOFTMAX,
    THREADS,
    WRITERS,
    Case,
)
from ..inputs import Inputs, disagreement, expected, inputs
from ..results import (
    COMPILED,
    CONTIGUOUS,
    FLOAT32,
    IN_PLACE,
    INTO,
    JAX,
    NUMPY,
    OURS,
    PLAIN,
    SCIPY,
    SKLEARN,
    THROUGH_COMPILED,
    THROUGH_TORCH,
    TORCH,
    YARDSTICK,
)
from ..timing import Call, Turn
from ..unable import Unable, attempted
from . import by_jax, by_numpy, derived

Make = Callable[[Case, list[Inputs]], list[Call]]

MOST_OF_OTHERS = 10**8  # logits, beyond which a library that holds several copies would not fit in memory


def _of_ours(case: Case, d: Inputs, x: Any, out: Any = None) -> Call:
    """A call of ours on logits `x`."""
    function = getattr(cross_entropy if case.function in LOSSES else softmax, case.function)
    more: dict[str, Any] = {} if out is None else {"out": out}
    if case.layout == AXIS_0 and x is d.x:
        x, more = x.T, {name: value.T for name, value in more.items()} | {"axis": 0}
    if case.function in LOSSES:
        return functools.partial(function, x, d.target, **d.options, **more)
    return functools.partial(function, x, **more)


def _ours(case: Case, sets: list[Inputs]) -> list[Call]:
    return [_of_ours(case, d, d.x) for d in sets]


def _into(case: Case, sets: list[Inputs]) -> list[Call]:
    return [_of_ours(case, d, d.x, np.zeros_like(d.x)) for d in sets]


def _in_place(case: Case, sets: list[Inputs]) -> list[Call]:
    """Each call takes what the last one left: numbers of which the next softmax or gradient is as good."""
    copies = [d.x.copy() for d in sets]
    return [_of_ours(case, d, x, x) for d, x in zip(sets, copies, strict=True)]


def _contiguous(case: Case, sets: list[Inputs]) -> list[Call]:
    return [_of_ours(case, d, d.x.copy("C")) for d in sets]


def _float32(case: Case, sets: list[Inputs]) -> list[Call]:
    return [_of_ours(case, d, d.x.astype(np.float32)) for d in sets]


def _plain(case: Case, _: list[Inputs]) -> list[Call]:
    """On labels all of which count."""
    case = case._replace(option="")
    return _ours(case, [inputs(case)])


def _numpy(case: Case, sets: list[Inputs]) -> list[Call]:
    function: Any = {
        LOSS_AND_GRAD: by_numpy.loss_and_grad,
        LOSS: by_numpy.loss,
        SOFTMAX: by_numpy.softmax,
        LOG_SOFTMAX: by_numpy.log_softmax,
        LOGSUMEXP: by_numpy.logsumexp,
    }[case.function]
    return [_plainly(function, case, d) for d in sets]


def _scipy(case: Case, sets: list[Inputs]) -> list[Call]:
    function: Any = {
        LOSS_AND_GRAD: by_numpy.scipy_loss_and_grad,
        LOSS: by_numpy.scipy_loss,
        SOFTMAX: functools.partial(scipy.special.softmax, axis=1),
        LOG_SOFTMAX: functools.partial(scipy.special.log_softmax, axis=1),
        LOGSUMEXP: functools.partial(scipy.special.logsumexp, axis=1),
    }[case.function]
    return [_plainly(function, case, d) for d in sets]


def _plainly(function: Callable[..., object], case: Case, d: Inputs) -> Call:
    arguments = (d.x, d.target) if case.function in LOSSES else (d.x,)
    return functools.partial(function, *arguments)


def _sklearn(case: Case, sets: list[Inputs]) -> list[Call]:
    """The private loss of LogisticRegression; it wants labels in the dtype of the logits, which do not change."""
    loss = importlib.import_module("sklearn._loss").HalfMultinomialLoss(n_classes=case.shape[1])
    threads = numba.get_num_threads()

    def call(d: Inputs) -> Call:
        target = d.target.astype(d.x.dtype)

        def loss_and_grad() -> object:
            losses, grad = loss.loss_gradient(target, d.x, n_threads=threads)
            grad /= len(d.x)
            return losses.mean(), grad

        return loss_and_grad

    return [call(d) for d in sets]


class Contestant(NamedTuple):
    """A way to compute a case: a call for each set of inputs."""

    make: Make
    package: str = ""  # that is not always installed


CONTESTANTS = {
    OURS: Contestant(_ours),
    INTO: Contestant(_into),
    IN_PLACE: Contestant(_in_place),
    CONTIGUOUS: Contestant(_contiguous),
    FLOAT32: Contestant(_float32),
    PLAIN: Contestant(_plain),
    NUMPY: Contestant(_numpy),
    SCIPY: Contestant(_scipy),
    SKLEARN: Contestant(_sklearn, "sklearn"),
    TORCH: Contestant(by_torch.eager, "torch"),
    COMPILED: Contestant(by_torch.compiled, "torch"),
    THROUGH_TORCH: Contestant(by_torch.ours, "torch"),
    THROUGH_COMPILED: Contestant(functools.partial(by_torch.ours, compile_=True), "torch"),
    JAX: Contestant(by_jax.calls, "jax"),
}
LIBRARIES = ("scikit-learn", "torch", "jax", "optax")
SPINNING = frozenset({SKLEARN, TORCH, COMPILED, JAX})  # whose threads go on for a while after a call

_BY_GROUP = {
    SHAPES: (OURS, INTO, IN_PLACE, NUMPY, SCIPY, SKLEARN, TORCH, COMPILED, JAX),
    DTYPES: (OURS, INTO, FLOAT32, NUMPY, SKLEARN, TORCH, COMPILED, JAX),
    AUTOGRAD: (OURS, THROUGH_TORCH, TORCH, THROUGH_COMPILED, COMPILED),
    LAYOUTS: (OURS, CONTIGUOUS, TORCH, JAX),
    OPTIONS: (OURS, PLAIN, TORCH),
    SIZE: (OURS, INTO, TORCH, JAX),
    THREADS: (OURS, INTO, TORCH, JAX),
}
#: Who works beside a case, and is not timed.
_WORKING = {BUSY_TORCH: (TORCH,), BUSY_SKLEARN: (SKLEARN,)}


def wanted(case: Case) -> list[str]:
    """The contestants of a case, whether they are installed or not."""
    if case.function in DERIVED:
        return derived.names(case)
    if case.group == BUSY:
        return [INTO, *_WORKING.get(case.option, ())]
    without = set()
    if case.function not in WRITERS:
        without |= {INTO, IN_PLACE}
    if case.function != LOSS_AND_GRAD or case.dtype not in {"float32", "float64"}:
        without.add(SKLEARN)
    if case.group == DTYPES:
        without.add(FLOAT32 if case.dtype == "float64" else NUMPY)
    if case.elements > MOST_OF_OTHERS:
        without |= {TORCH, JAX}
    if case.group == OPTIONS and not case.option:
        without.add(PLAIN)
    return [name for name in _BY_GROUP[case.group] if name not in without]


def rotating(calls: list[Call]) -> Call:
    """A call of each in turn."""
    if len(calls) == 1:
        return calls[0]
    following = itertools.cycle(calls)

    def call() -> object:
        return next(following)()

    return call


def _prepared(case: Case, sets: list[Inputs], name: str, right: Any) -> Call:
    """A contestant's call, once it has given the right result on the first set of inputs, and compiled for all."""
    with warnings.catch_warnings():  # torch's compiler has some about itself
        warnings.simplefilter("ignore")
        made = case.function in DERIVED
        calls = derived.calls(name, case, sets) if made else CONTESTANTS[name].make(case, sets)
        first, *others = calls
        result = first()
    if name not in (PLAIN, YARDSTICK):  # which compute something else
        wrong = derived.disagreement(case, sets[0], result) if made else disagreement(case, sets[0], result, right)
        if wrong:
            raise Unable(wrong)
    for call in others:
        call()
    return rotating(calls)


def prepared(
    case: Case, sets: list[Inputs], names: Collection[str], turn: Turn = lambda: None
) -> tuple[dict[str, Call], dict[str, str]]:
    """The calls of a case on sets of inputs in turn, checked and warm, and why others of `names` have none."""
    right = None if case.function in DERIVED else expected(case, sets[0])

    def shown(name: str) -> str:
        without_optax = name == JAX and case.function in LOSSES and not by_jax.has_optax()
        return f"{JAX} without optax" if without_optax else name

    return attempted({shown(name): functools.partial(_prepared, case, sets, name, right) for name in names}, turn)


@contextlib.contextmanager
def same_threads(threads: int, names: Collection[str]) -> Iterator[int]:
    """Give Numba and the libraries of some contestants this number of threads (0: all of Numba's), and theirs back."""
    before = numba.get_num_threads()
    threads = threads or before
    packages = {CONTESTANTS[name].package for name in names if name in CONTESTANTS}
    with contextlib.ExitStack() as stack:
        stack.callback(numba.set_num_threads, before)
        numba.set_num_threads(threads)
        with contextlib.suppress(ModuleNotFoundError):
            if "torch" in packages:
                torch = by_torch.module()
                stack.callback(torch.set_num_threads, torch.get_num_threads())
                torch.set_num_threads(threads)
        with contextlib.suppress(ModuleNotFoundError):
            if "sklearn" in packages:  # so that its OpenMP is there to be limited
                importlib.import_module("sklearn._loss")
        stack.enter_context(threadpoolctl.threadpool_limits(threads))
        yield threads
