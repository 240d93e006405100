#ifdef USE_CUDNN
#include <vector>

#include "caffe/layers/cudnn_deconv_layer.hpp"

namespace caffe {

template <typename Dtype>
void CuDNNDeconvolutionLayer<Dtype>::LayerSetUp(
    const vector<Blob<Dtype>*>& bottom, const vector<Blob<Dtype>*>& top) {
  DeconvolutionLayer<Dtype>::LayerSetUp(bottom, top);
  CHECK_EQ(2, this->num_spatial_axes_)
      << "CuDNNDeconvolution input must have 2 spatial axes "
      << "(e.g., height and width). "
      << "Use 'engine: CAFFE' for general ND deconvolution.";
  // The convolution that this one is the transpose of goes from top to bottom.
  convolution_.SetUp(this->channels_, this->num_output_, this->group_,
      this->kernel_shape_.cpu_data(), this->pad_.cpu_data(),
      this->stride_.cpu_data());
  bias_.SetUp(this->num_output_);
}

template <typename Dtype>
void CuDNNDeconvolutionLayer<Dtype>::Reshape(
    const vector<Blob<Dtype>*>& bottom, const vector<Blob<Dtype>*>& top) {
  DeconvolutionLayer<Dtype>::Reshape(bottom, top);
  const int axis = this->channel_axis_;
  vector<int> x(4, this->num_), y(4, this->num_);
  for (int i = 0; i < 3; ++i) {
    x[i + 1] = top[0]->shape(axis + i);
    y[i + 1] = bottom[0]->shape(axis + i);
  }
  convolution_.Reshape(x, y);
}

INSTANTIATE_CLASS(CuDNNDeconvolutionLayer);

}   // namespace caffe
#endif
