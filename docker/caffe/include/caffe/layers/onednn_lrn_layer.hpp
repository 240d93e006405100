#ifndef CAFFE_ONEDNN_LRN_LAYER_HPP_
#define CAFFE_ONEDNN_LRN_LAYER_HPP_
#ifdef USE_ONEDNN

#include <vector>

#include "caffe/layers/lrn_layer.hpp"
#include "caffe/util/onednn.hpp"

namespace caffe {

/**
 * @brief The LRN layer that leaves packed values in the blocked memory format
 *        in the TEST phase, across channels; all else LRNLayer computes.
 */
class OneDnnLRNLayer : public LRNLayer<float> {
 public:
  explicit OneDnnLRNLayer(const LayerParameter& param)
      : LRNLayer<float>(param), ours_(false) {}

 protected:
  virtual void Forward_cpu(const vector<Blob<float>*>& bottom,
      const vector<Blob<float>*>& top);
  virtual void Backward_cpu(const vector<Blob<float>*>& top,
      const vector<bool>& propagate_down, const vector<Blob<float>*>& bottom);

 private:
  bool Prepare(const dnnl::memory::desc& order);

  bool ours_;  // the last forward pass
  dnnl::memory::desc order_;
  dnnl::lrn_forward::primitive_desc forward_desc_;
};

}  // namespace caffe

#endif  // USE_ONEDNN
#endif  // CAFFE_ONEDNN_LRN_LAYER_HPP_
