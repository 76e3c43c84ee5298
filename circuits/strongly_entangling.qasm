OPENQASM 3.0;
include "stdgates.inc";

// Angle encoding by RX, then the strongly entangling layers of Schuld, Bocharov, Svore and Wiebe (2020): a general
// rotation of every qubit, then CX from every qubit to the one `reach` further on. The reach grows from layer to layer.
const int n = 4;
const int layers = 2;

input array[float[64], n] x;
@trainable
input array[float[64], layers, n, 3] weights;

qubit[n] q;

for int i in [0:n-1] {
  rx(x[i]) q[i];
}
for int layer in [0:layers-1] {
  for int i in [0:n-1] {
    rz(weights[layer, i, 0]) q[i];
    ry(weights[layer, i, 1]) q[i];
    rz(weights[layer, i, 2]) q[i];
  }
  if (n > 1) {
    const int reach = layer % (n - 1) + 1;
    for int i in [0:n-1] {
      cx q[i], q[(i + reach) % n];
    }
  }
}
