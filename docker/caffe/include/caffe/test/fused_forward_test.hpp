#ifndef CAFFE_TEST_FUSED_FORWARD_TEST_HPP_
#define CAFFE_TEST_FUSED_FORWARD_TEST_HPP_
#ifdef USE_ONEDNN

#include <string>
#include <vector>

#include "caffe/util/fused_forward.hpp"

#include "caffe/test/onednn_layers_test.hpp"

namespace caffe {

static const char kAffine[] =
    "layer { name: 'norm' type: 'BatchNorm' bottom: 'conv' top: 'conv' } "
    "layer { name: 'scale' type: 'Scale' bottom: 'conv' top: 'conv' "
    "scale_param { filler { type: 'gaussian' mean: 1 std: 0.5 } "
    "bias_term: true bias_filler { type: 'gaussian' } } } ";

inline string Rectifier(const string& blob, const string& more) {
  return "layer { name: 'rectifier' bottom: '" + blob + "' top: '" + blob +
      "' " + more + " } ";
}

// data -> first -> conv, BatchNorm, Scale; their sum with first -> ReLU.
inline string Residual(const string& convolution) {
  return Convolution("first", "data", "num_output: 32 kernel_size: 1") +
      Convolution("middle", "first", "num_output: 20 kernel_size: 1") +
      Convolution("conv", "middle", convolution) + kAffine +
      "layer { name: 'sum' type: 'Eltwise' bottom: 'first' bottom: 'conv' "
      "top: 'sum' } " + Rectifier("sum", "type: 'ReLU'");
}

class FusedForwardTest : public OneDnnLayersTest {
 protected:
  void MakeForward(const string& shape, const string& layers) {
    Make(Parse(shape, layers, false));
    Fill();
  }

  // Statistics as a trained net has them.
  void Fill() {
    for (const auto& layer : net_->layers()) {
      if (layer->type() == string("BatchNorm")) {
        Blob<float>& mean = *layer->blobs()[0];
        Blob<float>& variance = *layer->blobs()[1];
        caffe_rng_gaussian<float>(mean.count(), 0, 1, mean.mutable_cpu_data());
        caffe_rng_uniform<float>(variance.count(), 0.5, 2,
            variance.mutable_cpu_data());
        layer->blobs()[2]->mutable_cpu_data()[0] = 1.5;
      }
    }
    net_->ForwardFromTo(0, 0);
  }

  // How many layers are computed together with the one of this name.
  int Together(const string& layer) {
    return FusedForward<float>(*net_).Run(Index(layer),
        net_->layers().size() - 1);
  }

  void Forward() {
    stock_->blob_by_name("data")->CopyFrom(Data());
    net_->ForwardFrom(1);
    stock_->ForwardFrom(1);
  }

  Blob<float>* Parameter(const string& layer, int index) {
    return net_->layer_by_name(layer)->blobs()[index].get();
  }
};

}  // namespace caffe

#endif  // USE_ONEDNN
#endif  // CAFFE_TEST_FUSED_FORWARD_TEST_HPP_
