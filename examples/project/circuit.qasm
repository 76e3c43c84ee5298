OPENQASM 3.0;
include "stdgates.inc";

// Your circuit. `const` sizes may be overridden in experiment.toml; arrays marked @trainable are weights, the others data.
const int n = 3;
const int layers = 2;

input array[float[64], n] x;
@trainable
input array[float[64], layers, n, 2] weights;

qubit[n] q;

for int layer in [0:layers-1] {
  for int i in [0:n-1] {
    rx(x[i]) q[i];               // the data again in every layer
  }
  for int i in [0:n-1] {
    ry(weights[layer, i, 0]) q[i];
    rz(weights[layer, i, 1]) q[i];
  }
  for int i in [0:n-2] {
    cx q[i], q[i+1];
  }
}
