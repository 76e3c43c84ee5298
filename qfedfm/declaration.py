"""Declarations: the frozen, validated values an experiment is made of.

`@declared` turns a class with annotated fields into a frozen pydantic dataclass that refuses unknown fields and wrong
types when it is constructed, with one line per mistake and the nearest known name. A declaration holds no state and
does no work; the class that carries it out sits in the same file.
"""

from collections.abc import Callable
from dataclasses import fields
from functools import wraps
from typing import Any, TypeVar, dataclass_transform

import pydantic
from pydantic.dataclasses import dataclass as pydantic_dataclass

from .errors import ConfigurationError, nearest

T = TypeVar("T")


@dataclass_transform(frozen_default=True)
def declared(cls: type[T]) -> type[T]:
    """Make `cls` a frozen, validated dataclass whose mistakes are `ConfigurationError`s."""
    config = pydantic.ConfigDict(extra="forbid", arbitrary_types_allowed=True, validate_default=True)
    made: Any = pydantic_dataclass(cls, frozen=True, config=config)
    validate: Callable[..., None] = made.__init__

    @wraps(validate)
    def __init__(self: Any, *args: Any, **kwargs: Any) -> None:  # noqa: N807
        try:
            validate(self, *args, **kwargs)
        except pydantic.ValidationError as error:
            raise ConfigurationError(problems(made, error)) from None

    made.__init__ = __init__
    return made  # type: ignore[no-any-return]


def problems(cls: type, error: pydantic.ValidationError) -> list[str]:
    """Return one line for each mistake that pydantic found in a declaration of `cls`."""
    known = [field.name for field in fields(cls)]
    lines = []
    for item in error.errors():
        where = ".".join(str(part) for part in item["loc"])
        if item["type"] == "unexpected_keyword_argument":
            lines.append(f"{cls.__name__} has no field '{where}'{nearest(where, known)}; it has {', '.join(known)}")
        elif item["type"] == "missing":
            lines.append(f"{cls.__name__} needs '{where}'")
        elif item["type"] == "value_error":
            inner = item["ctx"]["error"]
            text = inner.problems if isinstance(inner, ConfigurationError) else (str(inner),)
            owner = f"{cls.__name__}.{where}" if where else cls.__name__
            lines += [line if line.startswith(cls.__name__) else f"{owner}: {line}" for line in text]
        else:
            lines.append(f"{cls.__name__}.{where}: {item['msg'][0].lower()}{item['msg'][1:]}; got {item['input']!r}")
    return lines
