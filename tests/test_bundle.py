"""The model file: what is written comes back; whatever is not exactly that is refused."""

from __future__ import annotations

import hashlib
import io
import json
import os
import stat
import struct
import zipfile
from pathlib import Path

import numpy as np
import pytest
import safetensors.numpy
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst

from fairsynth import bundle, files
from fairsynth.bundle.archive import COMMENT_BYTES, pack
from fairsynth.bundle.limits import MAX_FILE_BYTES
from fairsynth.errors import BundleError, SchemaError

MANIFEST = {"method": "FairVAE", "from_data": ["levels", "moments"]}
DOCUMENTS = {"schema": {"columns": ["α", "b"]}, "settings": {"width": 8, "rate": 1e-3}}
TENSORS = {
    "weight": np.arange(12, dtype=np.float32).reshape(3, 4),
    "count": np.array(7, dtype=np.int64),
    "mask": np.array([True, False, True]),
    "none": np.zeros((0, 5)),
}

fuzz = settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


@pytest.fixture
def model(tmp_path: Path) -> Path:
    path = tmp_path / "model.fairsynth"
    bundle.write(path, MANIFEST, DOCUMENTS, TENSORS)
    return path


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    path = tmp_path_factory.mktemp("sound") / "model.fairsynth"
    bundle.write(path, MANIFEST, DOCUMENTS, TENSORS)
    return path.read_bytes()


def same(found: bundle.Bundle) -> bool:
    return (
        found.manifest == MANIFEST
        and found.documents == DOCUMENTS
        and found.tensors.keys() == TENSORS.keys()
        and all(np.array_equal(found.tensors[name], value) for name, value in TENSORS.items())
    )


def refused(path: Path, data: bytes) -> str:
    """Assert that `data` is refused, that nothing is written, and return the message."""
    path.write_bytes(data)
    before = sorted(path.parent.rglob("*"))
    with pytest.raises(BundleError) as error:
        bundle.read(path)
    assert sorted(path.parent.rglob("*")) == before
    assert str(path) in str(error.value)
    return str(error.value)


# ---- what is written comes back ---------------------------------------------------------------


def test_round_trip(model: Path) -> None:
    found = bundle.read(model)
    assert same(found)
    assert found.version == bundle.VERSION
    for name, value in TENSORS.items():
        assert found.tensors[name].dtype == value.dtype
        assert found.tensors[name].shape == value.shape
        assert found.tensors[name].flags.writeable


def test_what_is_no_path_is_told_to_be_saved_first() -> None:
    with pytest.raises(BundleError, match=r"this is dict; save it first"):
        bundle.read({})  # type: ignore[arg-type]


def test_same_content_gives_the_same_bytes(tmp_path: Path, model: Path) -> None:
    again = tmp_path / "again.fairsynth"
    reversed_documents = dict(reversed(DOCUMENTS.items()))
    bundle.write(again, MANIFEST, reversed_documents, dict(reversed(TENSORS.items())))
    assert again.read_bytes() == model.read_bytes()


def test_other_tools_can_read_it(model: Path) -> None:
    """The file is what it says: a plain zip, plain JSON, plain safetensors."""
    with zipfile.ZipFile(model) as archive:
        assert archive.testzip() is None
        head = json.loads(archive.read("manifest.json"))
        for name, said in head["members"].items():
            content = archive.read(name)
            assert said == {"bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}
        tensors = safetensors.numpy.load(archive.read("tensors.safetensors"))
    assert np.array_equal(tensors["weight"], TENSORS["weight"])


def test_nothing_in_it_is_a_pickle(model: Path) -> None:
    with zipfile.ZipFile(model) as archive:
        suffixes = {Path(name).suffix for name in archive.namelist()}
    assert suffixes == {".json", ".safetensors"}


dtypes = st.one_of(
    npst.integer_dtypes(),
    npst.unsigned_integer_dtypes(),
    npst.floating_dtypes(sizes=(16, 32, 64)),
    st.just("?"),
)
plain = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inside: st.lists(inside, max_size=3) | st.dictionaries(st.text(), inside, max_size=3),
    max_leaves=10,
)


