"""``python -m fastsoftmax train``: from files in each format to a model, its score, and a picture."""

import functools
import json
import os
import re
import stat
import struct
import sys

import numpy as np
import pytest
from scipy.sparse import csc_array, save_npz
from sklearn.datasets import load_digits
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import accuracy_score, confusion_matrix, log_loss
from sklearn.model_selection import train_test_split
from threadpoolctl import threadpool_limits

from fastsoftmax.cli import plot, program, score, train
from fastsoftmax.cli.errors import BadInput
from fastsoftmax.cli.files.table import Features
from fastsoftmax.cli.model import Model
from fastsoftmax.cli.model import load as load_model
from tests.pairs import exhaustive_but
from tests.support import child, on_terminal

CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f]")  # all but tabs and newlines
#: Each file of the fixture, and what holds its classes.
FILES = {
    "digits.csv": "target",
    "digits.tsv": "target",
    "digits.npy": "0",
    "named.npy": "target",
    "digits.npz": "y",
    "columnwise.npz": "y",
    "sparse.npz": "y",
}
#: The usual answer to SIGINT even where this process ignores it.
RUN = """
import signal, sys
from fastsoftmax.cli import program
signal.signal(signal.SIGINT, signal.default_int_handler)
"""
SMALL = "a,b,y\n" + "".join(f"{i % 7},{i % 5},{'pq'[i % 2]}\n" for i in range(40))


@pytest.fixture
def run(capsys):
    """The exit status, standard output and standard error of a command."""

    def call(*arguments):
        status = program.main([str(argument) for argument in arguments])
        printed = capsys.readouterr()
        return status, printed.out, printed.err

    return call


@pytest.fixture
def small(tmp_path):
    path = tmp_path / "small.csv"
    path.write_text(SMALL, "utf-8")
    return path


def _complaint(result):
    """The one line of a command that was refused."""
    status, out, err = result
    assert (status, out) == (2, "")
    assert err.endswith("\n")
    assert len(err.splitlines()) == 1
    return err


@functools.cache
def _expected():
    """What scikit-learn's classifier makes of the same rows, and those that are held out."""
    x, y = load_digits(return_X_y=True)
    fitted, held_out, known, truth = train_test_split(x / 16, y, test_size=360, stratify=y, random_state=3)
    with threadpool_limits(1):  # a tenth of a second: two threads of BLAS wait for each other a hundred times as long
        return LogisticRegression(C=0.5, tol=1e-8, max_iter=9000).fit(fitted, known), held_out, truth


@pytest.mark.parametrize("name", FILES)
def test_digits_from_each_format(name, digits_files, tmp_path, run):
    """The model is that of scikit-learn on the same rows, and so are the figures."""
    out = tmp_path / "model.npz"
    arguments = ["train", digits_files / name, "--target", FILES[name], "--out", out, "--C", 0.5, "--seed", 3, "--json"]
    status, printed, err = run(*arguments, "--max-iter", 5000, "--tol", 1e-8)
    assert (status, err) == (0, "")
    found = json.loads(printed)
    expected, held_out, truth = _expected()
    model = load_model(out)
    np.testing.assert_allclose(model.coef, expected.coef_, atol=1e-4)
    np.testing.assert_allclose(model.intercept, expected.intercept_, atol=1e-4)
    np.testing.assert_array_equal(model.classes, range(10))
    score = found["held_out"]
    assert score["accuracy"] == accuracy_score(truth, expected.predict(held_out)) > 0.95
    np.testing.assert_allclose(score["log_loss"], log_loss(truth, expected.predict_proba(held_out)), rtol=1e-3)
    matrix = np.zeros((10, 10), int)
    for cell in score["confusion"]:
        matrix[cell["class"], cell["predicted"]] = cell["rows"]
    np.testing.assert_array_equal(matrix, confusion_matrix(truth, expected.predict(held_out)))
    assert (found["rows"], score["rows"], found["features"], found["classes"]) == (1437, 360, 64, list(range(10)))
    assert found["converged"]
    assert found["parameters"]["C"] == 0.5


