#ifndef CAFFE_ONEDNN_PRELU_LAYER_HPP_
#define CAFFE_ONEDNN_PRELU_LAYER_HPP_
#ifdef USE_ONEDNN

#include <vector>

#include "caffe/layers/prelu_layer.hpp"
#include "caffe/util/onednn.hpp"

namespace caffe {

/**
 * @brief The PReLU layer that leaves packed values in oneDNN's order; what is
 *        not packed, and all gradients, PReLULayer computes. (oneDNN's own
 *        PReLU is not used, as its ReLU is not: it may lose NaN.)
 */
class OneDnnPReLULayer : public PReLULayer<float> {
 public:
  explicit OneDnnPReLULayer(const LayerParameter& param)
      : PReLULayer<float>(param), copied_(false) {}

 protected:
  virtual void Forward_cpu(const vector<Blob<float>*>& bottom,
      const vector<Blob<float>*>& top);
  virtual void Backward_cpu(const vector<Blob<float>*>& top,
      const vector<bool>& propagate_down, const vector<Blob<float>*>& bottom);

 private:
  dnnl::memory bottom_copy_;  // in place of bottom_memory_
  bool copied_;  // the newest forward pass left it for the backward pass
};

}  // namespace caffe

#endif  // USE_ONEDNN
#endif  // CAFFE_ONEDNN_PRELU_LAYER_HPP_
