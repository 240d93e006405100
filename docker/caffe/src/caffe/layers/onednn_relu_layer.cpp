#ifdef USE_ONEDNN
#include "caffe/layers/onednn_relu_layer.hpp"

#include <vector>

#include "caffe/util/thread_pool.hpp"

// Else GCC makes branches of the comparisons below, to be faithful to the
// floating point exceptions that nobody looks at: every second one would be
// guessed wrongly.
#pragma GCC optimize("no-trapping-math")

namespace caffe {

using dnnl::memory;
using onednn::floats;

static const size_t kLeast = 4096;  // values for a thread

// With what fills up the last block of channels.
static size_t length(const memory& values) {
  return values.get_desc().get_size() / sizeof(float);
}

void OneDnnReLULayer::Forward_cpu(const vector<Blob<float>*>& bottom,
    const vector<Blob<float>*>& top) {
  SyncedMemory* top_data = top[0]->data().get();
  const vector<int>& shape = bottom[0]->shape();
  const memory in = onednn::packed(*bottom[0]->data(), shape);
  if (!in) {
    ReLULayer<float>::Forward_cpu(bottom, top);
    return;
  }
  const memory out = bottom[0]->data() == top[0]->data() ?
      onednn::write_over(top_data, shape) :
      onednn::write(top_data, shape, in.get_desc());
  const float slope = layer_param_.relu_param().negative_slope();
  const float* x = floats(in);
  float* y = floats(out);
  const onednn::FlushDenormals flush;
  parallel_parts(length(in), kLeast, [=](size_t begin, size_t end) {
#pragma omp simd
    for (size_t i = begin; i < end; ++i) {
      y[i] = x[i] * ((x[i] > 0) + slope * (x[i] <= 0)) + 0.f;  // no -0
    }
  });
  onednn::written(top_data, out);
}

void OneDnnReLULayer::Backward_cpu(const vector<Blob<float>*>& top,
    const vector<bool>& propagate_down, const vector<Blob<float>*>& bottom) {
  const vector<int>& shape = bottom[0]->shape();
  const memory data = onednn::packed(*bottom[0]->data(), shape);
  if (!data) {
    ReLULayer<float>::Backward_cpu(top, propagate_down, bottom);
    return;
  }
  if (!propagate_down[0]) {
    return;
  }
  SyncedMemory* bottom_diff = bottom[0]->diff().get();
  const memory in = onednn::read(top[0]->diff().get(), shape, data.get_desc(),
      &top_diff_copy_);
  const memory out = onednn::write(bottom_diff, shape, data.get_desc());
  const float slope = layer_param_.relu_param().negative_slope();
  const float* x = floats(data);
  const float* dy = floats(in);
  float* dx = floats(out);
  const onednn::FlushDenormals flush;
  parallel_parts(length(data), kLeast, [=](size_t begin, size_t end) {
#pragma omp simd
    for (size_t i = begin; i < end; ++i) {
      dx[i] = dy[i] * ((x[i] > 0) + slope * (x[i] <= 0));
    }
  });
  onednn::written(bottom_diff, out);
}

}  // namespace caffe
#endif  // USE_ONEDNN
