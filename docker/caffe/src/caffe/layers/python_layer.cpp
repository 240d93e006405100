#ifdef WITH_PYTHON_LAYER
#include <dlfcn.h>

#include <string>

#include "caffe/layer_factory.hpp"
#include "caffe/layers/python_layer.hpp"

namespace caffe {

static PythonLayerMaker python_layer_maker = NULL;

void SetPythonLayerMaker(PythonLayerMaker maker) {
  python_layer_maker = maker;
}

// A function of Python's C API, of the Python that is in this process. NULL
// where there is none.
template <typename Function>
static Function* PythonFunction(const char* name) {
  return reinterpret_cast<Function*>(dlsym(RTLD_DEFAULT, name));
}

static void LoadPython() {
  const string library = AS_STRING(CAFFE_LIBPYTHON);
  if (library.empty()) {
    LOG(FATAL) << "Python layers need a Python that is a shared library, which"
        " the one that this Caffe is built for is not: run the net in pycaffe";
  }
  if (!dlopen(library.c_str(), RTLD_NOW | RTLD_GLOBAL)) {
    LOG(FATAL) << "Python layers need Python: " << dlerror();
  }
}

// Starts Python in a program that is none, such as caffe train, and has pycaffe
// loaded there, which calls SetPythonLayerMaker.
static void StartPython() {
  if (!PythonFunction<int()>("Py_IsInitialized")) { LoadPython(); }
  PythonFunction<void()>("Py_Initialize")();  // nothing where it runs already
  const int state = PythonFunction<int()>("PyGILState_Ensure")();
  const bool imported =
      PythonFunction<void*(const char*)>("PyImport_ImportModule")("caffe");
  if (!imported) { PythonFunction<void()>("PyErr_Print")(); }
  PythonFunction<void(int)>("PyGILState_Release")(state);
  if (!imported || !python_layer_maker) {
    LOG(FATAL) << "Python layers need pycaffe, which Python did not import: is "
        "its folder in PYTHONPATH?";
  }
}

template <typename Dtype>
shared_ptr<Layer<Dtype> > GetPythonLayer(const LayerParameter& param);

template <>
shared_ptr<Layer<float> > GetPythonLayer(const LayerParameter& param) {
  if (!python_layer_maker) { StartPython(); }
  return python_layer_maker(param);
}

template <>
shared_ptr<Layer<double> > GetPythonLayer(const LayerParameter& param) {
  LOG(FATAL) << "Python layers compute in single precision only";
  return shared_ptr<Layer<double> >();
}

REGISTER_LAYER_CREATOR(Python, GetPythonLayer);

}  // namespace caffe
#endif  // WITH_PYTHON_LAYER
