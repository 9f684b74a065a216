"""Instructions of PTX that reach beyond their thread: memory, atomics, shuffles, votes (see alu.py)."""

import re

from tests.interpreter.parse import DTYPES, Unsupported

TRANSFERS = {}
SPACES = {
    "global": "global_",
    "shared": "shared",
    "shared::cta": "shared",
    "shared::cluster": "cluster",
    "local": "local",
}
#: Hints and orderings that change no value here; threads that race are found in another way.
IGNORED = {
    "volatile",
    "relaxed",
    "acquire",
    "release",
    "acq_rel",
    "weak",
    "nc",
    "ca",
    "cg",
    "cs",
    "cv",
    "lu",
    "wb",
    "wt",
}
IGNORED |= {"cta", "cluster", "gpu", "sys", "noftz"}
ATOMICS = ("add", "min", "max", "and", "or", "xor", "exch", "cas", "inc", "dec")
VOTES = ("all", "any", "uni", "ballot")


def transfers(*opcodes):
    def register(function):
        TRANSFERS.update(dict.fromkeys(opcodes, function))
        return function

    return register


#: The instructions that lanes of a warp execute together, and the operand that names those lanes.
WARP = {
    "shfl": lambda instruction: instruction.operands[4],
    "vote": lambda instruction: instruction.operands[2],
    "match": lambda instruction: instruction.operands[2],
    "redux": lambda instruction: instruction.operands[2],
    "elect": lambda instruction: instruction.operands[1],
    "bar": lambda instruction: instruction.operands[0],
    "barrier": lambda instruction: instruction.operands[0],
}


def place(instruction):
    """The state space of an access; generic if it names none."""
    return next((SPACES[part] for part in instruction.modifiers if part in SPACES), "generic")


def check(instruction, *more):
    """Raise for modifiers that are not known."""
    for part in instruction.modifiers:
        hint = part.startswith(("L1::", "L2::", "::")) or part in IGNORED or part in SPACES or part in DTYPES
        if not hint and part not in more:
            raise Unsupported(f"unknown modifier {part!r} of {instruction.where()}")


def address(writer, operand):
    """``[base+offset]`` as an expression."""
    match = re.fullmatch(r"\[\s*([%\w$.@]+)\s*(?:\+\s*(-?\w+))?\s*\]", operand)
    if not match:
        raise Unsupported(f"unknown address {operand}")
    base, offset = match[1], int(match[2] or "0", 0)
    registers = writer.kernel.registers
    narrow = base in registers and DTYPES[registers[base]][1:] == "4"
    value = writer.read(base, "u32" if narrow else "u64")
    value = writer.local(f"{value}.astype(U8)") if narrow else value
    return f"{value} + {writer.read(str(offset & (1 << 64) - 1), 'u64')}" if offset else value


def vector(operand):
    """The registers of ``{a, b}`` or ``a``."""
    return [part.strip() for part in operand.strip("{}").split(",")]


@transfers("ld", "ldu")
def _load(instruction, writer):
    kind = instruction.types[-1]
    targets = vector(instruction.operands[0])
    if any(part.startswith("param") for part in instruction.modifiers):
        return _parameter(instruction, writer, kind, targets)
    check(instruction, "v2", "v4", "v8", "const")
    space = "global_" if "const" in instruction.modifiers else place(instruction)
    site = writer.site(instruction, kind, len(targets))
    value = writer.local(f"M.{space}.load({site}, {address(writer, instruction.operands[1])}, I)")
    for i, target in enumerate(targets):
        writer.write(target, f"{value}[{i}]" if len(targets) > 1 else value, kind)
    return None


def _parameter(instruction, writer, kind, targets):
    match = re.fullmatch(r"\[\s*([\w$]+)\s*(?:\+\s*(\d+))?\s*\]", instruction.operands[1])
    place = {name: offset for name, _, offset, _ in writer.kernel.parameters}
    if not match or match[1] not in place:
        raise Unsupported(f"unknown parameter in {instruction.where()}")
    offset, item = place[match[1]] + int(match[2] or 0), int(DTYPES[kind][1:])
    for i, target in enumerate(targets):
        writer.write(target, f"M.parameter({offset + i * item}, {DTYPES[kind]!r})", kind)


@transfers("st")
def _store(instruction, writer):
    kind = instruction.types[-1]
    check(instruction, "v2", "v4", "v8")
    sources = vector(instruction.operands[1])
    site = writer.site(instruction, kind, len(sources))
    values = [writer.read(source, kind) for source in sources]
    where = address(writer, instruction.operands[0])
    writer.lines.append(f"M.{place(instruction)}.store({site}, {where}, [{', '.join(values)}], I)")


