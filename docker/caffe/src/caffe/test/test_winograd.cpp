#ifdef USE_ONEDNN
#include <dlfcn.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <string>
#include <vector>

#include "gtest/gtest.h"

#include "caffe/common.hpp"
#include "caffe/util/format.hpp"
#include "caffe/util/math_functions.hpp"
#include "caffe/util/winograd.hpp"

#include "caffe/test/test_caffe_main.hpp"

namespace caffe {

// OpenMP as libcaffe has it loaded: the tests are not linked with it.
static int omp_get_max_threads() {
  typedef int (*Function)();
  return reinterpret_cast<Function>(
      dlsym(RTLD_DEFAULT, "omp_get_max_threads"))();
}

static void omp_set_num_threads(int threads) {
  typedef void (*Function)(int);
  reinterpret_cast<Function>(
      dlsym(RTLD_DEFAULT, "omp_set_num_threads"))(threads);
}

using winograd::Kernels;
using winograd::Sizes;
using winograd::Winograd;

// The largest difference that counts as rounding, in the largest value.
static const double kRounding = 2e-5;

// Values N x C x H x W, and the same in the blocked memory format.
class Values {
 public:
  Values(int number, int channels, int height, int width, int block)
      : number_(number), channels_(channels), height_(height), width_(width),
        block_(block), blocked_(static_cast<size_t>(number) *
            ((channels + block - 1) / block * block) * height * width) {}

  size_t Place(int n, int c, int y, int x) const {
    const int blocks = (channels_ + block_ - 1) / block_;
    return (((static_cast<size_t>(n) * blocks + c / block_) * height_ + y) *
        width_ + x) * block_ + c % block_;
  }
  bool IsInside(int y, int x) const {
    return y >= 0 && x >= 0 && y < height_ && x < width_;
  }
  float& at(int n, int c, int y, int x) { return blocked_[Place(n, c, y, x)]; }
  float at(int n, int c, int y, int x) const {
    return blocked_[Place(n, c, y, x)];
  }
  float* blocked() { return &blocked_[0]; }
  void Fill(float value) { std::fill(blocked_.begin(), blocked_.end(), value); }

  void FillWithNoise(float lowest) {
    vector<float> noise(1);
    for (int i = 0; i < Count(); ++i) {
      caffe_rng_uniform<float>(1, lowest, 1, &noise[0]);
      At(i) = noise[0];
    }
  }
  int Count() const { return number_ * channels_ * height_ * width_; }
  // By their number in Caffe's order.
  float& At(int i) {
    return at(i / width_ / height_ / channels_, i / width_ / height_ %
        channels_, i / width_ % height_, i % width_);
  }
  // Whether what fills the last block is zeros.
  bool FilledWithZeros() const {
    const int all = (channels_ + block_ - 1) / block_ * block_;
    for (int n = 0; n < number_; ++n) {
      for (int c = channels_; c < all; ++c) {
        for (int i = 0; i < height_ * width_; ++i) {
          if (at(n, c, i / width_, i % width_) != 0) { return false; }
        }
      }
    }
    return true;
  }

 private:
  const int number_, channels_, height_, width_, block_;
  vector<float> blocked_;
};

// One convolution, and what it is by its definition in double precision.
class Example {
 public:
  Example(const Kernels* kernels, const Sizes& sizes)
      : sizes(sizes), convolution(kernels, sizes),
        bottom(sizes.number, sizes.inputs, sizes.height, sizes.width,
            kernels->width),
        bottom_diff(bottom),
        top(sizes.number, sizes.outputs, sizes.top_height(), sizes.top_width(),
            kernels->width),
        top_diff(top), weights(sizes.outputs * sizes.inputs * 9),
        weights_diff(weights.size()), bias(sizes.outputs),
        bias_diff(sizes.outputs) {
    bottom.FillWithNoise(-0.2);
    top_diff.FillWithNoise(-1);
    caffe_rng_uniform<float>(weights.size(), -1, 1, &weights[0]);
    caffe_rng_uniform<float>(bias.size(), -1, 1, &bias[0]);
  }

  // What is not written stays NaN.
  void Run() {
    const float nan = std::numeric_limits<float>::quiet_NaN();
    top.Fill(nan);
    bottom_diff.Fill(nan);
    RunForward(convolution, bottom.blocked(), &bias[0], top.blocked());
    RunForward(convolution.Mirrored(), top_diff.blocked(), NULL,
        bottom_diff.blocked());
    vector<float> scratch(convolution.backward_scratch(), nan);
    convolution.BackwardWeights(bottom.blocked(), top_diff.blocked(),
        &scratch[0], &weights_diff[0]);
    convolution.BackwardBias(top_diff.blocked(), &bias_diff[0]);
  }