def test_model_file_is_arrays_only(small, tmp_path, run):
    out = tmp_path / "model.npz"
    assert run("train", small, "--target", "y", "--out", out)[0] == 0
    with np.load(out, allow_pickle=False) as arrays:
        found = {name: arrays[name] for name in arrays.files}
    assert set(found) == {"format", "version", "coef", "intercept", "classes", "feature_names", "parameters"}
    assert found["classes"].tolist() == ["p", "q"]
    assert found["feature_names"].tolist() == ["a", "b"]
    assert found["coef"].shape == (1, 2)
    parameters = json.loads(str(found["parameters"]))
    assert parameters["target"] == "y"
    assert parameters["rows"] == 32
    assert parameters["estimator"]["solver"] == "lbfgs"


def test_model_is_named_after_the_data(small, tmp_path, run, monkeypatch):
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    status, out, _ = run("train", small, "--target", "y")
    assert status == 0
    assert out.endswith("The model is in small.model.npz\n")
    assert os.listdir() == ["small.model.npz"]


def test_text(digits_files, tmp_path, run):
    status, out, err = run("train", digits_files / "digits.csv", "--target", "target", "--out", tmp_path / "m.npz")
    assert (status, err) == (0, "")
    assert "1437 rows, 64 features, 10 classes" in out
    assert float(re.search(r"360 rows, accuracy (0\.\d{4}), log-loss 0\.\d{4}", out)[1]) > 0.95
    table = out[out.index("  class") :].splitlines()[:11]
    assert table[0].split() == ["class", *map(str, range(10))]
    cells = [[0 if cell == "." else int(cell) for cell in line.split()[1:]] for line in table[1:]]
    assert np.sum(cells) == 360
    assert np.trace(cells) / 360 > 0.95
    assert len(set(map(len, table))) == 1


def _model(classes, features=2):
    rows = len(classes) if len(classes) > 2 else 1
    return Model(np.ones((rows, features)), np.zeros(rows), np.array(classes), Features(features, ()), {})


def test_many_classes_are_listed_by_confusions():
    """Where a table would have 40 columns the most frequent confusions stand, with how many there are."""
    known = score.Score(_model([f"class {i}" for i in range(40)]))
    truth = np.repeat(np.arange(40), np.arange(40))  # class k has k rows
    known.add(np.zeros((len(truth), 2)), truth, np.where(truth >= 25, truth - 1, truth))
    lines = known.text().splitlines()
    assert "the 10 most frequent of 15, as 40 classes" in lines[0]
    assert [line.split() for line in lines[2:4]] == [
        ["class", "39", "taken", "for", "class", "38", "39", "of", "39", "rows"],
        ["class", "38", "taken", "for", "class", "37", "38", "of", "38", "rows"],
    ]
    assert len(lines) == 12
    np.testing.assert_allclose(known.log_loss, np.log(40))


def test_rows_of_the_table_are_classes():
    known = score.Score(_model(["a", "b", "c"]))
    known.add(np.zeros((3, 2)), np.array([0, 0, 1]), np.array([2, 2, 1]))
    np.testing.assert_array_equal(known.matrix(), [[0, 0, 2], [0, 1, 0], [0, 0, 0]])


def test_not_converged_says_so(small, tmp_path, run):
    out = tmp_path / "m.npz"
    status, text, err = run("train", small, "--target", "y", "--out", out, "--max-iter", 1, "--tol", "1e-12")
    assert (status, err) == (0, "")
    assert "1 iterations" in text
    assert "NOT CONVERGED, raise --max-iter or scale the features\n" in text
    assert out.exists()
    assert not json.loads(run("train", small, "--target", "y", "--out", out, "--max-iter", 1, "--json")[1])["converged"]


