"""Shared by the reports: the form of tables, options of the command line, and the files that are written."""

import argparse
import json
import re
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
README = HERE.parent / "README.md"
RESULTS = HERE / "results"


def row(cells: list[str]) -> str:
    """A row of a Markdown table."""
    return f"| {' | '.join(cells)} |"


def head(cells: list[str]) -> list[str]:
    """The first two rows, for columns of numbers."""
    return [row(cells), f"|{'---:|' * len(cells)}"]


def listed(known: dict[str, str]) -> list[str]:
    """Facts as a Markdown list."""
    return [f"- {name}: {fact}" for name, fact in known.items()]


def options(description: str | None, *, seconds: float) -> argparse.ArgumentParser:
    """The command line's options of a report that measures."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--name", help="of the files; the default names the CPU and the threads")
    parser.add_argument("--seconds", type=float, default=seconds, help="to go on with each case (default: %(default)s)")
    parser.add_argument("--results", type=Path, default=RESULTS, help="the folder (default: %(default)s)")
    parser.add_argument("--readme", action="store_true", help="rewrite what README.md says of it too")
    return parser


def slug(known: dict[str, str]) -> str:
    """A file name for a machine."""
    return re.sub(r"[^a-z0-9]+", "-", f"{known['CPU']} {known['threads'].split()[0]} threads".lower()).strip("-")


def _around(text: str, begin: str, end: str) -> tuple[str, str, str]:
    """`text` up to a comment, what follows it, and the rest from another comment on."""
    if (text.count(begin), text.count(end)) != (1, 1):
        raise SystemExit(f"README.md must hold the comments {begin} and {end} once")
    before, _, rest = text.partition(begin)
    block, _, after = rest.partition(end)
    return before + begin, block, end + after


def write(folder: Path, name: str, report: str, record: dict[str, Any]) -> None:
    """Write a report for people and one for programs."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{name}.md").write_text(report, encoding="utf-8")
    (folder / f"{name}.json").write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")


def readme_block(begin: str, end: str) -> str:
    """The text between two comments of README.md."""
    return _around(README.read_text("utf-8"), begin, end)[1].strip("\n")


def rewrite_readme(begin: str, end: str, block: str) -> None:
    """Put a block between two comments of README.md."""
    before, _, after = _around(README.read_text("utf-8"), begin, end)
    README.write_text(f"{before}\n{block}\n{after}", encoding="utf-8")
