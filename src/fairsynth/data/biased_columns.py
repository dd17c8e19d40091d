"""The columns of a biased world: how a standard normal becomes a value, and what the value adds to the score.

Every feature starts as a latent ``z = gap · a + shift · c + u`` with `u` standard normal, `a` the advantage of the
person's group and `c` the position of the domain. What is *seen* is made from `z` by the column's kind, and the label
depends on what is seen, never on `z`: so whoever has the table has all that the label depends on, and the best
possible classifier can be written down.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date
from typing import Literal

import numpy as np
import polars as pl
import pyarrow as pa
from scipy.special import ndtr

from fairsynth.errors import DataError

Kind = Literal["continuous", "integer", "categorical", "boolean", "date"]
Role = Literal["merit", "proxy", "noise"]

#: Which kinds the columns of a role have, in turn. The first is continuous, so that the score has a density.
KINDS: dict[Role, tuple[Kind, ...]] = {
    "merit": ("continuous", "integer", "categorical", "boolean"),
    "proxy": ("continuous", "categorical", "integer", "boolean"),
    "noise": ("continuous", "categorical", "integer", "boolean", "date"),
}
LEVELS = ("a", "b", "c", "d", "e")
_CUTS = np.array([-1.2, -0.4, 0.4, 1.2])
#: Integers are eighths of a standard deviation about 40, kept within 0 and 80: five standard deviations.
_MIDDLE, _STEP, _LARGEST = 40, 8, 80
_FIRST_DAY = date(2010, 1, 1).toordinal() - date(1970, 1, 1).toordinal()
_DAYS_PER_SD = 200


def _normal_density(z: np.ndarray) -> np.ndarray:
    return np.exp(-(z**2) / 2) / np.sqrt(2 * np.pi)


def _cell_means(edges: np.ndarray) -> np.ndarray:
    """Return the mean of a standard normal between each two edges."""
    density, below = _normal_density(edges), ndtr(edges)
    return (density[:-1] - density[1:]) / (below[1:] - below[:-1])


_LEVEL_VALUES = _cell_means(np.array([-np.inf, *_CUTS, np.inf]))
_HALF = float(np.sqrt(2 / np.pi))  # the mean of the upper half of a standard normal


@dataclass(frozen=True)
class FeatureColumn:
    """One feature.

    Attributes
    ----------
    name : str
        ``"merit_1"``, ``"proxy_2"``, ``"noise_3"``.
    role : {"merit", "proxy", "noise"}
        Merit may differ between people for good reasons; a proxy stands for the group; noise says nothing.
    kind : str
        Of its values.
    weight : float
        What one unit of its value adds to the score of the label, in log odds.
    gap : float
        Standard deviations by which an advantage of 1 moves it.
    shift : float
        Standard deviations by which a domain position of 1 moves it.
    """

    name: str
    role: Role
    kind: Kind
    weight: float
    gap: float
    shift: float

    @property
    def arrow_type(self) -> pa.DataType:
        """Type of the column in Arrow batches."""
        return {
            "continuous": pa.float64(),
            "integer": pa.int32(),
            "categorical": pa.dictionary(pa.int8(), pa.string()),
            "boolean": pa.bool_(),
            "date": pa.date32(),
        }[self.kind]

    def see(self, z: np.ndarray) -> np.ndarray:
        """Return what is seen of the latent: numbers, whole numbers, codes of levels, truth values or days."""
        if self.kind == "continuous":
            return z
        if self.kind == "integer":
            return np.clip(np.rint(z * _STEP), -_MIDDLE, _LARGEST - _MIDDLE).astype(np.int32) + _MIDDLE
        if self.kind == "categorical":
            codes = np.zeros(z.shape, dtype=np.int8)
            for cut in _CUTS:
                codes += z > cut
            return codes
        if self.kind == "boolean":
            return z > 0
        return np.rint(z * _DAYS_PER_SD).astype(np.int32) + _FIRST_DAY

    def value(self, seen: np.ndarray) -> np.ndarray:
        """Return what is seen on the scale of the latent, float64; `weight` times this is added to the score."""
        if self.kind == "continuous":
            return seen
        if self.kind == "integer":
            return (seen - _MIDDLE) / _STEP
        if self.kind == "categorical":
            return _LEVEL_VALUES[seen]
        if self.kind == "boolean":
            return np.where(seen, _HALF, -_HALF)
        return (seen - _FIRST_DAY) / _DAYS_PER_SD

    def atoms(self, mean: float) -> tuple[np.ndarray, np.ndarray] | None:
        """Return values and probabilities of a column of few values at a mean of the latent; None if continuous."""
        if self.kind in ("continuous", "date"):
            return None
        values, edges = self._cells()
        return values, np.diff(ndtr(edges - mean))

    def log_density(self, seen: np.ndarray, mean: float) -> np.ndarray:
        """Return the log probability (density, up to a constant) of what is seen at a mean of the latent."""
        if self.kind in ("continuous", "date"):
            return -((self.value(seen) - mean) ** 2) / 2
        _, edges = self._cells()
        with np.errstate(divide="ignore"):
            log = np.log(np.diff(ndtr(edges - mean)))
        return log[seen.astype(np.int64)]

    def _cells(self) -> tuple[np.ndarray, np.ndarray]:
        if self.kind == "integer":
            inner = (np.arange(_LARGEST) + 0.5 - _MIDDLE) / _STEP
            return (np.arange(_LARGEST + 1) - _MIDDLE) / _STEP, np.array([-np.inf, *inner, np.inf])
        if self.kind == "categorical":
            return _LEVEL_VALUES, np.array([-np.inf, *_CUTS, np.inf])
        return np.array([-_HALF, _HALF]), np.array([-np.inf, 0.0, np.inf])

    def to_arrow(self, seen: np.ndarray, missing: np.ndarray | None) -> pa.Array:
        """Return what is seen as an Arrow array, null where `missing`."""
        if self.kind == "categorical":
            return pa.DictionaryArray.from_arrays(pa.array(seen, mask=missing), pa.array(LEVELS))
        return pa.array(seen, type=self.arrow_type, mask=missing)

    def read(self, values: pl.Series) -> np.ndarray:
        """Return what `see` gave, from a column of a table without missing values."""
        if values.null_count():
            raise DataError(
                f"column {self.name!r} misses {values.null_count()} values, and what the label depends on is known "
                "only where none is missing; make the table with missing=0, or leave such rows out."
            )
        if self.kind == "categorical":
            levels = pl.Enum(LEVELS)
            return values.cast(pl.String).cast(levels).to_physical().cast(pl.Int8).to_numpy()
        if self.kind == "date":
            return values.cast(pl.Date).to_physical().to_numpy()
        dtype = {"continuous": pl.Float64, "integer": pl.Int32, "boolean": pl.Boolean}[self.kind]
        return values.cast(dtype).to_numpy()
