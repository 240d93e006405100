// Layers, and how those that are written in Python take part in a net.
#include "caffe/_caffe.hpp"
#include "caffe/_caffe_gil.hpp"
#include "caffe/layers/python_layer.hpp"

namespace caffe {

// A layer whose methods are those of a Python object, of a class derived from
// caffe.Layer. It is a part of that object, and does not outlive it.
class PythonLayer : public Layer<Dtype> {
 public:
  PythonLayer(nb::handle self, const LayerParameter& param)
      : Layer<Dtype>(param), self_(self) {}

  virtual void LayerSetUp(const vector<Blob<Dtype>*>& bottom,
      const vector<Blob<Dtype>*>& top) {
    // Disallow PythonLayer in MultiGPU training stage, due to GIL issues
    // Details: https://github.com/BVLC/caffe/issues/2936
    if (this->phase_ == TRAIN && Caffe::solver_count() > 1
        && !Caffe::multiprocess()) {
      LOG(FATAL) << "PythonLayer does not support CLI Multi-GPU, use train.py";
    }
    const string& text = this->layer_param_.python_param().param_str();
    CallPython([&] {
      nb::setattr(self_, "param_str", nb::str(text.data(), text.size()));
      nb::setattr(self_, "phase", nb::int_(static_cast<int>(this->phase_)));
      self_.attr("setup")(bottom, top);
    });
  }
  virtual void Reshape(const vector<Blob<Dtype>*>& bottom,
      const vector<Blob<Dtype>*>& top) {
    CallPython([&] { self_.attr("reshape")(bottom, top); });
  }

  virtual inline const char* type() const { return "Python"; }

 protected:
  virtual void Forward_cpu(const vector<Blob<Dtype>*>& bottom,
      const vector<Blob<Dtype>*>& top) {
    CallPython([&] { self_.attr("forward")(bottom, top); });
  }
  virtual void Backward_cpu(const vector<Blob<Dtype>*>& top,
      const vector<bool>& propagate_down, const vector<Blob<Dtype>*>& bottom) {
    CallPython([&] { self_.attr("backward")(top, propagate_down, bottom); });
  }

 private:
  const nb::handle self_;
};

// The layer that a net gets keeps the Python object.
static shared_ptr<Layer<Dtype> > MakePythonLayer(const LayerParameter& param) {
  const PythonParameter& names = param.python_param();
  CHECK(!names.module().empty() && !names.layer().empty())
      << "layer '" << param.name() << "' does not say what it is in Python: "
      "python_param { module: \"a_module\" layer: \"AClass\" }";
  return CallPython([&] {
    const nb::object layer = nb::module_::import_(names.module().c_str())
        .attr(names.layer().c_str())(nb::cast(param, nb::rv_policy::copy));
    if (!nb::isinstance<Layer<Dtype> >(layer)) {
      throw std::runtime_error(names.module() + "." + names.layer() +
                               " is not derived from caffe.Layer");
    }
    if (!nb::inst_ready(layer)) {
      throw std::runtime_error(names.module() + "." + names.layer() +
          ".__init__ has to call super().__init__ with the argument it got");
    }
    return nb::cast<shared_ptr<Layer<Dtype> > >(layer);
  });
}

// What a Python layer inherits: nothing to set up, and a shape that only it
// knows.
static void SetUp(Layer<Dtype>* layer, const vector<Blob<Dtype>*>& bottom,
                  const vector<Blob<Dtype>*>& top) {
  if (!dynamic_cast<PythonLayer*>(layer)) { layer->LayerSetUp(bottom, top); }
}

static void Reshape(Layer<Dtype>* layer, const vector<Blob<Dtype>*>& bottom,
                    const vector<Blob<Dtype>*>& top) {
  if (dynamic_cast<PythonLayer*>(layer)) {
    PyErr_SetString(PyExc_NotImplementedError,
                    "a Python layer needs a method reshape(self, bottom, top)");
    throw nb::python_error();
  }
  layer->Reshape(bottom, top);
}

void DefineLayer(nb::module_* module) {
  nb::class_<LayerParameter>(*module, "LayerParameter",
                             "What a prototxt says of a layer.");
  Class<Layer<Dtype>, PythonLayer>(module, "Layer",
      "A layer; the base class of those that are written in Python.")
    .def("__init__", [](nb::pointer_and_handle<Layer<Dtype> > self,
                        const LayerParameter& param) {
      new (self.p) PythonLayer(self.h, param);
    }, nb::arg("param"))
    .def_prop_ro("blobs", [](Layer<Dtype>* layer)
                 -> vector<shared_ptr<Blob<Dtype> > >& {
      return layer->blobs();
    })
    .def("setup", &SetUp, nb::arg("bottom"), nb::arg("top"))
    .def("reshape", &Reshape, nb::arg("bottom"), nb::arg("top"))
    .def_prop_ro("type", &Layer<Dtype>::type);
  SetPythonLayerMaker(&MakePythonLayer);
}

}  // namespace caffe
