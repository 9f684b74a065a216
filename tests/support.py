"""Shared by the tests: data, layouts, options, and the comparison with a reference in higher precision."""

import contextlib
import os
import subprocess
import sys
import threading
from itertools import product
from pathlib import Path

import ml_dtypes
import numpy as np
import pytest
from hypothesis import settings
from hypothesis import strategies as st

from fastsoftmax import reference
from fastsoftmax.core.options import TERMS
from tests.pairs import exhaustive_but, pairwise

ROOT = Path(__file__).parent.parent
BFLOAT16 = np.dtype(ml_dtypes.bfloat16)
DTYPES = [np.dtype(np.float16), BFLOAT16, np.dtype(np.float32), np.dtype(np.float64)]
#: Numbers of classes whose rows go in lanes, in batches, and one after the other: kernels of their own.  There is a row
#: that fills no vector, several vectors with a tail, and several blocks.
LANES, BATCHES, LONG = (1, 2, 3, 10, 17), (47, 49, 100), (1000, 5000)
CLASSES = [*LANES, *BATCHES, *LONG]
#: What a test in the dtype is compared with; longdouble has more digits than float64 on x86 only.
WIDE = {2: np.float64, 4: np.float64, 8: np.longdouble}

INDICES_ONLY = {term.option for term in TERMS if term.indices_only}

#: Seconds that only what hangs takes, however slow the machine is and whoever keeps it busy.
HANG = 1200


def child(code, *arguments, stderr=subprocess.PIPE, encoding="utf-8", **environment):
    """A process that has run `code` in the repository's folder."""
    return subprocess.run(
        [sys.executable, "-c", code, *arguments],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=stderr,
        env={**os.environ, **environment},
        cwd=ROOT,
        encoding=encoding,
        timeout=HANG,
        check=False,
    )


def on_terminal(code, *arguments):
    """`child` with a terminal for its standard error, and what it showed there, which is read all the time."""
    if not hasattr(os, "openpty"):
        pytest.skip("no pseudo-terminals on this system")
    terminal, end = os.openpty()
    shown = bytearray()

    def read():
        with contextlib.suppress(OSError):  # Linux says so when the other end is closed
            while piece := os.read(terminal, 65536):
                shown.extend(piece)

    reader = threading.Thread(target=read)
    reader.start()
    try:
        done = child(code, *arguments, stderr=end, TERM="xterm-256color")
    finally:
        os.close(end)
        reader.join()
        os.close(terminal)
    return done, bytes(shown)


def modules_of(digest, package):
    """The modules of a copy of the package whose text a digest depends on."""
    before, found = digest(), set()
    for path in package.rglob("*.py"):
        text = path.read_bytes()
        path.write_bytes(text + b"#\n")
        if digest() != before:
            found.add(path.relative_to(package).as_posix())
        path.write_bytes(text)
    return found


def computed(dtype):
    """What logits of a dtype are computed in."""
    return np.dtype(np.float64 if np.dtype(dtype).newbyteorder("=") == np.float64 else np.float32)


def spacing(x, dtype):
    """The distance of neighbours in a dtype at the magnitudes of `x`, subnormals included."""
    info = ml_dtypes.finfo(dtype)
    size = np.maximum(np.abs(np.asarray(x, np.longdouble)), np.longdouble(info.smallest_normal))
    return np.exp2(np.floor(np.log2(size))) * np.longdouble(info.eps)


