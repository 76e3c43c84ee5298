"""The points of a sweep: an experiment with some of its fields replaced, each named by a dotted path.

"training.optimizer.lr" enters declared objects field by field and mappings ("head.sizes.layers") key by key. A value
may be a number, a text or a declared object, such as the rules of "aggregation".
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, fields, is_dataclass, replace
from itertools import product
from pathlib import Path
from types import UnionType
from typing import Any, Union, get_args, get_origin, get_type_hints

import numpy as np
import tomlkit
import tomlkit.exceptions

from .errors import CircuitError, ConfigurationError, DataError, MissingExtraError, nearest
from .experiment import Experiment
from .kinds import build, kind_of, resolve, to_table

Label = bool | int | float | str | None


@dataclass(frozen=True)
class Point:
    """One place of a sweep: what is swept, by path, as numbers and texts; and the experiment there."""

    values: dict[str, Label]
    experiment: Experiment

    @property
    def name(self) -> str:
        """The values in one line."""
        return ", ".join(f"{path}={value}" for path, value in self.values.items())


def moved(experiment: Experiment, path: str, value: Any) -> Experiment:
    """Return the experiment with the field at `path` replaced by `value`, everything else as it was.

    Raises `ConfigurationError` for a path that leads nowhere, with the nearest that does, and for a value that the
    field refuses.
    """
    result: Experiment = _replaced(experiment, path.split("."), value, path, experiment)
    return result


def _replaced(piece: Any, keys: Sequence[str], value: Any, path: str, whole: Experiment) -> Any:
    key, *rest = keys
    if isinstance(piece, Mapping):
        if rest:
            value = _replaced(piece.get(key), rest, value, path, whole)
        return {**piece, key: value}
    known = [field.name for field in fields(piece)] if is_dataclass(piece) else []
    if key not in known:
        has = f"{type(piece).__name__} has no field '{key}'" if known else f"{piece!r:.60} has no fields"
        raise ConfigurationError(f"'{path}': {has}{_meant(path, whole)}")
    if rest:
        inner = getattr(piece, key)
        if inner is None and _is_mapping(get_type_hints(type(piece))[key]):
            inner = {}
        value = _replaced(inner, rest, value, path, whole)
    return replace(piece, **{key: value})


def _is_mapping(hint: Any) -> bool:
    kinds = get_args(hint) if get_origin(hint) in (Union, UnionType) else (hint,)
    return any(get_origin(kind) in (dict, Mapping) for kind in kinds)


def _meant(path: str, experiment: Experiment) -> str:
    """Return the path that may have been meant: one that ends alike, or else the most similar."""
    known = [*_paths(experiment)]
    alike = [other for other in known if other.rpartition(".")[2] == path.rpartition(".")[2]]
    if alike:
        return nearest(path, alike) or f" (did you mean '{alike[0]}'?)"
    return nearest(path, known) or f"; fields are {', '.join(field.name for field in fields(experiment))}"


def _paths(piece: Any, before: str = "") -> Iterator[str]:
    """Yield the paths of all fields inside `piece`."""
    names: list[str] = [*piece] if isinstance(piece, Mapping) else [field.name for field in fields(piece)]
    for name in names:
        inner = piece[name] if isinstance(piece, Mapping) else getattr(piece, name)
        yield before + name
        if is_dataclass(inner) or isinstance(inner, Mapping):
            yield from _paths(inner, f"{before}{name}.")


def grid_points(experiment: Experiment, grid: Mapping[str, Sequence[Any]]) -> list[Point]:
    """Return a point for every combination of a grid's values, the last path running fastest.

    Raises one `ConfigurationError` for all that is wrong with the grid: nothing to vary, paths that lead nowhere,
    values that a field refuses.
    """
    axes = {path: listed(path, values) for path, values in grid.items()}
    if not axes:
        raise ConfigurationError('the grid is empty: give it paths and values, {"training.optimizer.lr": [0.01, 0.1]}')
    wrong = [line for path, values in axes.items() for value in values for line in refusal(experiment, path, value)]
    if wrong:
        raise ConfigurationError(dict.fromkeys(wrong))
    every = product(*(zip(values, named(values), strict=True) for values in axes.values()))
    return [at(experiment, dict(zip(axes, combination, strict=True))) for combination in every]


def check_distinct(points: Sequence[Point]) -> None:
    """Raise `ConfigurationError` where two points are the same experiment."""
    seen: dict[str, str] = {}
    for point in points:
        if twin := seen.get(point.experiment.identity):
            raise ConfigurationError(f"the points {twin} and {point.name} are the same experiment: leave one out")
        seen[point.experiment.identity] = point.name


def at(experiment: Experiment, chosen: Mapping[str, tuple[Any, Label]]) -> Point:
    """Return the point with these values, each with its label, by path."""
    for path, (value, _) in chosen.items():
        experiment = moved(experiment, path, value)
    return Point({path: text for path, (_, text) in chosen.items()}, experiment)


def listed(path: str, values: Any) -> list[Any]:
    """Return the values of one path as a list of Python's own numbers, texts and objects."""
    if isinstance(values, str | bytes | Mapping) or not hasattr(values, "__iter__"):
        raise ConfigurationError(f"'{path}': expected a list of values, such as [0.01, 0.1]; got {values!r:.60}")
    found = [value.item() if isinstance(value, np.generic) else value for value in values]
    if not found:
        raise ConfigurationError(f"'{path}': expected at least one value; got an empty list")
    if path.partition(".")[0] in ("seed", "name"):
        raise ConfigurationError(
            f"'{path}' is not swept: seeds=5 runs every point on five seeds, and names change nothing"
        )
    return found


