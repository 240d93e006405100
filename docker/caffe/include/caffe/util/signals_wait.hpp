#ifndef CAFFE_UTIL_SIGNALS_WAIT_HPP_
#define CAFFE_UTIL_SIGNALS_WAIT_HPP_

#include <signal.h>

#include "caffe/common.hpp"

namespace caffe {

// As long as it lives, no signal's handler runs in this thread, nor ever in
// threads that it starts meanwhile: signals go to another thread, or wait.
// (Those come at once that an instruction of the thread's own causes.)
//
// oneDNN needs that, 2.6 as 3.7: its products of matrices
// (jit_avx_gemm_f32.cpp, jit_avx512_common_gemm_f32.cpp) let the stack pointer
// point to the beginning of a buffer on the heap, below which Linux would then
// lay the handler's frame, over whatever belongs to others.
class SignalsWait {
 public:
  SignalsWait();
  ~SignalsWait();

  // From now on, and for good, in a thread that only computes.
  static void Always();

 private:
  sigset_t before_;

  DISABLE_COPY_AND_ASSIGN(SignalsWait);
};

}  // namespace caffe
#endif  // CAFFE_UTIL_SIGNALS_WAIT_HPP_
