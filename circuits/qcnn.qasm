OPENQASM 3.0;
include "stdgates.inc";

// Quantum convolutional neural network, Cong, Choi and Lukin (2019): on every level a convolution, the same two-qubit gate
// on all pairs of neighbours (even pairs, then odd ones), and a pooling that lets one qubit of each pair control two
// rotations of the other and leaves it behind. Half of the qubits remain; after the last level it is one. Convolution: a
// general rotation of both qubits, then XX, YY and ZZ. Pooling: that of Hur, Kim and Park (2022).
const int levels = 2;
const int n = 2**levels;

input array[float[64], n] x;
@trainable
input array[float[64], levels, 6] convolution;
@trainable
input array[float[64], levels, 2] pooling;

qubit[n] q;

for int i in [0:n-1] {
  ry(x[i]) q[i];
}
for int level in [0:levels-1] {
  const int apart = 2**level;  // the distance of neighbours among the qubits that are left
  for int parity in [0:1] {
    for int i in [(1 + parity)*apart - 1 : 2*apart : n - 1 - apart] {
      for int side in [0:1] {
        rz(convolution[level, 0]) q[i + side*apart];
        ry(convolution[level, 1]) q[i + side*apart];
        rz(convolution[level, 2]) q[i + side*apart];
      }
      rxx(convolution[level, 3]) q[i], q[i + apart];
      ryy(convolution[level, 4]) q[i], q[i + apart];
      rzz(convolution[level, 5]) q[i], q[i + apart];
    }
  }
  for int i in [apart - 1 : 2*apart : n - 1 - apart] {
    crz(pooling[level, 0]) q[i], q[i + apart];
    rx(pooling[level, 1]) q[i + apart];  // with the next gate: a rotation where the control is 0
    crx(-pooling[level, 1]) q[i], q[i + apart];
  }
}
