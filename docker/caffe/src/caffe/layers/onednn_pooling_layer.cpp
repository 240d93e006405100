#ifdef USE_ONEDNN
#include "caffe/layers/onednn_pooling_layer.hpp"

#include <algorithm>
#include <vector>

#include "caffe/util/onednn_channels.hpp"
#include "caffe/util/thread_pool.hpp"

namespace caffe {

using dnnl::memory;
using onednn::pooling_backward;
using onednn::pooling_forward;

struct OneDnnPoolingLayer::Plan {
  dnnl::algorithm method;
  vector<int> bottom, top;  // shapes
  memory::dims kernel, stride, dilation, pad_before, pad_after;

  // Where channels come in blocks their planes are pooled one by one, a part
  // of them at a time, by threads of ours.
  int parts;
  pooling_forward::primitive_desc forward_desc, part_desc;
  pooling_backward::primitive_desc backward_desc;
  dnnl::primitive forward, backward;  // backward: made when it first comes

  memory workspace;  // where the maxima were; empty for averages
  memory top_diff_copy;

  // False where oneDNN has nothing fast for this.
  bool Prepare(const memory::desc& order) {
    forward_desc = onednn::describe<pooling_forward>(
        dnnl::prop_kind::forward_training, method, order, onednn::layout(top),
        stride, kernel, dilation, pad_before, pad_after);
    if (!onednn::is_fast(forward_desc)) {
      return false;
    }
    parts = Parts(onednn::block_size(onednn::order_tag(order, bottom)));
    if (parts > 1 && !PreparePart(onednn::order_tag(order, bottom))) {
      parts = 1;
    }
    if (parts == 1) {
      part_desc = forward_desc;
      forward = pooling_forward(forward_desc);
    }
    if (method == dnnl::algorithm::pooling_max) {
      workspace = memory(forward_desc.workspace_desc(), onednn::cpu());
    }
    return true;
  }

  // Into how many equal parts all planes of blocks go: for each thread some,
  // so that it does not matter when one comes late.
  int Parts(int block) const {
    if (block == 0) {
      return 1;
    }
    const int planes = bottom[0] * ((bottom[1] + block - 1) / block);
    int parts = std::min(planes, 4 * pool_threads());
    while (planes % parts) { ++parts; }
    return parts;
  }

  bool PreparePart(memory::format_tag order) {
    const int block = onednn::block_size(order);
    const int blocks = (bottom[1] + block - 1) / block;
    const int channels = bottom[0] * blocks / parts * block;
    const vector<int> from = {1, channels, bottom[2], bottom[3]};
    const vector<int> to = {1, channels, top[2], top[3]};
    const onednn::OneThread alone;
    part_desc = onednn::describe<pooling_forward>(
        dnnl::prop_kind::forward_training, method, onednn::layout(from, order),
        onednn::layout(to, order), stride, kernel, dilation, pad_before,
        pad_after);
    if (!onednn::is_fast(part_desc) || forward_desc.dst_desc() !=
            onednn::layout(top, order) ||
        parts * part_desc.workspace_desc().get_size() !=
            forward_desc.workspace_desc().get_size()) {
      return false;
    }
    forward = pooling_forward(part_desc);
    return true;
  }

  // Part i of memory that holds all.
  memory Part(const memory::desc& desc, const memory& all, int i) const {
    return memory(desc, onednn::cpu(),
        static_cast<char*>(all.get_data_handle()) + i * desc.get_size());
  }

  void Forward(const memory& from, const memory& to) const {
    if (parts == 1) {
      onednn::Arguments arguments;
      arguments[DNNL_ARG_SRC] = from;
      arguments[DNNL_ARG_DST] = to;
      arguments[DNNL_ARG_WORKSPACE] = workspace;
      onednn::run(forward, arguments);
      return;
    }
    parallel_for(parts, [&](int i, int) {
      const onednn::OneThread alone;
      onednn::Arguments arguments;
      arguments[DNNL_ARG_SRC] = Part(part_desc.src_desc(), from, i);
      arguments[DNNL_ARG_DST] = Part(part_desc.dst_desc(), to, i);
      if (workspace) {
        arguments[DNNL_ARG_WORKSPACE] =
            Part(part_desc.workspace_desc(), workspace, i);
      }
      onednn::run(forward, arguments);
    });
  }