def test_more_iterations_are_advised_only_where_they_ran_out(tmp_path, run):
    """They do not help where coefficients in float32 are too coarse: the advice is another dtype."""
    first = np.random.default_rng(0).standard_normal(12).astype(np.float32)
    x = np.stack([first, first / np.float32(3)], axis=1)  # the difference, of rounding, tells the classes
    np.savez(tmp_path / "coarse.npz", X=x, y=(x.astype(np.float64) @ [1, -3] > 0) * 1)
    arguments = ["train", tmp_path / "coarse.npz", "--target", "y", "--out", tmp_path / "m.npz", "--test-size", 0]
    status, text, err = run(*arguments, "--C", "inf", "--tol", "1e-8", "--max-iter", 5000)
    assert (status, err) == (0, "")
    assert "NOT CONVERGED, coefficients in float32" in text
    assert "pass X as float64" in text
    assert "max-iter" not in text


def test_all_rows(small, tmp_path, run):
    status, text, _ = run("train", small, "--target", "y", "--out", tmp_path / "m.npz", "--test-size", 0)
    assert status == 0
    assert "40 rows" in text
    assert "Held out" not in text


def test_without_a_penalty(small, tmp_path, run):
    """--C inf is what C=inf is to the estimator; in JSON, which has no infinity, it is a string."""
    arguments = ["--target", "y", "--out", tmp_path / "m.npz", "--C", "inf", "--max-iter", 1000, "--tol", 1e-8]
    status, out, err = run("train", small, *arguments, "--test-size", 0, "--json")
    assert (status, err) == (0, "")
    assert json.loads(out, parse_constant=pytest.fail)["parameters"]["C"] == "inf"
    rows = np.array([[i % 7, i % 5] for i in range(40)], float)
    expected = LogisticRegression(C=np.inf, tol=1e-10, max_iter=9000).fit(rows, np.arange(40) % 2)
    np.testing.assert_allclose(load_model(tmp_path / "m.npz").coef, expected.coef_, atol=1e-5)


def test_long_names_of_classes(tmp_path, run):
    """They are learnt, written and predicted as they are."""
    data, out, names = tmp_path / "d.csv", tmp_path / "m.npz", ["l" * 50_000, "s"]
    data.write_text("a,b,y\n" + "".join(f"{i % 2},1,{names[i % 2]}\n" for i in range(40)), "utf-8")
    assert run("train", data, "--target", "y", "--out", out)[::2] == (0, "")
    assert run("predict", out, data)[1].split() == ["prediction", *names * 20]


def test_classes_that_leave_the_training(monkeypatch):
    """A class of which every row is held out is not learnt: an error, where scores would be those of other classes."""
    import sklearn.model_selection

    def unlucky(x, y, **_):
        return x[:4], x[4:], y[:4], y[4:]

    monkeypatch.setattr(sklearn.model_selection, "train_test_split", unlucky)
    x, y = np.ones((8, 1)), np.array([0, 0, 1, 1, 0, 1, 2, 2])
    with pytest.raises(BadInput, match="leaves no row to learn these classes from: r; give it a smaller part"):
        train.split(train.Examples(x, y, np.array(["p", "q", "r"])), 0.5, 0)


def test_seed_decides_the_split(small, tmp_path, run):
    def coef(seed):
        assert run("train", small, "--target", "y", "--out", tmp_path / "m.npz", "--seed", seed)[0] == 0
        return load_model(tmp_path / "m.npz").coef

    np.testing.assert_array_equal(coef(1), coef(1))
    assert not np.array_equal(coef(1), coef(2))


