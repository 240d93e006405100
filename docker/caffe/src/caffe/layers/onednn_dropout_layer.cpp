#ifdef USE_ONEDNN
#include "caffe/layers/onednn_dropout_layer.hpp"

#include <vector>

namespace caffe {

using dnnl::memory;

void OneDnnDropoutLayer::Forward_cpu(const vector<Blob<float>*>& bottom,
    const vector<Blob<float>*>& top) {
  const vector<int>& shape = bottom[0]->shape();
  const memory in = onednn::packed(*bottom[0]->data(), shape);
  if (!in || phase_ == TRAIN) {
    DropoutLayer<float>::Forward_cpu(bottom, top);
    return;
  }
  if (bottom[0]->data() != top[0]->data()) {
    SyncedMemory* top_data = top[0]->data().get();
    const memory out = onednn::write(top_data, shape, in.get_desc());
    onednn::reorder(in, out);
    onednn::written(top_data, out);
  }
}

}  // namespace caffe
#endif  // USE_ONEDNN
