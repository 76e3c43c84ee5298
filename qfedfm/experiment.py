"""An experiment: one frozen declaration of everything that determines a run, in Python or in TOML.

`Experiment.from_toml(e.to_toml()) == e`. In TOML a table with a `kind` becomes an object (see `kinds`). What TOML
cannot hold (a PennyLane function, arrays) is written beside the file by `Experiment.save` and referred to by name.
"""

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import fields, is_dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any, Literal

import tomlkit
import tomlkit.exceptions
import torch
from pydantic import Field

from .aggregation import Aggregator, AngularMean
from .attacks import Adversary, DataAttack
from .backbones import Backbone, EfficientNetLite0, HuggingFace, Identity, KnowsWidth, MiniLM
from .backends import Backend, Exact, ParameterShift
from .codecs import Codec, Dense, SeedScalar
from .data import ArrayFile, Arrays, Dirichlet, Sentiment, Source
from .data.dataset import Outline, Outlined
from .declaration import Checkable, declared
from .errors import ConfigurationError
from .evidence import plateau_warning
from .federation import Clients, Training
from .federation.clients import travelling
from .federation.personal import unfit
from .heads import Head, HoldsCircuit, Variational
from .heads.model import Model, Precision
from .kinds import build, kind_of, override, to_table
from .notebook import declaration
from .params import stack
from .quantum import simulate
from .seal import Aead, Seal
from .seeds import stream
from .training import CircuitOptimizer, FullMetric, QuantumNaturalGradient, SeededDescent

ARRAYS = "data.safetensors"
"""The file that holds an experiment's own arrays, beside its experiment.toml."""


