"""What XLA would hand over on a GPU: its buffers by DLPack, and a stream.  Nothing here is a GPU's result.

JAX itself has no GPU here: the calls are given the buffers that it would give them.  Kernels are NumPy's
(tests/standins/numpy_kernels.py), so that each argument counts.
"""

from types import SimpleNamespace

import numpy as np
import pytest
from ml_dtypes import bfloat16

from fastsoftmax import reference
from tests.standins import numpy_kernels  # noqa: F401  skips where numba-cuda is not installed
from tests.standins.arrays import ExchangedArray
from tests.support import computed

jax = pytest.importorskip("jax")
fj = pytest.importorskip("fastsoftmax.jax")

from fastsoftmax.core.options import Options  # noqa: E402  # behind what says whether JAX is there
from fastsoftmax.core.statistics import BITS  # noqa: E402
from fastsoftmax.jax import calls, divergence, losses, rows, statistics  # noqa: E402

STREAM = 7
NONE, MEAN = Options(reduction="none"), Options()
T = np.array([0, 6, -100, 3], np.int32)


def drawn(*shape, dtype=np.float32, seed=0):
    return (3 * np.random.default_rng(seed).standard_normal(shape)).astype(dtype)


class Xla:
    """XLA on the second of two devices: it calls with buffers that its stream has written, and reads on that stream."""

    def __init__(self, driver):
        self.driver = driver

    def buffer(self, values):
        made = self.driver.array(np.array(values), device=1, stream=None, kind=ExchangedArray)
        if made.values.size:
            self.driver.order.step(STREAM, [], [self.driver.buffer(made.address).name])
        return made

    def run(self, kernel, constants, results, *arrays, batch=(), rowwise=True):
        """What a call writes, of results that are (shape, dtype)."""
        ranks = tuple(0 if a is None else a.ndim - len(batch) for a in arrays)
        call = calls.Call(kernel, constants, len(results[0][0]) - len(batch), ranks, rowwise)
        outs = [self.driver.empty(shape, dtype, device=1, kind=ExchangedArray) for shape, dtype in results]
        call(SimpleNamespace(stream=STREAM), outs, *(None if a is None else self.buffer(a) for a in arrays))
        for out in outs:
            self.driver.order.step(STREAM, [self.driver.buffer(out.address).name], [])
            assert self.driver.buffer(out.address).written.all()
        assert {(one.device, one.stream) for one in self.driver.launches} == {(1, STREAM)}
        assert not [call for call in self.driver.calls if call[0] in ("wait", "read", "clear")]
        return [out.values for out in outs]


@pytest.fixture
def xla(driver):
    return Xla(driver)


def near(found, expected, dtype=np.float32):
    error = {"float16": 1e-3, "bfloat16": 8e-3, "float32": 4e-6, "float64": 1e-13}[np.dtype(dtype).name]
    np.testing.assert_allclose(np.asarray(found, np.float64), expected, rtol=error, atol=error)


@pytest.mark.parametrize("dtype", [np.float16, bfloat16, np.float32, np.float64])
def test_maps(xla, dtype):
    """Into XLA's memory at once, but for a sum, which is copied there."""
    x, where = drawn(4, 7, dtype=dtype), np.array([[True, False, True, True, False, True, True]])
    wide = x.astype(np.float64)
    for log, name in enumerate(("softmax", "log_softmax")):
        near(xla.run(rows._map_kernel, (-1, log), [(x.shape, dtype)], x, where)[0],
             getattr(reference, name)(wide, where=where), dtype)  # fmt: skip
        y = getattr(reference, name)(wide).astype(dtype)
        near(xla.run(rows._vjp_kernel, (-1, log), [(x.shape, dtype)], y, x)[0],
             getattr(reference, f"{name}_vjp")(y.astype(np.float64), wide), dtype)  # fmt: skip
    assert not xla.driver.allocations
    near(xla.run(rows._lse_kernel, -1, [((4,), dtype)], x, None)[0], reference.logsumexp(wide), dtype)
    assert [call[:3] for call in xla.driver.calls if call[0] == "copy"] == [("copy", 1, STREAM)]


@pytest.mark.parametrize("reduction", ["mean", "none"])
@pytest.mark.parametrize("dtype", [bfloat16, np.float32])
def test_losses(xla, dtype, reduction):
    """With what each class and row has, of JAX's own class indices."""
    wide, o = computed(dtype), Options(label_smoothing=0.1, reduction=reduction)
    x, weights, offset = drawn(4, 7, dtype=dtype), [np.linspace(0.5, 1, n, dtype=wide) for n in (7, 4)], drawn(7)
    given = x, T, *weights, drawn(4, 7) < 2, offset.astype(wide)
    names = ("class_weight", "sample_weight", "where", "class_offset")
    more = dict(zip(names, given[2:], strict=True)) | {"label_smoothing": 0.1, "reduction": reduction}
    exact = reference.cross_entropy_and_grad(x.astype(np.float64), T, **more)
    rows = (4,) if reduction == "none" else ()
    of = losses.CROSS_ENTROPY
    near(xla.run(of.kernel, (-1, o), [(rows, wide)], *given)[0], exact.loss)
    loss, grad = xla.run(of.kernel_of_both, ((-1, o), (True,)), [(rows, wide), (x.shape, dtype)], *given)
    near(loss, exact.loss)
    near(grad, exact.grad, dtype)


