"""Bad input on a GPU: what was expected, what came, how to mend it."""

from types import SimpleNamespace

import numpy as np
import pytest

import fastsoftmax as fs
from tests.backends import raises

emulated = pytest.importorskip("tests.standins.numpy_kernels")

from fastsoftmax.cuda.arrays import lookup  # noqa: E402
from fastsoftmax.cuda.arrays.torch import Torch  # noqa: E402
from tests.standins.arrays import ExchangedArray, InterfaceArray  # noqa: E402
from tests.standins.libraries import LIBRARIES  # noqa: E402


@pytest.fixture
def torch(monkeypatch, driver):
    return LIBRARIES["torch"](monkeypatch, driver)


X, T = np.zeros((4, 3), np.float32), np.array([0, 1, 2, 0])


def has_driver():
    from cuda.bindings import driver

    try:
        return driver.cuInit(0)[0] == driver.CUresult.CUDA_SUCCESS
    except RuntimeError:
        return False


@pytest.mark.skipif(has_driver(), reason="there is a driver")
@pytest.mark.parametrize("address", [0, 256])
def test_a_missing_driver_names_the_command(address):
    """The package is there, and no GPU."""
    shown = {"shape": (2, 3), "typestr": "<f4", "data": (address, False), "version": 3}
    for function in (fs.softmax, fs.logsumexp):
        raises(
            ImportError,
            "pip install 'numba-cuda[cu13]>=0.30,<0.31'",
            function,
            SimpleNamespace(__cuda_array_interface__=shown),
        )
    raises(ImportError, "pip install 'numba-cuda[cu13]>=0.30,<0.31'", fs.cuda.launcher, "softmax", (2, 3), "float32")


@pytest.mark.parametrize("name", LIBRARIES)
def test_arguments_in_main_memory(driver, monkeypatch, name):
    """In the words of the library that the others are from."""
    library = LIBRARIES[name](monkeypatch, driver)
    x, t = library.array(X.copy()), library.array(T.copy())
    words = {
        "torch": "torch.as_tensor({0}, device={1}.device)",
        "cupy": "cupy.asarray({0})",
        "numba": "cuda.to_device({0})",
        "jax": "jax.device_put({0}, {1}.device)",
    }[name]
    losses = fs.cross_entropy, fs.cross_entropy_and_grad
    for function in losses:
        mend = words.format("target", "logits")
        raises(TypeError, f"target must lie on the GPU, as logits is a {name}", function, x, T)
        raises(TypeError, f"on GPU 0, got a numpy.ndarray; pass {mend}", function, x, T)
        raises(TypeError, f"got a list; pass {mend}", function, x, [0, 1, 2, 0])
        raises(TypeError, "logits must lie on the GPU, as target is a", function, X, t)
        raises(TypeError, "class_weight must lie on the GPU", function, x, t, class_weight=[1.0, 1.0, 1.0])
        raises(TypeError, "sample_weight must lie on the GPU", function, x, t, sample_weight=np.ones(4))
    raises(TypeError, "out must lie on the GPU", fs.softmax, x, out=X.copy())
    raises(TypeError, "x must lie on the GPU, as out is", fs.softmax, X, out=x)
    raises(TypeError, "x must lie on the GPU, as out is", fs.softmax, [[1.0]], axis=None, out=x)
    raises(TypeError, "grad must lie on the GPU", fs.softmax_vjp, x, X)
    raises(TypeError, "y must lie on the GPU", fs.softmax_vjp, X, x)
    raises(TypeError, "grad_output must lie", fs.cross_entropy_and_grad, x, t, reduction="none", grad_output=np.ones(4))


def test_arguments_on_several_gpus(torch):
    x, t = torch.array(X.copy()), torch.array(T.copy(), device=1)
    text = "target must lie on the same GPU: logits is a torch.Tensor on GPU 0, target on GPU 1; pass torch.as_tensor"
    raises(ValueError, text, fs.cross_entropy, x, t)
    raises(ValueError, "out must lie on the same GPU", fs.softmax, x, out=torch.array(X.copy(), device=1))


