"""Tables that do not match: each a clear error, or a repair that is counted and said. Nothing in silence.

Every case goes through `evaluate` and through the command line, as the synthetic and as the test rows.
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from typer.testing import CliRunner

from fairsynth.cli import app
from fairsynth.data.table import Table
from fairsynth.errors import FairsynthError
from fairsynth.evaluation.evaluate import evaluate
from fairsynth.report.verdict import verdict

N = 240
FEW = pl.int_range(N) < 7


def people(seed: int) -> pl.DataFrame:
    rng = np.random.default_rng(seed)
    sex, x = rng.integers(0, 2, N), rng.normal(size=N)
    return pl.DataFrame(
        {
            "sex": np.array(["f", "m"])[sex],
            "age": rng.integers(18, 80, N),
            "income": x.round(2),
            "job": np.array(["cook", "nurse", "smith"])[rng.integers(0, 3, N)],
            "hired": np.where(rng.random(N) < 1 / (1 + np.exp(-x - sex)), "yes", "no"),
        }
    )


def some(column: str, value: str) -> pl.Expr:
    return pl.when(FEW).then(pl.lit(value)).otherwise(pl.col(column)).alias(column)


MISSING = pl.lit(None, dtype=pl.Float64).alias("income")
#: What is done to the rows, and the words of the error; the same for synthetic and for test rows.
REFUSED = {
    "missing column": (lambda f: f.drop("income"), ["lacks 'income'", "sex, age, income, job, hired"]),
    "extra column": (lambda f: f.with_columns(shoe=pl.lit(42)), ["has 'shoe'"]),
    "other dtype": (lambda f: f.with_columns(income=pl.lit("lots")), ["'income'", "240", "'lots'", "row"]),
    "unseen label": (lambda f: f.with_columns(some("hired", "maybe")), ["target 'hired'", "'maybe'"]),
    "no label": (lambda f: f.with_columns(hired=pl.lit(None, dtype=pl.String)), ["'hired'", "missing"]),
    "infinite": (lambda f: f.with_columns(income=pl.lit(np.inf)), ["'income'", "240 infinite"]),
    "no rows": (lambda f: f.clear(), ["rows"]),
}
#: What is done to the rows, and the words with which the repair is counted.
REPAIRED = {
    "unseen levels": (
        lambda f: f.with_columns(some("job", "astronaut")),
        ["'job'", "7 values", "'astronaut'"],
    ),
    "unseen group": (lambda f: f.with_columns(some("sex", "x")), ["'sex'", "7 values", "'x'"]),
    "fractions": (lambda f: f.with_columns(pl.col("age") + 0.5), ["'age'", "240 fractions", "rounded"]),
    "all missing": (lambda f: f.with_columns(MISSING), ["'income'", "240 missing"]),
}
REAL = people(0)
TRAIN = Table(REAL, target="hired", favorable=["yes"], sensitive=["sex"])
QUICK = {"models": ("logistic_regression",), "depth": "quick"}


def tables(role: str, altered: pl.DataFrame) -> dict[str, pl.DataFrame]:
    return {"test": people(1), "synthetic": people(2), role: altered}


def command_line(folder: Path, role: str, altered: pl.DataFrame) -> list[str]:
    REAL.write_csv(folder / "train.csv")
    for name, frame in tables(role, altered).items():
        frame.write_csv(folder / f"{name}.csv")
    roles = ["--target", "hired", "--favorable", "yes", "--sensitive", "sex"]
    files = [f"--{n}={folder / f}.csv" for n, f in (("real", "train"), ("test", "test"))]
    files.append(f"--synthetic={folder / 'synthetic.csv'}")
    return ["evaluate", *files, *roles, "--quick", "--downstream", "logistic_regression", "--threads", "1"]


@pytest.mark.parametrize("role", ["synthetic", "test"])
@pytest.mark.parametrize("case", REFUSED)
def test_what_cannot_be_judged_is_refused(case: str, role: str, tmp_path: Path) -> None:
    alter, words = REFUSED[case]
    with pytest.raises(FairsynthError) as caught:
        evaluate(TRAIN, **tables(role, alter(people(3))), **QUICK)
    for word in [role, *words]:
        assert word in str(caught.value)
    report = tmp_path / "report.html"
    done = CliRunner().invoke(app, [*command_line(tmp_path, role, alter(people(3))), "-o", str(report)])
    assert done.exit_code == 2, done.output
    assert done.stderr.startswith("Error: ")
    assert "Traceback" not in done.output
    assert words[0] in done.stderr or case in ("no rows", "infinite", "no label")
    assert not report.exists()


@pytest.mark.parametrize("role", ["synthetic", "test"])
@pytest.mark.parametrize("case", REPAIRED)
def test_what_can_be_repaired_is_counted(case: str, role: str, tmp_path: Path) -> None:
    alter, words = REPAIRED[case]
    found = evaluate(TRAIN, **tables(role, alter(people(3))), **QUICK)
    (said,) = found.meta["repairs"][role]
    assert all(word in said for word in words), said
    assert found.meta["rows"][role] == N
    other = {"synthetic": "test", "test": "synthetic"}[role]
    assert found.meta["repairs"][other] == []
    scores = tmp_path / "scores.json"
    done = CliRunner().invoke(app, [*command_line(tmp_path, role, alter(people(3))), "--json", str(scores)])
    assert done.exit_code == 0, done.output
    (told,) = json.loads(scores.read_text())["meta"]["repairs"][role]
    assert all(word in told for word in words), told


def test_repairs_stand_in_the_report() -> None:
    from fairsynth.report import render_html

    altered = people(3).with_columns(some("job", "astronaut"))
    page = render_html(evaluate(TRAIN, people(1), altered, **QUICK), projections=("pca",))
    assert "7 values outside the known levels" in page


def test_one_class_among_the_synthetic_rows_is_said_and_judged() -> None:
    found = evaluate(TRAIN, people(1), people(2).with_columns(hired=pl.lit("no")), **QUICK)
    assert "one class only" in found.score("dpr").note
    table = verdict(found).tables[0]
    assert table.answer("fair").level == table.answer("useful").level == "poor"


def test_one_class_among_the_test_rows_is_refused(tmp_path: Path) -> None:
    one = people(1).with_columns(hired=pl.lit("no"))
    with pytest.raises(FairsynthError, match="test rows have no favorable labels in 'hired'"):
        evaluate(TRAIN, one, people(2), **QUICK)
    done = CliRunner().invoke(app, command_line(tmp_path, "test", one))
    assert done.exit_code == 2
    assert "no favorable labels" in done.stderr


def test_one_group_among_the_synthetic_rows_is_said_and_judged() -> None:
    found = evaluate(TRAIN, people(1), people(2).with_columns(sex=pl.lit("f")), **QUICK)
    assert found.value("group_share", attribute="sex", group="m") == 0
    answer = verdict(found).tables[0].answer("faithful")
    assert any(r.level == "poor" and "Nobody in it belongs to m" in r.text for r in answer.reasons)


def test_one_group_among_the_test_rows_is_refused() -> None:
    with pytest.raises(FairsynthError, match="'sex' has one level \\('f'\\) in the test rows"):
        evaluate(TRAIN, people(1).with_columns(sex=pl.lit("f")), people(2), **QUICK)


def test_the_order_of_columns_and_numbers_as_text_change_nothing() -> None:
    plain = evaluate(TRAIN, people(1), people(2), **QUICK)
    other = people(2).with_columns(pl.col("income").cast(pl.String)).select(REAL.columns[::-1])
    assert evaluate(TRAIN, people(1), other, **QUICK).scores == plain.scores


def test_a_handful_of_rows_is_refused() -> None:
    with pytest.raises(FairsynthError, match="synthetic rows are 2; at least 6"):
        evaluate(TRAIN, people(1), people(2)[:2], **QUICK)
