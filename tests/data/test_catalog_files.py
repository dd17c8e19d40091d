"""Files of publishers: fetched once, checked always, and worked into the very tables that are known of them."""

from __future__ import annotations

import gzip
import hashlib
import io
import threading
import warnings
import zipfile
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pandas as pd
import polars as pl
import pytest

from fairsynth.data import Table, load_dataset
from fairsynth.data.catalog import describe_dataset, download_dataset, fetch, list_datasets
from fairsynth.data.catalog.places import entries
from fairsynth.errors import DataError, FairsynthWarning

ROWS = "sex,n,ok\n" + "".join(f"{'FM'[i % 2]},{i % 9},{'yes' if i % 3 == 0 else 'no'}\n" for i in range(60))


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Give every test a cache of its own, and no folder."""
    monkeypatch.setenv("FAIRSYNTH_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("FAIRSYNTH_DATA", raising=False)
    monkeypatch.delenv("FAIRSYNTH_OFFLINE", raising=False)
    return tmp_path / "cache"


class Publisher:
    """A server of this machine in the place of a publisher's."""

    def __init__(self) -> None:
        self.files: dict[str, bytes] = {}
        self.asked: list[str] = []
        self.cut = False
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                outer.asked.append(self.path)
                body = outer.files.get(self.path)
                self.send_response(404 if body is None else 200)
                self.send_header("Content-Length", str(len(body or b"")))
                self.end_headers()
                self.wfile.write((body or b"")[: len(body or b"") // 2 if outer.cut else None])

            def log_message(self, *args: Any) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=self.server.serve_forever, daemon=True).start()
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}"


@pytest.fixture
def publisher() -> Iterator[Publisher]:
    made = Publisher()
    yield made
    made.server.shutdown()
    made.server.server_close()


def zipped(**members: bytes) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as held:
        for name, body in members.items():
            held.writestr(name, body)
    return buffer.getvalue()


def toy(folder: Path, publisher: Publisher, **file: str) -> Path:
    """Write the TOML of a data set that the publisher has."""
    told = {"name": "toy.csv", "url": f"{publisher.url}/toy.csv", **file}
    lines = [
        'target = "ok"',
        'favorable = "yes"',
        'sensitive = ["sex"]',
        'page = "https://example.org/toy"',
        "[[files]]",
    ]
    path = folder / "toy.toml"
    path.write_text("\n".join([*lines, *(f'{key} = "{value}"' for key, value in told.items())]) + "\n")
    return path


# ---- fetched once, checked always ----------------------------------------------------------------


def test_a_file_is_fetched_once_and_trusted_aloud(tmp_path: Path, publisher: Publisher, cache: Path) -> None:
    publisher.files["/toy.csv"] = ROWS.encode()
    path = toy(tmp_path, publisher)
    assert describe_dataset(str(path)).place == "download"
    assert "unknown" in describe_dataset(str(path)).checksums["toy.csv"]
    with pytest.warns(FairsynthWarning, match="trusted on first use"):
        train, test = load_dataset(str(path))
    assert len(train) + len(test) == 60
    kept = cache / "own-toy" / "toy.csv.sha256"
    found = hashlib.sha256(ROWS.encode()).hexdigest()
    assert kept.read_text() == f"{found}  toy.csv\n"
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        again, _ = load_dataset(str(path))
    assert again.frame.equals(train.frame)
    assert publisher.asked == ["/toy.csv"]
    info = describe_dataset(str(path))
    assert info.place == "cache"
    assert info.checksums["toy.csv"] == f"sha256 {found}, since its first use here"
    assert sorted(file.name for file in (cache / "own-toy").iterdir()) == ["toy.csv", "toy.csv.sha256"]


@pytest.mark.filterwarnings("ignore::fairsynth.errors.FairsynthWarning")
def test_a_file_that_changed_later_is_refused(tmp_path: Path, publisher: Publisher, cache: Path) -> None:
    publisher.files["/toy.csv"] = ROWS.encode()
    path = toy(tmp_path, publisher)
    load_dataset(str(path))
    held = cache / "own-toy" / "toy.csv"
    held.write_text(ROWS.replace("F,0,yes", "F,0,no"))
    with pytest.raises(DataError, match=r"has changed since it was first used.*toy\.csv\.sha256"):
        load_dataset(str(path))
    # Nor is it taken from the publisher, once another was trusted.
    held.unlink()
    publisher.files["/toy.csv"] = b"sex,n,ok\n"
    with pytest.raises(DataError, match="sent another toy.csv"):
        load_dataset(str(path))
    assert not held.exists()
    publisher.files["/toy.csv"] = ROWS.encode()
    assert len(load_dataset(str(path))[0]) == 42


