"""One call for images: real train, real test and synthetic images in, an `Evaluation` out."""

from __future__ import annotations

import platform
import time
from collections.abc import Callable, Iterator, Mapping
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from fairsynth.cores import one_blas_thread, side_by_side
from fairsynth.errors import DataError, SettingsError
from fairsynth.evaluation import image_models, image_scores
from fairsynth.evaluation.evaluate import combine
from fairsynth.evaluation.image_context import ImageContext
from fairsynth.evaluation.result import Evaluation, Score
from fairsynth.progress import Progress, Step

if TYPE_CHECKING:
    from fairsynth.data.images import ImageSet

LIBRARIES = ("fairsynth", "numpy", "torch", "scikit-learn", "scipy", "fairlearn")
#: Fewer images than this say nothing.
LEAST = 50
#: Metrics of the summary, with heading, and whether one line for every real set is shown.
HEADLINES: tuple[tuple[str, str, bool], ...] = (
    ("accuracy", "Accuracy", True),
    ("worst_group_accuracy", "Accuracy of the worst-off group", True),
    ("dpr", "DPR", True),
    ("eor", "EOR", True),
    ("dpr_class_mean", "DPR, mean over classes", True),
    ("eor_class_mean", "EOR, mean over classes", True),
    ("eod_class_mean", "EOD, mean over classes", True),
    ("label_dependence_seen", "Label and group go together", False),
    ("colour_flip_rate", "Decisions changed by color alone", False),
    ("shape_flip_rate", "Decisions changed by shape alone", False),
    ("density", "Density", True),
    ("coverage", "Coverage", True),
    ("fid", "FID", True),
    ("kid", "KID", True),
    ("dcr_share", "Closer to train than to hold-out", False),
    ("near_copies", "Near copies", False),
)


class ImageEvaluation(Evaluation):
    """An `Evaluation` of images: its page and its summary are those of images.

    A score's ``column`` names the real set that it was measured on; None is ``test`` for classifiers and ``train`` for
    distances.
    """

    def to_html(self, path: str | Path, *, real_images: bool = True) -> Path:
        """Write the report, one HTML file that needs no network.

        Parameters
        ----------
        path : str or Path
            File to write.
        real_images : bool, default=True
            Whether real images may stand on the page. Without them it can go where they must not.
        """
        from fairsynth.report.images import write_images_html

        return write_images_html(self, path, real_images=real_images)

    def score(
        self,
        metric: str,
        source: str = "synthetic",
        model: str | None = "mean",
        attribute: str | None = None,
        **filters: Any,
    ) -> Score:
        """Return one headline score, as `Evaluation.score`; ``column`` says on which real set, None the plain one."""
        if model == "mean" and source != "constant":
            model = image_scores.MODEL  # there is one kind of classifier
        return super().score(metric, source, model, attribute, **filters)

    def _summary_rows(self, sources: list[str]) -> Iterator[tuple[str, list[Score | None]]]:
        favorable = bool(self.meta.get("favorable"))
        for metric, heading, by_set in HEADLINES:
            if metric in ("dpr", "eor") and not favorable:
                continue  # there it is the worst class of many, and the mean stands for all
            columns = dict.fromkeys(s.column for s in self.scores if s.metric == metric and s.group is None)
            for column in columns if by_set else [None]:
                row = [self._of(metric, source, column) for source in sources]
                if any(s is not None for s in row):
                    yield (f"{heading}, {column}" if column else heading), row

    def _of(self, metric: str, source: str, column: str | None) -> Score | None:
        found = self.scores_for(metric=metric, source=source, column=column, group=None, label=None)
        return found[0] if found else None


