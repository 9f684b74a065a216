"""The GPU kernels against the reference in higher precision, executed by the interpreter of their PTX.

That shows what they compute, and what they read and write; it is no result of a GPU.
"""

import numpy as np
import pytest
import support_cuda  # noqa: F401  skips where numba-cuda is not installed
from support import labels, logits
from support_kernels import KINDS, assert_as_reference, loss_of

from fastsoftmax.plan_cuda import BLOCK, PART_WARP, WARP

FLOAT16, BFLOAT16, FLOAT32, FLOAT64 = (KINDS[k] for k in range(4))
HELD = [
    (FLOAT32, 1, PART_WARP),
    (FLOAT32, 10, PART_WARP),
    (FLOAT32, 33, PART_WARP),
    (FLOAT32, 101, WARP),
    (FLOAT32, 1028, BLOCK),
    (FLOAT32, 5001, BLOCK),
    (BFLOAT16, 7, PART_WARP),
    (BFLOAT16, 515, WARP),
    (BFLOAT16, 5003, BLOCK),
    (FLOAT16, 3000, BLOCK),
    (FLOAT64, 6, PART_WARP),
    (FLOAT64, 131, WARP),
    (FLOAT64, 1001, BLOCK),
]
ids = [f"{dtype}-{classes}" for dtype, classes, _ in HELD]


def held_traffic(result, x, *, grad):
    """Each logit is read once, each gradient written once, and nothing else of either."""
    assert result.moved("x") == (x.nbytes, 0)
    assert result.moved("out") == ((0, x.nbytes) if grad else (0, 0))


@pytest.mark.parametrize(("dtype", "classes", "form"), HELD, ids=ids)
def test_loss_and_gradient(dtype, classes, form):
    random = np.random.default_rng(classes)
    x, target = logits(classes, (9, classes), dtype), labels(random, (9, classes))
    target[0] = classes - 1
    result = loss_of(x, target, {})
    assert result.plan.form == form
    assert_as_reference(x, target, {}, result)
    held_traffic(result, x, grad=True)
    assert result.bad == 0
