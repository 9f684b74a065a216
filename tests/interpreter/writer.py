"""Collects what the instructions of a block mean as lines of Python."""

import functools
import re
from dataclasses import dataclass, replace

import numpy as np

from tests.interpreter.parse import DTYPES, Unsupported


@dataclass
class Site:
    """An instruction that accesses memory: what its messages and counters need to know."""

    instruction: object
    kind: str
    count: int

    def __post_init__(self):
        self.item = int(DTYPES[self.kind][1:])
        self.width = self.item * self.count
        self.dtype = np.dtype(DTYPES[self.kind])


class Writer:
    """Collects the lines of one block; knows what each register holds under which name."""

    def __init__(self, kernel, homes, sites):
        self.kernel, self.homes, self.sites = kernel, homes, sites
        self.lines, self.names, self.constants = [], {}, {}
        self.inputs, self.outputs, self.result = {}, {}, None
        self.count = 0

    def function(self, index, outer):
        """The lines of the function, with registers that other blocks read taken and put."""
        head = [f"{name} = take(R, {index[reg]}, I, {reg!r})" for reg, name in self.inputs.items()]
        tail = []
        for reg in self.outputs:
            if reg in outer:
                value = self.read(reg, None)
                tail.append(f"put(R, {index[reg]}, {value}, I, M.n)")
        return [*head, *self.lines, *tail, f"return {self.result}"]

    @staticmethod
    def dtype(kind):
        """The name of a type's dtype in the generated code."""
        return DTYPES[kind].upper() if kind != "pred" else "np.bool_"

    @staticmethod
    def without(instruction, modifier):
        return replace(instruction, modifiers=tuple(part for part in instruction.modifiers if part != modifier))

    def local(self, expression):
        """A name for the value of an expression."""
        self.count += 1
        self.lines.append(f"t{self.count} = {expression}")
        return f"t{self.count}"

    def site(self, instruction, kind, count=1):
        """The number of an access to memory."""
        self.sites.append(Site(instruction, kind, count))
        return f"M.sites[{len(self.sites) - 1}]"

    def read(self, operand, kind):
        """An operand as an expression of the dtype of `kind` (None: the register's own)."""
        if operand not in self.kernel.registers:
            return self.other(operand, kind)
        dtype = self.homes[operand] if kind is None else DTYPES[kind]
        if operand not in self.names:
            name = self.name(operand, self.homes[operand])
            self.inputs[operand] = name
            self.names[operand] = {self.homes[operand]: name}
        known = self.names[operand]
        if dtype not in known:
            have, name = next(iter(known.items()))
            known[dtype] = self.name(operand, dtype)
            self.lines.append(f"{known[dtype]} = {self.cast(name, have, dtype)}")
        return known[dtype]

    @staticmethod
    @functools.lru_cache(maxsize=1 << 15)
    def name(reg, dtype):
        return re.sub(r"\W", "_", reg) + "_" + dtype.replace("?", "p")

    @staticmethod
    def cast(name, have, dtype):
        """The same bits; the low ones in a narrower type, more zeros in a wider one."""
        if have[1:] == dtype[1:]:
            return f"{name}.view({dtype.upper()})"
        unsigned = name if have[0] == "u" else f"{name}.view(U{have[1:]})"
        bits = f"{unsigned}.astype(U{dtype[1:]})"
        return bits if dtype[0] == "u" else f"{bits}.view({dtype.upper()})"

    def write(self, operand, expression, kind):
        """Set a register; a narrower value is extended by its sign or by zeros."""
        if operand == "_":
            self.lines.append(expression)
            return
        if operand not in self.kernel.registers:
            raise Unsupported(f"cannot write to {operand}")
        dtype, declared = DTYPES[kind], DTYPES[self.kernel.registers[operand]]
        if dtype != "?" and int(dtype[1:]) < int(declared[1:]):
            if dtype[0] == "f":
                expression, dtype = f"({expression}).view(U{dtype[1:]})", f"u{dtype[1:]}"
            dtype = f"{dtype[0]}{declared[1:]}"
            expression = f"({expression}).astype({dtype.upper()})"
        name = self.name(operand, dtype)
        self.lines.append(f"{name} = {expression}")
        self.names[operand], self.outputs[operand] = {dtype: name}, True

    def half(self, name, kind, high):
        """Half of a pair as a number."""
        bits = f"({name} >> U4(16)).astype(U2)" if high else f"{name}.astype(U2)"
        return f"{bits}.view(F2)" if kind == "f16" else f"float_of({bits})"

    @staticmethod
    def bits(expression, kind):
        """A number rounded to half precision, as bits."""
        return f"half_of({expression}).view(U2)" if kind == "f16" else f"bf16_of({expression})"

    def constant(self, value):
        bits = int(value.view(f"u{value.itemsize}")) if value.dtype.kind != "b" else int(value)
        name = f"K{value.dtype.kind}{value.itemsize}_{bits}"
        self.constants[name] = value
        return name

    def other(self, operand, kind):
        """Numbers, special registers and the addresses of variables."""
        dtype = np.dtype(DTYPES[kind])
        if operand[0] == "%":
            return self.special(operand, dtype)
        if operand == "WARP_SZ":
            operand = "32"
        if operand in self.kernel.symbols:
            return self.address(self.kernel.symbols[operand], dtype)
        if match := re.fullmatch(r"0[fF]([0-9a-fA-F]{8})|0[dD]([0-9a-fA-F]{16})", operand):
            value = np.uint32(int(match[1], 16)).view("f4") if match[1] else np.uint64(int(match[2], 16)).view("f8")
            if value.dtype != dtype:
                value = value.view(f"u{value.itemsize}").astype(f"u{dtype.itemsize}").view(dtype)
            return self.constant(value)
        try:
            number = float(operand) if "." in operand else int(operand.rstrip("U"), 0)
        except ValueError:
            raise Unsupported(f"unknown operand {operand}") from None
        if dtype.kind == "b":
            return self.constant(np.bool_(number))
        if dtype.kind == "f":
            return self.constant(dtype.type(number))
        return self.constant(np.array(number & ((1 << 8 * dtype.itemsize) - 1), f"u{dtype.itemsize}")[()].view(dtype))

    def special(self, operand, dtype):
        value = f"M.special({operand!r}, I)"
        return self.local(f"{value}.astype({dtype.str[1:].upper()})")

    def address(self, symbol, dtype):
        if symbol.space in ("shared", "local"):
            return self.constant(dtype.type(symbol.offset))
        return self.local(f"M.symbols[{symbol.name!r}].view({dtype.str[1:].upper()})")

    def barrier(self, instruction):
        """(name, count) of a barrier of blocks; None for clusters."""
        if "cluster" in instruction.modifiers:
            return None
        values = [self.read(operand, "u32") for operand in instruction.operands]
        return f"({values[0] if values else 0}, {values[1] if len(values) > 1 else None})"
