"""Plans are read as they are meant, and every mistake is named with its line."""

from __future__ import annotations

import re
import sys
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "helpers"))
from toys import proxy_frame

from fairsynth.benchmark import datasets
from fairsynth.benchmark.methods import check
from fairsynth.benchmark.plan import Objective, parse_plan, read_plan
from fairsynth.benchmark.toml_lines import line_of, locate, paths
from fairsynth.errors import DataError, SettingsError

HERE = Path("plan.toml")


def refused(text: str) -> str:
    with pytest.raises(SettingsError) as caught:
        parse_plan(text, HERE)
    return str(caught.value)


def test_the_shortest_plan() -> None:
    plan = parse_plan('datasets = ["adult"]\nmodels = ["fairvae", "reweighing"]\n', HERE)
    assert [d.name for d in plan.datasets] == ["adult"]
    assert [m.title for m in plan.models] == ["fairvae", "reweighing"]
    assert plan.seeds == [0, 1, 2]
    assert (plan.depth, plan.criteria, plan.strengths) == ("quick", ["demographic_parity"], [1.0])


def test_a_number_of_seeds_and_a_file_of_ones_own(tmp_path: Path) -> None:
    text = """
seeds = 4
models = ["fairvae"]
[[datasets]]
name = "ours"
path = "rows.csv"
target = "hired"
favorable = 1
sensitive = { age = [40], sex = [] }
[limits]
seconds = 60
"""
    (tmp_path / "plan.toml").write_text(text)
    plan = read_plan(tmp_path / "plan.toml")
    assert plan.seeds == [0, 1, 2, 3]
    assert plan.datasets[0].path == str(tmp_path / "rows.csv")
    assert plan.limits.seconds == 60


def test_all_mistakes_are_named_with_their_lines() -> None:
    text = """name = "x"
seeds = [0, -1, 0]
depths = "quick"
datasets = ["adult", { name = "ours", path = "a.csv" }]
criteria = ["fairness"]

[limits]
seconds = 0

[[models]]
name = "fairvae"

[[models]]
label = "other"
[models.search]
latent = { low = 8, high = 4 }
"""
    told = refused(text)
    found = {int(line): what for line, what in re.findall(r"line (\d+): (.*?)(?=; line \d+:|\.$)", told)}
    assert set(found) == {2, 3, 4, 5, 8, 13, 16}, told
    assert "seeds[2]" in found[2] and "given: -1" in found[2]
    assert "no such key" in found[3] and "depth" in found[3]
    assert "needs target" in found[4]
    assert "demographic_parity" in found[5]
    assert "name" in found[13] and "missing" in found[13]
    assert "must lie below" in found[16]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("datasets = [", "no TOML"),
        ('datasets = ["a", "a"]\nmodels = ["b"]', "line 1: datasets[2]: 'a' stands here twice"),
        ('datasets = ["a"]\nmodels = ["b",\n"b"]', "line 3: models[2]: 'b' stands here twice; give one a label"),
        ('datasets = ["a"]\nmodels = []', "line 2: models"),
        ('datasets = ["a"]\nmodels = ["real"]', "needs no entry"),
        ('datasets = [{name = "a", target = "y"}]\nmodels = ["b"]', "only for a file of one's own"),
        ('datasets = ["a"]\nmodels = ["b"]\n[search]\nobjective = "best"', "line 4: search: 'best' is not of"),
        ('datasets = ["a"]\nmodels = ["b"]\nstrengths = [1.5]', "less than or equal to 1 (given: 1.5)"),
        ('datasets = ["a"]\nmodels = ["b"]\nseeds = true', "line 3: seeds"),
        ('datasets = ["a"]\n[[models]]\nname = "b"\nsettings = {x = 1}\nsearch = {x = [1, 2]}', "set and searched"),
    ],
)  # fmt: skip
def test_mistakes(text: str, words: str) -> None:
    told = refused(text)
    assert words in told.replace("search.objective", "search"), told
    assert told.startswith("plan.toml: ")


