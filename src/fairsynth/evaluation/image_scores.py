"""The sections of an image evaluation; each adds its scores to a shared `ImageContext`.

A score's ``column`` names the real set that it was measured on, where that is not the plain one (``test`` for
classifiers, ``train`` for distances).
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from fairsynth.evaluation import attribution
from fairsynth.evaluation.image_context import ImageContext
from fairsynth.evaluation.image_models import (
    ImageNetwork,
    over_images,
    probabilities,
    probabilities_of,
    read_size,
)
from fairsynth.metrics import fairness, privacy
from fairsynth.metrics.image_features import pixel_points
from fairsynth.metrics.images import fid, fid_infinity, kid
from fairsynth.metrics.manifold import Cloud, density_coverage, nearest
from fairsynth.metrics.marginals import cramers_v

if TYPE_CHECKING:
    from fairsynth.data.images import ImageSet

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Pixels = NDArray[np.uint8]

DRAWS = 200
#: Most images whose colour and shape are exchanged, and most values in them.
EXCHANGED, EXCHANGED_VALUES = 1000, 2**27
#: Groups with fewer images have no FID of their own.
FEW = 20
K = 5
MODEL = "cnn"


# ---------------------------------------------------------------------- classifiers
def score_classifiers(context: ImageContext) -> None:
    """Score every classifier on every real set: how often right, for whom, and how alike for the groups."""
    majority = int(np.bincount(context.train.labels, minlength=len(context.train.classes)).argmax())
    predictions: dict[str, dict[str | None, Ints]] = {}
    for name, images in context.tests.items():
        decided = {
            source: probabilities_of(network, images).argmax(axis=1)
            for source, network in context.classifiers.items()
        }
        decided["constant"] = np.full(len(images), majority)
        people = context.rng("people").poisson(1.0, size=(DRAWS, len(images))).astype(np.float64)
        for source, decisions in decided.items():
            predictions.setdefault(source, {})[name] = decisions
            where = {"source": source, "model": "mean" if source == "constant" else MODEL, "column": name}
            _accuracy(context, images, decisions, people, where)
            _parity(context, images, decisions, where)
    context.artifacts["predictions"] = predictions
    for source in context.synthetic:
        for name, images in context.tests.items():
            right = [float((predictions[s][name] == images.labels).mean()) for s in (source, "real")]
            note = "difference of accuracies; above 0 where training on these images does better"
            context.add(
                "utility", "accuracy_gain", right[0] - right[1], source=source, model=MODEL, column=name,
                n=len(images), note=note,
            )  # fmt: skip


def _accuracy(
    context: ImageContext, images: ImageSet, decisions: Ints, people: Floats, where: dict[str, Any]
) -> None:
    right = (decisions == images.labels).astype(np.float64)
    n = len(images)
    sampled = (people @ right) / np.maximum(people.sum(axis=1), 1)
    context.add("utility", "accuracy", float(right.mean()), interval=fairness.interval(sampled), n=n, **where)
    present = np.unique(images.labels)
    member = (images.labels[:, None] == present).astype(np.float64)
    recall = (right @ member) / member.sum(axis=0)
    total = people @ member
    draws = np.divide(
        people @ (member * right[:, None]), total, out=np.full(total.shape, np.nan), where=total > 0
    )
    context.add(
        "utility", "balanced_accuracy", float(recall.mean()),
        interval=fairness.interval(draws.mean(axis=1)), n=n, **where,
    )  # fmt: skip
    by_group = {"section": "fairness", "attribute": images.sensitive, **where}
    sizes = np.bincount(images.groups, minlength=len(images.levels))
    hits = np.bincount(images.groups, weights=right, minlength=len(images.levels))
    for g in np.flatnonzero(sizes):
        mine = images.groups == g
        own = people[:, mine]
        drawn = np.divide(
            own @ right[mine], own.sum(axis=1), out=np.full(len(own), np.nan), where=own.sum(axis=1) > 0
        )
        note = f"only {sizes[g]} images" if sizes[g] < context.minimum_group else None
        context.add(
            metric="accuracy", value=hits[g] / sizes[g], interval=fairness.interval(drawn),
            group=images.levels[g], n=int(sizes[g]), note=note, **by_group,
        )  # fmt: skip
    kept = np.flatnonzero(sizes >= min(context.minimum_group, max(sizes)))
    if len(kept) < 2:
        note = f"fewer than two groups of {context.minimum_group} images"
        context.add(metric="accuracy_gap", value=None, note=note, **by_group)
        return
    rates = hits[kept] / sizes[kept]
    # The largest minus the smallest of several rates is above 0 by chance alone.
    overall = float(hits[kept].sum() / sizes[kept].sum())
    rng = context.rng("chance gap")
    chance = np.ptp(rng.binomial(sizes[kept], overall, size=(DRAWS, len(kept))) / sizes[kept], axis=1)
    note = (
        f"by chance alone it would be about {chance.mean():.3f}, and in 19 of 20 cases below "
        f"{np.quantile(chance, 0.95):.3f}, with groups of these sizes"
    )
    context.add(
        metric="accuracy_gap", value=float(np.ptp(rates)), note=note, n=int(sizes[kept].sum()), **by_group
    )
    context.add(metric="worst_group_accuracy", value=float(rates.min()), n=int(sizes[kept].sum()), **by_group)
    excess = float(np.ptp(rates) - np.quantile(chance, 0.95))
    said = "what of it chance cannot explain (19 of 20 cases)"
    context.add(metric="accuracy_gap_beyond_chance", value=max(excess, 0.0), note=said, **by_group)


PARITIES = ("dpr", "dpd", "eor", "eod", "equal_opportunity_ratio", "equal_opportunity_difference")


def class_counts(images: ImageSet, decisions: Ints) -> Ints:
    """Count each class against the rest: int64 (classes, groups, 2, 2), ``[c, g, is c, decided c]``."""
    n_classes, n_groups = len(images.classes), len(images.levels)
    counts = np.empty((n_classes, n_groups, 2, 2), dtype=np.int64)
    for c in range(n_classes):
        counts[c] = fairness.confusion_by_group(images.labels == c, decisions == c, images.groups, n_groups)
    return counts


def _parity(context: ImageContext, images: ImageSet, decisions: Ints, where: dict[str, Any]) -> None:
    """Score parity of the favorable decision; without favorable classes, of each class, and the worst as headline."""
    where = {"section": "fairness", "attribute": images.sensitive, "n": len(images), **where}
    n_groups = len(images.levels)
    if images.favorable:
        wanted = [images.classes.index(name) for name in images.favorable]
        truth, chosen = np.isin(images.labels, wanted), np.isin(decisions, wanted)
        counts = fairness.confusion_by_group(truth, chosen, images.groups, n_groups)
        draws = fairness.parity(fairness.bootstrap_counts(counts, DRAWS, context.rng("parity")))
        values = fairness.parity_by_fairlearn(counts)
        perfect = fairness.parity(fairness.confusion_by_group(truth, truth, images.groups, n_groups))
        for metric in PARITIES:
            note = f"favorable: {', '.join(images.favorable)}"
            if metric in ("dpr", "dpd"):
                note += f"; a classifier that is always right has {float(perfect[metric]):.3f} here"
            interval = fairness.interval(draws[metric])
            context.add(metric=metric, value=float(values[metric]), interval=interval, note=note, **where)
        return
    _parity_of_classes(context, images, decisions, where)


def _parity_of_classes(
    context: ImageContext, images: ImageSet, decisions: Ints, where: dict[str, Any]
) -> None:
    found = fairness.parity(class_counts(images, decisions))
    perfect = fairness.parity(class_counts(images, images.labels))
    for metric in PARITIES:
        ratio = metric.endswith(("ratio", "dpr", "eor"))
        values = found[metric]
        known = np.flatnonzero(~np.isnan(values))
        if not len(known):
            context.add(metric=metric, value=None, note="fewer than two groups have this rate", **where)
            continue
        worst = int(known[np.argmin(values[known]) if ratio else np.argmax(values[known])])
        note = f"the worst of {len(known)} classes against the rest: {images.classes[worst]!r}"
        if metric in ("dpr", "dpd"):
            best = perfect[metric][known]
            limit = float(np.nanmin(best) if ratio else np.nanmax(best))
            note += f"; a classifier that is always right has {limit:.3f} here"
        context.add(metric=metric, value=float(values[worst]), note=note, **where)
        said = f"mean over {len(known)} classes against the rest"
        if metric in ("dpr", "dpd"):
            said += f"; a classifier that is always right has {float(np.nanmean(perfect[metric][known])):.3f} here"
        context.add(metric=f"{metric}_class_mean", value=float(values[known].mean()), note=said, **where)
        if metric in ("dpr", "eor", "eod"):
            for c in known:
                context.add(metric=metric, value=float(values[c]), label=images.classes[c], **where)


# ---------------------------------------------------------------------- the set itself
def score_composition(context: ImageContext) -> None:
    """Score who and what is in each set, how far label and group go together, and how well both can be seen."""
    s = context.train.sensitive
    accuracies = {}
    for source, images in context.sets.items():
        where: dict[str, Any] = {"source": source, "attribute": s, "n": len(images)}
        value = cramers_v(images.labels, images.groups)
        said = "as the set says it (Cramér's V, corrected for its bias)"
        context.add("table_fairness", "label_dependence", value, note=said, **where)
        seen_label, seen_group = context.read(source)
        value = cramers_v(seen_label, seen_group)
        said = "as the reader sees it in the images (Cramér's V, corrected for its bias)"
        context.add("table_fairness", "label_dependence_seen", value, note=said, **where)
        right = seen_group == images.groups
        accuracies[source] = (float((seen_label == images.labels).mean()), float(right.mean()))
        said = "share of images in which the reader, trained on real ones, sees the group that the set states"
        context.add("table_fairness", "sensitive_read", accuracies[source][1], note=said, **where)
        said = "share of images in which the reader, trained on real ones, sees the label that the set states"
        del where["attribute"]
        context.add("fidelity", "label_read", accuracies[source][0], note=said, **where)
        shares = np.bincount(images.groups, minlength=len(images.levels)) / len(images)
        for g, share in enumerate(shares):
            context.add(
                "table_fairness", "group_share", float(share), source=source, attribute=s,
                group=images.levels[g], n=round(share * len(images)),
            )  # fmt: skip
        of_classes = np.bincount(images.labels, minlength=len(images.classes)) / len(images)
        for c, share in enumerate(of_classes):
            context.add(
                "table_fairness", "class_share", float(share), source=source, label=images.classes[c],
                n=round(share * len(images)),
            )  # fmt: skip
    for name, images in context.others.items():
        seen_label = probabilities_of(context.reader, images, "label").argmax(axis=1)
        seen_group = probabilities_of(context.reader, images, "sensitive").argmax(axis=1)
        where = {"source": "holdout", "attribute": s, "column": name, "n": len(images)}
        for metric, value in (
            ("label_dependence", cramers_v(images.labels, images.groups)),
            ("label_dependence_seen", cramers_v(seen_label, seen_group)),
            ("sensitive_read", float((seen_group == images.groups).mean())),
        ):
            context.add("table_fairness", metric, value, **where)
        del where["attribute"]
        context.add("fidelity", "label_read", float((seen_label == images.labels).mean()), **where)
    references: list[tuple[str | None, ImageSet]] = [(None, context.train), *context.others.items()]
    for column, reference in references:
        for source, images in {"holdout": context.test, **context.synthetic}.items():
            distance = 0.5 * np.abs(_cells(images) - _cells(reference)).sum()
            note = "share of images that would have to be of another label or group (total variation)"
            context.add(
                "fidelity", "composition_distance", float(distance), source=source, column=column,
                n=len(images), note=note,
            )  # fmt: skip
    missing = _missing(context)
    for source, lines in missing.items():
        context.notes.extend(f"{source}: {line}" for line in lines)
    context.artifacts["reader_accuracy"] = accuracies["holdout"]


def _cells(images: ImageSet) -> Floats:
    cells = images.labels * len(images.levels) + images.groups
    counts = np.bincount(cells, minlength=len(images.classes) * len(images.levels))
    return np.asarray(counts / len(images), dtype=np.float64)


def _missing(context: ImageContext) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for source, images in context.synthetic.items():
        for what, names, real, own in (
            ("class", images.classes, context.train.labels, images.labels),
            ("group", images.levels, context.train.groups, images.groups),
        ):
            for code in np.setdiff1d(np.unique(real), np.unique(own)):
                found.setdefault(source, []).append(f"no image of the {what} {names[code]!r} was made.")
    return found


# ---------------------------------------------------------------------- likeness
def score_likeness(context: ImageContext) -> None:
    """Score density, coverage, precision, recall, FID and KID against train and against every other real set."""
    sets = {"holdout": context.test, **context.synthetic}
    n = min([context.max_images, len(context.train), *(len(s) for s in sets.values())])
    index = {
        name: context.sample(len(images), n, f"likeness {name}")
        for name, images in {"train": context.train, **sets}.items()
    }
    real = context.features_of("train", context.train, index["train"])
    mine = {source: context.features_of(source, images, index[source]) for source, images in sets.items()}
    _distances(context, real, mine, None)
    _by_group(context, sets)
    _nearest_and_worst(context, index, real, mine)
    for name, other in context.others.items():
        order = context.sample(len(other), len(other), f"halves {name}")
        m = min(len(other) // 2, n)
        if m < FEW:
            context.notes.append(f"{name} has {len(other)} images; too few to measure distances to.")
            continue
        reference = context.features_of(name, other, order[:m])
        stand_in = context.features_of(name, other, order[m : 2 * m])
        _distances(
            context, reference, {"holdout": stand_in} | {s: mine[s][:m] for s in context.synthetic}, name
        )


def _distances(context: ImageContext, real: Floats, sets: Mapping[str, Floats], column: str | None) -> None:
    k = max(1, min(K, len(real) - 1))
    cloud = Cloud(real, k=k, name="real")
    few = (
        f"; with {real.shape[1]} features and so few images its sample-size bias is large: compare with the real "
        "hold-out images only"
        if len(real) < 10 * real.shape[1]
        else ""
    )
    for source, points in sets.items():
        n = len(points)
        where: dict[str, Any] = {"source": source, "column": column, "n": n}
        manifold = density_coverage(cloud, Cloud(points, k=k, name=source))
        note = f"k = {k}, {n:,} images on either side"
        for metric, value in (
            ("density", manifold.density),
            ("coverage", manifold.coverage),
            ("knn_precision", manifold.precision),
            ("knn_recall", manifold.recall),
        ):
            context.add("fidelity", metric, value, note=note, **where)
        said = f"{n:,} images on either side{few}"
        context.add("fidelity", "fid", fid(real, points), note=said, **where)
        # Near n = d the bias is no straight line in 1/n, and thousands of features take minutes.
        if n > 6 * real.shape[1] and real.shape[1] <= 512:
            value = fid_infinity(real, points, seed=context.seed)
            said = "the line through FID at several sizes, read at infinitely many images; scatters around 0"
            context.add("fidelity", "fid_infinity", value, note=said, **where)
        said = f"{n:,} images on either side; has no sample-size bias, scatters around 0"
        context.add("fidelity", "kid", kid(real, points), note=said, **where)


def _by_group(context: ImageContext, sets: Mapping[str, ImageSet]) -> None:
    """FID and KID of each group's images against the same group's real ones, all at the same number of images."""
    s = context.train.sensitive
    for g, level in enumerate(context.train.levels):
        own = {name: np.flatnonzero(images.groups == g) for name, images in sets.items()}
        real = np.flatnonzero(context.train.groups == g)
        if not len(real):
            continue
        n = min([context.max_images, len(real), *map(len, own.values())])
        if n < FEW:
            for source in context.synthetic:
                for metric in ("fid", "kid"):
                    context.add(
                        "fidelity", metric, None, source=source, attribute=s, group=level, n=n,
                        note=f"fewer than {FEW} images of this group in one of the sets",
                    )  # fmt: skip
            continue
        rng = context.rng(f"group {g}")
        reference = context.features_of("train", context.train, rng.permutation(real)[:n])
        for source, rows in own.items():
            points = context.features_of(source, sets[source], rng.permutation(rows)[:n])
            note = f"{n:,} images on either side; compare with the hold-out images of the same group"
            for metric, value in (("fid", fid(reference, points)), ("kid", kid(reference, points))):
                context.add(
                    "fidelity", metric, value, source=source, attribute=s, group=level, n=n, note=note
                )


def _nearest_and_worst(
    context: ImageContext, index: Mapping[str, Ints], real: Floats, mine: Mapping[str, Floats]
) -> None:
    """Keep which synthetic images are least like real ones, for the page."""
    worst = {}
    for source in context.synthetic:
        distance = nearest(mine[source], real)[0][:, 0]
        order = np.argsort(-distance)[:24]
        worst[source] = (index[source][order], distance[order])
    context.artifacts["worst"] = worst


# ---------------------------------------------------------------------- copies
def score_copies(context: ImageContext) -> None:
    """Score how near images come to training images, and how many are copies, against what real ones do."""
    sets = {"holdout": context.test, **context.synthetic}
    n = min([context.max_images, len(context.train), *(len(s) for s in sets.values())])
    index = {name: context.sample(len(images), n, f"copies {name}") for name, images in sets.items()}
    index["train"] = context.sample(len(context.train), context.max_images, "copies train")
    points = {name: over_images(images, index[name], pixel_points) for name, images in sets.items()}
    train = over_images(context.train, index["train"], pixel_points)
    people = nearest(points["holdout"], train)[0][:, 0]
    seen = _digests(context.train)
    near: dict[str, tuple[Ints, Ints, Floats, float]] = {}
    for source in sets:
        found, places = nearest(points[source], train)
        distance, place = found[:, 0], places[:, 0]
        where: dict[str, Any] = {"source": source, "n": n}
        note = f"to the nearest of {len(train):,} training images; pixels in [0, 1], Euclidean"
        context.add("privacy", "dcr", float(np.median(distance)), note=f"median; {note}", **where)
        context.add("privacy", "dcr_5_percent", float(np.quantile(distance, 0.05)), note=note, **where)
        value = privacy.near_copies(distance, people)
        said = "nearer to a training image than 99 % of hold-out images are"
        context.add("privacy", "near_copies", value, note=said, **where)
        copies = float(np.isin(_digests(sets[source]), seen).mean())
        said = "pixel for pixel"
        context.add("privacy", "exact_copies", copies, note=said, source=source, n=len(sets[source]))
        if source == "holdout":
            continue
        # As many training as hold-out images to be near to: the larger set would be nearer by chance.
        to_train, record = (v[:, 0] for v in nearest(points[source], train[:n]))
        to_other, other = (v[:, 0] for v in nearest(points[source], points["holdout"]))
        records = privacy.nearest_records(to_train, record, to_other, other)
        share = privacy.closer_to_train(to_train, to_other, records=records, seed=context.seed)
        said = f"{n:,} training and as many hold-out images to be near to"
        context.add("privacy", "dcr_share", share.value, interval=(share.low, share.high), note=said, **where)
        order = np.argsort(distance)[:24]
        near[source] = (
            index[source][order], index["train"][place[order]], distance[order], float(np.median(people)),
        )  # fmt: skip
    context.artifacts["nearest"] = near


def _digests(images: ImageSet) -> NDArray[np.bytes_]:
    """Return a digest of the pixels of every image."""
    return np.array(
        [
            hashlib.blake2b(np.ascontiguousarray(pixels).tobytes(), digest_size=16).hexdigest()
            for _, some in images.batches(read_size(images.shape))
            for pixels in some
        ],
        dtype="S32",
    )


# ---------------------------------------------------------------------- colour or shape
def score_reliance(context: ImageContext) -> None:
    """Score whether each classifier looks at colour or at shape."""
    images = context.test
    most = int(np.clip(EXCHANGED_VALUES // math.prod(images.shape), 50, EXCHANGED))
    index = context.sample(len(images), most, "exchanged")
    chosen = images.subset(index)
    donors = attribution.draw_donors(chosen.labels, chosen.groups, context.rng("donors"))
    kept = np.flatnonzero(donors >= 0)
    gray = images.shape[2] == 1
    found = {}
    for source, network in context.classifiers.items():
        where: dict[str, Any] = {"source": source, "model": MODEL}

        def decide(pixels: Pixels, network: ImageNetwork = network) -> Floats:
            return probabilities(network, pixels)

        if gray or not len(kept):
            why = (
                "the images are gray"
                if gray
                else "no test image has another one of both another class and group"
            )
            for metric in ("colour_flip_rate", "shape_flip_rate", "colour_reliance"):
                context.add("explanation", metric, None, note=why, **where)
        else:
            pixels = chosen.read(kept)
            result = attribution.exchange(decide, pixels, chosen.read(donors[kept]))
            weights = context.rng("exchange").poisson(1.0, size=(DRAWS, result.n)).astype(np.float64)
            for what, spelled, value, flips, effect in (
                ("colour", "color", result.colour_flip, result.colour_flips, result.colour_effect),
                ("shape", "shape", result.shape_flip, result.shape_flips, result.shape_effect),
            ):
                sampled = (weights @ flips) / np.maximum(weights.sum(axis=1), 1)
                context.add(
                    "explanation", f"{what}_flip_rate", value, interval=fairness.interval(sampled),
                    n=result.n, note=f"{spelled} alone exchanged with a test image of another class and group", **where,
                )  # fmt: skip
                context.add("explanation", f"{what}_effect", effect, n=result.n, **where)
            context.add(
                "explanation", "colour_reliance", result.reliance, n=result.n,
                note="changed by color, over changed by color or by shape", **where,
            )  # fmt: skip
            found[source] = (index[kept], index[donors[kept]], result)
        for name, switched in context.switched.items():
            if switched.ndim == 5 and len(switched) >= 2:
                value = attribution.switched_flip_rate(decide, switched)
                label = name.removeprefix("synthetic:")
                said = f"images decoded from the same latent with each of {len(switched)} levels"
                context.add(
                    "explanation",
                    "switched_flip_rate",
                    value,
                    column=label,
                    n=switched.shape[1],
                    note=said,
                    **where,
                )
    context.artifacts["exchanged"] = found
