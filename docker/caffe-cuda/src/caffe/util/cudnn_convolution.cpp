#ifdef USE_CUDNN
#include <string>
#include <vector>

#include "caffe/syncedmem.hpp"
#include "caffe/util/cudnn_convolution.hpp"

namespace caffe {
namespace cudnn {

// TF32 is of floats only; for doubles nothing is to be ruled out.
template <typename Dtype>
static cudnnMathType_t math_type() {
  const bool exact = dataType<Dtype>::type == CUDNN_DATA_FLOAT &&
      !Caffe::tf32();
  return exact ? CUDNN_FMA_MATH : CUDNN_DEFAULT_MATH;
}

// Whether it did nothing and another algorithm may do it. What fails while it
// computes may have written a part of the result.
static bool refused(cudnnStatus_t status) {
#ifdef CUDNN_STATUS_CATEGORY  // cuDNN 9: several codes of each kind
  return CUDNN_STATUS_CATEGORY(status) != CUDNN_STATUS_EXECUTION_FAILED;
#else
  return status != CUDNN_STATUS_EXECUTION_FAILED;
#endif
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
  weights_ = static_cast<size_t>(outputs) * (inputs / groups) * kernel[0] *
      kernel[1];
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
string Convolution<Dtype>::Name() const {
  ostringstream name;
  name << "a convolution of " << x_shape_[0] << " x " << x_shape_[1] << " x "
      << x_shape_[2] << " x " << x_shape_[3];
  return name.str();
}

template <typename Dtype>
template <typename Algo, typename Perf>
vector<typename Convolution<Dtype>::template Plan<Algo> >
Convolution<Dtype>::Choose(const Perf* candidates, int count) const {
  const size_t limit = workspace_limit();
  vector<Plan<Algo> > plans;
  for (int i = 0; i < count; ++i) {
    const Perf& it = candidates[i];
    if (it.status == CUDNN_STATUS_SUCCESS && it.memory <= limit &&
        (!deterministic() || it.determinism == CUDNN_DETERMINISTIC)) {
      const Plan<Algo> plan = {it.algo, it.mathType, it.memory};
      plans.push_back(plan);
    }
  }
  CHECK(!plans.empty()) << "cuDNN has no"
      << (deterministic() ? " deterministic" : "") << " algorithm for "
      << Name() << " within " << (limit >> 20) << " MiB of workspace: set a "
      << "larger CAFFE_CUDNN_WORKSPACE_MB, or engine: CAFFE in the layer.";
  return plans;
}

// cuDNN's list is made without running anything: now and then an algorithm in
// it refuses when it is to compute. It is struck off, as is one for which there
// is no memory.
template <typename Dtype>
template <typename Algo, typename Compute>
void Convolution<Dtype>::Run(vector<Plan<Algo> >* plans,
    const Compute& compute) {
  while (true) {
    const Plan<Algo> plan = plans->front();
    void* workspace = plan.bytes ? Caffe::cudnn_workspace(plan.bytes) : NULL;
    const bool last = plans->size() == 1;
    if (plan.bytes && !workspace) {
      CHECK(!last) << "out of GPU memory for the workspace of " << Name()
          << ", " << (plan.bytes >> 20) << " MiB: set a smaller batch or a "
          << "smaller CAFFE_CUDNN_WORKSPACE_MB.";
      LOG(WARNING) << "No GPU memory for a workspace of " << (plan.bytes >> 20)
          << " MiB: another algorithm is taken, which rounds differently.";
    } else {
      CUDNN_CHECK(cudnnSetConvolutionMathType(conv_desc_, plan.math));
      const cudnnStatus_t status = compute(plan, workspace);
      if (status == CUDNN_STATUS_SUCCESS) { return; }
      CHECK(!last && refused(status)) << "cuDNN's algorithm " << plan.algo
          << " for " << Name() << " failed: " << cudnnGetErrorString(status);
      LOG(WARNING) << "cuDNN's algorithm " << plan.algo << " for " << Name()
          << " is not to be had (" << cudnnGetErrorString(status)
          << "): another is taken, which rounds differently.";
      cudaGetLastError();  // not to be found by who launches the next kernel
    }
    plans->erase(plans->begin());
  }
}

// Measured choices differ from run to run, and so do the bits of their results.
static bool measures() {
  return env_number("CAFFE_CUDNN_MEASURE", 0) != 0 && !deterministic();
}

// The workspace in which all algorithms may be measured; NULL: do not measure.
static void* measuring_workspace(size_t* bytes) {
  *bytes = workspace_limit();
  return measures() ? Caffe::cudnn_workspace(*bytes) : NULL;
}

template <typename Dtype>
typename Convolution<Dtype>::ForwardPlans*
Convolution<Dtype>::forward_plans(const Dtype* x, const Dtype* w, Dtype* y) {
  ForwardPlans* const plans = &forward_plans_[x_shape_];
  if (!plans->empty()) { return plans; }
  cudnnConvolutionFwdAlgoPerf_t perf[CUDNN_CONVOLUTION_FWD_ALGO_COUNT];
  int count = 0;
  CUDNN_CHECK(cudnnSetConvolutionMathType(conv_desc_,
      math_type<Dtype>()));
  size_t bytes;
  void* const workspace = measuring_workspace(&bytes);
  if (workspace) {
    CUDNN_CHECK(cudnnFindConvolutionForwardAlgorithmEx(Caffe::cudnn_handle(),
        x_desc_, x, w_desc_, w, conv_desc_, y_desc_, y,
        CUDNN_CONVOLUTION_FWD_ALGO_COUNT, &count, perf, workspace, bytes));
  } else {
    CUDNN_CHECK(cudnnGetConvolutionForwardAlgorithm_v7(Caffe::cudnn_handle(),
        x_desc_, w_desc_, conv_desc_, y_desc_,
        CUDNN_CONVOLUTION_FWD_ALGO_COUNT, &count, perf));
  }
  *plans = Choose<cudnnConvolutionFwdAlgo_t>(perf, count);
  return plans;
}

template <typename Dtype>
typename Convolution<Dtype>::BackwardDataPlans*
Convolution<Dtype>::backward_data_plans(const Dtype* y_diff, const Dtype* w,
    Dtype* x_diff) {
  BackwardDataPlans* const plans = &backward_data_plans_[x_shape_];
  if (!plans->empty()) { return plans; }
  cudnnConvolutionBwdDataAlgoPerf_t
      perf[CUDNN_CONVOLUTION_BWD_DATA_ALGO_COUNT];
  int count = 0;
  CUDNN_CHECK(cudnnSetConvolutionMathType(conv_desc_,
      math_type<Dtype>()));
  size_t bytes;
  void* const workspace = measuring_workspace(&bytes);
  if (workspace) {
    CUDNN_CHECK(cudnnFindConvolutionBackwardDataAlgorithmEx(
        Caffe::cudnn_handle(), w_desc_, w, y_desc_, y_diff, conv_desc_,
        x_desc_, x_diff, CUDNN_CONVOLUTION_BWD_DATA_ALGO_COUNT, &count, perf,
        workspace, bytes));
  } else {
    CUDNN_CHECK(cudnnGetConvolutionBackwardDataAlgorithm_v7(
        Caffe::cudnn_handle(), w_desc_, y_desc_, conv_desc_, x_desc_,
        CUDNN_CONVOLUTION_BWD_DATA_ALGO_COUNT, &count, perf));
  }
  *plans = Choose<cudnnConvolutionBwdDataAlgo_t>(perf, count);
  return plans;
}

template <typename Dtype>
typename Convolution<Dtype>::BackwardFilterPlans*
Convolution<Dtype>::backward_filter_plans(const Dtype* x,
    const Dtype* y_diff) {
  BackwardFilterPlans* const plans = &backward_filter_plans_[x_shape_];
  if (!plans->empty()) { return plans; }
  cudnnConvolutionBwdFilterAlgoPerf_t
      perf[CUDNN_CONVOLUTION_BWD_FILTER_ALGO_COUNT];
  int count = 0;
  CUDNN_CHECK(cudnnSetConvolutionMathType(conv_desc_,
      math_type<Dtype>()));
  size_t bytes;
  void* const workspace = measuring_workspace(&bytes);
  if (workspace) {
    // What is measured overwrites its result, and ours is added to.
    shared_ptr<SyncedMemory> w_diff(new SyncedMemory(weights_ * sizeof(Dtype)));
    CUDNN_CHECK(cudnnFindConvolutionBackwardFilterAlgorithmEx(
        Caffe::cudnn_handle(), x_desc_, x, y_desc_, y_diff, conv_desc_,
        w_desc_, w_diff->mutable_gpu_data(),
        CUDNN_CONVOLUTION_BWD_FILTER_ALGO_COUNT, &count, perf, workspace,
        bytes));
  } else {
    CUDNN_CHECK(cudnnGetConvolutionBackwardFilterAlgorithm_v7(
        Caffe::cudnn_handle(), x_desc_, y_desc_, conv_desc_, w_desc_,
        CUDNN_CONVOLUTION_BWD_FILTER_ALGO_COUNT, &count, perf));
  }
  *plans = Choose<cudnnConvolutionBwdFilterAlgo_t>(perf, count);
  return plans;
}

template <typename Dtype>
void Convolution<Dtype>::Forward(const Dtype* x, const Dtype* w, Dtype* y) {
  Run(forward_plans(x, w, y), [&](const ForwardPlan& plan, void* workspace) {
    return cudnnConvolutionForward(Caffe::cudnn_handle(),
        dataType<Dtype>::one, x_desc_, x, w_desc_, w, conv_desc_, plan.algo,
        workspace, plan.bytes, dataType<Dtype>::zero, y_desc_, y);
  });
}

template <typename Dtype>
void Convolution<Dtype>::BackwardData(const Dtype* y_diff, const Dtype* w,
    Dtype* x_diff) {
  Run(backward_data_plans(y_diff, w, x_diff), [&](const BackwardDataPlan& plan,
      void* workspace) {
    return cudnnConvolutionBackwardData(Caffe::cudnn_handle(),
        dataType<Dtype>::one, w_desc_, w, y_desc_, y_diff, conv_desc_,
        plan.algo, workspace, plan.bytes, dataType<Dtype>::zero, x_desc_,
        x_diff);
  });
}

template <typename Dtype>
void Convolution<Dtype>::BackwardFilter(const Dtype* x, const Dtype* y_diff,
    Dtype* w_diff) {
  Run(backward_filter_plans(x, y_diff), [&](
      const BackwardFilterPlan& plan, void* workspace) {
    return cudnnConvolutionBackwardFilter(Caffe::cudnn_handle(),
        dataType<Dtype>::one, x_desc_, x, y_desc_, y_diff, conv_desc_,
        plan.algo, workspace, plan.bytes, dataType<Dtype>::one, w_desc_,
        w_diff);
  });
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
