"""ImageSet: what goes in comes out, and nothing is held that need not be."""

from __future__ import annotations

import gzip
import struct
from pathlib import Path

import numpy as np
import pytest

import fairsynth as fs
from fairsynth.data.images.named import SPLITS, colour_codes
from fairsynth.errors import DataError, SettingsError


def pictures(n: int = 40, shape: tuple[int, ...] = (6, 5, 3), seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (n, *shape), dtype=np.uint8)


def some(n: int = 40, **settings) -> fs.ImageSet:
    rng = np.random.default_rng(1)
    return fs.ImageSet.of_arrays(
        pictures(n),
        rng.choice(["cat", "dog"], n),
        rng.integers(0, 3, n),
        label="animal",
        sensitive="place",
        **settings,
    )


def test_arrays_come_back_as_they_were():
    images = some(favorable=["cat"])
    assert images.classes == ("cat", "dog") and images.levels == ("0", "1", "2")
    assert images.shape == (6, 5, 3) and len(images) == 40
    assert np.array_equal(images.read([3, 1]), pictures()[[3, 1]])
    assert images.labels.dtype == np.int64 and images.counts().sum() == 40


def test_grey_images_have_one_channel():
    grey = fs.ImageSet.of_arrays(pictures(4, (8, 8)), [0, 1, 0, 1], [0, 0, 1, 1])
    assert grey.shape == (8, 8, 1) and grey.read([0]).shape == (1, 8, 8, 1)


def test_batches_go_once_through_all_images_and_a_seed_decides_the_order():
    images = some()
    plain = [indices for indices, _ in images.batches(16)]
    assert np.array_equal(np.concatenate(plain), np.arange(40))
    order, pixels = zip(*images.batches(16, seed=3), strict=True)
    assert [len(o) for o in order] == [16, 16, 8]
    assert sorted(np.concatenate(order)) == list(range(40))
    assert not np.array_equal(np.concatenate(order), np.arange(40))
    assert np.array_equal(np.concatenate(order), np.concatenate([o for o, _ in images.batches(16, seed=3)]))
    assert np.array_equal(np.concatenate(pixels), pictures()[np.concatenate(order)])


def test_a_subset_of_a_subset_reads_the_right_images():
    part = some().subset([5, 7, 9, 11]).subset([3, 0])
    assert np.array_equal(part.read([0, 1]), pictures()[[11, 5]])
    assert part.classes == ("cat", "dog")


def test_a_split_keeps_the_share_of_every_cell():
    rng = np.random.default_rng(0)
    labels, groups = rng.choice(3, 900, p=[0.6, 0.3, 0.1]), rng.choice(2, 900, p=[0.9, 0.1])
    images = fs.ImageSet.of_arrays(pictures(900, (2, 2)), labels, groups)
    train, test = images.split(0.3, seed=4)
    assert len(test) == 270 and len(train) == 630
    assert (np.abs(test.counts() - 0.3 * images.counts()) <= 1).all()
    both = np.concatenate([train._rows, test._rows])
    assert sorted(both) == list(range(900))
    other = images.split(0.3, seed=5)[1]
    assert not np.array_equal(other._rows, test._rows)


def test_a_fingerprint_is_of_content_not_of_place(tmp_path: Path):
    images = some()
    images.save(tmp_path / "set.npz")
    assert fs.ImageSet.from_npz(tmp_path / "set.npz").fingerprint() == images.fingerprint()
    altered = pictures()
    altered[0, 0, 0, 0] ^= 1
    other = fs.ImageSet.of_arrays(altered, images.labels, images.groups, classes=images.classes, levels=images.levels,
                                  label="animal", sensitive="place")  # fmt: skip
    assert other.fingerprint() != images.fingerprint()
    assert images.subset(np.arange(39)).fingerprint() != images.fingerprint()


