"""Picture files, archives and publishers' layouts: bad ones are named, counted, and do no harm."""

from __future__ import annotations

import gzip
import io
import os
import pickle
import struct
import zipfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import fairsynth as fs
from fairsynth.cli.image_sources import open_images
from fairsynth.errors import DataError, SettingsError


def folder(place: Path, n: int = 6, size: tuple[int, int] = (8, 6), mode: str = "RGB") -> Path:
    """Write n PNG files and a table of them."""
    rng = np.random.default_rng(0)
    lines = ["file,label,group"]
    for i in range(n):
        shape = (*size, 3) if mode == "RGB" else size
        Image.fromarray(rng.integers(0, 256, shape, dtype=np.uint8)).save(place / f"{i}.png")
        lines.append(f"{i}.png,{'ab'[i % 2]},{'xy'[2 * i // n]}")
    (place / "t.csv").write_text("\n".join(lines))
    return place


def read(place: Path, **settings) -> fs.ImageSet:
    return fs.ImageSet.from_folder(place, place / "t.csv", label="label", sensitive="group", **settings)


def test_a_folder_is_read_and_each_picture_is_the_right_one(tmp_path: Path):
    images = read(folder(tmp_path))
    assert images.shape == (8, 6, 3) and images.classes == ("a", "b") and images.levels == ("x", "y")
    own = np.asarray(Image.open(tmp_path / "4.png"))
    assert np.array_equal(images.read([4])[0], own)
    grey = read(tmp_path, mode="L", size=(4, 4))
    assert grey.shape == (4, 4, 1)


def bad_truncated(place: Path) -> str:
    path = place / "2.png"
    path.write_bytes(path.read_bytes()[:100])
    return "2.png"


def bad_foreign(place: Path) -> str:
    (place / "1.png").write_text("<svg/>")
    return "1.png"


def bad_missing(place: Path) -> str:
    (place / "5.png").unlink()
    return "5.png"


def bad_size(place: Path) -> str:
    Image.new("RGB", (9, 9)).save(place / "3.png")
    return "3.png.*9×9.*8×6"


def bad_mode(place: Path) -> str:
    Image.new("L", (6, 8)).save(place / "3.png")
    return "3.png.*mode is L"


def bad_label(place: Path) -> str:
    text = (place / "t.csv").read_text().replace("4.png,a,y", "4.png,,y")
    (place / "t.csv").write_text(text)
    return "4.png.*label is missing"


def bad_escape(place: Path) -> str:
    Image.new("RGB", (6, 8)).save(place.parent / "outside.png")
    text = (place / "t.csv").read_text().replace("4.png", "../outside.png")
    (place / "t.csv").write_text(text)
    return "outside.png.*leads out"


def bad_deep(place: Path) -> str:
    Image.fromarray(np.full((8, 6), 40_000, dtype=np.uint16)).save(place / "3.png")
    return "3.png.*more than 8 bits"


def bad_pipe(place: Path) -> str:
    (place / "2.png").unlink()
    os.mkfifo(place / "2.png")
    return "2.png.*no file but"


BAD = [
    bad_truncated, bad_foreign, bad_missing, bad_size, bad_mode, bad_label, bad_escape, bad_deep, bad_pipe
]  # fmt: skip


@pytest.mark.parametrize("spoil", BAD)
def test_a_bad_file_is_named_or_skipped_and_listed(tmp_path: Path, spoil):
    place = tmp_path / "set"
    place.mkdir()
    said = spoil(folder(place))
    with pytest.raises(DataError, match=f"(?s)1 of 6 images.*{said}.*skip_bad"):
        read(place)
    kept = read(place, skip_bad=True)
    assert len(kept) == 5 and len(kept.skipped) == 1
    assert (
        kept.skipped[0][0] in said
        or "outside" in kept.skipped[0][0]
        or kept.skipped[0][0] == said.split(".*")[0]
    )
    kept.read(np.arange(5))


def test_truncation_is_named_when_it_is_met_later(tmp_path: Path):
    bad_truncated(folder(tmp_path))
    images = read(tmp_path, look="headers")
    with pytest.raises(DataError, match=r"2\.png.*cut off"):
        images.read([2])


def test_16_bits_are_refused_even_where_a_mode_is_asked_for(tmp_path: Path):
    bad_deep(folder(tmp_path))  # turned into 8 bits by the library, it would be white all over
    with pytest.raises(DataError, match=r"3\.png.*more than 8 bits"):
        read(tmp_path, mode="L")


