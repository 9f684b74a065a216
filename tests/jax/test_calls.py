"""What XLA hands to the library and takes from it: memory, axes of vmap, threads; and what JAX composes with it."""

import mmap
import re
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace

import numpy as np
import pytest

from fastsoftmax import reference
from tests.support import child, labels, logits

jax = pytest.importorskip("jax")
jnp = jax.numpy
fj = pytest.importorskip("fastsoftmax.jax")

from fastsoftmax.jax import calls, rows  # noqa: E402  # behind what says whether JAX is there


@pytest.fixture
def without_buffers(monkeypatch):
    """JAX as if it had no buffer_callback any more; the calls that go the other way."""
    seen, fill = [], calls.Call.fill
    monkeypatch.setattr(calls, "_buffer_callback", None)
    monkeypatch.setattr(calls.Call, "__call__", lambda *_: pytest.fail("there are no buffers"))
    monkeypatch.setattr(calls.Call, "fill", lambda self, *arrays: seen.append(self) or fill(self, *arrays))
    jax.clear_caches()
    yield seen
    jax.clear_caches()


@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float32])
def test_nothing_is_copied(monkeypatch, dtype):
    """The kernel reads JAX's own array, and writes what JAX returns."""
    seen = []

    def spy(x, axis, *, where, out):
        seen.append((x.__array_interface__["data"][0], out.__array_interface__["data"][0]))
        out[...] = 0

    monkeypatch.setitem(rows.MAPS, False, (spy, None))
    x = jnp.ones((64, 10), dtype)
    y = jax.jit(fj.softmax)(x)
    assert seen == [(x.unsafe_buffer_pointer(), y.unsafe_buffer_pointer())]


def test_new_memory_in_large_pages(monkeypatch):
    """What is written anew is asked for in large pages, from the first whole page on; small results are not."""
    asked = []
    libc = SimpleNamespace(madvise=lambda at, size, advice: asked.append((at.value, size.value, advice)))
    monkeypatch.setattr(calls, "ctypes", SimpleNamespace(**{**vars(calls.ctypes), "CDLL": lambda _: libc}))
    monkeypatch.setattr(calls, "HUGE", 14)
    y = jax.jit(fj.softmax)(jnp.zeros((1024, 1100)))
    fj.softmax(jnp.zeros((64, 10)))
    ((at, size, advice),) = asked
    begin = y.unsafe_buffer_pointer()
    assert (at % mmap.PAGESIZE, at + size, advice) == (0, begin + y.nbytes, 14)
    assert begin <= at < begin + mmap.PAGESIZE


def test_a_loss_with_its_gradient_is_one_call():
    """XLA has nothing to add: no copy, no multiplication by 1, no change of layout."""
    x, target = jnp.zeros((64, 10)), jnp.zeros(64, int)
    text = jax.jit(jax.value_and_grad(fj.cross_entropy)).lower(x, target).compile().as_text()
    operations = re.findall(r"^ *(?:ROOT )?%\S+ = .*? ([\w-]+)\(", text[text.index("ENTRY") :], re.MULTILINE)
    assert operations == ["parameter", "parameter", "custom-call"]


def test_what_is_read_stays_as_it_is():
    x = jnp.asarray(logits(0, (64, 10), np.dtype(np.float32), 1.0))
    target, before = jnp.zeros(64, int), np.array(x)
    jax.jit(jax.grad(fj.cross_entropy))(x, target)
    jax.jit(lambda x: (fj.softmax(x), x + 1))(x)
    np.testing.assert_array_equal(x, before)


def test_equal_calls_are_compiled_once():
    """XLA keeps what it has compiled by the callback's equality."""
    one, other = (calls.Call(rows._map_kernel, (-1, False), 2, (2,), True) for _ in range(2))
    assert one is not other
    assert (one, hash(one)) == (other, hash(other))
    assert one != one._replace(constants=(-1, True))


