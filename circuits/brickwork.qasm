OPENQASM 3.0;
include "stdgates.inc";

// Angle encoding by RY, then layers of bricks: general two-qubit gates, first on the even pairs of neighbours and then on
// the odd ones. A brick is a general rotation of both qubits followed by XX, YY and ZZ; the rotations that would close it
// (Kraus and Cirac 2001) are those of the next brick.
const int n = 4;
const int layers = 1;

input array[float[64], n] x;
@trainable
input array[float[64], layers, n - 1, 9] weights;

qubit[n] q;

for int i in [0:n-1] {
  ry(x[i]) q[i];
}
for int layer in [0:layers-1] {
  for int parity in [0:1] {
    for int i in [parity : 2 : n-2] {
      for int side in [0:1] {
        rz(weights[layer, i, 3*side]) q[i + side];
        ry(weights[layer, i, 3*side + 1]) q[i + side];
        rz(weights[layer, i, 3*side + 2]) q[i + side];
      }
      rxx(weights[layer, i, 6]) q[i], q[i+1];
      ryy(weights[layer, i, 7]) q[i], q[i+1];
      rzz(weights[layer, i, 8]) q[i], q[i+1];
    }
  }
}