def assert_exact(actual, expected, naive, *, along=-1, ulps=4, size=0.0):
    """Compare with exact values, within what the naive method loses in the same dtype and a few ulps.

    Parameters
    ----------
    actual
        The result, of any dtype.
    expected
        The value in higher precision.
    naive
        The value by the reference's formulas in the dtype that is computed in.
    along
        The axis whose elements depend on one another: the naive error is the largest along it, doubled, as both are
        chances of rounding; ulps are those of its largest element.
    ulps
        Of the computing dtype, besides the one rounding to a narrower dtype.
    size
        The magnitude of what is added up, where it is larger than that of the result.
    """
    actual, naive = np.asarray(actual), np.asarray(naive)
    expected = np.asarray(expected, np.longdouble)
    assert actual.shape == expected.shape
    missing = np.isnan(expected)
    np.testing.assert_array_equal(np.isnan(actual.astype(np.float64)), missing)
    infinite = np.isinf(expected)
    got = actual.astype(np.longdouble)
    np.testing.assert_array_equal(got[infinite], expected[infinite])
    clean = np.where(missing | infinite, 0, expected)
    with np.errstate(invalid="ignore"):
        lost = np.where(missing | infinite, 0, np.abs(naive.astype(np.longdouble) - expected))
    lost = np.where(np.isfinite(lost), lost, 0)  # the naive method may overflow where the result does not
    work = computed(actual.dtype)
    largest = np.max(np.abs(clean), axis=along, keepdims=True, initial=0.0) if clean.ndim else np.abs(clean)
    worst = np.max(lost, axis=along, keepdims=True, initial=0.0) if clean.ndim else lost
    tolerance = 2 * worst + ulps * spacing(np.maximum(largest, size), work)
    if actual.dtype != work:
        tolerance = tolerance + spacing(clean, actual.dtype) / 2
    error = np.where(missing | infinite, 0, np.abs(got - clean))
    excess = np.max(error / tolerance, initial=0.0)
    assert excess <= 1, f"{float(excess):.2f} times the tolerance, largest error {float(error.max()):.3g}"


def check(function, *operands, actual, along=-1, ulps=4, size=0.0, **options):
    """Compare a result with the function of the same name in the reference."""
    dtype = np.asarray(operands[0]).dtype
    if dtype.kind in "biu":
        dtype = np.dtype(np.float64)
    exact, naive = both(function, *operands, dtype=dtype, **options)
    assert_exact(actual, exact, naive, along=along, ulps=ulps, size=size)


def both(function, *operands, dtype, **options):
    """The reference in higher precision, and in the dtype that is computed in."""
    of = getattr(reference, function.__name__)
    with np.errstate(all="ignore"):
        return (
            of(*operands, dtype=WIDE[np.dtype(dtype).itemsize], **options),
            of(*operands, dtype=computed(dtype), **options),
        )


def logits(seed, shape, dtype, scale=3.0):
    """Normally distributed logits."""
    return (np.random.default_rng(seed).standard_normal(shape) * scale).astype(dtype)


def _unaligned(x):
    """The same numbers one byte away from an aligned address."""
    room = np.zeros(x.nbytes + 1, np.uint8)[1:]
    copy = room.view(x.dtype).reshape(x.shape)
    copy[...] = x
    return copy


def _spread(x):
    """Every second element of every second row, between numbers that must not be read."""
    room = np.full([2 * n for n in x.shape], np.nan).astype(x.dtype)
    view = room[tuple(slice(1, None, 2) for _ in x.shape)]
    view[...] = x
    return view


def _readonly(x):
    copy = x.copy()
    copy.setflags(write=False)
    return copy


LAYOUTS = {
    "C": lambda x: x.copy(),
    "Fortran": lambda x: x.copy(order="F"),
    "every second": _spread,
    "backwards": lambda x: x[..., ::-1].copy()[..., ::-1],
    "rows backwards": lambda x: x[::-1].copy()[::-1],
    "rows apart": lambda x: np.concatenate([x, x * 0 + 1], axis=-1)[..., : x.shape[-1]],
    "unaligned": _unaligned,
    "read-only": _readonly,
    "byte-swapped": lambda x: x.astype(x.dtype.newbyteorder()) if x.dtype != BFLOAT16 else x.copy(),
}

