"""What is installed: versions, extras and their purposes, the cache, and whether the simulator is right."""

import importlib.metadata
import re
from dataclasses import dataclass, field
from pathlib import Path
from time import perf_counter
from typing import Any

from .cache import cache_directory
from .environment import environment
from .notebook import table

PURPOSES = {
    "docs": "building the documentation site",
    "hub": "data sets of the Hugging Face hub",
    "ibm": "fake IBM devices, and IBM's quantum processors",
    "mlflow": "logging runs to MLflow",
    "vision": "image features from EfficientNet-lite0",
    "text": "text features from MiniLM and other Hugging Face encoders",
    "kme": "keys over ETSI GS QKD 014: client and test KMEs",
    "optuna": "sweeps over spaces, proposed by Optuna",
    "sklearn": "FederatedClassifier, an estimator for scikit-learn",
    "qubo": "simulated annealing for subset selection",
    "notebook": "running the notebooks",
    "test": "everything that make test needs",
}
"""What an extra is for; one that is not here is listed without a purpose."""
TOLERANCE = 1e-10


@dataclass(frozen=True)
class Extra:
    """An optional part. missing: its packages that are not installed here, none where it is complete."""

    name: str
    purpose: str
    missing: tuple[str, ...]

    @property
    def line(self) -> str:
        """What installs it."""
        return f"pip install 'qfedfm[{self.name}]'"


@dataclass(frozen=True)
class About:
    """The installation, as `qf.about()` shows it.

    facts: as `environment` records them. extras: the optional parts. cache: its folder, and its size in bytes.
    """

    facts: dict[str, Any]
    extras: tuple[Extra, ...]
    cache: Path
    cache_bytes: int
    devices: tuple[str, ...] = field(default=("cpu",))

    def rows(self) -> list[tuple[str, str]]:
        """Return all of it as label and text."""
        facts = self.facts
        versions = [(name, version or "not installed") for name, version in facts["packages"].items()]
        extras = [
            (
                f"extra {extra.name}",
                ("complete" if not extra.missing else f"missing {', '.join(extra.missing)}: {extra.line}")
                + (f"   ({extra.purpose})" if extra.purpose else ""),
            )
            for extra in self.extras
        ]
        machine = [
            ("python", facts["python"]),
            ("commit", facts["commit"] or "none (installed from a package)"),
            ("platform", f"{facts['platform']}, {facts['processor']}"),
            ("cores", f"{facts['cores']}, {facts['torch_threads']} threads in torch"),
            ("devices", ", ".join(self.devices)),
            ("cache", f"{self.cache}, {self.cache_bytes / 2**20:.1f} MiB"),
        ]
        return [*versions, *machine, *extras]

    def __repr__(self) -> str:
        return "\n".join(f"{label:>20}  {text}" for label, text in self.rows())

    def _repr_html_(self) -> str:
        return table("What is installed", dict(self.rows()))


def about() -> About:
    """Return what is installed here; nothing is fetched or computed."""
    import torch

    folder = cache_directory()
    size = sum(file.stat().st_size for file in folder.rglob("*") if file.is_file()) if folder.exists() else 0
    cuda = [f"cuda:{i} ({torch.cuda.get_device_name(i)})" for i in range(torch.cuda.device_count())]
    return About(environment(), extras(), folder, size, ("cpu", *cuda))


def extras() -> tuple[Extra, ...]:
    """Return the extras that the installed package declares, each with what is missing of it."""
    found: dict[str, list[str]] = {}
    for requirement in importlib.metadata.requires("qfedfm") or ():
        package, _, condition = requirement.partition(";")
        if extra := re.search(r"extra == ['\"]([\w-]+)['\"]", condition):
            found.setdefault(extra[1], []).append(package.strip())
    return tuple(
        Extra(name, PURPOSES.get(name, ""), tuple(dict.fromkeys(_missing(packages, found))))
        for name, packages in found.items()
    )


def _missing(packages: list[str], known: dict[str, list[str]]) -> list[str]:
    missing = []
    for package in packages:
        name = re.match(r"[\w.-]+", package)
        if inner := re.match(r"qfedfm\[([\w-]+)\]", package):
            missing += _missing(known.get(inner[1], []), known)
        elif name and not _installed(name[0]):
            missing.append(name[0])
    return missing


def _installed(package: str) -> bool:
    try:
        importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return False
    return True


@dataclass(frozen=True)
class SelfCheck:
    """The simulator beside PennyLane's default.qubit on one circuit: largest difference of values and gradients."""

    values: float
    gradients: float
    seconds: float

    @property
    def passed(self) -> bool:
        """Whether both agree to `TOLERANCE`."""
        return max(self.values, self.gradients) < TOLERANCE

    def __repr__(self) -> str:
        word = "agrees" if self.passed else "DISAGREES"
        return (
            f"the simulator {word} with PennyLane's default.qubit: values within {self.values:.1e}, gradients within "
            f"{self.gradients:.1e} (4 qubits, 3 layers, {self.seconds:.1f} s)"
        )


def self_check() -> SelfCheck:
    """Compare the exact simulator with PennyLane on a strongly entangling circuit, in float64."""
    import numpy as np
    import pennylane as qml
    import torch

    from .quantum import load, simulate
    from .seeds import stream

    began = perf_counter()
    circuit = load("strongly_entangling", {"n": 4, "layers": 3})
    generator = stream(0, "self-check")
    x, weights = (torch.from_numpy(generator.uniform(-np.pi, np.pi, shape)) for shape in ((4,), (3, 4, 3)))

    def circuit_of(x: torch.Tensor, weights: torch.Tensor) -> Any:
        qml.AngleEmbedding(x, wires=range(4), rotation="X")
        qml.StronglyEntanglingLayers(weights, wires=range(4))
        return [qml.expval(qml.Z(wire)) for wire in range(4)]

    reference: Any = qml.QNode(circuit_of, qml.device("default.qubit"), interface="torch", diff_method="backprop")
    found = []
    for run in (
        lambda a, b: simulate(circuit.program, {"x": a[None, None]}, {"weights": b[None]}, circuit.observables)[0, 0],
        lambda a, b: torch.stack(reference(a, b)),
    ):
        leaves = [x.clone().requires_grad_(), weights.clone().requires_grad_()]
        values = run(*leaves)  # type: ignore[no-untyped-call]
        found.append((values.detach(), torch.autograd.grad((values * torch.arange(1.0, 5.0)).sum(), leaves)))
    (ours, our_grads), (theirs, their_grads) = found
    gradients = max(float((a - b).abs().max()) for a, b in zip(our_grads, their_grads, strict=True))
    return SelfCheck(float((ours - theirs).abs().max()), gradients, perf_counter() - began)
