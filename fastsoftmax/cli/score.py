"""The quality of predictions on rows of known classes: accuracy, log-loss, and which class is taken for which."""

from collections import Counter
from collections.abc import Iterator
from typing import Any

import numpy as np

from .errors import BadInput, listed, shown
from .files.table import Array, Matrix, Place, coded, plain
from .model import Model

FEW = 12  # classes of which a table is easy to read
WIDTH = 10  # of a class in it
MOST = 10  # confusions that are listed where there are more classes


class Score:
    """Accuracy, log-loss and confusions, added up over blocks of rows."""

    def __init__(self, model: Model) -> None:
        self._model = model
        self.rows = 0
        self._right = 0
        self._loss = 0.0
        self.pairs: Counter[tuple[int, int]] = Counter()  # (class, prediction), as indices: of K² few occur

    def add(self, x: Matrix, truth: Array, predicted: Array) -> None:
        """Count some rows, whose classes and predictions are given as indices."""
        self._loss += self._model.loss(x, truth)
        self._right += int(np.count_nonzero(truth == predicted))
        self.rows += len(truth)
        classes = len(self._model.classes)
        codes, counts = np.unique(truth * classes + predicted, return_counts=True)
        for code, count in zip(codes.tolist(), counts.tolist(), strict=True):
            self.pairs[divmod(code, classes)] += count

    @property
    def accuracy(self) -> float:
        """The part of the rows that is predicted correctly."""
        return self._right / self.rows

    @property
    def log_loss(self) -> float:
        """The mean of -log p of the right class."""
        return self._loss / self.rows

    def matrix(self) -> Array:
        """The confusion matrix, (classes, classes): rows are classes, columns are predictions."""
        size = len(self._model.classes)
        matrix = np.zeros((size, size), dtype=np.int64)
        for pair, count in self.pairs.items():
            matrix[pair] = count
        return matrix

    def as_json(self) -> dict[str, Any]:
        """All of it as JSON has it; of the confusion matrix the cells that are not 0."""
        names = self._model.classes.tolist()
        cells = [
            {"class": names[true], "predicted": names[guess], "rows": count}
            for (true, guess), count in sorted(self.pairs.items())
        ]
        return {"rows": self.rows, "accuracy": self.accuracy, "log_loss": self.log_loss, "confusion": cells}

    def text(self) -> str:
        """The confusions, in as many lines as are read with ease."""
        names = [shown(name, WIDTH) for name in self._model.classes]
        lines = _table(names, self.matrix()) if len(names) <= FEW else self._most_confused()
        return "\n".join(lines)

    def _most_confused(self) -> Iterator[str]:
        wrong = Counter({pair: count for pair, count in self.pairs.items() if pair[0] != pair[1]})
        of_class: Counter[int] = Counter()
        for (true, _), count in self.pairs.items():
            of_class[true] += count
        frequent = wrong.most_common(MOST)
        count = len(self._model.classes)
        yield f"Confusions: the {len(frequent)} most frequent of {len(wrong)}, as {count} classes are"
        yield "too many for a table (--json has all)"
        names = [(shown(self._model.classes[true]), shown(self._model.classes[guess])) for (true, guess), _ in frequent]
        wide = max((len(true) for true, _ in names), default=0)
        also = max((len(guess) for _, guess in names), default=0)
        for (name, taken), (pair, count) in zip(names, frequent, strict=True):
            yield f"  {name:<{wide}} taken for {taken:<{also}}  {count} of {of_class[pair[0]]} rows"


def _table(names: list[str], matrix: Array) -> Iterator[str]:
    """The confusion matrix as text."""
    cells = [[str(count) if count else "." for count in row] for row in matrix.tolist()]
    first = max(map(len, [*names, "class"]))
    widths = [max(map(len, [name, *column])) for name, column in zip(names, zip(*cells, strict=True), strict=True)]
    yield "Confusion table: rows are classes, columns are predictions"
    for label, row in zip(["class", *names], [names, *cells], strict=True):
        yield f"  {label:<{first}}  " + "  ".join(f"{cell:>{wide}}" for cell, wide in zip(row, widths, strict=True))


class Indices:
    """From labels to the indices of a model's classes."""

    def __init__(self, model: Model) -> None:
        # By their text, as those of a CSV file are text; and 3.0 of one file is 3 of another, where no class is both.
        names = list(map(str, model.classes))
        written = Counter(map(plain, names))
        self._of = {plain(name): i for i, name in enumerate(names) if written[plain(name)] == 1}
        self._of |= {name: i for i, name in enumerate(names)}
        self._known = model.classes

    def __call__(self, labels: Array | list[str], place: Place) -> Array:
        """The indices of some labels, which are in a file from `place` on."""
        different, positions = coded(labels)
        known = [self._of.get(name, self._of.get(plain(name), -1)) for name in map(str, different)]
        indices = np.array(known)[positions]
        if indices.size and indices.min() < 0:
            at = int(np.argmin(indices))
            raise BadInput(
                f"{place(at)} has class {shown(labels[at])!r}, unknown to the model (it knows "
                f"{listed(self._known)}); mend the label, or leave --target out to predict without scoring"
            )
        return indices
