// caffe.Error, and what C++ throws as Python's exceptions.
#include <stdexcept>

#include "caffe/_caffe.hpp"
#include "caffe/_caffe_gil.hpp"

namespace caffe {

// caffe.Error is what C++ throws but for what Python has types of its own for.
static PyObject* python_error;

static PyObject* TypeOf(const std::exception& error) {
  if (dynamic_cast<const std::out_of_range*>(&error)) {
    return PyExc_IndexError;
  }
  if (dynamic_cast<const std::invalid_argument*>(&error)) {
    return PyExc_ValueError;
  }
  if (dynamic_cast<const std::overflow_error*>(&error)) {
    return PyExc_OverflowError;
  }
  return python_error;
}

static void Translate(const std::exception_ptr& thrown, void*) {
  try {
    std::rethrow_exception(thrown);
  } catch (const Raised& error) {
    error.Restore();
  } catch (const std::exception& error) {
    // Names that a message quotes may be of any bytes.
    const string line = OneLine(error);
    const nb::object text = nb::steal(PyUnicode_DecodeUTF8(line.data(),
        line.size(), "backslashreplace"));
    PyErr_SetObject(TypeOf(error), text.ptr());
  }
}

void DefineError(nb::module_* module) {
  python_error = PyErr_NewExceptionWithDoc("caffe.Error",
      "What Caffe refuses, or failed in: a check's message, in one line.",
      PyExc_RuntimeError, NULL);
  module->attr("Error") = nb::borrow(python_error);
  nb::register_exception_translator(&Translate);
  ThrowErrors(true);
}

}  // namespace caffe
