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

// Packed values: those of a blob, or part of others.
struct OneDnnConcatLayer::Source {
  explicit Source(const Blob<float>& blob)
      : values(onednn::packed(*blob.data(), blob.shape())), whole(NULL) {
    const shared_ptr<onednn::PackedPart> part = onednn::packed_part(blob);
    const memory::dims sizes(blob.shape().begin(), blob.shape().end());
    if (values) {
      order = values.get_desc();
      first = static_cast<float*>(values.get_data_handle());
      step = blob.num_axes() == 4 ? blob.count(1) : 0;
    } else if (part && onednn::dims(part->order()) == sizes) {
      order = part->order();
      whole = part->whole().get();  // which the blob holds
      first = part->values();
      step = part->step();
    }
  }

  memory values;  // nothing: they are part of others
  memory::desc order;
  const PackedValues* whole;
  const float* first;
  size_t step;  // floats from picture to picture, where blocks are whole
};

// Whether the bottoms' values are in orders that are fast to put together.
bool OneDnnConcatLayer::Prepare(const vector<Source>& sources,
    const vector<Blob<float>*>& bottom, const Blob<float>& top) {
  vector<memory::desc> orders;
  bool parts = false;
  for (const Source& source : sources) {
    orders.push_back(source.order);
    parts = parts || source.whole;
    if (sources.size() == 1 || source.order == memory::desc()) {
      return false;
    }
  }
  if (orders != orders_) {
    forward_desc_ = onednn::describe_concat(concat_axis_, orders);
    orders_ = orders;
    block_ = WholeBlocks(bottom);
    if (block_) {
      top_order_ = onednn::layout(top.shape(), block_ == 16 ?
          memory::format_tag::aBcd16b : memory::format_tag::aBcd8b);
    } else {
      top_order_ = forward_desc_.dst_desc();
    }
  }
  return block_ || (!parts && onednn::is_fast(forward_desc_));
}

shared_ptr<onednn::PackedPart> OneDnnConcatLayer::Place(
    const vector<Blob<float>*>& bottom, int index,
    const Blob<float>& top) const {
  bool same = block_ && orders_.size() == bottom.size();  // as the last time
  int first = 0;
  for (int i = 0; i < bottom.size() && same; ++i) {
    const vector<int>& shape = bottom[i]->shape();
    same = onednn::dims(orders_[i]) == memory::dims(shape.begin(), shape.end());
    if (i < index) { first += shape[1]; }
  }
  if (!same) {
    return shared_ptr<onednn::PackedPart>();
  }
  return shared_ptr<onednn::PackedPart>(new onednn::PackedPart(
      Whole(bottom, top), first, bottom[index]->shape(1)));
}

// Memory for the top, in the blocked memory format.
shared_ptr<PackedValues> OneDnnConcatLayer::Whole(
    const vector<Blob<float>*>& bottom, const Blob<float>& top) const {
  const shared_ptr<PackedValues> free =
      onednn::concat_memory(bottom, top, top_order_);
  return free ? free : onednn::pack(onednn::fresh(top_order_));
}

// Copies the blocks that are not there already.
void OneDnnConcatLayer::JoinBlocks(const vector<Source>& sources,
    const shared_ptr<PackedValues>& whole, const Blob<float>& top) const {
  const size_t plane = static_cast<size_t>(top.count(2)) * block_;
  float* to = static_cast<float*>(onednn::packed(*whole).get_data_handle());
  struct Copy {
    const float* from;
    size_t step;
    float* to;
  };
  vector<Copy> copies;  // of the first picture
  for (const Source& source : sources) {
    const int blocks = onednn::dims(source.order)[1] / block_;
    for (int i = 0; i < blocks && source.whole != whole.get(); ++i) {
      const Copy copy = {source.first + i * plane, source.step, to + i * plane};
      copies.push_back(copy);
    }
    to += blocks * plane;
  }
  const int each = copies.size(), number = top.shape(0);
  parallel_for(number * each, [&](int i, int) {
    const size_t n = i / each;
    const Copy& copy = copies[i % each];
    memcpy(copy.to + n * top.count(1), copy.from + n * copy.step,
        plane * sizeof(float));
  });
}

void OneDnnConcatLayer::Forward_cpu(const vector<Blob<float>*>& bottom,
    const vector<Blob<float>*>& top) {
  vector<Source> sources;
  for (const Blob<float>* blob : bottom) { sources.push_back(Source(*blob)); }
  if (!Prepare(sources, bottom, *top[0])) {
    orders_.clear();
    ConcatLayer<float>::Forward_cpu(bottom, top);
    return;
  }
  SyncedMemory* top_data = top[0]->data().get();
  if (block_) {
    const shared_ptr<PackedValues> whole = Whole(bottom, *top[0]);
    JoinBlocks(sources, whole, *top[0]);
    top_data->set_packed(whole);
    return;
  }
  onednn::Arguments arguments;
  for (int i = 0; i < sources.size(); ++i) {
    arguments[DNNL_ARG_MULTIPLE_SRC + i] = sources[i].values;
  }
  const memory out = onednn::write(top_data, top[0]->shape(), top_order_);
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
