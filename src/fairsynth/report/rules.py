"""How the limits of the verdict are applied: one function for each question and each disguise."""

from __future__ import annotations

import math
import re

from fairsynth.evaluation.result import Score
from fairsynth.report.findings import Findings, source_label
from fairsynth.report.glossary import lookup
from fairsynth.report.verdict import (
    BANDS,
    DIRECT_USE,
    FOUR_FIFTHS,
    LARGE_GROUP,
    LITTLE_LEFT,
    LOST_GROUP,
    LOST_PAIR,
    MOSTLY_COPIES,
    NOTHING_LEFT,
    ONE_DECISION,
    PARITY_GAINED,
    RATIO_OF,
    READABLE,
    REPEATS,
    SOMETHING_TO_LOSE,
    SWAP_GAP,
    UNRELATED,
    UNTOLD,
    WORSE_THAN_REAL,
    Reason,
)


def _label(metric: str) -> str:
    return lookup(metric).label


def _percent(share: float) -> str:
    return f"{100 * share:.1f} %"


def _band(name: str, value: float, text: str, metric: str) -> Reason:
    band = BANDS[name]
    return Reason(band.level(value), text, f"{band.what}: {band.rule()}.", metric)


# ---------------------------------------------------------------------- disguises
def decides_nothing(found: Findings, source: str) -> Reason | None:
    """Detect the constant predictor, perfectly fair and of no use (methods.md, trap 1), and its kin.

    Returns
    -------
    Reason or None
        Poor when models hardly decide at all, with care when they decide much less than those trained
        on real rows do.
    """
    moral = "any fairness it shows is that of a model that decides nothing."
    rate, real_rate = _selection_rate(found, source), _selection_rate(found, "real")
    if rate is not None:
        decided = min(rate, 1 - rate)
        real = 1.0 if real_rate is None else min(real_rate, 1 - real_rate)
        if decided < ONE_DECISION and decided < real * NOTHING_LEFT:
            return Reason(
                "poor",
                f"Models trained on it favor {_percent(rate)} of people: {moral}",
                f"Poor when fewer than {ONE_DECISION:.0%} of people, or all but so many, are favored, and that is "
                f"under {NOTHING_LEFT:g} of what it is trained on real rows.",
                "selection_rate",
            )
    value, real_value = (found.value("r2", s) for s in (source, "real"))
    if value is not None and real_value is not None and real_value >= SOMETHING_TO_LOSE:
        kept = value / real_value
        return (
            None
            if kept >= NOTHING_LEFT
            else Reason(
                "poor",
                f"Models trained on it explain hardly anything (R² {value:.2f}, against {real_value:.2f}): "
                "any fairness they show is that of a model that gives everybody the same answer.",
                f"Poor when R² is under {NOTHING_LEFT:g} of what training on real rows gives.",
                "r2",
            )
        )
    value, real_value = (found.value("balanced_accuracy", s) for s in (source, "real"))
    coin = found.value("balanced_accuracy", "constant")
    coin = 0.5 if coin is None else coin
    if value is None or real_value is None or real_value - coin < SOMETHING_TO_LOSE:
        return None
    kept = (value - coin) / (real_value - coin)
    if kept >= LITTLE_LEFT:
        return None
    rule = (
        "What balanced accuracy has over a coin, as a share of what training on real rows gives: with care under "
        f"{LITTLE_LEFT:g}, and poor under {NOTHING_LEFT:g} if AUROC keeps no more than that share, either."
    )
    ranking, ranked = _ranking_kept(found, source), found.value("auroc", source)
    if kept < NOTHING_LEFT and (ranking is None or ranking < NOTHING_LEFT):
        text = f"Models trained on it hardly do better than a coin (balanced accuracy {value:.2f}): {moral}"
        return Reason("poor", text, rule, "balanced_accuracy")
    text = (
        f"Models trained on it decide little at the usual threshold of one half (balanced accuracy {value:.2f} "
        f"against {real_value:.2f} trained on real rows)"
    )
    if rate is not None and real_rate is not None:
        text += f": they favor {_percent(rate)} of people, against {_percent(real_rate)}"
    text += ". Part of their fairness is that they decide little"
    if ranking is not None and ranked is not None and ranking >= NOTHING_LEFT:
        text += f"; but they do tell people apart (AUROC {ranked:.2f}), so another threshold decides more"
    return Reason("caution", f"{text}.", rule, "balanced_accuracy")


