"""Damaged and hostile NPY, NPZ and model files: refused in one line, before they cost time or memory."""

import io
import json
import random
import tracemalloc
import zipfile

import numpy as np
import pytest

from fastsoftmax.cli import model
from fastsoftmax.cli.errors import BadInput
from fastsoftmax.cli.files import arrayfile, sparsefile, table
from fastsoftmax.cli.files.open import open_table
from fastsoftmax.cli.files.table import Features
from fastsoftmax.cli.train import read

ROWS = 12
X, Y = np.arange(3.0 * ROWS).reshape(ROWS, 3) / 8, np.arange(ROWS) % 3
NAMED = np.zeros(ROWS, [("p", "f8"), ("q", "f4"), ("r", "i2"), ("y", "U1")])
NAMED["y"] = np.array(["a", "b", "c"])[Y]
SPARSE = {
    "format": "csr",
    "shape": X.shape,
    "data": X.ravel(),
    "indices": np.tile(np.arange(3), ROWS),
    "indptr": np.arange(0, X.size + 1, 3),
    "y": Y,
}


def _model(path, classes=("a", "b", "c")):
    known = Features(3, ("p", "q", "r"))
    with path.open("wb") as file:
        model.save(model.Model(np.eye(3), np.zeros(3), np.array(classes), known, {"target": "y"}), file)


FILES = {
    "array": ("d.npy", "-1", lambda path: np.save(path, np.c_[X, Y])),
    "fields": ("d.npy", "y", lambda path: np.save(path, NAMED)),
    "arrays": ("d.npz", "y", lambda path: np.savez(path, X=X, y=NAMED["y"])),
    "packed": ("d.npz", "y", lambda path: np.savez_compressed(path, X=np.asfortranarray(X), y=Y)),
    "sparse": ("d.npz", "y", lambda path: np.savez(path, **SPARSE)),
    "packed sparse": ("d.npz", "y", lambda path: np.savez_compressed(path, **SPARSE)),
    "model": ("d.npz", None, _model),
}


def _use(path, target):
    """Read all of a file, as the commands do."""
    if target is None:
        return model.load(path)
    data = read(open_table(path, target), target, lambda *_: None)
    assert len(data.y) == data.x.shape[0]
    assert data.y.max() < len(data.classes)
    return data


def _damage(content, draw):
    """Flipped bits, a part that is lost, repeated or overwritten, or the rest cut off."""
    damaged = bytearray(content)
    start, length = draw.randrange(len(content)), draw.randrange(1, 24)
    how = draw.randrange(8)
    if how < 4:
        for _ in range(draw.choice([1, 1, 2, 5])):
            damaged[draw.randrange(len(content))] ^= 1 << draw.randrange(8)
    elif how == 4:
        del damaged[start : start + length]
    elif how == 5:
        damaged[start:start] = damaged[start : start + length]
    elif how == 6:
        damaged[start : start + length] = draw.randbytes(length)
    else:
        del damaged[start + 1 :]
    return bytes(damaged)


@pytest.mark.parametrize("kind", FILES)
def test_damage_is_one_line(kind, tmp_path):
    """No other error than the one line comes out, whatever NumPy's parser and zipfile stumble over."""
    name, target, save = FILES[kind]
    path = tmp_path / name
    save(path)
    good, refused = path.read_bytes(), []
    _use(path, target)
    draw = random.Random(kind)
    for _ in range(400):
        path.write_bytes(_damage(good, draw))
        try:
            _use(path, target)
        except BadInput as error:
            refused.append(str(error))
    assert len(refused) > 50
    assert all(str(path) in line and len(line.splitlines()) == 1 for line in refused)


def _header(shape, dtype="<f8"):
    file = io.BytesIO()
    np.lib.format.write_array_header_1_0(file, {"descr": dtype, "fortran_order": False, "shape": shape})
    return file.getvalue()


