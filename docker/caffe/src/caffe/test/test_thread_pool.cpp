#ifdef USE_ONEDNN
#include <dlfcn.h>
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <stdexcept>
#include <thread>  // NOLINT(build/c++11)
#include <vector>

#include "gtest/gtest.h"

#include "caffe/common.hpp"
#include "caffe/util/thread_pool.hpp"

#include "caffe/test/test_caffe_main.hpp"

namespace caffe {

typedef std::atomic<int> Counter;

class ThreadPoolTest : public ::testing::Test {
 protected:
  ThreadPoolTest() : before_(pool_threads()) { SetThreads(3); }
  virtual ~ThreadPoolTest() { SetThreads(before_); }

  // Upstream's test program is not linked with OpenMP.
  static void SetThreads(int threads) {
    reinterpret_cast<void (*)(int)>(
        dlsym(RTLD_DEFAULT, "omp_set_num_threads"))(threads);
  }

  // Whether each i is computed once, and no two at a time by the same thread.
  static bool Right(int count) {
    vector<Counter> times(count), at_work(pool_threads());
    Counter wrong(0);
    parallel_for(count, [&](int i, int thread) {
      if (at_work[thread]++ > 0) { ++wrong; }
      ++times[i];
      if (i % 7 == 0) { std::this_thread::yield(); }
      --at_work[thread];
    });
    for (const Counter& one : times) { wrong += one != 1; }
    return wrong == 0;
  }

  const int before_;
};

TEST_F(ThreadPoolTest, TestEachOnce) {
  for (int round = 0; round < 300; ++round) {
    ASSERT_TRUE(Right(round % 50));
  }
}

TEST_F(ThreadPoolTest, TestAfterSleep) {
  for (int round = 0; round < 50; ++round) {
    usleep(1000);  // its threads look for work for a fifth of that
    ASSERT_TRUE(Right(50));
  }
}

TEST_F(ThreadPoolTest, TestWorksTogether) {
  Counter came(0);
  parallel_for(2, [&](int, int) {
    ++came;
    while (came < 2) { std::this_thread::yield(); }  // for the other one
  });
  EXPECT_EQ(2, came);
}

TEST_F(ThreadPoolTest, TestParts) {
  for (size_t length : {0, 1, 9, 10, 1000}) {
    vector<Counter> times(length);
    parallel_parts(length, 10, [&](size_t begin, size_t end) {
      EXPECT_TRUE(end - begin >= 10 || end - begin == length);
      for (size_t i = begin; i < end; ++i) { ++times[i]; }
    });
    for (const Counter& one : times) { EXPECT_EQ(1, one); }
  }
}

TEST_F(ThreadPoolTest, TestSeveralCallers) {
  Counter wrong(0);
  vector<std::thread> callers;
  for (int i = 0; i < 3; ++i) {
    callers.emplace_back([&] {
      SetThreads(3);
      for (int round = 0; round < 100; ++round) { wrong += !Right(20); }
    });
  }
  for (std::thread& caller : callers) { caller.join(); }
  EXPECT_EQ(0, wrong);
}

TEST_F(ThreadPoolTest, TestNested) {
  Counter sum(0);
  parallel_for(10, [&](int, int) {
    parallel_for(10, [&](int i, int) { sum += i; });
  });
  EXPECT_EQ(450, sum);
}

TEST_F(ThreadPoolTest, TestThrows) {
  EXPECT_THROW(parallel_for(20, [](int i, int) {
    if (i == 10) { throw std::runtime_error("ten"); }
  }), std::runtime_error);
  EXPECT_TRUE(Right(20));
}

TEST_F(ThreadPoolTest, TestForked) {
  ASSERT_TRUE(Right(20));
  const pid_t child = fork();
  if (child == 0) { _exit(Right(20) && Right(20) ? 0 : 1); }
  int status = -1;
  waitpid(child, &status, 0);
  EXPECT_EQ(0, status);
  EXPECT_TRUE(Right(20));
}

}  // namespace caffe
#endif  // USE_ONEDNN
