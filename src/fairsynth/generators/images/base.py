"""The contract that every generator of images keeps: fit, sample, save, load, as generators of tables do."""

from __future__ import annotations

import hashlib
import json
import os
from abc import ABC, abstractmethod
from collections.abc import Generator as Iterating
from collections.abc import Mapping
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Self

import numpy as np
from sklearn.base import BaseEstimator

from fairsynth.cores import cores, in_order
from fairsynth.data.images import ImageSet
from fairsynth.data.images.pixels import CHANNELS, Pixels, Shape
from fairsynth.data.images.writers import writer_for
from fairsynth.errors import BundleError, CapabilityError, DataError, NotFittedError, SettingsError
from fairsynth.fairness import Fairness
from fairsynth.generators.base import Capabilities, _plain
from fairsynth.generators.group_law import with_group_shares
from fairsynth.generators.requests import label_rows
from fairsynth.generators.settings import check_seed
from fairsynth.progress import Progress, Step

if TYPE_CHECKING:
    from fairsynth.bundle import Bundle

#: Images drawn at a time. Part of what a seed means: another number here gives other images.
BLOCK_IMAGES = 2048
#: Of manifests of files that hold a generator of images.
KIND = "image-generator"
#: Larger images than this no file may speak of.
MAX_SIDE = 4096
#: Classes, groups and columns of the pictures that `ImageGenerator.pictures` shows.
SHOWN = 10

Mix = Literal["empirical", "uniform"] | Mapping[str, float]
Block = tuple[Pixels, np.ndarray, np.ndarray]