def test_tensors_with_a_gradient(torch):
    x, t = torch.array(X.copy()), torch.array(T.copy())
    fs.cross_entropy(x, t)
    x.requires_grad = True
    text = "logits must not require a gradient, as this function is not differentiated by autograd; use logits.detach()"
    raises(TypeError, text, fs.cross_entropy, x, t)
    raises(TypeError, "cross_entropy_and_grad", fs.cross_entropy_and_grad, x, t)
    raises(TypeError, "x must not require a gradient", fs.softmax, x)
    x.requires_grad, x.is_neg = False, lambda: True
    raises(TypeError, "resolve_neg()", fs.softmax, x)


@pytest.mark.parametrize("dtype", [np.int32, np.int64, bool, np.complex64, ">f4"])
def test_dtypes_that_kernels_do_not_read(driver, dtype):
    x = driver.array(np.zeros((4, 3), dtype), kind=InterfaceArray)
    kind = np.dtype(dtype)
    name = kind.name if kind.isnative else f"byte-swapped {kind.name}"
    text = f"must have dtype float16 or bfloat16 or float32 or float64 on a GPU, got {name} with shape (4, 3)"
    for function in (fs.softmax, fs.log_softmax, fs.logsumexp):
        raises(TypeError, f"x {text}", function, x)
        raises(TypeError, f"x {text}", function, x, axis=None)
    raises(TypeError, f"logits {text}", fs.cross_entropy, x, driver.array(T.copy()))
    raises(TypeError, f"y {text}", fs.softmax_vjp, x, x)


def test_what_to_convert_with(torch):
    raises(TypeError, "pass x.to(torch.float32)", fs.softmax, torch.array(X.astype(np.int32)))
    raises(
        TypeError, "pass target.to(torch.int64)", fs.cross_entropy, torch.array(X.copy()), torch.array(T.astype("i2"))
    )
    text = "class indices must have dtype int64 or int32 on a GPU, got float32 with shape (4,); pass "
    mend = text + "target.to(torch.int64)"
    raises(TypeError, mend, fs.cross_entropy, torch.array(X.copy()), torch.array(T.astype("f4")))


@pytest.mark.parametrize("dtype", [np.int8, np.int16, np.uint8, np.uint32, np.uint64])
def test_labels_of_another_dtype(driver, dtype):
    text = f"target must have dtype int64 or int32 on a GPU, got {np.dtype(dtype).name} with shape (4,)"
    raises(TypeError, text, fs.cross_entropy, driver.array(X.copy()), driver.array(T.astype(dtype)))


def test_mixed_dtypes(driver):
    half, single, double, target = (driver.array(X.astype(t)) for t in ("f2", "f4", "f8", "f8"))
    t = driver.array(T.copy())
    raises(TypeError, "grad must have dtype float32 on a GPU, got float64", fs.softmax_vjp, single, double)
    raises(TypeError, "grad must have dtype float32 on a GPU, got float16", fs.softmax_vjp, single, half)
    raises(TypeError, "grad must have dtype float16 or float32 on a GPU, got float64", fs.softmax_vjp, half, double)
    assert driver.host(fs.softmax_vjp(half, single)).dtype == np.float16
    raises(TypeError, "target must have dtype float16 or float32 on a GPU, got float64", fs.cross_entropy, half, target)
    raises(TypeError, "target must have dtype float64 on a GPU, got float32", fs.cross_entropy, double, single)
    raises(TypeError, "out must have dtype float32, as the result has, got float64", fs.softmax, single, out=double)
    for name, shape in (("class_weight", 3), ("sample_weight", 4)):
        weight = driver.array(np.ones(shape))
        raises(
            TypeError,
            f"{name} must have dtype float32 on a GPU, got float64",
            fs.cross_entropy,
            half,
            t,
            **{name: weight},
        )
    up = driver.array(np.ones(4))
    options = {"reduction": "none", "grad_output": up}
    raises(TypeError, "grad_output must have dtype float32 on a GPU", fs.cross_entropy_and_grad, half, t, **options)


