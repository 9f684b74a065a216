"""The README's figures are those of the committed results."""

import json
import re

from benchmarks import files, report, report_cuda
from benchmarks.linear import report as report_linear


def _block_and_names(module):
    """What stands in README.md, and the names of the results that it links to, in their order."""
    block = files.readme_block(module.BEGIN, module.END)
    return block, list(dict.fromkeys(re.findall(r"\(benchmarks/results/([\w.-]+)\.md\)", block)))


def test_table_is_of_the_committed_results():
    block, names = _block_and_names(report)
    paths = {name: files.RESULTS / f"{name}.json" for name in names}
    runs = {name: report.load(path) for name, path in paths.items()}
    command = f"python -m benchmarks.report {' '.join(map(str, paths.values()))} --readme"
    assert runs
    assert block == report.readme_block(runs), f"run: {command}"
    for name, path in paths.items():
        assert path.with_suffix(".md").read_text("utf-8") == report.markdown(name, runs[name])


def test_linear_figures_are_of_the_committed_results():
    block, (name,) = _block_and_names(report_linear)
    path = files.RESULTS / f"{name}.json"
    facts, found = report_linear.load(path)
    assert len(found) == len(json.loads(path.read_text("utf-8"))["cases"])
    assert block == report_linear.readme_block(name, facts, found), "run: python -m benchmarks.linear.report --readme"


def test_gpu_table_is_of_committed_results_or_says_that_there_are_none():
    block = files.readme_block(report_cuda.BEGIN, report_cuda.END)
    paths = [path for path in files.RESULTS.glob("*.json") if "GPU" in json.loads(path.read_text("utf-8"))["machine"]]
    if not paths:
        assert block == report_cuda.NOT_MEASURED
        return
    (name,) = re.findall(r"\(benchmarks/results/([\w.-]+)\.md\)", block)
    run = report.load(files.RESULTS / f"{name}.json")
    assert block == report_cuda.readme_block(name, run), f"run: python -m benchmarks.report {name}.json --readme"
    for path in paths:
        assert path.with_suffix(".md").read_text("utf-8") == report_cuda.markdown(report.load(path))


def test_readme_links_to_every_run():
    text = files.README.read_text("utf-8")
    for path in files.RESULTS.glob("*.json"):
        assert path.with_suffix(".md").relative_to(files.README.parent).as_posix() in text
