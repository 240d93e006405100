#ifndef CAFFE_UTIL_ONEDNN_CONVOLUTION_HPP_
#define CAFFE_UTIL_ONEDNN_CONVOLUTION_HPP_
#ifdef USE_ONEDNN

#include <vector>

#include "caffe/util/onednn.hpp"
#include "caffe/util/phases.hpp"
#include "caffe/util/pointwise.hpp"
#include "caffe/util/winograd.hpp"

namespace caffe {
namespace onednn {

struct ConvolutionShapes {
  vector<int> bottom, top, weights, bias;  // no bias: empty
  int group;
  bool training;  // the weights change from pass to pass
  dnnl::memory::dims stride, pad;
  // Of a residual of which every other pixel of every other row is added; else
  // empty.
  vector<int> halved_residual;

  // Groups are an axis of their own.
  vector<int> WeightsShape() const {
    vector<int> shape(weights);
    if (group > 1) {
      shape[0] /= group;
      shape.insert(shape.begin(), group);
    }
    return shape;
  }

  dnnl::memory::desc BiasLayout() const {
    return bias.empty() ? dnnl::memory::desc() : plain(bias);
  }
};

// What is done with a convolution's values before they are written, in this
// order; what is NULL is not done.
struct ConvolutionFinish {
  const float* bias;      // of each output
  dnnl::memory residual;  // in the order of the top, halved or not: is added
  const float* slopes;    // of each output: max(x, 0) + slope * min(x, 0)
};

// Where a convolution writes its values: one picture behind the other, or among
// those of others.
struct Destination {
  explicit Destination(const dnnl::memory& all)
      : values(static_cast<float*>(all.get_data_handle())), step(0),
        all(all) {}
  Destination(float* values, size_t step) : values(values), step(step) {}

  float* values;
  size_t step;  // floats from picture to picture; 0: they lie as in `all`
  dnnl::memory all;
};

class SlicedConvolution;

/**
 * @brief A forward convolution of certain sizes: by Winograd's algorithm, also
 *        of the phases that a stride makes, as matrix products where filters
 *        are 1 x 1, or what oneDNN has for it.
 *
 * It keeps no values, so several threads may run it.
 */
class ConvolutionForward {
 public:
  // NULL where there is nothing fast for these sizes on this CPU.
  static shared_ptr<const ConvolutionForward> Make(
      const ConvolutionShapes& shapes);

  // The orders in which it takes and gives values.
  dnnl::memory::desc bottom_order() const;
  dnnl::memory::desc top_order() const;
  dnnl::memory::desc weights_order() const;

  // Whether Run finishes more than a bias that belongs to the shapes,
  bool can_finish() const;
  // and writes among others' values, where there is no residual.
  bool can_scatter() const { return !primitive_; }
  // Whether it is as matrix products: the packed weights depend on nothing but
  // the weights then.
  bool is_pointwise() const { return pointwise_ != NULL; }

  void PackWeights(const float* plain, const dnnl::memory& packed) const;
  // Whether the other's packed weights would be the same.
  bool PacksLike(const ConvolutionForward& other) const;
  void Run(const dnnl::memory& from, const dnnl::memory& packed_weights,
      const ConvolutionFinish& finish, const Destination& to) const;

  // The direct convolution, which a backward pass by oneDNN depends on.
  const dnnl::convolution_forward::primitive_desc& direct() const {
    return direct_;
  }
  // NULL where it is not by Winograd's algorithm.
  const winograd::Winograd* winograd() const { return winograd_.get(); }

 private:
  explicit ConvolutionForward(const ConvolutionShapes& shapes);
  bool Prepare();
  bool WinogradPays() const;
  bool PointwisePays() const;
  bool PreparePhases();
  void RunDirect(const dnnl::memory& from, const dnnl::memory& packed_weights,
      const ConvolutionFinish& finish, const dnnl::memory& to) const;

  const ConvolutionShapes shapes_;
  dnnl::convolution_forward::primitive_desc direct_;
  dnnl::primitive primitive_;                  // one of these computes
  shared_ptr<const SlicedConvolution> sliced_;
  shared_ptr<const winograd::Winograd> winograd_;
  shared_ptr<const Pointwise> pointwise_;
  shared_ptr<const Phases> phases_;
};

// The blocked memory format that our own kernels take and give.
dnnl::memory::desc blocked(const vector<int>& shape);

// A convolution by Winograd's algorithm with weights in Caffe's order, of which
// the points are not kept: they are four times as large.
void run_winograd(const winograd::Winograd& convolution,
    const dnnl::memory& from, const float* weights,
    const winograd::Finish& finish, const dnnl::memory& to);

}  // namespace onednn
}  // namespace caffe

#endif  // USE_ONEDNN
#endif  // CAFFE_UTIL_ONEDNN_CONVOLUTION_HPP_
