#ifdef USE_ONEDNN
#include <limits>
#include <vector>

#include "gtest/gtest.h"

#include "caffe/common.hpp"
#include "caffe/util/math_functions.hpp"
#include "caffe/util/phases.hpp"

#include "caffe/test/test_caffe_main.hpp"

namespace caffe {

using winograd::Finish;
using winograd::Kernels;
using winograd::Winograd;

static vector<float> Noise(size_t count) {
  vector<float> values(count);
  caffe_rng_uniform<float>(count, -1, 1, values.data());
  return values;
}

// One convolution of a first layer, and what it is by its definition.
struct PhasesExample {
  PhasesExample(const Kernels* kernels, const Phases::Sizes& sizes)
      : width(kernels->width), sizes(sizes), convolution(kernels, sizes),
        bottom(Noise(sizes.number * sizes.inputs * sizes.height *
            sizes.width)),
        weights(Noise(sizes.outputs * sizes.inputs * sizes.kernel_h *
            sizes.kernel_w)), bias(Noise(sizes.outputs)),
        slopes(Noise(sizes.outputs)), residual(Step() * sizes.number) {
    for (int n = 0; n < sizes.number; ++n) {  // zeros fill the last block
      for (int out = 0; out < sizes.outputs; ++out) {
        const vector<float> noise = Noise(Pixels());
        for (int i = 0; i < Pixels(); ++i) {
          residual[n * Step() + Place(out, i)] = noise[i];
        }
      }
    }
  }

  int Pixels() const { return sizes.top_height() * sizes.top_width(); }
  size_t Step() const {
    return static_cast<size_t>(sizes.outputs + width - 1) / width * width *
        Pixels();
  }
  size_t Place(int out, int pixel) const {
    return (static_cast<size_t>(out) / width * Pixels() + pixel) * width +
        out % width;
  }

  double Expected(int n, int out, int pixel, const Finish& finish) const {
    const int y = pixel / sizes.top_width() * sizes.stride - sizes.pad_h;
    const int x = pixel % sizes.top_width() * sizes.stride - sizes.pad_w;
    double sum = finish.bias ? bias[out] : 0;
    for (int in = 0; in < sizes.inputs; ++in) {
      for (int i = 0; i < sizes.kernel_h * sizes.kernel_w; ++i) {
        const int from_y = y + i / sizes.kernel_w;
        const int from_x = x + i % sizes.kernel_w;
        if (from_y >= 0 && from_y < sizes.height && from_x >= 0 &&
            from_x < sizes.width) {
          sum += static_cast<double>(weights[(out * sizes.inputs + in) *
              sizes.kernel_h * sizes.kernel_w + i]) *
              bottom[((n * sizes.inputs + in) * sizes.height + from_y) *
                  sizes.width + from_x];
        }
      }
    }
    if (finish.residual) { sum += residual[n * Step() + Place(out, pixel)]; }
    return finish.slopes && sum < 0 ? slopes[out] * sum : sum;
  }

  // With something between the pictures of the top, which stays as it is.
  void Check(const Finish& finish, size_t gap) const {
    const float nan = std::numeric_limits<float>::quiet_NaN();
    vector<float> packed(convolution.weights_size(), nan);
    vector<float> scratch(convolution.scratch(), nan);
    const size_t step = Step() + gap;
    vector<float> top(step * sizes.number, 77);
    convolution.PackWeights(weights.data(), packed.data());
    convolution.Forward(bottom.data(), packed.data(), finish, top.data(),
        scratch.data(), gap ? step : 0);
    const double largest = sizes.inputs * sizes.kernel_h * sizes.kernel_w / 4.;
    for (int n = 0; n < sizes.number; ++n) {
      for (int c = 0; c < (sizes.outputs + width - 1) / width * width; ++c) {
        for (int i = 0; i < Pixels(); ++i) {
          const double expected =
              c < sizes.outputs ? Expected(n, c, i, finish) : 0;
          ASSERT_NEAR(expected, top[n * step + Place(c, i)], 2e-5 * largest);
        }
      }
      for (size_t i = Step(); i < step; ++i) {
        ASSERT_EQ(77, top[n * step + i]);
      }
    }
  }

  const int width;
  const Phases::Sizes sizes;
  const Phases convolution;
  const vector<float> bottom, weights, bias, slopes;
  vector<float> residual;
};

TEST(PhasesTest, ComputesWhatItIsByDefinition) {
  Caffe::set_random_seed(1701);
  const Phases::Sizes sizes[] = {  // of well-known first layers, and odd ones
      {2, 3, 41, 38, 64, 7, 7, 2, 3, 3}, {1, 3, 40, 43, 33, 7, 7, 2, 0, 0},
      {1, 3, 63, 59, 48, 11, 11, 4, 0, 0}, {3, 1, 21, 30, 20, 5, 5, 2, 2, 1},
      {1, 4, 25, 25, 16, 8, 7, 2, 3, 0}, {2, 2, 40, 37, 17, 9, 9, 3, 4, 4},
      {1, 3, 9, 8, 16, 7, 6, 2, 5, 6}, {1, 1, 7, 7, 16, 7, 7, 2, 0, 0}};
  const Kernels* const best = Winograd::kernels();
  for (const Phases::Sizes& size : sizes) {
    const int taps = size.taps();
    ASSERT_TRUE(taps == 3 || taps == 4);
    for (int wide = 0; wide < 2 && best && best->width >= 8 + 8 * wide;
         ++wide) {
      const PhasesExample example(wide ? winograd::kernels_avx512(taps) :
          winograd::kernels_avx2(taps), size);
      const float* bias = example.bias.data();
      const float* residual = example.residual.data();
      const float* slopes = example.slopes.data();
      example.Check({NULL, NULL, NULL}, 0);
      example.Check({bias, NULL, slopes}, 0);
      example.Check({bias, residual, slopes}, 0);
      const int plane = example.Pixels() * example.width;
      example.Check({bias, NULL, NULL}, 3 * plane);
    }
  }
}

TEST(PhasesTest, AreTakenWhereTheyAreFaster) {
  const Phases::Sizes sizes[] = {{1, 3, 64, 64, 64, 3, 3, 2, 1, 1},
      {1, 3, 64, 64, 64, 7, 7, 1, 3, 3}, {1, 3, 64, 64, 64, 9, 9, 2, 3, 3},
      {1, 3, 64, 64, 64, 7, 7, 4, 0, 0}, {1, 3, 64, 64, 64, 4, 4, 4, 0, 0}};
  for (const Phases::Sizes& size : sizes) { EXPECT_EQ(0, size.taps()); }
}

}  // namespace caffe
#endif  // USE_ONEDNN
