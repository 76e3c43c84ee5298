"""Experiments as declarations: TOML and back, mistakes, settings, saved files, identity."""

import re
import sys
from dataclasses import dataclass, replace
from pathlib import Path

import pennylane as qml
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tiny import arrays
from tiny import experiment as tiny_experiment

from qfedfm import Experiment, run
from qfedfm.aggregation import (
    AngularMean,
    Bucketing,
    Bulyan,
    CentredClipping,
    CmaEs,
    DpFedAvg,
    EvolutionaryWeights,
    ExactSolver,
    FedAdagrad,
    FedAdam,
    FedAvgM,
    FedNova,
    FedYogi,
    FidelityWeighted,
    FisherWeighted,
    FLTrust,
    FoolsGold,
    GeodesicMean,
    GeometricMedian,
    GhzMean,
    Krum,
    Mean,
    Median,
    MedianDistance,
    MinimumDiameter,
    MultiKrum,
    NormClipping,
    Qaoa,
    QFedAvg,
    QuantumEvolution,
    QuboSubset,
    RandomSearch,
    RootDistance,
    SimulatedAnnealing,
    TrimmedMean,
    ValidationLoss,
)
from qfedfm.attacks import (
    Adversary,
    Alie,
    AngleDrift,
    Backdoor,
    FreeRider,
    Gaussian,
    InnerProduct,
    LabelFlip,
    MinMax,
    PeriodShift,
    Scaling,
    SignFlip,
)
from qfedfm.backbones import EfficientNetLite0, HuggingFace, Identity, MiniLM
from qfedfm.backends import (
    IBM,
    Aer,
    Exact,
    ExponentialFit,
    Fake,
    FakeRuntime,
    GateNoise,
    LinearFit,
    Mitigated,
    NoiseModel,
    Noisy,
    ParameterShift,
    PennyLane,
    ReadoutInversion,
    RichardsonFit,
    RuntimeMitigation,
    Shots,
    Spsa,
    ZeroNoise,
)
from qfedfm.client_rules import FedDyn, FedProx, Ifca, Scaffold
from qfedfm.codecs import Dense, Quantized, RandomSparsification, SeedScalar, Sign, TensorTrain, TopK
from qfedfm.data import (
    IID,
    ArrayFile,
    BreastCancer,
    Csv,
    Diabetes,
    Digits,
    Dirichlet,
    FashionMnist,
    Hub,
    Natural,
    NaturalSplit,
    QuantitySkew,
    Sentiment,
    Shards,
    SpamAssassin,
)
from qfedfm.data.sentiment import Domain
from qfedfm.declaration import declared
from qfedfm.demo import experiment as demonstration
from qfedfm.errors import CircuitError, ConfigurationError, DataError
from qfedfm.federation import Clients, Training
from qfedfm.heads import Head, Kernel, Linear, Mlp, Model, Module, Parallel, Personalised, Rbf, Variational
from qfedfm.incentives import (
    Contribution,
    FreeRiderScreen,
    Gtg,
    Influence,
    LeaveOneOut,
    MonteCarlo,
    Reputation,
    Shapley,
)
from qfedfm.kinds import KINDS, resolve
from qfedfm.privacy import AdaptiveClip, DpSgd, LocalDp
from qfedfm.qkd import (
    BeamSplitting,
    DecoyBB84,
    Detectors,
    Eavesdropping,
    Etsi014,
    Fibre,
    InterceptResend,
    Link,
    Outage,
    PhotonNumberSplitting,
    PresharedKeys,
    PulsedSource,
    SatellitePass,
    Scenario,
)
from qfedfm.quantum.library import load
from qfedfm.seal import Aead, HybridAead, OneTimePad
from qfedfm.training import (
    Adam,
    BlockDiagonal,
    Cobyla,
    Cosine,
    Diagonal,
    FullMetric,
    LayerWise,
    QnSpsa,
    QuantumNaturalGradient,
    Rotosolve,
    SeededDescent,
    Sgd,
    Step,
)

EXAMPLES = Path(__file__).parents[1] / "examples"
MISTAKES = """
roundz = 3
[training]
batch_size = "many"
[head]
kind = "Variationel"
[training.optimizer]
kind = "Adam"
learning_rate = 0.1
"""

