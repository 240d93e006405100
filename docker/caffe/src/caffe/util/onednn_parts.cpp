#ifdef USE_ONEDNN
#include "caffe/util/onednn_parts.hpp"

#include <vector>

#include "caffe/util/onednn_channels.hpp"

namespace caffe {
namespace onednn {

using dnnl::memory;

PackedPart::PackedPart(const shared_ptr<PackedValues>& whole, int first,
    int channels) : whole_(whole), first_(first) {
  const memory all = packed(*whole);
  const memory::dims sizes = dims(all.get_desc());
  vector<int> shape(sizes.begin(), sizes.end());
  const memory::format_tag tag = order_tag(all.get_desc(), shape);
  const int block = block_size(tag);
  CHECK(block > 0 && first % block == 0 && channels % block == 0 &&
      shape[1] % block == 0 && first + channels <= shape[1]);
  const size_t plane = static_cast<size_t>(shape[2]) * shape[3];
  values_ = static_cast<float*>(all.get_data_handle()) + first * plane;
  step_ = shape[1] * plane;
  shape[1] = channels;
  order_ = layout(shape, tag);
}

void PackedPart::Unpack(void* to) const {
  const memory all = packed(*whole_);
  const memory::dims sizes = dims(order_);
  const memory part(all.get_desc().submemory_desc(sizes, {0, first_, 0, 0}),
      cpu(), all.get_data_handle());
  const vector<int> shape(sizes.begin(), sizes.end());
  reorder(part, memory(plain(shape), cpu(), to));
}

shared_ptr<PackedPart> packed_part(const Blob<float>& blob) {
  return boost::dynamic_pointer_cast<PackedPart>(blob.data()->packed());
}

// Whether nobody else has it, but for the caller, once.
static bool is_free(const shared_ptr<PackedValues>& whole,
    const vector<Blob<float>*>& bottom, const Blob<float>& top,
    const memory::desc& order) {
  const memory values = whole ? packed(*whole) : memory();
  if (!values || values.get_desc() != order) {
    return false;
  }
  int known = top.data()->packed_buffer() == whole ? 2 : 1, first = 0;
  for (const Blob<float>* blob : bottom) {
    const shared_ptr<PackedValues> held = blob->data()->packed_buffer();
    const PackedPart* part = dynamic_cast<const PackedPart*>(held.get());
    if (part && part->whole() == whole && part->first() == first &&
        held.use_count() == 2) {
      ++known;
    }
    first += blob->shape(1);
  }
  return whole.use_count() == known;
}

shared_ptr<PackedValues> concat_memory(const vector<Blob<float>*>& bottom,
    const Blob<float>& top, const memory::desc& order) {
  for (const Blob<float>* blob : bottom) {
    shared_ptr<PackedPart> part = packed_part(*blob);
    if (part) {
      const shared_ptr<PackedValues> whole = part->whole();
      part.reset();
      if (is_free(whole, bottom, top, order)) { return whole; }
    }
  }
  const shared_ptr<PackedValues> whole = top.data()->packed_buffer();
  return is_free(whole, bottom, top, order) ? whole :
      shared_ptr<PackedValues>();
}

}  // namespace onednn
}  // namespace caffe
#endif  // USE_ONEDNN
