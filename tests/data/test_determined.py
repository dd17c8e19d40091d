"""Columns that another one decides are drawn as it says."""

from typing import Any

import numpy as np
import polars as pl
import pytest

from fairsynth import AuditedTrees, Fairness, FairTrees, PlainVAE, Table, load_generator
from fairsynth.data.determined import Told
from fairsynth.data.encoding import TableEncoder
from fairsynth.errors import DataError
from fairsynth.generators import tree_rows

ROLES: dict[str, Any] = {"target": "good", "favorable": "yes", "sensitive": "sex"}


def jobs(n: int = 4_000, levels: int = 60, seed: int = 0) -> pl.DataFrame:
    """A code, its name, the sector that it is in, and a place that it does not decide."""
    rng = np.random.default_rng(seed)
    code = np.minimum(rng.zipf(1.35, n), levels)
    score = rng.normal(size=n)
    return pl.DataFrame(
        {
            "sex": rng.choice(["f", "m"], n),
            "name": [f"job {own * 37 % 101}" for own in code],
            "code": [f"K{own:03d}" for own in code],
            "grade": code * 7 + 1_000,
            "sector": [f"sector {own % 7}" for own in code],
            "place": [f"place {own}" for own in rng.integers(0, 40, n)],
            "score": score.round(2),
            "good": np.where(score + 0.1 * (code % 7) + rng.normal(0, 1, n) > 0.5, "yes", "no"),
        }
    )


def broken(frame: pl.DataFrame, real: pl.DataFrame, one: str, other: str) -> float:
    """Share of the rows whose two values never stand together in the real ones."""
    pairs = set(real.select(one, other).unique().rows())
    return float(np.mean([row not in pairs for row in frame.select(one, other).rows()]))


def test_what_is_decided_is_found() -> None:
    encoder = TableEncoder.learn(Table(jobs(), **ROLES))
    told = {name: own.by for name, own in encoder.told_by.items()}
    assert set(told) == {"code", "grade", "sector", "name"} - {
        *told.values()
    }  # one of the equals decides the others
    assert "sector" in told
    assert len(set(told.values())) == 1
    few = TableEncoder.learn(Table(jobs(levels=12), **ROLES))
    assert not few.told_by  # trees part so few values


def test_what_decides_one_row_in_a_hundred_otherwise_decides_nothing() -> None:
    frame = jobs()
    mixed = frame.with_columns(
        sector=pl.when(pl.int_range(pl.len()) % 100 == 0).then(pl.lit("sector 8")).otherwise(pl.col("sector"))
    )
    assert "sector" not in TableEncoder.learn(Table(mixed, **ROLES)).told_by


@pytest.mark.parametrize("generator", [FairTrees(calibrate=False, seed=0), PlainVAE(epochs=1, seed=0)])
def test_drawn_rows_keep_to_it(generator: Any, tmp_path: Any) -> None:
    real = jobs()
    drawn = generator.fit(Table(real, **ROLES)).sample(4_000, seed=0)
    rare = real["code"].value_counts().filter(pl.col("count") < 5)["code"].implode()
    usual = drawn.filter(~pl.col("code").is_in(rare))
    for other in ("name", "sector"):
        frequent = real.filter(~pl.col("code").is_in(rare))
        assert broken(usual, frequent, "code", other) <= 0.02
    generator.save(tmp_path / "own.fairsynth")
    again = load_generator(tmp_path / "own.fairsynth").sample(500, seed=1)
    assert again.equals(generator.sample(500, seed=1))


def test_a_value_of_either_can_be_asked_for_and_fits_the_other() -> None:
    real = jobs()
    teacher = FairTrees(calibrate=False, seed=0).fit(Table(real, **ROLES))
    rows = teacher.sample(300, seed=0, where={"sector": "sector 3"})
    assert set(rows["sector"]) == {"sector 3"}
    assert broken(rows, real, "code", "sector") <= 0.02
    rows = teacher.sample(100, seed=0, where={"code": "K003"})
    assert set(rows["sector"]) == {"sector 3"}
    assert set(rows["name"]) == {f"job {3 * 37 % 101}"}


def sectors(n: int = 4_000) -> pl.DataFrame:
    """A sector that pay and score hang on, so that it is drawn before the code that decides it."""
    frame, rng = jobs(n, levels=300), np.random.default_rng(1)
    sector = frame["code"].str.extract(r"(\d+)").cast(pl.Int64) % 23
    return frame.drop("name", "grade").with_columns(
        sector=pl.format("sector {}", sector),
        score=sector * 3.0 + pl.Series(rng.normal(size=n)).round(2),
        pay=sector * 1_000 + pl.Series(rng.integers(0, 500, n)),
    )


