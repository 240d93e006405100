#include "caffe/util/cpu_threads.hpp"

// Weak: another BLAS has no such function, and without OpenMP nobody does.
extern "C" {
int openblas_get_num_threads() __attribute__((weak));
int omp_get_max_threads() __attribute__((weak));
}

namespace caffe {

int cpu_threads() {
  if (openblas_get_num_threads) {
    return openblas_get_num_threads();
  }
  return omp_get_max_threads ? omp_get_max_threads() : 1;
}

}  // namespace caffe