def test_axes_that_are_not_merged(driver):
    x = driver.array(np.zeros((2, 3, 4), np.float32))
    for function in (fs.softmax, fs.log_softmax, fs.logsumexp):
        raises(ValueError, "axis must name axes that can be merged into one on a GPU", function, x, (0, 2))


def test_upstream_gradients(driver):
    x, t = driver.array(X.copy()), driver.array(T.copy())
    up, alone = driver.array(np.ones(4, np.float32)), driver.array(np.ones((), np.float32))
    function = fs.cross_entropy_and_grad
    raises(TypeError, "have to be fetched from the GPU", function, x, t, grad_output=alone)
    raises(TypeError, "grad_output must lie on the GPU", function, x, t, grad_output="a")
    text = "grad_output must be a number when there are sample weights on a GPU"
    raises(ValueError, text, function, x, t, grad_output=up, sample_weight=up, reduction="none")


@pytest.mark.parametrize("repeated", [False, True])
def test_numbers_beyond_the_computing_dtype(driver, torch, repeated):
    """The bounds are those of the CPU; a prepared call has them too."""
    make = torch.array if repeated else driver.array
    single, double, t = make(X.astype("f4")), make(X.astype("f8")), make(T.copy())
    for name, value in (("temperature", 1e-39), ("softcap", 1e-39), ("z_loss", 1e300), ("focal_gamma", 1e300)):
        text = f"for logits that are computed in float32, got {value}; convert the logits to float64"
        raises(ValueError, text, fs.cross_entropy, single, t, **{name: value})
    function = fs.cross_entropy_and_grad
    function(double, t, grad_output=1e39)
    for up in (1.0, 2.0, np.inf):
        function(single, t, grad_output=up)
    raises(ValueError, "grad_output must hold numbers up to 3.4e+38", function, single, t, grad_output=-1e39)
    raises(ValueError, "that float64 can hold", function, single, t, grad_output=10**400)
    raises(TypeError, "probabilities must have a floating dtype", fs.cross_entropy, single, make(X.astype("i8")))


def test_outputs(driver, torch, monkeypatch):
    x, t = torch.array(X.copy()), torch.array(T.copy())
    out = torch.array(np.broadcast_to(np.zeros(3, np.float32), (4, 3)))  # torch knows no arrays that are only read
    raises(ValueError, "out must not be broadcast, got strides (0, 4)", fs.softmax, x, out=out)
    out = torch.array(np.ndarray((4, 3), np.float32, np.zeros(6, np.float32), 0, (4, 4)))
    for function, second in ((fs.softmax, ()), (fs.softmax_vjp, (x,)), (fs.cross_entropy_and_grad, (t,))):
        raises(ValueError, "out must not overlap itself, got strides (4, 4)", function, x, *second, out=out)
    text = "out must be an array that can be written, got a jaxlib.ArrayImpl"
    raises(TypeError, text, fs.softmax, x, out=LIBRARIES["jax"](monkeypatch, driver).array(X.copy()))


def test_outputs_that_disturb_what_is_read(driver):
    """Where the CPU would make a copy; the very same array is fine, and so is memory that is interleaved."""
    room = np.zeros((6, 6), np.float32)
    text = "out must not share memory with {0}, or be {0} itself, on a GPU"
    for _ in range(2):
        raises(ValueError, text.format("x"), fs.softmax, driver.array(room[:4, :3]), out=driver.array(room[1:5, :3]))
        raises(ValueError, text.format("x"), fs.softmax, driver.array(room[:3, :3]), out=driver.array(room[:3, :3].T))
        one, other = driver.array(room[:, :3]), driver.array(room[:, 3:])
        fs.softmax(one, out=other)
        fs.softmax(one, out=one)
        fs.softmax_vjp(one, other, out=other)
        near = driver.array(room[:, 1:4])
        raises(ValueError, text.format("grad"), fs.softmax_vjp, other, near, out=one)
        soft = "out must not share memory with target, on a GPU"
        raises(ValueError, soft, fs.cross_entropy_and_grad, one, other, out=other)
    same = np.zeros(4)
    x, t = driver.array(same.reshape(4, 1)), driver.array(same.view(np.int64))
    raises(ValueError, "share memory with target", fs.cross_entropy_and_grad, driver.array(np.ones((4, 1))), t, out=x)