@fuzz
@given(
    documents=st.dictionaries(st.from_regex(r"[a-z][a-z0-9_]{0,8}", fullmatch=True), plain, max_size=3),
    tensors=st.dictionaries(
        st.text(min_size=1, max_size=10).filter(lambda name: name != "__metadata__"),
        npst.arrays(dtypes, npst.array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=4)),
        max_size=3,
    ),
)
def test_whatever_is_plain_comes_back(tmp_path: Path, documents: dict, tensors: dict) -> None:
    path = tmp_path / "any.fairsynth"
    try:
        bundle.write(path, {}, documents, tensors)
    except BundleError as error:
        # Lone surrogates are no text in UTF-8; everything else that is generated here is allowed.
        assert "surrogate" in str(error) or any(not name.isprintable() for name in tensors)
        return
    found = bundle.read(path)
    assert found.documents == documents
    assert found.tensors.keys() == tensors.keys()
    for name, value in tensors.items():
        assert found.tensors[name].dtype == value.dtype.newbyteorder("=")
        np.testing.assert_array_equal(found.tensors[name], value)


# ---- writing is all or nothing ----------------------------------------------------------------


@pytest.mark.parametrize(
    ("documents", "tensors", "told"),
    [
        ({"schema": float("nan")}, {}, "schema"),
        ({"schema": {1: "one"}}, {}, "key is not text"),
        ({"schema": object()}, {}, "plain JSON"),
        ({"../schema": {}}, {}, "../schema"),
        ({}, {"w": np.array(["text"])}, "dtype"),
        ({}, {"w": np.array([object()])}, "dtype"),
        ({}, {"w": np.array([1j])}, "complex"),
    ],
)
def test_what_cannot_be_read_back_is_not_written(tmp_path: Path, documents, tensors, told: str) -> None:
    with pytest.raises(BundleError, match="x.fairsynth") as error:
        bundle.write(tmp_path / "x.fairsynth", {}, documents, tensors)
    assert told in str(error.value)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("failure", [OSError(28, "No space left on device"), KeyboardInterrupt()])
def test_a_failure_leaves_the_old_file_and_nothing_else(model: Path, monkeypatch, failure) -> None:
    def fail(*_: object) -> None:
        raise failure

    before = model.read_bytes()
    monkeypatch.setattr(files.os, "replace", fail)
    with pytest.raises((BundleError, KeyboardInterrupt)):
        bundle.write(model, {"other": 1}, DOCUMENTS, TENSORS)
    assert model.read_bytes() == before
    assert list(model.parent.iterdir()) == [model]


def test_folders_are_made_and_a_folder_is_not_replaced(tmp_path: Path) -> None:
    bundle.write(tmp_path / "a" / "b" / "x.fairsynth", {}, {}, {})
    assert bundle.read(tmp_path / "a" / "b" / "x.fairsynth").tensors == {}
    with pytest.raises(BundleError, match="folder"):
        bundle.write(tmp_path / "a", {}, {}, {})


def test_a_symbolic_link_is_followed(tmp_path: Path, model: Path) -> None:
    link = tmp_path / "link.fairsynth"
    link.symlink_to(model)
    bundle.write(link, {"other": 1}, {}, {})
    assert link.is_symlink()
    assert bundle.read(model).manifest == {"other": 1}


# ---- what is not exactly a model file is refused ------------------------------------------------


@fuzz
@given(data=st.data())
def test_truncated_anywhere(tmp_path: Path, sound: bytes, data: st.DataObject) -> None:
    refused(tmp_path / "cut.fairsynth", sound[: data.draw(st.integers(0, len(sound) - 1))])


def test_every_single_byte_matters(tmp_path: Path, sound: bytes) -> None:
    path = tmp_path / "flipped.fairsynth"
    for place in range(len(sound)):
        altered = bytearray(sound)
        altered[place] ^= 1 << (place % 8)
        path.write_bytes(altered)
        with pytest.raises(BundleError):
            bundle.read(path)