def _claim(path, **members):
    """An archive of arrays that have headers and, where they are given, some bytes."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, (header, content) in members.items():
            archive.writestr(f"{name}.npy", header + content)


CLAIMS = {
    "rows": ({"X": (_header((10**13, 2)), b""), "y": (_header((10**13,), "<i8"), b"")}, "has shape"),
    "rows of nothing": (
        {"X": (_header((10**15, 0)), b""), "y": (_header((10**15,), "<U0"), b"")},
        "no columns besides",
    ),
    "labels of nothing": (
        {"X": (_header((1, 2)), bytes(16)), "y": (_header((10**15,), "<U0"), b"")},
        "must have shape",
    ),
    "negative": ({"X": (_header((-2, -1)), bytes(16)), "y": (_header((-2,), "<i8"), b"")}, "can be read"),
    "fewer": ({"X": (_header((1, 2)), bytes(32)), "y": (_header((1,), "<i8"), bytes(8))}, "and 32 bytes"),
    "cut": ({"X": (_header((2, 2)), bytes(31)), "y": (_header((2,), "<i8"), bytes(16))}, "and 31 bytes"),
}


@pytest.mark.parametrize("kind", CLAIMS)
def test_claims_are_compared_with_the_file(kind, tmp_path):
    members, says = CLAIMS[kind]
    _claim(tmp_path / "d.npz", **members)
    with pytest.raises(BadInput, match=says):
        _use(tmp_path / "d.npz", "y")


@pytest.mark.parametrize("columns", [10**13, 2])
def test_columns_of_no_rows(columns, tmp_path, monkeypatch):
    """No byte of the file bounds how many columns there are, so nothing may be made for each of them."""
    monkeypatch.setattr(arrayfile, "choose_numbered", lambda *_: pytest.fail("columns were listed"))
    (tmp_path / "d.npy").write_bytes(_header((0, columns)) + bytes(8))
    with pytest.raises(BadInput, match=r"has no rows|can be read"):
        open_table(tmp_path / "d.npy", "0")


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.longdouble])
def test_labels_of_floats(dtype):
    labels = table.array_labels(np.array([0, -3, 65504], dtype), "y")
    assert labels.dtype == np.int64
    assert labels.tolist() == [0, -3, 65504]
    for bad in (0.5, np.inf, np.nan):
        with pytest.raises(BadInput, match="a number that is no class"):
            table.array_labels(np.array([1, bad], dtype), "y")


def test_labels_of_bytes():
    assert table.array_labels(np.array(["ä".encode(), b"b"]), "y").tolist() == ["ä", "b"]
    with pytest.raises(BadInput, match="y holds bytes that are not text in UTF-8"):  # and no class of both
        table.array_labels(np.array([b"\xff", b"\xfe"]), "y")


@pytest.mark.parametrize("name", ["format", "shape"])
def test_sparse_matrix_that_unpacks_to_much(name, tmp_path, monkeypatch):
    """Only a name and two numbers are read as a whole."""
    monkeypatch.setattr(sparsefile, "whole_array", lambda *_: pytest.fail("it was unpacked"))
    arrays = {"indptr": [0, 1], "indices": [0], "data": [1.0], "format": np.array(b"csr"), "shape": [1, 2]}
    np.savez_compressed(tmp_path / "d.npz", **arrays | {name: np.zeros(1000, np.int64)})
    with pytest.raises(BadInput, match="longer than a name and two numbers"):
        open_table(tmp_path / "d.npz", None)


def test_header_that_unpacks_to_much(tmp_path):
    """NumPy reads all of a header before it finds that too long: 4 GB at most, of 4 MB that are packed."""
    size = 32 << 20
    header = b"\x93NUMPY\x02\x00" + size.to_bytes(4, "little")
    _claim(tmp_path / "d.npz", X=(header, b" " * size))
    tracemalloc.start()
    try:
        with pytest.raises(BadInput, match="can be read"):
            open_table(tmp_path / "d.npz", None)
        assert tracemalloc.get_traced_memory()[1] < size // 4
    finally:
        tracemalloc.stop()


SPARSE_CLAIMS = {
    "rows": (
        {"shape": (10**13, 3), "y": None},
        r"'indptr' has shape \(13,\) for a matrix of shape \(10000000000000, 3\)",
    ),
    "negative": ({"shape": (-1, 3)}, "for a matrix of shape"),
    "beyond": ({"indptr": np.r_[np.arange(0, 36, 3), 10**15]}, "passes the end of array 'data'"),
    "later": ({"indptr": np.arange(1, 38, 3)}, "begins after 0"),
    "wrapped": ({"indptr": np.r_[np.arange(0, 36, 3), -1].astype(np.uint64)}, "'indptr' goes down"),
    "floats": ({"indices": SPARSE["indices"] + 0.0}, "float64, not integers"),
    "large index": ({"indices": np.where(np.arange(36) == 7, 2**40, SPARSE["indices"])}, r"values outside \[0, 3\)"),
    "2-D": ({"data": X, "indices": SPARSE["indices"].reshape(X.shape)}, "is cut short"),
    "text": ({"shape": np.array(["a", "b"])}, "invalid literal"),
}


@pytest.mark.parametrize("kind", SPARSE_CLAIMS)
def test_claims_of_sparse_matrices(kind, tmp_path):
    changes, says = SPARSE_CLAIMS[kind]
    np.savez(tmp_path / "d.npz", **{name: array for name, array in (SPARSE | changes).items() if array is not None})
    with pytest.raises(BadInput, match=says):
        _use(tmp_path / "d.npz", "data" if kind == "rows" else "y")


def _size_in_directory(path, name, size):
    """Change what the directory of an archive says of the unpacked size of a member."""
    content = bytearray(path.read_bytes())
    at = content.rindex(name.encode()) - 46 + 24
    content[at : at + 4] = size.to_bytes(4, "little")
    path.write_bytes(content)


def test_directory_that_lies(tmp_path):
    path = tmp_path / "d.npz"
    np.savez_compressed(path, X=X, y=Y)
    _size_in_directory(path, "X.npy", 2**31)
    with pytest.raises(BadInput, match="array 'X' is said to be larger than the file can be"):
        _use(path, "y")


def test_other_packing(tmp_path):
    with zipfile.ZipFile(tmp_path / "d.npz", "w", zipfile.ZIP_LZMA) as archive:
        archive.writestr("X.npy", _header((1, 1)) + bytes(8))
    with pytest.raises(BadInput, match="packed by another method"):
        open_table(tmp_path / "d.npz", None)


def _peak(call):
    tracemalloc.start()
    try:
        call()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def test_model_with_one_member_more(tmp_path):
    """What a model has no use for is not unpacked."""
    path = tmp_path / "m.npz"
    _model(path)
    with zipfile.ZipFile(path, "a", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("more.npy", _header((16, 1 << 20)) + bytes(128 << 20))
    assert _peak(lambda: model.load(path)) < 4e6


def test_model_that_unpacks_to_too_much(tmp_path):
    path = tmp_path / "m.npz"
    _model(path)
    with np.load(path) as arrays:
        kept = {name: arrays[name] for name in arrays.files}
    np.savez_compressed(path, **kept)
    assert model.load(path).classes.tolist() == ["a", "b", "c"]
    np.savez_compressed(path, **kept | {"coef": np.zeros((3, 3 << 20))})

    def refused():
        with pytest.raises(BadInput, match="its arrays take more than 64 MB when they are unpacked"):
            model.load(path)

    assert _peak(refused) < 4e6


def test_parameters_that_nest_too_deep(tmp_path):
    path = tmp_path / "m.npz"
    _model(path)
    with np.load(path) as arrays:
        kept = {name: arrays[name] for name in arrays.files}
    np.savez(path, **kept | {"parameters": np.array("[" * 100_000)})
    with pytest.raises(BadInput, match="parameters is no JSON object"):
        model.load(path)


def test_text_that_is_none(tmp_path):
    """No character has such a number; Python's strings break with it."""
    labels = np.full(ROWS, 0x110000, np.uint32).view("U1")
    np.savez(tmp_path / "d.npz", X=X, y=labels)
    with pytest.raises(BadInput, match="characters that do not exist"):
        _use(tmp_path / "d.npz", "y")
    _model(tmp_path / "m.npz", np.array([1, 2, 0xD800], np.uint32).view("U1"))
    with pytest.raises(BadInput, match="is no model, or is damaged"):
        model.load(tmp_path / "m.npz")
    big_endian = np.array(["é", "𝄞"], ">U1")[Y % 2]
    np.savez(tmp_path / "d.npz", X=X, y=big_endian)
    assert _use(tmp_path / "d.npz", "y").classes.tolist() == ["é", "𝄞"]


def test_text_instead_of_an_array(tmp_path):
    (tmp_path / "d.npy").write_text("hello world, no array")
    with pytest.raises(BadInput, match=r"the magic string is not correct; .* got b'hello '"):
        open_table(tmp_path / "d.npy", "0")


def test_infinite_option_in_a_model_is_strict_json(tmp_path):
    with (tmp_path / "m.npz").open("wb") as file:
        known = model.Model(np.eye(3), np.zeros(3), np.arange(3), Features(3, ()), {"estimator": {"C": np.inf}})
        model.save(known, file)
    with np.load(tmp_path / "m.npz") as arrays:
        text = str(arrays["parameters"])
    assert json.loads(text, parse_constant=pytest.fail) == {"estimator": {"C": "inf"}}


def test_weights_that_are_not_finite_are_not_written(tmp_path):
    known = model.Model(np.full((3, 3), np.nan), np.zeros(3), np.arange(3), Features(3, ()), {})
    with pytest.raises(BadInput, match="the training came to no model: coef is not finite"):
        model.save(known, io.BytesIO())
