"""FLDGM: the frozen autoencoder, generators of its codes, and the labels that must come out right."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import torch
from sklearn.linear_model import LogisticRegression

from fairsynth import bundle, checkpoints
from fairsynth.data.table import Table
from fairsynth.errors import BundleError, DataError, NotFittedError, SettingsError
from fairsynth.fairness import Fairness
from fairsynth.generators import fairvae, fldgm
from fairsynth.generators.base import load_generator
from fairsynth.generators.fairvae import FairVAE, Training
from fairsynth.generators.fldgm import FLDGM, PAPER, Codes
from fairsynth.nn.dependence import energy_distance_covariance
from fairsynth.nn.gan import leaky_perceptron
from fairsynth.nn.layers import count_parameters
from fairsynth.progress import Step

KINDS = ("diffusion", "wgan-gp", pytest.param("lsgan", marks=pytest.mark.slow))
STEPS = {"diffusion": 400, "wgan-gp": 300, "lsgan": 700}
BATCH = {"diffusion": 256, "wgan-gp": 128, "lsgan": 256}
Dial = Callable[[float], FairVAE]
_fitted: dict[str, FLDGM] = {}


def chance(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.fixture(scope="module")
def teacher(at_strength: Dial) -> FairVAE:
    return at_strength(0.5)


@pytest.fixture(scope="module")
def fitted(teacher: FairVAE, proxies: tuple[Table, Table]) -> Callable[[str], FLDGM]:
    def get(kind: str) -> FLDGM:
        if kind not in _fitted:
            model = FLDGM(teacher=teacher, kind=kind, steps=STEPS[kind], batch_size=BATCH[kind])  # type: ignore[arg-type]
            _fitted[kind] = model.fit(proxies[0])
        return _fitted[kind]

    return get


@pytest.fixture(scope="module")
def real_codes(teacher: FairVAE, proxies: tuple[Table, Table]) -> torch.Tensor:
    """Return a code of each real row, in unit variance."""
    codes = Codes(teacher.net_.encoder, Training(proxies[0], teacher.net_.layout.encoder), 5)
    return codes.draw(torch.arange(len(proxies[0])), chance(9))


def apart(a: torch.Tensor, b: torch.Tensor) -> float:
    """Return the energy distance of two samples."""
    both = torch.cat([a[:1500], b[:1500]])
    return float(energy_distance_covariance(both, torch.arange(len(both)) // 1500))


def scaled(model: FLDGM, n: int = 3000, seed: int = 1) -> torch.Tensor:
    with torch.inference_mode():
        codes = model._codes(n, chance(seed))
    return (codes - torch.from_numpy(model.latent_mean_)) / torch.from_numpy(model.latent_scale_)


# ------------------------------------------------------------------------------------------ codes and labels
@pytest.mark.parametrize("kind", KINDS)
def test_codes_follow_the_posterior_of_the_rows(
    kind: str, fitted: Callable[[str], FLDGM], real_codes: torch.Tensor
) -> None:
    made = scaled(fitted(kind))
    from_noise = apart(real_codes, torch.randn(1500, 2, generator=chance()) * 0.5)
    assert apart(real_codes, made) < 0.15 * from_noise
    assert float(made.std(0).min()) > 0.7, "no collapse"


@pytest.mark.parametrize("kind", KINDS)
def test_labels_and_groups_come_as_the_table_says(kind: str, fitted: Callable[[str], FLDGM]) -> None:
    model = fitted(kind)
    rows = model.sample_table(20_000, seed=3)
    wanted = model.groups_.table / model.groups_.table.sum()
    favorable = model.net_.rows.layout.favorable
    assert rows.favorable().mean() == pytest.approx(wanted[favorable].sum(), abs=0.02)
    groups = rows.groups()
    for place in range(2):
        own = groups.codes == place
        share = wanted[:, place].sum()
        assert own.mean() == pytest.approx(share, abs=0.02)
        assert rows.favorable()[own].mean() == pytest.approx(wanted[favorable, place].sum() / share, abs=0.03)


def test_labels_are_right_though_the_codes_are_not(fitted: Callable[[str], FLDGM], tmp_path: Path) -> None:
    """A generator of codes that leans to one label is held to the table by what is kept."""
    fitted("lsgan").save(tmp_path / "m.fairsynth")
    model = load_generator(tmp_path / "m.fairsynth")
    assert isinstance(model, FLDGM)
    direction = torch.from_numpy(model.latent_scale_)
    base = model.net_.rows.head(torch.from_numpy(model.latent_mean_)[None])
    up = model.net_.rows.head((torch.from_numpy(model.latent_mean_) + direction)[None])
    sign = 1 if float((up - base).diff().detach()) > 0 else -1
    model.latent_mean_ = (model.latent_mean_ + 0.4 * sign * model.latent_scale_).astype(np.float32)
    leaning = model._count_labels()
    wanted = model.groups_.table.sum(1)
    assert abs(leaning[0] - wanted[0]) > 0.04, "it does lean"
    model.label_shares_ = leaning
    favorable = model.net_.rows.layout.favorable
    rows = model.sample_table(20_000, seed=0)
    assert rows.favorable().mean() == pytest.approx(wanted[favorable].sum(), abs=0.02)
    even = model.sample_table(6000, seed=0, sensitive="uniform").groups()
    assert even.counts / 6000 == pytest.approx([0.5, 0.5], abs=0.03)


def test_a_few_steps_draw_what_ancestral_sampling_draws(
    teacher: FairVAE, proxies: tuple[Table, Table]
) -> None:
    few = FLDGM(teacher=teacher, levels=100, steps=500, batch_size=256).fit(proxies[0])
    made = scaled(few)
    few.set_params(sampling_steps=100, sampling_noise=1.0)
    assert apart(scaled(few, seed=2), made) < 0.01


@pytest.mark.parametrize("kind", KINDS)
def test_codes_are_in_the_units_of_the_latent(
    kind: str, fitted: Callable[[str], FLDGM], tmp_path: Path
) -> None:
    fitted(kind).save(tmp_path / "m.fairsynth")
    model: Any = load_generator(tmp_path / "m.fairsynth")
    mean, scale = torch.from_numpy(model.latent_mean_), torch.from_numpy(model.latent_scale_)
    with torch.inference_mode():
        before = (model._codes(50, chance()) - mean) / scale
        model.latent_mean_, model.latent_scale_ = model.latent_mean_ + 10, model.latent_scale_ * 3
        after = (model._codes(50, chance()) - mean - 10) / (3 * scale)
    assert torch.allclose(before, after, atol=1e-4)


def test_a_code_costs_as_many_calls_as_there_are_steps(fitted: Callable[[str], FLDGM]) -> None:
    model, calls = fitted("diffusion"), []
    hook = model.net_.maker.register_forward_hook(lambda *_: calls.append(1))
    model._codes(100, chance())
    hook.remove()
    assert len(calls) == model.sampling_steps == 10


# ------------------------------------------------------------------------------------------ the autoencoder
def test_the_autoencoder_is_frozen(fitted: Callable[[str], FLDGM], at_strength: Dial) -> None:
    teacher = at_strength(0.5)
    before = {name: p.clone() for name, p in teacher.net_.named_parameters()}
    model = fitted("diffusion")
    assert all(torch.equal(p, before[name]) for name, p in teacher.net_.named_parameters())
    assert model.fairness == teacher.fairness == Fairness(strength=0.5)
    assert np.array_equal(model.label_law_, teacher.label_law_)
    assert not any("encoder" in name for name, _ in model.net_.named_parameters()), "none of it is kept"


def test_the_autoencoder_may_be_an_object_or_a_file(few_steps: None, small: Table, tmp_path: Path) -> None:
    teacher = FairVAE(fairness=Fairness(strength=0.3), calibrate=False).fit(small)
    teacher.save(tmp_path / "teacher.fairsynth")
    first = FLDGM(teacher=teacher, steps=5).fit(small)
    second = FLDGM(teacher=str(tmp_path / "teacher.fairsynth"), steps=5).fit(small)
    assert first.sample(50, seed=0).equals(second.sample(50, seed=0))
    first.save(tmp_path / "model.fairsynth")
    assert b"teacher.fairsynth" not in (tmp_path / "model.fairsynth").read_bytes()
    with pytest.raises(SettingsError, match="teacher is a fldgm"):
        FLDGM(teacher=tmp_path / "model.fairsynth").fit(small)
    with pytest.raises(DataError, match="other columns"):
        FLDGM(teacher=teacher).fit(
            Table(small.frame.drop("club"), target="paid", favorable="yes", sensitive="sex")
        )
    with pytest.raises(NotFittedError):
        FLDGM(teacher=FairVAE()).fit(small)
    kept = tmp_path / "kept"
    FLDGM(teacher=teacher, steps=5).fit(small, checkpoint=kept)
    with pytest.raises(SettingsError, match="another fit"):
        FLDGM(teacher=FairVAE(seed=3, calibrate=False).fit(small), steps=5).fit(small, checkpoint=kept)


# ------------------------------------------------------------------------------------------------- settings
def test_published_sizes(few_steps: None, small: Table, monkeypatch: pytest.MonkeyPatch) -> None:
    """Noise 64 → 64-128-256-128-64 → 8; critic 8-128-64-32-1; the diffusion has 0.27 million parameters."""
    model = FLDGM(kind="wgan-gp")
    widths = [(64, 64), (64, 128), (128, 256), (256, 128), (128, 64), (64, 8)]
    assert count_parameters(model._maker(8)) == sum(a * b + b for a, b in widths)
    critic = leaky_perceptron(8, model.critic_hidden, 1)
    assert count_parameters(critic) == sum(a * b + b for a, b in [(8, 128), (128, 64), (64, 32), (32, 1)])
    assert model.noise_dim == 64
    assert round(count_parameters(FLDGM(preset="paper")._maker(8)) / 1e6, 2) == 0.27
    monkeypatch.setitem(fairvae.PAPER, "epochs", 0.5)
    monkeypatch.setattr(fldgm, "COUNTED", 50)
    paper = FLDGM(preset="paper", steps=3).fit(small)
    assert len(paper.latent_scale_) == 8, "the published autoencoder, too"
    assert (paper._setting("sampling_steps"), paper._setting("sampling_noise")) == (1000, 1.0)
    assert paper._setting("learning_rate") == PAPER["learning_rate"] == 2e-4


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"kind": "vae"}, "kind='vae'.*diffusion"),
        ({"preset": "mine"}, "preset"),
        ({"sampling_noise": 1.5}, "sampling_noise"),
        ({"sampling_steps": 0}, "sampling_steps"),
        ({"levels": 10**9}, "levels"),
        ({"critic_hidden": ()}, "critic_hidden"),
        ({"penalty_weight": -1.0}, "penalty_weight"),
        ({"learning_rate": 0.0}, "learning_rate"),
    ],
    ids=str,
)
def test_settings_that_cannot_be_meant(settings: dict[str, Any], says: str, small: Table) -> None:
    with pytest.raises(SettingsError, match=says):
        FLDGM(**settings).fit(small)


@pytest.mark.parametrize("kind", ["wgan-gp", "lsgan"])
def test_adversarial_kinds_resume_to_the_bit(
    kind: str, teacher: FairVAE, proxies: tuple[Table, Table], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:

    monkeypatch.setattr(checkpoints, "SAVE_EVERY", -1.0)

    def stop(step: Step) -> None:
        if step.done == 6:
            raise KeyboardInterrupt

    def made() -> FLDGM:
        return FLDGM(teacher=teacher, kind=kind, steps=12, batch_size=64)  # type: ignore[arg-type]

    with pytest.raises(KeyboardInterrupt):
        made().fit(proxies[0], progress=stop, checkpoint=tmp_path)
    heard: list[Step] = []
    again = made().fit(proxies[0], progress=heard.append, checkpoint=tmp_path)
    assert heard[0].done > 1
    assert again.sample(200, seed=0).equals(made().fit(proxies[0]).sample(200, seed=0))


# ---------------------------------------------------------------------------------------------------- files
@pytest.mark.parametrize("kind", KINDS)
def test_a_saved_model_draws_the_same_rows(kind: str, fitted: Callable[[str], FLDGM], tmp_path: Path) -> None:
    model = fitted(kind)
    model.save(tmp_path / "m.fairsynth")
    again = load_generator(tmp_path / "m.fairsynth")
    assert again.sample(300, seed=2).equals(model.sample(300, seed=2))


def _no_number(tensors: dict[str, np.ndarray]) -> None:
    tensors["latent.mean"] = np.full_like(tensors["latent.mean"], np.nan)


def _negative(tensors: dict[str, np.ndarray]) -> None:
    tensors["latent.scale"] = -tensors["latent.scale"]


def _short(tensors: dict[str, np.ndarray]) -> None:
    tensors["latent.scale"] = tensors["latent.scale"][:1]


def _wrong_shares(tensors: dict[str, np.ndarray]) -> None:
    tensors["label_shares"] = np.array([0.2, 0.3, 0.5])


def _below_zero(tensors: dict[str, np.ndarray]) -> None:
    tensors["label_shares"] = -tensors["label_shares"]


def _stowaway(tensors: dict[str, np.ndarray]) -> None:
    tensors["rows"] = np.zeros((100, 5))


def _gone(tensors: dict[str, np.ndarray]) -> None:
    del tensors["latent.mean"]


def _infinite(tensors: dict[str, np.ndarray]) -> None:
    name = next(n for n in tensors if n.startswith("net.maker"))
    tensors[name] = np.full_like(tensors[name], np.inf)


@pytest.mark.parametrize(
    "damage", [_no_number, _negative, _short, _wrong_shares, _below_zero, _stowaway, _gone, _infinite]
)
def test_damaged_files_are_refused(
    damage: Callable[[dict[str, np.ndarray]], None], fitted: Callable[[str], FLDGM], tmp_path: Path
) -> None:
    path = tmp_path / "hostile.fairsynth"
    fitted("lsgan").save(path)
    content = bundle.read(path)
    tensors = {name: array.copy() for name, array in content.tensors.items()}
    damage(tensors)
    bundle.write(path, content.manifest, content.documents, tensors)
    with pytest.raises(BundleError, match="hostile"):
        load_generator(path)


@pytest.mark.parametrize(
    "settings",
    [
        {"kind": "diffusion"},
        {"noise_dim": 10**9},
        {"hidden": [10**7, 10**7]},
        {"levels": 10**12},
        {"sampling_steps": "many"},
        {"kind": "diffusion", "width": 10**8},
    ],
    ids=str,
)
def test_files_with_other_settings_than_their_networks_are_refused(
    settings: dict[str, Any], fitted: Callable[[str], FLDGM], tmp_path: Path
) -> None:
    path = tmp_path / "hostile.fairsynth"
    fitted("lsgan").save(path)
    content = bundle.read(path)
    manifest = {**content.manifest, "settings": {**content.manifest["settings"], **settings}}
    bundle.write(path, manifest, content.documents, content.tensors)
    with pytest.raises(BundleError, match="hostile"):
        load_generator(path)


# ---------------------------------------------------------------------- the proxy that defeats balanced sampling
def shadow_frame(n: int, seed: int) -> pl.DataFrame:
    """Draw a world in which a column equals the sensitive one in 95 % of the rows, and labels are biased."""
    rng = np.random.default_rng(seed)
    sex = rng.random(n) < 0.6
    shadow = np.where(rng.random(n) < 0.95, sex, ~sex)
    skill = rng.normal(size=n)
    paid = rng.random(n) < 1 / (1 + np.exp(-(1.5 * skill + 2.4 * shadow - 1.4)))
    return pl.DataFrame(
        {
            "skill": np.round(skill, 2),
            "hours": np.clip(np.round(40 + 5 * skill + 8 * rng.normal(size=n)), 1, 99).astype(int),
            "shadow": np.where(shadow, "long", "short"),
            "sex": np.where(sex, "man", "woman"),
            "paid": np.where(paid, "yes", "no"),
        }
    )


def decisions(synthetic: Table, test: Table) -> tuple[float, float]:
    """Return the ratio of the groups' rates, and the accuracy, of a model blind to sex on real people."""

    def matrix(table: Table) -> np.ndarray:
        frame = table.frame
        return np.column_stack([frame["skill"], (frame["hours"] - 40) / 10, frame["shadow"] == "long"])

    model = LogisticRegression().fit(matrix(synthetic), synthetic.favorable())
    chosen, groups = model.predict(matrix(test)), test.groups().codes
    rates = [chosen[groups == g].mean() for g in (0, 1)]
    return min(rates) / max(rates), float((chosen == test.favorable()).mean())


@pytest.mark.slow
def test_a_proxy_defeats_balanced_sampling_and_not_the_penalty() -> None:
    """FLDGM, section 5: equal numbers of each group change nothing where another column tells the group."""
    train = Table(shadow_frame(6000, 0), target="paid", favorable="yes", sensitive="sex")
    test = train.align(shadow_frame(10_000, 1))
    blind, fair = (
        FLDGM(teacher=FairVAE(fairness=Fairness(strength=strength), calibrate=False).fit(train), steps=1500)
        for strength in (0.0, 1.0)
    )
    real, _ = decisions(train, test)
    balanced, _ = decisions(blind.fit(train).sample_table(6000, seed=0, sensitive="uniform"), test)
    ours, accuracy = decisions(fair.fit(train).sample_table(6000, seed=0), test)
    assert real < 0.6 and balanced < 0.6, "balanced sampling is as unfair as the real rows"
    assert ours > 0.85 and accuracy > 0.62, "the latent that knows nothing of the group is not"
    favorable = test.favorable().mean()
    assert accuracy > max(favorable, 1 - favorable) + 0.03, "and it decides by something"
