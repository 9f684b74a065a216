"""``python -m fastsoftmax predict``: the model's answers for files of any length, written whole or not at all."""

import io
import json
import os
import re
import signal
import sys
import threading
import zipfile
from itertools import product
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy.sparse import csr_array, save_npz
from sklearn.datasets import load_digits
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import accuracy_score, log_loss

import fastsoftmax
from fastsoftmax.cli import program
from fastsoftmax.cli.errors import BadInput
from fastsoftmax.cli.files import sparsefile, table
from fastsoftmax.cli.files.table import Features, Place
from fastsoftmax.cli.model import Model
from fastsoftmax.cli.model import save as save_model
from fastsoftmax.cli.output import replacing
from fastsoftmax.cli.score import Indices
from tests.pairs import exhaustive_but
from tests.support import child

CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f]")  # all but tabs and newlines
#: Each file of the fixture, and what must be named for its classes to be no features.
FILES = {
    "digits.csv": [],
    "digits.tsv": [],
    "digits.npy": ["--target", "0"],
    "named.npy": [],
    "digits.npz": [],
    "columnwise.npz": [],
    "sparse.npz": [],
}
RUN = """
import signal, sys
from fastsoftmax.cli import program
signal.signal(signal.SIGINT, signal.default_int_handler)
"""


