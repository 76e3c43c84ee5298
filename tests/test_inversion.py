"""Inversion: rows read off exact updates, as published and measured, and what makes it harder."""

import math

import numpy as np
import pytest
import torch

from qfedfm.errors import ConfigurationError
from qfedfm.heads import Linear, Mlp, Variational
from qfedfm.trust.inversion import gradient_matching, inversion_audit, jacobian, least_squares

THREE_QUBITS = Variational("strongly_entangling", {"n": 3, "layers": 2})


@pytest.mark.parametrize("parts", [("core",), None], ids=["angles only", "all"])
def test_rows_of_a_three_qubit_head_are_read_from_every_exact_update(parts: tuple[str, ...] | None) -> None:
    # measured with 15 trials and 16 starts, seed 0: 15 of 15; here 3 trials and 8 starts
    found = inversion_audit(THREE_QUBITS, trials=3, starts=8, parts=parts, seed=0)  # type: ignore[arg-type]
    assert found.score == 1
    assert found.best.max() < 1e-6


def test_noise_in_the_gradients_hides_rows_for_a_while_and_is_no_guarantee() -> None:
    one, three = (
        inversion_audit(THREE_QUBITS, trials=3, starts=4, noise=1 / math.sqrt(2000), uploads=uploads, seed=0)
        for uploads in (1, 3)
    )
    # the noise of 1000 shots at worst; measured with 15 trials and 16 starts: 4 of 15 from one upload, 9 from three
    assert one.recovered < 3
    assert np.median(three.best) < np.median(one.best)


@pytest.mark.parametrize("head", [Linear(), Mlp((3,))], ids=str)
def test_phong_2018_a_linear_layer_gives_a_single_row_away(head: Linear | Mlp) -> None:
    found = inversion_audit(head, n_features=5, trials=3, starts=1)
    assert found.score == 1
    assert found.best.max() < 1e-6


def test_several_gradient_steps_are_inverted_as_one_is() -> None:
    assert inversion_audit(THREE_QUBITS, trials=1, starts=8, steps=3, parts=("core", "readout")).score == 1


def test_rows_under_much_noise_are_not_recovered_and_the_interval_says_how_sure_that_is() -> None:
    found = inversion_audit(Linear(), n_features=5, trials=4, starts=4, noise=10.0)
    assert found.score == 0
    frame = found.to_frame()
    assert frame["attack"].tolist() == ["least squares", "gradient matching", "best"]
    # Wilson's interval of 0 in 4: z^2 / (n + z^2)
    assert frame["95 % high"].iloc[2] == pytest.approx(1.959964**2 / (4 + 1.959964**2))
    assert frame["95 % low"].iloc[2] == pytest.approx(0, abs=1e-12)


def cubic(x: torch.Tensor) -> torch.Tensor:
    return torch.stack([x[:, 0] ** 3 + x[:, 1], x[:, 0] - x[:, 1] ** 3, x.prod(1), torch.ones(len(x))], dim=1)


def test_jacobian_by_hand() -> None:
    slopes = jacobian(cubic, torch.tensor([[1.0, 2.0], [0.5, -1.0]], dtype=torch.float64))
    expected = [[[3, 1], [1, -12], [2, 1], [0, 0]], [[0.75, 1], [1, -3], [-1, 0.5], [0, 0]]]
    torch.testing.assert_close(slopes, torch.tensor(expected, dtype=torch.float64), rtol=0, atol=1e-8)


@pytest.mark.parametrize(("search", "tolerance"), [(least_squares, 1e-9), (gradient_matching, 0.02)])
def test_both_searches_find_a_known_point(search: object, tolerance: float) -> None:
    truth = torch.tensor([[0.3, -0.7]], dtype=torch.float64)
    starts = torch.tensor([[0.5, -0.5], [0.1, -0.9]], dtype=torch.float64)
    found = search(cubic, cubic(truth)[0], starts)  # type: ignore[operator]
    assert float((found - truth).abs().max()) < tolerance


def test_an_audit_repeats() -> None:
    once, again = (inversion_audit(Linear(), trials=2, starts=2, rows=2, seed=4) for _ in range(2))
    assert once.best.tolist() == again.best.tolist()


def test_nonsense_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="positive sizes"):
        inversion_audit(Linear(), trials=0)
    with pytest.raises(ConfigurationError, match="nothing of this head travels"):
        inversion_audit(Linear(), parts=("core",))
