"""Plants one fault at a time in a copy of the tree, and says which tests catch it.

``python -m tests.planted_faults [PART ...]`` tries those with a part in the file's name or the text, or all: a quarter
of an hour.  The exit status is 1 if one is not caught.
"""

import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parent.parent


class Fault(NamedTuple):
    """A text in a file of the package, what is put in its place, and the tests that are to fail."""

    file: str
    old: str
    new: str
    tests: str  # of the default run; those with an asterisk before them are exhaustive


FAULTS = [
    # The mathematics.
    Fault("core/law.py", "return m + log(s)", "return m - log(s)", "core/test_law.py"),
    Fault("core/law.py", "factor * (steepness + slope)", "factor * steepness", "core/test_law.py"),
    Fault("core/law.py", "lse * weight * (strength * 2.0)", "lse * weight * strength", "core/test_law.py"),
    Fault("core/law.py", "excess * q - c * u - w * b", "excess * q - c * u", "core/test_law.py"),
    Fault("core/law.py", "return 1.0 - y * y", "return 1.0 - y", "core/test_law.py"),
    Fault("core/law.py", "where(m * 0.0 == 0.0, s, m - m)", "s", "core/test_law.py"),
    Fault("core/law.py", "where(s - below < 1.5, below, s - 1.0)", "s - 1.0", "core/test_law_of_statistics.py"),
    Fault("core/law.py", "c - a + b * mean, b", "c - a, b", "core/test_law_of_statistics.py"),
    # Options, checks, and facts that both devices share.
    Fault("core/options.py", 'switches["smooth"] &= hard', "pass", "core/test_options.py"),
    Fault("core/options.py", "lambda value, classes: value / classes", "lambda value, _: value",
          "core/test_options.py"),
    Fault("core/options.py", "if term.indices_only and", "if False and", "functions/test_errors.py"),
    Fault("core/rules.py", "    if readonly:", "    if False:", "cpu/test_prepared.py -k outputs"),
    Fault("core/rules.py", "if overlapping(got, strides, itemsize):", "if False:", "functions/test_errors.py"),
    Fault("core/rules.py", 'which = f"or be', 'continue\n            which = f"or be', "cuda/host/test_errors.py"),
    Fault("core/strides.py", "return sum(min(r, 0) for r in reach), ", "return 0, ", "core/test_strides.py -k extents"),
    Fault("core/strides.py", "all(far == near * n for far, near", "all(far == near for far, near",
          "core/test_house.py"),
    Fault("core/memo.py", "if len(self) >= self.most:", "if len(self) > self.most + 1:",
          "cpu/test_prepared.py -k bounded"),
    # The store of compiled kernels.
    Fault("core/store.py", "hexdigest().encode() != mark:", "hexdigest() == mark:", "core/test_store.py"),
    Fault("core/store.py", "(stat.S_IWGRP | stat.S_IWOTH)", "stat.S_IWOTH", "core/test_store.py"),
    Fault("core/store.py", 'fields.pop("about") == about else', 'fields.pop("about") else', "core/test_store.py"),
    Fault("core/store.py", "used < oldest or", "", "core/test_store.py"),
    Fault("core/store.py", "or taken > ROOM", "", "core/test_store.py"),
    Fault("core/store.py", "if _safe(place.lstat()):", "if place.exists():", "core/test_store.py"),
    Fault("core/store.py", "os.utime(file.name)", "pass", "core/test_store.py"),
    Fault("cpu/jit.py", "store.digest(*COMPILED)", "store.digest(*COMPILED[1:])", "cpu/test_cache.py -k source"),
    Fault("cuda/toolkit/cache.py", "store.digest(*COMPILED), ", "", "cuda/host/test_cache.py"),
    # Plans.
    Fault("cpu/plan.py", "BLOCKS if blocks else LANES, -(-tiles // chunk)",
          "BLOCKS if blocks else LANES, max(1, tiles // chunk)",
          "functions/test_edges.py -k million"),
    Fault("cpu/plan.py", "tile = -(-vectors // -(-vectors // TILE_VECTORS))", "tile = TILE_VECTORS",
          "cpu/test_blocks.py -k plan"),
    Fault("cpu/linear/plan.py", "max(1, -(-rows // chunk)), stored", "max(1, rows // chunk), stored",
          "linear/test_layouts.py -k test_sparse_features"),
    Fault("cuda/plan.py", "if size + RESERVED <= shared:", "if size <= shared:", "cuda/kernels/test_plan.py"),
    Fault("cuda/plan.py", "WAVES * resident // cluster)", "WAVES * resident)", "cuda/kernels/test_plan.py"),
    Fault("cuda/plan.py", "chosen._replace(grid=_grid(rows,", "chosen._replace(grid=_grid(rows - 1,",
          "cuda/kernels/test_plan.py"),
    # Kernels of the CPU.
    Fault("cpu/layouts/common.py", "counts = t != integer_at(params, P.IGNORE_INDEX) and ", "counts = ",
          "functions/test_edges.py -k reach_nothing and cpu-nan-3-300"),
    Fault("cpu/layouts/common.py", " and within(t, integer_at(params, P.CLASSES))", "",
          "functions/test_changing.py -k labels"),
    # Masks and offsets of the classes.
    Fault("core/law.py", "where(o == -INF, o, z + o)", "z + o", "functions/test_masks.py -k losses"),
    Fault("cpu/adjust.py", "np.where(classes, 0.0 if offset is None", "np.where(~classes, 0.0 if offset is None",
          "functions/test_masks.py -k softmax"),
    Fault("cpu/layouts/adjusted.py", "by = by + (load(row.mask, j)", "by = (load(row.mask, j)",
          "*functions/test_masks.py -k losses and both-21x47"),
    Fault("cpu/layouts/adjusted.py", "== integer_at(params, P.CLASSES) * size", "!= 0",
          "functions/test_masks.py -k rows_apart"),
    Fault("core/law.py", "return where(mask == 0.0, z, mask)", "return z + mask", "functions/test_masks.py -k dtypes"),
    Fault("cpu/layouts/common.py", "return select(z == -INF, 0.0, w) if flags.adjusted and flags.smooth else w",
          "return w", "*functions/test_masks.py -k smoothing and 21x47"),
    Fault("cpu/layouts/row_kernels.py", "g = select(d == -INF, g * 0.0, g)", "pass",
          "functions/test_masks.py -k losses"),
    Fault("cpu/layouts/lane_kernels.py", "            at_target = select(s.d == -INF, at_target * 0.0, at_target)",
          "            pass", "functions/test_masks.py -k losses"),
    Fault("cpu/layouts/blocks.py", "x = adjusted_class(flags, o, tile.offset, j, x, by)", "pass",
          "functions/test_masks.py -k losses"),
    Fault("cpu/layouts/registers.py", "builder.select(there, x, by)", "x",
          "*functions/test_masks.py -k losses and mask-900x10"),
    Fault("cpu/layouts/rows.py", "_merge_dot(dot, mass, m, higher) +", "dot +",
          "functions/test_cross_entropy.py -k test_class_indices and cpu-label_smoothing"),
    Fault("cpu/layouts/row_results.py", "1.0 if base == top else _exp(base - top)", "1.0",
          "functions/test_softmax.py -k nonfinite and 5000"),
    Fault("cpu/layouts/rows.py", "others += _exp(m - _shift(m))", "pass",
          "functions/test_statistics_vjp.py -k log_softmax and 5000"),
    Fault("cpu/layouts/row_results.py", "g = g - p * finite(row, transform(flags, o, x) - base) * b", "pass",
          "functions/test_statistics_vjp.py -k sets and 1000"),
    # Rows in parts.
    Fault("cpu/layouts/part_kernels.py", "if flags.rest and block.m > state.m:", "if False:",
          "cpu/test_parts.py -k values and comes"),
    Fault("cpu/layouts/part_kernels.py", "fill(row.out, begin, end, 0.0)", "pass",
          "cpu/test_parts.py -k bits and float32-plain-3"),
    Fault("cpu/layouts/part_kernels.py", "params, i, number, exp_constants(result), -1",
          "params, i, slot, exp_constants(result), -1", "cpu/test_parts.py -k bits and float32-strided-3"),
    Fault("cpu/layouts/part_kernels.py", "total += get(states, _at(j))", "total = get(states, _at(j))",
          "cpu/test_parts.py -k bits and float32-maps-3"),
    Fault("cpu/parts.py", "space[P.FIRST_ROW] = first", "space[P.FIRST_ROW] = 0", "cpu/test_parts.py -k each_other"),
    Fault("cpu/parts.py", "RELOADED * idle - self.rows", "RELOADED * idle", "cpu/test_parts.py -k cut"),
    Fault("cpu/layouts/order.py", "range(7, -1, -1)", "range(8)", "functions/test_statistics.py -k ties"),
    Fault("cpu/layouts/statistics.py", "first if first < k else place", "place",
          "functions/test_statistics.py -k ties"),
    Fault("cpu/layouts/lanes.py", "less = less + select(d < 0.0, p, 0.0)", "less = less + p",
          "functions/test_statistics.py -k digits"),
    Fault("cpu/layouts/lanes.py", "g = g - _term(p, w) * b", "pass",
          "functions/test_statistics_vjp.py -k sets and 10"),
    Fault("cpu/layouts/hessian.py", "share * share * s.bend + h", "h", "functions/test_boosting.py -k options"),
    Fault("cpu/layouts/hessian.py", "_complement(p, s.top)", "(1.0 - p)", "functions/test_boosting.py -k digits"),
    Fault("cpu/layouts/listed.py", "put(row.x, at, -INF)", "pass", "functions/test_listed.py -k kinds"),
    Fault("cpu/layouts/listed.py", "shared if s == 0.0 else shared / s", "shared / s",
          "functions/test_listed.py -k impossible"),
    Fault("cpu/layouts/listed.py", "(rest.m - base) + _log(rest.others))", "rest.m - base)",
          "functions/test_listed.py -k derivatives"),
    Fault("cpu/layouts/row_results.py", "streamed and first <= row.t < stop:", "streamed and first < row.t < stop:",
          "functions/test_edges.py -k impossible and 5000-float32"),
    Fault("cpu/layouts/batch_kernels.py", "(k + lanes_of(first) - 1) // lanes_of(first)", "k // lanes_of(first)",
          "functions/test_softmax.py -k nonfinite and 47"),
    Fault("cpu/layouts/lane_kernels.py", "loss = select(t > -1, loss, 0.0)", "pass",
          "functions/test_edges.py -k reach_nothing and cpu-nan-3-10"),
    Fault("cpu/layouts/blocks.py", "if tile.rows % width != 0:", "if tile.rows % width > 1:",
          "cpu/test_blocks.py -k losses and plain"),
    Fault("cpu/layouts/registers.py", "divmod(self.size * v + unit, m)", "divmod(self.size * v + unit, self.size)",
          "cpu/test_registers.py -k network"),
    Fault("cpu/layouts/labels.py", "counts & (t > -1) & (t < classes)", "counts & (t < classes)",
          "cpu/test_prepared.py -k bad"),
    Fault("cpu/layouts/labels.py", "t != ignore and 0 <= t < classes", "t != ignore and 0 <= t <= classes",
          "cpu/test_prepared.py -k bad"),
    Fault("cpu/linear/sparse.py", "middle, size) < row:", "middle, size) <= row:",
          "linear/test_layouts.py -k kinds_of_sparse or ignored_rows_of_sparse"),
    Fault("cpu/simd/elementary.py", "return fma(n, low, fma(n, high, x)), t", "return fma(n, high, x), t",
          "cpu/test_elementary.py -k errors"),
    # Host code of the CPU.
    Fault("cpu/prepared.py", "*_extent(second), *_extent(out)),", "*_extent(second), 0, 0),",
          "cpu/test_prepared.py -k backwards"),
    Fault("cpu/prepared.py", ".sum()) / divisor)", ".sum()))", "cpu/test_prepared.py -k threads_share"),
    Fault("cpu/prepared.py", "small.held if x.size <= HELD else small.call", "small.call",
          "cpu/test_threads.py -k hold_the_interpreter"),
    Fault("cpu/layouts/small.py", "return True, divisor", "return True, 1.0", "cpu/test_prepared.py -k threads_share"),
    Fault("cpu/threads/launch.py", "len(others) or (", "(", "cpu/test_threads.py -k leave_cores"),
    Fault("cpu/threads/launch.py", "ended < RECENT", "ended < 0", "cpu/test_threads.py -k leave_cores"),
    Fault("cpu/prepared.py", "*(results.mean, results.loss", "*(False, results.loss",
          "cpu/test_prepared.py -k losses and plain"),
    Fault("cpu/run.py", "any(out is not None and overlap(out, labels) for out in outs):", "False:",
          "functions/test_layouts.py -k overlaps_the_labels"),
    Fault("cpu/derived.py", "elif y.shape[-1] < classes:", "else:", "functions/test_listed.py -k dense"),
    Fault("cpu/derived.py", "np.array(last(indices", "np.asarray(last(indices",
          "functions/test_listed.py -k own"),
    Fault("cpu/threads/launch.py", "os.register_at_fork(after_in_child=_after_fork)", "pass",
          "cpu/test_threads.py -k fork_during"),
    Fault("cpu/linear/own_blocks.py", "return weights, weights + (", "return weights, weights * 0 + (",
          "linear/test_values.py -k test_class_indices and plain"),
    # Kernels of the GPU, interpreted.
    Fault("cuda/kernels/hessian.py", "s.second + i64(j) * p.hessian_step", "s.second + i64(j) * p.out_step",
          "cuda/kernels/test_hessian.py -k apart"),
    Fault("cuda/kernels/hessian.py", "staged, exact=single)", "staged)", "cuda/kernels/test_hessian.py -k apart"),
    Fault("cuda/hessian.py", "x, self.label * row if self.hard else y, out, second,",
          "x, self.label * row if self.hard else y, out, out,", "cuda/host/test_hessian.py"),
    Fault("cuda/kernels/reductions.py", "cuda.syncthreads()\n        return slots[WARP]", "return slots[WARP]",
          "cuda/kernels/test_losses.py -k test_values and block"),
    Fault("cuda/kernels/reductions.py", "= m, z\n        _cluster_barrier()", "= m, z",
          "cuda/kernels/test_losses.py -k test_values and cluster"),
    Fault("cuda/kernels/score.py", "i64(0) <= label < p.classes", "label < p.classes",
          "cuda/kernels/test_losses.py -k range"),
    Fault("cuda/kernels/score.py", "i64(u32(cuda.blockIdx.x)) * 8, value)", "0, value)",
          "cuda/kernels/test_losses.py -k more_rows"),
    Fault("cuda/kernels/score.py", "(nan if divisor == zero else divisor)", "divisor",
          "cuda/kernels/test_losses.py -k denominator"),
    Fault("cuda/kernels/held.py", "load(words, i * count, part.x +", "load(words, 0, part.x +",
          "cuda/kernels/test_losses.py -k test_values and warp-float32"),
    Fault("cuda/kernels/sums.py", "row += i64(u32(cuda.gridDim.x)) * THREADS", "row += THREADS",
          "cuda/kernels/test_sums.py"),
    Fault("cuda/kernels/vjp.py", "if peeled and part.spare:\n            total = total +",
          "if False:\n            total = total +",
          "cuda/kernels/test_maps.py -k test_products"),
    Fault("cuda/kernels/held_rows.py", "log1p(rest(normaliser(m, s), below))", "log1p(normaliser(m, s) - one)",
          "cuda/kernels/test_maps.py -k digits"),
    Fault("cuda/kernels/largest.py", "i < j and not above(y, x)", "False", "cuda/kernels/test_statistics.py"),
    Fault("cuda/kernels/largest.py", "i32(u32(j) | SIGN) if math.isnan(x) else", "",
          "cuda/kernels/test_statistics.py"),
    Fault("cuda/kernels/reductions.py", "counts[0], counts[1] = a, b", "counts[0], counts[1] = a, a",
          "cuda/kernels/test_statistics.py"),
    Fault("cuda/kernels/streamed.py", "mass = merge_below(m, sums.others, mass, top)", "pass",
          "cuda/kernels/test_statistics.py -k digits"),
    Fault("cuda/kernels/states.py", "load(own, 0, place.x + i64(t) * p.x_step)", "load(own, 0, place.x + i64(t) * 4)",
          "cuda/kernels/test_statistics.py -k layouts"),
    Fault("cuda/kernels/weighted.py", "z = minus_inf if b == zero else z", "pass",
          "cuda/kernels/test_weighted.py -k test_values and 403"),
    Fault("cuda/kernels/weighted.py", "inf if z == inf else exp(z - base)", "exp(z - base)",
          "cuda/kernels/test_weighted.py -k test_values and 403"),
    Fault("cuda/kernels/weighted.py", "if total * zero == zero else total", "",
          "cuda/kernels/test_weighted.py -k test_values and 33001"),
    Fault("cuda/kernels/weighted.py", "(-one if total < zero else total)", "-one",
          "cuda/kernels/test_weighted.py -k without_factors"),
    Fault("cuda/run.py", "(row * self.size if self.numbers and out else out_begin)", "out_begin",
          "cuda/host/test_signed.py -k layouts"),
    Fault("cpu/backend.py", "np.where(problem.mask, factors, work.type(0))", "factors",
          "functions/test_as_scipy.py -k masked"),
    Fault("cuda/kernels/adjusted.py", "mask + place * p.mask_step", "mask + place",
          "cuda/kernels/test_masks.py -k lie"),
    Fault("cuda/kernels/score.py", "at_target = at_target * zero if d == minus_inf else at_target", "pass",
          "cuda/kernels/test_masks.py -k losses and 403"),
    Fault("cuda/kernels/score.py", "own = zero if d == minus_inf else weight", "pass",
          "cuda/kernels/test_masks.py -k losses and 403"),
    Fault("cuda/kernels/vectors.py", "w = w if there else zero", "pass",
          "cuda/kernels/test_masks.py -k losses and 403"),
    Fault("cuda/kernels/vectors.py", "share = share if there else zero", "pass",
          "cuda/kernels/test_masks.py -k losses and 33001"),
    Fault("cuda/kernels/vectors.py", "w = w if d != minus_inf else zero", "pass",
          "cuda/kernels/test_masks.py -k losses and 33001"),
    Fault("cuda/kernels/vectors.py", "g if g == zero else g * slope", "g * slope",
          "cuda/kernels/test_masks.py -k losses and 22"),
    Fault("cuda/kernels/derivative.py", "at_target = at_target * zero if d == minus_inf else at_target", "pass",
          "cuda/kernels/test_masks.py -k derivatives"),
    Fault("cuda/kernels/derivative.py", "b / s * up,", "b / s,", "cuda/kernels/test_derivatives.py"),
    Fault("cuda/kernels/hessian.py", "below + (e if d < zero else zero)", "below", "cuda/kernels/test_hessian.py"),
    # Host code of the GPU.
    Fault("cuda/adjust.py", "0 if n == 1 else step", "step", "cuda/host/test_masks.py -k broadcast"),
    Fault("cuda/check.py", "tuple(a % ndim for a in axes)", "(ndim - 1,)", "cuda/host/test_masks.py -k broadcast"),
    Fault("cuda/launches.py", "offset[i] for i in place]", "offset[i] for i in place[:3]] + [0]",
          "cuda/host/test_masks.py -k several_launches"),
    Fault("cuda/run.py", "SCALE + (len(ADJUSTMENTS) if adjust.given else 0)", "SCALE",
          "cuda/host/test_masks.py -k upstream"),
    Fault("cuda/statistics.py", "adjust[1] + mask, *columns", "adjust[1], *columns",
          "cuda/host/test_masks.py -k several_launches"),
    Fault("cuda/plan.py", "4 if burden.computed else 0", "0", "cuda/kernels/test_plan.py -k adjusted"),
    Fault("cuda/statistics.py", "out + begin, *(at + row * self.size", "out + begin, *(at + row",
          "cuda/host/test_derivatives.py"),
    Fault("cuda/statistics.py", "at + row * size for at, size", "at + row for at, size",
          "cuda/host/test_statistics.py"),
    Fault("cuda/kernels/pairs.py", "remove_y(words, y_at, k)", "pass", "cuda/kernels/test_divergence.py -k masks"),
    Fault("cuda/kernels/pairs.py", "zero=teacher == PROB", "zero=False",
          "cuda/kernels/test_divergence.py -k masks"),
    Fault("cuda/kernels/divergence.py", "y = y * exp(m.teacher - shift(top.teacher))", "pass",
          "cuda/kernels/test_divergence.py -k test_values"),
    Fault("cuda/kernels/divergence.py", "            rotate_y(y)\n", "",
          "cuda/kernels/test_divergence.py -k test_values"),
    Fault("cuda/kernels/pairs.py", "load_one_y(words, spare + one, part.spare_y)", "pass",
          "cuda/kernels/test_divergence.py -k lengths"),
    Fault("cuda/kernels/divergence.py", "Row(norms, second, up)", "Row(norms, one, up)",
          "cuda/kernels/test_divergence.py -k test_values"),
    Fault("cuda/kernels/listed.py", "(rest_s, True) if marks == convert(r.k) else", "(rest_s, True) if True else",
          "cuda/kernels/test_listed.py -k not_sound"),
    Fault("cuda/kernels/listed.py", "at if i64(0) <= at < i64(r.classes) else i64(-1)", "at",
          "cuda/kernels/test_listed.py -k not_sound"),
    Fault("cuda/kernels/listed.py", "            total, j = total + exact", "            total, j = exact",
          "cuda/kernels/test_listed.py -k test_values"),
    Fault("cuda/kernels/listed.py", "f64(log_q(r, j)) - base", "f64(log_q(r, j))",
          "cuda/kernels/test_listed.py -k digits"),
    Fault("cuda/kernels/listed.py", "shared if rest_s == zero else shared / rest_s", "shared",
          "cuda/kernels/test_listed.py -k test_values"),
    Fault("cuda/kernels/listed.py", "            value, second = zero, zero\n", "            pass\n",
          "cuda/kernels/test_listed.py -k test_values"),
    Fault("cuda/run.py", "self.label * (listed or 1), width * listed", "self.label, width * listed",
          "cuda/host/test_listed.py -k launches"),
    Fault("cuda/run.py", "self.label * (listed or 1), width * listed", "self.label * (listed or 1), 0",
          "cuda/host/test_listed.py -k launches"),
    Fault("cuda/derived.py", '"log_prob": (flat(log_prob), False)}', "}", "cuda/host/test_listed.py -k go_over"),
    Fault("cuda/kernels/score.py", "total.lost if total.lost == total.lost else zero", "total.lost",
          "cuda/kernels/test_losses.py -k infinite"),
    Fault("cuda/backend.py", "grad, each_key, taught", "grad, each_key", "cuda/host/test_divergence.py"),
    Fault("cuda/derived.py", '"teacher": (y, True)}', "}", "cuda/host/test_divergence.py -k outputs"),
    Fault("core/law_of_divergence.py", "g + p * (second - 1.0)", "g", "core/test_law_of_statistics.py"),
    Fault("cuda/run.py", "*((0, 0) if call.adjusted else ())", "", "cuda/host/test_by_address.py -k masks"),
    Fault("core/strides.py", "if 0 in shape[leading:]:", "if False:", "functions/test_as_scipy.py -k nothing"),
    Fault("cuda/launches.py", "len(launches) * rows, block))", "0, block))", "cuda/host/test_calls.py"),
    Fault("cuda/launches.py", "(a.address + begin) % 16", "a.address % 16",
          "cuda/host/test_by_address.py"),
    Fault("cuda/workspace.py", "_slabs[device] = address + LEAST,", "_slabs[device] = address,",
          "cuda/host/test_calls.py cuda/host/test_borrowed.py cuda/host/test_by_address.py"),
    Fault("cuda/prepared.py", "reach += (low - out_high, high - out_low)", "reach += (0, 0)",
          "cuda/host/test_prepared.py"),
    Fault("cuda/backend.py", "type(axis), options, grad, each_key", "type(axis), grad, each_key",
          "cuda/host/test_prepared.py"),
    Fault("cuda/run.py", "x, label * row if self.hard", "x, row if self.hard", "cuda/host/test_calls.py"),
    Fault("cuda/by_address.py", "if at % size:", "if False:", "cuda/host/test_errors.py"),
    Fault("cuda/arrays/cupy.py", "(rows.shape[1] - 1, places)", "(rows.shape[1], places)",
          "cuda/linear/test_predictions.py"),
    Fault("cuda/arrays/products.py", "out -= loss[:, None]", "pass", "cuda/linear/test_predictions.py"),
    Fault("cuda/linear/chunks.py", "(self.library.add if self.begun else self.library.copy)", "self.library.copy",
          "cuda/linear/test_chunks.py linear/test_values.py -k gpu or chunk"),
    Fault("cuda/linear/run.py", "target + start * self.label", "target + start", "cuda/linear/test_row_statistics.py"),
    Fault("cuda/linear/run.py", "place + start * size", "place + start", "cuda/linear/test_row_statistics.py"),
    # What is above both devices.
    Fault("boosting.py", '"min_hessian": booster.least}', '"min_hessian": 0.0}', "boosting/test_objectives.py"),
    Fault("boosting.py", "weight, dtype=np.float32, **wanted", "weight, **wanted", "boosting/test_objectives.py"),
    Fault("boosting.py", "or (margins.shape[1] == 2 and booster == XGBOOST)", "", "boosting/test_objectives.py"),
    Fault("jax/calls.py", "spread = not batch or self.rowwise,", "spread = True,", "jax/test_calls.py -k axes"),
    Fault("jax/calls.py", "where.reshape((1,) * (x.ndim - where.ndim) + where.shape)", "where",
          "jax/test_masks.py -k vmap"),
    Fault("jax/derivatives.py", "(grad * up).astype", "grad.astype",
          "jax/test_losses.py -k gradients and plain and mean"),
    Fault("jax/derivatives.py", "and not half", "", "jax/test_losses.py -k small_gradients"),
    Fault("jax/formulas.py", "loss -= times(share * w, log_p).sum(-1)", "pass",
          "jax/test_losses.py -k second_derivatives and smoothing and none"),
    Fault("jax/rows.py", "None, None, None, up)", "None, None, up, None)",
          "jax/test_rows.py -k derivatives and logsumexp"),
    Fault("jax/rows.py", "jnp.where(where, grad, jnp.zeros_like(grad))", "grad", "jax/test_masks.py -k what_is_masked"),
    Fault("jax/formulas.py", "jnp.where(row, jnp.where(seen, z, -jnp.inf), 0.0)", "jnp.where(row & ~seen, -jnp.inf, z)",
          "jax/test_masks.py -k by_an_offset"),
    Fault("jax/statistics.py", "last = None if by_offset is None else", "last = None and",
          "jax/test_masks.py -k test_statistics"),
    Fault("cuda/arrays/lent.py", "compiler.copy(self.about.device, self.stream,", "compiler.copy(self.about.device, 1,",
          "jax/test_gpu.py -k losses"),
    Fault("jax/formulas.py", "(log_a == log_b) & (log_a == -jnp.inf)", "log_a == log_b",
          "jax/test_divergence.py -k equal"),
    Fault("torch/formulas.py", "(log_a == log_b) & (log_a == -math.inf)", "log_a == log_b",
          "torch/test_rowwise.py -k equal"),
    Fault("cuda/arrays/lent.py", "0 if n == 1 else step", "step", "jax/test_gpu.py -k vmap"),
    Fault("boosting.py", ">= classes:", "> classes:", "boosting/test_objectives.py"),
    Fault("regression/inputs.py", "else y[:, order]", "else y", "regression/test_soft_targets.py"),
    Fault("regression/temperature.py", "(low, beta) if slope > 0 else", "(low, beta) if slope < 0 else",
          "regression/test_temperature.py"),
    Fault("regression/prediction.py", "logits /= self._temperature", "logits *= 1", "regression/test_temperature.py"),
    Fault("regression/objective.py", "grad[:, :-1] += self.penalty * theta[:, :-1]", "grad += self.penalty * theta",
          "regression/test_estimator.py -k coefficients"),
    Fault("cli/score.py", "matrix[pair] = count", "matrix[pair[::-1]] = count", "cli/test_train.py -k table"),
    Fault("cli/model.py", "if not np.isfinite(arrays[name]).all():", "if False:",
          "cli/test_damaged.py cli/test_train.py cli/test_predict.py"),
    # torch: formulas, upstream gradients, memory.  These tests need it.
    Fault("torch/formulas.py", "z_loss * row_weight * lse**2", "z_loss * lse**2",
          "torch/test_cross_entropy.py -k derivatives and z_loss"),
    Fault("torch/formulas.py", "share, row_weight = smoothing / classes * there,",
          "share, row_weight = smoothing / classes + 0.0 * there,", "torch/test_cross_entropy.py -k masks"),
    Fault("torch/formulas.py", "x.masked_fill(a == 0, 0.0)", "x", "torch/test_cross_entropy.py -k masks"),
    Fault("torch/operators.py", "grads = [grad * up for grad in grads]", "pass",
          "torch/test_cross_entropy.py -k scales"),
    Fault("torch/operators.py", " and given[0].dtype is not torch.float16", "",
          "torch/test_cross_entropy.py -k scaler"),
    Fault("torch/operators.py", "up, weight = up * weight, None", "up, weight = up, None",
          "torch/test_cross_entropy.py -k dimension_1"),
    Fault("torch/tensors.py", "None if like.is_contiguous() or", "None if True or",
          "torch/test_cross_entropy.py -k layouts"),
    Fault("torch/rowwise.py", "grads[2] += dz.sum(0)", "grads[2] = dz.sum(0)", "torch/test_linear.py -k blocks"),
    Fault("torch/rowwise.py", "up if where is None else up.masked_fill(~where, 0.0)", "up",
          "torch/test_rowwise.py -k masks_of_maps"),
    Fault("torch/rowwise.py", "used = None if where is None else", "used = None if True else",
          "torch/test_rowwise.py -k masks_of_maps"),
    Fault("torch/formulas.py", "log_p.scatter(-1, listed, -math.inf).logsumexp", "log_p.logsumexp",
          "torch/test_rowwise.py -k list_classes"),
    Fault("torch/formulas.py", "left <= 0 if tail == ", "left > 0 if tail == ",
          "torch/test_rowwise.py -k list_classes"),
    Fault("torch/formulas.py", "log_q = torch.log_softmax(log_q, -1)", "log_q = 1.0 * log_q",
          "torch/test_rowwise.py -k list_classes"),
    Fault("torch/functions.py", "target[..., shift:]", "target[..., 1:]", "torch/test_linear.py -k shifts"),
]  # fmt: skip


