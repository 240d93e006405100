// Winograd's convolution for CPUs with AVX2.
#include <cstddef>
#include <cstdint>
#include <cstring>

#include "caffe/util/winograd_kernels.hpp"

#ifdef __x86_64__
#pragma GCC target("avx2,fma")
#include "caffe/util/winograd_vectors.hpp"
#endif

namespace caffe {
namespace winograd {

const Kernels* kernels_avx2(int taps) {
#ifdef __x86_64__
  return taps == 3 ? Kernel<8, 3>::table() :
      taps == 4 ? Kernel<8, 4>::table() : NULL;
#else
  return NULL;
#endif
}

}  // namespace winograd
}  // namespace caffe
