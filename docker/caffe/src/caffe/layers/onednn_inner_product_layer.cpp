#ifdef USE_ONEDNN
#include "caffe/layers/onednn_inner_product_layer.hpp"

#include <vector>

#include "caffe/util/math_functions.hpp"
#include "caffe/util/onednn.hpp"

namespace caffe {

void OneDnnInnerProductLayer::Forward_cpu(const vector<Blob<float>*>& bottom,
    const vector<Blob<float>*>& top) {
  float* top_data = top[0]->mutable_cpu_data();
  if (bias_term_) {
    for (int m = 0; m < M_; ++m) {
      caffe_copy(N_, blobs_[1]->cpu_data(), top_data + m * N_);
    }
  }
  onednn::multiply('N', transpose_ ? 'N' : 'T', M_, N_, K_,
      bottom[0]->cpu_data(), blobs_[0]->cpu_data(), bias_term_, top_data);
}

void OneDnnInnerProductLayer::Backward_cpu(const vector<Blob<float>*>& top,
    const vector<bool>& propagate_down, const vector<Blob<float>*>& bottom) {
  const float* top_diff = top[0]->cpu_diff();
  if (param_propagate_down_[0]) {
    const float* bottom_data = bottom[0]->cpu_data();
    float* weights_diff = blobs_[0]->mutable_cpu_diff();
    if (transpose_) {
      onednn::multiply('T', 'N', K_, N_, M_, bottom_data, top_diff, true,
          weights_diff);
    } else {
      onednn::multiply('T', 'N', N_, K_, M_, top_diff, bottom_data, true,
          weights_diff);
    }
  }
  if (bias_term_ && param_propagate_down_[1]) {
    for (int m = 0; m < M_; ++m) {
      caffe_axpy(N_, 1.f, top_diff + m * N_, blobs_[1]->mutable_cpu_diff());
    }
  }
  if (propagate_down[0]) {
    onednn::multiply('N', transpose_ ? 'T' : 'N', M_, K_, N_, top_diff,
        blobs_[0]->cpu_data(), false, bottom[0]->mutable_cpu_diff());
  }
}

}  // namespace caffe
#endif  // USE_ONEDNN
