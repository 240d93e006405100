#ifndef CAFFE_TEST_ONEDNN_LAYERS_TEST_HPP_
#define CAFFE_TEST_ONEDNN_LAYERS_TEST_HPP_
#ifdef USE_ONEDNN

#include <google/protobuf/text_format.h>

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <string>
#include <vector>

#include "gtest/gtest.h"

#include "caffe/net.hpp"
#include "caffe/util/math_functions.hpp"
#include "caffe/util/winograd.hpp"

#include "caffe/test/test_caffe_main.hpp"

namespace caffe {

// CAFFE_ONEDNN as long as this lives.
class Environment {
 public:
  explicit Environment(const char* value) {
    const char* before = getenv("CAFFE_ONEDNN");
    had_ = before != NULL;
    before_ = had_ ? before : "";
    setenv("CAFFE_ONEDNN", value, 1);
  }
  ~Environment() {
    if (had_) {
      setenv("CAFFE_ONEDNN", before_.c_str(), 1);
    } else {
      unsetenv("CAFFE_ONEDNN");
    }
  }

 private:
  bool had_;
  string before_;
};

// A net from its layers; a data layer of noise, N x C x H x W, stands before.
inline NetParameter Parse(const string& shape, const string& layers,
    bool backward = true) {
  NetParameter net;
  CHECK(google::protobuf::TextFormat::ParseFromString(
      string(backward ? "force_backward: true " : "") +
      "layer { name: 'data' type: 'DummyData' top: 'data' dummy_data_param { "
      "shape { " + shape + " } data_filler { type: 'gaussian' } } } " + layers,
      &net));
  return net;
}

inline string Convolution(const string& name, const string& bottom,
    const string& more) {
  return "layer { name: '" + name + "' type: 'Convolution' bottom: '" + bottom +
      "' top: '" + name + "' convolution_param { weight_filler { "
      "type: 'gaussian' std: 0.1 } bias_filler { type: 'gaussian' } " + more +
      " } } ";
}

// The same net twice, with oneDNN and without, on the same numbers.
class OneDnnLayersTest : public CPUDeviceTest<float> {
 protected:
  OneDnnLayersTest() : on_("1") { Caffe::set_random_seed(1701); }

  void Make(const NetParameter& param) {
    net_.reset(new Net<float>(param));
    Environment off("0");
    stock_.reset(new Net<float>(param));
    stock_->ShareTrainedLayersWith(net_.get());
  }

  void Make(const string& shape, const string& layers) {
    Make(Parse(shape, layers));
  }

  const Blob<float>& Data() { return *net_->blob_by_name("data"); }

  // Noise of another shape.
  void Resize(int number, int channels, int height, int width) {
    Blob<float>* data = net_->blob_by_name("data").get();
    data->Reshape(number, channels, height, width);
    caffe_rng_gaussian<float>(data->count(), 0, 1, data->mutable_cpu_data());
    stock_->blob_by_name("data")->CopyFrom(*data, false, true);
  }

  // Runs both nets forward and backward from the same data, and from a last
  // diff of noise where it is no loss.
  void Run() {
    net_->ForwardFromTo(0, 0);
    Again();
  }

  void Again() {
    stock_->blob_by_name("data")->CopyFrom(Data());
    net_->ForwardFrom(1);
    stock_->ForwardFrom(1);
    Blob<float>* last = net_->output_blobs()[0];
    if (last->count() > 1) {
      caffe_rng_gaussian<float>(last->count(), 0, 1, last->mutable_cpu_diff());
      caffe_copy(last->count(), last->cpu_diff(),
          stock_->output_blobs()[0]->mutable_cpu_diff());
    }
    net_->ClearParamDiffs();
    stock_->ClearParamDiffs();
    net_->Backward();
    stock_->Backward();
  }

  // Every blob and every parameter's diff is what it is without oneDNN.
  void ExpectEqual(float tolerance) {
    for (int i = 0; i < net_->blobs().size(); ++i) {
      const string& name = net_->blob_names()[i];
      Compare(name, net_->blobs()[i]->cpu_data(),
          stock_->blobs()[i]->cpu_data(), net_->blobs()[i]->count(), tolerance);
      Compare(name + "'s diff", net_->blobs()[i]->cpu_diff(),
          stock_->blobs()[i]->cpu_diff(), net_->blobs()[i]->count(), tolerance);
    }
    for (int i = 0; i < net_->params().size(); ++i) {
      Compare("a parameter's diff", net_->params()[i]->cpu_diff(),
          stock_->params()[i]->cpu_diff(), net_->params()[i]->count(),
          tolerance);
    }
  }

  // A blob's data is what it is without oneDNN.
  void ExpectBlob(const string& name, float tolerance = 2e-5) {
    const Blob<float>& blob = *net_->blob_by_name(name);
    Compare(name, blob.cpu_data(), stock_->blob_by_name(name)->cpu_data(),
        blob.count(), tolerance);
  }

  void ExpectBlobs(float tolerance = 2e-5) {
    for (const string& name : net_->blob_names()) {
      ExpectBlob(name, tolerance);
    }
  }

  // Differences are measured in the largest value.
  static void Compare(const string& what, const float* ours,
      const float* expected, int count, float tolerance) {
    float largest = 0, difference = 0;
    for (int i = 0; i < count; ++i) {
      largest = std::max(largest, std::fabs(expected[i]));
      difference = std::max(difference, std::fabs(ours[i] - expected[i]));
    }
    EXPECT_LE(difference, tolerance * largest) << what;
  }

  // Whether convolutions of any number of channels are computed in blocks on
  // this CPU, as far as ONEDNN_MAX_CPU_ISA allows. Without AVX oneDNN leaves
  // some to us, in Caffe's order.
  static bool KnowsBlocks() { return winograd::Winograd::kernels() != NULL; }

  int Index(const string& layer) {
    const vector<string>& names = net_->layer_names();
    return std::find(names.begin(), names.end(), layer) - names.begin();
  }

  // Whether a blob's values are in oneDNN's order.
  bool IsPacked(const string& blob) {
    return net_->blob_by_name(blob)->data()->packed() != NULL;
  }

  Environment on_;
  shared_ptr<Net<float> > net_, stock_;
};

}  // namespace caffe

#endif  // USE_ONEDNN
#endif  // CAFFE_TEST_ONEDNN_LAYERS_TEST_HPP_
