"""The methods of a plan: generators, mitigators, and those of other packages; their settings, checked."""

from __future__ import annotations

import hashlib
import inspect
import json
from dataclasses import dataclass
from functools import cache
from importlib.metadata import entry_points
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal, get_type_hints

import fairsynth
from fairsynth.benchmark.plan import Mistakes, Model, Objective, Plan, Range
from fairsynth.errors import FairsynthError, SettingsError
from fairsynth.fairness import Fairness

Kind = Literal["generator", "mitigator"]
#: What a plan says in its own words, so that it is no setting.
_NOT_SETTINGS = {"self", "fairness", "seed"}
#: Packages and modules of this one that decide no number.
_WITHOUT_EFFECT = {"benchmark", "cli", "report"}


@dataclass(frozen=True)
class Method:
    """What has to be known of a method to lay out its cells.

    Attributes
    ----------
    kind : {"generator", "mitigator"}
        What it makes: rows or decisions.
    criteria : tuple of str
        That it can be asked for; empty if it has no such notion.
    dial : bool
        Whether the strength is a dial, or only on and off.
    """

    kind: Kind
    criteria: tuple[str, ...]
    dial: bool


def method_class(name: str) -> tuple[Kind, type[Any]]:
    """Return the class of a generator or mitigator.

    Raises
    ------
    SettingsError
        If there is none of that name, or another package's cannot be imported.
    """
    from fairsynth.generators.registry import get_generator_class, list_generators
    from fairsynth.mitigators.registry import get_mitigator_class, list_mitigators

    if name in list_generators():
        try:
            found: Any = get_generator_class(name)
        except FairsynthError:
            raise
        except Exception as error:  # anything at all may be wrong with another package
            raise SettingsError(
                f"the method {name!r} cannot be imported: {type(error).__name__}: {error}"
            ) from error
        if not isinstance(found, type) or not hasattr(found, "capabilities"):
            raise SettingsError(
                f"the entry point {name!r} is no class with capabilities; derive it from fairsynth's Generator"
            )
        from fairsynth.mitigators.base import Mitigator

        return ("mitigator" if issubclass(found, Mitigator) else "generator"), found
    if name in list_mitigators():
        return "mitigator", get_mitigator_class(name)
    known = ", ".join([*list_generators(), *(m for m in list_mitigators() if m != "constant")])
    raise SettingsError(f"there is no method {name!r}; there are {known}")


def describe(name: str) -> Method:
    """Return what has to be known of a method; see `method_class`."""
    kind, found = method_class(name)
    can = found.capabilities
    asks = "fairness" in inspect.signature(found).parameters
    return Method(kind, tuple(can.criteria) if asks else (), bool(getattr(can, "strength", True)))


def typed(found: type[Any], settings: dict[str, Any]) -> dict[str, Any]:
    """Read settings of a plan in the types that the method's ``__init__`` declares: arrays become tuples, and so on.

    Raises
    ------
    SettingsError
        Naming the first setting that the method does not have, or that is of another type.
    """
    from pydantic import PydanticSchemaGenerationError, TypeAdapter, ValidationError

    known = known_settings(found)
    hints = get_type_hints(found.__init__)
    out = {}
    for name, value in settings.items():
        if name not in known:
            told = ", ".join(sorted(known)) or "none"
            raise SettingsError(f"{name}: {found.__name__} has no such setting; it has {told}")
        try:
            reader = TypeAdapter(hints.get(name, Any))
            out[name] = reader.validate_json(json.dumps(value), strict=True)
        except PydanticSchemaGenerationError:
            raise SettingsError(f"{name}: this setting can only be given in Python") from None
        except (TypeError, ValidationError) as error:
            reason = error.errors()[0]["msg"] if isinstance(error, ValidationError) else str(error)
            raise SettingsError(f"{name} = {json.dumps(value, default=str)}: {reason}") from None
    return out


def known_settings(found: type[Any]) -> set[str]:
    """Return the names of a method's settings, without its fairness and seed."""
    return set(inspect.signature(found).parameters) - _NOT_SETTINGS


def build(
    name: str, settings: dict[str, Any], criterion: str | None, strength: float | None, seed: int
) -> Any:
    """Return a method with its settings, not fitted."""
    _, found = method_class(name)
    chosen = typed(found, settings)
    if criterion is not None:
        chosen["fairness"] = Fairness(criterion, 1.0 if strength is None else strength)  # type: ignore[arg-type]
    if "seed" in inspect.signature(found).parameters:
        chosen["seed"] = seed
    return found(**chosen)


