#include <pthread.h>
#include <signal.h>
#include <sys/time.h>

#include <atomic>
#include <vector>

#include "gtest/gtest.h"

#include "caffe/common.hpp"
#include "caffe/util/signals_wait.hpp"
#ifdef USE_ONEDNN
#include "caffe/util/onednn.hpp"
#include "caffe/util/thread_pool.hpp"
#endif

#include "caffe/test/test_caffe_main.hpp"

namespace caffe {

static std::atomic<int> handled;

static void handle(int) { ++handled; }

// SIGALRM is counted.
class SignalsWaitTest : public ::testing::Test {
 protected:
  SignalsWaitTest() {
    handled = 0;
    struct sigaction how = {};
    how.sa_handler = handle;
    how.sa_flags = SA_RESTART;
    sigaction(SIGALRM, &how, &before_);
  }
  virtual ~SignalsWaitTest() {
    Every(0);
    sigaction(SIGALRM, &before_, NULL);
  }

  // Sends one every so many microseconds; 0: no more.
  static void Every(int microseconds) {
    const itimerval timer = {{0, microseconds}, {0, microseconds}};
    setitimer(ITIMER_REAL, &timer, NULL);
  }

  static bool Blocked(int signal) {
    sigset_t now;
    pthread_sigmask(SIG_BLOCK, NULL, &now);
    return sigismember(&now, signal);
  }

 private:
  struct sigaction before_;
};

TEST_F(SignalsWaitTest, TestWaits) {
  {
    const SignalsWait wait;
    pthread_kill(pthread_self(), SIGALRM);
    EXPECT_EQ(0, handled);
    EXPECT_TRUE(Blocked(SIGTERM));
    EXPECT_FALSE(Blocked(SIGSEGV));
    { const SignalsWait inner; }
    EXPECT_TRUE(Blocked(SIGTERM));
    EXPECT_EQ(0, handled);
  }
  EXPECT_EQ(1, handled);
  EXPECT_FALSE(Blocked(SIGTERM));
}

#ifdef USE_ONEDNN
TEST_F(SignalsWaitTest, TestThreadsOfThePool) {
  std::atomic<int> wrong(0);
  for (int i = 0; i < 100; ++i) {
    parallel_for(8, [&](int, int thread) {
      if (Blocked(SIGTERM) != (thread > 0)) { ++wrong; }
    });
  }
  EXPECT_EQ(0, wrong);
}

// Products of many shapes, with whatever they leave on the heap.
TEST_F(SignalsWaitTest, TestProducts) {
  const int kSizes[] = {2, 20, 32, 64, 300, 2048};
  Every(100);
  for (int round = 0; handled < 500; ++round) {
    const int M = kSizes[round % 5], N = kSizes[(round / 5) % 5];
    const int K = kSizes[round % 6];
    for (int transposes = 0; transposes < 4; ++transposes) {
      const vector<float> A(M * K, 0.5), B(K * N, 2);
      vector<float> product(M * N, 1);
      onednn::multiply(transposes & 1 ? 'T' : 'N', transposes & 2 ? 'T' : 'N',
          M, N, K, A.data(), B.data(), true, product.data());
      for (float value : product) { ASSERT_EQ(K + 1, value); }
    }
  }
}
#endif  // USE_ONEDNN

}  // namespace caffe
