"""Data sets that need no booster, and data that real ones learn from."""

from typing import NamedTuple

import numpy as np

from fastsoftmax.boosting import lightgbm_objective, xgboost_objective


class Data(NamedTuple):
    """A data set as objectives see one."""

    labels: np.ndarray
    weights: np.ndarray | None

    def get_label(self):
        return self.labels

    def get_weight(self):
        return self.weights


class Interface(NamedTuple):
    """What a booster gives to an objective, and expects of it."""

    objective: object
    dtype: type
    order: str
    hessian: str
    least: float

    def margins(self, random, rows, classes):
        return np.asarray(random.standard_normal((rows, classes)) * 2, self.dtype, order=self.order)


LIGHTGBM = Interface(lightgbm_objective, np.float64, "F", "lightgbm", 0.0)
XGBOOST = Interface(xgboost_objective, np.float32, "C", "upper", 1e-16)
BOTH = {"lightgbm": LIGHTGBM, "xgboost": XGBOOST}


def problem(classes, rows=600, seed=0):
    """Features, labels that follow from them by half, and weights."""
    random = np.random.default_rng(seed)
    x = random.standard_normal((rows, classes + 2))
    y = (x[:, :classes] + random.gumbel(size=(rows, classes))).argmax(1)
    return x, y, random.uniform(0.1, 2.0, rows)
