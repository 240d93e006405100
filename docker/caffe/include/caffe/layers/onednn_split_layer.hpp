#ifndef CAFFE_ONEDNN_SPLIT_LAYER_HPP_
#define CAFFE_ONEDNN_SPLIT_LAYER_HPP_
#ifdef USE_ONEDNN

#include <vector>

#include "caffe/layers/split_layer.hpp"
#include "caffe/util/onednn.hpp"

namespace caffe {

/**
 * @brief The Split layer that adds up packed diffs in oneDNN's order; all else
 *        SplitLayer computes.
 */
class OneDnnSplitLayer : public SplitLayer<float> {
 public:
  explicit OneDnnSplitLayer(const LayerParameter& param)
      : SplitLayer<float>(param) {}

 protected:
  virtual void Backward_cpu(const vector<Blob<float>*>& top,
      const vector<bool>& propagate_down, const vector<Blob<float>*>& bottom);
};

}  // namespace caffe

#endif  // USE_ONEDNN
#endif  // CAFFE_ONEDNN_SPLIT_LAYER_HPP_
