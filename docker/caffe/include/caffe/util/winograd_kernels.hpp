#ifndef CAFFE_UTIL_WINOGRAD_KERNELS_HPP_
#define CAFFE_UTIL_WINOGRAD_KERNELS_HPP_

#include <cstddef>

// What Winograd's convolution (winograd.hpp) does with vectors, for one set of
// instructions. A "point" is one of the 36 numbers that stand for a tile.
namespace caffe {
namespace winograd {

const int kReach = 6;    // a tile of outputs depends on 6 x 6 inputs,
const int kPoints = 36;  // and becomes 6 x 6 points
const int kPanel = 2;    // blocks of outputs that are multiplied together

// Values in the blocked memory format, and the tiles that they are cut into,
// the first of which begins `pad` outside.
struct Planes {
  float* values;  // number x blocks x height x width x channels in a block
  int blocks, height, width;
  int pad_h, pad_w;
  int tiles_h, tiles_w;
};

// Points of some tiles or filters, `step` floats from one point to the next.
struct Points {
  float* values;
  size_t step;
};

// Filters in Caffe's order: values[out * out_step + in * in_step + k], where k
// counts from the end if they are mirrored.
struct Filters {
  const float* values;
  int outputs, inputs;
  size_t out_step, in_step;
  bool mirrored;
};

// What is done with a convolution's values before they are written, in this
// order; what is NULL is not done.
struct Finish {
  const float* bias;      // of each output
  const float* residual;  // is added; it lies as what is written does
  const float* slopes;    // of each output: max(x, 0) + slope * min(x, 0);
                          // a NaN stays one
  size_t halved_step;     // of `multiply`: 0, or every other of the residual's
                          // values is added, and so far apart are its blocks
};

struct Kernels {
  int width;  // floats in a vector: channels in a block
  int taps;   // filters are 3 x 3 or 4 x 4,
  int tile;   // and tiles of outputs 4 x 4 or 3 x 3
  int rows;   // inputs that multiply_add takes together

  // The tiles [first, last) of one block, as points.
  void (*transform_input)(const Planes& from, int block, int first, int last,
      const Points& to);
  void (*transform_diff)(const Planes& from, int block, int first, int last,
      const Points& to);
  // The other way; the first `valid` channels are not zeros, and bias and
  // slopes are of these; the residual lies as `to`.
  void (*transform_output)(const Points& from, int block, int first, int last,
      const Finish& finish, int valid, const Planes& to);

  // The filters of one panel and so many inputs, as points: inputs x panel x
  // width, with zeros for outputs and inputs beyond the last. They may be
  // written past the caches, where they would not stay anyway.
  void (*transform_filters)(const Filters& from, int block, int panel,
      int inputs, bool stream, const Points& to);
  // Adds the diff of the filters of one block of outputs and one input.
  void (*add_filters_diff)(const Points& from, const Filters& layout, int block,
      int input, float* to);

  // At one point, c (panel x tiles) = b (panel x inputs) times a (inputs x
  // tiles). a: blocks x tiles x width, a_step floats from block to block. b:
  // inputs x panel x width, in whole blocks. c: panel x tiles x width,
  // likewise. What finishes it may be NULL; its bias and slopes are panel x
  // width.
  void (*multiply)(const float* a, size_t a_step, int inputs, const float* b,
      int panel, int tiles, const Finish* finish, float* c, size_t c_step);
  // The same where every other of the tiles is taken, of twice as many.
  void (*multiply_halved)(const float* a, size_t a_step, int inputs,
      const float* b, int panel, int tiles, const Finish* finish, float* c,
      size_t c_step);
  // At one point, c (panel x rows) += b (panel x tiles) times a (rows x tiles)
  // over all tiles, or is that. a: tiles x width, of which `rows` are taken.
  void (*multiply_add)(const float* a, const float* b, size_t b_step, int panel,
      int tiles, bool add, float* c, size_t c_step);
};

// NULL where the compiler has none.
const Kernels* kernels_avx2(int taps = 3);
const Kernels* kernels_avx512(int taps = 3);

}  // namespace winograd
}  // namespace caffe

#endif  // CAFFE_UTIL_WINOGRAD_KERNELS_HPP_
