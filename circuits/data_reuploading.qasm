OPENQASM 3.0;
include "stdgates.inc";

// Data re-uploading, Perez-Salinas, Cervera-Lierta, Gil-Fuster and Latorre (2020): in every layer each qubit takes the
// data anew, through U(angles + scales * x). A data point has three values for every block, and a layer applies the
// blocks one after another (their equation for more than three dimensions). Neighbours are joined by CZ between layers,
// the even pairs and the odd pairs by turns; after the last layer there is none.
const int n = 4;
const int layers = 2;
const int blocks = 1;

input array[float[64], blocks, 3] x;
@trainable
input array[float[64], layers, n, blocks, 3] angles;
@trainable
input array[float[64], layers, n, blocks, 3] scales;

qubit[n] q;

for int layer in [0:layers-1] {
  for int i in [0:n-1] {
    for int block in [0:blocks-1] {
      U(angles[layer, i, block, 0] + scales[layer, i, block, 0] * x[block, 0],
        angles[layer, i, block, 1] + scales[layer, i, block, 1] * x[block, 1],
        angles[layer, i, block, 2] + scales[layer, i, block, 2] * x[block, 2]) q[i];
    }
  }
  if (layer < layers - 1) {
    for int i in [layer%2 : 2 : n-2] {
      cz q[i], q[i+1];
    }
    if (layer % 2 == 1 && n % 2 == 0 && n > 2) {  // the odd pairs close the ring
      cz q[n-1], q[0];
    }
  }
}