@pytest.fixture
def run(capsys):
    """The exit status, standard output and standard error of a command."""

    def call(*arguments):
        status = program.main([str(argument) for argument in arguments])
        printed = capsys.readouterr()
        return status, printed.out, printed.err

    return call


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A classifier that scikit-learn trained on the digits, and the same as a model file."""
    frame = load_digits(as_frame=True)
    x, y = frame.data / 16, frame.target
    estimator = LogisticRegression(C=0.1, max_iter=1000).fit(x, y)
    path = tmp_path_factory.mktemp("model") / "model.npz"
    _save(path, estimator.coef_, estimator.intercept_, estimator.classes_, tuple(x.columns))
    return estimator, path


def _save(path, coef, intercept, classes, names=()):
    model = Model(coef, intercept, classes, Features(coef.shape[1], names), {})
    with path.open("wb") as file:
        save_model(model, file)


@pytest.fixture
def tiny(tmp_path):
    """A model of three classes and two features, as a file."""
    path = tmp_path / "tiny.npz"
    _save(path, np.array([[1.0, 0.0], [0.0, 1.0], [-1.0, -1.0]]), np.zeros(3), np.array(["a", "b", "c"]), ("p", "q"))
    return path


def _complaint(result):
    """The one line of a command that was refused."""
    status, out, err = result
    assert (status, out) == (2, "")
    assert err.endswith("\n")
    assert len(err.splitlines()) == 1
    return err


def _digits():
    x, y = load_digits(return_X_y=True)
    return pd.DataFrame(x / 16, columns=load_digits(as_frame=True).data.columns), y


BLOCKS = list(product(FILES, [1, 100, 10000]))
USUAL = [*product(FILES, [1]), ("digits.csv", 100), ("digits.npy", 100), ("digits.csv", 10000)]


@pytest.mark.parametrize(("name", "rows"), exhaustive_but(USUAL, BLOCKS))
def test_predictions_are_the_estimators(name, rows, trained, digits_files, tmp_path, run, monkeypatch):
    """In blocks of any size; a file read to its end in one block and one read row by row give the same."""
    estimator, model = trained
    x, _ = _digits()
    if rows == 1:
        monkeypatch.setattr(table, "MOST_ROWS", 61)  # 1797 = 29 * 61 + 28
        monkeypatch.setattr(sparsefile, "ROWS", 61)
    elif rows == 100:
        monkeypatch.setattr(table, "BLOCK_BYTES", 100 * 8 * 75)
    classes, proba = tmp_path / "classes.npy", tmp_path / "proba.npy"
    target = FILES[name]
    assert run("predict", model, digits_files / name, "--out", classes, *target)[::2] == (0, "")
    np.testing.assert_array_equal(np.load(classes), estimator.predict(x))
    assert run("predict", model, digits_files / name, "--out", proba, "--proba", *target)[::2] == (0, "")
    np.testing.assert_allclose(np.load(proba), estimator.predict_proba(x), rtol=1e-5, atol=1e-12)
    assert {path.name for path in tmp_path.iterdir()} == {"classes.npy", "proba.npy"}


def test_outputs_are_the_same_in_each_format(trained, digits_files, tmp_path, run):
    estimator, model = trained
    x, _ = _digits()
    data = digits_files / "digits.csv"
    for options, name, expected in (
        ([], "prediction", estimator.predict(x)),
        (["--proba"], "proba", estimator.predict_proba(x)),
    ):
        status, printed, err = run("predict", model, data, *options)
        assert (status, err) == (0, "")
        frame = pd.read_csv(io.StringIO(printed))
        assert list(frame) == (["prediction"] if name == "prediction" else list("0123456789"))
        np.testing.assert_allclose(np.squeeze(frame.to_numpy()), expected, rtol=1e-9)
        for ending in ("csv", "npy", "npz"):
            assert run("predict", model, data, *options, "--out", tmp_path / f"o.{ending}")[0] == 0
        assert (tmp_path / "o.csv").read_text("utf-8") == printed
        array = np.load(tmp_path / "o.npy")
        assert array.dtype == expected.dtype
        np.testing.assert_allclose(array, expected, rtol=1e-9)
        with np.load(tmp_path / "o.npz") as packed:
            assert set(packed.files) == {name, "classes"}
            np.testing.assert_array_equal(packed[name], array)
            np.testing.assert_array_equal(packed["classes"], range(10))


def test_columns_are_matched_by_name(trained, tmp_path, run):
    estimator, model = trained
    x, _ = _digits()
    mixed = x.sample(frac=1, axis=1, random_state=0)
    mixed.insert(5, "comment", "none of these are numbers")
    mixed.to_csv(tmp_path / "d.csv", index=False)
    _, printed, _ = run("predict", model, tmp_path / "d.csv")
    assert printed.split() == ["prediction", *map(str, estimator.predict(x))]


def test_two_classes(tmp_path, run):
    x, y = np.random.default_rng(0).standard_normal((50, 3)), np.arange(50) % 2
    estimator = LogisticRegression().fit(x + y[:, None], np.array(["no", "yes"])[y])
    assert estimator.coef_.shape == (1, 3)
    _save(tmp_path / "m.npz", estimator.coef_, estimator.intercept_, estimator.classes_)
    np.save(tmp_path / "x.npy", x)
    assert run("predict", tmp_path / "m.npz", tmp_path / "x.npy", "--out", tmp_path / "o.npy")[0] == 0
    np.testing.assert_array_equal(np.load(tmp_path / "o.npy"), estimator.predict(x))
    assert run("predict", tmp_path / "m.npz", tmp_path / "x.npy", "--proba", "--out", tmp_path / "o.npy")[0] == 0
    np.testing.assert_allclose(np.load(tmp_path / "o.npy"), estimator.predict_proba(x), rtol=1e-12)


def test_float32_stays_float32(tmp_path, run):
    _save(tmp_path / "m.npz", np.eye(3, dtype=np.float32), np.zeros(3, np.float32), np.arange(3))
    for dtype, result in ((np.float16, np.float32), (">f4", np.float32), (np.int8, np.float64), (np.bool_, np.float64)):
        x = (np.arange(12).reshape(4, 3) % 2).astype(dtype)
        np.save(tmp_path / "x.npy", x)
        assert run("predict", tmp_path / "m.npz", tmp_path / "x.npy", "--proba", "--out", tmp_path / "o.npy")[0] == 0
        found = np.load(tmp_path / "o.npy")
        assert found.dtype == result
        np.testing.assert_allclose(found, fastsoftmax.softmax(x.astype(np.float64)), rtol=1e-6)


def test_text_of_probabilities_reads_back_exactly(tmp_path, run):
    """Each dtype in as few digits as it takes."""
    _save(tmp_path / "m.npz", np.eye(3, dtype=np.float32), np.zeros(3, np.float32), np.arange(3))
    np.save(tmp_path / "x.npy", np.random.default_rng(0).standard_normal((50, 3)).astype(np.float32))
    arguments = ["predict", tmp_path / "m.npz", tmp_path / "x.npy", "--proba"]
    assert run(*arguments, "--out", tmp_path / "o.npy")[0] == 0
    _, printed, _ = run(*arguments)
    cells = np.array([line.split(",") for line in printed.splitlines()[1:]])
    np.testing.assert_array_equal(cells.astype(np.float32), np.load(tmp_path / "o.npy"))
    assert max(map(len, cells.ravel())) <= 14


@pytest.mark.parametrize("name", FILES)
def test_score(name, trained, digits_files, tmp_path, run):
    estimator, model = trained
    x, y = _digits()
    target = {"digits.npy": "0", "digits.csv": "target", "digits.tsv": "target", "named.npy": "target"}.get(name, "y")
    arguments = ["predict", model, digits_files / name, "--out", tmp_path / "o.npy", "--target", target]
    status, printed, err = run(*arguments, "--json")
    assert (status, err) == (0, "")
    found = json.loads(printed)
    assert found["rows"] == found["score"]["rows"] == 1797
    np.testing.assert_allclose(found["score"]["accuracy"], accuracy_score(y, estimator.predict(x)), rtol=1e-12)
    np.testing.assert_allclose(found["score"]["log_loss"], log_loss(y, estimator.predict_proba(x)), rtol=1e-5)
    text = run(*arguments)[1]
    assert f"Accuracy {found['score']['accuracy']:.4f}, log-loss {found['score']['log_loss']:.4f} on 1797 rows" in text


def test_score_is_apart_from_predictions(tiny, tmp_path, run):
    (tmp_path / "d.csv").write_text("q,p,y\n1,0,b\n0,1,a\n-1,-1,a\n")
    status, out, err = run("predict", tiny, tmp_path / "d.csv", "--target", "y")
    assert (status, out) == (0, "prediction\nb\na\nc\n")
    assert err.startswith("Accuracy 0.6667")


@pytest.mark.parametrize(
    ("classes", "labels", "indices"),
    [
        ([0, 1], ["1.0", "0", "+1", "-0.0"], [1, 0, 1, 0]),
        (["0.0", "1.0"], [1, 0, 1], [1, 0, 1]),
        (["0.0", "1.0"], ["1", "0.0", "+1."], [1, 0, 1]),
        (["+1", "-1"], ["-1", "1"], [1, 0]),
        (["01", "1", "2"], ["01", "1", "2.0"], [0, 1, 2]),
        (["1", "1.0", "b"], ["1.0", "1", "b"], [1, 0, 2]),
        ([False, True], ["True", "False"], [1, 0]),
        ([2**62 + 1, 2**62 + 2], np.array([2**62 + 2, 2**62 + 1]), [1, 0]),
    ],
)
def test_labels_of_other_files(classes, labels, indices):
    """The same class, however a file writes its number."""
    classes = np.array(classes)
    model = Model(np.ones((len(classes), 1)), np.zeros(len(classes)), classes, Features(1, ()), {})
    labels = labels if isinstance(labels[0], str) else np.array(labels)
    place = Place(Path("d.csv"), 1, ("a",), "counted")
    assert Indices(model)(labels, place).tolist() == indices
    with pytest.raises(BadInput, match=r"row 2 .* has class '007', unknown to the model"):
        Indices(model)([str(classes[0]), "007"], place)


def test_names_of_classes_in_the_header(tmp_path, run):
    _save(tmp_path / "m.npz", np.eye(3), np.zeros(3), np.array(['"', "a,b", "c\nd"]))
    np.save(tmp_path / "x.npy", np.eye(3))
    _, printed, _ = run("predict", tmp_path / "m.npz", tmp_path / "x.npy", "--proba")
    assert list(pd.read_csv(io.StringIO(printed))) == ['"', "a,b", "c\nd"]
    _, printed, _ = run("predict", tmp_path / "m.npz", tmp_path / "x.npy")
    assert pd.read_csv(io.StringIO(printed))["prediction"].tolist() == ['"', "a,b", "c\nd"]


GOOD = "p,q,y\n" + "1,2,a\n" * 500
BAD_TEXT = {
    "missing column": ("p,r\n1,2\n", [], r"lacks columns that the model was trained on: q; add them"),
    "missing target": ("p,q\n1,2\n", ["--target", "y"], "has no column 'y'"),
    "unknown class": (GOOD + "1,2,z\n", ["--target", "y"], r"row 501 .* has class 'z', unknown .*\(it knows a, b, c\)"),
    "no class": (GOOD + "1,2,\n", ["--target", "y"], "row 501 .* has no class"),
    "no rows": ("p,q\n", [], "has no rows"),
    "late NaN": (GOOD + "1,nan,a\n", [], "row 501, column 'q' .* holds a missing value or NaN"),
    "late infinity": (GOOD + "inf,2,a\n", [], "row 501, column 'p' .* holds inf"),
    "late text": (GOOD + "1,two,a\n", [], "row 501, column 'q' .* holds 'two', which is not a number"),
    "late long row": (GOOD + "1,2,a,4\n", [], "row 501 .* has more cells than the header has names"),
    "late longer row": (GOOD + "1,2,a,4,5\n", [], "line 502 has 5 cells, more cells than the header has names"),
    "late quote": (GOOD + '1,2,"a\n', [], "EOF inside string"),
}


@pytest.mark.parametrize("kind", BAD_TEXT)
@pytest.mark.parametrize("ending", ["csv", "npy", "npz"])
def test_bad_text(kind, ending, tiny, tmp_path, run, monkeypatch):
    """Also where it comes after blocks that were written: nothing is left, and what was there before stays."""
    monkeypatch.setattr(table, "MOST_ROWS", 100)
    content, options, says = BAD_TEXT[kind]
    data, out = tmp_path / "d.csv", tmp_path / f"o.{ending}"
    data.write_text(content, "utf-8")
    out.write_text("before")
    err = _complaint(run("predict", tiny, data, "--out", out, *options))
    assert re.search(says, err)
    assert str(data) in err
    assert out.read_text() == "before"
    assert {path.name for path in tmp_path.iterdir()} == {"d.csv", "tiny.npz", out.name}


LATE = np.where(np.arange(1000).reshape(500, 2) == 999, np.nan, 1.0)
BAD_ARRAYS = {
    "one more": (np.ones((3, 3)), "has 3 features, the model was trained on 2; .*--target"),
    "too many": (np.ones((3, 4)), "has 4 features, the model was trained on 2; give data with the same columns$"),
    "too few": (np.ones((3, 1)), "has 1 features, the model was trained on 2"),
    "late NaN": (LATE, r"row 499, column '1' \(rows are counted from 0\) holds a missing value or NaN"),
    "no rows": (np.ones((0, 2)), "has no rows|no NPY file"),
    "text": (np.array([["1", "2"]]), "not numeric"),
}


@pytest.mark.parametrize("kind", BAD_ARRAYS)
@pytest.mark.parametrize("ending", ["npy", "npz"])
def test_bad_arrays(kind, ending, tiny, tmp_path, run, monkeypatch):
    monkeypatch.setattr(table, "MOST_ROWS", 100)
    array, says = BAD_ARRAYS[kind]
    data = tmp_path / f"d.{ending}"
    np.save(data, array) if ending == "npy" else np.savez(data, X=array)
    err = _complaint(run("predict", tiny, data, "--out", tmp_path / "o.csv"))
    assert re.search(says, err.rstrip("\n"))
    assert {path.name for path in tmp_path.iterdir()} == {data.name, "tiny.npz"}


def test_bad_sparse(tiny, tmp_path, run, monkeypatch):
    monkeypatch.setattr(sparsefile, "ROWS", 100)
    data = tmp_path / "d.npz"
    save_npz(data, csr_array(np.ones((5, 3))))
    assert "has 3 features" in _complaint(run("predict", tiny, data))
    save_npz(data, csr_array(LATE))
    assert "row 499, column '1'" in _complaint(run("predict", tiny, data, "--out", tmp_path / "o.csv"))
    assert {path.name for path in tmp_path.iterdir()} == {"d.npz", "tiny.npz"}


@pytest.mark.parametrize("compressed", [False, True])
def test_damaged_archive(compressed, tiny, tmp_path, run):
    """A flipped byte late in the data is found by the checksum."""
    data = tmp_path / "d.npz"
    values = np.random.default_rng(0).standard_normal((5000, 2))
    (np.savez_compressed if compressed else np.savez)(data, X=values)
    content = bytearray(data.read_bytes())
    content[len(content) * 3 // 4] ^= 1
    data.write_bytes(content)
    assert "no NPZ file that can be read" in _complaint(run("predict", tiny, data, "--out", tmp_path / "o.npy"))
    data.write_bytes(content[: len(content) // 2])
    assert "no NPZ file that can be read" in _complaint(run("predict", tiny, data, "--out", tmp_path / "o.npy"))
    assert {path.name for path in tmp_path.iterdir()} == {"d.npz", "tiny.npz"}


def test_truncated_npy(tiny, tmp_path, run):
    data = tmp_path / "d.npy"
    np.save(data, np.ones((500, 2)))
    data.write_bytes(data.read_bytes()[:-1])
    assert "no NPY file that can be read" in _complaint(run("predict", tiny, data))


def _changed(**changes):
    """A model whose arrays are changed; None leaves one out."""

    def make(path):
        with np.load(path) as arrays:
            kept = {name: arrays[name] for name in arrays.files} | changes
        np.savez(path, **{name: value for name, value in kept.items() if value is not None})

    return make


def _npy(array):
    file = io.BytesIO()
    np.save(file, array)
    return file.getvalue()


def _archive(path):
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("notes.txt", "not an array")


BAD_MODELS = {
    "missing": (lambda path: path.unlink(), "does not exist"),
    "empty": (lambda path: path.write_bytes(b""), "is empty"),
    "folder": (lambda path: (path.unlink(), path.mkdir()), "is a directory"),
    "text": (lambda path: path.write_text("coef = 1"), "is no model, or is damaged"),
    "array": (lambda path: path.write_bytes(_npy(np.eye(3))), "is no model, or is damaged"),
    "truncated": (lambda path: path.write_bytes(path.read_bytes()[:-30]), "is no model, or is damaged"),
    "cut": (lambda path: path.write_bytes(path.read_bytes()[:900]), "is no model, or is damaged"),
    "flipped": (lambda path: path.write_bytes(path.read_bytes().replace(b"\0\0\xf0?", b"\0\0\xf0@")), "is damaged"),
    "zip": (_archive, "is not a model of fastsoftmax"),
    "other arrays": (
        lambda path: np.savez(path, x=np.eye(2), y=[1]),
        r"not a model .* \(its arrays: x, y\)",
    ),
    "pickled": (_changed(coef=np.array([[1.0], None], dtype=object)), "is no model, or is damaged"),
    "newer": (_changed(version=np.array(2)), "has format version 2, this release reads 1; upgrade"),
    "no version": (_changed(version=None), "has format version None"),
    "lacks": (_changed(intercept=None, classes=None), "it lacks intercept, classes"),
    "text weights": (_changed(coef=np.full((3, 2), "a")), "coef has dtype <U1"),
    "half": (_changed(coef=np.ones((3, 2), np.float16)), "coef has dtype float16"),
    "1-D": (_changed(coef=np.ones(3)), "coef has shape"),
    "rows": (_changed(coef=np.ones((2, 2))), r"coef has shape \(2, 2\)"),
    "intercept": (_changed(intercept=np.ones(2)), r"intercept has shape \(2,\)"),
    "one class": (_changed(coef=np.ones((1, 2)), intercept=np.ones(1), classes=np.array(["a"])), "shape"),
    "classes": (_changed(classes=np.array(["a", "c", "b"])), "classes do not ascend"),
    "names": (_changed(feature_names=np.array(["p"])), r"feature_names has shape \(1,\) for 2 features"),
    "NaN": (_changed(coef=np.full((3, 2), np.nan)), "coef is not finite"),
    "infinite": (_changed(intercept=np.full(3, np.inf)), "intercept is not finite"),
    "parameters": (_changed(parameters=np.array("[1")), "parameters is no JSON object"),
}


@pytest.mark.parametrize("kind", BAD_MODELS)
def test_bad_models(kind, tiny, tmp_path, run):
    spoil, says = BAD_MODELS[kind]
    (tmp_path / "d.csv").write_text("p,q\n1,2\n")
    spoil(tiny)
    err = _complaint(run("predict", tiny, tmp_path / "d.csv", "--out", tmp_path / "o.csv"))
    assert re.search(says, err)
    assert str(tiny) in err
    assert {path.name for path in tmp_path.iterdir()} <= {"d.csv", "tiny.npz"}


@pytest.mark.parametrize(
    ("out", "says"),
    [
        ("o.txt", r"does not end in \.csv or \.npy or \.npz"),
        ("missing/o.csv", "is no folder"),
        ("folder.csv", "is no regular file"),
        ("d.csv", "is an input as well"),
        ("tiny.npz", "is an input as well"),
    ],
)
def test_bad_outputs(out, says, tiny, tmp_path, run, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "d.csv").write_text("p,q\n1,2\n")
    (tmp_path / "folder.csv").mkdir()
    assert re.search(says, _complaint(run("predict", tiny, "d.csv", "--out", out)))
    assert (tmp_path / "d.csv").read_text() == "p,q\n1,2\n"


def test_json_needs_a_file(tiny, tmp_path, run):
    assert "add --out FILE" in _complaint(run("predict", tiny, tmp_path / "d.csv", "--json"))


def test_csv_needs_pandas(tiny, tmp_path, run, monkeypatch):
    (tmp_path / "d.csv").write_text("p,q\n1,2\n")
    np.save(tmp_path / "d.npy", np.ones((2, 2)))
    monkeypatch.setitem(sys.modules, "pandas", None)
    assert "-m pip install pandas" in _complaint(run("predict", tiny, tmp_path / "d.csv"))
    assert run("predict", tiny, tmp_path / "d.npy")[0] == 0


def test_full_disk(tiny, tmp_path, run, monkeypatch):
    """What the system says when the file takes its place; the one beside it is gone."""

    def full(*_):
        raise OSError(28, "No space left on device")

    (tmp_path / "d.csv").write_text("p,q\n1,2\n")
    assert run("predict", tiny, tmp_path / "d.csv")[0] == 0  # Numba, too, replaces files where it caches kernels
    monkeypatch.setattr(os, "replace", full)
    err = _complaint(run("predict", tiny, tmp_path / "d.csv", "--out", tmp_path / "o.csv"))
    assert "No space left on device" in err
    assert {path.name for path in tmp_path.iterdir()} == {"d.csv", "tiny.npz"}


@pytest.mark.parametrize("ending", exhaustive_but(["csv"], ["csv", "npy", "npz"]))
def test_interrupted(ending, tiny, tmp_path):
    """An interruption between two blocks, when some are written, leaves what was there before."""
    np.save(tmp_path / "d.npy", np.ones((500, 2)))
    out = tmp_path / f"o.{ending}"
    out.write_text("before")
    code = """
