#ifdef USE_ONEDNN
#include <cmath>
#include <limits>
#include <vector>

#include "gtest/gtest.h"

#include "caffe/common.hpp"
#include "caffe/util/math_functions.hpp"
#include "caffe/util/pointwise.hpp"
#include "caffe/util/winograd.hpp"

#include "caffe/test/test_caffe_main.hpp"

namespace caffe {

using winograd::Finish;
using winograd::Kernels;

// The kernels that this CPU can run.
static vector<const Kernels*> AllKernels() {
  vector<const Kernels*> all;
  const Kernels* best = winograd::Winograd::kernels();
  if (best) { all.push_back(winograd::kernels_avx2()); }
  if (best && best->width == 16) { all.push_back(best); }
  return all;
}

static vector<float> Noise(size_t count) {
  vector<float> values(count);
  caffe_rng_uniform<float>(count, -1, 1, values.data());
  return values;
}

// One convolution with 1 x 1 filters, and what it is by its definition.
struct PointwiseExample {
  PointwiseExample(const Kernels* kernels, const Pointwise::Sizes& sizes)
      : width(kernels->width), sizes(sizes), convolution(kernels, sizes),
        weights(Noise(sizes.outputs * sizes.inputs)),
        bias(Noise(sizes.outputs)), slopes(Noise(sizes.outputs)),
        bottom(Count(sizes.inputs, sizes.height * sizes.width)),
        residual(Count(sizes.outputs, ResidualPixels())) {
    Fill(sizes.inputs, sizes.height * sizes.width, &bottom);
    Fill(sizes.outputs, ResidualPixels(), &residual);
  }

  int Blocks(int channels) const { return (channels + width - 1) / width; }
  int TopPixels() const { return sizes.top_height() * sizes.top_width(); }
  int ResidualPixels() const {
    return sizes.halved_width ? sizes.halved_height * sizes.halved_width :
        TopPixels();
  }
  size_t Count(int channels, int pixels) const {
    return static_cast<size_t>(sizes.number) * Blocks(channels) * pixels *
        width;
  }
  size_t Place(int n, int c, int channels, int pixel, int pixels) const {
    return ((static_cast<size_t>(n) * Blocks(channels) + c / width) * pixels +
        pixel) * width + c % width;
  }
  // With zeros in what fills the last block.
  void Fill(int channels, int pixels, vector<float>* values) const {
    for (int n = 0; n < sizes.number; ++n) {
      for (int c = 0; c < channels; ++c) {
        const vector<float> noise = Noise(pixels);
        for (int i = 0; i < pixels; ++i) {
          (*values)[Place(n, c, channels, i, pixels)] = noise[i];
        }
      }
    }
  }

  vector<float> Run(const Finish& finish) const {
    const float nan = std::numeric_limits<float>::quiet_NaN();
    vector<float> packed(convolution.weights_size(), nan);
    vector<float> scratch(convolution.scratch() + 1, nan);
    vector<float> top(Count(sizes.outputs, TopPixels()), nan);
    convolution.PackWeights(weights.data(), packed.data());
    convolution.Forward(bottom.data(), packed.data(), finish, top.data(),
        scratch.data());
    return top;
  }

  double Expected(int n, int out, int pixel, const Finish& finish) const {
    const int y = pixel / sizes.top_width() * sizes.stride_h;
    const int x = pixel % sizes.top_width() * sizes.stride_w;
    double sum = finish.bias ? bias[out] : 0;
    for (int in = 0; in < sizes.inputs; ++in) {
      sum += static_cast<double>(weights[out * sizes.inputs + in]) *
          bottom[Place(n, in, sizes.inputs, y * sizes.width + x,
              sizes.height * sizes.width)];
    }
    if (finish.residual) {
      const int at = sizes.halved_width ? 2 * sizes.halved_width *
          (pixel / sizes.top_width()) + pixel % sizes.top_width() * 2 : pixel;
      sum += residual[Place(n, out, sizes.outputs, at, ResidualPixels())];
    }
    return finish.slopes && sum < 0 ? slopes[out] * sum : sum;
  }

  void Check(const Finish& finish) const {
    const vector<float> top = Run(finish);
    const int channels = Blocks(sizes.outputs) * width;
    for (int n = 0; n < sizes.number; ++n) {
      for (int c = 0; c < channels; ++c) {
        for (int i = 0; i < TopPixels(); ++i) {
          const float found = top[Place(n, c, channels, i, TopPixels())];
          const double expected =
              c < sizes.outputs ? Expected(n, c, i, finish) : 0;
          ASSERT_NEAR(expected, found, 1e-6 * (sizes.inputs + 2));
        }
      }
    }
  }

  const int width;
  const Pointwise::Sizes sizes;
  const Pointwise convolution;
  const vector<float> weights, bias, slopes;
  vector<float> bottom, residual;
};

TEST(PointwiseTest, ComputesWhatItIsByDefinition) {
  Caffe::set_random_seed(1701);
  const Pointwise::Sizes sizes[] = {{1, 16, 1, 1, 16, 1, 1},
      {2, 33, 7, 5, 50, 1, 1}, {1, 300, 9, 13, 17, 1, 1},
      {3, 5, 30, 31, 100, 1, 1}, {2, 20, 9, 8, 24, 2, 2},
      {1, 64, 10, 11, 8, 3, 1}, {1, 1030, 8, 8, 70, 1, 1},
      {1, 40, 13, 16, 33, 2, 3}, {1, 520, 13, 14, 70, 2, 2},
      {2, 129, 57, 55, 40, 2, 2}, {1, 3000, 5, 9, 90, 1, 2},
      {2, 33, 9, 31, 50, 1, 1, 17, 62}, {1, 64, 18, 33, 100, 2, 2, 18, 33},
      {3, 20, 13, 16, 33, 4, 4, 7, 7}, {1, 16, 1, 1, 16, 1, 1, 2, 1}};
  for (const Kernels* kernels : AllKernels()) {
    for (const Pointwise::Sizes& size : sizes) {
      const PointwiseExample example(kernels, size);
      const float* bias = example.bias.data();
      const float* residual = example.residual.data();
      const float* slopes = example.slopes.data();
      example.Check({NULL, NULL, NULL});
      example.Check({bias, NULL, NULL});
      example.Check({NULL, residual, NULL});
      example.Check({bias, residual, slopes});
    }
  }
}

TEST(PointwiseTest, NaNIsNotLost) {
  Caffe::set_random_seed(1701);
  for (const Kernels* kernels : AllKernels()) {
    PointwiseExample example(kernels, {1, 20, 6, 6, 20, 1, 1});
    const int pixels = 36;
    const float nan = std::numeric_limits<float>::quiet_NaN();
    example.bottom[example.Place(0, 18, 20, 5, pixels)] = nan;
    example.residual[example.Place(0, 7, 20, 9, pixels)] = nan;
    const vector<float> zeros(20);
    const vector<float> top =
        example.Run({NULL, example.residual.data(), zeros.data()});
    for (int c = 0; c < 20; ++c) {
      for (int i = 0; i < pixels; ++i) {
        EXPECT_EQ(i == 5 || (i == 9 && c == 7),
            std::isnan(top[example.Place(0, c, 20, i, pixels)]));
      }
    }
  }
}

}  // namespace caffe
#endif  // USE_ONEDNN