def _ranking_kept(found: Findings, source: str) -> float | None:
    """Return the share of the real models' edge over a coin in AUROC that is left."""
    value, real = (found.value("auroc", s) for s in (source, "real"))
    if value is None or real is None or real - 0.5 < SOMETHING_TO_LOSE:
        return None
    return (value - 0.5) / (real - 0.5)


def _selection_rate(found: Findings, source: str) -> float | None:
    overall = found.value("selection_rate", source)
    if overall is not None:
        return overall
    scores = [
        s
        for s in found.select("selection_rate", source=source, attribute=found.main_attribute, label=None)
        if s.group and s.value is not None
    ]
    headline = [s for s in scores if s.model == "mean"] or scores
    weight = sum(s.n or 1 for s in headline)
    return sum((s.value or 0.0) * (s.n or 1) for s in headline) / weight if headline else None


def hollow_parity(found: Findings, source: str, ratio: str) -> Reason | None:
    """Detect parity in the table that its models do not have (methods.md, trap 2: shuffled s)."""
    for attribute in found.single_attributes:
        inside, real = (found.value("label_parity_ratio", s, attribute=attribute) for s in (source, "real"))
        outside, before = (found.value(ratio, s, attribute=attribute) for s in (source, "real"))
        # A handful of people is no ground for this.
        large = _among_large(found, ratio, source, attribute)
        if large is not None:
            outside, before = large, _among_large(found, ratio, "real", attribute)
        if inside is None or outside is None or (real is not None and inside < real + PARITY_GAINED):
            continue
        limit = BANDS["fairness_ratio"].caution
        as_before = before is not None and outside <= before + WORSE_THAN_REAL and outside < FOUR_FIFTHS
        if inside >= FOUR_FIFTHS and (outside < limit or as_before):
            return Reason(
                "poor",
                f"The table looks fair by {attribute} (label parity {inside:.2f}), but models trained on it "
                f"are not ({_label(ratio).lower()} {outside:.2f} on real people): other columns stand in for "
                f"{attribute}, as they do when the column is merely shuffled.",
                f"Poor when labels are in parity ({FOUR_FIFTHS:g}) and decisions are below {limit:g}, or no "
                "fairer than trained on real rows.",
                "label_parity_ratio",
            )
    return None


def repeats_itself(found: Findings, source: str) -> Reason | None:
    """Detect a table made of few rows, repeated."""
    value, real = (found.value("distinct_share", s) for s in (source, "holdout"))
    real = real if real is not None else found.value("distinct_share", "real")
    if value is None or value >= REPEATS * (1.0 if real is None else real):
        return None
    return Reason(
        "poor",
        f"It says the same again and again: only {_percent(value)} of its rows are distinct.",
        f"Poor when the share of distinct rows is under {REPEATS:g} of that of real rows.",
        "distinct_share",
    )


def lost_groups(found: Findings, source: str) -> Reason | None:
    """Detect groups of the sensitive columns that the table has nobody of."""
    lost = []
    for attribute in found.single_attributes:
        own = {s.group: s.value for s in found.select("group_share", source=source, attribute=attribute)}
        for s in found.select("group_share", source="real", attribute=attribute):
            if own and s.group and s.value and s.value >= LOST_GROUP and not own.get(s.group):
                lost.append(f"{s.group} ({attribute}; {_percent(s.value)} of the real rows)")
    if not lost:
        return None
    return Reason(
        "poor",
        f"Nobody in it belongs to {', '.join(lost)}: models trained on it have never seen these people.",
        f"Poor when a group of at least {LOST_GROUP:.0%} of the real rows has no row.",
        "group_share",
    )