def test_objectives() -> None:
    found = Objective.parse("max auroc where dpr >= 0.9 and c2st <= .7")
    assert (found.metric, found.maximize) == ("auroc", True)
    assert found.bounds == (("dpr", ">=", 0.9), ("c2st", "<=", 0.7))
    assert Objective.parse("min  brier") == Objective(metric="brier", maximize=False)
    for wrong in (
        "auroc",
        "max",
        "max auroc where dpr",
        "max auroc where dpr > 0.9",
        "max auroc and dpr >= 1",
    ):
        with pytest.raises(ValueError, match="form"):
            Objective.parse(wrong)


def checked(path: Path) -> dict[str, Any]:
    return check(read_plan(path), path.read_text(), path)


def test_methods_and_settings_are_looked_up(plan_file: Callable[..., Path]) -> None:
    models = """
[[models]]
name = "fairvay"
[[models]]
name = "outside-copy"
[models.settings]
does = 3
nothing = true
[[models]]
name = "reweighing"
criteria = ["equalized_odds"]
[[models]]
name = "outside-broken"
[[models]]
name = "threshold-optimizer"
search = { grid = [1, 2] }
"""
    path = plan_file(models, 'metrics = ["rows-a-column", "nobody"]')
    with pytest.raises(SettingsError) as caught:
        checked(path)
    told, lines = str(caught.value), path.read_text().splitlines()
    for line, words in (
        ('name = "fairvay"', "there is no method 'fairvay'"),
        ("does = 3", "valid string"),
        ("nothing = true", "no such setting; it has does, log, noise, seconds"),
        ('criteria = ["equalized_odds"]', "cannot be asked for equalized_odds"),
        ('name = "outside-broken"', "cannot be imported: AttributeError"),
        ("search = { grid = [1, 2] }", "no such setting"),
        (
            'metrics = ["rows-a-column", "nobody"]',
            "there is no metric 'nobody' of another package; installed are rows",
        ),
    ):
        number = lines.index(line) + 1
        assert re.search(rf"line {number}: [^;]*{re.escape(words[:40])}", told), (line, told)


def test_methods_of_other_packages_are_found(plan_file: Callable[..., Path]) -> None:
    found = checked(plan_file('[[models]]\nname = "outside-copy"'))
    assert found["outside-copy"].kind == "generator"
    assert "equalized_odds" in found["outside-copy"].criteria


# ---- lines --------------------------------------------------------------------------------------

TEXT = '''# a comment with = and [brackets]
title = "a # b" # another
'quoted key' = """
many
lines = 3
"""
list = [ 1,
  { a = 1, b.c = [ "x]", 'y' ] },  # in between }
  [ 2, 3 ],
]
[table."dotted.name"]
date = 1979-05-27 07:32:00
[[models]]
name = "one"
[models.settings]
x = -1.5e3
[[models]]
name = """two"""
settings.y = true
'''


def test_every_value_has_its_line() -> None:
    lines = locate(TEXT)
    for path, line in {
        ("title",): 2,
        ("quoted key",): 3,
        ("list", 0): 7,
        ("list", 1, "a"): 8,
        ("list", 1, "b", "c", 1): 8,
        ("list", 2, 1): 9,
        ("table", "dotted.name", "date"): 12,
        ("models", 0): 13,
        ("models", 0, "settings", "x"): 16,
        ("models", 1, "name"): 18,
        ("models", 1, "settings", "y"): 19,
    }.items():
        assert lines[path] == line, path
    assert line_of(lines, ("models", 1, "missing", 3)) == 17
    assert line_of(lines, ("nowhere",)) == 1


KEYS = st.text("abc-_1 \"'\\.#=[]é", min_size=1, max_size=5)
SCALARS = st.one_of(
    st.integers(-9, 9), st.booleans(), st.text("ab\"'\\#]}=, \n", max_size=6), st.floats(0, 1)
)
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS, inner, max_size=3),
    max_leaves=8,
)