def test_memory_that_only_some_calls_share(driver):
    """A prepared call looks at where its operands lie this time."""
    room, t = np.zeros((8, 4), np.float32), driver.array(T.copy())
    x, text = driver.array(room[:4]), "out must not share memory with"
    for rows in (slice(4, 8), slice(4, 8), slice(2, 6)):  # all of them at multiples of 16 bytes
        out = driver.array(room[rows])
        if rows.start == 4:
            fs.softmax(x, out=out)
            fs.cross_entropy_and_grad(x, t, out=out)
        else:
            raises(ValueError, f"{text} x", fs.softmax, x, out=out)
            raises(ValueError, f"{text} logits", fs.cross_entropy_and_grad, x, t, out=out)


def test_scattered_and_unaligned_arrays(torch):
    x, t = torch.array(np.zeros((3, 4, 5), np.float32)), np.zeros((4, 3), int)
    text = "target must be C-contiguous on a GPU, got strides (8, 24) with shape (3, 4); nothing is copied there: pass "
    raises(ValueError, text + "target.contiguous()", fs.cross_entropy, x, torch.array(t.T))
    wide = torch.array(np.ones(6, np.float32)[::2], offset=8)
    x, t = torch.array(X.copy()), torch.array(T.copy())
    raises(ValueError, "class_weight must be C-contiguous", fs.cross_entropy, x, t, class_weight=wide)
    apart = np.zeros(64, np.uint8)[2:50].view(np.float32)
    raises(ValueError, "x must have its elements at multiples of 4 bytes", fs.softmax, torch.array(apart))


def test_axes_of_length_one_may_have_any_stride(driver):
    t = np.lib.stride_tricks.as_strided(np.arange(3), (3, 1), (8, 800))
    x = np.zeros((3, 1, 5), np.float32)
    assert fs.cross_entropy(driver.array(x), driver.array(t), reduction="none").shape == (3, 1)
    for step in (0, -8, 3, 1 << 33):  # 3 is no multiple of an element's size
        odd = np.lib.stride_tricks.as_strided(x, strides=(20, step, 4))
        assert fs.cross_entropy(driver.array(odd), driver.array(t), reduction="none").shape == (3, 1)
        fs.softmax(driver.array(x), out=driver.array(odd))


def test_errors_launch_nothing(driver):
    x = driver.array(X.copy())
    with pytest.raises(ValueError, match="target must have shape"):
        fs.cross_entropy(x, driver.array(np.zeros(3, int)))
    assert not driver.launches
    assert not driver.allocations


def derived(library, name="DTensor", **attributes):
    """A class that is derived from torch's, whose tensors have no address; `local` ones are asked for by to_local."""
    made = {"__module__": "torch.distributed.tensor", "data_ptr": lambda self: 0, "is_cuda": True, **attributes}
    return type(name, (library.type,), made)


