"""Kernel heads against kernels computed by PennyLane and NumPy, Nystroem's own identities, and a whole federation."""

import math
from dataclasses import replace

import numpy as np
import pennylane as qml
import pytest
import torch
from scipy.linalg import sqrtm

import qfedfm
from qfedfm import Experiment
from qfedfm.backbones import Identity
from qfedfm.data import IID, from_arrays
from qfedfm.errors import CircuitError, ConfigurationError
from qfedfm.federation import Clients, Training
from qfedfm.heads import Head, Kernel, Rbf
from qfedfm.heads.nystroem import inverse_root, projection
from qfedfm.quantum import Circuit, assemble, load
from qfedfm.training import Adam

C, R, F, OUT = 3, 4, 5, 2
IQP = Kernel("iqp", {"n": 3, "layers": 2}, landmarks=6, scaling=0.8, seed=2)
HEADS = [
    IQP,
    replace(IQP, projected=True, gamma=0.7),
    Kernel("data_reuploading", {"n": 2}, landmarks=5),
    Rbf(IQP),
    Rbf(IQP, gamma=0.3),
]


def case(head):
    """Return the head's model in float64, random parameters for each client, and random features."""
    model = head.bind(F, OUT).with_precision("float64")
    generator = torch.Generator().manual_seed(3)
    params = {spec.name: torch.randn(C, *spec.shape, generator=generator, dtype=torch.float64) for spec in model.specs}
    return model, params, torch.randn(C, R, F, generator=generator, dtype=torch.float64)


def nystroem_features(head, features):
    """Return phi of features (R, F), (R, m) float64, by a read-out that passes them on."""
    encode = of(head).encoding(of(head).resolve(), features.shape[1])
    count = len(encode.landmarks)
    model = head.bind(features.shape[1], count)
    params = {"readout.weight": torch.eye(count).double()[None], "readout.bias": torch.zeros(1, count).double()}
    return model.apply(params, features[None])[0]


def of(head):
    return head.of if isinstance(head, Rbf) else head


def iqp_states(angles):
    @qml.qnode(qml.device("default.qubit", wires=3))
    def circuit(x):
        qml.IQPEmbedding(x, range(3), n_repeats=2)
        return qml.state()

    return np.array([circuit(x) for x in angles])


def fidelity(x, y):
    return np.abs(iqp_states(x).conj() @ iqp_states(y).T) ** 2


def projected(x, y):
    a, b = (np.stack([qml.math.reduce_statevector(iqp_states(z), [wire]) for wire in range(3)], 1) for z in (x, y))
    return np.exp(-0.7 * (np.abs(a[:, None] - b[None]) ** 2).sum((2, 3, 4)))


def gaussian(x, y):
    return np.exp(-0.3 * ((x[:, None] - y[None]) ** 2).sum(-1))


@pytest.mark.parametrize(
    ("head", "kernel"),
    [(IQP, fidelity), (replace(IQP, projected=True, gamma=0.7), projected), (Rbf(IQP, gamma=0.3), gaussian)],
    ids=["fidelity", "projected", "Gaussian"],
)
def test_a_head_is_the_nystroem_machine_of_its_kernel(head, kernel):
    model, params, features = case(head)
    encode = of(head).encoding(of(head).resolve(), F)
    landmarks = encode.landmarks.numpy()
    whitening = np.linalg.inv(sqrtm(kernel(landmarks, landmarks)).real)
    outputs = model.apply(params, features)
    for c in range(C):
        angles = math.pi / 2 * np.tanh(0.8 * features[c].numpy() @ encode.projection.numpy().T)
        phi = kernel(angles, landmarks) @ whitening
        expected = phi @ params["readout.weight"][c].numpy().T + params["readout.bias"][c].numpy()
        np.testing.assert_allclose(outputs[c].numpy(), expected, rtol=0, atol=1e-9)


@pytest.mark.parametrize("make", [lambda **k: Kernel(**k), lambda **k: Rbf(Kernel(**k))], ids=["quantum", "Gaussian"])
def test_products_of_features_are_the_kernel_on_the_landmarks(make):
    # with as many angles as features and landmarks pulled back through the encoding, phi(z) phi(z') = k(z, z')
    head = make(circuit="iqp", sizes={"n": 3}, landmarks=8, seed=5)
    encode = of(head).encoding(of(head).resolve(), 3)
    features = torch.atanh(encode.landmarks / encode.input_scale) @ encode.projection  # the projection is orthogonal
    phi = nystroem_features(head, features)
    model_kernel = of(head).similarity(of(head).resolve()).gram(encode.landmarks)
    if isinstance(head, Rbf):
        pairs = torch.triu_indices(8, 8, 1).unbind()
        assert (phi @ phi.mT)[pairs].mean().item() == pytest.approx(model_kernel[pairs].mean().item(), abs=1e-9)
    else:
        torch.testing.assert_close(phi @ phi.mT, model_kernel, atol=1e-8, rtol=0)


