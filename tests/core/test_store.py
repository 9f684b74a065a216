"""Where compiled kernels are kept: never where somebody else could put his own, never in a surprising place."""

import os
import stat
import sys
import time
import warnings

import pytest

from fastsoftmax.core import store
from fastsoftmax.version import __version__

FOREIGN = 65534
ABOUT = "a kernel \N{GREEK SMALL LETTER MU}\n"
FIELDS, CODE = {"symbol": "f", "needs": ["a", "b"]}, b"\x7fELF\n\0code"
needs_owners = pytest.mark.skipif(not hasattr(os, "geteuid"), reason="files have no owners on this system")


@pytest.fixture(autouse=True)
def clean(monkeypatch, tmp_path):
    """No variables but those of the test, and a home of its own."""
    for name in ("FASTSOFTMAX_CACHE", "NUMBA_CACHE_DIR", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    for name in ("HOME", "USERPROFILE"):
        monkeypatch.setenv(name, str(tmp_path / "home"))
    monkeypatch.setattr(store, "_said", set())
    monkeypatch.setattr(store, "_tidied", set())
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def given(tmp_path, monkeypatch):
    """A folder that NUMBA_CACHE_DIR names, before it is made."""
    monkeypatch.setenv("NUMBA_CACHE_DIR", str(tmp_path / "given"))
    return tmp_path / "given"


def kept(kind=store.CUDA):
    """Whether what is kept is found again."""
    store.keep(kind, ABOUT, FIELDS, CODE)
    found = store.load(kind, ABOUT)
    assert found in (None, (FIELDS, CODE))
    return found is not None


def disown(path, monkeypatch):
    """Have another user own a file."""
    if os.geteuid() == 0:
        os.chown(path, FOREIGN, -1)
    else:
        monkeypatch.setattr(os, "geteuid", lambda: FOREIGN)


def refused(monkeypatch, kind=store.CUDA):
    """What is said, once, of a folder that nothing is kept in."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        assert not kept(kind)
        assert not kept(kind)
        assert store.folder(kind) is None
    (warning,) = caught
    assert "keeps no compiled kernels" in str(warning.message)
    return str(warning.message)


@pytest.mark.parametrize("value", ["0", "false", "False", "no", "NO", "off", "", " 0 "])
def test_switched_off(value, given, monkeypatch):
    monkeypatch.setenv("FASTSOFTMAX_CACHE", value)
    assert not kept()
    assert store.folder(store.CPU) is None
    assert not given.exists()


def test_a_file_under_the_name_of_another_is_not_loaded(given):
    assert kept()
    (path,) = given.rglob("*.kernel")
    path.rename(path.with_name(store._file("another")))
    assert store.load(store.CUDA, "another") is None


@pytest.mark.parametrize("value", ["1", "true", "yes", "on"])
def test_switched_on(value, given, monkeypatch):
    monkeypatch.setenv("FASTSOFTMAX_CACHE", value)
    assert kept()


def test_kernels_are_told_apart(given):
    assert kept()
    assert store.load(store.CUDA, ABOUT + "x") is None
    assert store.load(store.CPU, ABOUT) is None


@needs_owners
def test_what_is_made_is_the_users_alone(given):
    before = os.umask(0)
    try:
        assert kept()
    finally:
        os.umask(before)
    folder = store.folder(store.CUDA)
    assert folder.parent == given
    (file,) = folder.iterdir()
    assert [stat.S_IMODE(path.stat().st_mode) for path in (given, folder, file)] == [0o700, 0o700, 0o600]


@needs_owners
@pytest.mark.parametrize("mode", [0o770, 0o702, 0o777])
@pytest.mark.parametrize("which", ["given", "ours", "user"])
def test_folder_that_others_may_write(mode, which, given, monkeypatch):
    if which == "user":
        monkeypatch.delenv("NUMBA_CACHE_DIR")
    assert kept()
    folder = given if which == "given" else store.folder(store.CUDA)
    folder.chmod(mode)
    assert str(folder) in refused(monkeypatch)
    folder.chmod(0o700)  # as the message says
    assert kept()


@needs_owners
@pytest.mark.parametrize("which", ["given", "ours"])
def test_folder_of_another_user(which, given, monkeypatch):
    assert kept()
    folder = given if which == "given" else store.folder(store.CUDA)
    disown(folder, monkeypatch)
    said = refused(monkeypatch)
    assert str(given) in said
    assert "NUMBA_CACHE_DIR" in said
    assert "FASTSOFTMAX_CACHE=0" in said


@needs_owners
@pytest.mark.parametrize("how", ["mode", "owner"])
def test_file_that_others_may_write(how, given, monkeypatch):
    """A folder may have been moved into the place of ours meanwhile: files are looked at as well."""
    assert kept()
    (file,) = store.folder(store.CUDA).iterdir()
    if how == "mode":
        file.chmod(0o620)
        assert store.load(store.CUDA, ABOUT) is None
        assert kept()  # replaced
        return
    disown(file, monkeypatch)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of the folder, where this process seems to be another user's
        assert store.load(store.CUDA, ABOUT) is None


@needs_owners
def test_sticky_folder_of_all_users(given):
    """As /tmp is: nobody can put anything in the place of what we made there."""
    given.mkdir()
    given.chmod(0o1777)
    if os.geteuid() == 0:
        assert kept()


@pytest.mark.parametrize(
    ("platform", "inner"), [("linux", ".cache"), ("darwin", "Library/Caches"), ("win32", "AppData/Local")]
)
def test_the_users_folder_for_caches(platform, inner, monkeypatch, tmp_path):
    """Never the package's own: what lies there stays behind when it is uninstalled, and can be imported."""
    monkeypatch.setattr(sys, "platform", platform)
    for kind in (store.CPU, store.CUDA):
        assert store.folder(kind) == tmp_path / "home" / inner / "fastsoftmax" / f"{__version__}-{kind}"
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert store.folder(store.CPU) == tmp_path / "xdg" / "fastsoftmax" / f"{__version__}-cpu"


def test_a_folder_that_can_only_be_read(given, monkeypatch):
    """As one that was filled when an image was made: what lies there is found, and that no more is kept is said."""
    assert kept()

    def mkstemp(dir, suffix):
        raise PermissionError

    monkeypatch.setattr(store.tempfile, "mkstemp", mkstemp)
    monkeypatch.setattr(store.os, "access", lambda path, mode: False)
    with pytest.warns(UserWarning, match="can write no folder"):
        store.keep(store.CUDA, "another", FIELDS, CODE)
    assert store.load(store.CUDA, ABOUT) == (FIELDS, CODE)
    assert store.load(store.CUDA, "another") is None


def aged(file, days):
    """A file that was used last some days ago."""
    os.utime(file, times=(time.time() - days * store.DAY,) * 2)
    return file


def test_what_nobody_uses_is_removed(given, tmp_path):
    """Kernels of any version; nothing else, and nothing that is only linked to."""
    old = [store._file(str(number)) for number in range(3)]
    for folder in ("fastsoftmax-0.0.1-cpu", "other", f"fastsoftmax-{__version__}-cuda"):
        (given / folder).mkdir(0o700, parents=True)
        for name in (*old, "notes.txt"):
            (given / folder / name).write_bytes(b"")
            aged(given / folder / name, 91)
    (given / "fastsoftmax-0.0.1-cpu" / "notes.txt").unlink()
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    linked = elsewhere / old[0]
    linked.write_bytes(b"")
    aged(linked, 91)
    (given / "fastsoftmax-linked").symlink_to(elsewhere, target_is_directory=True)
    young = aged(given / f"fastsoftmax-{__version__}-cuda" / old[0], 89)
    assert kept()
    left = {path.relative_to(given).as_posix() for path in given.rglob("*") if path.is_file()}
    mine = f"fastsoftmax-{__version__}-cuda"
    assert left == {f"{mine}/{store._file(ABOUT)}", f"{mine}/{young.name}", f"{mine}/notes.txt"} | {
        f"other/{name}" for name in (*old, "notes.txt")
    }
    assert not (given / "fastsoftmax-0.0.1-cpu").exists()
    assert linked.exists()


def test_the_least_recently_used_go_first_where_room_is_short(given, monkeypatch):
    for number in range(4):
        store.keep(store.CUDA, str(number), FIELDS, CODE)
    folder = store.folder(store.CUDA)
    size = len(store._packed(ABOUT, FIELDS, CODE))
    for number, days in enumerate((3, 5, 2, 4)):
        aged(folder / store._file(str(number)), days)
    assert store.load(store.CUDA, "1") == (FIELDS, CODE)  # which is a use
    monkeypatch.setattr(store, "ROOM", 3 * size)
    monkeypatch.setattr(store, "_tidied", set())
    assert kept()
    left = [store.load(store.CUDA, str(number)) is not None for number in range(4)]
    assert left == [False, True, True, False]


@pytest.mark.parametrize("value", ["cache", "./cache", "~/.cache", "../cache"])
@pytest.mark.parametrize("name", ["NUMBA_CACHE_DIR", "XDG_CACHE_HOME", "HOME"])
def test_nothing_is_kept_below_the_current_directory(name, value, monkeypatch, tmp_path):
    monkeypatch.setenv(name, value)
    if name == "NUMBA_CACHE_DIR":
        assert "NUMBA_CACHE_DIR must be an absolute path" in refused(monkeypatch)
    elif name == "XDG_CACHE_HOME":  # as its specification says, a path that is not absolute is to be ignored
        assert store.folder(store.CUDA).is_relative_to(tmp_path / "home")
    elif os.name != "nt":
        with pytest.warns(UserWarning, match="can write no folder to keep compiled kernels in, and every process"):
            assert not kept()
        assert not kept()  # and is said once
        assert store.folder(store.CUDA) is None
    assert not (tmp_path / value).exists()


def test_every_byte_counts(given):
    """A file that is changed, cut off, or lengthened anywhere counts as missing."""
    assert kept()
    (file,) = store.folder(store.CUDA).iterdir()
    good = file.read_bytes()
    bad = [good[:i] + bytes([good[i] ^ bit]) + good[i + 1 :] for i in range(len(good)) for bit in (1, 128)]
    bad += [good[:i] for i in range(len(good))] + [good + b"\0", good[1:], good * 2]
    for content in bad:
        file.write_bytes(content)
        assert store.load(store.CUDA, ABOUT) is None
    assert kept()
    assert file.read_bytes() == good


def test_a_folder_in_the_place_of_a_file(given):
    assert kept()
    (file,) = store.folder(store.CUDA).iterdir()
    file.unlink()
    file.mkdir()
    assert not kept()
    assert [path.name for path in file.parent.iterdir()] == [file.name]


def test_frozen_program_has_the_digest_of_the_program(monkeypatch, tmp_path):
    """Its modules are no files, and cannot change without it."""
    program = tmp_path / "program"
    program.write_bytes(b"1")
    monkeypatch.setattr(store, "_package", lambda: tmp_path / "nowhere")
    monkeypatch.setattr(store.sys, "executable", str(program))
    first = store.digest("law", "cpu")
    assert first == store.digest("law", "cpu")
    program.write_bytes(b"22")
    assert store.digest("law", "cpu") != first
