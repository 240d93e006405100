#ifdef USE_ONEDNN
#include "caffe/util/onednn_channels.hpp"

#include <vector>

#include "caffe/util/thread_pool.hpp"

// Else GCC makes branches of the comparisons below, to be faithful to the
// floating point exceptions that nobody looks at.
#pragma GCC optimize("no-trapping-math")

namespace caffe {
namespace onednn {

using dnnl::memory;

memory::format_tag order_tag(const memory::desc& order,
    const vector<int>& shape) {
  if (shape.size() == 4) {
    for (memory::format_tag tag : {memory::format_tag::aBcd16b,
            memory::format_tag::aBcd8b, memory::format_tag::abcd,
            memory::format_tag::acdb}) {
      if (order == layout(shape, tag)) { return tag; }
    }
  }
  return memory::format_tag::undef;
}

int block_size(memory::format_tag order) {
  return order == memory::format_tag::aBcd16b ? 16 :
      order == memory::format_tag::aBcd8b ? 8 : 0;
}

int channels_together(const memory::desc& order, const vector<int>& shape) {
  const memory::format_tag tag = order_tag(order, shape);
  return tag == memory::format_tag::acdb ? shape[1] : block_size(tag);
}

// The pixels of a block of `count` channels, best known to the compiler.
struct Block {
  int pixels, count;
  const float *factor, *shift, *slope, *residual;
  const float* x;
  float* y;
};

template <int known, bool affine, bool sum, bool rectified>
static void compute(const Block& block) {
  const int count = known ? known : block.count;
  const float *x = block.x, *residual = block.residual;
  float* y = block.y;
  for (int pixel = 0; pixel < block.pixels; ++pixel, x += count, y += count) {
#pragma omp simd
    for (int c = 0; c < count; ++c) {
      float value = x[c];
      if (affine) { value = value * block.factor[c] + block.shift[c]; }
      if (sum) { value += residual[c]; }
      if (rectified) {  // GCC makes vectors of this, not of std::max
        value = (value < 0 ? 0.f : value) +
            block.slope[c] * (value > 0 ? 0.f : value);
      }
      y[c] = value;
    }
    if (sum) { residual += count; }
  }
}

template <int known, bool affine, bool sum>
static void compute(const Block& block) {
  block.slope ? compute<known, affine, sum, true>(block) :
      compute<known, affine, sum, false>(block);
}

template <int known>
static void compute(const Block& block) {
  if (block.factor) {
    block.residual ? compute<known, true, true>(block) :
        compute<known, true, false>(block);
  } else {
    block.residual ? compute<known, false, true>(block) :
        compute<known, false, false>(block);
  }
}

void work_on_channels(const memory& from, const vector<int>& shape,
    const ChannelWork& work, const memory& to) {
  const int together = channels_together(from.get_desc(), shape);
  CHECK_GT(together, 0);
  CHECK(from.get_desc() == to.get_desc());
  const int blocks = (shape[1] + together - 1) / together;
  const int pixels = shape[2] * shape[3];
  // What fills up the last block of channels is 0, and stays so.
  const auto filled = [&](const vector<float>& values) {
    vector<float> all(values);
    if (!all.empty()) { all.resize(blocks * together); }
    return all;
  };
  const vector<float> factor = filled(work.factor), shift = filled(work.shift);
  const vector<float> slope = filled(work.slope);
  const float *x = floats(from), *residual = floats(work.residual);
  float* y = floats(to);
  const FlushDenormals flush;
  parallel_for(shape[0] * blocks, [&](int i, int) {
    const size_t begin = static_cast<size_t>(i) * pixels * together;
    const int channel = i % blocks * together;
    const Block block = {pixels, together,
        factor.empty() ? NULL : factor.data() + channel,
        shift.empty() ? NULL : shift.data() + channel,
        slope.empty() ? NULL : slope.data() + channel,
        residual ? residual + begin : NULL, x + begin, y + begin};
    if (together == 16) {
      compute<16>(block);
    } else if (together == 8) {
      compute<8>(block);
    } else {
      compute<0>(block);
    }
  });
}

}  // namespace onednn
}  // namespace caffe
#endif  // USE_ONEDNN
