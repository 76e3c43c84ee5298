"""An experiment: one frozen declaration of everything that determines a run, in Python or in TOML.

`Experiment.from_toml(e.to_toml()) == e`. In TOML a table with a `kind` becomes an object: a built-in one from `KINDS`,
or any
class given as "module:Name". Objects that TOML cannot hold (a PennyLane function, arrays) are written beside the file
by `Experiment.save` and referred to by name.
"""

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import fields, is_dataclass, replace
from importlib import import_module
from pathlib import Path
from typing import Any, get_type_hints

import tomlkit
import tomlkit.exceptions

from .aggregation import Aggregator, AngularMean
from .backbones import Backbone, MiniLM
from .codecs import Codec, Dense
from .data import ArrayFile, Arrays, Sentiment, Source
from .declaration import declared
from .errors import ConfigurationError, nearest
from .federation import Clients, Training
from .heads import Head, Variational
from .heads.model import Precision
from .quantum.program import Circuit
from .seal import Aead, Seal

KINDS: dict[str, str] = {
    "Sentiment": "qfedfm.data:Sentiment",
    "Csv": "qfedfm.data:Csv",
    "ArrayFile": "qfedfm.data:ArrayFile",
    "Natural": "qfedfm.data:Natural",
    "NaturalSplit": "qfedfm.data:NaturalSplit",
    "IID": "qfedfm.data:IID",
    "Dirichlet": "qfedfm.data:Dirichlet",
    "MiniLM": "qfedfm.backbones:MiniLM",
    "HuggingFace": "qfedfm.backbones:HuggingFace",
    "Identity": "qfedfm.backbones:Identity",
    "Linear": "qfedfm.heads:Linear",
    "Mlp": "qfedfm.heads:Mlp",
    "Variational": "qfedfm.heads:Variational",
    "Adam": "qfedfm.training:Adam",
    "Sgd": "qfedfm.training:Sgd",
    "Dense": "qfedfm.codecs:Dense",
    "PresharedKeys": "qfedfm.qkd:PresharedKeys",
    "Aead": "qfedfm.seal:Aead",
    "Mean": "qfedfm.aggregation:Mean",
    "AngularMean": "qfedfm.aggregation:AngularMean",
}


