"""A kernel's instructions -> Python functions over all threads at once, one for each basic block.

A register is an array with one element a thread, or a NumPy scalar where all threads have the same value.  A function
takes the registers, the threads that run (None: all of them) and the machine; it computes on those threads only.
"""

import functools
import itertools
import re
from collections import Counter
from dataclasses import dataclass, field, replace

import numpy as np

from tests.interpreter import (
    bits,  # noqa: F401 (registers its instructions)
    convert,  # noqa: F401 (registers its instructions)
    numbers,
)
from tests.interpreter.alu import EMITTERS
from tests.interpreter.parse import DTYPES, NAME, PtxError, Unsupported, parse
from tests.interpreter.transfer import TRANSFERS, WARP
from tests.interpreter.writer import Writer

BARRIERS = ("bar", "barrier")
ENDS = ("bra", "brx", "ret", "exit", "trap")


@dataclass
class Block:
    """Instructions that are executed one after the other; how they end says which block is next."""

    code: list
    next: int
    kind: str = "next"  # next, jump, branch, switch, exit, bar, cluster
    targets: tuple = ()
    warp: object = None  # the operand that names the lanes of a warp that must be here together
    run: object = None


@dataclass
class Program:
    """A compiled kernel."""

    kernel: object
    blocks: list
    registers: int
    sites: list = field(default_factory=list)

    def widths(self, space):
        """How many bytes the accesses to a state space have, the narrowest first."""
        spaces = {"shared": ("shared", "shared::cta", "shared::cluster"), "global": ("global",)}[space]
        named = {"global", "shared", "shared::cta", "shared::cluster", "local", "param", "const"}
        return sorted(
            {
                site.width
                for site in self.sites
                if any(part in spaces for part in site.instruction.modifiers)
                or not named & set(site.instruction.modifiers)
            }
        )


@functools.lru_cache(maxsize=64)
def program(text, entry=None):
    """The kernel of a PTX text, ready to run."""
    return compile_kernel(parse(text, entry))


def compile_kernel(kernel):
    """Split a parsed kernel into blocks and translate them."""
    return translate(kernel, split(kernel), homes(kernel))


def homes(kernel):
    """The dtype that each register is kept in: the one that most instructions want, as views cost time."""
    votes = {name: Counter() for name in kernel.registers}
    for instruction in kernel.code:
        if kinds := instruction.types:
            for i, operand in enumerate(instruction.operands):
                for name in re.findall(NAME, operand):
                    if name in votes:
                        votes[name][DTYPES[kinds[-1 if i else 0]]] += 1
    best = {name: counts.most_common(1)[0][0] for name, counts in votes.items() if counts}
    declared = {name: DTYPES[kind] for name, kind in kernel.registers.items()}
    return declared | {name: kind for name, kind in best.items() if kind[1:] == declared[name][1:]}


def split(kernel):
    """The blocks of a kernel; its targets are numbers of blocks."""
    code, labels = expand(kernel)
    starts = {0, len(code), *labels.values()}
    for i, instruction in enumerate(code):
        if instruction.opcode in ENDS:
            starts.add(i + 1)
        elif is_barrier(instruction):
            starts |= {i, i + 1}
        elif is_warp(instruction):
            starts.add(i)
    starts = sorted(starts)
    number = {start: i for i, start in enumerate(starts)}
    where = {label: number[at] for label, at in labels.items()}
    blocks = [block(code[a:b], i, where, kernel) for i, (a, b) in enumerate(itertools.pairwise(starts))]
    return [*blocks, Block([], len(blocks), "exit")]


def expand(kernel):
    """Instructions under a guard become a branch around them."""
    code, moved, labels = [], {}, {}
    for i, instruction in enumerate(kernel.code):
        moved[i] = len(code)
        if instruction.guard and instruction.opcode != "bra":
            label = f"after@{i}"
            code.append(
                replace(instruction, opcode="bra", modifiers=(), operands=(label,), negated=not instruction.negated)
            )
            code.append(replace(instruction, guard=None))
            labels[label] = len(code)
        else:
            code.append(instruction)
    moved[len(kernel.code)] = len(code)
    return code, labels | {label: moved[at] for label, at in kernel.labels.items()}


