"""Which kernels the tests of machine code compile, for which GPUs, and what their listings say.

Run as a script it prints the table of registers in ``benchmarks/results/cuda-registers.md``: a case of every form.
"""

import re
from typing import NamedTuple

from fastsoftmax.core.dtypes import (
    BFLOAT16,
    COMPUTED,
    FLOAT16,
    FLOAT32,
    FLOAT64,
    FORWARD,
    ITEMSIZE,
    LOG_PROB,
    LOG_SOFTMAX,
    LOGITS,
    LOGSUMEXP,
    MIXED,
    PROB,
    REVERSE,
    SOFTMAX,
)
from fastsoftmax.core.options import Flags
from fastsoftmax.core.statistics import columns_of
from fastsoftmax.cuda.kernels import recipes
from fastsoftmax.cuda.plan import BLOCK, CLUSTER, ONLINE, PART_WARP, SCALAR, SHARED, WARP, Layout, Plan, burden_of, plan
from tests.cuda.kernels.machine_code import Built, compiler, taken_apart
from tests.pairs import pairwise

#: Multiprocessors, bytes of shared memory for a block, clusters: of an A100, an H200 and a B200.
GPUS = {(8, 0): (108, 166912, False), (9, 0): (132, 232448, True), (10, 0): (148, 232448, True)}
KINDS = {FLOAT16: "float16", BFLOAT16: "bfloat16", FLOAT32: "float32", FLOAT64: "float64"}
STAGED = 7  # a cluster that keeps its rows in shared memory
FORMS = {
    SCALAR: "a thread",
    PART_WARP: "a part of a warp",
    WARP: "a warp",
    BLOCK: "a block",
    SHARED: "a block's shared memory",
    CLUSTER: "a cluster",
    STAGED: "a cluster's shared memory",
    ONLINE: "nobody",
}
ORDER = (PART_WARP, WARP, BLOCK, CLUSTER, STAGED, SHARED, ONLINE)  # as rows grow
HELD, KEPT = ORDER[:4], (STAGED, SHARED)
TWO = "vjp", "divergence", "weighted"  # read two rows alike
GRADIENT, SOFT = Flags(hard=True, grad=True), Flags(soft=True, grad=True)
HESSIAN = GRADIENT._replace(rest=True)
DERIVATIVES = GRADIENT._replace(upstream=True, rest=True, entropy=True)
ALL = {"weighted": True, "z_loss": True, "cap": True, "temper": True, "factors": True}
OF_INDICES = {"smooth": True, "focal": True, "poly": True}
MASKED = {"adjusted": True, "mask": True, "offset": True}
#: What kernels do: (name, variant, flags).
WORK = {
    "loss": ("cross_entropy", 0, Flags(hard=True)),
    "gradient": ("cross_entropy", 0, GRADIENT),
    "weights, factors": ("cross_entropy", 0, GRADIENT._replace(weighted=True, factors=True)),
    "smoothing, weights": ("cross_entropy", 0, GRADIENT._replace(smooth=True, weighted=True)),
    "z-loss, focal": ("cross_entropy", 0, GRADIENT._replace(z_loss=True, focal=True)),
    "softcap": ("cross_entropy", 0, GRADIENT._replace(cap=True)),
    "temperature": ("cross_entropy", 0, GRADIENT._replace(temper=True)),
    "all options": ("cross_entropy", 0, GRADIENT._replace(**ALL, **OF_INDICES)),
    "all options, loss": ("cross_entropy", 0, Flags(hard=True, **ALL, **OF_INDICES)),
    "soft": ("cross_entropy", 0, SOFT),
    "soft, all options": ("cross_entropy", 0, SOFT._replace(**ALL)),
    "softmax": ("softmax", SOFTMAX, Flags()),
    "log_softmax": ("softmax", LOG_SOFTMAX, Flags()),
    "logsumexp": ("softmax", LOGSUMEXP, Flags()),
    "product, softmax": ("vjp", SOFTMAX, Flags()),
    "product, log_softmax": ("vjp", LOG_SOFTMAX, Flags()),
    "statistics": ("statistics", columns_of(511), Flags(hard=True)),
    "statistics, softcap, temperature": ("statistics", columns_of(511), Flags(hard=True, cap=True, temper=True)),
    "derivatives": ("derivatives", 0, DERIVATIVES),
    "derivatives, softcap, temperature": ("derivatives", 0, DERIVATIVES._replace(cap=True, temper=True)),
    "hessian": ("hessian", False, HESSIAN),
    "hessian, all options": ("hessian", False, HESSIAN._replace(weighted=True, factors=True, smooth=True, focal=True)),
    "hessian, float32": ("hessian", True, HESSIAN),
    "hessian, soft": ("hessian", False, SOFT._replace(rest=True, residual=True)),
    "log_prob, entropy, correct": ("statistics", columns_of(35), Flags(hard=True)),
    "masked": ("cross_entropy", 0, GRADIENT._replace(**MASKED)),
    "masked, all options": ("cross_entropy", 0, GRADIENT._replace(**MASKED, **ALL, **OF_INDICES)),
    "masked, soft": ("cross_entropy", 0, SOFT._replace(**MASKED)),
    "masked, softmax": ("softmax", SOFTMAX, Flags(adjusted=True, mask=True)),
    "masked, statistics": ("statistics", columns_of(511), Flags(hard=True, **MASKED)),
    "masked, derivatives": ("derivatives", 0, DERIVATIVES._replace(**MASKED)),
    "divergence": ("divergence", (LOGITS, FORWARD), Flags(grad=True)),
    "divergence, mixed": ("divergence", (LOGITS, MIXED), Flags(grad=True, temper=True, factors=True)),
    "divergence, prob": ("divergence", (PROB, REVERSE), Flags(grad=True)),
    "divergence, log_prob": ("divergence", (LOG_PROB, FORWARD), Flags()),
    "factors": ("weighted", (True, True), Flags()),
}


