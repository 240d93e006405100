#ifndef CAFFE_ONEDNN_DROPOUT_LAYER_HPP_
#define CAFFE_ONEDNN_DROPOUT_LAYER_HPP_
#ifdef USE_ONEDNN

#include <vector>

#include "caffe/layers/dropout_layer.hpp"
#include "caffe/util/onednn.hpp"

namespace caffe {

/**
 * @brief The Dropout layer that leaves packed values in the blocked memory
 *        format in the TEST phase, in which it does nothing; in TRAIN
 *        DropoutLayer computes.
 */
class OneDnnDropoutLayer : public DropoutLayer<float> {
 public:
  explicit OneDnnDropoutLayer(const LayerParameter& param)
      : DropoutLayer<float>(param) {}

 protected:
  virtual void Forward_cpu(const vector<Blob<float>*>& bottom,
      const vector<Blob<float>*>& top);
};

}  // namespace caffe

#endif  // USE_ONEDNN
#endif  // CAFFE_ONEDNN_DROPOUT_LAYER_HPP_
