#ifndef CAFFE_ONEDNN_ELTWISE_LAYER_HPP_
#define CAFFE_ONEDNN_ELTWISE_LAYER_HPP_
#ifdef USE_ONEDNN

#include <vector>

#include "caffe/layers/eltwise_layer.hpp"
#include "caffe/util/onednn.hpp"

namespace caffe {

/**
 * @brief The Eltwise layer that leaves packed values in the blocked memory
 *        format where it sums or multiplies; all else EltwiseLayer computes.
 */
class OneDnnEltwiseLayer : public EltwiseLayer<float> {
 public:
  explicit OneDnnEltwiseLayer(const LayerParameter& param)
      : EltwiseLayer<float>(param) {}

 protected:
  virtual void Forward_cpu(const vector<Blob<float>*>& bottom,
      const vector<Blob<float>*>& top);
};

}  // namespace caffe

#endif  // USE_ONEDNN
#endif  // CAFFE_ONEDNN_ELTWISE_LAYER_HPP_