@pytest.mark.parametrize(
    ("cells", "classes"),
    [
        (["1", "2", "-3"], [-3, 1, 2]),
        (["007", "7", "x"], ["007", "7", "x"]),
        (["01", "1", "2"], ["01", "1", "2"]),
        (["NA", "None", "nan"], ["NA", "None", "nan"]),
        ([" a", "a ", "b"], ["a", "b"]),
        (["True", "False", "True"], ["False", "True"]),
        (['"a,b"', '"c\nd"', "é"], ["a,b", "c\nd", "é"]),
        (["123456789012345678901", "2", "3"], ["123456789012345678901", "2", "3"]),
    ],
)
def test_classes_of_text(cells, classes, tmp_path, run):
    """Integers only where every cell is one as Python writes it; missing is nothing but an empty cell."""
    data, out = tmp_path / "d.csv", tmp_path / "m.npz"
    data.write_text("y,a\n" + "".join(f"{cells[i % 3]},{i % 3}\n" for i in range(30)), "utf-8-sig")
    status, _, err = run("train", data, "--target", "y", "--out", out)
    assert (status, err) == (0, "")
    assert load_model(out).classes.tolist() == classes


@pytest.mark.parametrize("dtype", [np.int8, np.uint16, np.bool_, "S3", "U2"])
def test_classes_of_arrays(dtype, tmp_path, run):
    y = (np.arange(30) % 2).astype(dtype)
    np.savez(tmp_path / "d.npz", x=np.arange(30.0).reshape(-1, 1) % 4, y=y)
    assert run("train", tmp_path / "d.npz", "--target", "y", "--out", tmp_path / "m.npz")[0] == 0
    known = load_model(tmp_path / "m.npz").classes
    assert known.tolist() == (["0", "1"] if isinstance(dtype, str) else np.unique(y).tolist())


def test_names_cannot_write_on_the_terminal(tmp_path, run):
    data = tmp_path / "d.csv"
    data.write_text("y,a\n" + "".join(f"\x1b[3{i % 2}m,{i % 3}\n" for i in range(30)), "utf-8")
    status, out, err = run("train", data, "--target", "y", "--out", tmp_path / "m.npz")
    assert (status, err) == (0, "")
    assert r"\x1b[30m" in out
    assert not CONTROL.search(out)
    assert not CONTROL.search(_complaint(run("train", data, "--target", "\x1b[31m", "--out", tmp_path / "m.npz")))


def _png_size(path):
    head = path.read_bytes()[:24]
    assert head[:8] == b"\x89PNG\r\n\x1a\n"
    return struct.unpack(">II", head[16:])


@pytest.mark.parametrize("test_size", ["0.2", "0"])
def test_plot(test_size, digits_files, tmp_path, run):
    pytest.importorskip("matplotlib")
    picture = tmp_path / "picture.png"
    arguments = ["--target", "target", "--out", tmp_path / "m.npz", "--plot", picture, "--test-size", test_size]
    status, out, err = run("train", digits_files / "digits.csv", *arguments)
    assert (status, err) == (0, "")
    assert out.endswith(f"The picture is in {picture}\n")
    width, height = _png_size(picture)
    assert 600 <= width <= 3000
    assert 400 <= height <= 2000


def test_plot_shows_what_is_known(monkeypatch):
    """The line is the losses, the colours are shares of the class, and the numbers are the counts."""
    from matplotlib.figure import Figure

    drawn = []
    monkeypatch.setattr(Figure, "savefig", lambda self, *_, **__: drawn.append(self))
    matrix = np.array([[3, 1, 0], [0, 4, 0], [2, 0, 2]])
    plot.png([3.0, 2.0, 1.5], matrix, np.array(["a", "b", "c"]))
    curve, cells = drawn[0].axes[:2]
    np.testing.assert_array_equal(curve.lines[0].get_xydata(), [[1, 3], [2, 2], [3, 1.5]])
    np.testing.assert_allclose(cells.images[0].get_array(), matrix / 4)
    assert cells.images[0].get_cmap().name == "cividis"
    assert [(t.get_text(), t.get_position()) for t in cells.texts] == [
        ("3", (0, 0)),
        ("1", (1, 0)),
        ("4", (1, 1)),
        ("2", (0, 2)),
        ("2", (2, 2)),
    ]
    assert [label.get_text() for label in cells.get_xticklabels()] == ["a", "b", "c"]
    assert cells.get_xlabel()
    assert cells.get_ylabel()
    plot.png([3.0, 2.0], np.eye(100), np.arange(100))
    assert not drawn[1].axes[1].texts


