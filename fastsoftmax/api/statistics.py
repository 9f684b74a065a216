"""Statistics of rows of logits, several of them in one pass: signatures and documentation."""

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]


class TopK(NamedTuple):
    """The classes of the largest logits of each row, in falling order, and their log-probabilities."""

    indices: NDArray[np.int64]
    log_proba: Array


class RowStats(NamedTuple):
    """Statistics of each row, None for those that were not asked for.

    Those that are real numbers have the dtype that is computed in: float64 for float64 and integers, else float32.
    """

    log_prob: Any = None
    """The target's log-probability."""
    entropy: Any = None
    """The entropy of the probabilities, in nats."""
    log_sum_exp: Any = None
    """The logarithm of the sum of the logits' exponentials."""
    argmax: Any = None
    """int64: the class of the largest logit, of equal ones the first."""
    max_prob: Any = None
    """The largest probability."""
    correct: Any = None
    """bool: whether the target is the argmax."""
    rank: Any = None
    """int64: the number of classes with a larger logit than the target's."""
    margin: Any = None
    """The target's logit less the largest of the others."""
    top_k: TopK | None = None
    """The k largest classes, falling, equal ones by index, and their log-probabilities; both of shape (..., k)."""
