"""The plan of a benchmark: a TOML file, read with every mistake named with its line."""

from __future__ import annotations

import json
import re
import tomllib
from pathlib import Path
from typing import Annotated, Any, Literal, get_args

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationError,
    field_validator,
    model_validator,
)

from fairsynth.benchmark.toml_lines import Path as Place
from fairsynth.benchmark.toml_lines import line_of, locate
from fairsynth.errors import SettingsError
from fairsynth.fairness import Criterion

Number = Annotated[float, Field(allow_inf_nan=False)]
Strength = Annotated[float, Field(ge=0, le=1)]
#: Names go into file names, tables and LaTeX.
Name = Annotated[str, Field(min_length=1, max_length=80, pattern=r"^[^\n\t|]*$")]
Word = Literal["quick", "core", "full"]
Downstream = Literal["lightgbm", "logistic_regression", "random_forest"]

#: The row that every leaderboard has: models trained on the real rows, and the constant predictor.
BASELINE = "real"


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


def _listed(value: Any) -> Any:
    return [value] if isinstance(value, str | int | float) and not isinstance(value, bool) else value


Names = Annotated[list[str], BeforeValidator(_listed)]


class Limits(_Strict):
    """What one cell may use.

    Attributes
    ----------
    seconds : float, optional
        Wall clock from the start of its process to its end; it is killed after that.
    memory_gb : float, optional
        Resident memory of its process and what that starts, in 10⁹ bytes.
    gpus : float
        GPUs that a cell asks a Ray cluster for.
    """

    seconds: Annotated[float, Field(gt=0)] | None = None
    memory_gb: Annotated[float, Field(gt=0)] | None = None
    gpus: Annotated[float, Field(ge=0)] = 0.0

    def over(self, under: Limits) -> Limits:
        """Return these limits, completed by those of the plan."""
        return Limits(**(under.model_dump() | self.model_dump(exclude_unset=True)))


class Range(_Strict):
    """Numbers that a search may try.

    Attributes
    ----------
    low, high : int or float
        Both included. Whole numbers are searched if both are whole.
    log : bool
        Whether steps are factors rather than differences.
    """

    low: int | Number
    high: int | Number
    log: bool = False

    @model_validator(mode="after")
    def _check(self) -> Range:
        if not self.low < self.high:
            raise ValueError(f"low = {self.low} must lie below high = {self.high}")
        if self.log and self.low <= 0:
            raise ValueError(f"low = {self.low} must lie above 0 where log is true")
        return self


Choice = bool | int | Number | str | list[int | float | str]
Space = dict[str, Range | Annotated[list[Choice], Field(min_length=2)]]


class Dataset(_Strict):
    """A data set: a name of the catalog, or a file with what its columns mean.

    Attributes
    ----------
    name : str
        Of the catalog (`fairsynth datasets`), or any name for a file of one's own.
    path : str, optional
        The table, relative to the plan: .csv, .csv.gz, .parquet, or a ``duckdb:///`` address.
    test : str, optional
        Test rows in a file of their own. Without it `split` of the rows are the test rows.
    schema_file : str, optional
        A schema as JSON; roles given here win over its own.
    target, favorable, sensitive, domain, identifiers, missing, kinds
        As of `fairsynth.Table`. Those of the catalog's data sets are known; `sensitive` may choose others.
    split, split_seed
        Share of the rows that is tested on, and the seed of that choice.
    catalog : str, optional
        Name of the catalog, where `name` is to be another one: the same data may stand in a plan several times.
    unseen : str, optional
        Level of the domain column that is left out of training, and whose people alone are tested on.
    """

    name: Name
    catalog: Name | None = None
    unseen: str | None = None
    path: str | None = None
    test: str | None = None
    schema_file: str | None = None
    target: str | None = None
    favorable: list[str | int | float | bool] | str | int | float | bool | None = None
    sensitive: Names | dict[str, list[float] | None] | None = None
    domain: str | None = None
    identifiers: Names | None = None
    missing: Names | None = None
    kinds: dict[str, str | dict[str, Any]] | None = None
    split: Annotated[float, Field(gt=0, lt=1)] = 0.3
    split_seed: Annotated[int, Field(ge=0)] = 0

    @model_validator(mode="after")
    def _check(self) -> Dataset:
        if self.path is None:
            own = {"name", "sensitive", "catalog", "unseen"}
            if extra := sorted(self.model_fields_set - own):
                raise ValueError(
                    f'{extra[0]} is only for a file of one\'s own; give path = "...", or leave it out'
                )
        elif self.catalog is not None:
            raise ValueError("catalog and path are both given; keep one")
        elif self.schema_file is None and (self.target is None or not self.sensitive):
            lacking = "target" if self.target is None else "sensitive"
            raise ValueError(f"a file of one's own needs {lacking} (or a schema_file that has it)")
        return self


