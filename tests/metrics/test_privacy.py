"""Privacy: leaks that were put in are found, and none is found where there is none."""

from __future__ import annotations

import numpy as np
import pytest

from fairsynth.errors import DataError, SettingsError
from fairsynth.metrics import attacks, privacy


def people(seed: int, n: int = 500, d: int = 6) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(n, d))


def test_new_people_are_no_nearer_to_train_than_to_holdout() -> None:
    share = privacy.distance_to_closest_record(people(0), people(1), people(2))
    assert share.low <= 0.5 <= share.high
    assert share.value == pytest.approx(0.5, abs=0.08)


def test_copies_of_train_people_are_nearer_to_train() -> None:
    share = privacy.distance_to_closest_record(people(0), people(1), people(0) + 1e-3)
    assert share.value == 1.0
    half = np.concatenate([people(0)[:250], people(2)[:250]])
    assert privacy.distance_to_closest_record(people(0), people(1), half).value == pytest.approx(
        0.75, abs=0.05
    )
    swapped = privacy.distance_to_closest_record(people(1), people(0), people(0))
    assert swapped.value == 0.0


def test_ties_are_split_evenly() -> None:
    """On a table of two possible rows everything ties; published code that counts `<=` gives 1."""
    rows = np.eye(2)[np.random.default_rng(0).integers(2, size=300)]
    assert privacy.distance_to_closest_record(rows[:100], rows[100:200], rows[200:]).value == 0.5


def test_unequal_reference_sets_are_refused() -> None:
    with pytest.raises(DataError, match="equally many"):
        privacy.distance_to_closest_record(people(0), people(1, n=100), people(2))


def test_the_interval_knows_that_rows_share_their_nearest_record() -> None:
    """Every synthetic row sits on one of ten records: ten coins were tossed, not a thousand."""
    rng = np.random.default_rng(0)
    record = rng.integers(10, size=1000)
    nearer = (np.arange(10) % 2)[record]
    honest = privacy.closer_to_train(1 - nearer, nearer, records=record)
    naive = privacy.closer_to_train(1 - nearer, nearer)
    assert honest.high - honest.low > 5 * (naive.high - naive.low)


def test_the_interval_covers_one_half_when_nothing_leaks() -> None:
    hits = 0
    for seed in range(60):
        share = privacy.distance_to_closest_record(
            people(3 * seed, 150, 3), people(3 * seed + 1, 150, 3), people(3 * seed + 2, 300, 3), draws=200
        )
        hits += share.low <= 0.5 <= share.high
    assert hits >= 52


def test_nearest_neighbour_ratio() -> None:
    ratio = privacy.nearest_neighbour_ratio([[0.0, 0.0], [0.0, 2.0], [1.0, 2.0]])
    assert ratio.tolist() == [1.0, 0.0, 0.5]
    with pytest.raises(DataError, match="two nearest"):
        privacy.nearest_neighbour_ratio([[1.0]])


def test_copies() -> None:
    assert privacy.copies([1, 2, 3, 3], [3, 9]) == 0.5
    assert privacy.near_copies([0.0, 0.5, 3.0, 4.0], np.linspace(0.5, 100, 1000)) == 0.5
    with pytest.raises(DataError, match="no row"):
        privacy.copies([], [1])


def test_membership_of_copied_people_is_inferred_and_of_others_not() -> None:
    members, strangers, reference = people(0), people(1), people(2)
    found = privacy.membership_inference(members, strangers, members + 0.01, reference)
    assert found.auc > 0.95
    assert found.tpr_at_1_percent > 0.8
    none = privacy.membership_inference(members, strangers, people(3), reference)
    assert none.low <= 0.5 <= none.high
    assert none.tpr_at_1_percent < 0.05
    half = np.concatenate([members[:250], people(3)[:250]])
    assert 0.6 < privacy.membership_inference(members, strangers, half, reference).auc < 0.9