def refusal(experiment: Experiment, path: str, value: Any) -> list[str]:
    """Return why a field cannot have a value, one line for each mistake; none where it can."""
    try:
        moved(experiment, path, value)
    except ConfigurationError as error:
        return [line if line.startswith(f"'{path}'") else f"{path}={label(value)}: {line}" for line in error.problems]
    return []


def check(points: Sequence[Point]) -> None:
    """Raise one `ConfigurationError` that names every point which cannot run and says why; see `Experiment.check`."""
    wrong = []
    for point in points:
        try:
            point.experiment.check()
        except (ConfigurationError, CircuitError, DataError, MissingExtraError) as error:
            wrong.append(f"{point.name}: {error}")
    if wrong:
        raise ConfigurationError(wrong)


def named(values: Sequence[Any]) -> list[Label]:
    """Return a label for each value, numbered where two would read alike."""
    labels = [label(value) for value in values]
    return [
        f"{text} #{labels[:i].count(text) + 1}" if isinstance(text, str) and labels.count(text) > 1 else text
        for i, text in enumerate(labels)
    ]


def label(value: Any) -> Label:
    """Return numbers and texts as they are, and an object as its name with what is not its default."""
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if is_dataclass(value) and not isinstance(value, type):
        try:
            default = type(value)()
        except (ConfigurationError, TypeError):
            default = None
        parts = [(field.name, getattr(value, field.name)) for field in fields(value)]
        shown = [f"{k}={label(v)}" for k, v in parts if default is None or v != getattr(default, k)]
        return f"{type(value).__name__}({', '.join(shown)})"
    return str(getattr(value, "__name__", None) or f"{value!s:.60}")


def axis_of(text: str, base: Path) -> tuple[str, list[Any]]:
    """Return path and values of "a.b=1,2,3", values in TOML's notation, bare words being texts.

    A table with a kind, {kind="Krum", f=1}, is an object; relative paths in it start from `base`.
    """
    path, equals, values = text.partition("=")
    if not (path.strip() and equals):
        raise ConfigurationError(f"--grid {text!r}: expected a.b=1,2,3, such as training.optimizer.lr=0.01,0.1")
    try:
        found = tomlkit.parse(f"value = [{values}]").unwrap()["value"]
    except tomlkit.exceptions.ParseError:
        found = [_word(word.strip()) for word in values.split(",") if word.strip()]
    return path.strip(), [_object(value, path.strip(), base) for value in found]


def _word(word: str) -> Any:
    try:
        return tomlkit.parse(f"value = {word}").unwrap()["value"]
    except tomlkit.exceptions.ParseError:
        return word


def _object(value: Any, path: str, base: Path) -> Any:
    if not isinstance(value, dict) or "kind" not in value:
        return value
    problems: list[str] = []
    built = build(resolve(str(value["kind"])), {k: v for k, v in value.items() if k != "kind"}, path, base, problems)
    if problems:
        raise ConfigurationError(problems)
    return built


def axis_text(path: str, values: Sequence[Any]) -> str | None:
    """Return what `axis_of` reads as this path and these values; None where TOML cannot hold them."""
    try:
        plain = [{"kind": kind_of(v)} | to_table(v) if is_dataclass(v) else v for v in values]
        return f"{path}={','.join(_inline(value) for value in plain)}"
    except (ConfigurationError, TypeError, ValueError):
        return None


def _inline(value: Any) -> str:
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{tomlkit.key(k).as_string()} = {_inline(v)}" for k, v in value.items()) + "}"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(map(_inline, value)) + "]"
    return str(tomlkit.item(value).as_string())
