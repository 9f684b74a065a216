"""The options of ``train``, ``predict`` and ``bench``."""

import argparse
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ..core.options import BOUNDS, Bounds

SOLVERS = ("lbfgs", "newton-cg", "sgd")

DATA = """\
data files:
  .csv, .tsv  UTF-8; a header names the columns; every column but the target must be numeric; needs pandas. In .csv
              the separator is a comma, or the semicolon or tab of a header without commas. Cells may be quoted, and
              True and False are 1 and 0. A line is a row or an error, but for empty ones at the end of a file of
              several columns; empty cells beyond the header and, in training, columns without a name are left out.
  .npy        a 2-D array, whose target is a column's index (-1: the last), or a 1-D array with named fields
  .npz        arrays of numpy.savez: the features X (or x, or the only 2-D array), the target by its name;
              or a CSR matrix as scipy.sparse.save_npz writes it, for training with the labels as one more array:
              np.savez(f, format="csr", shape=x.shape, data=x.data, indices=x.indices, indptr=x.indptr, y=y)
Classes are integers or strings. Labels in text are integers if all in the file are integers of 64 bits, written as -1,
0 or 12; otherwise they are strings, as written ("1.0", "+1", "007", "10_20"). Numbers with fractions are no classes.
In arrays whole numbers of a floating dtype are integers. Features must be finite numbers."""

TRAIN = f"""\
Train softmax regression (multinomial logistic regression) on a file, print accuracy, log-loss and a confusion table
for rows that were held out, and write the model as .npz: arrays only, no pickled objects. Needs scikit-learn.

{DATA}"""
PREDICT = f"""\
Predict the class of each row of a file, or with --proba the probability of each class. Files may be larger than memory.
Columns with names are matched by name: their order may differ, and columns that the model does not use, the target for
instance, are left alone. Other columns must be those of the training, in the same order.

{DATA}"""
BENCH = """\
Measure this machine: each function at shapes from 64x10 to a million classes, beside NumPy, SciPy, scikit-learn,
PyTorch and JAX where they are installed, in the same number of threads, in turn; and what memory and exponentials allow
at best. Takes about twenty minutes, or two with --quick, and the first time as long as kernels compile.
With --device cuda on an NVIDIA GPU: loss and gradient, loss, and softmax of 32 to 262144 classes in bfloat16 and
float32, beside a copy, PyTorch, torch.compile, Liger and QuACK where they are installed, in less than eight minutes."""
BENCH_STATUS = """\
exit status: 0 success; 2 wrong usage, or a package that is missing; 130 interrupted: what was measured until then is
printed and written. An output file is written whole or not at all."""
STATUS = """\
exit status: 0 success; 2 wrong usage, data or a model that cannot be used, or a package that is missing, each with one
line that says what to mend; 130 interrupted. An output file is written whole or not at all{more}"""


def _number(bounds: Bounds, *, infinite: bool = False) -> Callable[[str], float]:
    """A number between bounds; `infinite` admits infinity."""

    def convert(text: str) -> float:
        number = float(text)
        if not bounds.admit(number) or not (infinite or math.isfinite(number)):
            where = f"{'>' if bounds.above else '>='} {bounds.low:g}"
            if bounds.high < math.inf:
                where += f" and {'<' if bounds.below else '<='} {bounds.high:g}"
            raise argparse.ArgumentTypeError(f"must be a {'' if infinite else 'finite '}number {where}, got {text}")
        return number

    convert.__name__ = "number"
    return convert


def _count(text: str) -> int:
    """A positive integer."""
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"must be at least 1, got {text}")
    return number


def _seed(text: str) -> int:
    """A seed as NumPy's generators take it."""
    number = int(text)
    if not 0 <= number < 2**32:
        raise argparse.ArgumentTypeError(f"must be in [0, 2**32), got {text}")
    return number


def _rate(text: str) -> float | str:
    """A step size, or auto."""
    return text if text == "auto" else _number(Bounds(0, above=True))(text)


def add(commands: Any, common: argparse.ArgumentParser) -> None:
    """Add the commands to those of a parser."""
    _add_train(commands, common)
    _add_predict(commands, common)
    _add_bench(commands)


def _command(commands: Any, common: argparse.ArgumentParser | None, name: str, **texts: str) -> argparse.ArgumentParser:
    parents = [] if common is None else [common]
    command: argparse.ArgumentParser = commands.add_parser(
        name, parents=parents, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False, **texts
    )
    return command


