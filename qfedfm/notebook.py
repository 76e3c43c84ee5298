"""What a notebook shows of an object: small HTML tables, every text in them escaped."""

import html
from collections.abc import Iterable, Mapping
from dataclasses import MISSING, Field, fields, is_dataclass
from pathlib import Path
from typing import Any

INDENT = 1.2  # em for each level of a nested table
LONGEST = 200  # characters of a value


def table(caption: str, rows: Mapping[str, str]) -> str:
    """Return an HTML table of labels and texts."""
    body = "".join(_row(label, html.escape(text)) for label, text in rows.items())
    return f"<table><caption>{html.escape(caption)}</caption>{body}</table>"


def declaration(piece: Any, caption: str) -> str:
    """Return what of a declared object is not its default, nested, as an HTML table.

    An object in place of another kind is shown by its name, with what differs from the defaults of its own kind.
    """
    rows = [_row(name, html.escape(text), depth) for depth, name, text in differing(piece)]
    body = "".join(rows) or "<tr><td align='left'>everything is at its default</td></tr>"
    return f"<table><caption>{html.escape(caption)}</caption>{body}</table>"


def differing(piece: Any, depth: int = 0) -> Iterable[tuple[int, str, str]]:
    """Yield depth, name and text of every field that is not its default, and of what is not in the fields inside it."""
    for field in fields(piece):
        value, default = getattr(piece, field.name), _default(field)
        if _same(value, default):
            continue
        several = isinstance(value, tuple) and bool(value) and all(map(is_dataclass, value))
        for item in value if several else (value,):
            if not is_dataclass(item):
                yield depth, field.name, _text(item)
                continue
            yield depth, field.name, "" if type(item) is type(default) else type(item).__name__
            if not _holds_data(item):
                yield from differing(item, depth + 1)


def _row(label: str, content: str, depth: int = 0) -> str:
    indent = f" style='padding-left:{INDENT * depth + 0.5:g}em'" if depth else ""
    return f"<tr><th align='left'{indent}>{html.escape(label)}</th><td align='left'>{content}</td></tr>"


def _default(field: Field[Any]) -> Any:
    return field.default if field.default_factory is MISSING else field.default_factory()


def _same(value: Any, default: Any) -> bool:
    try:
        return type(value) is type(default) and bool(value == default)
    except (TypeError, ValueError, RuntimeError):  # arrays answer with arrays
        return value is default


def _holds_data(item: Any) -> bool:
    return any(hasattr(getattr(item, field.name), "shape") for field in fields(item))


def _text(value: Any) -> str:
    if isinstance(value, Path):
        return str(value)
    name = getattr(value, "__name__", None) or getattr(value, "name", None)
    text = value if isinstance(value, str) else str(name) if name and not isinstance(value, Mapping) else repr(value)
    return text if len(text) <= LONGEST else f"{text[:LONGEST]}…"
