#ifdef USE_ONEDNN
#include "caffe/layers/onednn_eltwise_layer.hpp"

#include <vector>

#include "caffe/util/thread_pool.hpp"

namespace caffe {

using dnnl::memory;

static const size_t kLeast = 4096;  // values for a thread

// Of the first two bottoms, and then of what they make and one more; each value
// may be where the result goes.
typedef void Combine(float a, const float* x, float b, const float* y,
    size_t count, float* to);

static void sum(float a, const float* x, float b, const float* y,
    size_t count, float* to) {
  parallel_parts(count, kLeast, [=](size_t begin, size_t end) {
#pragma omp simd
    for (size_t i = begin; i < end; ++i) { to[i] = a * x[i] + b * y[i]; }
  });
}

static void product(float, const float* x, float, const float* y,
    size_t count, float* to) {
  parallel_parts(count, kLeast, [=](size_t begin, size_t end) {
#pragma omp simd
    for (size_t i = begin; i < end; ++i) { to[i] = x[i] * y[i]; }
  });
}

void OneDnnEltwiseLayer::Forward_cpu(const vector<Blob<float>*>& bottom,
    const vector<Blob<float>*>& top) {
  const vector<int>& shape = top[0]->shape();
  SyncedMemory* top_data = top[0]->data().get();
  vector<memory> in;
  for (const Blob<float>* blob : bottom) {
    const memory values = onednn::packed(*blob->data(), shape);
    if (values && blob->data() != top[0]->data() &&
        (in.empty() || values.get_desc() == in[0].get_desc())) {
      in.push_back(values);
    }
  }
  if (op_ == EltwiseParameter_EltwiseOp_MAX || in.size() < bottom.size()) {
    EltwiseLayer<float>::Forward_cpu(bottom, top);
    return;
  }
  Combine* const combine =
      op_ == EltwiseParameter_EltwiseOp_SUM ? sum : product;
  const memory out = onednn::write(top_data, shape, in[0].get_desc());
  float* to = static_cast<float*>(out.get_data_handle());
  // With what fills up the last block of channels, and stays 0.
  const size_t count = in[0].get_desc().get_size() / sizeof(float);
  const onednn::FlushDenormals flush;
  for (int i = 1; i < in.size(); ++i) {
    combine(i == 1 ? coeffs_[0] : 1,
        static_cast<float*>(in[i - 1].get_data_handle()), coeffs_[i],
        static_cast<float*>(in[i].get_data_handle()), count, to);
    in[i] = out;
  }
  onednn::written(top_data, out);
}

}  // namespace caffe
#endif  // USE_ONEDNN
