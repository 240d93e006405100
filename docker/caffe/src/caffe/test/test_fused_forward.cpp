#ifdef USE_ONEDNN
#include <limits>
#include <string>
#include <vector>

#include "gtest/gtest.h"

#include "caffe/util/format.hpp"

#include "caffe/test/fused_forward_test.hpp"

namespace caffe {

TEST_F(FusedForwardTest, ComputesWhatTheLayersDo) {
  const char* convolutions[] = {"num_output: 16 kernel_size: 1",
      "num_output: 33 kernel_size: 1 bias_term: false",
      "num_output: 40 kernel_size: 1 stride: 2",
      "num_output: 48 kernel_size: 3 pad: 1",
      "num_output: 21 kernel_size: 3 pad: 1 stride: 2",
      "num_output: 20 kernel_size: 5 bias_term: false"};
  const char* rectifiers[] = {"type: 'ReLU'",
      "type: 'ReLU' relu_param { negative_slope: -0.3 }",
      "type: 'PReLU' prelu_param { filler { type: 'gaussian' } }"};
  for (int channels = 3; channels <= 36; channels += 33) {
    for (const char* convolution : convolutions) {
      for (const char* rectifier : rectifiers) {
        SCOPED_TRACE(convolution + string(" ") + rectifier);
        MakeForward("dim: 2 dim: " + format_int(channels) +
            " dim: 31 dim: 22", Convolution("conv", "data", convolution) +
            kAffine + Rectifier("conv", rectifier));
        Forward();
        EXPECT_TRUE(!KnowsBlocks() || IsPacked("conv"));
        ExpectBlobs();
        if (KnowsBlocks()) { EXPECT_EQ(4, Together("conv")); }
      }
    }
  }
}

TEST_F(FusedForwardTest, AddsTheResidual) {
  const char* convolutions[] = {"num_output: 32 kernel_size: 1",
      "num_output: 32 kernel_size: 3 pad: 1",
      "num_output: 32 kernel_size: 5 pad: 2 bias_term: false"};
  for (const char* convolution : convolutions) {
    SCOPED_TRACE(convolution);
    MakeForward("dim: 2 dim: 5 dim: 31 dim: 22", Residual(convolution));
    Forward();
    if (KnowsBlocks()) { EXPECT_EQ(5, Together("conv")); }
    for (int i = 0; i < 3; ++i) {
      Forward();
      ExpectBlob("sum");
    }
    ExpectBlobs();
    Forward();
    ExpectBlobs();
  }
}

// Whoever asks for the blob that was only part of a sum gets it as it was.
TEST_F(FusedForwardTest, TheSummandIsThereAfterwards) {
  MakeForward("dim: 2 dim: 5 dim: 31 dim: 22",
      Residual("num_output: 32 kernel_size: 1"));
  Forward();
  caffe_set(Parameter("conv", 0)->count(), 7.f,
      Parameter("conv", 0)->mutable_cpu_data());
  Parameter("norm", 0)->mutable_cpu_data()[3] = 5;
  ExpectBlob("conv");
  Forward();
  ExpectBlob("sum");
  Blob<float>* middle = net_->blob_by_name("middle").get();
  caffe_set(middle->count(), 3.f, middle->mutable_cpu_data());
  ExpectBlob("conv");
  Forward();
  net_->ForwardFromTo(0, 0);  // other data, and a pass that ends before it
  net_->ForwardFromTo(1, Index("middle"));
  ExpectBlob("conv");
}

TEST_F(FusedForwardTest, ABlobThatIsReadBetweenPassesAndKept) {
  MakeForward("dim: 2 dim: 5 dim: 31 dim: 22",
      Residual("num_output: 32 kernel_size: 1"));
  SyncedMemory* conv = net_->blob_by_name("conv")->data().get();
  const float* kept = static_cast<float*>(conv->pin_cpu_data());
  for (int i = 0; i < 2; ++i) {
    net_->ForwardFromTo(0, 0);
    Forward();
    Compare("kept", kept, stock_->blob_by_name("conv")->cpu_data(),
        net_->blob_by_name("conv")->count(), 2e-5);
    ExpectBlobs();
  }
  conv->unpin();
  Forward();
  ExpectBlobs();
}

TEST_F(FusedForwardTest, StopsWhereAPassStops) {
  MakeForward("dim: 2 dim: 5 dim: 31 dim: 22",
      Residual("num_output: 32 kernel_size: 1"));
  for (int end = 1; end < net_->layers().size(); ++end) {
    SCOPED_TRACE(net_->layer_names()[end]);
    Forward();
    net_->ForwardFromTo(0, 0);
    stock_->blob_by_name("data")->CopyFrom(Data());
    net_->ForwardFromTo(1, end);
    stock_->ForwardFromTo(1, end);
    ExpectBlobs();
    net_->ForwardFrom(end + 1 < net_->layers().size() ? end + 1 : end);
    stock_->ForwardFrom(end + 1 < net_->layers().size() ? end + 1 : end);
    ExpectBlobs();
  }
}

TEST_F(FusedForwardTest, NewParametersAreUsedFromTheNextPassOn) {
  MakeForward("dim: 2 dim: 5 dim: 31 dim: 22",
      Residual("num_output: 32 kernel_size: 3 pad: 1"));
  Forward();
  const char* layers[] = {"conv", "norm", "scale"};
  for (const char* layer : layers) {
    for (int i = 0; i < net_->layer_by_name(layer)->blobs().size(); ++i) {
      SCOPED_TRACE(layer + format_int(i));
      Blob<float>* blob = Parameter(layer, i);
      blob->mutable_cpu_data()[blob->count() / 2] += 2;
      Forward();
      ExpectBlobs();
      float* pinned = static_cast<float*>(blob->data()->pin_cpu_data());
      for (int j = 0; j < 2; ++j) {
        pinned[0] += 1;
        Forward();
        ExpectBlobs();
      }
      pinned[0] += 1;
      blob->data()->unpin();
      Forward();
      ExpectBlobs();
    }
  }
  Net<float> other(Parse("dim: 2 dim: 5 dim: 31 dim: 22",
      Residual("num_output: 32 kernel_size: 3 pad: 1"), false));
  net_->ShareTrainedLayersWith(&other);
  stock_->ShareTrainedLayersWith(&other);
  Fill();
  Forward();
  ExpectBlobs();
}

TEST_F(FusedForwardTest, OtherSizes) {
  MakeForward("dim: 2 dim: 5 dim: 31 dim: 22",
      Residual("num_output: 32 kernel_size: 1"));
  Forward();
  for (int number = 3; number > 0; --number) {
    Resize(number, 5, 6 + number, 12);
    net_->Reshape();
    Forward();
    ExpectBlobs();
  }
}

TEST_F(FusedForwardTest, NaNAndInfinityAreNotLost) {
  const char* convolutions[] = {"num_output: 32 kernel_size: 1",
      "num_output: 32 kernel_size: 5 pad: 2"};
  const float nan = std::numeric_limits<float>::quiet_NaN();
  for (const char* convolution : convolutions) {
    MakeForward("dim: 1 dim: 5 dim: 12 dim: 11", Residual(convolution));
    net_->blob_by_name("data")->mutable_cpu_data()[17] = nan;
    Forward();
    const Blob<float>& sum = *net_->blob_by_name("sum");
    const Blob<float>& expected = *stock_->blob_by_name("sum");
    int found = 0;
    for (int i = 0; i < sum.count(); ++i) {
      EXPECT_EQ(std::isnan(expected.cpu_data()[i]),
          std::isnan(sum.cpu_data()[i]));
      found += std::isnan(sum.cpu_data()[i]);
    }
    EXPECT_LT(0, found);
    EXPECT_GT(sum.count(), found);
  }
}

// A deviation of 0 makes infinite weights, and of what was 0 NaN: it is not
// folded in.
TEST_F(FusedForwardTest, WhatIsNotFiniteIsComputedLayerByLayer) {
  MakeForward("dim: 1 dim: 5 dim: 12 dim: 11",
      Convolution("conv", "data", "num_output: 16 kernel_size: 1") +
      "layer { name: 'norm' type: 'BatchNorm' bottom: 'conv' top: 'conv' "
      "batch_norm_param { eps: 0 } } " + Rectifier("conv", "type: 'ReLU'"));
  Parameter("norm", 1)->mutable_cpu_data()[4] = 0;
  Forward();
  EXPECT_EQ(0, Together("conv"));
  const float* ours = net_->blob_by_name("conv")->cpu_data();
  const float* expected = stock_->blob_by_name("conv")->cpu_data();
  for (int i = 0; i < net_->blob_by_name("conv")->count(); ++i) {
    EXPECT_EQ(std::isnan(expected[i]), std::isnan(ours[i]));
    EXPECT_EQ(std::isinf(expected[i]), std::isinf(ours[i]));
  }
}

TEST_F(FusedForwardTest, NetsThatComputeBackwardDoNot) {
  const string layers = Residual("num_output: 32 kernel_size: 1");
  Make(Parse("dim: 2 dim: 5 dim: 9 dim: 8", layers));
  Fill();
  EXPECT_EQ(0, Together("conv"));
  NetParameter training = Parse("dim: 2 dim: 5 dim: 9 dim: 8", layers, false);
  training.mutable_state()->set_phase(TRAIN);
  Make(training);
  EXPECT_EQ(0, Together("conv"));
  Make(Parse("dim: 2 dim: 5 dim: 9 dim: 8", layers +
      "layer { name: 'loss' type: 'EuclideanLoss' bottom: 'sum' "
      "bottom: 'first' top: 'loss' }", false));
  EXPECT_EQ(0, Together("conv"));
}

TEST_F(FusedForwardTest, LayersThatDoNotFitAreLeftOut) {
  const struct { const char* layers; int together; } examples[] = {
    {"layer { name: 'sum' type: 'Eltwise' bottom: 'first' bottom: 'conv' "
     "top: 'sum' eltwise_param { coeff: 1 coeff: -1 } }", 3},
    {"layer { name: 'sum' type: 'Eltwise' bottom: 'first' bottom: 'conv' "
     "top: 'sum' eltwise_param { operation: PROD } }", 3},
    {"layer { name: 'sum' type: 'Eltwise' bottom: 'first' bottom: 'conv' "
     "bottom: 'conv' top: 'sum' }", 3},
    {"layer { name: 'relu' type: 'ReLU' bottom: 'conv' top: 'relu' }", 3},
    {"layer { name: 'relu' type: 'ReLU' bottom: 'conv' top: 'conv' "
     "relu_param { engine: CAFFE } }", 3},
    {"layer { name: 'relu' type: 'ReLU' bottom: 'conv' top: 'conv' } "
     "layer { name: 'norm2' type: 'BatchNorm' bottom: 'conv' top: 'conv' }", 4},
    {"layer { name: 'relu' type: 'TanH' bottom: 'conv' top: 'conv' }", 3}};
  for (const auto& example : examples) {
    SCOPED_TRACE(example.layers);
    MakeForward("dim: 2 dim: 5 dim: 31 dim: 22",
        Convolution("first", "data", "num_output: 32 kernel_size: 1") +
        Convolution("conv", "data", "num_output: 32 kernel_size: 1") + kAffine +
        example.layers);
    Forward();
    ExpectBlobs();
    if (KnowsBlocks()) { EXPECT_EQ(example.together, Together("conv")); }
  }
}

class Listener : public Net<float>::Callback {
 public:
  vector<int> heard;