@declared
class Experiment:
    """Everything that determines a run.

    data: a source of labelled rows. backbone: what turns them into features. head: the trainable model on top.
    clients: who
    takes part and how rows are dealt out. training: what a client does in a round. codec, seal: how updates travel.
    aggregation: how they are combined. rounds: how many. validation, test: shares of the rows kept out of training, by
    whole groups (reviews, articles). seed: the root of every random stream. precision: of parameters and features.
    """

    data: Source = Sentiment()
    backbone: Backbone = MiniLM()
    head: Head = Variational()
    clients: Clients = Clients()
    training: Training = Training()
    codec: Codec = Dense()
    seal: Seal = Aead()
    aggregation: Aggregator = AngularMean()
    rounds: int = 10
    validation: float = 0.15
    test: float = 0.25
    seed: int = 0
    precision: Precision = "float32"
    name: str = "experiment"

    def __post_init__(self) -> None:
        wrong = []
        if self.rounds < 1:
            wrong.append(f"Experiment.rounds: expected at least 1; got {self.rounds}")
        if not (0 < self.validation < 1 and 0 < self.test < 1 and self.validation + self.test < 1):
            wrong.append(
                "Experiment: validation and test are shares of the rows that leave some for training; "
                f"got {self.validation} and {self.test}"
            )
        if not self.name or not all(c.isalnum() or c in "-_." for c in self.name) or self.name.startswith("."):
            wrong.append(
                f"Experiment.name: letters, digits, '-', '_' and '.' only, for it names a folder; got {self.name!r}"
            )
        if wrong:
            raise ConfigurationError(wrong)

    def to_toml(self) -> str:
        """Return this experiment as TOML; raise `ConfigurationError` for what only `save` can write."""
        return tomlkit.dumps(_table(self))

    @classmethod
    def from_toml(cls, text: str, settings: Iterable[str] = (), base: Path = Path()) -> "Experiment":
        """Return the experiment that TOML text declares, or raise one `ConfigurationError` with every mistake in it.

        settings: "a.b=value" lines that override the text, values in TOML's notation (a bare word is a string). base:
        the folder that relative paths in the text start from.
        """
        try:
            document = tomlkit.parse(text).unwrap()
        except tomlkit.exceptions.ParseError as error:
            raise ConfigurationError(f"not valid TOML: {error}") from None
        for setting in settings:
            _override(document, setting)
        problems: list[str] = []
        experiment = _build(cls, document, "", base, problems)
        if problems:
            raise ConfigurationError(problems)
        return experiment  # type: ignore[no-any-return]

    @classmethod
    def load(cls, path: str | Path, settings: Iterable[str] = ()) -> "Experiment":
        """Return the experiment of a TOML file; its relative paths start from the file's folder."""
        file = Path(path)
        try:
            text = file.read_text(encoding="utf-8")
        except OSError as error:
            raise ConfigurationError(f"cannot read the experiment file {file}: {error.strerror}") from None
        except UnicodeDecodeError:
            raise ConfigurationError(f"{file} is not a UTF-8 text file") from None
        return cls.from_toml(text, settings, file.parent)

    def save(self, folder: Path) -> Path:
        """Write experiment.toml into `folder`, with circuit.json and data.safetensors where TOML cannot hold them."""
        portable = self
        if isinstance(self.head, Variational) and not isinstance(self.head.circuit, str | Path):
            (folder / "circuit.json").write_text(self.head.resolve().to_json(), encoding="utf-8")
            portable = replace(portable, head=replace(self.head, circuit=Path("circuit.json"), sizes=None))
        if isinstance(self.data, Arrays):
            self.data.save(folder / "data.safetensors")
            portable = replace(portable, data=ArrayFile(Path("data.safetensors")))
        file = folder / "experiment.toml"
        file.write_text(portable.to_toml(), encoding="utf-8")
        return file

    def check(self) -> None:
        """Find out before any data is loaded whether the head can be bound: its circuit is read and lowered."""
        self.head.bind(8, 2)

    @property
    def identity(self) -> str:
        """A sha256, in hex, of all that this experiment declares: circuits and arrays by content, files by name."""
        return hashlib.sha256(json.dumps(_content(self), sort_keys=True).encode()).hexdigest()


def _content(value: Any) -> Any:
    """Return `value` as JSON-able content that is equal for equal experiments."""
    if isinstance(value, Arrays):
        return {"kind": "Arrays", "fingerprint": value.load().fingerprint}
    if isinstance(value, Variational) and not isinstance(value.circuit, str):
        circuit: Circuit = value.resolve()
        return {"kind": "Variational", "circuit": circuit.to_json(), "input_scale": value.input_scale}
    if is_dataclass(value):
        return {"kind": type(value).__qualname__} | {f.name: _content(getattr(value, f.name)) for f in fields(value)}
    if isinstance(value, Mapping):
        return {str(key): _content(item) for key, item in value.items()}
    if isinstance(value, tuple | list):
        return [_content(item) for item in value]
    return value.name if isinstance(value, Path) else value