def copied_rows(found: Findings, source: str) -> Reason | None:
    """Detect a table that holds the training rows themselves."""
    value, base = (found.value("exact_copies", s) for s in (source, "holdout"))
    if value is None or value - (base or 0.0) < MOSTLY_COPIES:
        return None
    return Reason(
        "poor",
        f"It holds copies of real people's rows ({_percent(value)} of the table), so good numbers elsewhere "
        "are those of the real rows.",
        f"Poor, whatever else, from a share of {MOSTLY_COPIES:g} beyond that of hold-out rows.",
        "exact_copies",
    )


def swapped_groups(found: Findings, source: str) -> Reason | None:
    """Detect groups that changed places: the best-off by the real labels is the worst-off here."""
    for attribute in found.single_attributes:
        here, real = (_by_group(found, "label_rate", s, attribute) for s in (source, "real"))
        groups = sorted(set(here) & set(real))
        if len(groups) < 2:
            continue
        top, bottom = max(groups, key=real.__getitem__), min(groups, key=real.__getitem__)
        gap, turned = real[top] - real[bottom], here[bottom] - here[top]
        if gap >= SWAP_GAP and turned >= max(SWAP_GAP, gap / 2):
            return Reason(
                "poor",
                f"The groups of {attribute} look swapped: {bottom} has fewer favorable labels than {top} "
                "among the real rows, and more of them here.",
                f"Poor when the label gap between groups of {LARGE_GROUP} and more changes its sign, exceeds "
                f"{SWAP_GAP:g} and is at least half as large as before.",
                "label_rate",
            )
    return None


def unrelated_attribute(found: Findings, source: str) -> Reason | None:
    """Detect a sensitive column that has nothing to do with the others, as if shuffled."""
    for attribute in found.single_attributes:
        here, real = (found.value("leakage_auc", s, attribute=attribute) for s in (source, "real"))
        if here is not None and real is not None and here <= UNRELATED and real >= READABLE:
            return Reason(
                "caution",
                f"{attribute} has nothing to do with the other columns here (guessed from them with AUC "
                f"{here:.2f}; among the real rows {real:.2f}), as if it had been shuffled. What the table "
                "says about single groups is not to be believed.",
                f"With care when the attribute is guessed with an AUC of at most {UNRELATED:g} here and of "
                f"at least {READABLE:g} among the real rows.",
                "leakage_auc",
            )
    return None


def _by_group(found: Findings, metric: str, source: str, attribute: str) -> dict[str, float]:
    """Return the rates of the groups that are large enough to say something."""
    scores = [s for s in found.select(metric, source=source, attribute=attribute, label=None) if s.group]
    scores = [s for s in scores if s.model == "mean"] or [s for s in scores if s.model is None] or scores
    large = (s for s in scores if s.n is None or s.n >= LARGE_GROUP)
    return {s.group: s.value for s in large if s.group and s.value is not None}


# ---------------------------------------------------------------------- the four questions
def fair(found: Findings, source: str, ratio: str) -> list[Reason]:
    """Judge the criterion's ratio for every attribute, and note what else bears on fairness."""
    reasons = []
    for attribute in found.attributes:
        score = found.get(ratio, source, attribute=attribute)
        if score is not None:
            reasons.append(_ratio(found, score, ratio, source, attribute))
        gap = found.get("distribution_gap", source, attribute=attribute)
        if score is None and gap is not None and gap.value is not None:
            before = found.value("distribution_gap", "real", attribute=attribute)
            beside = f", against {before:.2f} trained on real rows" if before is not None else ""
            text = (
                f"Predictions for the groups of {attribute} differ by {gap.value:.2f} of at most 1{beside}."
            )
            reasons.append(_band("prediction_gap", gap.value, text, "distribution_gap"))
    main = found.main_attribute
    little = decides_nothing(found, source)
    equal = found.get(f"{ratio}_at_real_rate", source, attribute=main)
    if equal is not None and equal.value is not None:
        reasons.append(
            _equal_rate(found, equal, ratio, judged=little is not None and little.level == "caution")
        )
    for other in RATIO_OF.values():
        value, real = (found.value(other, s, attribute=main) for s in (source, "real"))
        if other != ratio and value is not None:
            beside = "" if real is None else f" (trained on real rows: {real:.2f})"
            text = f"{_label(other)} by {main}, which was not asked for, is {value:.2f}{beside}."
            reasons.append(Reason("info", text, metric=other))
    ftu = found.value("ftu", source, attribute=main)
    if ftu is not None and ftu > DIRECT_USE:
        reasons.append(
            Reason(
                "caution",
                f"Models use {main} itself: switching it for everybody moves the share of favorable "
                f"decisions by {100 * ftu:.1f} points.",
                f"With care when direct use exceeds {DIRECT_USE:g}.",
                "ftu",
            )
        )
    return reasons


