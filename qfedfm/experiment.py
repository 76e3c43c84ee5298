"""An experiment: one frozen declaration of everything that determines a run, in Python or in TOML.

`Experiment.from_toml(e.to_toml()) == e`. In TOML a table with a `kind` becomes an object (see `kinds`). What TOML
cannot hold (a PennyLane function, arrays) is written beside the file by `Experiment.save` and referred to by name.
"""

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import fields, is_dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any

import tomlkit
import tomlkit.exceptions
from pydantic import Field

from .aggregation import Aggregator, AngularMean
from .backbones import Backbone, MiniLM
from .codecs import Codec, Dense
from .data import ArrayFile, Arrays, Sentiment, Source
from .declaration import declared
from .errors import ConfigurationError
from .federation import Clients, Training
from .heads import Head, Variational
from .heads.model import Precision
from .kinds import build, kind_of, override, to_table
from .seal import Aead, Seal


@declared
class Experiment:
    """Everything that determines a run.

    data: a source of labelled rows. backbone: what turns them into features. head: the trainable model on top.
    clients: who takes part and how rows are dealt out. training: what a client does in a round. codec, seal: how
    updates travel. aggregation: how they are combined. rounds: how many. validation, test: shares of the rows kept out
    of training, by whole groups (reviews, articles). seed: the root of every random stream. precision: of parameters
    and features.
    """

    data: Source = Sentiment()
    backbone: Backbone = MiniLM()
    head: Head = Variational()
    clients: Clients = Clients()
    training: Training = Training()
    codec: Codec = Dense()
    seal: Seal = Aead()
    aggregation: Aggregator = AngularMean()
    rounds: Annotated[int, Field(ge=1)] = 10
    validation: Annotated[float, Field(gt=0, lt=1)] = 0.15
    test: Annotated[float, Field(gt=0, lt=1)] = 0.25
    seed: int = 0
    precision: Precision = "float32"
    name: str = "experiment"

    def __post_init__(self) -> None:
        wrong = []
        if self.validation + self.test >= 1:
            wrong.append(
                "validation and test are shares of the rows that leave some for training; "
                f"got {self.validation} and {self.test}"
            )
        if not self.name or not all(c.isalnum() or c in "-_." for c in self.name) or self.name.startswith("."):
            wrong.append(f"name: letters, digits, '-', '_' and '.' only, for it names a folder; got {self.name!r}")
        if wrong:
            raise ConfigurationError(wrong)

    def to_toml(self) -> str:
        """Return this experiment as TOML; raise `ConfigurationError` for what only `save` can write."""
        return tomlkit.dumps(to_table(self))

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
            override(document, setting)
        problems: list[str] = []
        experiment: Experiment = build(cls, document, "", base, problems)
        if problems:
            raise ConfigurationError(problems)
        return experiment

    @classmethod
    def load(cls, path: str | Path, settings: Iterable[str] = ()) -> "Experiment":
        """Return the experiment of a TOML file; its relative paths start from the file's folder."""
        file = Path(path).absolute()
        try:
            text = file.read_text(encoding="utf-8")
        except OSError as error:
            raise ConfigurationError(f"cannot read the experiment file {path}: {error.strerror}") from None
        except UnicodeDecodeError:
            raise ConfigurationError(f"{path} is not a UTF-8 text file") from None
        return cls.from_toml(text, settings, file.parent)

    def save(self, folder: Path) -> Path:
        """Write experiment.toml into `folder`, to be loaded from there wherever it is called from.

        Circuits that are not the library's go to circuit.json, arrays to data.safetensors; data files stay where they
        are, by their absolute paths.
        """
        portable: Experiment = _located(self)
        if isinstance(self.head, Variational) and not _in_library(self.head):
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

    @cached_property
    def identity(self) -> str:
        """A sha256, in hex, of all that this experiment declares: circuits and arrays by content, files by name."""
        return hashlib.sha256(json.dumps(content(self), sort_keys=True).encode()).hexdigest()


def _in_library(head: Variational) -> bool:
    return isinstance(head.circuit, str) and Path(head.circuit).suffix != ".qasm"


def _located(piece: Any) -> Any:
    """Return a declared object with every path in it made absolute."""
    moved: dict[str, Any] = {}
    for field in fields(piece):
        value = getattr(piece, field.name)
        if isinstance(value, Path):
            moved[field.name] = value.absolute()
        elif is_dataclass(value) and (inner := _located(value)) is not value:
            moved[field.name] = inner
    return replace(piece, **moved) if moved else piece


def content(value: Any) -> Any:
    """Return `value` as JSON-able content that is equal for equal experiments, wherever their files lie."""
    if isinstance(value, Arrays | ArrayFile):
        return {"kind": "Arrays", "fingerprint": value.load().fingerprint}
    if is_dataclass(value):
        parts = {field.name: getattr(value, field.name) for field in fields(value)}
        if isinstance(value, Variational):
            parts |= {"circuit": value.resolve().to_json(), "sizes": None}
        return {"kind": kind_of(value)} | {name: content(item) for name, item in parts.items()}
    if isinstance(value, Mapping):
        return {str(key): content(item) for key, item in value.items()}
    if isinstance(value, tuple | list):
        return [content(item) for item in value]
    if value is None or isinstance(value, bool | int | float | str):
        return value
    return value.name if isinstance(value, Path) else kind_of(value)
