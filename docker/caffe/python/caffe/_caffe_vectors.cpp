// The lists that Caffe gives away: of blobs, layers, nets, names and numbers.
#include <nanobind/stl/bind_vector.h>

#include <algorithm>

#include "caffe/_caffe.hpp"

namespace caffe {

typedef vector<shared_ptr<Blob<Dtype> > > BlobVec;
typedef vector<Blob<Dtype>*> RawBlobVec;

// Of the blobs below or above a layer. They are the net's; a Python object of
// one keeps it alive.
static nb::object BlobAt(const RawBlobVec& blobs, Py_ssize_t i) {
  Blob<Dtype>* blob = blobs[nb::detail::wrap(i, blobs.size())];
  const shared_ptr<Blob<Dtype> > owner = blob->weak_from_this().lock();
  return owner ? nb::cast(owner) : nb::cast(blob, nb::rv_policy::reference);
}

static nb::list BlobList(const RawBlobVec& blobs) {
  nb::list list;
  for (size_t i = 0; i < blobs.size(); ++i) { list.append(BlobAt(blobs, i)); }
  return list;
}

static void DefineRawBlobVec(nb::module_* module) {
  Class<RawBlobVec>(module, "RawBlobVec", "The blobs below or above a layer.")
    .def("__len__", [](const RawBlobVec& blobs) { return blobs.size(); })
    .def("__getitem__", &BlobAt,
         nb::sig("def __getitem__(self, arg: int, /) -> Blob"))
    .def("__getitem__", [](const RawBlobVec& blobs, const nb::slice& slice) {
      return BlobList(blobs).attr("__getitem__")(slice);
    }, nb::sig("def __getitem__(self, arg: slice, /) -> list[Blob]"))
    .def("__iter__", [](const RawBlobVec& blobs) {
      return nb::iter(BlobList(blobs));
    }, nb::sig("def __iter__(self) -> collections.abc.Iterator[Blob]"))
    .def("__contains__", [](const RawBlobVec& blobs, const Blob<Dtype>* blob) {
      return std::find(blobs.begin(), blobs.end(), blob) != blobs.end();
    })
    .def(nb::init<>())
    .def("__setitem__", [](RawBlobVec* blobs, Py_ssize_t i, Blob<Dtype>* blob) {
      (*blobs)[nb::detail::wrap(i, blobs->size())] = blob;
    }, nb::keep_alive<1, 3>())
    .def("__delitem__", [](RawBlobVec* blobs, Py_ssize_t i) {
      blobs->erase(blobs->begin() + nb::detail::wrap(i, blobs->size()));
    })
    .def("append", [](RawBlobVec* blobs, Blob<Dtype>* blob) {
      blobs->push_back(blob);
    }, nb::keep_alive<1, 2>())
    .def("extend", [](nb::handle blobs, const nb::iterable& more) {
      for (nb::handle blob : more) { blobs.attr("append")(blob); }
    });
}

template <typename Vector>
static nb::class_<Vector> DefineVector(nb::module_* module, const char* name) {
  return nb::bind_vector<Vector>(*module, name, nb::dynamic_attr(),
                                 nb::is_weak_referenceable());
}

void DefineVectors(nb::module_* module) {
  DefineVector<BlobVec>(module, "BlobVec")
    .def("add_blob", [](BlobVec* blobs, const nb::args& shape) {
      blobs->push_back(
          shared_ptr<Blob<Dtype> >(new Blob<Dtype>(ShapeOf(shape))));
    }, "Appends a new blob of the shape that the arguments are.");
  DefineRawBlobVec(module);
  DefineVector<vector<shared_ptr<Layer<Dtype> > > >(module, "LayerVec");
  DefineVector<vector<shared_ptr<Net<Dtype> > > >(module, "NetVec");
  DefineVector<vector<string> >(module, "StringVec");
  DefineVector<vector<int> >(module, "IntVec");
  DefineVector<vector<Dtype> >(module, "DtypeVec");
  DefineVector<vector<bool> >(module, "BoolVec");
}

}  // namespace caffe
