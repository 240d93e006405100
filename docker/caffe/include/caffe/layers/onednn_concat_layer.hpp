#ifndef CAFFE_ONEDNN_CONCAT_LAYER_HPP_
#define CAFFE_ONEDNN_CONCAT_LAYER_HPP_
#ifdef USE_ONEDNN

#include <vector>

#include "caffe/layers/concat_layer.hpp"
#include "caffe/util/onednn.hpp"
#include "caffe/util/onednn_parts.hpp"

namespace caffe {

/**
 * @brief The Concat layer that leaves packed values in oneDNN's order; all else
 *        ConcatLayer computes.
 */
class OneDnnConcatLayer : public ConcatLayer<float> {
 public:
  explicit OneDnnConcatLayer(const LayerParameter& param)
      : ConcatLayer<float>(param), block_(0) {}

  /// @brief Where the values of one of the bottoms may be written before the
  ///        next Forward, which finds them there and copies nothing. NULL: they
  ///        have to be elsewhere.
  shared_ptr<onednn::PackedPart> Place(const vector<Blob<float>*>& bottom,
      int index, const Blob<float>& top) const;

 protected:
  virtual void Forward_cpu(const vector<Blob<float>*>& bottom,
      const vector<Blob<float>*>& top);
  virtual void Backward_cpu(const vector<Blob<float>*>& top,
      const vector<bool>& propagate_down, const vector<Blob<float>*>& bottom);

 private:
  struct Source;  // a bottom's values

  int WholeBlocks(const vector<Blob<float>*>& bottom) const;
  bool Prepare(const vector<Source>& sources,
      const vector<Blob<float>*>& bottom, const Blob<float>& top);
  shared_ptr<PackedValues> Whole(const vector<Blob<float>*>& bottom,
      const Blob<float>& top) const;
  void JoinBlocks(const vector<Source>& sources,
      const shared_ptr<PackedValues>& whole, const Blob<float>& top) const;

  vector<dnnl::memory::desc> orders_;  // of the bottoms; empty: ConcatLayer's
  int block_;  // channels of a block where whole ones are copied, or 0
  dnnl::concat::primitive_desc forward_desc_;
  dnnl::memory::desc top_order_;
  dnnl::memory top_diff_copy_;
};

}  // namespace caffe

#endif  // USE_ONEDNN
#endif  // CAFFE_ONEDNN_CONCAT_LAYER_HPP_