from fastsoftmax.cli.files import table; from fastsoftmax.cli.model import Model
table.MOST_ROWS = 100
predict, calls = Model.predict, []
def interrupted(model, x):
    calls.append(len(x))
    if len(calls) == 3:
        signal.raise_signal(signal.SIGINT)
    assert len(calls) < 4
    return predict(model, x)
Model.predict = interrupted
sys.exit(program.main(sys.argv[1:]))
"""
    done = child(RUN + code, "predict", str(tiny), str(tmp_path / "d.npy"), "--out", str(out))
    assert (done.returncode, done.stdout, done.stderr) == (130, "", "interrupted\n")
    assert out.read_text() == "before"
    assert {path.name for path in tmp_path.iterdir()} == {"d.npy", "tiny.npz", out.name}


@pytest.mark.skipif(os.name != "posix", reason="signals are POSIX's")
@pytest.mark.parametrize("name", ["SIGTERM", "SIGHUP"])
def test_killed(name, tiny, tmp_path):
    """A signal that ends the process, when a part is written: it does end it, and the part is gone."""
    np.save(tmp_path / "d.npy", np.ones((500, 2)))
    (tmp_path / "o.csv").write_text("before")
    code = f"""
import os
from fastsoftmax.cli.model import Model
def killed(model, x):
    print(*sorted(os.listdir(sys.argv[-1])), flush=True)
    signal.raise_signal(signal.{name})
    raise AssertionError("it goes on")
