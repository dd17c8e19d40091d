"""The leaderboard says what the cells say: means, ranks, fronts, and always the two baselines."""

from __future__ import annotations

import csv
import io
import math
import re
import shutil
import statistics
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import friedmanchisquare

from fairsynth.benchmark import compare
from fairsynth.benchmark.engine import Ended, Task
from fairsynth.benchmark.leaderboard import CONSTANT, REAL, oriented, read_leaderboard
from fairsynth.benchmark.render import html, latex, markdown, terminal, write
from fairsynth.benchmark.runner import run_plan
from fairsynth.benchmark.store import Store
from fairsynth.errors import DataError, SettingsError

PlanFile = Callable[..., Path]
MODELS = """
[[models]]
name = "outside-copy"
label = "copy_1"
[[models]]
name = "outside-copy"
label = "copy & <2>"
settings = { noise = 0.5 }
[[models]]
name = "reweighing"
"""

# ---- comparing ----------------------------------------------------------------------------------


def test_ranks_by_hand() -> None:
    values = [[0.9, 0.5, np.nan], [0.8, 0.5, 0.1], [0.7, 0.9, np.nan]]
    assert compare.ranks(values).tolist() == [[1, 2.5, 2.5], [2, 2.5, 1], [3, 1, 2.5]]


def test_critical_difference_of_demsar() -> None:
    """His example: 4 classifiers, 14 data sets, q = 2.569: CD = 1.25."""
    rng = np.random.default_rng(0)
    found = compare.critical_difference(compare.ranks(rng.random((4, 14))))
    assert found is not None and found.critical == pytest.approx(1.25, abs=0.005)
    assert compare.critical_difference(np.ones((2, 9))) is None
    assert compare.critical_difference(np.ones((5, 1))) is None


def test_ranks_and_ranges_are_those_of_scipy() -> None:
    from scipy.stats import rankdata, studentized_range

    values = np.random.default_rng(2).integers(0, 5, (9, 30)).astype(float)
    assert (compare.ranks(values) == rankdata(-values, axis=0)).all()
    for k in (2, 3, 10, 60):
        found = compare._nemenyi(k) * np.sqrt(2)
        assert found == pytest.approx(studentized_range.ppf(0.95, k, np.inf), abs=1e-6)


def test_names_of_points_stand_inside_and_off_other_points() -> None:
    from fairsynth.benchmark.front import _places, _side

    places = _places([(0.0, 5.0), (0.1, 5.2), (0.5, 0.0), (1.0, 4.0)])
    assert places[0] == (0.0, pytest.approx(5 / 5.2)) and places[3][0] == 1.0
    assert _side(places, 0) == "bottom right"  # another one is above it to the right
    assert _side(places, 3) == "top left"
    assert _places([(1.0, 1.0)]) == [(0.5, 0.5)]


@settings(max_examples=40, deadline=None)
@given(st.lists(st.lists(st.integers(0, 4), min_size=4, max_size=4), min_size=3, max_size=9))
def test_friedman_agrees_with_scipy(values: list[list[int]]) -> None:
    table = np.array(values, dtype=np.float64).T
    found = compare.critical_difference(compare.ranks(table))
    assert found is not None
    if all(len(set(row)) == 1 for row in values):
        assert math.isnan(found.p)
    else:
        assert found.p == pytest.approx(friedmanchisquare(*-table).pvalue, abs=1e-9)


def test_paired_bootstrap_sees_a_steady_difference_and_no_other() -> None:
    rng = np.random.default_rng(1)
    base = rng.normal(size=(1, 6, 4))  # data sets differ far more than methods do
    values = np.concatenate(
        [base, base - 0.1 + 0.01 * rng.normal(size=base.shape), rng.normal(size=base.shape)]
    )
    difference, low, high = compare.paired_bootstrap(values, 0)
    assert difference[0] == low[0] == high[0] == 0
    assert -0.12 < low[1] < difference[1] < high[1] < -0.08
    assert low[2] < 0 < high[2]
    again = compare.paired_bootstrap(values, 0)
    assert np.array_equal(again[1], low)


