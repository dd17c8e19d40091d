"""The students: small, true to the teacher's law, and made from its file alone."""

from __future__ import annotations

import gc
import json
import shutil
import subprocess
import sys
import sysconfig
import weakref
from collections.abc import Callable
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import torch
from toys import mixed_table, small_table

import fairsynth
from fairsynth import bundle
from fairsynth.data.table import Table
from fairsynth.errors import BundleError, DataError, SettingsError
from fairsynth.fairness import Fairness
from fairsynth.generators import fairvae
from fairsynth.generators.base import load_generator
from fairsynth.generators.fair4free import Fair4Free, sliced
from fairsynth.generators.fairvae import FairVAE, label_shares_for, replaced_parameters
from fairsynth.generators.latent_distillation import LatentDistillation
from fairsynth.nn.dependence import energy_distance_covariance
from fairsynth.nn.layers import NoiseEncoder, count_parameters
from fairsynth.nn.training import Plan, build, train

N = 6000
Dial = Callable[[float], FairVAE]


@pytest.fixture(scope="module")
def teacher(at_strength: Dial) -> FairVAE:
    return at_strength(0.5)


@pytest.fixture(scope="module")
def teacher_file(teacher: FairVAE, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("teacher") / "teacher.fairsynth"
    teacher.save(path)
    return path


@pytest.fixture(scope="module")
def student(teacher_file: Path) -> Fair4Free:
    return Fair4Free(steps=300, batch_size=1024).distill(teacher_file)


def law_codes(teacher: FairVAE, seed: int = 0, n: int = N) -> torch.Tensor:
    shares = label_shares_for(teacher.law_, teacher.groups_)
    return teacher.law_.draw(n, torch.Generator().manual_seed(seed), shares)


def student_codes(encoder: Any, dim: int = 2, seed: int = 1, n: int = N) -> torch.Tensor:
    with torch.inference_mode():
        return encoder(torch.randn(n, dim, generator=torch.Generator().manual_seed(seed)))


def apart(a: torch.Tensor, b: torch.Tensor) -> float:
    """Return the energy distance of two samples."""
    both = torch.cat([a[:1500], b[:1500]])
    return float(energy_distance_covariance(both, torch.arange(len(both)) // 1500))


# -------------------------------------------------------------------------------- trap 4: the mean is no law
@pytest.mark.slow
def test_a_student_matched_sample_by_sample_collapses_to_the_mean(teacher: FairVAE) -> None:
    """Why the loss is one between distributions: this is what published code does when it is fed noise."""
    encoder = build(0, lambda: NoiseEncoder(2, (32, 32), 2, 64))

    def loss(rows: torch.Tensor, generator: torch.Generator) -> tuple[torch.Tensor, dict[str, float]]:
        wanted = teacher.law_.draw(512, generator, label_shares_for(teacher.law_, teacher.groups_))
        got = encoder(torch.randn(512, 2, generator=generator))
        return (got - wanted).square().mean(), {}

    train(encoder, loss, n_rows=512, plan=Plan(300, 512, 5e-3), seed=0, stage="collapse")
    wanted, got = law_codes(teacher), student_codes(encoder)
    assert (got.var(0) < 0.05 * wanted.var(0)).all()
    assert torch.allclose(got.mean(0), wanted.mean(0), atol=0.1), "what is left is E[z]"
    assert apart(got, wanted) > 0.3


def test_the_students_codes_have_the_laws_moments_and_shape(student: Fair4Free, teacher: FairVAE) -> None:
    wanted, got = law_codes(teacher), student_codes(student.net_.encoder)
    size = wanted.std(0)
    assert (((got.mean(0) - wanted.mean(0)) / size).abs() < 0.1).all()
    assert ((got.std(0) / size - 1).abs() < 0.12).all()
    assert abs(float(torch.corrcoef(got.T)[0, 1] - torch.corrcoef(wanted.T)[0, 1])) < 0.1
    assert apart(got, wanted) < 0.02 < 0.3


def test_the_label_head_agrees_on_the_students_codes(student: Fair4Free, teacher: FairVAE) -> None:
    head = teacher.net_.rows.head
    with torch.inference_mode():
        wanted, got = (
            head(c).softmax(1)[:, 1].sort().values
            for c in (law_codes(teacher), student_codes(student.net_.encoder))
        )
    assert abs(float(wanted.mean() - got.mean())) < 0.03
    assert float((wanted - got).abs().mean()) < 0.04, "the whole distribution of its certainty"


def test_the_student_depends_on_the_group_no_more_than_its_teacher(
    student: Fair4Free, teacher: FairVAE
) -> None:
    def gap(model: Any) -> float:
        made = model.sample_table(20_000, seed=4)
        good, groups = made.favorable(), made.groups().codes
        return abs(good[groups == 0].mean() - good[groups == 1].mean())

    assert gap(student) == pytest.approx(gap(teacher), abs=0.04)


def test_rows_of_the_student_are_like_those_of_the_teacher(student: Fair4Free, teacher: FairVAE) -> None:
    ours, theirs = (model.sample_table(N, seed=0).frame for model in (student, teacher))
    for column in ("skill", "hours"):
        assert ours[column].mean() == pytest.approx(theirs[column].mean(), abs=0.1 * theirs[column].std())
        assert ours[column].std() == pytest.approx(theirs[column].std(), rel=0.1)
    for column in ("club", "sex", "paid"):
        level = theirs[column][0]
        assert (ours[column] == level).mean() == pytest.approx((theirs[column] == level).mean(), abs=0.05)


def test_sliced_distance_of_projections() -> None:
    rng = torch.Generator().manual_seed(0)
    a = torch.randn(500, 3, generator=rng)
    assert float(sliced(a, a[torch.randperm(500, generator=rng)])) == 0, "it is one between distributions"
    assert float(sliced(a, a + 2)) == pytest.approx(4, rel=1e-5)


# ------------------------------------------------------------------------------------------- a quarter
def test_students_have_at_most_a_quarter_of_what_they_replace(
    student: Fair4Free, teacher: FairVAE, proxies: tuple[Table, Table]
) -> None:
    replaced = replaced_parameters(teacher)
    assert replaced == count_parameters(teacher.net_.encoder)
    assert count_parameters(student.net_.encoder) <= replaced / 4
    other = LatentDistillation(teacher=teacher, epochs=0.1).fit(proxies[0])
    assert count_parameters(other.net_.encoder) <= replaced / 4


def test_larger_students_are_refused(
    teacher_file: Path, teacher: FairVAE, proxies: tuple[Table, Table]
) -> None:
    for make in (
        lambda: Fair4Free(hidden=(256, 256), steps=1).distill(teacher_file),
        lambda: LatentDistillation(teacher=teacher, hidden=(128, 128), epochs=0.1).fit(proxies[0]),
    ):
        with pytest.raises(SettingsError, match=r"more than a quarter.*smaller hidden"):
            make()


# --------------------------------------------------------------------------------- distillation with data
def test_the_small_encoder_says_what_the_large_one_says(
    teacher: FairVAE, proxies: tuple[Table, Table]
) -> None:
    train_, test = proxies
    small = LatentDistillation(teacher=teacher, epochs=15).fit(train_)
    unlearned = LatentDistillation(teacher=teacher, epochs=15, quality_weight=0, utility_weight=0).fit(train_)
    wanted = teacher.transform(test)

    def error(model: LatentDistillation) -> float:
        got = model.transform(test)
        assert got.shape == wanted.shape and got.dtype == np.float32
        return float(np.square(got - wanted).sum() / np.square(wanted - wanted.mean(0)).sum())

    assert error(small) < 0.1 < 0.5 < error(unlearned)
    assert apart(torch.from_numpy(wanted), torch.from_numpy(small.transform(test))) < 0.05


def test_the_teacher_may_be_a_file(few_steps: None, small: Table, tmp_path: Path) -> None:
    teacher = FairVAE(fairness=Fairness(strength=0.25), calibrate=False).fit(small)
    teacher.save(tmp_path / "private name.fairsynth")
    before = {name: p.clone() for name, p in teacher.net_.named_parameters()}
    from_object = LatentDistillation(teacher=teacher, epochs=1).fit(small)
    assert all(torch.equal(p, before[name]) for name, p in teacher.net_.named_parameters()), "it is frozen"
    from_file = LatentDistillation(teacher=str(tmp_path / "private name.fairsynth"), epochs=1).fit(small)
    assert from_file.sample(200, seed=1).equals(from_object.sample(200, seed=1))
    from_file.save(tmp_path / "student.fairsynth")
    assert b"private name" not in (tmp_path / "student.fairsynth").read_bytes()
    # What it was made fair by is the teacher's, and so the file says.
    again = load_generator(tmp_path / "student.fairsynth")
    assert again.fairness == Fairness(strength=0.25) == from_file.fairness
    assert again.sample(200, seed=1).equals(from_object.sample(200, seed=1))


def test_tables_that_are_not_the_teachers_are_refused(few_steps: None, small: Table) -> None:
    teacher = FairVAE(calibrate=False).fit(small)
    other_levels = Table(
        small.frame.with_columns(pl.col("club").cast(pl.String).replace("chess", "bridge")),
        target="paid", favorable="yes", sensitive="sex",
    )  # fmt: skip
    fewer = Table(small.frame.drop("town"), target="paid", favorable="yes", sensitive="sex")
    other_role = Table(small.frame, target="paid", favorable="yes", sensitive="club")
    for table in (other_levels, fewer, other_role):
        with pytest.raises(DataError, match="teacher"):
            LatentDistillation(teacher=teacher, epochs=0.1).fit(table)
    fresh = Table(small_table(300, seed=8).native(), schema=teacher.schema_)
    made = LatentDistillation(teacher=teacher, epochs=0.1).fit(fresh)
    assert made.sample(10, seed=0).columns == small.native().columns


def test_a_checkpoint_belongs_to_its_teacher(few_steps: None, small: Table, tmp_path: Path) -> None:
    teachers = [FairVAE(calibrate=False, seed=seed).fit(small) for seed in (0, 1)]
    LatentDistillation(teacher=teachers[0], epochs=0.1).fit(small, checkpoint=tmp_path / "with")
    with pytest.raises(SettingsError, match="another fit"):
        LatentDistillation(teacher=teachers[1], epochs=0.1).fit(small, checkpoint=tmp_path / "with")
    files = [tmp_path / f"{seed}.fairsynth" for seed in (0, 1)]
    for teacher, file in zip(teachers, files, strict=True):
        teacher.save(file)
    Fair4Free(steps=5).distill(files[0], checkpoint=tmp_path / "without")
    with pytest.raises(SettingsError, match="another fit"):
        Fair4Free(steps=5).distill(files[1], checkpoint=tmp_path / "without")


def test_only_teachers_are_distilled(student: Fair4Free, teacher_file: Path, tmp_path: Path) -> None:
    student.save(tmp_path / "student.fairsynth")
    with pytest.raises(SettingsError, match=r"student\.fairsynth holds a fair4free"):
        Fair4Free(steps=1).distill(tmp_path / "student.fairsynth")
    (tmp_path / "half.fairsynth").write_bytes(teacher_file.read_bytes()[:5000])
    with pytest.raises(BundleError, match="half"):
        Fair4Free(steps=1).distill(tmp_path / "half.fairsynth")
    with pytest.raises(BundleError, match="absent"):
        Fair4Free(steps=1).distill(tmp_path / "absent.fairsynth")


def test_a_distilled_student_takes_its_teachers_word_on_fairness(
    student: Fair4Free, teacher: FairVAE
) -> None:
    assert student.fairness == teacher.fairness == Fairness(strength=0.5)
    assert student.n_rows_ == teacher.n_rows_ and student.schema_ == teacher.schema_
    assert (student.groups_.table == teacher.label_law_).all()


def test_the_same_file_and_seed_give_the_same_student(teacher_file: Path) -> None:
    first, second, other = (Fair4Free(steps=5).distill(teacher_file, seed=s) for s in (3, 3, 4))
    assert first.sample(100, seed=0).equals(second.sample(100, seed=0))
    assert not first.sample(100, seed=0).equals(other.sample(100, seed=0))
    assert first.seed == 3


HOSTILE: dict[str, Callable[[dict, dict, dict], Any]] = {
    "no decoder": lambda m, d, t: d.pop("decoder"),
    "a decoder that is a list": lambda m, d, t: d.update(decoder=[1]),
    "huge latent": lambda m, d, t: d["decoder"].update(latent_dim=10**9),
    "huge decoder": lambda m, d, t: d["decoder"].update(decoder_hidden=[50_000, 50_000]),
    "unknown decoder": lambda m, d, t: d["decoder"].update(decoder="tree"),
    "text as number": lambda m, d, t: d["decoder"].update(latent_dim="2"),
    "another latent": lambda m, d, t: d["decoder"].update(latent_dim=3),
    "huge layers": lambda m, d, t: m["settings"].update(hidden=[50_000, 50_000]),
    "no layers": lambda m, d, t: m["settings"].update(hidden=[]),
    "something besides": lambda m, d, t: t.update(more=np.zeros(3)),
}


@pytest.mark.parametrize("kind", ["with data", "without data"])
@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_student_files_are_refused(
    name: str, kind: str, few_steps: None, small: Table, tmp_path: Path
) -> None:
    path = tmp_path / "student.fairsynth"
    if kind not in _students:
        teacher = FairVAE(calibrate=False).fit(small)
        if kind == "with data":
            LatentDistillation(teacher=teacher, epochs=0.1).fit(small).save(path)
        else:
            teacher.save(tmp_path / "teacher.fairsynth")
            Fair4Free(steps=3).distill(tmp_path / "teacher.fairsynth").save(path)
        _students[kind] = path.read_bytes()
    path.write_bytes(_students[kind])
    content = bundle.read(path)
    manifest, documents = json.loads(json.dumps([content.manifest, content.documents]))
    HOSTILE[name](manifest, documents, content.tensors)
    bundle.write(tmp_path / "hostile.fairsynth", manifest, documents, content.tensors)
    with pytest.raises(BundleError, match="hostile"):
        load_generator(tmp_path / "hostile.fairsynth")


_students: dict[str, bytes] = {}


# ------------------------------------------------------------------------------ truly without the data
def private_frame(n: int = 500, seed: int = 11) -> pl.DataFrame:
    """Draw people with numbers that are theirs alone: six digits and more, identifiers, moments."""
    rng = np.random.default_rng(seed)
    sex = rng.random(n) < 0.5
    salary = np.round(rng.lognormal(10.8, 0.5, n), 2)
    return pl.DataFrame(
        {
            "person": [f"P{x:09d}" for x in rng.choice(10**9, n, replace=False)],
            "number": rng.choice(2**50, n, replace=False) + 2**40,
            "salary": salary,
            "score": rng.normal(size=n),
            "account": rng.choice(10**7, n, replace=False) + 10**7,
            "seen": [
                datetime(2020, 1, 1) + timedelta(seconds=int(s)) for s in rng.choice(10**8, n, replace=False)
            ],
            "sex": np.where(sex, "man", "woman"),
            "paid": np.where(rng.random(n) < 0.3 + 0.4 * sex, "yes", "no"),
        }
    )


ROLES = {"target": "paid", "favorable": "yes", "sensitive": "sex", "identifiers": ["person", "number"]}

DISTIL = """
import sys
sys.path.insert(0, {source!r})
opened = []
sys.addaudithook(lambda event, args: opened.append(str(args[0])) if event == "open" else None)
from fairsynth import Fair4Free, load_generator
Fair4Free(steps=30, batch_size=256).distill("teacher.fairsynth", seed=1).save("student.fairsynth")
print(load_generator("student.fairsynth").sample(50, seed=2).shape)
import json
print(json.dumps(opened))
"""


@pytest.fixture(scope="module")
def data_free(tmp_path_factory: pytest.TempPathFactory) -> tuple[Table, Path, list[str]]:
    """Distil where the data does not exist: it was in another folder, which is deleted before."""
    patch = pytest.MonkeyPatch()
    patch.setattr(fairvae, "MIN_STEPS", 150)
    private, public = tmp_path_factory.mktemp("private"), tmp_path_factory.mktemp("public")
    private_frame().write_csv(private / "people.csv")
    table = Table(private / "people.csv", **ROLES)
    FairVAE(epochs=5).fit(table).save(private / "teacher.fairsynth")
    shutil.move(private / "teacher.fairsynth", public / "teacher.fairsynth")
    shutil.rmtree(private)
    patch.undo()
    assert [p.name for p in public.iterdir()] == ["teacher.fairsynth"]
    source = str(Path(fairsynth.__file__).parents[1])
    done = subprocess.run(
        [sys.executable, "-I", "-c", DISTIL.format(source=source)], cwd=public, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    shape, opened = done.stdout.splitlines()
    assert shape == "(50, 8)"
    return table, public, json.loads(opened)


def test_distillation_reads_the_teachers_file_and_nothing_else(
    data_free: tuple[Table, Path, list[str]],
) -> None:
    _, public, opened = data_free
    code = [
        sys.prefix,
        sys.base_prefix,
        str(Path(fairsynth.__file__).parents[1]),
        sysconfig.get_path("purelib"),
    ]
    system = ("/proc/", "/sys/", "/dev/", "/etc/", "/usr/")
    read = {
        Path(public, path)
        for path in opened
        if not path.startswith(system)
        and not any(path.startswith(place) for place in code)
        and not path.isdigit()
    }
    ours = {path.name for path in read if path.parent == public}
    assert "teacher.fairsynth" in ours
    assert {name for name in ours if "student.fairsynth" not in name} == {"teacher.fairsynth"}
    # What is left are scratch files of libraries, which did not exist before.
    assert all(
        path.is_relative_to("/tmp") or path.is_relative_to(Path.home()) for path in read - {*public.iterdir()}
    )
    assert sorted(p.name for p in public.iterdir()) == ["student.fairsynth", "teacher.fairsynth"]


def as_singles(content: bytes, frame: pl.DataFrame) -> int:
    """Count the values of columns that are found in the bytes in single precision."""
    values = np.concatenate([frame[name].to_numpy() for name in ("salary", "score", "account")])
    return sum(value.tobytes() in content for value in values.astype(np.float32))


def traces(content: bytes, table: Table) -> list[str]:
    """Return which values and rows of a table are found in the bytes of a file, in any plain writing."""
    frame = table.frame
    found = []
    texts = {name: frame[name].cast(pl.String).to_list() for name in ("person", "number", "account")}
    texts["salary"] = [f"{v:.2f}" for v in frame["salary"]] + [f"{v * 100:.0f}" for v in frame["salary"]]
    texts["score"] = [repr(v) for v in frame["score"]] + [f"{v:.8f}" for v in frame["score"]]
    seconds = frame["seen"].dt.epoch("s")
    texts["seen"] = [str(v) for v in (*seconds, *frame["seen"])] + [v.isoformat() for v in frame["seen"]]
    found += [f"{name} {v}" for name, many in texts.items() for v in many if v.encode() in content]
    for name in ("salary", "score", "account", "number"):
        numbers = frame[name].cast(pl.Int64 if name == "number" else frame[name].dtype).to_numpy()
        for value in [*numbers, *(numbers * 100 if name == "salary" else ())]:
            found += [f"{name} {value} as f8" for b in [np.float64(value).tobytes()] if b in content]
            found += [f"{name} {value} as i8" for b in [np.int64(np.round(value)).tobytes()]
                      if abs(value) > 2**20 and b in content]  # fmt: skip
    found += [f"seen {v} as i8" for v in frame["seen"].to_physical() if np.int64(v).tobytes() in content]
    states = fairvae.TableEncoder.learn(table).encode(table)
    for dtype in (np.int8, np.int16, np.int32, np.int64, np.float32, np.float64):
        found += [
            f"row {i} as {dtype.__name__}"
            for i, row in enumerate(states.astype(dtype))
            if row.tobytes() in content
        ]
    return found


@pytest.mark.parametrize("name", ["teacher.fairsynth", "student.fairsynth"])
def test_no_persons_value_is_in_the_file(name: str, data_free: tuple[Table, Path, list[str]]) -> None:
    table, public, _ = data_free
    content = (public / name).read_bytes()
    assert traces(content, table) == []
    # Among a hundred thousand weights some equal somebody's number: no more of these people's than of strangers'.
    strangers = max(as_singles(content, private_frame(seed=seed)) for seed in (1, 2, 3))
    assert as_singles(content, table.frame) <= strangers + 4
    # Level names and the range have to be there, or the search would look in the wrong place.
    assert b"woman" in content and str(table.schema["salary"].maximum).encode() in content


def test_the_search_would_find_them(data_free: tuple[Table, Path, list[str]]) -> None:
    table, public, _ = data_free
    content, frame = (public / "teacher.fairsynth").read_bytes(), table.frame
    states = fairvae.TableEncoder.learn(table).encode(table)
    planted = {
        f"person {frame['person'][7]}": frame["person"][7].encode(),
        f"account {frame['account'][3]}": str(frame["account"][3]).encode(),
        f"score {frame['score'][5]!r}": repr(frame["score"][5]).encode(),
        f"salary {frame['salary'][9]} as f8": np.float64(frame["salary"][9]).tobytes(),
        f"account {frame['account'][1]} as i8": np.int64(frame["account"][1]).tobytes(),
        f"seen {frame['seen'].to_physical()[2]} as i8": np.int64(frame["seen"].to_physical()[2]).tobytes(),
        "row 44 as int64": states[44].astype(np.int64).tobytes(),
        "row 45 as float32": states[45].astype(np.float32).tobytes(),
    }
    assert set(planted) <= set(traces(content + b"".join(planted.values()), table))
    singles = frame["score"].to_numpy()[:20].astype(np.float32).tobytes()
    assert as_singles(content + singles, frame) >= as_singles(content, frame) + 19


def test_the_manifest_lists_documents_and_tensors_that_hold_what_it_says(
    data_free: tuple[Table, Path, list[str]],
) -> None:
    _, public, _ = data_free
    content = bundle.read(public / "teacher.fairsynth")
    assert set(content.documents) == {"schema", "columns", "groups"}
    assert {name.split(".")[0] for name in content.tensors} == {"net", "law", "groups"}
    sizes = {name: array.size for name, array in content.tensors.items()}
    assert sizes["groups.table"] == 4 and sizes["law.means"] == 2 * 12 * 2
    assert not {"encoder", "law"} & {
        n.split(".")[0] for n in bundle.read(public / "student.fairsynth").tensors
    }


def test_a_teacher_does_not_keep_its_rows_in_memory(few_steps: None) -> None:
    """What is not kept cannot be saved by mistake either."""
    table = mixed_table(300)
    kept = weakref.ref(table)
    model = FairVAE().fit(table)
    del table
    gc.collect()
    assert kept() is None
    assert model.sample(5, seed=0).height == 5