CODECS = (Dense, Quantized, RandomSparsification, SeedScalar, Sign, TopK)
RULES = (
    Mean, AngularMean, Bulyan, CentredClipping, FLTrust, FedAdagrad, FedAdam, FedAvgM, FedNova, FedYogi,
    FidelityWeighted, FisherWeighted, FoolsGold, GeodesicMean, GeometricMedian, GhzMean, Median, MinimumDiameter,
    MultiKrum, NormClipping, QFedAvg, TrimmedMean,
)  # fmt: skip
VALUATIONS = (Shapley, MonteCarlo, Gtg, LeaveOneOut, Influence)
HOSTILE = (
    LabelFlip, Backdoor, SignFlip, Gaussian, Scaling, Alie, InnerProduct, MinMax, FreeRider, PeriodShift, AngleDrift,
)  # fmt: skip
SHOTS = st.none() | st.integers(1, 10**6)
ON_IBM = {"shots": st.integers(1, 10**6), "mitigation": st.builds(RuntimeMitigation, zero_noise=st.booleans())}
GATE_NOISE = st.builds(GateNoise, bit_flip=st.floats(0, 1))
READOUT = st.builds(ReadoutInversion, shots=st.integers(1, 10**6))
ZERO_NOISE = st.builds(ZeroNoise, fit=st.builds(LinearFit) | st.builds(RichardsonFit) | st.builds(ExponentialFit))
DEVICE = st.builds(Fake, st.sampled_from(["manila", "torino"]), shots=SHOTS, noise=st.booleans())
MACHINES = (
    st.builds(Exact),
    st.builds(Shots, shots=st.integers(1, 10**6)),
    st.builds(Aer, shots=SHOTS),
    st.builds(Noisy, noise=st.builds(NoiseModel, one_qubit=GATE_NOISE, p01=st.floats(0, 1)), shots=SHOTS),
    st.builds(PennyLane, shots=SHOTS),
    DEVICE,
    st.builds(Mitigated, backend=DEVICE, methods=st.tuples(READOUT) | st.tuples(READOUT, ZERO_NOISE)),
    st.builds(FakeRuntime, name=st.sampled_from(["manila", "torino"]), **ON_IBM),
    st.builds(IBM, name=st.just("ibm_torino"), instance=st.none() | st.just("mine"), **ON_IBM),
)
GRADIENTS = st.builds(ParameterShift, allocation=st.sampled_from(["uniform", "weighted_random"])) | st.builds(
    Spsa, step=st.floats(0.01, 3), repeats=st.integers(1, 9)
)
KERNELS = st.builds(
    Kernel,
    circuit=st.sampled_from(["iqp", "angle_ring", Path("own/circuit.qasm")]),
    sizes=st.none() | st.dictionaries(st.sampled_from(["n", "layers"]), st.integers(1, 1000)),
    landmarks=st.integers(1, 1000) | st.just(((0.0, 0.5), (1.0, -1.0))),
    projected=st.booleans(),
    gamma=st.floats(1e-6, 10),
    seed=st.integers(-(2**62), 2**62),
)
names = st.text("abc xyzÄ'\"\\#\n", min_size=1)
rates = st.floats(1e-6, 10)
parts = st.dictionaries(st.sampled_from(["projection", "core", "readout"]), rates)
whole = st.integers(1, 1000)
METRICS = st.builds(BlockDiagonal) | st.builds(Diagonal) | st.builds(FullMetric) | st.builds(QnSpsa, repeats=whole)
OPTIMIZERS = (
    st.builds(Adam, lr=rates, rates=parts)
    | st.builds(Sgd, momentum=st.floats(0, 0.99), rates=parts)
    | st.builds(LayerWise, lr=rates, rounds=whole, rates=parts)
)
SEARCHES = (
    st.builds(QuantumNaturalGradient, metric=METRICS, regularisation=st.floats(0, 1), rates=parts)
    | st.builds(Rotosolve, lr=rates)
    | st.builds(Cobyla, evaluations=whole, radius=rates)
)
ARGUMENTS = st.booleans() | whole | rates | names
MODULES = st.builds(
    Module,
    factory=st.sampled_from(["torch.nn:Linear", "mine:Net"]),
    arguments=st.none() | st.dictionaries(names, ARGUMENTS | st.lists(ARGUMENTS).map(tuple)),
)
AROUND = {"before": st.none() | MODULES, "after": st.none() | MODULES}
CIRCUITS = {
    "circuit": st.sampled_from(["angle_ring", "basic_entangler", Path("own/circuit.qasm")]),
    "sizes": st.none() | st.dictionaries(st.sampled_from(["n", "layers"]), whole),
    "input_scale": st.none() | rates,
}
PRESHARED = st.builds(PresharedKeys, file=st.none() | st.just(Path("keys/secret.hex")))
share = st.floats(0.01, 0.99)
ATTACKS = st.one_of(
    st.builds(InterceptResend, fraction=share, basis=st.sampled_from(["random", "breidbart"])),
    st.builds(PhotonNumberSplitting),
    st.builds(BeamSplitting),
)
SIMULATED = st.builds(
    DecoyBB84,
    link=st.builds(
        Link,
        channel=st.builds(Fibre, km=rates, db_per_km=rates)
        | st.builds(SatellitePass, profile=st.lists(st.tuples(rates, rates), min_size=1).map(tuple)),
        detectors=st.builds(Detectors, efficiency=share, dead_time=rates),
        source=st.builds(PulsedSource, repetition_hz=rates),
        basis_probability=share,
    ),
    block=whole,
)
EVENTS = st.one_of(
    st.builds(Eavesdropping, node=names, attack=ATTACKS, first=st.just(2), last=st.none() | st.just(4)),
    st.builds(Outage, node=names, cause=st.sampled_from(["fibre cut", "KME down"]), first=whole),
)
DELIVERED = st.builds(
    Etsi014,
    url=st.just("https://kme:8443"),
    certificate=st.just(Path("{sae}.crt")),
    key=st.just(Path("{sae}.key")),
    authority=st.just(Path("authority.crt")),
    sae_ids=st.dictionaries(names, names, max_size=2),
)
QUANTUM = (
    SIMULATED
    | DELIVERED
    | st.builds(
        Scenario, keys=SIMULATED, events=st.lists(EVENTS, max_size=3).map(tuple), sessions_per_round=st.none() | whole
    )
)
shared = {
    "per_round": st.none() | whole | st.floats(0.01, 0.99),
    "min_rows": whole,
    "failing": st.sampled_from(["stop", "exclude"]),
}
locally = {
    "batch_size": whole,
    "epochs": whole,
    "steps": st.none() | whole,
    "keep_state": st.booleans(),
    "schedule": st.none() | st.builds(Cosine, rounds=st.integers(2, 1000)) | st.builds(Step, every=whole),
    "report_loss": st.sampled_from(["training", "before"]),
    "gradient": st.none() | GRADIENTS,
}
CLIENT_RULES = (
    st.builds(FedProx, mu=rates)
    | st.builds(Scaffold)
    | st.builds(FedDyn, alpha=rates)
    | st.builds(Ifca, clusters=st.integers(2, 9))
)
PIECES = {
    "data": st.one_of(
        st.builds(
            Sentiment,
            domains=st.lists(st.sampled_from(Domain.__args__), min_size=1, unique=True).map(tuple),
            per_domain=st.none() | whole,
            threshold=st.floats(0, 4),
        ),
        st.builds(
            Csv,
            path=st.just(Path("folder/data.csv")),
            text=names | st.lists(names, min_size=1, unique=True).map(tuple),
            label=names.map("label: {}".format),
            client=st.none() | names,
            group=st.none() | names,
            separator=st.sampled_from(",;\t|"),
            task=st.sampled_from(["classes", "numbers"]),
        ),
        st.builds(
            Hub,
            name=names,
            text=names | st.lists(names, min_size=1, unique=True).map(tuple),
            label=names.map("label: {}".format),
            config=st.none() | names,
            rows=st.none() | st.integers(2, 100),
            task=st.sampled_from(["classes", "numbers"]),
        ),
        st.builds(SpamAssassin, rows=st.none() | st.integers(2, 100), path=st.none() | st.just(Path("mails.tgz"))),
        st.builds(FashionMnist, per_class=st.none() | whole, path=st.none() | st.just(Path("folder"))),
        st.builds(BreastCancer, standardise=st.booleans()),
        st.builds(Digits) | st.builds(Diabetes),
        st.builds(ArrayFile, path=st.just(Path("arrays.safetensors"))),
    ),
    "backbone": st.one_of(
        st.builds(MiniLM),
        st.builds(Identity),
        st.builds(EfficientNetLite0, size=st.integers(32, 99), shape=st.none() | st.just((28, 20, 3))),
        st.builds(HuggingFace, name=names, pooling=st.sampled_from(["mean", "cls"]), revision=st.none() | names),
    ),
    "head": st.one_of(
        st.builds(Linear),
        MODULES,
        st.builds(Mlp, hidden=st.lists(whole, min_size=1).map(tuple), squash=rates, **AROUND),
        st.builds(Variational, **CIRCUITS, **AROUND),
        st.builds(Parallel, st.lists(st.builds(Variational, **CIRCUITS), min_size=1, max_size=3).map(tuple), **AROUND),
        st.builds(
            Personalised,
            head=st.builds(Mlp, hidden=st.lists(whole, min_size=1).map(tuple)) | st.builds(Variational, **CIRCUITS),
            parts=st.lists(st.sampled_from(["projection", "core", "readout"]), min_size=1, unique=True).map(tuple),
        ),
        KERNELS,
        st.builds(Rbf, of=KERNELS, gamma=st.none() | rates),
    ),
    "clients": st.one_of(
        st.builds(Clients, partition=st.builds(Natural), **shared),
        st.builds(
            Clients,
            count=whole,
            partition=st.one_of(
                st.builds(NaturalSplit),
                st.builds(IID),
                st.builds(Dirichlet, alpha=rates),
                st.builds(QuantitySkew, alpha=rates),
                st.builds(Shards, per_client=whole),
            ),
            **shared,
        ),
    ),
    "training": st.builds(
        Training,
        optimizer=OPTIMIZERS,
        privacy=st.none() | st.builds(DpSgd) | st.builds(LocalDp),
        class_weights=st.just("none") | st.lists(rates, min_size=2).map(tuple),
        **locally,
    )
    | st.builds(
        Training,
        optimizer=st.builds(Adam, lr=rates, rates=parts) | st.builds(Sgd, momentum=st.floats(0, 0.99), rates=parts),
        rule=st.none() | CLIENT_RULES,
        max_grad_norm=st.none() | rates,
        **locally,
    )
    | st.builds(Training, optimizer=SEARCHES, privacy=st.none() | st.builds(LocalDp), **locally)
    | st.builds(
        Training, optimizer=st.builds(SeededDescent, lr=rates), **{k: v for k, v in locally.items() if k != "gradient"}
    ),
    "backend": st.one_of(*MACHINES),
    "evaluation": st.sampled_from(["backend", "exact"]),
    "codec": st.one_of(*(st.builds(codec) for codec in CODECS), st.builds(TensorTrain, rank=whole)),
    "seal": st.builds(Aead, keys=PRESHARED | QUANTUM)
    | st.builds(HybridAead, keys=PRESHARED | QUANTUM)
    | st.builds(OneTimePad, keys=QUANTUM),
    "aggregation": st.one_of(*(st.builds(rule) for rule in RULES))
    | st.builds(Bucketing, rule=st.builds(Krum, f=whole), size=whole)
    | st.builds(
        QuboSubset, solver=st.one_of(*(st.builds(solver) for solver in (ExactSolver, SimulatedAnnealing, Qaoa)))
    )
    | st.builds(
        EvolutionaryWeights,
        objective=st.one_of(*(st.builds(goal) for goal in (MedianDistance, RootDistance, ValidationLoss))),
        search=st.one_of(*(st.builds(search) for search in (QuantumEvolution, CmaEs, RandomSearch))),
    )
    | st.builds(Contribution, method=st.one_of(*(st.builds(method) for method in VALUATIONS)))
    | st.builds(Reputation)
    | st.builds(DpFedAvg, adaptive=st.none() | st.builds(AdaptiveClip))
    | st.builds(FreeRiderScreen),
    "adversary": st.none() | st.builds(Adversary, attack=st.one_of(*(st.builds(a) for a in HOSTILE)), fraction=share),
    "rounds": whole,
    "validation": st.floats(0.05, 0.4),
    "test": st.floats(0.05, 0.5),
    "seed": st.integers(-(2**62), 2**62),
    "precision": st.sampled_from(["float32", "float64"]),
    "name": st.sampled_from(["a", "demo-2", "größe_1.b"]),
}