def evaluate_images(
    train: ImageSet,
    test: ImageSet,
    synthetic: ImageSet | Mapping[str, ImageSet],
    *,
    others: Mapping[str, ImageSet] | None = None,
    features: Literal["trained", "inception"] | Callable[[NDArray[np.uint8]], Any] = "trained",
    seed: int = 0,
    repeats: int = 1,
    steps: int | None = None,
    max_images: int = 5000,
    minimum_group: int = 30,
    pictures: Mapping[str, Any] | None = None,
    threads: int = 2,
    generator_info: Mapping[str, Any] | None = None,
    progress: Progress | None = None,
) -> ImageEvaluation:
    """Measure fairness, utility, fidelity and privacy of generated images.

    A small convolutional classifier is trained on the generated images and another on the real ones; both are judged on
    real images that neither they nor the generator saw, on `test` and on every set in `others`, where the sensitive
    attribute may go with other labels than in training. Beside every number stands what real images, or the
    constant predictor, score.

    Parameters
    ----------
    train : ImageSet
        Real images that the generator learned from.
    test : ImageSet
        Real images that it never saw, of the same law.
    synthetic : ImageSet or mapping of str to ImageSet
        What is judged; several by name.
    others : mapping of str to ImageSet
        Further real test sets, such as ``{"decorrelated": ..., "reversed": ...}``; their names become the scores'
        ``column``.
    features : {"trained", "inception"} or callable, default="trained"
        Where distances are measured. ``"trained"``: the last hidden layer (64 features) of a network that learned label
        *and* sensitive attribute of the train images, from batches that hold every combination equally often (see
        `fairsynth.evaluation.image_models.choose_reader`). Trained on the label alone it would, where colour gives the
        label away, see colour and nothing else. How often it is right on real images it never saw stands in
        ``meta["reader"]``. ``"inception"``: see `fairsynth.metrics.image_features.InceptionFeatures`. A callable turns
        images uint8 (n, h, w, c) into features (n, d).
    seed : int, default=0
        Of samples and networks.
    repeats : int, default=1
        Times that everything is measured, with seeds ``seed, seed + 1, …``; scores are then means with standard
        deviations.
    steps : int, optional
        Optimiser steps of each network; by default thirty passes, from 500 to 2,000.
    max_images : int, default=5000
        Most images on either side of a distance.
    minimum_group : int, default=30
        Images that a group needs to count in the gap between groups.
    pictures : mapping, optional
        What ``generator.pictures()`` gives, or name → that where there are several sets: for the page, and for the
        share of latents whose decision changes when the sensitive attribute is switched.
    threads : int, default=2
        Networks that are trained side by side.
    generator_info : mapping, optional
        Model, criterion, strength of the generator; kept in ``meta["generator"]``.
    progress : callable, optional
        Told of every step.

    Returns
    -------
    ImageEvaluation
        Scores with sources ``"synthetic"`` (or ``"synthetic:NAME"``), ``"real"``, ``"holdout"``, ``"constant"``.

    Raises
    ------
    DataError
        If sets differ in size, classes or groups, are too small, or have one class or one group.
    SettingsError
        If an argument is out of range.
    MissingDependencyError
        If Inception was asked for and cannot be had.

    Notes
    -----
    Where no classes are favorable, DPR, EOR and their differences are measured for each class against the rest (scores
    with ``label``). The headline is the worst class, named in its note, and ``dpr_class_mean`` and so on are means.
    """
    started = time.perf_counter()
    _check_settings(features, repeats, steps, max_images, minimum_group, threads)
    named = (
        {f"synthetic:{name}": images for name, images in synthetic.items()}
        if isinstance(synthetic, Mapping)
        else {"synthetic": synthetic}
    )
    others = dict(others or {})
    _check_sets(train, test, named, others)
    extractor = _extractor(features)
    drawn = _pictures(pictures, list(named))
    contexts: list[ImageContext] = []
    seconds: dict[str, float] = {}
    with one_blas_thread():
        for run in range(repeats):
            tell = _part(progress, run, repeats)
            context = _run(
                train, test, named, others, extractor, seed + run, steps, max_images, minimum_group, drawn, threads,
                seconds, tell,
            )  # fmt: skip
            contexts.append(context)
    first = contexts[0]
    scores = first.scores if repeats == 1 else combine([c.scores for c in contexts])
    seconds["total"] = round(time.perf_counter() - started, 3)
    evaluation = ImageEvaluation(
        scores=scores, meta=_meta(first, features, repeats, seed, steps, seconds, generator_info)
    )
    evaluation.artifacts.update(
        first.artifacts, train=train, test=test, others=others, synthetic=named, models=first.classifiers,
        reader=first.reader, pictures=drawn,
    )  # fmt: skip
    if progress is not None:
        progress(Step("evaluate", 1, 1))
    return evaluation


