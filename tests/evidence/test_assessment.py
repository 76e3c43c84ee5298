"""What `trainability` joins: the parts agree with those asked one by one, and are shown as they are."""

import math
import re

import matplotlib.pyplot as plt
import numpy as np
import pytest
import torch

from qfedfm.data import from_arrays
from qfedfm.errors import ConfigurationError
from qfedfm.evidence import expressibility, gradient_scaling, trainability
from qfedfm.heads import Linear, Variational


def small(data=None, head=None, **settings):
    return trainability(head or Variational("angle_ring", {"n": 3}), data, samples=40, pairs=500, **settings)


def test_it_joins_what_its_parts_say():
    found = small()
    frame = found.to_frame().set_index("quantity")
    assert frame.value["qubits"] == 3
    assert (frame.value["live weights"], frame.value["weights"]) == (found.live, 9)
    for quantity in ("gradient variance", "divergence from Haar", "Meyer-Wallach entanglement", "effective dimension"):
        row = frame.loc[quantity]
        assert row.low <= row.value <= row.high
        assert row.samples >= 40
    assert found.warning is None
    assert "stand out of shot noise" in found.verdict
    text = found._repr_html_()
    assert "the same, classical twin" in text
    assert "(exact simulation)" in text
    assert found.gradients._repr_html_().startswith("<table>")
    assert found.expressibility._repr_html_().startswith("<table>")
    assert small().to_frame().equals(found.to_frame())


def test_a_machine_with_few_shots_is_warned_about():
    found = small(shots=4)
    assert found.warning == found.verdict
    assert found.warning.startswith("Plateau: at random weights a gradient of angle_ring (3 qubits")


def test_data_pass_the_heads_projection():
    rows = np.random.default_rng(0).normal(size=(64, 5))
    head = Variational("angle_ring", {"n": 3})
    first = {name: tensor.double().numpy() for name, tensor in head.bind(5, 2).init(0).items()}
    angles = math.pi / 2 * np.tanh(rows @ first["projection.weight"].T + first["projection.bias"])
    expected = expressibility(head.resolve(), torch.from_numpy(angles), 500)
    assert small(rows).expressibility.value == pytest.approx(expected.value)


def test_a_data_set_brings_its_classes():
    labels = np.arange(90) % 3
    source = from_arrays(np.random.default_rng(0).normal(size=(90, 4)), labels)
    found = small(source)
    # projection 4 x 3 + 3, nine angles, read-out 3 x 3 + 3
    assert found.dimension.parameters == 15 + 9 + 12
    assert found.dimension.rows == 90
    assert small(source.load()).to_frame().equals(found.to_frame())


def test_beyond_six_qubits_bins_are_haars():
    head = Variational("basic_entangler", {"n": 7, "layers": 1})
    found = trainability(head, samples=10, pairs=200)
    np.testing.assert_allclose(found.expressibility.haar, 1 / 75, rtol=1e-9)
    ax = found.expressibility.plot()
    assert ax.get_xlabel() == "share of Haar-random pairs with a lower fidelity"
    plt.close(ax.figure)


def test_pictures_draw_where_they_are_told():
    found = small()
    scaling = gradient_scaling(
        lambda n, layers: Variational("angle_ring", {"n": n, "layers": layers}), (2, 3, 4), (1, 2), 20
    )
    figure, axes = plt.subplots(1, 3)
    assert found.plot(axes[0]) is axes[0]
    assert found.expressibility.plot(axes[1]) is axes[1]
    assert scaling.plot(axes[2]) is axes[2]
    assert axes[0].get_yscale() == axes[2].get_yscale() == "log"
    labels = [text.get_text() for text in axes[2].get_legend().get_texts()]
    assert {"1 layers", "2 layers", "shot noise, 1,024 shots"} <= set(labels)
    assert len(scaling.to_frame()) == 6
    assert len(found.expressibility.to_frame()) == 75
    assert re.search(r"each qubit more divides", scaling._repr_html_())
    plt.close(figure)


def test_other_heads_are_refused():
    with pytest.raises(
        ConfigurationError, match=r"expected a Variational head, which has a trained circuit; got Linear"
    ):
        trainability(Linear())