def test_paired_bootstrap_compares_pairs_only() -> None:
    values = np.full((2, 2, 2), np.nan)
    values[0] = [[1.0, 2.0], [3.0, 4.0]]
    values[1, 0, 0] = 1.5
    difference, low, high = compare.paired_bootstrap(values, 0, draws=500)
    assert difference[1] == low[1] == high[1] == 0.5
    values[1] = np.nan
    assert all(np.isnan(part[1]) for part in compare.paired_bootstrap(values, 0, draws=50))


@settings(max_examples=100, deadline=None)
@given(st.lists(st.tuples(*[st.integers(0, 4)] * 3), min_size=1, max_size=12))
def test_the_front_is_what_nothing_beats(points: list[tuple[int, int, int]]) -> None:
    front = compare.pareto(points)
    for i, p in enumerate(points):
        beaten = any(all(a >= b for a, b in zip(q, p, strict=True)) and q != p for q in points)
        assert front[i] == (not beaten)
    assert front.any()


def test_what_has_no_count_beats_nobody_that_has() -> None:
    points = [(0.9, 0.9, -math.inf), (0.8, 0.8, 0.1), (0.9, 0.8, -math.inf), (math.nan, 1.0, 1.0)]
    assert compare.pareto(points).tolist() == [True, True, False, False]


def test_more_is_better_once_oriented() -> None:
    assert oriented("auroc", 0.7) > oriented("auroc", 0.6)
    assert oriented("c2st", 0.6) > oriented("c2st", 0.7)
    assert oriented("dcr_share", 0.45) > oriented("dcr_share", 0.6)


# ---- the whole of it ----------------------------------------------------------------------------


@pytest.fixture
def folder(plan_file: PlanFile, tmp_path: Path, instant: Any) -> Path:
    """Return the folder of a plan of which one cell failed."""

    def result(task: Task) -> Ended | None:
        cell = task.request["cell"]
        failing = cell["label"] == "copy_1" and cell["seed"] == 2
        return Ended(task.id, -11) if failing else None

    run_plan(plan_file(MODELS, 'seeds = 3\nname = "A & B"'), tmp_path / "out", engine=instant(result=result))
    return tmp_path / "out"


def test_means_and_deviations_are_those_of_the_cells(folder: Path) -> None:
    board, store = read_leaderboard(folder), Store(folder)
    row = next(row for row in board.rows if row.label == "copy & <2>")
    values = []
    for link in row.cells:
        body = store.result(link.key)
        assert body is not None
        values += [s[4] for s in body["scores"] if s[2] == "auroc"]
    number = row.numbers["auroc"]
    assert (number.n, len(values)) == (3, 3)
    assert number.mean == pytest.approx(statistics.fmean(values))
    assert number.std == pytest.approx(statistics.stdev(values))
    other = next(row for row in board.rows if row.label == "copy_1")
    assert other.numbers["auroc"].n == 2
    assert [link.status for link in other.cells] == ["done", "done", "failed"]
    assert "signal 11" in (other.failures[0].reason or "")


def test_the_baselines_are_always_there(folder: Path) -> None:
    board = read_leaderboard(folder)
    rows = {row.label: row for row in board.of("people")}
    assert [row.label for row in board.rows[-2:]] == [REAL, CONSTANT]
    assert rows[CONSTANT].numbers["dpr"].mean == 1 and rows[CONSTANT].numbers["auroc"].mean == 0.5
    # Likeness to real rows is that of hold-out rows, not of the train rows to themselves.
    assert "coverage" in rows[REAL].numbers and "coverage" not in rows[CONSTANT].numbers
    assert not rows[REAL].front and not rows[CONSTANT].front
    for cell in (folder / "cells").glob("*.json"):
        cell.unlink()
    empty = read_leaderboard(folder)
    assert {REAL, CONSTANT} <= {row.label for row in empty.rows}
    assert any("no result yet" in remark for remark in empty.remarks)


