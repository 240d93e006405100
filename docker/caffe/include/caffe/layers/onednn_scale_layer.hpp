#ifndef CAFFE_ONEDNN_SCALE_LAYER_HPP_
#define CAFFE_ONEDNN_SCALE_LAYER_HPP_
#ifdef USE_ONEDNN

#include <vector>

#include "caffe/layers/scale_layer.hpp"
#include "caffe/util/onednn.hpp"

namespace caffe {

/**
 * @brief The Scale layer that leaves packed values in the blocked memory
 *        format where it has a learned number for each channel; all else
 *        ScaleLayer computes.
 */
class OneDnnScaleLayer : public ScaleLayer<float> {
 public:
  explicit OneDnnScaleLayer(const LayerParameter& param)
      : ScaleLayer<float>(param), copied_(false) {}

 protected:
  virtual void Forward_cpu(const vector<Blob<float>*>& bottom,
      const vector<Blob<float>*>& top);
  virtual void Backward_cpu(const vector<Blob<float>*>& top,
      const vector<bool>& propagate_down, const vector<Blob<float>*>& bottom);

 private:
  bool copied_;  // in place: bottom_copy_ has what came in, for Backward
  dnnl::memory bottom_copy_;
};

}  // namespace caffe

#endif  // USE_ONEDNN
#endif  // CAFFE_ONEDNN_SCALE_LAYER_HPP_