@declared
class OwnHead:
    """A user's head: linear, but with a field for everything that a file must carry."""

    widths: tuple[int, ...] = ()
    note: str | None = None
    limit: float | None = 2.0

    def bind(self, n_features: int, n_outputs: int) -> Model:
        return Linear().bind(n_features, n_outputs)


@dataclass(frozen=True)
class PlainHead:
    """A user's head that is an ordinary dataclass."""

    depth: int = 1

    def __post_init__(self) -> None:
        if self.depth > 3:
            raise ValueError("too deep")

    def bind(self, n_features: int, n_outputs: int) -> Model:
        return Linear().bind(n_features, n_outputs)


@declared
class WrappedHead:
    """A user's head around another one."""

    inner: Head

    def bind(self, n_features: int, n_outputs: int) -> Model:
        return self.inner.bind(n_features, n_outputs)


class UndeclaredHead:
    def bind(self, n_features: int, n_outputs: int) -> Model:
        return Linear().bind(n_features, n_outputs)


def mistakes(text: str, *settings: str) -> tuple[str, ...]:
    with pytest.raises(ConfigurationError) as caught:
        Experiment.from_toml(text, settings)
    return caught.value.problems


def two_wires(x, weights):
    qml.RX(x[0], wires=0)
    qml.RY(weights[0] * x[1], wires=1)
    qml.CRZ(weights[1], wires=[0, 1])


