OPENQASM 3.0;
include "stdgates.inc";

// The instantaneous quantum polynomial (IQP) encoding of Havlicek et al. (2019), with the angles of PennyLane's
// IQPEmbedding: in every layer H on each qubit, RZ(x_i) on each, and ZZ(x_i x_j) on each pair. It has no weights: it is
// the feature map of a quantum kernel.
const int n = 4;
const int layers = 2;

input array[float[64], n] x;

qubit[n] q;

gate zz(theta) a, b {
  cx a, b;
  rz(theta) b;
  cx a, b;
}

for int layer in [1:layers] {
  for int i in [0:n-1] {
    h q[i];
    rz(x[i]) q[i];
  }
  for int i in [0:n-2] {
    for int j in [i+1:n-1] {
      zz(x[i] * x[j]) q[i], q[j];
    }
  }
}
