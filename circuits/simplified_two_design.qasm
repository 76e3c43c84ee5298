OPENQASM 3.0;
include "stdgates.inc";

// Angle encoding by RX, then the simplified two-design of Cerezo et al. (2021): RY on every qubit, and layers of CZ with
// RY behind it on both qubits, on the even pairs of neighbours and then on the odd ones. Deep ones have barren plateaus,
// which is what they are for.
const int n = 4;
const int layers = 2;

input array[float[64], n] x;
@trainable
input array[float[64], n] initial;
@trainable
input array[float[64], layers, n - 1, 2] weights;

qubit[n] q;

for int i in [0:n-1] {
  rx(x[i]) q[i];
}
for int i in [0:n-1] {
  ry(initial[i]) q[i];
}
for int layer in [0:layers-1] {
  int pair = 0;
  for int parity in [0:1] {
    for int i in [parity : 2 : n-2] {
      cz q[i], q[i+1];
      ry(weights[layer, pair, 0]) q[i];
      ry(weights[layer, pair, 1]) q[i+1];
      pair += 1;
    }
  }
}