def made_to_fit(pieces):
    """Return pieces with what a client rule or SeededDescent would refuse replaced."""
    training = pieces["training"]
    if training.rule and training.rule.unfit(training.optimizer, training.privacy, pieces["aggregation"]):
        return pieces | {
            "training": replace(training, optimizer=Sgd(), privacy=None),
            "aggregation": AngularMean(),
        }
    return pieces | {"codec": Dense()} if isinstance(training.optimizer, SeededDescent) else pieces


@given(st.fixed_dictionaries(PIECES).map(made_to_fit))
def test_any_experiment_survives_toml(pieces):
    experiment = Experiment(**pieces)
    assert Experiment.from_toml(experiment.to_toml()) == experiment


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_is_the_class_of_that_name(kind):
    assert resolve(kind).__name__ == kind


def test_the_round_trip_reaches_every_kind():
    strategies = repr(PIECES)
    assert [kind for kind in KINDS if f"builds({kind}" not in strategies] == []


def test_what_is_left_out_has_its_default():
    assert Experiment.from_toml("") == Experiment()
    assert Experiment.from_toml("[training]\nepochs = 3").training == Training(epochs=3)


def test_a_table_without_kind_is_of_the_default_kind():
    text = "[head]\nsizes = { n = 3 }\n[training.optimizer]\nlr = 0.5"
    assert Experiment.from_toml(text) == Experiment(
        head=Variational(sizes={"n": 3}), training=Training(optimizer=Adam(lr=0.5))
    )


