#ifdef USE_ONEDNN
#include "caffe/layers/onednn_conv_layer.hpp"
#include "caffe/layers/onednn_conv_plan.hpp"

#include <cmath>
#include <vector>

#include "caffe/util/channel_layers.hpp"

namespace caffe {

using dnnl::memory;
using onednn::ConvolutionFinish;
using onednn::ConvolutionForward;
using onednn::floats;
using onednn::Halved;
using onednn::HeldConvolution;

struct OneDnnConvolutionLayer::Choice {
  shared_ptr<const ConvolutionForward> forward;
  shared_ptr<PackedValues> bottom;  // what it takes; NULL: that can't be held
  memory from;                      // the values of that, whole or halved
  shared_ptr<PackedValues> residual;  // likewise
  bool halves;  // every other pixel of every other row is computed
};

OneDnnConvolutionLayer::OneDnnConvolutionLayer(const LayerParameter& param)
    : ConvolutionLayer<float>(param), folded_finite_(false) {}

OneDnnConvolutionLayer::~OneDnnConvolutionLayer() {}

bool OneDnnConvolutionLayer::Fits(const Blob<float>& bottom) {
  if (bottom.num_axes() != 4 || channel_axis_ != 1 ||
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
  const shared_ptr<Plan> before = plan_;
  plan_.reset(new Plan);
  plan_->bottom = bottom[0]->shape();
  plan_->top = top[0]->shape();
  plan_->weights = blobs_[0]->shape();
  plan_->group = group_;
  plan_->training = phase_ == TRAIN;
  if (bias_term_) {
    plan_->bias = blobs_[1]->shape();
  }
  const int* stride = stride_.cpu_data();
  const int* pad = pad_.cpu_data();
  plan_->stride.assign(stride, stride + 2);
  plan_->pad.assign(pad, pad + 2);
  plan_->forward = ConvolutionForward::Make(*plan_);
  if (!plan_->forward) {
    plan_.reset();
  } else if (!before || !plan_->forward->PacksLike(*before->forward)) {
    forward_weights_ = folded_weights_ = onednn::Parameters();
  }
  halved_weights_ = onednn::Parameters();
}

void OneDnnConvolutionLayer::Forward_cpu(const vector<Blob<float>*>& bottom,
      const vector<Blob<float>*>& top) {
  if (!plan_) {
    ConvolutionLayer<float>::Forward_cpu(bottom, top);
    return;
  }
  const ConvolutionForward& forward = *plan_->forward;
  const bool anew = phase_ == TRAIN && forward.winograd();
  const memory weights = anew ? memory() : PackedWeights();
  const float* bias = bias_term_ ? blobs_[1]->cpu_data() : NULL;
  for (int i = 0; i < bottom.size(); ++i) {
    SyncedMemory* top_data = top[i]->data().get();
    const memory to = onednn::write(top_data, plan_->top, forward.top_order());
    const Choice choice = Choose(Behind(), *bottom[i], *top_data);
    const memory from = Take(choice, bottom[i]);
    if (anew) {  // each pass has other weights
      const winograd::Finish finish = {bias, NULL, NULL};
      onednn::run_winograd(*forward.winograd(), from, blobs_[0]->cpu_data(),
          finish, to);
    } else {
      const ConvolutionFinish finish = {bias, memory(), NULL};
      choice.forward->Run(from, weights, finish, onednn::Destination(to));
    }
    onednn::written(top_data, to);
  }
}

memory OneDnnConvolutionLayer::PackedWeights() {
  return forward_weights_.get(
      onednn::Parameters::Sources(1, blobs_[0]->data()),
      plan_->forward->weights_order(), [&](const memory& to) {
        plan_->forward->PackWeights(blobs_[0]->cpu_data(), to);
      });
}

// What folded weights and bias are made of.
onednn::Parameters::Sources OneDnnConvolutionLayer::Sources(
    const vector<Layer<float>*>& layers) const {
  onednn::Parameters::Sources sources;
  for (const auto& blob : blobs_) { sources.push_back(blob->data()); }
  for (Layer<float>* layer : layers) {
    for (const auto& blob : layer->blobs()) { sources.push_back(blob->data()); }
  }
  return sources;
}

vector<float> OneDnnConvolutionLayer::FoldedWeights(
    const vector<Layer<float>*>& layers) const {
  const int outputs = plan_->weights[0];
  const vector<double> factor = affine(layers, outputs).factor;
  const float* weights = blobs_[0]->cpu_data();
  const int each = blobs_[0]->count() / outputs;
  vector<float> folded(blobs_[0]->count());
  for (int i = 0; i < folded.size(); ++i) {
    folded[i] = weights[i] * factor[i / each];
  }
  return folded;
}

// Weights and bias (folded_bias_) with the affine layers folded in. NULL where
// they are not finite: layer by layer the same numbers may give others.
shared_ptr<const memory> OneDnnConvolutionLayer::Fold(
    const vector<Layer<float>*>& layers) {
  const onednn::Parameters::Sources sources = Sources(layers);
  const int outputs = plan_->weights[0];
  const memory bias = folded_bias_.get(sources, onednn::row(outputs),
      [&](const memory& to) {
    const Affine sum = affine(layers, outputs);
    const float* bias = bias_term_ ? blobs_[1]->cpu_data() : NULL;
    for (int i = 0; i < outputs; ++i) {
      floats(to)[i] = sum.shift[i] + (bias ? sum.factor[i] * bias[i] : 0);
    }
  });
  if (layers.empty()) {
    PackedWeights();
    return forward_weights_.held();
  }
  folded_weights_.get(sources, plan_->forward->weights_order(),
      [&](const memory& to) {
    const vector<float> folded = FoldedWeights(layers);
    folded_finite_ = true;
    for (float weight : folded) {
      folded_finite_ = folded_finite_ && std::isfinite(weight);
    }
    plan_->forward->PackWeights(folded.data(), to);
  });
  bool finite = folded_finite_;
  for (int i = 0; i < outputs; ++i) {
    finite = finite && std::isfinite(floats(bias)[i]);
  }
  return finite ? folded_weights_.held() : shared_ptr<const memory>();
}

// The same for what computes halved values: packed otherwise, or the same.
memory OneDnnConvolutionLayer::WeightsFor(const Choice& choice,
    const vector<Layer<float>*>& layers, const memory& folded) {
  if (choice.forward == plan_->forward || choice.forward->is_pointwise()) {
    return folded;
  }
  return halved_weights_.get(Sources(layers), choice.forward->weights_order(),
      [&](const memory& to) {
        choice.forward->PackWeights(FoldedWeights(layers).data(), to);
      });
}

bool OneDnnConvolutionLayer::TakesHalved(bool gives_halved) const {
  return plan_ && plan_->TakesHalved(gives_halved);
}

// Packed values of this shape and order; NULL where they are none.
static shared_ptr<PackedValues> in_order(const Blob<float>& blob,
    const vector<int>& shape, const memory::desc& order) {
  const shared_ptr<PackedValues> held = blob.data()->packed();
  const memory values = held ? onednn::packed(*held) : memory();
  return values && blob.shape() == shape && values.get_desc() == order ? held :
      shared_ptr<PackedValues>();
}

// `last` is what the last of the layers writes.
OneDnnConvolutionLayer::Choice OneDnnConvolutionLayer::Choose(
    const Behind& behind, const Blob<float>& bottom,
    const SyncedMemory& last) const {
  const ConvolutionForward& whole = *plan_->forward;
  Choice choice = {plan_->forward};
  bool halves = behind.halved && !last.pinned();
  if (behind.residual) {
    choice.residual =
        in_order(*behind.residual, plan_->top, whole.top_order());
    halves = halves && choice.residual && whole.is_pointwise();
  }
  const shared_ptr<Halved> half =
      onednn::packed_halved(*bottom.data(), plan_->bottom);
  choice.bottom = half ? half :
      in_order(bottom, plan_->bottom, whole.bottom_order());
  if (!choice.bottom) { return choice; }
  const memory from = half ? half->values() : onednn::packed(*choice.bottom);
  for (bool gives : {true, false}) {
    if (gives && !halves) { continue; }
    const shared_ptr<const ConvolutionForward> forward =
        plan_->Halving(half != NULL, gives);
    if (forward && from.get_desc() == forward->bottom_order()) {
      choice.forward = forward;
      choice.from = from;
      choice.halves = gives;
      return choice;
    }
  }
  choice.bottom.reset();
  return choice;
}

memory OneDnnConvolutionLayer::Take(const Choice& choice, Blob<float>* bottom) {
  return choice.from ? choice.from :
      onednn::read(bottom->data().get(), plan_->bottom,
          choice.forward->bottom_order(), &plan_->bottom_copy);
}

bool OneDnnConvolutionLayer::ForwardWith(const Behind& behind,
    Blob<float>* bottom, Blob<float>* top) {
  if (!plan_ || !plan_->forward->can_finish()) {
    return false;
  }
  SyncedMemory* last = (behind.residual ? behind.sum : top)->data().get();
  const Choice choice = Choose(behind, *bottom, *last);
  const ConvolutionForward& forward = *choice.forward;
  if (behind.residual && (!choice.bottom || top->data()->pinned() ||
          behind.residual->data() == behind.sum->data())) {
    return false;
  }
  const bool placed = behind.place && !behind.residual &&
      forward.can_scatter() && !last->pinned() &&
      behind.place->order() == forward.top_order();
  if (behind.affine.empty() && !behind.residual && !behind.rectifier &&
      !placed && !choice.halves) {
    return false;
  }
  const shared_ptr<HeldConvolution> held(new HeldConvolution);
  held->weights = Fold(behind.affine);
  if (!held->weights) {
    return false;
  }
  held->bottom = choice.bottom;
  const memory from = Take(choice, bottom);
  ConvolutionFinish finish = {floats(*folded_bias_.held()), memory(), NULL};
  if (behind.residual) {
    finish.residual = choice.residual ? onednn::packed(*choice.residual) :
        onednn::read(behind.residual->data().get(), plan_->top,
            plan_->forward->top_order(), &plan_->residual_copy);
  }
  if (behind.rectifier) {
    held->slopes = slopes(behind.rectifier, plan_->top[1]);
    finish.slopes = held->slopes.data();
  }
  const memory weights = WeightsFor(choice, behind.affine, *held->weights);
  if (placed) {
    forward.Run(from, weights, finish, onednn::Destination(
        behind.place->values(), behind.place->step()));
    last->set_packed(behind.place);
    return true;
  }
  const memory to = choice.halves ? onednn::fresh(forward.top_order()) :
      onednn::write(last, plan_->top, forward.top_order());
  forward.Run(from, weights, finish, onednn::Destination(to));
  if (!choice.halves) { onednn::written(last, to); }
  if (behind.residual || choice.halves) {
    if (choice.halves) { held->residual = choice.residual; }
    Defer(behind, choice.halves ? to : memory(), held, top);
  }
  return true;
}

// Makes the top of a convolution with a residual, and what was halved, values
// that are computed when somebody asks for them.
void OneDnnConvolutionLayer::Defer(const Behind& behind, const memory& half,
    const shared_ptr<HeldConvolution>& held, Blob<float>* top) {
  held->convolution = plan_->forward;
  held->bias = folded_bias_.held();
  held->bottom_shape = plan_->bottom;
  held->top_shape = plan_->top;
  if (behind.residual) {
    shared_ptr<PackedValues> before = top->data()->packed_buffer();
    top->data()->set_packed(
        shared_ptr<PackedValues>(new onednn::Deferred(held)));
    onednn::release(&before);
  }
  if (half) {
    SyncedMemory* last = (behind.residual ? behind.sum : top)->data().get();
    shared_ptr<PackedValues> before = last->packed_buffer();
    last->set_packed(shared_ptr<PackedValues>(new Halved(held, half)));
    onednn::release(&before);
  }
}

}  // namespace caffe
#endif  // USE_ONEDNN
