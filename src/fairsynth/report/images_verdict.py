"""The verdict on synthetic images: the four questions of tables, asked of images.

The limits are ours unless `Band.why` names a source; they stand on the page.
"""

from __future__ import annotations

from dataclasses import dataclass

from fairsynth.report.findings import Findings, source_label
from fairsynth.report.glossary import lookup
from fairsynth.report.verdict import (
    BANDS as TABLE_BANDS,
)
from fairsynth.report.verdict import (
    LITTLE_LEFT,
    MOSTLY_COPIES,
    NOTHING_LEFT,
    RATIO_OF,
    Answer,
    Band,
    Level,
    Question,
    Reason,
    TableVerdict,
    Verdict,
)

QUESTIONS: dict[Question, str] = {
    "fair": "Does a classifier trained on these images look at what it should, for every group alike?",
    "useful": "Does it learn from them nearly as well as from real images?",
    "faithful": "Do they look like real images, in all their variety?",
    "private": "Do they keep to themselves the images they were learned from?",
}
BANDS: dict[str, Band] = {
    "colour": Band("Decisions on real images changed by color alone", 0.1, 0.2, False, "Ours."),
    "shift": Band(
        "Accuracy lost on the worst of the real sets whose groups go with other labels",
        0.05,
        0.15,
        False,
        "Ours.",
    ),
    "gap": Band("Accuracy gap between groups beyond chance, worst real set", 0.05, 0.1, False, "Ours."),
    "dependence": Band(
        "Label and group go together in the set (Cramér's V), where parity was asked for",
        0.1,
        0.3,
        False,
        "Ours.",
    ),
    "fairness_ratio": TABLE_BANDS["fairness_ratio"],
    "accuracy_loss": Band(
        "Accuracy lost against training on real images, mean over the real sets", 0.03, 0.06, False, "Ours."
    ),
    "coverage": Band("Coverage, relative to that of real hold-out images", 0.9, 0.75, True, "Ours."),
    "density": Band("Density, relative to that of real hold-out images", 0.8, 0.5, True, "Ours."),
    "label_read": Band(
        "Share of images that show their stated label, relative to real images of like composition",
        0.95,
        0.85,
        True,
        "Ours.",
    ),
    "dcr_share": Band(
        "Share of synthetic images closer to training than to hold-out images",
        TABLE_BANDS["dcr_share"].good,
        TABLE_BANDS["dcr_share"].caution,
        False,
        "0.5 is chance; the margin is ours. Good, too, when the interval reaches chance.",
    ),
    "copies": Band("Share of exact copies, beyond that of hold-out images", 0.005, 0.02, False, "Ours."),
    "near_copies": Band("Share of near copies, beyond that of hold-out images", 0.02, 0.05, False, "Ours."),
}
OTHER_RULES = (
    "Likeness is judged against the real set whose mix of labels and groups is nearest to that of the synthetic one: a "
    "fair set made from a biased one is composed otherwise on purpose.",
    f"Images are not fair when a classifier learns nothing from them: it keeps less than {NOTHING_LEFT:g} of the real-"
    f"trained one's edge over the constant predictor. Under {LITTLE_LEFT:g} it calls for care.",
    "They are neither fair nor faithful when a class or a group of the real images is missing.",
    "What the images show may not go together with the label much more than the set says (0.2 in Cramér's V).",
    f"They are not private, whatever else, when {MOSTLY_COPIES:g} of them are exact copies beyond chance.",
)
#: What the images show may exceed what the set says by this much (Cramér's V).
DENIED = 0.2


@dataclass(frozen=True)
class ImageAnswer(Answer):
    """The answer to one of the four questions about images."""

    @property
    def asked(self) -> str:
        """The question in full."""
        return QUESTIONS[self.question]


