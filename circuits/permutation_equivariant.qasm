OPENQASM 3.0;
include "stdgates.inc";

// Layers that commute with every permutation of the qubits, Schatzki, Larocca, Nguyen, Sauvage and Cerezo (2024): ZZ on all
// pairs, RX and RY on all qubits, one weight each. Each qubit takes one value by RY, so that permuting the values permutes
// the expectation values of the qubits and leaves their mean, which is read, as it is.
const int n = 4;
const int layers = 2;

input array[float[64], n] x;
@trainable
input array[float[64], layers, 3] weights;

qubit[n] q;

for int i in [0:n-1] {
  ry(x[i]) q[i];
}
for int layer in [0:layers-1] {
  for int i in [0:n-2] {
    for int j in [i+1:n-1] {
      rzz(weights[layer, 0]) q[i], q[j];
    }
  }
  rx(weights[layer, 1]) q;
  ry(weights[layer, 2]) q;
}
