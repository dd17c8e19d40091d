"""One suite for every generator of images, on coloured digits and tiny networks."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from sklearn.base import clone

import fairsynth as fs
from fairsynth import bundle, checkpoints, images
from fairsynth.errors import (
    BundleError,
    CapabilityError,
    DataError,
    NotFittedError,
    SettingsError,
)
from fairsynth.progress import Step

TEACHER: dict[str, Any] = {
    "latent_dim": 4, "channels": (12,), "decoder_channels": (8,), "hidden": 24, "epochs": 0.1, "law_components": 2
}  # fmt: skip
SMALL: dict[str, dict[str, Any]] = {
    "fairvae": {},
    "latent-distillation": {"channels": (4,), "hidden": 8, "epochs": 0.1},
    "fair4free": {"hidden": (8,), "cells": 4, "steps": 20, "per_label": 16},
    "fldgm": {"steps": 20, "width": 16, "batch_size": 64, "sampling_steps": 4},
    "fldgm/wgan-gp": {"kind": "wgan-gp", "steps": 5, "hidden": (16,), "critic_hidden": (16,), "batch_size": 64},
    "fldgm/lsgan": {"kind": "lsgan", "steps": 5, "hidden": (16,), "critic_hidden": (16,), "batch_size": 64},
    "fade": {"steps": 20, "sizes": (16, 1), "classifier_sizes": (8, 1), "solver_steps": 4, "batch_size": 64},
    "fade/pixel": {
        "space": "pixel", "steps": 4, "sizes": (8, 8), "classifier_sizes": (4,), "solver_steps": 3, "batch_size": 32
    },
}  # fmt: skip
NAMES = list(SMALL)


@pytest.fixture(scope="module")
def digits() -> fs.ImageSet:
    """Three digits, three colours, that go together four times in five."""
    whole = fs.load_images("colored-digits", correlation=0.8)
    rows = np.flatnonzero(np.isin(whole.labels, [0, 1, 7]) & np.isin(whole.groups, [0, 1, 7]))
    part = whole.subset(rows)
    names = np.array([0, 1, -1, -1, -1, -1, -1, 2])
    return fs.ImageSet.of_arrays(
        part.read(np.arange(len(part))), names[part.labels], names[part.groups], classes=["0", "1", "7"],
        levels=["red", "orange", "violet"], label="digit", sensitive="colour", favorable=["7"],
    )  # fmt: skip


@pytest.fixture(scope="module")
def few_steps() -> Any:
    """Let small sets be trained for a moment only."""
    from fairsynth.generators.images import fairvae, latent_distillation

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(fairvae, "MIN_STEPS", 20)
        patch.setattr(latent_distillation, "MIN_STEPS", 20)
        yield


@pytest.fixture(scope="module")
def teacher(digits: fs.ImageSet, few_steps: Any) -> Any:
    return images.FairVAE(**TEACHER).fit(digits)


def new(name: str, teacher: Any = None, **settings: Any) -> Any:
    kind = images.get_generator_class(name.split("/")[0])
    given = {**(TEACHER if name == "fairvae" else {}), **SMALL[name], **settings}
    if "teacher" in kind().get_params() and given.get("space") != "pixel":
        given["teacher"] = teacher
    return kind(**given)


def learn(name: str, teacher: Any, digits: fs.ImageSet, folder: Path, **told: Any) -> Any:
    """Fit a method; the data-free one distils from a file."""
    model = new(name, teacher)
    if name != "fair4free":
        return model.fit(digits, **told)
    teacher.save(folder / "teacher.fairsynth")
    return model.distill(folder / "teacher.fairsynth", **told)


@pytest.fixture(scope="module", params=NAMES)
def fitted(request: pytest.FixtureRequest, teacher: Any, digits: fs.ImageSet, tmp_path_factory: Any) -> Any:
    return learn(request.param, teacher, digits, tmp_path_factory.mktemp("teacher"))


def test_the_names_are_those_of_the_registry():
    assert fs.images is images
    assert set(images.list_generators()) == {name.split("/")[0] for name in NAMES}
    with pytest.raises(SettingsError, match="fade"):
        images.get_generator_class("gan")


def test_images_of_the_same_kind_come_out(fitted: Any, digits: fs.ImageSet):
    drawn = fitted.sample(50, seed=3)
    assert drawn.shape == digits.shape and drawn.read([0]).dtype == np.uint8 and len(drawn) == 50
    assert (drawn.classes, drawn.levels) == (digits.classes, digits.levels)
    assert (drawn.label, drawn.sensitive, drawn.favorable) == ("digit", "colour", ("7",))
    assert drawn.read(np.arange(50)).std(0).max() > 1  # not one picture over and over


def test_a_seed_decides_everything_and_nothing_global_is_touched(fitted: Any):
    torch.manual_seed(1)
    np.random.seed(1)
    before = torch.get_rng_state().clone(), np.random.get_state()[1].copy(), torch.get_num_threads()
    one, same, other = (fitted.sample(40, seed=s).fingerprint() for s in (3, 3, 4))
    assert one == same != other
    assert torch.equal(torch.get_rng_state(), before[0]) and torch.get_num_threads() == before[2]
    assert np.array_equal(np.random.get_state()[1], before[1])


def test_blocks_make_one_stream(fitted: Any, monkeypatch: pytest.MonkeyPatch):
    from fairsynth.generators.images import base

    monkeypatch.setattr(base, "BLOCK_IMAGES", 16)
    blocks = list(fitted.iter_batches(40, seed=1))
    assert [len(block[0]) for block in blocks] == [16, 16, 8]
    assert not np.array_equal(blocks[0][0], blocks[1][0])
    assert np.array_equal(
        np.concatenate([b[0] for b in blocks]), fitted.sample(40, seed=1).read(np.arange(40))
    )


def test_conditions_and_mixes_are_exact(fitted: Any):
    sevens = fitted.sample(30, seed=0, where={"digit": "7"})
    assert (sevens.labels == 2).all() and len(np.unique(sevens.groups)) > 1
    both = fitted.sample(10, seed=0, where={"digit": 1, "colour": "red"})
    assert (both.labels == 1).all() and (both.groups == 0).all()
    mixed = fitted.sample(100, seed=0, target_mix={"0": 1, "7": 3})
    assert np.bincount(mixed.labels, minlength=3).tolist() == [25, 0, 75]
    orange = fitted.sample(60, seed=0, sensitive={"orange": 1.0})
    assert (orange.groups == 1).all() and len(np.unique(orange.labels)) == 3


def test_a_file_gives_the_same_images(fitted: Any, tmp_path: Path):
    fitted.save(tmp_path / "model.fairsynth")
    back = fs.load_generator(tmp_path / "model.fairsynth")
    assert type(back) is type(fitted) and back.fairness == fitted.fairness
    assert back.sample(20, seed=5).fingerprint() == fitted.sample(20, seed=5).fingerprint()
    assert isinstance(type(fitted).load(tmp_path / "model.fairsynth"), type(fitted))
    content = bundle.read(tmp_path / "model.fairsynth")
    said = {entry["where"] for entry in content.manifest["from_data"]}
    held = {name.split(".")[0] if "." in name else name for name in content.tensors}
    assert held <= {where.split(".")[0] for where in said}
    assert "encoder" not in " ".join(content.tensors) or type(fitted).name not in ("fldgm", "fade")


def test_images_go_straight_to_disk(fitted: Any, tmp_path: Path):
    heard: list[Step] = []
    fitted.sample_to(tmp_path / "drawn.npz", 30, seed=2, progress=heard.append)
    fitted.sample_to(tmp_path / "drawn", 30, seed=2)
    drawn = fitted.sample(30, seed=2)
    for path in ("drawn.npz", "drawn"):
        names = {} if path.endswith("npz") else {"classes": drawn.classes, "levels": drawn.levels}
        back = fs.load_images(tmp_path / path, **names)
        assert np.array_equal(back.read(np.arange(30)), drawn.read(np.arange(30)))
        assert np.array_equal(back.labels, drawn.labels) and np.array_equal(back.groups, drawn.groups)
    assert heard[-1].done == heard[-1].total == 30


def test_parameters_can_be_cloned(fitted: Any):
    copy = clone(type(fitted)(**{k: v for k, v in fitted.get_params(deep=False).items() if k != "teacher"}))
    assert not hasattr(copy, "shape_")
    with pytest.raises(NotFittedError, match="fit"):
        copy.sample(1)
    with pytest.raises(NotFittedError, match="fit"):
        copy.save("nowhere.fairsynth")


def test_pictures_for_the_report(fitted: Any, digits: fs.ImageSet):
    grids = fitted.pictures(0)
    assert grids["sampled"].shape == (3, 10, 8, 8, 3) and grids["sampled"].dtype == np.uint8
    if hasattr(fitted, "space") and fitted.space == "pixel":
        assert set(grids) == {"sampled"}
        return
    assert grids["switched"].shape == (3, 10, 8, 8, 3) and grids["interpolated"].shape == (10, 10, 8, 8, 3)
    z = np.zeros((2, 4), dtype=np.float32)
    assert np.array_equal(fitted.decode(z, "orange"), fitted.decode(z, np.array([1, 1])))
    with pytest.raises(DataError, match=r"\(n, 4\) is needed"):
        fitted.decode(np.zeros((2, 3)), "orange")
    with pytest.raises(DataError, match="from 0 to 2"):
        fitted.decode(z, 3)


def test_wrong_requests_are_refused(fitted: Any):
    for told, error, said in (
        ({"n": 0}, SettingsError, "n=0"),
        ({"seed": -1}, SettingsError, "seed=-1"),
        ({"where": {"size": "large"}}, SettingsError, "'digit' and 'colour'"),
        ({"where": {"digit": "9"}}, SettingsError, "0, 1, 7"),
        ({"sensitive": "equal"}, SettingsError, "uniform"),
        ({"sensitive": {"red": -1}}, SettingsError, "share"),
        ({"target_mix": {"0": 0}}, SettingsError, "all be 0"),
        ({"target_mix": {"0": 1}, "where": {"digit": "1"}}, SettingsError, "one of them"),
    ):
        with pytest.raises(error, match=said):
            fitted.sample(**{"n": 4, **told})


@pytest.mark.parametrize("name", NAMES)
def test_what_cannot_be_learned_from_is_refused(name: str, digits: fs.ImageSet, teacher: Any):
    one_class = digits.subset(np.flatnonzero(digits.labels == 1))
    one_colour = digits.subset(np.flatnonzero(digits.groups == 0))
    with pytest.raises(DataError, match="'digit' = '1'"):
        new(name, teacher).fit(one_class)
    with pytest.raises(DataError, match="'colour' = 'red'"):
        new(name, teacher).fit(one_colour)
    with pytest.raises(DataError, match="needs an ImageSet, not ndarray"):
        new(name, teacher).fit(np.zeros((3, 8, 8)))
    odds = fs.Fairness(criterion="equalized_odds")
    with pytest.raises(CapabilityError, match="equalized_odds"):
        new(name, teacher, fairness=odds).fit(digits)


@pytest.mark.parametrize("name", [name for name in NAMES if name != "fade/pixel"])
def test_a_fit_that_was_stopped_goes_on_where_it_was(
    name: str, digits: fs.ImageSet, teacher: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):

    monkeypatch.setattr(checkpoints, "SAVE_EVERY", 0.0)
    whole = learn(name, teacher, digits, tmp_path)
    seen: list[int] = []

    def stop(step: Step) -> None:
        seen.append(step.done)
        if len(seen) == 4:
            raise KeyboardInterrupt

    folder = tmp_path / "kept"
    with pytest.raises(KeyboardInterrupt):
        learn(name, teacher, digits, tmp_path, checkpoint=folder, progress=stop)
    again: list[int] = []
    resumed = learn(
        name, teacher, digits, tmp_path, checkpoint=folder, progress=lambda s: again.append(s.done)
    )
    assert again[0] > 1
    assert resumed.sample(20, seed=1).fingerprint() == whole.sample(20, seed=1).fingerprint()
    with pytest.raises(SettingsError, match="another fit"):
        other = new(name, teacher, seed=9)
        if name == "fair4free":
            other.distill(tmp_path / "teacher.fairsynth", checkpoint=folder)
        else:
            other.fit(digits, checkpoint=folder)


def test_a_damaged_file_is_refused(fitted: Any, tmp_path: Path):
    path = tmp_path / "model.fairsynth"
    fitted.save(path)
    content = bundle.read(path)
    law = content.tensors["label_law"]
    weights = next(name for name in content.tensors if name.startswith("net."))
    for tensors in (
        {**content.tensors, "label_law": law * np.nan},
        {**content.tensors, "label_law": law[:, :2]},
        {**content.tensors, "more": law},
        {k: v for k, v in content.tensors.items() if k != weights},
    ):
        bundle.write(path, content.manifest, content.documents, tensors)
        with pytest.raises(BundleError):
            fs.load_generator(path)
    for name, value in (
        ("shape", [8, 8]),
        ("shape", [8, 8, 10**9]),
        ("classes", ["a", "a", "b"]),
        ("levels", 3),
    ):
        documents = {**content.documents, "images": {**content.documents["images"], name: value}}
        bundle.write(path, content.manifest, documents, content.tensors)
        with pytest.raises(BundleError):
            fs.load_generator(path)
    bundle.write(path, {**content.manifest, "generator": "other"}, content.documents, content.tensors)
    with pytest.raises(BundleError, match="other"):
        fs.load_generator(path)


def test_drawing_from_several_threads_gives_what_one_gives(fitted: Any):
    wanted = [fitted.sample(12, seed=s).fingerprint() for s in range(4)]
    got = [""] * 4

    def draw(seed: int) -> None:
        got[seed] = fitted.sample(12, seed=seed).fingerprint()

    workers = [threading.Thread(target=draw, args=(s,)) for s in range(4)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert got == wanted