def test_what_decides_a_column_that_was_drawn_before_is_drawn_to_fit_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    real = sectors(1_200)
    table = Table(real, **ROLES)
    teacher = FairTrees(calibrate=False, seed=0).fit(table)
    lines, encoder = teacher.lines_, teacher.lines_.layout.encoder
    code, own = encoder.index("code"), encoder.index("sector")
    assert encoder.told_by["sector"].by == "code"
    assert (lines.decides, lines.decided) == ({code: [own]}, {})  # the sector tells more, and so comes first
    levels = np.random.default_rng(0).integers(0, 2, (20_000, 1))
    apart = []
    for tries in (8, 0):  # without another try the sector has to give way
        monkeypatch.setattr(tree_rows, "TRIES", tries)
        drawn = tree_rows.draw_rows(
            lines, teacher.trees_, levels, np.random.default_rng(0),
            lambda _, part, __: np.zeros(part.stop - part.start, dtype=np.int64),
        )  # fmt: skip
        assert (encoder.decided(own, drawn[code], drawn[own]) == drawn[own]).all()
        rows = encoder.decode(drawn, np.random.default_rng(0))
        sector = rows["sector"].cast(pl.String).str.extract(r"(\d+)").cast(pl.Int64)
        apart.append((rows["pay"] // 1_000 != sector).mean())
    assert apart[0] < apart[1]


def test_a_student_keeps_to_it(tmp_path: Any) -> None:
    real = jobs()
    teacher = AuditedTrees(fairness=Fairness(strength=0.0), seed=0).fit(Table(real, **ROLES))
    teacher.save(tmp_path / "teacher.fairsynth")
    student = AuditedTrees(seed=0).distill(tmp_path / "teacher.fairsynth", rows=4_000)
    assert broken(student.sample(3_000, seed=0), real, "code", "sector") <= 0.03


def test_labels_and_sensitive_columns_neither_decide_nor_are_decided() -> None:
    frame = jobs().with_columns(
        sex=pl.col("sector"),
        good=pl.when(pl.col("code") < "K003").then(pl.lit("yes")).otherwise(pl.lit("no")),
    )
    told = TableEncoder.learn(Table(frame.drop("sector"), **ROLES)).told_by
    assert not {"sex", "good"} & {*told, *(own.by for own in told.values())}


def test_rare_values_are_not_told() -> None:
    real = jobs(2_500, levels=300)
    encoder = TableEncoder.learn(Table(real, **ROLES))
    [(by, own)] = {(own.by, own) for name, own in encoder.told_by.items() if name == "sector"}
    counts = np.bincount(
        encoder.encode(Table(real, **ROLES))[:, encoder.index(by)], minlength=len(own.states)
    )
    assert (np.asarray(own.states)[counts < 5] == -1).all()
    assert (np.asarray(own.states)[counts >= 5] >= 0).all()


def test_what_cannot_be_decided_is_refused() -> None:
    table = Table(jobs(), **ROLES)
    encoder = TableEncoder.learn(table)
    by = encoder.told_by["sector"].by
    size = encoder.sizes[encoder.index(by)]

    def with_told(name: str, told: Told) -> TableEncoder:
        update = {"told_by": told.by, "told": told.states}
        return TableEncoder(
            table.schema, [p.model_copy(update=update) if p.name == name else p for p in encoder.states]
        )

    assert with_told("place", Told(by, (-1,) * size)).told_by["place"].by == by
    for name, told in (
        ("place", Told("nobody", (0,))), ("place", Told(by, (0,) * (size + 1))), ("place", Told(by, (99,) * size)),
        ("place", Told("sector", (0,) * 7)), ("good", Told(by, (0,) * size)), ("sex", Told(by, (0,) * size)),
    ):  # fmt: skip
        with pytest.raises(DataError):
            with_told(name, told)


def pupils(n: int = 3_000, seed: int = 0) -> pl.DataFrame:
    """Pupils of two hundred schools with numbers far apart, many of them small, of some size and average."""
    rng = np.random.default_rng(seed)
    weight = rng.pareto(1.0, 200) + 0.05
    school = rng.choice(200, n, p=weight / weight.sum())
    score = rng.normal(size=n)
    return pl.DataFrame(
        {
            "sex": rng.choice(["f", "m"], n),
            "school": rng.choice(100_000, 200, replace=False)[school],
            "size": rng.integers(10, 60, 200)[school],
            "average": rng.normal(size=200)[school].round(4),
            "score": score.round(2),
            "good": np.where(score + rng.normal(0, 1, n) > 0.5, "yes", "no"),
        }
    )


def test_codes_too_rare_to_be_states_do_not_speak_for_their_neighbours() -> None:
    real = pupils()
    counts = real["school"].value_counts()
    rare = counts.filter(pl.col("count") < 5)["school"]
    assert real["school"].is_in(rare.implode()).mean() > 0.01  # they would break what the others decide
    table = Table(real, **ROLES)
    encoder = TableEncoder.learn(table)
    assert {name: own.by for name, own in encoder.told_by.items()} == {"size": "school", "average": "school"}
    drawn = AuditedTrees(fairness=Fairness(strength=0.0), seed=0).fit(table).sample(3_000, seed=0)
    assert not drawn["school"].is_in(rare.implode()).any()
    for other in ("size", "average"):
        assert broken(drawn, real, "school", other) < 0.01