def test_no_value_where_the_default_is_one():
    everything = Experiment(data=Sentiment(per_domain=None))
    assert 'per_domain = "none"' in everything.to_toml()
    assert Experiment.from_toml(everything.to_toml()) == everything
    # a text field takes the word as a text, so there "none" cannot stand for None
    assert Experiment.from_toml('[data]\nkind="Csv"\npath="a.csv"\ntext="t"\nlabel="l"\nclient="none"').data == Csv(
        Path("a.csv"), "t", "l", client="none"
    )


def test_four_mistakes_give_four_lines_with_section_key_and_nearest_match():
    lines = mistakes(MISTAKES)
    assert len(lines) == 4
    for section, key, match in [
        ("[experiment]", "'roundz'", "did you mean 'rounds'?"),
        ("[training]", "batch_size", "got 'many'"),
        ("[head]", "'Variationel'", "did you mean 'Variational'?"),
        ("[training.optimizer]", "'learning_rate'", "it has lr, beta1"),
    ]:
        assert any(line.startswith(section) and key in line and match in line for line in lines), (section, lines)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("rounds = 0", r"\[experiment\] Experiment.rounds: .*greater than or equal to 1; got 0"),
        ("validation = 0.6\ntest = 0.4", r"leave some for training; got 0.6 and 0.4"),
        ("test = 1.0", r"Experiment.test: .*less than 1; got 1.0"),
        ('name = "../up"', r"names a folder; got '../up'"),
        ('name = ".hidden"', r"names a folder"),
        ("seed = 1.5", r"Experiment.seed: .*integer"),
        ('precision = "half"', r"Experiment.precision: .*'float32' or 'float64'"),
        ('[backbone]\nkind = "Linear"', r"Experiment.backbone: .*instance of Backbone; got Linear\(\)"),
        ('[data]\nkind = "Csv"\ntext = "t"\nlabel = "l"', r"\[data\] Csv needs 'path'"),
        ('[clients.partition]\nkind = "Dirichlet"\nalpha = -1', r"\[clients.partition\] Dirichlet.alpha"),
        ('[head]\nkind = "tests_of_mine:Head"', r"\[head\] kind 'tests_of_mine:Head' cannot be imported"),
        ('[head]\nkind = "math:pi"', r"\[head\] kind 'math:pi' is not a dataclass"),
        ('[head]\nkind = ":Head"', r"\[head\] kind ':Head' cannot be imported"),
        ('kind = "Experiment"', r"has no field 'kind'"),
        ("head = 3", r"Experiment.head: .*instance of Head; got 3"),
        ("a = 1\na = 2", r"not valid TOML: .*\"a\" already exists"),
        ("[head", r"not valid TOML: .*line 1"),
    ],
)
def test_a_mistake_is_named(text, expected):
    (line,) = mistakes(text)
    assert re.search(expected, line), line


def test_a_section_that_is_required_and_broken_is_reported_once():
    text = f'[head]\nkind = "{__name__}:WrappedHead"\n[head.inner]\nkind = "Linaer"'
    assert [line.split(" is not")[0] for line in mistakes(text)] == ["[head.inner] kind 'Linaer'"]


@pytest.mark.parametrize(
    ("setting", "change"),
    [
        ("rounds=3", {"rounds": 3}),
        (" rounds = 3", {"rounds": 3}),
        ("name=word", {"name": "word"}),
        ('name="word"', {"name": "word"}),
        ("training.optimizer.lr=0.5", {"training": Training(optimizer=Adam(lr=0.5))}),
        ("training.optimizer.rates.core=1e-3", {"training": Training(optimizer=Adam(rates={"core": 1e-3}))}),
        ("head.sizes.n=6", {"head": Variational(sizes={"n": 6})}),
        ("head={kind='Mlp', hidden=[8, 4]}", {"head": Mlp(hidden=(8, 4))}),
        ("head.kind=Linear", {"head": Linear()}),
        ("data.per_domain=none", {"data": Sentiment(per_domain=None)}),
    ],
)
def test_settings_override_the_file(setting, change):
    assert Experiment.from_toml("rounds = 7", [setting]) == replace(Experiment(rounds=7), **change)


