"""Batch solvers: SciPy's L-BFGS and Newton-CG in well-conditioned coordinates.

A fit is a series of rounds.  Each chooses coordinates by the curvature at the coefficients reached so far
(`fastsoftmax.whiten`), runs SciPy's method in them for a while, and hands its coefficients to the next; rounds get
longer.  Rounds compute in the dtype of X until that has no digits left to tell a better point from a worse one, and in
float64 from then on.
"""

from collections.abc import Callable
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np
import scipy.sparse
from numpy.typing import NDArray
from scipy.optimize import minimize
from threadpoolctl import threadpool_limits

from . import whiten
from .objective import Data, Loss

Array = NDArray[Any]

FIRST_ROUND = 10  # evaluations; each round is allowed twice as many as the one before
NARROW = 1e-7  # relative decrease of a float32 loss that is lost in its rounding, 6e-8
SMALL = 1 << 24  # multiplications of a pass that float64 makes too fast to matter
GAIN = 0.003  # of tol: relative decrease of the loss that is not worth another iteration
EXACT = 64 * np.finfo(np.float64).eps  # relative decrease of a float64 loss that is not worth another iteration

OPTIONS = {
    "lbfgs": ("L-BFGS-B", {"maxls": 50, "gtol": 0.0, "ftol": EXACT, "maxfun": 1 << 30, "maxiter": 1 << 30}),
    "newton-cg": ("Newton-CG", {"xtol": 0.0, "maxiter": 1 << 30}),
}


class Step(NamedTuple):
    """Where a solver is after an iteration."""

    iteration: int  # from 1
    loss: float
    gradient: float  # the largest element of the gradient
    theta: Array

    @property
    def coef(self) -> Array:
        """The coefficients, (R, d)."""
        return self.theta[:, :-1]


class Solution(NamedTuple):
    """What a solver found."""

    theta: Array
    converged: bool
    losses: list[float]  # after each iteration


Report = Callable[[Step], bool]  # whether to stop


def minimise(
    data: Data, loss: Loss, theta: Array, *, method: str, tol: float, max_iter: int, report: Report
) -> Solution:
    """Minimise the objective from θ until no element of its gradient is larger than `tol`.

    The decrease still to be expected, half the squared gradient in the coordinates of the round, must besides be no
    more than 0.003 `tol`, relative to the objective: on separable data small gradients are far from the optimum.

    Parameters
    ----------
    data : Data
        Rows, labels and weights.
    loss : Loss
        The objective; its dtype is that of the first rounds.
    theta : ndarray, shape (R, d + 1)
        Where to start, float64.
    method : {"lbfgs", "newton-cg"}
        Which of SciPy's methods.
    tol : float
        Largest element of the gradient, by coefficients and intercepts as they are.
    max_iter : int
        Iterations, at most.
    report : callable
        Called with the `Step` of each iteration; True stops.

    Returns
    -------
    Solution
        Converged also where float64 cannot resolve a further decrease.
    """
    if 2 * data.x.shape[0] * theta.size <= SMALL:
        loss = loss._replace(dtype=np.float64)
    # The threads of a BLAS go on spinning for 100 ms after a product, on cores that passes need: one at 60000x784x10
    # took 22 ms instead of 14.  The products here are small.
    with threadpool_limits(1, user_api="blas"):
        return _minimised(data, loss, theta, method, tol, max_iter, report)


def _minimised(
    data: Data, loss: Loss, theta: Array, method: str, tol: float, max_iter: int, report: Report
) -> Solution:
    search = Search(data, loss, _central(theta), tol, max_iter, report)
    search.run(method)
    return Solution(search.theta, search.converged, search.losses or [search.value])


def _central(theta: Array) -> Array:
    """θ with rows that add up to 0: moving all of them alike changes no softmax, but the penalty."""
    return theta - theta.mean(axis=0) if len(theta) > 1 else theta


