"""The benchmark report: one page that a browser shows as it is, with the numbers of its run, for any eyes."""

import collections
import html.parser
import itertools
import json
import re
import shutil
import statistics
import subprocess
import xml.etree.ElementTree as ET

import matplotlib.image
import numpy as np
import pytest

from benchmarks import report
from fastsoftmax.bench import results
from fastsoftmax.bench.cases import CASES, DRAM, DTYPES, LOSS_AND_GRAD, SHAPES, SIZE, SOFTMAX, THREADS, Case
from fastsoftmax.bench.report import charts, figure, page, roofline, summary
from fastsoftmax.bench.results import COMPILED, INTO, JAX, NUMPY, OURS, SCIPY, TORCH, Result, Run, Timing
from tests.bench import support
from tests.support import HANG

BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")
BROWSER = next(filter(None, map(shutil.which, BROWSERS)), None)
VOID = {
    "meta",
    "br",
    "hr",
    "img",
    "input",
    "link",
}  # HTML's elements without an end, as far as one might meet them here
HEADLINE = [case for case in CASES if case.group == SHAPES and case.function == LOSS_AND_GRAD]
#: Severity 1.0 of Machado, Oliveira and Fernandes, "A Physiologically-based Model for Simulation of Color Vision
#: Deficiency" (2009), table 1; on linear RGB.
VISION = {
    "usual": np.eye(3),
    "protanopia": [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]],
    "deuteranopia": [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.011820, 0.042940, 0.968881]],
    "tritanopia": [[1.255528, -0.076749, -0.178779], [-0.078411, 0.930809, 0.147602], [0.004733, 0.691367, 0.303900]],
}
#: sRGB (IEC 61966-2-1) to CIE XYZ.
XYZ = [[0.4124564, 0.3575761, 0.1804375], [0.2126729, 0.7151522, 0.0721750], [0.0193339, 0.1191920, 0.9503041]]


class Page(html.parser.HTMLParser):
    """What a page is made of; raises where elements are not closed in turn."""

    def __init__(self, text):
        super().__init__()
        self.open, self.tags, self.ids, self.attributes, self.rows = [], collections.Counter(), [], [], []
        self.texts = []
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        self.handle_startendtag(tag, attrs)
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.tags[tag] += 1
        self.attributes += attrs
        self.ids += [value for name, value in attrs if name == "id"]
        if tag == "tr":
            self.rows.append([])
        elif tag in {"td", "th"}:
            self.rows[-1].append("")

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.texts.append(data)
        if {"td", "th"} & set(self.open):
            self.rows[-1][-1] += data


@pytest.fixture(scope="module")
def whole():
    """A run of all cases, and its page."""
    run = support.run()
    return run, page.html(run)


def _exact(case, **seconds):
    """A case whose least times are nine tenths of the medians."""
    timings = {name: Timing(0.9 * s, s, 5) for name, s in seconds.items()}
    return Result(case, timings, {}, ("copy", 1.5e-3))


@pytest.fixture(scope="module")
def small():
    """Two shapes with round numbers, one of which another is faster at."""
    first = _exact(HEADLINE[1], **{OURS: 2e-3, INTO: 3e-3, NUMPY: 30e-3, SCIPY: 60e-3, JAX: 16e-3, TORCH: 20e-3})
    second = _exact(HEADLINE[2], **{OURS: 4e-3, INTO: 2e-3, COMPILED: 2e-3, TORCH: 8e-3})
    return Run({"CPU": "some", "threads": "2 of 4", "date": "2026-02-03"}, support.CEILINGS, [first, second])


