#ifndef CAFFE_UTIL_ONEDNN_PARTS_HPP_
#define CAFFE_UTIL_ONEDNN_PARTS_HPP_
#ifdef USE_ONEDNN

#include <vector>

#include "caffe/util/onednn.hpp"

namespace caffe {
namespace onednn {

/**
 * @brief Values N x C x H x W in the blocked memory format that are part of
 *        others: some whole blocks of their channels, as a Concat has them.
 *
 * Only a Concat reads them where they are. Everybody else gets them in Caffe's
 * order, and so nobody writes into the whole.
 */
class PackedPart : public PackedValues {
 public:
  // Of packed values, so many channels from `first` on.
  PackedPart(const shared_ptr<PackedValues>& whole, int first, int channels);

  virtual void Unpack(void* plain) const;

  const shared_ptr<PackedValues>& whole() const { return whole_; }
  int first() const { return first_; }
  const dnnl::memory::desc& order() const { return order_; }  // on its own
  float* values() const { return values_; }
  size_t step() const { return step_; }  // floats from picture to picture

 private:
  const shared_ptr<PackedValues> whole_;
  const int first_;
  dnnl::memory::desc order_;
  float* values_;
  size_t step_;
};

// The part that a blob's data are now; NULL where they are none.
shared_ptr<PackedPart> packed_part(const Blob<float>& blob);

// Memory for what a Concat gives, in this order, which nobody uses but its top
// and bottoms that are parts of it, each where it belongs. NULL: there is none.
shared_ptr<PackedValues> concat_memory(const vector<Blob<float>*>& bottom,
    const Blob<float>& top, const dnnl::memory::desc& order);

}  // namespace onednn
}  // namespace caffe

#endif  // USE_ONEDNN
#endif  // CAFFE_UTIL_ONEDNN_PARTS_HPP_
