#ifndef CAFFE_ONEDNN_INNER_PRODUCT_LAYER_HPP_
#define CAFFE_ONEDNN_INNER_PRODUCT_LAYER_HPP_
#ifdef USE_ONEDNN

#include <vector>

#include "caffe/layers/inner_product_layer.hpp"

namespace caffe {

/**
 * @brief The InnerProduct layer with oneDNN's matrix product, which reads large
 *        weights two to three times as fast as OpenBLAS does when the batch is
 *        small, and for small batches one of our own (few_rows.hpp). Weights
 *        stay in Caffe's order: packed ones would be a second copy of most of
 *        VGG16.
 */
class OneDnnInnerProductLayer : public InnerProductLayer<float> {
 public:
  explicit OneDnnInnerProductLayer(const LayerParameter& param)
      : InnerProductLayer<float>(param) {}

 protected:
  virtual void Forward_cpu(const vector<Blob<float>*>& bottom,
      const vector<Blob<float>*>& top);
  virtual void Backward_cpu(const vector<Blob<float>*>& top,
      const vector<bool>& propagate_down, const vector<Blob<float>*>& bottom);
};

}  // namespace caffe

#endif  // USE_ONEDNN
#endif  // CAFFE_ONEDNN_INNER_PRODUCT_LAYER_HPP_