def test_a_mitigator_has_no_rank_in_likeness(folder: Path) -> None:
    measures = {measure.role: measure for measure in read_leaderboard(folder).measures}
    assert {s.method[0] for s in measures["fidelity"].standings} == {"copy_1", "copy & <2>"}
    assert {s.method[0] for s in measures["utility"].standings} == {"copy_1", "copy & <2>", "reweighing"}
    for measure in measures.values():
        assert measure.standings[0].rank == min(s.rank for s in measure.standings)
        assert measure.standings[0].difference == 0


def test_the_worst_attribute_counts_unless_one_is_named(folder: Path) -> None:
    store = Store(folder)
    board = read_leaderboard(folder)
    row = next(row for row in board.rows if row.label == "copy & <2>")
    for link in row.cells:
        body = store.result(link.key)
        assert body is not None
        body["scores"] += [
            ["method", "fairness", "dpr", "race", 0.25, None, None, None],
            ["method", "fairness", "dpr", "sex × race", 0.1, None, None, None],
            ["method", "fairness", "eod", "sex", 0.1, None, None, None],
            ["method", "fairness", "eod", "race", 0.3, None, None, None],
        ]
        store.keep(link.key, body)

    def value(metric: str, attribute: str | None) -> float:
        found = read_leaderboard(folder, fairness=metric, attribute=attribute)
        return next(r for r in found.rows if r.label == "copy & <2>").numbers[metric].mean

    assert value("dpr", None) == 0.25
    assert value("dpr", "sex") == row.numbers["dpr"].mean
    assert value("dpr", "sex × race") == pytest.approx(0.1)
    assert value("eod", None) == pytest.approx(0.3)
    with pytest.raises(SettingsError, match="'nothing' was measured in no cell; measured were auroc"):
        read_leaderboard(folder, utility="nothing")
    with pytest.raises(SettingsError, match="attribute='nobody' is not known; there are race, sex"):
        read_leaderboard(folder, attribute="nobody")


def test_only_the_last_plan_counts_unless_all_are_wanted(
    folder: Path, plan_file: PlanFile, instant: Any
) -> None:
    run_plan(plan_file('[[models]]\nname = "reweighing"', "seeds = 1"), folder, engine=instant())
    assert [row.label for row in read_leaderboard(folder).rows] == ["reweighing", REAL, CONSTANT]
    assert len(read_leaderboard(folder, everything=True).rows) == 5
    with pytest.raises(DataError, match="no plan was run"):
        read_leaderboard(folder / "cells")


# ---- renderings ---------------------------------------------------------------------------------


def test_markdown_and_latex_hold_their_tables(folder: Path) -> None:
    board = read_leaderboard(folder)
    text = markdown(board)
    tables = re.findall(r"(?:^\|.*\n)+", text, re.M)
    for table in tables:
        counts = {len(re.findall(r"(?<!\\)\|", line)) for line in table.splitlines()}
        assert len(counts) == 1
    assert "copy\\_1" in text and "copy & \\<2\\>" in text
    tex = latex(board)
    assert r"copy \& <2>" in tex and r"copy\_1" in tex and "A \\& B" in tex
    rows = [line for line in tex.splitlines() if line.endswith(r"\\")]
    assert len({len(re.findall(r"(?<!\\)&", line)) for line in rows}) == 1
    assert tex.count(r"\begin{table}") == tex.count(r"\end{table}") == 1


def test_csv_holds_the_numbers_in_full(folder: Path, tmp_path: Path) -> None:
    board = read_leaderboard(folder)
    lines = list(csv.DictReader(io.StringIO(write(board, tmp_path / "a.csv").read_text())))
    assert [line["method"] for line in lines] == [row.label for row in board.rows]
    for line, row in zip(lines, board.rows, strict=True):
        assert float(line["auroc"]) == row.numbers["auroc"].mean
    assert {line["failed"] for line in lines} == {"0", "1"}


