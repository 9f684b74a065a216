"""Any arguments to every function: ``python -m tests.functions.fuzzing EXAMPLES SEED [wide]``, in its own process.

Each call gives a result, a TypeError, a ValueError or a MemoryError, and leaves what it only reads as it was.  The
exit status is 1 where one does not, and whatever the system makes of a crash.  `wide` has arrays of every dtype and
layout, and options, whose kernels take minutes to compile.
"""

import array
import ctypes
import faulthandler
import itertools
import sys
import traceback
import warnings
from decimal import Decimal
from fractions import Fraction

import ml_dtypes
import numpy as np
import pandas as pd
import scipy.sparse
from hypothesis import HealthCheck, given, seed, settings
from hypothesis import strategies as st

import fastsoftmax as fs
from fastsoftmax.core.options import TERMS, Options
from tests.support import Fails

ROWS, CLASSES, FEATURES = 4, 3, 2
ALLOWED = (TypeError, ValueError, MemoryError)
RNG = np.random.default_rng(0)
SHAPES = {
    "rows": (ROWS, CLASSES),
    "labels": (ROWS,),
    "by class": (CLASSES,),
    "by row": (ROWS,),
    "x": (ROWS, FEATURES),
    "weight": (CLASSES, FEATURES),
}
OPTIONS = dict.fromkeys((*Options._fields, "check_targets"), "option")
LOSS = {"target": "labels", "class_weight": "by class", "sample_weight": "by row", **OPTIONS}
LINEAR = {"x": "x", "weight": "weight", "bias": "by class"}
#: What each argument is where it is right; "option" is left out then.
FUNCTIONS = {
    fs.softmax: {"x": "rows", "axis": "option", "out": "rows"},
    fs.log_softmax: {"x": "rows", "axis": "option", "out": "rows"},
    fs.logsumexp: {"x": "rows", "axis": "option", "keepdims": "option"},
    fs.softmax_vjp: {"y": "rows", "grad": "rows", "axis": "option", "out": "rows"},
    fs.log_softmax_vjp: {"y": "rows", "grad": "rows", "axis": "option", "out": "rows"},
    fs.cross_entropy: {"logits": "rows", "axis": "option", **LOSS},
    fs.cross_entropy_and_grad: {
        "logits": "rows",
        "axis": "option",
        **LOSS,
        "grad_output": "option",
        "out": "rows",
    },
    fs.linear_cross_entropy: {**LINEAR, **LOSS, "block_rows": "option"},
    fs.linear_cross_entropy_and_grad: {
        **LINEAR,
        **LOSS,
        "block_rows": "option",
        "grad_output": "option",
        "wrt": "option",
        "out": "option",
    },
    fs.linear_hessian_product: {
        **LINEAR,
        "weight_direction": "weight",
        "bias_direction": "by class",
        "sample_weight": "by row",
        "reduction": "option",
    },
    fs.linear_predict: LINEAR,
    fs.linear_predict_proba: {**LINEAR, "out": "rows"},
    fs.linear_top_k: {**LINEAR, "k": "count"},
    fs.workspace_bytes: {
        "rows": "count",
        "features": "count",
        "classes": "count",
        "dtype": "option",
        "wrt": "option",
        "threads": "option",
        "block_rows": "option",
    },
}


class Changes:
    """An array of another shape each time."""

    def __init__(self):
        self.sizes = itertools.cycle([(ROWS, CLASSES), (2, CLASSES), (ROWS,), (ROWS, 500), ()])

    def __array__(self, dtype=None, copy=None):
        return np.zeros(next(self.sizes), np.float32)


class Nonsense:
    """Arrays' methods with results that are none."""

    __array_interface__ = {"shape": (3,), "typestr": "<f8", "version": 3}  # noqa: RUF012
    __dlpack_device__ = None
    dtype = ndim = shape = "text"

    def __array__(self, dtype=None, copy=None):
        return [1.0, 2.0]

    def __float__(self):
        return "1.0"

    __index__ = __float__


class Text(str):
    """A string of another type."""

    __slots__ = ()


class Whole(int):
    """An integer of another type."""


class Kind(np.ndarray):
    """An array of another type, whose operations are not NumPy's."""

    def __array_ufunc__(self, *arguments, **options):
        return NotImplemented

    def __getitem__(self, index):
        return "nothing"


def nested(depth):
    """A list in a list in a list ..."""
    made = [1.0]
    for _ in range(depth):
        made = [made]
    return made


def recursive():
    """A list that holds itself."""
    made = [1.0]
    made.append(made)
    return made


def frame():
    """A table with a missing integer."""
    return pd.DataFrame({"a": pd.array([1, None], "Int64"), "b": [1.0, 2.0]})