#: Every option of a loss alone, and together with the ones it meets in formulas.  Each set has kernels of its own; in
#: the sets of one, and in the last one, each two options meet: on and off, both on.
ALONE = {term.option: {term.option: term.tried[0]} for term in TERMS}
WEIGHTS = {"class_weight": True, "sample_weight": True}
SMOOTH_AND = {**WEIGHTS, "label_smoothing": 0.2}
FOCAL_AND = {"focal_gamma": 0.5, "label_smoothing": 0.1, "class_weight": True, "temperature": 2.0}
CAP_AND = {"z_loss": 0.1, "softcap": 3.0, "sample_weight": True, "label_smoothing": 1.0}
ALL = {**{term.option: term.tried[1] for term in TERMS}, **WEIGHTS}
INDEX_OPTIONS = [
    {},
    *ALONE.values(),
    {"class_weight": True},
    {"sample_weight": True},
    SMOOTH_AND,
    FOCAL_AND,
    CAP_AND,
    ALL,
]
SOFT_Z = {"z_loss": 1e-2, "temperature": 0.7}
SOFT_CAP = {"softcap": 5.0, "sample_weight": True}
SOFT_SMOOTH_AND = {"class_weight": True, "label_smoothing": 0.2}
SOFT_ALL = {option: value for option, value in ALL.items() if option not in INDICES_ONLY}
SOFT_OPTIONS = [{}, ALONE["label_smoothing"], SOFT_Z, SOFT_CAP, SOFT_SMOOTH_AND, SOFT_ALL]
SOFT_OPTIONS[1:1] = [
    alone for option, alone in ALONE.items() if option not in INDICES_ONLY | set().union(*SOFT_OPTIONS[:-1])
]


class Fails:
    """An object that fails whenever it is asked for anything."""

    def __array__(self, dtype=None, copy=None):
        raise KeyError("no array")

    def __repr__(self):
        raise RuntimeError("no text")

    def __bool__(self):
        raise OSError("neither")

    def __float__(self):
        raise ZeroDivisionError

    __index__ = __int__ = __iter__ = __len__ = __float__

    def __eq__(self, other):
        raise RuntimeError("no comparison")

    def __hash__(self):
        raise RuntimeError("no hash")

    def __getattr__(self, name):
        raise RuntimeError("no attribute")


def names(options):
    """A test's name for a set of options."""
    return "+".join(options) or "plain"


def filled(options, random, shape):
    """Options with random weights where they say True; some of the weights are 0."""
    made = dict(options)
    for name, size in (("class_weight", shape[-1:]), ("sample_weight", shape[:-1])):
        if made.get(name) is True:
            weights = random.uniform(0.1, 2.0, size)
            made[name] = np.where(random.uniform(size=size) < 0.1, 0.0, weights)
    return made


def labels(random, shape, ignored=0.2, ignore_index=-100):
    """Class indices for logits of a shape, some of them ignored."""
    drawn = random.integers(0, shape[-1], shape[:-1])
    return np.where(random.uniform(size=shape[:-1]) < ignored, ignore_index, drawn)


def probabilities(random, shape, dtype):
    """Soft targets that do not sum to 1, some of them exactly 0."""
    drawn = random.uniform(0, 2 / shape[-1], shape)
    return np.where(random.uniform(size=shape) < 0.3, 0.0, drawn).astype(dtype)


def divisor(x, target, options):
    """The denominator of the mean."""
    weights = options.get("sample_weight", np.ones(x.shape[:-1]))
    if np.ndim(target) == x.ndim:
        return weights.sum() or 1.0
    classes, kept = options.get("class_weight", np.ones(x.shape[-1])), target != options.get("ignore_index", -100)
    return (weights * classes[np.where(kept, target, 0)])[kept].sum() or 1.0


def terms(x, target, options, reduction, grad_output):
    """The magnitude of what cancels in a row's gradient where an option pulls against the target."""
    weight = np.max(options.get("class_weight", 1.0))
    pull = options.get("label_smoothing", 0.0) * np.ones(x.shape[:-1])
    if np.ndim(target) == x.ndim:
        pull = pull + np.abs(target).sum(axis=-1, dtype=np.float64)
    if "softcap" in options:  # its slope 1 - tanh**2 has an error of some ulps of 1, however small it is
        pull = pull + 1.0
    z = options.get("z_loss", 0.0) * 2 * np.abs(reference.logsumexp(x))
    shared = divisor(x, target, options) if reduction == "mean" else 1.0
    row = np.abs(np.asarray(grad_output)) * options.get("sample_weight", 1.0) / shared
    return (row * weight * (pull + z) / options.get("temperature", 1.0))[..., None]


