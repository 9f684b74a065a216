"""``train``: from a file of examples to a model file, and to how good it is on rows that were held out."""

import argparse
import sys
import time
import warnings
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from ..version import __version__
from . import model as modelfile
from . import plot
from .arguments import wants_json
from .errors import SUCCESS, BadInput, listed, one_line, shown
from .files.open import open_table
from .files.table import Array, Matrix, Table, coded, rows_of_block, text_array, text_classes
from .model import Model
from .output import check_place, replacing, strict_json
from .progress import Advance, progress
from .score import Score

#: Options of the command line that are parameters of the estimator.
PARAMETERS = (
    "C",
    "fit_intercept",
    "class_weight",
    "label_smoothing",
    "solver",
    "tol",
    "max_iter",
    "batch_size",
    "learning_rate",
    "momentum",
    "early_stopping",
    "validation_fraction",
)


class Examples(NamedTuple):
    """Rows, their classes, and the classes that there are."""

    x: Matrix
    y: Array  # indices of `classes`
    classes: Array


class Trained(NamedTuple):
    """A model, how it came about, and how good it is."""

    model: Model
    loss_curve: list[float]
    trouble: str  # why the fit did not converge, "" where it did
    iterations: int
    seconds: float
    score: Score | None
    rows: int  # trained on


def run(args: argparse.Namespace) -> int:
    """Train softmax regression on a table, say how good it is on held-out rows, and write the model."""
    import sklearn  # noqa: F401, PLC0415  extras: whatever is missing is said before anything is read

    if args.plot is not None:
        import matplotlib  # noqa: F401, PLC0415  likewise

        check_place(args.plot, (".png",), "picture", args.data)
    if args.out is None:
        args.out = Path(f"{args.data.stem}.model.npz")
    check_place(args.out, (".npz",), "model", args.data)
    table = open_table(args.data, args.target)
    with progress() as advance:
        data = read(table, args.target, advance)
    fitted, held_out = split(data, args.test_size, args.seed)
    trained = _train(args, table, fitted, held_out)
    with replacing(args.out) as file:
        modelfile.save(trained.model, file)
    if args.plot is not None:
        matrix = None if trained.score is None else trained.score.matrix()
        picture = plot.png(trained.loss_curve, matrix, trained.model.classes)
        with replacing(args.plot) as file:
            file.write(picture)
    print(strict_json(_as_json(args, trained)) if wants_json(args) else _text(args, trained))
    return SUCCESS


def read(table: Table, target: str, advance: Advance) -> Examples:
    """All rows of a table."""
    if not table.features.size:
        raise BadInput(f"{table.path} has no columns besides the target; there is nothing to learn from")
    parts, codes = [], []
    known: dict[Any, int] = {}
    kind: Any = None  # of labels that were an array
    for block in table.blocks():
        assert block.labels is not None  # for mypy: a target was named
        different, positions = coded(block.labels)
        parts.append(block.x)
        codes.append(np.array([known.setdefault(name, len(known)) for name in different], dtype=np.int64)[positions])
        kind = getattr(block.labels, "dtype", None)
        advance(block.read, block.total, "Reading")
    if not parts:
        raise BadInput(f"{table.path} has no rows; there is nothing to learn from")
    what = f"{table.path}: target {shown(target)!r}"
    names: list[Any] = text_classes(list(known), what) if table.textual else list(known)
    order = sorted(range(len(names)), key=names.__getitem__)
    ascending = [names[i] for i in order]
    classes = text_array(ascending, what) if isinstance(ascending[0], str) else np.array(ascending, dtype=kind)
    y = np.argsort(order)[np.concatenate(codes)]
    if isinstance(parts[0], np.ndarray):
        return Examples(np.concatenate(parts), y, classes)
    from scipy.sparse import vstack  # noqa: PLC0415  files without sparse matrices do without it

    return Examples(vstack(parts, format="csr"), y, classes)


def split(data: Examples, test_size: float, seed: int) -> tuple[Examples, Examples | None]:
    """The rows to train on, and those held out, with the same share of each class."""
    rows, classes = len(data.y), len(data.classes)
    if classes < 2:
        raise BadInput(f"all {rows} rows are of class {shown(data.classes[0])!r}; give data with two classes or more")
    if not test_size:
        return data, None
    single = data.classes[np.bincount(data.y) < 2]
    if len(single):
        raise BadInput(
            f"classes with a single row cannot be both learnt and held out: {listed(single)}; "
            "add rows, remove these classes, or pass --test-size 0"
        )
    held_out = int(np.ceil(test_size * rows))
    if not classes <= held_out <= rows - classes:
        raise BadInput(
            f"--test-size {test_size:g} holds out {held_out} of {rows} rows; with {classes} classes "
            f"it must be {classes} to {rows - classes} rows, or 0"
        )
    from sklearn.model_selection import train_test_split  # noqa: PLC0415  an extra

    x, tested, y, truth = train_test_split(data.x, data.y, test_size=held_out, random_state=seed, stratify=data.y)
    absent = np.setdiff1d(np.arange(classes), y)
    if len(absent):
        raise BadInput(
            f"--test-size {test_size:g} leaves no row to learn these classes from: {listed(data.classes[absent])}; "
            "give it a smaller part, or add rows"
        )
    return Examples(x, y, data.classes), Examples(tested, truth, data.classes)


