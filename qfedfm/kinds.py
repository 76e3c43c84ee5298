"""Kinds: the one place where names become objects, and declared objects become TOML tables again.

A table with a `kind` stands for an object: a built-in one from `KINDS`, or any dataclass given as "module:Name", whose
module is looked for where Python looks (the command line adds the working directory). A table without one is of the
class that its field is declared with, or else of the default's class. TOML has no word for "no value": None is left out
where it is the default, and written as the string "none" where it is not.
"""

from collections.abc import Mapping
from dataclasses import MISSING, Field, fields, is_dataclass
from importlib import import_module
from pathlib import Path
from typing import Any, get_args, get_type_hints

import tomlkit
import tomlkit.exceptions

from .errors import ConfigurationError, nearest
from .quantum.program import Circuit

KINDS: dict[str, str] = {
    "Sentiment": "qfedfm.data:Sentiment",
    "Csv": "qfedfm.data:Csv",
    "ArrayFile": "qfedfm.data:ArrayFile",
    "SpamAssassin": "qfedfm.data:SpamAssassin",
    "FashionMnist": "qfedfm.data:FashionMnist",
    "Digits": "qfedfm.data:Digits",
    "BreastCancer": "qfedfm.data:BreastCancer",
    "Diabetes": "qfedfm.data:Diabetes",
    "Hub": "qfedfm.data:Hub",
    "Natural": "qfedfm.data:Natural",
    "NaturalSplit": "qfedfm.data:NaturalSplit",
    "IID": "qfedfm.data:IID",
    "Dirichlet": "qfedfm.data:Dirichlet",
    "QuantitySkew": "qfedfm.data:QuantitySkew",
    "Shards": "qfedfm.data:Shards",
    "MiniLM": "qfedfm.backbones:MiniLM",
    "HuggingFace": "qfedfm.backbones:HuggingFace",
    "EfficientNetLite0": "qfedfm.backbones:EfficientNetLite0",
    "Identity": "qfedfm.backbones:Identity",
    "Linear": "qfedfm.heads:Linear",
    "Mlp": "qfedfm.heads:Mlp",
    "Module": "qfedfm.heads:Module",
    "Parallel": "qfedfm.heads:Parallel",
    "Personalised": "qfedfm.heads:Personalised",
    "Variational": "qfedfm.heads:Variational",
    "Kernel": "qfedfm.heads:Kernel",
    "Rbf": "qfedfm.heads:Rbf",
    "Adam": "qfedfm.training:Adam",
    "Sgd": "qfedfm.training:Sgd",
    "SeededDescent": "qfedfm.training:SeededDescent",
    "Cosine": "qfedfm.training:Cosine",
    "Step": "qfedfm.training:Step",
    "FedProx": "qfedfm.client_rules:FedProx",
    "Scaffold": "qfedfm.client_rules:Scaffold",
    "FedDyn": "qfedfm.client_rules:FedDyn",
    "Ifca": "qfedfm.client_rules:Ifca",
    "BlockDiagonal": "qfedfm.training:BlockDiagonal",
    "Cobyla": "qfedfm.training:Cobyla",
    "Diagonal": "qfedfm.training:Diagonal",
    "FullMetric": "qfedfm.training:FullMetric",
    "LayerWise": "qfedfm.training:LayerWise",
    "QnSpsa": "qfedfm.training:QnSpsa",
    "QuantumNaturalGradient": "qfedfm.training:QuantumNaturalGradient",
    "Rotosolve": "qfedfm.training:Rotosolve",
    "Dense": "qfedfm.codecs:Dense",
    "Quantized": "qfedfm.codecs:Quantized",
    "RandomSparsification": "qfedfm.codecs:RandomSparsification",
    "SeedScalar": "qfedfm.codecs:SeedScalar",
    "Sign": "qfedfm.codecs:Sign",
    "TensorTrain": "qfedfm.codecs:TensorTrain",
    "TopK": "qfedfm.codecs:TopK",
    "Exact": "qfedfm.backends:Exact",
    "Shots": "qfedfm.backends:Shots",
    "IBM": "qfedfm.backends:IBM",
    "FakeRuntime": "qfedfm.backends:FakeRuntime",
    "RuntimeMitigation": "qfedfm.backends:RuntimeMitigation",
    "Aer": "qfedfm.backends:Aer",
    "Fake": "qfedfm.backends:Fake",
    "Mitigated": "qfedfm.backends:Mitigated",
    "ReadoutInversion": "qfedfm.backends:ReadoutInversion",
    "ZeroNoise": "qfedfm.backends:ZeroNoise",
    "LinearFit": "qfedfm.backends:LinearFit",
    "RichardsonFit": "qfedfm.backends:RichardsonFit",
    "ExponentialFit": "qfedfm.backends:ExponentialFit",
    "Noisy": "qfedfm.backends:Noisy",
    "NoiseModel": "qfedfm.backends:NoiseModel",
    "GateNoise": "qfedfm.backends:GateNoise",
    "PennyLane": "qfedfm.backends:PennyLane",
    "ParameterShift": "qfedfm.backends:ParameterShift",
    "Spsa": "qfedfm.backends:Spsa",
    "PresharedKeys": "qfedfm.qkd:PresharedKeys",
    "DecoyBB84": "qfedfm.qkd:DecoyBB84",
    "Etsi014": "qfedfm.qkd:Etsi014",
    "Link": "qfedfm.qkd:Link",
    "Fibre": "qfedfm.qkd:Fibre",
    "SatellitePass": "qfedfm.qkd:SatellitePass",
    "PulsedSource": "qfedfm.qkd:PulsedSource",
    "Detectors": "qfedfm.qkd:Detectors",
    "Scenario": "qfedfm.qkd:Scenario",
    "Eavesdropping": "qfedfm.qkd:Eavesdropping",
    "Outage": "qfedfm.qkd:Outage",
    "InterceptResend": "qfedfm.qkd:InterceptResend",
    "PhotonNumberSplitting": "qfedfm.qkd:PhotonNumberSplitting",
    "BeamSplitting": "qfedfm.qkd:BeamSplitting",
    "Aead": "qfedfm.seal:Aead",
    "HybridAead": "qfedfm.seal:HybridAead",
    "OneTimePad": "qfedfm.seal:OneTimePad",
    "Contribution": "qfedfm.incentives:Contribution",
    "Reputation": "qfedfm.incentives:Reputation",
    "FreeRiderScreen": "qfedfm.incentives:FreeRiderScreen",
    "Shapley": "qfedfm.incentives:Shapley",
    "MonteCarlo": "qfedfm.incentives:MonteCarlo",
    "Gtg": "qfedfm.incentives:Gtg",
    "LeaveOneOut": "qfedfm.incentives:LeaveOneOut",
    "Influence": "qfedfm.incentives:Influence",
    "DpSgd": "qfedfm.privacy:DpSgd",
    "LocalDp": "qfedfm.privacy:LocalDp",
    "AdaptiveClip": "qfedfm.privacy:AdaptiveClip",
    "DpFedAvg": "qfedfm.aggregation:DpFedAvg",
    "Adversary": "qfedfm.attacks:Adversary",
    "LabelFlip": "qfedfm.attacks:LabelFlip",
    "Backdoor": "qfedfm.attacks:Backdoor",
    "SignFlip": "qfedfm.attacks:SignFlip",
    "Gaussian": "qfedfm.attacks:Gaussian",
    "Scaling": "qfedfm.attacks:Scaling",
    "Alie": "qfedfm.attacks:Alie",
    "InnerProduct": "qfedfm.attacks:InnerProduct",
    "MinMax": "qfedfm.attacks:MinMax",
    "FreeRider": "qfedfm.attacks:FreeRider",
    "PeriodShift": "qfedfm.attacks:PeriodShift",
    "AngleDrift": "qfedfm.attacks:AngleDrift",
    "Mean": "qfedfm.aggregation:Mean",
    "AngularMean": "qfedfm.aggregation:AngularMean",
    "Bucketing": "qfedfm.aggregation:Bucketing",
    "Bulyan": "qfedfm.aggregation:Bulyan",
    "CentredClipping": "qfedfm.aggregation:CentredClipping",
    "CmaEs": "qfedfm.aggregation:CmaEs",
    "EvolutionaryWeights": "qfedfm.aggregation:EvolutionaryWeights",
    "ExactSolver": "qfedfm.aggregation:ExactSolver",
    "FLTrust": "qfedfm.aggregation:FLTrust",
    "FedAdagrad": "qfedfm.aggregation:FedAdagrad",
    "FedAdam": "qfedfm.aggregation:FedAdam",
    "FedAvgM": "qfedfm.aggregation:FedAvgM",
    "FedNova": "qfedfm.aggregation:FedNova",
    "FedYogi": "qfedfm.aggregation:FedYogi",
    "FidelityWeighted": "qfedfm.aggregation:FidelityWeighted",
    "FisherWeighted": "qfedfm.aggregation:FisherWeighted",
    "FoolsGold": "qfedfm.aggregation:FoolsGold",
    "GeodesicMean": "qfedfm.aggregation:GeodesicMean",
    "GeometricMedian": "qfedfm.aggregation:GeometricMedian",
    "GhzMean": "qfedfm.aggregation:GhzMean",
    "Krum": "qfedfm.aggregation:Krum",
    "Median": "qfedfm.aggregation:Median",
    "MedianDistance": "qfedfm.aggregation:MedianDistance",
    "MinimumDiameter": "qfedfm.aggregation:MinimumDiameter",
    "MultiKrum": "qfedfm.aggregation:MultiKrum",
    "NormClipping": "qfedfm.aggregation:NormClipping",
    "QFedAvg": "qfedfm.aggregation:QFedAvg",
    "Qaoa": "qfedfm.aggregation:Qaoa",
    "QuantumEvolution": "qfedfm.aggregation:QuantumEvolution",
    "QuboSubset": "qfedfm.aggregation:QuboSubset",
    "RandomSearch": "qfedfm.aggregation:RandomSearch",
    "RootDistance": "qfedfm.aggregation:RootDistance",
    "SimulatedAnnealing": "qfedfm.aggregation:SimulatedAnnealing",
    "TrimmedMean": "qfedfm.aggregation:TrimmedMean",
    "ValidationLoss": "qfedfm.aggregation:ValidationLoss",
}

