#ifndef CAFFE_UTIL_CPU_THREADS_HPP_
#define CAFFE_UTIL_CPU_THREADS_HPP_

namespace caffe {

// How many threads the BLAS uses on the CPU: OpenBLAS's number, which holds for
// the whole process and follows OPENBLAS_NUM_THREADS; beside another BLAS
// OpenMP's.
int cpu_threads();

}  // namespace caffe

#endif  // CAFFE_UTIL_CPU_THREADS_HPP_
