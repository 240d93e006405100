#ifdef USE_ONEDNN
#include "caffe/layers/onednn_prelu_layer.hpp"

#include <vector>

#include "caffe/util/onednn_channels.hpp"

namespace caffe {

using dnnl::memory;

void OneDnnPReLULayer::Forward_cpu(const vector<Blob<float>*>& bottom,
    const vector<Blob<float>*>& top) {
  const vector<int>& shape = bottom[0]->shape();
  const memory in = onednn::packed(*bottom[0]->data(), shape);
  const bool ours = in && onednn::channels_together(in.get_desc(), shape) > 0;
  copied_ = ours && bottom[0]->data() == top[0]->data();
  if (!ours) {
    PReLULayer<float>::Forward_cpu(bottom, top);
    return;
  }
  SyncedMemory* top_data = top[0]->data().get();
  memory out;
  if (copied_) {
    onednn::reserve(in.get_desc(), &bottom_copy_);
    onednn::reorder(in, bottom_copy_);
    out = onednn::write_over(top_data, shape);
  } else {
    out = onednn::write(top_data, shape, in.get_desc());
  }
  onednn::ChannelWork work;
  const float* slopes = this->blobs_[0]->cpu_data();
  for (int c = 0; c < shape[1]; ++c) {
    work.slope.push_back(slopes[channel_shared_ ? 0 : c]);
  }
  onednn::work_on_channels(in, shape, work, out);
  onednn::written(top_data, out);
}

void OneDnnPReLULayer::Backward_cpu(const vector<Blob<float>*>& top,
    const vector<bool>& propagate_down, const vector<Blob<float>*>& bottom) {
  if (copied_) {
    const memory plain(onednn::plain(bottom_memory_.shape()), onednn::cpu(),
        bottom_memory_.mutable_cpu_data());
    onednn::reorder(bottom_copy_, plain);
  }
  PReLULayer<float>::Backward_cpu(top, propagate_down, bottom);
}

}  // namespace caffe
#endif  // USE_ONEDNN
