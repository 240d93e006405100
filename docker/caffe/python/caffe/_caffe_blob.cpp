// Blobs, and the arrays that show their values.
#include <nanobind/ndarray.h>

#include <memory>

#include "caffe/_caffe.hpp"

namespace caffe {

vector<int> ShapeOf(const nb::args& shape) {
  vector<int> dims(shape.size());
  for (size_t i = 0; i < dims.size(); ++i) {
    if (!nb::try_cast<int>(shape[i], dims[i])) {
      const string given = nb::cast<string>(nb::repr(shape[i])).substr(0, 60);
      throw nb::type_error(("a shape is whole numbers below 2**31, as in "
          "reshape(1, 3, 227, 227) or reshape(*shape), not " + given).c_str());
    }
  }
  return dims;
}

// What an array holds on to: values that stay where they are as long as it
// lives, so that it shows what the net computes later, and the net sees what is
// written into it.
class PinnedValues {
 public:
  explicit PinnedValues(const shared_ptr<SyncedMemory>& values)
    : values_(values), data_(values->pin_cpu_data()) {}
  ~PinnedValues() { values_->unpin(); }
  void* data() const { return data_; }

  static void Delete(void* pinned) noexcept {
    delete static_cast<PinnedValues*>(pinned);
  }

 private:
  const shared_ptr<SyncedMemory> values_;
  void* const data_;

  DISABLE_COPY_AND_ASSIGN(PinnedValues);
};

typedef nb::ndarray<nb::numpy, Dtype> Array;

static Array ArrayOf(const Blob<Dtype>& blob,
                     const shared_ptr<SyncedMemory>& values) {
  std::unique_ptr<PinnedValues> pinned(new PinnedValues(values));
  void* data = pinned->data();
  const nb::capsule owner(pinned.get(), &PinnedValues::Delete);
  pinned.release();
  const vector<size_t> shape(blob.shape().begin(), blob.shape().end());
  return Array(data, shape.size(), shape.data(), owner);
}

void DefineBlob(nb::module_* module) {
  typedef Blob<Dtype> B;
  Class<B>(module, "Blob",
      "Values (data) and their gradients (diff), arrays of one shape: what\n"
      "layers take and give, and their weights. Net.blobs and Net.params have "
      "them.")
    .def_prop_ro("shape", [](const B& blob) { return blob.shape(); },
                 "The shape: a list of whole numbers, as N, C, H, W of images.")
    .def_prop_ro("num", &B::num, "The first of at most four axes.")
    .def_prop_ro("channels", &B::channels, "The second of at most four axes.")
    .def_prop_ro("height", &B::height, "The third of at most four axes.")
    .def_prop_ro("width", &B::width, "The last of at most four axes.")
    .def_prop_ro("count", [](const B& blob) { return blob.count(); },
                 "How many values it has.")
    .def("reshape", [](B* blob, const nb::args& shape) {
      blob->Reshape(ShapeOf(shape));
    }, "Give it the shape that the arguments are, as in reshape(1, 3, 227, "
       "227).\nAn input's takes effect on the net at its next reshape() or "
       "forward().")
#ifndef CPU_ONLY
    .def_prop_ro("_gpu_data_ptr", [](B* blob) {
      return reinterpret_cast<uintptr_t>(blob->mutable_gpu_data());
    })
    .def_prop_ro("_gpu_diff_ptr", [](B* blob) {
      return reinterpret_cast<uintptr_t>(blob->mutable_gpu_diff());
    })
#endif
    .def_prop_ro("data", [](const B& blob) {
      return ArrayOf(blob, blob.data());
    }, nb::rv_policy::automatic,
    "The values, float32, as an array that shows them as long as it lives.\n"
    "To set them write into it: blob.data[...] = values.")
    .def_prop_ro("diff", [](const B& blob) {
      return ArrayOf(blob, blob.diff());
    }, nb::rv_policy::automatic,
    "The gradients, float32, as an array that shows them as long as it lives.\n"
    "To set them write into it: blob.diff[...] = values.");
}

}  // namespace caffe
