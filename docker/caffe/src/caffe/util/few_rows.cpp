#ifdef USE_ONEDNN
#include "caffe/util/few_rows.hpp"

#include <algorithm>

#include <oneapi/dnnl/dnnl.hpp>

#include "caffe/util/thread_pool.hpp"

namespace caffe {

static const int kMostRows = 16;
static const int kStep = 1024;  // of B's columns: what is at work stays in L1

// Adds to sums[0..3] and sums[4..7] the dot products of two rows of A with four
// of B, over `count` columns.
typedef void Dots(const float* const* a, const float* const* b, int count,
    float* sums);

__attribute__((always_inline)) static inline void dots(const float* const* a,
    const float* const* b, int count, float* sums) {
  const float *x = a[0], *y = a[1];
  const float *b0 = b[0], *b1 = b[1], *b2 = b[2], *b3 = b[3];
  float x0 = 0, x1 = 0, x2 = 0, x3 = 0, y0 = 0, y1 = 0, y2 = 0, y3 = 0;
#pragma omp simd reduction(+ : x0, x1, x2, x3, y0, y1, y2, y3)
  for (int k = 0; k < count; ++k) {
    x0 += x[k] * b0[k];
    x1 += x[k] * b1[k];
    x2 += x[k] * b2[k];
    x3 += x[k] * b3[k];
    y0 += y[k] * b0[k];
    y1 += y[k] * b1[k];
    y2 += y[k] * b2[k];
    y3 += y[k] * b3[k];
  }
  const float found[] = {x0, x1, x2, x3, y0, y1, y2, y3};
  for (int i = 0; i < 8; ++i) { sums[i] += found[i]; }
}

static void dots_anywhere(const float* const* a, const float* const* b,
    int count, float* sums) {
  dots(a, b, count, sums);
}

#ifdef __x86_64__
__attribute__((target("avx2,fma"))) static void dots_avx2(
    const float* const* a, const float* const* b, int count, float* sums) {
  dots(a, b, count, sums);
}

__attribute__((target("avx512f,fma,prefer-vector-width=512")))
static void dots_avx512(const float* const* a, const float* const* b,
    int count, float* sums) {
  dots(a, b, count, sums);
}
#endif

// For this CPU, as far as ONEDNN_MAX_CPU_ISA allows. A set of instructions has
// the bits of all those that it includes: CPUs that have yet to come, too.
static Dots* dots_here() {
#ifdef __x86_64__
  const int here = static_cast<int>(dnnl::get_effective_cpu_isa());
  const int avx512 = static_cast<int>(dnnl::cpu_isa::avx512_core);
  const int avx2 = static_cast<int>(dnnl::cpu_isa::avx2);
  if ((here & avx512) == avx512) { return dots_avx512; }
  if ((here & avx2) == avx2) { return dots_avx2; }
#endif
  return dots_anywhere;
}

bool few_rows_pay(int M, int N, int K) {
  return M <= kMostRows && N >= 4 && K >= kStep;
}

void few_rows_multiply(int M, int N, int K, const float* A, const float* B,
    bool add, float* result) {
  Dots* const dots = dots_here();
  parallel_for((N + 3) / 4, [&](int i, int) {
    const int n = 4 * i;
    float sums[kMostRows / 2][8] = {};
    for (int k = 0; k < K; k += kStep) {
      const float* b[4];  // the last four rows may hold one more than once
      for (int j = 0; j < 4; ++j) {
        b[j] = B + static_cast<size_t>(std::min(n + j, N - 1)) * K + k;
      }
      for (int m = 0; m < M; m += 2) {
        const float* a[] = {A + static_cast<size_t>(m) * K + k,
            A + static_cast<size_t>(std::min(m + 1, M - 1)) * K + k};
        dots(a, b, std::min(kStep, K - k), sums[m / 2]);
      }
    }
    for (int m = 0; m < M; ++m) {
      for (int j = 0; j < std::min(4, N - n); ++j) {
        float* to = result + static_cast<size_t>(m) * N + n + j;
        *to = sums[m / 2][m % 2 * 4 + j] + (add ? *to : 0);
      }
    }
  });
}

}  // namespace caffe
#endif  // USE_ONEDNN
