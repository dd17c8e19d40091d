"""The fairness that is wanted, as data: one object that every generator understands."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from numbers import Real
from typing import Any, Literal, get_args

from fairsynth.errors import SettingsError

Criterion = Literal["demographic_parity", "equalized_odds", "equal_opportunity"]
CRITERIA: tuple[str, ...] = get_args(Criterion)


@dataclass(frozen=True)
class Fairness:
    """What kind of fairness a generator is asked for, and how much of it.

    Parameters
    ----------
    criterion : {"demographic_parity", "equalized_odds", "equal_opportunity"}
        What a model trained on the synthetic rows should satisfy on real people.
        Where base rates differ between groups the first and the second exclude each
        other, so one is chosen; see ``docs/research``.
    strength : float, default=1.0
        From 0 (a faithful generator, bias and all) to 1 (as fair as the method gets).

    Raises
    ------
    SettingsError
        If the criterion is not one of the three or the strength is outside [0, 1].
    """

    criterion: Criterion = "demographic_parity"
    strength: float = 1.0

    def __post_init__(self) -> None:
        """Refuse what is out of range."""
        if self.criterion not in CRITERIA:
            raise SettingsError(
                f"criterion={self.criterion!r} is not known; choose one of {', '.join(CRITERIA)}."
            )
        given: Any = self.strength
        number = isinstance(given, Real) and not isinstance(given, bool)
        if not number or not 0.0 <= self.strength <= 1.0:
            raise SettingsError(f"strength={self.strength!r} must be a number between 0 and 1.")

    def to_dict(self) -> dict[str, Any]:
        """Return the two settings as plain JSON values."""
        return asdict(self)
