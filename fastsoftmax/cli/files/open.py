"""The table in a file, by the file's ending: CSV, TSV, NPY or NPZ."""

import zipfile
from pathlib import Path

from ..errors import BadInput, existing_file, listed, shown
from .arrayfile import SPARSE, NpzTable, labels_of, matrix_of, member_stream, open_npy, reading
from .csvfile import CsvTable
from .sparsefile import SparseTable
from .table import Features, Table

FORMATS = (".csv", ".tsv", ".npy", ".npz")


def open_table(path: Path, target: str | None, wanted: Features | None = None) -> Table:
    """The table in a file.

    Parameters
    ----------
    path : Path
        A file that ends in .csv, .tsv, .npy or .npz.
    target : str or None
        What holds the labels: a column, or in NPZ an array. None: labels are not read.
    wanted : Features or None
        The features of a model; None: all columns but the target.

    Raises
    ------
    BadInput
        For a file that cannot be used, or that has not what was asked for.
    """
    ending = path.suffix.lower()
    if ending not in FORMATS and not path.is_dir():
        raise BadInput(f"{path} does not end in one of {', '.join(FORMATS)}; convert the data to one of these")
    existing_file(path, "data")
    if ending == ".npy":
        return open_npy(path, target, wanted)
    if ending == ".npz":
        return open_npz(path, target, wanted)
    return CsvTable(path, target, wanted)


def open_npz(path: Path, target: str | None, wanted: Features | None) -> Table:
    """The table of the arrays in a NPZ file."""
    with reading(path), zipfile.ZipFile(path) as archive:
        names = [name.removesuffix(".npy") for name in archive.namelist() if name.endswith(".npy")]
        members = {name: member_stream(archive, name)[0] for name in names}
    if target is not None and target not in members:
        raise BadInput(f"{path} has no array {shown(target)!r} for the target; it has: {listed(names)}")
    if set(members) >= SPARSE:
        return SparseTable(path, labels_of(path, members, target, None), wanted)
    x = matrix_of(path, members, target)
    return NpzTable(path, x, labels_of(path, members, target, x.shape[0]), wanted)
