// Nets: made from files, run with Python's lock released, watched by callbacks.
#include <nanobind/ndarray.h>

#include <fstream>
#include <utility>

#include "caffe/_caffe.hpp"
#include "caffe/_caffe_gil.hpp"

#pragma GCC visibility push(default)
#include "caffe/layers/memory_data_layer.hpp"
#pragma GCC visibility pop

namespace caffe {

typedef Net<Dtype> N;

// Says early, and in one line, that a file cannot be read.
static void CheckFile(const string& filename) {
  if (!std::ifstream(filename.c_str()).good()) {
    throw std::runtime_error("Could not open file " + filename);
  }
}

static vector<string> Stages(const nb::object& stages) {
  vector<string> names;
  if (!stages.is_none()) {
    for (nb::handle stage : stages) {
      names.push_back(nb::cast<string>(stage));
    }
  }
  return names;
}

static void Load(N* net, const string& weights) {
  try {
    net->CopyTrainedLayersFrom(weights);
  } catch (...) {
    net->~N();
    throw;
  }
}

static void Init(N* net, const Path& network_file, int phase, int level,
                 const nb::object& stages, const std::optional<Path>& weights) {
  CheckFile(network_file.name);
  if (weights) { CheckFile(weights->name); }
  const vector<string> names = Stages(stages);
  new (net) N(network_file.name, static_cast<Phase>(phase), level, &names);
  if (weights) { Load(net, weights->name); }
}

// Legacy Net construct-and-load convenience constructor
static void InitAndLoad(N* net, const Path& network_file, const Path& weights,
                        int phase) {
  LOG(WARNING) << "DEPRECATION WARNING - deprecated use of Python interface";
  LOG(WARNING) << "Use this instead (with the named \"weights\""
    << " parameter):";
  LOG(WARNING) << "Net('" << network_file.name << "', " << phase
    << ", weights='" << weights.name << "')";
  CheckFile(network_file.name);
  CheckFile(weights.name);
  new (net) N(network_file.name, static_cast<Phase>(phase));
  Load(net, weights.name);
}

static Dtype Forward(N* net, int start, int end) {
  CheckMode();
  ReleaseGIL release;
  return net->ForwardFromTo(start, end);
}

static void Backward(N* net, int start, int end) {
  CheckMode();
  ReleaseGIL release;
  net->BackwardFromTo(start, end);
}

static void Save(const N& net, const Path& filename) {
  NetParameter net_param;
  net.ToProto(&net_param, false);
  WriteProtoToBinaryFile(net_param, filename.name.c_str());
}

typedef nb::ndarray<nb::ro> Array;

static bool IsContiguous(const Array& array) {
  int64_t stride = 1;
  for (size_t i = array.ndim(); i-- > 0; stride *= array.shape(i)) {
    if (array.shape(i) != 1 && array.stride(i) != stride) { return false; }
  }
  return true;
}

static void CheckArray(const Array& array, const string& name, int channels,
                       int height, int width) {
  const char* problem =
      array.dtype() != nb::dtype<float>() ? " must be float32" :
      array.ndim() != 4 ? " must be 4-d" :
      !IsContiguous(array) ? " must be C contiguous" :
      array.shape(1) != channels ? " has wrong number of channels" :
      array.shape(2) != height ? " has wrong height" :
      array.shape(3) != width ? " has wrong width" : NULL;
  if (problem) { throw std::runtime_error(name + problem); }
}

// Lets go of arrays, wherever C++ does so.
static void ReleaseArrays(std::pair<Array, Array>* arrays) {
  HoldGIL hold;
  delete arrays;
}

static void SetInputArrays(N* net, const Array& data, const Array& labels) {
  shared_ptr<MemoryDataLayer<Dtype> > layer =
      boost::dynamic_pointer_cast<MemoryDataLayer<Dtype> >(net->layers()[0]);
  if (!layer) {
    throw std::runtime_error("set_input_arrays may only be called if the"
        " first layer is a MemoryDataLayer");
  }
  CheckArray(data, "data array", layer->channels(), layer->height(),
             layer->width());
  CheckArray(labels, "labels array", 1, 1, 1);
  if (data.shape(0) != labels.shape(0)) {
    throw std::runtime_error("data and labels must have the same first"
        " dimension");
  }
  if (data.shape(0) % layer->batch_size() != 0) {
    throw std::runtime_error("first dimensions of input arrays must be a"
        " multiple of batch size");
  }
  const shared_ptr<void> owner(new std::pair<Array, Array>(data, labels),
                               &ReleaseArrays);
  layer->Reset(static_cast<Dtype*>(const_cast<void*>(data.data())),
               static_cast<Dtype*>(const_cast<void*>(labels.data())),
               data.shape(0), owner);
}

class NetCallback : public N::Callback {
 public:
  explicit NetCallback(const nb::callable& function) : function_(function) {}

