"""What all sections of an image evaluation share: the sets, the networks, and the list of scores."""

from __future__ import annotations

import hashlib
import math
import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from fairsynth.evaluation.image_models import ImageNetwork, over_images, probabilities_of
from fairsynth.evaluation.result import Score, Section

if TYPE_CHECKING:
    from fairsynth.data.images import ImageSet

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Pixels = NDArray[np.uint8]


@dataclass
class ImageContext:
    """The state of one run.

    Attributes
    ----------
    train, test : ImageSet
        Real images that the generator saw, and that it did not.
    others : dict of str to ImageSet
        Further real sets.
    synthetic : dict of str to ImageSet
        Source → images.
    seed, max_images, minimum_group : int
        Of all chance; most images on either side of a distance; images that a group needs to be counted on.
    classifiers : dict of str to ImageNetwork
        Source → classifier trained on it.
    reader : ImageNetwork
        Balanced network for label and sensitive attribute.
    """

    train: ImageSet
    test: ImageSet
    others: dict[str, ImageSet]
    synthetic: dict[str, ImageSet]
    seed: int
    max_images: int
    minimum_group: int
    classifiers: dict[str, ImageNetwork]
    reader: ImageNetwork
    features: Callable[[Pixels], Floats]
    switched: Mapping[str, NDArray[np.uint8]] = field(default_factory=dict)
    scores: list[Score] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    artifacts: dict[str, Any] = field(default_factory=dict)
    _features: dict[str, Floats] = field(default_factory=dict)
    _read: dict[str, tuple[Ints, Ints]] = field(default_factory=dict)

    def rng(self, purpose: str) -> np.random.Generator:
        """Return the random numbers of one purpose."""
        return np.random.default_rng([self.seed, zlib.crc32(purpose.encode())])

    def sample(self, n: int, size: int, purpose: str) -> Ints:
        """Return `size` of the indices 0 … n-1 in random order, or all of them."""
        return self.rng(purpose).permutation(n)[:size]

    def add(
        self,
        section: Section,
        metric: str,
        value: float | None,
        *,
        interval: tuple[float, float] | None = None,
        note: str | None = None,
        **where: Any,
    ) -> None:
        """Add one score; what is not finite becomes None, and says so."""
        number = None if value is None or not math.isfinite(value) else float(value)
        if number is None:
            interval, note = None, note or "not defined for these images"
        low, high = interval or (None, None)
        self.scores.append(
            Score(section=section, metric=metric, value=number, low=low, high=high, note=note, **where)
        )

    @property
    def sets(self) -> dict[str, ImageSet]:
        """All sets by source, with ``"real"`` for train and ``"holdout"`` for test."""
        return {"real": self.train, "holdout": self.test, **self.synthetic}

    @property
    def tests(self) -> dict[str | None, ImageSet]:
        """Real sets that classifiers are tested on: None for the plain one."""
        found: dict[str | None, ImageSet] = {None: self.test}
        found.update(self.others)
        return found

    def features_of(self, name: str, images: ImageSet, index: Ints) -> Floats:
        """Return the features of some images of a set, float64 (k, d); once computed they are kept."""
        key = f"{name}:{hashlib.blake2b(index.tobytes(), digest_size=8).hexdigest()}"
        if key not in self._features:
            self._features[key] = over_images(images, index, self.features).astype(np.float64)
        return self._features[key]

    def read(self, source: str) -> tuple[Ints, Ints]:
        """Return what the reader sees in each image of a set: label and group, int64 (n,) each."""
        if source not in self._read:
            images = self.sets[source]
            self._read[source] = (
                probabilities_of(self.reader, images, "label").argmax(axis=1),
                probabilities_of(self.reader, images, "sensitive").argmax(axis=1),
            )
        return self._read[source]