@pytest.mark.parametrize(
    ("option", "value", "says"),
    [
        ("--plot", "picture.jpg", r"does not end in \.png"),
        ("--plot", "missing/picture.png", "is no folder"),
        ("--plot", "folder.png", "is no regular file"),
        ("--out", "model.pkl", r"does not end in \.npz"),
        ("--out", "missing/model.npz", "is no folder"),
        ("--out", "folder.npz", "is no regular file"),
    ],
)
def test_places_are_checked_before_training(option, value, says, small, tmp_path, run, monkeypatch):
    monkeypatch.setattr(train, "open_table", lambda *_: pytest.fail("the data were read"))
    monkeypatch.chdir(tmp_path)
    (tmp_path / "folder.png").mkdir()
    (tmp_path / "folder.npz").mkdir()
    others = [] if option == "--out" else ["--out", "m.npz"]
    assert re.search(says, _complaint(run("train", small, "--target", "y", option, value, *others)))


def test_data_are_not_overwritten(tmp_path, run):
    data = tmp_path / "d.npz"
    np.savez(data, X=np.ones((3, 2)), y=np.arange(3))
    before = data.read_bytes()
    assert "is an input as well" in _complaint(run("train", data, "--target", "y", "--out", data))
    assert data.read_bytes() == before


BAD_TEXT = {
    "nothing": ("", "is empty"),
    "blank": ("\n1,2\n", "its first line must name the columns"),
    "header only": ("a,y\n", "has no rows"),
    "no features": ("y\np\nq\np\nq\n", "has no columns besides the target"),
    "no target": ("a,b\n1,2\n", r"no column 'y'; it has: a, b"),
    "twice": ("a,a,y\n1,2,p\n", "columns of the same name: 'a'"),
    "missing": (SMALL + "1,,p\n", r"row 41, column 'b' \(the one below the header is row 1\) holds a missing value"),
    "nan": (SMALL + "nan,2,p\n", "row 41, column 'a' .* holds a missing value or NaN"),
    "infinite": (SMALL + "2,-inf,p\n", "row 41, column 'b' .* holds -inf"),
    "too large": (SMALL + "2,1e999,p\n", "row 41, column 'b' .* holds inf"),
    "text": (SMALL + "blue,2,p\n", "row 41, column 'a' .* holds 'blue', which is not a number"),
    "short": (SMALL + "1\n", "row 41.* has no class|row 41, column 'b'"),
    "long": (SMALL + "1,2,p,4\n", "row 41 .* has more cells than the header has names"),
    "longer": (SMALL + "1,2,p,4,5\n", "line 42 has 5 cells, more cells than the header has names"),
    "all long": ("a,y\n1,p,3\n2,q,3\n", "header"),
    "quote": (SMALL + '1,2,"p\n', "EOF inside string"),
    "no class": (SMALL + "1,2,\n", "row 41 .* has no class in column 'y'"),
    "decimals": ("a,y\n1,0.5\n2,1.5\n", "holds 0.5, a number that is no class"),
    "two ways": ("a,y\n1,0.0\n2,1\n3,1.0\n", "writes one class as 1 and as 1.0; write it in one way"),
    "one class": ("a,y\n1,p\n2,p\n", "all 2 rows are of class 'p'"),
    "single": (SMALL + "1,2,r\n", "classes with a single row .*: r; .*--test-size 0"),
    "few rows": ("a,y\n1,p\n2,p\n3,q\n4,q\n", "holds out 1 of 4 rows"),
    "latin-1": (SMALL.encode() + "1,2,é\n".encode("latin-1"), "not text in UTF-8"),
}


