"""The effective dimension against closed forms, and the Fisher information behind it against its definition."""

import math

import numpy as np
import pytest
import torch

from qfedfm.errors import ConfigurationError
from qfedfm.evidence import effective_dimension
from qfedfm.evidence.capacity import dimension_of, fisher_spectra
from qfedfm.heads import Linear, Variational, matched_classical
from qfedfm.params import stack


def kappa(n, gamma=1.0):
    return gamma * n / (2 * math.pi * math.log(n))


@pytest.mark.parametrize(("rank", "d"), [(5, 5), (2, 5), (1, 40)])
@pytest.mark.parametrize("gamma", [1.0, 0.3])
def test_a_flat_fisher_information_by_hand(rank, d, gamma):
    # equal eigenvalues on `rank` directions, normalised to d / rank: d_eff = rank log(1 + kappa d / rank) / log kappa
    spectra = torch.full((4, rank), 0.7, dtype=torch.float64)
    found = dimension_of(spectra, d, 1000, gamma)
    k = kappa(1000, gamma)
    assert found.mean == pytest.approx(rank * math.log(1 + k * d / rank) / math.log(k))
    assert found.high - found.low == pytest.approx(0, abs=1e-9)  # the same everywhere: no sampling error


def test_two_sets_of_parameters_by_hand():
    # abbas et al. 2021: eigenvalues 1 and 3, mean 2, so d F / mean trace = 1/2 and 3/2 for d = 1
    found = dimension_of(torch.tensor([[1.0], [3.0]]), 1, 1000)
    k = kappa(1000)
    mean_root = (math.sqrt(1 + k / 2) + math.sqrt(1 + 3 * k / 2)) / 2
    assert found.mean == pytest.approx(2 * math.log(mean_root) / math.log(k))


def test_it_grows_towards_the_rank_with_data():
    spectra = torch.from_numpy(np.random.default_rng(0).gamma(1.0, size=(30, 6)))
    found = [dimension_of(spectra, 6, n).mean for n in (10**3, 10**6, 10**12, 10**30)]
    assert [abs(6 - v) for v in found] == sorted((abs(6 - v) for v in found), reverse=True)
    assert found[-1] == pytest.approx(6, abs=0.15)


def test_the_jackknife_shows_the_spread_between_seeds():
    generator = np.random.default_rng(1)
    many = [dimension_of(torch.from_numpy(generator.gamma(1.0, size=(50, 6))), 6, 1000) for _ in range(200)]
    between = np.std([found.mean for found in many], ddof=1)
    stated = np.mean([(found.high - found.low) / 2 for found in many]) / 2.01  # t(49)
    assert stated == pytest.approx(between, rel=0.15)  # 200 seeds know their spread to 5 %


def test_logistic_regression_by_hand():
    # outputs f = W x + b and p = softmax f: F = mean of (diag p - p p^T) (x) (x, 1)(x, 1)^T
    model = Linear().bind(3, 3).with_precision("float64")
    params = stack([model.init(seed) for seed in range(2)])
    features = torch.randn(5, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    found = fisher_spectra(model, params, features)
    for i in range(2):
        p = (features @ params["readout.weight"][i].T + params["readout.bias"][i]).softmax(1)
        inner = torch.diag_embed(p) - p[:, :, None] * p[:, None]
        outer = torch.cat([features, torch.ones(5, 1)], 1)
        fisher = torch.stack([torch.kron(a, torch.outer(x, x)) for a, x in zip(inner, outer, strict=True)]).mean(0)
        expected = torch.linalg.eigvalsh(fisher)[-found.shape[1] :]
        torch.testing.assert_close(found[i], expected, atol=1e-12, rtol=0)


@pytest.mark.parametrize("rows", [2, 40])  # the Gram matrix of either side
def test_a_circuits_fisher_information_follows_its_definition(rows):
    model = Variational("angle_ring", {"n": 2, "layers": 1}).bind(3, 2).with_precision("float64")
    params = stack([model.init(0)])
    features = torch.randn(rows, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    names = list(params)

    def log_probabilities(*tensors):
        return model.apply(dict(zip(names, tensors, strict=True)), features[None])[0].log_softmax(-1)

    jacobians = torch.autograd.functional.jacobian(log_probabilities, tuple(params.values()))
    score = torch.cat([j.reshape(rows, 2, -1) for j in jacobians], -1)
    p = log_probabilities(*params.values()).exp()
    fisher = torch.einsum("rc,rci,rcj->ij", p, score, score) / rows
    found = fisher_spectra(model, params, features)[0]
    expected = torch.linalg.eigvalsh(fisher)
    count = min(len(found), len(expected))
    torch.testing.assert_close(found[-count:], expected[-count:], atol=1e-12, rtol=0)


def test_head_and_twin_are_measured_alike():
    head = Variational("strongly_entangling", {"n": 3, "layers": 2})
    features = torch.randn(40, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    for chosen in (head, matched_classical(head)):
        model = chosen.bind(3, 2)
        found = effective_dimension(model, features, rows=1000, samples=20)
        assert 0 < found.dimension.low < found.dimension.mean < found.parameters
        assert found.parameters == sum(spec.size for spec in model.specs)
        assert found.share == pytest.approx(found.dimension.mean / found.parameters)
        assert "1,000 rows of data" in found.verdict
        assert found.to_frame()["dimension"].item() == found.dimension.mean
        assert "Effective dimension" in found._repr_html_()
    assert effective_dimension(model, features[:5], rows=1000, samples=4).rank == 5


def test_where_the_formula_has_no_meaning_it_is_refused():
    model, features = Linear().bind(3, 2), torch.zeros(18, 3)
    with pytest.raises(ConfigurationError, match=r"needs gamma n > 2 pi log n; got gamma = 1.0 and n = 18"):
        effective_dimension(model, features)
    assert effective_dimension(model, features, rows=19).dimension.mean > 0
    for gamma in (0, 1.5):
        with pytest.raises(ConfigurationError, match="gamma: expected a number above 0"):
            effective_dimension(model, features, rows=1000, gamma=gamma)
    assert dimension_of(torch.zeros(3, 2), 2, 1000).mean == 0
