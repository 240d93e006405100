#ifndef CAFFE_UTIL_PHASES_HPP_
#define CAFFE_UTIL_PHASES_HPP_

#include <cstddef>

#include "caffe/util/winograd.hpp"

namespace caffe {

/**
 * @brief Convolution with large filters and a stride, of pictures with few
 *        channels, as first layers are: by Winograd's algorithm.
 *
 * With stride s a picture is taken for s x s smaller ones, its phases: every
 * s-th pixel of every s-th row. Those are the channels of a convolution of
 * stride 1, whose filters have an s-th of the taps on each side: 7 x 7 with
 * stride 2 become 4 x 4, 11 x 11 with stride 4 become 3 x 3.
 *
 * Bottoms and weights are in Caffe's order, tops in the blocked memory format.
 * Sums do not depend on the number of threads.
 */
class Phases {
 public:
  struct Sizes {
    int number, inputs, height, width, outputs;
    int kernel_h, kernel_w, stride, pad_h, pad_w;
    int top_height() const {
      return (height + 2 * pad_h - kernel_h) / stride + 1;
    }
    int top_width() const {
      return (width + 2 * pad_w - kernel_w) / stride + 1;
    }
    // Of a phase's filter: 3 or 4; 0 where this takes less than twice the time.
    int taps() const;
  };

  // With kernels of these taps.
  Phases(const winograd::Kernels* kernels, const Sizes& sizes);

  // Floats that the packed weights take, and that Forward needs besides.
  size_t weights_size() const { return winograd_.points_size(); }
  size_t scratch() const;

  void PackWeights(const float* weights, float* packed) const;

  // The bias and slopes that finish it are of all outputs, the residual lies as
  // the top. `top_step`: floats from picture to picture of the top; 0: they lie
  // one behind the other.
  void Forward(const float* bottom, const float* packed,
      const winograd::Finish& finish, float* top, float* scratch,
      size_t top_step = 0) const;

 private:
  int Channels() const { return sizes_.inputs * sizes_.stride * sizes_.stride; }
  int Blocks(int channels) const;
  int Rows() const { return sizes_.top_height() + kernels_->taps - 1; }
  int Columns() const { return sizes_.top_width() + kernels_->taps - 1; }
  size_t PhasesSize() const;
  void TakeRow(const float* picture, int y, float* phases) const;

  const winograd::Kernels* kernels_;
  const Sizes sizes_;
  const winograd::Winograd winograd_;  // of one picture's phases
};

}  // namespace caffe

#endif  // CAFFE_UTIL_PHASES_HPP_
