"""The picture of a training: how the loss fell, and what is taken for what."""

import io
from collections.abc import Sequence
from typing import Any

import numpy as np

from .errors import shown
from .files.table import Array

NUMBERS = 20  # classes up to which the cells have room for their counts
LABELS = 40  # and up to which each class has room for its name
DOTS = 120  # per inch


def png(loss_curve: Sequence[float], matrix: Array | None, classes: Array) -> bytes:
    """A PNG of the loss curve and, where there is one, the confusion matrix."""
    from matplotlib.figure import Figure  # noqa: PLC0415  an extra

    size = min(5 + 0.25 * len(classes), 12) if matrix is not None else 5
    figure = Figure(figsize=(5.5 + (size + 1.5 if matrix is not None else 0), size), layout="constrained")
    axes = figure.subplots(
        1, 1 if matrix is None else 2, squeeze=False, width_ratios=None if matrix is None else (5, size)
    )
    _curve(axes[0, 0], loss_curve)
    if matrix is not None:
        _confusion(figure, axes[0, 1], matrix, classes)
    drawn = io.BytesIO()
    figure.savefig(drawn, format="png", dpi=DOTS)  # a Figure of its own draws with Agg, whatever the display
    return drawn.getvalue()


def _curve(axes: Any, loss_curve: Sequence[float]) -> None:
    axes.plot(np.arange(1, len(loss_curve) + 1), loss_curve, marker="o" if len(loss_curve) < 30 else None, markersize=3)
    axes.set(title="Training", xlabel="iteration", ylabel="loss (objective)")
    if len(loss_curve) and min(loss_curve) > 0:
        axes.set_yscale("log")
    axes.grid(alpha=0.3)


def _confusion(figure: Any, axes: Any, matrix: Array, classes: Array) -> None:
    """Shares of each class, so that a rare class is as visible as a frequent one; numbers are counts of rows."""
    from matplotlib.colors import PowerNorm  # noqa: PLC0415  an extra

    totals = matrix.sum(axis=1, keepdims=True)
    shares = matrix / np.maximum(totals, 1)
    # Cividis grows evenly lighter and is read alike with and without colour vision (Nuñez et al., 2018); the square
    # root of the share keeps a confusion of 2 % apart from none at all.
    image = axes.imshow(shares, cmap="cividis", norm=PowerNorm(0.5, vmin=0, vmax=1), interpolation="nearest")
    figure.colorbar(image, ax=axes, label="share of the class", fraction=0.046)
    axes.set(title="Held-out rows: class and prediction", xlabel="predicted class", ylabel="class")
    if len(classes) <= LABELS:
        names = [shown(name, 12) for name in classes]
        axes.set_xticks(range(len(names)), names, rotation=90 if max(map(len, names)) > 2 else 0)
        axes.set_yticks(range(len(names)), names)
    if len(classes) <= NUMBERS:
        for (row, column), count in np.ndenumerate(matrix):
            if count:
                color = "black" if shares[row, column] > 0.3 else "white"
                axes.text(column, row, str(count), ha="center", va="center", color=color, fontsize=8)
