"""LightGBM with the focal loss on classes of very different sizes: ``python examples/lightgbm_focal_loss.py``.

Trains the cross-entropy and two focal losses on the same data, and prints how well each finds rare classes.
With ``FASTSOFTMAX_TOY=1`` in the environment it runs on next to nothing.  Needs
``pip install lightgbm scikit-learn rich``.
"""

import os

import lightgbm
import numpy as np
from sklearn.datasets import make_classification
from sklearn.metrics import balanced_accuracy_score, log_loss
from sklearn.model_selection import train_test_split

import fastsoftmax as fs
from fastsoftmax.boosting import lightgbm_objective

ROWS, ROUNDS = (600, 5) if os.environ.get("FASTSOFTMAX_TOY") else (20_000, 200)
SHARES = [0.7, 0.2, 0.07, 0.03]
# The metric is the loss that is trained, so that training can stop by it: LightGBM's own would be of probabilities.
PARAMETERS = {"num_class": len(SHARES), "metric": "None", "learning_rate": 0.1, "num_leaves": 15, "verbosity": -1}


def train(objective, data, valid):
    """A booster that has stopped where its own loss of the held-out rows no longer falls."""
    stop = lightgbm.early_stopping(20, verbose=False)
    parameters = {**PARAMETERS, "objective": objective}
    return lightgbm.train(parameters, data, ROUNDS, valid_sets=[valid], feval=objective.metric, callbacks=[stop])


def main():
    """Train both losses, and compare their predictions for other rows."""
    x, y = make_classification(
        ROWS, n_features=20, n_informative=8, n_classes=len(SHARES), weights=SHARES, flip_y=0.02, random_state=0
    )
    x, x_test, y, y_test = train_test_split(x, y, test_size=0.4, stratify=y, random_state=0)
    x, x_valid, y, y_valid = train_test_split(x, y, test_size=0.2, stratify=y, random_state=0)
    rare = np.array([1.0, 2.0, 4.0, 8.0])  # a rare class counts more
    objectives = {
        "cross-entropy": lightgbm_objective(),
        "focal loss": lightgbm_objective(hessian="diagonal", focal_gamma=1.0),
        "weighted focal loss": lightgbm_objective(hessian="diagonal", focal_gamma=1.0, class_weight=rare),
    }
    for name, objective in objectives.items():
        data = lightgbm.Dataset(x, y)
        booster = train(objective, data, lightgbm.Dataset(x_valid, y_valid, reference=data))
        probabilities = fs.softmax(booster.predict(x_test, raw_score=True))  # the booster's predictions are margins
        balanced = balanced_accuracy_score(y_test, probabilities.argmax(axis=1))
        loss = log_loss(y_test, probabilities)
        print(f"{name}: {booster.best_iteration} rounds, balanced accuracy {balanced:.3f}, log loss {loss:.3f}")


if __name__ == "__main__":
    main()
