"""Evaluation of many models at once against each by itself, and by hand."""

import math

import numpy as np
import pytest
import torch
from small_federation import FEATURES, LABELS, LINEAR, TABLE
from torch.nn.functional import cross_entropy

from qfedfm.errors import ConfigurationError
from qfedfm.evidence import by_client
from qfedfm.federation import evaluate, evaluation
from qfedfm.heads import Linear, Mlp, Variational
from qfedfm.params import stack
from qfedfm.seeds import stream

MODELS = {
    "linear": LINEAR,
    "mlp": Mlp((4,)).bind(FEATURES, 2).with_precision("float64"),
    "quantum": Variational("strongly_entangling", {"n": 2, "layers": 1}).bind(FEATURES, 2).with_precision("float64"),
}
ROWS = [stream(0, "rows", i).permutation(200)[:size] for i, size in enumerate([50, 1, 7])]


@pytest.mark.parametrize("budget", [1, 2**28], ids=["one by one", "together"])
@pytest.mark.parametrize("name", MODELS)
def test_models_together_equal_each_alone(name: str, budget: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(evaluation, "MEMORY_BUDGET", budget)
    model = MODELS[name]
    many = [model.init(seed) for seed in range(3)]
    results = evaluate(model, stack(many), TABLE, LABELS, ROWS)
    for params, rows, result in zip(many, ROWS, results, strict=True):
        logits = model.apply({key: tensor[None] for key, tensor in params.items()}, TABLE[None, rows])[0]
        losses = cross_entropy(logits, LABELS[rows], reduction="none")
        np.testing.assert_allclose(result.losses, losses, rtol=0, atol=1e-10)
        assert (result.right == (logits.argmax(1) == LABELS[rows]).numpy()).all()
        assert len(result.losses) == len(rows)
        assert result.loss == pytest.approx(float(cross_entropy(logits, LABELS[rows])), abs=1e-10)


def test_evaluation_worked_by_hand() -> None:
    # logits (0, x): x = ln 3 gives probabilities 1/4 and 3/4, x = -ln 3 the reverse
    params = {
        "readout.weight": torch.tensor([[[0.0], [1.0]]], dtype=torch.float64),
        "readout.bias": torch.zeros(1, 2, dtype=torch.float64),
    }
    table = torch.tensor([[math.log(3)], [-math.log(3)], [99.0]], dtype=torch.float64)
    model = Linear().bind(1, 2)
    (result,) = evaluate(model, params, table, torch.tensor([1, 1, 0]), [np.array([0, 1])])
    assert result.losses.tolist() == pytest.approx([math.log(4 / 3), math.log(4)])
    assert result.right.tolist() == [True, False]
    assert (result.accuracy, result.loss) == pytest.approx((0.5, math.log(16 / 3) / 2))


def test_clients_results_add_up_to_the_whole() -> None:
    (result,) = evaluate(LINEAR, stack([LINEAR.init(0)]), TABLE, LABELS, [np.arange(200)])
    owner = stream(0, "owner").integers(3, size=200)
    (table,) = by_client([result], [owner], [["anna", "bert", "cleo", "nobody"]])
    assert list(table) == ["anna", "bert", "cleo"]
    assert sum(row["rows"] for row in table.values()) == 200
    for key, whole in (("loss", result.loss), ("accuracy", result.accuracy)):
        assert sum(row["rows"] * row[key] for row in table.values()) / 200 == pytest.approx(whole, abs=1e-12)


def test_numbers_are_held_against_the_only_output() -> None:
    params = {
        "readout.weight": torch.tensor([[[2.0]]], dtype=torch.float64),
        "readout.bias": torch.zeros(1, 1, dtype=torch.float64),
    }
    table, labels = torch.tensor([[1.0], [3.0]], dtype=torch.float64), torch.tensor([1.5, 6.0], dtype=torch.float64)
    model = Linear().bind(1, 1).with_precision("float64")
    (result,) = evaluate(model, params, table, labels, [np.array([1, 0])])
    assert result.outputs.tolist() == [[6.0], [2.0]]
    assert result.labels.tolist() == [6.0, 1.5]
    assert result.losses.tolist() == [0.0, 0.25]
    utility = evaluation.utility_on(model, {}, table, labels, np.array([0, 1]))
    assert utility(params, "loss").tolist() == [-0.125]
    with pytest.raises(ConfigurationError, match="numbers that are predicted have no accuracy"):
        utility(params, "accuracy")
