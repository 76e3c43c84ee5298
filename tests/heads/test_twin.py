"""The classical twin, against counts worked by hand."""

import math

import pennylane as qml
import pytest
import torch

from qfedfm.errors import ConfigurationError
from qfedfm.heads import Linear, Mlp, Variational, matched_classical


@pytest.mark.parametrize(
    ("circuit", "sizes", "hidden"),
    [
        # 24 angles, of which the last RZ on each of 4 wires is dead: 20 = 4*4 + 4 of one layer
        ("strongly_entangling", {"n": 4, "layers": 2}, (4, 4)),
        # 36 - 4 = 32 live: one layer has 20; h hidden units have 4h + h + 4h + 4 = 9h + 4: h = 3 gives 31
        ("strongly_entangling", {"n": 4, "layers": 3}, (4, 3, 4)),
        # 12 - 2 = 10 live: one layer has 2*2 + 2 = 6; 5h + 2: 7, 12, 17; 12 is nearest by 2
        ("strongly_entangling", {"n": 2, "layers": 2}, (2, 2, 2)),
        # 8 angles, all live: one layer has 20, one hidden unit 9 + 4 = 13
        ("basic_entangler", {"n": 4, "layers": 2}, (4, 1, 4)),
    ],
)  # fmt: skip
def test_the_core_is_the_nearest_in_live_parameters(
    circuit: str, sizes: dict[str, int], hidden: tuple[int, ...]
) -> None:
    assert matched_classical(Variational(circuit, sizes)).hidden == hidden


def test_equal_distances_go_to_the_smaller_core() -> None:
    def three_angles(x, w):
        qml.RX(x, wires=0)
        for i in range(3):
            (qml.RY, qml.RX)[i % 2](w[i], wires=0)

    # from one input to one observable a layer has 2 parameters and h hidden units have 3h + 1: 3 lies between 2 and 4
    assert matched_classical(Variational(three_angles, {"x": (), "w": 3})).hidden == (1, 1)


@pytest.mark.parametrize("scale", [None, 0.75])
def test_the_twin_has_the_same_projection_scale_and_readout(scale: float | None) -> None:
    head = Variational("strongly_entangling", {"n": 3, "layers": 2}, scale)
    twin = matched_classical(head)
    assert twin.squash == (math.pi / 2 if scale is None else scale)
    model, other = head.bind(7, 3), twin.bind(7, 3)
    for part in ("projection", "readout"):
        assert [s for s in model.specs if s.part == part] == [s for s in other.specs if s.part == part]
    ours, theirs = model.init(0), other.init(0)
    assert all(torch.equal(ours[spec.name], theirs[spec.name]) for spec in model.specs if spec.part != "core")


@pytest.mark.parametrize("head", [Linear(), Mlp((4, 4))], ids=str)
def test_only_a_head_of_circuits_has_a_twin(head: Linear | Mlp) -> None:
    with pytest.raises(
        ConfigurationError, match=f"the circuit of a Variational or Parallel head; got {type(head).__name__}"
    ):
        matched_classical(head)