@declared
class Experiment:
    """Everything that determines a run.

    data: a source of labelled rows. backbone: what turns them into features. head: the trainable model on top.
    clients: who takes part and how rows are dealt out. training: what a client does in a round. codec, seal: how
    updates travel. aggregation: how they are combined. adversary: which clients attack, and how. rounds: how many.
    validation, test: shares of the rows kept out of training, by whole groups (reviews, articles). seed: the root of
    every random stream. precision: of parameters and features. device: where torch trains and evaluates, such as "cpu"
    or "cuda:0". backend: the machine that runs circuits, in training and, unless `evaluation` is "exact", in every
    evaluation too; "exact" evaluates on the exact simulator, which is far cheaper than a real machine and measures
    nothing of it.
    """

    data: Source = Sentiment()
    backbone: Backbone = MiniLM()
    head: Head = Variational()
    clients: Clients = Clients()
    training: Training = Training()
    codec: Codec = Dense()
    seal: Seal = Aead()
    aggregation: Aggregator = AngularMean()
    adversary: Adversary | None = None
    rounds: Annotated[int, Field(ge=1)] = 10
    validation: Annotated[float, Field(gt=0, lt=1)] = 0.15
    test: Annotated[float, Field(gt=0, lt=1)] = 0.25
    seed: int = 0
    precision: Precision = "float32"
    device: str = "cpu"
    backend: Backend = Exact()
    evaluation: Literal["backend", "exact"] = "backend"
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
        training = self.training
        if training.rule and (why := training.rule.unfit(training.optimizer, training.privacy, self.aggregation)):
            wrong.append(f"training.rule: {why}")
        most = training.steps or 0
        if (
            isinstance(training.optimizer, SeededDescent)
            and isinstance(self.codec, SeedScalar)
            and most > self.codec.directions
        ):
            wrong.append(
                f"codec: SeedScalar sends at most {self.codec.directions} directions; got {most} steps of SeededDescent"
            )
        try:
            torch.device(self.device)
        except RuntimeError:
            wrong.append(f'device: expected a torch device such as "cpu" or "cuda:0"; got {self.device!r}')
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

    @classmethod
    def of(cls, given: "Experiment | str | Path") -> "Experiment":
        """Return an experiment as it is, or the one that a TOML file of this path declares."""
        return given if isinstance(given, Experiment) else cls.load(given)

    def save(self, folder: Path, arrays: Path | None = None) -> Path:
        """Write experiment.toml into `folder`, to be loaded from there wherever it is called from.

        Circuits that are not the library's go to circuit.json (circuit-0.json, ... if there are several), arrays to
        data.safetensors, unless they lie in a file already: `arrays`, from `folder`. Data files stay where they are, by
        their absolute paths.
        """
        portable: Experiment = _portable(self, folder)
        if isinstance(self.data, Arrays):
            if arrays is None:
                self.data.save(folder / ARRAYS)
            portable = replace(portable, data=ArrayFile(arrays or Path(ARRAYS)))
        file = folder / "experiment.toml"
        file.write_text(portable.to_toml(), encoding="utf-8")
        return file

    def check(self) -> None:
        """Find out, before any data is loaded or embedded, what would stop a run.

        Asks every piece that can tell (`Checkable`: is the file there, has it the columns?), whether backbone and data
        fit, reads and lowers the circuit, and puts one row of zeros through the head. Raises the first mistake.
        """
        try:
            torch.zeros(1, device=self.device).cpu()
        except (RuntimeError, AssertionError, NotImplementedError) as error:
            reason = str(error).partition("\n")[0]
            raise ConfigurationError(
                f"device: torch cannot use '{self.device}' here ({reason}): choose \"cpu\", or install a build of "
                "torch for the device"
            ) from None
        for piece in pieces(self):
            if isinstance(piece, Checkable):
                piece.check()
        outline = _outline(self.data)
        if outline and outline.texts and isinstance(self.backbone, Identity):
            raise ConfigurationError(f"{self.backbone} passes numbers on and the data are texts: use MiniLM(), say")
        if outline and outline.texts and isinstance(self.backbone, EfficientNetLite0):
            raise ConfigurationError(f"{self.backbone} reads images and the data are texts: use MiniLM(), say")
        if outline and not outline.texts and isinstance(self.backbone, MiniLM | HuggingFace):
            raise ConfigurationError(f"{self.backbone} reads texts and the data are numbers: use Identity() for those")
        if outline and outline.classes == 0:
            self._check_numbers()
        n_features, n_classes = _sizes(self.data, self.backbone)
        model = self.head.bind(n_features, n_classes)
        if not isinstance(self.backend, Exact) or self.training.gradient is not None:
            model.on(simulate)  # refused where the circuit runs nowhere but on the simulator
        self._check_training(model)
        outputs = model.apply(stack([model.init(self.seed)]), torch.zeros(1, 1, n_features))
        if outputs.shape != (1, 1, n_classes):
            raise ConfigurationError(
                f"{self.head!r:.100} should map (clients, rows, features) to (clients, rows, classes); its model maps "
                f"{(1, 1, n_features)} to {tuple(outputs.shape)} for {n_classes} outputs"
            )
        _ = self.identity

    def _check_numbers(self) -> None:
        """Refuse what needs classes where the labels are numbers to be predicted."""
        wrong = []
        if isinstance(self.clients.partition, Dirichlet):
            wrong.append(f"clients: {self.clients.partition} needs classes: use IID, QuantitySkew, Shards or Natural")
        if self.training.class_weights != "none":
            wrong.append('training: class_weights need classes: leave them at "none"')
        if self.adversary and isinstance(self.adversary.attack, DataAttack):
            wrong.append(f"adversary: {self.adversary.attack} changes labels, and needs classes")
        if wrong:
            raise ConfigurationError([f"the labels of the data are numbers to be predicted; {line}" for line in wrong])

    def _check_training(self, model: Model) -> None:
        """Raise `ConfigurationError` for what this model and machine cannot be trained by."""
        if wrong := unfit(model, self.training, [self.aggregation, *pieces(self.aggregation)]):
            raise ConfigurationError(wrong)
        optimizer, gradient, exact = self.training.optimizer, self.training.gradient, isinstance(self.backend, Exact)
        if isinstance(optimizer, CircuitOptimizer):
            optimizer.bind(model, 1)
        if isinstance(optimizer, QuantumNaturalGradient) and isinstance(optimizer.metric, FullMetric) and not exact:
            raise ConfigurationError(
                f"FullMetric needs the states of an exact simulator, and {self.backend} gives none: use "
                "BlockDiagonal(), Diagonal() or QnSpsa()"
            )
        if isinstance(gradient, ParameterShift) and gradient.allocation != "uniform" and self.backend.shots is None:
            raise ConfigurationError(f"{gradient} spreads shots, and {self.backend} has none: use Shots(...), say")

    def plateau(self) -> str | None:
        """Return a warning if shots would hide this head's gradients when training begins, see `plateau_warning`.

        None for others, and for machines whose values have no statistical error. Quick: tens of milliseconds up to 12
        qubits, half a second at 16.
        """
        if self.backend.shots is None:
            return None
        return plateau_warning(self.head.bind(*_sizes(self.data, self.backbone)), self.backend.shots)

    def payload_bytes(self) -> dict[str, int]:
        """Return the length of a message's payload before it is sealed, by its kind: "model" down, "update" up.

        From the tensors that travel (a model as it is, an update of random numbers through the codec) and the report,
        within some bytes, for numbers in a report have as many digits as they need, and more for a codec whose length
        depends on the update.
        """
        model = self.head.bind(*_sizes(self.data, self.backbone)).with_precision(self.precision)
        specs = travelling(model.specs)
        generator = stream(self.seed, "payload")
        update = {spec.name: torch.from_numpy(generator.normal(size=spec.shape)).to(spec.torch_dtype) for spec in specs}
        up = len(self.codec.encode(update, specs, {}, generator)[0])
        told = self.training.rule.told(specs) if self.training.rule else ()
        down = sum(spec.size * spec.torch_dtype.itemsize for spec in (*specs, *told))
        report = {"rows": 100, "steps": 100, "executions": 10000, "loss": 0.6931471805599453}
        return {"model": down + len(json.dumps({})), "update": up + len(json.dumps(report))}

    def _repr_html_(self) -> str:
        return declaration(self, f"Experiment '{self.name}', where it differs from the default")

    @cached_property
    def identity(self) -> str:
        """A sha256, in hex, of all that this experiment declares: circuits and arrays by content, files by name."""
        return hashlib.sha256(json.dumps(content(self), sort_keys=True).encode()).hexdigest()


