// What the parts of pycaffe share: how C++'s types become Python's, and who
// defines what. On nanobind; with the stable ABI from Python 3.12 on.
#ifndef PYTHON_CAFFE__CAFFE_HPP_
#define PYTHON_CAFFE__CAFFE_HPP_

#include <nanobind/nanobind.h>
#include <nanobind/stl/optional.h>
#include <nanobind/stl/shared_ptr.h>
#include <nanobind/stl/string.h>

#include <memory>
#include <string>
#include <type_traits>
#include <vector>

// pycaffe hides its own names, but Caffe's registries are libcaffe's.
#pragma GCC visibility push(default)
#include "caffe/caffe.hpp"
#pragma GCC visibility pop

namespace nb = nanobind;

namespace caffe {

// For Python, we always use float as the type.
typedef float Dtype;

// The name of a file, from a str, bytes or an os.PathLike.
struct Path {
  string name;
};

// Refuses to compute in GPU mode without GPUs, before a net has failed halfway.
inline void CheckMode() {
#ifdef CPU_ONLY
  if (Caffe::mode() == Caffe::GPU) { NO_GPU; }
#endif
}

// The dimensions that the arguments of reshape, add_blob are.
vector<int> ShapeOf(const nb::args& shape);

// Parts of the module, a file each: _caffe_error.cpp and so on.
void DefineError(nb::module_* module);
void DefineVectors(nb::module_* module);
void DefineBlob(nb::module_* module);
void DefineLayer(nb::module_* module);
void DefineNet(nb::module_* module);
void DefineSolver(nb::module_* module);
void DefineNCCL(nb::module_* module);
void DefineTool(nb::module_* module);

// What every class has: attributes of the user's own, and weak references.
template <typename T, typename... More>
nb::class_<T, More...> Class(nb::module_* module, const char* name,
                             const char* doc) {
  return nb::class_<T, More...>(*module, name, nb::dynamic_attr(),
                                nb::is_weak_referenceable(), doc);
}

}  // namespace caffe

namespace nanobind {
namespace detail {

// Blobs share boost's kind of ownership, which nanobind takes for std's.
template <>
inline constexpr bool has_shared_from_this_v<caffe::Blob<float> > = false;

template <>
struct type_caster<caffe::Path> {
  NB_TYPE_CASTER(caffe::Path, const_name("str | bytes | os.PathLike"))

  bool from_python(handle source, uint8_t, cleanup_list*) noexcept {
    PyObject* bytes = nullptr;
    if (!PyUnicode_FSConverter(source.ptr(), &bytes)) {
      PyErr_Clear();
      return false;
    }
    value.name = PyBytes_AsString(bytes);
    Py_DECREF(bytes);
    return true;
  }
};

// As nanobind's own for std::shared_ptr, through which it goes: each pointer
// keeps the other one.
template <typename T>
struct type_caster<boost::shared_ptr<T> > {
  using Std = make_caster<std::shared_ptr<T> >;

  NB_TYPE_CASTER(boost::shared_ptr<T>, make_caster<T>::Name)

  bool from_python(handle source, uint8_t flags, cleanup_list* cleanup)
      noexcept {
    Std caster;
    if (!caster.from_python(source, flags, cleanup)) { return false; }
    const std::shared_ptr<T> owner = std::move(caster.value);
    if constexpr (std::is_base_of_v<boost::enable_shared_from_this<T>, T>) {
      if (owner) { value = owner->weak_from_this().lock(); }
      if (value) { return true; }
    }
    value = boost::shared_ptr<T>(owner.get(), [owner](T*) {});
    return true;
  }

  static handle from_cpp(const boost::shared_ptr<T>& value, rv_policy policy,
                         cleanup_list* cleanup) noexcept {
    return Std::from_cpp(std::shared_ptr<T>(value.get(), [value](T*) {}),
                         policy, cleanup);
  }
};

}  // namespace detail
}  // namespace nanobind

#endif  // PYTHON_CAFFE__CAFFE_HPP_
