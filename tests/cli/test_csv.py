"""What the command line makes of CSV files, cell by cell: neither chunks nor other packages change it."""

import random
import re
import tracemalloc

import numpy as np
import pytest

from fastsoftmax.cli.errors import BadInput
from fastsoftmax.cli.files import csvfile
from fastsoftmax.cli.files.open import open_table
from fastsoftmax.cli.files.table import Features, text_array, text_classes
from fastsoftmax.cli.train import read
from tests.support import child

CHUNKS = [1, 2, 3, 1000]


@pytest.fixture(params=CHUNKS)
def chunk(request, monkeypatch):
    """Every length of a chunk: whatever is read, its ends make no difference."""
    monkeypatch.setattr("fastsoftmax.cli.files.table.MOST_ROWS", request.param)
    return request.param


@pytest.fixture
def table(tmp_path):
    """The features and labels in a text."""

    def call(text, target="y", wanted=None, ending="csv"):
        path = tmp_path / f"d.{ending}"
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
        blocks = list(open_table(path, target, wanted).blocks())
        labels = [name for block in blocks for name in block.labels or []]
        return np.concatenate([block.x for block in blocks]), labels

    return call


CELLS = {
    "whole": (["0", "-3", "12"], [0, -3, 12]),
    "beyond 64 bits": (["1", "36893488147419103232", "-9223372036854775809"], [1, 2.0**65, -(2.0**63)]),
    "beyond 53 bits": (["9007199254740993", "1", "18446744073709551615"], [2.0**53, 1, 2.0**64]),
    "truth": (["True", "False", "True"], [1, 0, 1]),
    "truth and numbers": (["1.5", "true", "FALSE"], [1.5, 1, 0]),
    "signs and points": (["+1", "-.5", "2."], [1, -0.5, 2]),
    "exponents": (["1e3", "1E-2", "-2e+1"], [1000, 0.01, -20]),
    "nearest": (["0.1", "2.2250738585072011e-308", "1e-400"], [0.1, 2.2250738585072011e-308, 0]),
    "halfway": (["0.30000000000000001665334536", "0.30000000000000001665334537", "1"], [0.3, 0.30000000000000004, 1]),
    "blanks": ([" 1", "2 ", "  3 "], [1, 2, 3]),
    "quotes": (['"1"', '"2"', '" 3"'], [1, 2, 3]),
    "blanks before quotes": ([' "1"', ' "2"', "3"], [1, 2, 3]),
    "late blanks before quotes": (["1", "2", ' "3"'], [1, 2, 3]),
}


@pytest.mark.parametrize("kind", CELLS)
def test_numbers(kind, table, chunk):
    cells, expected = CELLS[kind]
    x, labels = table("y,a,b\n" + "".join(f"p,{cell},{i}.25\n" for i, cell in enumerate(cells)))
    np.testing.assert_array_equal(x, np.c_[expected, [0.25, 1.25, 2.25]])
    assert labels == ["p"] * 3


LAYOUTS = {
    "plain": "a,y,b\n1,p,2\n3,q,4\n",
    "no end": "a,y,b\n1,p,2\n3,q,4",
    "carriage returns": "a,y,b\r\n1,p,2\r\n3,q,4\r\n",
    "old Macintosh": "a,y,b\r1,p,2\r3,q,4\r",
    "mark": "\ufeffa,y,b\n1,p,2\n3,q,4\n",
    "semicolons": "a;y;b\n1;p;2\n3;q;4\n",
    "tabs": "a\ty\tb\n1\tp\t2\n3\tq\t4\n",
    "quoted header": '"a", "y" ,"b"\n1,"p",2\n3, "q",4\n',
    "commas at the end": "a,y,b\n1,p,2,\n3,q,4,\n",
    "a comma at the end": "a,y,b\n1,p,2\n3,q,4, \n",
    "commas in the header too": "a,y,b,,\n1,p,2,,\n3,q,4,,,\n",
    "blank lines at the end": "a,y,b\n1,p,2\n3,q,4\n\n\r\n\n",
    "unused text": 'a,y,b,note\n1,p,2,"x,\ny"\n3,q,4,\n',
    "order": "b,note,y,a\n2,,p,1\n4,,q,3\n",
}


@pytest.mark.parametrize("kind", LAYOUTS)
def test_layouts(kind, table, chunk):
    x, labels = table(LAYOUTS[kind], wanted=Features(2, ("a", "b")))
    np.testing.assert_array_equal(x, [[1, 2], [3, 4]])
    assert labels == ["p", "q"]


def test_tabs_are_a_matter_of_the_ending(table):
    x, labels = table("a,b\ty\n1\tp;q\n", ending="tsv")
    assert (x.tolist(), labels) == ([[1]], ["p;q"])