def pieces(piece: Any) -> Iterator[Any]:
    """Yield every declared object inside `piece`."""
    for value in (getattr(piece, field.name) for field in fields(piece)):
        for inner in value if isinstance(value, tuple) else (value,):
            if is_dataclass(inner):
                yield inner
                yield from pieces(inner)


def _outline(data: Source) -> Outline | None:
    """Return what a source says of its data before they are loaded, if it says anything."""
    return data.outline() if isinstance(data, Outlined) else None


def _sizes(data: Source, backbone: Backbone) -> tuple[int, int]:
    """Return the numbers of features and outputs; where they are not known beforehand, MiniLM's 384, and 2."""
    outline = _outline(data)
    width = backbone.width if isinstance(backbone, KnowsWidth) else outline.features if outline else None
    classes = outline.classes if outline else None
    return width or 384, 2 if classes is None else classes or 1


def _portable(piece: Any, folder: Path, name: str = "circuit") -> Any:
    """Return a declared object with every path in it made absolute and circuits not of the library put in `folder`.

    name: of the circuit's file; circuits side by side are "circuit-0", "circuit-1", ...
    """
    if isinstance(piece, HoldsCircuit) and not _in_library(piece.circuit):
        (folder / f"{name}.json").write_text(piece.resolve().to_json(), encoding="utf-8")
        return replace(piece, circuit=Path(f"{name}.json"), sizes=None)  # type: ignore[type-var]
    moved: dict[str, Any] = {}
    for field in fields(piece):
        value = getattr(piece, field.name)
        inner = value
        if isinstance(value, Path):
            inner = value.absolute()
        elif is_dataclass(value):
            inner = _portable(value, folder, name)
        elif isinstance(value, tuple) and any(map(is_dataclass, value)):
            inner = tuple(_portable(item, folder, f"{name}-{i}") for i, item in enumerate(value))
        if inner is not value:
            moved[field.name] = inner
    return replace(piece, **moved) if moved else piece


def _in_library(circuit: Any) -> bool:
    return isinstance(circuit, str) and Path(circuit).suffix != ".qasm"


def content(value: Any) -> Any:
    """Return `value` as JSON-able content that is equal for equal experiments, wherever their files lie."""
    if isinstance(value, Arrays | ArrayFile):
        return {"kind": "Arrays", "fingerprint": value.load().fingerprint}
    circuit = {"circuit": value.resolve().to_json(), "sizes": None} if isinstance(value, HoldsCircuit) else {}
    if is_dataclass(value):
        parts = {field.name: getattr(value, field.name) for field in fields(value)} | circuit
        return {"kind": kind_of(value)} | {name: content(item) for name, item in parts.items()}
    if isinstance(value, Mapping):
        return {str(key): content(item) for key, item in value.items()}
    if isinstance(value, tuple | list):
        return [content(item) for item in value]
    if value is None or isinstance(value, bool | int | float | str):
        return value
    return value.name if isinstance(value, Path) else kind_of(value)
