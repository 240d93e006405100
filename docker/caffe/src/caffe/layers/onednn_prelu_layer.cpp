#ifdef USE_ONEDNN
#include "caffe/layers/onednn_prelu_layer.hpp"

#include <algorithm>
#include <vector>

namespace caffe {

using dnnl::memory;

// How many channels lie side by side in an order: 16 or 8 of a block, or all.
// 0 where that cannot be told.
static int channels_together(const memory::desc& order,
    const vector<int>& shape) {
  if (shape.size() != 4) {
    return 0;
  }
  if (order == onednn::layout(shape, memory::format_tag::aBcd16b)) {
    return 16;
  }
  if (order == onednn::layout(shape, memory::format_tag::aBcd8b)) {
    return 8;
  }
  if (order == onednn::layout(shape, memory::format_tag::acdb)) {
    return shape[1];
  }
  return 0;
}

// The pixels of a block of `count` channels, best known to the compiler.
template <int known>
static void rectify(int pixels, int count, const float* slope, const float* x,
    float* y) {
  if (known) {
    count = known;
  }
  for (int pixel = 0; pixel < pixels; ++pixel, x += count, y += count) {
#pragma omp simd
    for (int c = 0; c < count; ++c) {
      const float value = x[c];  // GCC makes vectors of this, not of std::max
      y[c] = (value < 0 ? 0.f : value) + slope[c] * (value > 0 ? 0.f : value);
    }
  }
}

void OneDnnPReLULayer::Forward_cpu(const vector<Blob<float>*>& bottom,
    const vector<Blob<float>*>& top) {
  const vector<int>& shape = bottom[0]->shape();
  const memory in = onednn::packed(*bottom[0]->data(), shape);
  const int together = in ? channels_together(in.get_desc(), shape) : 0;
  copied_ = together && bottom[0]->data() == top[0]->data();
  if (!together) {
    PReLULayer<float>::Forward_cpu(bottom, top);
    return;
  }
  memory out = in;
  if (copied_) {
    onednn::reserve(in.get_desc(), &bottom_copy_);
  } else {
    out = onednn::write(top[0]->data().get(), shape, in.get_desc());
  }
  // What fills up the last block of channels is 0, and stays so.
  const int blocks = (shape[1] + together - 1) / together;
  vector<float> slopes(blocks * together);
  const float* slope_data = this->blobs_[0]->cpu_data();
  for (int c = 0; c < shape[1]; ++c) {
    slopes[c] = slope_data[channel_shared_ ? 0 : c];
  }
  const int pixels = shape[2] * shape[3];
  const float* from = static_cast<const float*>(in.get_data_handle());
  float* to = static_cast<float*>(out.get_data_handle());
  float* copy = copied_ ?
      static_cast<float*>(bottom_copy_.get_data_handle()) : NULL;
  const onednn::FlushDenormals flush;
#pragma omp parallel for
  for (int block = 0; block < shape[0] * blocks; ++block) {
    const size_t begin = static_cast<size_t>(block) * pixels * together;
    const float* slope = slopes.data() + block % blocks * together;
    if (copy) {
      std::copy(from + begin, from + begin + pixels * together, copy + begin);
    }
    if (together == 16) {
      rectify<16>(pixels, together, slope, from + begin, to + begin);
    } else if (together == 8) {
      rectify<8>(pixels, together, slope, from + begin, to + begin);
    } else {
      rectify<0>(pixels, together, slope, from + begin, to + begin);
    }
  }
  onednn::written(top[0]->data().get(), out);
}

void OneDnnPReLULayer::Backward_cpu(const vector<Blob<float>*>& top,
    const vector<bool>& propagate_down, const vector<Blob<float>*>& bottom) {
  if (copied_) {
    const memory plain(onednn::plain(bottom_memory_.shape()), onednn::cpu(),
        bottom_memory_.mutable_cpu_data());
    onednn::reorder(bottom_copy_, plain);
  }
  PReLULayer<float>::Backward_cpu(top, propagate_down, bottom);
}

}  // namespace caffe
#endif  // USE_ONEDNN
