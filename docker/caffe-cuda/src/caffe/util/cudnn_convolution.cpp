#ifdef USE_CUDNN
#include <vector>

#include "caffe/util/cudnn_convolution.hpp"

namespace caffe {
namespace cudnn {

static cudnnMathType_t math_type() {
  return Caffe::tf32() ? CUDNN_DEFAULT_MATH : CUDNN_FMA_MATH;
}

template <typename Dtype>
Convolution<Dtype>::Convolution() {
  createTensor4dDesc<Dtype>(&x_desc_);
  createTensor4dDesc<Dtype>(&y_desc_);
  CUDNN_CHECK(cudnnCreateFilterDescriptor(&w_desc_));
  createConvolutionDesc<Dtype>(&conv_desc_);
}

template <typename Dtype>
Convolution<Dtype>::~Convolution() {
  cudnnDestroyTensorDescriptor(x_desc_);
  cudnnDestroyTensorDescriptor(y_desc_);
  cudnnDestroyFilterDescriptor(w_desc_);
  cudnnDestroyConvolutionDescriptor(conv_desc_);
}

template <typename Dtype>
void Convolution<Dtype>::SetUp(int outputs, int inputs, int groups,
    const int* kernel, const int* pad, const int* stride) {
  CUDNN_CHECK(cudnnSetFilter4dDescriptor(w_desc_, dataType<Dtype>::type,
      CUDNN_TENSOR_NCHW, outputs, inputs / groups, kernel[0], kernel[1]));
  CUDNN_CHECK(cudnnSetConvolution2dDescriptor(conv_desc_, pad[0], pad[1],
      stride[0], stride[1], 1, 1, CUDNN_CROSS_CORRELATION,
      dataType<Dtype>::type));
  CUDNN_CHECK(cudnnSetConvolutionGroupCount(conv_desc_, groups));
}

template <typename Dtype>
void Convolution<Dtype>::Reshape(const vector<int>& x, const vector<int>& y) {
  if (x == x_shape_) { return; }  // and so y is as it was
  setTensor4dDesc<Dtype>(&x_desc_, x[0], x[1], x[2], x[3]);
  setTensor4dDesc<Dtype>(&y_desc_, y[0], y[1], y[2], y[3]);
  x_shape_ = x;
}

template <typename Dtype>
template <typename Algo, typename Perf>
typename Convolution<Dtype>::template Plan<Algo> Convolution<Dtype>::Choose(
    const Perf* candidates, int count) const {
  const size_t limit = workspace_limit();
  bool no_memory = false;
  for (int i = 0; i < count; ++i) {
    const Perf& it = candidates[i];
    if (it.status != CUDNN_STATUS_SUCCESS || it.memory > limit ||
        (deterministic() && it.determinism != CUDNN_DETERMINISTIC)) {
      continue;
    }
    if (it.memory == 0 || Caffe::cudnn_workspace(it.memory)) {
      Plan<Algo> plan = {it.algo, it.mathType, it.memory};
      return plan;
    }
    no_memory = true;
    LOG(WARNING) << "No GPU memory for a workspace of " << (it.memory >> 20)
        << " MiB: a slower convolution is taken, which rounds differently.";
  }
  ostringstream shape;
  shape << x_shape_[0] << " x " << x_shape_[1] << " x " << x_shape_[2]
      << " x " << x_shape_[3];
  CHECK(!no_memory) << "out of GPU memory for the workspace of a convolution "
      << "of " << shape.str() << ": set a smaller batch.";
  LOG(FATAL) << "cuDNN has no" << (deterministic() ? " deterministic" : "")
      << " algorithm for a convolution of " << shape.str() << " within "
      << (limit >> 20) << " MiB of workspace: set a larger "
      << "CAFFE_CUDNN_WORKSPACE_MB, or engine: CAFFE in the layer.";
  throw;  // not reached
}

template <typename Dtype>
const typename Convolution<Dtype>::ForwardPlan&
Convolution<Dtype>::forward_plan() {
  typename map<vector<int>, ForwardPlan>::iterator known =
      forward_plans_.find(x_shape_);
  if (known != forward_plans_.end()) { return known->second; }
  cudnnConvolutionFwdAlgoPerf_t perf[CUDNN_CONVOLUTION_FWD_ALGO_COUNT];
  int count = 0;
  CUDNN_CHECK(cudnnSetConvolutionMathType(conv_desc_, math_type()));
  CUDNN_CHECK(cudnnGetConvolutionForwardAlgorithm_v7(Caffe::cudnn_handle(),
      x_desc_, w_desc_, conv_desc_, y_desc_,
      CUDNN_CONVOLUTION_FWD_ALGO_COUNT, &count, perf));
  return forward_plans_[x_shape_] =
      Choose<cudnnConvolutionFwdAlgo_t>(perf, count);
}

template <typename Dtype>
const typename Convolution<Dtype>::BackwardDataPlan&
Convolution<Dtype>::backward_data_plan() {
  typename map<vector<int>, BackwardDataPlan>::iterator known =
      backward_data_plans_.find(x_shape_);
  if (known != backward_data_plans_.end()) { return known->second; }
  cudnnConvolutionBwdDataAlgoPerf_t
      perf[CUDNN_CONVOLUTION_BWD_DATA_ALGO_COUNT];
  int count = 0;
  CUDNN_CHECK(cudnnSetConvolutionMathType(conv_desc_, math_type()));
  CUDNN_CHECK(cudnnGetConvolutionBackwardDataAlgorithm_v7(
      Caffe::cudnn_handle(), w_desc_, y_desc_, conv_desc_, x_desc_,
      CUDNN_CONVOLUTION_BWD_DATA_ALGO_COUNT, &count, perf));
  return backward_data_plans_[x_shape_] =
      Choose<cudnnConvolutionBwdDataAlgo_t>(perf, count);
}

template <typename Dtype>
const typename Convolution<Dtype>::BackwardFilterPlan&
Convolution<Dtype>::backward_filter_plan() {
  typename map<vector<int>, BackwardFilterPlan>::iterator known =
      backward_filter_plans_.find(x_shape_);
  if (known != backward_filter_plans_.end()) { return known->second; }
  cudnnConvolutionBwdFilterAlgoPerf_t
      perf[CUDNN_CONVOLUTION_BWD_FILTER_ALGO_COUNT];
  int count = 0;
  CUDNN_CHECK(cudnnSetConvolutionMathType(conv_desc_, math_type()));
  CUDNN_CHECK(cudnnGetConvolutionBackwardFilterAlgorithm_v7(
      Caffe::cudnn_handle(), x_desc_, y_desc_, conv_desc_, w_desc_,
      CUDNN_CONVOLUTION_BWD_FILTER_ALGO_COUNT, &count, perf));
  return backward_filter_plans_[x_shape_] =
      Choose<cudnnConvolutionBwdFilterAlgo_t>(perf, count);
}

template <typename Dtype>
template <typename Algo>
void* Convolution<Dtype>::Prepare(const Plan<Algo>& plan) {
  CUDNN_CHECK(cudnnSetConvolutionMathType(conv_desc_, plan.math));
  if (plan.bytes == 0) { return NULL; }
  void* workspace = Caffe::cudnn_workspace(plan.bytes);
  CHECK(workspace) << "out of GPU memory for " << (plan.bytes >> 20)
      << " MiB of cuDNN's workspace: set a smaller CAFFE_CUDNN_WORKSPACE_MB "
      << "or a smaller batch.";
  return workspace;
}

template <typename Dtype>
void Convolution<Dtype>::Forward(const Dtype* x, const Dtype* w, Dtype* y) {
  const ForwardPlan& plan = forward_plan();
  void* workspace = Prepare(plan);
  CUDNN_CHECK(cudnnConvolutionForward(Caffe::cudnn_handle(),
      dataType<Dtype>::one, x_desc_, x, w_desc_, w, conv_desc_, plan.algo,
      workspace, plan.bytes, dataType<Dtype>::zero, y_desc_, y));
}

template <typename Dtype>
void Convolution<Dtype>::BackwardData(const Dtype* y_diff, const Dtype* w,
    Dtype* x_diff) {
  const BackwardDataPlan& plan = backward_data_plan();
  void* workspace = Prepare(plan);
  CUDNN_CHECK(cudnnConvolutionBackwardData(Caffe::cudnn_handle(),
      dataType<Dtype>::one, w_desc_, w, y_desc_, y_diff, conv_desc_,
      plan.algo, workspace, plan.bytes, dataType<Dtype>::zero, x_desc_,
      x_diff));
}

template <typename Dtype>
void Convolution<Dtype>::BackwardFilter(const Dtype* x, const Dtype* y_diff,
    Dtype* w_diff) {
  const BackwardFilterPlan& plan = backward_filter_plan();
  void* workspace = Prepare(plan);
  CUDNN_CHECK(cudnnConvolutionBackwardFilter(Caffe::cudnn_handle(),
      dataType<Dtype>::one, x_desc_, x, y_desc_, y_diff, conv_desc_,
      plan.algo, workspace, plan.bytes, dataType<Dtype>::one, w_desc_,
      w_diff));
}

template <typename Dtype>
void Bias<Dtype>::Forward(const Dtype* bias, cudnnTensorDescriptor_t desc,
    Dtype* data) {
  CUDNN_CHECK(cudnnAddTensor(Caffe::cudnn_handle(), dataType<Dtype>::one,
      desc_, bias, dataType<Dtype>::one, desc, data));
}

template <typename Dtype>
void Bias<Dtype>::Backward(cudnnTensorDescriptor_t desc, const Dtype* diff,
    Dtype* bias_diff) {
  CUDNN_CHECK(cudnnConvolutionBackwardBias(Caffe::cudnn_handle(),
      dataType<Dtype>::one, desc, diff, dataType<Dtype>::one, desc_,
      bias_diff));
}

template class Convolution<float>;
template class Convolution<double>;
template class Bias<float>;
template class Bias<double>;

}  // namespace cudnn
}  // namespace caffe
#endif