@pytest.mark.parametrize("kind", BAD_TEXT)
def test_bad_text(kind, tmp_path, run):
    content, says = BAD_TEXT[kind]
    data, out = tmp_path / "d.csv", tmp_path / "m.npz"
    data.write_bytes(content if isinstance(content, bytes) else content.encode())
    err = _complaint(run("train", data, "--target", "y", "--out", out))
    assert re.search(says, err)
    assert str(data) in err or kind in {"one class", "single", "few rows"}
    assert [path.name for path in tmp_path.iterdir()] == ["d.csv"]


X, Y = np.arange(40.0).reshape(20, 2), np.arange(20) % 2
BAD_ARRAYS = {
    "1-D": (X[:, 0], "0", r"has shape \(20,\); it must be 2-D"),
    "3-D": (X[None], "0", "must be 2-D"),
    "no rows": (X[:0], "0", "has no rows|no NPY file"),
    "only the target": (X[:, :1], "0", "has no columns besides the target"),
    "column": (X, "2", "give the column's index, from -2 to 1"),
    "name": (X, "y", "has 2 columns without names"),
    "complex": (X * 1j, "0", "complex128, which is not numeric"),
    "text": (X.astype(str), "0", "not numeric"),
    "objects": (X.astype(object), "0", "it holds Python objects"),
    "nan": (np.where(X == 7, np.nan, X), "0", r"row 3, column '1' \(rows are counted from 0\) holds a missing value"),
    "decimals": (X + 0.5, "1", "holds 1.5, a number that is no class"),
    "NaN class": (np.where(X == 6, np.nan, X), "0", "holds nan, a number that is no class"),
    "no field": (np.zeros(9, [("a", "f4"), ("b", "i4")]), "y", "no column 'y'; it has: a, b"),
    "field of text": (np.zeros(9, [("a", "U4"), ("y", "i4")]), "y", "column 'a' has dtype <U4, which is not numeric"),
    "field of arrays": (np.zeros(9, [("a", "f4", 3), ("y", "i4")]), "y", "fields that are arrays"),
}


@pytest.mark.parametrize("kind", BAD_ARRAYS)
def test_bad_npy(kind, tmp_path, run):
    array, target, says = BAD_ARRAYS[kind]
    np.save(tmp_path / "d.npy", array)
    err = _complaint(run("train", tmp_path / "d.npy", "--target", target, "--out", tmp_path / "m.npz"))
    assert re.search(says, err)
    assert [path.name for path in tmp_path.iterdir()] == ["d.npy"]


BAD_ARCHIVES = {
    "no target": ({"X": X}, "no array 'y' for the target; it has: X"),
    "no features": ({"y": Y}, r"has 0 arrays with two axes \(none\)"),
    "two": ({"a": X, "b": X, "y": Y}, r"has 2 arrays with two axes \(a, b\); name that of the features X"),
    "1-D": ({"X": X[:, 0], "y": Y}, r"array 'X' has shape \(20,\)"),
    "lengths": ({"X": X, "y": Y[:-1]}, r"array 'y' has shape \(19,\); the target must have shape \(20,\)"),
    "2-D target": ({"X": X, "y": Y[:, None]}, r"array 'y' has shape \(20, 1\)"),
    "no rows": ({"X": X[:0], "y": Y[:0]}, "has no rows"),
    "nan": ({"X": np.where(X == 7, np.nan, X), "y": Y}, "row 3, column '1'"),
    "text": ({"X": X.astype(str), "y": Y}, "not numeric"),
    "decimals": ({"X": X, "y": Y + 0.5}, "holds 0.5, a number that is no class"),
    "dates": ({"X": X, "y": Y.astype("M8[s]")}, "datetime64"),
    "objects": ({"X": X, "y": Y.astype(object)}, "it holds Python objects"),
}


@pytest.mark.parametrize("kind", BAD_ARCHIVES)
def test_bad_npz(kind, tmp_path, run):
    arrays, says = BAD_ARCHIVES[kind]
    np.savez(tmp_path / "d.npz", **arrays)
    err = _complaint(run("train", tmp_path / "d.npz", "--target", "y", "--out", tmp_path / "m.npz"))
    assert re.search(says, err)
    assert [path.name for path in tmp_path.iterdir()] == ["d.npz"]