@pytest.mark.skipif(BROWSER is None, reason=f"none of {', '.join(BROWSERS)} is installed")
def test_page_in_a_browser(whole, tmp_path):
    """It shows every chart and every case, and has nothing to complain of."""
    run, text = whole
    (tmp_path / "page.html").write_text(text, encoding="utf-8")
    options = ["--headless", "--no-sandbox", "--disable-gpu", f"--user-data-dir={tmp_path / 'profile'}"]
    options += ["--enable-logging=stderr", "--hide-scrollbars", "--window-size=1280,3000"]
    command = [BROWSER, *options, "--dump-dom", f"--screenshot={tmp_path / 'page.png'}", str(tmp_path / "page.html")]
    done = subprocess.run(command, capture_output=True, encoding="utf-8", timeout=HANG, check=True)
    assert "CONSOLE" not in done.stderr
    shown = Page(done.stdout)
    assert shown.tags["svg"] == len(charts.DRAWINGS)
    cells = {cell for row in shown.rows for cell in row}
    for found in run.results:
        assert any(cell.startswith(found.case.name) for cell in cells)
        assert page.ms(found.ours.median) in cells
    assert len(np.unique(matplotlib.image.imread(tmp_path / "page.png").reshape(-1, 4), axis=0)) > 100


def test_page_is_well_formed(whole):
    run, text = whole
    parsed = Page(text)
    assert max(collections.Counter(parsed.ids).values()) == 1
    links = [value for name, value in parsed.attributes if name == "href" and value.startswith("#")]
    assert {link[1:] for link in links} <= set(parsed.ids)
    assert {f"group-{found.case.group}" for found in run.results} <= set(parsed.ids)
    assert parsed.tags["svg"] == len(charts.DRAWINGS) == parsed.tags["figure"]
    assert [value for name, value in parsed.attributes if name == "role"].count("img") == len(charts.DRAWINGS)


def test_page_needs_nothing_else(whole):
    """Nothing that a browser would fetch, run or refresh."""
    _, text = whole
    parsed = Page(text)
    assert not set(parsed.tags) & {"script", "link", "img", "iframe", "object", "image", "base"}
    assert all(value.startswith("#") for name, value in parsed.attributes if name in {"href", "src", "xlink:href"})
    assert not re.search(r"https?:|//\w|@import|url\((?!#)", text)


def test_page_is_the_same_every_time(small):
    assert page.html(small) == page.html(results.from_json(json.loads(json.dumps(results.as_json(small)))))


def test_whatever_comes_from_json_is_text(small):
    bad = "<script>alert('1')</script>\"&amp;`x`"
    case = Case(bad, bad, (3, 4), reason=bad)
    option = Case("options", LOSS_AND_GRAD, (3, 4), option=bad)
    found = [Result(case, {bad: Timing(1.0, 2.0)}, {bad: bad}, (bad, 1.0)), *small.results]
    found.append(_exact(option, **{OURS: 1.0, results.PLAIN: 2.0, bad: 3.0})._replace(skipped={bad: bad}))
    run = Run({bad: bad, "CPU": bad, "threads": "2 of 4", "date": bad}, {bad: 1.0}, found)
    parsed = Page(page.html(run))
    assert parsed.tags["script"] == 0
    assert "".join(parsed.texts).count(bad) >= 10
    assert [value for name, value in parsed.attributes if name == "aria-label" and bad in value]


def test_tables_hold_the_numbers(small):
    rows = Page(page.html(small)).rows
    case = next(i for i, row in enumerate(rows) if row[0].startswith(HEADLINE[1].name))
    assert HEADLINE[1].reason in rows[case][0]
    nbytes = 65536 * (3 * 8 + 8)
    assert rows[case + 1] == [OURS, "2", "1.8", f"{nbytes / 2e-3 / 1e9:.3g}", "75%", "1.00"]
    assert rows[case + 2] == [INTO, "3", "2.7", f"{nbytes / 3e-3 / 1e9:.3g}", "50%", "1.50"]
    assert rows[case + 5][:3] + rows[case + 5][4:] == [JAX, "16", "14.4", "9.4%", "8.00"]


def test_summary_says_where_others_are_faster(small):
    found = summary.summary(summary.headline(small))
    assert (found.shapes, found.least, found.behind) == (2, small.results[1], [small.results[1]])
    assert found.mean == pytest.approx(2.0)  # of 8 and 1/2
    rows = Page(page.html(small)).rows
    assert ["65536×3", "2", "3", "50%", JAX, "16", "8.00"] in rows
    assert [LOSS_AND_GRAD, "2.00", "0.50, 65536×10", "65536×10 (torch.compile)"] in rows
    assert summary.sentence(found).endswith("Another is faster at 65536×10 (torch.compile).")
    ahead = summary.summary(small.results[:1])
    assert "Another" not in summary.sentence(ahead)
    assert summary.summary([]) is None


