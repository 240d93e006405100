#ifdef USE_ONEDNN
#include "caffe/layers/onednn_split_layer.hpp"

#include <vector>

namespace caffe {

using dnnl::memory;

void OneDnnSplitLayer::Backward_cpu(const vector<Blob<float>*>& top,
    const vector<bool>& propagate_down, const vector<Blob<float>*>& bottom) {
  onednn::Arguments arguments;
  vector<memory::desc> orders;
  for (int i = 0; i < top.size(); ++i) {
    const memory in = onednn::packed(*top[i]->diff(), top[i]->shape());
    if (in) {
      arguments[DNNL_ARG_MULTIPLE_SRC + i] = in;
      orders.push_back(in.get_desc());
    }
  }
  if (!propagate_down[0] || orders.size() < top.size()) {
    SplitLayer<float>::Backward_cpu(top, propagate_down, bottom);
    return;
  }
  SyncedMemory* bottom_diff = bottom[0]->diff().get();
  const memory out = onednn::write(bottom_diff, bottom[0]->shape(), orders[0]);
  arguments[DNNL_ARG_DST] = out;
  onednn::run(dnnl::sum(onednn::describe_sum(orders)), arguments);
  onednn::written(bottom_diff, out);
}

}  // namespace caffe
#endif  // USE_ONEDNN
