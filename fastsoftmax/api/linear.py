"""Functions of linear maps, from features to loss, gradients and predictions: signatures and documentation."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, DTypeLike, NDArray

from ..core.options import options as checked
from ..core.options import transforms
from ..core.statistics import wanted
from .backends import linear_backend
from .statistics import RowStats, TopK, by_name

Array = NDArray[Any]


class LinearLossAndGrad(NamedTuple):
    """The loss, and its gradients with respect to features, weights and bias; None for what was not asked for."""

    loss: Any
    grad_x: Array | None
    grad_weight: Array | None
    grad_bias: Array | None


class HessianProduct(NamedTuple):
    """A product of the Hessian, with respect to weights and bias; None without a bias."""

    weight: Array
    bias: Array | None


def linear_cross_entropy(
    x: Any,
    weight: ArrayLike,
    target: ArrayLike,
    bias: ArrayLike | None = None,
    *,
    class_weight: ArrayLike | None = None,
    sample_weight: ArrayLike | None = None,
    ignore_index: int = -100,
    label_smoothing: float = 0.0,
    z_loss: float = 0.0,
    focal_gamma: float = 0.0,
    poly_epsilon: float = 0.0,
    temperature: float = 1.0,
    softcap: float | None = None,
    class_offset: ArrayLike | None = None,
    reduction: str = "mean",
    block_rows: int | None = None,
    check_targets: bool | None = None,
) -> Any:
    r"""Cross-entropy of the logits ``x Wᵀ + b``, which are never there all at once.

    .. math:: L = \operatorname{cross\_entropy}(X W^T + b,\; \text{target})

    Parameters
    ----------
    x : array_like or sparse matrix, shape (n, d)
        Features: float16, bfloat16, float32 or float64 of any strides, a `numpy.memmap` larger than memory, or a CSR or
        CSC matrix of SciPy's.  Integers count as float64.
    weight : array_like, shape (K, d)
        Weights as in `torch.nn.Linear` and as scikit-learn's ``coef_``; for ``x @ W + b`` pass ``W.T``.
    target : array_like, shape (n,) or (n, K)
        Class indices of an integer dtype, or probabilities of a floating one.
    bias : array_like, shape (K,), optional
        The bias b.
    class_weight : array_like, shape (K,), optional
        Weights >= 0 of the classes.
    sample_weight : array_like, shape (n,), optional
        Weights >= 0 that multiply the rows' losses.
    ignore_index : int, default -100
        Rows with this class index are left out before the logits are computed: they cost nothing, and nothing in them,
        NaN included, reaches a loss or a gradient.
    label_smoothing, z_loss, focal_gamma, poly_epsilon, temperature, softcap, class_offset, reduction
        As for `cross_entropy`.
    block_rows : int >= 1, optional
        Rows whose logits are computed together; by default as many as the caches and 32 MB allow (on a GPU 512 MB, and
        at least 2048 rows).  Results agree to rounding whatever it is.
    check_targets : bool, optional
        Whether class indices out of range raise an error; as for `cross_entropy`, it matters on a GPU alone.

    Returns
    -------
    scalar, or ndarray of shape (n,) for "none"
        float64 if `x` or `weight` is, else float32: that is also what the logits are computed in.

    Raises
    ------
    TypeError, ValueError
        If an argument has an unsuitable dtype, shape or value; the message says which, and where.  Labels are checked
        before anything is computed.

    See Also
    --------
    cross_entropy : the formulas, for logits that are there.
    workspace_bytes : the memory that a call takes.

    Notes
    -----
    O(n d K) time; x is read once.  Extra memory is at most 32 MB, and the weights once where they have to be converted
    (half types, strides that BLAS does not take, sparse features).  Results are the same bit for bit whatever the
    number of threads.  While it runs, the BLAS that came with SciPy is held to one thread; its setting is restored.

    What a sparse matrix does not store takes no part in a product, as in SciPy's own: beside it a weight that is
    infinite or NaN adds nothing to a logit, and such a gradient nothing to a weight's, where dense features would make
    them NaN.  A zero that is stored is a number like others: times infinity it is NaN.  So it is in every linear
    function.

    On a GPU, features, weights and bias are arrays of PyTorch or CuPy, whose products are used, all of one dtype, and
    results are of their kind, on the caller's current stream.  Nothing is converted; logits are rounded to that dtype.
    Ignored rows are computed there too: they have loss 0, but NaN in their features reaches the weights' gradient.

    Examples
    --------
    >>> import numpy as np, fastsoftmax as fs
    >>> x, weight = np.array([[1.0, 2.0], [3.0, 4.0]]), np.zeros((4, 2))
    >>> round(float(fs.linear_cross_entropy(x, weight, [0, 3])), 4)  # log(4)
    1.3863
    """
    options = checked(ignore_index, label_smoothing, z_loss, focal_gamma, poly_epsilon, temperature, softcap, reduction)
    arrays = x, weight, bias, target, class_weight, sample_weight, None
    at = linear_backend(*arrays, class_offset)
    return at.loss(*arrays, options, block_rows, check_targets=check_targets, class_offset=class_offset)[0]


def linear_cross_entropy_and_grad(
    x: Any,
    weight: ArrayLike,
    target: ArrayLike,
    bias: ArrayLike | None = None,
    *,
    class_weight: ArrayLike | None = None,
    sample_weight: ArrayLike | None = None,
    ignore_index: int = -100,
    label_smoothing: float = 0.0,
    z_loss: float = 0.0,
    focal_gamma: float = 0.0,
    poly_epsilon: float = 0.0,
    temperature: float = 1.0,
    softcap: float | None = None,
    class_offset: ArrayLike | None = None,
    reduction: str = "mean",
    grad_output: ArrayLike | None = None,
    wrt: str | Sequence[str] = ("weight", "bias"),
    out: Mapping[str, Array] | None = None,
    block_rows: int | None = None,
    check_targets: bool | None = None,
) -> LinearLossAndGrad:
    r"""`linear_cross_entropy` and its gradients, in one pass over the features.

    With G the gradient with respect to the logits, as from `cross_entropy_and_grad`,

    .. math:: \frac{\partial L}{\partial W} = G^T X, \qquad
        \frac{\partial L}{\partial b} = \sum_i G_i, \qquad
        \frac{\partial L}{\partial X} = G W

    Parameters
    ----------
    x, weight, target, bias
        As for `linear_cross_entropy`.
    class_weight : array_like, shape (K,), optional
        Weights >= 0 of the classes.
    sample_weight : array_like, shape (n,), optional
        Weights >= 0 that multiply the rows' losses.
    ignore_index : int, default -100
        Rows with this class index are left out before the logits are computed: they cost nothing, and nothing in them,
        NaN included, reaches a loss or a gradient.
    label_smoothing, z_loss, focal_gamma, poly_epsilon, temperature, softcap, class_offset, reduction
        As for `cross_entropy`.
    grad_output : scalar, or array_like of shape (n,) for "none", default 1
        The upstream gradient that each row's G is multiplied by, before the products.
    wrt : str or sequence of str, default ("weight", "bias")
        Which gradients to compute: some of "x", "weight" and "bias".  What is not named costs nothing.  "bias" means
        nothing without a bias; "x" is not for sparse features.
    out : mapping of str to ndarray, optional
        Where to write gradients, by these names: arrays of the shape and dtype of the gradient.  They may be the
        arguments themselves, and share no memory with each other.
    block_rows : int >= 1, optional
        As for `linear_cross_entropy`.
    check_targets : bool, optional
        As for `linear_cross_entropy`.

    Returns
    -------
    LinearLossAndGrad
        ``(loss, grad_x, grad_weight, grad_bias)``, None for what `wrt` does not name.  Each gradient has the shape and
        dtype of what it is with respect to (float64 for integers); that of ignored rows is 0.

    Raises
    ------
    TypeError, ValueError
        If an argument has an unsuitable dtype, shape or value; the message says which, and where.

    See Also
    --------
    cross_entropy_and_grad : the formulas, for logits that are there.

    Notes
    -----
    O(n d K) time.  Logits and G exist for a block of rows at a time; the block's features serve both products from
    cache where the weights are small.  Extra memory is at most 32 MB and a gradient's worth of the weights a thread.
    The gradients of half types are accumulated in float32 and rounded once, that of the bias in float64; sums are taken
    in a fixed order, whatever the number of threads.

    On a GPU what `linear_cross_entropy` says holds.  Gradients of half types are added up over blocks of rows in
    float32, which takes a float32 gradient of the weights where there are several blocks.  Arrays in `out` are
    C-contiguous and share no memory with what is read, but for ``out["x"]``, which may be `x` itself.

    Examples
    --------
    >>> import numpy as np, fastsoftmax as fs
    >>> x, weight, bias = np.array([[1.0, 2.0]]), np.zeros((2, 2)), np.zeros(2)
    >>> result = fs.linear_cross_entropy_and_grad(x, weight, [0], bias)
    >>> result.grad_weight
    array([[-0.5, -1. ],
           [ 0.5,  1. ]])
    >>> result.grad_bias
    array([-0.5,  0.5])
    """
    options = checked(ignore_index, label_smoothing, z_loss, focal_gamma, poly_epsilon, temperature, softcap, reduction)
    arrays = x, weight, bias, target, class_weight, sample_weight, grad_output
    at = linear_backend(*arrays, class_offset, *(out.values() if isinstance(out, Mapping) else ()))
    more = {"check_targets": check_targets, "class_offset": class_offset}
    loss, grads = at.loss(*arrays, options, block_rows, wrt, out, **more)
    return LinearLossAndGrad(loss, grads.get("x"), grads.get("weight"), grads.get("bias"))


def linear_hessian_product(
    x: Any,
    weight: ArrayLike,
    bias: ArrayLike | None,
    weight_direction: ArrayLike,
    bias_direction: ArrayLike | None,
    *,
    sample_weight: ArrayLike | None = None,
    reduction: str = "mean",
) -> HessianProduct:
    r"""The Hessian of the cross-entropy of ``x Wᵀ + b`` by weights and bias, times a direction.

    .. math:: H (V, v) = (R^T X, \sum_i R_i), \qquad R_i = s_i \left(p_i \circ u_i - p_i (p_i^T u_i)\right),
        \qquad u_i = V x_i + v

    Parameters
    ----------
    x : array_like or sparse matrix, shape (n, d)
        Features, as for `linear_cross_entropy`.
    weight : array_like, shape (K, d)
        Weights.
    bias : array_like, shape (K,), or None
        The bias.
    weight_direction : array_like, shape (K, d)
        The direction V.
    bias_direction : array_like, shape (K,), or None
        The direction v; None if `bias` is.
    sample_weight : array_like, shape (n,), optional
        Weights s >= 0 of the rows.
    reduction : {"mean", "sum"}, default "mean"
        "mean" divides by the sum of the weights.

    Returns
    -------
    HessianProduct
        ``(weight, bias)`` of the shapes of weights and bias, in the dtype that is computed in: float64 if `x`, `weight`
        or `weight_direction` is, else float32.  It holds for class
        indices and for any probabilities that sum to 1, smoothed or not: targets have no part in it.

    Raises
    ------
    TypeError, ValueError
        If an argument has an unsuitable dtype, shape or value; the message says which.

    Notes
    -----
    O(n d K) time, half as much again as for a gradient; memory as for `linear_cross_entropy_and_grad` with twice as
    many classes.  Arrays of PyTorch or CuPy on a GPU give arrays of their kind, as from `linear_cross_entropy`.

    Examples
    --------
    >>> import numpy as np, fastsoftmax as fs
    >>> x, zeros = np.array([[1.0, 2.0]]), np.zeros((2, 2))
    >>> fs.linear_hessian_product(x, zeros, None, np.array([[1.0, 0.0], [0.0, 0.0]]), None).weight
    array([[ 0.25,  0.5 ],
           [-0.25, -0.5 ]])
    """
    arrays = x, weight, bias, weight_direction, bias_direction, sample_weight
    return HessianProduct(*linear_backend(*arrays).hessian_product(*arrays, reduction))


def linear_predict(x: Any, weight: ArrayLike, bias: ArrayLike | None = None) -> NDArray[np.int64]:
    r"""The class of the largest logit of each row, without the logits of all rows.

    .. math:: \arg\max_j\, (X W^T + b)_{ij}

    Parameters
    ----------
    x : array_like or sparse matrix, shape (n, d)
        Features, as for `linear_cross_entropy`.
    weight : array_like, shape (K, d)
        Weights.
    bias : array_like, shape (K,), optional
        The bias.

    Returns
    -------
    ndarray of int64, shape (n,)
        Class indices, the lowest of equal ones; that of the first NaN in rows with one, as from `numpy.argmax`.

    Raises
    ------
    TypeError, ValueError
        If an argument has an unsuitable dtype or shape; the message says which.

    Notes
    -----
    O(n d K) time, at most 32 MB of memory besides the result.

    Arrays of PyTorch or CuPy on a GPU give arrays of their kind, as from `linear_cross_entropy`; half types have equal
    logits more often there, as those are rounded.

    Examples
    --------
    >>> import numpy as np, fastsoftmax as fs
    >>> fs.linear_predict(np.array([[1.0, 2.0], [2.0, 1.0]]), np.eye(2))
    array([1, 0])
    """
    result: NDArray[np.int64] = linear_backend(x, weight, bias).predict(x, weight, bias)
    return result


def linear_predict_proba(
    x: Any, weight: ArrayLike, bias: ArrayLike | None = None, *, out: Array | None = None
) -> Array:
    r"""The probabilities of the classes for each row: logits and softmax in one pass by blocks.

    .. math:: P = \operatorname{softmax}(X W^T + b)

    Parameters
    ----------
    x : array_like or sparse matrix, shape (n, d)
        Features, as for `linear_cross_entropy`.
    weight : array_like, shape (K, d)
        Weights.
    bias : array_like, shape (K,), optional
        The bias.
    out : ndarray, shape (n, K), optional
        Where to write the result, in its dtype; a `numpy.memmap` may be larger than memory.

    Returns
    -------
    ndarray, shape (n, K)
        In the dtype that is computed in, or that of `x` if that is a half type and the weights are not float64.

    Raises
    ------
    TypeError, ValueError
        If an argument has an unsuitable dtype or shape; the message says which.

    Notes
    -----
    O(n d K) time, at most 32 MB of memory besides the result.

    Arrays of PyTorch or CuPy on a GPU give arrays of their kind, as from `linear_cross_entropy`: the logits are written
    where the result goes.  A given `out` is C-contiguous there.

    Examples
    --------
    >>> import numpy as np, fastsoftmax as fs
    >>> fs.linear_predict_proba(np.array([[1.0, 2.0]]), np.zeros((4, 2)))
    array([[0.25, 0.25, 0.25, 0.25]])
    """
    result: Array = linear_backend(x, weight, bias, out).predict_proba(x, weight, bias, out)
    return result


def linear_top_k(x: Any, weight: ArrayLike, bias: ArrayLike | None = None, *, k: int) -> TopK:
    r"""The k most probable classes of each row, without the logits of all rows.

    Parameters
    ----------
    x : array_like or sparse matrix, shape (n, d)
        Features, as for `linear_cross_entropy`.
    weight : array_like, shape (K, d)
        Weights.
    bias : array_like, shape (K,), optional
        The bias.
    k : int in [1, K]
        How many.

    Returns
    -------
    TopK
        ``(indices, log_proba)``, each of shape (n, k): classes in falling order of their logits, the lowest first among
        equal ones, and the logarithms of their probabilities among all K classes.  NaN is the largest logit; rows that
        hold NaN or +inf have no probabilities: theirs are NaN.

    Raises
    ------
    TypeError, ValueError
        If an argument has an unsuitable dtype, shape or value; the message says which.

    Notes
    -----
    O(n d K) time, at most 32 MB of memory besides the result.

    Arrays of PyTorch or CuPy on a GPU give arrays of their kind, as from `linear_cross_entropy`.  Which of equal
    classes are among the k is the library's choice there, and CuPy sorts all of them.

    Examples
    --------
    >>> import numpy as np, fastsoftmax as fs
    >>> top = fs.linear_top_k(np.array([[1.0, 3.0, 2.0]]), np.eye(3), k=2)
    >>> top.indices.tolist(), top.log_proba.round(3).tolist()
    ([[1, 2]], [[-0.408, -1.408]])
    """
    return TopK(*linear_backend(x, weight, bias).top_k(x, weight, bias, k))


def linear_row_stats(
    x: Any,
    weight: ArrayLike,
    target: ArrayLike | None = None,
    bias: ArrayLike | None = None,
    *,
    want: str | Sequence[str],
    temperature: float = 1.0,
    softcap: float | None = None,
    ignore_index: int = -100,
    class_offset: ArrayLike | None = None,
    k: int = 5,
    block_rows: int | None = None,
) -> RowStats:
    r"""Statistics of each row of the logits ``x Wᵀ + b``, which are never there all at once.

    Parameters
    ----------
    x : array_like or sparse matrix, shape (n, d)
        Features, as for `linear_cross_entropy`.
    weight : array_like, shape (K, d)
        Weights.
    target : array_like of int, shape (n,), optional
        Class indices, which some statistics need.
    bias : array_like, shape (K,), optional
        The bias.
    want : str or sequence of str
        The names of what is wanted, as for `row_stats`.
    temperature, softcap, ignore_index, class_offset
        As for `row_stats`.
    k : int in [1, K], default 5
        How many classes "top_k" gives.
    block_rows : int >= 1, optional
        Rows whose logits are computed together; by default as many as the caches and 32 MB allow.

    Returns
    -------
    RowStats
        As of `row_stats`, of shape (n,) and (n, k).  Real numbers are float64 if `x` or `weight` is, else float32.

    Raises
    ------
    TypeError, ValueError
        If an argument has an unsuitable dtype, shape or value; the message says which, and where.  Labels are checked
        before anything is computed.

    See Also
    --------
    row_stats : the statistics, for logits that are there.

    Notes
    -----
    O(n d K) time, at most 32 MB of memory besides the results.

    Arrays of PyTorch or CuPy on a GPU give arrays of their kind, as from `linear_cross_entropy`: from logits in the
    dtype of the features, some rows at a time.  No labels are checked there, as by `row_stats`.

    Examples
    --------
    >>> import numpy as np, fastsoftmax as fs
    >>> stats = fs.linear_row_stats(np.array([[1.0, 3.0, 2.0]]), np.eye(3), [1], want=("log_prob", "rank"))
    >>> stats.log_prob.round(3).tolist(), stats.rank.tolist()
    ([-0.408], [0])
    """
    variant, options = wanted(want, target=target is not None), transforms(ignore_index, temperature, softcap)
    at = linear_backend(x, weight, target, bias, class_offset)
    return by_name(at.row_stats(x, weight, target, bias, variant, options, k, block_rows, class_offset))


def workspace_bytes(
    rows: int,
    features: int,
    classes: int,
    dtype: DTypeLike = np.float32,
    *,
    wrt: str | Sequence[str] = ("weight", "bias"),
    threads: int | None = None,
    block_rows: int | None = None,
) -> int:
    """The memory that `linear_cross_entropy_and_grad` takes besides its arguments and results.

    Parameters
    ----------
    rows, features, classes : int
        The shape of the problem: n, d and K.
    dtype : dtype, default float32
        Of features and weights: float16, bfloat16, float32 or float64.
    wrt : str or sequence of str, default ("weight", "bias")
        The gradients that are asked for; ``()`` for `linear_cross_entropy`.
    threads : int >= 1, optional
        By default as many as Numba is set to use.
    block_rows : int >= 1, optional
        As in the call.

    Returns
    -------
    int
        Bytes, for C-contiguous dense features and class indices: scratch of the threads, gradients of the weights by
        chunk, and converted weights.

    Raises
    ------
    TypeError, ValueError
        If an argument has an unsuitable type or value; the message says which.

    Examples
    --------
    >>> import fastsoftmax as fs
    >>> fs.workspace_bytes(1_280_000, 768, 1000, threads=2) < 32e6  # the logits alone would take 5 GB
    True
    """
    result: int = linear_backend().workspace_bytes(rows, features, classes, dtype, wrt, threads, block_rows)
    return result