NONE = "none"
_BROKEN = object()  # stands for a nested object whose own mistakes are listed already


def resolve(kind: str) -> type:
    """Return the class that "Name" or "module:Name" stands for; raise `ConfigurationError` if there is none."""
    module, _, name = KINDS.get(kind, kind).partition(":")
    if not name:
        near = nearest(kind, KINDS)
        raise ConfigurationError(
            f"kind '{kind}' is not known{near or '; known kinds are ' + ', '.join(KINDS)}; a class of your own is "
            "'module:Name'"
        )
    try:
        found = getattr(import_module(module), name)
    except (ImportError, AttributeError, ValueError, TypeError) as error:
        where = f": run from the folder that holds {module}.py" if isinstance(error, ModuleNotFoundError) else ""
        raise ConfigurationError(f"kind '{kind}' cannot be imported: {error}{where}") from None
    if not is_dataclass(found) or not isinstance(found, type):
        raise ConfigurationError(f"kind '{kind}' is not a dataclass: declare it with @qfedfm.declaration.declared")
    return found


def kind_of(piece: Any) -> str:
    """Return the kind of a declared object, its short name if it is built in.

    Raises `ConfigurationError` for an object that the kind would not lead back to.
    """
    cls = type(piece)
    if cls.__module__ == "__main__":
        raise ConfigurationError(
            f"{cls.__qualname__} is defined in a notebook or script, where a saved run could not find it again: move "
            f"it into a file of its own, such as pieces.py, and write  from pieces import {cls.__qualname__}"
        )
    for kind in (cls.__name__, f"{cls.__module__}:{cls.__qualname__}"):
        try:
            if resolve(kind) is cls:
                return kind
        except ConfigurationError:
            continue
    raise ConfigurationError(
        f"{cls.__module__}.{cls.__qualname__} cannot be part of an experiment: it must be a dataclass (see "
        "qfedfm.declaration.declared) at the top level of a module that can be imported, so that a run can be resumed"
    )


