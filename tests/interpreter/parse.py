"""PTX as text -> the instructions, labels, registers, parameters and symbols of one kernel."""

import functools
import re
from dataclasses import dataclass, field, replace

#: What NumPy calls each type; packed pairs and bfloat16 are kept as bits.
DTYPES = {
    **{f"{kind}{8 * size}": f"{'i' if kind == 's' else 'u'}{size}" for kind in "bus" for size in (1, 2, 4, 8)},
    "f16": "f2",
    "bf16": "u2",
    "f32": "f4",
    "f64": "f8",
    "f16x2": "u4",
    "bf16x2": "u4",
    "pred": "?",
}
ENTRY = re.compile(r"\.entry\s+([\w$]+)\s*\(([^)]*)\)([^{;]*)")
PARAMETER = re.compile(
    r"\.param\s+(?:\.align\s+(\d+)\s+)?\.(\w+)\s+(?:\.ptr(?:\s+\.(?!align)\w+)?(?:\s+\.align\s+\d+)?\s+)?([\w$]+)(?:\[(\d+)\])?"
)
VARIABLE = re.compile(
    r"(?:\.(?:visible|weak|extern|common)\s+)*\.(shared|global|const|local)\s+(?:\.align\s+(\d+)\s+)?\.(\w+)\s+([\w$]+)"
    r"(?:\[(\d*)\])?(?:\s*=\s*\{([^}]*)\})?"
)
LABEL = re.compile(r"([$\w]+)\s*:(?!:)")
OPERAND = re.compile(r"\{[^}]*\}|\[[^\]]*\]|\([^)]*\)|[^,{}\[\]()]+")
NAME = re.compile(r"%?[A-Za-z_$][\w$.]*")


class PtxError(Exception):
    """What is wrong with a kernel, or what the interpreter does not know."""


class Unsupported(PtxError):
    """PTX that the interpreter does not know."""


@dataclass(frozen=True)
class Instruction:
    """One instruction: ``@guard opcode.modifiers operands;``."""

    opcode: str
    modifiers: tuple
    operands: tuple
    guard: str | None
    negated: bool
    text: str
    line: int

    @functools.cached_property
    def types(self):
        """The modifiers that are types, in order."""
        return tuple(part for part in self.modifiers if part in DTYPES)

    def where(self):
        """The instruction and its line, for messages."""
        return f"{self.text!r} (line {self.line})"


@dataclass(frozen=True)
class Symbol:
    """A variable in a state space; `offset` is its place in the block's shared memory or the thread's local one."""

    name: str
    space: str
    align: int
    size: int
    offset: int = 0
    data: bytes | None = None


@dataclass
class Kernel:
    """One entry of a PTX module."""

    name: str = ""
    code: list = field(default_factory=list)
    labels: dict = field(default_factory=dict)
    registers: dict = field(default_factory=dict)
    parameters: list = field(default_factory=list)  # (name, type, offset, bytes)
    symbols: dict = field(default_factory=dict)
    threads: int = 1024
    cluster: int = 0
    shared: int = 0  # bytes that are declared
    local: int = 0
    tables: dict = field(default_factory=dict)  # of brx.idx


def strip_comments(text):
    """The text without comments, with as many lines."""
    text = re.sub(r"/\*.*?\*/", lambda match: "\n" * match[0].count("\n"), text.replace("\0", ""), flags=re.S)
    return re.sub(r"//[^\n]*", "", text)


def parse(text, entry=None):
    """The kernel `entry` of a module, or its only one."""
    text = strip_comments(text)
    found = {match[1]: match for match in ENTRY.finditer(text)}
    if not found or (entry is None and len(found) > 1) or (entry is not None and entry not in found):
        raise PtxError(f"expected the kernel {entry or '(a single one)'}; the module has {sorted(found)}")
    match = found[entry] if entry else next(iter(found.values()))
    kernel = Kernel(name=match[1])
    _parameters(kernel, match[2])
    _limits(kernel, match[3])
    start = text.index("{", match.end())
    for variable in VARIABLE.finditer(_outside(text)):
        _declare(kernel, variable)
    _Body(kernel, text, start).read()
    _place(kernel)
    return kernel


def _outside(text):
    """What stands outside of functions: the module's own variables."""
    kept, depth, initial = [], 0, False
    for piece in re.split(r"([{}])", text):
        if piece == "{":
            initial = initial or (depth == 0 and bool(kept) and kept[-1].rstrip().endswith("="))
            depth += 1
        if depth == 0 or initial:
            kept.append(piece)
        if piece == "}":
            depth -= 1
            initial = initial and depth > 0
    return "".join(kept)


