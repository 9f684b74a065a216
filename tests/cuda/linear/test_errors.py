"""Arrays on a GPU where a linear pass does not take them: what was expected, what came, how to mend it."""

from types import SimpleNamespace

import numpy as np
import pytest

import fastsoftmax as fs
from tests.backends import raises

X, W, B, T = np.zeros((4, 3), np.float32), np.zeros((5, 3), np.float32), np.zeros(5, np.float32), np.array([0, 1, 2, 4])


def on_gpu(array):
    """An array on a GPU, as far as it is asked about it: there is no driver to look further."""
    about = {"shape": array.shape, "typestr": array.dtype.str, "data": (256, False), "version": 3}
    return SimpleNamespace(__cuda_array_interface__=about)


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


# Where a linear pass does go to a GPU.

FUNCTIONS = [fs.linear_cross_entropy, fs.linear_cross_entropy_and_grad]
loss = pytest.mark.parametrize("function", FUNCTIONS, ids=["loss", "grad"])


def fake(name, monkeypatch, driver):
    return pytest.importorskip("tests.standins.libraries").LIBRARIES[name](monkeypatch, driver)


@pytest.fixture
def torch(monkeypatch, driver):
    return fake("torch", monkeypatch, driver)


@pytest.fixture
def given(torch):
    """Arguments of a loss, by their names."""
    return {k: torch.array(v.copy()) for k, v in {"x": X, "weight": W, "target": T, "bias": B}.items()}


@pytest.mark.parametrize("name", ["torch", "cupy"])
def test_arguments_in_main_memory(monkeypatch, driver, name):
    """In the words of the library that the others are from."""
    library = fake(name, monkeypatch, driver)
    mend = {"torch": "torch.as_tensor({0}, device={1}.device)", "cupy": "cupy.asarray({0})"}[name]
    host = {"x": X, "weight": W, "target": T, "bias": B, "class_weight": np.ones(5), "sample_weight": np.ones(4)}
    there = {k: library.array(v.copy()) for k, v in host.items()}
    for function in FUNCTIONS:
        for at, value in host.items():
            other = "weight" if at == "x" else "x"
            text = f"{at} must lie on the GPU, as {other} is a {name}.{library.type.__name__} on GPU 0, got a "
            raises(TypeError, f"{text}numpy.ndarray; pass {mend.format(at, other)}", function, **there | {at: value})
    for function in (fs.linear_predict, fs.linear_predict_proba):
        raises(TypeError, "weight must lie on the GPU, as x is a", function, there["x"], W)
        raises(TypeError, "x must lie on the GPU, as weight is a", function, X, there["weight"])
        raises(TypeError, "bias must lie on the GPU, as x is a", function, there["x"], there["weight"], B)
    raises(
        TypeError, "out must lie on", fs.linear_predict_proba, there["x"], there["weight"], out=np.zeros((4, 5), "f")
    )
    raises(TypeError, "x must lie on the GPU, as out is", fs.linear_predict_proba, X, W, out=there["x"])
    grad = fs.linear_cross_entropy_and_grad
    raises(TypeError, "out['weight'] must lie on the GPU", grad, **there, out={"weight": W.copy()})
    raises(TypeError, "x must lie on the GPU, as out['weight'] is", grad, X, W, T, B, out={"weight": there["weight"]})
    raises(TypeError, "grad_output must lie", grad, **there, reduction="none", grad_output=np.ones(4))
    assert not driver.launches
    assert not library.work


def test_arguments_on_several_gpus(torch, given):
    given["weight"] = torch.array(W.copy(), device=1)
    text = "weight must lie on the same GPU: x is a torch.Tensor on GPU 0, weight on GPU 1; pass torch.as_tensor(weight"
    raises(ValueError, text, fs.linear_cross_entropy, **given)


@pytest.mark.parametrize("name", ["numba", "jax"])
def test_arrays_without_products(monkeypatch, driver, name):
    library = fake(name, monkeypatch, driver)
    x, weight, target = (library.array(a.copy()) for a in (X, W, T))
    how = {"numba": "asarray", "jax": "from_dlpack"}[name]
    text = "x must be an array of PyTorch or CuPy for a linear function on a GPU, as its products are theirs, got a "
    raises(TypeError, text + name, fs.linear_cross_entropy, x, weight, target)
    raises(TypeError, f"pass torch.{how}(x) or cupy.{how}(x), and weight", fs.linear_predict, x, weight)
    raises(TypeError, text, fs.linear_predict_proba, x, weight)


def test_operands_of_several_libraries(monkeypatch, driver, torch, given):
    """Only those of the products need be of one."""
    cupy = fake("cupy", monkeypatch, driver)
    text = "must be of the library that x is from, torch, which multiplies them, got a cupy.ndarray; pass torch.from_d"
    for name, value in (("weight", W), ("bias", B)):
        raises(TypeError, f"{name} {text}", fs.linear_cross_entropy, **given | {name: cupy.array(value.copy())})
    out = {"weight": cupy.array(W.copy())}
    raises(TypeError, f"out['weight'] {text}", fs.linear_cross_entropy_and_grad, **given, out=out)
    fs.linear_cross_entropy(**given | {"target": cupy.array(T.copy())}, class_weight=cupy.array(np.ones(5, "f4")))


