"""Linear passes on a GPU: values, outputs, labels and edges.

Kernels are NumPy's, and so are the libraries' products (tests/standins): nothing here is a result of a GPU.
"""

import numpy as np
import pytest
from ml_dtypes import bfloat16

import fastsoftmax as fs
from fastsoftmax import reference
from fastsoftmax.cuda.linear import backend
from tests.backends import Gpu, raises
from tests.cuda.host.support import DTYPES, near
from tests.cuda.linear.support import SHAPE, as_reference, every, on, torch, wide
from tests.linear.support import ALL, problem
from tests.standins.arrays import InterfaceArray


@every
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("soft", [False, True])
def test_values_over_several_chunks(library, name, dtype, soft):
    """The last one is smaller; ignored rows are in all of them."""
    *given, options = problem(0, SHAPE, dtype, soft=soft)
    given[2] = given[2] if not soft else given[2].astype(dtype if dtype == np.float64 else np.float32)
    for block in (16, None, 1):
        as_reference(library, given, options, block_rows=block, size=0.5)


@every
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_offsets_of_the_classes(library, driver, name, dtype):
    """Over several chunks, after softcap and temperature; on another stream they are waited for."""
    x, weight, target, bias, _ = problem(4, SHAPE, dtype)
    offset = np.random.default_rng(4).normal(size=9).astype(np.float64 if dtype == np.float64 else np.float32)
    offset[3] = -np.inf
    target[target == 3] = 4
    options = {"softcap": 3.0, "temperature": 0.7, "class_offset": offset}
    as_reference(library, [x, weight, target, bias], options, block_rows=16, size=0.5)
    far = driver.array(offset, kind=InterfaceArray, stream=5)
    loss = fs.linear_cross_entropy(*on(library, x, weight, target, bias), class_offset=far, block_rows=16)
    exact = reference.linear_cross_entropy(*wide([x, weight, target, bias]), class_offset=offset)
    near(library.host(loss), exact, dtype, 5)
    assert len([call for call in driver.calls if call[0] == "wait"]) == 1
    text = "class_offset must have shape (9,), a number for each class, got (8,)"
    raises(
        ValueError,
        text,
        fs.linear_cross_entropy,
        *on(library, x, weight, target),
        class_offset=library.array(offset[:8]),
    )


@torch
def test_upstream_gradients(library, name):
    """A number makes no call look different."""
    *given, options = problem(2, SHAPE, np.float32)
    for up in (0.5, np.float32(-2), 7):
        as_reference(library, given, options, block_rows=16, grad_output=up, size=10)
    assert len(backend._prepared) == 1


@torch
@pytest.mark.parametrize("reduction", ["sum", "none"])
def test_weights_of_rows_of_half_types(library, name, reduction):
    """Are of float32, as losses are: four bytes a row, where logits have two."""
    *given, options = problem(12, SHAPE, np.float16, {"sample_weight": True})
    as_reference(library, given, options, block_rows=16, reduction=reduction, size=20)


@torch
def test_where_targets_begin_is_part_of_what_a_call_looks_like(library, name):
    """Kernels are chosen by the address modulo 16."""
    x, weight, target, bias, _ = problem(13, SHAPE, np.float32, soft=True)
    for offset in (0, 4, 0):
        arrays = *on(library, x, weight), library.array(target.copy(), offset=offset), library.array(bias)
        loss = fs.linear_cross_entropy(*arrays, block_rows=16)
        near(library.host(loss), reference.linear_cross_entropy(x, weight, target, bias), size=5)
    assert len(backend._prepared) == 2


@torch
def test_options_are_part_of_what_a_call_looks_like(library, name):
    *given, options = problem(17, SHAPE, np.float32)
    for changed in ({}, {"reduction": "sum"}, {"label_smoothing": 0.1}, {"z_loss": 0.1}, {"block_rows": 8}):
        as_reference(library, given, options, size=20, **changed)
    assert len(backend._prepared) == 5


@torch
def test_labels_of_32_bits(library, name):
    *given, options = problem(3, SHAPE, np.float32)
    given[2] = given[2].astype(np.int32)
    as_reference(library, given, options, block_rows=16)


@every
def test_layouts(library, name):
    """Features and weights of any strides, soft targets too: of odd rows, so that chunks might begin anywhere."""
    x, weight, target, bias, options = problem(4, (50, 7, 9), np.float32, soft=True)
    given = [x.T.copy().T, weight.T.copy().T, np.repeat(target, 2, axis=1)[:, ::2], np.repeat(bias, 2)[::2]]
    as_reference(library, given, options, block_rows=9)


