"""Random calls of the linear functions, held against the reference: dtypes, layouts, sparse formats, special values."""

from typing import NamedTuple

import numpy as np
import scipy.sparse

import fastsoftmax as fs
from fastsoftmax import reference
from fastsoftmax.reference.linear import linear_logits
from tests.support import BFLOAT16, LAYOUTS, assert_exact, both

F16, F32, F64 = (np.dtype(t) for t in (np.float16, np.float32, np.float64))
KINDS = [F16, BFLOAT16, F32, F64, np.dtype(np.int8), np.dtype(np.int64), np.dtype(np.uint16), np.dtype(">f4")]
SPECIAL = [np.inf, -np.inf, np.nan, 0.0, -0.0]


class Menu(NamedTuple):
    """The choices of a random call: the shorter they are, the fewer kernels are compiled."""

    kinds: tuple = (F32, F64)
    narrow: tuple = (F16, F32, F64, np.dtype(np.int8))  # of weights, bias and directions, which are converted
    shapes: tuple = ((1, 7), (20, 1), (33, 7), (40, 33))  # rows and features
    classes: tuple = (5, 60)
    layouts: tuple = ("C", "backwards", "byte-swapped", "Fortran")


#: Everything: for runs by hand, as each choice takes kernels of its own.
ALL = Menu(
    (*KINDS,),
    (*KINDS,),
    ((1, 1), (1, 7), (2, 130), (20, 1), (33, 7), (40, 33), (70, 16), (3, 0), (300, 2)),
    (1, 2, 5, 16, 17, 47, 48, 49, 60, 100, 300, 1100),
    (*LAYOUTS,),
)


class Call(NamedTuple):
    """The operands of a call."""

    x: object
    weight: np.ndarray
    bias: np.ndarray | None
    directions: tuple
    target: np.ndarray
    sample_weight: np.ndarray | None
    random: np.random.Generator

    @property
    def work(self):
        """What is computed in, by the documentation."""
        return _work(self.x, self.weight)


def _work(*arrays):
    wide = (a.dtype.kind in "iu" or a.dtype.itemsize == 8 for a in arrays)
    return F64 if any(wide) else F32


def _numbers(random, shape, dtype, specials):
    """Numbers of about 1 in a dtype, some of them special where the dtype has such."""
    array = random.standard_normal(shape)
    if dtype.kind == "i":
        return np.round(array * 2).astype(dtype)
    if dtype.kind == "u":
        return np.abs(np.round(array * 2)).astype(dtype)
    if specials:
        array = np.where(random.uniform(size=shape) < specials, random.choice(SPECIAL, shape), array)
    return array.astype(dtype)


