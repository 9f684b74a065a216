"""Moves and conversions of PTX as expressions of NumPy (see alu.py)."""

from tests.interpreter.alu import ROUNDINGS, emits, known
from tests.interpreter.parse import DTYPES, Unsupported

WHOLE = ("rni", "rzi", "rmi", "rpi")


@emits("mov")
def _mov(instruction, writer):
    known(instruction)
    target, source = instruction.operands
    kind = instruction.types[-1]
    if source[0] == "{":
        writer.write(target, _joined(writer, source, kind), kind)
    elif target[0] == "{":
        _separate(writer, target, writer.read(source, kind), kind)
    else:
        writer.write(target, writer.read(source, kind), kind)


def _joined(writer, source, kind):
    parts = [part.strip() for part in source[1:-1].split(",")]
    width = 8 * int(DTYPES[kind][1:]) // len(parts)
    dtype = writer.dtype(kind)
    words = [
        f"({writer.read(part, f'b{width}')}.astype({dtype}) << {dtype}({i * width}))" for i, part in enumerate(parts)
    ]
    return " | ".join(words)


def _separate(writer, target, value, kind):
    parts = [part.strip() for part in target[1:-1].split(",")]
    width = 8 * int(DTYPES[kind][1:]) // len(parts)
    unsigned = f"u{8 * int(DTYPES[kind][1:])}"
    whole = writer.local(f"{value}.view({writer.dtype(unsigned)})")
    for i, part in enumerate(parts):
        word = f"({whole} >> {writer.dtype(unsigned)}({i * width})).astype({writer.dtype(f'u{width}')})"
        writer.write(part, word, f"b{width}")


@emits("cvta")
def _cvta(instruction, writer):
    kind = instruction.types[-1]
    space = next(part for part in instruction.modifiers if part not in ("to", kind))
    value = writer.read(instruction.operands[1], kind)
    base = {"global": 0, "const": 0, "param": 0}.get(space, f"M.WINDOWS[{space.partition('::')[0]!r}]")
    if base:
        value = f"{value} {'-' if 'to' in instruction.modifiers else '+'} U8({base})"
    writer.write(instruction.operands[0], value, kind)


@emits("cvt")
def _cvt(instruction, writer):
    known(instruction, *ROUNDINGS, *WHOLE, "sat", "ftz", "satfinite", "relu", "rna")
    target, source = instruction.types[0], instruction.types[-1]
    if target in ("f16x2", "bf16x2") and source == "f32":
        return _pair(instruction, writer, target)
    value = writer.read(instruction.operands[1], source)
    if target[0] in "us" and source[0] in "us":
        value = f"clip_to({value}, {writer.dtype(target)})" if "sat" in instruction.modifiers else value
        writer.write(instruction.operands[0], f"{value}.astype({writer.dtype(target)})", target)
    elif target[0] in "us":
        value = f"float_of({value})" if source == "bf16" else value
        value = f"flush({value})" if "ftz" in instruction.modifiers else value
        mode = next(part for part in instruction.modifiers if part in WHOLE)
        writer.write(instruction.operands[0], f"integer_of({value}, {writer.dtype(target)}, {mode!r})", target)
    else:
        writer.write(instruction.operands[0], _to_float(instruction, writer, target, source, value), target)
    return None


def _pair(instruction, writer, kind):
    """Two float32 as a pair: the first operand goes into the upper half."""
    if not {"rn"} >= {part for part in instruction.modifiers if part in ROUNDINGS}:
        raise Unsupported(f"rounding of {instruction.where()}")
    values = [writer.read(operand, "f32") for operand in instruction.operands[1:3]]
    if "relu" in instruction.modifiers:
        values = [f"largest({value}, F4(0))" for value in values]
    writer.write(instruction.operands[0], "pack({}, {})".format(*(writer.bits(v, kind[:-2]) for v in values)), kind)


def _to_float(instruction, writer, target, source, value):
    modes = [part for part in instruction.modifiers if part in ROUNDINGS and part != "rn"]
    ftz = "ftz" in instruction.modifiers
    if source == "bf16":
        value, source = f"float_of({value})", "f32"
    if ftz and source == "f32":
        value = f"flush({value})"
    if modes:
        if (target, source) != ("f32", "f64"):
            raise Unsupported(f"rounding of {instruction.where()}")
        value = f"narrow({value}, F8(0), {modes[0]!r})"
    elif whole := [part for part in instruction.modifiers if part in WHOLE]:
        value = f"np.{({'rni': 'rint', 'rzi': 'trunc', 'rmi': 'floor', 'rpi': 'ceil'})[whole[0]]}({value})"
    if "sat" in instruction.modifiers:
        value = f"saturate({value})"
    if "relu" in instruction.modifiers:
        value = f"largest({value}, {writer.dtype(source)}(0))"
    if target == "bf16":
        return writer.bits(f"{value}.astype(F4)", "bf16")
    if target == "f16":
        return f"half_of({value}, {'satfinite' in instruction.modifiers})"
    value = f"{value}.astype({writer.dtype(target)})"
    return f"flush({value})" if ftz and target == "f32" else value