def _parameters(kernel, text):
    offset = 0
    for align, kind, name, count in PARAMETER.findall(text):
        item = int(DTYPES[kind][1:])
        size, step = item * int(count or 1), int(align or item)
        offset = -(-offset // step) * step
        kernel.parameters.append((name, kind, offset, size))
        offset += size


def _limits(kernel, text):
    if match := re.search(r"\.(?:maxntid|reqntid)\s+([\d, ]+)", text):
        kernel.threads = 1
        for extent in match[1].split(","):
            kernel.threads *= int(extent)
    if match := re.search(r"\.reqnctapercluster\s+(\d+)", text):
        kernel.cluster = int(match[1])


def _declare(kernel, match):
    space, align, kind, name, count, values = match.groups()
    item = int(DTYPES[kind][1:])
    size = item * (int(count) if count else 0 if count == "" else 1)
    data = None
    if values is not None:
        words = [int(value, 0) & ((1 << 8 * item) - 1) for value in values.split(",")]
        data = b"".join(word.to_bytes(item, "little") for word in words).ljust(size, b"\0")
    kernel.symbols[name] = Symbol(name, space, int(align or item), size, data=data)


def _place(kernel):
    """Give each variable its place; arrays without a size (dynamic shared memory) come last and share theirs."""
    used = set(re.findall(NAME, " ".join(instruction.text for instruction in kernel.code)))
    kernel.symbols = {name: symbol for name, symbol in kernel.symbols.items() if name in used}
    for space in ("shared", "local"):
        symbols = [symbol for symbol in kernel.symbols.values() if symbol.space == space]
        end = 0
        for symbol in sorted(symbols, key=lambda symbol: symbol.size == 0):
            end = -(-end // symbol.align) * symbol.align
            kernel.symbols[symbol.name] = replace(symbol, offset=end)
            end += symbol.size
        setattr(kernel, space, end)


class _Body:
    """The statements between a kernel's braces, with registers renamed that belong to an inner scope."""

    def __init__(self, kernel, text, start):
        self.kernel, self.text, self.at = kernel, text, start
        self.scopes, self.count = [], 0
        self.line, self.seen = 1, 0

    def read(self):
        while True:
            while self.text[self.at].isspace():
                self.at += 1
            if self.text[self.at] == "{":
                self.scopes.append({})
                self.count += 1
                self.at += 1
            elif self.text[self.at] == "}":
                self.scopes.pop()
                self.at += 1
                if not self.scopes:
                    break
            elif match := LABEL.match(self.text, self.at):
                self.at = match.end()
                self.label(match[1])
            else:
                self.statement()
        self.resolve()

    def label(self, name):
        table = re.compile(r"\s*\.branchtargets\s+([^;]*);").match(self.text, self.at)
        if table:
            self.kernel.tables[name] = [target.strip() for target in table[1].split(",")]
            self.at = table.end()
            return
        if len(self.scopes) > 1:
            self.scopes[-1][name] = name = f"{name}@{self.count}"
        self.kernel.labels[name] = len(self.kernel.code)

    def statement(self):
        end = self.text.index(";", self.at)
        self.line += self.text.count("\n", self.seen, self.at)
        self.seen = self.at
        text = " ".join(self.text[self.at : end].split())
        self.at = end + 1
        if text.startswith(".reg"):
            self.registers(text)
        elif match := VARIABLE.match(text):
            _declare(self.kernel, match)
        elif text and not text.startswith("."):
            self.kernel.code.append(self.instruction(text))

    def registers(self, text):
        _, kind, names = text.split(None, 2)
        for name in (name.strip() for name in names.split(",")):
            inner = f"{name}@{self.count}"
            if match := re.fullmatch(r"(.+)<(\d+)>", name):
                self.kernel.registers |= {f"{match[1]}{i}": kind[1:] for i in range(int(match[2]))}
            elif len(self.scopes) > 1:
                self.scopes[-1][name] = inner
                self.kernel.registers[inner] = kind[1:]
            else:
                self.kernel.registers[name] = kind[1:]

    def instruction(self, text):
        rest, guard, negated = text, None, False
        if rest[0] == "@":
            guard, rest = rest[1:].split(None, 1)
            negated, guard = guard[0] == "!", self.renamed(guard.lstrip("!"))
        name, _, rest = rest.partition(" ")
        opcode, *modifiers = name.split(".")
        operands = tuple(self.renamed(part.strip()) for part in OPERAND.findall(rest) if part.strip())
        return Instruction(opcode, tuple(modifiers), operands, guard, negated, text, self.line)

    def renamed(self, operand):
        inner = {name: new for scope in self.scopes for name, new in scope.items()}
        return NAME.sub(lambda match: inner.get(match[0], match[0]), operand) if inner else operand

    def resolve(self):
        """Inner labels may be used before they are seen; their scopes have unique names by then."""
        labels = self.kernel.labels
        for i, instruction in enumerate(self.kernel.code):
            if instruction.opcode == "bra" and instruction.operands[0] not in labels:
                names = [name for name in labels if name.startswith(instruction.operands[0] + "@")]
                later = [name for name in names if labels[name] > i]
                if not later:
                    raise PtxError(f"no label for {instruction.where()}")
                self.kernel.code[i] = replace(instruction, operands=(min(later, key=labels.get),))
