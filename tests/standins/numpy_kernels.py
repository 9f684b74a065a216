"""A stand-in driver whose kernels are the reference in NumPy: for tests of the host, in a moment and uncompiled.

IT IS NO GPU, and runs none of the kernels; those are executed from their PTX elsewhere.  What it takes from a launch is
its arguments, so that each of them has to be right.
"""

from types import SimpleNamespace

import numpy as np
import pytest
from ml_dtypes import bfloat16

from fastsoftmax import reference
from tests.standins.driver import Driver, Launched

compiler = pytest.importorskip(
    "fastsoftmax.cuda.toolkit.compiler",
    reason="numba-cuda is not installed: pip install 'numba-cuda[cu13]>=0.30,<0.31'",
    exc_type=ImportError,
)
recipes = pytest.importorskip("fastsoftmax.cuda.kernels.recipes")

from fastsoftmax.core.divergence import TAILS, TEACHERS  # noqa: E402
from fastsoftmax.core.dtypes import COMPUTED, FLOAT64, LOG_SOFTMAX, LOGSUMEXP  # noqa: E402
from fastsoftmax.core.options import TERMS  # noqa: E402
from fastsoftmax.core.statistics import INDEX, REAL, STATISTICS, TRUTH  # noqa: E402
from fastsoftmax.cuda.kernels.parameters import Counting, Integers, Totalling  # noqa: E402

DTYPES = (np.float16, bfloat16, np.float32, np.float64)
WIDE = np.float64


def options_of(flags, o):
    """The options that a kernel's flags and numbers were made of."""
    values = {term.option: float(getattr(o, next(iter(term.numbers)))) for term in TERMS}
    values |= {"label_smoothing": 1 - float(o.keep), "temperature": 1 / float(o.inverse_temperature)}
    on = {term.option for term in TERMS if getattr(flags, term.flag)}
    return {name: values[name] for name in {*on, "label_smoothing"}}