@pytest.mark.parametrize("setting", ["rounds", "=3", "training..lr=1", "rounds.x=1"])
def test_a_setting_that_is_none_says_how_to_write_it(setting):
    (line,) = mistakes("rounds = 7", setting)
    assert "--set" in line
    assert repr(setting) in line


def test_a_file_that_cannot_be_read(tmp_path):
    with pytest.raises(ConfigurationError, match=r"cannot read the experiment file .*none.toml: No such file"):
        Experiment.load(tmp_path / "none.toml")
    (tmp_path / "latin.toml").write_bytes('name = "größe"'.encode("latin-1"))
    with pytest.raises(ConfigurationError, match="not a UTF-8 text file"):
        Experiment.load(tmp_path / "latin.toml")


def test_a_class_of_the_users_own():
    own = Experiment(head=OwnHead(widths=(3, 2), limit=None))
    assert f'kind = "{__name__}:OwnHead"' in own.to_toml()
    assert Experiment.from_toml(own.to_toml()) == own
    plain = Experiment.from_toml(f'[head]\nkind = "{__name__}:PlainHead"\ndepth = 2')
    assert plain.head == PlainHead(depth=2)
    assert mistakes(f'[head]\nkind = "{__name__}:PlainHead"\ndepth = 4') == ("[head] too deep",)
    assert "unexpected keyword argument 'deep'" in mistakes(f'[head]\nkind = "{__name__}:PlainHead"\ndeep = 4')[0]


def local_head() -> Head:
    @declared
    class Hidden:
        def bind(self, n_features: int, n_outputs: int) -> Model:
            return Linear().bind(n_features, n_outputs)

    return Hidden()


@pytest.mark.parametrize("head", [UndeclaredHead(), local_head()], ids=["not a dataclass", "not at top level"])
def test_an_object_that_no_file_could_bring_back_is_refused_at_once(head, tmp_path):
    experiment = Experiment(head=head)
    for action in (experiment.to_toml, lambda: experiment.save(tmp_path), lambda: experiment.identity):
        with pytest.raises(ConfigurationError, match=type(head).__name__):
            action()


def test_toml_says_what_it_cannot_hold():
    for experiment in (tiny_experiment(), Experiment(head=Variational(two_wires, {"x": 2, "weights": 2}))):
        with pytest.raises(ConfigurationError, match=r"Experiment.save\(folder\) puts circuits and arrays"):
            experiment.to_toml()


OWN = {"circuit": two_wires, "sizes": {"x": 2, "weights": (2,)}}


def circuit_head(head):
    return head.of if isinstance(head, Rbf) else head


@pytest.mark.parametrize("head", [Variational(**OWN), Kernel(**OWN), Rbf(Kernel(**OWN))])
def test_a_pennylane_function_and_arrays_are_saved_in_files_of_their_own(tmp_path, head):
    original = tiny_experiment(head=head)
    loaded = Experiment.load(original.save(tmp_path))
    saved = circuit_head(loaded.head)
    assert saved.resolve().program == circuit_head(head).resolve().program
    assert loaded.data.load() == original.data.load()
    assert loaded.identity == original.identity
    assert replace(loaded, head=original.head, data=original.data) == original
    again = tmp_path / "again"
    again.mkdir()
    assert Experiment.load(loaded.save(again)).identity == original.identity
    with pytest.raises(ConfigurationError, match="has its sizes already"):
        replace(saved, sizes={"n": 2}).resolve()
    (tmp_path / "circuit.json").unlink()
    with pytest.raises(CircuitError, match=r"circuit.json cannot be read"):
        saved.resolve()


@pytest.mark.parametrize("device", ["gpu", "cuda:x", ""])
def test_a_device_that_torch_does_not_know_is_refused(device):
    with pytest.raises(ConfigurationError, match="device: expected a torch device"):
        tiny_experiment(device=device)


def test_a_device_that_cannot_be_used_here_is_refused_before_anything_is_loaded():
    with pytest.raises(ConfigurationError, match=r"device: torch cannot use 'meta' here .*choose \"cpu\""):
        tiny_experiment(device="meta").check()