def test_an_archive_is_mapped_not_loaded(tmp_path: Path):
    some(favorable=["dog"]).save(tmp_path / "set.npz")
    back = fs.load_images(tmp_path / "set.npz")
    assert isinstance(back._source._array, np.memmap)
    assert np.array_equal(back.read(np.arange(40)), pictures())
    assert (back.label, back.sensitive, back.favorable) == ("animal", "place", ("dog",))
    some().save(tmp_path / "again.npz")
    some().save(tmp_path / "more.npz")
    assert (tmp_path / "again.npz").read_bytes() == (tmp_path / "more.npz").read_bytes()


@pytest.mark.parametrize("write", [np.savez, np.savez_compressed])
def test_archives_of_numpy_are_read(tmp_path: Path, write):
    labels, groups = np.arange(40) % 2, np.where(np.arange(40) < 9, "old", "young")
    write(tmp_path / "own.npz", x=pictures(), y=labels, g=groups)
    back = fs.ImageSet.from_npz(tmp_path / "own.npz", images="x", labels="y", sensitive="g")
    assert back.levels == ("old", "young") and back.label == "y"
    assert np.array_equal(back.read([39]), pictures()[[39]])


def test_a_folder_comes_back_as_it_was(tmp_path: Path):
    images = some()
    images.save(tmp_path / "set")
    back = fs.load_images(tmp_path / "set")
    assert back.fingerprint() == images.fingerprint()
    with pytest.raises(DataError, match="there already"):
        images.save(tmp_path / "set")
    assert not list(tmp_path.glob(".part*"))


def test_nothing_is_left_when_writing_breaks_off(tmp_path: Path):
    def stop(step):
        raise KeyboardInterrupt

    for name in ("set.npz", "set"):
        with pytest.raises(KeyboardInterrupt):
            some().save(tmp_path / name, progress=stop)
    assert list(tmp_path.iterdir()) == []


def idx(array: np.ndarray) -> bytes:
    return bytes([0, 0, 8, array.ndim]) + struct.pack(f">{array.ndim}I", *array.shape) + array.tobytes()


@pytest.mark.parametrize("pack", [bytes, gzip.compress])
def test_idx_files_are_read_plain_and_zipped(tmp_path: Path, pack):
    grey, digits = pictures(30, (4, 4)), (np.arange(30) % 10).astype(np.uint8)
    (tmp_path / "i").write_bytes(pack(idx(grey)))
    (tmp_path / "l").write_bytes(pack(idx(digits)))
    images = fs.ImageSet.from_idx(tmp_path / "i", tmp_path / "l", groups=np.arange(30) % 2)
    assert isinstance(images._source._array, np.memmap)
    assert np.array_equal(images.read(np.arange(30))[..., 0], grey)
    assert np.array_equal(images.labels, digits)


# ------------------------------------------------------------------------------------------------ colored digits
def test_colours_follow_the_law_that_is_asked_for():
    labels = np.random.default_rng(0).integers(0, 10, 200_000)
    for split, shift in (("train", 0), ("test", 0), ("reversed", 5)):
        codes = colour_codes(labels, 10, split, 0.95, 0)
        favoured = codes == (labels + shift) % 10
        assert favoured.mean() == pytest.approx(0.95, abs=0.002)
        others = np.bincount((codes - labels - shift)[~favoured] % 10, minlength=10)
        assert others[0] == 0 and (np.abs(others[1:] / others.sum() - 1 / 9) < 0.02).all()
    codes = colour_codes(labels, 10, "decorrelated", 0.95, 0)
    assert (np.abs(np.bincount(labels * 10 + codes, minlength=100) / len(labels) - 0.01) < 0.001).all()


@pytest.mark.parametrize("correlation", [0.0, 1.0])
def test_the_ends_of_the_dial(correlation: float):
    labels = np.arange(1000) % 10
    assert (colour_codes(labels, 10, "train", correlation, 0) == labels).mean() == correlation


