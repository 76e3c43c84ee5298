"""Your head: the circuit of circuit.qasm with a linear path beside it."""

from dataclasses import replace
from pathlib import Path

from qfedfm.declaration import declared
from qfedfm.heads import Linear, Model, Variational


@declared
class Skip:
    """outputs = variational(features) + linear(features)."""

    circuit: Path = Path(__file__).with_name("circuit.qasm")
    layers: int = 3

    def bind(self, n_features: int, n_outputs: int) -> Model:
        """Return the model; parameters of the linear path are named "skip.weight" and "skip.bias"."""
        quantum = Variational(self.circuit, {"n": 3, "layers": self.layers}).bind(n_features, n_outputs)
        linear = Linear().bind(n_features, n_outputs)
        specs = (*quantum.specs, *(replace(spec, name=f"skip.{spec.name}") for spec in linear.specs))

        def hybrid(params, features, execute):
            beside = {spec.name: params[f"skip.{spec.name}"] for spec in linear.specs}
            return quantum.hybrid(params, features, execute) + linear.apply(beside, features)

        def apply(params, features):
            beside = {spec.name: params[f"skip.{spec.name}"] for spec in linear.specs}
            return quantum.apply(params, features) + linear.apply(beside, features)

        bounds = (*quantum.bounds, *linear.bounds)
        return Model(specs, apply, bounds, quantum.row_bytes + linear.row_bytes, quantum.circuit, hybrid)