def test_more_landmarks_than_the_kernel_has_dimensions_make_it_exact_everywhere():
    # cos^2((x - y) / 2) = (1 + cos x cos y + sin x sin y) / 2 has rank 3: nine landmarks, six of them superfluous
    head = Kernel("angle_ring", {"n": 1, "layers": 1}, landmarks=tuple((0.3 * i,) for i in range(9)))
    features = torch.linspace(-2, 2, 7, dtype=torch.float64)[:, None]
    encode = head.encoding(head.resolve(), 1)
    angles = math.pi / 2 * torch.tanh(encode.projection.item() * features)
    phi = nystroem_features(head, features)
    torch.testing.assert_close(phi @ phi.mT, ((angles - angles.T) / 2).cos().square(), atol=1e-9, rtol=0)


def test_weights_after_an_angle_encoding_do_not_change_its_kernel_but_those_of_a_reuploading_circuit_do():
    points = torch.randn(6, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    for circuit, equal in (("strongly_entangling", True), ("data_reuploading", False)):
        grams = []
        for seed in (0, 1):
            head = Kernel(circuit, {"n": 3, "layers": 2}, seed=seed)
            grams.append(head.similarity(head.resolve()).gram(points))
        assert torch.allclose(*grams, atol=1e-12) == equal


@pytest.mark.parametrize("head", HEADS, ids=str)
def test_clients_and_rows_never_mix_and_precision_only_rounds(head):
    model, params, features = case(head)
    outputs = model.apply(params, features)
    order, rows = torch.tensor([2, 0, 1]), torch.tensor([3, 1, 0, 2])
    moved = model.apply({name: tensor[order] for name, tensor in params.items()}, features[order][:, rows])
    torch.testing.assert_close(moved, outputs[order][:, rows], rtol=0, atol=1e-10)
    single = model.apply({name: tensor.float() for name, tensor in params.items()}, features.float())
    assert single.dtype == torch.float32
    torch.testing.assert_close(single.double(), outputs, rtol=0, atol=1e-4)


@pytest.mark.parametrize("head", HEADS, ids=str)
def test_only_the_readout_is_trained_and_everyone_builds_the_same_features(head):
    model, again = head.bind(F, OUT), head.bind(F, OUT)
    assert isinstance(head, Head)
    count = of(head).landmarks
    assert {spec.name: spec.shape for spec in model.specs} == {"readout.weight": (OUT, count), "readout.bias": (OUT,)}
    assert model.count() == {"classical": OUT * count + OUT, "quantum": 0}
    assert (model.circuit is None) == isinstance(head, Rbf)
    _, params, features = case(head)
    assert torch.equal(model.apply(params, features), again.apply(params, features))


def test_the_twin_begins_at_the_same_readout_and_encodes_in_the_same_way():
    head, twin = IQP.bind(F, OUT), Rbf(IQP).bind(F, OUT)
    assert head.specs == twin.specs
    assert all(torch.equal(head.init(1)[spec.name], twin.init(1)[spec.name]) for spec in head.specs)


def test_the_seed_decides_projection_landmarks_and_weights():
    base = Kernel("data_reuploading", {"n": 2}, landmarks=5, seed=1)
    features = torch.randn(1, 4, F, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    outputs = [nystroem_features(head, features[0]) for head in (base, replace(base), replace(base, seed=2))]
    assert torch.equal(outputs[0], outputs[1])
    assert not torch.allclose(outputs[0], outputs[2], atol=1e-2)


@pytest.mark.parametrize(("n_angles", "n_features"), [(3, 8), (4, 4), (6, 2)])
def test_projections_are_orthonormal_and_keep_the_mean_square(n_angles, n_features):
    matrix = projection(n_angles, n_features, 0)
    square = matrix @ matrix.mT if n_angles <= n_features else matrix.mT @ matrix * n_features / n_angles
    torch.testing.assert_close(square, torch.eye(len(square), dtype=torch.float64), atol=1e-12, rtol=0)
    # over isotropic features of mean square 1 the projections' is the mean squared norm of a row, sum P^2 / n_angles
    assert matrix.square().sum().item() / n_angles == pytest.approx(1)


def test_projections_are_spread_evenly_over_all_directions():
    # Haar: every entry has mean 0 and mean square 1/F; 400 draws of 2 x 4 entries, standard errors .0088 and .0051
    draws = torch.stack([projection(2, 4, seed) for seed in range(400)])
    assert draws.mean().abs().item() < 4 * 0.0088
    assert (draws.square().mean(0) - 0.25).abs().max().item() < 5 * 0.25 * math.sqrt(1 / 400)


def test_the_inverse_root_leaves_out_what_rounding_made():
    vectors = torch.linalg.qr(torch.randn(3, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0)))[0]
    gram = vectors @ torch.diag(torch.tensor([4.0, 0.25, 1e-9], dtype=torch.float64)) @ vectors.mT
    expected = vectors @ torch.diag(torch.tensor([0.5, 2.0, 0.0], dtype=torch.float64)) @ vectors.mT
    torch.testing.assert_close(inverse_root(gram), expected, atol=1e-9, rtol=0)


@pytest.mark.parametrize("head", HEADS, ids=str)
def test_everything_follows_the_device_of_features_and_parameters(head):
    # "meta" tensors have a device and no values; torch refuses to mix them with those of another
    model = head.bind(F, OUT)
    params = {spec.name: torch.empty(C, *spec.shape, device="meta") for spec in model.specs}
    assert model.apply(params, torch.empty(C, R, F, device="meta")).device.type == "meta"


GIVEN = Kernel("angle_ring", {"n": 2, "layers": 1}, landmarks=((0.0, 0.5), (1.0, -1.0)))


@pytest.mark.parametrize("head", [*HEADS, GIVEN, Rbf(GIVEN)], ids=str)
def test_heads_survive_toml_and_are_told_apart(head):
    experiment = Experiment(head=head)
    assert Experiment.from_toml(experiment.to_toml()) == experiment
    assert experiment.identity != Experiment(head=Kernel()).identity


@pytest.mark.parametrize("head", [Kernel(sizes={"n": 3}), Rbf(Kernel(sizes={"n": 3}))], ids=["quantum", "Gaussian"])
def test_a_kernel_head_federates_and_learns_what_no_line_can(head, tmp_path):
    points = np.random.default_rng(5).normal(size=(480, 3))
    labels = (points[:, 0] * points[:, 1] > 0).astype(int)  # a chess board: a linear classifier gets .51 to .58
    experiment = Experiment(
        data=from_arrays(points, labels, classes=("odd", "even")),
        backbone=Identity(),
        head=head,
        clients=Clients(count=3, partition=IID()),
        training=Training(optimizer=Adam(lr=0.3), batch_size=16, epochs=4),
        rounds=6,
    )
    rounds = qfedfm.run(experiment, tmp_path / "run", progress=False).rounds
    assert rounds[-1]["test"]["accuracy"] > 0.7  # 120 test rows; seeds 0 to 2 gave .82 and more


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Kernel(gamma=0.0), "Kernel.gamma: expected a positive number; got 0.0"),
        (lambda: Kernel(scaling=math.inf), "Kernel.scaling: expected a positive number; got inf"),
        (lambda: Kernel(landmarks=0), "Kernel.landmarks: expected at least one"),
        (lambda: Kernel(landmarks=()), "Kernel.landmarks: expected at least one"),
        (lambda: Kernel(input_scale=-1.0), "input_scale: expected a positive number of radians"),
        (lambda: Kernel(landmark=3), r"Kernel has no field 'landmark' \(did you mean 'landmarks'\?\)"),
        (lambda: replace(GIVEN, sizes={"n": 3}).bind(F, OUT), r"'angle_ring' takes 3 values; got points of \[2\]"),
        (lambda: Rbf(gamma=-1.0), "Rbf.gamma: expected a positive number or None; got -1.0"),
        (lambda: Rbf(replace(GIVEN, landmarks=((0.0, 1.0),))).bind(F, OUT), "no width fits 1 landmarks"),
        (lambda: Rbf(replace(GIVEN, landmarks=((0.0, 1.0),) * 2)).bind(F, OUT), "no width fits 2 landmarks"),
    ],
)
def test_bad_heads_are_refused(make, message):
    with pytest.raises(ConfigurationError, match=message):
        make()


def test_a_circuit_without_data_is_no_kernel():
    bare = Circuit(assemble(1, [], [], {}, {}), load("iqp").observables[:1], "bare")
    with pytest.raises(ConfigurationError, match="circuit 'bare' takes no data"):
        Kernel(bare).bind(F, OUT)
    with pytest.raises(CircuitError, match="not in the library"):
        Kernel("no_such").bind(F, OUT)
