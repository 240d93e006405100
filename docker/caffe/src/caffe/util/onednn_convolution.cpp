#ifdef USE_ONEDNN
#include "caffe/util/onednn_convolution.hpp"

#include <vector>

#include "caffe/util/onednn_channels.hpp"
#include "caffe/util/onednn_slices.hpp"

namespace caffe {
namespace onednn {

using dnnl::convolution_forward;
using dnnl::memory;
using winograd::Winograd;

static const int kManyFilters = 32 * 1024;
static const int kManyPixels = 256;

memory::desc blocked(const vector<int>& shape) {
  return layout(shape, Winograd::kernels()->width == 16 ?
      memory::format_tag::nChw16c : memory::format_tag::nChw8c);
}

ConvolutionForward::ConvolutionForward(const ConvolutionShapes& shapes)
    : shapes_(shapes) {}

shared_ptr<const ConvolutionForward> ConvolutionForward::Make(
    const ConvolutionShapes& shapes) {
  shared_ptr<ConvolutionForward> made(new ConvolutionForward(shapes));
  return made->Prepare() ? made : shared_ptr<ConvolutionForward>();
}

// Winograd's algorithm computes tiles of 4 x 4 with 36 numbers for the 9 of a
// filter: reading those pays with enough tiles, with twice as many where no
// cache keeps them, and making them anew in each pass, as in training, with
// more (measured).
bool ConvolutionForward::WinogradPays() const {
  const vector<int>& top = shapes_.top;
  const vector<int>& weights = shapes_.weights;
  const int tiles = top[0] * ((top[2] + 3) / 4) * ((top[3] + 3) / 4);
  return use() == ON && Winograd::kernels() && shapes_.group == 1 &&
      weights[2] == 3 && weights[3] == 3 &&
      shapes_.stride[0] == 1 && shapes_.stride[1] == 1 &&
      shapes_.pad[0] <= 2 && shapes_.pad[1] <= 2 &&
      weights[0] >= 16 && weights[1] >= 16 &&
      tiles >= (shapes_.training ? 48 :
          weights[0] * weights[1] >= kManyFilters ? 8 : 4);
}

bool ConvolutionForward::PointwisePays() const {
  const vector<int>& weights = shapes_.weights;
  return Winograd::kernels() && shapes_.group == 1 &&
      weights[2] == 1 && weights[3] == 1 &&
      shapes_.pad[0] == 0 && shapes_.pad[1] == 0 &&
      weights[0] >= 16 && weights[1] >= 16;
}

// First layers. With fewer tiles starting is what takes time.
bool ConvolutionForward::PreparePhases() {
  const vector<int>& bottom = shapes_.bottom;
  const vector<int>& weights = shapes_.weights;
  const Phases::Sizes sizes = {bottom[0], bottom[1], bottom[2], bottom[3],
      weights[0], weights[2], weights[3], static_cast<int>(shapes_.stride[0]),
      static_cast<int>(shapes_.pad[0]), static_cast<int>(shapes_.pad[1])};
  const int taps = sizes.taps();
  if (use() == ON && taps && Winograd::kernels(taps) && shapes_.group == 1 &&
      shapes_.stride[0] == shapes_.stride[1] && bottom[1] <= 4 &&
      weights[0] >= 16 && shapes_.top[2] * shapes_.top[3] >= kManyPixels) {
    phases_.reset(new Phases(Winograd::kernels(taps), sizes));
  }
  return phases_ != NULL;
}

bool ConvolutionForward::Prepare() {
  direct_ = describe<convolution_forward>(
      dnnl::prop_kind::forward_training, dnnl::algorithm::convolution_direct,
      layout(shapes_.bottom), layout(shapes_.WeightsShape()),
      shapes_.BiasLayout(), layout(shapes_.top), shapes_.stride, shapes_.pad,
      shapes_.pad);
  if (!is_fast(direct_)) {
    return false;
  }
  const vector<int>& bottom = shapes_.bottom;
  if (WinogradPays()) {
    const winograd::Sizes sizes = {bottom[0], bottom[1], bottom[2], bottom[3],
        shapes_.weights[0], static_cast<int>(shapes_.pad[0]),
        static_cast<int>(shapes_.pad[1])};
    winograd_.reset(new Winograd(Winograd::kernels(), sizes));
  } else if (PointwisePays()) {
    Pointwise::Sizes sizes = {bottom[0], bottom[1], bottom[2], bottom[3],
        shapes_.weights[0], static_cast<int>(shapes_.stride[0]),
        static_cast<int>(shapes_.stride[1])};
    if (!shapes_.halved_residual.empty()) {
      sizes.halved_height = shapes_.halved_residual[2];
      sizes.halved_width = shapes_.halved_residual[3];
    }
    pointwise_.reset(new Pointwise(Winograd::kernels(), sizes));
  } else if (!PreparePhases()) {
    sliced_ = SlicedConvolution::Make(shapes_, direct_);
    if (!sliced_) { primitive_ = convolution_forward(direct_); }
  }
  return true;
}

memory::desc ConvolutionForward::bottom_order() const {
  return phases_ ? plain(shapes_.bottom) :
      winograd_ || pointwise_ ? blocked(shapes_.bottom) : direct_.src_desc();
}

memory::desc ConvolutionForward::top_order() const {
  return winograd_ || pointwise_ || phases_ ? blocked(shapes_.top) :
      direct_.dst_desc();
}

memory::desc ConvolutionForward::weights_order() const {
  return winograd_ ? row(winograd_->points_size()) :
      pointwise_ ? row(pointwise_->weights_size()) :
      phases_ ? row(phases_->weights_size()) :
      sliced_ ? row(sliced_->weights_size()) : direct_.weights_desc();
}

bool ConvolutionForward::can_finish() const {
  return !primitive_ ||
      channels_together(direct_.dst_desc(), shapes_.top) > 0;
}

void ConvolutionForward::PackWeights(const float* plain_weights,
    const memory& packed) const {
  const FlushDenormals flush;
  if (winograd_) {
    winograd_->TransformWeights(plain_weights, floats(packed));
  } else if (pointwise_) {
    pointwise_->PackWeights(plain_weights, floats(packed));
  } else if (phases_) {
    phases_->PackWeights(plain_weights, floats(packed));
  } else if (sliced_) {
    sliced_->PackWeights(plain_weights, floats(packed));
  } else {
    reorder(memory(plain(shapes_.WeightsShape()), cpu(),
        const_cast<float*>(plain_weights)), packed);
  }
}

bool ConvolutionForward::PacksLike(const ConvolutionForward& other) const {
  if (sliced_ && other.sliced_) {
    return sliced_->PacksLike(*other.sliced_);
  }
  return !sliced_ == !other.sliced_ && !winograd_ == !other.winograd_ &&
      !pointwise_ == !other.pointwise_ && !phases_ == !other.phases_ &&
      weights_order() == other.weights_order();
}

void ConvolutionForward::Run(const memory& from, const memory& packed_weights,
    const ConvolutionFinish& finish, const Destination& to) const {
  if (primitive_) {
    CHECK(to.all);
    RunDirect(from, packed_weights, finish, to.all);
    return;
  }
  if (sliced_) {
    sliced_->Run(from, floats(packed_weights), finish, to.values, to.step);
    return;
  }
  const winograd::Finish with = {finish.bias, floats(finish.residual),
      finish.slopes};
  const FlushDenormals flush;  // counts this thread's threads
  const size_t room = winograd_ ? winograd_->forward_scratch() :
      phases_ ? phases_->scratch() : pointwise_->scratch();
  float* const scratch =
      static_cast<float*>(onednn::scratch(room * sizeof(float)));
  if (winograd_) {
    winograd_->Forward(floats(from), floats(packed_weights), with, to.values,
        scratch, to.step);
  } else if (phases_) {
    phases_->Forward(floats(from), floats(packed_weights), with, to.values,
        scratch, to.step);
  } else {
    pointwise_->Forward(floats(from), floats(packed_weights), with, to.values,
        scratch, to.step);
  }
}

void ConvolutionForward::RunDirect(const memory& from,
    const memory& packed_weights, const ConvolutionFinish& finish,
    const memory& to) const {
  const int outputs = shapes_.weights[0];
  Arguments arguments;
  arguments[DNNL_ARG_SRC] = from;
  arguments[DNNL_ARG_WEIGHTS] = packed_weights;
  arguments[DNNL_ARG_DST] = to;
  ChannelWork work;
  if (!shapes_.bias.empty()) {
    arguments[DNNL_ARG_BIAS] = memory(shapes_.BiasLayout(), cpu(),
        const_cast<float*>(finish.bias));
  } else if (finish.bias) {
    work.factor.assign(outputs, 1);
    work.shift.assign(finish.bias, finish.bias + outputs);
  }
  run(primitive_, arguments);
  work.residual = finish.residual;
  if (finish.slopes) {
    work.slope.assign(finish.slopes, finish.slopes + outputs);
  }
  if (work.residual || !work.slope.empty() || !work.factor.empty()) {
    work_on_channels(to, shapes_.top, work, to);
  }
}

void run_winograd(const Winograd& convolution, const memory& from,
    const float* weights, const winograd::Finish& finish, const memory& to) {
  const FlushDenormals flush;
  const size_t points = convolution.points_size();
  float* const scratch = static_cast<float*>(onednn::scratch(
      (points + convolution.forward_scratch()) * sizeof(float)));
  convolution.TransformWeights(weights, scratch);
  convolution.Forward(floats(from), scratch, finish, floats(to),
      scratch + points);
}

}  // namespace onednn
}  // namespace caffe
#endif  // USE_ONEDNN
