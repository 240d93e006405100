#include <algorithm>
#include <atomic>  // NOLINT(build/c++11)
#include <thread>  // NOLINT(build/c++11)
#include <vector>

#include "gtest/gtest.h"

#include "caffe/blob.hpp"
#include "caffe/common.hpp"
#include "caffe/syncedmem.hpp"

#include "caffe/test/test_caffe_main.hpp"

namespace caffe {

// Values in reverse order.
struct Reversed : public PackedValues {
  explicit Reversed(const vector<float>& values)
      : reversed(values.rbegin(), values.rend()), unpacked(0) {}
  virtual void Unpack(void* plain) const {
    std::copy(reversed.rbegin(), reversed.rend(), static_cast<float*>(plain));
    ++unpacked;
  }
  const vector<float> reversed;
  mutable int unpacked;  // how often
};

class PackedValuesTest : public ::testing::Test {
 protected:
  PackedValuesTest() : blob_(vector<int>(1, 3)) {
    const float values[] = {1, 2, 3};
    packed_.reset(new Reversed(vector<float>(values, values + 3)));
  }
  const shared_ptr<SyncedMemory>& values() { return blob_.data(); }

  Blob<float> blob_;
  shared_ptr<Reversed> packed_;
};

TEST_F(PackedValuesTest, AreUnpackedOnceAndStayPacked) {
  values()->set_packed(packed_);
  EXPECT_EQ(0, packed_->unpacked);
  EXPECT_EQ(2, blob_.cpu_data()[1]);
  EXPECT_EQ(3, blob_.cpu_data()[2]);
  EXPECT_EQ(1, packed_->unpacked);
  EXPECT_EQ(packed_, values()->packed());
}

TEST_F(PackedValuesTest, WhoWritesPlainValuesSeesThePackedOnesFirst) {
  values()->set_packed(packed_);
  blob_.mutable_cpu_data()[0] = 9;
  EXPECT_EQ(9, blob_.cpu_data()[0]);
  EXPECT_EQ(2, blob_.cpu_data()[1]);
  EXPECT_FALSE(values()->packed());
  EXPECT_EQ(packed_, values()->packed_buffer());
}

TEST_F(PackedValuesTest, NewPackedValuesReplacePlainOnes) {
  blob_.mutable_cpu_data()[0] = 9;
  values()->set_packed(packed_);
  EXPECT_EQ(1, blob_.cpu_data()[0]);
}

TEST_F(PackedValuesTest, WhoseMemoryIsReplacedAreGone) {
  float other[] = {7, 8, 9};
  values()->set_packed(packed_);
  blob_.set_cpu_data(other);
  EXPECT_EQ(7, blob_.cpu_data()[0]);
  EXPECT_FALSE(values()->packed());
}

TEST_F(PackedValuesTest, APinnedPointerShowsThemAtOnce) {
  const float* pointer = static_cast<float*>(values()->pin_cpu_data());
  values()->set_packed(packed_);
  EXPECT_EQ(3, pointer[2]);
  EXPECT_FALSE(values()->packed());
  values()->unpin();
  values()->set_packed(packed_);
  EXPECT_EQ(packed_, values()->packed());
}

TEST_F(PackedValuesTest, TheVersionTellsWhatMayHaveChanged) {
  size_t version = values()->version();
  blob_.cpu_data();
  EXPECT_EQ(version, values()->version());
  blob_.mutable_cpu_data();
  EXPECT_LT(version, values()->version());
  version = values()->version();
  values()->set_packed(packed_);
  EXPECT_LT(version, values()->version());
  values()->pin_cpu_data();
  version = values()->version();
  values()->unpin();
  EXPECT_LT(version, values()->version());
}

TEST_F(PackedValuesTest, AreSharedAndCopiedLikeAnyOther) {
  values()->set_packed(packed_);
  Blob<float> shared(vector<int>(1, 3)), copy(vector<int>(1, 3));
  shared.ShareData(blob_);
  copy.CopyFrom(blob_);
  EXPECT_EQ(packed_, shared.data()->packed());
  EXPECT_EQ(3, copy.cpu_data()[2]);
}

TEST_F(PackedValuesTest, OthersReadWhileOneWrites) {
  std::atomic<bool> done(false);
  std::thread reader([&] {
    while (!done) {
      static_cast<const float*>(values()->cpu_data());
      values()->pin_cpu_data();
      values()->unpin();
    }
  });
  for (int i = 0; i < 100000; ++i) {
    const vector<float> all(3, i);
    values()->set_packed(shared_ptr<PackedValues>(new Reversed(all)));
    EXPECT_EQ(i, blob_.cpu_data()[2]);
  }
  done = true;
  reader.join();
}

}  // namespace caffe
