"""What a test may not change for the rest of the process: the global chance, and the number of threads."""

from __future__ import annotations

import random
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch

from fairsynth.generators.base import Generator
from fairsynth.progress import Step


class Watched:
    """Seeds the global chance, sets two threads, and says afterwards whether both were left alone."""

    left_alone: bool

    def __enter__(self) -> Watched:
        self.threads = torch.get_num_threads()
        torch.set_num_threads(2)
        torch.manual_seed(1)
        np.random.seed(2)
        random.seed(3)
        self.before = _chance()
        return self

    def __exit__(self, *error: object) -> None:
        same = all(np.array_equal(now, then) for now, then in zip(_chance(), self.before, strict=True))
        self.left_alone = same and torch.get_num_threads() == 2
        torch.set_num_threads(self.threads)


@dataclass
class Refit:
    """A generator fitted once more, and what was seen meanwhile."""

    model: Generator
    returned: Any = None
    left_alone: bool = False
    heard: list[Step] = field(default_factory=list)


def _chance() -> list[Any]:
    _, keys, *places = np.random.get_state()
    version, state, *gauss = random.getstate()
    return [torch.get_rng_state().numpy(), keys, places, [version, *gauss], state]
