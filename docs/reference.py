"""Write the reference: one page for the package and one for each subpackage, from `__all__`, signatures and docstrings.

Docstrings of this project are plain text, not markup, so they are set as they stand, paragraph by paragraph; where one
explains arguments ("name: what it is. other: ..."), each becomes an item of a list.
"""

import inspect
import re
import shutil
import textwrap
from collections.abc import Sequence
from dataclasses import fields, is_dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

from numpy.typing import ArrayLike

import qfedfm

MEMBERS = 40  # of one class, shown at most
WIDTH = 88  # of a signature on one line
MODULES = re.compile(r"\b(?:qfedfm|torch|numpy|collections\.abc|typing|pathlib|pandas|matplotlib)(?:\.\w+)*\.(\w+)")
ARRAY_LIKE = MODULES.sub(r"\1", str(ArrayLike)).removeprefix("Union[").removesuffix("]")  # as signatures spell it out


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
        made = "" if getattr(value, "_is_protocol", False) else _signature(value, owner, name)
        kind = "protocol" if getattr(value, "_is_protocol", False) else "class"
        parts = [f"## {name}\n\n```python\n{kind} {owner}.{name}{made}\n```\n", _text(_doc(value), _names(value))]
        for member, inner in _members(value):
            call = f"{member}{_signature(inner)}" if callable(inner) else member
            parts.append(
                f":::{{container}} member\n```python\n.{call}\n```\n\n{_text(_doc(inner), _names(inner))}:::\n"
            )
        return "\n".join(parts)
    if callable(value):
        call = f"{owner}.{name}{_signature(value, owner, name)}"
        return f"## {name}\n\n```python\n{call}\n```\n\n{_text(_doc(value), _names(value))}"
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


def _names(value: Any) -> list[str]:
    """Return the names that a docstring may explain: arguments, and fields of a class."""
    own = [field.name for field in fields(value)] if inspect.isclass(value) and is_dataclass(value) else []
    try:
        return [*own, *inspect.signature(value).parameters]
    except (TypeError, ValueError):
        return own


def _signature(value: Any, *before: str) -> str:
    """Return how a value is called, an argument a line where one line would be too long; before: what stands before."""
    try:
        signature = inspect.signature(value)
    except (TypeError, ValueError):
        return "(...)"
    arguments = [argument for name, argument in signature.parameters.items() if name not in ("self", "cls")]
    signature = signature.replace(parameters=arguments)
    if inspect.isclass(value):
        signature = signature.replace(return_annotation=inspect.Signature.empty)
    text = _plain(str(signature))
    if len(text) + sum(map(len, before)) <= WIDTH:
        return text
    returned = _plain(str(signature.replace(parameters=[])))[2:]
    lines = []
    for argument in arguments:
        if argument.kind is argument.KEYWORD_ONLY and "*" not in lines:
            lines.append("*")
        lines.append(_plain(str(inspect.Signature([argument.replace(kind=argument.KEYWORD_ONLY)])))[4:-1])
    return "(\n" + "".join(f"    {line},\n" for line in lines) + f"){returned}"


def _plain(text: str) -> str:
    """Return a signature without the modules that its types come from."""
    text = re.sub(r"<factory>|<object object at 0x\w+>", "...", text)
    text = MODULES.sub(r"\1", text)
    text = text.replace(ARRAY_LIKE, "ArrayLike")
    text = re.sub(r"Union\[([^\[\]]*)\]", lambda match: match[1].replace(", ", " | "), text)
    text = text.replace("| NoneType", "| None")
    while (start := text.find("Annotated[")) >= 0:
        text = text[:start] + _unannotated(text[start:])
    return re.sub(r" at 0x[0-9a-f]+", "", text)


def _unannotated(text: str) -> str:
    """Return "Annotated[type, limits]..." as "type...": what the limits are, the docstring says."""
    depth, ends = 0, []
    for place, sign in enumerate(text):
        depth += (sign in "([{") - (sign in ")]}")
        if (depth == 1 and sign == "," and not ends) or (depth == 0 and sign == "]"):
            ends.append(place)
        if depth == 0 and sign == "]":
            break
    return text[len("Annotated[") : ends[0]] + text[ends[-1] + 1 :]


def _text(doc: str, names: Sequence[str] = ()) -> str:
    """Return a docstring as Markdown: paragraphs, explanations of `names` as lists, indented blocks as code."""
    pieces: list[tuple[bool, str]] = []  # whether it is code, and the text
    for paragraph in re.split(r"\n\s*\n", doc):
        code = all(line.startswith("    ") for line in paragraph.split("\n") if line)
        text = textwrap.dedent(paragraph) if code else paragraph
        if code and pieces and pieces[-1][0]:
            pieces[-1] = True, f"{pieces[-1][1]}\n\n{text}"
        else:
            pieces.append((code, text))
    return "\n\n".join(_code(text) if code else _prose(text, names) for code, text in pieces) + "\n"


def _code(text: str) -> str:
    try:
        compile(text, "docstring", "exec")
    except SyntaxError:
        return f"```text\n{text}\n```"
    return f"```python\n{text}\n```"


def _prose(text: str, names: Sequence[str]) -> str:
    """Return a paragraph, with "name: what it is." as items of a list where `names` has the name."""
    if any(line.startswith(("- ", "* ", "  ")) for line in text.split("\n")):
        return "\n".join(map(_escape, text.split("\n")))
    text = " ".join(text.split())
    one = "|".join(map(re.escape, sorted(names, key=len, reverse=True))) or r"\0"
    explained = list(re.finditer(rf"(?:^|(?<=[.;)] ))((?:{one})(?:, (?:{one}))*): ", text))
    if not explained:
        return _escape(text)
    ends = [*(match.start() for match in explained[1:]), len(text)]
    last, raises, errors = text[explained[-1].end() :].partition(" Raises ")
    said = [*(text[match.end() : end].strip() for match, end in zip(explained[:-1], ends, strict=False)), last]
    items = [
        "- " + ", ".join(f"**`{name}`**" for name in match[1].split(", ")) + f": {_escape(meaning)}"
        for match, meaning in zip(explained, said, strict=True)
    ]
    parts = [_escape(text[: explained[0].start()].strip()), "\n".join(items), _escape(raises.strip() + " " + errors)]
    return "\n\n".join(part for part in parts if part.strip())


def _escape(text: str) -> str:
    """Escape what Markdown would read as markup, outside of `code`."""
    pieces = re.split(r"(`[^`]*`)", text)
    return "".join(p if p.startswith("`") else re.sub(r"(?<!^)([*_<>|$\[\]~#\\])", r"\\\1", p) for p in pieces)
