"""Arrays on a GPU where the package for it is missing: one error, with the command that installs it."""

import pytest

from tests.support import child

WITHOUT = """
import sys
from types import SimpleNamespace
sys.modules["numba.cuda"] = None  # as where numba-cuda is not installed
import numpy as np
import fastsoftmax as fs
gpu = SimpleNamespace(__cuda_array_interface__={"shape": (2, 3), "typestr": "<f4", "data": (256, False), "version": 3})
x = np.zeros((2, 3), np.float32)
calls = [
    lambda: fs.softmax(gpu), lambda: fs.log_softmax(gpu, None), lambda: fs.logsumexp(gpu),
    lambda: fs.softmax(x, out=gpu),
    lambda: fs.softmax_vjp(x, gpu), lambda: fs.cross_entropy(gpu, gpu), lambda: fs.cross_entropy_and_grad(x, gpu),
    lambda: fs.cross_entropy(x, [0, 1], class_weight=gpu), lambda: fs.softmax(gpu),
    lambda: fs.linear_cross_entropy(gpu, x, [0, 1]), lambda: fs.linear_cross_entropy_and_grad(x, gpu, [0, 1]),
    lambda: fs.linear_hessian_product(x, x, None, gpu, None), lambda: fs.linear_top_k(gpu, x, k=1),
    lambda: fs.linear_predict(x, gpu), lambda: fs.linear_predict_proba(x, x, out=gpu),
]
for call in calls:
    try: call()
    except ImportError as error: assert "pip install 'numba-cuda[cu13]>=0.30,<0.31' (or [cu12]" in str(error), error
    else: raise AssertionError("no error")
print("done")
"""


def test_a_missing_package_names_the_command():
    done = child(WITHOUT)
    assert (done.returncode, done.stdout) == (0, "done\n"), done.stderr


@pytest.mark.exhaustive
def test_tests_of_a_gpu_are_skipped_without_the_package():
    """They are found, and none of them is an error."""
    code = """
import sys
sys.modules["numba.cuda"] = None  # as where numba-cuda is not installed
import pytest
sys.exit(pytest.main(["--collect-only", "-q", "-p", "no:cacheprovider", "tests/cuda", "tests/standins"]))
"""
    done = child(code)
    assert done.returncode == 0, done.stdout
    assert "test_missing.py" in done.stdout
    assert "test_calls.py" not in done.stdout