  void RunForward(const Winograd& winograd, const float* from,
      const float* shift, float* to) {
    const float nan = std::numeric_limits<float>::quiet_NaN();
    vector<float> points(winograd.points_size(), nan);
    vector<float> scratch(winograd.forward_scratch(), nan);
    winograd.TransformWeights(&weights[0], &points[0]);
    const winograd::Finish finish = {shift, NULL, NULL};
    winograd.Forward(from, &points[0], finish, to, &scratch[0]);
  }

  float Weight(int out, int in, int y, int x) const {
    return weights[((out * sizes.inputs + in) * 3 + y) * 3 + x];
  }

  double Top(int i) const {
    const int x = i % sizes.top_width(), rows = i / sizes.top_width();
    const int y = rows % sizes.top_height(), planes = rows / sizes.top_height();
    double sum = bias[planes % sizes.outputs];
    for (int in = 0; in < sizes.inputs; ++in) {
      for (int k = 0; k < 9; ++k) {
        const int from_y = y + k / 3 - sizes.pad_h;
        const int from_x = x + k % 3 - sizes.pad_w;
        if (bottom.IsInside(from_y, from_x)) {
          sum += static_cast<double>(bottom.at(planes / sizes.outputs, in,
              from_y, from_x)) * Weight(planes % sizes.outputs, in, k / 3,
              k % 3);
        }
      }
    }
    return sum;
  }

  double BottomDiff(int i) const {
    const int x = i % sizes.width, rows = i / sizes.width;
    const int y = rows % sizes.height, planes = rows / sizes.height;
    double sum = 0;
    for (int out = 0; out < sizes.outputs; ++out) {
      for (int k = 0; k < 9; ++k) {
        const int to_y = y - k / 3 + sizes.pad_h;
        const int to_x = x - k % 3 + sizes.pad_w;
        if (top_diff.IsInside(to_y, to_x)) {
          sum += static_cast<double>(top_diff.at(planes / sizes.inputs, out,
              to_y, to_x)) * Weight(out, planes % sizes.inputs, k / 3, k % 3);
        }
      }
    }
    return sum;
  }

  double WeightsDiff(int i) const {
    const int out = i / 9 / sizes.inputs, in = i / 9 % sizes.inputs;
    double sum = 0;
    for (int n = 0; n < sizes.number; ++n) {
      for (int y = 0; y < sizes.top_height(); ++y) {
        for (int x = 0; x < sizes.top_width(); ++x) {
          const int from_y = y + i % 9 / 3 - sizes.pad_h;
          const int from_x = x + i % 3 - sizes.pad_w;
          if (bottom.IsInside(from_y, from_x)) {
            sum += static_cast<double>(top_diff.at(n, out, y, x)) *
                bottom.at(n, in, from_y, from_x);
          }
        }
      }
    }
    return sum;
  }

  double BiasDiff(int out) const {
    double sum = 0;
    for (int n = 0; n < sizes.number; ++n) {
      for (int i = 0; i < sizes.top_height() * sizes.top_width(); ++i) {
        sum += top_diff.at(n, out, i / sizes.top_width(),
            i % sizes.top_width());
      }
    }
    return sum;
  }

  const Sizes sizes;
  const Winograd convolution;
  Values bottom, bottom_diff, top, top_diff;
  vector<float> weights, weights_diff, bias, bias_diff;
};

// At most 400 of so many, the first and the last among them.
static vector<int> Some(int count) {
  vector<int> some;
  const double step = std::max(1., (count - 1) / 399.);
  for (double i = 0; i < count - 0.5; i += step) {
    some.push_back(static_cast<int>(i + 0.5));
  }
  return some;
}

template <typename Ours, typename Reference>
static void ExpectEqual(const string& what, int count, const Ours& ours,
    const Reference& reference) {
  double largest = 0, difference = 0;
  const vector<int> some = Some(count);
  for (int i = 0; i < some.size(); ++i) {
    const double expected = reference(some[i]), found = ours(some[i]);
    ASSERT_FALSE(std::isnan(found)) << what << " " << some[i];
    largest = std::max(largest, std::fabs(expected));
    difference = std::max(difference, std::fabs(expected - found));
  }
  EXPECT_LE(difference, kRounding * std::max(largest, 1.)) << what;
}

class WinogradTest : public ::testing::Test {
 protected:
  WinogradTest() : threads_(omp_get_max_threads()) {
    Caffe::set_random_seed(1701);
#ifdef __x86_64__
    if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma")) {
      kernels_.push_back(winograd::kernels_avx2());
    }
    if (__builtin_cpu_supports("avx512f") &&
        __builtin_cpu_supports("avx512vl") &&
        __builtin_cpu_supports("avx512bw") &&
        __builtin_cpu_supports("avx512dq")) {
      kernels_.push_back(winograd::kernels_avx512());
    }
#endif
  }
  virtual ~WinogradTest() { omp_set_num_threads(threads_); }

  static int Random(int lowest, int highest) {
    return lowest + caffe_rng_rand() % (highest - lowest + 1);
  }

