#ifndef CAFFE_UTIL_THREAD_POOL_HPP_
#define CAFFE_UTIL_THREAD_POOL_HPP_

#include <algorithm>
#include <cstddef>

// The threads of the process that our own kernels share. OpenMP's, which oneDNN
// takes, are started at each parallel region, and all are waited for at its
// end: one that slept, or has no processor, holds up the others layer by layer,
// which made single pictures as slow as with one thread.
namespace caffe {

// The threads that may work together, the caller's included: OpenMP's number.
int pool_threads();

// For the one below, which takes any function.
void parallel_for(int count, void (*work)(const void* with, int i, int thread),
    const void* with);

/**
 * @brief Calls work(i, thread) for all i from 0 to count - 1, in the caller's
 *        thread and in those of the pool that come in time; returns when all
 *        are done. `thread`, below pool_threads(), tells apart those that work
 *        at the same time.
 *
 * Each thread begins with the same part of the whole in each call, so that it
 * finds in its cache what it wrote before, and goes on with the others' parts.
 * Threads of the pool that have nothing to do look for work for a fifth of a
 * millisecond, and let others have their processor meanwhile; then they sleep.
 * Where another thread of the process has the pool, the caller works alone.
 */
template <typename Work>
void parallel_for(int count, const Work& work) {
  parallel_for(count, [](const void* with, int i, int thread) {
    (*static_cast<const Work*>(with))(i, thread);
  }, &work);
}

/// @brief The same with parts of `length`, each of `least` at least:
///        work(begin, end).
template <typename Work>
void parallel_parts(size_t length, size_t least, const Work& work) {
  const size_t most = 4 * pool_threads();
  const int parts = std::max<size_t>(1, std::min(most, length / least));
  parallel_for(parts, [&](int i, int) {
    work(length * i / parts, length * (i + 1) / parts);
  });
}

}  // namespace caffe

#endif  // CAFFE_UTIL_THREAD_POOL_HPP_
