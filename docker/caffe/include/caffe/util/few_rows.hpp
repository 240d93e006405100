#ifndef CAFFE_UTIL_FEW_ROWS_HPP_
#define CAFFE_UTIL_FEW_ROWS_HPP_
#ifdef USE_ONEDNN

namespace caffe {

// The matrix product of an inner product layer with a small batch: result
// (M x N) = A (M x K) * B' (B is N x K), or adds that to it; all row by row. B,
// the weights, is read once from end to end, as fast as memory gives it; a
// general matrix product copies it in pieces first, which takes twice as long.
void few_rows_multiply(int M, int N, int K, const float* A, const float* B,
    bool add, float* result);

// Whether that is the faster way (measured: up to 16 rows).
bool few_rows_pay(int M, int N, int K);

}  // namespace caffe

#endif  // USE_ONEDNN
#endif  // CAFFE_UTIL_FEW_ROWS_HPP_
