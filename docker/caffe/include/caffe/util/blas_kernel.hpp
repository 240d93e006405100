#ifndef CAFFE_UTIL_BLAS_KERNEL_HPP_
#define CAFFE_UTIL_BLAS_KERNEL_HPP_

#include <string>

namespace caffe {

// The CPU whose kernels OpenBLAS runs in this process, in its own words
// ("SkylakeX", "Haswell", ...); empty when the BLAS is not an OpenBLAS.
std::string blas_kernel();

// The kernel that OpenBLAS had chosen before Caffe chose a better one; empty
// when Caffe left its choice alone.
std::string blas_kernel_replaced();

}  // namespace caffe

#endif  // CAFFE_UTIL_BLAS_KERNEL_HPP_