class Search:
    """The state of a minimisation, which SciPy calls back."""

    def __init__(self, data: Data, loss: Loss, theta: Array, tol: float, max_iter: int, report: Report) -> None:
        self.data, self.loss, self.tol, self.max_iter, self.report = data, loss, tol, max_iter, report
        self.losses: list[float] = []
        self.stopped = False  # by the caller
        self.exhausted = False  # no smaller loss can be told from this one
        self.interrupted = False  # the last round, before SciPy ended it
        self.spent, self.decrease = 0, 0.0
        self._evaluate(theta)

    def _evaluate(self, theta: Array) -> None:
        self.theta = theta
        self.value, self.grad = self.loss(self.data, theta)
        self.spent += 1

    @property
    def converged(self) -> bool:
        """Whether gradient and expected decrease are small enough, or nothing smaller can be had."""
        small = self.decrease <= GAIN * self.tol * max(self.value, self.tol)
        return (small and self.largest <= self.tol) or self.exhausted

    @property
    def largest(self) -> float:
        """The largest element of the gradient."""
        return float(np.abs(self.grad).max())

    @property
    def _over(self) -> bool:
        return self.stopped or self.converged or len(self.losses) >= self.max_iter

    def run(self, method: str) -> None:
        """Rounds until one of them ends the search."""
        length, coordinates = FIRST_ROUND, Coordinates(self.data, self.loss)
        while not self._over:
            start = self.value
            finished = self._round(method, coordinates(self.theta, length), length)
            length *= 2
            if self._over:
                return
            if self.loss.dtype != np.float64 and (finished or self._too_narrow(start)):
                self.loss = self.loss._replace(dtype=np.float64)
                self._evaluate(self.theta)
            elif finished and start - self.value <= EXACT * abs(self.value):
                self.exhausted = True

    def _too_narrow(self, before: float) -> bool:
        return before - self.value < NARROW * abs(self.value)

    def _round(self, method: str, white: whiten.White, length: int) -> bool:
        """Up to `length` evaluations in some coordinates; whether SciPy gave up by itself."""
        base, shape = self.theta, self.theta.shape
        # The first step of L-BFGS has length 1; where the Hessian is near 1, the right one is as long as the gradient.
        unit = (float(np.linalg.norm(white.gradient(self.grad))) or 1.0) if method == "lbfgs" else 1.0
        self.at, self.until = np.zeros(base.size), self.spent + length
        self.before, self.interrupted = self.value, False

        def evaluate(v: Array) -> tuple[float, Array]:
            if not np.array_equal(v, self.at):
                self._evaluate(base + _central(white.step(unit * v.reshape(shape))))
                self.at = v.copy()
            return self.value, unit * white.gradient(self.grad).ravel()

        def product(v: Array, along: Array) -> Array:
            evaluate(v)
            self.spent += 2
            direction = _central(white.step(unit * along.reshape(shape)))
            return unit * white.gradient(self.loss.hessian_product(self.data, self.theta, direction)).ravel()

        name, options = OPTIONS[method]
        result = minimize(
            evaluate,
            self.at,
            jac=True,
            hessp=product if method == "newton-cg" else None,
            method=name,
            callback=lambda v: self._iterated(evaluate, v, unit),
            options=options,
        )
        evaluate(result.x)
        return not self.interrupted

    def _iterated(self, evaluate: Callable[[Array], tuple[float, Array]], v: Array, unit: float) -> None:
        """Note an iteration, and end the round where that is due."""
        grad = evaluate(v)[1] / unit
        self.decrease = 0.5 * float(grad @ grad)
        self.losses.append(self.value)
        self.stopped = self.report(Step(len(self.losses), self.value, self.largest, self.theta))
        narrow = self.loss.dtype != np.float64 and self._too_narrow(self.before)
        self.before = self.value
        self.interrupted = self._over or narrow or self.spent >= self.until
        if self.interrupted:
            raise StopIteration


class Coordinates:
    """Chooses coordinates for a round: the richer, the longer it is."""

    def __init__(self, data: Data, loss: Loss) -> None:
        self.data, self.loss = data, loss

    @cached_property
    def _rows(self) -> Data:
        return whiten.sample(self.data)

    @cached_property
    def _by_scale(self) -> whiten.White:
        """Variances by all rows where features are sparse: a sample may miss the few that a feature is not 0 in."""
        if scipy.sparse.issparse(self.data.x):
            return whiten.by_scale(whiten.moments(self.data), self.loss)
        of = whiten.moments(self._rows)._replace(mean=whiten.means(self.data))
        return whiten.by_scale(of, self.loss)

    def __call__(self, theta: Array, length: int) -> whiten.White:
        """Coordinates at θ for a round of some length."""
        factors = whiten.affordable(self.loss, self.data.x.shape, length)
        if not factors:
            return self._by_scale
        whole = len(self._rows.labels) == len(self.data.labels)
        return whiten.by_blocks(self._rows, self.loss, theta, factors, whole=whole)
