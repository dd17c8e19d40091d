"""Numbers written by people are read, and written back to the letter; what only looks like them stays text."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fairsynth.data.number_text import NumberText, written_numbers
from fairsynth.data.streams import StreamedTable
from fairsynth.data.table import Table
from fairsynth.errors import FairsynthWarning
from fairsynth.generators.fair_trees import FairTrees

WAYS = [
    NumberText(before, thousands, decimal, after, places)
    for before in ("", "$", "€ ")
    for thousands, decimal in ((",", "."), (".", ","), (" ", ","), ("'", "."), ("", ","))
    for after in ("", "%", " €")
    for places in (0, 2, None)
] + [
    NumberText("", "", ",", "", None, one_at_least=True),
    NumberText("", ",", ".", "", 0, bracketed=True),
    NumberText("$", ",", ".", "", 2, bracketed=True),
    NumberText("", ".", ",", " €", None, bracketed=True),
]


@given(
    way=st.sampled_from(WAYS),
    cents=st.lists(st.integers(-(10**13), 10**13), min_size=1, max_size=30),
)
def test_what_is_written_is_read_again(way: NumberText, cents: list[int]) -> None:
    scale = 1.0 if way.places == 0 else 100.0
    numbers = pl.Series("n", [float(cent) for cent in cents]) / scale
    numbers = numbers.cast(pl.Int64) if way.places == 0 else numbers
    texts = way.write(numbers)
    assert way.read(texts).cast(pl.Float64).to_list() == pytest.approx(numbers.to_list(), rel=1e-12)
    assert NumberText.of(way.pattern) is not None
    assert NumberText.of(way.pattern).write(numbers).equals(texts)  # type: ignore[union-attr]


@pytest.mark.parametrize(
    ("texts", "pattern", "numbers"),
    [
        (["$1,234.50", "$999.00", "-$12,000.10"], "$#,##0.00", [1234.5, 999, -12000.1]),
        (["1.234,50 €", None, "3,10 €"], "#.##0,00 €", [1234.5, None, 3.1]),
        (["12,5", "7", "1,25"], "#.##0,##", [12.5, 7, 1.25]),
        (["40%", "5%"], "#,##0%", [40, 5]),
        (["1,234", "2,345"], "#,##0", [1234, 2345]),
        (["0,123", "0,456"], "###0,000", [0.123, 0.456]),
        (["1234,5", "12,25"], "###0,##", [1234.5, 12.25]),
        (["1234,57", "31699,0", "12,5"], "###0,0##", [1234.57, 31699, 12.5]),
        (["1'200.5", "30"], "#'##0.##", [1200.5, 30]),
        (["1,006", "(1,006)", None, "(12)", "0"], "#,##0;(#,##0)", [1006, -1006, None, -12, 0]),
        (["$1,006.50", "($1,006.00)"], "$#,##0.00;($#,##0.00)", [1006.5, -1006]),
        (["(5)", "(7)"], "#,##0;(#,##0)", [-5, -7]),
    ],
)
def test_how_numbers_are_written_is_found(texts: list[str], pattern: str, numbers: list[float]) -> None:
    found = written_numbers(pl.Series(texts))
    assert found is not None
    assert found[1].pattern == pattern
    assert found[0].to_list() == numbers


@pytest.mark.parametrize(
    "texts",
    [["A12", "A13"], ["1234", "5.5"], ["007%", "012%"], ["1,23,456"], ["€5", "$5"], ["$-5", "$3"], ["1,2 ", "x"],
     ["10.0.0.1", "10.0.0.2"], ["2021/05", "2021/06"], ["5 to 9", "10 to 19"], [None, None],
     ["552 100 554", "123 456 789"], ["552.100.554", "123.456.789"],
     ["(5)", "-5", "6"], ["(0)", "6"], ["(555) 123", "(556) 333"], ["(5", "6"], ["((5))", "6"]],
)  # fmt: skip
def test_what_only_looks_like_numbers_stays_text(texts: list[str]) -> None:
    assert written_numbers(pl.Series(texts, dtype=pl.String)) is None


def people(n: int = 300) -> pd.DataFrame:
    rng = np.random.default_rng(0)
    pay = rng.lognormal(10, 0.6, n).round(2)
    return pd.DataFrame(
        {
            "sex": rng.choice(["F", "M"], n),
            "pay": [f"${one:,.2f}" for one in pay],
            "share": [f"{one:.1f}".replace(".", ",") + " %" for one in rng.uniform(0, 99, n)],
            "band": rng.choice(["5%", "10%", "20%"], n),
            "good": np.where(pay > 22_000, "yes", "no"),
        }
    )


@pytest.mark.parametrize("of", ["file", "frame"])
def test_a_table_reads_them_and_writes_them_back(of: str, tmp_path: Path) -> None:
    frame = people()
    frame.loc[3, "pay"] = None
    frame.to_csv(tmp_path / "people.csv", index=False, sep=";")
    table = Table(
        tmp_path / "people.csv" if of == "file" else frame, target="good", favorable="yes", sensitive="sex"
    )
    assert [table.schema[name].kind for name in ("pay", "share", "band")] == [
        "continuous",
        "continuous",
        "categorical",
    ]
    assert table.frame["pay"][0] == float(frame["pay"][0].replace("$", "").replace(",", ""))
    told = " ".join(table.schema.notes)
    assert "'pay' holds numbers written as '$#,##0.00'" in told
    assert not any(value in told for value in frame["pay"].dropna())  # notes leave with the model
    back = table.native()
    back = back if of == "frame" else back.to_pandas()
    assert back["share"].tolist() == frame["share"].tolist()
    assert back["pay"].isna().sum() == 1
    assert back["pay"].dropna().tolist() == frame["pay"].dropna().tolist()


@pytest.mark.parametrize("pattern", ["#,##0;", "#,##0;(#.##0)", "#,##0;#,##0", "#,##0;(#,##0);(#,##0)", ";"])
def test_a_pattern_that_says_nothing_of_negative_numbers_is_none(pattern: str) -> None:
    assert NumberText.of(pattern) is None


def test_losses_in_brackets_are_numbers_and_drawn_in_brackets() -> None:
    rng = np.random.default_rng(1)
    net = rng.normal(500, 4000, 600).round().astype(int)
    frame = pd.DataFrame({
        "sex": rng.choice(["F", "M"], 600), "net": [f"({-one:,})" if one < 0 else f"{one:,}" for one in net],
        "good": np.where(net + rng.normal(0, 2000, 600) > 0, "yes", "no"),
    })  # fmt: skip
    table = Table(frame, target="good", favorable="yes", sensitive="sex")
    assert table.schema["net"].kind == "integer"
    assert table.frame["net"].to_list() == net.tolist()
    drawn = FairTrees(calibrate=False, seed=0).fit(table).sample(600, seed=0)
    texts = drawn["net"].astype(str)
    assert texts.str.fullmatch(r"\(?\d{1,3}(,\d{3})*\)?").all()
    assert (texts.str.startswith("(") == texts.str.endswith(")")).all()
    assert texts.str.startswith("(").mean() == pytest.approx((net < 0).mean(), abs=0.08)


def test_another_file_may_write_some_plainly_and_a_wrong_one_is_named() -> None:
    table = Table(people(), target="good", favorable="yes", sensitive="sex")
    other = people(30)
    other.loc[0, "pay"] = "1234.5"
    assert table.align(other).frame["pay"][0] == 1234.5
    other.loc[1, "pay"] = "12 coins"
    with pytest.raises(Exception, match=r"'pay' should be continuous.*12 coins"):
        table.align(other)


def test_they_can_be_kept_as_text_or_be_target_and_groups() -> None:
    kept = Table(people(), target="good", favorable="yes", sensitive="sex", kinds={"share": "categorical"})
    assert kept.schema["share"].kind == "categorical"
    assert Table(people(), target="pay", sensitive="sex").schema["pay"].kind == "continuous"
    cut = Table(people(), target="good", favorable="yes", sensitive={"share": [50]})
    assert len(cut.groups().names) == 2


def test_files_read_in_parts_are_read_alike(tmp_path: Path) -> None:
    pl.from_pandas(people(2_000)).write_parquet(tmp_path / "people.parquet")
    stream = StreamedTable(
        tmp_path / "people.parquet", target="good", favorable="yes", sensitive="sex", sample_rows=1_000
    )
    assert stream.schema["pay"].format == "$#,##0.00"
    with pytest.warns(FairsynthWarning, match="written as"):
        rows = FairTrees(seed=0).fit(stream).sample(200, seed=0)
    assert rows["pay"].str.contains(r"^\$\d{1,3}(,\d{3})*\.\d\d$").all()
    assert rows["share"].str.contains(r"^\d{1,2},\d %$").all()
