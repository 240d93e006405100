#include "caffe/common.hpp"

namespace caffe {

__global__ void probe_kernel() {}

cudaError_t gpu_probe() {
  cudaFuncAttributes attributes;
  return cudaFuncGetAttributes(&attributes, probe_kernel);
}

}  // namespace caffe