def test_tensors_with_a_gradient(given):
    for name in ("x", "weight", "bias"):
        given[name].requires_grad = True
        text = f"{name} must not require a gradient, as this function is not differentiated by autograd; use "
        raises(TypeError, f"{text}{name}.detach()", fs.linear_cross_entropy, **given)
        given[name].requires_grad = False


@loss
def test_dtypes(torch, given, function):
    """Nothing is converted."""
    text = "x must have dtype float16 or bfloat16 or float32 or float64 on a GPU, got int32 with shape (4, 3)"
    raises(TypeError, text, function, **given | {"x": torch.array(X.astype(np.int32))})
    for name, value in (("weight", W), ("bias", B)):
        text = f"{name} must have dtype float32 on a GPU, got float16 with shape {value.shape}; nothing is converted"
        changed = {name: torch.array(value.astype(np.float16))}
        raises(TypeError, f"{text} there: pass {name}.to(torch.float32)", function, **given | changed)
    raises(
        TypeError, "class indices must have dtype int64", function, **given | {"target": torch.array(T.astype("f4"))}
    )
    weight = torch.array(np.ones(4))
    raises(TypeError, "sample_weight must have dtype float32", function, **given, sample_weight=weight)


def test_products_with_the_hessian(monkeypatch, driver, torch, given):
    """Arguments have the names of theirs."""
    along, bias_along = torch.array(W.copy()), torch.array(B.copy())
    del given["target"]
    given |= {"weight_direction": along, "bias_direction": bias_along}
    function = fs.linear_hessian_product
    for name in given:
        raises(TypeError, f"{name} must lie on the GPU", function, **given | {name: np.zeros((4, 3), np.float32)})
    raises(TypeError, "sample_weight must lie on", function, **given, sample_weight=np.ones(4))
    other = fake("cupy", monkeypatch, driver).array(np.ones(4, np.float32))
    raises(TypeError, "sample_weight must be of the library that x is from", function, **given, sample_weight=other)
    double = torch.array(np.ones(4))
    raises(TypeError, "sample_weight must have dtype float32", function, **given, sample_weight=double)


def test_most_probable_classes(given):
    raises(TypeError, "weight must lie on the GPU", fs.linear_top_k, given["x"], W, k=2)


def test_gradients_and_their_outputs(torch, given):
    function = fs.linear_cross_entropy_and_grad
    text = "out['weight'] must have dtype float32 on a GPU, got float64"
    raises(TypeError, text, function, **given, out={"weight": torch.array(np.zeros((5, 3)))})
    scattered = torch.array(np.zeros((3, 5), np.float32).T)
    raises(ValueError, "out['weight'] must be C-contiguous on a GPU", function, **given, out={"weight": scattered})


def test_outputs_that_disturb_what_is_read(torch):
    """Or each other; whether they do is seen each time, though calls look alike."""
    room, function = np.zeros(64, np.float32), fs.linear_cross_entropy_and_grad
    target, weight, x = torch.array(T.copy()), torch.array(room[:15].reshape(5, 3)), torch.array(X.copy())
    text = "out['{}'] must not share memory with {}, on a GPU"
    for start in (16, 32, 12, 20):
        out = {"weight": torch.array(room[start : start + 15].reshape(5, 3))}
        if start == 12:
            raises(
                ValueError, "out['weight'] must not share memory with weight, on", function, x, weight, target, out=out
            )
        else:
            function(x, weight, target, out=out)
    out = {"x": torch.array(room[16:28].reshape(4, 3)), "weight": torch.array(room[20:35].reshape(5, 3))}
    text = "out['weight'] must not share memory with out['x'], on a GPU"
    raises(ValueError, text, function, x, weight, target, wrt=("x", "weight"), out=out)
    near = torch.array(room[16:28].reshape(4, 3))
    text = "out['x'] must not share memory with x, or be x itself, on a GPU"
    raises(ValueError, text, function, torch.array(room[18:30].reshape(4, 3)), weight, target, wrt="x", out={"x": near})
    soft = torch.array(room[40:60].reshape(4, 5))
    over = torch.array(room[44:59].reshape(5, 3))
    raises(ValueError, "share memory with target", function, x, weight, soft, out={"weight": over})
    x = torch.array(room[40:52].reshape(4, 3))
    raises(ValueError, "out must not share memory with x", fs.linear_predict_proba, x, weight, out=soft)
    out = torch.array(np.zeros((4, 8), np.float32)[:, :5])
    raises(ValueError, "out must be C-contiguous on a GPU", fs.linear_predict_proba, x, weight, out=out)


def test_errors_launch_nothing(driver, torch, given):
    raises(ValueError, "bias must have shape", fs.linear_cross_entropy, **given | {"bias": torch.array(B[:3].copy())})
    assert not driver.launches
    assert not torch.made
    assert not torch.work


@pytest.mark.parametrize("name", ["weight", "target"])
def test_arguments_that_are_missing(given, name):
    given[name] = None
    text = f"{name} must lie on the GPU, as x is a torch.Tensor on GPU 0, got a NoneType"
    for function in FUNCTIONS:
        raises(TypeError, text, function, **given)
    if name == "weight":
        for function in (fs.linear_predict, fs.linear_predict_proba):
            raises(TypeError, text, function, given["x"], None)
        raises(TypeError, text, fs.linear_top_k, given["x"], None, k=1)
        raises(TypeError, text, fs.linear_hessian_product, given["x"], None, None, given["x"], None)