def to_table(piece: Any) -> dict[str, Any]:
    """Return a declared object as a table without its kind; raise `ConfigurationError` for what TOML cannot hold."""
    hints = get_type_hints(type(piece))
    plain: dict[str, Any] = {}
    tables: dict[str, Any] = {}
    for field in fields(piece):
        value, default, where = getattr(piece, field.name), _default(field), f"{type(piece).__name__}.{field.name}"
        empty = value is None or (isinstance(value, Mapping) and not value)
        if empty and value == default:
            continue
        if is_dataclass(value):
            kind = {} if type(value) is hints[field.name] else {"kind": kind_of(value)}
            tables[field.name] = kind | to_table(value)
        elif isinstance(value, Mapping):
            tables[field.name] = _plain(value, where)
        elif isinstance(value, tuple) and any(map(is_dataclass, value)):
            tables[field.name] = [{"kind": kind_of(item)} | to_table(item) for item in value]
        elif value is None and _takes_none(hints[field.name]):
            plain[field.name] = NONE
        else:
            plain[field.name] = _plain(value, where)
    return plain | tables


def build(cls: type, table: Mapping[str, Any], where: str, base: Path, problems: list[str]) -> Any:
    """Return `cls(**table)`, nested tables built first; what comes back is of no use if `problems` grew.

    where: the section's name. base: the folder that relative paths start from. problems: every mistake is added here.
    """
    hints, defaults = get_type_hints(cls), {field.name: _default(field) for field in fields(cls)}
    values: dict[str, Any] = {}
    for key, value in table.items():
        here, hint = f"{where}.{key}" if where else key, hints.get(key)
        inner = hint if is_dataclass(hint) else type(defaults.get(key))
        if isinstance(value, Mapping) and ("kind" in value or is_dataclass(inner)):
            values[key] = _nested(inner, value, here, base, problems)
        elif isinstance(value, list) and value and all(isinstance(item, Mapping) and "kind" in item for item in value):
            built = [_nested(None, item, f"{here}.{i}", base, problems) for i, item in enumerate(value)]
            values[key] = _BROKEN if _BROKEN in built else tuple(built)
        elif value == NONE and _takes_none(hint):
            values[key] = None
        elif isinstance(value, str) and _is_path(hint, base / value):
            values[key] = base / value
        else:
            values[key] = tuple(value) if isinstance(value, list) else value
    sound = {key: value for key, value in values.items() if value is not _BROKEN}
    known = {f"{cls.__name__} needs '{key}'" for key in values.keys() - sound.keys()}
    try:
        return cls(**sound)
    except ConfigurationError as error:
        lines = [line for line in error.problems if line not in known]
    except (TypeError, ValueError) as error:  # a plain dataclass of the user's
        lines = [str(error)]
    problems += [f"[{where or 'experiment'}] {line}" for line in lines]
    return _BROKEN