class ImageGenerator(BaseEstimator, ABC):
    """A model of images from which fair synthetic images are drawn, each with a label and a group.

    Hyper-parameters are keyword arguments of ``__init__`` and stored under their names; nothing is done before
    `fit`. A method is one subclass that says how to fit (`_fit`), how to draw images of given labels and groups
    (`_draw`) and what of it goes into a file (`_state`, `_restore`).

    Attributes
    ----------
    shape_ : tuple of int
        Height, width and channels.
    classes_, levels_ : tuple of str
        Names of the classes and of the groups.
    label_, sensitive_ : str
        What they are called.
    favorable_ : tuple of str
        Classes that are good to be given.
    n_images_ : int
        How many were learned from.
    label_law_ : np.ndarray
        P(y, s) that images are drawn from, float64 ``(classes, groups)``.
    """

    name: ClassVar[str]
    capabilities: ClassVar[Capabilities]

    fairness: Fairness
    seed: int
    label_law_: np.ndarray

    @abstractmethod
    def _fit(self, images: ImageSet, *, progress: Progress | None, checkpoint: Path | None) -> None:
        """Learn from a checked set, setting attributes that end in an underscore."""

    @abstractmethod
    def _draw(self, labels: np.ndarray, groups: np.ndarray, seed: np.random.SeedSequence) -> Pixels:
        """Return an image of each label and group, uint8 ``(n, h, w, c)``; several threads may call it."""

    @abstractmethod
    def _state(self) -> tuple[dict[str, Any], dict[str, np.ndarray], list[dict[str, str]]]:
        """Return documents, tensors, and what in them came from the data."""

    @abstractmethod
    def _restore(self, content: Bundle) -> None:
        """Set the learned attributes from a file that was checked as a file, not yet as this model."""

    # ------------------------------------------------------------------------------------------------- learning
    def fit(
        self, images: ImageSet, *, progress: Progress | None = None, checkpoint: Path | str | None = None
    ) -> Self:
        """Learn from a set of images.

        Parameters
        ----------
        images : ImageSet
            With at least two classes and two groups.
        progress : callable, optional
            Told of every `Step`; see `fairsynth.progress.bar`.
        checkpoint : path, optional
            Folder in which the work is kept; the same call goes on from there after a crash.

        Returns
        -------
        Self

        Raises
        ------
        DataError
            If the images cannot be learned from.
        CapabilityError
            If this method cannot do what is asked.
        """
        if not isinstance(images, ImageSet):
            raise DataError(
                f"fit needs an ImageSet, not {type(images).__name__}: make one with ImageSet.of_arrays, from_folder, "
                "from_npz or from_idx."
            )
        check_seed(self.seed)
        self._check(images)
        self._fit(images, progress=progress, checkpoint=Path(checkpoint) if checkpoint is not None else None)
        self._remember(images)
        return self

    def _check(self, images: ImageSet) -> None:
        counts = images.counts()
        for name, names, own in (
            (images.label, images.classes, counts.sum(1)),
            (images.sensitive, images.levels, counts.sum(0)),
        ):
            there = [level for level, count in zip(names, own, strict=True) if count]
            if len(there) < 2:
                raise DataError(
                    f"all {len(images):,} images have {name!r} = {there[0]!r}: nothing to learn, and every measure "
                    "of fairness would be perfect and mean nothing. Choose other images or another attribute."
                )
        if self.fairness.criterion not in self.capabilities.criteria:
            raise CapabilityError(
                f"{self.name} for images cannot be asked for {self.fairness.criterion}: it moves P(label, group) to "
                "independence, which is demographic_parity. Error rates of a later model would have to be measured on "
                "decisions, which images have none of; compare them in the evaluation (EOR)."
            )

    def _remember(self, images: ImageSet) -> None:
        self.shape_, self.classes_, self.levels_ = images.shape, images.classes, images.levels
        self.label_, self.sensitive_, self.favorable_ = images.label, images.sensitive, images.favorable
        self.n_images_ = len(images)

    # -------------------------------------------------------------------------------------------------- drawing
    def sample(
        self,
        n: int,
        *,
        seed: int | None = None,
        where: Mapping[str, Any] | None = None,
        sensitive: Mix = "empirical",
        target_mix: Mapping[Any, float] | None = None,
    ) -> ImageSet:
        """Draw synthetic images into memory.

        Parameters
        ----------
        n : int
            How many.
        seed : int, optional
            The same seed gives the same images; by default that of the model.
        where : mapping, optional
            Label or sensitive attribute, by name → value: only images with these values, exact to the image.
        sensitive : {"empirical", "uniform"} or mapping, default="empirical"
            Shares of the groups: as learned, equal, or given by name. The label law of each group stays.
        target_mix : mapping, optional
            Class → share of the images, exact to the image. The groups of each class come as the model has them.

        Returns
        -------
        ImageSet
            With the classes, groups and names of the images learned from.

        Raises
        ------
        NotFittedError
            Before `fit`.
        SettingsError, CapabilityError
            If `n`, a name, a value or a group does not exist.
        """
        batches = self.iter_batches(n, seed=seed, where=where, sensitive=sensitive, target_mix=target_mix)
        with closing(batches):
            pixels, labels, groups = (np.concatenate(part) for part in zip(*batches, strict=True))
        return ImageSet.of_arrays(pixels, labels, groups, **self._names())

    def iter_batches(
        self,
        n: int,
        *,
        seed: int | None = None,
        where: Mapping[str, Any] | None = None,
        sensitive: Mix = "empirical",
        target_mix: Mapping[Any, float] | None = None,
    ) -> Iterating[Block, None, None]:
        """Draw synthetic images block by block, in memory that does not grow with `n`; see `sample`.

        Yields
        ------
        images : np.ndarray
            uint8 ``(k, height, width, channels)``.
        labels, groups : np.ndarray
            int64 ``(k,)``.
        """
        self._fitted()
        if not isinstance(n, int | np.integer) or isinstance(n, bool) or n < 1:
            raise SettingsError(f"n={n!r} must be a whole number from 1 up.")
        chosen = self.seed if seed is None else seed
        check_seed(chosen)
        law, shares = self._law(where, sensitive, target_mix)
        sizes = [BLOCK_IMAGES] * (int(n) // BLOCK_IMAGES) + (
            [int(n) % BLOCK_IMAGES] if n % BLOCK_IMAGES else []
        )
        quotas = None if shares is None else label_rows(sizes, shares)

        def block(index: int) -> Block:
            rng = np.random.default_rng([chosen, index])
            quota = None if quotas is None else quotas[index]
            labels, groups = _cells(law, sizes[index], quota, rng)
            return self._draw(labels, groups, np.random.SeedSequence([chosen, index])), labels, groups

        from fairsynth.nn.threads import threads

        with threads(1):
            yield from in_order(block, range(len(sizes)), min(len(sizes), cores()))

    def sample_to(
        self,
        path: str | os.PathLike[str],
        n: int,
        *,
        seed: int | None = None,
        where: Mapping[str, Any] | None = None,
        sensitive: Mix = "empirical",
        target_mix: Mapping[Any, float] | None = None,
        progress: Progress | None = None,
    ) -> None:
        """Draw synthetic images straight to disk: a ``.npz`` file or a new folder, which appears when it is whole.

        Parameters
        ----------
        path : path
            ``.npz``, or a folder (no suffix) of PNG files with ``images.csv``.
        n, seed, where, sensitive, target_mix
            As of `sample`.
        progress : callable, optional
            Told after every block.
        """
        batches = self.iter_batches(n, seed=seed, where=where, sensitive=sensitive, target_mix=target_mix)
        self._fitted()
        with closing(batches), writer_for(path, int(n), self.shape_, self._names()) as writer:
            for images, labels, groups in batches:
                writer.write(images, labels, groups)
                if progress is not None:
                    progress(Step("sample", writer.written, int(n)))

    def pictures(self, seed: int = 0) -> dict[str, Pixels]:
        """Return grids of pictures for a person to look at.

        Parameters
        ----------
        seed : int
            Which pictures.

        Returns
        -------
        dict
            uint8 ``(rows, columns, height, width, channels)`` by name: ``"sampled"``, a row a class; and of methods
            with a latent ``"switched"``, each column one latent decoded for the group of each row, and
            ``"interpolated"``, from one latent on the left to another on the right. At most ten rows and columns.
        """
        self._fitted()
        check_seed(seed)
        grid = self.label_law_[:SHOWN]
        rows = np.flatnonzero(grid.sum(1) > 0)
        rng = np.random.default_rng([seed, 1])
        labels = np.repeat(rows, SHOWN)
        groups = np.concatenate([_cells(grid[[row]] / grid[row].sum(), SHOWN, None, rng)[1] for row in rows])
        sampled = self._draw(labels, groups, np.random.SeedSequence([seed, 2]))
        return {"sampled": sampled.reshape(len(rows), SHOWN, *self.shape_)}

    def _names(self) -> dict[str, Any]:
        return {
            "classes": self.classes_, "levels": self.levels_, "label": self.label_, "sensitive": self.sensitive_,
            "favorable": self.favorable_,
        }  # fmt: skip

    def _law(
        self, where: Mapping[str, Any] | None, sensitive: Mix, target_mix: Mapping[Any, float] | None
    ) -> tuple[np.ndarray, np.ndarray | None]:
        """Return P(y, s) of what is asked for, and the exact shares of the labels if there are such."""
        law = self.label_law_
        if not isinstance(sensitive, str) or sensitive != "empirical":
            law = with_group_shares(law, self._group_shares(sensitive))
        for name, value in (where or {}).items():
            if name not in (self.label_, self.sensitive_):
                raise SettingsError(
                    f"where: there is no {name!r}; images have {self.label_!r} and {self.sensitive_!r}."
                )
            place = self._place(name, value, "where")
            kept = np.zeros_like(law)
            index: Any = np.s_[place] if name == self.label_ else np.s_[:, place]
            kept[index] = law[index]
            law = kept
        if law.sum() <= 0:
            said = ", ".join(f"{name}={value}" for name, value in (where or {}).items())
            raise CapabilityError(f"where {said}: no such images were learned from.")
        shares = None
        if target_mix is not None:
            if self.label_ in (where or {}):
                raise SettingsError(
                    f"target_mix and where both say what {self.label_!r} is to be; give one of them."
                )
            shares = self._shares(target_mix, self.label_, self.classes_, "target_mix")
            lacking = np.flatnonzero((shares > 0) & (law.sum(1) <= 0))
            if len(lacking):
                raise CapabilityError(
                    f"target_mix: no image of {self.classes_[lacking[0]]!r} was learned from in the groups asked for."
                )
        return law / law.sum(), shares

    def _group_shares(self, sensitive: Mix) -> np.ndarray:
        seen = self.label_law_.sum(0) > 0
        if isinstance(sensitive, str):
            if sensitive != "uniform":
                raise SettingsError(
                    f"sensitive={sensitive!r} is neither 'empirical', 'uniform' nor a mapping of shares."
                )
            return seen / seen.sum()
        shares = self._shares(sensitive, self.sensitive_, self.levels_, "sensitive")
        if (shares[~seen] > 0).any():
            name = self.levels_[np.flatnonzero((shares > 0) & ~seen)[0]]
            raise CapabilityError(f"sensitive: no image of the group {name!r} was learned from.")
        return shares

    def _shares(self, given: Mapping[Any, float], name: str, names: tuple[str, ...], what: str) -> np.ndarray:
        shares = np.zeros(len(names))
        for value, share in given.items():
            if not isinstance(share, int | float | np.number) or not 0 <= share < np.inf:
                raise SettingsError(f"{what}: the share {share!r} of {value!r} must be a number from 0 up.")
            shares[self._place(name, value, what)] += float(share)
        if shares.sum() <= 0:
            raise SettingsError(f"{what}: the shares must not all be 0.")
        return shares / shares.sum()

    def _place(self, name: str, value: Any, what: str) -> int:
        names = self.classes_ if name == self.label_ else self.levels_
        if str(value) not in names:
            raise SettingsError(f"{what}: {value!r} is no value of {name!r}; they are {', '.join(names)}.")
        return names.index(str(value))

    def _fitted(self) -> None:
        if not hasattr(self, "shape_"):
            raise NotFittedError(
                f"this {type(self).__name__} has learned nothing yet; call fit(images) first."
            )

    # --------------------------------------------------------------------------------------------------- keeping
    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the model to one file without code in it, whole or not at all.

        Raises
        ------
        NotFittedError
            Before `fit`.
        BundleError
            If the file cannot be written.
        """
        from fairsynth import bundle

        self._fitted()
        documents, tensors, from_data = self._state()
        manifest = {
            "kind": KIND,
            "generator": self.name,
            "fairness": self.fairness.to_dict(),
            "n_images": self.n_images_,
            "settings": {k: v for k, v in _plain(self.get_params(deep=False)).items() if k != "device"},
            "parameters": int(sum(a.size for name, a in tensors.items() if name.startswith("net."))),
            "from_data": [
                {
                    "what": "names of the classes and groups, and the size of the images",
                    "where": "documents/images.json",
                },
                {
                    "what": "share of each class in each group, moved towards the criterion",
                    "where": "label_law",
                },
                *from_data,
            ],
        }
        documents = {"images": {"shape": list(self.shape_), **self._names()}, **documents}
        bundle.write(path, manifest, documents, {"label_law": self.label_law_, **tensors})

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Self:
        """Read a model of this class from a file.

        Raises
        ------
        BundleError
            If it is no such file, or holds another kind of model.
        """
        from fairsynth import bundle

        model = image_generator_from(bundle.read(path))
        if not isinstance(model, cls):
            raise BundleError(f"{path}: holds a {model.name}, not a {cls.name}; use load_generator(path).")
        return model


def check_device(name: str) -> None:
    """Raise SettingsError if tensors cannot be put where a device's name says."""
    import torch

    try:
        torch.empty(0, device=name)
    except (RuntimeError, AssertionError) as error:
        said = str(error).splitlines()[0]
        raise SettingsError(
            f"device={name!r} cannot be used here ({said}); device='cpu' always can."
        ) from error


