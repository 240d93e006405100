#ifdef USE_ONEDNN
#include "caffe/layers/onednn_scale_layer.hpp"

#include <vector>

#include "caffe/util/channel_layers.hpp"
#include "caffe/util/onednn_channels.hpp"

namespace caffe {

using dnnl::memory;

void OneDnnScaleLayer::Forward_cpu(const vector<Blob<float>*>& bottom,
    const vector<Blob<float>*>& top) {
  const vector<int>& shape = bottom[0]->shape();
  const memory in = onednn::packed(*bottom[0]->data(), shape);
  copied_ = false;
  onednn::ChannelWork work;
  if (in && bottom.size() == 1 && is_affine(*this, shape) &&
      onednn::channels_together(in.get_desc(), shape) > 0) {
    work = onednn::affine_work(vector<Layer<float>*>(1, this), shape[1]);
  }
  if (work.factor.empty()) {
    ScaleLayer<float>::Forward_cpu(bottom, top);
    return;
  }
  SyncedMemory* top_data = top[0]->data().get();
  memory out;
  if (bottom[0]->data() == top[0]->data()) {
    copied_ = true;
    onednn::reserve(in.get_desc(), &bottom_copy_);
    onednn::reorder(in, bottom_copy_);
    out = onednn::write_over(top_data, shape);
  } else {
    out = onednn::write(top_data, shape, in.get_desc());
  }
  onednn::work_on_channels(in, shape, work, out);
  onednn::written(top_data, out);
}

void OneDnnScaleLayer::Backward_cpu(const vector<Blob<float>*>& top,
    const vector<bool>& propagate_down, const vector<Blob<float>*>& bottom) {
  if (copied_) {  // what ScaleLayer keeps of its forward pass
    onednn::reorder(bottom_copy_, memory(onednn::plain(temp_.shape()),
        onednn::cpu(), temp_.mutable_cpu_data()));
  }
  ScaleLayer<float>::Backward_cpu(top, propagate_down, bottom);
}

}  // namespace caffe
#endif  // USE_ONEDNN