@pytest.mark.parametrize("first", [False, True])
def test_classes_derived_from_torchs(torch, driver, first):
    """A launch on the address 0 ends the context; one that was made before is not repeated for them either."""
    tensors = {"x": torch.array(X.copy()), "t": torch.array(T.copy()), "w": torch.array(np.ones(3, np.float32))}
    if first:
        fs.softmax(tensors["x"], out=tensors["x"])
        fs.cross_entropy_and_grad(tensors["x"], tensors["t"], class_weight=tensors["w"])
    launches = len(driver.launches)
    distributed, fake = derived(torch, to_local=None), derived(torch, "FakeTensor")
    own = derived(torch, "Mine", __module__="mine", data_ptr=torch.type.data_ptr)
    for kind, mend in ((distributed, ".to_local()"), (fake, ".as_subclass(torch.Tensor)"), (own, ".as_subclass(")):
        x, t, w = (driver.array(array.values, kind=kind) for array in tensors.values())
        what = f"must be a torch.Tensor or torch.nn.Parameter on a GPU, got a {kind.__module__}.{kind.__name__}"
        for _ in range(2):
            raises(TypeError, f"x {what}", fs.softmax, x)
            raises(TypeError, f"pass x{mend}", fs.logsumexp, x)
            raises(TypeError, f"out {what}", fs.softmax, tensors["x"], out=x)
            raises(TypeError, f"grad {what}", fs.softmax_vjp, tensors["x"], x)
            raises(TypeError, f"target {what}", fs.cross_entropy, tensors["x"], t)
            raises(TypeError, f"logits {what}", fs.cross_entropy, x, t)
            raises(TypeError, f"class_weight {what}", fs.cross_entropy, tensors["x"], tensors["t"], class_weight=w)
            raises(TypeError, f"x {what}", fs.linear_predict, x, tensors["x"])
            raises(TypeError, f"weight {what}", fs.linear_cross_entropy, tensors["x"], x, tensors["t"])
    assert len(driver.launches) == launches


def test_parameters_are_tensors(torch, driver):
    x = driver.array(X.copy(), kind=torch.module.nn.Parameter)
    np.testing.assert_allclose(torch.host(fs.softmax(x)), 1 / 3, rtol=1e-6)


@pytest.mark.parametrize("name", [*LIBRARIES, "interface", "dlpack"])
def test_no_memory_and_elements(driver, monkeypatch, name):
    """As after `untyped_storage().resize_(0)`, though a call that looks the same was made before."""
    stubs = {"interface": InterfaceArray, "dlpack": ExchangedArray}
    kind = stubs.get(name) or LIBRARIES[name](monkeypatch, driver).type
    x, t = driver.array(X.copy(), kind=kind), driver.array(T.copy(), kind=kind)
    gone, labels = driver.array(X.copy(), kind=kind), driver.array(T.copy(), kind=kind)
    for _ in range(2):
        assert fs.cross_entropy_and_grad(x, t).grad.shape == (4, 3)
        fs.softmax(x)
    gone.address = labels.address = 0
    launches = len(driver.launches)
    raises(ValueError, "x must have memory on a GPU, got the address 0 with shape (4, 3)", fs.softmax, gone)
    raises(ValueError, "logits must have memory", fs.cross_entropy_and_grad, gone, t)
    raises(ValueError, "target must have memory", fs.cross_entropy_and_grad, x, labels)
    raises(ValueError, "grad must have memory", fs.softmax_vjp, x, gone)
    raises(ValueError, "x must have memory", fs.logsumexp, gone, None)
    if name != "jax":
        raises(ValueError, "out must have memory", fs.softmax, x, out=gone)
    assert len(driver.launches) == launches
    assert fs.softmax(driver.array(np.zeros((0, 3), np.float32), kind=kind)).shape == (0, 3)


@pytest.mark.parametrize("name", ["torch", "cupy"])
def test_no_memory_and_elements_of_a_linear_pass(driver, monkeypatch, name):
    library = LIBRARIES[name](monkeypatch, driver)
    x, w, t = (library.array(a) for a in (X.copy(), np.ones((5, 3), np.float32), T.copy()))
    weight = library.array(np.ones(4, np.float32))
    for _ in range(2):
        fs.linear_cross_entropy_and_grad(x, w, t, sample_weight=weight)
    for lost, said in ((x, "x"), (w, "weight"), (t, "target"), (weight, "sample_weight")):
        lost.address, before = 0, lost.address
        raises(
            ValueError, f"{said} must have memory on a GPU", fs.linear_cross_entropy_and_grad, x, w, t,
            sample_weight=weight,
        )  # fmt: skip
        lost.address = before
    weight.address += 2
    raises(ValueError, "sample_weight must have its elements at multiples of 4 bytes",
           fs.linear_cross_entropy_and_grad, x, w, t, sample_weight=weight)  # fmt: skip


