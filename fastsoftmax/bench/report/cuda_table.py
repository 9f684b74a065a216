"""The results of a run on a GPU as plain text for the terminal, at most 120 columns wide."""

from ..cases import FUNCTIONS, LAUNCH, LINEAR, LINEAR_PASS, SHAPES
from ..results import COMPILED, IN_PLACE, INTO, LIGER, OURS, QUACK, QUACK_FUSED, TORCH, Result, Run
from .cuda_targets import ratio, sentence, targets
from .table import cut, laid_out, number, percent, skipped, times

PEERS = {TORCH: "x torch", COMPILED: "x compile", LIGER: "x Liger", QUACK: "x QuACK", QUACK_FUSED: "x return_dx"}
_HEAD = ["ours ms", "GB/s", "of copy", "out=", "in place", *PEERS.values()]


def is_of_gpu(run: Run) -> bool:
    """Whether a run is of a GPU."""
    return "GPU" in run.machine


def _shape(result: Result) -> str:
    return "x".join(map(str, result.case.shape))


def _times_as_long(result: Result, name: str) -> str:
    value = ratio(result, name)
    return "-" if value is None else f"{value:.2f}"


def _cells(result: Result) -> list[str]:
    """The columns of a case."""
    return [
        f"{_shape(result)} {result.case.dtype}",
        times(result, OURS),
        number(result.gbps(OURS)),
        *(percent(result.fraction(name)) for name in (OURS, INTO, IN_PLACE)),
        *(_times_as_long(result, name) for name in PEERS),
    ]


def _launches(run: Run) -> list[str]:
    """Microseconds of the host's time a call, of each contestant."""
    results = [f for f in run.results if f.case.group == LAUNCH and f.timings]
    names = list(dict.fromkeys(name for f in results for name in f.timings))
    if not results:
        return []
    rows = [
        [f"{f.case.function} {'x'.join(map(str, f.case.shape))}", *(times(f, n, 1e6) for n in names)] for f in results
    ]
    return ["", "Host time a call, microseconds", *laid_out([["", *names], *rows])]


def _passes(run: Run) -> list[str]:
    """Linear passes: their time, what part of it the products alone take, and the others."""
    results = [f for f in run.results if f.case.group == LINEAR and f.timings]
    names = [name for name in PEERS if any(name in f.timings for f in results)]
    rows = [
        [
            f"{_shape(f)} {f.case.option} {f.case.dtype}",
            times(f, OURS),
            percent(f.fraction(OURS)),
            *(_times_as_long(f, n) for n in names),
        ]
        for f in results
    ]
    head = [LINEAR_PASS, "ours ms", "products", *(PEERS[name] for name in names)]
    return ["", *laid_out([head, *rows])] if results else []


def text(run: Run) -> str:
    """All tables of a run on a GPU.

    GB/s are the bytes that must be moved over the median time; "of copy" is what part of the copy's speed that is, with
    a fresh result, with ``out=`` and in place; "x" is how many times as long another takes as ours with a fresh result.
    "products" is what part of a linear pass's time its three matrix products take alone.
    """
    machine = run.machine
    head = [
        cut(f"{machine['GPU']}, driver {machine['driver']}, arrays of {machine['arrays']}, {machine['date']}"),
        cut(f"  compute-sanitizer: {machine['compute-sanitizer']}"),
        *(f"  {name:<40} {value:8.1f}" for name, value in run.ceilings.items()),
        "",
        "Medians by the GPU's events, caches flushed between calls; of copy: GB/s against a copy on the GPU in turn;",
        "x: how many times as long another takes as ours with a fresh result.",
    ]
    tables = []
    for function in FUNCTIONS:
        some = [f for f in run.results if (f.case.group, f.case.function) == (SHAPES, function) and f.timings]
        if some:
            tables += ["", *laid_out([[function, *_HEAD], *map(_cells, some)])]
    tables += _passes(run)
    known = [cut(f"  {sentence(target)}") for target in targets(run)]
    goals = ["", "Targets, for loss and gradient", *known] if known else []
    return "\n".join([*head, *tables, *_launches(run), *goals, *skipped(run)])
