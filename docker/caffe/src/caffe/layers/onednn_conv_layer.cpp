#ifdef USE_ONEDNN
#include "caffe/layers/onednn_conv_layer.hpp"

#include <vector>

namespace caffe {

using dnnl::algorithm;
using dnnl::convolution_backward_data;
using dnnl::convolution_backward_weights;
using dnnl::convolution_forward;
using dnnl::memory;
using winograd::Winograd;

static float* floats(const memory& values) {
  return static_cast<float*>(values.get_data_handle());
}

// The sizes of a convolution, and what computes it: Winograd's algorithm or
// what oneDNN has. oneDNN's primitives of the backward pass are made when it
// first comes.
struct OneDnnConvolutionLayer::Plan {
  vector<int> bottom, top, weights, bias;  // shapes; no bias: empty
  memory::dims stride, pad;

  convolution_forward::primitive_desc forward_desc;
  convolution_backward_data::primitive_desc data_desc;
  convolution_backward_weights::primitive_desc weights_desc;
  dnnl::primitive forward, backward_data, backward_weights;
  shared_ptr<Winograd> winograd, winograd_mirrored;  // or NULL
  bool winograd_backward;

  memory bottom_copy, top_diff_copy, weights_diff, bias_diff;

  memory::desc BiasLayout() const {
    return bias.empty() ? memory::desc() : onednn::plain(bias);
  }

  // The order in which Winograd's algorithm takes and gives values.
  memory::desc Blocked(const vector<int>& shape) const {
    return onednn::layout(shape, Winograd::kernels()->width == 16 ?
        memory::format_tag::nChw16c : memory::format_tag::nChw8c);
  }

  // Winograd's algorithm computes tiles of 4 x 4 with 36 numbers for the 9 of a
  // filter: reading those pays with enough tiles (measured).
  bool WinogradPays() const {
    const int tiles = top[0] * ((top[2] + 3) / 4) * ((top[3] + 3) / 4);
    return onednn::use() == onednn::ON && Winograd::kernels() &&
        weights[2] == 3 && weights[3] == 3 &&
        stride[0] == 1 && stride[1] == 1 && pad[0] <= 2 && pad[1] <= 2 &&
        weights[0] >= 16 && weights[1] >= 16 && tiles >= 48;
  }

  // False where there is nothing fast for these sizes on this CPU.
  bool Prepare() {
    winograd_backward = false;
    forward_desc = onednn::describe<convolution_forward>(
        dnnl::prop_kind::forward_training, algorithm::convolution_direct,
        onednn::layout(bottom), onednn::layout(weights), BiasLayout(),
        onednn::layout(top), stride, pad, pad);
    if (!onednn::is_fast(forward_desc)) {
      return false;
    }
    if (WinogradPays()) {
      const winograd::Sizes sizes = {bottom[0], bottom[1], bottom[2], bottom[3],
          weights[0], static_cast<int>(pad[0]), static_cast<int>(pad[1])};
      winograd.reset(new Winograd(Winograd::kernels(), sizes));
      winograd_mirrored.reset(new Winograd(winograd->Mirrored()));
    } else {
      forward = convolution_forward(forward_desc);
    }
    return true;
  }