def test_bad_sparse(tmp_path, run):
    data, out = tmp_path / "d.npz", tmp_path / "m.npz"
    save_npz(data, csc_array(X))
    assert "in format 'csc', shape (20, 2); save x.tocsr()" in _complaint(
        run("train", data, "--target", "data", "--out", out)
    )
    good = {"format": "csr", "shape": (20, 2), "data": X.ravel(), "indptr": np.arange(0, 41, 2), "y": Y}
    np.savez(data, **good, indices=np.tile([0, 2], 20))
    assert "values outside [0, 2)" in _complaint(run("train", data, "--target", "y", "--out", out))
    np.savez(data, **good | {"data": np.where(X == 7, np.nan, X).ravel()}, indices=np.tile([0, 1], 20))
    assert "row 3, column '1'" in _complaint(run("train", data, "--target", "y", "--out", out))
    np.savez(data, **good | {"data": X.ravel()[:-1]}, indices=np.tile([0, 1], 20))
    assert "'data' is cut short" in _complaint(run("train", data, "--target", "y", "--out", out))
    np.savez(data, **good | {"y": Y[1:]}, indices=np.tile([0, 1], 20))
    assert "19 labels for 20 rows" in _complaint(run("train", data, "--target", "y", "--out", out))
    np.savez(data, **good | {"indptr": np.arange(0, 41, 2)[::-1]}, indices=np.tile([0, 1], 20))
    assert "'indptr' goes down" in _complaint(run("train", data, "--target", "y", "--out", out))


@pytest.mark.parametrize("ending", [".csv", ".npy", ".npz"])
def test_bad_files(ending, tmp_path, run):
    """What is not there, a folder, an empty file, and a file that is something else, whole or in part."""
    data, out = tmp_path / f"d{ending}", tmp_path / "m.npz"

    def refused():
        err = _complaint(run("train", data, "--target", "y", "--out", out))
        assert str(data) in err
        return err

    assert "does not exist" in refused()
    data.mkdir()
    assert "is a directory" in refused()
    data.rmdir()
    data.touch()
    assert "is empty" in refused()
    data.write_bytes(b"\x93\xff\x00\x80" * 50)
    refused()
    assert not out.exists()


def test_other_formats(tmp_path, run):
    (tmp_path / "d.parquet").write_bytes(b"PAR1")
    assert "does not end in one of .csv" in _complaint(run("train", tmp_path / "d.parquet", "--target", "y"))


def test_place_that_cannot_be_written(small, tmp_path, run, monkeypatch):
    """Whatever the operating system says, here as a full disk says it when the model is written."""

    def full(*_, **__):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(np, "savez", full)
    err = _complaint(run("train", small, "--target", "y", "--out", tmp_path / "m.npz"))
    assert "m.npz: No space left on device" in err
    assert [path.name for path in tmp_path.iterdir()] == ["small.csv"]


@pytest.mark.skipif(os.name != "posix" or os.geteuid() == 0, reason="root may write everywhere")
def test_folder_without_permission(small, tmp_path, run):
    (tmp_path / "closed").mkdir(mode=0o500)
    err = _complaint(run("train", small, "--target", "y", "--out", tmp_path / "closed" / "m.npz"))
    assert "Permission denied" in err


@pytest.mark.skipif(os.name != "posix", reason="modes and links are POSIX's")
def test_replaced_file_keeps_mode_and_link(small, tmp_path, run):
    real, link = tmp_path / "real.npz", tmp_path / "link.npz"
    real.write_text("old")
    real.chmod(0o640)
    link.symlink_to(real)
    assert run("train", small, "--target", "y", "--out", link)[0] == 0
    assert link.is_symlink()
    assert load_model(real).classes.tolist() == ["p", "q"]
    assert stat.S_IMODE(real.stat().st_mode) == 0o640
    mask = os.umask(0o027)
    try:
        assert run("train", small, "--target", "y", "--out", tmp_path / "new.npz")[0] == 0
    finally:
        os.umask(mask)
    assert stat.S_IMODE((tmp_path / "new.npz").stat().st_mode) == 0o640


