"""Files that the documents name or link to exist."""

import re
from importlib import metadata

import pytest

from benchmarks.files import README

ROOT = README.parent
DOCUMENTS = [README, ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]
FOLDERS = [ROOT / name for name in ("fastsoftmax", "tests", "benchmarks", ".ci")]
PATHS = {f"/{path.relative_to(ROOT).as_posix()}" for folder in FOLDERS for path in [folder, *folder.rglob("*")]}
#: Files and folders as text has them, `core/law.py` or `tests/cuda/host/`, and files as blocks of code have them.
NAME = re.compile(r"`((?:[\w-]+/)*[\w-]+\.(?:py|c)|(?:[\w-]+/)+)`")
BLOCK = re.compile(r"^    .*$", re.MULTILINE)
NAME_IN_BLOCK = re.compile(r"\b\w+\.py\b")
LINK = re.compile(r"\]\(([^)#:\s]+)(?:#[^)]*)?\)")


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_named_files_exist(document):
    text = document.read_text("utf-8")
    names = {*NAME.findall(text), *NAME_IN_BLOCK.findall("\n".join(BLOCK.findall(text)))}
    assert [name for name in names if not any(path.endswith(f"/{name.rstrip('/')}") for path in PATHS)] == []


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_links_lead_to_files(document):
    links = LINK.findall(document.read_text("utf-8"))
    assert [link for link in links if not (document.parent / link).exists()] == []


def test_links_of_the_text_that_a_package_index_shows():
    """They are the README's, with whole addresses."""
    try:
        about = metadata.metadata("fastsoftmax").json
    except metadata.PackageNotFoundError:
        pytest.skip("fastsoftmax is not installed")
    source = about["project_url"][0].removeprefix("Source, ")
    links = re.findall(r"\]\(([^)#\s]+)", about["description"])
    own = [link.partition("/main/")[2] for link in links if link.startswith(source)]
    assert own == LINK.findall(README.read_text("utf-8"))
    assert all(link.startswith("https://") for link in links)
