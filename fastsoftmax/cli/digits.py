"""Softmax regression by mini-batches on real handwritten digits, once with fused kernels and once with NumPy.

The data are the 1797 images of 8x8 pixels that scikit-learn brings along (Alpaydin and Kaynak, 1998).
"""

import time
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ..api import cross_entropy
from ..bench.cpu import by_numpy

Array = NDArray[Any]
Labels = NDArray[np.int64]
LossAndGrad = Callable[[Array, Labels], tuple[Any, Array]]

HELD_OUT = 360  # a fifth of the images
CLASSES = 10
EPOCHS = 500
BATCH = 256
RATE = 0.5
DECAY = 1e-4  # weight decay: keeps the weights of a nearly separable problem from growing for ever
TOLERANCE = 1e-5  # relative difference of the weights from those of the NumPy run


class Digits(NamedTuple):
    """Images as rows of pixels in [0, 1], and the digits they show."""

    x: Array
    y: Labels
    x_held_out: Array
    y_held_out: Labels


class Model(NamedTuple):
    """Weights of shape (classes, features), and a bias a class."""

    weights: Array
    bias: Array

    def logits(self, x: Array) -> Array:
        """The logits of every row."""
        return x @ self.weights.T + self.bias


class Trained(NamedTuple):
    """A model and how it came about."""

    model: Model
    seconds: float
    pass_seconds: float  # spent in the loss-and-gradient pass


class Report(NamedTuple):
    """The results of the demonstration."""

    images: int
    held_out: int
    features: int
    classes: int
    dtype: str
    epochs: int
    steps: int
    batch: int
    train_loss: float
    held_out_accuracy: float
    weights_difference: float  # norm(fused - NumPy) / norm(NumPy)
    weights_agree: bool
    seconds: float
    numpy_seconds: float
    pass_microseconds: float
    numpy_pass_microseconds: float
    pass_speedup: float
    training_speedup: float


def load(dtype: str = "float32") -> Digits:
    """The digits, shuffled once and for all and split."""
    from sklearn.datasets import load_digits  # noqa: PLC0415  an extra brings scikit-learn

    x, y = load_digits(return_X_y=True)
    order = np.random.default_rng(0).permutation(len(y))
    x, y = (x[order] / 16).astype(dtype), y[order].astype(np.int64)
    return Digits(x[HELD_OUT:], y[HELD_OUT:], x[:HELD_OUT], y[:HELD_OUT])


def fused(logits: Array, target: Labels) -> tuple[Any, Array]:
    """The loss, and its gradient written over the logits."""
    return cross_entropy.cross_entropy_and_grad(logits, target, out=logits)


def train(digits: Digits, loss_and_grad: LossAndGrad, epoch_done: Callable[[], object] = lambda: None) -> Trained:
    """Stochastic gradient descent from zero weights; every run takes the same batches in the same order."""
    x, y = digits.x, digits.y
    random = np.random.default_rng(1)
    model = Model(np.zeros((CLASSES, x.shape[1]), x.dtype), np.zeros(CLASSES, x.dtype))
    in_pass = 0.0
    start = time.perf_counter()
    for _ in range(EPOCHS):
        order = random.permutation(len(y))
        for first in range(0, len(y), BATCH):
            rows = order[first : first + BATCH]
            batch, target = x[rows], y[rows]
            logits = model.logits(batch)
            began = time.perf_counter()
            _, grad = loss_and_grad(logits, target)
            in_pass += time.perf_counter() - began
            model.weights[:] -= RATE * (grad.T @ batch + DECAY * model.weights)
            model.bias[:] -= RATE * grad.sum(axis=0)
        epoch_done()
    return Trained(model, time.perf_counter() - start, in_pass)


def compare(digits: Digits, epoch_done: Callable[[], object] = lambda: None) -> Report:
    """Train with the fused pass, take the same steps with NumPy, and compare.

    `epoch_done` is called after each epoch, ``2 * EPOCHS`` times.
    """
    for warm in (fused, by_numpy.loss_and_grad):
        warm(np.zeros((BATCH, CLASSES), digits.x.dtype), digits.y[:BATCH])
    ours = train(digits, fused, epoch_done)
    numpy = train(digits, by_numpy.loss_and_grad, epoch_done)
    difference = _difference(ours.model, numpy.model)
    steps = EPOCHS * -(-len(digits.y) // BATCH)
    return Report(
        images=len(digits.y),
        held_out=len(digits.y_held_out),
        features=digits.x.shape[1],
        classes=CLASSES,
        dtype=str(digits.x.dtype),
        epochs=EPOCHS,
        steps=steps,
        batch=BATCH,
        train_loss=float(cross_entropy.cross_entropy(ours.model.logits(digits.x), digits.y)),
        held_out_accuracy=accuracy(ours.model, digits.x_held_out, digits.y_held_out),
        weights_difference=difference,
        weights_agree=difference <= TOLERANCE,
        seconds=ours.seconds,
        numpy_seconds=numpy.seconds,
        pass_microseconds=ours.pass_seconds / steps * 1e6,
        numpy_pass_microseconds=numpy.pass_seconds / steps * 1e6,
        pass_speedup=numpy.pass_seconds / ours.pass_seconds,
        training_speedup=numpy.seconds / ours.seconds,
    )


def accuracy(model: Model, x: Array, y: Labels) -> float:
    """The fraction of images whose largest logit is that of their digit."""
    return float((model.logits(x).argmax(axis=1) == y).mean())


def _difference(a: Model, b: Model) -> float:
    """norm(a - b) / norm(b), weights and biases together."""
    left, right = (np.concatenate([m.weights.ravel(), m.bias]).astype(np.float64) for m in (a, b))
    return float(np.linalg.norm(left - right) / np.linalg.norm(right))


def text(r: Report) -> str:
    """A report for people."""
    verdict = "they agree" if r.weights_agree else "THEY DO NOT AGREE"
    return f"""\
Handwritten digits
  data        {r.images} to train on, {r.held_out} held out; {r.dtype},
              {r.features} pixels, {r.classes} classes
  training    {r.epochs} epochs, {r.steps} steps of {r.batch} images
  train loss  {r.train_loss:.4f}, held-out accuracy {r.held_out_accuracy:.4f}
  weights     differ from NumPy's by {r.weights_difference:.1e} (relative
              norm): {verdict}
  pass        {r.pass_microseconds:.1f} us a batch, NumPy {r.numpy_pass_microseconds:.1f} us: {r.pass_speedup:.2f} x
  all of it   {r.seconds:.2f} s, with NumPy {r.numpy_seconds:.2f} s: {r.training_speedup:.2f} x"""
