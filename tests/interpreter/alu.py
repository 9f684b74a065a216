"""What each arithmetic instruction of PTX means, as an expression of NumPy.

Every function here takes an `Instruction` and a `Writer` (see compile.py), reads operands as expressions of a type
and writes the destination.
"""

from tests.interpreter.parse import DTYPES, Unsupported

INTEGER = "bus"
ROUNDINGS = ("rn", "rz", "rm", "rp")
EMITTERS = {}


def emits(*opcodes):
    def register(function):
        EMITTERS.update(dict.fromkeys(opcodes, function))
        return function

    return register


def known(instruction, *allowed):
    """Raise for a modifier that would change the meaning and is not in `allowed`."""
    rest = [part for part in instruction.modifiers if part not in allowed and part not in DTYPES]
    if rest:
        raise Unsupported(f"unknown modifiers {rest} of {instruction.where()}")


def rounding(instruction):
    """The rounding that the instruction names; to nearest if none."""
    return next((part for part in instruction.modifiers if part in ROUNDINGS), "rn")


def halves(kind):
    """The function that a pair of half precision numbers goes through, half by half."""
    return {"f16x2": "f16", "bf16x2": "bf16"}.get(kind)


def floats(instruction, writer, compute, count, start=1):
    """Read `count` floats, flush them if asked, compute, saturate, flush, write."""
    kind = instruction.types[-1]
    names = [writer.read(operand, kind) for operand in instruction.operands[start : start + count]]
    if half := halves(kind):
        parts = [compute([writer.half(name, half, high) for name in names], half) for high in (True, False)]
        writer.write(instruction.operands[0], "pack({}, {})".format(*(writer.bits(p, half) for p in parts)), kind)
        return
    if kind == "bf16":
        value = writer.bits(compute([f"float_of({name})" for name in names], kind), kind)
        writer.write(instruction.operands[0], value, kind)
        return
    ftz = "ftz" in instruction.modifiers
    value = compute([f"flush({name})" if ftz else name for name in names], kind)
    value = f"saturate({value})" if "sat" in instruction.modifiers else value
    writer.write(instruction.operands[0], f"flush({value})" if ftz else value, kind)


@emits("add", "sub", "mul")
def _arithmetic(instruction, writer):
    kind = instruction.types[-1]
    sign = {"add": "+", "sub": "-", "mul": "*"}[instruction.opcode]
    if kind[0] not in INTEGER or kind[:2] == "bf":
        known(instruction, *ROUNDINGS, "ftz", "sat")
        mode = rounding(instruction)
        if mode == "rn":
            floats(instruction, writer, lambda v, half: f"({v[0]} {sign} {v[1]})", 2)
        elif kind == "f32":
            function = "mul4" if sign == "*" else "add4"
            minus = "-" if sign == "-" else ""
            floats(instruction, writer, lambda v, half: f"{function}({v[0]}, {minus}{v[1]}, {mode!r})", 2)
        else:
            raise Unsupported(f"rounding of {instruction.where()}")
        return
    known(instruction, "lo", "hi", "wide")
    a, b = (writer.read(operand, kind) for operand in instruction.operands[1:3])
    _integer(instruction, writer, kind, a, b, sign)


def _integer(instruction, writer, kind, a, b, sign):
    if "wide" in instruction.modifiers:
        wide = f"{kind[0]}{2 * int(kind[1:])}"
        writer.write(instruction.operands[0], f"{a}.astype({writer.dtype(wide)}) * {b}", wide)
    elif "hi" in instruction.modifiers:
        writer.write(instruction.operands[0], f"high_product({a}, {b})", kind)
    else:
        writer.write(instruction.operands[0], f"{a} {sign} {b}", kind)


@emits("mad")
def _mad(instruction, writer):
    kind = instruction.types[-1]
    if kind[0] == "f":
        return _fma(instruction, writer)
    known(instruction, "lo", "hi", "wide")
    a, b = (writer.read(operand, kind) for operand in instruction.operands[1:3])
    if "wide" in instruction.modifiers:
        wide = f"{kind[0]}{2 * int(kind[1:])}"
        product, kind = f"{a}.astype({writer.dtype(wide)}) * {b}", wide
    else:
        product = f"high_product({a}, {b})" if "hi" in instruction.modifiers else f"{a} * {b}"
    writer.write(instruction.operands[0], f"{product} + {writer.read(instruction.operands[3], kind)}", kind)
    return None