class Case(NamedTuple):
    """A kernel at the border of a form: with as many classes as it takes."""

    work: str
    kind: int
    form: int
    peeled: bool = False
    wide: bool = False  # soft targets, or a teacher, of the computing dtype
    label: int = 8

    def __str__(self):
        more = (", peeled" if self.peeled else "") + (", wide" if self.wide else "") + (", int32" * (self.label == 4))
        return f"{self.work}, {KINDS[self.kind]}, {FORMS[self.form]}{more}"


#: Every form with every dtype, every work at least once, and the options that take registers with half types.
SHORT = [
    Case("gradient", FLOAT32, PART_WARP),
    Case("all options", FLOAT16, PART_WARP),
    Case("soft, all options", BFLOAT16, PART_WARP),
    Case("softmax", FLOAT64, PART_WARP),
    Case("gradient", BFLOAT16, WARP),
    Case("log_softmax", FLOAT16, WARP, peeled=True),
    Case("smoothing, weights", BFLOAT16, WARP, peeled=True),
    Case("product, softmax", FLOAT32, WARP, peeled=True),
    Case("soft", FLOAT64, WARP),
    Case("gradient", FLOAT32, BLOCK, peeled=True),
    Case("gradient", BFLOAT16, BLOCK, peeled=True),
    Case("softcap", BFLOAT16, BLOCK),
    Case("loss", FLOAT16, BLOCK),
    Case("all options", FLOAT64, BLOCK, peeled=True),
    Case("product, log_softmax", BFLOAT16, BLOCK),
    Case("weights, factors", FLOAT32, CLUSTER, label=4),
    Case("all options", BFLOAT16, CLUSTER, peeled=True),
    Case("z-loss, focal", FLOAT16, CLUSTER),
    Case("logsumexp", FLOAT64, CLUSTER),
    Case("gradient", BFLOAT16, STAGED, peeled=True),
    Case("soft", FLOAT64, STAGED),
    Case("product, softmax", FLOAT16, SHARED, peeled=True),
    Case("soft", BFLOAT16, SHARED, wide=True),
    Case("temperature", FLOAT32, SHARED, peeled=True),
    Case("all options, loss", FLOAT16, SHARED),
    Case("soft, all options", FLOAT32, ONLINE),
    Case("gradient", FLOAT16, ONLINE, peeled=True),
    Case("gradient", FLOAT64, ONLINE),
    Case("all options", FLOAT32, SCALAR),
    Case("statistics", FLOAT32, BLOCK, peeled=True, label=4),
    Case("statistics", BFLOAT16, CLUSTER),
    Case("log_prob, entropy, correct", FLOAT16, WARP, peeled=True),
    Case("statistics, softcap, temperature", FLOAT64, STAGED),
    Case("statistics", FLOAT32, ONLINE, peeled=True),
    Case("derivatives", FLOAT32, BLOCK, peeled=True),
    Case("derivatives", FLOAT64, SHARED, peeled=True),
    Case("derivatives", BFLOAT16, CLUSTER),
    Case("derivatives, softcap, temperature", FLOAT16, WARP, peeled=True),
    Case("derivatives", BFLOAT16, ONLINE),
    Case("hessian", FLOAT32, PART_WARP),
    Case("hessian, all options", FLOAT32, BLOCK, peeled=True),
    Case("hessian", BFLOAT16, CLUSTER),
    Case("hessian, soft", FLOAT16, WARP),
    Case("hessian, all options", FLOAT64, ONLINE),
    Case("hessian, float32", FLOAT64, WARP, peeled=True),
    Case("divergence", FLOAT32, PART_WARP),
    Case("divergence", BFLOAT16, CLUSTER, peeled=True),
    Case("divergence", FLOAT32, ONLINE, peeled=True),
    Case("divergence, mixed", FLOAT16, WARP, peeled=True),
    Case("divergence, mixed", FLOAT32, BLOCK, peeled=True),
    Case("divergence, mixed", FLOAT64, BLOCK),
    Case("divergence, mixed", BFLOAT16, STAGED),
    Case("divergence, mixed", FLOAT16, ONLINE, peeled=True),
    Case("divergence, prob", BFLOAT16, SHARED, wide=True),
    Case("divergence, prob", FLOAT32, SCALAR),
    Case("divergence, log_prob", FLOAT64, STAGED, peeled=True),
    Case("masked", FLOAT32, WARP, peeled=True),
    Case("masked", BFLOAT16, BLOCK, peeled=True),
    Case("masked, all options", FLOAT16, CLUSTER),
    Case("masked", FLOAT16, STAGED),
    Case("masked, soft", BFLOAT16, WARP, wide=True),
    Case("masked, all options", FLOAT32, ONLINE, peeled=True),
    Case("masked, softmax", FLOAT32, PART_WARP),
    Case("masked, statistics", FLOAT32, BLOCK, peeled=True),
    Case("masked, derivatives", FLOAT64, BLOCK),
    Case("factors", FLOAT32, WARP, peeled=True),
    Case("factors", BFLOAT16, CLUSTER),
    Case("factors", FLOAT64, ONLINE),
]


