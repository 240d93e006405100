#ifndef CAFFE_ONEDNN_RELU_LAYER_HPP_
#define CAFFE_ONEDNN_RELU_LAYER_HPP_
#ifdef USE_ONEDNN

#include <vector>

#include "caffe/layers/relu_layer.hpp"
#include "caffe/util/onednn.hpp"

namespace caffe {

/**
 * @brief The ReLU layer that leaves packed values in oneDNN's order; what is
 *        not packed ReLULayer computes. (oneDNN's own ReLU makes 0 of NaN,
 *        which would hide that a training has diverged.)
 */
class OneDnnReLULayer : public ReLULayer<float> {
 public:
  explicit OneDnnReLULayer(const LayerParameter& param)
      : ReLULayer<float>(param) {}

 protected:
  virtual void Forward_cpu(const vector<Blob<float>*>& bottom,
      const vector<Blob<float>*>& top);
  virtual void Backward_cpu(const vector<Blob<float>*>& top,
      const vector<bool>& propagate_down, const vector<Blob<float>*>& bottom);

 private:
  dnnl::memory top_diff_copy_;
};

}  // namespace caffe

#endif  // USE_ONEDNN
#endif  // CAFFE_ONEDNN_RELU_LAYER_HPP_
