#ifdef USE_ONEDNN
#include "caffe/util/thread_pool.hpp"

#include <linux/futex.h>
#include <omp.h>
#include <pthread.h>
#include <sched.h>
#include <sys/syscall.h>
#include <unistd.h>
#ifdef __SSE2__
#include <xmmintrin.h>
#endif

#include <atomic>
#include <chrono>  // NOLINT(build/c++11)
#include <exception>
#include <mutex>  // NOLINT(build/c++11)
#include <system_error>
#include <thread>  // NOLINT(build/c++11)

#include "caffe/common.hpp"

namespace caffe {

typedef std::atomic<int> Word;
typedef std::chrono::steady_clock Clock;

static const std::chrono::microseconds kPatience(200);

static void sleep_while(Word* word, int value) {
  syscall(SYS_futex, word, FUTEX_WAIT_PRIVATE, value, NULL, NULL, 0);
}

static void wake(Word* word, int threads) {
  syscall(SYS_futex, word, FUTEX_WAKE_PRIVATE, threads, NULL, NULL, 0);
}

// Waits while the word has this value: awake at first, without taking the
// processor from anybody, and then asleep. `asleep` counts those that sleep, or
// are about to, and have to be woken.
static void wait_while(Word* word, int value, Word* asleep) {
  const Clock::time_point end = Clock::now() + kPatience;
  do {
    for (int i = 0; i < 32; ++i) {
      if (*word != value) { return; }
#ifdef __SSE2__
      _mm_pause();
#endif
    }
    sched_yield();
  } while (Clock::now() < end);
  ++*asleep;
  while (*word == value) { sleep_while(word, value); }
  --*asleep;
}

// What parallel_for is to do.
struct Job {
  Job(int count, int most, void (*work)(const void*, int, int),
      const void* with) : count(count), most(most), work(work), with(with),
#ifdef __SSE2__
      float_settings(_mm_getcsr()),
#endif
      next(0), threads(0), failed(0) {}

  void Join() {
    const int thread = threads++;
    if (thread >= most) { return; }
#ifdef __SSE2__
    _mm_setcsr(float_settings);
#endif
    try {
      for (int i; (i = next++) < count;) { work(with, i, thread); }
    } catch (...) {
      if (failed++ == 0) { error = std::current_exception(); }
    }
  }

  const int count, most;
  void (*const work)(const void*, int, int);
  const void* const with;
#ifdef __SSE2__
  const unsigned float_settings;  // all compute as the caller does
#endif
  Word next, threads, failed;
  std::exception_ptr error;  // the first
};

// Whoever has `busy` may give it one job at a time.
class Pool {
 public:
  Pool() : job_(NULL), round_(0), idle_(0), inside_(0), leaving_(0), size_(0) {
    busy.clear();
  }

  void Run(Job* job) {
    Grow(job->most - 1);
    job_ = job;
    ++round_;
    if (idle_ > 0) { wake(&round_, job->most - 1); }
    job->Join();
    job_ = NULL;  // who comes now is too late
    for (int inside; (inside = inside_) > 0;) {
      wait_while(&inside_, inside, &leaving_);
    }
  }

  std::atomic_flag busy;

 private:
  void Grow(int wanted) {
    try {
      for (; size_ < wanted; ++size_) {
        std::thread([this] { Work(); }).detach();
      }
    } catch (const std::system_error&) {
      LOG_FIRST_N(WARNING, 1) << "No thread to spare: there are " << size_;
    }
  }

  // What a thread of the pool does. It says that it is inside before it looks
  // for the job, which is there until nobody is.
  void Work() {
    for (;;) {
      const int round = round_;
      ++inside_;
      Job* const job = job_;
      if (job) { job->Join(); }
      --inside_;
      if (leaving_ > 0) { wake(&inside_, 1); }
      wait_while(&round_, round, &idle_);
    }
  }

  std::atomic<Job*> job_;
  Word round_;   // changes with each job
  Word idle_;    // threads that sleep until it does
  Word inside_;  // threads that may be at work
  Word leaving_;  // whether the caller sleeps until that changes
  int size_;
};

// Its threads are there until the process ends, and so is it. A process that is
// forked has none of them: it begins with a new one.
static Pool* pool;

static void make_pool() { pool = new Pool; }

static Pool& the_pool() {
  static std::once_flag once;
  std::call_once(once, [] {
    make_pool();
    pthread_atfork(NULL, NULL, make_pool);
  });
  return *pool;
}

int pool_threads() {
  return omp_get_max_threads();
}

void parallel_for(int count, void (*work)(const void* with, int i, int thread),
    const void* with) {
  Job job(count, std::min(count, pool_threads()), work, with);
  if (job.most > 1 && !the_pool().busy.test_and_set()) {
    the_pool().Run(&job);
    the_pool().busy.clear();
  } else {
    job.Join();
  }
  if (job.error) { std::rethrow_exception(job.error); }
}

}  // namespace caffe
#endif  // USE_ONEDNN
