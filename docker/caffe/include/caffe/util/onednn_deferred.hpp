#ifndef CAFFE_UTIL_ONEDNN_DEFERRED_HPP_
#define CAFFE_UTIL_ONEDNN_DEFERRED_HPP_
#ifdef USE_ONEDNN

#include <vector>

#include "caffe/util/onednn_convolution.hpp"

// Values that a fused convolution has not computed, since nobody may need them:
// they are computed when somebody does.
namespace caffe {
namespace onednn {

// A convolution, and all that its values depend on. That is held, and so does
// not change.
struct HeldConvolution {
  shared_ptr<const ConvolutionForward> convolution;
  shared_ptr<const dnnl::memory> weights, bias;
  vector<int> bottom_shape, top_shape;
  shared_ptr<PackedValues> bottom;
  shared_ptr<PackedValues> residual;  // NULL where there is none
  vector<float> slopes;               // empty: it is not rectified
};

// What it gives before it is finished by the residual and the slopes.
class Deferred : public PackedValues {
 public:
  explicit Deferred(const shared_ptr<const HeldConvolution>& held)
      : held_(held) {}
  virtual void Unpack(void* plain) const;
  const shared_ptr<const HeldConvolution>& held() const { return held_; }

 private:
  const shared_ptr<const HeldConvolution> held_;
};

/**
 * @brief What it gives, of which every other pixel of every other row is there:
 *        1 x 1 convolutions with a stride of 2 take no others.
 */
class Halved : public PackedValues {
 public:
  Halved(const shared_ptr<const HeldConvolution>& held,
      const dnnl::memory& values) : held_(held), values_(values) {}
  virtual void Unpack(void* plain) const;
  const shared_ptr<const HeldConvolution>& held() const { return held_; }
  const dnnl::memory& values() const { return values_; }

 private:
  const shared_ptr<const HeldConvolution> held_;
  const dnnl::memory values_;
};

// N x C x H x W of every other pixel of every other row.
vector<int> halved(const vector<int>& shape);

// The halved values that a blob's data of this shape are now; NULL where they
// are not.
shared_ptr<Halved> packed_halved(const SyncedMemory& values,
    const vector<int>& shape);

// Lets go of what a blob had, Deferred or Halved, and of what that held: memory
// that nobody else has is recycled. The blobs have other values by now.
void release(shared_ptr<PackedValues>* before);

}  // namespace onednn
}  // namespace caffe

#endif  // USE_ONEDNN
#endif  // CAFFE_UTIL_ONEDNN_DEFERRED_HPP_
