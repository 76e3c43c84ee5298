OPENQASM 3.0;
include "stdgates.inc";

// Hardware-efficient layers in the manner of Kandala et al. (2017) on a chain of neighbours: RX takes the data, and RY and
// RZ on every qubit stand before, between and after steps of CZ on the even and then the odd pairs. A heavy-hex lattice
// holds such a chain, so that a processor of that shape runs it without a single swap, two steps of CZ a layer.
const int n = 4;
const int layers = 2;

input array[float[64], n] x;
@trainable
input array[float[64], layers + 1, n, 2] weights;

qubit[n] q;

for int i in [0:n-1] {
  rx(x[i]) q[i];
}
for int layer in [0:layers] {
  if (layer > 0) {
    for int parity in [0:1] {
      for int i in [parity : 2 : n-2] {
        cz q[i], q[i+1];
      }
    }
  }
  for int i in [0:n-1] {
    ry(weights[layer, i, 0]) q[i];
    rz(weights[layer, i, 1]) q[i];
  }
}
