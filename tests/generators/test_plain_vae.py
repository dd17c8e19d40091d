"""PlainVAE: as biased as the rows it learned from, and it says so."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression

from fairsynth.data.table import Table
from fairsynth.errors import CapabilityError, SettingsError
from fairsynth.fairness import Fairness
from fairsynth.generators import fairvae
from fairsynth.generators.base import load_generator
from fairsynth.generators.fair4free import Fair4Free
from fairsynth.generators.fairvae import FairVAE
from fairsynth.generators.latent_distillation import LatentDistillation
from fairsynth.generators.plain_vae import PlainVAE


@pytest.fixture(scope="module")
def plain(proxies: tuple[Table, Table]) -> PlainVAE:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(fairvae, "MIN_STEPS", 400)
        return PlainVAE().fit(proxies[0])


def test_rows_follow_the_real_labels_of_every_group(plain: PlainVAE, proxies: tuple[Table, Table]) -> None:
    real, made = proxies[0], plain.sample_table(20_000, seed=0)
    counts = np.zeros((2, 2))
    np.add.at(counts, (real.target_codes(), real.groups().codes), 1)
    assert np.allclose(plain.label_law_, counts / counts.sum()), "the table itself is the real one"
    for group in (0, 1):
        wanted = real.favorable()[real.groups().codes == group].mean()
        assert made.favorable()[made.groups().codes == group].mean() == pytest.approx(wanted, abs=0.03)


def test_a_later_model_is_as_biased_as_one_of_real_rows(
    plain: PlainVAE, proxies: tuple[Table, Table]
) -> None:
    train, test = proxies

    def ratio(table: Table) -> float:
        def matrix(rows: Table) -> np.ndarray:
            frame = rows.frame
            return np.column_stack([frame["skill"], (frame["hours"] - 40) / 8, frame["club"] == "golf"])

        model = LogisticRegression().fit(matrix(table), table.favorable())
        chosen = model.predict(matrix(test))
        rates = [chosen[test.groups().codes == group].mean() for group in (0, 1)]
        return float(min(rates) / max(rates))

    assert ratio(plain.sample_table(3000, seed=1)) == pytest.approx(ratio(train), abs=0.12)


def test_it_is_fairvae_at_strength_nought(few_steps: None, small: Table) -> None:
    first = PlainVAE(latent_dim=3, epochs=2, seed=4).fit(small)
    same = FairVAE(fairness=Fairness(strength=0.0), penalty_weight=0.0, latent_dim=3, epochs=2, seed=4).fit(
        small
    )
    assert first.sample(100, seed=1).equals(same.sample(100, seed=1))


def test_fairness_is_refused_and_not_ignored(small: Table) -> None:
    with pytest.raises(CapabilityError, match=r"plain-vae knows no fairness.*models"):
        PlainVAE(fairness=Fairness()).fit(small)  # type: ignore[arg-type]
    with pytest.raises(SettingsError, match="latent_dim"):
        PlainVAE(latent_dim=0).fit(small)


def test_its_file_is_no_teacher(plain: PlainVAE, proxies: tuple[Table, Table], tmp_path: Path) -> None:
    """A student of a plain table would be taken for a fair one."""
    path = tmp_path / "plain.fairsynth"
    plain.save(path)
    assert load_generator(path).fairness is None
    with pytest.raises(SettingsError, match="plain-vae"):
        Fair4Free().distill(path)
    with pytest.raises(SettingsError, match="plain-vae"):
        LatentDistillation(teacher=path).fit(proxies[0])
