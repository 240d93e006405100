#ifndef CAFFE_UTIL_CHANNEL_LAYERS_HPP_
#define CAFFE_UTIL_CHANNEL_LAYERS_HPP_
#ifdef USE_ONEDNN

#include <vector>

#include "caffe/layer.hpp"
#include "caffe/util/onednn_channels.hpp"

// Layers that do the same with all values of a channel, in the TEST phase:
// BatchNorm and Scale, which are affine, and the rectifiers ReLU and PReLU.
namespace caffe {

// Whether it is BatchNorm by stored statistics, or Scale by learned numbers of
// the channels, of a blob of this shape.
bool is_affine(const Layer<float>& layer, const vector<int>& shape);

// What affine layers do, one after the other: y = factor * x + shift.
struct Affine {
  vector<double> factor, shift;  // of the channels
};
Affine affine(const vector<Layer<float>*>& layers, int channels);

// The same as work on packed values; nothing where it is not finite.
namespace onednn {
ChannelWork affine_work(const vector<Layer<float>*>& layers, int channels);
}

// Whether it is a ReLU or PReLU of our own (those with engine: CAFFE are not).
bool is_rectifier(const Layer<float>& layer);

// What it does: y = max(x, 0) + slope * min(x, 0). Of each channel.
vector<float> slopes(Layer<float>* rectifier, int channels);

}  // namespace caffe

#endif  // USE_ONEDNN
#endif  // CAFFE_UTIL_CHANNEL_LAYERS_HPP_
