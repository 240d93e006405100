#ifdef USE_ONEDNN
#include <vector>

#include "caffe/layers/onednn_conv_layer.hpp"
#include "caffe/layers/onednn_conv_plan.hpp"

namespace caffe {

using dnnl::algorithm;
using dnnl::convolution_backward_data;
using dnnl::convolution_backward_weights;
using dnnl::memory;
using onednn::floats;
using winograd::Winograd;

// Training takes Winograd's algorithm here, too. Other backward passes are
// for looking at gradients, where those that are zero should be: it leaves
// traces of rounding in their tiles.
bool OneDnnConvolutionLayer::Plan::PrepareBackward(Phase phase) {
  winograd_backward = forward->winograd() && phase == TRAIN;
  if (winograd_backward) {
    if (!winograd_mirrored) {
      winograd_mirrored.reset(new Winograd(forward->winograd()->Mirrored()));
    }
    return true;
  }
  if (backward_data) {
    return true;
  }
  const algorithm direct = algorithm::convolution_direct;
  data_desc = onednn::describe_backward<convolution_backward_data>(
      forward->direct(), direct, onednn::layout(bottom),
      onednn::layout(WeightsShape()), onednn::layout(top), stride, pad, pad);
  weights_desc = onednn::describe_backward<convolution_backward_weights>(
      forward->direct(), direct, onednn::layout(bottom),
      onednn::layout(WeightsShape()), BiasLayout(), onednn::layout(top),
      stride, pad, pad);
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
    onednn::add(plan.weights_diff, onednn::plain(plan.WeightsShape()),
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
      onednn::plain(plan.WeightsShape()), plan.data_desc.weights_desc());
  arguments[DNNL_ARG_DIFF_SRC] = result;
  onednn::run(plan.backward_data, arguments);
  onednn::written(bottom->diff().get(), result);
}

// Adds to the diffs of weights and bias.
void OneDnnConvolutionLayer::BackwardParametersWinograd(Blob<float>* top,
    Blob<float>* bottom) {
  Plan& plan = *plan_;
  const memory data = onednn::read(bottom->data().get(), plan.bottom,
      onednn::blocked(plan.bottom), &plan.bottom_copy);
  const memory diff = onednn::read(top->diff().get(), plan.top,
      onednn::blocked(plan.top), &plan.top_diff_copy);
  const Winograd& winograd = *plan.forward->winograd();
  const onednn::FlushDenormals flush;
  if (param_propagate_down_[0]) {
    void* const scratch = onednn::scratch(
        winograd.backward_scratch() * sizeof(float));
    winograd.BackwardWeights(floats(data), floats(diff),
        static_cast<float*>(scratch), blobs_[0]->mutable_cpu_diff());
  }
  if (bias_term_ && param_propagate_down_[1]) {
    winograd.BackwardBias(floats(diff), blobs_[1]->mutable_cpu_diff());
  }
}

void OneDnnConvolutionLayer::BackwardDataWinograd(Blob<float>* top,
    Blob<float>* bottom) {
  Plan& plan = *plan_;
  const memory from = onednn::read(top->diff().get(), plan.top,
      onednn::blocked(plan.top), &plan.top_diff_copy);
  const memory to = onednn::write(bottom->diff().get(), plan.bottom,
      onednn::blocked(plan.bottom));
  const winograd::Finish nothing = {NULL, NULL, NULL};
  onednn::run_winograd(*plan.winograd_mirrored, from, blobs_[0]->cpu_data(),
      nothing, to);
  onednn::written(bottom->diff().get(), to);
}

}  // namespace caffe
#endif  // USE_ONEDNN
