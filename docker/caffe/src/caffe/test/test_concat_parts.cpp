#ifdef USE_ONEDNN
#include <string>
#include <vector>

#include "gtest/gtest.h"

#include "caffe/util/format.hpp"
#include "caffe/util/onednn_parts.hpp"
#include "caffe/util/winograd.hpp"

#include "caffe/test/onednn_layers_test.hpp"

namespace caffe {

static string ReLU(const string& blob) {
  return "layer { name: 'relu_" + blob + "' type: 'ReLU' bottom: '" + blob +
      "' top: '" + blob + "' relu_param { negative_slope: 0.1 } } ";
}

static string Concat(const string& bottoms) {
  return "layer { name: 'both' type: 'Concat' " + bottoms + " top: 'both' } ";
}

// Two branches and what puts them together.
static string Fire(const string& behind = "") {
  return Convolution("squeeze", "data", "num_output: 16 kernel_size: 1") +
      Convolution("one", "squeeze", "num_output: 32 kernel_size: 1") +
      ReLU("one") +
      Convolution("three", "squeeze", "num_output: 48 kernel_size: 3 pad: 1") +
      ReLU("three") + Concat("bottom: 'one' bottom: 'three'") + behind;
}

class ConcatPartsTest : public OneDnnLayersTest {
 protected:
  void MakeForward(const string& layers, int number = 2) {
    Make(Parse("dim: " + format_int(number) + " dim: 20 dim: 19 dim: 22",
        layers, false));
    for (int i = 0; i < 2; ++i) {  // the first time it is copied
      net_->ForwardFromTo(0, 0);
      Forward();
    }
  }

  void Forward(int first = 1) {
    stock_->blob_by_name("data")->CopyFrom(Data());
    net_->ForwardFrom(first);
    stock_->ForwardFrom(first);
  }

  // What a blob is part of; NULL where it is on its own.
  const void* Whole(const string& blob) {
    const shared_ptr<onednn::PackedPart> part =
        onednn::packed_part(*net_->blob_by_name(blob));
    return part ? part->whole().get() : NULL;
  }

  // A CPU without AVX2 has convolutions that write elsewhere.
  void ExpectPart(const string& blob) {
    if (winograd::Winograd::kernels()) { EXPECT_TRUE(Whole(blob)) << blob; }
  }