def test_a_picture_is_upright_and_laid_on_white(tmp_path: Path):
    folder(tmp_path)
    lying = np.zeros((6, 8, 3), dtype=np.uint8)
    lying[:3] = 255  # its top, which belongs to the right
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(lying).save(tmp_path / "0.png", exif=exif)
    images = read(tmp_path)
    assert images.shape == (8, 6, 3)
    assert images.read([0])[0, :, 3:].min() == 255 and images.read([0])[0, :, :3].max() == 0
    Image.new("RGBA", (6, 8), (255, 0, 0, 0)).save(tmp_path / "1.png")
    assert read(tmp_path, mode="RGB").read([1]).min() == 255
    assert read(tmp_path, mode="RGBA").read([1])[0, 0, 0].tolist() == [255, 0, 0, 0]


def test_label_and_group_of_one_column_are_refused(tmp_path: Path):
    folder(tmp_path)
    with pytest.raises(SettingsError, match="three columns"):
        fs.ImageSet.from_folder(tmp_path, tmp_path / "t.csv", label="label", sensitive="label")


@pytest.mark.parametrize("text", ["", "a,b\n1,2,3\n4,5\n", "file,b\n0.png,1\n"])
def test_a_damaged_table_of_a_saved_folder_is_named(tmp_path: Path, text: str):
    (tmp_path / "images.csv").write_text(text)
    with pytest.raises(DataError, match=r"images\.csv"):
        fs.load_images(tmp_path)


def test_many_bad_files_are_counted(tmp_path: Path):
    folder(tmp_path, 12)
    for i in range(8):
        (tmp_path / f"{i}.png").unlink()
    with pytest.raises(DataError, match=r"8 of 12 images.* and 3 more"):
        read(tmp_path)
    with pytest.raises(DataError, match="none of the 12 files"):
        for i in range(8, 12):
            (tmp_path / f"{i}.png").unlink()
        read(tmp_path, skip_bad=True)


def test_a_bomb_of_a_picture_is_not_opened(tmp_path: Path):
    folder(tmp_path)
    content = bytearray((tmp_path / "0.png").read_bytes())
    content[16:24] = struct.pack(">II", 60_000, 60_000)
    import zlib

    content[29:33] = struct.pack(">I", zlib.crc32(bytes(content[12:29])))
    (tmp_path / "0.png").write_bytes(bytes(content))
    with pytest.raises(DataError, match=r"0\.png.*pixels"):
        read(tmp_path, mode="RGB", size=(8, 8))


def test_a_table_without_the_columns_is_named(tmp_path: Path):
    folder(tmp_path)
    with pytest.raises(DataError, match=r"no column 'age'; it has file, label, group"):
        fs.ImageSet.from_folder(tmp_path, tmp_path / "t.csv", label="age", sensitive="group")
    with pytest.raises(DataError, match="no such file"):
        fs.ImageSet.from_folder(tmp_path, tmp_path / "u.csv", label="label", sensitive="group")


# ------------------------------------------------------------------------------------------------------ archives
def npy(array: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, array)
    return buffer.getvalue()


def arrays() -> dict[str, bytes]:
    return {
        "images.npy": npy(np.zeros((8, 4, 4), np.uint8)),
        "labels.npy": npy(np.arange(8) % 2),
        "groups.npy": npy(np.arange(8) % 3),
    }


def pack(path: Path, members: dict[str, bytes], kind: int = zipfile.ZIP_STORED) -> Path:
    with zipfile.ZipFile(path, "w", kind) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return path


class Runs:
    def __reduce__(self):
        return (print, ("ran",))


