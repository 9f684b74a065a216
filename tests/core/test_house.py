"""What imports what, what an import costs, and that everything public is documented by examples that run."""

import ast
import doctest
import graphlib
import importlib
import inspect
import itertools
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

import fastsoftmax
from fastsoftmax.api import cross_entropy, softmax
from tests.pairs import exhaustive_but

PACKAGE = Path(fastsoftmax.__file__).parent
MODULES = {
    ".".join(path.relative_to(PACKAGE).with_suffix("").parts).removesuffix("__init__").rstrip("."): path
    for path in sorted(PACKAGE.rglob("*.py"))
}
#: The floors of the house, the lowest first: a module imports from its own room and from lower floors alone.
FLOORS = [
    {"version"},
    {"core"},
    {"cpu", "cuda"},
    {"api"},
    {"boosting", "jax", "reference", "regression", "system", "torch"},
    {"bench"},
    {"cli"},
    {"", "__main__"},
]
#: The rooms that each device has, under the same names.
ROOMS = {
    "backend",
    "check",
    "plan",
    "run",
    *(f"linear.{name}" for name in ("backend", "check", "plan", "run", "predict")),
}
#: Imports in functions, which are there for what need not be installed, or takes long: (module, what it imports).
LATE = {
    ("", "regression.estimator"),  # needs scikit-learn
    ("bench.cuda.arrays", "cuda.toolkit.compiler"),  # needs numba-cuda
    ("bench.cuda.gpu", "cuda.toolkit.compiler"),
    ("cli.bench", "bench.report.page"),  # needs Matplotlib
    ("cli.train", "regression.estimator"),
    ("cuda.arrays.array", "cuda.toolkit.compiler"),
    ("cuda.arrays.lent", "cuda.toolkit.compiler"),
    ("cuda.arrays.library", "cuda.toolkit.compiler"),
    ("system", "core.rules"),
    ("system", "core.store"),
    ("system", "cpu.forks"),
    ("system", "cpu.jit"),  # imports Numba
}
LINES = 45  # of a function, without its docstring
MODULE_LINES = 320
LONG = {"api.linear"}  # half of it is documentation
FUNCTIONS = [name for name in fastsoftmax.__all__ if inspect.isfunction(getattr(fastsoftmax, name))]
CLAUSE = re.compile(r"(What|Whose|Which|Who|Where|When|Why|How|That)\b")
SECTION = re.compile(r"^([A-Z]\w+)\n(-+)$", re.MULTILINE)


def run(code):
    """What a child process prints that runs `code` with the package in its path; nothing is warned of."""
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code],
        capture_output=True,
        env={**os.environ, "PYTHONPATH": str(PACKAGE.parent)},
        encoding="utf-8",
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


def _imported(module, node):
    """The modules of the package that a statement of `module` imports, the package itself as ""."""
    if isinstance(node, ast.Import):
        return [n.name.partition(".")[2] for n in node.names if n.name.split(".")[0] == "fastsoftmax"]
    parts = node.module.split(".") if node.module else []
    if node.level:  # 1 is the package that the module lies in, or is
        within = module.split(".") if MODULES[module].name == "__init__.py" else module.split(".")[:-1]
        package = [part for part in within if part]
        origin = [*package[: len(package) + 1 - node.level], *parts]
    elif parts[0] == "fastsoftmax":
        origin = parts[1:]
    else:
        return []
    names = [".".join([*origin, alias.name]) for alias in node.names]
    return [name if name in MODULES else ".".join(origin) for name in names]


def _imports(module, *, everywhere):
    """What a module imports from the package: when it is imported itself, or `everywhere` in its functions too."""
    tree = ast.parse(MODULES[module].read_text("utf-8"))
    nodes = ast.walk(tree) if everywhere else tree.body
    found = [_imported(module, n) for n in nodes if isinstance(n, (ast.Import, ast.ImportFrom))]
    return set(itertools.chain.from_iterable(found))


def imported(path):
    """The modules of the package that one of them imports, all by their paths."""
    names = _imports(".".join(Path(path).with_suffix("").parts).removesuffix(".__init__"), everywhere=True)
    return {MODULES[name].relative_to(PACKAGE).as_posix() for name in names if name}


def _room(module):
    return module.partition(".")[0]


def test_every_module_is_on_a_floor():
    assert {_room(module) for module in MODULES} == set().union(*FLOORS)


