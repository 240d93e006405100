#ifndef CAFFE_UTIL_WINOGRAD_VECTORS_HPP_
#define CAFFE_UTIL_WINOGRAD_VECTORS_HPP_

#include <cstdint>
#include <cstring>

#include "caffe/util/products.hpp"
#include "caffe/util/winograd_kernels.hpp"
#include "caffe/util/winograd_sides.hpp"

// The kernels of Winograd's convolution in GCC's vector extensions. One file
// for each set of instructions includes this below its "#pragma GCC target",
// for vectors of a width of its own.
namespace caffe {
namespace winograd {

template <int W, int Taps>
struct Kernel {
  enum { kTile = kReach + 1 - Taps };
  typedef typename Vectors<W>::Type V;
  typedef Sides<V, Taps> Side;
  typedef typename Vectors<W>::Mask Mask;

  // A tile's place among the planes: where it begins, and which of its rows and
  // columns are inside.
  struct Place {
    float* start;  // may be outside
    int top, bottom, left, right;
    ALWAYS_INLINE Place at(const Planes& planes, int block, int tile,
        int size) {
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

  template <int Size, void Change(const V*, V*)>
  ALWAYS_INLINE void to_points(const Planes& from, int block, int first,
      int last, const Points& to) {
    const size_t row = static_cast<size_t>(from.width) * W;
    for (int tile = first; tile < last; ++tile) {
      const Place place = Place::at(from, block, tile, Size);
      V changed[kReach][kReach];
      if (place.inside(Size)) {
        both_sides<Size, kReach, V, Change>(place.start, row, W, changed);
      } else {
        float copy[Size * Size][W] = {};
        for (int y = place.top; y < place.bottom; ++y) {
          for (int x = place.left; x < place.right; ++x) {
            store(copy[y * Size + x],
                load<V>(place.start + y * row + x * W));
          }
        }
        both_sides<Size, kReach, V, Change>(copy[0], Size * W, W, changed);
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
    to_points<kTile, Side::diff>(from, block, first, last, to);
  }

  static void transform_output(const Points& from, int block, int first,
      int last, const Finish& finish, int valid, const Planes& to) {
    const size_t row = static_cast<size_t>(to.width) * W;
    float shifts[W] = {}, slopes[W] = {};
    Mask mask;
    for (int i = 0; i < W; ++i) {
      if (finish.bias && i < valid) { shifts[i] = finish.bias[i]; }
      if (finish.slopes && i < valid) { slopes[i] = finish.slopes[i]; }
      mask[i] = i < valid ? -1 : 0;
    }
    const V shift = load<V>(shifts), slope = load<V>(slopes);
    for (int tile = first; tile < last; ++tile) {
      const Place place = Place::at(to, block, tile, kTile);
      V changed[kTile][kTile];
      both_sides<kReach, kTile, V, Side::output>(
          from.values + (tile - first) * W, kReach * from.step, from.step,
          changed);
#pragma GCC unroll 16
      for (int i = 0; i < kTile * kTile; ++i) {
        V& value = changed[i / kTile][i % kTile];
        value = reinterpret_cast<V>(
            reinterpret_cast<Mask>(value + shift) & mask);
      }
      if (finish.residual) {
        const float* residual = finish.residual + (place.start - to.values);
        for (int y = 0; y < place.bottom; ++y) {
          for (int x = 0; x < place.right; ++x) {
            changed[y][x] += load<V>(residual + y * row + x * W);
          }
        }
      }
      if (finish.slopes) {
#pragma GCC unroll 16
        for (int i = 0; i < kTile * kTile; ++i) {
          rectify(slope, &changed[i / kTile][i % kTile]);
        }
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
  ALWAYS_INLINE void filter_points(const Filters& from, int block, int input,
      V (*to)[kReach]) {
    float taps[Taps * Taps][W] = {};
    if (input < from.inputs) {
      for (int i = 0; i < W && block * W + i < from.outputs; ++i) {
        const float* filter = from.values + (block * W + i) * from.out_step +
            input * from.in_step;
        for (int k = 0; k < Taps * Taps; ++k) {
          taps[k][i] = filter[from.mirrored ? Taps * Taps - 1 - k : k];
        }
      }
    }
    both_sides<Taps, kReach, V, Side::filter>(taps[0], Taps * W, W, to);
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
    V changed[Taps][Taps];
    both_sides<kReach, Taps, V, Side::filter_diff>(from.values,
        kReach * from.step, from.step, changed);
    float taps[Taps * Taps][W];
    for (int k = 0; k < Taps * Taps; ++k) {
      store(taps[k], changed[k / Taps][k % Taps]);
    }
    for (int i = 0; i < W && block * W + i < layout.outputs; ++i) {
      float* filter = to + (block * W + i) * layout.out_step +
          input * layout.in_step;
      for (int k = 0; k < Taps * Taps; ++k) { filter[k] += taps[k][i]; }
    }
  }

  static const Kernels* table() {
    typedef Products<W> P;
    static const Kernels kernels = {W, Taps, kTile, P::kAddRows,
        transform_input, transform_diff, transform_output, transform_filters,
        add_filters_diff, P::template multiply<W>,
        P::template multiply<2 * W>, P::multiply_add};
    return &kernels;
  }
};

}  // namespace winograd
}  // namespace caffe

#endif  // CAFFE_UTIL_WINOGRAD_VECTORS_HPP_
