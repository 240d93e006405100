#include <stdint.h>

#include <vector>

#include "boost/random.hpp"
#include "gtest/gtest.h"

#include "caffe/common.hpp"
#include "caffe/util/pixels.hpp"

#include "caffe/test/test_caffe_main.hpp"

namespace caffe {

template <typename Dtype>
class PixelsTest : public ::testing::Test {
 protected:
  PixelsTest() : random_(2015) {}

  // Transforms a row, and the same value by value: how many are different?
  template <typename Source>
  int Different(int channels, int width, bool mirror, bool has_mean_rows,
      Dtype scale) {
    boost::uniform_int<> byte(0, 255);
    boost::uniform_real<> share(0, 1);
    vector<Source> pixels(channels * width);
    for (int i = 0; i < pixels.size(); ++i) { pixels[i] = byte(random_); }
    vector<Dtype> means(channels * width);
    for (int i = 0; i < means.size(); ++i) { means[i] = 255 * share(random_); }
    vector<Dtype> values(channels * width + 1, -1);
    vector<const Dtype*> mean_rows;
    vector<Dtype*> rows;
    for (int c = 0; c < channels; ++c) {
      mean_rows.push_back(&means[c * width]);
      rows.push_back(&values[c * width]);
    }
    const PixelTransform<Dtype> transform =
        {mean_rows.data(), has_mean_rows, scale, mirror};
    TransformRow(pixels.data(), channels, width, transform, rows.data());
    int different = values.back() != -1;
    for (int c = 0; c < channels; ++c) {
      for (int w = 0; w < width; ++w) {
        const Dtype mean = means[c * width + (has_mean_rows ? w : 0)];
        const Dtype value = Dtype(pixels[w * channels + c]) - mean;
        different += rows[c][mirror ? width - 1 - w : w] != value * scale;
      }
    }
    return different;
  }

  boost::mt19937 random_;
};

TYPED_TEST_CASE(PixelsTest, TestDtypes);

TYPED_TEST(PixelsTest, TestValuesAreThoseOfTheDefinition) {
  const int widths[] = {1, 2, 7, 31, 224, 255, 256, 257, 700};
  for (int i = 0; i < 9 * 5 * 8; ++i) {
    const int width = widths[i % 9], channels = 1 + i / 9 % 5, how = i / 45;
    const TypeParam scale = how & 4 ? 0.017 : 1;
    EXPECT_EQ(0, this->template Different<uint8_t>(channels, width, how & 1,
        how & 2, scale)) << channels << " x " << width << ", " << how;
    EXPECT_EQ(0, this->template Different<float>(channels, width, how & 1,
        how & 2, scale)) << channels << " x " << width << ", " << how;
  }
}

}  // namespace caffe
