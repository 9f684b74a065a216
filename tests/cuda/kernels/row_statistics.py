"""Runs the GPU kernels of row statistics in the interpreter of their PTX, and compares with the reference."""

import numpy as np

from fastsoftmax import row_stats, row_stats_vjp
from fastsoftmax.core.dtypes import storage_of
from fastsoftmax.core.statistics import BITS, DIFFERENTIABLE, NAMES, STATISTICS, columns_of
from fastsoftmax.cuda.kernels import recipes
from fastsoftmax.cuda.kernels.parameters import DerivativeIntegers, StatisticIntegers
from fastsoftmax.cuda.plan import burden_of, plan
from tests.cuda.kernels.support import H200, Lie, Placed, adjusted, options_of, strides
from tests.interpreter import ptx
from tests.support import assert_exact, both, computed, steepness

KINDS = {"real": None, "index": np.int64, "truth": np.bool_}
ONE_EACH = NAMES[:-1]  # those that are one number a row


def statistics_of(
    x,
    target,
    want,
    *,
    lie=None,
    facts=H200,
    label=8,
    ignore_index=-100,
    change=None,
    ptx_of=None,
    k=3,
    rough=False,
    where=None,
    class_offset=None,
    **options,
):
    """(statistics by name, the plan, the traffic) of a launch."""
    (n, classes), work, lie, placed = x.shape, computed(x.dtype), lie or Lie(), Placed()
    address, layout, _ = placed.rows(x, "x", lie)
    flags, numbers = options_of(classes, **options)
    flags = adjusted(flags._replace(hard=target is not None), where, class_offset)
    made = plan(n, classes, (layout,), facts, burden_of("statistics", flags))._replace(**(change or {}))
    kinds = {s.name: KINDS[s.kind] or work for s in STATISTICS[:-1]}
    found = {name: np.full(n, 7).astype(kinds[name]) for name in want if name != "top_k"}
    if "top_k" in want:
        found |= {"top_k": np.full((n, k), 7, work), "indices": np.full((n, k), 7)}
    integers = StatisticIntegers(
        *(address, 0, 0, placed.vector(target, np.int64 if label == 8 else np.int32, "target")),
        *(placed.memory.add(found[name], name) if name in found else 0 for name in (*NAMES, "indices")),
        *(k, ignore_index, n, lie.ways(n, classes)[2], classes, *strides(layout), *(0,) * 6),
    )
    extra = placed.adjustments(where, class_offset, Lie(), work, classes) if flags.adjusted else ()
    columns = columns_of(sum(BITS[name] for name in want))
    recipe = recipes.recipe("statistics", made, storage_of(x.dtype), None, columns, flags, label)
    text = (ptx_of or (lambda compiled: compiled.ptx))(recipes.compiled(recipe, (9, 0)))
    arguments = *integers, *extra, *map(work.type, numbers)
    on = placed.memory, made.grid, made.threads
    done = ptx.launch(ptx.program(text), *on, arguments, made.shared, made.cluster, rough=rough)
    return found, made, done.traffic


def compare(found, x, target, want, *, ulps=8, **options):
    """Each statistic with that of the reference."""
    exact, naive = both(row_stats, x, target, want=want, dtype=x.dtype, **{"k": 3, **options})
    for name in want:
        expected, rough = getattr(exact, name), getattr(naive, name)
        if name == "top_k":
            np.testing.assert_array_equal(found["indices"], expected.indices)
            expected, rough = expected.log_proba, rough.log_proba
        if found[name].dtype == computed(x.dtype):
            size = np.nan_to_num(np.abs(x.astype(np.float64)), posinf=0, neginf=0).max(initial=0.0)
            size = size if name == "margin" or options else 0.0
            assert_exact(found[name], expected, rough, along=None, size=size, ulps=ulps)
        else:
            np.testing.assert_array_equal(found[name], expected, err_msg=name)


def derivative_of(
    x,
    target,
    ups,
    *,
    lie=None,
    facts=H200,
    in_place=False,
    change=None,
    ptx_of=None,
    where=None,
    class_offset=None,
    **options,
):
    """(the gradient, the plan, the traffic) of a launch, by upstream gradients in the order of the kernel's."""
    (n, classes), work, lie, placed = x.shape, computed(x.dtype), lie or Lie(), Placed()
    address, layout, get = placed.rows(x, "x", lie, written=in_place)
    out, out_layout = address, layout
    if not in_place:
        out, out_layout, get = placed.rows(np.zeros_like(x), "out", lie, written=True)
    flags, numbers = options_of(classes, **options)
    flags = flags._replace(hard=target is not None, grad=True, upstream=True, rest=True, entropy=ups[1] is not None)
    flags = adjusted(flags, where, class_offset)
    made = plan(n, classes, (layout, out_layout), facts, burden_of("derivatives", flags))._replace(**(change or {}))
    integers = DerivativeIntegers(
        *(address, 0, out, placed.vector(target, np.int64, "target")),
        *(placed.vector(up, work, f"up{i}") if np.ndim(up) else 0 for i, up in enumerate(ups)),
        *(-100, n, lie.ways(n, classes)[2], classes, *strides(layout), 0, 0, 0, *strides(out_layout)),
    )
    extra = placed.adjustments(where, class_offset, Lie(), work, classes) if flags.adjusted else ()
    scalars = (0.0 if up is None or np.ndim(up) else up for up in ups)
    recipe = recipes.recipe("derivatives", made, storage_of(x.dtype), None, 0, flags)
    text = (ptx_of or (lambda compiled: compiled.ptx))(recipes.compiled(recipe, (9, 0)))
    arguments = *integers, *extra, *map(work.type, (*scalars, numbers.inverse_temperature, numbers.cap))
    done = ptx.launch(ptx.program(text), placed.memory, made.grid, made.threads, arguments, made.shared, made.cluster)
    return get(), made, done.traffic


def compare_derivatives(found, x, target, ups, **options):
    """The gradient with that of the reference."""
    given = {name: up for name, up in zip(DIFFERENTIABLE, ups, strict=True) if up is not None}
    exact, naive = both(row_stats_vjp, x, target, dtype=x.dtype, **given, **options)
    size = sum(np.abs(np.broadcast_to(up, len(x))) for up in given.values())[:, None]
    depth = (1 + steepness(x, options) / 4) / options.get("temperature", 1.0)
    assert_exact(found, exact, naive, ulps=8, size=size * depth)
