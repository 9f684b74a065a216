"""Runs the GPU kernels of gradient and Hessian in the interpreter of their PTX, and compares with the reference."""

import numpy as np

from fastsoftmax import cross_entropy_grad_hess
from fastsoftmax.core.dtypes import storage_of
from fastsoftmax.core.hessian import boosting_options, hessian_of
from fastsoftmax.core.options import flags_of, numbers_of
from fastsoftmax.cuda.kernels import recipes
from fastsoftmax.cuda.kernels.parameters import HessianIntegers, Integers
from fastsoftmax.cuda.plan import burden_of, plan
from tests.cuda.kernels.support import H200, Lie, Placed, strides
from tests.interpreter import ptx
from tests.support import assert_exact, both, computed, steepness


def hessian_of_rows(x, target, *, lie=None, facts=H200, in_place=False, change=None, ptx_of=None, class_weight=None,
                    sample_weight=None, hessian="diagonal", min_hessian=0.0, dtype=None, out_lies=(None, None),
                    **options):  # fmt: skip
    """(the gradient, the Hessian, the plan, the traffic) of a launch, of results that lie and are stored somehow."""
    (n, classes), work, lie, placed = x.shape, computed(x.dtype), lie or Lie(), Placed()
    stored = x.dtype if dtype is None else np.dtype(dtype)
    soft = np.ndim(target) == 2
    given = {"ignore_index": -100, "label_smoothing": 0.0, "focal_gamma": 0.0, "temperature": 1.0} | options
    o = boosting_options(*given.values())
    wanted = hessian_of(hessian, min_hessian, o, classes)
    address, layout, get = placed.rows(x, "x", lie, written=in_place)
    at, layouts = {"x": address, "y": 0, "out": address}, {"x": layout, "y": None, "out": layout}
    if soft:
        at["y"], layouts["y"], _ = placed.rows(target, "y", lie)
    if not in_place:
        at["out"], layouts["out"], get = placed.rows(np.zeros(x.shape, stored), "out", out_lies[0] or lie, written=True)
    second, layouts["second"], get_second = placed.rows(
        np.zeros(x.shape, stored), "hessian", out_lies[1] or lie, written=True
    )
    weighted, factors = class_weight is not None, sample_weight is not None
    flags = flags_of(o, hard=not soft, weighted=weighted, factors=factors, grad=True)
    flags = flags._replace(rest=True, residual=wanted.residual)
    made = plan(n, classes, tuple(a for a in layouts.values() if a), facts, burden_of("hessian", flags))
    made = made._replace(**(change or {}))
    integers = Integers(
        **at,
        target=0 if soft else placed.vector(target, np.int64, "target"),
        class_weight=placed.vector(class_weight, work, "class_weight"),
        grad_factor=placed.vector(sample_weight, work, "sample_weight"),
        rows=n,
        inner=lie.ways(n, classes)[2],
        classes=classes,
    )
    ways = [way for layout in layouts.values() for way in strides(layout)]
    recipe = recipes.recipe("hessian", made, storage_of(x.dtype), None, stored != x.dtype, flags)
    text = (ptx_of or (lambda compiled: compiled.ptx))(recipes.compiled(recipe, (9, 0)))
    numbers = (*numbers_of(o, classes), wanted.curvature, wanted.least)
    arguments = *HessianIntegers(*integers[:-9], *ways, second), *map(work.type, numbers)
    done = ptx.launch(ptx.program(text), placed.memory, made.grid, made.threads, arguments, made.shared, made.cluster)
    return get(), get_second(), made, done.traffic


def compare_hessians(found, x, target, **options):
    """Both results with the reference's, within what the naive formulas lose and terms that cancel."""
    exact, naive = both(cross_entropy_grad_hess, x, target, dtype=found[0].dtype, **options)
    weight = np.max(options.get("class_weight", 1.0)) * np.max(options.get("sample_weight", 1.0))
    if np.ndim(target) == x.ndim:
        weight = weight * np.abs(np.asarray(target, np.float64)).sum(-1, keepdims=True)
    size = weight * (1 + steepness(x, {}) / 4) / min(options.get("temperature", 1.0), 1.0) ** 2
    for got, right, rough in zip(found, exact, naive, strict=True):
        assert_exact(got, right, rough, size=size * 2, ulps=8)