def _run(
    train: ImageSet,
    test: ImageSet,
    synthetic: dict[str, ImageSet],
    others: dict[str, ImageSet],
    extractor: Callable[[NDArray[np.uint8]], Any] | None,
    seed: int,
    steps: int | None,
    max_images: int,
    minimum_group: int,
    pictures: Mapping[str, Mapping[str, Any]],
    threads: int,
    seconds: dict[str, float],
    tell: Callable[[float], None],
) -> ImageContext:
    """Train the networks side by side, then score section by section."""
    sources = {"real": train, **synthetic}
    networks = {
        source: image_models.new_network(images, {"label": len(train.classes)}, seed)
        for source, images in sources.items()
    }
    total = 2 + len(networks)
    advance = {"reader": 0.0} | dict.fromkeys(networks, 0.0)

    def heard(name: str) -> Progress:
        def hear(step: Step) -> None:
            advance[name] = step.done / max(step.total, 1) * (2 if name == "reader" else 1)
            tell(0.8 * sum(advance.values()) / total)

        return hear

    chosen: dict[str, Any] = {}

    def fit(name: str) -> None:
        if name == "reader":
            chosen["reader"] = image_models.choose_reader(train, seed=seed, steps=steps, progress=heard(name))
        else:
            image_models.train_classifier(
                networks[name], sources[name], seed=seed, steps=steps, progress=heard(name)
            )

    def timed(name: str, work: Callable[[], Any]) -> None:
        began = time.perf_counter()
        work()
        seconds[name] = round(seconds.get(name, 0.0) + time.perf_counter() - began, 3)

    timed("train networks", lambda: side_by_side(fit, list(advance), threads))
    reader, how = chosen["reader"]
    context = ImageContext(
        train=train, test=test, others=others, synthetic=synthetic, seed=seed, max_images=max_images,
        minimum_group=minimum_group, classifiers=networks, reader=reader,
        features=extractor or _scaled_features(reader, train, max_images),
        switched={s: np.asarray(p["switched"]) for s, p in pictures.items() if "switched" in p},
    )  # fmt: skip
    context.artifacts["reader_how"] = how
    parts = (
        ("classifiers", image_scores.score_classifiers),
        ("composition", image_scores.score_composition),
        ("likeness", image_scores.score_likeness),
        ("copies", image_scores.score_copies),
        ("colour or shape", image_scores.score_reliance),
    )
    for i, (name, score) in enumerate(parts):
        timed(name, lambda score=score: score(context))  # type: ignore[misc]
        tell(0.8 + 0.2 * (i + 1) / len(parts))
    return context


def _scaled_features(
    reader: image_models.ImageNetwork, train: ImageSet, most: int
) -> Callable[[NDArray[np.uint8]], Any]:
    """Return the reader's features in one unit: the mean square of a feature over train images is 1."""
    some = np.linspace(0, len(train) - 1, min(len(train), most)).astype(np.int64)
    found = image_models.over_images(train, some, lambda pixels: image_models.features(reader, pixels))
    unit = float(np.sqrt(np.mean(found**2))) or 1.0
    return lambda pixels: image_models.features(reader, pixels) / unit


def _part(progress: Progress | None, run: int, runs: int) -> Callable[[float], None]:
    def tell(share: float) -> None:
        if progress is not None:
            progress(Step("evaluate", min(int(1000 * (run + share)), 1000 * runs - 1), 1000 * runs))

    return tell


def _extractor(features: Any) -> Callable[[NDArray[np.uint8]], Any] | None:
    if features == "trained":
        return None
    if features == "inception":
        from fairsynth.metrics.image_features import InceptionFeatures

        return InceptionFeatures()

    def checked(pixels: NDArray[np.uint8]) -> Any:
        found = np.asarray(features(pixels), dtype=np.float64)
        if found.ndim != 2 or len(found) != len(pixels):
            raise DataError(
                f"features gave an array of shape {found.shape} for {len(pixels)} images; one row for each is needed."
            )
        return found

    return checked


def _pictures(pictures: Mapping[str, Any] | None, sources: list[str]) -> dict[str, Mapping[str, Any]]:
    if not pictures:
        return {}
    if all(isinstance(value, Mapping) for value in pictures.values()):
        found = {name if name in sources else f"synthetic:{name}": value for name, value in pictures.items()}
    else:
        found = {sources[0]: pictures}
    if unknown := sorted(set(found) - set(sources)):
        raise SettingsError(
            f"pictures names {unknown[0].removeprefix('synthetic:')!r}, which is none of the synthetic sets."
        )
    return found


def _check_settings(
    features: Any, repeats: int, steps: int | None, max_images: int, minimum_group: int, threads: int
) -> None:
    if not callable(features) and features not in ("trained", "inception"):
        raise SettingsError(f'features={features!r} must be "trained", "inception" or a function of images.')
    for name, value, least in (
        ("repeats", repeats, 1),
        ("steps", 1 if steps is None else steps, 1),
        ("max_images", max_images, LEAST),
        ("minimum_group", minimum_group, 1),
        ("threads", threads, 1),
    ):
        if value < least:
            raise SettingsError(f"{name}={value!r} must be at least {least}.")


