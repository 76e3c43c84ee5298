"""What the parties remember between rounds and through a resume: kept parameters, codec and rule states."""

from dataclasses import replace
from typing import Any, ClassVar

import numpy as np
import pytest
import torch
from test_runs import assert_equal_runs, events, interrupt_in, quiet
from tiny import experiment

from qfedfm.aggregation import Mean
from qfedfm.assembly import bind, federate, prepare
from qfedfm.codecs import Dense
from qfedfm.declaration import declared
from qfedfm.errors import AggregationError, RunError
from qfedfm.federation import evaluation
from qfedfm.federation.evaluation import evaluate
from qfedfm.heads import Linear, Mlp, Model
from qfedfm.records import RunDirectory


@declared
class Partly:
    """A perceptron whose projection is frozen at random and whose read-out bias each client keeps for itself."""

    def bind(self, n_features: int, n_outputs: int) -> Model:
        model = Mlp((4,)).bind(n_features, n_outputs)
        changes: dict[str, dict[str, Any]] = {
            "projection.weight": {"trainable": False},
            "readout.bias": {"shared": False},
        }
        return replace(model, specs=tuple(replace(spec, **changes.get(spec.name, {})) for spec in model.specs))


@declared
class Feedback:
    """A codec that sends halves and keeps the other halves for the next message: plain error feedback."""

    name: ClassVar[str] = "dense"

    def encode(self, tensors, specs, state, generator):
        whole = {spec.name: tensors[spec.name] + state.get(spec.name, 0) for spec in specs}
        sent = {name: tensor / 2 for name, tensor in whole.items()}
        data, meta, _ = Dense().encode(sent, specs, {}, generator)
        return data, meta, {name: whole[name] - sent[name] for name in sent}

    def decode(self, data, meta, specs):
        return Dense().decode(data, meta, specs)


@declared
class Growing(Mean):
    """A mean that begins without a state and keeps the last step as momentum."""

    def __call__(self, state, params, updates, specs, context):
        new, _, info = Mean.__call__(self, {}, params, updates, specs, context)
        step = {name: new[name] - params[name] + 0.5 * state.get(name, 0) for name in new}
        return {name: params[name] + step[name] for name in new}, step, info


@declared
class Broken(Mean):
    """A mean that goes wrong in the way it is told."""

    how: str = ""

    def __call__(self, state, params, updates, specs, context):
        new, state, info = Mean.__call__(self, state, params, updates, specs, context)
        name = next(iter(new))
        match self.how:
            case "nan":
                new[name] = new[name] * float("nan")
            case "missing":
                del new[name]
            case "shape":
                new[name] = new[name][:1]
            case "extra":
                new["more"] = new[name]
            case "info":
                info = {"weights": updates.weights}
            case "state":
                state = {"count": 3}
            case "raise":
                raise KeyError("weights")
        return new, state, info


def test_frozen_parameters_stay_and_own_parameters_stay_at_home(tmp_path):
    declaration = experiment(head=Partly(), rounds=3)
    prepared = prepare(declaration, progress=False)
    model = bind(declaration, prepared)
    federation = federate(declaration, prepared, model, run_id="run")
    cohort, start = federation.engine.cohort, model.init(declaration.seed)
    for _ in range(2):
        envelopes = federation.server.begin()
        federation.server.finish(federation.engine.exchange(envelopes))
    after = federation.server.params
    assert torch.equal(after["projection.weight"], start["projection.weight"])
    assert torch.equal(after["readout.bias"], start["readout.bias"])
    assert not torch.equal(after["readout.weight"], start["readout.weight"])
    biases = [memory["own:readout.bias"] for memory in cohort.memory.values()]
    assert len(biases) == 3
    assert not torch.equal(biases[0], biases[1])
    assert [spec.name for spec in federation.server.specs] == ["projection.bias", "readout.weight"]


