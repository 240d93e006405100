#ifndef CAFFE_UTIL_CUDNN_CONVOLUTION_H_
#define CAFFE_UTIL_CUDNN_CONVOLUTION_H_
#ifdef USE_CUDNN

#include <map>
#include <string>
#include <vector>

#include "caffe/common.hpp"
#include "caffe/util/cudnn.hpp"

namespace caffe {

namespace cudnn {

/**
 * @brief A 2D convolution y = w * x and its gradients, on cuDNN 8 or 9.
 *
 * For each operation and shape, the first algorithm of cuDNN's list (sorted by
 * expected time) that fits the workspace, is allowed, and does not refuse when
 * it runs; asked for when the operation first runs, and kept. With
 * CAFFE_CUDNN_MEASURE=1 the times are measured, not expected. A deconvolution
 * is the same operation with x and y exchanged.
 */
template <typename Dtype>
class Convolution {
 public:
  Convolution();
  ~Convolution();
  // w: outputs x (inputs / groups) x kernel[0] x kernel[1]; outputs are the
  // channels of y, inputs those of x; the arrays are height, width.
  void SetUp(int outputs, int inputs, int groups, const int* kernel,
      const int* pad, const int* stride);
  // Both N x C x H x W.
  void Reshape(const vector<int>& x_shape, const vector<int>& y_shape);

  void Forward(const Dtype* x, const Dtype* w, Dtype* y);
  void BackwardData(const Dtype* y_diff, const Dtype* w, Dtype* x_diff);
  // Adds to w_diff.
  void BackwardFilter(const Dtype* x, const Dtype* y_diff, Dtype* w_diff);

  cudnnTensorDescriptor_t x_desc() const { return x_desc_; }
  cudnnTensorDescriptor_t y_desc() const { return y_desc_; }

 private:
  template <typename Algo>
  struct Plan {
    Algo algo;
    cudnnMathType_t math;
    size_t bytes;
  };
  typedef Plan<cudnnConvolutionFwdAlgo_t> ForwardPlan;
  typedef Plan<cudnnConvolutionBwdDataAlgo_t> BackwardDataPlan;
  typedef Plan<cudnnConvolutionBwdFilterAlgo_t> BackwardFilterPlan;
  // What may be tried, the best first; never empty where they were chosen.
  typedef vector<ForwardPlan> ForwardPlans;
  typedef vector<BackwardDataPlan> BackwardDataPlans;
  typedef vector<BackwardFilterPlan> BackwardFilterPlans;

  // Where algorithms are measured it is with these values, and the result, but
  // for that of weights, is overwritten.
  ForwardPlans* forward_plans(const Dtype* x, const Dtype* w, Dtype* y);
  BackwardDataPlans* backward_data_plans(const Dtype* y_diff, const Dtype* w,
      Dtype* x_diff);
  BackwardFilterPlans* backward_filter_plans(const Dtype* x,
      const Dtype* y_diff);
  template <typename Algo, typename Perf>
  vector<Plan<Algo> > Choose(const Perf* candidates, int count) const;
  // Computes by the first plan that can; those before it are struck off.
  template <typename Algo, typename Compute>
  void Run(vector<Plan<Algo> >* plans, const Compute& compute);
  string Name() const;

  cudnnTensorDescriptor_t x_desc_, y_desc_;
  cudnnFilterDescriptor_t w_desc_;
  cudnnConvolutionDescriptor_t conv_desc_;
  size_t weights_;  // how many
  vector<int> x_shape_;
  // by the shape of x
  map<vector<int>, ForwardPlans> forward_plans_;
  map<vector<int>, BackwardDataPlans> backward_data_plans_;
  map<vector<int>, BackwardFilterPlans> backward_filter_plans_;

  DISABLE_COPY_AND_ASSIGN(Convolution);
};

/// One number per channel, added to a tensor, and its gradient.
template <typename Dtype>
class Bias {
 public:
  Bias() { createTensor4dDesc<Dtype>(&desc_); }
  ~Bias() { cudnnDestroyTensorDescriptor(desc_); }
  void SetUp(int channels) {
    setTensor4dDesc<Dtype>(&desc_, 1, channels, 1, 1);
  }
  void Forward(const Dtype* bias, cudnnTensorDescriptor_t desc, Dtype* data);
  // Adds to bias_diff.
  void Backward(cudnnTensorDescriptor_t desc, const Dtype* diff,
      Dtype* bias_diff);

 private:
  cudnnTensorDescriptor_t desc_;
  DISABLE_COPY_AND_ASSIGN(Bias);
};

}  // namespace cudnn

}  // namespace caffe

#endif  // USE_CUDNN
#endif  // CAFFE_UTIL_CUDNN_CONVOLUTION_H_