# Outputs.


@every
@pytest.mark.parametrize("dtype", [np.float32, bfloat16])
def test_outputs(library, name, dtype):
    """Given arrays are what comes back; the features' gradient may go where the features are."""
    *given, _ = problem(7, SHAPE, dtype)
    arrays = on(library, *(a.copy() for a in given))
    out = {"weight": library.array(np.full((9, 7), np.nan, dtype)), "bias": library.array(np.full(9, np.nan, dtype))}
    out["x"] = arrays[0]
    right = reference.linear_cross_entropy_and_grad(*wide(given), wrt=ALL)
    for _ in range(2):  # the second time, a call that was prepared
        arrays[0].values[...] = given[0]
        result = fs.linear_cross_entropy_and_grad(*arrays, wrt=ALL, out=out, block_rows=16)
        assert result[1:] == (out["x"], out["weight"], out["bias"])
        for found, expected in zip(result, right, strict=True):
            near(library.host(found), expected, dtype, 0.5)


# Labels.


@every
@pytest.mark.parametrize("check", [None, False])
def test_bad_labels_are_nan(library, driver, name, check):
    """In their own row's loss and gradient, and in all that is summed over rows."""
    *given, _ = problem(8, SHAPE, np.float32)
    given[2][20] = 9
    options = {"wrt": ALL, "reduction": "none", "block_rows": 16, "check_targets": check}
    result = Gpu(driver, library).call(fs.linear_cross_entropy_and_grad, *given, **options)
    assert np.isnan(result.loss).nonzero()[0].tolist() == [20]
    assert np.isnan(result.grad_x).any(axis=1).nonzero()[0].tolist() == [20]
    assert np.isnan(result.grad_weight).all()
    assert not [call for call in driver.calls if call[0] in ("read", "clear")]


@every
@pytest.mark.parametrize("reduction", ["mean", "none"])
def test_bad_labels_raise_where_it_is_asked_for(library, driver, name, reduction):
    """After one wait, and before anything is computed."""
    *given, _ = problem(8, SHAPE, np.float32)
    given[2][40] = -3
    options = {"reduction": reduction, "block_rows": 16, "check_targets": True}
    for function in (fs.linear_cross_entropy, fs.linear_cross_entropy_and_grad):
        with pytest.raises(ValueError, match=r"\[0, 9\) or ignore_index, got -3 at row 40"):
            function(*on(library, *given), **options)
    assert [one.entry for one in driver.launches] == ["count"] * 2
    assert not library.work
    given[2][40] = 3
    as_reference(library, given, {}, size=10, **options)


# Edges.


@every
@pytest.mark.parametrize("dtype", [np.float32, np.float16])
def test_ignored_rows_with_nan(library, driver, name, dtype):
    """They have loss and gradient 0, whatever their features; the weights' gradient meets 0 times NaN, as is said."""
    *given, _ = problem(11, SHAPE, dtype)
    given[2][7] = -100
    clean = [a.copy() for a in given]
    given[0][7, 3] = np.nan
    result = Gpu(driver, library).call(fs.linear_cross_entropy_and_grad, *given, wrt=ALL, block_rows=16)
    right = reference.linear_cross_entropy_and_grad(*wide(clean), wrt=ALL)
    near(result.loss, right.loss, dtype, 5)
    near(result.grad_x, right.grad_x, dtype)
    near(result.grad_bias, right.grad_bias, dtype)
    assert np.isnan(result.grad_weight[:, 3]).all()
    near(np.delete(result.grad_weight, 3, 1), np.delete(right.grad_weight, 3, 1), dtype, 5)


@every
def test_no_rows(library, driver, name):
    given = [*(np.zeros(shape, np.float32) for shape in ((0, 7), (9, 7))), np.zeros(0, int), np.zeros(9, "f4")]
    call = Gpu(driver, library).call
    result = call(fs.linear_cross_entropy_and_grad, *given, wrt=ALL)
    assert np.isnan(result.loss)
    assert result.grad_x.shape == (0, 7)
    out = {key: np.full(shape, np.nan, np.float32) for key, shape in (("weight", (9, 7)), ("bias", 9))}
    for gradients in (result, call(fs.linear_cross_entropy_and_grad, *given, out=out)):
        assert not gradients.grad_weight.any()
        assert not gradients.grad_bias.any()
    assert call(fs.linear_cross_entropy, *given, reduction="sum") == 0
