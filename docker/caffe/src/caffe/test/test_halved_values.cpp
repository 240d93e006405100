#ifdef USE_ONEDNN
#include <cmath>
#include <limits>
#include <string>
#include <vector>

#include "gtest/gtest.h"

#include "caffe/util/format.hpp"
#include "caffe/util/onednn_deferred.hpp"

#include "caffe/test/fused_forward_test.hpp"

namespace caffe {

static const char kShape[] = "dim: 2 dim: 5 dim: 31 dim: 22";
static const char kTakers[] = "num_output: 32 kernel_size: 1 stride: 2";

// The end of a stage of a ResNet, and two convolutions that take half of it:
// data -> first -> middle, ReLU -> conv, BatchNorm, Scale; sum with first, ReLU
// -> left, right.
static string Stage(const string& middle, const string& conv,
    const string& takers = kTakers) {
  return Convolution("first", "data", "num_output: 40 kernel_size: 1") +
      Convolution("middle", "first", "num_output: 24 " + middle) +
      "layer { name: 'relu' type: 'ReLU' bottom: 'middle' top: 'middle' } " +
      Convolution("conv", "middle", "num_output: 40 " + conv) + kAffine +
      "layer { name: 'sum' type: 'Eltwise' bottom: 'first' bottom: 'conv' "
      "top: 'sum' } " + Rectifier("sum", "type: 'ReLU'") +
      Convolution("left", "sum", takers) + Convolution("right", "sum", takers);
}

class HalvedValuesTest : public FusedForwardTest {
 protected:
  // Where there are kernels for it: they need AVX2.
  bool IsHalved(const string& blob) {
    const SyncedMemory& values = *net_->blob_by_name(blob)->data();
    return !winograd::Winograd::kernels() ||
        boost::dynamic_pointer_cast<onednn::Halved>(values.packed());
  }
  bool IsWhole(const string& blob) {
    return !winograd::Winograd::kernels() || !IsHalved(blob);
  }
};

TEST_F(HalvedValuesTest, AreWhatTheLayersCompute) {
  const char* middles[] = {"kernel_size: 1", "kernel_size: 3 pad: 1",
      "kernel_size: 5 pad: 2 bias_term: false"};
  const char* shapes[] = {kShape, "dim: 1 dim: 3 dim: 1 dim: 5",
      "dim: 3 dim: 17 dim: 8 dim: 8", "dim: 1 dim: 3 dim: 64 dim: 57"};
  for (const char* middle : middles) {
    for (const char* shape : shapes) {
      SCOPED_TRACE(middle + string(" ") + shape);
      MakeForward(shape, Stage(middle, "kernel_size: 1"));
      for (int i = 0; i < 3; ++i) {
        net_->ForwardFromTo(0, 0);
        Forward();
        EXPECT_TRUE(IsHalved("sum"));
        EXPECT_TRUE(IsHalved("middle"));
        EXPECT_TRUE(IsWhole("first"));
        ExpectBlob("left");
        ExpectBlob("right");
      }
      ExpectBlobs();
      Forward();
      ExpectBlobs();
    }
  }
}

// Strides one after the other; convolutions without anything behind them.
TEST_F(HalvedValuesTest, OfOthersOrAlone) {
  const string shape = "num_output: 20 kernel_size: 1 ";
  const struct { string layers; const char* halved; } examples[] = {
    {Convolution("one", "data", "num_output: 16 kernel_size: 7 stride: 2") +
     Convolution("two", "one", shape) +
     Convolution("three", "two", shape + "stride: 2") +
     Convolution("four", "three", shape + "stride: 2"), "three"},
    {Convolution("one", "data", shape) +
     Convolution("two", "one", shape + "stride: 3") +
     Convolution("three", "two", shape + "stride: 4") +
     Rectifier("three", "type: 'ReLU'"), "two"},
    {Convolution("zero", "data", shape) + Convolution("one", "zero", shape) +
     Rectifier("one", "type: 'PReLU'") +
     Convolution("two", "one", shape + "stride_h: 4 stride_w: 2") +
     "layer { name: 'three' type: 'Eltwise' bottom: 'two' bottom: 'other' "
     "top: 'three' } " +
     Convolution("four", "three", shape + "stride: 2"), "one"}};
  for (const auto& example : examples) {
    SCOPED_TRACE(example.layers);
    MakeForward("dim: 2 dim: 20 dim: 37 dim: 41",
        "layer { name: 'other' type: 'DummyData' top: 'other' "
        "dummy_data_param { shape { dim: 2 dim: 20 dim: 10 dim: 21 } "
        "data_filler { type: 'gaussian' } } } " + example.layers);
    for (int i = 0; i < 2; ++i) {
      net_->ForwardFromTo(0, 1);
      for (const char* name : {"data", "other"}) {
        stock_->blob_by_name(name)->CopyFrom(*net_->blob_by_name(name));
      }
      net_->ForwardFrom(2);
      stock_->ForwardFrom(2);
      EXPECT_TRUE(IsHalved(example.halved));
      ExpectBlobs();
    }
  }
}

TEST_F(HalvedValuesTest, AreThoseOfTheirPassWheneverSomebodyAsks) {
  MakeForward(kShape, Stage("kernel_size: 3 pad: 1", "kernel_size: 1"));
  Forward();
  for (const char* layer : {"first", "middle", "conv", "norm", "scale"}) {
    Blob<float>* blob = Parameter(layer, 0);
    caffe_set(blob->count(), 7.f, blob->mutable_cpu_data());
  }
  for (const char* name : {"first", "middle"}) {
    Blob<float>* blob = net_->blob_by_name(name).get();
    caffe_set(blob->count(), 3.f, blob->mutable_cpu_data());
  }
  net_->ForwardFromTo(0, Index("middle"));
  ExpectBlob("conv");
  ExpectBlob("sum");
  Forward();
  ExpectBlobs();
}

TEST_F(HalvedValuesTest, StopsWhereAPassStops) {
  MakeForward(kShape, Stage("kernel_size: 3 pad: 1", "kernel_size: 1"));
  const int count = net_->layers().size();
  for (int end = 1; end < count; ++end) {
    SCOPED_TRACE(net_->layer_names()[end]);
    Forward();
    net_->ForwardFromTo(0, 0);
    stock_->blob_by_name("data")->CopyFrom(Data());
    net_->ForwardFromTo(1, end);
    stock_->ForwardFromTo(1, end);
    ExpectBlobs();
    const int next = std::min(end + 1, count - 1);
    net_->ForwardFrom(next);
    stock_->ForwardFrom(next);
    ExpectBlobs();
  }
}

TEST_F(HalvedValuesTest, WhatIsWrittenIntoThemIsTaken) {
  MakeForward(kShape, Stage("kernel_size: 3 pad: 1", "kernel_size: 1"));
  for (const char* name : {"middle", "sum"}) {
    SCOPED_TRACE(name);
    Forward();
    Blob<float>* blob = net_->blob_by_name(name).get();
    caffe_rng_gaussian<float>(blob->count() / 2, 0, 1,
        blob->mutable_cpu_data());
    stock_->blob_by_name(name)->CopyFrom(*blob);
    const int next = Index(name == string("sum") ? "rectifier" : "conv");
    net_->ForwardFrom(next);
    stock_->ForwardFrom(next);
    ExpectBlobs();
  }
}

TEST_F(HalvedValuesTest, WhoKeepsAnArrayHasAllOfThem) {
  MakeForward(kShape, Stage("kernel_size: 3 pad: 1", "kernel_size: 1"));
  for (const char* name : {"middle", "conv", "sum"}) {
    SCOPED_TRACE(name);
    Blob<float>* blob = net_->blob_by_name(name).get();
    const float* kept = static_cast<float*>(blob->data()->pin_cpu_data());
    for (int i = 0; i < 2; ++i) {
      net_->ForwardFromTo(0, 0);
      Forward();
      Compare("kept", kept, stock_->blob_by_name(name)->cpu_data(),
          blob->count(), 2e-5);
      ExpectBlobs();
    }
    blob->data()->unpin();
    Forward();
    EXPECT_TRUE(IsHalved("sum"));
    ExpectBlobs();
  }
}

TEST_F(HalvedValuesTest, NewParametersAreUsedFromTheNextPassOn) {
  MakeForward(kShape, Stage("kernel_size: 3 pad: 1", "kernel_size: 1"));
  Forward();
  for (const char* layer : {"middle", "conv", "norm", "scale", "left"}) {
    SCOPED_TRACE(layer);
    Blob<float>* blob = Parameter(layer, 0);
    blob->mutable_cpu_data()[blob->count() / 2] += 2;
    Forward();
    ExpectBlobs();
  }
}

TEST_F(HalvedValuesTest, OtherSizes) {
  MakeForward(kShape, Stage("kernel_size: 3 pad: 1", "kernel_size: 1"));
  Forward();
  for (int number = 3; number > 0; --number) {
    Resize(number, 5, 6 + number, 12);
    net_->Reshape();
    Forward();
    ExpectBlobs();
  }
}

TEST_F(HalvedValuesTest, AreWholeWhereSomebodyTakesMore) {
  const string takers[] = {
      Convolution("more", "sum", "num_output: 32 kernel_size: 1"),
      Convolution("more", "sum", "num_output: 32 kernel_size: 3 stride: 2"),
      Convolution("more", "sum", "num_output: 32 kernel_size: 1 stride: 3"),
      Convolution("more", "sum", "num_output: 32 kernel_size: 1 stride_h: 2 "
          "stride_w: 1"),
      Convolution("more", "sum", "num_output: 32 kernel_size: 1 stride: 2 "
          "pad: 1"),
      Convolution("more", "sum", "num_output: 32 kernel_size: 1 stride: 2 "
          "group: 4"),
      Convolution("more", "sum", "num_output: 8 kernel_size: 1 stride: 2"),
      "layer { name: 'more' type: 'Pooling' bottom: 'sum' top: 'more' "
          "pooling_param { kernel_size: 1 stride: 2 } } ",
      "layer { name: 'more' type: 'Power' bottom: 'sum' top: 'more' } "};
  for (const string& more : takers) {
    SCOPED_TRACE(more);
    MakeForward(kShape, Stage("kernel_size: 3 pad: 1", "kernel_size: 1") +
        more);
    Forward();
    EXPECT_TRUE(IsWhole("sum"));
    EXPECT_TRUE(IsWhole("middle"));
    ExpectBlobs();
  }
}

// Pixels that nobody takes.
TEST_F(HalvedValuesTest, NaNIsNotLost) {
  MakeForward("dim: 1 dim: 5 dim: 12 dim: 11",
      Stage("kernel_size: 1", "kernel_size: 1"));
  net_->blob_by_name("data")->mutable_cpu_data()[17] =
      std::numeric_limits<float>::quiet_NaN();
  Forward();
  ExpectBlob("left");
  const Blob<float>& sum = *net_->blob_by_name("sum");
  const Blob<float>& expected = *stock_->blob_by_name("sum");
  int found = 0;
  for (int i = 0; i < sum.count(); ++i) {
    EXPECT_EQ(std::isnan(expected.cpu_data()[i]),
        std::isnan(sum.cpu_data()[i]));
    found += std::isnan(sum.cpu_data()[i]);
  }
  EXPECT_LT(0, found);
}

}  // namespace caffe
#endif  // USE_ONEDNN
