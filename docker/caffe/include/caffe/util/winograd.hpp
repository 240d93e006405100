#ifndef CAFFE_UTIL_WINOGRAD_HPP_
#define CAFFE_UTIL_WINOGRAD_HPP_

#include <cstddef>

#include "caffe/util/winograd_kernels.hpp"

namespace caffe {
namespace winograd {

// The sizes of a convolution with filters of taps x taps and stride 1.
struct Sizes {
  int number, inputs, height, width, outputs;
  int pad_h, pad_w;  // below the taps
  int top_height(int taps = 3) const { return height + 2 * pad_h - taps + 1; }
  int top_width(int taps = 3) const { return width + 2 * pad_w - taps + 1; }
};

/**
 * @brief Convolution with 3 x 3 filters by Winograd's minimal filtering: F(4 x
 *        4, 3 x 3) of A. Lavin and S. Gray, "Fast Algorithms for Convolutional
 *        Neural Networks", 2015, arXiv:1509.09308.
 *
 * Kernels of four taps compute F(3 x 3, 4 x 4), with filters of 4 x 4.
 *
 * The output is cut into tiles of 4 x 4. Each becomes 36 points, sums over the
 * input channels of products of one number for the filter and one for the tile:
 * a quarter of the 144 multiplications of the definition. At each point these
 * are a matrix product. Tiles are computed some at a time, so that scratch
 * memory is bounded and what is at work stays in caches.
 *
 * Bottoms and tops are in the blocked memory format, N x C/b x H x W x b with
 * zeros in what fills the last block of b channels, the width of the kernels.
 * Weights are in Caffe's order. Sums do not depend on the number of threads.
 */
class Winograd {
 public:
  // The best for this CPU, as far as ONEDNN_MAX_CPU_ISA allows; NULL: it has
  // neither AVX-512 nor AVX2. Of 3 or 4 taps.
  static const Kernels* kernels(int taps = 3);

  Winograd(const Kernels* kernels, const Sizes& sizes);

  // The convolution that gives the bottom's diff from the top's.
  Winograd Mirrored() const;

  // Floats that the weights take as points, and that the passes need besides.
  size_t points_size() const;
  size_t forward_scratch() const;
  size_t backward_scratch() const;

  // For Forward. Of a mirrored convolution the weights are the original's.
  void TransformWeights(const float* weights, float* points) const;

  // The bias and slopes that finish it are of all outputs, the residual lies as
  // the top. `top_step`: floats from picture to picture of the top; 0: they lie
  // one behind the other.
  void Forward(const float* bottom, const float* points, const Finish& finish,
      float* top, float* scratch, size_t top_step = 0) const;

  // Adds the diff of the weights.
  void BackwardWeights(const float* bottom, const float* top_diff,
      float* scratch, float* weights_diff) const;

  // Adds the diff of the bias.
  void BackwardBias(const float* top_diff, float* bias_diff) const;

 private:
  struct Pass;
  struct Work;

  int TopHeight() const { return sizes_.top_height(kernels_->taps); }
  int TopWidth() const { return sizes_.top_width(kernels_->taps); }
  int Blocks(int channels) const;
  int Panels() const;
  size_t Step(size_t vectors) const;
  size_t ForwardStep() const;
  bool ManyPoints() const;
  Pass Plan(bool shared, size_t bytes) const;
  Pass PlanForward() const;
  Pass PlanBackward() const;
  Filters Layout(const float* weights) const;
  Planes Bottom(const float* values) const;
  Planes Top(const float* values) const;
  void Transform(const Planes& from, int blocks, bool diff, int first, int last,
      const Points& to) const;
  void ForwardTogether(const Work& work) const;
  void ForwardApart(const Work& work) const;
  void Correlate(const Points& a, const Points& b, int point, int panel,
      int tiles, bool add, const Points& sums) const;
  void AddWeightsDiff(const Points& sums, float* weights_diff) const;

  const Kernels* kernels_;
  Sizes sizes_;
  bool mirrored_;
  int tiles_h_, tiles_w_, tiles_;
};

}  // namespace winograd
}  // namespace caffe

#endif  // CAFFE_UTIL_WINOGRAD_HPP_
