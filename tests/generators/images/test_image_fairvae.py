"""The teacher of images: what it is told to make independent is, and a tint is taken from the group."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import fairsynth as fs
from fairsynth import bundle, images
from fairsynth.errors import BundleError, DataError, SettingsError


@pytest.fixture(scope="module")
def digits() -> fs.ImageSet:
    return fs.load_images("colored-digits")


@pytest.fixture(scope="module")
def teacher(digits: fs.ImageSet) -> Any:
    return images.FairVAE(latent_dim=8, epochs=60, law_components=4).fit(digits)


def hue(picture: np.ndarray) -> np.ndarray:
    """Return the mean colour of images, weighted by how bright each pixel is, scaled to a maximum of 1."""
    total = picture.astype(float).sum((1, 2))
    return total / total.max(1, keepdims=True)


def test_a_tint_comes_from_the_group_and_the_shape_from_the_latent(teacher: Any, digits: fs.ImageSet):
    from fairsynth.data.images.named import COLOURS

    z = teacher.latent(digits.subset(np.arange(100)))
    shades = np.array(list(COLOURS.values()))
    switched = np.stack([teacher.decode(z, name) for name in digits.levels])
    for place, name in enumerate(digits.levels):
        wanted = np.array(COLOURS[name]) / max(COLOURS[name])
        assert np.abs(hue(switched[place]) - wanted).mean() < 0.06, name
    # Without its colour, an image is the same for all groups: light of each pixel over that of its colour.
    light = switched.max(4) / shades.max(1)[:, None, None, None]
    between, within = light.mean(0).std(0).mean(), light.std(0).mean()
    assert within < 0.5 * between


def test_the_drawn_digit_is_the_one_that_was_asked_for_in_any_colour(teacher: Any, digits: fs.ImageSet):
    """A reader of shapes, which never saw a colour, tells digits and finds none of them tied to a colour."""
    from sklearn.neighbors import KNeighborsClassifier

    def grey(pictures: np.ndarray) -> np.ndarray:
        light = pictures.max(3).reshape(len(pictures), -1).astype(float)
        return light / light.max(1, keepdims=True)

    reader = KNeighborsClassifier(5).fit(grey(digits.read(np.arange(len(digits)))), digits.labels)
    drawn = teacher.sample(2000, seed=1)
    read = reader.predict(grey(drawn.read(np.arange(2000))))
    favoured = drawn.groups == drawn.labels
    assert abs(favoured.mean() - 0.1) < 0.03
    assert (read == drawn.labels).mean() > 0.75
    assert (read == drawn.groups).mean() < 0.16  # .10 by chance; .95 in the real images


def test_the_strength_moves_the_table_from_the_real_to_the_independent_one(
    digits: fs.ImageSet, monkeypatch: Any
):
    from fairsynth.generators.images import fairvae

    monkeypatch.setattr(fairvae, "MIN_STEPS", 2)
    small: dict[str, Any] = {
        "channels": (4,),
        "decoder_channels": (4,),
        "hidden": 8,
        "epochs": 0.01,
        "law_components": 1,
    }
    laws = {
        strength: images.FairVAE(fairness=fs.Fairness(strength=strength), **small).fit(digits).label_law_
        for strength in (0.0, 0.5, 1.0)
    }
    real = digits.counts() / len(digits)
    assert np.allclose(laws[0.0], real)
    assert np.allclose(laws[1.0], np.outer(laws[1.0].sum(1), laws[1.0].sum(0)))
    assert np.allclose(laws[1.0].sum(0), real.sum(0))
    ties = [np.trace(laws[strength]) for strength in (0.0, 0.5, 1.0)]
    assert ties[0] > 0.9 and ties[0] > ties[1] + 0.1 > ties[2] + 0.2


def test_the_paper_s_network_is_the_published_one():
    model = images.FairVAE(preset="paper")
    net = model._network((64, 64, 3), 2, 2)
    layers = [(layer.out_channels, layer.kernel_size, layer.stride) for layer in net.encoder.layers]
    assert layers == [(n, (4, 4), (2, 2)) for n in (32, 32, 64, 64, 256)]
    assert net.encoder.last.out_features == 2 * 10 and net.encoder.classes == 0
    assert model._setting("penalty_weight") == 1e7 and model._setting("penalty") == "density"
    with pytest.raises(DataError, match="halved 5 times"):
        model._network((28, 28, 3), 2, 2)


@pytest.mark.parametrize("shape", [(8, 8, 1), (12, 20, 3), (15, 9, 4)])
def test_any_size_and_channels(shape: tuple[int, int, int], tmp_path: Path, monkeypatch: Any):
    from fairsynth.generators.images import fairvae

    monkeypatch.setattr(fairvae, "MIN_STEPS", 2)
    rng = np.random.default_rng(0)
    some = fs.ImageSet.of_arrays(
        rng.integers(0, 256, (64, *shape), dtype=np.uint8), rng.integers(0, 2, 64), rng.integers(0, 3, 64)
    )
    for reconstruction in ("gaussian", "bernoulli"):
        model = images.FairVAE(epochs=0.1, law_components=1, hidden=8, reconstruction=reconstruction).fit(
            some
        )
        assert model.sample(5).shape == shape
    model.save(tmp_path / "m")
    assert fs.load_generator(tmp_path / "m").sample(5).shape == shape


def test_settings_out_of_range_are_named(digits: fs.ImageSet):
    for settings, said in (
        ({"latent_dim": 0}, "latent_dim=0"),
        ({"balance": 1.0}, "balance=1.0"),
        ({"channels": ()}, "channels"),
        ({"hidden": -1}, "hidden=-1"),
        ({"hidden": 1.5}, "hidden=1.5"),
        ({"penalty": "none"}, "penalty='none'"),
        ({"reconstruction": "laplace"}, "laplace"),
        ({"epochs": 0}, "epochs=0"),
    ):
        with pytest.raises(SettingsError, match=said):
            images.FairVAE(**settings).fit(digits)


@pytest.mark.parametrize("made", [images.FairVAE, images.FADE])
def test_a_device_that_is_not_there_is_named_and_none_is_kept(
    digits: fs.ImageSet, teacher: Any, tmp_path: Path, made
):
    with pytest.raises(SettingsError, match="device='tpu9' cannot be used here"):
        made(device="tpu9").fit(digits)
    teacher.save(tmp_path / "model")
    assert "device" not in bundle.read(tmp_path / "model").manifest["settings"]
    assert images.FairVAE.load(tmp_path / "model").device == "cpu"


def test_the_published_network_says_which_images_are_too_small(digits: fs.ImageSet):
    with pytest.raises(DataError, match="8×8 pixels are too small for preset='paper'"):
        images.FairVAE(preset="paper").fit(digits)


def test_a_latent_is_of_images_such_as_were_learned(teacher: Any, digits: fs.ImageSet):
    other = fs.ImageSet.of_arrays(np.zeros((4, 8, 8), np.uint8), [0, 1, 0, 1], [0, 1, 1, 0])
    with pytest.raises(DataError, match="learned were"):
        teacher.latent(other)
    assert teacher.latent(digits.subset(np.arange(7))).shape == (7, 8)


# -------------------------------------------------------------------------------------------------------- students
def test_a_student_knows_the_file_and_nothing_else(teacher: Any, tmp_path: Path, digits: fs.ImageSet):
    import torch

    teacher.save(tmp_path / "teacher")
    student = images.Fair4Free(steps=150, hidden=(64, 64), projections=32, learning_rate=1e-2).distill(
        tmp_path / "teacher"
    )
    (tmp_path / "teacher").unlink()
    labels = torch.arange(10).repeat_interleave(400)
    own, theirs = (
        m._codes(labels, torch.Generator().manual_seed(0)).detach().numpy() for m in (student, teacher)
    )
    for label in range(10):
        place = labels.numpy() == label
        assert np.abs(own[place].mean(0) - theirs[place].mean(0)).max() < 0.5 * theirs[place].std()
        assert np.abs(np.log(own[place].std(0) / theirs[place].std(0))).max() < 0.7
    assert np.array_equal(student.label_law_, teacher.label_law_)
    assert student.sample(10, where={"digit": 3}).labels.tolist() == [3] * 10


def test_students_may_have_a_quarter_of_the_parameters(teacher: Any, tmp_path: Path, digits: fs.ImageSet):
    teacher.save(tmp_path / "teacher")
    with pytest.raises(SettingsError, match="more than a quarter"):
        images.Fair4Free(hidden=(512, 512)).distill(tmp_path / "teacher")
    with pytest.raises(SettingsError, match="more than a quarter"):
        images.LatentDistillation(teacher=teacher, channels=(64,), hidden=64).fit(digits)


def test_who_is_no_teacher_is_refused(teacher: Any, tmp_path: Path, digits: fs.ImageSet):
    teacher.save(tmp_path / "teacher")
    images.Fair4Free(steps=2, hidden=(8,)).distill(tmp_path / "teacher").save(tmp_path / "student")
    with pytest.raises(SettingsError, match="holds a fair4free"):
        images.Fair4Free().distill(tmp_path / "student")
    for kind in (images.LatentDistillation, images.FLDGM, images.FADE):
        with pytest.raises(SettingsError, match="the teacher is a fair4free"):
            kind(teacher=str(tmp_path / "student")).fit(digits)
        with pytest.raises(DataError, match=r"'digit' .* 'color'"):
            rng = np.random.default_rng(0)
            other = fs.ImageSet.of_arrays(
                rng.integers(0, 9, (40, 8, 8, 3), dtype=np.uint8), np.arange(40) % 2, np.arange(40) % 3
            )
            kind(teacher=teacher).fit(other)
    # A model of images is no teacher of tables, and says so.
    with pytest.raises((BundleError, SettingsError), match="image"):
        fs.Fair4Free().distill(tmp_path / "teacher")


# ------------------------------------------------------------------------------------------- without its networks
def test_law_of_codes_is_learned_by_every_kind_of_generator(teacher: Any, digits: fs.ImageSet):
    import torch

    labels = torch.arange(10).repeat_interleave(200)
    theirs = teacher._codes(labels, torch.Generator().manual_seed(0)).numpy()
    for kind, steps, least in (("diffusion", 100, 0.9), ("wgan-gp", 40, 0.9), ("lsgan", 200, 0.4)):
        model = images.FLDGM(teacher=teacher, kind=kind, steps=steps, width=64, batch_size=256).fit(digits)
        own = model._codes(labels, torch.Generator().manual_seed(0)).detach().numpy()
        centres = np.stack([own[labels.numpy() == y].mean(0) for y in range(10)])
        wanted = np.stack([theirs[labels.numpy() == y].mean(0) for y in range(10)])
        # Each label's codes lie nearer to that label's own place than to any other's.
        nearest = np.linalg.norm(centres[:, None] - wanted[None], axis=2).argmin(1)
        assert (nearest == np.arange(10)).mean() >= least, kind  # .1 by chance


def test_the_paper_s_setting_learns_and_draws(monkeypatch: Any):
    from fairsynth.generators.images import fairvae

    monkeypatch.setattr(fairvae, "MIN_STEPS", 2)
    rng = np.random.default_rng(0)
    some = fs.ImageSet.of_arrays(
        rng.integers(0, 256, (48, 64, 64, 3), dtype=np.uint8), rng.integers(0, 2, 48), rng.integers(0, 2, 48)
    )
    model = images.FairVAE(preset="paper", epochs=0.1, law_components=1).fit(some)
    assert model.sample(3).shape == (64, 64, 3) and model.latent_dim_ == 10


def test_without_a_teacher_one_is_trained_on_the_way(monkeypatch: Any, digits: fs.ImageSet, tmp_path: Path):
    from fairsynth.generators.images import fairvae, latent_distillation

    monkeypatch.setattr(fairvae, "MIN_STEPS", 2)
    monkeypatch.setattr(latent_distillation, "MIN_STEPS", 2)
    some = digits.subset(np.arange(60))
    for model in (
        images.LatentDistillation(epochs=0.1),
        images.Fair4Free(steps=2),
        images.FLDGM(steps=2),
        images.FADE(steps=2),
    ):
        heard: set[str] = set()
        model.fit(
            some, progress=lambda step, heard=heard: heard.add(step.stage), checkpoint=tmp_path / model.name
        )
        assert "fit teacher" in heard and len(heard) >= 2
        assert model.sample(3).shape == (8, 8, 3)
        assert (tmp_path / model.name / "teacher").is_dir()
