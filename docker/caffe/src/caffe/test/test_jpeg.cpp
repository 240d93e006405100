#ifdef USE_OPENCV
#include <string>
#include <vector>

#include <opencv2/core/core.hpp>
#include <opencv2/imgcodecs/imgcodecs.hpp>
#include <opencv2/imgproc/imgproc.hpp>

#include "gtest/gtest.h"

#include "caffe/proto/caffe.pb.h"
#include "caffe/util/io.hpp"
#include "caffe/util/jpeg.hpp"

namespace caffe {

class JpegTest : public ::testing::Test {
 protected:
  JpegTest() : rng_(2015) {}

  // Soft spots of colour with noise on them.
  cv::Mat Picture(int height, int width, int type = CV_8UC3) {
    cv::Mat spots(2 + height / 9, 2 + width / 9, type), picture, noise;
    rng_.fill(spots, cv::RNG::UNIFORM, 0, 256);
    cv::resize(spots, picture, cv::Size(width, height), 0, 0, cv::INTER_LINEAR);
    noise.create(height, width, type);
    rng_.fill(noise, cv::RNG::UNIFORM, 0, 30);
    return picture + noise;
  }

  static string Encoded(const cv::Mat& picture, const vector<int>& how) {
    vector<uchar> data;
    cv::imencode(".jpg", picture, data, how);
    return string(data.begin(), data.end());
  }

  int At(const string& data) {
    return rng_.uniform(0, static_cast<int>(data.size()));
  }

  static cv::Mat OpenCVs(const string& data) {
    return cv::imdecode(vector<char>(data.begin(), data.end()),
        cv::IMREAD_COLOR);
  }

  static bool IsSame(const cv::Mat& one, const cv::Mat& other) {
    return one.size() == other.size() && one.type() == other.type() &&
        cv::norm(one, other, cv::NORM_INF) == 0;
  }

  cv::RNG rng_;
};

TEST_F(JpegTest, TestPixelsAreOpenCVs) {
  for (int i = 0; i < 120; ++i) {
    const int how[] = {cv::IMWRITE_JPEG_QUALITY, rng_.uniform(5, 101),
        cv::IMWRITE_JPEG_PROGRESSIVE, i & 1,
        cv::IMWRITE_JPEG_OPTIMIZE, i >> 1 & 1,
        cv::IMWRITE_JPEG_RST_INTERVAL, i & 4 ? rng_.uniform(1, 9) : 0};
    const string data = Encoded(
        Picture(rng_.uniform(1, 150), rng_.uniform(1, 150)),
        vector<int>(how, how + 8));
    cv::Mat bgr;
    ASSERT_TRUE(DecodePlainJpeg(data, &bgr));
    EXPECT_TRUE(IsSame(bgr, OpenCVs(data)));
  }
}

TEST_F(JpegTest, TestDamagedAreOpenCVs) {
  int plain = 0, others = 0;
  for (int i = 0; i < 400; ++i) {
    const int how[] = {cv::IMWRITE_JPEG_PROGRESSIVE, i >> 1 & 1};
    string data = Encoded(Picture(40, 56), vector<int>(how, how + 2));
    if (i & 1) {
      data[At(data)] = rng_.uniform(0, 256);
    } else {
      data.resize(At(data));
    }
    cv::Mat bgr;
    if (!DecodePlainJpeg(data, &bgr)) {
      ++others;
    } else {
      ++plain;
      EXPECT_TRUE(IsSame(bgr, OpenCVs(data)));
    }
  }
  EXPECT_GT(plain, 20);
  EXPECT_GT(others, 200);
}

TEST_F(JpegTest, TestCutOffIsNotPlain) {
  const string data = Encoded(Picture(60, 60), vector<int>());
  cv::Mat bgr;
  EXPECT_FALSE(DecodePlainJpeg(data.substr(0, data.size() / 2), &bgr));
  EXPECT_FALSE(DecodePlainJpeg(data.substr(0, 2), &bgr));
  EXPECT_FALSE(DecodePlainJpeg("", &bgr));
  EXPECT_FALSE(DecodePlainJpeg("\x89PNG\r\n\x1a\n", &bgr));
}

TEST_F(JpegTest, TestGrayIsNotPlain) {
  const cv::Mat picture = Picture(30, 40, CV_8UC1);
  Datum datum;
  datum.set_encoded(true);
  datum.set_data(Encoded(picture, vector<int>()));
  cv::Mat bgr;
  EXPECT_FALSE(DecodePlainJpeg(datum.data(), &bgr));
  EXPECT_EQ(1, DecodeDatumToCVMatNative(datum).channels());
  EXPECT_EQ(3, DecodeDatumToCVMat(datum, true).channels());
}

TEST_F(JpegTest, TestTurnedIsNotPlain) {
  string data = Encoded(Picture(30, 40), vector<int>());
  const char exif[] = "\xff\xe1\x00\x22""Exif\0\0MM\0*\0\0\0\x08\0\x01"
      "\x01\x12\0\x03\0\0\0\x01\0\x06\0\0\0\0\0\0";  // a quarter turn
  data.insert(2, string(exif, sizeof(exif) - 1));
  Datum datum;
  datum.set_encoded(true);
  datum.set_data(data);
  cv::Mat bgr;
  EXPECT_FALSE(DecodePlainJpeg(data, &bgr));
  EXPECT_EQ(40, DecodeDatumToCVMatNative(datum).rows);
  EXPECT_EQ(40, DecodeDatumToCVMat(datum, true).rows);
}

TEST_F(JpegTest, TestDatumIsDecodedInColorOrGray) {
  const cv::Mat picture = Picture(30, 40);
  Datum datum;
  datum.set_encoded(true);
  datum.set_data(Encoded(picture, vector<int>()));
  EXPECT_TRUE(IsSame(OpenCVs(datum.data()), DecodeDatumToCVMatNative(datum)));
  EXPECT_TRUE(IsSame(OpenCVs(datum.data()), DecodeDatumToCVMat(datum, true)));
  EXPECT_EQ(1, DecodeDatumToCVMat(datum, false).channels());
}

}  // namespace caffe
#endif  // USE_OPENCV
