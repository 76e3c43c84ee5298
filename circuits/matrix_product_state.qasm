OPENQASM 3.0;
include "stdgates.inc";

// Angle encoding by RY, then a staircase of two-qubit blocks in the shape of a matrix product state, Huggins et al. (2019):
// RY on two neighbours and CX from one to the other, which enters the next block. The last qubit is read.
const int n = 4;

input array[float[64], n] x;
@trainable
input array[float[64], n - 1, 2] weights;

qubit[n] q;

for int i in [0:n-1] {
  ry(x[i]) q[i];
}
for int i in [0:n-2] {
  ry(weights[i, 0]) q[i];
  ry(weights[i, 1]) q[i+1];
  cx q[i], q[i+1];
}
