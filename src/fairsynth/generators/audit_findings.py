"""What an audit found, kept for whoever asked for the fit: what fairness was gained, and what it costs. Ours."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from typing import TYPE_CHECKING, Any, get_args

import numpy as np

from fairsynth.fairness import Criterion
from fairsynth.metrics.fairness import confusion_by_group, parity

if TYPE_CHECKING:
    from fairsynth.generators.auditors import Auditors

#: Criterion → the ratio of `metrics.fairness.parity` that judges it, and its name.
RATIOS: dict[str, tuple[str, str]] = {
    "demographic_parity": ("dpr", "demographic parity ratio"),
    "equalized_odds": ("eor", "equalized odds ratio"),
    "equal_opportunity": ("equal_opportunity_ratio", "equal opportunity ratio"),
}
#: Ratios are those of groups of so many people, as in the evaluation, if there are two.
LARGE_GROUP = 100
#: Accuracy that nobody would want to lose without being told.
DEAR = 0.03
DIGITS = 4


@dataclass(frozen=True)
class AuditFindings:
    """What boosted trees, a forest and a linear model decide on people: means over the three.

    Attributes
    ----------
    criterion : str
        Of `Fairness`.
    strength : float
        At which rows are drawn.
    people : int
        On whom they decide; the generator learned from these, and its thresholds are set by them.
    ratio : float
        Lowest rate of a group over the highest one, as the criterion asks, of models trained on drawn rows. Groups of
        fewer than 100 people are left out, if two are larger.
    plain_ratio : float
        The same of rows at strength 0, which are about as unfair as the real ones.
    accuracy, plain_accuracy : float
        Share of right decisions of either. Both learned, by way of the generator, from the people they decide on, and
        on small tables do better there than on others; what lies between them is what fairness costs.
    """

    criterion: Criterion
    strength: float
    people: int
    ratio: float
    plain_ratio: float
    accuracy: float
    plain_accuracy: float

    @property
    def dear(self) -> bool:
        """Whether models lose more than .03 of accuracy."""
        return self.plain_accuracy - self.accuracy > DEAR

    def __str__(self) -> str:
        """Say it in a line."""
        return (
            f"{RATIOS[self.criterion][1]} {self.ratio:.2f} (at strength 0: {self.plain_ratio:.2f}), "
            f"accuracy {self.accuracy:.3f} ({self.plain_accuracy:.3f})"
        )

    def to_dict(self) -> dict[str, Any]:
        """Return what `from_dict` takes."""
        return asdict(self)

    @classmethod
    def from_dict(cls, told: Any) -> AuditFindings:
        """Return what `to_dict` gave.

        Raises
        ------
        ValueError
            If it is something else.
        """
        names = [field.name for field in fields(cls)]
        if not isinstance(told, dict) or sorted(told) != sorted(names):
            raise ValueError("what an audit found has other fields")
        shares = [told[name] for name in names[1:] if name != "people"]
        ok = (
            told["criterion"] in get_args(Criterion)
            and type(told["people"]) is int
            and told["people"] >= 0
            and all(type(share) in (int, float) and 0 <= share <= 1 for share in shares)
        )
        if not ok:
            raise ValueError("what an audit found is out of range")
        return cls(**told)


def findings(
    plain: Sequence[np.ndarray],
    decided: Sequence[np.ndarray],
    auditors: Auditors,
    criterion: Criterion,
    strength: float,
) -> AuditFindings | None:
    """Sum up what models decide.

    Parameters
    ----------
    plain, decided : sequence of np.ndarray
        Whom models of rows at strength 0, and of rows as they are drawn, favor: of one round or more, bool
        ``(kinds, n)`` each.
    auditors : Auditors
        The people.
    criterion, strength
        Of `Fairness`.

    Returns
    -------
    AuditFindings or None
        None where one group alone has people of whom a rate can be told, or no models could be trained.
    """
    if not plain or not decided:
        return None
    before, after = np.concatenate(list(plain)), np.concatenate(list(decided))
    told = [_ratio(one, auditors.actual, auditors.groups, criterion) for one in (after, before)]
    told += [float((one == auditors.actual).mean()) for one in (after, before)]
    if np.isnan(told).any():
        return None
    return AuditFindings(criterion, strength, len(auditors.actual), *(round(value, DIGITS) for value in told))


def _ratio(favors: np.ndarray, actual: np.ndarray, groups: np.ndarray, criterion: str) -> float:
    counts = np.stack([confusion_by_group(actual, line, groups) for line in favors])
    large = parity(counts, minimum=LARGE_GROUP)[RATIOS[criterion][0]]
    return float((parity(counts)[RATIOS[criterion][0]] if np.isnan(large).any() else large).mean())