class Model(_Strict):
    """A method with its settings.

    Attributes
    ----------
    name : str
        Of `fairsynth models`, of a mitigator, or of another package's entry point.
    label : str
        How the leaderboard calls it; the name by default. The same method may stand in a plan with several labels.
    settings : dict
        Hyper-parameters.
    search : bool or dict
        Hyper-parameters that are searched, with their ranges; true for the space that the method declares.
    criteria, strengths : list, optional
        Instead of the plan's.
    limits : Limits
        Instead of the plan's, one by one.
    """

    name: Name
    label: Name = ""
    settings: dict[str, Any] = Field(default_factory=dict)
    search: bool | Space = False
    criteria: Annotated[list[Criterion], Field(min_length=1)] | None = None
    strengths: Annotated[list[Strength], Field(min_length=1)] | None = None
    limits: Limits = Field(default_factory=Limits)

    @model_validator(mode="after")
    def _check(self) -> Model:
        if self.name == BASELINE:
            raise ValueError(f'"{BASELINE}" is in every leaderboard and needs no entry')
        if isinstance(self.search, dict) and (twice := sorted(set(self.search) & set(self.settings))):
            raise ValueError(f"{twice[0]} is both set and searched; give it once")
        return self

    @property
    def title(self) -> str:
        """The label, or the name where none was given."""
        return self.label or self.name


_OBJECTIVE = re.compile(r"^(max|min)\s+(\w+)(?:\s+where\s+(.+))?$")
_BOUND = re.compile(r"^(\w+)\s*(>=|<=)\s*(-?\d*\.?\d+(?:e-?\d+)?)$")


class Objective(_Strict):
    """What a search looks for: ``max auroc where dpr >= 0.9 and coverage >= 0.8``.

    Attributes
    ----------
    metric : str
        What is to be best.
    maximize : bool
        Whether more is better.
    bounds : tuple of (str, str, float)
        Metric, ``">="`` or ``"<="``, number.
    """

    metric: str
    maximize: bool
    bounds: tuple[tuple[str, str, float], ...] = ()

    @classmethod
    def parse(cls, text: str) -> Objective:
        """Read the words.

        Raises
        ------
        ValueError
            If they are not of that form.
        """
        found = _OBJECTIVE.match(" ".join(text.split()))
        form = '"max METRIC where METRIC >= NUMBER and METRIC <= NUMBER"'
        if not found:
            raise ValueError(f"{text!r} is not of the form {form}")
        bounds = []
        for part in found[3].split(" and ") if found[3] else ():
            bound = _BOUND.match(part.strip())
            if not bound:
                raise ValueError(f"{part.strip()!r} is no bound; the form is {form}")
            bounds.append((bound[1], bound[2], float(bound[3])))
        return cls(metric=found[2], maximize=found[1] == "max", bounds=tuple(bounds))


class Search(_Strict):
    """How hyper-parameters are searched; the test rows have no part in it.

    Attributes
    ----------
    trials : int
        Settings that are tried for every cell of a model that has a space.
    objective : str
        Over the validation rows, as of `Objective`.
    validation : float
        Share of the train rows that is held back to judge by.
    """

    trials: Annotated[int, Field(ge=1, le=10_000)] = 20
    objective: str = "max auroc where dpr >= 0.8"
    validation: Annotated[float, Field(gt=0, lt=1)] = 0.25

    @field_validator("objective")
    @classmethod
    def _check(cls, text: str) -> str:
        Objective.parse(text)
        return text