def _add_train(commands: Any, common: argparse.ArgumentParser) -> None:
    train = _command(
        commands,
        common,
        "train",
        help="train a classifier on a file",
        description=TRAIN,
        epilog=STATUS.format(more="."),
    )
    train.add_argument("data", type=Path, metavar="DATA", help="the examples: .csv, .tsv, .npy or .npz")
    train.add_argument("--target", required=True, metavar="COL", help="the column, or array, of the classes")
    train.add_argument(
        "--out", type=Path, metavar="MODEL", help="the model, .npz (default: NAME.model.npz here, for DATA NAME.csv)"
    )
    train.add_argument(
        "--plot", type=Path, metavar="FILE.png", help="draw the loss and the confusions; needs matplotlib"
    )
    train.add_argument(
        "--test-size",
        type=_number(Bounds(0, 1, below=True)),
        default=0.2,
        metavar="PART",
        help="the part of the rows that is held out, of each class alike; 0 for none (default: 0.2)",
    )
    train.add_argument(
        "--seed", type=_seed, default=0, help="of the split and of what a solver draws at random (default: 0)"
    )
    _add_parameters(train.add_argument_group("the estimator", "as in fastsoftmax.SoftmaxRegression"))


def _add_parameters(group: Any) -> None:
    positive = Bounds(0, above=True)
    group.add_argument(
        "--C",
        type=_number(positive, infinite=True),
        default=1.0,
        help="inverse strength of the L2 penalty, inf for none (default: 1)",
    )
    group.add_argument("--solver", choices=SOLVERS, default="lbfgs", help="default: lbfgs")
    group.add_argument(
        "--tol", type=_number(positive), default=1e-4, help="when to stop: by the gradient (default: 1e-4)"
    )
    group.add_argument("--max-iter", type=_count, default=100, metavar="N", help="iterations or epochs (default: 100)")
    group.add_argument("--no-intercept", dest="fit_intercept", action="store_false", help="scores without a constant")
    group.add_argument("--class-weight", choices=["balanced"], help="weigh classes by the inverse of their rows")
    group.add_argument(
        "--label-smoothing",
        type=_number(BOUNDS["label_smoothing"]),
        default=0.0,
        metavar="PART",
        help="spread over all classes (default: 0)",
    )
    group.add_argument("--batch-size", type=_count, default=1024, metavar="ROWS", help="of sgd (default: 1024)")
    group.add_argument("--learning-rate", type=_rate, default="auto", metavar="RATE", help="of sgd (default: auto)")
    group.add_argument(
        "--momentum", type=_number(Bounds(0, 1, below=True)), default=0.9, metavar="PART", help="of sgd (default: 0.9)"
    )
    group.add_argument(
        "--early-stopping", action="store_true", help="stop sgd when rows it does not learn get no better"
    )
    group.add_argument(
        "--validation-fraction",
        type=_number(Bounds(0, 1, above=True, below=True)),
        default=0.1,
        metavar="PART",
        help="rows for --early-stopping (default: 0.1)",
    )


def _add_predict(commands: Any, common: argparse.ArgumentParser) -> None:
    status = STATUS.format(more=";\non standard output rows before a bad one may have been written.")
    predict = _command(
        commands, common, "predict", help="predict with a trained model", description=PREDICT, epilog=status
    )
    predict.add_argument("model", type=Path, metavar="MODEL", help="what train has written")
    predict.add_argument("data", type=Path, metavar="DATA", help="the rows: .csv, .tsv, .npy or .npz")
    predict.add_argument("--proba", action="store_true", help="probabilities, a column for each class")
    predict.add_argument(
        "--out", type=Path, metavar="FILE", help=".csv, .npy or .npz (default: CSV on standard output)"
    )
    predict.add_argument(
        "--target",
        metavar="COL",
        help="DATA has the classes there: print accuracy, log-loss and confusions too; a class unknown to the model is "
        "an error",
    )


def _add_bench(commands: Any) -> None:
    bench = _command(
        commands, None, "bench", help="measure the kernels on this machine", description=BENCH, epilog=BENCH_STATUS
    )
    bench.add_argument("--device", choices=("cpu", "cuda"), default="cpu", help="what to measure (default: cpu)")
    bench.add_argument("--quick", action="store_true", help="some cases of every group, a second each")
    bench.add_argument(
        "--cases", default="*", metavar="GLOB", help="those whose names match: 'shapes/softmax/*', '*4096x1008*'"
    )
    bench.add_argument("--list", action="store_true", help="print the names of the cases and why they are there")
    bench.add_argument(
        "--json",
        type=Path,
        metavar="FILE",
        default=argparse.SUPPRESS,
        help="write the results as .json; - prints it instead of the tables",
    )
    bench.add_argument("--html", type=Path, metavar="FILE", help="write a page with charts, .html; needs matplotlib")
    bench.add_argument(
        "--seconds",
        type=_number(Bounds(0)),
        metavar="S",
        help="to go on with each case (default: 4; 1 with --quick; a GPU: less)",
    )
    bench.add_argument("--threads", type=_count, metavar="N", help="of every contestant (default: all)")


def wants_json(args: argparse.Namespace) -> bool:
    """Whether results are printed as JSON."""
    return getattr(args, "json", False)
