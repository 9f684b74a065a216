"""Logic, shifts, comparisons and selections of PTX as expressions of NumPy (see alu.py)."""

from tests.interpreter.alu import emits, known
from tests.interpreter.parse import DTYPES

COMPARISONS = {
    "eq": "==",
    "ne": "!=",
    "lt": "<",
    "le": "<=",
    "gt": ">",
    "ge": ">=",
    "lo": "<",
    "ls": "<=",
    "hi": ">",
    "hs": ">=",
}


@emits("and", "or", "xor", "not", "cnot")
def _logic(instruction, writer):
    kind = instruction.types[-1]
    known(instruction)
    values = [writer.read(operand, kind) for operand in instruction.operands[1:]]
    if instruction.opcode == "not":
        value = f"~{values[0]}"
    elif instruction.opcode == "cnot":
        value = f"({values[0]} == 0).astype({writer.dtype(kind)})"
    else:
        value = f"{values[0]} {({'and': '&', 'or': '|', 'xor': '^'})[instruction.opcode]} {values[1]}"
    writer.write(instruction.operands[0], value, kind)


@emits("lop3")
def _lop3(instruction, writer):
    a, b, c = (writer.read(operand, "b32") for operand in instruction.operands[1:4])
    table = int(instruction.operands[4], 0)
    terms = [
        f"({a if i & 4 else '~' + a} & {b if i & 2 else '~' + b} & {c if i & 1 else '~' + c})"
        for i in range(8)
        if table >> i & 1
    ]
    writer.write(instruction.operands[0], " | ".join(terms) or f"{a} & U4(0)", "b32")


@emits("shl", "shr")
def _shift(instruction, writer):
    kind = instruction.types[-1]
    known(instruction)
    value, count = writer.read(instruction.operands[1], kind), instruction.operands[2]
    width = 8 * int(DTYPES[kind][1:])
    if count.isdigit() and int(count) < width:
        sign = "<<" if instruction.opcode == "shl" else ">>"
        writer.write(instruction.operands[0], f"{value} {sign} {writer.read(count, kind)}", kind)
        return
    function = "shift_left" if instruction.opcode == "shl" else "shift_right"
    writer.write(instruction.operands[0], f"{function}({value}, {writer.read(count, 'u32')})", kind)


@emits("shf")
def _funnel(instruction, writer):
    known(instruction, "l", "r", "clamp", "wrap")
    low, high, count = (writer.read(operand, "b32") for operand in instruction.operands[1:4])
    modes = "l" in instruction.modifiers, "wrap" in instruction.modifiers
    writer.write(instruction.operands[0], f"funnel({low}, {high}, {count}, {modes[0]}, {modes[1]})", "b32")


@emits("prmt", "bfe", "bfi", "brev", "popc", "clz")
def _bits(instruction, writer):
    known(instruction)
    kind = instruction.types[-1]
    operands = instruction.operands[1:]
    count = {"prmt": 3, "bfi": 2}.get(instruction.opcode, 1)
    values = [writer.read(op, kind if i < count else "u32") for i, op in enumerate(operands)]
    names = {"prmt": "permute", "bfe": "field", "bfi": "insert", "brev": "reversed_bits", "clz": "leading_zeros"}
    result = "b32" if instruction.opcode in ("popc", "clz") else kind
    if instruction.opcode == "popc":
        writer.write(instruction.operands[0], f"np.bitwise_count({values[0]}).astype(U4)", result)
    else:
        writer.write(instruction.operands[0], f"{names[instruction.opcode]}({', '.join(values)})", result)


@emits("setp", "set")
def _compare(instruction, writer):
    kind = instruction.types[-1]
    known(instruction, *COMPARISONS, "equ", "neu", "ltu", "leu", "gtu", "geu", "num", "nan", "ftz", "and", "or", "xor")
    a, b = (writer.read(operand, kind) for operand in instruction.operands[1:3])
    if kind == "bf16":
        a, b = f"float_of({a})", f"float_of({b})"
    if "ftz" in instruction.modifiers:
        a, b = f"flush({a})", f"flush({b})"
    value = _comparison(instruction.modifiers[0], a, b, kind)
    if joined := [part for part in instruction.modifiers[1:] if part in ("and", "or", "xor")]:
        sign = {"and": "&", "or": "|", "xor": "^"}[joined[0]]
        other = instruction.operands[3]
        value = f"({value}) {sign} {'~' * other.startswith('!')}{writer.read(other.lstrip('!'), 'pred')}"
    first, _, second = instruction.operands[0].partition("|")
    if instruction.opcode == "set":
        kind = instruction.types[0]
        true = "1.0" if kind[0] == "f" else "-1"
        value = f"np.where({value}, {writer.read(true, kind)}, {writer.read('0', kind)})"
        writer.write(first, value, kind)
        return
    if second:
        writer.write(second, f"~({value})", "pred")
    writer.write(first, value, "pred")


def _comparison(name, a, b, kind):
    unordered = f"(({a} != {a}) | ({b} != {b}))"
    if name in ("num", "nan"):
        return unordered if name == "nan" else f"~{unordered}"
    if name in COMPARISONS:
        value = f"({a} {COMPARISONS[name]} {b})"
        return f"{value} & ~{unordered}" if name == "ne" and kind[0] == "f" else value
    # The opposite of an ordered comparison is true for NaN.
    value = f"({a} {COMPARISONS[name[:-1]]} {b})"
    return value if name == "neu" else f"{value} | {unordered}"


@emits("selp", "slct")
def _select(instruction, writer):
    kind = instruction.types[0]
    a, b = (writer.read(operand, kind) for operand in instruction.operands[1:3])
    if instruction.opcode == "selp":
        condition = writer.read(instruction.operands[3], "pred")
    else:
        condition = f"{writer.read(instruction.operands[3], instruction.types[-1])} >= 0"
    writer.write(instruction.operands[0], f"np.where({condition}, {a}, {b})", kind)