def _sparse(random, x):
    """A sparse matrix with some of the numbers of an array: unsorted, repeated and stored zeros among them."""
    by_row = random.random() < 0.5
    row, column = np.nonzero(random.uniform(size=x.shape) < 0.4)
    again = random.integers(0, max(len(row), 1), len(row) // 8)
    row, column = np.append(row, row[again]), np.append(column, column[again])
    order = random.permutation(len(row))
    row, column = row[order], column[order]
    major, minor = (row, column) if by_row else (column, row)
    order = np.argsort(major, kind="stable")
    starts = np.searchsorted(major[order], np.arange(x.shape[0 if by_row else 1] + 1))
    kind = random.choice(["sorted", "stale", "plain"])
    made = (scipy.sparse.csr_array if by_row else scipy.sparse.csc_array)(x.shape, dtype=F64)
    made.data, made.indices, made.indptr = x[row, column][order], minor[order], starts
    if kind == "stale":
        made.has_sorted_indices = True
    elif kind == "sorted" and made.data.dtype in (F32, F64):
        made.sort_indices()
    word = np.dtype(random.choice(["<i4", "<i8", "<u4", ">i4", "<u2"]))
    made.indices, made.indptr = made.indices.astype(word), made.indptr.astype(word)
    return made


def drawn(seed, menu):
    """A random call."""
    random = np.random.default_rng(seed)

    def one(choices):
        return choices[random.integers(len(choices))]

    def placed(array):
        return LAYOUTS[one(menu.layouts)](array) if random.random() < 0.5 else array

    (rows, features), classes, specials = one(menu.shapes), one(menu.classes), one((0, 0, 0.003, 0.03))
    where = set(random.choice(["x", "weight", "bias", "direction"], random.integers(1, 5)))

    def made(name, shape, kinds):
        array = _numbers(random, shape, one(kinds), specials if name in where else 0)
        return placed(array * array.dtype.type(0.25) if array.dtype.kind not in "iu" else array)

    x = made("x", (rows, features), menu.kinds)
    weight = made("weight", (classes, features), menu.narrow)
    bias = made("bias", (classes,), menu.narrow) if random.random() < 0.7 else None
    directions = (
        made("direction", (classes, features), menu.narrow),
        None if bias is None else made("direction", (classes,), menu.narrow),
    )
    if random.random() < 0.4:
        x = _sparse(random, np.asarray(x).astype(x.dtype.newbyteorder("=")))
    target = np.where(random.uniform(size=rows) < 0.1, -100, random.integers(0, classes, rows))
    if random.random() < 0.2:
        target = random.uniform(0, 1, (rows, classes)).astype(one((F32, F64)))
    weights = random.uniform(0.1, 2, rows) if random.random() < 0.3 else None
    return Call(x, weight, bias, directions, target, weights, random)


def _clean(array):
    """Magnitudes in float64, 0 for those that are not finite."""
    array = array.toarray() if hasattr(array, "toarray") else np.asarray(array)
    return np.abs(np.nan_to_num(array.astype(np.float64), nan=0, posinf=0, neginf=0))


def _steep(x, weight, bias):
    """What rounding errors of the logits of any row are proportional to."""
    terms = _clean(x) @ _clean(weight).T + (0 if bias is None else _clean(bias))
    return 1 + terms.max(initial=0.0)


def _finite_like(result):
    """The same numbers, for errors in proportion to the largest of them."""
    return np.max(np.abs(np.nan_to_num(np.asarray(result, np.float64), nan=0, posinf=0, neginf=0)), initial=0.0)


def compare(call):
    """Hold every function against the reference."""
    with np.errstate(all="ignore"):
        _losses(call)
        _hessian(call)
        _classes(call)
        _probabilities(call)


def _losses(call):
    x, weight, bias, target = call.x, call.weight, call.bias, call.target
    reduction = str(call.random.choice(["mean", "sum", "none"]))
    wrt = ("weight", "bias") if hasattr(x, "toarray") else ("x", "weight", "bias")
    options = {"reduction": reduction, "wrt": wrt}
    options |= {} if call.sample_weight is None else {"sample_weight": call.sample_weight}
    found = fs.linear_cross_entropy_and_grad(x, weight, target, bias, **options)
    exact, naive = both(fs.linear_cross_entropy_and_grad, x, weight, target, bias, dtype=call.work, **options)
    assert np.asarray(found.loss).dtype == call.work
    alone = fs.linear_cross_entropy(x, weight, target, bias, **{k: v for k, v in options.items() if k != "wrt"})
    rows = np.size(target) if reduction == "sum" else np.shape(target)[-1]
    steep = _steep(x, weight, bias)
    size = 3 * steep * rows
    assert_exact(found.loss, exact.loss, naive.loss, along=None, size=size)
    assert_exact(alone, exact.loss, naive.loss, along=None, size=size)
    sums = {"x": _clean(weight).sum(axis=0), "weight": _clean(x).sum(axis=0), "bias": len(target)}
    for name in wrt:
        got, right, plain = (getattr(r, f"grad_{name}") for r in (found, exact, naive))
        assert (got is None) == (right is None)
        if got is not None:
            assert_exact(got, right, plain, along=None, size=3 * steep * rows * np.max(sums[name], initial=0.0))


def _hessian(call):
    x, weight, bias, (along, bias_along) = call.x, call.weight, call.bias, call.directions
    options = {"reduction": str(call.random.choice(["mean", "sum"]))}
    options |= {} if call.sample_weight is None else {"sample_weight": call.sample_weight}
    found = fs.linear_hessian_product(x, weight, bias, along, bias_along, **options)
    work = _work(x, weight, along)
    exact, naive = both(fs.linear_hessian_product, x, weight, bias, along, bias_along, dtype=work, **options)
    assert found.weight.dtype == work
    size = 3 * len(call.target) * _steep(x, weight, bias) * _steep(x, along, bias_along)
    assert_exact(found.weight, exact[0], naive[0], along=None, size=size * _clean(x).max(initial=0.0))
    assert (found.bias is None) == (bias is None)
    if bias is not None:
        assert_exact(np.asarray(found.bias).astype(work), exact[1], naive[1], along=None, size=size)


def _classes(call):
    """Classes by logits: exact where these are no finite numbers, and within rounding elsewhere."""
    x, weight, bias = call.x, call.weight, call.bias
    classes = len(weight)
    k = int(call.random.integers(1, classes + 1))
    z = linear_logits(x, weight, bias, F64)[2]
    top, exact = fs.linear_top_k(x, weight, bias, k=k), reference.linear_top_k(x, weight, bias, k=k)
    steep = _steep(x, weight, bias)
    got, right = (np.take_along_axis(z, i, axis=1) for i in (top.indices, exact.indices))
    np.testing.assert_allclose(got, right, rtol=0, atol=8 * np.finfo(call.work).eps * steep)
    np.testing.assert_array_equal(top.indices[~np.isfinite(right)], exact.indices[~np.isfinite(right)])
    assert all(len(set(row)) == k for row in top.indices.tolist())
    naive = np.take_along_axis(reference.log_softmax(z, dtype=call.work), top.indices, axis=1)
    log_proba = np.take_along_axis(reference.log_softmax(z), top.indices, axis=1)
    assert top.log_proba.dtype == call.work
    assert_exact(top.log_proba, log_proba, naive, along=None, size=3 * steep)
    found = fs.linear_predict(x, weight, bias)
    np.testing.assert_array_equal(found, top.indices[:, 0])


def _probabilities(call):
    x, weight, bias = call.x, call.weight, call.bias
    found = fs.linear_predict_proba(x, weight, bias)
    exact, naive = both(fs.linear_predict_proba, x, weight, bias, dtype=call.work)
    half = x.dtype.newbyteorder("=") in (F16, BFLOAT16) and call.work == F32
    assert found.dtype == (x.dtype.newbyteorder("=") if half else call.work)
    assert_exact(found, exact, naive, along=None, size=3 * _steep(x, weight, bias))
