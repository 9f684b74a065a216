"""The linear cases: passes over features and fits of classifiers, with what they compute on."""

import importlib
from typing import Any, NamedTuple

import numpy as np
import scipy.sparse
from numpy.typing import NDArray

Array = NDArray[Any]

LOSS, PREDICT, FIT, MEMORY = "loss + gradient", "predict", "fit", "memory of fit"
CLASSES_IN_TOY = 40  # enough for blocks that all threads share to be met too


class Missing(Exception):
    """A contestant cannot run here, and why."""


class Case(NamedTuple):
    """An operation on features of a shape and kind."""

    operation: str
    rows: int
    features: int
    classes: int
    why: str
    kind: str = "normal"  # what the features are: see `features`
    density: float = 1.0  # of the features: below 1 they are a CSR matrix
    dtype: str = "float32"

    @property
    def name(self) -> str:
        """The case as tables and command lines write it."""
        kind = "" if self.kind == "normal" else f" {self.kind}"
        sparse = "" if self.density == 1 else f" CSR {self.density:.0%}"
        return f"{self.operation} {self.rows}x{self.features}x{self.classes}{kind}{sparse} {self.dtype}"

    @property
    def numbers(self) -> int:
        """Features that are not zero, in all rows."""
        return round(self.rows * self.features * self.density)

    @property
    def nbytes(self) -> int:
        """The bytes of the features, which any implementation must read once."""
        size = np.dtype(self.dtype).itemsize
        return self.numbers * size if self.density == 1 else self.numbers * (size + 4) + 4 * (self.rows + 1)

    @property
    def flops(self) -> int:
        """Additions and multiplications of the matrix products: one for logits, one more for the gradient."""
        return {LOSS: 4, PREDICT: 2}.get(self.operation, 0) * self.numbers * self.classes

    @property
    def toy(self) -> "Case":
        """The same on so little that it tells whether it runs, and nothing else."""
        rows, features, classes = min(self.rows, 300), min(self.features, 64), min(self.classes, CLASSES_IN_TOY)
        return self._replace(rows=rows, features=features, classes=classes, density=max(self.density, 0.1))


CASES = (
    Case(LOSS, 60000, 784, 10, "few classes (MNIST): memory is read faster than twice"),
    Case(LOSS, 20000, 512, 1000, "as many classes as features, about: softmax counts as well as the products"),
    Case(LOSS, 8192, 512, 32000, "a vocabulary: the logits take 1 GB, the products nearly all of the time"),
    Case(LOSS, 100000, 10000, 20, "words of documents: sparse features", density=0.01),
    Case(PREDICT, 20000, 256, 800, "many classes: no matrix of logits is needed"),
    Case(FIT, 60000, 784, 10, "features without correlation: few iterations, each as fast as its passes"),
    Case(FIT, 60000, 784, 10, "features with correlations, like those of pixels: many iterations", "correlated"),
    Case(FIT, 50000, 64, 10, "scikit-learn's 1797 digits, again and again: classes that can be told apart", "digits"),
    Case(MEMORY, 200000, 256, 1000, "logits of 800 MB, and not one needed for longer than its block"),
)


class Data(NamedTuple):
    """The data that the contestants of a case share; nobody changes it."""

    x: Any
    target: NDArray[np.int64]
    weight: Array
    bias: Array


def _features(case: Case, random: np.random.Generator) -> Any:
    """Features of a kind; correlated ones have deviations that fall with a power of their number."""
    if case.density < 1:
        shape = (case.rows, case.features)
        return scipy.sparse.random(*shape, case.density, "csr", case.dtype, random, data_rvs=random.standard_normal)
    x = random.standard_normal((case.rows, case.features), np.float32)
    if case.kind == "correlated":
        rotation = np.linalg.qr(random.standard_normal((case.features, case.features)))[0]
        deviation = np.arange(1, case.features + 1) ** -0.4
        x = x @ (deviation[:, None] * rotation * np.sqrt(case.features / np.square(deviation).sum())).astype(np.float32)
    return x.astype(case.dtype, copy=False)


def data(case: Case) -> Data:
    """The same data every time; a fit's targets follow the softmax of a linear map, others are anything."""
    random = np.random.default_rng(0)
    weight = random.standard_normal((case.classes, case.features), np.float32)
    weight *= 2 / np.sqrt(case.features * case.density)
    bias = random.standard_normal(case.classes, np.float32)
    weight, bias = weight.astype(case.dtype, copy=False), bias.astype(case.dtype, copy=False)
    if case.kind == "digits":
        digits = module("sklearn.datasets").load_digits()
        some = np.arange(case.rows) % len(digits.target)
        return Data(digits.data[some, : case.features].astype(case.dtype), digits.target[some], weight, bias)
    x = _features(case, random)
    target = random.integers(0, case.classes, case.rows)
    if case.operation == FIT:
        logits = x @ weight.T + bias
        target = (logits + random.gumbel(size=logits.shape)).argmax(axis=1)
    return Data(x, target, weight, bias)


def module(name: str) -> Any:
    """A module that may not be installed."""
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        raise Missing(f"{name.partition('.')[0]} is not installed") from error
