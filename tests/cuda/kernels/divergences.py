"""Runs the GPU kernels of divergences in the interpreter of their PTX, and compares with the reference."""

import numpy as np

from fastsoftmax import kl_divergence_and_grad, reference
from fastsoftmax.core.divergence import direction_of, divergence_options, teacher_of
from fastsoftmax.core.dtypes import storage_of
from fastsoftmax.core.options import flags_of, numbers_of
from fastsoftmax.cuda.kernels import recipes
from fastsoftmax.cuda.kernels.parameters import Integers
from fastsoftmax.cuda.plan import burden_of, plan
from tests.cuda.kernels.support import H200, Lie, Placed, adjusted, strides
from tests.interpreter import ptx
from tests.support import assert_exact, both, computed, steepness


def divergence_of(x, y, *, teacher_is="logits", direction="forward", temperature=1.0, sample_weight=None, up=None,
                  scale=1.0, denominator=None, grad=True, lie=None, y_lie=None, facts=H200, in_place=None, change=None,
                  ptx_of=None, rough=False, where=None):  # fmt: skip
    """(divergences of rows, their partial sums, the gradient, the plan, the traffic); `in_place` is "x" or "y"."""
    (n, classes), work, lie, placed = x.shape, computed(x.dtype), lie or Lie(), Placed()
    (side, beta), o = direction_of(direction), divergence_options(temperature, "none")
    address, layout, get = placed.rows(x, "x", lie, written=in_place == "x")
    y_address, y_layout, get_y = placed.rows(y, "y", y_lie or lie, written=in_place == "y")
    at, layouts = {"x": address, "y": y_address, "out": 0}, {"x": layout, "y": y_layout, "out": None}
    if in_place:
        at["out"], layouts["out"], get = (address, layout, get) if in_place == "x" else (y_address, y_layout, get_y)
    elif grad:
        at["out"], layouts["out"], get = placed.rows(np.zeros_like(x), "out", lie, written=True)
    factors = sample_weight is not None or up is not None
    flags = flags_of(o, hard=False, weighted=False, factors=factors, grad=grad)._replace(soft=False)
    flags = adjusted(flags, where, None)
    burden = burden_of("divergence", flags, wide=x.dtype != y.dtype)
    made = plan(n, classes, tuple(a for a in layouts.values() if a), facts, burden)._replace(**(change or {}))
    rows, partial = np.full(n, 7, work), np.full(made.grid, 7.0)
    weights = placed.vector(sample_weight, work, "sample_weight")
    integers = Integers(
        **at,
        loss_factor=weights,
        grad_factor=weights if up is None else placed.vector(up, work, "up"),
        result=placed.memory.add(rows, "rows"),
        partial=placed.memory.add(partial, "partial"),
        denominator=placed.vector(None if denominator is None else [denominator], np.float64, "denominator"),
        rows=n,
        inner=lie.ways(n, classes)[2],
        classes=classes,
    )
    ways = [way for lay in layouts.values() for way in strides(lay)]
    kinds, variant = (storage_of(x.dtype), storage_of(y.dtype)), (teacher_of(teacher_is), side)
    recipe = recipes.recipe("divergence", made, *kinds, variant, flags)
    text = (ptx_of or (lambda compiled: compiled.ptx))(recipes.compiled(recipe, (9, 0)))
    numbers = *numbers_of(o, classes)._replace(scale=scale), beta
    extra = placed.adjustments(where, None, Lie(), work, classes) if flags.adjusted else ()
    arguments = *integers[:-9], *ways, *extra, *map(work.type, numbers)
    done = ptx.launch(
        ptx.program(text), placed.memory, made.grid, made.threads, arguments, made.shared, made.cluster, rough=rough
    )
    return rows, partial.sum(), get() if grad else None, made, done.traffic


def sizes(x, y, teacher_is, direction, temperature):
    """What terms and gradients are made of, class by class: p and q, or p times logarithms, in ulps of them."""
    as_log = {"logits": lambda z: reference.log_softmax(z / temperature), "log_prob": np.asarray, "prob": np.log}
    with np.errstate(all="ignore"):
        log_p, log_q = reference.log_softmax(x.astype(float) / temperature), as_log[teacher_is](y.astype(float))
        p, q = np.exp(log_p), np.exp(log_q)
        away = 1 if direction == "forward" else 1 + np.abs(np.where(p * q == 0, 0, log_p - log_q))
        size = (p + q) if direction == "forward" else p * (away + (p * away).sum(-1, keepdims=True))
    steep = 1 + (steepness(x, {}) + steepness(y, {})) / min(temperature, 1.0)
    return np.nan_to_num(size * steep, posinf=0.0)


def compare(rows, grad, x, y, *, ulps=8, scale=1.0, **options):
    """Both with the reference's, within what it loses in the dtype and what an ulp of a logit changes."""
    options = {"teacher_is": "logits", "direction": "forward", "temperature": 1.0, "sample_weight": None, **options}
    exact, naive = both(kl_divergence_and_grad, x, y, dtype=x.dtype, reduction="none", **options)
    size, weight = sizes(x, y, *list(options.values())[:3]), options["sample_weight"]
    weight = 1.0 if weight is None else weight[:, None]
    total = (size * weight).sum(-1, keepdims=True)
    assert_exact(rows[:, None], exact.loss[:, None], naive.loss[:, None], ulps=ulps, size=total)
    if grad is not None:
        size = size * weight * abs(scale) / options["temperature"]
        assert_exact(grad, exact.grad * scale, naive.grad * scale, ulps=ulps, size=size)