def _table(piece: Any, kind: str | None = None) -> dict[str, Any]:
    """Return a declared object as a table; None is left out, since TOML has no word for it."""
    table: dict[str, Any] = {} if kind is None else {"kind": kind}
    nested: dict[str, Any] = {}
    for field in fields(piece):
        value = getattr(piece, field.name)
        if value is None:
            continue
        if is_dataclass(value) and not isinstance(value, type):
            fixed = type(value) in (Clients, Training)
            nested[field.name] = _table(value, None if fixed else _kind_of(value))
        elif isinstance(value, dict):
            nested[field.name] = {key: list(item) if isinstance(item, tuple) else item for key, item in value.items()}
        elif isinstance(value, tuple):
            table[field.name] = list(value)
        elif isinstance(value, bool | int | float | str):
            table[field.name] = value
        elif isinstance(value, Path):
            table[field.name] = str(value)
        else:
            raise ConfigurationError(
                f"{type(piece).__name__}.{field.name} holds {type(value).__name__}, which TOML cannot; "
                "write the experiment with save(folder), which puts it in a file of its own"
            )
    return table | {name: inner for name, inner in nested.items() if inner}


def _kind_of(piece: Any) -> str:
    name = type(piece).__name__
    own = f"{type(piece).__module__}:{type(piece).__qualname__}"
    known = KINDS.get(name)
    return name if known is not None and _resolve(known) is type(piece) else own


def _resolve(kind: str) -> Any:
    """Return the class that "Name" or "module:Name" stands for; raise `ConfigurationError` if there is none."""
    target = KINDS.get(kind, kind)
    module, _, name = target.partition(":")
    if not name:
        raise ConfigurationError(
            f"kind '{kind}' is not known{nearest(kind, KINDS)}; known kinds are {', '.join(KINDS)}, "
            "or give 'module:Name'"
        )
    try:
        return getattr(import_module(module), name)
    except (ImportError, AttributeError) as error:
        raise ConfigurationError(f"kind '{kind}' cannot be imported: {error}") from None


def _build(cls: Any, table: Mapping[str, Any], where: str, base: Path, problems: list[str]) -> Any:
    """Return `cls(**table)` with nested tables built first, or None with every mistake appended to `problems`."""
    hints = get_type_hints(cls) if is_dataclass(cls) else {}
    values: dict[str, Any] = {}
    found = len(problems)
    for key, value in table.items():
        here = f"{where}.{key}" if where else key
        if key == "kind":
            continue
        hint = hints.get(key)
        if isinstance(value, Mapping) and "kind" in value:
            try:
                inner = _resolve(str(value["kind"]))
            except ConfigurationError as error:
                problems += [f"[{here}] {line}" for line in error.problems]
                continue
            values[key] = _build(inner, value, here, base, problems)
        elif isinstance(value, Mapping) and is_dataclass(hint):
            values[key] = _build(hint, value, here, base, problems)
        elif isinstance(value, str) and _takes_path(hint) and (base / value).exists():
            values[key] = base / value
        else:
            values[key] = tuple(value) if isinstance(value, list) else value
    broken = [key for key, value in values.items() if value is None]
    try:
        made = cls(**{key: value for key, value in values.items() if key not in broken})
    except ConfigurationError as error:
        needs_broken = {f"{cls.__name__} needs '{key}'" for key in broken}
        problems += [f"[{where or 'experiment'}] {line}" for line in error.problems if line not in needs_broken]
    except TypeError as error:
        problems.append(f"[{where or 'experiment'}] {error}")
    else:
        return made if len(problems) == found else None
    return None


def _takes_path(hint: Any) -> bool:
    return hint is Path or Path in getattr(hint, "__args__", ())


def _override(document: dict[str, Any], setting: str) -> None:
    """Set one "a.b=value" in a parsed document."""
    path, equals, text = setting.partition("=")
    keys = [key.strip() for key in path.split(".")]
    if not equals or not all(keys):
        raise ConfigurationError(
            f"--set {setting!r}: expected section.key=value, such as --set rounds=3 or --set training.epochs=2"
        )
    try:
        value = tomlkit.parse(f"value = {text}").unwrap()["value"]
    except tomlkit.exceptions.ParseError:
        value = text.strip()
    table = document
    for key in keys[:-1]:
        table = table.setdefault(key, {})
        if not isinstance(table, dict):
            raise ConfigurationError(f"--set {setting!r}: '{key}' is a value, not a section")
    table[keys[-1]] = value