def test_upstream_gradients(xla):
    """One a row, of losses and of statistics."""
    x, up = drawn(4, 7), drawn(4, seed=1)
    given = x, T, None, None, None, None, up
    near(xla.run(losses.CROSS_ENTROPY.kernel_of_grad, ((-1, NONE), (True,)), [(x.shape, np.float32)], *given)[0],
         reference.cross_entropy_and_grad(x, T, reduction="none", grad_output=up).grad)  # fmt: skip
    near(xla.run(statistics._stats_vjp_kernel, (-1, NONE), [(x.shape, np.float32)], x, T, None, None, up, None, up)[0],
         reference.row_stats_vjp(x, T, log_prob=up, log_sum_exp=up))  # fmt: skip


def test_statistics(xla):
    """Real numbers and truths by themselves; class numbers where JAX has them in 64 bits."""
    x, want = drawn(4, 7), ("entropy", "argmax", "correct")
    variant = sum(BITS[name] for name in want)
    exact = reference.row_stats(x, T, want=want)
    kinds = {"entropy": np.float32, "argmax": np.int64, "correct": np.bool_}
    named = [name for name in exact._fields if name in want]
    results = [((4,), kinds[name]) for name in named]
    found = xla.run(statistics._stats_kernel, (-1, NONE, variant, 0), results, x, T, None, None)
    for got, name in zip(found, named, strict=True):
        near(got, getattr(exact, name))
    with pytest.raises(TypeError, match="jax_enable_x64"):
        xla.run(statistics._stats_kernel, (-1, NONE, BITS["argmax"], 0), [((4,), np.int32)], x, None, None, None)


def test_divergences(xla):
    """Of a teacher of all classes, and of one that lists some."""
    x, y = drawn(4, 7), drawn(4, 7, seed=1)
    constants = (-1, "logits", "reverse", None, NONE), (True,)
    results = [((4,), np.float32), (x.shape, np.float32)]
    loss, grad = xla.run(divergence.KL_DIVERGENCE.kernel_of_both, constants, results, x, y, None, None, None)
    exact = reference.kl_divergence_and_grad(x, y, direction="reverse", reduction="none")
    near(loss, exact.loss)
    near(grad, exact.grad)
    listed, log_q = np.tile(np.int32([3, 0]), (4, 1)), np.log(np.full((4, 2), 0.25, np.float32))
    constants = -1, "logits", "forward", "bucket", MEAN
    found = xla.run(divergence.KL_DIVERGENCE.kernel, constants, [((), np.float32)], x, log_q, listed, None, None)
    near(found[0], reference.kl_divergence(x, (listed, log_q), tail="bucket"))


def test_vmap(xla):
    """Rows are one call; what is broadcast, and means, are one for each."""
    x = drawn(3, 4, 7)
    exact = reference.softmax(x.astype(np.float64))
    near(xla.run(rows._map_kernel, (-1, False), [(x.shape, np.float32)], x, None, batch=(3,))[0], exact)
    assert len(xla.driver.launches) == 1
    where = np.array([[[True, False, True, True, False, True, True]]])
    near(xla.run(rows._map_kernel, (-1, False), [(x.shape, np.float32)], x, where, batch=(3,))[0],
         reference.softmax(x.astype(np.float64), where=where))  # fmt: skip
    assert len(xla.driver.launches) == 4
    given = x, np.stack([T] * 3), None, None, None, None
    results = [((3,), np.float32), (x.shape, np.float32)]
    loss, grad = xla.run(losses.CROSS_ENTROPY.kernel_of_both, ((-1, MEAN), (True,)), results, *given,
                         batch=(3,), rowwise=False)  # fmt: skip
    for i in range(3):
        right = reference.cross_entropy_and_grad(x[i].astype(np.float64), T)
        near(loss[i], right.loss)
        near(grad[i], right.grad)


def test_what_there_is_none_of(xla):
    """Said with what to do instead."""
    x = drawn(4, 7)
    given = x, T, None, None, None, None, np.float32(1.0).reshape(())
    with pytest.raises(NotImplementedError, match="take reduction='none'"):
        xla.run(losses.CROSS_ENTROPY.kernel_of_grad, ((-1, MEAN), (True,)), [(x.shape, np.float32)], *given)
    given = x, drawn(5, 7), None, T, None, None, None
    with pytest.raises(NotImplementedError, match=r"pass cross_entropy the logits x @ weight.T"):
        xla.run(losses.LINEAR_CROSS_ENTROPY.kernel, (MEAN,), [((), np.float32)], *given)
    given = x, T, drawn(7).astype(np.float64), None, None, None
    with pytest.raises(TypeError, match=r"pass class_weight.astype\('float32'\)"):
        xla.run(losses.CROSS_ENTROPY.kernel, (-1, MEAN), [((), np.float32)], *given)