def test_the_root_holds_folders_and_few_modules():
    assert len([module for module in MODULES if "." not in module and MODULES[module].parent == PACKAGE]) <= 6
    folders = {path.parent.name for path in PACKAGE.glob("*/__init__.py")}
    assert folders == {"api", "core", "cpu", "cuda", "reference", "regression", "cli", "bench", "jax", "torch"}


@pytest.mark.parametrize("device", ["cpu", "cuda"])
def test_devices_have_the_same_rooms(device):
    assert {f"{device}.{room}" for room in ROOMS} <= set(MODULES)


def test_imports_in_functions_have_a_reason():
    late = set()
    for module, path in MODULES.items():
        functions = [n for n in ast.walk(ast.parse(path.read_text("utf-8"))) if isinstance(n, ast.FunctionDef)]
        nodes = itertools.chain.from_iterable(map(ast.walk, functions))
        imports = [_imported(module, n) for n in nodes if isinstance(n, (ast.Import, ast.ImportFrom))]
        late |= {(module, imported) for imported in itertools.chain.from_iterable(imports)}
    assert late == LATE


def test_modules_are_short():
    assert {m for m, path in MODULES.items() if len(path.read_text("utf-8").splitlines()) > MODULE_LINES} <= LONG


@pytest.mark.parametrize("module", MODULES)
def test_functions_are_short(module):
    for node in ast.walk(ast.parse(MODULES[module].read_text("utf-8"))):
        if isinstance(node, ast.FunctionDef):
            documented = node.body[0].end_lineno - node.body[0].lineno + 1 if ast.get_docstring(node) else 0
            assert node.end_lineno - node.lineno + 1 - documented <= LINES, f"{node.name} of {module}"


@pytest.mark.parametrize("module", MODULES)
def test_imports_flow_one_way(module):
    """From higher floors to lower ones, in functions too; rooms on one floor never meet."""
    floors = {room: floor for floor, rooms in enumerate(FLOORS) for room in rooms}
    for imported in _imports(module, everywhere=True):
        assert imported in MODULES
        inside = _room(imported) == _room(module) and _room(module)
        lower = floors[_room(imported)] < floors[_room(module)]
        assert inside or lower, f"{module} imports {imported}"


def test_no_import_cycles():
    graph = {module: _imports(module, everywhere=False) for module in MODULES}
    assert {"api.backends", "core.options"} <= graph["api.cross_entropy"]
    order = list(graphlib.TopologicalSorter(graph).static_order())
    assert order.index("core.options") < order.index("cpu.check") < order.index("cpu.run")


def test_import_is_light():
    """Neither the package nor what it says about wrong arguments needs the compiler."""
    code = """
import sys
import fastsoftmax as fs
heavy = {"numba", "llvmlite", "scipy", "sklearn", "rich", "ml_dtypes", "jax", "torch", "lightgbm", "xgboost"}
print(sorted(heavy & set(sys.modules)), "fastsoftmax.cpu.run" in sys.modules)
wrong = [
    lambda: fs.softmax("text"),
    lambda: fs.softmax([]),
    lambda: fs.softmax([1.0], axis=1),
    lambda: fs.log_softmax([1.0], out=[0.0]),
    lambda: fs.logsumexp([1.0], axis=(0, 0)),
    lambda: fs.softmax_vjp([1.0], [1.0, 2.0]),
    lambda: fs.log_softmax_vjp(1.0, 1.0),
    lambda: fs.cross_entropy([[1.0]], [0.5]),
    lambda: fs.cross_entropy([[1.0]], [0], reduction="all"),
    lambda: fs.cross_entropy_and_grad([[1.0]], [0, 0]),
    lambda: fs.cross_entropy_and_grad([[1.0]], [0], temperature=0),
]
for call in wrong:
    try: print("no error", call())
    except (TypeError, ValueError): pass
print(sorted(heavy & set(sys.modules)), "fastsoftmax.cpu.run" in sys.modules)
print(fs.softmax([0.0, 0.0])[0], "numba" in sys.modules)
"""
    assert run(code) == "[] False\n[] False\n0.5 True\n"


def test_package_is_marked_as_typed():
    assert (PACKAGE / "py.typed").is_file()