def as_toml(value: Any) -> str:
    import json

    if isinstance(value, dict):
        return (
            "{"
            + ", ".join(f"{json.dumps(k, ensure_ascii=False)} = {as_toml(v)}" for k, v in value.items())
            + "}"
        )
    if isinstance(value, list):
        return "[\n" + ",\n".join(as_toml(v) for v in value) + "\n]"
    if isinstance(value, float):
        return repr(value) if "." in repr(value) or "e" in repr(value) else f"{value}.0"
    return json.dumps(value, ensure_ascii=False)


@settings(max_examples=150, deadline=None)
@given(st.dictionaries(KEYS, VALUES, max_size=4), st.dictionaries(KEYS, VALUES, max_size=3))
def test_nothing_that_tomllib_reads_is_without_a_line(top: dict[str, Any], inner: dict[str, Any]) -> None:
    import json

    lines = [f"{json.dumps(k, ensure_ascii=False)} = {as_toml(v)}" for k, v in top.items()]
    lines += ["[[zz.yy]]", *(f"{json.dumps(k, ensure_ascii=False)}={as_toml(v)}" for k, v in inner.items())]
    text = "\n".join(lines)
    found, document = locate(text), tomllib.loads(text)
    assert set(paths(document)) <= set(found)
    for key in top:
        assert text.split("\n")[found[(key,)] - 1].startswith(json.dumps(key, ensure_ascii=False))


def _by_town(tmp_path: Path, unseen: str) -> Any:
    frame = proxy_frame(400, 0).with_columns(pl.Series("town", ["x", "y", "z", None] * 100))
    frame.write_csv(tmp_path / "towns.csv")
    text = f"""
models = ["reweighing"]
[[datasets]]
name = "without one"
path = "towns.csv"
target = "paid"
favorable = "yes"
sensitive = "sex"
domain = "town"
unseen = "{unseen}"
"""
    return parse_plan(text, tmp_path / "plan.toml").datasets[0]


def test_an_unseen_domain_is_tested_on_and_not_trained_on(tmp_path: Path) -> None:
    train, test = datasets.load(_by_town(tmp_path, "y"))
    whole = parse_plan(
        'models = ["a"]\n[[datasets]]\nname = "all"\npath = "towns.csv"\ntarget = "paid"\nfavorable = "yes"\n'
        'sensitive = "sex"\ndomain = "town"\n',
        tmp_path / "plan.toml",
    ).datasets[0]
    all_train, all_test = datasets.load(whole)
    assert set(train.frame["town"]) == {"x", "z"}  # nor those of whom it is not known
    assert len(train) == all_train.frame["town"].is_in(["x", "z"]).sum()
    assert set(test.frame["town"]) == {"y"} and len(test) == (all_test.frame["town"] == "y").sum()
    with pytest.raises(DataError, match="there are x, y, z"):
        datasets.load(_by_town(tmp_path, "w"))
    assert datasets.digest(train, test) != datasets.digest(all_train, all_test)


def test_later_models_do_not_see_a_column_of_unseen_values(tmp_path: Path) -> None:
    train, test = datasets.load(_by_town(tmp_path, "y"))
    left = datasets.comparable(train, test, train)
    assert all("town" not in table.schema.names and table.schema.domain is None for table in left)
    assert left[0].frame.equals(train.frame.drop("town")) and left[1].frame.equals(test.frame.drop("town"))
    same = datasets.comparable(train, train, train)
    assert all(table is train for table in same)


def test_one_data_set_may_stand_in_a_plan_under_several_names() -> None:
    two = '[{name = "a", catalog = "adult"}, {name = "b", catalog = "adult"}]'
    plan = parse_plan(f'models = ["a"]\ndatasets = {two}', HERE)
    assert [d.catalog for d in plan.datasets] == ["adult", "adult"]
    with pytest.raises(SettingsError, match="keep one"):
        parse_plan('models = ["a"]\ndatasets = [{name = "a", catalog = "adult", path = "a.csv"}]', HERE)


def test_the_plans_of_the_papers_are_plans() -> None:
    """Read as they stand; methods and settings, too."""
    found = sorted((Path(__file__).parents[2] / "benchmarks" / "papers").glob("*.toml"))
    assert len(found) == 6
    for path in found:
        assert check(read_plan(path), path.read_text(), path)