#: Makes of things that are no argument, or a strange one; each is made anew, as some are used up.
THINGS = [
    *(lambda v=v: v for v in (None, "text", "", b"bytes", 1 + 2j, np.nan, np.inf, -1.0, -0.0, 0, 1, 2, -1, True, 2.5)),
    *(lambda v=v: v for v in (10**400, -(10**400), 10**5000, 2**63, -(2**63), 2**62, 1e300, 1e-300, 5e-324, 1e39)),
    *(lambda v=v: v for v in ("mean", "sum", "none", Text("sum"), Whole(1), "x", ("x", "weight"), ("x", 3), {"x"})),
    *(lambda v=v: v for v in (Fraction(1, 3), Decimal("0.5"), Decimal("sNaN"), Fraction(10**400), Ellipsis, slice(3))),
    *(
        lambda v=v: v
        for v in (NotImplemented, float, np.ndarray, np, print, type, np.float32, "float32", "f2,f4", ">f4")
    ),
    *(lambda v=v: v for v in ((), [], [[]], {}, (0, 1), (0, 0), (1.0,), [[1], [2, 3]], {0: 1.0, 1: 2.0, 2: 3.0})),
    *(lambda v=v: v for v in (np.float16(1), np.uint64(2**63), np.datetime64("now"), np.str_("a"), np.void(b"abcd"))),
    *(Fails, Changes, Nonsense, object, recursive, frame, lambda: nested(40), lambda: nested(3000)),
    *(lambda: iter([1.0, 2.0]), lambda: range(3), lambda: {1.0, 2.0}, lambda: memoryview(b"abcd")),
    *(lambda: array.array("d", [1, 2, 3]), ctypes.c_float * 3, lambda: np.random.default_rng(0)),
    *(lambda: pd.Series(["a", "b", "a", "c"]), lambda: pd.Series(["a", "b"], dtype="category"), lambda: frame()["b"]),
    *(lambda: {"weight": np.zeros((CLASSES, FEATURES), np.float32)}, lambda: {"x": None}, lambda: {3: 4}),
]
DTYPES = ["f4", "f8", "f2", ">f4", "i1", "u8", "?", "c8", "g", "O", "U3", "S2", "M8[s]", "m8[s]", "V4", [("a", "f4")]]
DTYPES += [getattr(ml_dtypes, name) for name in ("bfloat16", "float8_e5m2", "float8_e4m3fn", "int4")]
READ = ["f4", "f8", "f2", ">f4", "i1", "i8", "u8", ml_dtypes.bfloat16]
LAYOUTS = [
    *(np.ascontiguousarray, np.asfortranarray, lambda a: a[::-1], lambda a: a[..., ::-1], lambda a: a[:0]),
    *(lambda a: a[..., :0], lambda a: a[:1], lambda a: a[..., None], lambda a: a[None], lambda a: a.T),
    *(
        lambda a: np.broadcast_to(a[:1], a.shape),
        lambda a: np.repeat(a, 2, 0)[::2],
        lambda a: np.repeat(a, 2, -1)[..., 1::2],
    ),
    *(
        lambda a: a.view(Kind),
        np.ma.array,
        lambda a: a.reshape(len(a), -1).view(np.matrix),
        lambda a: a.reshape(-1),
    ),
    *(lambda a: a[..., 0], lambda a: a.tolist(), lambda a: [list(a), 3], lambda a: a.reshape(-1)[0]),
]
SPARSE = ["csr_array", "csc_matrix", "coo_array", "lil_matrix", "dok_array", "bsr_array", "dia_array"]
VALUES = [0.0, 1.0, -1.0, 3.0, -100.0, np.nan, np.inf, -np.inf, 1e30, -3e38, 1e-45, 127.0]


def numbers(shape, dtype):
    """An array of a dtype."""
    plain = RNG.integers(0, 3, shape)
    return plain.astype(dtype) if dtype != [("a", "f4")] else np.zeros(shape, dtype)


def right(kind):
    """An argument that is right."""
    if kind == "count":
        return 2
    return numbers(SHAPES[kind], "i8" if kind == "labels" else "f4")


@st.composite
def arrays(draw, kind):
    """An array of some dtype, shape and layout."""
    shape = SHAPES.get(kind) or draw(st.sampled_from(list(SHAPES.values())))
    made = numbers(shape, draw(st.sampled_from(DTYPES)))
    if made.dtype.char in "fd" and draw(st.booleans()):
        made.flat[draw(st.integers(0, made.size - 1))] = draw(st.sampled_from(VALUES))
    made = draw(st.sampled_from(LAYOUTS))(made)
    if isinstance(made, np.ndarray) and draw(st.booleans()):
        made.setflags(write=False)
    return made


@st.composite
def sparse(draw):
    """A sparse matrix, or an array with one axis."""
    made = RNG.integers(0, 2, (ROWS, FEATURES)).astype(draw(st.sampled_from(["f4", "f8", "i8", "c8", "?"])))
    if draw(st.booleans()):
        return getattr(scipy.sparse, draw(st.sampled_from(SPARSE)))(made)
    return scipy.sparse.coo_array(made[0])