@fuzz
@given(data=st.data())
def test_altered_anyhow(tmp_path: Path, sound: bytes, data: st.DataObject) -> None:
    """Insert, drop, repeat or overwrite stretches of a sound file."""
    altered = bytearray(sound)
    for _ in range(data.draw(st.integers(1, 3))):
        start = data.draw(st.integers(0, len(altered)))
        stop = data.draw(st.integers(start, min(len(altered), start + 60)))
        altered[start:stop] = data.draw(st.binary(max_size=40))
    if bytes(altered) != sound:
        refused(tmp_path / "altered.fairsynth", bytes(altered))


@fuzz
@given(start=st.sampled_from([b"", b"PK\x03\x04", b"PK\x05\x06"]), rest=st.binary(max_size=400))
def test_random_bytes(tmp_path: Path, start: bytes, rest: bytes) -> None:
    refused(tmp_path / "random.fairsynth", start + rest)


def test_trailing_and_leading_bytes(tmp_path: Path, sound: bytes) -> None:
    refused(tmp_path / "x", sound + b"\0")
    refused(tmp_path / "x", b"#!/bin/sh\n" + sound)


def contents(sound: bytes) -> dict[str, bytes]:
    with zipfile.ZipFile(io.BytesIO(sound)) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def forged(parts: dict[str, bytes], **head: object) -> bytes:
    """Build a file with every checksum right around any content: what a capable enemy would send."""
    manifest = json.loads(parts["manifest.json"])
    manifest["members"] = {
        name: {"bytes": len(part), "sha256": hashlib.sha256(part).hexdigest()}
        for name, part in parts.items()
        if name != "manifest.json"
    }
    manifest.update(head)
    return pack({**parts, "manifest.json": json.dumps(manifest).encode()})


def test_the_forger_of_these_tests_can_make_a_sound_file(tmp_path: Path, sound: bytes) -> None:
    """Without this, the refusals below could be for a reason other than the one tested."""
    path = tmp_path / "forged.fairsynth"
    path.write_bytes(forged(contents(sound)))
    assert same(bundle.read(path))


def hostile_zip(sound: bytes, change) -> bytes:
    """Write the sound members with a zip entry changed by `change(info)`, comment and all."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, part in contents(sound).items():
            info = zipfile.ZipInfo(name, (1980, 1, 1, 0, 0, 0))
            info.external_attr = (stat.S_IFREG | 0o644) << 16
            part = change(archive, info, part) or part
            archive.writestr(info, part)
        archive.comment = zipfile.ZipFile(io.BytesIO(sound)).comment
    return buffer.getvalue()


def test_path_traversal(tmp_path: Path, sound: bytes) -> None:
    for name in [
        "../../evil.json",
        "/etc/evil.json",
        "documents/../../x.json",
        "C:\\evil.json",
        "..\\x.json",
    ]:
        parts = contents(sound) | {name: b"{}"}
        assert "hostile" in refused(tmp_path / "x.fairsynth", forged(parts))
    assert not (tmp_path.parent / "evil.json").exists()


def test_unknown_missing_and_repeated_members(tmp_path: Path, sound: bytes) -> None:
    path = tmp_path / "x.fairsynth"
    assert "evil.py" in refused(path, forged(contents(sound) | {"evil.py": b"1"}))
    assert "data.pkl" in refused(path, forged(contents(sound) | {"data.pkl": b"1"}))
    parts = contents(sound)
    del parts["tensors.safetensors"]
    assert "tensors.safetensors" in refused(path, forged(parts))
    parts = contents(sound)
    del parts["manifest.json"]
    assert "manifest.json" in refused(path, _bare(parts))

    def twice(archive: zipfile.ZipFile, info: zipfile.ZipInfo, part: bytes) -> None:
        if info.filename == "tensors.safetensors":
            with pytest.warns(UserWarning, match="Duplicate"):
                archive.writestr("documents/schema.json", b"{}")

    assert "twice" in refused(path, hostile_zip(sound, twice))


def _bare(parts: dict[str, bytes]) -> bytes:
    """Zip without a manifest, with a comment of the right length."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, part in parts.items():
            archive.writestr(name, part)
        archive.comment = b"x" * COMMENT_BYTES
    return buffer.getvalue()