def is_barrier(instruction):
    return (
        instruction.opcode in BARRIERS and "warp" not in instruction.modifiers and "arrive" not in instruction.modifiers
    )


def is_warp(instruction):
    return instruction.opcode in WARP and (instruction.opcode not in BARRIERS or "warp" in instruction.modifiers)


def block(code, i, where, kernel):
    """The block number `i`."""
    first, last = code[0], code[-1]
    result = Block(list(code), i + 1)
    if is_warp(first):
        result.warp = WARP[first.opcode](first)
    if is_barrier(first):
        result.kind = "cluster" if "cluster" in first.modifiers else "bar"
        if result.kind == "bar" and first.modifiers[-1] not in ("sync", "aligned"):
            raise Unsupported(f"barrier {first.where()}")
    elif last.opcode == "bra":
        result.kind, result.targets = ("branch" if last.guard else "jump"), (where[last.operands[0]],)
    elif last.opcode == "brx":
        result.kind, result.targets = "switch", tuple(where[label] for label in kernel.tables[last.operands[1]])
    elif last.opcode in ("ret", "exit"):
        result.kind = "exit"
    return result


def translate(kernel, blocks, homes):
    """Write the function of every block and compile it."""
    index = {name: i for i, name in enumerate(kernel.registers)}
    result = Program(kernel, blocks, len(index))
    writers = []
    for each in blocks:
        writer = Writer(kernel, homes, result.sites)
        for instruction in each.code:
            emit(instruction, writer)
        writers.append(writer)
    outer = set().union(*(writer.inputs for writer in writers))
    for each, writer in zip(blocks, writers, strict=True):
        lines = ["def block(R, I, M):", *(f"    {line}" for line in writer.function(index, outer))]
        each.run = function("\n".join(lines), tuple(writer.constants.items()))
    return result


@functools.lru_cache(maxsize=1 << 15)
def function(source, constants):
    """The function of a block; kernels that are alike share most of theirs."""
    space = {**SPACE, **dict(constants)}
    exec(compile(source, "<block>", "exec"), space)
    return space["block"]


def emit(instruction, writer):
    """Translate one instruction."""
    if instruction.opcode in ("bra", "brx", "ret", "exit") or is_barrier(instruction):
        if instruction.opcode == "brx":
            writer.result = writer.read(instruction.operands[0], "u32")
        elif instruction.guard:
            writer.result = "~" * instruction.negated + writer.read(instruction.guard, "pred")
        elif is_barrier(instruction):
            writer.result = writer.barrier(instruction)
        return
    if is_warp(instruction):
        writer.read(WARP[instruction.opcode](instruction), "b32")  # the scheduler asks for it
    function = EMITTERS.get(instruction.opcode) or TRANSFERS.get(instruction.opcode)
    if function is None:
        raise Unsupported(f"unknown instruction {instruction.where()}")
    function(instruction, writer)


def take(R, i, lanes, name):
    """The values of register `i` of the threads that run."""
    value = R[i]
    if value is None:
        raise PtxError(f"register {name} is read before anything is written to it")
    return value if lanes is None or value.ndim == 0 else value[lanes]


def put(R, i, value, lanes, n):
    """Set register `i` of the threads that run; arrays are shared by registers and never changed."""
    if lanes is not None:
        old = R[i]
        new = np.zeros(n, value.dtype) if old is None else np.full(n, old) if old.ndim == 0 else old.copy()
        new[lanes] = value
        value = new
    R[i] = value


def quotient(a, b):
    """Integer division that cuts off."""
    if a.dtype.kind == "u":
        return a // b
    return (a - np.fmod(a, b)) // b


SPACE = {name: value for name, value in vars(numbers).items() if not name.startswith("__")}
SPACE |= {"np": np, "take": take, "put": put, "quotient": quotient}
