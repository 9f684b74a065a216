"""Batch solvers: SciPy's L-BFGS and Newton-CG in well-conditioned coordinates.

A fit is a series of rounds.  Each chooses coordinates by the curvature at the coefficients reached so far
(`coordinates`), runs SciPy's method in them for a while, and hands its coefficients to the next; rounds get
longer.  Rounds compute in the dtype of X until that has no digits left to tell a better point from a worse one, and in
float64 from then on.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize
from threadpoolctl import threadpool_limits

from ..core.interrupts import Deferred
from . import coordinates
from .moments import Moments
from .objective import Data, Loss

Array = NDArray[Any]

FIRST_ROUND = 10  # evaluations; each round is allowed twice as many as the one before
LONGEST_ROUND = 5120  # but no more than these
NARROW = 1e-7  # relative decrease of a float32 loss that is lost in its rounding, 6e-8
SMALL = 1 << 24  # multiplications of a pass that float64 makes too fast to matter
GAIN = 0.003  # of tol: relative decrease of the loss that is not worth another iteration
EXACT = 64 * np.finfo(np.float64).eps  # relative decrease of a float64 loss that is not worth another iteration
LOGITS = 1e-3  # change of a logit that leaves an objective as it is
SETTLED = 1e-10  # relative decrease, of what is expected, that may be missing where rounding ends a fit

OPTIONS = {
    "lbfgs": ("L-BFGS-B", {"maxls": 50, "gtol": 0.0, "ftol": EXACT, "maxfun": 1 << 30, "maxiter": 1 << 30}),
    "newton-cg": ("Newton-CG", {"xtol": 0.0, "maxiter": 1 << 30}),
}


class Step(NamedTuple):
    """The state of a solver after an iteration."""

    iteration: int  # from 1
    loss: float
    gradient: float  # the largest element of the gradient by coefficients of standardised features
    theta: Array

    @property
    def coef(self) -> Array:
        """The coefficients, (R, d)."""
        return self.theta[:, :-1]


class Solution(NamedTuple):
    """The result of a solver."""

    theta: Array
    converged: bool
    losses: list[float]  # after each iteration
    lost: float  # how much larger the objective is with coefficients in the dtype of X


def lost(data: Data, loss: Loss, theta: Array, moments: Moments) -> float:
    """The increase of the objective when θ is rounded to the dtype of X, where that changes logits at all."""
    rounded = theta.astype(data.x.dtype).astype(np.float64)
    apart = np.abs(rounded - theta)
    change = apart[:, :-1] @ np.hypot(moments.mean, moments.deviation) + apart[:, -1]
    if not change.max() > LOGITS:
        return 0.0
    wide = loss._replace(dtype=np.float64)
    return wide(data, rounded)[0] - wide(data, theta)[0]


Report = Callable[[Step], bool]  # whether to stop


class NotFinite(ArithmeticError):
    """An objective or a gradient that is infinite or NaN."""


def minimise(
    data: Data, loss: Loss, theta: Array, *, method: str, tol: float, max_iter: int, report: Report
) -> Solution:
    """Minimise the objective from θ, by one of SciPy's methods, until no element of its gradient is larger than `tol`.

    The gradient is that by coefficients of standardised features (mean 0, where there are intercepts, and variance 1),
    each element of which is at most 1 without a penalty: the end does not depend on units.  The decrease still to be
    expected, half the squared gradient in the coordinates of the round, must besides be no more than 0.003 `tol`,
    relative to the objective: on separable data small gradients are far from the optimum.  A solution has converged
    also where float64 cannot resolve a further decrease, and 1e-10 of the objective is expected at most.

    Raises
    ------
    ValueError
        If the objective is not finite at θ, or units of features are beyond what float64 can use.
    """
    if 2 * data.x.shape[0] * theta.size <= SMALL:
        loss = loss._replace(dtype=np.float64)
    # The threads of a BLAS go on spinning for 100 ms after a product, on cores that passes need: one at 60000x784x10
    # took 22 ms instead of 14.  The products here are small.
    with Deferred(), threadpool_limits(1, user_api="blas"):
        search = Search(data, loss, _central(theta), tol, max_iter, report)
        search.run(method)
        rounding = lost(data, loss, search.theta, search.coordinates.moments)
    return Solution(search.theta, search.converged, search.losses or [search.value], rounding)


def _central(theta: Array) -> Array:
    """θ with rows that add up to 0: moving all of them alike changes no softmax, but the penalty."""
    return theta - theta.mean(axis=0) if len(theta) > 1 else theta


class Search:
    """The state of a minimisation, which SciPy calls back: where its last iteration ended."""

    def __init__(self, data: Data, loss: Loss, theta: Array, tol: float, max_iter: int, report: Report) -> None:
        self.data, self.tol, self.max_iter, self.report = data, tol, max_iter, report
        self.coordinates = coordinates.Coordinates(data, loss)
        self.standard = coordinates.standard(self.coordinates.moments, loss)
        if not coordinates.fits_float32(self.coordinates.by_scale):
            loss = loss._replace(dtype=np.float64)
        self.loss = loss
        self.losses: list[float] = []
        self.stopped = False  # by the caller
        self.exhausted = False  # no smaller loss can be told from this one
        self.spent, self.decrease = 0, 0.0
        self._begin(coordinates.folded(theta, self.coordinates.moments, loss))

    def _begin(self, theta: Array) -> None:
        try:
            self._move(theta, *self.evaluated(theta))
        except NotFinite:
            if self.loss.dtype == np.float64:
                raise ValueError(
                    "the objective or its gradient is not finite at the coefficients that the fit starts from, the "
                    f"largest of which is {np.abs(theta).max():g}; "
                    + ("set warm_start=False" if theta.any() else "multiply the features by a small number")
                ) from None
            self.loss = self.loss._replace(dtype=np.float64)
            self._begin(theta)

    def evaluated(self, theta: Array) -> tuple[float, Array]:
        """The objective and its gradient at θ, which are finite."""
        self.spent += 1
        value, grad = self.loss(self.data, theta)
        if not (np.isfinite(value) and np.isfinite(grad).all()):
            raise NotFinite
        return value, grad

    def _move(self, theta: Array, value: float, grad: Array) -> None:
        self.theta, self.value, self.grad = theta, value, grad
        self.largest = self.standard.largest(grad)  # element of the gradient by coefficients of standardised features

    @property
    def converged(self) -> bool:
        """Whether gradient and expected decrease are small enough, or nothing smaller can be had."""
        small = self.decrease <= GAIN * self.tol * max(self.value, self.tol)
        return (small and self.largest <= self.tol) or (self.exhausted and self.decrease <= SETTLED * self.value)

    @property
    def _over(self) -> bool:
        return self.stopped or self.exhausted or self.converged or len(self.losses) >= self.max_iter

    def _expect(self, gradient: Array) -> None:
        """Note how much the objective will decrease, by its gradient in the coordinates of a round."""
        self.decrease = 0.5 * float(np.vdot(gradient, gradient))

    def run(self, method: str) -> None:
        """Rounds until one of them ends the search: by blocks of the Hessian, by scales alone where that is stuck."""
        length, plain = FIRST_ROUND, False
        while True:
            whitening = self.coordinates.by_scale if plain else self.coordinates(self.theta, length)
            self._expect(whitening.gradient(self.grad))
            if self._over:
                return
            start = self.value
            finished = self._round(method, whitening, length)
            if self._over:
                return
            length = min(2 * length, LONGEST_ROUND)
            if self.loss.dtype != np.float64 and (finished or self._too_narrow(start)):
                self.loss = self.loss._replace(dtype=np.float64)
                self._begin(self.theta)
            elif finished and start - self.value <= EXACT * abs(self.value):
                self.exhausted = whitening is self.coordinates.by_scale
                plain = True

    def _too_narrow(self, before: float) -> bool:
        return before - self.value < NARROW * abs(self.value)

    def _round(self, method: str, whitening: coordinates.Whitening, length: int) -> bool:
        """Up to `length` evaluations in some coordinates; whether SciPy gave up by itself."""
        task = Round(self, whitening, self.spent + length, unit_step=method == "lbfgs")
        name, options = OPTIONS[method]
        try:
            minimize(
                task.evaluate,
                np.zeros(self.theta.size),
                jac=True,
                hessp=task.product if method == "newton-cg" else None,
                method=name,
                callback=task.iterated,
                options=options,
            )
        except NotFinite:
            return True
        return not task.interrupted

    def iterated(self, theta: Array, value: float, grad: Array, gradient: Array) -> bool:
        """Note an iteration, `gradient` being that in the round's coordinates; whether the search is over."""
        before = self.value
        self._move(theta, value, grad)
        self._expect(gradient)
        self.losses.append(value)
        self.stopped = self.report(Step(len(self.losses), value, self.largest, theta))
        return self._over or (self.loss.dtype != np.float64 and self._too_narrow(before))