def test_colored_digits_are_real_digits_in_their_colour():
    from sklearn.datasets import load_digits

    sets = {split: fs.load_images("colored-digits", split=split) for split in SPLITS}
    assert {s.shape for s in sets.values()} == {(8, 8, 3)}
    assert len(sets["train"]) + len(sets["test"]) == 1797
    # The three test sets hold the same strokes, and none of the training ones.
    strokes = {split: s.read(np.arange(len(s))).max(3) > 0 for split, s in sets.items()}
    assert np.array_equal(sets["test"].labels, sets["reversed"].labels)
    assert (strokes["test"] == strokes["reversed"]).mean() > 0.99
    one = sets["decorrelated"].read([0])[0]
    ink = one.reshape(-1, 3)[one.reshape(-1, 3).max(1) > 200]
    from fairsynth.data.images.named import COLOURS

    shade = np.array(COLOURS[sets["decorrelated"].levels[sets["decorrelated"].groups[0]]])
    assert (np.abs(ink / ink.max(1, keepdims=True) - shade / shade.max()) < 0.03).all()
    assert set(np.unique(sets["train"].labels)) == set(range(10))
    whole = sorted((load_digits().images * 255 / 16).round().astype(int).sum((1, 2)))
    assert len(whole) == 1797
    same = fs.load_images("colored-digits", split="train")
    assert same.fingerprint() == sets["train"].fingerprint()
    assert fs.load_images("colored-digits", seed=1).fingerprint() != same.fingerprint()


def test_colored_mnist_is_the_published_digits(shared_data: Path):
    train = fs.load_images("colored-mnist", folder=shared_data)
    test = fs.load_images("colored-mnist", split="reversed", folder=shared_data)
    assert len(train) == 60_000 and len(test) == 10_000 and train.shape == (28, 28, 3)
    assert (train.labels == train.groups).mean() == pytest.approx(0.95, abs=0.005)
    assert ((test.labels + 5) % 10 == test.groups).mean() == pytest.approx(0.95, abs=0.01)
    raw = gzip.decompress((shared_data / "mnist" / "t10k-images-idx3-ubyte.gz").read_bytes())[16:]
    strokes = np.frombuffer(raw, np.uint8).reshape(-1, 28, 28)
    shown = test.read(np.arange(500)).max(3)
    assert ((shown > 0) == (strokes[:500] > 0)).mean() > 0.999


def test_wrong_names_and_settings_are_refused(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    monkeypatch.delenv("FAIRSYNTH_DATA", raising=False)
    with pytest.raises(DataError, match=r"colored-digits, colored-mnist, celeba, fairface"):
        fs.load_images("mnist")
    with pytest.raises(SettingsError, match="split='validation'"):
        fs.load_images("colored-digits", split="validation")
    with pytest.raises(SettingsError, match=r"correlation=1\.5"):
        fs.load_images("colored-digits", correlation=1.5)
    with pytest.raises(DataError, match="FAIRSYNTH_DATA"):
        fs.load_images("colored-mnist")
    (tmp_path / "mnist").mkdir()
    with pytest.raises(DataError, match="train-images-idx3-ubyte"):
        fs.load_images("colored-mnist", folder=tmp_path)


def test_arrays_that_are_no_images_are_refused():
    good, y = pictures(4), [0, 1, 0, 1]
    for images, labels, groups, said in (
        (good / 255, y, y, "float64"),
        (good[0], y, y, "shape"),
        (good[:, :, :, :2], y, y, "channels"),
        (good, y[:3], y, r"\(4,\)"),
        (good, [0, 1, np.nan, 1], y, "gaps"),
        (good[:0], [], [], "no image"),
    ):
        with pytest.raises(DataError, match=said):
            fs.ImageSet.of_arrays(images, labels, groups)
    with pytest.raises(DataError, match="two names"):
        fs.ImageSet.of_arrays(good, y, y, label="a", sensitive="a")
    with pytest.raises(DataError, match="codes run from 0 to 1"):
        fs.ImageSet.of_arrays(good, y, y, classes=["only"])
    with pytest.raises(DataError, match="'bird' is not a class"):
        fs.ImageSet.of_arrays(good, y, y, favorable=["bird"])
    images = fs.ImageSet.of_arrays(good, y, y)
    with pytest.raises(DataError, match="images 0 to 3"):
        images.read([4])
    with pytest.raises(DataError, match="images 0 to 3"):
        images.read([-1])
    with pytest.raises(SettingsError, match="test_size=1"):
        images.split(1)