def _nested(cls: Any, table: Mapping[str, Any], where: str, base: Path, problems: list[str]) -> Any:
    if "kind" in table:
        try:
            cls = resolve(str(table["kind"]))
        except ConfigurationError as error:
            problems += [f"[{where}] {line}" for line in error.problems]
            return _BROKEN
    return build(cls, {key: value for key, value in table.items() if key != "kind"}, where, base, problems)


def override(document: dict[str, Any], setting: str) -> None:
    """Set one "a.b=value" in a parsed document; the value is in TOML's notation, a bare word being a string."""
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


def _plain(value: Any, where: str) -> Any:
    """Return `value` in TOML's types."""
    if isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, Path):
        return str(value)
    if isinstance(value, tuple | list):
        return [_plain(item, where) for item in value]
    if isinstance(value, Mapping):
        return {str(key): _plain(item, where) for key, item in value.items()}
    raise ConfigurationError(
        f"{where} holds {type(value).__name__}, which TOML cannot: Experiment.save(folder) puts circuits and arrays "
        "into files of their own, anything else must be a declared dataclass"
    )


def _default(field: Field[Any]) -> Any:
    return field.default if field.default_factory is MISSING else field.default_factory()


def _takes_none(hint: Any) -> bool:
    """Whether "none" can only mean None in a field of this type."""
    return type(None) in get_args(hint) and str not in get_args(hint)


def _is_path(hint: Any, path: Path) -> bool:
    """Whether a string in a field of this type is a path.

    Where names are allowed too, a circuit's ending decides, and a model is a path if something lies there.
    """
    kinds = get_args(hint) or (hint,)
    if Path not in kinds or str not in kinds:
        return Path in kinds
    return path.suffix in (".qasm", ".json") if Circuit in kinds else path.exists()