signal.signal(signal.{name}, signal.SIG_DFL)
Model.predict = killed
sys.exit(program.main(sys.argv[1:-1]))
"""
    arguments = [str(tiny), str(tmp_path / "d.npy"), "--out", str(tmp_path / "o.csv")]
    done = child(RUN + code, "predict", *arguments, str(tmp_path))
    assert (done.returncode, done.stderr) == (-getattr(signal, name), "")
    assert re.search(r"\.o\.csv\.\w+\.part", done.stdout)
    assert (tmp_path / "o.csv").read_text() == "before"
    assert {path.name for path in tmp_path.iterdir()} == {"d.npy", "tiny.npz", "o.csv"}


def test_signals_are_as_before(tmp_path):
    """Within a program that answers signals itself, and in other threads, they are left alone."""
    before = signal.getsignal(signal.SIGTERM)
    with replacing(tmp_path / "a") as file:
        assert signal.getsignal(signal.SIGTERM) is not before
        file.write(b"1")
    assert signal.getsignal(signal.SIGTERM) is before
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    try:
        with replacing(tmp_path / "a") as file:
            assert signal.getsignal(signal.SIGTERM) is signal.SIG_IGN
            file.write(b"2")
    finally:
        signal.signal(signal.SIGTERM, before)

    def elsewhere():
        with replacing(tmp_path / "a") as file:
            file.write(b"3")

    thread = threading.Thread(target=elsewhere)
    thread.start()
    thread.join()
    assert (tmp_path / "a").read_bytes() == b"3"


def test_in_a_pipe(tiny, tmp_path):
    """As people run it, from the shell to the exit status."""
    (tmp_path / "d.csv").write_text("p,q\n1,0\n0,1\n")
    code = "import runpy, sys; sys.argv[0] = 'fastsoftmax'; runpy.run_module('fastsoftmax', run_name='__main__')"
    done = child(code, "predict", str(tiny), str(tmp_path / "d.csv"), FORCE_COLOR="1")
    assert (done.returncode, done.stdout, done.stderr) == (0, "prediction\na\nb\n", "")
    assert not CONTROL.search(done.stdout)
    done = child(code, "predict", str(tiny), str(tmp_path / "none.csv"))
    assert (done.returncode, done.stdout) == (2, "")
    assert "does not exist" in done.stderr


#: Predict with what the process may still allocate set to less than the file; the kernels are loaded before.
LIMITED = """
import resource, sys
import numpy as np
import fastsoftmax
from fastsoftmax.cli import program
model, first, data, out, room = sys.argv[1:]
assert program.main(["predict", model, first, "--out", out, "--proba"]) == 0
used = [int(line.split()[1]) for line in open("/proc/self/status") if line.startswith("VmData")][0] * 1024
limit = used + int(room)
resource.setrlimit(resource.RLIMIT_DATA, (limit, limit))
try:
    np.ones(2 * int(room) // 8)
except MemoryError:
    sys.exit(program.main(["predict", model, data, "--out", out, "--proba"]))
sys.exit("the limit does not hold")
"""


def _zeros(path, rows):
    """An array of `rows` rows of 1000 zeros: 8 kB a row, of which the disk keeps none or few."""
    if path.suffix == ".npy":
        np.lib.format.open_memmap(path, "w+", np.float64, (rows, 1000)).flush()
        return
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive, archive.open("X.npy", "w") as x:
        np.lib.format.write_array_header_1_0(x, {"descr": "<f8", "fortran_order": False, "shape": (rows, 1000)})
        for _ in range(0, rows, 1000):
            x.write(bytes(8000 * 1000))


@pytest.mark.skipif(not os.path.exists("/proc/self/status"), reason="needs Linux's limits and figures")
@pytest.mark.parametrize("ending", [".npy", ".npz"])
def test_larger_than_memory(ending, tmp_path):
    """160 MB in a process that may allocate 64 MB more than it has."""
    large, first, out = tmp_path / f"large{ending}", tmp_path / f"first{ending}", tmp_path / "o.npy"
    _zeros(large, 20000)
    _zeros(first, 3000)
    _save(tmp_path / "m.npz", np.ones((4, 1000)), np.log([1.0, 2.0, 3.0, 4.0]), np.arange(4))
    done = child(LIMITED, str(tmp_path / "m.npz"), str(first), str(large), str(out), str(64 << 20))
    assert (done.returncode, done.stderr) == (0, "")
    proba = np.load(out)
    assert proba.shape == (20000, 4)
    np.testing.assert_allclose(proba, np.tile([0.1, 0.2, 0.3, 0.4], (20000, 1)))
