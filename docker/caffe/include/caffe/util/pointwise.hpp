#ifndef CAFFE_UTIL_POINTWISE_HPP_
#define CAFFE_UTIL_POINTWISE_HPP_

#include <cstddef>

#include "caffe/util/winograd_kernels.hpp"

namespace caffe {

/**
 * @brief Convolution with 1 x 1 filters: matrix products, pixels by inputs by
 *        outputs, in the blocked memory format.
 *
 * Bottoms and tops are N x C/b x H x W x b with zeros in what fills the last
 * block of b channels, the width of the kernels (Winograd::kernels()). Weights
 * are in Caffe's order. Sums do not depend on the number of threads.
 */
class Pointwise {
 public:
  struct Sizes {
    int number, inputs, height, width, outputs;
    int stride_h, stride_w;
    // Of a residual of which every other pixel of every other row is added; 0:
    // it lies as the top.
    int halved_height, halved_width;
    int top_height() const { return (height - 1) / stride_h + 1; }
    int top_width() const { return (width - 1) / stride_w + 1; }
  };

  Pointwise(const winograd::Kernels* kernels, const Sizes& sizes);

  // Floats that the packed weights take, and that Forward needs besides.
  size_t weights_size() const;
  size_t scratch() const;

  void PackWeights(const float* weights, float* packed) const;

  // The bias and slopes that finish it are of all outputs. `top_step`: floats
  // from picture to picture of the top; 0: they lie one behind the other.
  void Forward(const float* bottom, const float* packed,
      const winograd::Finish& finish, float* top, float* scratch,
      size_t top_step = 0) const;

 private:
  int Blocks(int channels) const;
  int Pixels() const { return sizes_.top_height() * sizes_.top_width(); }
  // Which pixels a row of the bottom gives: all, every other one of them, or
  // what has to be copied before.
  bool Copies() const { return sizes_.stride_w > 2; }
  bool ByRows() const {
    return sizes_.halved_width > 0 ||
        (!Copies() && (sizes_.stride_h > 1 || sizes_.stride_w > 1));
  }
  // Floats of a block of what the products are made of.
  size_t Plane() const {
    return static_cast<size_t>(kernels_->width) *
        (Copies() ? Pixels() : sizes_.height * sizes_.width);
  }
  void TakeStrided(const float* bottom, float* taken) const;
  void Multiply(const float* from, const float* packed,
      const winograd::Finish& finish, int image, int first, int last, int panel,
      float* top, size_t top_step) const;
  void MultiplyRows(const float* from, const float* packed,
      const winograd::Finish& finish, int first, int last, int blocks,
      float* top) const;

  const winograd::Kernels* kernels_;
  const Sizes sizes_;
};

}  // namespace caffe

#endif  // CAFFE_UTIL_POINTWISE_HPP_