def pairs():
    """Few cases that have every pair of work, dtype, form and whether rows are peeled."""
    chosen = pairwise(list(WORK), list(KINDS), (SCALAR, *ORDER), (False, True), possible=is_possible)
    return [Case(*case, label=4 if i % 3 == 0 else 8, wide=i % 2 == 0) for i, case in enumerate(chosen)]


def is_possible(_work, _kind, form, peeled):
    """Whether there is such a kernel: short rows are not peeled."""
    return not (peeled and form in (PART_WARP, SCALAR))


class Made(NamedTuple):
    """A kernel for one kind of GPU."""

    case: Case
    flags: Flags
    plan: Plan
    code: Built
    compiled: compiler.Compiled


def layouts(case, classes):
    """How the operands of a case lie in memory: aligned, or an element past that."""
    name, variant, flags = WORK[case.work]
    size = ITEMSIZE[case.kind]
    sizes = [size] * (2 if name == "vjp" else 1)
    if flags.soft or name in ("divergence", "weighted"):
        sizes.append(ITEMSIZE[COMPUTED[case.kind]] if case.wide else size)
    if flags.grad or name == "vjp" or (name == "softmax" and variant != LOGSUMEXP):
        sizes += [4 if variant else size] * 2 if name == "hessian" else [size]
    if case.form == SCALAR:
        return tuple(Layout(n, 0, 0, n, n << 12) for n in sizes)
    return tuple(Layout(n, n * case.peeled, 0, classes * n, n) for n in sizes)


