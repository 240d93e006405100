#ifdef USE_ONEDNN
#include "caffe/util/pointwise.hpp"

#include <algorithm>
#include <cstring>

#include "caffe/util/thread_pool.hpp"

namespace caffe {

using winograd::Finish;
using winograd::kPanel;

static const size_t kChunk = 128 * 1024;  // bytes of bottoms that stay in L2
static const int kGroup = 42;  // pixels: the kernels of 14 and 6 rows divide it
static const int kMostWidth = 16;

Pointwise::Pointwise(const winograd::Kernels* kernels, const Sizes& sizes)
    : kernels_(kernels), sizes_(sizes) {}

int Pointwise::Blocks(int channels) const {
  return (channels + kernels_->width - 1) / kernels_->width;
}

size_t Pointwise::weights_size() const {
  return static_cast<size_t>(Blocks(sizes_.outputs)) * Blocks(sizes_.inputs) *
      kernels_->width * kernels_->width;
}

size_t Pointwise::scratch() const {
  return Copies() ? static_cast<size_t>(sizes_.number) *
      Blocks(sizes_.inputs) * Pixels() * kernels_->width : 0;
}

// Packed they lie as panel, input, output of the panel.
void Pointwise::PackWeights(const float* weights, float* packed) const {
  const int width = kernels_->width, blocks = Blocks(sizes_.outputs);
  const int inputs = Blocks(sizes_.inputs) * width;
  parallel_for(blocks, [&](int block, int) {
    const int first = block / kPanel * kPanel;
    const int panel = std::min(kPanel, blocks - first) * width;
    float* to = packed + static_cast<size_t>(first) * width * inputs +
        (block - first) * width;
    for (int in = 0; in < inputs; ++in, to += panel) {
      for (int i = 0; i < width; ++i) {
        const int out = block * width + i;
        to[i] = in < sizes_.inputs && out < sizes_.outputs ?
            weights[static_cast<size_t>(out) * sizes_.inputs + in] : 0;
      }
    }
  });
}

// The pixels that a stride does not leave out, where the kernels don't know it.
void Pointwise::TakeStrided(const float* bottom, float* taken) const {
  const int width = kernels_->width, rows = sizes_.top_height();
  const int columns = sizes_.top_width(), blocks = Blocks(sizes_.inputs);
  parallel_for(sizes_.number * rows, [&](int i, int) {
    const int image = i / rows, y = i % rows;
    for (int plane = image * blocks; plane < (image + 1) * blocks; ++plane) {
      const float* from = bottom + (static_cast<size_t>(plane) * sizes_.height +
          y * sizes_.stride_h) * sizes_.width * width;
      float* to = taken + (static_cast<size_t>(plane) * rows + y) * columns *
          width;
      for (int x = 0; x < columns; ++x, to += width) {
        memcpy(to, from + static_cast<size_t>(x) * sizes_.stride_w * width,
            width * sizeof(float));
      }
    }
  });
}

// The pixels from `first` on, of one picture and one panel, where bottom or
// residual have others between them. `top` is that of `first`, and so is the
// residual if it lies as the top.
void Pointwise::MultiplyRows(const float* from, const float* packed,
    const Finish& finish, int first, int last, int blocks, float* top) const {
  const int width = kernels_->width, columns = sizes_.top_width();
  const int stride_h = Copies() ? 1 : sizes_.stride_h;
  const int stride_w = Copies() ? 1 : sizes_.stride_w;
  const int from_columns = Copies() ? columns : sizes_.width;
  const size_t top_plane = static_cast<size_t>(Pixels()) * width;
  Finish here = finish;
  for (int pixel = first; pixel < last;) {
    const int y = pixel / columns, x = pixel % columns;
    const int count = std::min(last - pixel, columns - x);
    const float* a = from + (static_cast<size_t>(y) * stride_h * from_columns +
        x * stride_w) * width;
    if (here.residual && here.halved_step) {
      here.residual = finish.residual +
          (static_cast<size_t>(2 * y) * sizes_.halved_width + 2 * x) * width;
    }
    (stride_w == 2 ? kernels_->multiply_halved : kernels_->multiply)(a,
        Plane(), sizes_.inputs, packed, blocks, count, &here, top, top_plane);
    if (here.residual && !here.halved_step) { here.residual += count * width; }
    top += count * width;
    pixel += count;
  }
}

void Pointwise::Multiply(const float* from, const float* packed,
    const Finish& finish, int image, int first, int last, int panel,
    float* top, size_t top_step) const {
  const int width = kernels_->width, outputs = Blocks(sizes_.outputs);
  const int inputs = Blocks(sizes_.inputs), block = panel * kPanel;
  const int blocks = std::min(kPanel, outputs - block);
  const size_t top_plane = static_cast<size_t>(Pixels()) * width;
  const size_t begin = image * top_step + block * top_plane + first * width;
  float bias[kPanel * kMostWidth] = {}, slopes[kPanel * kMostWidth] = {};
  Finish here = finish;
  const int channel = block * width;
  const int valid = std::min(blocks * width, sizes_.outputs - channel);
  if (here.bias) {
    std::copy(here.bias + channel, here.bias + channel + valid, bias);
    here.bias = bias;
  }
  if (here.slopes) {
    std::copy(here.slopes + channel, here.slopes + channel + valid, slopes);
    here.slopes = slopes;
  }
  here.halved_step = static_cast<size_t>(sizes_.halved_height) *
      sizes_.halved_width * width;
  if (here.residual) {
    here.residual += here.halved_step ?
        (static_cast<size_t>(image) * outputs + block) * here.halved_step :
        begin;
  }
  from += static_cast<size_t>(image) * inputs * Plane();
  packed += static_cast<size_t>(channel) * inputs * width;
  if (ByRows()) {
    MultiplyRows(from, packed, here, first, last, blocks, top + begin);
  } else {
    kernels_->multiply(from + first * width, Plane(), sizes_.inputs, packed,
        blocks, last - first, &here, top + begin, top_plane);
  }
}

// Each thread takes some pixels, and of few pixels some outputs; where weights
// are what is read most, no thread reads all of them.
void Pointwise::Forward(const float* bottom, const float* packed,
    const Finish& finish, float* top, float* scratch, size_t top_step) const {
  const float* from = bottom;
  if (Copies()) {
    TakeStrided(bottom, scratch);
    from = scratch;
  }
  if (top_step == 0) {
    top_step = static_cast<size_t>(Blocks(sizes_.outputs)) * Pixels() *
        kernels_->width;
  }
  const int pixels = Pixels(), panels =
      (Blocks(sizes_.outputs) + kPanel - 1) / kPanel;
  const size_t bytes = static_cast<size_t>(Blocks(sizes_.inputs)) *
      kernels_->width * sizeof(float);
  const int wanted = std::max<int>(1, kChunk / bytes / kGroup) * kGroup;
  const bool by_outputs = sizes_.number == 1 && sizes_.outputs > pixels;
  const int least = sizes_.number > 1 || by_outputs ? 1 :
      std::min(pool_threads(), (pixels + kGroup - 1) / kGroup);
  const int chunks = std::max(least, (pixels + wanted - 1) / wanted);
  const int all = sizes_.number * chunks;
  const int enough = 4 * pool_threads();
  const int parts = all >= enough ? 1 :
      std::min(panels, (enough + all - 1) / all);
  const int whole = ByRows() ? sizes_.top_width() : 1;  // is not divided
  parallel_for(all * parts, [&](int i, int) {
    const int part = by_outputs ? i / all : i % parts;
    const int chunk = by_outputs ? i % all : i / parts;
    const int image = chunk / chunks, place = chunk % chunks;
    for (int panel = panels * part / parts;
         panel < panels * (part + 1) / parts; ++panel) {
      Multiply(from, packed, finish, image,
          pixels / whole * place / chunks * whole,
          pixels / whole * (place + 1) / chunks * whole, panel, top, top_step);
    }
  });
}

}  // namespace caffe
#endif  // USE_ONEDNN