def planted(fault, folder):
    """The exit status of pytest, run on a copy of the tree with the fault; 1 where a test has failed."""
    for name in ("benchmarks", "docs", "fastsoftmax", "tests"):
        shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("README.md", "pyproject.toml"):
        shutil.copy(ROOT / name, folder / name)
    path = folder / "fastsoftmax" / fault.file
    path.write_text(path.read_text("utf-8").replace(fault.old, fault.new), "utf-8")
    files, _, names = fault.tests.removeprefix("*").partition(" -k ")
    marks = ["-m", "exhaustive"] if fault.tests[0] == "*" else []
    command = [sys.executable, "-m", "pytest", "-x", "-q", *marks, *(f"tests/{name}" for name in files.split())]
    environment = {**os.environ, "NUMBA_CACHE_DIR": os.environ.get("NUMBA_CACHE_DIR", str(folder))}
    selected = ["-k", names] if names else []
    return subprocess.run(
        [*command, *selected], cwd=folder, capture_output=True, env=environment, check=False
    ).returncode


def main(parts):
    """Try the faults with one of the parts in the file's name or the text."""
    missed = 0
    for fault in FAULTS:
        if parts and not any(part in f"{fault.file} {fault.old}" for part in parts):
            continue
        begun = time.monotonic()
        with tempfile.TemporaryDirectory() as folder:
            status = planted(fault, Path(folder))
        missed += status in (0, 4, 5)  # passed, or there were no such tests; a crash is caught
        said = {0: "NOT CAUGHT", 1: "caught"}.get(status, f"status {status}")
        print(
            f"{said}  {time.monotonic() - begun:4.0f} s  {fault.file}  {fault.new.strip()!r}  {fault.tests}", flush=True
        )
    return missed


if __name__ == "__main__":
    sys.exit(bool(main(sys.argv[1:])))
