#ifndef CAFFE_UTIL_ONEDNN_CHANNELS_HPP_
#define CAFFE_UTIL_ONEDNN_CHANNELS_HPP_
#ifdef USE_ONEDNN

#include <vector>

#include "caffe/util/onednn.hpp"

// Work on packed values that is the same for all pixels of a channel.
namespace caffe {
namespace onednn {

// The order of values N x C x H x W: abcd (Caffe's), aBcd16b, aBcd8b (blocked),
// acdb; undef where it is another.
dnnl::memory::format_tag order_tag(const dnnl::memory::desc& order,
    const vector<int>& shape);

// The channels of a block: 16 or 8; 0 where there are none.
int block_size(dnnl::memory::format_tag order);

// How many channels lie side by side in an order of values N x C x H x W: 16 or
// 8 of a block, or all. 0 where that cannot be told.
int channels_together(const dnnl::memory::desc& order,
    const vector<int>& shape);

// What is done with each value, in this order; what is empty is not done.
struct ChannelWork {
  vector<float> factor, shift;  // both or none: x * factor + shift
  dnnl::memory residual;        // in the same order: is added
  vector<float> slope;          // max(x, 0) + slope * min(x, 0)
};

// Both in one order of which channels_together can be told, or the same memory.
// What fills up the last block of channels stays 0.
void work_on_channels(const dnnl::memory& from, const vector<int>& shape,
    const ChannelWork& work, const dnnl::memory& to);

}  // namespace onednn
}  // namespace caffe

#endif  // USE_ONEDNN
#endif  // CAFFE_UTIL_ONEDNN_CHANNELS_HPP_