@st.composite
def readable(draw, kind):
    """An array that is read, of some dtype and layout."""
    if kind not in SHAPES:
        return draw(st.sampled_from([1, 2]))
    layout = draw(st.sampled_from(LAYOUTS[:4] + LAYOUTS[10:13]))
    return layout(numbers(SHAPES[kind], "i8" if kind == "labels" else draw(st.sampled_from(READ))))


def things():
    """Whatever is no array."""
    return st.sampled_from(THINGS).map(lambda make: make())


def strange(kind):
    """What is tried in the place of an argument."""
    return st.one_of(things(), arrays(kind), sparse()) if kind in SHAPES else st.one_of(things(), arrays(kind))


WIDE = {
    "temperature": [0.5, 1e-19],
    "softcap": [3.0, 1e308],
    "z_loss": [0.1],
    "focal_gamma": [2],
    "axis": [0, None, ()],
}
WIDE |= {"reduction": ["sum", "none"], "label_smoothing": [0.1, 1], "grad_output": [2.0, [1.0, -1.0, 0.5, 1e30]]}
WIDE |= {"wrt": ["x", ("x", "weight")], "block_rows": [1, 3], "keepdims": [True], "ignore_index": [1], "threads": [1]}
WIDE |= {"axis": [0, None, ()], "dtype": ["float16", "float64"], "check_targets": [True]}
WIDE |= {term.option: [*term.tried] for term in TERMS if term.option not in WIDE}


@st.composite
def calls(draw, *, wide):
    """(function, arguments) of which one or two are strange; or, of wide ones, only right in another way."""
    function = draw(st.sampled_from(list(FUNCTIONS)))
    kinds = FUNCTIONS[function]
    odd = draw(st.sets(st.sampled_from(sorted(kinds)), min_size=1, max_size=2))
    other = wide and draw(st.booleans())
    found = {}
    for name, kind in kinds.items():
        if other and (name in odd or kind in ("rows", "x", "weight")) and not (name == "out" and name not in odd):
            options = WIDE.get(name)
            found[name] = draw(st.sampled_from(options) if kind == "option" and options else readable(kind))
        elif name in odd:
            found[name] = draw(strange(kind))
        elif kind != "option" and (name != "out" or draw(st.booleans())):
            found[name] = right(kind)
    return function, found


class Call:
    """A call to try; hypothesis may print it, which some of its arguments do not bear."""

    def __init__(self, made):
        self.function, self.given = made

    def __repr__(self):
        kinds = ", ".join(f"{name}: {kind_of(value)}" for name, value in self.given.items())
        return f"{self.function.__name__}({kinds})"


def kind_of(value):
    """What a value is, in a few words."""
    if isinstance(value, np.ndarray):
        return f"{type(value).__name__} {value.dtype} {value.shape} {value.strides}"
    return (
        repr(value)[:40]
        if type(value) in (int, float, str, tuple, bool) and value != 10**5000
        else type(value).__name__
    )


def held(call):
    """Copies of the arrays that a call only reads; what shares memory with the output may change."""
    out = call.given.get("out")
    reads = [name for name, value in call.given.items() if type(value) is np.ndarray and name != "out"]
    if isinstance(out, np.ndarray):
        reads = [name for name in reads if not np.may_share_memory(call.given[name], out)]
    return {name: call.given[name].tobytes() for name in reads}


def main(examples, number, wide):
    """Try so many calls; the exit status is 1 if one has gone wrong, and what has is on standard error."""
    faulthandler.enable()
    warnings.simplefilter("error")
    wrong = {}

    def attempt(call):
        before = held(call)
        try:
            call.function(**call.given)
        except ALLOWED as error:
            str(error)
        except Exception as error:
            wrong.setdefault((call.function, type(error)), f"{call}\n{traceback.format_exc()}")
        if any(call.given[name].tobytes() != held for name, held in before.items()):
            wrong.setdefault((call.function, None), f"{call} has changed what it only reads")

    for function, kinds in FUNCTIONS.items():
        # Options that are right are kernels to compile: by default only of a loss with its gradient, without weights.
        alone = not wide and function in (fs.cross_entropy, fs.linear_cross_entropy)
        in_formulas = () if wide or function is fs.cross_entropy_and_grad else {term.option for term in TERMS}
        names = [name for name, kind in kinds.items() if not (alone and kind == "option") and name not in in_formulas]
        for name, make in itertools.product(names, THINGS):
            left_out = {"out"} if wide or kinds[name] != "option" else {"out", "class_weight", "sample_weight"}
            others = {o: right(kind) for o, kind in kinds.items() if kind != "option" and o not in left_out}
            attempt(Call((function, others | {name: make()})))
    checks = [HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.filter_too_much]
    settled = settings(max_examples=examples, deadline=None, database=None, suppress_health_check=checks)
    seed(number)(settled(given(calls(wide=wide).map(Call))(attempt)))()
    print(*wrong.values(), sep="\n", file=sys.stderr)
    return bool(wrong)


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1]), int(sys.argv[2]), "wide" in sys.argv))
