"""Every optimiser in whole federations: counted, resumed bit for bit, on a machine and exactly; arms at equal cost."""

from dataclasses import replace

import numpy as np
import pytest
from tiny import arrays, cut_short, experiment

import qfedfm as qf
from qfedfm.arms import Arm, Trial
from qfedfm.assembly import bind, federate, prepare
from qfedfm.backends import Exact, ParameterShift, Shots, Spsa
from qfedfm.data import IID
from qfedfm.equal_cost import cut, spent
from qfedfm.errors import ConfigurationError
from qfedfm.experiment import Experiment
from qfedfm.federation import Clients, Training
from qfedfm.heads import Kernel, Mlp, Parallel, Variational
from qfedfm.privacy import DpSgd, LocalDp
from qfedfm.training import (
    Adam,
    BlockDiagonal,
    Cobyla,
    Diagonal,
    FullMetric,
    LayerWise,
    QnSpsa,
    QuantumNaturalGradient,
    Rotosolve,
)

# torch compiles a few forward derivatives when the first is taken, with a function that it has itself deprecated
pytestmark = pytest.mark.filterwarnings("ignore:`torch.jit.script` is deprecated:DeprecationWarning")
HEAD = Variational("angle_ring", {"n": 2, "layers": 1})
RULES = {
    "block": QuantumNaturalGradient(lr=0.05, metric=BlockDiagonal()),
    "diagonal": QuantumNaturalGradient(lr=0.05, metric=Diagonal()),
    "full": QuantumNaturalGradient(lr=0.05, metric=FullMetric()),
    "qn-spsa": QuantumNaturalGradient(lr=0.05, metric=QnSpsa()),
    "rotosolve": Rotosolve(lr=0.05),
    "cobyla": Cobyla(evaluations=8, lr=0.05),
    "layer-wise": LayerWise(lr=0.05),
}


def setting(optimizer, **changes):
    training = {"optimizer": optimizer, "batch_size": 32, "keep_state": True, "gradient": ParameterShift()}
    training |= changes.pop("training", {})
    given = {
        "data": arrays(rows=40),
        "head": HEAD,
        "training": Training(**training),
        "evaluation": "exact",
        "rounds": 3,
    }
    return experiment(**given | {"clients": Clients(count=2, partition=IID())} | changes)


@pytest.mark.parametrize("name", RULES)
def test_a_run_that_stops_goes_on_as_if_it_had_not(tmp_path, name):
    ours = setting(RULES[name], backend=Exact() if name == "full" else Shots(40), rounds=2)
    whole = qf.run(ours, tmp_path / "whole", progress=False)
    cut_short(ours, tmp_path / "cut", 2)
    assert (tmp_path / "cut" / "rounds.jsonl").read_bytes() == (tmp_path / "whole" / "rounds.jsonl").read_bytes()
    assert whole.rounds[2]["validation"]["loss"] < whole.rounds[0]["validation"]["loss"]


# one step a round; angles: 4, of which all reach Z, and 2 inputs, which the projection's gradient needs
EXECUTIONS = {
    "block": 1 + 2 * 6 + 2,  # and a truncated circuit for each layer of weights
    "diagonal": 1 + 2 * 6 + 2,
    "full": 1 + 2 * 6,
    "qn-spsa": 1 + 2 * 6 + 4,
    "rotosolve": (1 + 2 * 2) + 1 + 2 * 4,
    "cobyla": (1 + 2 * 2) + 8,
    "layer-wise": 1 + 2 * 4,  # 2 of 4 weights in any round but the last kind
}


@pytest.mark.parametrize("name", RULES)
def test_executions_are_counted_by_hand(tmp_path, name):
    result = qf.run(setting(RULES[name], rounds=2), tmp_path / "run", progress=False)
    assert {entry.executions / entry.rows for entry in result.ledger.entries} == {EXECUTIONS[name]}
    assert result.ledger.totals()["shots"] == 0


def test_optimizers_are_declared_in_toml_and_checked_before_anything_runs():
    for rule in RULES.values():
        ours = setting(rule, data=qf.data.Sentiment())
        assert Experiment.from_toml(ours.to_toml()) == ours
    with pytest.raises(ConfigurationError, match=r"FullMetric needs the states .* Shots\(shots=5\) gives none"):
        setting(RULES["full"], backend=Shots(5)).check()
    with pytest.raises(ConfigurationError, match=r"spreads shots, and Exact\(\) has none"):
        setting(Adam(), training={"gradient": ParameterShift(allocation="variance")}).check()


@pytest.mark.parametrize("name", [name for name in RULES if name != "layer-wise"])
def test_private_gradients_are_refused_where_rows_are_seen_otherwise(name):
    with pytest.raises(ConfigurationError, match=rf"{type(RULES[name]).__name__} looks at them in other ways"):
        Training(optimizer=RULES[name], privacy=DpSgd())
    Training(optimizer=RULES[name], privacy=LocalDp())