@pytest.mark.parametrize("as_type", [str, Path])
def test_a_circuit_file_is_saved_by_content(tmp_path, monkeypatch, as_type):
    source = tmp_path / "mine.qasm"
    source.write_text((EXAMPLES.parent / "circuits" / "angle_ring.qasm").read_text())
    run = tmp_path / "run"
    run.mkdir()
    monkeypatch.chdir(tmp_path)
    original = tiny_experiment(head=Variational(as_type("mine.qasm"), {"n": 2}))
    file = original.save(run)
    source.unlink()
    monkeypatch.chdir("/")
    assert Experiment.load(file).head.resolve().program == load("angle_ring", {"n": 2}).program


def test_relative_paths_start_from_the_files_folder(tmp_path, monkeypatch):
    (tmp_path / "model").mkdir()
    (tmp_path / "mine.qasm").write_text((EXAMPLES.parent / "circuits" / "angle_ring.qasm").read_text())
    (tmp_path / "e.toml").write_text(
        '[data]\nkind = "Csv"\npath = "not/yet.csv"\ntext = "t"\nlabel = "l"\n'
        '[backbone]\nkind = "HuggingFace"\nname = "model"\n'
        '[head]\nkind = "Variational"\ncircuit = "mine.qasm"\n'
        '[seal.keys]\nfile = "/secret.hex"\n'
    )
    monkeypatch.chdir(tmp_path)
    experiment = Experiment.load("e.toml")
    monkeypatch.chdir("/")
    assert experiment.data.path == tmp_path / "not/yet.csv"
    assert experiment.backbone.name == tmp_path / "model"
    assert experiment.head.circuit == tmp_path / "mine.qasm"
    assert experiment.seal.keys.file == Path("/secret.hex")
    assert experiment.head.resolve().program.n_inputs > 0
    with pytest.raises(DataError, match=r"not/yet.csv"):
        experiment.data.load()
    names_stay = Experiment.from_toml('[backbone]\nkind = "HuggingFace"\nname = "bert-base-uncased"', base=tmp_path)
    assert names_stay.backbone.name == "bert-base-uncased"


