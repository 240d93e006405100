#ifdef USE_ONEDNN
#include <algorithm>
#include <cfloat>
#include <cmath>
#include <limits>
#include <string>
#include <vector>

#include <boost/bind.hpp>
#include <boost/thread.hpp>

#include "gtest/gtest.h"

#include "caffe/layers/onednn_conv_layer.hpp"
#include "caffe/net.hpp"
#include "caffe/sgd_solvers.hpp"
#include "caffe/util/format.hpp"
#include "caffe/util/math_functions.hpp"

#include "caffe/test/onednn_layers_test.hpp"
#include "caffe/test/test_caffe_main.hpp"
#include "caffe/test/test_gradient_check_util.hpp"

namespace caffe {

TEST_F(OneDnnLayersTest, ConvolutionComputesWhatCaffesDoes) {
  const char* params[] = {
      "num_output: 16 kernel_size: 3 pad: 1",
      "num_output: 5 kernel_size: 3 stride: 2",
      "num_output: 16 kernel_size: 1",
      "num_output: 20 kernel_size: 5 pad: 2 bias_term: false",
      "num_output: 32 kernel_h: 1 kernel_w: 3 pad_h: 0 pad_w: 1 stride_h: 2 "
          "stride_w: 1",
      "num_output: 3 kernel_size: 7 pad: 3 stride: 2"};
  for (int channels = 3; channels <= 35; channels += 16) {
    for (int i = 0; i < sizeof(params) / sizeof(params[0]); ++i) {
      SCOPED_TRACE(params[i]);
      Make("dim: 2 dim: " + format_int(channels) + " dim: 11 dim: 12",
          Convolution("conv", "data", params[i]));
      Run();
      EXPECT_TRUE(!KnowsBlocks() || IsPacked("conv"));
      ExpectEqual(1e-5);
    }
  }
}

TEST_F(OneDnnLayersTest, GroupsComputeWhatCaffesDo) {
  const char* params[] = {"num_output: 64 kernel_size: 3 pad: 1 group: 2",
      "num_output: 32 kernel_size: 3 pad: 1 group: 32",
      "num_output: 64 kernel_size: 3 stride: 2 group: 32 bias_term: false",
      "num_output: 20 kernel_size: 5 group: 4",
      "num_output: 32 kernel_size: 1 group: 2"};
  for (const char* param : params) {
    SCOPED_TRACE(param);
    Make("dim: 2 dim: 32 dim: 13 dim: 12", Convolution("conv", "data", param));
    Run();
    ExpectEqual(1e-5);
    Again();
    ExpectEqual(1e-5);
  }
}

TEST_F(OneDnnLayersTest, WinogradsConvolutionRoundsLittle) {
  Make("dim: 2 dim: 48 dim: 30 dim: 25",
      Convolution("conv", "data", "num_output: 32 kernel_size: 3 pad: 1"));
  Run();
  ExpectEqual(2e-5);
  Environment direct("direct");
  Make("dim: 2 dim: 48 dim: 30 dim: 25",
      Convolution("conv", "data", "num_output: 32 kernel_size: 3 pad: 1"));
  Run();
  ExpectEqual(1e-5);
}

// In training the backward pass takes it, too, and the weights change.
TEST_F(OneDnnLayersTest, WinogradsConvolutionTrains) {
  NetParameter param = Parse("dim: 2 dim: 20 dim: 30 dim: 25",
      Convolution("conv", "data", "num_output: 33 kernel_size: 3 pad: 1") +
      Convolution("last", "conv", "num_output: 18 kernel_size: 3 pad_h: 2 "
          "pad_w: 0 bias_term: false"));
  param.mutable_state()->set_phase(TRAIN);
  Make(param);
  Run();
  ExpectEqual(2e-5);
  for (int i = 0; i < net_->params().size(); ++i) {
    net_->params()[i]->Update();  // the other net's, too
  }
  Again();
  ExpectEqual(2e-5);
  EXPECT_TRUE(!KnowsBlocks() || IsPacked("last"));
}

TEST_F(OneDnnLayersTest, ConvolutionsGradient) {
  LayerParameter layer;
  ConvolutionParameter* param = layer.mutable_convolution_param();
  param->add_kernel_size(3);
  param->add_stride(2);
  param->set_num_output(4);
  param->mutable_weight_filler()->set_type("gaussian");
  param->mutable_bias_filler()->set_type("gaussian");
  OneDnnConvolutionLayer convolution(layer);
  Blob<float> bottom(2, 3, 6, 4), second(2, 3, 6, 4), top, second_top;
  caffe_rng_gaussian<float>(bottom.count(), 0, 1, bottom.mutable_cpu_data());
  caffe_rng_gaussian<float>(second.count(), 0, 1, second.mutable_cpu_data());
  vector<Blob<float>*> bottoms(1, &bottom), tops(1, &top);
  bottoms.push_back(&second);
  tops.push_back(&second_top);
  GradientChecker<float> checker(1e-2, 1e-3);
  checker.CheckGradientExhaustive(&convolution, bottoms, tops);
}

TEST_F(OneDnnLayersTest, WhatOneDnnIsNotUsedForIsCaffes) {
  const char* params[] = {
      "num_output: 4 kernel_size: 3 dilation: 2",
      "num_output: 4 kernel_size: 3 force_nd_im2col: true"};
  for (int i = 0; i < 2; ++i) {
    SCOPED_TRACE(params[i]);
    Make("dim: 2 dim: 4 dim: 9 dim: 8", Convolution("conv", "data", params[i]));
    Run();
    EXPECT_FALSE(IsPacked("conv"));
    ExpectEqual(0);
  }
}

TEST_F(OneDnnLayersTest, TheEngineAndTheEnvironmentSwitchItOff) {
  Make("dim: 2 dim: 4 dim: 9 dim: 8", Convolution("conv", "data",
      "num_output: 16 kernel_size: 3 engine: CAFFE"));
  Run();
  EXPECT_FALSE(IsPacked("conv"));
  Environment off("0");
  Make("dim: 2 dim: 4 dim: 9 dim: 8", Convolution("conv", "data",
      "num_output: 16 kernel_size: 3"));
  Run();
  EXPECT_FALSE(IsPacked("conv"));
}

TEST_F(OneDnnLayersTest, NewWeightsAreUsedFromTheNextPassOn) {
  Make("dim: 1 dim: 16 dim: 8 dim: 8", Convolution("conv", "data",
      "num_output: 16 kernel_size: 3"));
  Run();
  Blob<float>* weights = net_->params()[0].get();
  caffe_rng_gaussian<float>(weights->count(), 0, 1,
      weights->mutable_cpu_data());
  Again();
  ExpectEqual(1e-5);
  weights->scale_data(-2);
  Again();
  ExpectEqual(1e-5);
  weights->Update();  // subtracts the diff
  Again();
  ExpectEqual(1e-5);
  float* pinned = static_cast<float*>(weights->data()->pin_cpu_data());
  for (int i = 0; i < 2; ++i) {
    pinned[0] += 3;
    Again();
    ExpectEqual(1e-5);
  }
  pinned[1] += 3;
  weights->data()->unpin();
  Again();
  ExpectEqual(1e-5);
  Net<float> other(Parse("dim: 1 dim: 16 dim: 8 dim: 8", Convolution("conv",
      "data", "num_output: 16 kernel_size: 3")));
  net_->ShareTrainedLayersWith(&other);
  stock_->ShareTrainedLayersWith(&other);
  Again();
  ExpectEqual(1e-5);
}

TEST_F(OneDnnLayersTest, DiffsOfParametersAddUp) {
  Make("dim: 1 dim: 16 dim: 8 dim: 8", Convolution("conv", "data",
      "num_output: 16 kernel_size: 3"));
  Run();
  vector<Blob<float>*> params = net_->learnable_params();
  Blob<float> once;
  once.CopyFrom(*params[0], true, true);
  net_->Backward();
  once.scale_diff(2);
  Compare("weights", params[0]->cpu_diff(), once.cpu_diff(), once.count(),
      1e-5);
}

TEST_F(OneDnnLayersTest, AnotherShapeIsAnotherPlan) {
  Make("dim: 2 dim: 16 dim: 9 dim: 8", Convolution("conv", "data",
      "num_output: 16 kernel_size: 3"));
  Run();
  for (int num = 3; num > 0; --num) {
    Resize(num, 16, 7 + num, 12);
    net_->Reshape();
    Again();
    ExpectEqual(1e-5);
  }
}

// Pictures of other sizes are computed in other ways, with weights packed for
// those.
TEST_F(OneDnnLayersTest, WeightsArePackedForEachSize) {
  const char* params[] = {
      "num_output: 16 kernel_size: 3 pad: 1",
      "num_output: 96 kernel_size: 3 pad: 1",
      "num_output: 64 kernel_size: 3 pad: 1 stride: 2",
      "num_output: 128 kernel_size: 5 pad: 2",
      "num_output: 32 kernel_size: 7 pad: 3 stride: 2",
      "num_output: 96 kernel_size: 1"};
  const int sizes[] = {3, 40, 8, 64, 16, 3, 24, 4};
  for (int channels = 3; channels <= 48; channels += 45) {
    const string before = "dim: 1 dim: " + format_int(channels);
    for (const char* param : params) {
      SCOPED_TRACE(param + string(" of ") + format_int(channels));
      Make(Parse(before + " dim: 5 dim: 5",
          Convolution("conv", "data", param), false));
      for (int size : sizes) {
        Resize(1, channels, size, size + 1);
        net_->ForwardFrom(1);
        stock_->ForwardFrom(1);
        ExpectBlob("conv");
      }
    }
  }
}

static const char kReLU[] =
    "layer { name: 'relu' type: 'ReLU' bottom: 'conv' top: 'conv' } ";

TEST_F(OneDnnLayersTest, ReLUAndPoolingKeepTheOrder) {
  const char* relus[] = {"bottom: 'conv' top: 'conv'",
      "bottom: 'conv' top: 'conv' relu_param { negative_slope: 0.1 }",
      "bottom: 'conv' top: 'relu'",
      "bottom: 'conv' top: 'relu' relu_param { negative_slope: -0.3 }"};
  const char* pools[] = {"kernel_size: 2 stride: 2",
      "kernel_size: 3 stride: 2", "kernel_size: 3 stride: 2 pad: 1",
      "kernel_size: 3 stride: 1 pad: 1", "kernel_size: 2 stride: 3 pad: 1",
      "kernel_size: 2 stride: 2 round_mode: FLOOR",
      "pool: AVE kernel_size: 3 stride: 3", "pool: AVE global_pooling: true"};
  for (int i = 0; i < sizeof(relus) / sizeof(relus[0]); ++i) {
    for (int j = 0; j < sizeof(pools) / sizeof(pools[0]); ++j) {
      SCOPED_TRACE(string(relus[i]) + " " + pools[j]);
      const string top = i < 2 ? "conv" : "relu";
      Make("dim: 2 dim: 3 dim: 11 dim: 14",
          Convolution("conv", "data", "num_output: 21 kernel_size: 3") +
          "layer { name: 'relu' type: 'ReLU' " + relus[i] + " } " +
          "layer { name: 'pool' type: 'Pooling' bottom: '" + top +
          "' top: 'pool' pooling_param { " + pools[j] + " } }");
      Run();
      EXPECT_TRUE(!KnowsBlocks() || IsPacked("pool"));
      ExpectEqual(1e-5);
    }
  }
}

TEST_F(OneDnnLayersTest, PReLUKeepsTheOrder) {
  const char* slopes[] = {"", "channel_shared: true"};
  const char* shapes[] = {"num_output: 21 kernel_size: 3",
      "num_output: 16 kernel_size: 1", "num_output: 3 kernel_size: 2"};
  for (int i = 0; i < 3 * 2 * 2; ++i) {
    const string top = i % 2 ? "conv" : "prelu";
    SCOPED_TRACE(top + " " + slopes[i / 2 % 2] + " " + shapes[i / 4]);
    Make("dim: 2 dim: 3 dim: 11 dim: 14",
        Convolution("conv", "data", shapes[i / 4]) +
        "layer { name: 'prelu' type: 'PReLU' bottom: 'conv' top: '" + top +
        "' prelu_param { filler { type: 'gaussian' } " + slopes[i / 2 % 2] +
        " } } layer { name: 'pool' type: 'Pooling' bottom: '" + top +
        "' top: 'pool' pooling_param { kernel_size: 2 stride: 2 } }");
    Run();
    EXPECT_TRUE(!KnowsBlocks() || IsPacked("pool"));
    ExpectEqual(1e-5);
    Again();
    ExpectEqual(1e-5);
  }
}

TEST_F(OneDnnLayersTest, PReLUOfWhatIsNotPackedIsCaffes) {
  Make("dim: 2 dim: 3 dim: 11 dim: 14",
      "layer { name: 'prelu' type: 'PReLU' bottom: 'data' top: 'prelu' "
      "prelu_param { filler { type: 'gaussian' } } }");
  Run();
  EXPECT_FALSE(IsPacked("prelu"));
  ExpectEqual(1e-5);
}

TEST_F(OneDnnLayersTest, PoolingThatOneDnnIsNotUsedForIsCaffes) {
  const char* pools[] = {"pool: AVE kernel_size: 3 stride: 2 pad: 1",
      "pool: AVE kernel_size: 2 stride: 2", "kernel_size: 1 stride: 5"};
  for (int j = 0; j < sizeof(pools) / sizeof(pools[0]); ++j) {
    SCOPED_TRACE(pools[j]);
    Make("dim: 2 dim: 3 dim: 11 dim: 14",
        Convolution("conv", "data", "num_output: 21 kernel_size: 3") + kReLU +
        "layer { name: 'pool' type: 'Pooling' bottom: 'conv' top: 'pool' "
        "pooling_param { " + pools[j] + " } }");
    Run();
    EXPECT_FALSE(IsPacked("pool"));
    ExpectEqual(1e-5);
  }
}

TEST_F(OneDnnLayersTest, NaNIsNotLost) {
  Make("dim: 1 dim: 16 dim: 6 dim: 6",
      Convolution("conv", "data", "num_output: 16 kernel_size: 1") + kReLU +
      "layer { name: 'pool' type: 'Pooling' bottom: 'conv' top: 'pool' "
      "pooling_param { kernel_size: 2 stride: 2 } }");
  Run();
  const float nan = std::numeric_limits<float>::quiet_NaN();
  Blob<float>* data = net_->blob_by_name("data").get();
  data->mutable_cpu_data()[0] = nan;  // one of a window: ignored
  for (int h = 2; h < 4; ++h) {       // all of a window: -FLT_MAX
    for (int w = 2; w < 4; ++w) {
      data->mutable_cpu_data()[h * 6 + w] = nan;
    }
  }
  Again();
  EXPECT_TRUE(IsPacked("pool"));
  const Blob<float>& conv = *net_->blob_by_name("conv");
  EXPECT_TRUE(std::isnan(conv.data_at(0, 7, 0, 0)));
  EXPECT_TRUE(std::isnan(conv.data_at(0, 7, 3, 3)));
  const Blob<float>& pool = *net_->blob_by_name("pool");
  EXPECT_EQ(-FLT_MAX, pool.data_at(0, 7, 1, 1));
  EXPECT_NEAR(stock_->blob_by_name("pool")->data_at(0, 7, 0, 0),
      pool.data_at(0, 7, 0, 0), 1e-5);
}

TEST_F(OneDnnLayersTest, DenormalsAreZeros) {
  Make("dim: 2 dim: 16 dim: 64 dim: 64",
      Convolution("conv", "data", "num_output: 16 kernel_size: 1") + kReLU);
  Run();
  Blob<float>* data = net_->blob_by_name("data").get();
  caffe_set(data->count(), 1e-39f, data->mutable_cpu_data());
  Blob<float>* weights = net_->layer_by_name("conv")->blobs()[0].get();
  Blob<float>* bias = net_->layer_by_name("conv")->blobs()[1].get();
  caffe_set(weights->count(), 1e9f, weights->mutable_cpu_data());
  caffe_set(bias->count(), 0.f, bias->mutable_cpu_data());
  Again();
  EXPECT_TRUE(IsPacked("conv"));
  EXPECT_EQ(0, net_->blob_by_name("conv")->asum_data());
  EXPECT_LT(0, stock_->blob_by_name("conv")->asum_data());
  volatile float small = 1e-39f;  // everybody else computes with them
  EXPECT_LT(0, small * 1e9f);
}

TEST_F(OneDnnLayersTest, ConcatAndSplitKeepTheOrder) {
  for (int left = 32; left > 0; left -= 27) {
    SCOPED_TRACE(left);
    Make("dim: 2 dim: 3 dim: 11 dim: 14",
        Convolution("conv", "data", "num_output: 21 kernel_size: 3") + kReLU +
        Convolution("left", "conv", "kernel_size: 1 num_output: " +
            format_int(left)) +
        Convolution("right", "conv", "kernel_size: 3 pad: 1 num_output: 48") +
        "layer { name: 'both' type: 'Concat' bottom: 'left' bottom: 'right' "
        "top: 'both' } " +
        Convolution("last", "both", "num_output: 32 kernel_size: 1"));
    Run();
    if (KnowsBlocks()) { EXPECT_EQ(left == 32, IsPacked("both")); }
    EXPECT_TRUE(!KnowsBlocks() ||
        net_->blob_by_name("conv")->diff()->packed() != NULL);
    ExpectEqual(1e-5);
  }
}

TEST_F(OneDnnLayersTest, InnerProductComputesWhatCaffesDoes) {
  const char* params[] = {"num_output: 17", "num_output: 17 bias_term: false",
      "num_output: 17 transpose: true", "num_output: 17 axis: 2"};
  for (int num = 1; num < 20; num += 6) {
    for (int i = 0; i < sizeof(params) / sizeof(params[0]); ++i) {
      SCOPED_TRACE(params[i]);
      Make("dim: " + format_int(num) + " dim: 3 dim: 11 dim: 10",
          Convolution("conv", "data", "num_output: 21 kernel_size: 3") +
          "layer { name: 'inner' type: 'InnerProduct' bottom: 'conv' "
          "top: 'inner' inner_product_param { weight_filler { "
          "type: 'gaussian' } bias_filler { type: 'gaussian' } " + params[i] +
          " } }");
      Run();
      ExpectEqual(1e-5);
    }
  }
}

static const char kTraining[] =
    "layer { name: 'relu' type: 'ReLU' bottom: 'conv' top: 'conv' } "
    "layer { name: 'pool' type: 'Pooling' bottom: 'conv' top: 'pool' "
    "  pooling_param { kernel_size: 3 stride: 2 } } "
    "layer { name: 'left' type: 'Convolution' bottom: 'pool' top: 'left' "
    "  convolution_param { num_output: 16 kernel_size: 1 "
    "  weight_filler { type: 'xavier' } } } "
    "layer { name: 'leftrelu' type: 'ReLU' bottom: 'left' top: 'left' } "
    "layer { name: 'right' type: 'Convolution' bottom: 'pool' top: 'right' "
    "  convolution_param { num_output: 24 kernel_size: 3 pad: 1 "
    "  weight_filler { type: 'xavier' } } } "
    "layer { name: 'both' type: 'Concat' bottom: 'left' bottom: 'right' "
    "  top: 'both' } "
    "layer { name: 'drop' type: 'Dropout' bottom: 'both' top: 'both' } "
    "layer { name: 'inner' type: 'InnerProduct' bottom: 'both' top: 'inner' "
    "  inner_product_param { num_output: 5 "
    "    weight_filler { type: 'xavier' } } } "
    "layer { name: 'label' type: 'DummyData' top: 'label' dummy_data_param { "
    "  shape { dim: 4 } data_filler { type: 'constant' value: 2 } } } "
    "layer { name: 'loss' type: 'SoftmaxWithLoss' bottom: 'inner' "
    "  bottom: 'label' top: 'loss' } ";

// What `steps` of training make of the parameters.
static vector<shared_ptr<Blob<float> > > Train(int steps, const char* use) {
  Environment environment(use);
  Caffe::set_random_seed(1701);
  SolverParameter param;
  *param.mutable_net_param() = Parse("dim: 4 dim: 3 dim: 19 dim: 17",
      Convolution("conv", "data", "num_output: 20 kernel_size: 3") + kTraining);
  param.set_base_lr(0.01);
  param.set_lr_policy("fixed");
  param.set_momentum(0.9);
  param.set_weight_decay(0.001);
  param.set_iter_size(2);
  param.set_random_seed(1701);
  param.set_snapshot_after_train(false);
  SGDSolver<float> solver(param);
  solver.Step(steps);
  vector<shared_ptr<Blob<float> > > params = solver.net()->params();
  return params;
}

TEST_F(OneDnnLayersTest, TrainingFollowsCaffes) {
  const vector<shared_ptr<Blob<float> > > ours = Train(10, "1");
  const vector<shared_ptr<Blob<float> > > expected = Train(10, "0");
  for (int i = 0; i < ours.size(); ++i) {
    Compare("a parameter", ours[i]->cpu_data(), expected[i]->cpu_data(),
        ours[i]->count(), 1e-3);
  }
}

static void ForwardInThread(const NetParameter* param,
    const Net<float>* master, const Blob<float>* data, Blob<float>* result) {
  Caffe::set_mode(Caffe::CPU);
  Net<float> net(*param);
  net.ShareTrainedLayersWith(master);
  for (int i = 0; i < 10; ++i) {
    net.blob_by_name("data")->CopyFrom(*data);
    net.ForwardFrom(1);
  }
  result->CopyFrom(*net.output_blobs()[0], false, true);
}

TEST_F(OneDnnLayersTest, NetsInThreadsComputeWhatTheyComputeAlone) {
  const NetParameter param = Parse("dim: 2 dim: 32 dim: 30 dim: 30",
      Convolution("conv", "data", "num_output: 32 kernel_size: 3") + kReLU);
  Make(param);
  Run();
  Blob<float> results[4];
  boost::thread_group threads;
  for (int i = 0; i < 4; ++i) {
    threads.create_thread(boost::bind(&ForwardInThread, &param, net_.get(),
        &Data(), &results[i]));
  }
  threads.join_all();
  const Blob<float>& alone = *net_->output_blobs()[0];
  for (int i = 0; i < 4; ++i) {
    Compare("a thread's result", results[i].cpu_data(), alone.cpu_data(),
        alone.count(), 0);
  }
}

}  // namespace caffe
#endif  // USE_ONEDNN