def _equal_rate(found: Findings, score: Score, ratio: str, *, judged: bool) -> Reason:
    """Tell the ratio at the real share of favorable outcomes; it counts where models decide little else."""
    assert score.value is not None
    real = found.value(score.metric, "real", attribute=score.attribute)
    text = (
        f"With as many people favored as are favorable among the real rows, the {_label(ratio).lower()} by "
        f"{score.attribute} is {score.value:.2f}"
    )
    if score.low is not None and score.high is not None:
        text += f" (95 % interval {score.low:.2f} to {score.high:.2f})"
    text += f", against {real:.2f} trained on real rows." if real is not None else "."
    if not judged:
        return Reason("info", text, metric=score.metric)
    return _band("fairness_ratio", score.value, text, score.metric)


def _ratio(found: Findings, score: Score, ratio: str, source: str, attribute: str) -> Reason:
    if score.value is None:
        why = score.note or "there are no decisions to compare"
        return Reason("unknown", f"{_label(ratio)} by {attribute} is not defined: {why}.", metric=ratio)
    value, real = score.value, found.value(ratio, "real", attribute=attribute)
    high = score.high
    text = f"{_label(ratio)} by {attribute} is {value:.2f}"
    if score.low is not None and score.high is not None:
        text += f" (95 % interval {score.low:.2f} to {score.high:.2f})"
    text += f", against {real:.2f} trained on real rows." if real is not None else "."
    if score.note and (tiny := re.search(r"rests on groups of fewer than \d+ people: [^;]+", score.note)):
        text += f" It {tiny.group()}."
    large = _among_large(found, ratio, source, attribute)
    small = large is not None and large > value + 0.02
    if small and large is not None:
        value, real, high = large, _among_large(found, ratio, "real", attribute), None
        beside = "" if real is None else f", against {real:.2f}"
        text += f" Between groups of at least {LARGE_GROUP} people it is {value:.2f}{beside}."
    reason = _band("fairness_ratio", value, text, ratio)
    rule = reason.rule
    worse = real is not None and value < real - WORSE_THAN_REAL and (high is None or high < real)
    if " × " in attribute:
        if worse or reason.level == "poor":
            doubt = "Joint groups can be tiny, so this alone calls for care only."
            return Reason("caution", f"{text} {doubt}", rule, ratio)
    elif worse:
        rule = (
            f"Poor when more than {WORSE_THAN_REAL:g} below training on real rows, and the interval with it."
        )
        return Reason("poor", f"{text} It is less fair than the real data.", rule, ratio)
    if reason.level == "good" and (small or (score.low is not None and score.low < FOUR_FIFTHS)):
        doubt = f"The people tested are too few to be sure of {FOUR_FIFTHS:g}."
        return Reason("caution", f"{text} {doubt}", f"{rule} The interval counts.", ratio)
    return Reason(reason.level, text, rule, ratio)


def _among_large(found: Findings, ratio: str, source: str, attribute: str) -> float | None:
    """Return the ratio between the groups that are large enough, None when no group is left out."""
    given = found.value(f"{ratio}_large_groups", source, attribute=attribute)
    if given is not None:
        return given
    ratios = []
    for metric in {"dpr": ("selection_rate",), "eor": ("tpr", "fpr")}.get(ratio, ("tpr",)):
        scores = found.select(metric, source=source, attribute=attribute, label=None)
        if not any(s.group and s.n is not None and s.n < LARGE_GROUP for s in scores):
            return None
        rates = _by_group(found, metric, source, attribute).values()
        if len(rates) < 2 or max(rates) <= 0:
            return None
        ratios.append(min(rates) / max(rates))
    return min(ratios)


