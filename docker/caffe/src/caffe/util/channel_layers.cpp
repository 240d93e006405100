#ifdef USE_ONEDNN
#include "caffe/util/channel_layers.hpp"

#include <cmath>
#include <vector>

#include "caffe/layers/batch_norm_layer.hpp"
#include "caffe/layers/onednn_prelu_layer.hpp"
#include "caffe/layers/onednn_relu_layer.hpp"
#include "caffe/layers/scale_layer.hpp"

namespace caffe {

static bool is_batch_norm(const Layer<float>& layer) {
  return dynamic_cast<const BatchNormLayer<float>*>(&layer) != NULL;
}

static bool uses_stored_statistics(const LayerParameter& param) {
  const BatchNormParameter& batch_norm = param.batch_norm_param();
  return batch_norm.has_use_global_stats() ? batch_norm.use_global_stats() :
      param.phase() == TEST;
}

bool is_affine(const Layer<float>& layer, const vector<int>& shape) {
  const LayerParameter& param = layer.layer_param();
  if (shape.size() != 4 || param.bottom_size() > 1) {
    return false;
  }
  if (is_batch_norm(layer)) {
    return uses_stored_statistics(param);
  }
  const int axis = param.scale_param().axis();
  if (!dynamic_cast<const ScaleLayer<float>*>(&layer) ||
      (axis < 0 ? axis + 4 : axis) != 1) {
    return false;
  }
  const vector<int> channels(1, shape[1]);
  for (const auto& blob : const_cast<Layer<float>&>(layer).blobs()) {
    if (blob->shape() != channels) { return false; }
  }
  return true;
}

static void add_batch_norm(Layer<float>* layer, Affine* sum) {
  const vector<shared_ptr<Blob<float> > >& blobs = layer->blobs();
  const float* mean = blobs[0]->cpu_data();
  const float* variance = blobs[1]->cpu_data();
  const float count = blobs[2]->cpu_data()[0];
  const float part = count == 0 ? 0 : 1 / count;
  const float eps = layer->layer_param().batch_norm_param().eps();
  for (int c = 0; c < sum->factor.size(); ++c) {
    const double deviation = std::sqrt(variance[c] * part + eps);
    sum->factor[c] /= deviation;
    sum->shift[c] = (sum->shift[c] - mean[c] * part) / deviation;
  }
}

static void add_scale(Layer<float>* layer, Affine* sum) {
  const vector<shared_ptr<Blob<float> > >& blobs = layer->blobs();
  const float* factor = blobs[0]->cpu_data();
  const float* shift = blobs.size() > 1 ? blobs[1]->cpu_data() : NULL;
  for (int c = 0; c < sum->factor.size(); ++c) {
    sum->factor[c] *= factor[c];
    sum->shift[c] = sum->shift[c] * factor[c] + (shift ? shift[c] : 0);
  }
}

Affine affine(const vector<Layer<float>*>& layers, int channels) {
  Affine sum = {vector<double>(channels, 1), vector<double>(channels, 0)};
  for (Layer<float>* layer : layers) {
    is_batch_norm(*layer) ? add_batch_norm(layer, &sum) :
        add_scale(layer, &sum);
  }
  return sum;
}

onednn::ChannelWork onednn::affine_work(const vector<Layer<float>*>& layers,
    int channels) {
  const Affine sum = affine(layers, channels);
  ChannelWork work;
  work.factor.assign(sum.factor.begin(), sum.factor.end());
  work.shift.assign(sum.shift.begin(), sum.shift.end());
  for (int c = 0; c < channels; ++c) {
    if (!std::isfinite(work.factor[c]) || !std::isfinite(work.shift[c])) {
      return ChannelWork();
    }
  }
  return work;
}

bool is_rectifier(const Layer<float>& layer) {
  return dynamic_cast<const OneDnnReLULayer*>(&layer) ||
      dynamic_cast<const OneDnnPReLULayer*>(&layer);
}

vector<float> slopes(Layer<float>* rectifier, int channels) {
  if (rectifier->blobs().empty()) {
    return vector<float>(channels,
        rectifier->layer_param().relu_param().negative_slope());
  }
  const Blob<float>& blob = *rectifier->blobs()[0];
  return blob.count() == 1 ? vector<float>(channels, blob.cpu_data()[0]) :
      vector<float>(blob.cpu_data(), blob.cpu_data() + channels);
}

}  // namespace caffe
#endif  // USE_ONEDNN