def test_hostile_archives_are_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    path = tmp_path / "a.npz"
    assert len(fs.ImageSet.from_npz(pack(path, arrays()))) == 8

    evil = np.empty(8, dtype=object)
    evil[:] = Runs()
    huge = arrays()["images.npy"].replace(b"(8, 4, 4)", b"(8, 9, 9)")
    objects = {"labels.npy": npy_object(evil)}
    for members, said in (
        (arrays() | objects, "pickles"),
        (arrays() | {"../x.npy": npy(np.zeros(1))}, "plain name"),
        (arrays() | {"x.txt": b"text"}, "plain name"),
        (arrays() | {"images.npy": huge}, "another size"),
        (arrays() | {"images.npy": arrays()["images.npy"][:-3]}, "another size"),
        (arrays() | {"images.npy": b"nothing"}, "no NumPy array"),
        (arrays() | {"images.npy": npy(np.zeros((8, 4, 4)))}, "float64"),
        (arrays() | {"images.npy": npy(np.asfortranarray(np.zeros((8, 4, 4), np.uint8)))}, "Fortran"),
        (arrays() | {"labels.npy": npy(np.zeros(5, int))}, "8 images"),
        ({k: v for k, v in arrays().items() if k != "groups.npy"}, "no array 'groups'"),
    ):
        with pytest.raises(DataError, match=said):
            fs.ImageSet.from_npz(pack(path, members))
    assert "ran" not in capsys.readouterr().out


