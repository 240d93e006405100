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
#include <memory>
#include <mutex>  // NOLINT(build/c++11)
#include <system_error>
#include <thread>  // NOLINT(build/c++11)
#include <vector>

#include "caffe/common.hpp"
#include "caffe/util/signals_wait.hpp"

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

// Lets a sleeping thread be woken elsewhere than on the processor of who wakes
// it, if it may run on others. Linux would take an idle one, but between
// virtual processors it often sees none: those that halt look as if their host
// had taken them away. Then both share one for a whole pass of a small net.
class WokenElsewhere {
 public:
  explicit WokenElsewhere(pid_t thread) : thread_(thread) {
    const int here = sched_getcpu();
    moved_ = thread > 0 && here >= 0 && here < CPU_SETSIZE
        && sched_getaffinity(thread, sizeof(allowed_), &allowed_) == 0;
    if (!moved_) { return; }
    cpu_set_t others = allowed_;
    CPU_CLR(here, &others);
    moved_ = CPU_COUNT(&others) > 0
        && sched_setaffinity(thread, sizeof(others), &others) == 0;
  }
  // It has its place by now, and may leave it again.
  ~WokenElsewhere() {
    if (moved_) { sched_setaffinity(thread_, sizeof(allowed_), &allowed_); }
  }

 private:
  const pid_t thread_;
  bool moved_;
  cpu_set_t allowed_;

  DISABLE_COPY_AND_ASSIGN(WokenElsewhere);
};

// What parallel_for is to do. Each thread has a part of it, and when that is
// done, or given away, those of the others.
struct Job {
  Job(int count, int threads, void (*work)(const void*, int, int),
      const void* with) : count(count), threads(threads), work(work),
      with(with),
#ifdef __SSE2__
      float_settings(_mm_getcsr()),
#endif
      parts(threads), failed(0) {
    for (int i = 0; i < threads; ++i) { parts[i].next = Begin(i); }
  }

  int Begin(int part) const {
    return static_cast<int64_t>(count) * part / threads;
  }

  void Join(int thread) {
    if (thread >= threads) { return; }
#ifdef __SSE2__
    _mm_setcsr(float_settings);
#endif
    try {
      for (int k = 0; k < threads; ++k) {
        const int part = (thread + k) % threads, end = Begin(part + 1);
        for (int i; (i = parts[part].next++) < end;) { work(with, i, thread); }
      }
    } catch (...) {
      if (failed++ == 0) { error = std::current_exception(); }
    }
  }

  struct Part {
    Word next;
    char line[60];  // of the cache: for each its own
  };

  const int count, threads;
  void (*const work)(const void*, int, int);
  const void* const with;
#ifdef __SSE2__
  const unsigned float_settings;  // all compute as the caller does
#endif
  std::vector<Part> parts;
  Word failed;
  std::exception_ptr error;  // the first
};

// Whoever has `busy` may give it one job at a time.
class Pool {
 public:
  Pool() : job_(NULL), round_(0), idle_(0), inside_(0), leaving_(0), size_(0) {
    busy.clear();
  }

  void Run(Job* job) {
    Grow(job->threads - 1);
    job_ = job;
    ++round_;
    if (idle_ > 0) {  // any of them, or those that may take part
      Wake(size_ < job->threads ? job->count - 1 : size_);
    }
    job->Join(0);
    job_ = NULL;  // who comes now is too late
    for (int inside; (inside = inside_) > 0;) {
      wait_while(&inside_, inside, &leaving_);
    }
  }

  std::atomic_flag busy;

 private:
  void Grow(int wanted) {
    if (size_ >= wanted) { return; }
    const SignalsWait not_theirs;
    try {
      for (; size_ < wanted; ++size_) {
        const int thread = size_ + 1;
        if (numbers_.size() < thread) { numbers_.emplace_back(new Word(0)); }
        Word* const number = numbers_.back().get();
        std::thread([this, thread, number] { Work(thread, number); }).detach();
      }
    } catch (const std::system_error&) {
      LOG_FIRST_N(WARNING, 1) << "No thread to spare: there are " << size_;
    }
  }

  void Wake(int threads) {
    std::vector<std::unique_ptr<WokenElsewhere> > elsewhere;
    for (const auto& number : numbers_) {
      elsewhere.emplace_back(new WokenElsewhere(*number));
    }
    wake(&round_, threads);
  }

  // What a thread of the pool does. It says that it is inside before it looks
  // for the job, which is there until nobody is.
  void Work(int thread, Word* number) {
    *number = syscall(SYS_gettid);
    for (;;) {
      const int round = round_;
      ++inside_;
      Job* const job = job_;
      if (job) { job->Join(thread); }
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
  std::vector<std::unique_ptr<Word> > numbers_;  // Linux's, of the threads
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
  const int threads = count > 1 ? pool_threads() : 1;
  if (threads > 1 && !the_pool().busy.test_and_set()) {
    Job job(count, threads, work, with);
    the_pool().Run(&job);
    the_pool().busy.clear();
    if (job.error) { std::rethrow_exception(job.error); }
  } else {
    for (int i = 0; i < count; ++i) { work(with, i, 0); }
  }
}

}  // namespace caffe
#endif  // USE_ONEDNN