def test_compressed_encrypted_and_linked_members(tmp_path: Path, sound: bytes) -> None:
    path = tmp_path / "x.fairsynth"

    def bomb(archive: zipfile.ZipFile, info: zipfile.ZipInfo, part: bytes) -> bytes:
        info.compress_type = zipfile.ZIP_DEFLATED
        return bytes(30_000_000) if info.filename == "tensors.safetensors" else part

    data = hostile_zip(sound, bomb)
    assert len(data) < 100_000
    assert "compressed" in refused(path, data)

    def link(archive: zipfile.ZipFile, info: zipfile.ZipInfo, part: bytes) -> None:
        info.external_attr = (stat.S_IFLNK | 0o777) << 16

    assert "link" in refused(path, hostile_zip(sound, link))

    encrypted = bytearray(sound)
    first = encrypted.index(b"PK\x01\x02")
    encrypted[first + 8] |= 1
    assert "encrypted" in refused(path, bytes(encrypted))


def test_huge_declared_sizes(tmp_path: Path, sound: bytes) -> None:
    """Sizes in the archive's directory are held against the file before anything is read."""
    path = tmp_path / "x.fairsynth"
    for size in (2**32 - 1, 2**31, len(sound) + 1):
        altered = bytearray(sound)
        place = altered.index(b"PK\x01\x02")
        struct.pack_into("<II", altered, place + 20, size, size)
        refused(path, bytes(altered))
    crowded = bytearray(sound)
    struct.pack_into("<HH", crowded, len(sound) - COMMENT_BYTES - 14, 65_535, 65_535)
    assert "directory" in refused(path, bytes(crowded))


def test_a_file_too_large_is_not_read(tmp_path: Path, sound: bytes) -> None:
    path = tmp_path / "x.fairsynth"
    with path.open("wb") as file:
        file.write(sound)
        file.truncate(MAX_FILE_BYTES + 1)  # sparse: takes no room on the disk
    with pytest.raises(BundleError, match="at most"):
        bundle.read(path)


def test_other_kinds_of_files(tmp_path: Path) -> None:
    with pytest.raises(BundleError, match="no such file"):
        bundle.read(tmp_path / "absent.fairsynth")
    with pytest.raises(BundleError, match="folder"):
        bundle.read(tmp_path)
    assert "empty" in refused(tmp_path / "empty.fairsynth", b"")
    assert "not a fairsynth" in refused(tmp_path / "table.csv", b"a,b\n1,2\n" * 50)
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(BundleError):  # and does not wait for a writer
        bundle.read(tmp_path / "pipe")
    foreign = io.BytesIO()
    with zipfile.ZipFile(foreign, "w") as archive:
        archive.writestr("model/data.pkl", b"x")
    assert "fairsynth" in refused(tmp_path / "model.pt", foreign.getvalue())


def test_a_newer_format_says_so(tmp_path: Path, sound: bytes) -> None:
    told = refused(tmp_path / "new.fairsynth", forged(contents(sound), version=bundle.VERSION + 1, more={}))
    assert "newer fairsynth" in told
    assert "Upgrade" in told


@pytest.mark.parametrize(
    "head",
    [{"version": 0}, {"version": True}, {"version": "1"}, {"format": "zip"}, {"made_by": 1}, {"content": []}],
)
def test_a_manifest_that_is_not_sound(tmp_path: Path, sound: bytes, head: dict) -> None:
    refused(tmp_path / "x.fairsynth", forged(contents(sound), **head))


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"{",
        b"\xff\xfe",
        b"[" * 100_000,
        b'{"a":' * 5_000 + b"1" + b"}" * 5_000,
        b"[" * 70 + b"]" * 70,
        b"NaN",
        b"[Infinity]",
        b"1e999",
        b"9" * 5_000,
        b'{"a": 1, "a": 2}',
    ],
    ids=[
        "empty",
        "cut",
        "encoding",
        "deep",
        "deeper",
        "past-limit",
        "nan",
        "inf",
        "overflow",
        "digits",
        "twice",
    ],
)
def test_json_that_is_not_sound(tmp_path: Path, sound: bytes, text: bytes) -> None:
    told = refused(tmp_path / "x.fairsynth", forged(contents(sound) | {"documents/schema.json": text}))
    assert "documents/schema.json" in told


def tensors_with(header: object, body: bytes = b"\0" * 16, size: int | None = None) -> bytes:
    text = json.dumps(header).encode() if not isinstance(header, bytes) else header
    return struct.pack("<Q", len(text) if size is None else size) + text + body


