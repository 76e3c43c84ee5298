"""The circuits of a round's clients, as the rules see them that compare states instead of angles."""

import numpy as np
import torch
from torch import Tensor

from ..errors import ConfigurationError
from ..heads.variational import CORE
from ..params import Params
from ..quantum.program import Circuit
from .updates import Context, Updates


def trained_circuit(rule: str, context: Context) -> Circuit:
    """Return the circuit whose weights are being trained.

    Raises `ConfigurationError`, naming `rule`, where the head has no circuit or trains none of its weights.
    """
    model = context.model
    if model is None or model.circuit is None:
        raise ConfigurationError(f"{rule} compares circuits and this head has none: use Variational, or AngularMean")
    if model.beside:
        raise ConfigurationError(
            f"{rule} compares the states of one circuit and this head has {len(model.circuits)}: use AngularMean"
        )
    trained = {spec.name for spec in model.specs}
    if not model.circuit.program.weights or not all(CORE + w.name in trained for w in model.circuit.program.weights):
        raise ConfigurationError(
            f"{rule} compares trained circuits; circuit '{model.circuit.name}' of this head is fixed: use AngularMean"
        )
    return model.circuit


def client_weights(circuit: Circuit, params: Params, updates: Updates) -> Params:
    """Return the circuit's weights of every client, {name: (n, *shape)} float64."""
    names = [spec.name for spec in circuit.program.weights]
    return {name: params[CORE + name].double() + updates.delta[CORE + name].double() for name in names}


def probe_inputs(circuit: Circuit, rows: int, generator: np.random.Generator) -> dict[str, Tensor]:
    """Return random inputs {name: (rows, *shape)} float64, uniform in [-input_scale, input_scale] radians."""
    scale = circuit.input_scale
    return {
        name: torch.from_numpy(generator.uniform(-scale, scale, (rows, *shape)))
        for name, shape in circuit.program.inputs
    }