def _check_sets(
    train: ImageSet, test: ImageSet, synthetic: Mapping[str, ImageSet], others: Mapping[str, ImageSet]
) -> None:
    if not synthetic:
        raise DataError("There is no set of synthetic images to evaluate.")
    for what, images in {"train": train, "test": test, **synthetic, **others}.items():
        if not hasattr(images, "batches"):
            raise DataError(
                f"{what} is a {type(images).__name__}; give an ImageSet, such as "
                "ImageSet.of_arrays(images, labels, groups)."
            )
        for name, own, wanted in (
            ("images of shape", images.shape, train.shape),
            ("the classes", images.classes, train.classes),
            ("the groups", images.levels, train.levels),
        ):
            if tuple(own) != tuple(wanted):
                raise DataError(
                    f"{what} has {name} {_told(own)}, and train has {_told(wanted)}; they must be the same."
                )
        if len(images) < LEAST:
            raise DataError(
                f"{what} has {len(images)} images; at least {LEAST} are needed to judge anything by."
            )
    for what, images in {"train": train, "test": test, **others}.items():
        for name, codes, names in (
            (images.label, images.labels, images.classes),
            (images.sensitive, images.groups, images.levels),
        ):
            present = np.unique(codes)
            if len(present) < 2:
                raise DataError(
                    f"All images of {what} have {name} = {names[present[0]]!r}; with one level there is nothing to "
                    "compare."
                )


def _told(names: Any) -> str:
    shown = ", ".join(map(str, names[:12]))
    return f"({shown}, …)" if len(names) > 12 else f"({shown})"


def _meta(
    context: ImageContext,
    features: Any,
    repeats: int,
    seed: int,
    steps: int | None,
    seconds: dict[str, float],
    generator_info: Mapping[str, Any] | None,
) -> dict[str, Any]:
    train = context.train
    sets = {"train": train, "test": context.test, **context.others, **context.synthetic}
    versions = {"python": platform.python_version()}
    for library in LIBRARIES:
        try:
            versions[library] = version(library)
        except PackageNotFoundError:
            import fairsynth

            if library == "fairsynth":
                versions[library] = fairsynth.__version__
    if max(len(s) for s in sets.values()) > context.max_images:
        context.notes.append(
            f"Distances were measured on at most {context.max_images:,} images of each set, at random."
        )
    label, sensitive = context.artifacts["reader_accuracy"]
    how = context.artifacts["reader_how"]
    colours = "half of them in exchanged colours" if how["exchange"] else "in their own colours"
    reader = {
        "what": "a small convolutional network that learned label and sensitive attribute of the train images, from "
        f"batches in which every combination of the two is equally frequent, {colours}",
        "steps": image_models.steps_for(len(train), steps),
        f"{train.label}: right on test": round(label, 4),
        f"{train.sensitive}: right on test": round(sensitive, 4),
    }
    if "plain" in how:
        reader["right on train images set aside, own colours"] = round(how["plain"], 4)
        reader["right on train images set aside, exchanged colours"] = round(how["exchanged"], 4)
        reader["read as of the group whose colour they were given"] = round(how["follows"], 4)
    for s in context.scores:
        if s.metric in ("label_read", "sensitive_read") and s.column is not None and s.value is not None:
            what = train.label if s.metric == "label_read" else train.sensitive
            reader[f"{what}: right on {s.column}"] = round(s.value, 4)
    meta: dict[str, Any] = {
        "kind": "images",
        "title": "Are these synthetic images fair, useful, faithful, private?",
        "target": train.label,
        "favorable": list(train.favorable),
        "sensitive": [train.sensitive],
        "classes": list(train.classes),
        "levels": list(train.levels),
        "shape": list(train.shape),
        "task": "binary" if len(train.classes) == 2 else "multiclass",
        "features": features
        if isinstance(features, str)
        else getattr(features, "name", "given by the caller"),
        "reader": reader,
        "seeds": [seed + run for run in range(repeats)],
        "steps": image_models.steps_for(len(train), steps),
        "minimum_group": context.minimum_group,
        "rows": {name: len(images) for name, images in sets.items()},
        "others": list(context.others),
        "sha256": {name: images.fingerprint() for name, images in sets.items()},
        "repairs": {
            name: [f"{path}: {why}" for path, why in skipped]
            for name, images in sets.items()
            if (skipped := getattr(images, "skipped", []))
        },
        "notes": list(dict.fromkeys(context.notes)),
        "seconds": seconds,
        "versions": versions,
    }
    if generator_info:
        meta["generator"] = dict(generator_info)
        for key in ("criterion", "strength", "model"):
            if key in generator_info:
                meta[key] = generator_info[key]
    return meta