  static void Check(const Kernels* kernels, const Sizes& sizes) {
    SCOPED_TRACE(format_int(kernels->width) + " channels in a block: " +
        format_int(sizes.number) + " x " + format_int(sizes.inputs) + " x " +
        format_int(sizes.height) + " x " + format_int(sizes.width) + " to " +
        format_int(sizes.outputs) + ", pad " + format_int(sizes.pad_h) + " " +
        format_int(sizes.pad_w));
    Example example(kernels, sizes);
    example.Run();
    ExpectEqual("top", example.top.Count(),
        [&](int i) { return example.top.At(i); },
        [&](int i) { return example.Top(i); });
    ExpectEqual("bottom's diff", example.bottom_diff.Count(),
        [&](int i) { return example.bottom_diff.At(i); },
        [&](int i) { return example.BottomDiff(i); });
    ExpectEqual("weights' diff", example.weights_diff.size(),
        [&](int i) { return example.weights_diff[i]; },
        [&](int i) { return example.WeightsDiff(i); });
    ExpectEqual("bias' diff", example.bias_diff.size(),
        [&](int i) { return example.bias_diff[i]; },
        [&](int i) { return example.BiasDiff(i); });
    EXPECT_TRUE(example.top.FilledWithZeros());
    EXPECT_TRUE(example.bottom_diff.FilledWithZeros());
  }

  const int threads_;
  vector<const Kernels*> kernels_;  // that this CPU has
};

TEST_F(WinogradTest, RandomSizes) {
  for (int i = 0; i < 120; ++i) {
    const Sizes sizes = {Random(1, 3), Random(1, 70), Random(1, 19),
        Random(1, 19), Random(1, 70), Random(0, 2), Random(0, 2)};
    if (sizes.top_height() < 1 || sizes.top_width() < 1) { continue; }
    omp_set_num_threads(Random(1, 3));
    for (int k = 0; k < kernels_.size(); ++k) {
      Check(kernels_[k], sizes);
    }
  }
}

// Sizes with which tiles are taken in several blocks: by each thread on its
// own, and by all together.
TEST_F(WinogradTest, ManyTiles) {
  const Sizes sizes[] = {{2, 16, 150, 170, 20, 1, 1},
      {1, 500, 64, 63, 512, 1, 0}};
  for (int i = 0; i < 2; ++i) {
    for (int threads = 1; threads <= 2; ++threads) {
      omp_set_num_threads(threads);
      for (int k = 0; k < kernels_.size(); ++k) {
        Check(kernels_[k], sizes[i]);
      }
    }
  }
}

TEST_F(WinogradTest, SumsDoNotDependOnTheNumberOfThreads) {
  const Sizes sizes = {2, 40, 61, 50, 70, 1, 1};
  for (int k = 0; k < kernels_.size(); ++k) {
    Example example(kernels_[k], sizes);
    omp_set_num_threads(1);
    example.Run();
    Example other(example);
    std::fill(other.weights_diff.begin(), other.weights_diff.end(), 0);
    std::fill(other.bias_diff.begin(), other.bias_diff.end(), 0);
    omp_set_num_threads(3);
    other.Run();
    for (int i = 0; i < example.top.Count(); ++i) {
      ASSERT_EQ(example.top.At(i), other.top.At(i));
    }
    for (int i = 0; i < example.bottom_diff.Count(); ++i) {
      ASSERT_EQ(example.bottom_diff.At(i), other.bottom_diff.At(i));
    }
    EXPECT_EQ(example.weights_diff, other.weights_diff);
    EXPECT_EQ(example.bias_diff, other.bias_diff);
  }
}

// They spread in their tile, and stay in it; what fills the last block is zeros
// all the same.
TEST_F(WinogradTest, NaNAndInfinityStayInTheirTiles) {
  const float bad[] = {std::numeric_limits<float>::quiet_NaN(),
      std::numeric_limits<float>::infinity()};
  const Sizes sizes = {1, 20, 24, 24, 20, 1, 1};
  for (int k = 0; k < kernels_.size(); ++k) {
    for (int i = 0; i < 2; ++i) {
      Example example(kernels_[k], sizes);
      example.bottom.at(0, 3, 9, 9) = bad[i];
      example.RunForward(example.convolution, example.bottom.blocked(),
          &example.bias[0], example.top.blocked());
      EXPECT_TRUE(example.top.FilledWithZeros());
      for (int y = 0; y < 24; ++y) {
        for (int x = 0; x < 24; ++x) {
          const bool near = std::abs(y - 9) <= 1 && std::abs(x - 9) <= 1;
          const bool in_tile = y / 4 == 2 && x / 4 == 2;
          if (near) {
            EXPECT_FALSE(std::isfinite(example.top.at(0, 7, y, x)));
          } else if (!in_tile) {
            EXPECT_TRUE(std::isfinite(example.top.at(0, 7, y, x)));
          }
        }
      }
    }
  }
}

}  // namespace caffe
#endif  // USE_ONEDNN