  // Training takes Winograd's algorithm here, too. Other backward passes are
  // for looking at gradients, where those that are zero should be: it leaves
  // traces of rounding in their tiles.
  bool PrepareBackward(Phase phase) {
    winograd_backward = winograd && phase == TRAIN;
    if (winograd_backward || backward_data) {
      return true;
    }
    const algorithm direct = algorithm::convolution_direct;
    data_desc = onednn::describe_backward<convolution_backward_data>(
        forward_desc, direct, onednn::layout(bottom), onednn::layout(weights),
        onednn::layout(top), stride, pad, pad);
    weights_desc = onednn::describe_backward<convolution_backward_weights>(
        forward_desc, direct, onednn::layout(bottom), onednn::layout(weights),
        BiasLayout(), onednn::layout(top), stride, pad, pad);
    if (!onednn::is_fast(data_desc) || !onednn::is_fast(weights_desc)) {
      return false;
    }
    backward_data = convolution_backward_data(data_desc);
    backward_weights = convolution_backward_weights(weights_desc);
    weights_diff = memory(weights_desc.diff_weights_desc(), onednn::cpu());
    if (!bias.empty()) {
      bias_diff = memory(BiasLayout(), onednn::cpu());
    }
    return true;
  }
};

OneDnnConvolutionLayer::OneDnnConvolutionLayer(const LayerParameter& param)
    : ConvolutionLayer<float>(param) {}

OneDnnConvolutionLayer::~OneDnnConvolutionLayer() {}

bool OneDnnConvolutionLayer::Fits(const Blob<float>& bottom) {
  if (bottom.num_axes() != 4 || channel_axis_ != 1 || group_ != 1 ||
      force_nd_im2col_ || bottom.count() == 0) {
    return false;
  }
  const int* dilation = dilation_.cpu_data();
  return dilation[0] == 1 && dilation[1] == 1;
}

void OneDnnConvolutionLayer::Reshape(const vector<Blob<float>*>& bottom,
      const vector<Blob<float>*>& top) {
  ConvolutionLayer<float>::Reshape(bottom, top);
  if (!Fits(*bottom[0])) {
    plan_.reset();
    return;
  }
  if (plan_ && plan_->bottom == bottom[0]->shape()) {
    return;
  }
  plan_.reset(new Plan);
  plan_->bottom = bottom[0]->shape();
  plan_->top = top[0]->shape();
  plan_->weights = blobs_[0]->shape();
  if (bias_term_) {
    plan_->bias = blobs_[1]->shape();
  }
  const int* stride = stride_.cpu_data();
  const int* pad = pad_.cpu_data();
  plan_->stride.assign(stride, stride + 2);
  plan_->pad.assign(pad, pad + 2);
  if (!plan_->Prepare()) {
    plan_.reset();
  }
}

void OneDnnConvolutionLayer::Forward_cpu(const vector<Blob<float>*>& bottom,
      const vector<Blob<float>*>& top) {
  if (!plan_) {
    ConvolutionLayer<float>::Forward_cpu(bottom, top);
    return;
  }
  Plan& plan = *plan_;
  if (plan.winograd) {
    for (int i = 0; i < bottom.size(); ++i) {
      ForwardWinograd(bottom[i], top[i]);
    }
    return;
  }
  onednn::Arguments arguments;
  arguments[DNNL_ARG_WEIGHTS] = forward_weights_.get(blobs_[0]->data(),
      onednn::plain(plan.weights), plan.forward_desc.weights_desc());
  if (bias_term_) {
    arguments[DNNL_ARG_BIAS] = memory(plan.BiasLayout(), onednn::cpu(),
        const_cast<float*>(blobs_[1]->cpu_data()));
  }
  for (int i = 0; i < bottom.size(); ++i) {
    const memory result = onednn::write(top[i]->data().get(), plan.top,
        plan.forward_desc.dst_desc());
    arguments[DNNL_ARG_SRC] = onednn::read(bottom[i]->data().get(),
        plan.bottom, plan.forward_desc.src_desc(), &plan.bottom_copy);
    arguments[DNNL_ARG_DST] = result;
    onednn::run(plan.forward, arguments);
    onednn::written(top[i]->data().get(), result);
  }
}

void OneDnnConvolutionLayer::Backward_cpu(const vector<Blob<float>*>& top,
      const vector<bool>& propagate_down, const vector<Blob<float>*>& bottom) {
  if (!plan_ || !plan_->PrepareBackward(phase_)) {
    ConvolutionLayer<float>::Backward_cpu(top, propagate_down, bottom);
    return;
  }
  const bool learns = param_propagate_down_[0] ||
      (bias_term_ && param_propagate_down_[1]);
  for (int i = 0; i < top.size(); ++i) {
    if (learns) {
      plan_->winograd_backward ? BackwardParametersWinograd(top[i], bottom[i]) :
          BackwardParameters(top[i], bottom[i]);
    }
    if (propagate_down[i]) {
      plan_->winograd_backward ? BackwardDataWinograd(top[i], bottom[i]) :
          BackwardData(top[i], bottom[i]);
    }
  }
}

// Adds to the diffs of weights and bias.
void OneDnnConvolutionLayer::BackwardParameters(Blob<float>* top,
      Blob<float>* bottom) {
  Plan& plan = *plan_;
  onednn::Arguments arguments;
  arguments[DNNL_ARG_SRC] = onednn::read(bottom->data().get(), plan.bottom,
      plan.weights_desc.src_desc(), &plan.bottom_copy);
  arguments[DNNL_ARG_DIFF_DST] = onednn::read(top->diff().get(), plan.top,
      plan.weights_desc.diff_dst_desc(), &plan.top_diff_copy);
  arguments[DNNL_ARG_DIFF_WEIGHTS] = plan.weights_diff;
  if (bias_term_) {
    arguments[DNNL_ARG_DIFF_BIAS] = plan.bias_diff;
  }
  onednn::run(plan.backward_weights, arguments);
  if (param_propagate_down_[0]) {
    onednn::add(plan.weights_diff, onednn::plain(plan.weights),
        blobs_[0]->mutable_cpu_diff());
  }
  if (bias_term_ && param_propagate_down_[1]) {
    onednn::add(plan.bias_diff, onednn::plain(plan.bias),
        blobs_[1]->mutable_cpu_diff());
  }
}

void OneDnnConvolutionLayer::BackwardData(Blob<float>* top,
      Blob<float>* bottom) {
  Plan& plan = *plan_;
  const memory result = onednn::write(bottom->diff().get(), plan.bottom,
      plan.data_desc.diff_src_desc());
  onednn::Arguments arguments;
  arguments[DNNL_ARG_DIFF_DST] = onednn::read(top->diff().get(), plan.top,
      plan.data_desc.diff_dst_desc(), &plan.top_diff_copy);
  arguments[DNNL_ARG_WEIGHTS] = backward_weights_.get(blobs_[0]->data(),
      onednn::plain(plan.weights), plan.data_desc.weights_desc());
  arguments[DNNL_ARG_DIFF_SRC] = result;
  onednn::run(plan.backward_data, arguments);
  onednn::written(bottom->diff().get(), result);
}

// The weights as points are four times as large: they are kept where they stay
// the same, and are made anew in training, where each pass has others.
void OneDnnConvolutionLayer::RunWinograd(const Winograd& convolution,
    const memory& from, const float* bias, const memory& to,
    onednn::Parameters* kept_weights) {
  const onednn::FlushDenormals flush;
  const size_t points = phase_ == TRAIN ? convolution.points_size() : 0;
  float* const scratch = static_cast<float*>(onednn::scratch(
      (points + convolution.forward_scratch()) * sizeof(float)));
  const float* weights = scratch;
  if (phase_ == TRAIN) {
    convolution.TransformWeights(blobs_[0]->cpu_data(), scratch);
  } else {
    weights = kept_weights->get(blobs_[0]->data(), convolution.points_size(),
        [&](const float* values, float* to) {
          convolution.TransformWeights(values, to);
        });
  }
  convolution.Forward(floats(from), weights, bias, floats(to),
      scratch + points);
}

void OneDnnConvolutionLayer::ForwardWinograd(Blob<float>* bottom,
    Blob<float>* top) {
  Plan& plan = *plan_;
  const memory from = onednn::read(bottom->data().get(), plan.bottom,
      plan.Blocked(plan.bottom), &plan.bottom_copy);
  const memory to = onednn::write(top->data().get(), plan.top,
      plan.Blocked(plan.top));
  RunWinograd(*plan.winograd, from, bias_term_ ? blobs_[1]->cpu_data() : NULL,
      to, &forward_weights_);
  onednn::written(top->data().get(), to);
}

// Adds to the diffs of weights and bias.
void OneDnnConvolutionLayer::BackwardParametersWinograd(Blob<float>* top,
    Blob<float>* bottom) {
  Plan& plan = *plan_;
  const memory data = onednn::read(bottom->data().get(), plan.bottom,
      plan.Blocked(plan.bottom), &plan.bottom_copy);
  const memory diff = onednn::read(top->diff().get(), plan.top,
      plan.Blocked(plan.top), &plan.top_diff_copy);
  const onednn::FlushDenormals flush;
  if (param_propagate_down_[0]) {
    void* const scratch = onednn::scratch(
        plan.winograd->backward_scratch() * sizeof(float));
    plan.winograd->BackwardWeights(floats(data), floats(diff),
        static_cast<float*>(scratch), blobs_[0]->mutable_cpu_diff());
  }
  if (bias_term_ && param_propagate_down_[1]) {
    plan.winograd->BackwardBias(floats(diff), blobs_[1]->mutable_cpu_diff());
  }
}

void OneDnnConvolutionLayer::BackwardDataWinograd(Blob<float>* top,
    Blob<float>* bottom) {
  Plan& plan = *plan_;
  const memory from = onednn::read(top->diff().get(), plan.top,
      plan.Blocked(plan.top), &plan.top_diff_copy);
  const memory to = onednn::write(bottom->diff().get(), plan.bottom,
      plan.Blocked(plan.bottom));
  RunWinograd(*plan.winograd_mirrored, from, NULL, to, &backward_weights_);
  onednn::written(bottom->diff().get(), to);
}

}  // namespace caffe
#endif  // USE_ONEDNN
