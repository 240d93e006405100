// Python's global interpreter lock (GIL) in threads that compute: let go, taken
// back, and what Python raised meanwhile.
#ifndef PYTHON_CAFFE__CAFFE_GIL_HPP_
#define PYTHON_CAFFE__CAFFE_GIL_HPP_

#include <memory>
#include <utility>

#include "caffe/_caffe.hpp"

namespace caffe {

// Lets go of the lock as long as it lives, so that other Python threads run
// meanwhile. Nothing may touch Python inside it but through HoldGIL. Exceptions
// take the lock back on their way out.
class ReleaseGIL {
 public:
  ReleaseGIL() : state_(PyEval_SaveThread()) {}
  ~ReleaseGIL();

 private:
  PyThreadState* const state_;

  DISABLE_COPY_AND_ASSIGN(ReleaseGIL);
};

// Holds the lock as long as it lives. pycaffe lets go of it during forward,
// backward, step and solve; whatever runs Python inside them takes it back
// first. Taking it twice does no harm.
class HoldGIL {
 public:
  HoldGIL();
  ~HoldGIL();

 private:
  PyGILState_STATE state_;

  DISABLE_COPY_AND_ASSIGN(HoldGIL);
};

// What Python raised, on its way through Caffe.
class Raised : public PythonError {
 public:
  explicit Raised(nb::python_error&& error)
      : error_(std::make_shared<nb::python_error>(std::move(error))) {}
  // Makes it the current thread's error in Python again, with its traceback.
  void Restore() const { error_->restore(); }
  virtual void Print() const;

 private:
  const std::shared_ptr<nb::python_error> error_;
};

// Does what runs Python, from a thread of Caffe's with or without the lock.
template <typename Work>
auto CallPython(Work work) -> decltype(work()) {
  HoldGIL hold;
  try {
    return work();
  } catch (nb::python_error& error) {
    throw Raised(std::move(error));
  }
}

}  // namespace caffe

#endif  // PYTHON_CAFFE__CAFFE_GIL_HPP_
