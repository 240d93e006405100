#ifndef CAFFE_UTIL_ONEDNN_SLICES_HPP_
#define CAFFE_UTIL_ONEDNN_SLICES_HPP_
#ifdef USE_ONEDNN

#include <vector>

#include "caffe/util/onednn_convolution.hpp"

namespace caffe {
namespace onednn {

/**
 * @brief A convolution by oneDNN in slices: some blocks of outputs of one
 *        picture, which one thread of ours computes, and finishes while they
 *        are in its cache.
 *
 * It takes the pictures as the whole convolution does, and gives them in the
 * blocked memory format.
 */
class SlicedConvolution {
 public:
  // NULL where the whole convolution has other orders, or is too small.
  static shared_ptr<const SlicedConvolution> Make(
      const ConvolutionShapes& shapes,
      const dnnl::convolution_forward::primitive_desc& whole);

  size_t weights_size() const;  // floats that the packed weights take
  void PackWeights(const float* weights, float* packed) const;
  // Whether the other's packed weights would be the same.
  bool PacksLike(const SlicedConvolution& other) const {
    return slices_ == other.slices_ &&
        desc_.weights_desc() == other.desc_.weights_desc();
  }

  // With `step` floats from picture to picture of the top; 0: as it lies.
  void Run(const dnnl::memory& from, float* packed_weights,
      const ConvolutionFinish& finish, float* top, size_t step) const;

 private:
  int outputs_, channels_;         // of all slices, of one
  int number_, slices_;            // pictures, slices of each
  size_t bottom_size_, top_size_;  // floats of a picture, of a slice
  size_t weights_size_;            // of a slice
  vector<int> weights_shape_, top_shape_;
  dnnl::convolution_forward::primitive_desc desc_;
  dnnl::convolution_forward primitive_;
};

}  // namespace onednn
}  // namespace caffe

#endif  // USE_ONEDNN
#endif  // CAFFE_UTIL_ONEDNN_SLICES_HPP_
