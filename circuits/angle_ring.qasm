OPENQASM 3.0;
include "stdgates.inc";

// Angle encoding, then circuit 10 of Sim, Johnson and Aspuru-Guzik (2019): RY on every qubit, and layers of a ring of
// CZ followed by RY on every qubit.
const int n = 4;
const int layers = 2;

input array[float[64], n] x;
@trainable
input array[float[64], layers + 1, n] weights;

qubit[n] q;

for int i in [0:n-1] {
  ry(x[i]) q[i];
}
for int i in [0:n-1] {
  ry(weights[0, i]) q[i];
}
for int layer in [1:layers] {
  for int i in [0:n-2] {
    cz q[i], q[i+1];
  }
  if (n > 2) {  // with two qubits the ring has one edge
    cz q[n-1], q[0];
  }
  for int i in [0:n-1] {
    ry(weights[layer, i]) q[i];
  }
}
