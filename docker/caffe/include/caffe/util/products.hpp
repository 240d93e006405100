#ifndef CAFFE_UTIL_PRODUCTS_HPP_
#define CAFFE_UTIL_PRODUCTS_HPP_

#include <cstddef>

#include "caffe/util/vectors.hpp"
#include "caffe/util/winograd_kernels.hpp"

// Matrix products of values in the blocked memory format, see Kernels::multiply
// and multiply_add.
namespace caffe {
namespace winograd {

// What a convolution does with its sums, in the order of Finish.
template <typename V>
ALWAYS_INLINE void rectify(const V& slope, V* value) {
  const V zero = {}, above = *value < zero ? zero : *value;
  *value = above + slope * (*value > zero ? zero : *value);
}

// Rows x Panel sums in registers.
template <int W, int Rows, int Panel>
struct Sums {
  typedef typename Vectors<W>::Type V;
  V sums[Rows][Panel];

  ALWAYS_INLINE void clear(Sums* to) {
#pragma GCC unroll 16
    for (int i = 0; i < Rows; ++i) {
#pragma GCC unroll 2
      for (int j = 0; j < Panel; ++j) { to->sums[i][j] = V{}; }
    }
  }

  // Adds `count` times the products of Rows numbers, ARow from one to the next,
  // with the vectors of a panel, b_step from one to the next.
  template <int ARow, int AStep, int BStep>
  ALWAYS_INLINE void accumulate(const float* a, const float* b, size_t b_step,
      int count, Sums* to) {
#pragma GCC unroll 1
    for (int k = 0; k < count; ++k, a += AStep, b += BStep) {
      V values[Panel];
#pragma GCC unroll 2
      for (int j = 0; j < Panel; ++j) { values[j] = load<V>(b + j * b_step); }
#pragma GCC unroll 16
      for (int i = 0; i < Rows; ++i) {
#pragma GCC unroll 2
        for (int j = 0; j < Panel; ++j) {
          to->sums[i][j] += a[i * ARow] * values[j];
        }
      }
    }
  }

  ALWAYS_INLINE void read(const float* c, size_t c_step, Sums* to) {
#pragma GCC unroll 16
    for (int i = 0; i < Rows; ++i) {
#pragma GCC unroll 2
      for (int j = 0; j < Panel; ++j) {
        to->sums[i][j] = load<V>(c + j * c_step + i * W);
      }
    }
  }

  ALWAYS_INLINE void write(const Sums& from, float* c, size_t c_step) {
#pragma GCC unroll 16
    for (int i = 0; i < Rows; ++i) {
#pragma GCC unroll 2
      for (int j = 0; j < Panel; ++j) {
        store(c + j * c_step + i * W, from.sums[i][j]);
      }
    }
  }

  template <int Step>
  ALWAYS_INLINE void add(const float* values, size_t step, Sums* to) {
#pragma GCC unroll 16
    for (int i = 0; i < Rows; ++i) {
#pragma GCC unroll 2
      for (int j = 0; j < Panel; ++j) {
        to->sums[i][j] += load<V>(values + j * step + i * Step);
      }
    }
  }

  ALWAYS_INLINE void finish(const Finish& with, size_t c_step, Sums* to) {
    if (with.bias) {
#pragma GCC unroll 2
      for (int j = 0; j < Panel; ++j) {
        const V bias = load<V>(with.bias + j * W);
#pragma GCC unroll 16
        for (int i = 0; i < Rows; ++i) { to->sums[i][j] += bias; }
      }
    }
    if (with.residual && with.halved_step) {
      add<2 * W>(with.residual, with.halved_step, to);
    } else if (with.residual) {
      add<W>(with.residual, c_step, to);
    }
    if (with.slopes) {
#pragma GCC unroll 2
      for (int j = 0; j < Panel; ++j) {
        const V slope = load<V>(with.slopes + j * W);
#pragma GCC unroll 16
        for (int i = 0; i < Rows; ++i) { rectify(slope, &to->sums[i][j]); }
      }
    }
  }
};

template <int W>
struct Products {
  // So many sums are in registers, besides a panel's values and one of a.
  enum { kMostRows = W == 16 ? 14 : 6, kAddRows = W / 2 };

  template <int Rows, int Panel, int ARow>
  static void multiply_rows(const float* a, size_t a_step, int inputs,
      const float* b, const Finish* finish, float* c, size_t c_step) {
    typedef Sums<W, Rows, Panel> Some;
    Some sums;
    Some::clear(&sums);
    for (; inputs > 0; inputs -= W, a += a_step, b += Panel * W * W) {
      Some::template accumulate<ARow, 1, Panel * W>(a, b, W,
          inputs < W ? inputs : W, &sums);
    }
    if (finish) { Some::finish(*finish, c_step, &sums); }
    Some::write(sums, c, c_step);
  }

  template <int Rows, int Panel, int ARow>
  ALWAYS_INLINE void multiply_some(int rows, const float* a, size_t a_step,
      int inputs, const float* b, const Finish* finish, float* c,
      size_t c_step) {
    if (rows == Rows) {
      multiply_rows<Rows, Panel, ARow>(a, a_step, inputs, b, finish, c, c_step);
    } else if (Rows > 1) {
      multiply_some<(Rows > 1 ? Rows - 1 : 1), Panel, ARow>(rows, a, a_step,
          inputs, b, finish, c, c_step);
    }
  }

  template <int Panel, int ARow>
  static void multiply_panel(const float* a, size_t a_step, int inputs,
      const float* b, int tiles, const Finish* finish, float* c,
      size_t c_step) {
    const int groups = (tiles + kMostRows - 1) / kMostRows;
    for (int group = 0; group < groups; ++group) {  // as equal as can be
      const int first = tiles * group / groups;
      const int last = tiles * (group + 1) / groups;
      Finish here = {};
      if (finish) { here = *finish; }
      if (here.residual) {
        here.residual += first * (here.halved_step ? 2 * W : W);
      }
      multiply_some<kMostRows, Panel, ARow>(last - first, a + first * ARow,
          a_step, inputs, b, finish ? &here : NULL, c + first * W, c_step);
    }
  }

  template <int ARow>
  static void multiply(const float* a, size_t a_step, int inputs,
      const float* b, int panel, int tiles, const Finish* finish, float* c,
      size_t c_step) {
    if (panel == kPanel) {
      multiply_panel<kPanel, ARow>(a, a_step, inputs, b, tiles, finish, c,
          c_step);
    } else {
      multiply_panel<1, ARow>(a, a_step, inputs, b, tiles, finish, c, c_step);
    }
  }

  template <int Panel>
  static void multiply_add_panel(const float* a, const float* b, size_t b_step,
      int tiles, bool add, float* c, size_t c_step) {
    typedef Sums<W, kAddRows, Panel> Some;
    Some sums;
    if (add) {
      Some::read(c, c_step, &sums);
    } else {
      Some::clear(&sums);
    }
    Some::template accumulate<1, W, W>(a, b, b_step, tiles, &sums);
    Some::write(sums, c, c_step);
  }

  static void multiply_add(const float* a, const float* b, size_t b_step,
      int panel, int tiles, bool add, float* c, size_t c_step) {
    if (panel == kPanel) {
      multiply_add_panel<kPanel>(a, b, b_step, tiles, add, c, c_step);
    } else {
      multiply_add_panel<1>(a, b, b_step, tiles, add, c, c_step);
    }
  }
};

}  // namespace winograd
}  // namespace caffe

#endif  // CAFFE_UTIL_PRODUCTS_HPP_
