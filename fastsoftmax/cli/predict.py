"""``predict``: from a model and data of any length to a class, or probabilities, for each row."""

import argparse
import sys

from . import model as modelfile
from .arguments import wants_json
from .errors import SUCCESS, BadInput, one_line
from .files.open import open_table
from .files.table import Table
from .output import Sink, check_place, sink, strict_json
from .progress import Advance, progress
from .score import Indices, Score

ENDINGS = (".csv", ".npy", ".npz")


def run(args: argparse.Namespace) -> int:
    """Predict a class for each row, or with --proba the probability of each class, and write them as they come."""
    if wants_json(args) and args.out is None:
        raise BadInput(
            "--json describes a file that was written, and predictions go to standard output; add --out FILE"
        )
    if args.out is not None:
        check_place(args.out, ENDINGS, "predictions", args.model, args.data)
    model = modelfile.load(args.model)
    table = open_table(args.data, args.target, model.features)
    header = [str(name) for name in model.classes] if args.proba else ["prediction"]
    bar = args.out is not None or not sys.stdout.isatty()  # or the bar would be among the predictions
    with progress(show=bar) as advance, sink(args.out, header, model.classes) as to:
        rows, score = _predict(model, table, to, args, advance)
    _report(args, rows, score)
    return SUCCESS


def _predict(
    model: modelfile.Model, table: Table, to: Sink, args: argparse.Namespace, advance: Advance
) -> tuple[int, Score | None]:
    """Write the predictions of all blocks; how many rows there were, and their score where it was asked for."""
    rows, score = 0, None if args.target is None else Score(model)
    indices = Indices(model)
    # Classes are written as strings that are as long as the longest.
    for block in table.blocks(extra=len(model.classes) + model.classes.itemsize // 8):
        truth = None if block.labels is None else indices(block.labels, block.place)
        proba = model.predict_proba(block.x) if args.proba else None
        predicted = model.predict(block.x) if proba is None else proba.argmax(axis=1)
        if score is not None and truth is not None:
            score.add(block.x, truth, predicted)
        to.write(model.classes[predicted] if proba is None else proba)
        rows += len(predicted)
        advance(block.read, block.total, f"{rows} rows")
    if not rows:
        raise BadInput(f"{table.path} has no rows; there is nothing to predict")
    return rows, score


def _report(args: argparse.Namespace, rows: int, score: Score | None) -> None:
    """Say what was done: on standard error where the predictions themselves are on standard output."""
    if wants_json(args):
        facts = {"model": str(args.model), "data": str(args.data), "out": str(args.out), "rows": rows}
        print(strict_json({**facts, "score": None if score is None else score.as_json()}))
        return
    where = sys.stderr if args.out is None else sys.stdout
    if args.out is not None:
        print(one_line(f"{rows} predictions are in {args.out}"), file=where)
    if score is not None:
        print(f"Accuracy {score.accuracy:.4f}, log-loss {score.log_loss:.4f} on {rows} rows", file=where)
        print(score.text(), file=where)
