#include <cmath>
#include <limits>
#include <vector>

#include "gtest/gtest.h"

#include "caffe/blob.hpp"
#include "caffe/common.hpp"
#include "caffe/filler.hpp"
#include "caffe/layers/spatial_transformer_layer.hpp"

#include "caffe/test/test_caffe_main.hpp"
#include "caffe/test/test_gradient_check_util.hpp"

namespace caffe {

template <typename TypeParam>
class SpatialTransformerLayerTest : public MultiDeviceTest<TypeParam> {
  typedef typename TypeParam::Dtype Dtype;

 protected:
  SpatialTransformerLayerTest()
      : images_(new Blob<Dtype>(2, 3, 4, 6)),
        theta_(new Blob<Dtype>(2, 6, 1, 1)),
        glimpses_(new Blob<Dtype>()) {
    Caffe::set_random_seed(1701);
    FillerParameter filler_param;
    GaussianFiller<Dtype> filler(filler_param);
    filler.Fill(images_);
    bottom_.push_back(images_);
    bottom_.push_back(theta_);
    top_.push_back(glimpses_);
  }

  virtual ~SpatialTransformerLayerTest() {
    delete images_;
    delete theta_;
    delete glimpses_;
  }

  // The same transformation for all glimpses.
  void SetTheta(Dtype a, Dtype b, Dtype c, Dtype d, Dtype e, Dtype f) {
    const Dtype values[] = { a, b, c, d, e, f };
    for (int i = 0; i < theta_->count(); ++i) {
      theta_->mutable_cpu_data()[i] = values[i % 6];
    }
  }

  void Forward(int output_h, int output_w) {
    SpatialTransformerLayer<Dtype> layer(Param(output_h, output_w));
    layer.SetUp(bottom_, top_);
    layer.Forward(bottom_, top_);
  }

  LayerParameter Param(int output_h, int output_w) {
    LayerParameter param;
    param.mutable_spatial_transformer_param()->set_output_h(output_h);
    param.mutable_spatial_transformer_param()->set_output_w(output_w);
    return param;
  }

  // Rotation, shear and translation, reaching beyond the image. No place that
  // a 3 x 5 glimpse looks at is so near to the centre of a pixel that the
  // gradient checker's steps would move it across.
  void SetGeneralTheta() {
    const Dtype values[] = { 0.71, 0.36, 0.11, -0.33, 0.83, -0.14,
                             -0.93, 0.21, -0.14, 0.41, 1.07, 0.23 };
    for (int i = 0; i < theta_->count(); ++i) {
      theta_->mutable_cpu_data()[i] = values[i];
    }
  }

  void CheckGradient(int check_bottom) {
    SpatialTransformerLayer<Dtype> layer(Param(3, 5));
    GradientChecker<Dtype> checker(1e-3, 1e-2);
    checker.CheckGradientExhaustive(&layer, bottom_, top_, check_bottom);
  }