@transfers("atom", "red")
def _atomic(instruction, writer):
    check(instruction, *ATOMICS)
    kind = instruction.types[-1]
    name = next(part for part in instruction.modifiers if part in ATOMICS)
    if kind[0] == "f" or kind[:2] == "bf":
        raise Unsupported(f"the result of {instruction.where()} depends on the order of threads")
    operands = instruction.operands if instruction.opcode == "atom" else ("_", *instruction.operands)
    site = writer.site(instruction, kind)
    values = [writer.read(operand, kind) for operand in operands[2:]]
    where = address(writer, operands[1])
    call = f"M.{place(instruction)}.atomic({site}, {name!r}, {where}, [{', '.join(values)}], I)"
    writer.write(operands[0], call, kind)


@transfers(
    "prefetch", "prefetchu", "fence", "membar", "nop", "applypriority", "discard", "griddepcontrol", "setmaxnreg"
)
def _nothing(instruction, writer):
    """No value depends on these."""


@transfers("trap", "brkpt")
def _trap(instruction, writer):
    writer.lines.append(f"M.trap({instruction.where()!r}, I)")


@transfers("mapa")
def _mapa(instruction, writer):
    kind = instruction.types[-1]
    check(instruction)
    source, rank = instruction.operands[1:3]
    value = writer.read(source, kind)
    generic = not any(part.startswith("shared") for part in instruction.modifiers)
    call = f"M.mapped({value}, {writer.read(rank, 'u32')}, {generic}, I)"
    writer.write(instruction.operands[0], f"{call}.astype({writer.dtype(kind)})", kind)


@transfers("getctarank")
def _rank(instruction, writer):
    value = writer.read(instruction.operands[1], instruction.types[-1])
    writer.write(instruction.operands[0], f"M.rank_of({value}, I)", "u32")


@transfers("isspacep")
def _isspace(instruction, writer):
    value = writer.read(instruction.operands[1], "u64")
    writer.write(instruction.operands[0], f"M.in_space({value}, {instruction.modifiers[0]!r})", "pred")


@transfers("bar", "barrier")
def _barrier(instruction, writer):
    if "warp" in instruction.modifiers:
        writer.lines.append("M.sync_warps(I)")
    elif "cluster" in instruction.modifiers and "arrive" in instruction.modifiers:
        writer.lines.append("M.arrive(I)")
    else:
        raise Unsupported(f"barrier {instruction.where()}")


@transfers("shfl")
def _shuffle(instruction, writer):
    check(instruction, "sync", "up", "down", "bfly", "idx")
    mode = instruction.modifiers[1]
    target, _, valid = instruction.operands[0].partition("|")
    values = [writer.read(operand, "b32") for operand in instruction.operands[1:5]]
    pair = writer.local(f"M.shuffle({mode!r}, {', '.join(values)}, {instruction.where()!r}, I)")
    writer.write(target, f"{pair}[0]", "b32")
    if valid:
        writer.write(valid, f"{pair}[1]", "pred")


@transfers("vote")
def _vote(instruction, writer):
    check(instruction, "sync", *VOTES)
    mode = instruction.modifiers[1]
    source, mask = instruction.operands[1:3]
    value = "~" * source.startswith("!") + writer.read(source.lstrip("!"), "pred")
    call = f"M.vote({mode!r}, {value}, {writer.read(mask, 'b32')}, I)"
    writer.write(instruction.operands[0], call, "b32" if mode == "ballot" else "pred")


@transfers("match")
def _match(instruction, writer):
    check(instruction, "sync", "any", "all")
    target, _, same = instruction.operands[0].partition("|")
    value, mask = (
        writer.read(instruction.operands[1], instruction.types[-1]),
        writer.read(instruction.operands[2], "b32"),
    )
    pair = writer.local(f"M.match({instruction.modifiers[0]!r}, {value}, {mask}, I)")
    writer.write(target, f"{pair}[0]", "b32")
    if same:
        writer.write(same, f"{pair}[1]", "pred")


@transfers("redux")
def _redux(instruction, writer):
    check(instruction, "sync", *ATOMICS)
    kind = instruction.types[-1]
    name = next(part for part in instruction.modifiers if part in ATOMICS)
    value, mask = writer.read(instruction.operands[1], kind), writer.read(instruction.operands[2], "b32")
    writer.write(instruction.operands[0], f"M.redux({name!r}, {value}, {mask}, I)", kind)


@transfers("elect")
def _elect(instruction, writer):
    target, _, chosen = instruction.operands[0].partition("|")
    pair = writer.local(f"M.elect({writer.read(instruction.operands[1], 'b32')}, I)")
    writer.write(target, f"{pair}[0]", "b32")
    writer.write(chosen, f"{pair}[1]", "pred")


@transfers("activemask")
def _active(instruction, writer):
    writer.write(instruction.operands[0], "M.active(I)", "b32")