def npy_object(array: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    np.lib.format.write_array_header_1_0(
        buffer, {"descr": "|O", "fortran_order": False, "shape": array.shape}
    )
    return buffer.getvalue() + pickle.dumps(array)


@pytest.mark.parametrize("kind", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
def test_damaged_archives_are_refused(tmp_path: Path, kind: int):
    path = tmp_path / "a.npz"
    rng = np.random.default_rng(0)
    members = arrays() | {"images.npy": npy(rng.integers(0, 256, (8, 20, 20), dtype=np.uint8))}
    content = pack(path, members, kind).read_bytes()
    for spoiled in (content[: len(content) // 2], b"", content[:600] + b"\0\1\2\3" + content[604:]):
        path.write_bytes(spoiled)
        with pytest.raises(DataError, match=r"a\.npz"):
            fs.ImageSet.from_npz(path)


# ----------------------------------------------------------------------------------------------------------- idx
def test_what_unpacks_to_a_disk_full_is_not_unpacked(tmp_path: Path):
    size = (1 << 28) + (1 << 20)
    with zipfile.ZipFile(tmp_path / "bomb.npz", "w", zipfile.ZIP_DEFLATED) as archive:
        with archive.open("images.npy", "w") as stream:
            np.lib.format.write_array_header_1_0(
                stream, {"descr": "|u1", "fortran_order": False, "shape": (size >> 20, 1024, 1024)}
            )
            for _ in range(size >> 20):
                stream.write(bytes(1 << 20))
        for name in ("labels", "groups"):
            buffer = io.BytesIO()
            np.save(buffer, np.arange(size >> 20) % 2)
            archive.writestr(f"{name}.npy", buffer.getvalue())
    with pytest.raises(DataError, match="would unpack"):
        fs.ImageSet.from_npz(tmp_path / "bomb.npz")
    head = bytes([0, 0, 8, 3]) + struct.pack(">3I", size >> 10, 32, 32)
    with gzip.open(tmp_path / "bomb.gz", "wb") as file:
        file.write(head + bytes(1 << 20))
    with pytest.raises(DataError, match="would unpack"):
        fs.ImageSet.from_idx(tmp_path / "bomb.gz", tmp_path / "l", groups=[0])


def test_damaged_idx_files_are_refused(tmp_path: Path):
    good = bytes([0, 0, 8, 3]) + struct.pack(">3I", 5, 4, 4) + bytes(80)
    labels = bytes([0, 0, 8, 1]) + struct.pack(">I", 5) + bytes(5)
    (tmp_path / "l").write_bytes(labels)
    bomb = bytes([0, 0, 8, 3]) + struct.pack(">3I", 4_000_000_000, 60_000, 60_000)
    for content, said in (
        (good[:-1], "truncated"),
        (good + b"\0", "header speaks of 80"),
        (gzip.compress(good)[:-12], "end"),
        (gzip.compress(good[:-1]), "truncated"),
        (gzip.compress(good + b"\0"), "more than its header"),
        (gzip.compress(bomb), "it is not read"),
        (b"\x89PNG....", "no idx file"),
        (good[:3], "no idx file"),
        (good[:9], "cut off in its header"),
    ):
        (tmp_path / "i").write_bytes(content)
        with pytest.raises(DataError, match=said):
            fs.ImageSet.from_idx(tmp_path / "i", tmp_path / "l", groups=np.arange(5) % 2)
    (tmp_path / "i").write_bytes(good)
    with pytest.raises(DataError, match=r"\(5,\) is needed"):
        fs.ImageSet.from_idx(tmp_path / "i", tmp_path / "l", groups=np.arange(4) % 2)


# ---------------------------------------------------------------------------------------------------- publishers
def test_celeba_of_the_publishers_layout(tmp_path: Path):
    (tmp_path / "img_align_celeba").mkdir()
    rng = np.random.default_rng(0)
    names = [f"{i:06}.jpg" for i in range(1, 7)]
    for name in names:
        pixels = rng.integers(0, 256, (218, 178, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(tmp_path / "img_align_celeba" / name)
    attributes = ["Male", "Smiling", "Young"]
    values = [[1, -1, 1], [-1, 1, 1], [1, 1, -1], [-1, -1, 1], [1, 1, 1], [-1, 1, -1]]
    lines = [f"{n}  {' '.join(f'{v:2}' for v in row)}" for n, row in zip(names, values, strict=True)]
    (tmp_path / "list_attr_celeba.txt").write_text("\n".join(["6", " ".join(attributes), *lines]) + "\n")
    parts = "\n".join(f"{n} {p}" for n, p in zip(names, "000012", strict=True))
    (tmp_path / "list_eval_partition.txt").write_text(parts + "\n")
    faces = fs.load_images("celeba", folder=tmp_path)
    assert len(faces) == 4 and faces.shape == (64, 64, 3)
    assert (faces.label, faces.sensitive) == ("Smiling", "Male")
    assert faces.labels.tolist() == [0, 1, 1, 0] and faces.groups.tolist() == [1, 0, 1, 0]
    assert faces.favorable == ("yes",) and faces.read([0]).dtype == np.uint8
    young = fs.load_images("celeba", folder=tmp_path, split="test", sensitive="Young", size=(32, 48))
    assert len(young) == 1 and young.shape == (32, 48, 3) and young.groups.tolist() == [0]
    with pytest.raises(DataError, match="no attribute 'Age'; it has Male, Smiling, Young"):
        fs.load_images("celeba", folder=tmp_path, sensitive="Age")
    (tmp_path / "img_align_celeba" / names[1]).unlink()
    with pytest.raises(DataError, match=r"1 of 4 images.*000002\.jpg"):
        fs.load_images("celeba", folder=tmp_path)
    assert len(fs.load_images("celeba", folder=tmp_path, skip_bad=True)) == 3
    cut = tmp_path / "img_align_celeba" / names[0]
    cut.write_bytes(cut.read_bytes()[:9000])  # its header is sound
    kept = fs.load_images("celeba", folder=tmp_path, skip_bad=True)
    assert [name for name, _ in kept.skipped] == names[:2]
    assert kept.read([0, 1]).shape == (2, 64, 64, 3)
    (tmp_path / "list_eval_partition.txt").write_text(parts + "\nfoo\n")
    with pytest.raises(DataError, match=r"list_eval_partition\.txt"):
        fs.load_images("celeba", folder=tmp_path)
    (tmp_path / "list_eval_partition.txt").write_text(parts + "\n")
    with pytest.raises(DataError, match=r"list_attr_celeba\.txt"):
        fs.load_images("celeba", folder=tmp_path / "img_align_celeba")


def test_fairface_of_the_publishers_layout(tmp_path: Path):
    races = ["White", "Black", "East Asian", "White"]
    for part in ("train", "val"):
        (tmp_path / part).mkdir()
        lines = ["file,age,gender,race,service_test"]
        for i, race in enumerate(races, 1):
            Image.new("RGB", (224, 224), (i, 2, 3)).save(tmp_path / part / f"{i}.jpg")
            lines.append(f"{part}/{i}.jpg,20-29,{'Male' if i % 2 else 'Female'},{race},True")
        (tmp_path / f"fairface_label_{part}.csv").write_text("\n".join(lines))
    faces = fs.load_images("fairface", folder=tmp_path)
    assert faces.levels == ("Black", "East Asian", "White") and faces.classes == ("Female", "Male")
    assert faces.shape == (64, 64, 3) and len(faces) == 4 and faces.favorable == ()
    wanted = open_images("fairface", folder=tmp_path, favorable=["Male"])
    assert wanted.favorable == ("Male",)
    with pytest.raises(SettingsError, match="leave out --favorable"):
        open_images("colored-digits", favorable=["3"])
    assert (
        len(fs.load_images("fairface", folder=tmp_path, split="valid", label="age", sensitive="gender")) == 4
    )