FAULTS = {
    "blank line": (
        "a,y,b\n1,p,2\n\n3,q,4\n",
        r"row 2 \(the one below the header is row 1\) is an empty line; remove it",
    ),
    "blank line of spaces": ("a,y,b\n1,p,2\n  \n3,q,4\n", "row 2, column 'a' .* holds a missing value"),
    "row of commas": ("a,y,b\n1,p,2\n,,\n", "row 2 .* is an empty line"),
    "truth with a gap": ("y,a,b\np,True,1\np,False,2\np,,3\n", "row 3, column 'a' .* holds a missing value"),
    "gap after a large one": ("y,a,b\np,36893488147419103232,1\np,two,2\n", "row 2, column 'a' .* holds 'two'"),
    "underscore": ("y,a,b\np,1,2\np,10_20,3\n", "row 2, column 'a' .* holds '10_20', which is not a number"),
    "other digits": ("y,a,b\np,1,2\np,١,3\n", "row 2, column 'a' .* holds '١', which is not a number"),
    "hexadecimal": ("y,a,b\np,1,2\np,0x10,3\n", "row 2, column 'a' .* holds '0x10', which is not a number"),
    "decimal comma": (
        "y;a;b\np;1,5;2\n",
        "row 1, column 'a' .* holds '1,5', .*write numbers with a decimal point and no",
    ),
    "thousands": (
        'y,a,b\np,"1,000.5",2\n',
        "row 1, column 'a' .* holds '1,000.5', .*write numbers with a decimal point and no",
    ),
    "not available": ("y,a,b\np,1,2\np,N/A,3\n", "row 2, column 'a' .* holds a missing value"),
    "NaN": ("y,a,b\np,1,2\np,NaN,3\n", "row 2, column 'a' .* holds a missing value or NaN"),
    "infinity": ("y,a,b\np,1,2\np,-Infinity,3\n", "row 2, column 'a' .* holds -inf"),
    "infinity and text": ("y,a,b\np,1,2\np,inf,x\n", "row 2, column 'b' .* holds 'x'"),
    "a cell more": ("y,a,b\np,1,2\np,3,4,5\n", "row 2 .* has more cells than the header has names"),
    "no class": ("y,a,b\np,1,2\n ,3,4\n", "row 2 .* has no class in column 'y'"),
    "NUL": ("y,a,b\np,1,2\np,1\0,2\n", "holds NUL characters"),
    "UTF-16": ("y,a,b\np,1,2\n".encode("utf-16"), "is not text in UTF-8"),
    "numbers on top": ("1.5,2.5,y\n3,4,p\n".replace("y", "7").replace("p", "8"), "begins with numbers, 1.5, 2.5, 7"),
    "no header": ("\n1,2,3\n", "begins with an empty line"),
    "twice": ("a,b,a,b,,,y\n", "columns of the same name: 'a', 'b'"),
}


@pytest.mark.parametrize("kind", FAULTS)
def test_faults(kind, table, chunk):
    content, says = FAULTS[kind]
    with pytest.raises(BadInput, match=says):
        table(content, target="7" if kind == "numbers on top" else "y")


@pytest.mark.parametrize("text", ["a\n1\n\n3\n", "a\n1\n3\n\n", 'a\n1\n""\n3\n', "a\n1\n \n"])
def test_lines_of_one_column_are_rows(text, table, chunk):
    """Predictions have as many lines as the data, or there are none."""
    with pytest.raises(BadInput, match=r"row [23].* is an empty line|row [23], column 'a' .* holds a missing value"):
        table(text, target=None, wanted=Features(1, ("a",)))


def _random_table(draw, rows):
    """Cells in many notations, and what they are."""
    kinds = [
        lambda: str(draw.randrange(-(2**66), 2**66)),
        lambda: str(draw.randrange(3)),
        lambda: repr(draw.gauss(0, 1) * 10 ** draw.randrange(-9, 9)),
        lambda: draw.choice(["True", "False", "TRUE", "false"]),
        lambda: f' "{draw.random():.3e}"',
        lambda: f'"{draw.randrange(99)}" ',
    ]
    columns = [[kind] if draw.random() < 0.5 else kinds for kind in kinds]
    return [[draw.choice(column)() for column in columns] for _ in range(rows)]


def _value(cell):
    text = cell.strip().strip('"')
    return float(text.lower() == "true") if text.isalpha() else float(text)


@pytest.mark.parametrize("seed", range(20))
def test_any_cells_in_any_chunks(seed, tmp_path, monkeypatch):
    draw = random.Random(seed)
    cells = _random_table(draw, 30)
    path = tmp_path / "d.csv"
    path.write_text("a,b,c,d,e,f\n" + "".join(",".join(row) + "\n" for row in cells), "utf-8")
    expected = [[_value(cell) for cell in row] for row in cells]
    for rows in (1, 7, 1000):
        monkeypatch.setattr("fastsoftmax.cli.files.table.MOST_ROWS", rows)
        found = np.concatenate([block.x for block in open_table(path, None).blocks()])
        np.testing.assert_array_equal(found, expected)