def test_by_pure_callback(without_buffers):
    """The other way: values, gradients and vmap, in as many calls."""
    x = logits(0, (3, 4, 5), np.dtype(np.float32), 1.0)
    target = labels(np.random.default_rng(0), (3, 4, 5))
    found = jax.vmap(jax.value_and_grad(fj.cross_entropy))(x, target)
    for i in range(3):
        exact = reference.cross_entropy_and_grad(np.float64(x[i]), target[i])
        for got, right in zip(found, exact, strict=True):
            np.testing.assert_allclose(got[i], right, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(fj.softmax(x[0]), reference.softmax(np.float64(x[0])), rtol=1e-6)
    np.testing.assert_allclose(fj.row_stats(x[0], want="entropy").entropy.shape, 4)
    assert len(without_buffers) == 3


def test_axes_of_vmap():
    """One call for all rows where they share nothing, and one for each where they share a mean."""
    shapes, x = [], logits(0, (2, 3, 4, 5), np.dtype(np.float32), 1.0)

    def kernel(constants, outs, x, y):
        shapes.append((x.shape, None if y is None else y.shape))
        outs[0][...] = x.sum(constants) + (0 if y is None else y)

    def function(x, y, *, rowwise):
        return calls.call(kernel, (-2, -1), [jax.ShapeDtypeStruct((), x.dtype)], x, y, rowwise=rowwise)[0]

    for rowwise, seen in ((True, [((2, 3, 4, 5), (2, 3))]), (False, [((4, 5), ())] * 6)):
        shapes.clear()
        of = jax.vmap(jax.vmap(lambda x, y, r=rowwise: function(x, y, rowwise=r), (0, None)), (0, 0))
        found = of(x, jnp.array([10.0, 20.0]))
        np.testing.assert_allclose(found, x.sum((-2, -1)) + np.array([[10.0], [20.0]]), rtol=1e-5)
        assert shapes == seen


def test_threads():
    """Compiled once, called from many threads at a time: the bits of one."""
    x = jnp.asarray(logits(0, (300, 100), np.dtype(np.float32), 1.0))
    target = jnp.asarray(labels(np.random.default_rng(0), x.shape))
    function = jax.jit(jax.value_and_grad(fj.cross_entropy))
    expected = jax.tree.map(np.asarray, function(x, target))
    with ThreadPoolExecutor(4) as pool:
        for found in pool.map(lambda _: function(x, target), range(40)):
            for got, right in zip(found, expected, strict=True):
                np.testing.assert_array_equal(got, right)


def trained(loss, x, target, steps=30):
    """The losses of a layer that is trained by steps of the gradient."""

    @jax.jit
    def step(weight):
        value, grad = jax.value_and_grad(lambda w: loss(jax.nn.tanh(x @ w), target))(weight)
        return value, weight - 0.5 * grad

    weight = jnp.zeros((x.shape[1], 5))
    found = []
    for _ in range(steps):
        value, weight = step(weight)
        found.append(float(value))
    return found


def test_training():
    """The curve of JAX's own loss; likewise recomputed by `jax.checkpoint`."""
    random = np.random.default_rng(0)
    x = jnp.asarray(random.standard_normal((50, 8)), jnp.float32)
    target = jnp.asarray(random.integers(0, 5, 50))

    def of_jax(z, target):
        return -jnp.take_along_axis(jax.nn.log_softmax(z), target[:, None], 1).mean()

    expected = trained(of_jax, x, target)
    assert expected[-1] < expected[0] - 0.05
    for loss in (fj.cross_entropy, jax.checkpoint(fj.cross_entropy)):
        np.testing.assert_allclose(trained(loss, x, target), expected, rtol=1e-4)


def test_loops_of_jax():
    """`scan` and `cond` hold the calls, with their gradients."""
    xs = jnp.asarray(logits(0, (3, 4, 5), np.dtype(np.float32), 1.0))
    target = jnp.array([0, 1, 2, 3])

    def total(xs):
        def body(sum_, x):
            loss = jax.lax.cond(sum_ >= 0, lambda: fj.cross_entropy(x, target), lambda: 0.0)
            return sum_ + loss, None

        return jax.lax.scan(body, 0.0, xs)[0]

    found = jax.jit(jax.grad(total))(xs)
    for got, x in zip(found, xs, strict=True):
        exact = reference.cross_entropy_and_grad(np.float64(x), np.asarray(target)).grad
        np.testing.assert_allclose(got, exact, rtol=1e-5, atol=1e-7)


def test_without_jax():
    """One line, with the command."""
    code = (
        "import sys; sys.modules['jax'] = None\ntry: import fastsoftmax.jax\nexcept ImportError as error: print(error)"
    )
    done = child(code)
    assert done.returncode == 0, done.stderr
    assert "fastsoftmax.jax needs jax 0.7 or newer" in done.stdout
    assert done.stdout.strip().endswith("install it with: pip install 'jax>=0.7'")