def test_tensors_without_an_address(torch, driver):
    """Sparse ones, and those of a transform: torch refuses these methods together."""

    def refuse(self):
        raise RuntimeError("Cannot access data pointer of Tensor that doesn't have storage")

    x, t = torch.array(X.copy()), torch.array(T.copy())
    fs.softmax(x)
    fs.cross_entropy(x, t)
    torch.type.layout = "torch.sparse_coo"
    for names in (["data_ptr"], ["stride", "is_contiguous"]):
        with pytest.MonkeyPatch.context() as patch:
            for name in names:
                patch.setattr(torch.type, name, refuse)
            said = "must be a dense tensor with memory of its own, got one of layout torch.sparse_coo"
            raises(TypeError, f"x {said}", fs.softmax, x)
            raises(TypeError, f"logits {said}", fs.cross_entropy, x, t)
            raises(TypeError, f"x {said}", fs.linear_predict, x, x)


def test_an_array_that_cannot_be_exchanged(driver):
    class Private(ExchangedArray):
        def __dlpack__(self, **_):
            raise BufferError("no")

    raises(TypeError, "an array on a GPU cannot be read by DLPack: no", fs.softmax, driver.array(X, kind=Private))


def test_torchs_own_classes():
    """As far as they can be had without a GPU."""
    torch = pytest.importorskip("torch")
    from torch._subclasses.fake_tensor import FakeTensorMode
    from torch.distributed.tensor import DTensor

    x = torch.zeros(2, 3)
    assert isinstance(lookup.library(x), Torch)
    assert isinstance(lookup.library(torch.nn.Parameter(x)), Torch)
    assert lookup._by_class(DTensor) is lookup._DERIVED
    assert hasattr(DTensor, "to_local")
    with FakeTensorMode() as mode:
        fake = mode.from_tensor(x)
    assert lookup.library(fake) is lookup._DERIVED
    assert isinstance(lookup.library(torch.nn.Buffer(x)), Torch)
    said = [Torch().refused(torch.eye(3).to_sparse(), "x")]
    torch.func.vmap(lambda row: said.append(Torch().refused(row, "x")) or row)(x)
    assert [text.startswith("x must be a dense tensor") for text in said] == [True, True]


def test_raw_addresses(driver):
    launch = fs.cuda.launcher("softmax", (4, 3), "float32")
    raises(ValueError, "out must have memory on the GPU, got the address 0", launch, 5, x=256, out=0)
    raises(ValueError, "x must be at a multiple of 4 bytes", launch, 5, x=258, out=256)
    fs.cuda.launcher("softmax", (0, 3), "float32")(5, x=0, out=0)


def test_arguments_that_are_missing(torch):
    x, t = torch.array(X.copy()), torch.array(T.copy())
    got = "got a NoneType; pass torch.as_tensor"
    raises(TypeError, f"grad must lie on the GPU, as y is a torch.Tensor on GPU 0, {got}", fs.softmax_vjp, x, None)
    raises(TypeError, f"y must lie on the GPU, as grad is a torch.Tensor on GPU 0, {got}", fs.softmax_vjp, None, x)
    raises(
        TypeError, f"target must lie on the GPU, as logits is a torch.Tensor on GPU 0, {got}", fs.cross_entropy, x, None
    )
    raises(
        TypeError, f"logits must lie on the GPU, as target is a torch.Tensor on GPU 0, {got}", fs.cross_entropy, None, t
    )


@pytest.mark.parametrize("axis", [None, (0, 1), ()])
def test_products_are_along_one_axis(torch, axis):
    y, g = torch.array(X.copy()), torch.array(X.copy())
    for product in (fs.softmax_vjp, fs.log_softmax_vjp):
        raises(TypeError, f"axis must be an integer, got {axis}", product, y, g, axis)