def _seeds(value: Any) -> Any:
    return (
        list(range(value)) if isinstance(value, int) and not isinstance(value, bool) and value > 0 else value
    )


def _named(value: Any) -> Any:
    if not isinstance(value, list):
        return value
    return [{"name": item} if isinstance(item, str) else item for item in value]


class Plan(_Strict):
    """What is to be measured.

    Attributes
    ----------
    name : str
        Heading of the leaderboard.
    datasets, models
        Names, or tables with more about them.
    seeds : list of int
        A number n means 0 … n-1.
    criteria, strengths
        Asked of every method that knows them.
    depth : {"quick", "core", "full"}
        Of the evaluation.
    downstream : list of str
        Models that are trained on the synthetic rows.
    metrics : list of str
        Metrics of other packages that are measured as well (entry point group ``fairsynth.metrics``).
    reports : bool
        Whether every cell gets its HTML report.
    limits, search
        For all models.
    """

    name: Name = "Benchmark"
    datasets: Annotated[list[Dataset], BeforeValidator(_named), Field(min_length=1)]
    models: Annotated[list[Model], BeforeValidator(_named), Field(min_length=1)]
    seeds: Annotated[list[Annotated[int, Field(ge=0)]], BeforeValidator(_seeds), Field(min_length=1)] = Field(
        default_factory=lambda: [0, 1, 2]
    )
    criteria: Annotated[list[Criterion], Field(min_length=1)] = Field(default=["demographic_parity"])
    strengths: Annotated[list[Strength], Field(min_length=1)] = Field(default_factory=lambda: [1.0])
    depth: Word = "quick"
    downstream: Annotated[list[Downstream], Field(min_length=1)] = Field(
        default_factory=lambda: list(get_args(Downstream))
    )
    metrics: list[Name] = Field(default_factory=list)
    reports: bool = True
    limits: Limits = Field(default_factory=Limits)
    search: Search = Field(default_factory=Search)


def read_plan(path: str | Path) -> Plan:
    """Read and check a plan.

    Parameters
    ----------
    path : str or Path
        A TOML file; see ``docs/guide/benchmark.md``. Paths in it are relative to its folder.

    Returns
    -------
    Plan
        Paths of data made absolute. Whether methods and their settings exist is found out when the plan is run, by
        `fairsynth.benchmark.methods.check`, because that has to import them.

    Raises
    ------
    SettingsError
        Naming every mistake with its line.
    """
    path = Path(path)
    try:
        text = path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise SettingsError(f"{path}: no UTF-8 text: {error.reason} at byte {error.start}.") from error
    return parse_plan(text, path)


def parse_plan(text: str, path: Path) -> Plan:
    """Read a plan's text; `path` is what it is called in errors, and where paths in it begin."""
    try:
        given = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise SettingsError(f"{path}: no TOML: {error}.") from error
    mistakes = Mistakes(text, path)
    plan: Plan | None = None
    try:
        plan = Plan.model_validate(given)
    except ValidationError as error:
        for where, problem in _problems(given, error.errors()):
            mistakes.add(where, _told(problem, where))
    else:
        _twice(plan, mistakes)
    mistakes.tell()
    assert plan is not None
    return _rooted(plan, path.resolve().parent)


class Mistakes:
    """Collects what is wrong with a plan, and tells it all at once, in the order of the lines."""

    def __init__(self, text: str, path: Path) -> None:
        self._lines, self._path = locate(text), path
        self._found: list[tuple[int, str]] = []

    def add(self, where: tuple[str | int, ...], what: str) -> None:
        """Note a mistake at the path of a key."""
        told = (line_of(self._lines, where), f"{_dotted(where)}: {what}" if where else what)
        if told not in self._found:
            self._found.append(told)

    def tell(self) -> None:
        """Raise if there are any.

        Raises
        ------
        SettingsError
            One line for each.
        """
        if self._found:
            told = "; ".join(f"line {line}: {what}" for line, what in sorted(self._found))
            raise SettingsError(f"{self._path}: {told}.")


