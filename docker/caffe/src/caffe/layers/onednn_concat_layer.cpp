#ifdef USE_ONEDNN
#include "caffe/layers/onednn_concat_layer.hpp"

#include <vector>

namespace caffe {

using dnnl::memory;

void OneDnnConcatLayer::Forward_cpu(const vector<Blob<float>*>& bottom,
    const vector<Blob<float>*>& top) {
  onednn::Arguments arguments;
  vector<memory::desc> orders;
  for (int i = 0; i < bottom.size(); ++i) {
    const memory in = onednn::packed(*bottom[i]->data(), bottom[i]->shape());
    if (in) {
      arguments[DNNL_ARG_MULTIPLE_SRC + i] = in;
      orders.push_back(in.get_desc());
    }
  }
  if (bottom.size() == 1 || orders.size() < bottom.size()) {
    orders_.clear();
  } else if (orders != orders_) {
    forward_desc_ = onednn::describe_concat(concat_axis_, orders);
    orders_ = orders;
    if (!onednn::is_fast(forward_desc_)) {
      orders_.clear();
    }
  }
  if (orders_.empty()) {
    ConcatLayer<float>::Forward_cpu(bottom, top);
    return;
  }
  SyncedMemory* top_data = top[0]->data().get();
  const memory out = onednn::write(top_data, top[0]->shape(),
      forward_desc_.dst_desc());
  arguments[DNNL_ARG_DST] = out;
  onednn::run(dnnl::concat(forward_desc_), arguments);
  onednn::written(top_data, out);
}

void OneDnnConcatLayer::Backward_cpu(const vector<Blob<float>*>& top,
    const vector<bool>& propagate_down, const vector<Blob<float>*>& bottom) {
  if (orders_.empty()) {
    ConcatLayer<float>::Backward_cpu(top, propagate_down, bottom);
    return;
  }
  const memory in = onednn::read(top[0]->diff().get(), top[0]->shape(),
      forward_desc_.dst_desc(), &top_diff_copy_);
  memory::dims offset(top[0]->num_axes(), 0);
  for (int i = 0; i < bottom.size(); ++i) {
    if (propagate_down[i]) {
      SyncedMemory* bottom_diff = bottom[i]->diff().get();
      const memory part(in.get_desc().submemory_desc(onednn::dims(orders_[i]),
          offset), onednn::cpu(), in.get_data_handle());
      const memory out = onednn::write(bottom_diff, bottom[i]->shape(),
          orders_[i]);
      onednn::reorder(part, out);
      onednn::written(bottom_diff, out);
    }
    offset[concat_axis_] += bottom[i]->shape(concat_axis_);
  }
}

}  // namespace caffe
#endif  // USE_ONEDNN
