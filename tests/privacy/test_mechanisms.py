"""Private training and private aggregation: sensitivity, noise, angles and budgets."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn.functional import cross_entropy

from qfedfm.aggregation import Context, Updates
from qfedfm.aggregation.dp_fedavg import DpFedAvg
from qfedfm.errors import ConfigurationError, PrivacyExhausted
from qfedfm.heads import Linear, Mlp, Variational
from qfedfm.ledger import Entry
from qfedfm.params import ParamSpec, stack
from qfedfm.privacy import (
    AdaptiveClip,
    DpSgd,
    LocalDp,
    check_budget,
    clip_updates,
    per_example_gradients,
    spent,
    spent_by_client,
)
from qfedfm.seeds import stream
from qfedfm.training import Lane, Sgd, train_cohort

TURN = 2 * math.pi
SPECS = (ParamSpec("line", (2, 2), "float64"), ParamSpec("angle", (3,), "float64", "angular", TURN, "core"))
TABLE = torch.from_numpy(stream(0, "table").normal(size=(60, 3)))
LABELS = torch.from_numpy(stream(0, "labels").integers(2, size=60))
HEADS = [Linear(), Mlp((3,)), Variational("strongly_entangling", {"n": 2, "layers": 1})]


@pytest.mark.parametrize("head", HEADS, ids=lambda head: type(head).__name__)
def test_gradients_of_rows_are_those_of_torch_one_row_at_a_time(head: Linear | Mlp | Variational) -> None:
    model = head.bind(3, 2).with_precision("float64")
    params, rows = stack([model.init(c) for c in range(2)]), torch.tensor([[3, 4, 5], [6, 7, 3]])
    names = [spec.name for spec in model.specs]
    losses, each = per_example_gradients(model, params, TABLE[rows], LABELS[rows], names)
    for c in range(2):
        for r in range(3):
            leaves = {name: tensor[c : c + 1].clone().requires_grad_() for name, tensor in params.items()}
            loss = cross_entropy(model.apply(leaves, TABLE[rows[c, r]][None, None])[0], LABELS[rows[c, r]][None])
            grads = torch.autograd.grad(loss, list(leaves.values()), materialize_grads=True)
            torch.testing.assert_close(losses[c, r], loss.detach())
            for name, grad in zip(leaves, grads, strict=True):
                torch.testing.assert_close(each[name][c, r], grad[0], rtol=0, atol=1e-12)


def trained(privacy: DpSgd | None, rows: list[np.ndarray], **options: int) -> list[torch.Tensor]:
    """Return the parameters of clients of a linear head, each flat, after training from zero."""
    model = Linear().bind(3, 2).with_precision("float64")
    zero = {spec.name: torch.zeros(len(rows), *spec.shape, dtype=torch.float64) for spec in model.specs}
    lanes = [Lane(mine, stream(1, "order", c), Sgd(lr=1.0), stream(1, "noise", c)) for c, mine in enumerate(rows)]
    done = train_cohort(model, zero, TABLE, LABELS, lanes, privacy=privacy, **options)
    return [torch.cat([t[c].flatten() for t in done.params.values()]) for c in range(len(rows))]


@pytest.mark.parametrize("budget", [1, 2**28])
def test_without_clip_and_noise_private_training_on_permutations_is_training(budget: int) -> None:
    rows = [np.arange(9), np.arange(9, 11), np.arange(11, 40)]
    options = {"batch_size": 4, "epochs": 2, "memory_budget": budget}
    private = trained(DpSgd(clip=1e9, sigma=1e-15, sampling="permutation"), rows, **options)
    for mine, plain in zip(private, trained(None, rows, **options), strict=True):
        torch.testing.assert_close(mine, plain, rtol=0, atol=1e-5)  # noise of 1e9 * 1e-15 a step


@settings(max_examples=30)
@given(st.integers(0, 29), st.floats(0.01, 2), st.sampled_from(["poisson", "permutation"]))
def test_one_row_moves_a_step_by_at_most_the_clip_over_the_batch(row: int, clip: float, sampling: str) -> None:
    # neighbours: the row's gradient is zero; same sample and noise
    privacy = DpSgd(clip=clip, sigma=1e-12, sampling=sampling)  # type: ignore[arg-type]
    model = Linear().bind(3, 2).with_precision("float64")
    each = {
        spec.name: torch.from_numpy(stream(row, spec.name).normal(size=(1, 30, *spec.shape))) for spec in model.specs
    }
    without = {name: t.clone() for name, t in each.items()}
    for tensor in without.values():
        tensor[0, row] = 0
    mask, expected = torch.ones(1, 30, dtype=torch.bool), torch.tensor([10])
    steps = [privacy.gradient(g, mask, expected, [stream(0, "noise")]) for g in (each, without)]
    apart = torch.cat([(a - b).flatten() for a, b in zip(*steps, strict=True)]).norm()
    assert float(apart) <= clip / 10 * (1 + 1e-9)


def test_noise_of_a_step_is_sigma_clip_over_the_expected_batch() -> None:
    # 2000 clients of 6 rows, gradients clipped to nothing: standard deviation .02 * 50 / 4, to 2 % (a 4 sigma bound is
    # 4 / sqrt(2 * 16000) = 2.2 %)
    done = trained(DpSgd(clip=0.02, sigma=50.0), [np.arange(6)] * 2000, batch_size=4, steps=1)
    moves = torch.stack(done)
    assert float(moves.std()) == pytest.approx(0.02 * 50 / 4, rel=0.022)
    assert float(torch.corrcoef(moves.T).fill_diagonal_(0).abs().max()) < 0.1  # 2000 draws: 4.5 sigma


def test_poisson_samples_hold_each_row_with_probability_q_and_may_be_empty() -> None:
    privacy, generator, rows = DpSgd(), stream(0, "batch"), np.arange(50, 60)
    batches = [privacy.batch(rows, 2, generator) for _ in range(4000)]
    counts = np.bincount(np.concatenate(batches) - 50, minlength=10)
    assert counts == pytest.approx(800, abs=4 * math.sqrt(4000 * 0.2 * 0.8))  # binomial, four sigma
    assert any(len(batch) == 0 for batch in batches)
    assert all(len(privacy.batch(rows, 16, generator)) == 10 for _ in range(5))  # q is one at most
    trained(privacy, [np.array([3])] * 3 + [np.arange(20)], batch_size=1, steps=40)  # some steps without a row


def test_private_training_needs_noise_of_its_own() -> None:
    model = Linear().bind(3, 2)
    lane = Lane(np.arange(3), stream(0), Sgd())
    with pytest.raises(ConfigurationError, match=r"Lane\.noise"):
        train_cohort(model, stack([model.init(0)]), TABLE.float(), LABELS, [lane], privacy=DpSgd())


def updates(seed: int, n: int, scale: float = 1.0) -> Updates:
    rng = stream(seed, "updates")
    delta = {spec.name: torch.from_numpy(scale * rng.normal(size=(n, *spec.shape))) for spec in SPECS}
    return Updates(tuple(f"c{i}" for i in range(n)), delta, (5,) * n, (1,) * n, (0.5,) * n)


@given(st.integers(0, 1000), st.floats(0.01, 5), st.integers(-3, 3))
def test_clipped_updates_are_short_keep_their_direction_and_do_not_see_turns(
    seed: int, clip: float, turns: int
) -> None:
    delta = updates(seed, 4).delta
    clipped, length = clip_updates(delta, clip, SPECS)
    flat = torch.cat([t.flatten(1) for t in clipped.values()], dim=1)
    assert bool((flat.norm(dim=1) <= clip * (1 + 1e-12)).all())
    assert bool((flat.norm(dim=1) >= length.clamp(max=clip) * (1 - 1e-9)).all())
    turned, same = clip_updates(delta | {"angle": delta["angle"] + turns * TURN}, clip, SPECS)
    torch.testing.assert_close(turned["angle"], clipped["angle"], rtol=0, atol=1e-9)
    torch.testing.assert_close(same, length, rtol=0, atol=1e-9)


def test_clipping_by_hand() -> None:
    delta = {
        "line": torch.zeros(1, 2, 2).double(),
        "angle": torch.tensor([[3.0, TURN + 4.0, TURN]], dtype=torch.float64),
    }
    clipped, length = clip_updates(delta, 1.0, SPECS)  # 4 is 4 - 2 pi the shorter way, a whole turn is nothing
    expected = math.hypot(3, 4 - TURN)
    assert float(length) == pytest.approx(expected)
    assert clipped["angle"].flatten().tolist() == pytest.approx([3 / expected, (4 - TURN) / expected, 0])


def aggregated(rule: DpFedAvg, given_: Updates, state: dict[str, torch.Tensor] | None = None, seed: int = 0):  # type: ignore[no-untyped-def]
    params = {spec.name: torch.zeros(spec.shape, dtype=torch.float64) for spec in SPECS}
    before = rule.init(SPECS) if state is None else state
    return rule(before, params, given_, SPECS, Context(1, stream(seed, "rule")))


def test_dp_fedavg_is_the_plain_mean_of_clipped_updates_and_its_noise() -> None:
    many = updates(0, 8, scale=0.1)
    new, _, info = aggregated(DpFedAvg(clip=100.0, sigma=1e-12), many)
    for spec in SPECS:
        torch.testing.assert_close(new[spec.name], many.delta[spec.name].mean(0), rtol=0, atol=1e-9)
    assert info["privacy"]["rounds"] == 1
    nothing = replace(many, delta={name: torch.zeros_like(t) for name, t in many.delta.items()})
    draws = [aggregated(DpFedAvg(clip=0.5, sigma=2.0), nothing, seed=seed)[0]["line"] for seed in range(500)]
    assert float(torch.stack(draws).std()) == pytest.approx(0.5 * 2 / 8, rel=0.07)  # 2000 normals: 4.4 sigma


def test_dp_fedavg_counts_the_rounds_of_each_client_and_stops_at_its_budget() -> None:
    rule, many = DpFedAvg(sigma=4.0), updates(0, 4)
    once = rule.epsilon(1)
    assert once == pytest.approx(spent(DpSgd(sigma=4.0), 1, 1, 1, 1).eps)  # q = 1: the same Gaussian mechanism
    limited = replace(rule, budget=(rule.epsilon(2) + rule.epsilon(3)) / 2)
    _, state, first = aggregated(limited, many)
    other = replace(many, clients=("d0", "d1", "d2", "d3"))
    _, state, second = aggregated(limited, other, state)  # others: nobody took part twice
    assert first["privacy"]["eps"] == second["privacy"]["eps"] == once
    _, state, third = aggregated(limited, many, state)
    assert third["privacy"]["eps"] == rule.epsilon(2)
    with pytest.raises(PrivacyExhausted, match="after 2 rounds with the same client"):
        aggregated(limited, many, state)


def test_andrew_2021_the_clip_finds_the_median_length() -> None:
    rule = DpFedAvg(clip=10.0, sigma=1.0, adaptive=AdaptiveClip(share=0.05))
    state = rule.init(SPECS)
    many = updates(3, 100)
    median = float(clip_updates(many.delta, 1.0, SPECS)[1].median())
    for step in range(60):
        _, state, _ = aggregated(rule, many, state, seed=step)
    assert float(state["clip"]) == pytest.approx(median, rel=0.1)


def test_andrew_2021_sum_and_count_together_lose_what_sigma_says() -> None:
    adaptive = AdaptiveClip(share=0.05)
    mine = adaptive.sigma_of_sum(1.1, 100)
    assert mine**-2 + (2 * 5.0) ** -2 == pytest.approx(1.1**-2)  # Gaussian losses add up as 1 / sigma^2
    with pytest.raises(ConfigurationError, match="or more clients a round"):
        adaptive.sigma_of_sum(1.1, 10)
    by_hand = adaptive.next(2.0, torch.tensor([1.0, 3.0, 3.0, 3.0]), NoNoise())  # a quarter is short: grow
    assert by_hand == pytest.approx(2 * math.exp(0.2 * 0.25))


class NoNoise(np.random.Generator):
    def __init__(self) -> None:
        super().__init__(np.random.PCG64(0))

    def standard_normal(self, *args: object, **kwargs: object) -> float:  # type: ignore[override]
        return 0.0


def test_permutations_pay_for_every_pass_and_poisson_samples_for_every_step() -> None:
    poisson, cut = DpSgd(sigma=2.0), DpSgd(sigma=2.0, sampling="permutation")
    order = 20  # of alpha: index into ORDERS, 3.1
    assert cut.rdp(100, 10, 25)[order] == pytest.approx(3 * 3.1 / 8)  # three passes begun, alpha / (2 sigma^2) each
    assert cut.rdp(5, 10, 4)[order] == pytest.approx(4 * 3.1 / 8)
    assert poisson.rdp(5, 10, 4)[order] == pytest.approx(4 * 3.1 / 8)  # q = 1
    assert poisson.rdp(100, 10, 25)[order] < cut.rdp(100, 10, 25)[order]
    assert LocalDp(sigma=2.0).rdp(100, 10, 25)[order] == pytest.approx(4 * 3.1 / 8)  # updates up to 2 C apart
    # the published case, as a federation sees it: 10 rounds of 100 steps with q = 1 / 100
    assert spent(DpSgd(sigma=1.1), 1000, 10, 100, 10).eps == pytest.approx(1.7118, abs=5e-5)


def test_losses_are_worked_out_from_the_ledger() -> None:
    entries = [Entry(r, "a", bytes_up=9, rows=100, steps=10) for r in (1, 2, 3)]
    entries += [Entry(1, "b", bytes_up=9, rows=50, steps=5), Entry(2, "b", bytes_up=9)]  # refused, and yet sent
    entries += [Entry(1, "c", bytes_down=9), Entry(1, "d", bytes_up=9)]
    privacy = DpSgd()
    found = spent_by_client(privacy, 10, entries)
    expected = {"a": spent(privacy, 100, 10, 10, 3).eps, "b": spent(privacy, 50, 10, 5, 2).eps, "d": math.inf}
    assert found == expected


def test_a_budget_is_refused_when_the_next_round_would_pass_it() -> None:
    open_end = DpSgd(sigma=1.0)
    limited = replace(open_end, budget=(spent(open_end, 100, 10, 10, 4).eps + spent(open_end, 100, 10, 10, 5).eps) / 2)
    check_budget(limited, 100, 10, 10, 3)
    with pytest.raises(PrivacyExhausted, match="after 4 rounds"):
        check_budget(limited, 100, 10, 10, 4)
    check_budget(open_end, 100, 10, 10, 10**6)
