#ifndef CAFFE_UTIL_WINOGRAD_VECTORS_HPP_
#define CAFFE_UTIL_WINOGRAD_VECTORS_HPP_

#include <cstdint>
#include <cstring>

#include "caffe/util/winograd_kernels.hpp"

// The kernels of Winograd's convolution in GCC's vector extensions. One file
// for each set of instructions includes this below its "#pragma GCC target",
// for vectors of a width of its own.
//
// Points of the polynomials are 0, 3/4, -3/4, 3/2, -3/2 and infinity: exact in
// binary, and they round a fifth as much as 0, 1, -1, 2, -2 of the paper do. A
// tile of outputs is Y = A' [(G g G') . (B' d B)] A, for
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
// with a = 3/4, b = 3/2, N0 = aabb, Na = 2aa(aa - bb), Nb = 2bb(bb - aa).
namespace caffe {
namespace winograd {

const float kA = 0.75f, kB = 1.5f;
const float kAA = kA * kA, kBB = kB * kB, kAABB = kAA * kBB;
const float kN0 = 1 / kAABB;
const float kNA = 1 / (2 * kAA * (kAA - kBB));
const float kNB = 1 / (2 * kBB * (kBB - kAA));

#define INLINE __attribute__((always_inline)) static inline

// Vectors of so many floats. `stream` writes one past the caches.
template <int Width> struct Vectors;
template <> struct Vectors<8> {
  typedef float Type __attribute__((vector_size(32)));
  typedef int Mask __attribute__((vector_size(32)));
  INLINE void stream(float* to, const Type& value) {
    __builtin_ia32_movntps256(to, value);
  }
};
template <> struct Vectors<16> {
  typedef float Type __attribute__((vector_size(64)));
  typedef int Mask __attribute__((vector_size(64)));
  template <typename To>  // compiled only where it is called
  INLINE void stream(To* to, const Type& value) {
    __builtin_ia32_movntps512(to, value);
  }
};

template <typename V>
INLINE V load(const float* from) {
  V value;
  memcpy(&value, from, sizeof(value));
  return value;
}

template <typename V>
INLINE void store(float* to, const V& value) {
  memcpy(to, &value, sizeof(value));
}

// Each of these is one side of a transform: 6, 4 or 3 vectors to as many.
template <typename V>
INLINE void input_side(const V* d, V* to) {
  const V even_a = d[4] - kBB * d[2], odd_a = d[3] - kBB * d[1];
  const V even_b = d[4] - kAA * d[2], odd_b = d[3] - kAA * d[1];
  to[0] = kAABB * d[0] + (d[4] - (kAA + kBB) * d[2]);
  to[1] = even_a + kA * odd_a;
  to[2] = even_a - kA * odd_a;
  to[3] = even_b + kB * odd_b;
  to[4] = even_b - kB * odd_b;
  to[5] = kAABB * d[1] + (d[5] - (kAA + kBB) * d[3]);
}

template <typename V>
INLINE void output_side(const V* m, V* to) {
  const V sum_a = m[1] + m[2], difference_a = m[1] - m[2];
  const V sum_b = m[3] + m[4], difference_b = m[3] - m[4];
  to[0] = m[0] + sum_a + sum_b;
  to[1] = kA * difference_a + kB * difference_b;
  to[2] = kAA * sum_a + kBB * sum_b;
  to[3] = kA * kAA * difference_a + (kB * kBB * difference_b + m[5]);
}

template <typename V>
INLINE void diff_side(const V* y, V* to) {
  const V even_a = y[0] + kAA * y[2], odd_a = y[1] + kAA * y[3];
  const V even_b = y[0] + kBB * y[2], odd_b = y[1] + kBB * y[3];
  to[0] = y[0];
  to[1] = even_a + kA * odd_a;
  to[2] = even_a - kA * odd_a;
  to[3] = even_b + kB * odd_b;
  to[4] = even_b - kB * odd_b;
  to[5] = y[3];
}

template <typename V>
INLINE void filter_side(const V* g, V* to) {
  const V even_a = kNA * g[0] + kNA * kAA * g[2], odd_a = kNA * kA * g[1];
  const V even_b = kNB * g[0] + kNB * kBB * g[2], odd_b = kNB * kB * g[1];
  to[0] = kN0 * g[0];
  to[1] = even_a + odd_a;
  to[2] = even_a - odd_a;
  to[3] = even_b + odd_b;
  to[4] = even_b - odd_b;
  to[5] = g[2];
}

template <typename V>
INLINE void filter_diff_side(const V* s, V* to) {
  const V sum_a = s[1] + s[2], sum_b = s[3] + s[4];
  to[0] = kN0 * s[0] + kNA * sum_a + kNB * sum_b;
  to[1] = kNA * kA * (s[1] - s[2]) + kNB * kB * (s[3] - s[4]);
  to[2] = kNA * kAA * sum_a + (kNB * kBB * sum_b + s[5]);
}

// All columns and then all rows of From x From values, which makes To x To.
template <int From, int To, typename V, void Side(const V*, V*)>
INLINE void both_sides(const float* from, size_t row_step, size_t column_step,
    V (*to)[To]) {
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

template <int W>
struct Kernel {
  typedef typename Vectors<W>::Type V;
  typedef typename Vectors<W>::Mask Mask;

  // A tile's place among the planes: where it begins, and which of its rows and
  // columns are inside.
  struct Place {
    float* start;  // may be outside
    int top, bottom, left, right;
    INLINE Place at(const Planes& planes, int block, int tile, int size) {
      const int column = tile % planes.tiles_w, rest = tile / planes.tiles_w;
      const int y = rest % planes.tiles_h * kTile - planes.pad_h;
      const int x = column * kTile - planes.pad_w;
      const ptrdiff_t plane = static_cast<ptrdiff_t>(
          rest / planes.tiles_h) * planes.blocks + block;
      Place place;
      place.start = planes.values +
          ((plane * planes.height + y) * planes.width + x) * W;
      place.top = y < 0 ? -y : 0;
      place.left = x < 0 ? -x : 0;
      place.bottom = size < planes.height - y ? size : planes.height - y;
      place.right = size < planes.width - x ? size : planes.width - x;
      return place;
    }
    bool inside(int size) const {
      return top == 0 && left == 0 && bottom == size && right == size;
    }
  };

  template <int Size, void Side(const V*, V*)>
  INLINE void to_points(const Planes& from, int block, int first, int last,
      const Points& to) {
    const size_t row = static_cast<size_t>(from.width) * W;
    for (int tile = first; tile < last; ++tile) {
      const Place place = Place::at(from, block, tile, Size);
      V changed[kReach][kReach];
      if (place.inside(Size)) {
        both_sides<Size, kReach, V, Side>(place.start, row, W, changed);
      } else {
        float copy[Size * Size][W] = {};
        for (int y = place.top; y < place.bottom; ++y) {
          for (int x = place.left; x < place.right; ++x) {
            store(copy[y * Size + x],
                load<V>(place.start + y * row + x * W));
          }
        }
        both_sides<Size, kReach, V, Side>(copy[0], Size * W, W, changed);
      }
      float* point = to.values + (tile - first) * W;
#pragma GCC unroll 36
      for (int i = 0; i < kPoints; ++i) {
        store(point + i * to.step, changed[i / kReach][i % kReach]);
      }
    }
  }

  static void transform_input(const Planes& from, int block, int first,
      int last, const Points& to) {
    to_points<kReach, input_side<V> >(from, block, first, last, to);
  }

  static void transform_diff(const Planes& from, int block, int first,
      int last, const Points& to) {
    to_points<kTile, diff_side<V> >(from, block, first, last, to);
  }

  static void transform_output(const Points& from, int block, int first,
      int last, const float* bias, int valid, const Planes& to) {
    const size_t row = static_cast<size_t>(to.width) * W;
    float shift_values[W];
    Mask mask;
    for (int i = 0; i < W; ++i) {
      shift_values[i] = bias && i < valid ? bias[i] : 0;
      mask[i] = i < valid ? -1 : 0;
    }
    const V shift = load<V>(shift_values);
    for (int tile = first; tile < last; ++tile) {
      const Place place = Place::at(to, block, tile, kTile);
      V changed[kTile][kTile];
      both_sides<kReach, kTile, V, output_side<V> >(
          from.values + (tile - first) * W, kReach * from.step, from.step,
          changed);
#pragma GCC unroll 16
      for (int i = 0; i < kTile * kTile; ++i) {
        V& value = changed[i / kTile][i % kTile];
        value = reinterpret_cast<V>(
            reinterpret_cast<Mask>(value + shift) & mask);
      }
      if (place.inside(kTile)) {
#pragma GCC unroll 16
        for (int i = 0; i < kTile * kTile; ++i) {
          store(place.start + i / kTile * row + i % kTile * W,
              changed[i / kTile][i % kTile]);
        }
      } else {
        for (int y = 0; y < place.bottom; ++y) {
          for (int x = 0; x < place.right; ++x) {
            store(place.start + y * row + x * W, changed[y][x]);
          }
        }
      }
    }
  }

  // The filters of one block of outputs and one input, as points.
  INLINE void filter_points(const Filters& from, int block, int input,
      V (*to)[kReach]) {
    float taps[9][W] = {};
    if (input < from.inputs) {
      for (int i = 0; i < W && block * W + i < from.outputs; ++i) {
        const float* filter = from.values + (block * W + i) * from.out_step +
            input * from.in_step;
        for (int k = 0; k < 9; ++k) {
          taps[k][i] = filter[from.mirrored ? 8 - k : k];
        }
      }
    }
    both_sides<3, kReach, V, filter_side<V> >(taps[0], 3 * W, W, to);
  }

  // What is streamed must be whole lines of the cache: 64 bytes.
  static void transform_filters(const Filters& from, int block, int panel,
      int inputs, bool stream, const Points& to) {
    const bool streams = stream && panel * W % 16 == 0 &&
        reinterpret_cast<uintptr_t>(to.values) % 64 == 0;
    for (int input = 0; input < inputs; ++input) {
      V changed[kPanel][kReach][kReach];
      for (int j = 0; j < kPanel && j < panel; ++j) {
        filter_points(from, block + j, input, changed[j]);
      }
      float* point = to.values + input * panel * W;
      for (int i = 0; i < kPoints; ++i, point += to.step) {
        for (int j = 0; j < kPanel && j < panel; ++j) {
          const V& value = changed[j][i / kReach][i % kReach];
          if (streams) {
            Vectors<W>::stream(point + j * W, value);
          } else {
            store(point + j * W, value);
          }
        }
      }
    }
    __builtin_ia32_sfence();
  }

  static void add_filters_diff(const Points& from, const Filters& layout,
      int block, int input, float* to) {
    V changed[3][3];
    both_sides<kReach, 3, V, filter_diff_side<V> >(from.values,
        kReach * from.step, from.step, changed);
    float taps[9][W];
    for (int k = 0; k < 9; ++k) { store(taps[k], changed[k / 3][k % 3]); }
    for (int i = 0; i < W && block * W + i < layout.outputs; ++i) {
      float* filter = to + (block * W + i) * layout.out_step +
          input * layout.in_step;
      for (int k = 0; k < 9; ++k) { filter[k] += taps[k][i]; }
    }
  }

  // Rows x Panel sums in registers.
  template <int Rows, int Panel>
  static void multiply_rows(const float* a, size_t a_step, int blocks,
      const float* b, float* c, size_t c_step) {
    V sums[Rows][Panel];
#pragma GCC unroll 16
    for (int i = 0; i < Rows; ++i) {
#pragma GCC unroll 2
      for (int j = 0; j < Panel; ++j) { sums[i][j] = V{}; }
    }
    for (int block = 0; block < blocks; ++block, a += a_step) {
#pragma GCC unroll 1
      for (int k = 0; k < W; ++k, b += Panel * W) {
        V values[Panel];
#pragma GCC unroll 2
        for (int j = 0; j < Panel; ++j) { values[j] = load<V>(b + j * W); }
#pragma GCC unroll 16
        for (int i = 0; i < Rows; ++i) {
#pragma GCC unroll 2
          for (int j = 0; j < Panel; ++j) {
            sums[i][j] += a[i * W + k] * values[j];
          }
        }
      }
    }
#pragma GCC unroll 16
    for (int i = 0; i < Rows; ++i) {
#pragma GCC unroll 2
      for (int j = 0; j < Panel; ++j) {
        store(c + j * c_step + i * W, sums[i][j]);
      }
    }
  }

  // So many sums are in registers, besides a panel's values and one of a.
  enum { kMostRows = W == 16 ? 14 : 6 };

  template <int Rows, int Panel>
  INLINE void multiply_some(int rows, const float* a, size_t a_step, int blocks,
      const float* b, float* c, size_t c_step) {
    if (rows == Rows) {
      multiply_rows<Rows, Panel>(a, a_step, blocks, b, c, c_step);
    } else if (Rows > 1) {
      multiply_some<(Rows > 1 ? Rows - 1 : 1), Panel>(rows, a, a_step, blocks,
          b, c, c_step);
    }
  }

  template <int Panel>
  static void multiply_panel(const float* a, size_t a_step, int blocks,
      const float* b, int tiles, float* c, size_t c_step) {
    const int groups = (tiles + kMostRows - 1) / kMostRows;
    for (int group = 0; group < groups; ++group) {  // as equal as can be
      const int first = tiles * group / groups;
      const int last = tiles * (group + 1) / groups;
      multiply_some<kMostRows, Panel>(last - first, a + first * W, a_step,
          blocks, b, c + first * W, c_step);
    }
  }

  static void multiply(const float* a, size_t a_step, int blocks,
      const float* b, int panel, int tiles, float* c, size_t c_step) {
    if (panel == kPanel) {
      multiply_panel<kPanel>(a, a_step, blocks, b, tiles, c, c_step);
    } else {
      multiply_panel<1>(a, a_step, blocks, b, tiles, c, c_step);
    }
  }

  enum { kAddRows = W / 2 };

  template <int Panel>
  static void multiply_add_panel(const float* a, const float* b, size_t b_step,
      int tiles, bool add, float* c, size_t c_step) {
    V sums[kAddRows][Panel];
#pragma GCC unroll 16
    for (int i = 0; i < kAddRows; ++i) {
#pragma GCC unroll 2
      for (int j = 0; j < Panel; ++j) {
        sums[i][j] = add ? load<V>(c + j * c_step + i * W) : V{};
      }
    }
#pragma GCC unroll 1
    for (int tile = 0; tile < tiles; ++tile, a += W, b += W) {
      V values[Panel];
#pragma GCC unroll 2
      for (int j = 0; j < Panel; ++j) { values[j] = load<V>(b + j * b_step); }
#pragma GCC unroll 16
      for (int i = 0; i < kAddRows; ++i) {
#pragma GCC unroll 2
        for (int j = 0; j < Panel; ++j) { sums[i][j] += a[i] * values[j]; }
      }
    }
#pragma GCC unroll 16
    for (int i = 0; i < kAddRows; ++i) {
#pragma GCC unroll 2
      for (int j = 0; j < Panel; ++j) {
        store(c + j * c_step + i * W, sums[i][j]);
      }
    }
  }

  static void multiply_add(const float* a, const float* b, size_t b_step,
      int panel, int tiles, bool add, float* c, size_t c_step) {
    if (panel == kPanel) {
      multiply_add_panel<kPanel>(a, b, b_step, tiles, add, c, c_step);
    } else {
      multiply_add_panel<1>(a, b, b_step, tiles, add, c, c_step);
    }
  }

  static const Kernels* table() {
    static const Kernels kernels = {W, kAddRows, transform_input,
        transform_diff, transform_output, transform_filters, add_filters_diff,
        multiply, multiply_add};
    return &kernels;
  }
};

#undef INLINE

}  // namespace winograd
}  // namespace caffe

#endif  // CAFFE_UTIL_WINOGRAD_VECTORS_HPP_
