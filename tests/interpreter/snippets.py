"""Small kernels for the tests of the interpreter: one instruction on one value a thread, or a body of one's own."""

import itertools

import numpy as np

from tests.interpreter import ptx
from tests.interpreter.parse import DTYPES

HEAD = """
.version 8.7
.target sm_90a
.address_size 64
"""
WIDTHS = {"pred": "pred", **{kind: f"b{8 * max(int(name[1:]), 2)}" for kind, name in DTYPES.items() if kind != "pred"}}


def kernel(body, parameters=(), registers="", outside="", threads=1024, directives=""):
    """The text of a kernel `k`; parameters are (type, name)."""
    names = ", ".join(f".param .{kind} {name}" for kind, name in parameters)
    return (
        f"{HEAD}\n{outside}\n.visible .entry k({names})\n.maxntid {threads}, 1, 1 {directives}\n{{\n"
        "    .reg .pred %p<9>; .reg .b16 %h<9>; .reg .b32 %r<30>; .reg .b64 %q<30>;\n"
        "    .reg .f32 %f<20>; .reg .f64 %d<9>;\n"
        f"    {registers}\n{body}\n    ret;\n}}\n"
    )


def load(target, kind, name, index="%r29"):
    """Statements that load element `index` of an array."""
    size = int(DTYPES[kind][1:])
    plain = f"b{8 * size}"
    return (
        f"ld.param.u64 %q28, [{name}]; mul.wide.u32 %q29, {index}, {size}; add.u64 %q28, %q28, %q29; "
        f"ld.global.{plain} {target}, [%q28];"
    )


def store(kind, name, value, index="%r29"):
    """Statements that store to element `index` of an array."""
    return (
        load(value, kind, name, index).replace("ld.global", "st.global").replace(f"{value}, [%q28]", f"[%q28], {value}")
    )


def compute(statement, result, *operands):
    """What an instruction gives.

    `statement` has the operands %a, %b, %c, %e and sets %out of the type `result`; `operands` are (type, values).
    """
    names = ["a", "b", "c", "e"][: len(operands)]
    n = len(operands[0][1]) if operands else 32
    declare = [f".reg .{WIDTHS[kind]} %{name};" for name, (kind, _) in zip(names, operands, strict=True)]
    declare.append(f".reg .{WIDTHS[result]} %out; .reg .b32 %flag;")
    body = ["mov.u32 %r29, %tid.x;"]
    for name, (kind, _) in zip(names, operands, strict=True):
        body.append(load(f"%{name}", kind, f"p{name}") if kind != "pred" else load("%r1", "b32", f"p{name}"))
        if kind == "pred":
            body.append(f"setp.ne.s32 %{name}, %r1, 0;")
    body.append(statement)
    if result == "pred":
        body.append("selp.b32 %flag, 1, 0, %out;")
    body.append(store("b32" if result == "pred" else result, "pout", "%flag" if result == "pred" else "%out"))
    parameters = [("u64", f"p{name}") for name in names] + [("u64", "pout")]
    text = kernel("\n".join(body), parameters, " ".join(declare))
    memory = ptx.Memory()
    arrays = [np.ascontiguousarray(values, "i4" if kind == "pred" else None) for kind, values in operands]
    out = np.zeros(n, np.int32 if result == "pred" else DTYPES[result])
    arguments = [memory.add(array) for array in (*arrays, out)]
    ptx.launch(ptx.program(text), memory, 1, n, arguments)
    return out.astype(bool) if result == "pred" else out


WORDS = {
    32: [0, 1, 2, 31, 32, 33, 2**31 - 1, 2**31, 2**32 - 1, 0x12345678],
    64: [0, 1, 63, 64, 2**63 - 1, 2**63, 2**64 - 1],
}


def pairs(values, count=2):
    """Every combination of some values, as arrays."""
    dtype = np.uint64 if isinstance(values[0], int) else float
    return [np.array(column, dtype) for column in zip(*itertools.product(values, repeat=count), strict=True)]


def integers(bits, signed, count=2, n=200, seed=0):
    """Random words and all pairs of special ones."""
    rng = np.random.default_rng(seed)
    columns = [np.concatenate([rng.integers(0, 2**bits, n, np.uint64), c]) for c in pairs(WORDS[bits], count)]
    return [
        np.array(c, np.uint64).astype(f"u{bits // 8}").view(f"{'i' if signed else 'u'}{bits // 8}") for c in columns
    ]


OUT = [("u64", "out")]
TID = "mov.u32 %r29, %tid.x; mov.u32 %r1, %tid.x;"


def run(body, n=64, grid=1, dtype=np.uint32, parameters=OUT, block=None, directives="", outside="", **options):
    """What a body stores to `out`, which has an element for each thread."""
    out = np.zeros(n, dtype)
    memory = ptx.Memory()
    text = kernel(body, parameters, directives=directives, outside=outside)
    ptx.launch(ptx.program(text), memory, grid, block or n // grid, [memory.add(out, "out")], **options)
    return out