def _cells(
    law: np.ndarray, n: int, quota: np.ndarray | None, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Draw labels and groups int64 ``(n,)`` from P(y, s); with a quota each label comes so many times."""
    if quota is None:
        chosen = rng.choice(law.size, size=n, p=law.ravel() / law.sum())
        return chosen // law.shape[1], chosen % law.shape[1]
    labels = rng.permutation(np.repeat(np.arange(len(quota)), quota))
    given_label = law / np.maximum(law.sum(1, keepdims=True), 1e-300)
    cumulative = np.cumsum(given_label, axis=1)
    cumulative[:, -1] = 1.0
    groups = (rng.random(n)[:, None] >= cumulative[labels]).sum(1)
    return labels, groups


def image_generator_from(content: Bundle) -> ImageGenerator:
    """Build the generator of images that a checked file describes.

    Raises
    ------
    BundleError
        If the file holds something else, or its content describes no model.
    """
    from fairsynth.generators.images.registry import get_generator_class

    manifest = content.manifest
    with content.guard():
        if manifest.get("kind") != KIND:
            raise BundleError(f"{content.path}: holds a {manifest.get('kind')}, not a model of images.")
        settings = manifest["settings"]
        if not isinstance(settings, dict):
            raise ValueError("the settings are no object")
        kind = get_generator_class(str(manifest["generator"]))
        known = kind().get_params(deep=False)
        if set(settings) - set(known):
            raise ValueError(f"unknown settings {sorted(set(settings) - set(known))}")
        settings = {name: tuple(v) if isinstance(v, list) else v for name, v in settings.items()}
        model = kind(**{**settings, "fairness": Fairness(**manifest["fairness"])})
        check_seed(model.seed)
        n = manifest["n_images"]
        if not isinstance(n, int) or n < 0:
            raise ValueError("n_images is no count")
        model.n_images_ = n
        told: Any = content.document("images")
        model.shape_ = _shape(told["shape"])
        for name in ("classes", "levels", "favorable"):
            entries = told[name]
            if not isinstance(entries, list) or not all(isinstance(entry, str) for entry in entries):
                raise ValueError(f"{name} is no list of names")
            if len(set(entries)) != len(entries):
                raise ValueError(f"{name} holds a name twice")
            setattr(model, f"{name}_", tuple(entries))
        if not set(model.favorable_) <= set(model.classes_):
            raise ValueError("a favorable class is none of the classes")
        model.label_, model.sensitive_ = str(told["label"]), str(told["sensitive"])
        law = np.asarray(content.tensors["label_law"])
        if law.shape != (len(model.classes_), len(model.levels_)) or law.dtype != np.float64:
            raise ValueError("the table of labels and groups is not of their numbers")
        if not np.isfinite(law).all() or (law < 0).any() or not np.isclose(law.sum(), 1.0):
            raise ValueError("the table of labels and groups is no law")
        model.label_law_ = law
        model._restore(content)
    return model


def _shape(told: Any) -> Shape:
    if not isinstance(told, list) or len(told) != 3 or not all(type(n) is int for n in told):
        raise ValueError("the shape of the images is none")
    height, width, channels = told
    if not (1 <= height <= MAX_SIDE and 1 <= width <= MAX_SIDE and channels in CHANNELS.values()):
        raise ValueError("the shape of the images is none")
    return height, width, channels


def image_fingerprint(model: ImageGenerator, images: ImageSet) -> str:
    """Return a checksum of images, settings and version: who has another one is another fit."""
    from fairsynth import __version__

    settings = _plain(model.get_params(deep=False))
    text = json.dumps([__version__, model.name, settings, images.fingerprint()], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()
