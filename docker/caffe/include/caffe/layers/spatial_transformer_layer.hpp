#ifndef CAFFE_SPATIAL_TRANSFORMER_LAYER_HPP_
#define CAFFE_SPATIAL_TRANSFORMER_LAYER_HPP_

#include <vector>

#include "caffe/blob.hpp"
#include "caffe/layer.hpp"
#include "caffe/proto/caffe.pb.h"

namespace caffe {

/**
 * @brief Takes glimpses at images through affine transformations, and can be
 *        differentiated in both: the grid generator and the bilinear sampler
 *        of Jaderberg et al. 2015, Spatial Transformer Networks
 *        (arXiv:1506.02025).
 *
 * @param bottom input Blob vector (length 2)
 *   -# @f$ (N \times C \times H \times W) @f$ the images
 *   -# @f$ (M \times 6) @f$ the transformations @f$ \theta @f$, row by row;
 *      either as many as there are images, or any number at one image
 * @param top output Blob vector (length 1)
 *   -# @f$ (M \times C \times H' \times W') @f$ the glimpses, of the size in
 *      SpatialTransformerParameter
 *
 * Pixel @f$ (x_t, y_t) @f$ of glimpse m shows the place
 * @f$ (x_s, y_s)^T = \theta_m (x_t, y_t, 1)^T @f$ of its image. In these
 * coordinates the edges of an image and of a glimpse are at -1 and 1, so that
 * pixel i of n has its centre at (2 i + 1) / n - 1. Pixels are squares, as in
 * cv::resize: a transformation without rotation or shear is a crop that is
 * resized as cv::INTER_LINEAR does it. Beyond its edges an image is zero.
 *
 * Where a glimpse looks at the very centre of a pixel, it has no derivative
 * with respect to @f$ \theta @f$; the one from the right and below is taken.
 */
template <typename Dtype>
class SpatialTransformerLayer : public Layer<Dtype> {
 public:
  explicit SpatialTransformerLayer(const LayerParameter& param)
      : Layer<Dtype>(param) {}
  virtual void Reshape(const vector<Blob<Dtype>*>& bottom,
      const vector<Blob<Dtype>*>& top);

  virtual inline const char* type() const { return "SpatialTransformer"; }
  virtual inline int ExactNumBottomBlobs() const { return 2; }
  virtual inline int ExactNumTopBlobs() const { return 1; }

 protected:
  // A GPU build uses these, too.
  virtual void Forward_cpu(const vector<Blob<Dtype>*>& bottom,
      const vector<Blob<Dtype>*>& top);
  virtual void Backward_cpu(const vector<Blob<Dtype>*>& top,
      const vector<bool>& propagate_down, const vector<Blob<Dtype>*>& bottom);
};

}  // namespace caffe

#endif  // CAFFE_SPATIAL_TRANSFORMER_LAYER_HPP_
