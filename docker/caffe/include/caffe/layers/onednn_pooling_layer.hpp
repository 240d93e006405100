#ifndef CAFFE_ONEDNN_POOLING_LAYER_HPP_
#define CAFFE_ONEDNN_POOLING_LAYER_HPP_
#ifdef USE_ONEDNN

#include <vector>

#include "caffe/layers/pooling_layer.hpp"
#include "caffe/util/onednn.hpp"

namespace caffe {

/**
 * @brief The Pooling layer that leaves packed values in oneDNN's order: maximum
 *        without mask, and average without padding. All else PoolingLayer
 *        computes.
 *
 * A window that holds nothing but NaN has the maximum -FLT_MAX, as there; its
 * gradient goes to its first value, and there to none.
 */
class OneDnnPoolingLayer : public PoolingLayer<float> {
 public:
  explicit OneDnnPoolingLayer(const LayerParameter& param);
  virtual ~OneDnnPoolingLayer();

 protected:
  virtual void Forward_cpu(const vector<Blob<float>*>& bottom,
      const vector<Blob<float>*>& top);
  virtual void Backward_cpu(const vector<Blob<float>*>& top,
      const vector<bool>& propagate_down, const vector<Blob<float>*>& bottom);

 private:
  struct Plan;  // the primitives for one shape and order of the bottom

  int BeyondHeight() const;
  int BeyondWidth() const;
  bool Fits(const vector<Blob<float>*>& top) const;

  shared_ptr<Plan> plan_;  // of the last forward pass; NULL: PoolingLayer's
};

}  // namespace caffe

#endif  // USE_ONEDNN
#endif  // CAFFE_ONEDNN_POOLING_LAYER_HPP_
