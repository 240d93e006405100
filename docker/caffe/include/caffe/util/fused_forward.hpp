#ifndef CAFFE_UTIL_FUSED_FORWARD_HPP_
#define CAFFE_UTIL_FUSED_FORWARD_HPP_
#ifdef USE_ONEDNN

#include <map>
#include <vector>

#include "caffe/layers/onednn_conv_layer.hpp"
#include "caffe/net.hpp"

namespace caffe {

/**
 * @brief Layers of a net that are computed together with the convolution before
 *        them: BatchNorm and Scale in place, the sum with a residual (Eltwise),
 *        ReLU and PReLU in place. What only a Concat takes then is written
 *        where that would copy it to; of what only convolutions with a stride
 *        of 2 take, the pixels that they leave out are not computed.
 *
 * In the TEST phase, where nothing is computed backward, so that nobody needs
 * what these layers keep for that. They follow the convolution immediately, and
 * whoever stops between them, or has the net call him after each layer, has
 * them computed one by one. Only nets of float have any.
 */
template <typename Dtype>
class FusedForward {
 public:
  explicit FusedForward(const Net<Dtype>& net) {}
  // Computes layer `first` together with those behind it, up to `last` at most.
  // Returns how many those are; 0, and nothing is done, where there are none.
  int Run(int first, int last) { return 0; }
};

template <>
class FusedForward<float> {
 public:
  explicit FusedForward(const Net<float>& net);
  int Run(int first, int last);

 private:
  // Numbers of layers; -1 where there is none.
  struct Chain {
    OneDnnConvolutionLayer* convolution;
    vector<int> affine;
    int eltwise, rectifier;
    int concat, place;  // the layer that takes it, as which bottom
    bool halved;  // only every other pixel of every other row is taken
  };

  bool Follows(int layer, const Blob<float>* blob) const;
  bool IsInPlace(int layer, const Blob<float>* blob) const;
  bool IsSum(int layer, const Blob<float>* blob) const;
  void Find(int first);
  void FindConcat(int first, const Blob<float>* blob, Chain* chain) const;
  bool IsHalved(int first, const Blob<float>* blob) const;
  int LastOf(const Chain& chain, int first) const;
  shared_ptr<onednn::PackedPart> Place(const Chain& chain) const;
  int Run(const Chain& chain, int first, int last);

  const Net<float>& net_;
  std::map<int, Chain> chains_;  // by their convolution's number
};

}  // namespace caffe

#endif  // USE_ONEDNN
#endif  // CAFFE_UTIL_FUSED_FORWARD_HPP_