  void Write(const string& name) {
    Blob<float>* ours = net_->blob_by_name(name).get();
    caffe_rng_gaussian<float>(ours->count(), 0, 1, ours->mutable_cpu_data());
    stock_->blob_by_name(name)->CopyFrom(*ours);
  }
};

TEST_F(ConcatPartsTest, BranchesAreWrittenWhereTheyBelong) {
  for (int number = 1; number <= 3; ++number) {
    MakeForward(Fire(), number);
    ExpectPart("one");
    ExpectPart("three");
    ExpectBlobs();
    const void* before = Whole("one");
    Forward();  // into the same memory
    EXPECT_EQ(before, Whole("one"));
    ExpectBlobs();
  }
}

// The first layers of GoogLeNet's modules, in other orders, and of sizes that
// no block fits.
TEST_F(ConcatPartsTest, OtherBranches) {
  const string pool = "layer { name: 'pool' type: 'Pooling' bottom: 'squeeze' "
      "top: 'pool' pooling_param { kernel_size: 3 stride: 1 pad: 1 } } ";
  const string squeeze =
      Convolution("squeeze", "data", "num_output: 16 kernel_size: 1");
  const string five =
      Convolution("five", "squeeze", "num_output: 16 kernel_size: 5 pad: 2");
  const string layers[] = {
      squeeze + pool + five + Concat("bottom: 'five' bottom: 'pool'"),
      squeeze + pool + five + Concat("bottom: 'pool' bottom: 'five'"),
      squeeze + five + Concat("bottom: 'five' bottom: 'data'"),
      squeeze + five + Concat("bottom: 'five' bottom: 'five'"),
      squeeze + five + Convolution("odd", "squeeze",
          "num_output: 9 kernel_size: 1") +
          Concat("bottom: 'five' bottom: 'odd'"),
      squeeze + Convolution("group", "squeeze",
          "num_output: 16 group: 4 kernel_size: 3 pad: 1") + five +
          Concat("bottom: 'five' bottom: 'group'"),
      Fire() + "layer { name: 'sum' type: 'Eltwise' bottom: 'both' "
          "bottom: 'both' top: 'sum' } "};
  for (const string& example : layers) {
    SCOPED_TRACE(example);
    MakeForward(example);
    for (int i = 0; i < 3; ++i) {
      ExpectBlob(net_->blob_names().back());
      net_->ForwardFromTo(0, 0);
      Forward();
    }
    ExpectBlobs();
  }
}

// Whatever is asked for first, and whatever is written behind.
TEST_F(ConcatPartsTest, WhatStandsBehindChangesNoBranch) {
  const string behind[] = {
      "layer { name: 'last' type: 'ReLU' bottom: 'both' top: 'both' } ",
      "layer { name: 'last' type: 'BatchNorm' bottom: 'both' top: 'both' } "
      "layer { name: 'drop' type: 'Dropout' bottom: 'both' top: 'both' } ",
      Convolution("last", "both", "num_output: 16 kernel_size: 3") +
          Convolution("more", "last", "num_output: 16 kernel_size: 1") +
          "layer { name: 'sum' type: 'Eltwise' bottom: 'more' bottom: 'last' "
          "top: 'sum' } "};
  for (const string& layers : behind) {
    SCOPED_TRACE(layers);
    MakeForward(Fire(layers));
    ExpectPart("one");
    ExpectBlob("both");
    ExpectBlobs();
    for (int i = 0; i < 3; ++i) {
      net_->ForwardFromTo(0, 0);
      Forward();
    }
    ExpectBlob("three");
    ExpectBlobs();
    Write("both");
    ExpectBlobs();
  }
}

TEST_F(ConcatPartsTest, PartsOfAPass) {
  MakeForward(Fire());
  const char* layers[] = {"one", "relu_one", "three", "relu_three", "both"};
  for (const char* first : layers) {
    for (const char* last : layers) {
      if (Index(first) > Index(last)) { continue; }
      SCOPED_TRACE(first + string(" to ") + last);
      Write("squeeze");
      net_->ForwardFromTo(Index(first), Index(last));
      stock_->ForwardFromTo(Index(first), Index(last));
      ExpectBlob("both");
      ExpectBlobs();
      net_->ForwardFromTo(Index(first), Index(last));
      stock_->ForwardFromTo(Index(first), Index(last));
      net_->ForwardFrom(Index("three"));
      stock_->ForwardFrom(Index("three"));
      ExpectBlobs();
    }
  }
}

TEST_F(ConcatPartsTest, BranchesThatAreWrittenAndKept) {
  MakeForward(Fire());
  Write("one");
  ExpectBlobs();
  net_->ForwardFrom(Index("three"));
  stock_->ForwardFrom(Index("three"));
  ExpectBlobs();
  for (const char* name : {"one", "three", "both"}) {
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
    ExpectBlobs();
  }
}

// What somebody still reads stays as it was.
TEST_F(ConcatPartsTest, ValuesThatAreHeldDoNotChange) {
  MakeForward(Fire());
  for (const char* name : {"one", "both"}) {
    const Blob<float>& blob = *net_->blob_by_name(name);
    const shared_ptr<PackedValues> held = blob.data()->packed();
    const vector<float> before(blob.cpu_data(), blob.cpu_data() + blob.count());
    for (int i = 0; i < 2; ++i) {
      net_->ForwardFromTo(0, 0);
      Forward();
      vector<float> now(blob.count());
      held->Unpack(now.data());
      EXPECT_EQ(before, now);
      EXPECT_NE(before[0], blob.cpu_data()[0]);
      ExpectBlobs();
    }
  }
}

TEST_F(ConcatPartsTest, OtherSizes) {
  MakeForward(Fire());
  for (int number = 4; number > 0; --number) {
    Resize(number, 20, 16 + number, 20);
    for (int i = 0; i < 3; ++i) {
      Forward();
      ExpectBlobs();
    }
    ExpectPart("three");
  }
}

TEST_F(ConcatPartsTest, NotWhereNetsComputeBackward) {
  Make(Parse("dim: 2 dim: 20 dim: 9 dim: 11", Fire()));
  for (int i = 0; i < 3; ++i) {
    Run();
    EXPECT_FALSE(Whole("one"));
    ExpectEqual(2e-5);
  }
}

}  // namespace caffe
#endif  // USE_ONEDNN
