"""The linear probe: logistic regression on frozen features, the baseline that every other head has to beat."""

from ..declaration import declared
from .model import Model, activations_bytes, apply_dense, dense


@declared
class Linear:
    """One linear layer from features to outputs."""

    def bind(self, n_features: int, n_outputs: int) -> Model:
        """Return the model with parameters readout.weight (n_outputs, n_features) and readout.bias (n_outputs,)."""
        specs, bounds = dense("readout", n_features, n_outputs, "readout")
        return Model(
            specs,
            lambda params, features: apply_dense(params, "readout", features),
            bounds,
            activations_bytes((n_features, n_outputs)),
        )