def test_skipped_contestants_are_named_once(whole):
    _, text = whole
    said = "".join(Page(text).texts)
    groups = {case.group for case in CASES} - {"options", "layouts"}
    assert said.count("no & such device") + said.count("JAX is not installed") == len(groups)


def test_who_is_skipped_in_some_cases_is_named_there(small):
    run = small._replace(results=[small.results[0]._replace(skipped={"CuPy": "no device"}), small.results[1]])
    assert ["Not timed: CuPy: no device."] in Page(page.html(run)).rows


@pytest.mark.parametrize("group", [None, SIZE, THREADS, DTYPES])
def test_charts_without_cases_say_so(group):
    run = support.run([case for case in CASES if case.group == group])
    drawn = {chart.key for chart in charts.charts(run) if chart.svg}
    expected = {None: set(), SIZE: {"size"}, THREADS: {"threads"}, DTYPES: {"dtypes", "roofline"}}
    assert drawn == expected[group]
    text = page.html(run)
    assert text.count("Left out: its cases") == len(charts.DRAWINGS) - len(drawn)
    Page(text)


def _drawn(axes):
    """The points of an axes, by the label of their series."""
    return {line.get_label(): np.transpose(line.get_data()) for line in axes.lines if line.get_label()[0] != "_"}


def test_ratio_chart_holds_the_ratios(small):
    drawn, alt = charts.ratio(small)
    points = _drawn(drawn.axes[0])
    assert set(points) == {NUMPY, SCIPY, JAX, COMPILED, TORCH}
    np.testing.assert_allclose(points[TORCH][:, 0], [10, 2])
    np.testing.assert_allclose(points[COMPILED], [[0.5, 1]], atol=0.4)
    np.testing.assert_array_equal(np.round(points[TORCH][:, 1]), [0, 1])
    assert "Least 0.5 (torch.compile, 65536×10), greatest 30 (SciPy, 65536×3)" in alt


def test_roofline_points(small):
    """The faster of both results, at the exponentials of a byte, a little spread by shape."""
    case = HEADLINE[5]._replace(memory=DRAM)
    found = _exact(case, **{OURS: 9e-3, INTO: 8e-3})
    drawn, _ = roofline.roofline(small._replace(results=[found]))
    (x, y), *more = [tuple(p) for line in drawn.axes[0].lines[:3] for p in np.transpose(line.get_data())]
    assert (x, y, more) == (case.elements / case.nbytes, pytest.approx(8192 * 4096 / 8e-3 / 1e9), [])
    ceilings = [tuple(line.get_ydata()) for line in drawn.axes[0].lines[3:]]
    assert (2 * 3.1, 2 * 3.1) in ceilings
    assert (pytest.approx(44 * 0.045), pytest.approx(44 * 0.4)) in ceilings


def test_cost_thread_and_option_charts():
    cases = [Case(SIZE, LOSS_AND_GRAD, (100, 1000)), Case(SIZE, LOSS_AND_GRAD, (2**23, 2))]
    drawn, alt = charts.size(Run({}, {}, [_exact(cases[0], **{OURS: 1e-3}), _exact(cases[1], **{OURS: 2**24 * 1e-9})]))
    left, right = (_drawn(axes)[OURS] for axes in drawn.axes)
    np.testing.assert_allclose([*left, *right], [[1e5, 10], [2, 1]])
    assert "10 to 10 ns" in alt
    threads = [Case(THREADS, LOSS_AND_GRAD, (65536, 10), threads=n) for n in (1, 0)]
    run = Run({"threads": "2 of 2"}, {}, [_exact(threads[0], **{OURS: 3e-3}), _exact(threads[1], **{OURS: 2e-3})])
    np.testing.assert_allclose(_drawn(charts.threads(run)[0].axes[0])[OURS], [[1.5, 0]])
    option = Case("options", LOSS_AND_GRAD, (65536, 10), option="z_loss")
    run = Run({}, {}, [_exact(option, **{OURS: 3e-3, results.PLAIN: 2e-3})])
    np.testing.assert_allclose(_drawn(charts.options(run)[0].axes[0])["65536×10"], [[1.5, 0]])


