#ifdef USE_ONEDNN
#include "caffe/layers/onednn_batch_norm_layer.hpp"

#include <algorithm>
#include <cmath>
#include <vector>

#include "caffe/util/channel_layers.hpp"
#include "caffe/util/onednn_channels.hpp"

namespace caffe {

using dnnl::memory;

void OneDnnBatchNormLayer::Forward_cpu(const vector<Blob<float>*>& bottom,
    const vector<Blob<float>*>& top) {
  const vector<int>& shape = bottom[0]->shape();
  const memory in = onednn::packed(*bottom[0]->data(), shape);
  deviations_.clear();
  onednn::ChannelWork work;
  if (in && use_global_stats_ &&
      onednn::channels_together(in.get_desc(), shape) > 0) {
    work = onednn::affine_work(vector<Layer<float>*>(1, this), channels_);
  }
  if (work.factor.empty()) {
    BatchNormLayer<float>::Forward_cpu(bottom, top);
    return;
  }
  for (float factor : work.factor) { deviations_.push_back(1 / factor); }
  SyncedMemory* top_data = top[0]->data().get();
  const memory out = bottom[0]->data() == top[0]->data() ?
      onednn::write_over(top_data, shape) :
      onednn::write(top_data, shape, in.get_desc());
  onednn::work_on_channels(in, shape, work, out);
  onednn::written(top_data, out);
}

void OneDnnBatchNormLayer::Backward_cpu(const vector<Blob<float>*>& top,
    const vector<bool>& propagate_down, const vector<Blob<float>*>& bottom) {
  if (!deviations_.empty()) {  // what BatchNormLayer keeps of its forward pass
    float* to = temp_.mutable_cpu_data();
    const int pixels = temp_.count(2);
    for (int i = 0; i < temp_.count(0, 2); ++i, to += pixels) {
      std::fill(to, to + pixels, deviations_[i % channels_]);
    }
  }
  BatchNormLayer<float>::Backward_cpu(top, propagate_down, bottom);
}

}  // namespace caffe
#endif  // USE_ONEDNN
