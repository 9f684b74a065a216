"""Arrays on a GPU where a linear pass does not take them: what was expected, what came, how to mend it."""

import re
from types import SimpleNamespace

import numpy as np
import pytest

import fastsoftmax as fs

X, W, B, T = np.zeros((4, 3), np.float32), np.zeros((5, 3), np.float32), np.zeros(5, np.float32), np.array([0, 1, 2, 4])


def on_gpu(array):
    """An array on a GPU, as far as it is asked about it: there is no driver to look further."""
    about = {"shape": array.shape, "typestr": array.dtype.str, "data": (256, False), "version": 3}
    return SimpleNamespace(__cuda_array_interface__=about)


def raises(error, text, function, *args, **kwargs):
    with pytest.raises(error, match=re.escape(text)):
        function(*args, **kwargs)


def test_functions_that_stay_in_main_memory():
    text = "{} must lie in main memory for {}, got a types.SimpleNamespace on a GPU; "
    hessian = [X, W, B, W, B]
    names = ["x", "weight", "bias", "weight_direction", "bias_direction"]
    for at, name in enumerate(names):
        arguments = [on_gpu(a) if i == at else a for i, a in enumerate(hessian)]
        said = text.format(name, "linear_hessian_product") + f"pass a copy of {name} in main memory"
        raises(TypeError, said, fs.linear_hessian_product, *arguments)
    weight = on_gpu(np.ones(4))
    raises(TypeError, "sample_weight must lie", fs.linear_hessian_product, *hessian, sample_weight=weight)
    for at, name in enumerate(names[:3]):
        arguments = [on_gpu(a) if i == at else a for i, a in enumerate(hessian[:3])]
        raises(TypeError, text.format(name, "linear_top_k"), fs.linear_top_k, *arguments, k=2)
        raises(TypeError, "pass those to fastsoftmax.log_softmax", fs.linear_top_k, *arguments, k=2)


def test_the_estimator_stays_in_main_memory():
    pytest.importorskip("sklearn")
    y = np.array([0, 1, 0, 1])
    model, text = fs.SoftmaxRegression(), "X must lie in main memory for SoftmaxRegression, got a types.SimpleNamespace"
    raises(TypeError, text, model.fit, on_gpu(X), y)
    raises(TypeError, "pass a copy of X in main memory", model.partial_fit, on_gpu(X), y, classes=[0, 1])
    raises(TypeError, "y must lie in main memory", model.fit, X, on_gpu(y))
    model.fit(X + np.eye(4, 3), y)
    for function in (model.predict, model.predict_proba, model.predict_log_proba, model.decision_function):
        raises(TypeError, text, function, on_gpu(X))


LOSSES = [fs.linear_cross_entropy, fs.linear_cross_entropy_and_grad]


@pytest.mark.parametrize("function", LOSSES, ids=["loss", "grad"])
def test_losses_that_stay_in_main_memory(function):
    given = {"x": X, "weight": W, "target": T, "bias": B}
    more = {"class_weight": np.ones(5), "sample_weight": np.ones(4)}
    for name, value in {**given, **more}.items():
        options = {name: on_gpu(value)} if name in more else {}
        arguments = [on_gpu(value) if name == other else a for other, a in given.items()]
        raises(TypeError, f"{name} must lie in main memory", function, *arguments, **options)


def test_what_else_stays_in_main_memory():
    options = {"reduction": "none", "grad_output": on_gpu(np.ones(4))}
    raises(TypeError, "grad_output must lie in main", fs.linear_cross_entropy_and_grad, X, W, T, B, **options)
    out = {"weight": on_gpu(W)}
    raises(TypeError, "out['weight'] must lie in main", fs.linear_cross_entropy_and_grad, X, W, T, B, out=out)
    raises(TypeError, "x must lie in main memory for linear_predict,", fs.linear_predict, on_gpu(X), W)
    raises(TypeError, "weight must lie in main memory", fs.linear_predict_proba, X, on_gpu(W))
    raises(TypeError, "out must lie in main memory", fs.linear_predict_proba, X, W, out=on_gpu(np.zeros((4, 5))))
