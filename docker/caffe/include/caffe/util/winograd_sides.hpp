#ifndef CAFFE_UTIL_WINOGRAD_SIDES_HPP_
#define CAFFE_UTIL_WINOGRAD_SIDES_HPP_

#include <cstddef>

#include "caffe/util/vectors.hpp"

// The transforms of Winograd's convolution, of vectors. Points of the
// polynomials are 0, 3/4, -3/4, 3/2, -3/2 and infinity: exact in binary, and
// they round a fifth as much as 0, 1, -1, 2, -2 of the paper do. A tile of
// outputs is Y = A' [(G g G') . (B' d B)] A, for
//
//   B' = 1.265625   0       -2.8125  0       1    0     G = 1/N0  0     0
//        0         -1.6875  -2.25    0.75    1    0         1/Na  a/Na  aa/Na
//        0          1.6875  -2.25   -0.75    1    0         1/Na -a/Na  aa/Na
//        0         -0.84375 -0.5625  1.5     1    0         1/Nb  b/Nb  bb/Nb
//        0          0.84375 -0.5625 -1.5     1    0         1/Nb -b/Nb  bb/Nb
//        0          1.265625 0      -2.8125  0    1         0     0     1
//
//   A' = 1  1    1    1    1    0
//        0  a   -a    b   -b    0
//        0  aa   aa   bb   bb   0
//        0  aaa -aaa  bbb -bbb  1
//
// with a = 3/4, b = 3/2, N0 = aabb, Na = 2aa(aa - bb), Nb = 2bb(bb - aa). The
// same points do for filters of 4 x 4 and tiles of 3 x 3: then G has a column
// more, aaa/Na and so on, and A' a row less, the last with infinity's 1.
namespace caffe {
namespace winograd {

const float kA = 0.75f, kB = 1.5f;
const float kAA = kA * kA, kBB = kB * kB, kAABB = kAA * kBB;
const float kN0 = 1 / kAABB;
const float kNA = 1 / (2 * kAA * (kAA - kBB));
const float kNB = 1 / (2 * kBB * (kBB - kAA));

// Each of these is one side of a transform: 6, 4 or 3 vectors to as many. Those
// of `Sides` depend on the taps of a filter's side.
template <typename V>
ALWAYS_INLINE void input_side(const V* d, V* to) {
  const V even_a = d[4] - kBB * d[2], odd_a = d[3] - kBB * d[1];
  const V even_b = d[4] - kAA * d[2], odd_b = d[3] - kAA * d[1];
  to[0] = kAABB * d[0] + (d[4] - (kAA + kBB) * d[2]);
  to[1] = even_a + kA * odd_a;
  to[2] = even_a - kA * odd_a;
  to[3] = even_b + kB * odd_b;
  to[4] = even_b - kB * odd_b;
  to[5] = kAABB * d[1] + (d[5] - (kAA + kBB) * d[3]);
}

template <typename V, int Taps> struct Sides;

template <typename V>
struct Sides<V, 3> {
  ALWAYS_INLINE void output(const V* m, V* to) {
    const V sum_a = m[1] + m[2], difference_a = m[1] - m[2];
    const V sum_b = m[3] + m[4], difference_b = m[3] - m[4];
    to[0] = m[0] + sum_a + sum_b;
    to[1] = kA * difference_a + kB * difference_b;
    to[2] = kAA * sum_a + kBB * sum_b;
    to[3] = kA * kAA * difference_a + (kB * kBB * difference_b + m[5]);
  }

  ALWAYS_INLINE void diff(const V* y, V* to) {
    const V even_a = y[0] + kAA * y[2], odd_a = y[1] + kAA * y[3];
    const V even_b = y[0] + kBB * y[2], odd_b = y[1] + kBB * y[3];
    to[0] = y[0];
    to[1] = even_a + kA * odd_a;
    to[2] = even_a - kA * odd_a;
    to[3] = even_b + kB * odd_b;
    to[4] = even_b - kB * odd_b;
    to[5] = y[3];
  }

