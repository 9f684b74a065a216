"""The table of options in docs/design.md is that of the code: ``python -m tests.docs.test_options`` writes it."""

from benchmarks import files
from fastsoftmax.core.options import TERMS

DESIGN = files.README.parent / "docs" / "design.md"
HEAD = ["option", "default: off", "values", "target"]


def table():
    lines = [files.row(HEAD), files.row(["---"] * len(HEAD))]
    for term in TERMS:
        default = "None" if term.default is None else f"{term.default:g}"
        target = "class indices" if term.indices_only else "class indices or probabilities"
        lines.append(files.row([f"`{term.option}`", default, str(term.bounds), target]))
    return "\n".join(lines)


def written():
    """The table as it stands, to the empty line behind it."""
    text = DESIGN.read_text("utf-8")
    start = text.index(files.row(HEAD))
    return text[start : text.index("\n\n", start)]


def test_table_is_of_the_list():
    assert written() == table(), "run: python -m tests.docs.test_options"


if __name__ == "__main__":
    DESIGN.write_text(DESIGN.read_text("utf-8").replace(written(), table()), "utf-8")
