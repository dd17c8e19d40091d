"""What a fit keeps on the disk, to go on from if it is killed."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from fairsynth import bundle
from fairsynth.errors import BundleError, SettingsError
from fairsynth.nn.parallel import team

#: Seconds between two checkpoints.
SAVE_EVERY = 10.0


class Checkpoint:
    """A folder in which finished and unfinished stages of one fit are kept.

    Parameters
    ----------
    folder : path
        Made if it does not exist.
    fingerprint : str
        Of data, settings and version: another fit must not go on from here.
    """

    def __init__(self, folder: Path | str, fingerprint: str) -> None:
        self.folder, self.fingerprint = Path(folder), fingerprint
        self.folder.mkdir(parents=True, exist_ok=True)

    def path(self, stage: str) -> Path:
        """Return the file of a stage."""
        return self.folder / f"{stage}.fairsynth"

    def save(self, stage: str, step: int, tensors: Mapping[str, np.ndarray], course: str = "") -> None:
        """Keep a stage as it is after `step` steps, in one atomic replacement.

        Parameters
        ----------
        stage : str
            Name of the stage.
        step : int
            Steps done.
        tensors : mapping
            What `load` returns.
        course : str, optional
            Says which steps the stage takes from start to end; `load` has to be given the same.
        """
        if not team().first:
            return  # one of several processes that train together writes for all
        manifest: dict[str, Any] = {"kind": "checkpoint", "fingerprint": self.fingerprint, "step": step}
        if course:
            manifest["course"] = course
        bundle.write(self.path(stage), manifest, {}, tensors)

    def load(self, stage: str, course: str = "") -> tuple[int, dict[str, np.ndarray]] | None:
        """Return steps done and tensors of a stage, or None if there is nothing.

        Raises
        ------
        SettingsError
            If the folder belongs to a fit of other data or settings, or the stage was on another course.
        """
        path = self.path(stage)
        if not path.exists():
            return None
        try:
            kept = bundle.read(path)
        except BundleError as error:
            raise SettingsError(f"{error} It is a checkpoint: remove {self.folder} to start anew.") from error
        if kept.manifest.get("fingerprint") != self.fingerprint:
            raise SettingsError(
                f"{self.folder} holds the checkpoint of another fit (other data, settings or fairsynth version). "
                "Give another folder, or remove this one to start anew."
            )
        if kept.manifest.get("course", "") != course:
            raise SettingsError(
                f"{path}: the checkpoint of another fit: it was on the course ({kept.manifest.get('course', '')}), and "
                f"this one is ({course}). Give another folder, or remove {self.folder} to start anew."
            )
        return int(str(kept.manifest["step"])), kept.tensors
