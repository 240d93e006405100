#ifdef USE_ONEDNN
#include "caffe/util/onednn_slices.hpp"

#include <algorithm>
#include <vector>

#include "caffe/util/onednn_channels.hpp"
#include "caffe/util/thread_pool.hpp"

namespace caffe {
namespace onednn {

using dnnl::convolution_forward;
using dnnl::memory;

// Multiply-accumulates of a slice, so that it takes ten times as long as
// starting it.
static const size_t kLeast = 1 << 20;

static size_t product(const vector<int>& sizes, int first) {
  size_t product = 1;
  for (int i = first; i < sizes.size(); ++i) { product *= sizes[i]; }
  return product;
}

shared_ptr<const SlicedConvolution> SlicedConvolution::Make(
    const ConvolutionShapes& shapes,
    const convolution_forward::primitive_desc& whole) {
  const shared_ptr<const SlicedConvolution> none;
  const memory::format_tag
      from = order_tag(whole.src_desc(), shapes.bottom),
      to = order_tag(whole.dst_desc(), shapes.top);
  const int together = block_size(to);
  if (shapes.group > 1 || together == 0 ||
      from == memory::format_tag::undef) {
    return none;
  }
  const size_t macs = together * product(shapes.weights, 1) *
      product(shapes.top, 2);
  const int outputs = shapes.top[1];
  const int blocks = (outputs + together - 1) / together;
  // Blocks of a slice: oneDNN's kernels for AVX2 compute four together.
  int each = std::min(blocks, together == 16 ? 1 : 4);
  while (each < blocks && (each * macs < kLeast || blocks % each)) { ++each; }
  if (each * macs < kLeast) {
    return none;
  }
  shared_ptr<SlicedConvolution> made(new SlicedConvolution);
  made->outputs_ = outputs;
  made->channels_ = each * together;
  made->number_ = shapes.bottom[0];
  made->slices_ = blocks / each;
  made->weights_shape_ = shapes.weights;
  made->weights_shape_[0] = made->channels_;
  made->top_shape_ = shapes.top;
  made->top_shape_[0] = 1;
  made->top_shape_[1] = made->channels_;
  vector<int> bottom = shapes.bottom;
  bottom[0] = 1;
  const OneThread alone;
  made->desc_ = describe<convolution_forward>(
      dnnl::prop_kind::forward_inference, dnnl::algorithm::convolution_direct,
      layout(bottom, from), layout(made->weights_shape_),
      row(made->channels_), layout(made->top_shape_, to), shapes.stride,
      shapes.pad, shapes.pad);
  if (!is_fast(made->desc_)) {
    return none;
  }
  made->primitive_ = convolution_forward(made->desc_);
  made->bottom_size_ = made->desc_.src_desc().get_size() / sizeof(float);
  made->top_size_ = made->desc_.dst_desc().get_size() / sizeof(float);
  made->weights_size_ = made->desc_.weights_desc().get_size() / sizeof(float);
  return made;
}

size_t SlicedConvolution::weights_size() const {
  return slices_ * weights_size_;
}

void SlicedConvolution::PackWeights(const float* weights,
    float* packed) const {
  const size_t each = product(weights_shape_, 1);
  for (int slice = 0; slice < slices_; ++slice) {
    const int first = slice * channels_;
    vector<float> some(channels_ * each);  // zeros fill the last block
    std::copy(weights + first * each,
        weights + std::min(outputs_, first + channels_) * each, some.begin());
    reorder(memory(plain(weights_shape_), cpu(), some.data()),
        memory(desc_.weights_desc(), cpu(), packed + slice * weights_size_));
  }
}

void SlicedConvolution::Run(const memory& from, float* packed_weights,
    const ConvolutionFinish& finish, float* to, size_t step) const {
  const size_t picture = step ? step : slices_ * top_size_;
  vector<float> bias(slices_ * channels_), slopes(bias.size());
  if (finish.bias) {
    std::copy(finish.bias, finish.bias + outputs_, bias.begin());
  }
  if (finish.slopes) {
    std::copy(finish.slopes, finish.slopes + outputs_, slopes.begin());
  }
  parallel_for(number_ * slices_, [&](int i, int) {
    const OneThread alone;
    const int channel = i % slices_ * channels_;
    const memory top(desc_.dst_desc(), cpu(),
        to + i / slices_ * picture + i % slices_ * top_size_);
    Arguments arguments;
    arguments[DNNL_ARG_SRC] = memory(desc_.src_desc(), cpu(),
        floats(from) + i / slices_ * bottom_size_);
    arguments[DNNL_ARG_WEIGHTS] = memory(desc_.weights_desc(), cpu(),
        packed_weights + i % slices_ * weights_size_);
    arguments[DNNL_ARG_BIAS] =
        memory(row(channels_), cpu(), bias.data() + channel);
    arguments[DNNL_ARG_DST] = top;
    run(primitive_, arguments);
    ChannelWork work;
    if (finish.residual) {
      work.residual = memory(desc_.dst_desc(), cpu(),
          floats(finish.residual) + i * top_size_);
    }
    if (finish.slopes) {
      work.slope.assign(slopes.begin() + channel,
          slopes.begin() + channel + channels_);
    }
    if (work.residual || !work.slope.empty()) {
      work_on_channels(top, top_shape_, work, top);
    }
  });
}

}  // namespace onednn
}  // namespace caffe
#endif  // USE_ONEDNN
