"""Trained models as NPZ files: arrays only, no pickled objects, so that a file from elsewhere can be opened safely."""

import json
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import numpy as np

from ..api import linear
from .errors import BadInput, existing_file, listed, shown, unusable
from .files.arrayfile import whole_array
from .files.table import Array, Features, Matrix, text_array
from .output import strict_json

FORMAT = "fastsoftmax softmax regression"
VERSION = 1
ARRAYS = ("format", "version", "coef", "intercept", "classes", "feature_names", "parameters")
ROOM, PACKED = 64 << 20, 8  # bytes that a model takes at most, and as many more for each byte of its file


class Model(NamedTuple):
    """A trained classifier.

    The scores of a row are ``x @ coef.T + intercept``. As in scikit-learn there is one row of `coef` for two classes:
    the score of the second class, where that of the first is 0.
    """

    coef: Array  # (classes, features), or (1, features) for two classes; float32 or float64
    intercept: Array  # (len(coef),)
    classes: Array  # integers, booleans or strings, ascending
    features: Features
    parameters: dict[str, Any]  # those of the training, and what it was made of

    @property
    def weight(self) -> Array:
        """A row of weights for each class."""
        return np.vstack([0 * self.coef, self.coef]) if len(self.classes) == 2 else self.coef

    @property
    def bias(self) -> Array:
        """A number for each class."""
        return np.concatenate([0 * self.intercept, self.intercept]) if len(self.classes) == 2 else self.intercept

    def predict(self, x: Matrix) -> Array:
        """The most probable class of each row, as its index in `classes`, int64."""
        return linear.linear_predict(x, self.weight, self.bias)

    def predict_proba(self, x: Matrix) -> Array:
        """The probabilities of the classes, (rows, classes)."""
        return linear.linear_predict_proba(x, self.weight, self.bias)

    def loss(self, x: Matrix, index: Array) -> float:
        """The sum of the cross-entropies of some rows."""
        return float(linear.linear_cross_entropy(x, self.weight, index, self.bias, reduction="sum"))


def save(model: Model, file: BinaryIO) -> None:
    """Write a model."""
    arrays = {
        "format": np.array(FORMAT),
        "version": np.array(VERSION),
        "coef": model.coef,
        "intercept": model.intercept,
        "classes": model.classes,
        "feature_names": text_array(model.features.names, "the header"),
        "parameters": np.array(strict_json(model.parameters)),
    }
    if fault := _fault(arrays):
        raise BadInput(f"the training came to no model: {fault}; scale the features, or use another solver")
    np.savez(file, allow_pickle=False, **arrays)


def load(path: Path) -> Model:
    """Read a model, and check all of it.

    Raises
    ------
    BadInput
        For whatever is no model that `save` wrote, or that was damaged since.
    """
    existing_file(path, "model")
    try:
        with path.open("rb") as file, zipfile.ZipFile(file) as archive:
            names = [name.removesuffix(".npy") for name in archive.namelist()]
            known = [name for name in ARRAYS if name in names]
            room = ROOM + PACKED * path.stat().st_size
            if sum(archive.getinfo(f"{name}.npy").file_size for name in known) > room:
                raise BadInput(f"{path} is no model: its arrays take more than {room >> 20} MB when they are unpacked")
            arrays = {name: whole_array(archive, name) for name in known}
        return _checked(path, arrays, names)
    except BadInput:
        raise
    except OSError as error:
        raise unusable(path, error) from None
    except Exception:  # damaged bytes make any error of Python's
        raise BadInput(f"{path} is no model, or is damaged; write it again with the command train") from None


def _checked(path: Path, arrays: dict[str, Array], names: Sequence[str]) -> Model:
    if str(arrays.get("format")) != FORMAT:
        raise BadInput(
            f"{path} is not a model of fastsoftmax (its arrays: {listed(names)}); give a file that train wrote"
        )
    version = arrays.get("version", np.array(None))
    if version.shape or version.dtype.kind not in "iu" or not 1 <= version <= VERSION:
        raise BadInput(f"{path} has format version {shown(version)}, this release reads 1; upgrade fastsoftmax")
    fault = _fault(arrays)
    if fault:
        raise BadInput(f"{path} is a damaged model: {fault}; write it again with the command train")
    features = Features(arrays["coef"].shape[1], tuple(map(str, arrays["feature_names"])))
    parameters = json.loads(str(arrays["parameters"]))
    return Model(arrays["coef"], arrays["intercept"], arrays["classes"], features, parameters)


def _fault(arrays: dict[str, Array]) -> str | None:
    """The fault of a model's arrays, if any."""
    missing = [name for name in ARRAYS if name not in arrays]
    if missing:
        return f"it lacks {listed(missing)}"
    kinds = {"coef": "f", "intercept": "f", "classes": "biuU", "feature_names": "U", "parameters": "U"}
    for name, allowed in kinds.items():
        if arrays[name].dtype.kind not in allowed:
            return f"{name} has dtype {arrays[name].dtype}"
    coef, classes = arrays["coef"], arrays["classes"]
    count = classes.size if classes.size > 2 else 1
    shapes = {"coef": (count, *coef.shape[1:2]), "intercept": (count,), "classes": (classes.size,), "parameters": ()}
    wrong = [f"{name} has shape {arrays[name].shape}" for name, shape in shapes.items() if arrays[name].shape != shape]
    names = arrays["feature_names"].shape
    if coef.ndim != 2 or not coef.size or classes.size < 2 or wrong:
        return wrong[0] if wrong else f"coef has shape {coef.shape}, classes {classes.shape}"
    if names not in {(0,), (coef.shape[1],)}:
        return f"feature_names has shape {names} for {coef.shape[1]} features"
    return _bad_values(arrays)


def _bad_values(arrays: dict[str, Array]) -> str | None:
    for name in ("coef", "intercept"):
        if not np.isfinite(arrays[name]).all():
            return f"{name} is not finite"
        if arrays[name].dtype not in (np.float32, np.float64):
            return f"{name} has dtype {arrays[name].dtype}"
    if (arrays["classes"][1:] <= arrays["classes"][:-1]).any():
        return "classes do not ascend"
    try:
        if isinstance(json.loads(str(arrays["parameters"])), dict):
            return None
    except (ValueError, RecursionError):
        pass
    return "parameters is no JSON object"