def _estimator(parameters: dict[str, Any]) -> Any:
    try:
        from ..regression.estimator import SoftmaxRegression  # noqa: PLC0415  an extra brings scikit-learn
    except ImportError as error:
        if isinstance(error, ModuleNotFoundError):
            raise
        raise BadInput(f"scikit-learn cannot be used: {error}") from error
    # Its bar is for terminals only, as elsewhere it prints lines.
    return SoftmaxRegression(**parameters, verbose=int(sys.stderr.isatty()))


def _train(args: argparse.Namespace, table: Table, fitted: Examples, held_out: Examples | None) -> Trained:
    from sklearn.exceptions import ConvergenceWarning  # noqa: PLC0415  an extra

    parameters = {name: getattr(args, name) for name in PARAMETERS} | {"random_state": args.seed}
    start = time.perf_counter()
    estimator = _estimator(parameters)
    with warnings.catch_warnings(record=True) as raised:
        warnings.simplefilter("always", ConvergenceWarning)
        try:
            estimator.fit(fitted.x, fitted.y)
        except ValueError as error:
            raise BadInput(f"the data cannot be learnt from: {one_line(error)}") from error
    seconds = time.perf_counter() - start
    trouble = ""
    for warning in raised:
        if issubclass(warning.category, ConvergenceWarning):
            trouble = str(warning.message)
        else:
            warnings.warn_explicit(warning.message, warning.category, warning.filename, warning.lineno)
    origin = {"release": __version__, "target": args.target, "rows": len(fitted.y), "estimator": parameters}
    model = Model(estimator.coef_, estimator.intercept_, fitted.classes, table.features, origin)
    curve = [float(loss) for loss in getattr(estimator, "loss_curve_", [])]
    score = None if held_out is None else _evaluate(model, held_out)
    iterations = int(np.max(estimator.n_iter_))
    return Trained(model, curve, trouble, iterations, seconds, score, len(fitted.y))


def _evaluate(model: Model, data: Examples) -> Score:
    score = Score(model)
    rows, step = len(data.y), rows_of_block(data.x.shape[1] + len(model.classes))
    with progress() as advance:
        for start in range(0, rows, step):
            x = data.x[start : start + step]
            score.add(x, data.y[start : start + step], model.predict(x))
            advance(min(start + step, rows), rows, "Testing")
    return score


def _advice(trouble: str) -> str:
    """Advice for a fit that has not converged: more iterations, if those allowed were used up, and not otherwise."""
    return "raise --max-iter or scale the features" if "max_iter=" in trouble else one_line(trouble)


def _text(args: argparse.Namespace, trained: Trained) -> str:
    model = trained.model
    lines = [
        "Training",
        f"  {trained.rows} rows, {model.features.size} features, {len(model.classes)} classes",
        f"  {trained.iterations} iterations in {trained.seconds:.2f} s"
        + (f": NOT CONVERGED, {_advice(trained.trouble)}" if trained.trouble else ""),
    ]
    if trained.score is not None:
        score = trained.score
        lines += [
            "",
            "Held out",
            f"  {score.rows} rows, accuracy {score.accuracy:.4f}, log-loss {score.log_loss:.4f}",
            "",
            score.text(),
        ]
    lines += ["", one_line(f"The model is in {args.out}")]
    if args.plot is not None:
        lines.append(one_line(f"The picture is in {args.plot}"))
    return "\n".join(lines)


def _as_json(args: argparse.Namespace, trained: Trained) -> dict[str, Any]:
    return {
        "data": str(args.data),
        "model": str(args.out),
        "plot": None if args.plot is None else str(args.plot),
        "rows": trained.rows,
        "features": trained.model.features.size,
        "classes": trained.model.classes.tolist(),
        "parameters": trained.model.parameters["estimator"],
        "iterations": trained.iterations,
        "converged": not trained.trouble,
        "seconds": trained.seconds,
        "loss_curve": trained.loss_curve,
        "held_out": None if trained.score is None else trained.score.as_json(),
    }