  Blob<Dtype>* const images_;
  Blob<Dtype>* const theta_;
  Blob<Dtype>* const glimpses_;
  vector<Blob<Dtype>*> bottom_;
  vector<Blob<Dtype>*> top_;
};

TYPED_TEST_CASE(SpatialTransformerLayerTest, TestDtypesAndDevices);

TYPED_TEST(SpatialTransformerLayerTest, TestIdentity) {
  typedef typename TypeParam::Dtype Dtype;
  this->SetTheta(1, 0, 0, 0, 1, 0);
  SpatialTransformerLayer<Dtype> layer((LayerParameter()));
  layer.SetUp(this->bottom_, this->top_);
  layer.Forward(this->bottom_, this->top_);
  ASSERT_EQ(this->images_->shape(), this->glimpses_->shape());
  for (int i = 0; i < this->images_->count(); ++i) {
    EXPECT_NEAR(this->images_->cpu_data()[i], this->glimpses_->cpu_data()[i],
        1e-5);
  }
}

// Half the size in the lower right corner: these pixels, unchanged.
TYPED_TEST(SpatialTransformerLayerTest, TestCrop) {
  this->SetTheta(0.5, 0, 0.5, 0, 0.5, 0.5);
  this->Forward(2, 3);
  for (int n = 0; n < 2; ++n) {
    for (int c = 0; c < 3; ++c) {
      for (int i = 0; i < 2; ++i) {
        for (int j = 0; j < 3; ++j) {
          EXPECT_NEAR(this->images_->data_at(n, c, i + 2, j + 3),
              this->glimpses_->data_at(n, c, i, j), 1e-5);
        }
      }
    }
  }
}

// Half the resolution: each pixel the mean of four.
TYPED_TEST(SpatialTransformerLayerTest, TestReduction) {
  typedef typename TypeParam::Dtype Dtype;
  this->SetTheta(1, 0, 0, 0, 1, 0);
  this->Forward(2, 3);
  for (int n = 0; n < 2; ++n) {
    for (int i = 0; i < 2; ++i) {
      for (int j = 0; j < 3; ++j) {
        Dtype sum = 0;
        for (int k = 0; k < 4; ++k) {
          sum += this->images_->data_at(n, 1, 2 * i + k / 2, 2 * j + k % 2);
        }
        EXPECT_NEAR(sum / 4, this->glimpses_->data_at(n, 1, i, j), 1e-5);
      }
    }
  }
}

// A quarter turn: x of the image is y of the glimpse, y is -x.
TYPED_TEST(SpatialTransformerLayerTest, TestRotation) {
  this->SetTheta(0, 1, 0, -1, 0, 0);
  this->Forward(6, 4);
  for (int n = 0; n < 2; ++n) {
    for (int i = 0; i < 6; ++i) {
      for (int j = 0; j < 4; ++j) {
        EXPECT_NEAR(this->images_->data_at(n, 2, 3 - j, i),
            this->glimpses_->data_at(n, 2, i, j), 1e-5);
      }
    }
  }
}

// Moved by a pixel and a half to the right: the last two columns look at half
// a pixel, and at nothing.
TYPED_TEST(SpatialTransformerLayerTest, TestBeyondTheEdgesIsZero) {
  this->SetTheta(1, 0, 0.5, 0, 1, 0);
  this->Forward(4, 6);
  for (int n = 0; n < 2; ++n) {
    for (int i = 0; i < 4; ++i) {
      EXPECT_NEAR((this->images_->data_at(n, 0, i, 1) +
          this->images_->data_at(n, 0, i, 2)) / 2,
          this->glimpses_->data_at(n, 0, i, 0), 1e-5);
      EXPECT_NEAR(this->images_->data_at(n, 0, i, 5) / 2,
          this->glimpses_->data_at(n, 0, i, 4), 1e-5);
      EXPECT_NEAR(0, this->glimpses_->data_at(n, 0, i, 5), 1e-5);
    }
  }
}

// A transformation that has diverged looks at nothing and reads nowhere.
TYPED_TEST(SpatialTransformerLayerTest, TestNotANumber) {
  typedef typename TypeParam::Dtype Dtype;
  const Dtype values[] = { std::numeric_limits<Dtype>::quiet_NaN(),
      std::numeric_limits<Dtype>::infinity(), Dtype(1e30) };
  for (int n = 0; n < 3; ++n) {
    this->SetTheta(1, 0, values[n], 0, 1, values[n]);
    this->Forward(4, 6);
    for (int i = 0; i < this->glimpses_->count(); ++i) {
      EXPECT_EQ(0, this->glimpses_->cpu_data()[i]);
    }
  }
}

// Many glimpses at one image are the glimpses at as many copies of it, and the
// image's gradient is the sum of the copies'.
TYPED_TEST(SpatialTransformerLayerTest, TestManyGlimpsesAtOneImage) {
  typedef typename TypeParam::Dtype Dtype;
  this->SetGeneralTheta();
  const int size = this->images_->count(1);
  caffe_copy(size, this->images_->cpu_data(),
      this->images_->mutable_cpu_data() + size);
  Blob<Dtype> image(1, 3, 4, 6);
  caffe_copy(size, this->images_->cpu_data(), image.mutable_cpu_data());
  Blob<Dtype> glimpses;
  vector<Blob<Dtype>*> bottom(this->bottom_);
  bottom[0] = &image;
  const vector<Blob<Dtype>*> top(1, &glimpses);
  const vector<bool> down(2, true);
  SpatialTransformerLayer<Dtype> layer(this->Param(3, 5));
  layer.SetUp(bottom, top);
  layer.Forward(bottom, top);
  caffe_copy(glimpses.count(), glimpses.cpu_data(),
      glimpses.mutable_cpu_diff());
  layer.Backward(top, down, bottom);
  SpatialTransformerLayer<Dtype> other(this->Param(3, 5));
  other.SetUp(this->bottom_, this->top_);
  other.Forward(this->bottom_, this->top_);
  ASSERT_EQ(this->glimpses_->shape(), glimpses.shape());
  for (int i = 0; i < glimpses.count(); ++i) {
    EXPECT_EQ(this->glimpses_->cpu_data()[i], glimpses.cpu_data()[i]);
  }
  caffe_copy(glimpses.count(), glimpses.cpu_data(),
      this->glimpses_->mutable_cpu_diff());
  other.Backward(this->top_, down, this->bottom_);
  for (int i = 0; i < size; ++i) {
    EXPECT_NEAR(this->images_->cpu_diff()[i] +
        this->images_->cpu_diff()[i + size], image.cpu_diff()[i], 1e-5);
  }
}

TYPED_TEST(SpatialTransformerLayerTest, TestGradientOfImages) {
  this->SetGeneralTheta();
  this->CheckGradient(0);
}

TYPED_TEST(SpatialTransformerLayerTest, TestGradientOfTheta) {
  this->SetGeneralTheta();
  this->CheckGradient(1);
}

TYPED_TEST(SpatialTransformerLayerTest, TestGradientOfManyGlimpses) {
  this->SetGeneralTheta();
  this->images_->Reshape(1, 3, 4, 6);
  this->CheckGradient(-1);
}

}  // namespace caffe
