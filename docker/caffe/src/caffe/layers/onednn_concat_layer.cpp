#ifdef USE_ONEDNN
#include "caffe/layers/onednn_concat_layer.hpp"

#include <cstring>
#include <vector>

#include "caffe/util/onednn_channels.hpp"
#include "caffe/util/thread_pool.hpp"

namespace caffe {

using dnnl::memory;

// Values in the blocked memory format, where each part fills its last block:
// whole blocks are copied. Returns their channels; 0: these are others.
int OneDnnConcatLayer::WholeBlocks(const vector<Blob<float>*>& bottom) const {
  int block = concat_axis_ == 1 ? 16 : 0;
  for (int i = 0; i < bottom.size() && block; ++i) {
    const int together =
        onednn::channels_together(orders_[i], bottom[i]->shape());
    if (i == 0 && together == 8) { block = 8; }
    if (together != block || bottom[i]->shape(1) % block) { block = 0; }
  }
  return block;
}

void OneDnnConcatLayer::CopyBlocks(const vector<memory>& in, int block,
    const Blob<float>& top, const memory& out) const {
  const size_t plane = static_cast<size_t>(top.count(2)) * block;
  vector<const float*> parts;  // of the first picture, and from one to the next
  vector<size_t> steps;
  for (const memory& values : in) {
    const int blocks = onednn::dims(values.get_desc())[1] / block;
    const float* from = static_cast<const float*>(values.get_data_handle());
    for (int i = 0; i < blocks; ++i) {
      parts.push_back(from + i * plane);
      steps.push_back(blocks * plane);
    }
  }
  const int number = top.shape(0), blocks = parts.size();
  float* to = static_cast<float*>(out.get_data_handle());
  parallel_for(number * blocks, [&](int i, int) {
    const int n = i / blocks, block = i % blocks;
    memcpy(to + i * plane, parts[block] + n * steps[block],
        plane * sizeof(float));
  });
}

void OneDnnConcatLayer::Forward_cpu(const vector<Blob<float>*>& bottom,
    const vector<Blob<float>*>& top) {
  onednn::Arguments arguments;
  vector<memory> parts;
  vector<memory::desc> orders;
  for (int i = 0; i < bottom.size(); ++i) {
    const memory in = onednn::packed(*bottom[i]->data(), bottom[i]->shape());
    if (in) {
      arguments[DNNL_ARG_MULTIPLE_SRC + i] = in;
      parts.push_back(in);
      orders.push_back(in.get_desc());
    }
  }
  if (bottom.size() == 1 || orders.size() < bottom.size()) {
    orders_.clear();
  } else if (orders != orders_) {
    forward_desc_ = onednn::describe_concat(concat_axis_, orders);
    orders_ = orders;
    block_ = WholeBlocks(bottom);
    if (block_) {
      top_order_ = onednn::layout(top[0]->shape(), block_ == 16 ?
          memory::format_tag::aBcd16b : memory::format_tag::aBcd8b);
    } else if (onednn::is_fast(forward_desc_)) {
      top_order_ = forward_desc_.dst_desc();
    } else {
      orders_.clear();
    }
  }
  if (orders_.empty()) {
    ConcatLayer<float>::Forward_cpu(bottom, top);
    return;
  }
  SyncedMemory* top_data = top[0]->data().get();
  const memory out = onednn::write(top_data, top[0]->shape(), top_order_);
  if (block_) {
    CopyBlocks(parts, block_, *top[0], out);
  } else {
    arguments[DNNL_ARG_DST] = out;
    onednn::run(dnnl::concat(forward_desc_), arguments);
  }
  onednn::written(top_data, out);
}

void OneDnnConcatLayer::Backward_cpu(const vector<Blob<float>*>& top,
    const vector<bool>& propagate_down, const vector<Blob<float>*>& bottom) {
  if (orders_.empty()) {
    ConcatLayer<float>::Backward_cpu(top, propagate_down, bottom);
    return;
  }
  const memory in = onednn::read(top[0]->diff().get(), top[0]->shape(),
      top_order_, &top_diff_copy_);
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
