#ifdef USE_ONEDNN
#include "caffe/util/phases.hpp"

#include <algorithm>
#include <cstring>
#include <vector>

#include "caffe/util/thread_pool.hpp"

namespace caffe {

using winograd::Finish;
using winograd::Kernels;

static winograd::Sizes phase_sizes(const Phases::Sizes& sizes, int taps) {
  const winograd::Sizes phases = {1,
      sizes.inputs * sizes.stride * sizes.stride, sizes.top_height() + taps - 1,
      sizes.top_width() + taps - 1, sizes.outputs, 0, 0};
  return phases;
}

int Phases::Sizes::taps() const {
  const int most = (std::max(kernel_h, kernel_w) + stride - 1) / stride;
  const int taps = std::max(3, most);
  if (stride < 2 || taps > 4) {
    return 0;
  }
  const int tile = winograd::kReach + 1 - taps;
  const int products = winograd::kPoints * stride * stride / (tile * tile);
  return kernel_h * kernel_w >= 2 * products ? taps : 0;
}

Phases::Phases(const Kernels* kernels, const Sizes& sizes)
    : kernels_(kernels), sizes_(sizes),
      winograd_(kernels, phase_sizes(sizes, kernels->taps)) {}

int Phases::Blocks(int channels) const {
  return (channels + kernels_->width - 1) / kernels_->width;
}

size_t Phases::PhasesSize() const {
  return static_cast<size_t>(Blocks(Channels())) * Rows() * Columns() *
      kernels_->width;
}

size_t Phases::scratch() const {
  return PhasesSize() + winograd_.forward_scratch();
}

void Phases::PackWeights(const float* weights, float* packed) const {
  const int stride = sizes_.stride, taps = kernels_->taps;
  const int height = sizes_.kernel_h, width = sizes_.kernel_w;
  const int phases = stride * stride, filters = sizes_.outputs * sizes_.inputs;
  std::vector<float> filtered(
      static_cast<size_t>(filters) * phases * taps * taps);
  for (int filter = 0; filter < filters; ++filter) {
    const float* from = weights + static_cast<size_t>(filter) * height * width;
    float* to = &filtered[static_cast<size_t>(filter) * phases * taps * taps];
    for (int y = 0; y < height; ++y) {
      for (int x = 0; x < width; ++x) {
        const int phase = y % stride * stride + x % stride;
        to[(phase * taps + y / stride) * taps + x / stride] =
            from[y * width + x];
      }
    }
  }
  winograd_.TransformWeights(filtered.data(), packed);
}

// A row of all phases. Channels are input, row of the phase, column.
void Phases::TakeRow(const float* picture, int y, float* phases) const {
  const int stride = sizes_.stride, width = kernels_->width;
  const int columns = Columns();
  const size_t block = static_cast<size_t>(Rows()) * columns * width;
  float* const row = phases + static_cast<size_t>(y) * columns * width;
  for (int i = 0; i < Blocks(Channels()); ++i) {
    memset(row + i * block, 0, columns * width * sizeof(float));
  }
  for (int i = 0; i < sizes_.inputs * stride; ++i) {
    const int from_y = y * stride + i % stride - sizes_.pad_h;
    if (from_y < 0 || from_y >= sizes_.height) { continue; }
    const float* const from = picture +
        (static_cast<size_t>(i / stride) * sizes_.height + from_y) *
        sizes_.width - sizes_.pad_w;
    for (int j = 0; j < stride; ++j) {
      const int channel = i * stride + j;
      float* to = row + channel / width * block + channel % width;
      // from[x * stride + j] is inside
      const int first =
          std::max(0, (sizes_.pad_w - j + stride - 1) / stride);
      const int end = std::min(columns,
          (sizes_.width + sizes_.pad_w - j + stride - 1) / stride);
      for (int x = first; x < end; ++x) {
        to[x * width] = from[x * stride + j];
      }
    }
  }
}

void Phases::Forward(const float* bottom, const float* packed,
    const Finish& finish, float* top, float* scratch, size_t top_step) const {
  const size_t picture = static_cast<size_t>(sizes_.inputs) * sizes_.height *
      sizes_.width;
  const size_t step = top_step ? top_step :
      static_cast<size_t>(Blocks(sizes_.outputs)) * sizes_.top_height() *
      sizes_.top_width() * kernels_->width;
  Finish here = finish;
  for (int n = 0; n < sizes_.number; ++n) {
    parallel_for(Rows(), [&](int y, int) {
      TakeRow(bottom + n * picture, y, scratch);
    });
    if (finish.residual) { here.residual = finish.residual + n * step; }
    winograd_.Forward(scratch, packed, here, top + n * step,
        scratch + PhasesSize());
  }
}

}  // namespace caffe
#endif  // USE_ONEDNN