def test_layers_grow_in_private(tmp_path):
    private = {"privacy": DpSgd(sampling="permutation", sigma=0.1), "gradient": None}
    result = qf.run(setting(LayerWise(lr=0.1), training=private, rounds=1), tmp_path / "run", progress=False)
    assert result.params["circuit.weights"][1].abs().max() < 1e-6  # rounding of the mean of angles
    assert result.params["circuit.weights"][0].abs().max() > 0.1


def test_a_classical_twin_is_trained_by_adam(tmp_path):
    for number, rule in enumerate((Rotosolve(lr=0.05), Adam(lr=0.05))):
        qf.run(setting(rule, head=Mlp((3,)), backend=Shots(5)), tmp_path / str(number), progress=False)
    lines = [(tmp_path / str(number) / "rounds.jsonl").read_text().replace("runs", "") for number in range(2)]
    assert lines[0] == lines[1]


def line(executions, accuracy):
    scores = {"accuracy": accuracy, "loss": 1 - accuracy}
    return {"validation": scores, "test": scores, "ledger": [{"executions": executions}, {"executions": 1}]}


def test_arms_are_cut_at_the_cheapest_by_hand():
    rounds = {"cheap": [0, 9, 9, 9], "dear": [0, 19, 19, 19], "dearest": [0, 49, 49, 49], "classical": [-1, -1, -1]}
    arms = [
        Arm(name, {}, "", (Trial(0, 0.1, tuple(line(n, 0.5) for n in costs), ""),)) for name, costs in rounds.items()
    ]
    assert spent(arms[0].trials[0], "executions") == [1, 11, 21, 31]
    kept, budget = cut(arms, "executions")
    assert budget == 31
    assert [len(arm.trials[0].rounds) for arm in kept] == [4, 2, 1, 3]
    assert cut(arms, "rounds") == (arms, None)
    with pytest.raises(ConfigurationError, match="no arm took any QPU seconds"):
        cut(arms, "qpu_seconds")


def test_compare_holds_executions_equal_and_says_so(tmp_path):
    arms = {
        "SPSA": setting(Adam(lr=0.1), training={"gradient": Spsa()}, rounds=8),
        "parameter shift": setting(Adam(lr=0.1), rounds=8),
        "Rotosolve": setting(Rotosolve(lr=0.1), rounds=8),
    }
    result = qf.compare(
        arms["SPSA"], arms, seeds=2, rates=[0.1], hold="executions", directory=tmp_path / "c", progress=False
    )
    costs = result.costs().set_index("arm")["circuit executions in training"]
    assert (costs <= result.budget).all()
    assert costs["SPSA"] == pytest.approx(result.budget, rel=0.2)
    rounds = {arm.name: len(arm.trials[0].rounds) - 1 for arm in result.arms}
    assert rounds["SPSA"] == 8
    assert rounds["parameter shift"] == rounds["Rotosolve"] == 1  # 13 and 14 executions a row against 3
    assert "circuit executions in training, the cheapest arm's total" in result.verdict
    assert "--hold executions" in result.report().read_text()
    again = qf.Comparison.load(tmp_path / "c")
    assert again.budget == result.budget
    at_rounds = qf.compare(
        arms["SPSA"], arms, seeds=2, rates=[0.1], directory=tmp_path / "c", resume=True, progress=False
    )
    assert {len(arm.trials[0].rounds) for arm in at_rounds.arms} == {9}
    frame = at_rounds.to_frame()
    assert np.all(np.diff(frame[frame.arm == "SPSA"].groupby("round")["executions"].mean()) > 0)


def test_costs_that_cannot_be_compared_are_refused_before_anything_runs():
    torchs = setting(Adam(lr=0.1), training={"gradient": None})
    for hold, message in (
        ("executions", "from torch"),
        ("shots", "takes no shots"),
        ("money", "hold: expected one of"),
    ):
        with pytest.raises(ConfigurationError, match=message):
            qf.compare(torchs, {"a": torchs, "b": setting(Adam())}, hold=hold, progress=False)


@pytest.mark.parametrize(
    ("head", "message"), [(Parallel((HEAD, HEAD)), "gradients from torch"), (Kernel(), "on the simulator only")]
)
def test_circuits_within_a_head_are_not_overlooked(head, message):
    torchs = replace(setting(Adam(lr=0.1), training={"gradient": None}), head=head)
    with pytest.raises(ConfigurationError, match=message):
        qf.compare(torchs, {"a": torchs, "b": setting(Adam())}, hold="executions", progress=False)


def test_the_servers_own_training_grows_with_the_rounds_too():
    layered = setting(
        LayerWise(lr=0.05, rounds=1),
        head=Variational("strongly_entangling", {"n": 2, "layers": 3}),
        aggregation=qf.aggregation.FLTrust(),
    )
    prepared = prepare(layered, progress=False)
    server = federate(layered, prepared, bind(layered, prepared), run_id="root").server
    first, second = (server.root(number, server.params)["circuit.weights"] for number in (1, 2))
    assert first[0].any()  # the newest layer of the first round
    assert not second[0].any()  # is held in the second
    assert second[1].any()