class NumpyDriver(Driver):
    """Launches compute what they say they do."""

    def install(self, monkeypatch):
        """Put this driver in the place of the real one, and nothing in that of the compiler."""
        monkeypatch.setattr(recipes, "compiled", self.compiled)
        return super().install(monkeypatch)

    @staticmethod
    def compiled(recipe, capability):
        made = {"entry": recipe.name, "ptx": "", "code": b"", "shared": 0, "capability": capability}
        return SimpleNamespace(recipe=recipe, threads=recipe.threads or 1024, cluster=recipe.cluster, **made)

    def launch(self, loaded, number, stream, grid, block, shared, arguments):
        """As a driver does, but for the instructions."""
        assert number == loaded.device
        for value in arguments:
            self.argument(value, number)
        recipe = loaded.compiled.recipe
        self.used, self.changed = [], []
        fields = recipes.PARAMETERS.get(recipe.name, (Integers,))[0]
        if recipe.name not in ("count", "total"):
            assert len(arguments) == sum(len(of._fields) for of in recipes.parameters_of(recipe))
        if recipe.name in ("count", "total") or arguments[fields._fields.index("rows")]:
            getattr(self, f"run_{recipe.name}")(recipe, arguments, grid)
        self.order.step(stream, self.used, self.changed)
        self.launches.append(Launched(recipe.name, number, stream, grid, block, shared, recipe.cluster, arguments, {}))

    def floats(self, address, count, dtype, *, write=False):
        """A view of numbers at an address."""
        buffer = self.buffer(address)
        (self.changed if write else self.used).append(buffer.name)
        if write and buffer.written is not None:
            buffer.written[address - buffer.address : address - buffer.address + count * np.dtype(dtype).itemsize] = 255
        return np.ndarray(count, dtype, buffer.data, address - buffer.address)

    def rows(self, p, name, dtype, *, write=False):
        """A view of an operand's rows, on their two levels."""
        address = getattr(p, name)
        strides = [getattr(p, f"{name}_{level}") for level in ("outer", "inner", "step")]
        buffer = self.buffer(address)
        (self.changed if write else self.used).append(buffer.name)
        if write and buffer.written is not None:
            buffer.written[:] = 255
        shape = p.rows // p.inner, p.inner, p.classes
        return np.ndarray(shape, dtype, buffer.data, address - buffer.address, strides)

    @staticmethod
    def unpacked(recipe, arguments):
        """(integers, numbers, storage dtype, computing dtype) of a row kernel."""
        real = np.float64 if COMPUTED[recipe.kind] == FLOAT64 else np.float32
        fields, numbers = recipes.parameters_of(recipe)
        count = len(fields._fields)
        p, o = fields(*arguments[:count]), numbers(*arguments[count:])
        assert all(type(a) is int for a in p)
        assert all(type(a) is real for a in o)
        assert p.rows > 0
        return p, o, DTYPES[recipe.kind], real

    def adjusting(self, recipe, p, real):
        """The mask and the offsets of a kernel, as options of the reference."""
        f = recipe.flags
        assert f.adjusted == (f.mask or f.offset)
        if f.adjusted:
            assert (f.mask, f.offset) == (p.mask != 0, p.offset != 0)
        where = self.rows(p, "mask", np.bool_) if f.mask else None
        return {"where": where, "class_offset": self.floats(p.offset, p.classes, real) if f.offset else None}

    def run_softmax(self, recipe, arguments, grid):
        p, _, dtype, real = self.unpacked(recipe, arguments)
        if p.classes == 0:
            assert recipe.variant == LOGSUMEXP
            self.floats(p.result, p.rows, dtype, write=True)[:] = -np.inf
            return
        x, where = self.rows(p, "x", dtype).astype(WIDE), self.adjusting(recipe, p, real)["where"]
        if recipe.variant == LOGSUMEXP:
            assert p.out == 0
            self.floats(p.result, p.rows, dtype, write=True)[:] = reference.logsumexp(x, where=where).ravel()
        else:
            of = reference.log_softmax if recipe.variant == LOG_SOFTMAX else reference.softmax
            self.rows(p, "out", dtype, write=True)[...] = of(x, where=where)

    def run_weighted(self, recipe, arguments, grid):
        p, _, dtype, real = self.unpacked(recipe, arguments)
        given, signed = recipe.variant
        assert ((p.y != 0) <= given, p.out != 0) == (True, signed)
        value = sign = np.full(p.rows, -np.inf)
        if p.classes:
            x, where = self.rows(p, "x", dtype).astype(WIDE), self.adjusting(recipe, p, real)["where"]
            b = self.rows(p, "y", DTYPES[recipe.y_kind]).astype(WIDE) if given else None
            value, sign = reference.logsumexp(x, where=where, b=b, return_sign=True)
        value, sign = (np.ravel(of) for of in (value, sign if p.classes else np.zeros(p.rows)))
        self.floats(p.result, p.rows, dtype, write=True)[:] = value if signed else np.where(sign < 0, np.nan, value)
        if signed:
            self.floats(p.out, p.rows, dtype, write=True)[:] = sign

    def run_vjp(self, recipe, arguments, grid):
        p, _, dtype, _ = self.unpacked(recipe, arguments)
        of = reference.log_softmax_vjp if recipe.variant == LOG_SOFTMAX else reference.softmax_vjp
        y, g = (self.rows(p, name, kind).astype(WIDE) for name, kind in self.pair(recipe, dtype))
        self.rows(p, "out", dtype, write=True)[...] = of(y, g)

    def factor(self, address, count, dtype):
        return self.floats(address, count, dtype).astype(WIDE) if address else np.ones(count)

    def run_cross_entropy(self, recipe, arguments, grid):
        p, o, dtype, real = self.unpacked(recipe, arguments)
        f, n, k = recipe.flags, p.rows, p.classes
        x = self.rows(p, "x", dtype).astype(WIDE).reshape(n, k)
        if f.hard:
            target = self.floats(p.target, n, np.dtype(f"i{recipe.label}")).astype(np.int64)
            bad = (target != p.ignore_index) & ((target < 0) | (target >= k))
            target[bad] = 0
        else:
            assert p.target == 0
            target, bad = self.rows(p, "y", DTYPES[recipe.y_kind]).astype(WIDE).reshape(n, k), np.zeros(n, bool)
        assert f.weighted == (p.class_weight != 0)
        assert f.factors == (p.loss_factor != 0 or p.grad_factor != 0)
        adjust = self.adjusting(recipe, p, real)
        if f.mask:
            adjust["where"] = adjust["where"].reshape(n, k)
        loss, grad = reference.cross_entropy_and_grad(
            *(x, target),
            **adjust,
            class_weight=self.floats(p.class_weight, k, real) if f.weighted else None,
            ignore_index=p.ignore_index,
            reduction="none",
            **options_of(f, o),
        )
        loss, grad = np.where(bad, np.nan, loss), np.where(bad[:, None], np.nan, grad)
        loss = loss * self.factor(p.loss_factor, n, real)
        scale = float(o.scale) * self.factor(p.grad_factor, n, real)
        if p.denominator:
            scale = scale / (self.floats(p.denominator, 1, WIDE)[0] or np.nan)
        if p.result:
            self.floats(p.result, n, real, write=True)[:] = loss
        if p.partial:
            self.floats(p.partial, grid, WIDE, write=True)[:] = [loss[b::grid].sum() for b in range(grid)]
        assert f.grad == (p.out != 0)
        if f.grad:
            with np.errstate(invalid="ignore"):
                grad = grad * (np.zeros(n) + scale)[:, None]
            if f.hard:
                grad[target == p.ignore_index] = 0
            self.rows(p, "out", dtype, write=True)[...] = grad.reshape(-1, p.inner, k)

    def run_divergence(self, recipe, arguments, grid):
        p, _, dtype, real = self.unpacked(recipe, arguments)
        (teacher, direction), n, k = recipe.variant, p.rows, p.classes
        x, y = (self.rows(p, name, of).astype(WIDE).reshape(n, k) for name, of in self.pair(recipe, dtype))
        where = self.adjusting(recipe, p, real)["where"]
        kind = {number: name for name, number in TEACHERS.items()}[teacher]
        options = {"where": None if where is None else where.reshape(n, k), "teacher_is": kind}
        self.write_divergence(recipe, arguments, grid, direction, (x, y), **options)

    def run_listed(self, recipe, arguments, grid):
        p, _, dtype, _ = self.unpacked(recipe, arguments)
        (direction, tail, kind), n, k = recipe.variant, p.rows, p.listed
        x = self.rows(p, "x", dtype).astype(WIDE).reshape(n, p.classes)
        indices = self.floats(p.indices, n * k, np.dtype(f"i{recipe.label}")).astype(np.int64).reshape(n, k)
        log_prob = self.floats(p.log_prob, n * k, DTYPES[kind]).astype(WIDE).reshape(n, k)
        self.write_divergence(recipe, arguments, grid, direction, (x, (indices, log_prob)), tail=TAILS[tail])

    def write_divergence(self, recipe, arguments, grid, direction, pair, **options):
        """Write what the reference makes of a student and its teacher."""
        p, o, dtype, real = self.unpacked(recipe, arguments)
        n, k = p.rows, p.classes
        assert recipe.flags.factors == (p.loss_factor != 0 or p.grad_factor != 0)
        value, grad = reference.kl_divergence_and_grad(
            *pair,
            **options,
            temperature=1 / float(o.inverse_temperature),
            direction=("forward", "reverse", float(o.beta))[direction],
            reduction="none",
        )
        value = value * self.factor(p.loss_factor, n, real)
        scale = float(o.scale) * self.factor(p.grad_factor, n, real)
        if p.denominator:
            scale = scale / (self.floats(p.denominator, 1, WIDE)[0] or np.nan)
        if p.result:
            self.floats(p.result, n, real, write=True)[:] = value
        if p.partial:
            self.floats(p.partial, grid, WIDE, write=True)[:] = [value[b::grid].sum() for b in range(grid)]
        assert recipe.flags.grad == (p.out != 0)
        if recipe.flags.grad:
            self.rows(p, "out", dtype, write=True)[...] = (grad * (np.zeros(n) + scale)[:, None]).reshape(
                -1, p.inner, k
            )

    @staticmethod
    def pair(recipe, dtype):
        """The names of two operands of rows, and their dtypes."""
        return (("x", dtype), ("y", DTYPES[recipe.y_kind]))

    def problem(self, recipe, p, o, dtype):
        """(logits, classes or None, which of those are none, what logits are transformed by)."""
        n, k, f = p.rows, p.classes, recipe.flags
        x, target, bad = self.rows(p, "x", dtype).astype(WIDE).reshape(n, k), None, np.zeros(n, bool)
        assert f.hard == (p.target != 0)
        if f.hard:
            target = self.floats(p.target, n, np.dtype(f"i{recipe.label}")).astype(np.int64)
            bad = (target != p.ignore_index) & ((target < 0) | (target >= k))
            target[bad] = 0
        softcap = {"softcap": float(o.cap)} if f.cap else {}
        adjust = self.adjusting(recipe, p, np.float64 if COMPUTED[recipe.kind] == FLOAT64 else np.float32)
        if f.mask:
            adjust["where"] = adjust["where"].reshape(n, k)
        return x, target, bad, {"temperature": 1 / float(o.inverse_temperature), **softcap, **adjust}

    def run_derivatives(self, recipe, arguments, grid):
        p, o, dtype, real = self.unpacked(recipe, arguments)
        n, (x, target, bad, options) = p.rows, self.problem(recipe, p, o, dtype)
        names = "log_prob", "entropy", "log_sum_exp"
        at = {name: getattr(p, name) for name in names}
        ups = {name: self.floats(at[name], n, real) if at[name] else getattr(o, name) for name in names}
        ups = {name: up for name, up in ups.items() if np.any(up)} or {"entropy": 0.0}
        assert recipe.flags.entropy or "entropy" not in ups or not np.any(ups["entropy"])
        grad = reference.row_stats_vjp(x, target, **ups, ignore_index=p.ignore_index, **options)
        self.rows(p, "out", dtype, write=True)[...] = np.where(bad[:, None], np.nan, grad).reshape(
            -1, p.inner, p.classes
        )

    def run_hessian(self, recipe, arguments, grid):
        p, o, dtype, real = self.unpacked(recipe, arguments)
        f, n, k = recipe.flags, p.rows, p.classes
        assert f.weighted == (p.class_weight != 0)
        assert f.factors == (p.grad_factor != 0)
        if f.hard:
            x, target, bad, _ = self.problem(recipe, p, o, dtype)
        else:
            assert p.target == 0
            x = self.rows(p, "x", dtype).astype(WIDE).reshape(n, k)
            target, bad = self.rows(p, "y", DTYPES[recipe.y_kind]).astype(WIDE).reshape(n, k), np.zeros(n, bool)
        losses = {"label_smoothing", "focal_gamma", "temperature"}
        given = {name: value for name, value in options_of(f, o).items() if name in losses}
        factor = self.factor(p.grad_factor, n, real)[:, None]
        weight = self.floats(p.class_weight, k, real) if f.weighted else None
        given |= {"ignore_index": p.ignore_index, "class_weight": weight}
        grad, hess = reference.cross_entropy_grad_hess(x, target, **given)
        grad = grad * factor
        hess = np.abs(grad) / given.get("temperature", 1.0) if f.residual else hess * factor * float(o.curvature)
        hess = np.maximum(hess, float(o.least))
        for name, values in (("out", grad), ("hessian", hess)):
            rows = self.rows(p, name, np.float32 if recipe.variant else dtype, write=True)
            rows[...] = np.where(bad[:, None], np.nan, values).reshape(-1, p.inner, k)

    def run_statistics(self, recipe, arguments, grid):
        p, o, dtype, real = self.unpacked(recipe, arguments)
        n, (x, target, bad, options) = p.rows, self.problem(recipe, p, o, dtype)
        want = [name for name, column in recipe.variant._asdict().items() if column >= 0]
        found = reference.row_stats(x, target, want=want, ignore_index=p.ignore_index, k=p.k, **options)
        for statistic in STATISTICS:
            address = getattr(p, statistic.name)
            assert (address != 0) == (statistic.name in want)
            if statistic.name == "top_k" and address:
                top = found.top_k
                for at, kind, of_bad, value in (
                    (address, real, np.nan, top.log_proba),
                    (p.indices, np.int64, -1, top.indices),
                ):
                    self.floats(at, n * p.k, kind, write=True)[:] = np.where(bad[:, None], of_bad, value).ravel()
            elif address:
                kind, of_bad = {REAL: (real, np.nan), INDEX: (np.int64, -1), TRUTH: (np.bool_, False)}[statistic.kind]
                value = np.where(bad, of_bad, getattr(found, statistic.name))
                self.floats(address, n, kind, write=True)[:] = value

    def run_count(self, recipe, arguments, grid):
        p = Counting(*arguments)
        real = np.float64 if recipe.kind == FLOAT64 else np.float32
        weights = self.factor(p.loss_factor, p.rows, real)
        if p.target and p.rows:
            target = self.floats(p.target, p.rows, np.dtype(f"i{recipe.label}")).astype(np.int64)
            used = target != p.ignore_index
            bad = used & ((target < 0) | (target >= p.classes))
            if p.bad and bad.any():
                self.floats(p.bad, 1, np.int64, write=True)[0] = 1 + int(bad.nonzero()[0].max())
            classes = self.factor(p.class_weight, p.classes, real)[np.where(used & ~bad, target, 0)]
            weights = np.where(bad, np.nan, np.where(used, weights * classes, 0))
        self.floats(p.denominator, grid, WIDE, write=True)[:] = [weights[b::grid].sum() for b in range(grid)]

    def run_total(self, recipe, arguments, grid):
        p = Totalling(*arguments)
        real = np.float64 if recipe.kind == FLOAT64 else np.float32
        assert grid == 1
        total = self.floats(p.partial, p.n, WIDE).sum() if p.n else 0.0
        if p.denominator:
            count = self.floats(p.denominator, 1, WIDE)[0]
            total = total / count if count else np.nan
        self.floats(p.result, 1, real, write=True)[0] = total