@pytest.mark.parametrize(
    ("module", "package", "arguments"),
    [("pandas", "pandas", []), ("sklearn", "scikit-learn", []), ("matplotlib", "matplotlib", ["--plot", "p.png"])],
)
def test_missing_extra(module, package, arguments, small, tmp_path, run, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setitem(sys.modules, module, None)
    err = _complaint(run("train", small, "--target", "y", *arguments))
    assert re.search(rf"-m pip install .*{package}", err)


@pytest.mark.parametrize(
    "arguments",
    [
        ["--test-size", "1"],
        ["--test-size", "nan"],
        ["--C", "0"],
        ["--C", "much"],
        ["--tol", "inf"],
        ["--max-iter", "0"],
        ["--solver", "saga"],
        ["--seed", "-1"],
        ["--learning-rate", "fast"],
        ["--momentum", "1"],
    ],
)
def test_wrong_usage(arguments, small, capsys):
    with pytest.raises(SystemExit) as exit_:
        program.main(["train", str(small), "--target", "y", *arguments])
    assert exit_.value.code == 2
    assert f"argument {arguments[0]}" in capsys.readouterr().err


@pytest.mark.parametrize("command", ["train", "predict"])
def test_help(command, capsys):
    with pytest.raises(SystemExit) as exit_:
        program.main([command, "--help"])
    assert exit_.value.code == 0
    printed = capsys.readouterr().out
    for expected in ("--target", "--out", ".npz", "scipy.sparse.save_npz", "exit status", "--json"):
        assert expected in printed
    assert max(map(len, printed.splitlines())) <= 120


def test_in_a_pipe(small, tmp_path):
    done = child(f"{RUN}sys.exit(program.main(sys.argv[1:]))", "train", str(small), "--target", "y", "--out",
                 str(tmp_path / "m.npz"), FORCE_COLOR="1")  # fmt: skip
    assert (done.returncode, done.stderr) == (0, "")
    assert "Held out" in done.stdout
    assert not CONTROL.search(done.stdout)


def test_on_a_terminal(small, tmp_path):
    arguments = ["train", str(small), "--target", "y", "--out", str(tmp_path / "m.npz")]
    done, shown = on_terminal(f"{RUN}sys.exit(program.main(sys.argv[1:]))", *arguments)
    assert done.returncode == 0
    assert b"\x1b[" in shown
    assert b"Reading" in shown
    assert not CONTROL.search(done.stdout)


@pytest.mark.parametrize("where", exhaustive_but(["_train"], ["read", "_train", "_evaluate"]))
def test_interrupted(where, small, tmp_path):
    """An interruption at any stage ends the run with one line, and with nothing written."""
    interrupt = f"""
from fastsoftmax.cli import train
stage = train.{where}
def interrupted(*arguments):
    signal.raise_signal(signal.SIGINT)
    return stage(*arguments)
train.{where} = interrupted
sys.exit(program.main(sys.argv[1:]))
"""
    done = child(RUN + interrupt, "train", str(small), "--target", "y", "--out", str(tmp_path / "m.npz"))
    assert (done.returncode, done.stdout, done.stderr) == (130, "", "interrupted\n")
    assert [path.name for path in tmp_path.iterdir()] == ["small.csv"]


@pytest.mark.parametrize("options", [("--learning-rate", "1e300"), ("--learning-rate", "1e5", "--batch-size", "8")])
def test_descent_that_diverges_leaves_no_model(run, small, options):
    places = small, "--target", "y", "--out", small.parent / "model.npz"
    status, out, err = run("--json", "train", *places, "--solver", "sgd", *options)
    assert (status, out) == (2, "")
    assert "the data cannot be learnt from: the descent diverged" in err
    assert "lower learning_rate=" in err
    assert list(small.parent.iterdir()) == [small]
