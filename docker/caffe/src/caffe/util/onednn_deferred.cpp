#ifdef USE_ONEDNN
#include "caffe/util/onednn_deferred.hpp"

#include <vector>

namespace caffe {
namespace onednn {

using dnnl::memory;

// Packed values in an order, also of such that are not there as a whole.
static memory in_order(const PackedValues& values, const vector<int>& shape,
    const memory::desc& wanted) {
  const memory there = packed(values);
  if (there) {
    CHECK(there.get_desc() == wanted);
    return there;
  }
  const memory unpacked(plain(shape), cpu());
  values.Unpack(unpacked.get_data_handle());
  const memory ordered(wanted, cpu());
  reorder(unpacked, ordered);
  return ordered;
}

static void compute(const HeldConvolution& held, bool finished, void* to) {
  const ConvolutionForward& convolution = *held.convolution;
  const memory top(convolution.top_order(), cpu());
  ConvolutionFinish finish = {
      static_cast<float*>(held.bias->get_data_handle()), memory(), NULL};
  if (finished && held.residual) {
    finish.residual = in_order(*held.residual, held.top_shape,
        convolution.top_order());
  }
  if (finished && !held.slopes.empty()) {
    finish.slopes = held.slopes.data();
  }
  convolution.Run(
      in_order(*held.bottom, held.bottom_shape, convolution.bottom_order()),
      *held.weights, finish, Destination(top));
  reorder(top, memory(plain(held.top_shape), cpu(), to));
}

void Deferred::Unpack(void* plain) const {
  compute(*held_, false, plain);
}

void Halved::Unpack(void* plain) const {
  compute(*held_, true, plain);
}

vector<int> halved(const vector<int>& shape) {
  vector<int> half(shape);
  half[2] = (shape[2] + 1) / 2;
  half[3] = (shape[3] + 1) / 2;
  return half;
}

shared_ptr<Halved> packed_halved(const SyncedMemory& values,
    const vector<int>& shape) {
  const shared_ptr<Halved> found =
      boost::dynamic_pointer_cast<Halved>(values.packed());
  return found && found->held()->top_shape == shape ? found :
      shared_ptr<Halved>();
}

static void release(shared_ptr<const HeldConvolution>* before) {
  if (before->use_count() == 1) {
    shared_ptr<PackedValues> bottom = (*before)->bottom;
    shared_ptr<PackedValues> residual = (*before)->residual;
    before->reset();
    release(&bottom);
    release(&residual);
  }
  before->reset();
}

void release(shared_ptr<PackedValues>* before) {
  shared_ptr<const HeldConvolution> held;
  if (before->use_count() == 1) {
    const Halved* const half = dynamic_cast<const Halved*>(before->get());
    const Deferred* const deferred =
        dynamic_cast<const Deferred*>(before->get());
    const memory values = half ? half->values() : packed(**before);
    if (values) { recycle(values); }
    if (half) { held = half->held(); }
    if (deferred) { held = deferred->held(); }
  }
  before->reset();
  release(&held);
}

}  // namespace onednn
}  // namespace caffe
#endif  // USE_ONEDNN