def space_of(model: Model, found: type[Any]) -> dict[str, Any] | None:
    """Return the space that is searched for a model: its plan's, or the one that the method declares.

    Raises
    ------
    SettingsError
        If the method declares none.
    """
    if model.search is False:
        return None
    if isinstance(model.search, dict):
        return {
            name: values.model_dump() if isinstance(values, Range) else list(values)
            for name, values in model.search.items()
        }
    from fairsynth.benchmark.spaces import declared_space

    return {k: v for k, v in declared_space(model.name, found).items() if k not in model.settings}


def check(plan: Plan, text: str, path: Path) -> dict[str, Method]:
    """Look for every method, setting, criterion and metric that a plan names.

    Returns
    -------
    dict of str to Method
        By the methods' names.

    Raises
    ------
    SettingsError
        Naming every mistake with its line.
    """
    from fairsynth.benchmark.own_metrics import get_metric

    mistakes, methods = Mistakes(text, path), {}
    for i, model in enumerate(plan.models):
        try:
            _, found = method_class(model.name)
        except FairsynthError as error:
            mistakes.add(("models", i, "name"), str(error).rstrip("."))
            continue
        methods[model.name] = described = describe(model.name)
        for name, value in model.settings.items():
            try:
                typed(found, {name: value})
            except SettingsError as error:
                mistakes.add(("models", i, "settings", name), str(error))
        for criterion in model.criteria or ():
            if criterion not in described.criteria:
                told = ", ".join(described.criteria) or "none"
                mistakes.add(
                    ("models", i, "criteria"),
                    f"{model.name} cannot be asked for {criterion}; it knows {told}",
                )
        _check_space(i, model, found, mistakes)
    for i, name in enumerate(plan.metrics):
        try:
            get_metric(name)
        except FairsynthError as error:
            mistakes.add(("metrics", i), str(error).rstrip("."))
    Objective.parse(plan.search.objective)
    mistakes.tell()
    return methods


def _check_space(i: int, model: Model, found: type[Any], mistakes: Mistakes) -> None:
    try:
        space = space_of(model, found) or {}
    except SettingsError as error:
        mistakes.add(("models", i, "search"), str(error))
        return
    for name, values in space.items():
        tried = values if isinstance(values, list) else [values["low"], values["high"]]
        for value in tried:
            try:
                typed(found, {name: value})
            except SettingsError as error:
                mistakes.add(("models", i, "search", name), str(error))
                break


def code_version(names: tuple[str, ...] = ()) -> str:
    """Return what identifies the code that a result depends on.

    Parameters
    ----------
    names : tuple of str
        Methods or metrics of other packages, whose code counts as well.

    Returns
    -------
    str
        ``"0.1.0+1f0c…"``: the version, and a digest of the sources that decide numbers (not of the command line, the
        benchmark and the report).
    """
    digest = hashlib.sha256(_own_code().encode())
    for name in names:
        digest.update(_foreign_code(name).encode())
    return f"{fairsynth.__version__}+{digest.hexdigest()[:16]}"


@cache
def _own_code() -> str:
    root = Path(fairsynth.__file__).parent
    digest = hashlib.sha256()
    for file in sorted(root.rglob("*.py")):
        place = file.relative_to(root)
        if place.parts[0] not in _WITHOUT_EFFECT:
            digest.update(place.as_posix().encode() + b"\0" + file.read_bytes())
    return digest.hexdigest()


def _foreign_code(name: str) -> str:
    """Return version and digest of the module that brings a method or metric, or nothing for our own."""
    for group in ("fairsynth.generators", "fairsynth.metrics"):
        for point in entry_points(group=group):
            if point.name == name:
                version = f"{point.dist.name} {point.dist.version}" if point.dist is not None else ""
                try:
                    spec = find_spec(point.module)
                except (ImportError, ValueError):
                    spec = None
                source = Path(spec.origin) if spec is not None and spec.origin else None
                body = source.read_bytes() if source is not None and source.is_file() else b""
                return f"{point.value} {version} {hashlib.sha256(body).hexdigest()}"
    return ""
