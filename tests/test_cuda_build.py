"""What the kernels are compiled to, for three kinds of GPU and without any: registers, accesses, and their order.

This says nothing of speed.  A listing is of the machine code that is loaded, taken apart by NVIDIA's tools.
"""

import re

import pytest
from support_cuda import taken_apart

from fastsoftmax.cuda import kernels
from fastsoftmax.plan_cuda import BLOCK, CLUSTER, ONLINE, PART_WARP, SHARED, WARP, Layout, plan
from fastsoftmax.spec import BFLOAT16, FLOAT16, FLOAT32, FLOAT64, ITEMSIZE, LOG_SOFTMAX, Flags

#: Multiprocessors, bytes of shared memory for a block, clusters: of an A100, an H200 and a B200.
GPUS = {(8, 0): (108, 166912, False), (9, 0): (132, 232448, True), (10, 0): (148, 232448, True)}
LOSS, GRADIENT = Flags(hard=True), Flags(hard=True, grad=True)
OPTIONS = GRADIENT._replace(weighted=True, smooth=True, z_loss=True, focal=True, cap=True, temper=True, factors=True)
#: (function, flags, dtype, classes, form) on an A100, and the form where there are clusters.
CASES = [
    ("cross_entropy", GRADIENT, FLOAT32, 128, PART_WARP, PART_WARP),
    ("cross_entropy", GRADIENT, BFLOAT16, 2048, WARP, WARP),
    ("cross_entropy", GRADIENT, FLOAT16, 2048, WARP, WARP),
    ("cross_entropy", GRADIENT, FLOAT32, 1001, WARP, WARP),
    ("cross_entropy", LOSS, FLOAT32, 4096, BLOCK, BLOCK),
    ("cross_entropy", GRADIENT, FLOAT32, 4096, BLOCK, BLOCK),
    ("cross_entropy", OPTIONS, FLOAT32, 4096, BLOCK, BLOCK),
    ("cross_entropy", GRADIENT, BFLOAT16, 32768, BLOCK, BLOCK),
    ("cross_entropy", GRADIENT, FLOAT64, 2048, BLOCK, BLOCK),
    ("cross_entropy", GRADIENT, FLOAT32, 32768, SHARED, CLUSTER),
    ("cross_entropy", GRADIENT, FLOAT32, 300_000, ONLINE, ONLINE),
    ("softmax", Flags(), FLOAT32, 4096, BLOCK, BLOCK),
    ("vjp", Flags(), BFLOAT16, 16384, BLOCK, BLOCK),
]
#: 512 threads, the most of a block, can have as many.
REGISTERS = 128
HELD = {PART_WARP, WARP, BLOCK, CLUSTER}
#: In float32 kernels: a row's loss is added to the block's sum, the mean's denominator is read, and both are rounded.
DOUBLE = {"DADD": 1, "F2F.F64.F32": 2, "F2F.F32.F64": 1}


@pytest.fixture(params=[(gpu, case) for gpu in GPUS for case in CASES], ids=lambda p: _name(*p))
def built(request):
    """(plan, flags, dtype, function, what the machine code consists of)."""
    capability, (name, flags, kind, classes, form, clustered) = request.param
    wide, size = 3 if name == "vjp" else 1 + (flags.grad or name == "softmax"), ITEMSIZE[kind]
    layouts = (Layout(size, 0, 0, classes * size, size),) * wide
    p = plan(4096, classes, layouts, GPUS[capability], held=2 if name == "vjp" else 1)
    assert p.form == (form if capability < (9, 0) else clustered)
    variant = LOG_SOFTMAX if name == "vjp" else 0
    made = kernels.compiled(kernels.recipe(name, p, kind, variant=variant, flags=flags), capability)
    return p, flags, kind, name, taken_apart(made.code)


def _name(capability, case):
    name, flags, kind, classes, *_ = case
    what = "options" if flags is OPTIONS else "gradient" if flags.grad else "map" if flags == Flags() else "loss"
    return f"sm_{capability[0]}{capability[1]}-{name}-{what}-{kind}-{classes}"


def test_machine_code(built):
    p, flags, kind, name, code = built
    # Nothing is spilled, and no array of registers is left in local memory.
    assert (code.stack, code.local, code.count("LDL|STL")) == (0, 0, 0)
    assert code.registers <= REGISTERS
    # As many of the widest accesses as the plan says: a row that is held is read once, others twice.
    held, operands = p.form in HELD, 2 if name == "vjp" else 1
    wide = r"(\.\w+)*\.128"
    reads = p.items * operands * (1 if held or p.form == SHARED else 2)
    writes = p.items if flags.grad or name != "cross_entropy" else 0
    assert code.count(rf"LDG\.E{wide}") == reads
    assert code.count(rf"STG\.E{wide}") == writes
    if kind != FLOAT64:
        double = {n: c for n, c in code.operations.items() if re.match(r"D[A-Z]+\b|F2F\.F(64|32\.F64)", n)}
        assert double == (DOUBLE if name == "cross_entropy" and flags.grad else _without_gradient(name))
    if held:
        assert _between(code.listing, reads) == []


def _without_gradient(name):
    """The float64 operations of a kernel that has no denominator: a loss is added up, or there is none."""
    return {"DADD": 1, "F2F.F64.F32": 2} if name == "cross_entropy" else {}


def _between(listing, reads):
    """What is computed in floating point between the first and the last load of a row: they wait for nothing."""
    wide = [i for i, n in enumerate(listing) if re.match(r"LDG\.E(\.\w+)*\.128", n)]
    computing = re.compile(r"F(MNMX|ADD|MUL|FMA|SETP)|HADD|D(SETP|ADD|FMA|MUL)|MUFU")
    return [n for n in listing[wide[0] : wide[reads - 1]] if computing.match(n)]
