"""Declarations: the frozen, validated values an experiment is made of.

`@declared` turns a class with annotated fields into a frozen pydantic dataclass that refuses unknown fields and wrong
types when it is constructed, with one line per mistake and the nearest known name. It is stricter than pydantic in two
ways: True and "3" are not numbers, and a class is not an object of that class. A declaration holds no state and does no
work; the class that carries it out sits in the same file.
"""

from collections.abc import Callable, Mapping
from dataclasses import fields
from functools import wraps
from types import UnionType
from typing import (
    Annotated,
    Any,
    Protocol,
    TypeVar,
    Union,
    dataclass_transform,
    get_args,
    get_origin,
    runtime_checkable,
)

import pydantic
from pydantic.dataclasses import dataclass as pydantic_dataclass

from .errors import ConfigurationError, nearest

T = TypeVar("T")


@runtime_checkable
class Checkable(Protocol):
    """A declaration that can say before a run, without loading anything large, what would stop it later."""

    def check(self) -> None:
        """Raise a `QfedfmError` for what is known to be wrong; `Experiment.check` asks every piece."""
        ...


@dataclass_transform(frozen_default=True)
def declared(cls: type[T]) -> type[T]:
    """Make `cls` a frozen, validated dataclass whose mistakes are `ConfigurationError`s."""
    config = pydantic.ConfigDict(extra="forbid", arbitrary_types_allowed=True, validate_default=True)
    made: Any = pydantic_dataclass(cls, frozen=True, config=config)
    validate: Callable[..., None] = made.__init__
    names = [field.name for field in fields(made)]

    @wraps(validate)
    def __init__(self: Any, *args: Any, **kwargs: Any) -> None:  # noqa: N807
        hints = {name: field.annotation for name, field in made.__pydantic_fields__.items()}
        named = {name: _strict(hints[name], value) for name, value in zip(names, args, strict=False)}
        rest = {name: _strict(hints.get(name), value) for name, value in kwargs.items()}
        try:
            validate(self, *named.values(), *args[len(names) :], **rest)
        except pydantic.ValidationError as error:
            raise ConfigurationError(problems(made, error, named | rest)) from None

    made.__init__ = __init__
    return made  # type: ignore[no-any-return]


def problems(cls: type, error: pydantic.ValidationError, given: Mapping[str, Any]) -> list[str]:
    """Return one line for each mistake that pydantic found in a declaration of `cls`; given: its fields, as given."""
    known = [field.name for field in fields(cls)]
    lines: list[str] = []
    refused: dict[str, tuple[list[str], Any]] = {}  # what each type of a union says of one value belongs together
    for item in error.errors():
        where = _place(item["loc"], known, given)
        if item["type"] == "unexpected_keyword_argument":
            has = ", ".join(known) or "none"
            lines.append(f"{cls.__name__} has no field '{where}'{nearest(where, known)}; it has {has}")
        elif item["type"] == "missing":
            lines.append(f"{cls.__name__} needs '{where}'")
        elif item["type"] == "value_error":
            inner = item["ctx"]["error"]
            text = inner.problems if isinstance(inner, ConfigurationError) else (str(inner),)
            owner = f"{cls.__name__}.{where}" if where else cls.__name__
            lines += [line if line.startswith(cls.__name__) else f"{owner}: {line}" for line in text]
        elif item["type"] == "is_instance_of" and isinstance(item["input"], str):
            wanted = item["ctx"]["class"]
            reason = f'expected an object ({wanted}), such as Name() in Python or {{ kind = "Name" }} in TOML'
            refused.setdefault(where, ([], item["input"]))[0].append(reason)
        else:
            refused.setdefault(where, ([], item["input"]))[0].append(f"{item['msg'][0].lower()}{item['msg'][1:]}")
    for where, (reasons, value) in refused.items():
        reason = value.reason if isinstance(value, _Refused) else f"{', or '.join(reasons)}; got {value!r}"
        lines.append(f"{cls.__name__}.{where}: {reason}")
    return lines


class _Refused:
    """In place of a value that pydantic would convert or overlook: no field takes it, so it is told with the rest."""

    def __init__(self, reason: str) -> None:
        self.reason = reason


def _strict(hint: Any, value: Any) -> Any:
    """Return `value`, or a `_Refused` where it is a class, or True or a text for a number."""
    if isinstance(value, type) and hint is not Any and type not in (hint, get_origin(hint)):
        return _Refused(f"got the class {value.__name__}; write {value.__name__}()")
    union = get_args(hint) if get_origin(hint) in (Union, UnionType) else (hint,)
    kinds = [get_args(kind)[0] if get_origin(kind) is Annotated else kind for kind in union]
    if isinstance(value, bool | str) and type(value) not in kinds and (int in kinds or float in kinds):
        return _Refused(f"input should be a valid {'integer' if int in kinds else 'number'}; got {value!r}")
    return value


def _place(location: tuple[int | str, ...], known: list[str], given: Mapping[str, Any]) -> str:
    """Return where a mistake is, as "sizes.n": without the names that pydantic gives to the types of a union."""
    if not location:
        return ""
    first, *rest = location
    name = known[first] if isinstance(first, int) and first < len(known) else str(first)
    parts, value = [name], given.get(name)
    for part in rest:
        inside = (
            value if isinstance(value, Mapping) else dict(enumerate(value)) if isinstance(value, tuple | list) else {}
        )
        if isinstance(inside, Mapping) and part in inside:
            parts.append(str(part))
            value = inside[part]
    return ".".join(parts)
