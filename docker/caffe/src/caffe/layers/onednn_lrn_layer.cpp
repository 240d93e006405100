#ifdef USE_ONEDNN
#include "caffe/layers/onednn_lrn_layer.hpp"

#include <vector>

namespace caffe {

using dnnl::memory;

// False where oneDNN has nothing fast for this.
bool OneDnnLRNLayer::Prepare(const memory::desc& order) {
  if (phase_ != TEST || layer_param_.lrn_param().norm_region() !=
      LRNParameter_NormRegion_ACROSS_CHANNELS) {
    return false;
  }
  if (order != order_) {
    order_ = order;
    forward_desc_ = onednn::describe_lrn(order, size_, alpha_, beta_, k_);
  }
  return onednn::is_fast(forward_desc_);
}

void OneDnnLRNLayer::Forward_cpu(const vector<Blob<float>*>& bottom,
    const vector<Blob<float>*>& top) {
  const memory in = onednn::packed(*bottom[0]->data(), bottom[0]->shape());
  ours_ = in && bottom[0]->data() != top[0]->data() && Prepare(in.get_desc());
  if (!ours_) {
    LRNLayer<float>::Forward_cpu(bottom, top);
    return;
  }
  SyncedMemory* top_data = top[0]->data().get();
  const memory out = onednn::write(top_data, top[0]->shape(),
      forward_desc_.dst_desc());
  onednn::Arguments arguments;
  arguments[DNNL_ARG_SRC] = in;
  arguments[DNNL_ARG_DST] = out;
  onednn::run(dnnl::lrn_forward(forward_desc_), arguments);
  onednn::written(top_data, out);
}

// LRNLayer needs what it keeps of its own forward pass.
void OneDnnLRNLayer::Backward_cpu(const vector<Blob<float>*>& top,
    const vector<bool>& propagate_down, const vector<Blob<float>*>& bottom) {
  if (ours_) {
    Blob<float> again(top[0]->shape());
    LRNLayer<float>::Forward_cpu(bottom, vector<Blob<float>*>(1, &again));
  }
  LRNLayer<float>::Backward_cpu(top, propagate_down, bottom);
}

}  // namespace caffe
#endif  // USE_ONEDNN