def test_membership_with_distances_of_zero_on_both_sides() -> None:
    rows = np.eye(3)[np.random.default_rng(0).integers(3, size=90)]
    found = privacy.membership_inference(rows[:30], rows[30:60], rows[60:], rows[60:])
    assert found.auc == 0.5


def test_risk_follows_the_paper() -> None:
    """Eq. 3 to 5 of Giomi et al. 2023 by hand, for 60 of 100 against 20 of 100."""
    centre, half = attacks.wilson(60, 100)
    z2 = 1.959963984540054**2
    assert centre == pytest.approx((60 + z2 / 2) / (100 + z2))
    assert half == pytest.approx(1.959963984540054 * np.sqrt(100 * 0.24 + z2 / 4) / (100 + z2))
    bits = lambda k: np.arange(100) < k  # noqa: E731
    found = attacks.risk(bits(60), bits(20), bits(10))
    c = attacks.wilson(20, 100)[0]
    assert found.value == pytest.approx((centre - c) / (1 - c))
    assert found.low < found.value < found.high
    assert (found.success, found.control, found.naive, found.attacks) == (0.6, 0.2, 0.1, 100)
    assert attacks.risk(bits(20), bits(20), bits(0)).value == 0.0


def table(seed: int, n: int = 800) -> np.ndarray:
    rng = np.random.default_rng(seed)
    codes = rng.integers(5, size=(n, 3)).astype(float)
    return np.column_stack([codes, rng.normal(size=(n, 3)).round(2)])


def test_singling_out() -> None:
    train, holdout = table(0), table(1)
    leak = attacks.singling_out(train, holdout, train, categorical=[0, 1, 2], attacks=200)
    assert leak.attacks == 200
    assert leak.success == 1.0  # what is unique in a copy of the train rows is unique in the train rows
    assert leak.value > 0.5
    none = attacks.singling_out(train, holdout, table(2), categorical=[0, 1, 2], attacks=300)
    assert none.low <= 0.05
    assert abs(none.value) < 0.15
    with pytest.raises(DataError, match="exactly one synthetic row"):
        attacks.singling_out(train, holdout, np.zeros((50, 6)), attacks=10)


def test_linkability() -> None:
    cut = lambda x: {"one": x[:, :3], "two": x[:, 3:]}  # noqa: E731
    train, holdout, other = people(0), people(1), people(2)
    leak = attacks.linkability(cut(train), cut(holdout), cut(train))
    assert leak.success == 1.0
    assert leak.value > 0.9
    none = attacks.linkability(cut(train), cut(holdout), cut(other))
    assert none.low <= 0.0 <= none.high or abs(none.value) < 0.02
    with pytest.raises(SettingsError, match="two halves"):
        attacks.linkability({"one": train}, {"one": holdout}, {"one": other})


def guess(train: np.ndarray, holdout: np.ndarray, fake: np.ndarray, tolerance: float) -> attacks.Risk:
    found = attacks.infer(
        train[:, 1:],
        holdout[:, 1:],
        fake[:, 1:],
        secret_train=train[:, 0],
        secret_holdout=holdout[:, 0],
        secret_synthetic=fake[:, 0],
        tolerance=tolerance,
    )
    return attacks.risk(found.success, found.control, found.naive)


def test_inference() -> None:
    leak = guess(people(0), people(1), people(0), 0.05)
    assert leak.success == 1.0
    assert leak.value > 0.9
    assert abs(guess(people(0), people(1), people(2), 0.05).value) < 0.06


def test_inference_of_what_anybody_could_guess_is_no_risk() -> None:
    """Knowledge about the population is not a leak about a person: the control has it too."""

    def told(seed: int) -> np.ndarray:
        rows = people(seed, n=3000)
        rows[:, 0] = rows[:, 1] > 0
        return rows

    found = guess(told(0), told(1), told(2), 0.0)
    assert found.success > 0.75
    assert found.low <= 0 <= found.high
