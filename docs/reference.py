"""Write the reference: one page for the package and one for each subpackage, from `__all__`, signatures and docstrings.

Docstrings of this project are plain text, not markup, so they are set as they stand, paragraph by paragraph.
"""

import inspect
import re
import shutil
from dataclasses import fields, is_dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

import qfedfm

MEMBERS = 40  # of one class, shown at most


def write(folder: Path) -> None:
    """Write all pages into `folder`, which is emptied first."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    modules = [name for name in qfedfm.__all__ if inspect.ismodule(getattr(qfedfm, name))]
    own = [name for name in qfedfm.__all__ if name not in modules]
    (folder / "qfedfm.md").write_text(_page("qfedfm", qfedfm, own), encoding="utf-8")
    for name in modules:
        module = import_module(f"qfedfm.{name}")
        offered = getattr(module, "__all__", None) or _own(module)
        (folder / f"{name}.md").write_text(_page(f"qfedfm.{name}", module, offered), encoding="utf-8")
    pages = "\n".join(["qfedfm", *modules])
    text = f"# Reference\n\nEvery public name, by subpackage.\n\n```{{toctree}}\n:maxdepth: 1\n\n{pages}\n```\n"
    (folder / "index.md").write_text(text, encoding="utf-8")


def copy_notebooks(source: Path, folder: Path) -> None:
    """Copy the notebooks into `folder`, which is emptied first, with a page that lists them."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    names = sorted(path.stem for path in source.glob("*.ipynb"))
    for name in names:
        shutil.copyfile(source / f"{name}.ipynb", folder / f"{name}.ipynb")
    listed = "\n".join(names)
    text = f"# Notebooks\n\n```{{toctree}}\n:maxdepth: 1\n\n{listed}\n```\n"
    (folder / "index.md").write_text(text, encoding="utf-8")


def _own(module: Any) -> list[str]:
    """Return the public classes and functions that a module defines."""
    return [
        name
        for name, value in vars(module).items()
        if not name.startswith("_") and getattr(value, "__module__", "") == module.__name__ and callable(value)
    ]


def _page(title: str, module: Any, names: list[str]) -> str:
    parts = [f"# {title}\n", _text(inspect.getdoc(module) or "")]
    for name in sorted(names, key=str.lower):
        parts.append(_entry(title, name, getattr(module, name)))
    return "\n".join(parts)


def _entry(owner: str, name: str, value: Any) -> str:
    if inspect.isclass(value):
        parts = [f"## {name}\n\n```python\nclass {owner}.{name}{_signature(value)}\n```\n", _text(_doc(value))]
        for member, inner in _members(value):
            call = f"{member}{_signature(inner)}" if callable(inner) else member
            parts.append(f"**`{call}`**\n\n{_text(_doc(inner))}")
        return "\n".join(parts)
    if callable(value):
        return f"## {name}\n\n```python\n{owner}.{name}{_signature(value)}\n```\n\n{_text(_doc(value))}"
    return f"## {name}\n\n```python\n{owner}.{name} = {value!r:.400}\n```\n"


def _doc(value: Any) -> str:
    """Return the docstring of a value itself, not one that Python made up or that it inherited."""
    doc = inspect.cleandoc(getattr(value, "__doc__", None) or "")
    made_up = inspect.isclass(value) and is_dataclass(value) and doc.startswith(f"{value.__name__}(")
    return "" if made_up else doc


def _members(value: type) -> list[tuple[str, Any]]:
    """Return public methods and properties that a class defines itself, with docstrings."""
    skip = {field.name for field in fields(value)} if is_dataclass(value) else set()
    found = []
    for name, inner in vars(value).items():
        target = inner.__func__ if isinstance(inner, classmethod | staticmethod) else inner
        shown = inspect.isfunction(target) or isinstance(inner, property) or hasattr(inner, "attrname")
        if not name.startswith("_") and name not in skip and shown and _doc(target):
            found.append((name, target))
    return found[:MEMBERS]


def _signature(value: Any) -> str:
    try:
        text = str(inspect.signature(value))
    except (TypeError, ValueError):
        return "(...)"
    text = re.sub(r"<factory>|<object object at 0x\w+>", "...", text)
    text = re.sub(
        r"\b(?:qfedfm|torch|numpy|collections\.abc|typing|pathlib|pandas|matplotlib)(?:\.\w+)*\.(\w+)", r"\1", text
    )
    return re.sub(r" at 0x[0-9a-f]+", "", text)


def _text(doc: str) -> str:
    """Return a docstring as Markdown that shows it as it stands: paragraphs, indented blocks as code."""
    parts = []
    for paragraph in re.split(r"\n\s*\n", doc):
        lines = paragraph.split("\n")
        if all(line.startswith("    ") for line in lines if line):
            parts.append("```text\n" + inspect.cleandoc(paragraph) + "\n```")
        elif any(line.startswith(("- ", "* ", "  ")) for line in lines):
            parts.append("\n".join(_escape(line) for line in lines))
        else:
            parts.append(_escape(paragraph))
    return "\n\n".join(parts) + "\n"


def _escape(text: str) -> str:
    """Escape what Markdown would read as markup, outside of `code`."""
    pieces = re.split(r"(`[^`]*`)", text)
    return "".join(p if p.startswith("`") else re.sub(r"(?<!^)([*_<>|$\[\]~#\\])", r"\\\1", p) for p in pieces)