def test_other_packages_make_no_difference(tmp_path):
    """PyArrow, where it is installed, is pandas' own affair."""
    path = tmp_path / "d.csv"
    path.write_text("a,y,note\n" + "".join(f"{i / 3},{'pq'[i % 2]} ,é{i},\n" for i in range(50)), "utf-8")
    code = """
import sys, pathlib
if sys.argv[2] == "hidden":
    sys.modules["pyarrow"] = None
from fastsoftmax.cli.files.open import open_table
from fastsoftmax.cli.files.table import Features
for block in open_table(pathlib.Path(sys.argv[1]), "y", Features(1, ("a",))).blocks():
    print(block.x.tolist(), block.labels)
"""
    outcomes = [child(code, str(path), how) for how in ("hidden", "as it is")]
    assert outcomes[0].returncode == 0
    assert outcomes[0].stdout == outcomes[1].stdout
    assert "0.3333333333333333" in outcomes[0].stdout


@pytest.mark.parametrize(
    ("names", "classes"),
    [
        (["10_20", "20_30"], ["10_20", "20_30"]),
        (["+1", "-1"], ["+1", "-1"]),
        (["0.0", "1.0"], ["0.0", "1.0"]),
        (["9223372036854775807", "-9223372036854775808", "0"], [2**63 - 1, -(2**63), 0]),
        (["9223372036854775808", "1"], ["9223372036854775808", "1"]),
        (["1234567890123456789", "1234567890123456788"], [1234567890123456789, 1234567890123456788]),
        (["-1234567890123456789012", "+5"], ["-1234567890123456789012", "+5"]),
        (["1e3", "2"], ["1e3", "2"]),
        (["007", "7"], ["007", "7"]),
        (["nan", "a"], ["nan", "a"]),
        (["1.5", "v2"], ["1.5", "v2"]),
        (["١", "2"], ["١", "2"]),
    ],
)
def test_names_of_classes(names, classes):
    assert text_classes(names, "y") == classes


@pytest.mark.parametrize(
    ("names", "says"),
    [
        (["0.5", "1.5"], "y holds 0.5, a number that is no class"),
        (["1", "nan"], "y holds nan, a number that is no class"),
        (["1", "1.0"], "y writes one class as 1 and as 1.0; write it in one way"),
        (["+1", "-1", "1"], "y writes one class as .1 and as 1; write it in one way"),
        (["-0", "0.0"], "y writes one class as -0 and as 0.0"),
    ],
)
def test_no_names_of_classes(names, says):
    with pytest.raises(BadInput, match=says):
        text_classes(names, "y")


def test_long_label(tmp_path):
    """One class of 100 kB among 20000 rows takes its own room, not that of 20000."""
    path = tmp_path / "d.csv"
    path.write_text("a,y\n" + f"1,{'l' * 100_000}\n" + "".join(f"{i},{'pq'[i % 2]}\n" for i in range(19_999)), "utf-8")
    opened = open_table(path, "y")
    tracemalloc.start()
    try:
        data = read(opened, "y", lambda *_: None)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 40e6
    assert [len(name) for name in data.classes] == [100_000, 1, 1]
    assert np.bincount(data.y).tolist() == [1, 10_000, 9_999]


def test_too_much_text_for_a_model(monkeypatch):
    monkeypatch.setattr("fastsoftmax.cli.files.table.TEXT_BYTES", 400)
    assert text_array(["a", "b" * 50], "y").tolist() == ["a", "b" * 50]
    with pytest.raises(BadInput, match="y has 2 different names, one of them 51 characters long"):
        text_array(["a", "b" * 51], "y")


def test_rows_of_long_text_make_short_chunks(tmp_path, monkeypatch):
    """Chunks are as long as rows are short: texts beside a few features do not fill the memory."""
    monkeypatch.setattr(csvfile, "FIRST_ROWS", 10)
    monkeypatch.setattr(csvfile, "CHUNK_BYTES", 1 << 20)
    path = tmp_path / "d.csv"
    path.write_text("a,note\n" + "".join(f"{i},{'n' * 10_000}\n" for i in range(1000)), "utf-8")
    lengths = [len(block.x) for block in open_table(path, None, Features(1, ("a",))).blocks()]
    assert sum(lengths) == 1000
    assert max(lengths) < 150


def test_many_columns(table):
    names = [f"c{i}" for i in range(40_000)]
    text = ",".join([*names, "y"]) + "\n" + ",".join(map(str, [*range(40_000), "p"])) + "\n"
    x, labels = table(text, wanted=Features(40_000, tuple(names)))
    assert (x.tolist(), labels) == ([list(range(40_000))], ["p"])


def test_column_without_a_name_is_left_out(tmp_path, capsys):
    path = tmp_path / "d.csv"
    path.write_text(",a,y\n0,1.5,p\n1,2.5,q\n", "utf-8")
    assert open_table(path, "y").features == Features(1, ("a",))
    said = capsys.readouterr().err
    assert re.search("column 1 has no name in the header, and is left out .*index=False", said)
    assert len(said.splitlines()) == 1
    assert open_table(path, "y", Features(1, ("a",))).features.size == 1
    assert capsys.readouterr().err == ""


def test_target_that_is_a_feature(table):
    with pytest.raises(BadInput, match="column 'a' is a feature of the model, so it does not hold the classes"):
        table("a,b,y\n1,2,p\n", target="a", wanted=Features(2, ("a", "b")))