def test_a_known_checksum_is_asked_for(tmp_path: Path, publisher: Publisher, cache: Path) -> None:
    publisher.files["/toy.csv"] = ROWS.encode()
    path = toy(tmp_path, publisher, sha256="0" * 64)
    with pytest.raises(DataError, match=r"sent another toy\.csv.*example\.org"):
        load_dataset(str(path))
    assert not list(cache.rglob("toy.csv*"))
    path = toy(tmp_path, publisher, sha256=hashlib.sha256(ROWS.encode()).hexdigest())
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        load_dataset(str(path))
    assert not list(cache.rglob("*.sha256"))
    (cache / "own-toy" / "toy.csv").write_text("else")
    with pytest.raises(DataError, match="is not the file"):
        load_dataset(str(path))


@pytest.mark.filterwarnings("ignore::fairsynth.errors.FairsynthWarning")
def test_archives_in_archives_are_opened(tmp_path: Path, publisher: Publisher, cache: Path) -> None:
    inner = zipped(**{"toy.csv": ROWS.encode(), "readme": b"no"})
    publisher.files["/all.zip"] = zipped(**{"folder/toy.zip": inner, "other.csv": b"x"})
    path = toy(tmp_path, publisher, url=f"{publisher.url}/all.zip", member="toy.zip/toy.csv")
    assert len(load_dataset(str(path))[0]) == 42
    assert sorted(file.name for file in (cache / "own-toy").iterdir()) == ["toy.csv", "toy.csv.sha256"]
    path = toy(tmp_path, publisher, url=f"{publisher.url}/all.zip", member="toys.csv", name="b.csv")
    with pytest.raises(DataError, match=r"holds no toys\.csv, but folder/toy\.zip, other\.csv"):
        load_dataset(str(path))
    publisher.files["/all.zip"] = b"<html>come back later</html>"
    with pytest.raises(DataError, match="no ZIP archive"):
        load_dataset(str(path))
    assert not (cache / "own-toy" / "b.csv").exists()