def test_everything_public_exists():
    assert fastsoftmax.__all__ == sorted(fastsoftmax.__all__)
    for name in fastsoftmax.__all__:
        assert inspect.getdoc(getattr(fastsoftmax, name))
    run_by_star = "from fastsoftmax import *; print(len(dir()) >= 12)"
    assert run(run_by_star) == "True\n"
    public = {name for name in vars(fastsoftmax) if not name.startswith("_") and name not in MODULES}
    assert public <= set(fastsoftmax.__all__)


def test_everything_else_is_described():
    """Each module, and each public function of one that is no compiled code."""
    for module, path in MODULES.items():
        tree = ast.parse(path.read_text("utf-8"))
        assert ast.get_docstring(tree), module
        functions = [n for n in tree.body if isinstance(n, (ast.FunctionDef, ast.ClassDef)) and n.name[0] != "_"]
        for function in functions:
            assert ast.get_docstring(function), f"{module}.{function.name}"


def test_docstrings_are_noun_phrases_or_verbs():
    for module, path in MODULES.items():
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if isinstance(node, (ast.Module, ast.FunctionDef, ast.ClassDef)):
                assert not CLAUSE.match(ast.get_docstring(node) or ""), f"{module}.{getattr(node, 'name', '')}"


def _sections(function):
    """The numpydoc sections of a docstring: headings, and what is below them."""
    doc = inspect.getdoc(function)
    found = list(SECTION.finditer(doc))
    assert all(len(heading[1]) == len(heading[2]) for heading in found)
    ends = [heading.start() for heading in found[1:]] + [len(doc)]
    return {heading[1]: doc[heading.end() : end] for heading, end in zip(found, ends, strict=True)}


@pytest.mark.parametrize("name", FUNCTIONS)
def test_docstrings_have_their_sections(name):
    function = getattr(fastsoftmax, name)
    expected = {"Examples"}
    if inspect.signature(function).parameters:
        expected |= {"Parameters", "Returns"}
    if function.__module__ in {cross_entropy.__name__, softmax.__name__}:
        expected |= {"Raises", "Notes"}
    sections = _sections(function)
    assert expected <= set(sections)
    order = ["Parameters", "Returns", "Raises", "Notes", "Examples"]
    assert list(sections) == [heading for heading in order if heading in sections]


@pytest.mark.parametrize("name", FUNCTIONS)
def test_docstrings_name_each_parameter(name):
    function = getattr(fastsoftmax, name)
    lines = re.findall(r"^(\w.*)$", _sections(function).get("Parameters", ""), re.MULTILINE)
    named = [parameter for line in lines for parameter in re.split(r",\s*", line.partition(" : ")[0])]
    assert named == list(inspect.signature(function).parameters)


#: Examples of what compiles kernels that no other test needs: their lines are in the exhaustive run.
LONGER = {"warmup", "workspace_bytes", "system", "boosting", "api.linear"}


@pytest.mark.parametrize("name", exhaustive_but([name for name in FUNCTIONS if name not in LONGER], FUNCTIONS))
def test_examples_run(name):
    (example,) = doctest.DocTestFinder(recurse=False).find(getattr(fastsoftmax, name), name, globs={})
    assert example.examples
    assert doctest.DocTestRunner().run(example).failed == 0


WITH_EXAMPLES = [m for m in MODULES if m not in {"__main__", "cli", "cli.digits", "cli.program"}]


@pytest.mark.parametrize("module", exhaustive_but([m for m in WITH_EXAMPLES if m not in LONGER], WITH_EXAMPLES))
def test_examples_of_modules_run(module):
    try:
        loaded = importlib.import_module(f"fastsoftmax.{module}".rstrip("."))
    except ImportError as error:
        if "pip install " not in str(error):
            raise
        pytest.skip(str(error))
    found = doctest.testmod(loaded)
    assert found.failed == 0
    if module in {"api.cross_entropy", "api.linear", "api.softmax", "system"}:
        assert found.attempted >= len([name for name in FUNCTIONS if name in vars(loaded)])


def test_the_reference_is_short():
    """A specification is read: 20 lines a function at most, without signature and docstring."""
    for file in (PACKAGE / "reference").glob("*.py"):
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.FunctionDef):
                lines = node.end_lineno - (node.body[0].end_lineno if len(node.body) > 1 else node.body[0].lineno - 1)
                assert lines <= 20, f"{file.name}: {node.name} has {lines}"
