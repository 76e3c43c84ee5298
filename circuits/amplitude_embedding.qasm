OPENQASM 3.0;
include "stdgates.inc";

// Amplitude embedding of 2^n real values, then strongly entangling layers: the classifier of Schuld, Bocharov, Svore and
// Wiebe (2020). The state sum_j x[j] |j> / |x| is prepared as Mottonen, Vartiainen, Bergholm and Salomaa (2005) do: qubit
// k takes, for each value j of the qubits before it, the rotation that divides the block of x that belongs to j between
// its two halves. Such a rotation is RY and CX by turns, in the order of the Gray code. Signs are in the last one.
const int n = 3;
const int layers = 2;

input array[float[64], 2**n] x;
@trainable
input array[float[64], layers, n, 3] weights;

qubit[n] q;

for int k in [0:n-1] {
  const int blocks = 2**k;
  const int half = 2**(n - 1 - k);
  for int i in [0:blocks-1] {
    float turn = 0;
    for int j in [0:blocks-1] {
      float left = x[2*j*half];
      float right = x[(2*j + 1)*half];
      for int l in [1:half-1] {
        left = hypot(left, x[2*j*half + l]);
        right = hypot(right, x[(2*j + 1)*half + l]);
      }
      const int sign = 1 - 2*(popcount(j & (i ^ (i >> 1))) % 2);
      turn += 2.0*sign/blocks*arctan2(right, left);
    }
    ry(turn) q[k];
    if (i < blocks - 1) {  // the bit in which the codes of i and i + 1 differ, the last qubit being the lowest
      cx q[k - popcount(i ^ (i + 1))], q[k];
    } else if (k > 0) {
      cx q[0], q[k];
    }
  }
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