def _lab(colour, vision):
    """CIELAB of a colour as someone sees it, for the white of D65."""
    value = np.array([int(colour[i : i + 2], 16) for i in (1, 3, 5)]) / 255
    linear = np.where(value <= 0.04045, value / 12.92, ((value + 0.055) / 1.055) ** 2.4)
    xyz = np.array(XYZ) @ np.clip(np.array(vision) @ linear, 0, 1) / np.sum(XYZ, axis=1)
    x, y, z = np.where(xyz > 216 / 24389, np.cbrt(xyz), (24389 / 27 * xyz + 16) / 116)
    return np.array([116 * y - 16, 500 * (x - y), 200 * (y - z)])


@pytest.mark.parametrize("vision", VISION)
def test_colours_differ_for_all_eyes(vision):
    """By more than 15 in CIELAB (2.3 is just noticeable), simulated after Machado et al."""
    np.testing.assert_allclose(np.sum(VISION[vision], axis=1), 1, atol=1e-5)  # greys stay grey
    np.testing.assert_allclose(_lab("#ffffff", np.eye(3)), [100, 0, 0], atol=1e-3)
    seen = [_lab(style.colour, VISION[vision]) for style in figure.STYLES]
    assert min(np.linalg.norm(a - b) for a, b in itertools.combinations(seen, 2)) > 15


def test_series_differ_without_colour():
    for styles in (figure.STYLES, figure.CONTESTANTS.values()):
        assert len({style.marker for style in styles}) == len({style.line for style in styles}) == len(styles)
    assert set(figure.CONTESTANTS) >= {name for found in support.run(HEADLINE).results for name in found.timings}


def test_report_files(small, tmp_path):
    path = tmp_path / "some.json"
    path.write_text(json.dumps(results.as_json(small)), encoding="utf-8")
    (tmp_path / "some-threads.svg").write_text("of an earlier run")
    report.write(path, report.load(path))
    assert {file.name for file in tmp_path.glob("*.svg")} == {"some-ratio.svg", "some-roofline.svg"}
    for file in tmp_path.glob("*.svg"):
        root = ET.parse(file).getroot()
        assert root.get("role") == "img"
        assert root[0].text == root.get("aria-label")
    text = (tmp_path / "some.md").read_text("utf-8")
    row = "| 65536x3/float32 | 2 | 3 | 30 | 60 | 16 | 20 | – | 1.05 | 75% | copy, 1.5 | 8.00 (JAX) |"
    assert row in text.splitlines()
    assert "0.50 times at the least (65536×10, torch.compile). Another is faster at 65536×10 (torch.compile)." in text


def test_readme_block(small):
    lines = report.readme_block({"some": small, "other": small}).splitlines()
    assert lines.count("| 65536×3 | 2 | 3 | JAX | 16 | **8.00** | 15.00 | 30.00 |") == 1
    assert lines.count("| 65536×10 | 4 | 2 | torch.compile | 2 | **0.50** | – | – |") == 1
    assert "some, 2 of 4 threads (2026-02-03; [all of it](benchmarks/results/some.md))" in lines[0]
    other = "some, 2 of 4 threads (2026-02-03; [all of it](benchmarks/results/other.md))"
    assert lines[-1] == f"Also on {other}: 2.0 times, at the least 0.50 (65536×10)."


def test_other_functions_are_summed_up():
    """Their geometric means, computed anew from the cases."""
    run = support.run([case for case in CASES if case.group == SHAPES and case.function == SOFTMAX])
    others = [min(f.timings[name].median for name in support.PEERS) for f in run.results]
    ratios = [other / f.ours.median for other, f in zip(others, run.results, strict=True)]
    text = report.readme_block({"some": run})
    expected = f"`softmax` {statistics.geometric_mean(ratios):.1f} times, at the least {min(ratios):.2f} (64×10)"
    assert expected in text
