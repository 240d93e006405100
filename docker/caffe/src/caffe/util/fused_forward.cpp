#ifdef USE_ONEDNN
#include "caffe/util/fused_forward.hpp"

#include <algorithm>
#include <string>
#include <vector>

#include "caffe/layers/onednn_concat_layer.hpp"
#include "caffe/util/channel_layers.hpp"

namespace caffe {

FusedForward<float>::FusedForward(const Net<float>& net) : net_(net) {
  if (net.phase() != TEST) { return; }
  for (int i = net.layers().size() - 1; i >= 0; --i) { Find(i); }
}

// Whether a layer takes this blob, gives one, and is computed forward only.
bool FusedForward<float>::Follows(int layer, const Blob<float>* blob) const {
  if (layer >= net_.layers().size() || net_.layer_need_backward()[layer] ||
      net_.top_vecs()[layer].size() != 1 || net_.layers()[layer]->loss(0)) {
    return false;
  }
  const vector<Blob<float>*>& bottom = net_.bottom_vecs()[layer];
  return std::find(bottom.begin(), bottom.end(), blob) != bottom.end();
}

bool FusedForward<float>::IsInPlace(int layer, const Blob<float>* blob) const {
  return Follows(layer, blob) && net_.bottom_vecs()[layer].size() == 1 &&
      net_.top_vecs()[layer][0] == blob;
}

bool FusedForward<float>::IsSum(int layer, const Blob<float>* blob) const {
  if (!Follows(layer, blob)) { return false; }
  const LayerParameter& param = net_.layers()[layer]->layer_param();
  const EltwiseParameter& eltwise = param.eltwise_param();
  const vector<Blob<float>*>& bottom = net_.bottom_vecs()[layer];
  const Blob<float>* top = net_.top_vecs()[layer][0];
  for (int i = 0; i < eltwise.coeff_size(); ++i) {
    if (eltwise.coeff(i) != 1) { return false; }
  }
  return param.type() == string("Eltwise") && bottom.size() == 2 &&
      eltwise.operation() == EltwiseParameter_EltwiseOp_SUM &&
      bottom[0] != bottom[1] && top != bottom[0] && top != bottom[1];
}

void FusedForward<float>::Find(int first) {
  OneDnnConvolutionLayer* const convolution =
      dynamic_cast<OneDnnConvolutionLayer*>(net_.layers()[first].get());
  if (!convolution || net_.bottom_vecs()[first].size() != 1 ||
      !Follows(first, net_.bottom_vecs()[first][0])) {
    return;
  }
  Chain chain = {convolution, vector<int>(), -1, -1, -1, -1, false};
  const Blob<float>* blob = net_.top_vecs()[first][0];
  int next = first + 1;
  while (IsInPlace(next, blob) &&
      is_affine(*net_.layers()[next], blob->shape())) {
    chain.affine.push_back(next++);
  }
  if (IsSum(next, blob)) {
    blob = net_.top_vecs()[next][0];
    chain.eltwise = next++;
  }
  if (IsInPlace(next, blob) && is_rectifier(*net_.layers()[next])) {
    chain.rectifier = next++;
  }
  if (chain.eltwise < 0) { FindConcat(next, blob, &chain); }
  chain.halved = IsHalved(next, blob);
  if (next > first + 1 || chain.concat >= 0 || chain.halved) {
    chains_[first] = chain;
  }
}

// Whether there are layers that take a blob, from layer `first` on, and all of
// them are convolutions that take every other pixel of every other row.
bool FusedForward<float>::IsHalved(int first, const Blob<float>* blob) const {
  bool found = false;
  for (int i = first; i < net_.layers().size(); ++i) {
    const vector<Blob<float>*>& bottom = net_.bottom_vecs()[i];
    if (std::find(bottom.begin(), bottom.end(), blob) == bottom.end()) {
      continue;
    }
    found = true;
    Layer<float>* const layer = net_.layers()[i].get();
    if (layer->type() == string("Split")) {
      for (const Blob<float>* top : net_.top_vecs()[i]) {
        if (!IsHalved(i + 1, top)) { return false; }
      }
      continue;
    }
    const OneDnnConvolutionLayer* const convolution =
        dynamic_cast<OneDnnConvolutionLayer*>(layer);
    const auto chain = chains_.find(i);
    if (!convolution || net_.layer_need_backward()[i] ||
        !convolution->TakesHalved(
            chain != chains_.end() && chain->second.halved)) {
      return false;
    }
  }
  return found;
}

// The Concat that is all that takes a blob, from layer `first` on.
void FusedForward<float>::FindConcat(int first, const Blob<float>* blob,
    Chain* chain) const {
  for (int i = first; i < net_.layers().size(); ++i) {
    const vector<Blob<float>*>& bottom = net_.bottom_vecs()[i];
    const int found =
        std::find(bottom.begin(), bottom.end(), blob) - bottom.begin();
    if (found < bottom.size()) {
      if (chain->concat >= 0 || !Follows(i, blob) ||
          !dynamic_cast<OneDnnConcatLayer*>(net_.layers()[i].get())) {
        chain->concat = -1;
        return;
      }
      chain->concat = i;
      chain->place = found;
    }
  }
}

shared_ptr<onednn::PackedPart> FusedForward<float>::Place(
    const Chain& chain) const {
  const OneDnnConcatLayer* const concat =
      dynamic_cast<OneDnnConcatLayer*>(net_.layers()[chain.concat].get());
  return concat->Place(net_.bottom_vecs()[chain.concat], chain.place,
      *net_.top_vecs()[chain.concat][0]);
}

// The number of a chain's last layer.
int FusedForward<float>::LastOf(const Chain& chain, int first) const {
  return chain.rectifier >= 0 ? chain.rectifier :
      chain.eltwise >= 0 ? chain.eltwise :
      chain.affine.empty() ? first : chain.affine.back();
}

int FusedForward<float>::Run(int first, int last) {
  const auto found = chains_.find(first);
  if (found == chains_.end() || Caffe::mode() != Caffe::CPU) {
    return 0;
  }
  const Chain& chain = found->second;
  int done = Run(chain, first, last);
  if (done == 0 && chain.eltwise >= 0) {  // it may go without the sum
    done = Run(chain, first, std::min(last, chain.eltwise - 1));
  }
  return done;
}

// The layers of a chain from `first` to `last`, as far as it goes.
int FusedForward<float>::Run(const Chain& chain, int first, int last) {
  OneDnnConvolutionLayer::Behind behind = {};
  Blob<float>* const bottom = net_.bottom_vecs()[first][0];
  Blob<float>* const top = net_.top_vecs()[first][0];
  int end = first;
  for (int i : chain.affine) {
    if (i <= last) {
      behind.affine.push_back(net_.layers()[i].get());
      end = i;
    }
  }
  if (chain.eltwise >= 0 && chain.eltwise <= last) {
    const vector<Blob<float>*>& terms = net_.bottom_vecs()[chain.eltwise];
    behind.residual = terms[0] == top ? terms[1] : terms[0];
    behind.sum = net_.top_vecs()[chain.eltwise][0];
    end = chain.eltwise;
  }
  if (chain.rectifier >= 0 && chain.rectifier <= last) {
    behind.rectifier = net_.layers()[chain.rectifier].get();
    end = chain.rectifier;
  }
  const bool placed = chain.concat >= 0 && chain.concat <= last;
  behind.halved = chain.halved && end == LastOf(chain, first);
  if (end == first && !placed && !behind.halved) {
    return 0;
  }
  for (int i = first; i <= end; ++i) {
    net_.layers()[i]->Reshape(net_.bottom_vecs()[i], net_.top_vecs()[i]);
  }
  if (placed) { behind.place = Place(chain); }
  return chain.convolution->ForwardWith(behind, bottom, top) ?
      end - first + 1 : 0;
}

}  // namespace caffe
#endif  // USE_ONEDNN
