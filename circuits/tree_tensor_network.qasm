OPENQASM 3.0;
include "stdgates.inc";

// Angle encoding by RY, then a binary tree of two-qubit blocks, Grant et al. (2018): RY on both qubits and CX from one to
// the other, which goes on to the next level. The last qubit is the root, where the circuit is read. Blocks are counted
// from the leaves to the root. With 2^k qubits the tree is complete; with others the qubits in front have no partner on
// some levels.
const int n = 4;

input array[float[64], n] x;
@trainable
input array[float[64], n - 1, 2] weights;

qubit[n] q;

for int i in [0:n-1] {
  ry(x[i]) q[i];
}
int block = 0;
int apart = 1;
for int level in [1:n] {
  if (apart < n) {
    for int i in [(n - 1 - apart) % (2*apart) : 2*apart : n - 1 - apart] {
      ry(weights[block, 0]) q[i];
      ry(weights[block, 1]) q[i + apart];
      cx q[i], q[i + apart];
      block += 1;
    }
    apart *= 2;
  }
}
