OPENQASM 3.0;
include "stdgates.inc";

// Angle encoding by RX, then layers of RX on every qubit and a ring of CX: the plainest entangling circuit.
const int n = 4;
const int layers = 2;

input array[float[64], n] x;
@trainable
input array[float[64], layers, n] weights;

qubit[n] q;

for int i in [0:n-1] {
  rx(x[i]) q[i];
}
for int layer in [0:layers-1] {
  for int i in [0:n-1] {
    rx(weights[layer, i]) q[i];
  }
  for int i in [0:n-2] {
    cx q[i], q[i+1];
  }
  if (n > 2) {  // with two qubits the ring has one edge
    cx q[n-1], q[0];
  }
}
