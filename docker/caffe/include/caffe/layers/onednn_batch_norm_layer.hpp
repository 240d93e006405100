#ifndef CAFFE_ONEDNN_BATCH_NORM_LAYER_HPP_
#define CAFFE_ONEDNN_BATCH_NORM_LAYER_HPP_
#ifdef USE_ONEDNN

#include <vector>

#include "caffe/layers/batch_norm_layer.hpp"
#include "caffe/util/onednn.hpp"

namespace caffe {

/**
 * @brief The BatchNorm layer that leaves packed values in the blocked memory
 *        format where it uses stored statistics; all else BatchNormLayer
 *        computes.
 */
class OneDnnBatchNormLayer : public BatchNormLayer<float> {
 public:
  explicit OneDnnBatchNormLayer(const LayerParameter& param)
      : BatchNormLayer<float>(param) {}

 protected:
  virtual void Forward_cpu(const vector<Blob<float>*>& bottom,
      const vector<Blob<float>*>& top);
  virtual void Backward_cpu(const vector<Blob<float>*>& top,
      const vector<bool>& propagate_down, const vector<Blob<float>*>& bottom);

 private:
  vector<float> deviations_;  // of the channels, where packed values came last
};

}  // namespace caffe

#endif  // USE_ONEDNN
#endif  // CAFFE_ONEDNN_BATCH_NORM_LAYER_HPP_
