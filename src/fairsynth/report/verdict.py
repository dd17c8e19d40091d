"""The verdict: four questions answered from the scores by rules that stand here and on the page.

The limits are ours, except where `Band.why` names a source. They are a reading aid, not law: what is
fair, useful, faithful or private enough depends on what the table is for. How each is applied is in
`fairsynth.report.rules`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from fairsynth.report.findings import Findings, source_label

if TYPE_CHECKING:
    from fairsynth.evaluation.result import Evaluation

Level = Literal["good", "caution", "poor", "unknown", "info"]
Question = Literal["fair", "useful", "faithful", "private"]

QUESTIONS: dict[Question, str] = {
    "fair": "Do models trained on this table treat the groups alike, on real people?",
    "useful": "Do models learn from it nearly as well as from the real rows?",
    "faithful": "Do its rows look like real rows, in all their variety?",
    "private": "Does it keep to itself the people it was learned from?",
}
WORDS: dict[Level, str] = {"good": "Yes", "caution": "With care", "poor": "No", "unknown": "Not measured"}
_SEVERITY: dict[Level, int] = {"poor": 0, "caution": 1, "good": 2, "unknown": 3, "info": 4}


@dataclass(frozen=True)
class Band:
    """Where a number is good, where it calls for care, and beyond which it is poor.

    Attributes
    ----------
    what : str
        The quantity, in words.
    good, caution : float
        Limits of the two better levels, each inclusive.
    higher : bool
        Whether more is better.
    why : str
        Where the limits come from.
    """

    what: str
    good: float
    caution: float
    higher: bool
    why: str

    def level(self, value: float) -> Level:
        """Return the level of a value."""
        sign = 1.0 if self.higher else -1.0
        if sign * value >= sign * self.good - 1e-9:
            return "good"
        return "caution" if sign * value >= sign * self.caution - 1e-9 else "poor"

    def rule(self) -> str:
        """Return the limits in words."""
        word = "at least" if self.higher else "at most"
        return f"good {word} {self.good:g}, with care {word} {self.caution:g}"


FOUR_FIFTHS = 0.8
BANDS: dict[str, Band] = {
    "fairness_ratio": Band(
        "Ratio of the criterion that was asked for, between the groups of one attribute",
        FOUR_FIFTHS,
        0.6,
        True,
        "Four-fifths rule (US EEOC Uniform Guidelines, 29 CFR 1607.4 D). The lower limit is ours.",
    ),
    "prediction_gap": Band(
        "For numeric outcomes: distance between the groups' predictions (Kolmogorov–Smirnov)",
        0.1,
        0.2,
        False,
        "Ours.",
    ),
    "utility_loss": Band("AUROC (or R²) lost against training on real rows", 0.03, 0.06, False, "Ours."),
    "coverage": Band("Coverage, relative to that of real hold-out rows", 0.9, 0.75, True, "Ours."),
    "c2st": Band("AUC of a classifier that tells synthetic from real rows", 0.7, 0.85, False, "Ours."),
    "column": Band(
        "Distance of the least faithful column, beyond that of hold-out rows", 0.1, 0.25, False, "Ours."
    ),
    "pairs": Band(
        "Mean difference of pair associations, beyond that of hold-out rows", 0.05, 0.1, False, "Ours."
    ),
    "dcr_share": Band(
        "Share of synthetic rows closer to training than to hold-out rows",
        0.55,
        0.6,
        False,
        "0.5 is chance; the margin is ours. Good, too, when the interval reaches chance.",
    ),
    "copies": Band(
        "Share of exact copies, beyond that of hold-out rows and its scatter", 0.005, 0.02, False, "Ours."
    ),
    "near_copies": Band(
        "Share of near copies, beyond that of hold-out rows and its scatter", 0.02, 0.05, False, "Ours."
    ),
    "authenticity": Band("Authenticity, relative to that of hold-out rows", 0.9, 0.75, True, "Ours."),
    "membership": Band(
        "AUC of the membership-inference attack", 0.55, 0.6, False, "0.5 is chance; the margin is ours."
    ),
    "attack": Band(
        "Risk of singling out, linking or inferring, beyond chance",
        0.05,
        0.1,
        False,
        "The risks are those of WP29 Opinion 05/2014 (EU); the limits are ours. Good, too, when the interval "
        "reaches 0.",
    ),
}

#: A model that keeps less than this share of the real one's edge over a coin decides nothing.
NOTHING_LEFT = 0.2
#: One that keeps less than this decides little, and owes part of its fairness to that.
LITTLE_LEFT = 0.5
#: The edge in balanced accuracy that the real model must have for the comparison to say anything.
SOMETHING_TO_LOSE = 0.05
#: A model that favors fewer than this share of people, or all but this share, decides nothing.
ONE_DECISION = 0.02
#: Being this much less fair than the real rows, in the criterion's ratio, is poor whatever else.
WORSE_THAN_REAL = 0.05
#: Switching everybody's attribute may move the share of favorable decisions by this much.
DIRECT_USE = 0.05
#: Share of copies from which on the other numbers say nothing.
MOSTLY_COPIES = 0.25
#: A gap in label rates that is large enough for its sign to mean something.
SWAP_GAP = 0.05
#: Parity of labels counts as brought about by the table when it is this much nearer to 1 than before.
PARITY_GAINED = 0.1
#: Groups of fewer people are too small to be judged by, or to count as swapped.
LARGE_GROUP = 100
#: A sensitive column that is guessed no better than this from the others has nothing to do with them.
UNRELATED = 0.53
#: The AUC with which it must be guessed among the real rows for that to be remarkable.
READABLE = 0.6
#: A group with this share of the real rows may not be absent.
LOST_GROUP = 0.02
#: A change of one pair's association that is worth a note.
LOST_PAIR = 0.2
#: Share of real hold-out rows that are closer to training rows than to other hold-out rows, below which that of
#: synthetic ones tells nothing: distances are then made by a column of which every part of a table has its own values.
UNTOLD = 0.25
#: Share of distinct rows, relative to real rows, under which the table repeats itself.
REPEATS = 0.5

#: The rules that no single limit holds, in words.
OTHER_RULES: tuple[str, ...] = (
    f"A table is not fair when models trained on it decide nothing: they favor fewer than {ONE_DECISION:.0%} of "
    f"people, or all but so many, or keep less than {NOTHING_LEFT:g} of the real model's edge over a coin both in "
    f"balanced accuracy and in AUROC. Under {LITTLE_LEFT:g} in balanced accuracy it calls for care, and the ratio is "
    "judged a second time with as many people favored as are favorable among the real rows.",
    f"It is not fair when it is more than {WORSE_THAN_REAL:g} less fair than the real rows, and the interval with "
    "it.",
    f"It is not fair when only its labels are: in parity ({FOUR_FIFTHS:g}), at least {PARITY_GAINED:g} more than "
    "before, and the decisions for real people are not.",
    f"Ratios that rest on groups of fewer than {LARGE_GROUP} people are judged by the larger groups, and joint "
    "groups alone call for care only.",
    f"An interval that reaches below {FOUR_FIFTHS:g}, and direct use of the attribute beyond {DIRECT_USE:g}, call "
    "for care.",
    f"It is not faithful when it has under {REPEATS:g} of the distinct rows that real tables have, or when groups "
    f"changed places by more than {SWAP_GAP:g}. Neither fair nor faithful is one without anybody of a group that "
    f"makes up {LOST_GROUP:.0%} of the real rows.",
    f"An attribute that has nothing to do with the other columns (AUC up to {UNRELATED:g}, real at least "
    f"{READABLE:g}) calls for care.",
    f"It is not private, whatever else, when {MOSTLY_COPIES:g} of its rows are copies beyond chance.",
)

#: The ratio that is judged for each criterion.
RATIO_OF = {
    "demographic_parity": "dpr",
    "equalized_odds": "eor",
    "equal_opportunity": "equal_opportunity_ratio",
}


@dataclass(frozen=True)
class Reason:
    """One step of the verdict: what was seen, how it counts, by which rule, from which metric."""

    level: Level
    text: str
    rule: str = ""
    metric: str = ""

    @property
    def word(self) -> str:
        """The level in a word, so that no color is needed to read it."""
        return {"good": "Good", "caution": "With care", "poor": "Poor", "info": "Note"}.get(
            self.level, "Not measured"
        )


@dataclass(frozen=True)
class Answer:
    """The answer to one of the four questions; its level is that of its worst reason."""

    question: Question
    level: Level
    reasons: tuple[Reason, ...]

    @property
    def word(self) -> str:
        """The answer in a word or two, so that no color is needed to read it."""
        return WORDS[self.level]

    @property
    def asked(self) -> str:
        """The question in full."""
        return QUESTIONS[self.question]


@dataclass(frozen=True)
class TableVerdict:
    """The four answers for one synthetic table.

    Attributes
    ----------
    source : str
        ``"synthetic"`` or ``"synthetic:NAME"``.
    answers : tuple of Answer
        Fair, useful, faithful, private, in this order.
    disguises : tuple of Reason
        Ways in which good numbers of this table deceive: a model that decides nothing, parity in
        the table alone, copied rows, one row over and over, groups that are absent or changed places.
    """

    source: str
    answers: tuple[Answer, ...]
    disguises: tuple[Reason, ...]

    def answer(self, question: Question) -> Answer:
        """Return the answer to one question."""
        return next(a for a in self.answers if a.question == question)

    @property
    def name(self) -> str:
        """Name of the table for the reader."""
        return source_label(self.source)

    @property
    def level(self) -> Level:
        """The worst of the four levels; never better than unknown when a question stays open."""
        levels = [a.level for a in self.answers]
        worst = min(levels, key=_SEVERITY.__getitem__)
        return "unknown" if worst == "good" and "unknown" in levels else worst

    @property
    def word(self) -> str:
        """The overall level in a word or two."""
        return {"good": "Fit for release", "caution": "Usable with care", "poor": "Not fit for release"}.get(
            self.level, "Not fully measured"
        )

    @property
    def headline(self) -> str:
        """The verdict in one sentence."""
        by_level: dict[Level, list[str]] = {}
        for answer in self.answers:
            by_level.setdefault(answer.level, []).append(answer.question)
        if self.disguises:
            return self.disguises[0].text
        if poor := by_level.get("poor"):
            return f"Measured against the limits below, it is not {_listed(poor, 'or')} enough."
        if care := by_level.get("caution"):
            return f"Look closely at whether it is {_listed(care, 'and')} enough for what you need it for."
        if unknown := by_level.get("unknown"):
            return f"Good as far as it was measured; whether it is {_listed(unknown, 'and')} was not."
        return "As far as it was measured, it is fair, useful, faithful and private."


@dataclass(frozen=True)
class Verdict:
    """The verdict on every synthetic table of an evaluation.

    Attributes
    ----------
    tables : tuple of TableVerdict
        One for each synthetic source.
    criterion : str
        The criterion that fairness was judged by.
    criterion_given : bool
        False when the evaluation does not say what was asked for and demographic parity was taken.
    """

    tables: tuple[TableVerdict, ...]
    criterion: str
    criterion_given: bool

    def table(self, source: str) -> TableVerdict:
        """Return the verdict on one source."""
        return next(t for t in self.tables if t.source == source)


def verdict(evaluation: Evaluation | Findings) -> Verdict:
    """Judge every synthetic table of an evaluation.

    Parameters
    ----------
    evaluation : Evaluation
        Scores and meta; ``meta["criterion"]`` (or that of ``meta["fairness"]`` or
        ``meta["generator"]``) decides which ratio is judged; demographic parity when it is not said.

    Returns
    -------
    Verdict
        One `TableVerdict` for each source ``"synthetic"`` or ``"synthetic:NAME"``.
    """
    from fairsynth.report import rules

    found = evaluation if isinstance(evaluation, Findings) else Findings(evaluation)
    asked = found.wanted.get("criterion")
    criterion = asked if asked in RATIO_OF else "demographic_parity"
    tables = []
    for source in found.synthetic_sources:
        nothing = rules.decides_nothing(found, source)
        hollow_model = nothing is not None and nothing.level == "poor"
        hollow = rules.hollow_parity(found, source, RATIO_OF[criterion])
        repeats = rules.repeats_itself(found, source)
        lost = rules.lost_groups(found, source)
        copies = rules.copied_rows(found, source)
        swapped = rules.swapped_groups(found, source)
        unrelated = rules.unrelated_attribute(found, source)
        answers = (
            _answer("fair", [nothing, lost, hollow, *rules.fair(found, source, RATIO_OF[criterion])]),
            _answer("useful", [nothing if hollow_model else None, *rules.useful(found, source)]),
            _answer("faithful", [repeats, lost, swapped, unrelated, *rules.faithful(found, source)]),
            _answer("private", [copies, *rules.private(found, source)]),
        )
        disguises = tuple(
            r for r in (copies, repeats, nothing, lost, swapped, hollow) if r and r.level == "poor"
        )
        tables.append(TableVerdict(source, answers, disguises))
    return Verdict(tuple(tables), criterion, asked in RATIO_OF)


def _answer(question: Question, reasons: list[Reason | None]) -> Answer:
    ordered = tuple(sorted((r for r in reasons if r), key=lambda r: _SEVERITY[r.level]))
    judged = [r.level for r in ordered if r.level in ("good", "caution", "poor")]
    return Answer(question, judged[0] if judged else "unknown", ordered)


def _listed(words: list[str], last: str) -> str:
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} {last} {words[-1]}"