def entry(dtype: object = "F32", shape: object = (4,), offsets: object = (0, 16)) -> dict:
    return {"dtype": dtype, "shape": shape, "data_offsets": offsets}


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"1234567",
        tensors_with({"w": entry()}, size=2**63),
        tensors_with({"w": entry()}, size=10**7),
        tensors_with(b"{not json"),
        tensors_with([entry()]),
        tensors_with({"w": entry(dtype="PICKLE")}),
        tensors_with({"w": entry(dtype="BF16", shape=(8,))}),
        tensors_with({"w": entry(dtype=["F32"])}),
        tensors_with({"w": entry(shape=(5,))}),
        tensors_with({"w": entry(shape=(-4,))}),
        tensors_with({"w": entry(shape=(2**62, 4))}),
        tensors_with({"w": entry(shape=(0, 2**30, 2**30, 2**30), offsets=(0, 0))}, b""),
        tensors_with({"w": entry(shape=(4.0,))}),
        tensors_with({"w": entry(shape=4)}),
        tensors_with({"w": entry(offsets=(0, 32))}),
        tensors_with({"w": entry(offsets=(16, 0))}),
        tensors_with({"w": entry(offsets=(-16, 0))}),
        tensors_with({"w": entry(offsets=(0, 16, 32))}),
        tensors_with({"w": entry(), "v": entry()}),
        tensors_with({"w": entry(shape=(2,), offsets=(0, 8))}),
        tensors_with({"w": entry(shape=(2,), offsets=(8, 16))}),
        tensors_with({"w": entry(dtype="BOOL", shape=(16,))}, b"\2" * 16),
        tensors_with({"w": entry(), "__metadata__": {"format": "pt"}}),
    ],
)
def test_tensors_that_are_not_sound(tmp_path: Path, sound: bytes, content: bytes) -> None:
    refused(tmp_path / "x.fairsynth", forged(contents(sound) | {"tensors.safetensors": content}))


@fuzz
@given(data=st.data())
def test_any_tensors_member_with_right_checksums(tmp_path: Path, sound: bytes, data: st.DataObject) -> None:
    """Past the checksums, the tensor parser alone stands; it raises nothing but BundleError."""
    parts = contents(sound)
    altered = bytearray(parts["tensors.safetensors"])
    for _ in range(data.draw(st.integers(1, 4))):
        altered[data.draw(st.integers(0, len(altered) - 1))] = data.draw(st.integers(0, 255))
    path = tmp_path / "x.fairsynth"
    path.write_bytes(forged(parts | {"tensors.safetensors": bytes(altered)}))
    try:
        bundle.read(path)  # other weights are a sound file of another model
    except BundleError as error:
        assert str(path) in str(error)


# ---- what the reader of a model asks for -------------------------------------------------------


def test_expect_names_what_is_wrong(model: Path) -> None:
    found = bundle.read(model)
    shapes = {name: value.shape for name, value in TENSORS.items()}
    assert found.expect(shapes).keys() == TENSORS.keys()
    assert found.expect(shapes | {"weight": (None, 4)})
    with pytest.raises(BundleError, match="'weight' is 3 × 4 and should be 4 × 4"):
        found.expect(shapes | {"weight": (4, 4)})
    with pytest.raises(BundleError, match="'count' is a single number and should be 1"):
        found.expect(shapes | {"count": (1,)})
    with pytest.raises(BundleError, match="bias are missing"):
        found.expect(shapes | {"bias": (4,)})
    with pytest.raises(BundleError, match="none do not belong"):
        found.expect({name: shape for name, shape in shapes.items() if name != "none"})


def test_document_and_guard(model: Path) -> None:
    found = bundle.read(model)
    assert found.document("settings")["width"] == 8
    with pytest.raises(BundleError, match="no document 'causes'"):
        found.document("causes")
    for error in (KeyError("x"), TypeError("x"), SchemaError("two targets"), ZeroDivisionError("x")):
        with pytest.raises(BundleError, match="model.fairsynth"), found.guard():
            raise error
    with pytest.raises(KeyboardInterrupt), found.guard():
        raise KeyboardInterrupt