def test_saved_paths_do_not_depend_on_the_working_directory(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    file = Experiment(data=Csv(Path("rows.csv"), "t", "l")).save(tmp_path)
    monkeypatch.chdir("/")
    assert Experiment.load(file).data.path == tmp_path / "rows.csv"


def test_identity_depends_on_content_and_not_on_the_place(tmp_path, monkeypatch):
    identities = set()
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
        monkeypatch.chdir(tmp_path / folder)
        (tmp_path / folder / "c.qasm").write_text((EXAMPLES.parent / "circuits" / "angle_ring.qasm").read_text())
        (tmp_path / folder / "e.toml").write_text(
            '[data]\nkind="Csv"\npath="x.csv"\ntext="t"\nlabel="l"\n[head]\ncircuit="c.qasm"'
        )
        identities |= {Experiment.load("e.toml").identity, Experiment.load(tmp_path / folder / "e.toml").identity}
    assert len(identities) == 1


def test_identity_tells_experiments_apart():
    base = tiny_experiment()
    others = [
        replace(base, seed=4),
        replace(base, rounds=3),
        replace(base, name="other"),
        replace(base, data=arrays(shift=1.0)),
        replace(base, head=Mlp()),
        replace(base, head=OwnHead()),
        replace(base, head=PlainHead()),
        replace(base, head=Variational("angle_ring", {"n": 2})),
        replace(base, head=Variational("angle_ring", {"n": 3})),
        replace(base, head=Variational("angle_ring", {"n": 2}, input_scale=1.0)),
        replace(base, head=Variational("angle_ring", {"n": 2}, before=Module("torch.nn:Linear"))),
        replace(base, head=Variational("angle_ring", {"n": 2}, after=Module("torch.nn:Linear"))),
        replace(base, head=Parallel((Variational("angle_ring", {"n": 2}),))),
        replace(base, head=Module("torch.nn:Linear")),
        replace(base, head=Module("torch.nn:Linear", {"bias": False})),
        replace(base, training=Training(optimizer=Adam(lr=0.06), batch_size=8)),
        replace(base, clients=Clients(count=3, partition=Dirichlet(alpha=1.0))),
    ]
    assert len({experiment.identity for experiment in [base, *others]}) == len(others) + 1
    assert tiny_experiment().identity == base.identity
    assert len(base.identity) == 64


@declared
class WrongShape:
    """A user's head whose model gives one output too many."""

    def bind(self, n_features: int, n_outputs: int) -> Model:
        return Linear().bind(n_features, n_outputs + 1)


CHECKED = [
    ({"head": Variational("no_such_circuit")}, CircuitError, "'no_such_circuit' is not in the library"),
    ({"head": Variational("angle_ring", {"n": 25})}, CircuitError, "at most 20 qubits; this circuit has 25"),
    ({"head": WrongShape()}, ConfigurationError, r"its model maps \(1, 1, 384\) to \(1, 1, 3\) for 2 outputs"),
    ({"data": Csv(Path("no/such.csv"), "t", "l")}, DataError, r"no/such.csv cannot be read"),
    ({"data": ArrayFile(Path("no/such"))}, DataError, r"no/such cannot be read"),
    ({"data": Csv(EXAMPLES / "clinics.csv", "puls", "outcome")}, ConfigurationError, "has no column 'puls'"),
    (
        {"data": Csv(EXAMPLES / "clinics.csv", "clinic", "outcome"), "backbone": Identity()},
        ConfigurationError,
        "passes numbers on and the data are texts",
    ),
    ({"backbone": Identity()}, ConfigurationError, "passes numbers on and the data are texts"),
    ({"data": arrays()}, ConfigurationError, "reads texts and the data are numbers"),
    (
        {"data": Csv(EXAMPLES / "clinics.csv", ("systolic", "glucose"), "outcome")},
        ConfigurationError,
        "reads texts and the data are numbers",
    ),
]


@pytest.mark.parametrize(("change", "error", "message"), CHECKED)
def test_check_finds_what_would_stop_a_run(change, error, message):
    with pytest.raises(error, match=message):
        Experiment(**change).check()


@declared
class ThreeFeatures:
    """A user's head for data of one width only."""

    def bind(self, n_features: int, n_outputs: int) -> Model:
        assert (n_features, n_outputs) == (3, 2)
        return Linear().bind(n_features, n_outputs)


def test_check_accepts_the_default_and_says_nothing(tmp_path):
    Experiment().check()
    Experiment.load(tiny_experiment(head=ThreeFeatures()).save(tmp_path)).check()
    tiny_experiment(head=ThreeFeatures()).check()
    vitals = ("resting_pulse", "systolic", "glucose")
    tiny_experiment(head=ThreeFeatures(), data=Csv(EXAMPLES / "clinics.csv", vitals, "outcome")).check()
    tiny_experiment().check()
    tiny_experiment(precision="float64", head=Variational("angle_ring", {"n": 2})).check()


def test_the_plain_default_has_one_client_for_each_domain(tmp_path):
    assert Experiment().clients == Clients(partition=Natural())
    shops = ["north", "south"] * 45
    data = arrays(clients=shops)
    result = run(Experiment(data=data, backbone=Identity(), head=Linear(), rounds=1), tmp_path / "run", progress=False)
    assert result.rounds[-1]["clients"] == ["north", "south"]


@pytest.mark.parametrize(
    ("clients", "message"),
    [
        ({"partition": IID()}, r"Clients.count: IID\(\) needs the number of clients, as in count=10"),
        ({"partition": Dirichlet(alpha=1)}, r"Clients.count: Dirichlet\(alpha=1.0\) needs the number"),
        ({"partition": NaturalSplit()}, r"Clients.count: NaturalSplit\(\) needs the number"),
        (
            {"count": 4},
            r"Clients.count: Natural\(\) finds the clients in the data; got count=4: leave it out",
        ),
    ],
)
def test_a_partition_and_its_number_of_clients_are_checked_when_declared(clients, message):
    with pytest.raises(ConfigurationError, match=message):
        Clients(**clients)


def test_a_class_of_the_main_module_is_refused_before_a_run_with_what_to_do(monkeypatch, tmp_path):
    monkeypatch.setattr(OwnHead, "__module__", "__main__")
    monkeypatch.setattr(sys.modules["__main__"], "OwnHead", OwnHead, raising=False)
    experiment = tiny_experiment(head=OwnHead())
    for action in (experiment.check, lambda: experiment.save(tmp_path)):
        with pytest.raises(ConfigurationError, match=r"move it into a file .* write {2}from pieces import OwnHead"):
            action()


def test_a_module_that_is_not_found_says_where_to_run():
    (line,) = mistakes('[head]\nkind = "my_own_heads:Mine"')
    assert line.endswith("No module named 'my_own_heads': run from the folder that holds my_own_heads.py")


def test_a_folder_named_like_a_circuit_does_not_shadow_it(tmp_path):
    (tmp_path / "angle_ring").mkdir()
    (tmp_path / "e.toml").write_text('[head]\ncircuit = "angle_ring"\nsizes = { n = 3 }')
    assert Experiment.load(tmp_path / "e.toml").head == Variational("angle_ring", {"n": 3})


def test_the_first_example_is_the_demonstration():
    assert Experiment.load(EXAMPLES / "sentiment.toml") == demonstration()


@pytest.mark.parametrize("file", sorted(EXAMPLES.glob("*.toml")), ids=lambda file: file.stem)
def test_every_example_is_valid(file):
    experiment = Experiment.load(file)
    experiment.check()
    assert experiment.name in (file.stem, "demo")
