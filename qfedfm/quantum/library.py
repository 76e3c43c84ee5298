"""The circuit library: a folder of OpenQASM 3 files, each with a card.

`NAME.qasm` is the circuit and `NAME.toml` says what it is: title, reference, how it is meant to be used, the period of
each weight, and checks (inputs and weights with expectation values from an independent computation). To add a circuit,
add the two files; nothing lists them. A path to any other .qasm file loads the same way, with or without a card beside
it. The folder is `qfedfm/circuits` in an installed package and `circuits` in a checkout.
"""

import math
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from ..declaration import declared
from ..errors import CircuitError, ConfigurationError, nearest
from .program import Circuit, Observable, Program, pauli_z, z_on_every_wire

Readout = Literal["z on every wire", "z on the last wire", "mean of z over the wires"]


@declared
class Check:
    """Expectation values that a circuit must give.

    sizes: where they differ from the file's. inputs, weights: name to nested lists, in radians, for one row and one
    client. expectations: one value for each read-out. source: what computed them.
    """

    sizes: dict[str, int]
    inputs: dict[str, Any]
    weights: dict[str, Any]
    expectations: tuple[float, ...]
    source: str


@declared
class Card:
    """What is known about a circuit of the library.

    input_scale: inputs are meant to lie in [-input_scale, input_scale] radians. periods: for each weight its period in
    radians, or "linear" if it multiplies an input. readout: what a head measures of it.
    """

    title: str
    reference: str
    role: str
    periods: dict[str, float | Literal["linear"]]
    readout: Readout = "z on every wire"
    input_scale: float = math.pi / 2
    check: tuple[Check, ...] = ()


def names() -> tuple[str, ...]:
    """Return the names of the circuits in the library, sorted."""
    return tuple(sorted(path.stem for path in _folder().glob("*.qasm")))


def load(name: str | Path, sizes: Mapping[str, int] | None = None) -> Circuit:
    """Return a circuit of the library by its name, or any OpenQASM 3 file by its path (which ends in .qasm).

    sizes: values for the sizes that the file declares, such as {"n": 6, "layers": 3}. Raises `CircuitError` for an
    unknown name or size, for what the file contains and a program cannot, and where its card is wrong about a period.
    """
    from .qasm import read

    path = _find(name)
    program = read(_text(path), sizes, path.stem)
    about = _card(path)
    source = str(name)
    if about is None:
        return Circuit(program, z_on_every_wire(program.n_wires), name=path.stem, source=source)
    _check_periods(program, about, path)
    return Circuit(
        program,
        _observables(about.readout, program.n_wires),
        path.stem,
        about.input_scale,
        reference=about.reference,
        source=source,
    )


def card(name: str | Path) -> Card:
    """Return the card of a circuit; raise `CircuitError` if it has none."""
    path = _find(name)
    about = _card(path)
    if about is None:
        raise CircuitError(f"circuit '{path.stem}' has no card: {path.with_suffix('.toml').name} is not beside it")
    return about


def _folder() -> Path:
    package = Path(__file__).parents[1]
    places = (package / "circuits", package.parent / "circuits")
    for place in places:
        if place.is_dir():
            return place
    raise CircuitError(
        f"the circuit library is missing from this installation; looked in {' and '.join(map(str, places))}"
    )


def _find(name: str | Path) -> Path:
    if Path(name).suffix == ".qasm":
        return Path(name)
    if name not in names():
        known = names()
        raise CircuitError(
            f"circuit '{name}' is not in the library{nearest(str(name), known)}; "
            f"it holds {', '.join(known)}, and a path to a file must end in .qasm"
        )
    return _folder() / f"{name}.qasm"


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise CircuitError(f"circuit file {path} cannot be read: {error}") from None


def _card(path: Path) -> Card | None:
    file = path.with_suffix(".toml")
    if not file.exists():
        return None
    try:
        return Card(**tomllib.loads(_text(file)))
    except (tomllib.TOMLDecodeError, ConfigurationError) as error:
        raise CircuitError(f"card {file.name}: {error}") from None


def _observables(readout: Readout, n_wires: int) -> tuple[Observable, ...]:
    every = z_on_every_wire(n_wires)
    if readout == "z on the last wire":
        return (pauli_z(n_wires - 1),)
    if readout == "mean of z over the wires":
        return (tuple((1 / n_wires, word) for ((_, word),) in every),)
    return every


def _check_periods(program: Program, about: Card, path: Path) -> None:
    stated = {name: math.inf if isinstance(period, str) else period for name, period in about.periods.items()}
    computed = {spec.name: spec.period or math.inf for spec in program.weights}
    if stated.keys() != computed.keys() or not all(math.isclose(stated[name], computed[name]) for name in stated):
        found = {name: "linear" if period == math.inf else period for name, period in computed.items()}
        raise CircuitError(f"card {path.stem}.toml states the periods {about.periods}; its circuit has {found}")