def image_verdict(found: Findings) -> Verdict:
    """Judge every synthetic image set of an evaluation.

    Parameters
    ----------
    found : Findings
        Scores and meta of an `ImageEvaluation`.

    Returns
    -------
    Verdict
        One `TableVerdict` for each synthetic source.
    """
    asked = found.wanted.get("criterion")
    criterion = asked if asked in RATIO_OF else "demographic_parity"
    tables = []
    for source in found.synthetic_sources:
        judge = _Judge(found, source, criterion)
        nothing, missing, copies = judge.learns_nothing(), judge.missing(), judge.copied()
        answers = (
            _answer("fair", [nothing, missing, *judge.fair()]),
            _answer("useful", [nothing, *judge.useful()]),
            _answer("faithful", [missing, *judge.faithful()]),
            _answer("private", [copies, *judge.private()]),
        )
        disguises = tuple(r for r in (copies, nothing, missing) if r is not None and r.level == "poor")
        tables.append(TableVerdict(source, answers, disguises))
    return Verdict(tuple(tables), criterion, asked in RATIO_OF)


_ORDER: dict[Level, int] = {"poor": 0, "caution": 1, "good": 2, "unknown": 3, "info": 4}


def _answer(question: Question, reasons: list[Reason | None]) -> ImageAnswer:
    ordered = tuple(sorted((r for r in reasons if r), key=lambda r: _ORDER[r.level]))
    judged = [r.level for r in ordered if r.level in ("good", "caution", "poor")]
    return ImageAnswer(question, judged[0] if judged else "unknown", ordered)


def likest(found: Findings, source: str) -> str | None:
    """Return the real set (None: train) that is composed most like a synthetic one."""
    distances = {
        s.column: s.value
        for s in found.select("composition_distance", source=source)
        if s.value is not None and (s.column is None or found.get("coverage", source, column=s.column))
    }
    return min(distances, key=lambda c: distances[c]) if distances else None


def set_name(column: str | None, plain: str) -> str:
    """Name a real set for the reader; `plain` is what no name means."""
    return plain if column is None else f"the {column} set"