def _dotted(where: tuple[str | int, ...]) -> str:
    text = ""
    for part in where:
        text += f"[{part + 1}]" if isinstance(part, int) else f".{part}" if text else part
    return text


def _problems(given: Any, errors: list[Any]) -> list[tuple[Place, Any]]:
    """Return what pydantic found, with the keys of the file where it stands.

    Where a value may be one of several things, pydantic tells what is wrong with it as each of them; only what was
    meant is of use: the branch that could be followed furthest, or that a check of ours has refused.
    """
    plain: list[tuple[Place, Any]] = []
    branched: dict[Place, list[tuple[Place, Any]]] = {}
    for error in errors:
        where, union = _place(given, error)
        if union is None:
            plain.append((where, error))
        else:
            branched.setdefault(union, []).append((where, error))
    for found in branched.values():
        ours = [pair for pair in found if pair[1]["type"] == "value_error"]
        furthest = max(len(where) for where, _ in found)
        plain += (ours or [pair for pair in found if len(pair[0]) == furthest])[:1]
    return plain


def _place(given: Any, error: Any) -> tuple[Place, Place | None]:
    """Return the path of an error in the file, and that of the value that may be several things, if there is one."""
    node: Any = given
    where: list[str | int] = []
    union: Place | None = None
    for i, part in enumerate(error["loc"]):
        last = i == len(error["loc"]) - 1
        inside = part in node if isinstance(node, dict) else False
        if isinstance(node, list) and isinstance(part, int):
            inside = part < len(node)
        if inside:
            node = node[part]
        elif last and error["type"] == "missing":
            node = None
        else:  # no key of the file, but the name of a branch
            union = union if union is not None else tuple(where)
            continue
        where.append(part)
    return tuple(where), union


def _told(problem: Any, where: tuple[str | int, ...]) -> str:
    kind, message = problem["type"], problem["msg"]
    if kind == "extra_forbidden":
        return f"there is no such key; known are {', '.join(_known(where))}"
    if kind == "missing":
        return "is missing"
    message = message.removeprefix("Value error, ")
    value = problem.get("input")
    shown = (
        ""
        if isinstance(value, dict) or kind == "value_error"
        else f" (given: {json.dumps(value, default=str)})"
    )
    return message[:1].lower() + message[1:] + shown


def _known(where: tuple[str | int, ...]) -> list[str]:
    words = [part for part in where if isinstance(part, str)]
    owners: dict[str, type[BaseModel]] = {
        "datasets": Dataset, "models": Model, "limits": Limits, "search": Search,
    }  # fmt: skip
    owner: type[BaseModel] = Plan
    for word in words[:-1]:
        owner = Range if owner is Model and word == "search" else owners.get(word, owner)
    return list(owner.model_fields)


def _twice(plan: Plan, mistakes: Mistakes) -> None:
    lists: tuple[tuple[str, list[Any]], ...] = (
        ("datasets", [d.name for d in plan.datasets]),
        ("models", [m.title for m in plan.models]),
        ("seeds", plan.seeds),
        ("criteria", list(plan.criteria)),
        ("strengths", plan.strengths),
        ("downstream", list(plan.downstream)),
        ("metrics", plan.metrics),
    )
    for key, values in lists:
        for i, value in enumerate(values):
            if value in values[:i]:
                remedies = {
                    "models": "; give one a label",
                    "datasets": "; give one another name, and catalog",
                }
                remedy = remedies.get(key, "")
                mistakes.add((key, i), f"{value!r} stands here twice{remedy}")


def _rooted(plan: Plan, folder: Path) -> Plan:
    """Make paths of data absolute, so that a process anywhere on the machine finds them."""

    def absolute(text: str | None) -> str | None:
        return text if text is None or "://" in text else str((folder / text).resolve())

    changed = [
        d.model_copy(update={key: absolute(getattr(d, key)) for key in ("path", "test", "schema_file")})
        for d in plan.datasets
    ]
    return plan.model_copy(update={"datasets": changed})
