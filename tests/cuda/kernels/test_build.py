"""What the kernels are compiled to, for three kinds of GPU and without any: registers, accesses, and their order.

This says nothing of speed.  A listing is of the machine code that is loaded, taken apart by NVIDIA's tools.  With the
environment variable ``FASTSOFTMAX_BUILD=pairs`` every pair of work, dtype, form and whether rows are peeled is built.
"""

import os
import re
import warnings

import numpy as np
import pytest

from fastsoftmax.core.dtypes import BFLOAT16, COMPUTED, FLOAT32, FLOAT64, FORWARD, ITEMSIZE, LOGITS
from fastsoftmax.cuda.kernels import recipes
from fastsoftmax.cuda.plan import ONLINE, RESERVED, SCALAR, WARP
from tests.cuda.kernels.build import (
    GPUS,
    HELD,
    KEPT,
    SHORT,
    TWO,
    WIDE,
    WORK,
    Case,
    built,
    first_uses,
    largest,
    pairs,
    row_loads,
)
from tests.cuda.kernels.machine_code import compiler, taken_apart
from tests.pairs import covering, exhaustive_but

CASES = pairs() if os.environ.get("FASTSOFTMAX_BUILD") == "pairs" else SHORT
BUILDS = [(case, gpu) for case in CASES for gpu, facts in GPUS.items() if largest(case, facts) is not None]
#: Every form, dtype and kind of GPU; each work is in the tests of values.
USUAL = covering(BUILDS, 1, about=lambda build: (*build[0][1:], build[1]))
REGISTERS = 65536  # of a multiprocessor; a thread's are given out by eights
#: In float32 kernels: a row's loss is added to the block's sum, the mean's denominator is read, and both are rounded.
ADDED, DIVIDED = {"DADD": 1, "F2F.F64.F32": 2}, {"F2F.F32.F64": 1}


@pytest.mark.parametrize(
    ("case", "capability"),
    exhaustive_but(USUAL, BUILDS),
    ids=lambda x: str(x) if isinstance(x, Case) else f"sm_{x[0]}{x[1]}",
)
def test_machine_code(case, capability):
    made = built(case, capability)
    assert_lean(made)
    assert_wide(made)
    if case.form in HELD and not is_read_again(made.flags):
        assert first_uses(made.code.listing, row_loads(made)) == []