 protected:
  virtual void run(int layer) { CallPython([&] { function_(layer); }); }

 private:
  const nb::callable function_;
};

// Nets do not own their callbacks: they live as long as the program.
template <void (N::*Add)(N::Callback*)>
static void AddCallback(N* net, const nb::callable& function) {
  (net->*Add)(new NetCallback(function));
}

static void DefineParts(nb::class_<N>* net) {
  net->def_prop_ro("_blob_loss_weights",
                   [](const N& net) -> const vector<Dtype>& {
    return net.blob_loss_weights();
  })
  .def("_bottom_ids", [](const N& net, int i) { return net.bottom_ids(i); },
       nb::arg("layer"))
  .def("_top_ids", [](const N& net, int i) { return net.top_ids(i); },
       nb::arg("layer"))
  .def_prop_ro("_blobs", [](const N& net)
               -> const vector<shared_ptr<Blob<Dtype> > >& {
    return net.blobs();
  })
  .def_prop_ro("layers", [](const N& net)
               -> const vector<shared_ptr<Layer<Dtype> > >& {
    return net.layers();
  }, "The layers in their order: each has a type and blobs (its weights).")
  .def_prop_ro("_blob_names", [](const N& net) { return net.blob_names(); })
  .def_prop_ro("_layer_names", [](const N& net) { return net.layer_names(); })
  .def_prop_ro("_inputs", [](const N& net) {
    return net.input_blob_indices();
  })
  .def_prop_ro("_outputs", [](const N& net) {
    return net.output_blob_indices();
  });
}

// An underscore marks what pycaffe.py puts other methods in the place of.
void DefineNet(nb::module_* module) {
  nb::class_<N> net = Class<N>(module, "Net",
      "A net, made of a prototxt: Net('deploy.prototxt', caffe.TEST,\n"
      "weights='some.caffemodel'); level and stages choose among its layers.\n"
      "blobs, params, layers and inputs and outputs (names) are what it has;\n"
      "forward() and backward() compute. What it refuses is a caffe.Error.");
  net.def("__init__", &Init, nb::arg("network_file"), nb::arg("phase"),
          nb::arg("level") = 0, nb::arg("stages") = nb::none(),
          nb::arg("weights") = nb::none())
    .def("__init__", &InitAndLoad, nb::arg("network_file"),
         nb::arg("weights"), nb::arg("phase"))
    .def("_forward", &Forward, nb::arg("start"), nb::arg("end"))
    .def("_backward", &Backward, nb::arg("start"), nb::arg("end"))
    .def("reshape", &N::Reshape,
         "Give all blobs the shapes that follow from those of the inputs.")
    .def("clear_param_diffs", &N::ClearParamDiffs,
         "Set the gradients of all weights to 0: backward() adds to them.")
    .def("copy_from", [](N* net, const Path& filename) {
      net->CopyTrainedLayersFrom(filename.name);
    }, nb::arg("filename"),
       "Take the weights of layers of the same names from a .caffemodel, or "
       "an HDF5 file (.h5).")
    .def("share_with", [](N* net, const N& other) {
      net->ShareTrainedLayersWith(&other);
    }, nb::arg("other"),
       "Have the weights of another net's layers of the same names: the same "
       "memory.")
    .def("_set_input_arrays", &SetInputArrays, nb::arg("data"),
         nb::arg("labels"))
    .def("save", &Save, nb::arg("filename"),
         "Write the weights, and the net's definition, as a .caffemodel.")
    .def("save_hdf5", [](const N& net, const Path& filename) {
      net.ToHDF5(filename.name);
    }, nb::arg("filename"), "Write the weights as an HDF5 file (.h5).")
    .def("load_hdf5", [](N* net, const Path& filename) {
      net->CopyTrainedLayersFromHDF5(filename.name);
    }, nb::arg("filename"), "Take the weights that save_hdf5 wrote.")
    .def("before_forward", &AddCallback<&N::add_before_forward>,
         nb::arg("function"),
         "Call function(i) before layer i is computed, from now on.")
    .def("after_forward", &AddCallback<&N::add_after_forward>,
         nb::arg("function"),
         "Call function(i) after layer i is computed, from now on.")
    .def("before_backward", &AddCallback<&N::add_before_backward>,
         nb::arg("function"),
         "Call function(i) before layer i's gradients are computed.")
    .def("after_backward", &AddCallback<&N::add_after_backward>,
         nb::arg("function"),
         "Call function(i) after layer i's gradients are computed.");
  DefineParts(&net);
}

}  // namespace caffe