def steepness(x, options):
    """How much an error of one ulp in a transformed logit changes a probability, in ulps of it: the logit's size."""
    size = np.abs(x.astype(np.float64))
    size = np.where(np.isfinite(size), size, 0).max(axis=-1, keepdims=True, initial=0.0)
    return np.minimum(size, options.get("softcap", np.inf)) / options.get("temperature", 1.0)


def shapes(case, options):
    """(classes, dtype) for the case of that number: rows of a kind in one of the dtypes that are computed in.

    No options and all of them have every kind; what is between has one, the next case another, and another dtype in
    turn.  So each option meets every kind on and off, at a quarter of what all combinations cost.  One class alone,
    like one row, lies as in Fortran order, which has kernels of its own: that is left to the exhaustive tests.
    """
    every = options in ({}, ALL, SOFT_ALL)
    kinds = [kind for kind in enumerate((LANES, BATCHES, LONG)) if every or kind[0] == (case + 1) % 3]
    each = [[(classes, DTYPES[2 + (case + kind) % 2]) for classes in sizes if classes > 1] for kind, sizes in kinds]
    return st.sampled_from(each).flatmap(st.sampled_from)


def numbered(cases):
    """Parameters (case, options) of a test: sets of options with their numbers."""
    return pytest.mark.parametrize(("case", "options"), list(enumerate(cases)), ids=list(map(names, cases)))


def in_turn(cases, kinds, both=()):
    """Parameters (options, kind) of a test: by default a set of options has one kind in turn, and some have all."""
    usual = [(options, kind) for options in both for kind in kinds]
    usual += [(options, list(kinds)[case % len(kinds)]) for case, options in enumerate(cases)]
    return pytest.mark.parametrize(
        ("options", "kind"),
        exhaustive_but(usual, list(product(cases, kinds))),
        ids=lambda part: part if isinstance(part, str) else names(part),
    )


def examples(usual):
    """That many random examples of a dear test by default, and those of the others in the exhaustive run."""
    most = settings.default.max_examples
    return settings(max_examples=usual if most == settings.get_profile("usual").max_examples else most)


seeds = st.integers(0, 2**32 - 1)
dtypes = st.sampled_from(DTYPES)
floats = st.sampled_from(DTYPES[2:])
row_counts, several_rows = st.integers(1, 70), st.integers(2, 70)
class_counts = st.sampled_from(CLASSES)
layouts = st.sampled_from(list(LAYOUTS))
scales = st.sampled_from([0.1, 1.0, 10.0, 300.0])

#: Layouts by whose kernels read them: classes side by side (some once they are copied), far apart, and with gaps.
ALIKE = (
    ("C", "read-only", "rows apart", "rows backwards", "unaligned", "byte-swapped"),
    ("Fortran",),
    ("every second", "backwards"),
)


@st.composite
def placed(draw, cases):
    """A case of dtype, numbers of classes, and layouts, of which one each."""
    dtype, *several = draw(st.sampled_from(cases))
    return dtype, *map(draw, map(st.sampled_from, several))


#: Dtype, classes, and layouts of two arrays: each pair of what has kernels of its own, or everything there is.
PLACES = [
    placed(pairwise(DTYPES, (LANES, BATCHES, LONG), ALIKE, ALIKE)),
    st.tuples(dtypes, class_counts, layouts, layouts),
]
#: The same for functions whose code others share: each value once.
FEW = [placed(pairwise(DTYPES, (LANES, BATCHES, LONG), ALIKE, ALIKE, strength=1)), *PLACES]
#: The same for functions of two layouts that load and store as others do: a case of each, in the dtype of other tests.
LEAST = [
    st.sampled_from([(np.dtype(np.float32), 1000, "C", "C"), (np.dtype(np.float32), 10, "every second", "Fortran")]),
    *FEW,
]
by_least_places = pytest.mark.parametrize(
    "places", exhaustive_but(LEAST[:1], LEAST), ids=["least", "few", "pairs", "all"]
)
by_few_places = pytest.mark.parametrize("places", exhaustive_but(FEW[:1], FEW), ids=["few", "pairs", "all"])