def assert_lean(made):
    """Nothing is spilled or left in local memory, and as many threads have registers as the grid is laid out for."""
    code, plan = made.code, made.plan
    assert (code.stack, code.local, code.count("LDL|STL")) == (0, 0, 0)
    kept = 1024 if code.shared and made.compiled.capability >= (9, 0) else 0  # by the driver, of shared memory
    assert made.compiled.shared == code.shared - kept <= RESERVED
    assert -(-code.registers // 8) * 8 * plan.threads * plan.resident <= REGISTERS
    if made.case.kind != FLOAT64:
        double = {n: c for n, c in code.operations.items() if re.match(r"D[A-Z]+\b|F2F\.F(64|32\.F64)", n)}
        losses = WORK[made.case.work][0] in recipes.LOSSES
        assert double == (ADDED | (DIVIDED if made.flags.grad else {}) if losses else {})


def is_read_again(flags):
    """Whether logits that were adjusted are read once more, for the slope of a softcap."""
    return flags.adjusted and flags.cap and flags.grad


def assert_wide(made):
    """As many of the widest accesses as the plan says: a row that is held is read once, others as often as needed."""
    case, code, plan = made.case, made.code, made.plan
    name, variant, flags = WORK[case.work]
    writes = flags.grad or name == "vjp" or (name == "softmax" and variant < 2)
    again, operands = 2 if writes and case.form == ONLINE else 1, 2 if name in TWO else 1
    if name == "statistics" and variant.top_k >= 0 and case.form not in HELD:  # by a loop that looks for them
        again = 2
    if name == "weighted":
        operands += case.wide
    if name == "divergence":
        again = 1 if case.form != ONLINE else 2 if not writes or variant == (LOGITS, FORWARD) else 3
        operands += case.wide  # of which the second takes two accesses a vector
    reads = plan.items * (again * operands + is_read_again(flags))
    if flags.soft:  # shared memory keeps logits alone
        targets = ITEMSIZE[COMPUTED[case.kind]] // ITEMSIZE[case.kind] if case.wide else 1
        reads += plan.items * targets * (2 if writes and case.form in (ONLINE, *KEPT) else 1)
    whole = case.form != SCALAR
    assert code.count(rf"LDG\.E{WIDE}") == (reads if whole else 0)
    results = (0 if variant else 2) if name == "hessian" else 1  # of single precision: half of an access
    least = 1 if name == "divergence" else results * plan.items  # whose vectors are written in a loop
    assert least * (writes and whole) <= code.count(rf"STG\.E{WIDE}") <= results * plan.items * (writes and whole)
    kept = plan.items * operands if case.form in KEPT and name not in ("statistics", "weighted") else 0
    kept *= 2 if flags.adjusted and ITEMSIZE[case.kind] == 2 else 1  # in the computing dtype
    assert code.count(rf"STS{WIDE}") == kept
    assert code.count(rf"LDS{WIDE}") >= (kept if writes else 0)


@pytest.mark.parametrize("capability", GPUS, ids=lambda c: f"sm_{c[0]}{c[1]}")
@pytest.mark.parametrize(
    "recipe", [recipes.count_recipe(FLOAT32, 4), recipes.total_recipe(FLOAT32)], ids=["count", "total"]
)
def test_sums(recipe, capability):
    code = taken_apart(recipes.compiled(recipe, capability).code)
    assert (code.stack, code.local, code.count("LDL|STL")) == (0, 0, 0)
    assert code.registers <= 64


def test_one_text_serves_all_gpus():
    """A text for 8.0 where there are no clusters: what is executed in tests is what every GPU's code is made of."""
    made = built(Case("gradient", BFLOAT16, WARP), (8, 0)).plan
    recipe = recipes.recipe("cross_entropy", made, BFLOAT16, flags=WORK["gradient"][2])
    texts = {recipes.compiled(recipe, capability).ptx for capability in GPUS}
    assert len(texts) == 1
    assert ".target sm_80" in texts.pop()


@pytest.mark.parametrize("case", exhaustive_but([USUAL[0][0]], [USUAL[0][0], *SHORT[1::9]]), ids=str)
def test_the_language_of_a_text_does_not_matter(case):
    """What NVVM calls newer is assembled to the same code, where an assembler takes it at all."""
    made = built(case, (9, 0)).compiled
    assert re.findall(r"^\.version .*", made.ptx, re.MULTILINE) == [".version 8.0"]
    for newer in ("8.4", "9.0"):
        text = made.ptx.replace(".version 8.0", f".version {newer}")
        assert compiler.assembled(text, made.capability) == made.code


def test_shared_memory_that_a_text_declares():
    """All of its arrays, aligned, and what is put before an array of any size; not what comments speak of."""
    lines = [
        ".shared .align 4 .b8 first[516];",
        "\t// .shared .align 4 .b8 none[1000];",
        ".visible .shared .align 8 .b8 second[100]; // and more",
        ".visible .entry kernel(",
        "\t.shared .align 4 .b8 $inner[4];",
    ]
    assert [compiler._shared_bytes("\n".join(lines[:n])) for n in range(1, 6)] == [516, 516, 620, 620, 624]
    assert compiler._shared_bytes("\n".join([".extern .shared .align 16 .b8 rest[];", *lines[:1]])) == 528
    assert compiler._shared_bytes("ld.shared.f32 %f1, [first];") == 0


def test_a_numpy_that_numba_cuda_does_not_know(monkeypatch):
    """Version 2.5 has no `row_stack`, and warns of what is imported; of neither is anything left."""
    monkeypatch.delattr(np, "row_stack", raising=False)
    with compiler._older_numpy():
        assert vars(np)["row_stack"] is np.vstack
        warnings.warn("old", DeprecationWarning, stacklevel=1)
    assert not hasattr(np, "row_stack")
    with pytest.raises(DeprecationWarning):
        warnings.warn("old", DeprecationWarning, stacklevel=1)
    monkeypatch.setattr(np, "row_stack", np.hstack, raising=False)
    with compiler._older_numpy():
        assert vars(np)["row_stack"] is np.hstack
    assert vars(np)["row_stack"] is np.hstack


def test_first_uses_are_found():
    """The test's own reading of listings: a vector's third register, a half's, an address; no store of another."""
    load, half = ("LDG.E.128", "R4, desc[UR4][R2.64]"), ("LDG.E.U16", "R9, [R2.64+0x8]")
    listing = [load, ("MOV", "R8, R2"), ("PRMT", "R8, R6.reuse, 0x7632, R8"), half, load]
    assert first_uses(listing, [0, 3, 4]) == ["PRMT R8, R6.reuse, 0x7632, R8"]
    assert first_uses(listing, [3, 4]) == []
    stored = [half, ("STG.E.U16", "[R2.64], R9"), ("ISETP.NE.AND", "P0, PT, R9, RZ, PT"), load]
    assert len(first_uses(stored, [0, 3])) == 2