def test_terminal_tables(folder: Path) -> None:
    from rich.console import Console

    console = Console(width=200, record=True, file=io.StringIO())
    for table in terminal(read_leaderboard(folder)):
        console.print(table)
    text = console.export_text()
    assert "copy & <2>" in text and REAL in text and CONSTANT in text and "2/3" in text


def test_the_page_is_whole_and_links_to_the_reports(folder: Path, tmp_path: Path) -> None:
    board = read_leaderboard(folder)
    link = next(row for row in board.rows if row.label == "copy & <2>").cells[0]
    report = folder / "reports" / f"{link.key}.html"
    report.write_text("a report")
    text = html(board, folder)
    assert f'href="reports/{link.key}.html"' in text
    assert "copy &amp; &lt;2&gt;" in text and "<2>" not in text
    assert "signal 11" in text
    assert not re.findall(r'(?:src|href)="(?:https?:)?//', text)
    # From another place the links still lead there.
    elsewhere = write(board, tmp_path / "pages" / "board.html").read_text()
    assert f'href="../out/reports/{link.key}.html"' in elsewhere
    with pytest.raises(SettingsError, match="ending"):
        write(board, tmp_path / "board.pdf")


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Any:
    selenium = pytest.importorskip("selenium", reason="Selenium is not installed: pip install selenium")
    chromium = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    driver = shutil.which("chromedriver")
    if selenium is None or chromium is None or driver is None:
        pytest.skip("no Chromium with its driver here: apt-get install chromium chromium-driver")
    from selenium import webdriver
    from selenium.webdriver.chrome.options import Options
    from selenium.webdriver.chrome.service import Service

    options = Options()
    options.binary_location = chromium
    for flag in ("--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run"):
        options.add_argument(flag)
    options.add_argument(f"--user-data-dir={tmp_path_factory.mktemp('profile')}")
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    session = webdriver.Chrome(options=options, service=Service(driver))
    session.set_script_timeout(60)
    yield session
    session.quit()


SHOWN = (
    "return [...document.querySelectorAll('#board tbody tr')]"
    ".filter((r) => !r.hidden).map((r) => r.cells[1].textContent.trim())"
)


def test_the_page_sorts_filters_and_draws(folder: Path, browser: Any) -> None:
    board = read_leaderboard(folder)
    browser.get(write(board, folder / "board.html").as_uri())
    drawn = browser.execute_async_script(
        "const done = arguments[0]; fairsynthReport.drawAll().then(() => { const wait = () => "
        "fairsynthReport.plots.every((p) => ['drawn', 'failed'].includes(p.dataset.state)) "
        "? done(fairsynthReport.plots.map((p) => p.dataset.state)) : setTimeout(wait, 50); wait(); })"
    )
    assert drawn == ["drawn"]

    def column(name: str) -> None:
        browser.execute_script(
            "[...document.querySelectorAll('#board th')].find((h) => h.textContent.startsWith(arguments[0])).click()",
            name,
        )

    def shown() -> list[str]:
        return [text.removeprefix("● ") for text in browser.execute_script(SHOWN)]

    means = {row.label: row.numbers["auroc"].mean for row in board.rows}
    down = sorted(means, key=lambda label: -means[label])
    column("AUROC")
    assert shown() == down
    column("AUROC")
    assert shown() == down[::-1]
    column("Coverage")
    assert set(shown()[-2:]) == {"reweighing", CONSTANT} or shown()[-1] == CONSTANT
    for field, value, expected in (
        ("words", "copy_1", {"copy_1"}),
        ("words", "", set(means)),
        ("kind", "mitigator", {"reweighing"}),
        ("kind", "baseline", {REAL, CONSTANT}),
    ):
        browser.execute_script(
            "const f = document.getElementById(arguments[0]); f.value = arguments[1]; "
            "f.dispatchEvent(new Event('input', { bubbles: true }))", field, value
        )  # fmt: skip
        assert set(shown()) == expected
    assert [e for e in browser.get_log("browser") if e["level"] == "SEVERE"] == []