class _Judge:
    """Reasons about one synthetic set."""

    def __init__(self, found: Findings, source: str, criterion: str) -> None:
        self.found, self.source, self.criterion = found, source, criterion
        self.sensitive = found.main_attribute or "the sensitive attribute"
        self.label = str(found.meta.get("target", "label"))
        self.others = [str(name) for name in found.meta.get("others", ())]
        self.like = likest(found, source)

    def _v(self, metric: str, source: str | None = None, **where: str | None) -> float | None:
        return self.found.value(metric, source or self.source, **where)

    def _by(self, metric: str, source: str | None = None, column: str | None = None) -> float | None:
        return self._v(metric, source, attribute=self.found.main_attribute, column=column)

    # ------------------------------------------------------------------ disguises
    def learns_nothing(self) -> Reason | None:
        own, real, constant = (self._v("accuracy", s) for s in (self.source, "real", "constant"))
        if own is None or real is None or constant is None or real - constant < 0.05:
            return None
        kept = (own - constant) / (real - constant)
        if kept >= LITTLE_LEFT:
            return None
        level: Level = "poor" if kept < NOTHING_LEFT else "caution"
        word = "next to nothing" if level == "poor" else "little"
        text = (
            f"A classifier learns {word} from these images: it is right for {own:.1%} of real test images, "
            "trained on real "
            f"ones {real:.1%}, the constant predictor {constant:.1%}. Equal treatment by it says nothing."
        )
        return Reason(level, text, OTHER_RULES[1], "accuracy")

    def missing(self) -> Reason | None:
        lost = []
        for metric, field in (("class_share", "label"), ("group_share", "group")):
            for score in self.found.select(metric, source=self.source):
                name = getattr(score, field)
                real = [s for s in self.found.select(metric, source="real") if getattr(s, field) == name]
                if name is not None and score.value == 0 and real and (real[0].value or 0) > 0:
                    lost.append(f"{self.label if field == 'label' else self.sensitive} {name}")
        if not lost:
            return None
        return Reason(
            "poor", f"There is no image at all of: {', '.join(lost)}.", OTHER_RULES[2], "class_share"
        )

    def copied(self) -> Reason | None:
        own, base = self._v("exact_copies"), self._v("exact_copies", "holdout")
        if own is None or own - (base or 0.0) < MOSTLY_COPIES:
            return None
        return Reason(
            "poor",
            f"{own:.1%} of the images are training images, pixel for pixel.",
            OTHER_RULES[4],
            "exact_copies",
        )

    # ------------------------------------------------------------------ fair
    def fair(self) -> list[Reason | None]:
        return [
            self._colour(),
            self._shift(),
            self._gap(),
            self._dependence(),
            self._seen(),
            self._ratio(),
            self._switch(),
        ]

    def _colour(self) -> Reason | None:
        own, real = self._v("colour_flip_rate"), self._v("colour_flip_rate", "real")
        if own is None:
            return None
        band = BANDS["colour"]
        shape = self._v("shape_flip_rate")
        text = f"Color alone changes {own:.1%} of the decisions on real images"
        text += f", shape alone {shape:.1%}" if shape is not None else ""
        text += (
            f"; for a classifier trained on the real images color changes {real:.1%}."
            if real is not None
            else "."
        )
        return Reason(band.level(own), text, _rule(band), "colour_flip_rate")

    def _shift(self) -> Reason | None:
        plain = self._v("accuracy")
        values = {name: self._v("accuracy", column=name) for name in self.others}
        known = {name: v for name, v in values.items() if v is not None}
        if plain is None or not known:
            return None
        worst = min(known, key=lambda name: known[name])
        band, drop = BANDS["shift"], plain - known[worst]
        real = self._v("accuracy", "real", column=worst)
        text = (
            f"On the {worst} set the classifier is right for {known[worst]:.1%}, on the plain test set for "
            f"{plain:.1%}"
        )
        text += f"; trained on the real images it is right for {real:.1%} there." if real is not None else "."
        return Reason(band.level(drop), text, _rule(band), "accuracy")

    def _gap(self) -> Reason | None:
        columns: list[str | None] = [None, *self.others]
        found = {c: self._by("accuracy_gap_beyond_chance", column=c) for c in columns}
        known = {c: v for c, v in found.items() if v is not None}
        if not known:
            return None
        worst = max(known, key=lambda c: known[c])
        gap, band = self._by("accuracy_gap", column=worst), BANDS["gap"]
        where = set_name(worst, "the plain test set")
        if known[worst] == 0:
            text = (
                f"Groups of {self.sensitive} are recognized equally well on every real set, as far as their "
                "numbers tell."
            )
        else:
            text = (
                f"On {where} the best and the worst recognized group of {self.sensitive} are {gap or 0:.3f} "
                "apart in accuracy, "
                f"{known[worst]:.3f} more than chance explains."
            )
        return Reason(band.level(known[worst]), text, _rule(band), "accuracy_gap_beyond_chance")

    def _dependence(self) -> Reason | None:
        own, real = self._by("label_dependence"), self._by("label_dependence", "real")
        if own is None:
            return None
        band = BANDS["dependence"]
        text = f"{self.label.capitalize()} and {self.sensitive} go together by {own:.2f} (Cramér's V)"
        text += f"; among the real images by {real:.2f}." if real is not None else "."
        level: Level = band.level(own) if self.criterion == "demographic_parity" else "info"
        return Reason(level, text, _rule(band), "label_dependence")

    def _seen(self) -> Reason | None:
        said, seen = self._by("label_dependence"), self._by("label_dependence_seen")
        if said is None or seen is None:
            return None
        bias = 0.0
        if self.like is not None:  # what the reader adds by itself, on real images of like composition
            on_real = self._by("label_dependence_seen", "holdout", self.like)
            of_real = self._by("label_dependence", "holdout", self.like)
            bias = max((on_real or 0.0) - (of_real or 0.0), 0.0)
        if seen - bias - said <= DENIED:
            return None
        text = (
            f"The images show more than the set says: as seen by a network trained on real images, {self.label} and "
            f"{self.sensitive} go together by {seen:.2f}, as stated by {said:.2f}."
        )
        return Reason("caution", text, OTHER_RULES[3], "label_dependence_seen")

    def _ratio(self) -> Reason | None:
        if not self.found.meta.get("favorable"):
            return None
        metric, band = RATIO_OF[self.criterion], BANDS["fairness_ratio"]
        column = self.like if self.like in self.others else None
        own = self._by(metric, column=column)
        if own is None:
            return None
        real = self._by(metric, "real", column)
        text = (
            f"{lookup(metric).label} between the groups: {own:.2f} on "
            f"{set_name(column, 'the plain test set')}"
        )
        text += f"; trained on the real images {real:.2f}." if real is not None else "."
        return Reason(band.level(own), text, _rule(band), metric)

    def _switch(self) -> Reason | None:
        scores = [
            s for s in self.found.select("switched_flip_rate", source=self.source) if s.value is not None
        ]
        own = [s for s in scores if s.column == source_label(self.source) or s.column == self.source]
        if not own or own[0].value is None:
            return None
        text = f"Drawing the same latent for another group changes the decision for {own[0].value:.1%} of latents."
        return Reason("info", text, "", "switched_flip_rate")

    # ------------------------------------------------------------------ useful
    def useful(self) -> list[Reason | None]:
        columns: list[str | None] = [None, *self.others]
        gains = {c: self._v("accuracy_gain", column=c) for c in columns}
        known = {c: g for c, g in gains.items() if g is not None}
        if not known:
            return []
        band, mean = BANDS["accuracy_loss"], sum(known.values()) / len(known)
        where = "the real test images" if len(known) == 1 else f"{len(known)} real sets, on average,"
        word = "less" if mean < 0 else "more"
        text = (
            f"On {where} a classifier trained on these images is right {abs(mean):.3f} {word} often than one "
            "trained on real images."
        )
        reasons: list[Reason | None] = [Reason(band.level(-mean), text, _rule(band), "accuracy_gain")]
        for column in known:
            own, real = self._v("accuracy", column=column), self._v("accuracy", "real", column=column)
            if len(known) > 1 and own is not None and real is not None:
                text = (
                    f"On {set_name(column, 'the plain test set')}: {own:.1%} right, trained on real images "
                    f"{real:.1%}."
                )
                reasons.append(Reason("info", text, "", "accuracy"))
        return reasons

    # ------------------------------------------------------------------ faithful
    def faithful(self) -> list[Reason | None]:
        against = set_name(self.like, "the training images")
        reasons: list[Reason | None] = []
        for metric, words in (("coverage", "of real images have a synthetic one nearby"), ("density", "")):
            own, base = self._v(metric, column=self.like), self._v(metric, "holdout", column=self.like)
            if own is None or not base:
                continue
            band = BANDS[metric]
            if metric == "coverage":
                text = f"{own:.1%} {words}, judged against {against}; real hold-out images reach {base:.1%}."
            else:
                text = f"Density against {against} is {own:.2f}; that of real hold-out images {base:.2f}."
            reasons.append(Reason(band.level(own / base), text, _rule(band), metric))
        own = self._v("label_read")
        base = self._v("label_read", "holdout", column=self.like)
        if own is not None and base:
            band = BANDS["label_read"]
            text = (
                f"{own:.1%} of the images show the {self.label} they are said to show, as a network trained "
                "on real images "
                f"sees it; of real images {'of like composition ' if self.like else ''}it reads {base:.1%}."
            )
            reasons.append(Reason(band.level(own / base), text, _rule(band), "label_read"))
        fid, base = self._v("fid", column=self.like), self._v("fid", "holdout", column=self.like)
        if fid is not None and base is not None:
            text = f"FID against {against} is {fid:.2f}; that of as many real hold-out images {base:.2f}."
            reasons.append(Reason("info", text, "", "fid"))
        return reasons

    # ------------------------------------------------------------------ private
    def private(self) -> list[Reason | None]:
        reasons: list[Reason | None] = []
        score = self.found.get("dcr_share", self.source)
        if score is not None and score.value is not None:
            band = BANDS["dcr_share"]
            chance = score.low is not None and score.low <= 0.5
            text = (
                f"{score.value:.1%} of the images are nearer to a training image than to one never seen; "
                "chance is 50 %."
            )
            reasons.append(
                Reason("good" if chance else band.level(score.value), text, _rule(band), "dcr_share")
            )
        for metric, what in (("exact_copies", "copies, pixel for pixel,"), ("near_copies", "near copies")):
            own, base = self._v(metric), self._v(metric, "holdout")
            if own is None:
                continue
            band = BANDS["copies" if metric == "exact_copies" else metric]
            text = f"{own:.1%} of the images are {what} of training images; of real hold-out images {base or 0:.1%}."
            reasons.append(Reason(band.level(own - (base or 0.0)), text, _rule(band), metric))
        return reasons


def _rule(band: Band) -> str:
    return f"{band.what}: {band.rule()}. {band.why}"
