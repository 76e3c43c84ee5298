"""The circuits of the library once more: PennyLane's own templates where there is one, its operations otherwise.

Each takes the inputs and weights of the library's circuit by name, as arrays with the shapes that it declares.
`MEASURED` has the read-out of those that are not read by <Z> on every wire.
"""

import pennylane as qml


def angle_ring(x, weights):
    n = len(x)
    qml.AngleEmbedding(x, range(n), rotation="Y")
    for layer, row in enumerate(weights):
        if layer:
            edges = [(i, i + 1) for i in range(n - 1)] + ([(n - 1, 0)] if n > 2 else [])
            for edge in edges:
                qml.CZ(edge)
        qml.AngleEmbedding(row, range(n), rotation="Y")


def basic_entangler(x, weights):
    qml.AngleEmbedding(x, range(len(x)))
    qml.BasicEntanglerLayers(weights, range(len(x)))


def strongly_entangling(x, weights):
    qml.AngleEmbedding(x, range(len(x)))
    qml.StronglyEntanglingLayers(weights, range(len(x)))


def data_reuploading(x, angles, scales):
    layers, n, blocks, _ = angles.shape
    for layer in range(layers):
        for wire in range(n):
            for block in range(blocks):
                theta, phi, lam = angles[layer, wire, block] + scales[layer, wire, block] * x[block]
                qml.Rot(lam, theta, phi, wire)
        if layer < layers - 1:
            for wire in range(layer % 2, n - 1, 2):
                qml.CZ([wire, wire + 1])
            if layer % 2 and n % 2 == 0 and n > 2:
                qml.CZ([n - 1, 0])


def brickwork(x, weights):
    n = len(x)
    qml.AngleEmbedding(x, range(n), rotation="Y")
    for layer in weights:
        for i in [*range(0, n - 1, 2), *range(1, n - 1, 2)]:
            qml.Rot(*layer[i, :3], i)
            qml.Rot(*layer[i, 3:6], i + 1)
            _interaction(layer[i, 6:], [i, i + 1])


def qcnn(x, convolution, pooling):
    alive = list(range(len(x)))
    qml.AngleEmbedding(x, alive, rotation="Y")
    for shared, pool in zip(convolution, pooling, strict=True):
        even, odd = list(zip(alive[::2], alive[1::2], strict=True)), list(zip(alive[1::2], alive[2::2], strict=False))
        for pair in even + odd:
            for wire in pair:
                qml.Rot(*shared[:3], wire)
            _interaction(shared[3:], pair)
        for control, target in even:
            qml.CRZ(pool[0], [control, target])
            qml.ctrl(qml.RX(pool[1], target), control, control_values=[0])
        alive = alive[1::2]


def _interaction(angles, wires):
    for gate, angle in zip((qml.IsingXX, qml.IsingYY, qml.IsingZZ), angles, strict=True):
        gate(angle, wires)


def heavy_hex_chain(x, weights):
    n = len(x)
    qml.AngleEmbedding(x, range(n))
    for layer, rows in enumerate(weights):
        if layer:
            for i in [*range(0, n - 1, 2), *range(1, n - 1, 2)]:
                qml.CZ([i, i + 1])
        for wire, (a, b) in enumerate(rows):
            qml.RY(a, wire)
            qml.RZ(b, wire)


def amplitude_embedding(x, weights):
    n = weights.shape[1]
    qml.AmplitudeEmbedding(x, range(n), normalize=True)
    qml.StronglyEntanglingLayers(weights, range(n))


def _ry_block(weights, wires):
    qml.RY(weights[0], wires[0])
    qml.RY(weights[1], wires[1])
    qml.CNOT(wires)


def tree_tensor_network(x, weights):
    qml.AngleEmbedding(x, range(len(x)), rotation="Y")
    qml.TTN(range(len(x)), 2, _ry_block, 2, weights)


def matrix_product_state(x, weights):
    qml.AngleEmbedding(x, range(len(x)), rotation="Y")
    qml.MPS(range(len(x)), 2, _ry_block, 2, weights)


def simplified_two_design(x, initial, weights):
    qml.AngleEmbedding(x, range(len(x)))
    qml.SimplifiedTwoDesign(initial, weights, range(len(x)))


def permutation_equivariant(x, weights):
    n = len(x)
    qml.AngleEmbedding(x, range(n), rotation="Y")
    for a, b, c in weights:
        for i in range(n):
            for j in range(i):
                qml.IsingZZ(a, [i, j])
        for wire in range(n):
            qml.RX(b, wire)
            qml.RY(c, wire)


def iqp(x, layers):
    qml.IQPEmbedding(x, range(len(x)), n_repeats=layers)


MEASURED = {
    "qcnn": lambda n: [qml.Z(n - 1)],
    "tree_tensor_network": lambda n: [qml.Z(n - 1)],
    "matrix_product_state": lambda n: [qml.Z(n - 1)],
    "permutation_equivariant": lambda n: [qml.dot([1 / n] * n, [qml.Z(wire) for wire in range(n)])],
}


def measured(name, n):
    """Return what is measured of the circuit `name` on n wires."""
    return MEASURED.get(name, lambda n: [qml.Z(wire) for wire in range(n)])(n)