def useful(found: Findings, source: str) -> list[Reason]:
    """Judge what is lost against training on real rows."""
    reasons = []
    for metric in ("auroc", "r2"):
        value, real = (found.value(metric, s) for s in (source, "real"))
        if value is not None and real is not None:
            loss = real - value
            text = f"{_label(metric)} is {value:.3f} on real people, against {real:.3f} trained on real rows."
            reasons.append(_band("utility_loss", loss, text, metric))
    accuracy, real, constant = (found.value("accuracy", s) for s in (source, "real", "constant"))
    beatable = constant is not None and (real is None or real > constant)
    if accuracy is not None and constant is not None and beatable and accuracy <= constant:
        text = (
            f"Accuracy ({_percent(accuracy)}) is no better than that of always giving the same answer "
            f"({_percent(constant)})."
        )
        rule = "With care when accuracy does not exceed the constant predictor's."
        reasons.append(Reason("caution", text, rule, "accuracy"))
    for metric in ("ranking_agreement", "importance_agreement"):
        value = found.value(metric, source)
        if value is not None:
            text = f"{_label(metric)}: {value:.2f}. {lookup(metric).good}"
            reasons.append(Reason("info", text, metric=metric))
    return reasons


def faithful(found: Findings, source: str) -> list[Reason]:
    """Judge the rows themselves, beside what real hold-out rows score."""
    reasons = []
    coverage, base = (found.value("coverage", s) for s in (source, "holdout"))
    if coverage is not None:
        beside = f", where real hold-out rows reach {base:.3f}" if base else ""
        text = f"Coverage is {coverage:.3f}{beside}."
        reasons.append(_band("coverage", coverage / base if base else coverage, text, "coverage"))
    c2st = found.value("c2st", source)
    if c2st is not None:
        text = f"A trained detective tells its rows from real ones with AUC {c2st:.3f} (0.5 is guessing)."
        reasons.append(_band("c2st", c2st, text, "c2st"))
    columns = [
        (s.value - (found.value(m, "holdout", column=s.column) or 0.0), s)
        for m in ("ks", "total_variation")
        for s in found.select(m, source=source)
        if s.column and " × " not in s.column and s.value is not None
    ]
    if columns:
        excess, worst = max(columns, key=lambda pair: pair[0])
        text = f"The least faithful column is {worst.column} (distance {worst.value:.2f} of at most 1)."
        reasons.append(_band("column", excess, text, worst.metric))
    pairs, base = (found.value("correlation_difference", s) for s in (source, "holdout"))
    if pairs is not None:
        beside = f", where real hold-out rows differ by {base:.3f}" if base is not None else ""
        text = f"The strength of association between columns differs by {pairs:.3f} on average{beside}."
        reasons.append(_band("pairs", pairs - (base or 0.0), text, "correlation_difference"))
    changes = [
        (abs(s.value - real), s.value, real, s.column)
        for s in found.select("pair_association", source=source)
        if s.value is not None
        and (real := found.value("pair_association", "real", column=s.column)) is not None
    ]
    if changes and max(changes)[0] >= LOST_PAIR:
        _, here, real, pair = max(changes)
        text = f"The pair that differs most is {pair}: its association is {here:.2f}, among the real rows {real:.2f}."
        reasons.append(Reason("info", text, metric="pair_association"))
    return reasons