  ALWAYS_INLINE void filter(const V* g, V* to) {
    const V even_a = kNA * g[0] + kNA * kAA * g[2], odd_a = kNA * kA * g[1];
    const V even_b = kNB * g[0] + kNB * kBB * g[2], odd_b = kNB * kB * g[1];
    to[0] = kN0 * g[0];
    to[1] = even_a + odd_a;
    to[2] = even_a - odd_a;
    to[3] = even_b + odd_b;
    to[4] = even_b - odd_b;
    to[5] = g[2];
  }

  ALWAYS_INLINE void filter_diff(const V* s, V* to) {
    const V sum_a = s[1] + s[2], sum_b = s[3] + s[4];
    to[0] = kN0 * s[0] + kNA * sum_a + kNB * sum_b;
    to[1] = kNA * kA * (s[1] - s[2]) + kNB * kB * (s[3] - s[4]);
    to[2] = kNA * kAA * sum_a + (kNB * kBB * sum_b + s[5]);
  }
};

template <typename V>
struct Sides<V, 4> {
  ALWAYS_INLINE void output(const V* m, V* to) {
    const V sum_a = m[1] + m[2], sum_b = m[3] + m[4];
    to[0] = m[0] + sum_a + sum_b;
    to[1] = kA * (m[1] - m[2]) + kB * (m[3] - m[4]);
    to[2] = kAA * sum_a + (kBB * sum_b + m[5]);
  }

  ALWAYS_INLINE void diff(const V* y, V* to) {
    const V even_a = y[0] + kAA * y[2], even_b = y[0] + kBB * y[2];
    to[0] = y[0];
    to[1] = even_a + kA * y[1];
    to[2] = even_a - kA * y[1];
    to[3] = even_b + kB * y[1];
    to[4] = even_b - kB * y[1];
    to[5] = y[2];
  }

  ALWAYS_INLINE void filter(const V* g, V* to) {
    const V even_a = kNA * g[0] + kNA * kAA * g[2];
    const V even_b = kNB * g[0] + kNB * kBB * g[2];
    const V odd_a = kNA * kA * g[1] + kNA * kA * kAA * g[3];
    const V odd_b = kNB * kB * g[1] + kNB * kB * kBB * g[3];
    to[0] = kN0 * g[0];
    to[1] = even_a + odd_a;
    to[2] = even_a - odd_a;
    to[3] = even_b + odd_b;
    to[4] = even_b - odd_b;
    to[5] = g[3];
  }

  ALWAYS_INLINE void filter_diff(const V* s, V* to) {
    const V sum_a = s[1] + s[2], difference_a = s[1] - s[2];
    const V sum_b = s[3] + s[4], difference_b = s[3] - s[4];
    to[0] = kN0 * s[0] + kNA * sum_a + kNB * sum_b;
    to[1] = kNA * kA * difference_a + kNB * kB * difference_b;
    to[2] = kNA * kAA * sum_a + kNB * kBB * sum_b;
    to[3] = kNA * kA * kAA * difference_a +
        (kNB * kB * kBB * difference_b + s[5]);
  }
};

// All columns and then all rows of From x From values, which makes To x To.
template <int From, int To, typename V, void Side(const V*, V*)>
ALWAYS_INLINE void both_sides(const float* from, size_t row_step,
    size_t column_step, V (*to)[To]) {
  V half[To][From];
#pragma GCC unroll 6
  for (int x = 0; x < From; ++x) {
    V column[From], changed[To];
#pragma GCC unroll 6
    for (int y = 0; y < From; ++y) {
      column[y] = load<V>(from + y * row_step + x * column_step);
    }
    Side(column, changed);
#pragma GCC unroll 6
    for (int y = 0; y < To; ++y) { half[y][x] = changed[y]; }
  }
#pragma GCC unroll 6
  for (int y = 0; y < To; ++y) { Side(half[y], to[y]); }
}

}  // namespace winograd
}  // namespace caffe

#endif  // CAFFE_UTIL_WINOGRAD_SIDES_HPP_