@emits("fma")
def _fma(instruction, writer):
    known(instruction, *ROUNDINGS, "ftz", "sat", "relu")
    mode = rounding(instruction)
    if mode != "rn" and instruction.types[-1] != "f32":
        raise Unsupported(f"rounding of {instruction.where()}")

    def compute(v, kind):
        function = {"f32": "fma4", "f64": "fma8", "f16": "fma2", "bf16": "fma4"}[kind]
        value = f"{function}({v[0]}, {v[1]}, {v[2]}" + (f", {mode!r})" if mode != "rn" else ")")
        return f"largest({value}, 0 * {value})" if "relu" in instruction.modifiers else value

    floats(instruction, writer, compute, 3)


@emits("max", "min")
def _extremes(instruction, writer):
    kind = instruction.types[-1]
    if kind[0] in INTEGER and kind[:2] != "bf":
        known(instruction)
        a, b = (writer.read(operand, kind) for operand in instruction.operands[1:3])
        writer.write(instruction.operands[0], f"np.{instruction.opcode}imum({a}, {b})", kind)
        return
    known(instruction, "ftz", "NaN")
    function = "largest" if instruction.opcode == "max" else "smallest"

    def compute(v, kind):
        value = v[0]
        for other in v[1:]:
            pair = f"{function}({value}, {other})"
            value = f"spread_nan({pair}, {value}, {other})" if "NaN" in instruction.modifiers else pair
        return value

    floats(instruction, writer, compute, len(instruction.operands) - 1)


@emits("div", "rem")
def _division(instruction, writer):
    kind = instruction.types[-1]
    if kind[0] == "f":
        known(instruction, "rn", "approx", "full", "ftz")
        floats(
            instruction, writer, lambda v, half: f"M.rough({v[0]} / {v[1]}, 2, {'rn' not in instruction.modifiers})", 2
        )
        return
    known(instruction)
    a, b = (writer.read(operand, kind) for operand in instruction.operands[1:3])
    function = "quotient" if instruction.opcode == "div" else "np.fmod"
    writer.write(instruction.operands[0], f"{function}({a}, {b})", kind)


@emits("rcp", "sqrt", "rsqrt", "ex2", "lg2", "tanh")
def _function(instruction, writer):
    known(instruction, "rn", "approx", "ftz")
    name, ulps = {
        "rcp": ("reciprocal({})", 1),
        "sqrt": ("np.sqrt({})", 1),
        "rsqrt": ("reciprocal(np.sqrt({}))", 2),
        "ex2": ("exp2({})", 2),
        "lg2": ("log2({})", 2),
        "tanh": ("np.tanh({})", 1 << 13),
    }[instruction.opcode]
    approximate = "approx" in instruction.modifiers
    gross = approximate and instruction.types[-1] == "f64"

    def compute(v, kind):
        value = name.format(f"gross({v[0]})" if gross else v[0])
        return f"gross({value})" if gross else f"M.rough({value}, {ulps}, {approximate})"

    if gross:  # their .ftz is about float64's own subnormals
        instruction = writer.without(instruction, "ftz")
    floats(instruction, writer, compute, 1)


@emits("neg", "abs")
def _sign(instruction, writer):
    kind = instruction.types[-1]
    known(instruction, "ftz")
    form = "-{}" if instruction.opcode == "neg" else "np.abs({})"
    if kind[0] in "su":
        writer.write(instruction.operands[0], form.format(writer.read(instruction.operands[1], kind)), kind)
    else:
        floats(instruction, writer, lambda v, half: f"({form.format(v[0])})", 1)


@emits("copysign")
def _copysign(instruction, writer):
    kind = instruction.types[-1]
    sign, size = (writer.read(operand, kind) for operand in instruction.operands[1:3])
    writer.write(instruction.operands[0], f"np.copysign({size}, {sign})", kind)


@emits("testp")
def _testp(instruction, writer):
    kind = instruction.types[-1]
    known(instruction, "finite", "infinite", "notanumber", "number")
    test = {
        "finite": "np.isfinite({})",
        "infinite": "np.isinf({})",
        "notanumber": "np.isnan({})",
        "number": "~np.isnan({})",
    }
    value = writer.read(instruction.operands[1], kind)
    writer.write(instruction.operands[0], test[instruction.modifiers[0]].format(value), "pred")