  void PrepareBackward() {
    if (backward) {
      return;
    }
    backward_desc = onednn::describe_backward<pooling_backward>(forward_desc,
        method, forward_desc.src_desc(), forward_desc.dst_desc(), stride,
        kernel, dilation, pad_before, pad_after);
    backward = pooling_backward(backward_desc);
  }
};

OneDnnPoolingLayer::OneDnnPoolingLayer(const LayerParameter& param)
    : PoolingLayer<float>(param) {}

OneDnnPoolingLayer::~OneDnnPoolingLayer() {}

// How far the last window reaches beyond the picture.
int OneDnnPoolingLayer::BeyondHeight() const {
  return (pooled_height_ - 1) * stride_h_ - pad_h_ + kernel_h_ - height_;
}

int OneDnnPoolingLayer::BeyondWidth() const {
  return (pooled_width_ - 1) * stride_w_ - pad_w_ + kernel_w_ - width_;
}

// Caffe counts padding in an average as far as one pixel row beyond it, which
// is not what oneDNN does; and with strides larger than the kernel Caffe may
// have windows that hold nothing at all.
bool OneDnnPoolingLayer::Fits(const vector<Blob<float>*>& top) const {
  switch (layer_param_.pooling_param().pool()) {
  case PoolingParameter_PoolMethod_MAX:
    return top.size() == 1 && BeyondHeight() < kernel_h_ &&
        BeyondWidth() < kernel_w_;
  case PoolingParameter_PoolMethod_AVE:
    return pad_h_ == 0 && pad_w_ == 0 && BeyondHeight() <= 0 &&
        BeyondWidth() <= 0;
  default:
    return false;
  }
}

void OneDnnPoolingLayer::Forward_cpu(const vector<Blob<float>*>& bottom,
    const vector<Blob<float>*>& top) {
  const memory in = onednn::packed(*bottom[0]->data(), bottom[0]->shape());
  if (!in || !Fits(top)) {
    plan_.reset();
  } else if (!plan_ || plan_->forward_desc.src_desc() != in.get_desc()) {
    plan_.reset(new Plan);
    plan_->method =
        layer_param_.pooling_param().pool() == PoolingParameter_PoolMethod_MAX ?
        dnnl::algorithm::pooling_max :
        dnnl::algorithm::pooling_avg_exclude_padding;
    plan_->bottom = bottom[0]->shape();
    plan_->top = top[0]->shape();
    plan_->kernel = memory::dims{kernel_h_, kernel_w_};
    plan_->stride = memory::dims{stride_h_, stride_w_};
    plan_->dilation = memory::dims{0, 0};
    plan_->pad_before = memory::dims{pad_h_, pad_w_};
    plan_->pad_after = memory::dims{std::max(0, BeyondHeight()),
        std::max(0, BeyondWidth())};
    if (!plan_->Prepare(in.get_desc())) {
      plan_.reset();
    }
  }
  if (!plan_) {
    PoolingLayer<float>::Forward_cpu(bottom, top);
    return;
  }
  const memory out = onednn::write(top[0]->data().get(), plan_->top,
      plan_->forward_desc.dst_desc());
  plan_->Forward(in, out);
  onednn::written(top[0]->data().get(), out);
}

void OneDnnPoolingLayer::Backward_cpu(const vector<Blob<float>*>& top,
    const vector<bool>& propagate_down, const vector<Blob<float>*>& bottom) {
  if (!plan_) {
    PoolingLayer<float>::Backward_cpu(top, propagate_down, bottom);
    return;
  }
  if (!propagate_down[0]) {
    return;
  }
  plan_->PrepareBackward();
  const memory out = onednn::write(bottom[0]->diff().get(), plan_->bottom,
      plan_->backward_desc.diff_src_desc());
  onednn::Arguments arguments;
  arguments[DNNL_ARG_DIFF_DST] = onednn::read(top[0]->diff().get(), plan_->top,
      plan_->backward_desc.diff_dst_desc(), &plan_->top_diff_copy);
  arguments[DNNL_ARG_DIFF_SRC] = out;
  arguments[DNNL_ARG_WORKSPACE] = plan_->workspace;
  onednn::run(plan_->backward, arguments);
  onednn::written(bottom[0]->diff().get(), out);
}

}  // namespace caffe
#endif  // USE_ONEDNN
