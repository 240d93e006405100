#include <cxxabi.h>
#include <dlfcn.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "caffe/_caffe_gil.hpp"

namespace caffe {

// Python, at its end, ends every daemon thread that takes its global
// interpreter lock: by unwinding that thread's stack, which no C++ destructor
// survives (the whole program would end by std::terminate). Such a thread waits
// here instead, until the main thread has ended the program. Since Python 3.14
// they wait inside Python.
static void WaitForTheEnd() {
  for (;;) { pause(); }
}

// Whether Python is at its end, and this not its main thread, which ends it. Of
// the two functions, of which each version of Python has one, neither is in the
// stable ABI.
static bool PythonEndsWithout() {
  typedef int (*Answer)();
  static const Answer public_name =
      reinterpret_cast<Answer>(dlsym(RTLD_DEFAULT, "Py_IsFinalizing"));
  static const Answer private_name =
      reinterpret_cast<Answer>(dlsym(RTLD_DEFAULT, "_Py_IsFinalizing"));
  if (syscall(SYS_gettid) == getpid()) { return false; }
  const Answer is_finalizing = public_name ? public_name : private_name;
  return is_finalizing && is_finalizing();
}

ReleaseGIL::~ReleaseGIL() {
  try {
    PyEval_RestoreThread(state_);
  } catch (abi::__forced_unwind&) {
    WaitForTheEnd();
  }
}

HoldGIL::HoldGIL() {
  try {
    state_ = PyGILState_Ensure();
  } catch (abi::__forced_unwind&) {
    WaitForTheEnd();
  }
}

HoldGIL::~HoldGIL() {
  // Where the Python code in between was what Python ended, nothing is held.
  if (PythonEndsWithout()) { WaitForTheEnd(); }
  PyGILState_Release(state_);
}

void Raised::Print() const {
  HoldGIL hold;
  Restore();
  PyErr_Print();
}

}  // namespace caffe