@pytest.mark.parametrize("trouble", ["gone", "cut", "offline", "refused"])
def test_without_the_file_the_way_to_it_is_said(
    tmp_path: Path, publisher: Publisher, cache: Path, trouble: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    publisher.files["/toy.csv"] = ROWS.encode()
    file = {}
    if trouble == "gone":
        publisher.files.clear()
    elif trouble == "cut":
        publisher.cut = True
    elif trouble == "offline":
        monkeypatch.setenv("FAIRSYNTH_OFFLINE", "1")
    else:
        publisher.server.shutdown()
        publisher.server.server_close()
    path = toy(tmp_path, publisher, **file)
    with pytest.raises(DataError) as caught:
        load_dataset(str(path))
    said = str(caught.value)
    assert f"Fetch {publisher.url}/toy.csv and put toy.csv into {tmp_path}" in said
    assert "https://example.org/toy" in said
    assert not list(cache.rglob("toy.csv*"))
    assert publisher.asked == ([] if trouble in ("offline", "refused") else ["/toy.csv"])
    # The remedy is one.
    (tmp_path / "toy.csv").write_text(ROWS)
    with pytest.warns(FairsynthWarning, match="trusted on first use"):
        assert len(load_dataset(str(path))[1]) == 18


def test_what_is_too_large_is_not_taken(
    tmp_path: Path, publisher: Publisher, monkeypatch: pytest.MonkeyPatch
) -> None:
    publisher.files["/toy.csv"] = ROWS.encode()
    monkeypatch.setattr(fetch, "MOST_BYTES", 100)
    with pytest.raises(DataError, match="sends more than"):
        load_dataset(str(toy(tmp_path, publisher)))


def test_a_checksum_that_cannot_be_kept_is_told(
    tmp_path: Path, publisher: Publisher, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "a file").write_text("in the place of a folder")
    monkeypatch.setenv("FAIRSYNTH_CACHE", str(tmp_path / "a file" / "cache"))
    (tmp_path / "toy.csv").write_text(ROWS)
    with pytest.warns(FairsynthWarning, match="cannot be kept"):
        load_dataset(str(toy(tmp_path, publisher)))


@pytest.mark.filterwarnings("ignore::fairsynth.errors.FairsynthWarning")
def test_download_tells_its_progress_and_fetches_again_when_asked(
    tmp_path: Path, publisher: Publisher
) -> None:
    publisher.files["/toy.csv"] = ROWS.encode()
    path, steps = str(toy(tmp_path, publisher)), []
    for again in (False, False, True):
        assert [file.name for file in download_dataset(path, again=again, progress=steps.append)] == [
            "toy.csv"
        ]
    assert publisher.asked == ["/toy.csv"] * 2
    assert [(step.done, step.total) for step in steps] == [(len(ROWS), len(ROWS))] * 2
    assert download_dataset("sqf") == []


@pytest.mark.filterwarnings("ignore::fairsynth.errors.FairsynthWarning")
def test_two_processes_that_fetch_at_once_end_with_one_truth(
    tmp_path: Path, publisher: Publisher, cache: Path
) -> None:
    publisher.files["/toy.csv"] = ROWS.encode()
    path = str(toy(tmp_path, publisher))
    found: list[Any] = []

    def load() -> None:
        try:
            found.append(len(load_dataset(path)[0]))
        except BaseException as error:
            found.append(error)

    threads = [threading.Thread(target=load) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [42] * 4
    assert not [file for file in cache.rglob(".part*")]


def test_openml_is_asked_through_scikit_learn(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []
    columns = [*(f"x{i}" for i in range(1, 24)), "y"]
    rows = pd.DataFrame(
        [[20_000, 1 + i % 2, 2, 1, 24 + i % 30, *[0] * 18, i % 4 == 0] for i in range(80)], columns=columns
    )
    rows["y"] = rows["y"].astype(int).astype("category")

    def answer(**given: Any) -> Any:
        asked.append(given["data_id"])
        assert Path(given["data_home"]).is_dir()
        return SimpleNamespace(frame=rows)

    monkeypatch.setattr("sklearn.datasets.fetch_openml", answer)
    with pytest.warns(FairsynthWarning, match="first use"):
        train, test = load_dataset("default")
    assert asked == [42477]
    assert (train.schema.target, train.schema.sensitive, train.schema.favorable) == (
        "default",
        ("sex",),
        ("0",),
    )
    assert train.groups().names == ("female", "male")
    assert len(train) + len(test) == 80
    load_dataset("default")
    assert asked == [42477]
    assert (cache / "default" / "openml-42477.csv").is_file()

    def refuse(**given: Any) -> Any:
        raise ValueError("OpenML has no such data set")

    monkeypatch.setattr("sklearn.datasets.fetch_openml", refuse)
    with pytest.raises(DataError, match=r"no such data set.*fairsynth datasets acs_income --download"):
        load_dataset("acs_income")


# ---- the catalog's own entries -------------------------------------------------------------------


def test_every_entry_says_what_a_person_needs() -> None:
    assert set(list_datasets(everything=True)) == {"loanapp", *entries()}
    for name, entry in entries().items():
        info = describe_dataset(name)
        assert info.title and info.source and info.terms and info.changes, name
        assert info.page.startswith("https://"), name
        assert all(file.url.startswith("https://") for file in entry.files), name
        assert (info.rows is not None) or entry.by_hand, name
        assert not info.is_here
        assert info.how
    with pytest.raises(DataError, match=r"'sqf' cannot be fetched by a program.*FAIRSYNTH_DATA.*nyc\.gov"):
        load_dataset("sqf")
    with pytest.raises(DataError, match="Did you mean 'law_school'"):
        load_dataset("law_schol")


def as_text(*tables: Table) -> pl.DataFrame:
    """Return all rows as sorted text, whatever kinds their columns were taken for."""
    frame = pl.concat([table.frame.select(sorted(table.frame.columns)) for table in tables])
    number = pl.col(pl.Int64, pl.Float64).cast(pl.Float64)
    return frame.with_columns(number).cast(pl.String).sort(pl.all(), nulls_last=True)


def shared_rows(folder: Path, name: str) -> pl.DataFrame:
    parts = [
        pl.read_csv(
            io.BytesIO(gzip.decompress((folder / name / f"{part}.csv.gz").read_bytes())), infer_schema=False
        )
        for part in ("train", "test")
    ]
    return pl.concat(parts)


def put(cache: Path, name: str, text: str) -> None:
    """Put a file where the entry looks for its only one."""
    file = cache / name / entries()[name].files[0].name
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text)


def test_adult_is_the_publishers_file_to_the_byte(shared_data: Path, cache: Path) -> None:
    """The shared rows, written back as the publisher has them, have the pinned checksums: these are of that file."""
    for part, name, trail in (("train", "adult.data", ""), ("test", "adult.test", ".")):
        body = gzip.decompress((shared_data / "adult" / f"{part}.csv.gz").read_bytes()).decode()
        lines = [", ".join(line.split(",")) + trail for line in body.splitlines()[1:]]
        head = "|1x3 Cross validator\n" if part == "test" else ""
        (cache / "adult").mkdir(parents=True, exist_ok=True)
        (cache / "adult" / name).write_text(head + "\n".join(lines) + "\n\n")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        train, test = load_dataset("adult")
    known_train, known_test = load_dataset("adult", shared_data)
    assert train.schema == known_train.schema
    assert train.frame.equals(known_train.frame)
    assert test.frame.equals(known_test.frame)


@pytest.mark.filterwarnings("ignore::fairsynth.errors.FairsynthWarning")
def test_bank_from_the_publishers_form_is_the_shared_one(shared_data: Path, cache: Path) -> None:
    rows = shared_rows(shared_data, "bank").drop("age_group").with_columns(pl.lit("0").alias("duration"))
    order = "age job marital education default balance housing loan contact day month duration campaign pdays"
    order += " previous poutcome y"
    put(cache, "bank", rows.select(order.split()).write_csv(separator=";", quote_style="non_numeric"))
    made, known = load_dataset("bank"), load_dataset("bank", shared_data)
    assert as_text(*made).equals(as_text(*known))
    assert made[0].schema.sensitive == known[0].schema.sensitive


@pytest.mark.filterwarnings("ignore::fairsynth.errors.FairsynthWarning")
def test_german_from_the_publishers_form_is_the_shared_one(shared_data: Path, cache: Path) -> None:
    rows = shared_rows(shared_data, "german").with_columns(
        pl.col("sex").replace_strict({"male": "A93", "female": "A92"}).alias("personal_status"),
        pl.col("credit").replace_strict({"good": "1", "bad": "2"}).alias("class"),
    )
    text = rows.select(entries()["german"].read.columns or []).write_csv(separator=" ", include_header=False)
    put(cache, "german", text)
    made, known = load_dataset("german"), load_dataset("german", shared_data)
    assert as_text(*made).equals(as_text(*known))
    assert [c.kind for c in made[0].schema] == [known[0].schema[c.name].kind for c in made[0].schema]


def test_compas_filter_is_propublicas(
    shared_data: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The shared rows among others that the filter must take out, in a file whose header names a column twice."""
    wanted = shared_rows(shared_data, "compas").with_columns(
        pl.lit("10").alias("days_b_screening_arrest"), pl.lit("1").alias("is_recid"), pl.lit("Low").alias("score_text"),
        pl.lit("a name").alias("name"), pl.lit("7").alias("decile_score"),
    )  # fmt: skip
    out = [
        wanted.head(5).with_columns(pl.lit(value, dtype=pl.String).alias(column))
        for column, value in (
            ("days_b_screening_arrest", "31"), ("days_b_screening_arrest", "-31"), ("days_b_screening_arrest", None),
            ("is_recid", "-1"), ("c_charge_degree", "O"), ("score_text", "N/A"),
        )
    ]  # fmt: skip
    edge = wanted.head(1).with_columns(pl.lit("-30").alias("days_b_screening_arrest"))
    text = pl.concat([edge, wanted.slice(1), *out]).write_csv()
    header, body = text.split("\n", 1)
    body = "\n".join(line + ",99" for line in body.splitlines())
    entry = entries()["compas"]
    file = entry.files[0].model_copy(update={"sha256": None})
    monkeypatch.setitem(entries(), "compas", entry.model_copy(update={"files": [file]}))
    put(cache, "compas", f"{header},priors_count\n{body}\n")
    with pytest.warns(FairsynthWarning, match="first use"):
        made = load_dataset("compas")
    known = load_dataset("compas", shared_data)
    assert as_text(*made).equals(as_text(*known))
    assert made[0].frame.columns == known[0].frame.columns
    # One row more or less is another data set.
    monkeypatch.setitem(entries(), "compas", entries()["compas"].model_copy(update={"rows": 6171}))
    with pytest.raises(DataError, match=r"6,172 rows are left, and 6,171 are expected"):
        load_dataset("compas")


@pytest.mark.filterwarnings("ignore::fairsynth.errors.FairsynthWarning")
def test_the_target_of_students_is_ten_of_twenty(cache: Path) -> None:
    lines = ["school;sex;age;G1;G2;G3"]
    lines += [f'"GP";"{"FM"[i % 2]}";{15 + i % 6};"{i % 20}";"{i % 19}";{i % 21}' for i in range(63)]
    put(cache, "student", "\n".join(lines))
    train, test = load_dataset("student")
    assert sum(int(part.favorable().sum()) for part in (train, test)) == 33  # 10 to 20 are 11 of 21 grades
    assert "G3" not in train.schema.names
    assert train.schema["sex"].levels == ("F", "M")


@pytest.mark.filterwarnings("ignore::fairsynth.errors.FairsynthWarning")
def test_patients_come_once_and_alive(cache: Path) -> None:
    rows = pl.DataFrame(
        {
            "encounter_id": range(120),
            "patient_nbr": [i // 2 for i in range(120)],
            "race": ["?" if i == 1 else "ab"[i // 7 % 2] for i in range(120)],
            "gender": ["Unknown/Invalid" if i == 3 else "FM"[i // 3 % 2] for i in range(120)],
            "discharge_disposition_id": [11 if i % 10 == 0 else 1 + i % 2 for i in range(120)],
            "admission_type_id": [1 + i % 2 for i in range(120)],
            "admission_source_id": [1 + i % 3 for i in range(120)],
            "examide": ["No"] * 120,
            "citoglipton": ["No"] * 120,
            "n": range(120),
            "readmitted": [("NO", "<30", ">30")[i % 3] for i in range(120)],
        }
    )
    put(cache, "diabetes", rows.write_csv())
    rows = pl.concat([part.frame for part in load_dataset("diabetes")]).sort("n")
    # Row 0 died, so that 1 is the first of its patient; else every other row is.
    first = sorted({next(i for i in (2 * p, 2 * p + 1) if i % 10) for p in range(60)})
    assert rows["n"].cast(pl.Int64).to_list() == first
    assert rows["race"].null_count() == 1
    assert (rows["readmitted_30"].cast(pl.String) == "yes").to_list() == [i % 3 == 1 for i in first]
    assert not {"patient_nbr", "encounter_id", "readmitted"} & set(rows.columns)


@pytest.mark.filterwarnings("ignore::fairsynth.errors.FairsynthWarning")
def test_arff_and_codes_are_read(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    entry = entries()["dutch"]
    file = entry.files[0].model_copy(update={"sha256": None})
    monkeypatch.setitem(entries(), "dutch", entry.model_copy(update={"files": [file], "rows": None}))
    names = [*(entry.read.columns or [])[:-1], "occupation"]
    lines = ["@relation x", "% a remark", *(f"@attribute {name} {{1,2}}" for name in names), "@DATA", ""]
    lines += [
        f"{1 + i % 2},{4 + i % 5},{1110 + i % 3},112,1,1,1,5,111,135,{1 + i % 4},{'2_1' if i % 5 else '5_4_9'}"
        for i in range(80)
    ]
    put(cache, "dutch", "\n".join(lines))
    train, test = load_dataset("dutch")
    both = pl.concat([train.frame, test.frame])
    assert both["high_occupation"].cast(pl.String).value_counts().sort("count")["count"].to_list() == [16, 64]
    assert train.schema["age"].kind == "categorical"
    assert train.groups().names == ("female", "male")


# ---- data of one's own ---------------------------------------------------------------------------

TEN = """\
title = "Loans of 2024"
path = "loans.csv"
target = "ok"
favorable = "yes"
sensitive = ["sex"]
missing = ["?"]

[split]
test_size = 0.25
seed = 3
"""


@pytest.fixture
def own(tmp_path: Path) -> Path:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "loans.csv").write_text(ROWS)
    (tmp_path / "mine" / "loans.toml").write_text(TEN)
    return tmp_path / "mine" / "loans.toml"


def test_ten_lines_make_a_data_set(own: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    train, test = load_dataset(str(own))
    expected = Table(
        own.parent / "loans.csv", target="ok", favorable="yes", sensitive="sex", missing="?"
    ).split(0.25, seed=3)
    assert train.frame.equals(expected[0].frame)
    assert test.frame.equals(expected[1].frame)
    # By name from the folder that it lies in, too.
    monkeypatch.setenv("FAIRSYNTH_DATA", str(own.parent))
    assert list_datasets() == ["loanapp", "loans"]
    assert load_dataset("loans")[1].frame.equals(test.frame)
    info = describe_dataset("loans")
    assert (info.title, info.place, info.split) == (
        "Loans of 2024",
        "folder",
        "25 % of the rows, stratified, seed 3",
    )


def test_own_rows_can_be_worked_on_and_come_with_test_rows(own: Path) -> None:
    pl.DataFrame({"sex": ["F", "M"] * 15, "n": list(range(30)), "ok": ["no", "yes"] * 15}).write_parquet(
        own.parent / "later.parquet"
    )
    pl.DataFrame(
        {"sex": ["F", "M"] * 15, "n": list(range(30)), "ok": ["yes", "no", "no"] * 10}
    ).write_parquet(own.parent / "now.parquet")
    own.write_text(
        'path = "now.parquet"\ntest = "later.parquet"\n'
        'target = "ok"\nfavorable = "yes"\nsensitive = ["sex", "young"]\ndrop = ["n"]\n'
        '[[where]]\ncolumn = "n"\nbetween = [0, 24]\n'
        '[derive.young]\nfrom = "n"\nedges = [10]\nnames = ["young", "old"]\n'
    )
    train, test = load_dataset(str(own))
    assert (len(train), len(test)) == (25, 25)
    assert train.schema.names == ("sex", "ok", "young")
    assert train.frame["young"].cast(pl.String).to_list() == ["young"] * 10 + ["old"] * 15


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("target =", "tarket =", r"line 3, tarket: there is no such key; did you mean 'target'"),
        ('target = "ok"\n', "", r"target: is needed and not there"),
        ('"ok"', '"okay"', r"line 3, target: there is no column 'okay'; did you mean 'ok'"),
        ('["sex"]', '["sexe"]', r"line 5, sensitive: there is no column 'sexe'; did you mean 'sex'"),
        ('["sex"]', "[]", r"line 5, sensitive"),
        ("0.25", "1.25", r"line 9, split\.test_size: .*less than 1"),
        ("0.25", '"a quarter"', r"line 9, split\.test_size: .*number"),
        ("seed", "sead", r"line 10, split\.sead: there is no such key; did you mean 'seed'"),
        ("loans.csv", "lones.csv", r"line 2, path: there is no file .*lones\.csv"),
        ('path = "loans.csv"', "openml = 3\npath = 'x'", r"exactly one of path, files, openml and by_hand"),
        ("[split]", "[split", r"is no TOML: .*line 8"),
        ("[split]", "rows = 61\n[split]", r"60 rows are left, and 61 are expected"),
        ('"yes"', '"yeah"', r"loans\.toml: .*yeah"),
        ("[split]", 'keep = ["ok", "m"]\n[split]', r"line 8, keep: there is no column 'm'"),
        (
            "[split]",
            '[derive.b]\nfrom = "nn"\nmap = {a = "b"}\n[split]',
            r"line 8, derive\.b: there is no column 'nn'",
        ),
        (
            "[split]",
            '[derive.b]\nfrom = "sex"\nmap = {F = "w"}\n[split]',
            r"derive\.b: 'sex' holds 'M', and map has 'F'",
        ),
        (
            "[split]",
            '[derive.b]\nfrom = "n"\nedges = [5]\nnames = ["a"]\n[split]',
            r"line 8, derive\.b: 1 edges need 2 names",
        ),
        ("[split]", '[[where]]\ncolumn = "n"\n[split]', r"line 8, where\.0: give exactly one of"),
        (
            "[split]",
            '[[where]]\ncolumn = "sex"\nbetween = [0, 1]\n[split]',
            r"needs numbers, and 'sex' holds 'F'",
        ),
        ("[split]", '[[where]]\ncolumn = "n"\nis_in = [77]\n[split]', r"no row is left"),
    ],
)
def test_every_mistake_is_named_with_its_line(own: Path, old: str, new: str, said: str) -> None:
    assert old in TEN
    own.write_text(TEN.replace(old, new, 1))
    with pytest.raises((DataError, ValueError), match=said) as caught:
        load_dataset(str(own))
    assert str(own) in str(caught.value)


def test_a_toml_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"there is no file .*none\.toml"):
        load_dataset(str(tmp_path / "none.toml"))