class Round:
    """The functions that SciPy calls during a round, of u with θ = base + step(unit u).

    Where the objective is small it is multiplied by a number: SciPy's tolerances are relative to numbers near 1.
    """

    def __init__(self, search: Search, whitening: coordinates.Whitening, until: int, *, unit_step: bool) -> None:
        self.search, self.whitening, self.until = search, whitening, until
        self.base = search.theta
        # Newton-CG solves its equations the less precisely, the larger the gradient: it gets objectives of 0.001.
        self.per = max(1.0, (1.0 if unit_step else 1e-3) / max(search.value, np.finfo(np.float64).tiny))
        self._note(np.zeros(self.base.size), self.base, search.value, search.grad)
        # The first step of L-BFGS has length 1; where the Hessian is near 1, the right one is as long as the gradient.
        self.unit = (float(np.linalg.norm(self.gradient)) or 1.0) if unit_step else 1.0
        self.interrupted = False

    def _note(self, u: Array, theta: Array, value: float, grad: Array) -> None:
        self.at, self.theta, self.value, self.grad = u.copy(), theta, value, grad
        self.gradient = self.whitening.gradient(grad).ravel()

    def _step(self, u: Array) -> Array:
        return _central(self.whitening.step(self.unit * u.reshape(self.base.shape)))

    def evaluate(self, u: Array) -> tuple[float, Array]:
        """The objective and its gradient."""
        if not np.array_equal(u, self.at):
            theta = self.base + self._step(u)
            self._note(u, theta, *self.search.evaluated(theta))
        return self.per * self.value, (self.per * self.unit) * self.gradient

    def product(self, u: Array, along: Array) -> Array:
        """The product of the Hessian with a direction."""
        self.evaluate(u)
        self.search.spent += 2
        product = self.search.loss.hessian_product(self.search.data, self.theta, self._step(along))
        if not np.isfinite(product).all():
            raise NotFinite
        return np.asarray((self.per * self.unit) * self.whitening.gradient(product).ravel())

    def iterated(self, u: Array) -> None:
        """Note an iteration, and end the round where that is due."""
        self.evaluate(u)
        over = self.search.iterated(self.theta, self.value, self.grad, self.gradient)
        self.interrupted = over or self.search.spent >= self.until
        if self.interrupted:
            raise StopIteration
