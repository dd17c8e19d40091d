"""`fairsynth images …` and `demo --images`, as a person types them."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

sys.path.insert(0, str(Path(__file__).resolve().parent / "helpers"))
from image_toys import bars

from fairsynth.cli import app
from fairsynth.cli.image_sources import open_images
from fairsynth.cli.images import class_mix
from fairsynth.data.images import ImageSet
from fairsynth.errors import DataError, SettingsError

run = CliRunner().invoke


def told(result):
    return " ".join((result.output + (result.stderr or "")).split())


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """Lay sets of bars on disk, as archives and as a folder of pictures."""
    pytest.importorskip("PIL.Image")
    place = tmp_path_factory.mktemp("images")
    for name, correlation, seed in (
        ("train", 1.0, 1),
        ("test", 1.0, 2),
        ("reversed", 0.0, 3),
        ("fair", 0.5, 4),
    ):
        bars(120, correlation, seed=seed).save(place / f"{name}.npz")
    bars(60, 0.9, seed=5).save(place / "folder")
    return place


def evaluate(files, *more):
    return [
        "-q", "images", "evaluate", "--real", str(files / "train.npz"), "--test", str(files / "test.npz"),
        "--synthetic", str(files / "fair.npz"), "--steps", "20", "--threads", "1", *map(str, more),
    ]  # fmt: skip


def test_evaluate_writes_scores_and_page(files, tmp_path):
    page, scores = tmp_path / "page.html", tmp_path / "scores.json"
    result = run(
        app, evaluate(files, "--other", f"reversed={files / 'reversed.npz'}", "-o", page, "--json", scores)
    )
    assert result.exit_code == 0, told(result)
    assert "Accuracy, reversed" in told(result)
    content = json.loads(scores.read_text())
    assert content["meta"]["others"] == ["reversed"] and content["meta"]["target"] == "shape"
    text = page.read_text()
    assert "This page shows real images" in text and text.startswith("<!DOCTYPE html>")
    assert run(app, evaluate(files, "-o", page, "--no-real-images")).exit_code == 0
    assert "This page shows real images" not in page.read_text()


def test_several_sets_need_names(files):
    command = [*evaluate(files), "--synthetic", str(files / "train.npz")]
    result = run(app, command)
    assert result.exit_code == 2 and "several tables need names" in told(result)


def test_folder_table_archive_and_named_set_are_the_same_images(files):
    archive = open_images(str(files / "train.npz"))
    assert (archive.label, archive.sensitive, archive.levels) == ("shape", "ink", ("red", "blue"))
    folder = open_images(str(files / "folder"))
    table = open_images(str(files / "folder" / "images.csv"), label="shape", sensitive="ink")
    np.testing.assert_array_equal(folder.read(np.arange(60)), table.read(np.arange(60)))
    assert table.label == "shape" and set(table.classes) == {"lying", "standing"}
    named = open_images("colored-digits:reversed")
    assert isinstance(named, ImageSet) and named.sensitive == "color"


def test_arrays_with_names_of_ones_own(tmp_path):
    images = bars(60)
    path = tmp_path / "own.npz"
    np.savez(path, images=images.read(np.arange(60)), smile=images.labels, sex=images.groups)
    found = open_images(str(path), label="smile", sensitive="sex")
    np.testing.assert_array_equal(found.labels, images.labels)
    assert (found.label, found.sensitive) == ("smile", "sex")
    with pytest.raises(DataError, match="own.npz"):
        open_images(str(path))


def test_bad_files_are_named_or_left_out_and_listed(files, tmp_path, capsys):
    pictures = bars(70, 0.9, seed=6)
    pictures.save(tmp_path / "faces")
    table = tmp_path / "faces" / "images.csv"
    names = [line.split(",")[0] for line in table.read_text().splitlines()[1:3]]
    (tmp_path / "faces" / names[0]).write_bytes(b"no picture")
    (tmp_path / "faces" / names[1]).unlink()
    command = [
        "images",
        "fit",
        str(table),
        "--label",
        "shape",
        "--sensitive",
        "ink",
        "-o",
        str(tmp_path / "m"),
    ]
    result = run(app, command)
    assert result.exit_code == 2 and names[0] in told(result) and not (tmp_path / "m").exists()
    found = open_images(str(table), label="shape", sensitive="ink", skip_bad=True)
    assert len(found) == 68
    listed = capsys.readouterr().err
    assert "2 files were left out, 68 remain" in listed and names[0] in listed and names[1] in listed


@pytest.mark.parametrize(
    ("command", "said"),
    [
        (["images", "fit", "nowhere.npz", "-o", "m"], "nowhere.npz"),
        (["images", "fit", "somewhere/else", "-o", "m"], "no such file or folder"),
        (["images", "fit", "colored-cats", "-o", "m"], "there is no set of images 'colored-cats'"),
        (["images", "fit", "colored-digits", "--label", "cat", "-o", "m"], "its label is 'digit'"),
        (["images", "fit", "colored-digits", "--model", "magic", "-o", "m"], "'magic'"),
        (["images", "fit", "colored-digits", "--set", "nonsense=1", "-o", "m"], "no such setting"),
        (["images", "fit", "faces.csv", "-o", "m"], "Give --label and --sensitive"),
        (
            ["images", "fit", "faces.csv", "--label", "a", "--sensitive", "b", "--size", "64", "-o", "m"],
            "64x64",
        ),
        (["images", "sample", "m", "-n", "5", "-o", "out.png"], "without a suffix"),
        (["images", "distill", "nowhere", "-o", "m"], "nowhere"),
    ],
)
def test_what_was_typed_wrongly_is_named(command, said, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    result = run(app, command)
    assert result.exit_code == 2, told(result)
    assert said in told(result)
    assert list(tmp_path.iterdir()) == []


def test_a_model_of_tables_makes_no_images(files, tmp_path):
    from fairsynth import bundle

    path = tmp_path / "model"
    bundle.write(path, {"kind": "checkpoint"}, {}, {})
    result = run(app, ["images", "sample", str(path), "-n", "5", "-o", str(tmp_path / "x.npz")])
    assert result.exit_code == 2 and "Error" in told(result)


def test_shares_of_classes():
    assert class_mix(["3=0.5,8=0.25", "0=1"]) == {"3": 0.5, "8": 0.25, "0": 1.0}
    assert class_mix(None) is None
    for wrong, said in (("3", "form"), ("3=x", "number"), ("3=-1", "number")):
        with pytest.raises(SettingsError, match=said):
            class_mix([wrong])
    with pytest.raises(SettingsError, match="twice"):
        class_mix(["3=1", "3=2"])


def test_models_are_listed_with_settings():
    result = run(app, ["images", "models"])
    assert result.exit_code == 0
    for name in ("fairvae", "fair4free", "fldgm", "fade", "latent-distillation"):
        assert name in result.output
    one = run(app, ["images", "models", "fairvae"])
    assert one.exit_code == 0 and "settings, for --set" in one.output


def test_demo_of_tables_stays_what_it_was():
    result = run(app, ["demo", "--help"])
    assert "--images" in result.output and "loanapp" in result.output


@pytest.mark.slow
def test_a_model_is_fitted_distilled_sampled_and_judged(files, tmp_path):
    teacher, student, made = tmp_path / "teacher", tmp_path / "student", tmp_path / "made.npz"
    fitted = run(app, ["images", "fit", str(files / "train.npz"), "-o", str(teacher), "--seed", "1"])
    assert fitted.exit_code == 0, told(fitted)
    assert run(app, ["images", "distill", str(teacher), "-o", str(student)]).exit_code == 0
    drawn = run(
        app,
        [
            "images",
            "sample",
            str(student),
            "-n",
            "200",
            "-o",
            str(made),
            "--target-mix",
            "lying=1,standing=3",
        ],
    )
    assert drawn.exit_code == 0, told(drawn)
    assert np.bincount(open_images(str(made)).labels).tolist() == [50, 150]
    judged = run(
        app, [*evaluate(files)[:-5], str(made), "--model", str(teacher), "--steps", "20", "--threads", "1"]
    )
    assert judged.exit_code == 0, told(judged)


@pytest.mark.slow
def test_demo_of_images_makes_everything(tmp_path):
    result = run(app, ["demo", "--images", "-o", str(tmp_path / "demo")])
    assert result.exit_code == 0, told(result)
    there = {p.name for p in (tmp_path / "demo").iterdir()}
    assert {"report.html", "scores.json", "teacher.fairsynth", "student.fairsynth", "synthetic.npz"} <= there
    content = json.loads((tmp_path / "demo" / "scores.json").read_text())
    sources = {s.get("source") for s in content["scores"]}
    assert {"synthetic:student", "synthetic:teacher", "real", "holdout", "constant"} <= sources
    page = (tmp_path / "demo" / "report.html").read_text()
    for title in ("color switched: student", "Between two latents: teacher", "Where classifiers look"):
        assert title in page