 protected:
  virtual void run(int layer) { heard.push_back(layer); }
};

TEST_F(FusedForwardTest, WhoListensHearsOfEachLayer) {
  MakeForward("dim: 2 dim: 5 dim: 9 dim: 8",
      Residual("num_output: 32 kernel_size: 1"));
  Listener listener;
  net_->add_after_forward(&listener);
  Forward();
  EXPECT_EQ(net_->layers().size() - 1, listener.heard.size());
  ExpectBlobs();
}

// Where they are computed one by one, forward and backward.
TEST_F(FusedForwardTest, TheLayersThemselvesKeepTheOrder) {
  const struct { const char* layers; const char* last; } examples[] = {
    {"", "conv"},
    {"layer { name: 'norm2' type: 'BatchNorm' bottom: 'conv' top: 'last' }",
     "last"},
    {"layer { name: 'last' type: 'Scale' bottom: 'conv' top: 'last' "
     "scale_param { filler { type: 'gaussian' } } }", "last"},
    {"layer { name: 'last' type: 'Scale' bottom: 'conv' top: 'last' "
     "scale_param { axis: -3 filler { type: 'gaussian' } } }", "last"},
    {"layer { name: 'drop' type: 'Dropout' bottom: 'conv' top: 'conv' }",
     "conv"},
    {"layer { name: 'last' type: 'Dropout' bottom: 'conv' top: 'last' }",
     "last"},
    {"layer { name: 'last' type: 'LRN' bottom: 'conv' top: 'last' "
     "lrn_param { local_size: 5 alpha: 0.1 } }", "last"},
    {"layer { name: 'last' type: 'Eltwise' bottom: 'conv' bottom: 'first' "
     "top: 'last' }", "last"},
    {"layer { name: 'last' type: 'Eltwise' bottom: 'conv' bottom: 'first' "
     "bottom: 'conv' top: 'last' eltwise_param { coeff: 2 coeff: -1 "
     "coeff: 0.5 } }", "last"},
    {"layer { name: 'last' type: 'Eltwise' bottom: 'conv' bottom: 'first' "
     "top: 'last' eltwise_param { operation: PROD } }", "last"}};
  for (const auto& example : examples) {
    for (int outputs = 16; outputs <= 37; outputs += 21) {
      SCOPED_TRACE(example.layers + format_int(outputs));
      const string shape = "kernel_size: 3 num_output: " + format_int(outputs);
      Make("dim: 2 dim: 3 dim: 11 dim: 14", Convolution("first", "data", shape)
          + Convolution("conv", "data", shape) + kAffine + example.layers);
      Fill();
      Run();
      if (outputs == 16 || string(example.layers).find("LRN") == string::npos) {
        // oneDNN's LRN has whole blocks
        EXPECT_TRUE(!KnowsBlocks() || IsPacked(example.last));
      }
      ExpectEqual(2e-5);
      Again();
      ExpectEqual(2e-5);
    }
  }
}

TEST_F(FusedForwardTest, WhatTheseLayersDoNotKnowIsCaffes) {
  const char* layers[] = {
      "type: 'BatchNorm' bottom: 'conv' top: 'last' "
          "batch_norm_param { use_global_stats: false }",
      "type: 'Scale' bottom: 'conv' top: 'last' scale_param { num_axes: 2 }",
      "type: 'Scale' bottom: 'conv' bottom: 'other' top: 'last' "
          "scale_param { axis: 0 }",
      "type: 'Eltwise' bottom: 'conv' bottom: 'first' top: 'last' "
          "eltwise_param { operation: MAX }",
      "type: 'Eltwise' bottom: 'conv' bottom: 'data2' top: 'last'",
      "type: 'LRN' bottom: 'conv' top: 'last' lrn_param { "
          "norm_region: WITHIN_CHANNEL local_size: 3 }"};
  for (const char* layer : layers) {
    SCOPED_TRACE(layer);
    Make("dim: 2 dim: 16 dim: 12 dim: 11",
        "layer { name: 'other' type: 'DummyData' top: 'other' "
        "dummy_data_param { shape { dim: 2 dim: 16 } data_filler { "
        "type: 'constant' value: 0.7 } } } "
        "layer { name: 'data2' type: 'Power' bottom: 'data' top: 'data2' } " +
        Convolution("first", "data", "num_output: 16 kernel_size: 1") +
        Convolution("conv", "data", "num_output: 16 kernel_size: 1") +
        "layer { name: 'last' " + layer + " } ");
    Fill();
    Run();
    EXPECT_FALSE(IsPacked("last"));
    ExpectEqual(2e-5);
  }
}

}  // namespace caffe
#endif  // USE_ONEDNN