@pytest.mark.parametrize("changes", [{"head": Partly()}, {"codec": Feedback()}, {"aggregation": Growing()}], ids=str)
def test_what_is_remembered_outlives_an_interruption(tmp_path, changes):
    declaration = experiment(rounds=4, **changes)
    quiet(declaration, tmp_path / "unbroken")
    with pytest.raises(KeyboardInterrupt):
        quiet(declaration, tmp_path / "run", intervene=interrupt_in(3))
    quiet(declaration, tmp_path / "run", resume=True)
    assert_equal_runs(tmp_path / "run", tmp_path / "unbroken")


def test_error_feedback_sends_what_was_held_back():
    # one client, one parameter vector d each round: halves d/2, then (d + d/2)/2, ... add up as by hand
    state, sent = {}, []
    specs = Linear().bind(1, 2).specs
    tensors = {spec.name: torch.ones(spec.shape) for spec in specs}
    for _ in range(3):
        data, meta, state = Feedback().encode(tensors, specs, state, np.random.default_rng(0))
        sent.append(float(Feedback().decode(data, meta, specs)["readout.bias"][0]))
    assert sent == [0.5, 0.75, 0.875]


@pytest.mark.parametrize(
    ("how", "text"),
    [
        ("nan", "NaN or infinite"),
        ("missing", "is missing"),
        ("shape", "expected torch.float32"),
        ("extra", r"unexpected parameters \['more'\]"),
        ("info", "not JSON serializable"),
        ("state", "dict of tensors"),
        ("raise", "KeyError: 'weights'"),
    ],
)
def test_a_rule_that_goes_wrong_is_named_and_nothing_is_lost(tmp_path, how, text):
    with pytest.raises(AggregationError, match=rf"(?s)aggregation rule Broken, round 1.*{text}"):
        quiet(experiment(aggregation=Broken(how)), tmp_path / "run")
    record = RunDirectory(tmp_path / "run")
    assert record.checkpoint().round == 0
    assert "Broken" in events(tmp_path / "run")[-1]["trace"]


def test_a_run_that_another_process_holds_is_refused(tmp_path):
    quiet(experiment(), tmp_path / "run")
    record = RunDirectory(tmp_path / "run")
    with record.locked(), pytest.raises(RunError, match="another process is running"):
        quiet(experiment(), tmp_path / "run", resume=True)
    assert quiet(experiment(), tmp_path / "run", resume=True).finished


def test_resuming_leaves_the_users_own_hidden_files_alone(tmp_path):
    with pytest.raises(KeyboardInterrupt):
        quiet(experiment(rounds=3), tmp_path / "run", intervene=interrupt_in(2))
    (tmp_path / "run" / ".ipynb_checkpoints").mkdir()
    (tmp_path / "run" / ".notes").write_text("mine")
    (tmp_path / "run" / ".checkpoint.safetensors.abc").write_text("left by a kill")
    quiet(experiment(rounds=3), tmp_path / "run", resume=True)
    assert (tmp_path / "run" / ".ipynb_checkpoints").is_dir()
    assert (tmp_path / "run" / ".notes").read_text() == "mine"
    assert not (tmp_path / "run" / ".checkpoint.safetensors.abc").exists()


def test_evaluation_in_pieces_is_evaluation(monkeypatch):
    model = Mlp((3,)).bind(4, 2).with_precision("float64")
    generator = torch.Generator().manual_seed(0)
    table = torch.randn(30, 4, generator=generator, dtype=torch.float64)
    params = {s.name: torch.randn(3, *s.shape, generator=generator, dtype=torch.float64) for s in model.specs}
    rows = [np.arange(30), np.arange(5, 12), np.arange(1)]
    labels = torch.arange(30) % 2
    whole = evaluate(model, params, table, labels, rows)
    monkeypatch.setattr(evaluation, "MEMORY_BUDGET", 7 * model.row_bytes)
    for one, other in zip(whole, evaluate(model, params, table, labels, rows), strict=True):
        assert np.allclose(one.losses, other.losses, rtol=0, atol=1e-12)
        assert (one.right == other.right).all()


def test_float64_takes_twice_the_memory():
    model = Linear().bind(5, 2)
    assert model.with_precision("float64").row_bytes == 2 * model.row_bytes
    assert model.with_precision("float64").with_precision("float32").row_bytes == model.row_bytes