def private(found: Findings, source: str) -> list[Reason]:
    """Judge what the rows give away of the training rows, beside what hold-out rows do by chance."""
    reasons = []
    share = found.get("dcr_share", source)
    if share is not None and share.value is not None:
        base = found.value("dcr_share", "holdout")
        beside = f"; of real rows never seen, {_percent(base)} are" if base is not None else ""
        text = (
            f"{_percent(share.value)} of its rows are closer to a training row than to one never seen "
            f"(50 % is chance{beside})."
        )
        if base is not None and base < UNTOLD:
            # Real people do not come out at chance, so rows that do or stay below it prove nothing.
            text += " Where real rows are so far from chance, this tells nothing: look for a column of many values."
            reasons.append(Reason("info", text, metric="dcr_share"))
        else:
            reasons.append(_attack("dcr_share", share, text, chance=0.5))
    for metric, name in (("exact_copies", "copies"), ("near_copies", "near_copies")):
        value, base = (found.value(metric, s) for s in (source, "holdout"))
        if value is not None:
            beside = f"; of unseen real rows, {_percent(base)} are by chance" if base is not None else ""
            text = f"{_percent(value)} of its rows are {_label(metric).lower()} of training rows{beside}."
            reasons.append(_band(name, value - (base or 0.0) - _noise(found, metric), text, metric))
    value, base = (found.value("authenticity", s) for s in (source, "holdout"))
    if value is not None and base:
        text = f"Authenticity is {value:.2f}, where real hold-out rows have {base:.2f}."
        reasons.append(_band("authenticity", value / base, text, "authenticity"))
    attack = found.get("membership_inference_auc", source)
    if attack is not None and attack.value is not None:
        text = (
            f"An attacker tells who was in the training rows with AUC {attack.value:.3f} (0.5 is guessing)."
        )
        reasons.append(_attack("membership", attack, text, chance=0.5))
    for metric in ("singling_out", "linkability", "inference"):
        for risk in found.select(metric, source=source, column=None):
            if risk.value is not None:
                reasons.append(_attack("attack", risk, f"{_label(metric)} is {risk.value:.3f}.", chance=0.0))
    if reasons:
        text = (
            "These are attacks that were tried: no proof that no other succeeds, and no guarantee of "
            "differential privacy."
        )
        reasons.append(Reason("info", text))
    return reasons


def _attack(name: str, score: Score, text: str, *, chance: float) -> Reason:
    """Judge an attack by its band, but as good when its interval reaches what chance gives."""
    assert score.value is not None
    reason = _band(name, score.value, text, score.metric)
    if reason.level != "good" and score.low is not None and score.low <= chance:
        return Reason(
            "good", f"{text} The interval reaches {chance:g}, which is chance.", reason.rule, score.metric
        )
    return reason


def _noise(found: Findings, metric: str) -> float:
    """Return two standard errors of the hold-out rows' share: where rows recur by chance, it scatters."""
    base = found.get(metric, "holdout")
    if base is None or base.value is None or not base.n:
        return 0.0
    return 2.0 * math.sqrt(max(base.value * (1.0 - base.value), 0.0) / base.n)


# ---------------------------------------------------------------------- what drives decisions
def driven(found: Findings, source: str) -> list[str]:
    """Say in words whether the sensitive attribute, or a proxy, still drives decisions."""
    name = "" if source == "synthetic" else f"{source_label(source)}: "
    lines = []
    for attribute in found.single_attributes:
        words = []
        here, real = (found.value("shap_share", s, column=attribute) for s in (source, "real"))
        if here is not None:
            beside = f" (trained on real rows: {_percent(real)})" if real is not None else ""
            words.append(
                f"{name}{attribute} itself makes up {_percent(here)} of what drives decisions{beside}."
            )
        gaps = {
            s.column: s.value
            for s in found.select("shap_group_gap", source=source, attribute=attribute)
            if s.column and s.column not in found.single_attributes and s.value is not None
        }
        if gaps and max(gaps.values()) > 0:
            proxy = max(gaps, key=lambda c: gaps[c])
            before = found.value("shap_group_gap", "real", attribute=attribute, column=proxy)
            beside = f" (trained on real rows: {before:.2f})" if before is not None else ""
            words.append(
                f"Of the other columns, {proxy} pushes the groups of {attribute} furthest apart, by "
                f"{gaps[proxy]:.2f}{_unit(found)}{beside}."
            )
        lines += [" ".join(words)] if words else []
    return lines


def _unit(found: Findings) -> str:
    """Return the unit of SHAP values after the number, by the kind of outcome."""
    kind = found.meta.get("task")
    return " in log-odds" if kind == "binary" else " in units of the outcome" if kind == "regression" else ""