def largest(case, facts):
    """The plan of the longest rows of a case's form; None where a GPU has no such form."""
    name, _, flags = WORK[case.work]
    burden, vector = burden_of(name, flags, wide=is_wide(case)), 16 // ITEMSIZE[case.kind]
    if case.form == SCALAR:
        return plan(1 << 20, 100, layouts(case, 100), facts, burden)

    def made(n):
        return plan(1 << 20, n * vector, layouts(case, n * vector), facts, burden)

    # Forms follow each other as rows grow: where the first longer one begins is found by halves.
    low, high = 1, 1 << 18
    while low + 1 < high:
        middle = (low + high) // 2
        longer = ORDER.index(form_of(made(middle))) > ORDER.index(case.form)
        low, high = (low, middle) if longer else (middle, high)
    return made(low) if form_of(made(low)) == case.form else None


def form_of(made):
    """The form of a plan, where clusters that keep rows in shared memory are one of their own."""
    return STAGED if made.cluster > 1 and made.shared else made.form


def is_wide(case):
    """Whether soft targets or a teacher are twice as wide as logits."""
    name, _, flags = WORK[case.work]
    return case.wide and (flags.soft or name in ("divergence", "weighted")) and case.kind != COMPUTED[case.kind]


def built(case, capability):
    """A case for GPUs of a compute capability; None where they have no such form."""
    name, variant, flags = WORK[case.work]
    made = largest(case, GPUS[capability])
    if made is None:
        return None
    y_kind = COMPUTED[case.kind] if is_wide(case) else case.kind
    recipe = recipes.recipe(name, made, case.kind, y_kind, variant, flags, case.label)
    compiled = recipes.compiled(recipe, capability)
    return Made(case, flags, made, taken_apart(compiled.code), compiled)


WIDE = r"(\.\w+)*\.128"
REGISTER = re.compile(r"\bR(\d+)\b")


def row_loads(made):
    """Where in the listing a row is loaded: accesses of 16 bytes and, of half types, single elements of its ends."""
    half = ITEMSIZE[made.case.kind] == 2
    pattern = re.compile(rf"LDG\.E({WIDE}|\.U16\b)" if half else rf"LDG\.E{WIDE}")
    return [k for k, (name, _) in enumerate(made.code.listing) if pattern.match(name)]


def first_uses(listing, loads):
    """Instructions that read what one of `loads` brings before the last of them stands."""
    found, brought = [], set()
    for k, (name, operands) in enumerate(listing[: loads[-1] + 1]):
        target, _, rest = operands.partition(",")
        written = REGISTER.fullmatch(target.strip()) and not name.startswith(("ST", "RED", "ATOM"))
        read = set(map(int, REGISTER.findall(rest if written else operands)))
        if read & brought:
            found.append(f"{name} {operands}")
        if k in loads:
            first = int(REGISTER.search(target).group(1))
            brought |= set(range(first, first + (4 if name.endswith(".128") else 1)))
    return found


def table():
    """Registers of each case on each kind of GPU, and threads of a multiprocessor that are to have them: Markdown."""
    lines = ["| kernel, dtype, who keeps the row | sm_80 | sm_90 | sm_100 |", "|---|---|---|---|"]
    for case in SHORT:
        made = [built(case, capability) for capability in GPUS]
        cells = ["–" if m is None else f"{m.code.registers} ({m.plan.resident * m.plan.threads})" for m in made]
        lines.append(f"| {case} | {' | '.join(cells)} |")
    return "\n".join(lines)


if __name__ == "__main__":
    print(table())
